//! AMX, the tile unit of Sapphire Rapids and later: 32 x 32 outputs in four tiles, 32 elements along `k` per step.
//!
//! The intrinsics are not stable, so the instructions are written in assembly. A process must request the tile state
//! from the operating system once, and each thread must configure the tiles. A wrong product would go unnoticed, so the
//! unit is only used after a probe multiplied correctly on this machine ([`is_usable`]). This module is below `isa`,
//! which asks for the probe, and `gemm`, which multiplies with it.
//! Source: Intel Architecture Instruction Set Extensions, chapter 3.

use std::{arch::asm, sync::OnceLock};

use half::bf16;

use crate::micro_tile::{PANEL, Tile};

/// Rows of a tile, and columns in 4-byte units.
const SIDE: usize = 16;

/// Memory form of the tile configuration.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    column_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Configuration {
    /// Tiles 0–3 accumulate, 4–5 hold the left rows, 6–7 the panel; the lower row of tiles has `below` rows.
    const fn new(above: u8, below: u8) -> Self {
        let mut rows = [0; 16];
        let mut column_bytes = [0; 16];
        let heights = [above, above, below, below, above, below, SIDE as u8, SIDE as u8];
        let mut tile = 0;
        while tile < heights.len() {
            rows[tile] = heights[tile];
            column_bytes[tile] = 64;
            tile += 1;
        }
        Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            column_bytes,
            rows,
        }
    }

    /// # Safety
    /// The process must have the permission for tiles.
    unsafe fn load(&self) {
        // SAFETY: guaranteed by the caller; the operand is 64 bytes as the instruction reads.
        unsafe { asm!("ldtilecfg [{}]", in(reg) self, options(nostack, readonly)) };
    }
}

/// While this value exists, its thread may compute whole tiles.
pub(crate) struct Session(());

impl Session {
    pub(crate) fn begin() -> Self {
        // SAFETY: formats with tiles exist only where `is_usable` got the permission.
        unsafe { Configuration::new(16, 16).load() };
        Self(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: as above; a thread without tile state is cheaper to switch away from.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Computes one tile of up to 32 rows by 32 columns.
///
/// # Safety
/// The pointers must be valid for `count` rows and whole steps of 16 pairs, within a [`Session`].
pub(crate) unsafe fn multiply(tile: &Tile, count: usize) {
    let mut sums = [[0.0f32; PANEL]; 2 * SIDE];
    // SAFETY: guaranteed by the caller; rows beyond `count` are not configured, so they are not read.
    unsafe {
        if count == 2 * SIDE {
            both(tile, &mut sums);
        } else if count > SIDE {
            Configuration::new(16, (count - SIDE) as u8).load();
            both(tile, &mut sums);
            Configuration::new(16, 16).load();
        } else {
            Configuration::new(count as u8, 1).load();
            upper(tile, &mut sums);
            Configuration::new(16, 16).load();
        }
        for (row, sums) in sums.iter().enumerate().take(count) {
            tile.store(row, 0, sums);
        }
    }
}

/// # Safety
/// Same as [`multiply`], configured for more than sixteen rows.
unsafe fn both(tile: &Tile, sums: &mut [[f32; PANEL]; 2 * SIDE]) {
    let stride = tile.left_stride * 4;
    // SAFETY: guaranteed by the caller; `sums` holds the four tiles, 128 bytes a row.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{above} + {stride}*1]",
            "tileloadd tmm6, [{panel} + {width}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {width}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{below} + {stride}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {above}, 64", "add {below}, 64", "add {panel}, 2048",
            "dec {steps}", "jnz 2b",
            "tilestored [{sums} + {width}*1], tmm0",
            "tilestored [{sums} + {width}*1 + 64], tmm1",
            "tilestored [{sums} + {width}*1 + 2048], tmm2",
            "tilestored [{sums} + {width}*1 + 2112], tmm3",
            above = inout(reg) tile.left => _,
            below = inout(reg) tile.left.add(SIDE * tile.left_stride) => _,
            panel = inout(reg) tile.panel => _,
            steps = inout(reg) tile.steps / SIDE => _,
            stride = in(reg) stride,
            width = in(reg) PANEL * 4,
            sums = in(reg) sums.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// # Safety
/// Same as [`multiply`], configured for at most sixteen rows.
unsafe fn upper(tile: &Tile, sums: &mut [[f32; PANEL]; 2 * SIDE]) {
    let stride = tile.left_stride * 4;
    // SAFETY: guaranteed by the caller; `sums` holds the two tiles, 128 bytes a row.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1",
            "2:",
            "tileloadd tmm4, [{above} + {stride}*1]",
            "tileloadd tmm6, [{panel} + {width}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {width}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "add {above}, 64", "add {panel}, 2048",
            "dec {steps}", "jnz 2b",
            "tilestored [{sums} + {width}*1], tmm0",
            "tilestored [{sums} + {width}*1 + 64], tmm1",
            above = inout(reg) tile.left => _,
            panel = inout(reg) tile.panel => _,
            steps = inout(reg) tile.steps / SIDE => _,
            stride = in(reg) stride,
            width = in(reg) PANEL * 4,
            sums = in(reg) sums.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Whether this process may use the tiles and they multiply correctly; probed once.
pub(crate) fn is_usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| is_present() && is_permitted() && multiplies())
}

/// AMX-TILE and AMX-BF16 in leaf 7.
fn is_present() -> bool {
    let leaf = std::arch::x86_64::__cpuid_count(7, 0);
    leaf.edx & (1 << 24) != 0 && leaf.edx & (1 << 22) != 0
}

/// Requests the tile state from the operating system.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes nothing but this process's permissions.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems need no permission or have no way to ask for it.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// Small whole numbers, whose products are exact in every order, through each shape of tile.
fn multiplies() -> bool {
    const STEPS: usize = 2 * SIDE;
    let number = |i: usize| ((i * 37) % 17) as f32 - 8.0;
    let left: Vec<bf16> = (0..2 * SIDE * 2 * STEPS).map(|i| bf16::from_f32(number(i))).collect();
    let panel: Vec<bf16> = (0..STEPS * PANEL * 2).map(|i| bf16::from_f32(number(i + 5))).collect();
    let _session = Session::begin();
    [1, 16, 17, 32].into_iter().all(|count| {
        let mut out = vec![1.0f32; count * PANEL];
        let operands = Tile {
            left: left.as_ptr().cast(),
            left_stride: STEPS,
            panel: panel.as_ptr().cast(),
            steps: STEPS,
            out: out.as_mut_ptr(),
            out_stride: PANEL,
            width: PANEL,
            scale: 2.0,
            add: true,
        };
        // SAFETY: the operands hold 32 rows and 32 pairs, the output `count` rows, and the session runs.
        unsafe { multiply(&operands, count) };
        out.iter().enumerate().all(|(at, &got)| {
            let (row, column) = (at / PANEL, at % PANEL);
            let product =
                |k: usize| left[row * 2 * STEPS + k].to_f32() * panel[(k / 2 * PANEL + column) * 2 + k % 2].to_f32();
            got == 1.0 + 2.0 * (0..2 * STEPS).map(product).sum::<f32>()
        })
    })
}
