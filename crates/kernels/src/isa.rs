//! The instruction set in use: detected once, forced by `SYNAPSE_ISA`.

use std::sync::OnceLock;

/// A level of instruction set that the kernels have a path for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust; every machine.
    Portable,
    /// AVX2 with FMA.
    Avx2,
    /// AVX-512 F/BW/VL/DQ.
    Avx512,
    /// AVX-512 with the bf16 dot product.
    Avx512Bf16,
}

impl Isa {
    /// Every level, lowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// The name `SYNAPSE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Whether this machine can run that level.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
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
/// The body is plain Rust marked `#[inline(always)]`; the compiler vectorises it anew under each
/// feature set, so the twins are the same source by construction.
macro_rules! multiversion {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $output:ty)? = $body:path) => {
        $(#[$meta])*
        $visibility fn $name($($argument: $type),*) $(-> $output)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $output)? { $body($($argument),*) }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($argument: $type),*) $(-> $output)? { $body($($argument),*) }
                match $crate::Isa::current() {
                    $crate::Isa::Portable => {}
                    // SAFETY: `Isa::current` only names levels that this machine was seen to have.
                    $crate::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    // SAFETY: as above; the bf16 level includes plain AVX-512.
                    $crate::Isa::Avx512 | $crate::Isa::Avx512Bf16 => return unsafe { avx512($($argument),*) },
                }
            }
            $body($($argument),*)
        }
    };
}
pub(crate) use multiversion;
