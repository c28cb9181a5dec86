//! The instruction set in use: detected once, or forced by `SYNAPSE_ISA`.

use std::sync::OnceLock;

/// An instruction-set level for which the kernels have a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, on every machine.
    Portable,
    /// AVX2 with FMA and F16C, which every processor with AVX2 has.
    Avx2,
    /// AVX-512 F/BW/VL/DQ.
    Avx512,
    /// AVX-512 with the bf16 dot product.
    Avx512Bf16,
    /// The bf16 tile unit (AMX), in addition to AVX512-BF16.
    Amx,
}

impl Isa {
    /// Every level, lowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// Its name in `SYNAPSE_ISA`.
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
            Self::Amx => Self::Avx512Bf16.is_available() && crate::amx::is_usable(),
            #[cfg(not(simd_x86))]
            _ => false,
        }
    }

    /// Whether products of bf16 run faster than those of f32.
    pub fn multiplies_bf16(self) -> bool {
        matches!(self, Self::Avx512Bf16 | Self::Amx)
    }

    /// The level in use: the one named by `SYNAPSE_ISA` if this machine has it, otherwise the best one.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::from_environment().unwrap_or_else(|_| Self::best()))
    }

    /// The level named by `SYNAPSE_ISA`, or the best one if it is not set.
    ///
    /// # Errors
    /// The level does not exist or this machine does not have it; the message lists those it has.
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
/// feature set, so all versions come from the same source.
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
                    // SAFETY: `Isa::current` only returns levels that were detected on this machine.
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

    /// Tests must not pass on another level than the one that was asked for.
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
