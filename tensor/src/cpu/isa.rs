//! Which instruction set the kernels use: detected once, or lowered by hand.
//!
//! A kernel asks [`isa`] once, on the thread that called the operation, and passes the answer down to its tasks: [`with_isa`]
//! holds for one thread, and the tasks of a parallel region run on others.
//!
//! Invariant: [`isa`] never returns a level that the machine lacks, so a kernel compiled for that level may be called.

use std::{cell::Cell, fmt, str::FromStr, sync::OnceLock};

/// A level of vector instructions, from the plainest to the richest; on one machine, each level includes the ones before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Isa {
    /// No assumption about the machine.
    Portable,
    /// Every 64-bit Arm machine: the vectors of Advanced SIMD.
    Neon,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and DQ.
    Avx512,
    /// AVX-512 and the matrix tiles AMX-TILE, AMX-BF16 and AMX-INT8, on Linux: they multiply matrices as
    /// [`F32Mode`](crate::F32Mode) says, and everything else is as on the level before.
    Amx,
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Portable, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The name that [`FromStr`] reads and `GRADUS_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error of parsing an [`Isa`]: no level has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("isa: no level is named {0:?}; the levels are portable, neon, avx2, avx512 and amx")]
pub struct UnknownIsa(pub String);

impl FromStr for Isa {
    type Err = UnknownIsa;

    /// The level with this name, in any case and with blanks around it.
    fn from_str(s: &str) -> Result<Isa, UnknownIsa> {
        let matches = |isa: &Isa| isa.name().eq_ignore_ascii_case(s.trim());
        Isa::ALL.into_iter().find(matches).ok_or_else(|| UnknownIsa(s.to_owned()))
    }
}

/// Every level that this machine has, in ascending order; the first is always [`Isa::Portable`].
pub fn available() -> &'static [Isa] {
    static COUNT: OnceLock<usize> = OnceLock::new();
    &LEVELS[..*COUNT.get_or_init(detect)]
}

/// Whether this machine has a level.
pub(crate) fn has(isa: Isa) -> bool {
    static MASK: OnceLock<u8> = OnceLock::new();
    let mask = || available().iter().fold(0, |mask, &isa| mask | 1 << isa as u8);
    MASK.get_or_init(mask) >> isa as u8 & 1 == 1
}

/// The level that kernels called from this thread use now.
///
/// It is the best [`available`] one, or a lower one named by the environment variable `GRADUS_ISA`
/// (`portable`, `neon`, `avx2`, `avx512`, `amx`; what machines of this architecture never have is ignored), or the one set by
/// [`with_isa`].
pub fn isa() -> Isa {
    static DEFAULT: OnceLock<Isa> = OnceLock::new();
    OVERRIDE.get().unwrap_or_else(|| *DEFAULT.get_or_init(|| default_isa(std::env::var("GRADUS_ISA").ok())))
}

/// Runs `f` with [`isa`] equal to `level` on this thread, then restores what was, also when `f` panics.
///
/// # Panics
/// If the machine lacks `level`: take it from [`available`].
pub fn with_isa<R>(level: Isa, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Isa>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }

    assert!(available().contains(&level), "with_isa: this machine lacks {level}");
    let _restore = Restore(OVERRIDE.replace(Some(level)));
    f()
}

thread_local! {
    static OVERRIDE: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The level for a value of `GRADUS_ISA`: it lowers, and never raises, the best one available.
fn default_isa(asked: Option<String>) -> Isa {
    let best = *available().last().expect("Portable is always available");
    let asked = asked.and_then(|name| name.parse().ok()).filter(|isa| LEVELS.contains(isa));
    asked.map_or(best, |isa: Isa| isa.min(best))
}

/// The levels that machines of this architecture may have, in ascending order.
#[cfg(target_arch = "x86_64")]
const LEVELS: &[Isa] = &[Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx];
#[cfg(target_arch = "aarch64")]
const LEVELS: &[Isa] = &[Isa::Portable, Isa::Neon];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const LEVELS: &[Isa] = &[Isa::Portable];

/// How many of [`LEVELS`] this machine has.
#[cfg(target_arch = "x86_64")]
fn detect() -> usize {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    match (avx2, avx512) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) if !tiles() => 3,
        (true, true) => 4,
    }
}

/// Whether the processor has tiles and the system lets this process use them.
///
/// Their 8 KiB of registers are saved only for processes that have asked for it, once for all threads.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    const ASK_FOR_STATE: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    // The system saves tiles on a switch of tasks: their configuration and their data.
    const SAVED: u64 = 3 << 17;

    let features = BF16 | TILE | INT8;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 || __cpuid_count(7, 0).edx & features != features {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction exists; register 0 always does.
    let saved = unsafe { _xgetbv(0) };
    // SAFETY: the call takes two numbers and touches no memory of this process.
    saved & SAVED == SAVED && unsafe { libc::syscall(libc::SYS_arch_prctl, ASK_FOR_STATE, TILE_DATA) } == 0
}

#[cfg(all(target_arch = "x86_64", any(not(target_os = "linux"), miri)))]
fn tiles() -> bool {
    false
}

/// How many of [`LEVELS`] this machine has: what they ask for is part of the architecture.
#[cfg(not(target_arch = "x86_64"))]
fn detect() -> usize {
    LEVELS.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_parses_from_its_own_name() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
            assert_eq!(format!(" {} ", isa.name().to_uppercase()).parse(), Ok(isa));
        }
    }

    #[test]
    fn an_unknown_name_is_an_error_that_quotes_it() {
        for name in ["", "sse9", "avx", "avx2,avx512"] {
            let error = name.parse::<Isa>().unwrap_err();
            assert_eq!(error, UnknownIsa(name.to_owned()));
            assert!(error.to_string().contains(&format!("{name:?}")));
        }
    }

    #[test]
    fn available_levels_ascend_from_portable() {
        assert_eq!(available()[0], Isa::Portable);
        assert!(available().is_sorted_by(|a, b| a < b));
        assert!(available().contains(&isa()));
    }

    #[test]
    fn the_environment_lowers_the_level_and_never_raises_it() {
        let best = *available().last().unwrap();
        assert_eq!(default_isa(None), best);
        assert_eq!(default_isa(Some("portable".into())), Isa::Portable);
        assert_eq!(default_isa(Some(best.to_string())), best);
        assert_eq!(default_isa(Some("nonsense".into())), best);
    }

    #[test]
    fn a_level_of_another_architecture_is_ignored_in_the_environment() {
        let best = *available().last().unwrap();
        for isa in Isa::ALL.into_iter().filter(|isa| !LEVELS.contains(isa)) {
            assert_eq!(default_isa(Some(isa.to_string())), best);
        }
    }

    #[test]
    fn with_isa_nests_and_ends_with_its_closure() {
        let before = isa();
        for &level in available() {
            with_isa(level, || {
                assert_eq!(isa(), level);
                with_isa(Isa::Portable, || assert_eq!(isa(), Isa::Portable));
                assert_eq!(isa(), level);
            });
        }
        assert_eq!(isa(), before);
    }

    #[test]
    fn with_isa_restores_the_level_after_a_panic() {
        let before = isa();
        let caught = std::panic::catch_unwind(|| with_isa(Isa::Portable, || panic!("on purpose")));
        assert!(caught.is_err());
        assert_eq!(isa(), before);
    }

    #[test]
    fn with_isa_holds_for_its_own_thread_only() {
        let before = isa();
        with_isa(Isa::Portable, || {
            std::thread::scope(|s| assert_eq!(s.spawn(isa).join().unwrap(), before));
        });
    }
}
