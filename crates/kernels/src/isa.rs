//! The instruction set in use: detected once, forced by `SYNAPSE_ISA`.

use std::sync::OnceLock;

/// A level of instruction set that the kernels have a path for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust; every machine.
    Portable,
    /// AVX2 with FMA and F16C, which every processor with AVX2 has.
    Avx2,
    /// AVX-512 F/BW/VL/DQ.
    Avx512,
    /// AVX-512 with the bf16 dot product.
    Avx512Bf16,
    /// The bf16 tile unit (AMX), beside AVX512-BF16.
    Amx,
}

impl Isa {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The name `SYNAPSE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether this machine can run that level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(simd_x86)]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(simd_x86)]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(simd_x86)]
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(simd_x86)]
            Self::Amx => Self::Avx512Bf16.is_available() && crate::gemm::amx_works(),
            #[cfg(not(simd_x86))]
            _ => false,
        }
    }

    /// Whether products of bf16 run faster than those of f32.
    pub fn multiplies_bf16(self) -> bool {
        matches!(self, Self::Avx512Bf16 | Self::Amx)
    }

    /// The level in use: `SYNAPSE_ISA` if it names one this machine has, else the best there is.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::from_environment().unwrap_or_else(|_| Self::best()))
    }

    /// What `SYNAPSE_ISA` asks for.
    ///
    /// # Errors
    /// A name that does not exist or that this machine cannot run; the message says which can.
    pub fn from_environment() -> Result<Self, String> {
        let Ok(asked) = std::env::var("SYNAPSE_ISA") else {
            return Ok(Self::best());
        };
        let available: Vec<_> = Self::ALL.into_iter().filter(|isa| isa.is_available()).collect();
        available
            .iter()
            .copied()
            .find(|isa| isa.name() == asked)
            .ok_or_else(|| {
                let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
                format!(
                    "SYNAPSE_ISA={asked} is not available on this machine; it has {}",
                    names.join(", ")
                )
            })
    }

    fn best() -> Self {
        Self::ALL
            .into_iter()
            .rev()
            .find(|isa| isa.is_available())
            .unwrap_or(Self::Portable)
    }
}

/// Compiles a function body once per instruction set and picks at run time.
///
/// The body is plain Rust marked `#[inline(always)]`; the compiler vectorizes it anew under each
/// feature set, so the twins are the same source by construction.
macro_rules! multiversion {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident $(<$($generic:ident: $bound:ident),+>)? ($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? = $body:path) => {
        $(#[$meta])*
        $visibility fn $name $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $output)? {
            #[cfg(simd_x86)]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $output)? { $body($($argument),*) }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512 $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $output)? { $body($($argument),*) }
                match $crate::Isa::current() {
                    $crate::Isa::Portable => {}
                    // SAFETY: `Isa::current` only names levels that this machine was seen to have.
                    $crate::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    // SAFETY: as above; the higher levels include plain AVX-512.
                    $crate::Isa::Avx512 | $crate::Isa::Avx512Bf16 | $crate::Isa::Amx => return unsafe { avx512($($argument),*) },
                }
            }
            $body($($argument),*)
        }
    };
}
pub(crate) use multiversion;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    /// A level that is asked for and absent must not leave the tests to pass on another.
    #[test]
    fn the_level_asked_for_is_the_one_in_use() {
        assert_eq!(Isa::from_environment(), Ok(Isa::current()));
    }

    /// Runs this crate's tests again under every other level that the machine has.
    #[test]
    fn every_level_passes_these_tests() {
        for isa in Isa::ALL
            .into_iter()
            .filter(|isa| isa.is_available() && *isa != Isa::current())
        {
            let run = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--skip", "every_level_passes"])
                .env("SYNAPSE_ISA", isa.name())
                .output()
                .unwrap();
            assert!(
                run.status.success(),
                "{}: {}",
                isa.name(),
                String::from_utf8_lossy(&run.stdout)
            );
        }
    }
}
