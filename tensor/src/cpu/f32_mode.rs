//! [`F32Mode`]: how products of `f32` matrices are computed where the machine has matrix tiles.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// How `f32` matrix products, and the convolutions and recurrent layers made of them, are computed.
///
/// The tiles of AMX multiply `bf16` numbers, of 8 significant bits, and add in `f32`. An `f32` number is the sum of three of
/// them, `x = h + m + l`, without error; so a product of two is a sum of nine products, of which the largest few suffice. How
/// many are taken is the mode:
///
/// | mode | products | like PyTorch's `set_float32_matmul_precision` | error / Σ\|a\|\|b\|, uniform data, k = 4096: most, mean |
/// |---|---|---|---|
/// | [`Auto`](F32Mode::Auto) | hh hm mh mm hl lh | "highest" | 5.5e-8, 7.0e-9 |
/// | [`Strict`](F32Mode::Strict) | `f32` multiply-adds | "highest" | 1.8e-7, 1.6e-8 |
/// | [`Fast`](F32Mode::Fast) | hh hm mh | "high" | 2.7e-7, 6.3e-8 |
/// | [`Bf16`](F32Mode::Bf16) | hh | "medium" | about 1e-3 |
///
/// `Auto` is the more exact of the first two since tiles add 32 products before they touch the running sum. Blocks of an operand
/// in which that would not hold, with infinities, NaN, or numbers of too many magnitudes at once, are multiplied as in `Strict`; so `Auto`
/// and `Fast` give infinities and NaN where `Strict` gives them. Tiles take denormal numbers as zero, which `Auto` and `Fast` avoid by
/// scaling operands of small numbers by powers of two, and `Bf16` does not.
///
/// On GPUs, matrix products in `Auto` take the same six products on the tensor cores of compute capability 8.0, 9 and 10, in sums of 64
/// terms and more, by steps of 16 terms; those with numbers that cannot be split are multiply-adds. `Fast` and `Bf16` round
/// operands to tf32, of 11 significant bits.
///
/// At every instruction level but [`Isa::Amx`](crate::cpu::isa::Isa::Amx) all modes multiply `f32` numbers as `Strict` does. On any,
/// `Strict` convolutions take the sums of the definition, while the other modes may save products by Winograd's transforms, whose errors are
/// 0.4 to 1.6 times as large; operands that would suffer more are multiplied as in `Strict`. The modes concern `f32` operands alone: `bf16` and `f16` ones fit the tiles as they are. Which mode is how fast is for the benchmarks to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum F32Mode {
    /// Six products of `bf16` parts: as exact as `f32`, faster.
    #[default]
    Auto,
    /// Multiply-adds of `f32`.
    Strict,
    /// Three products: about 16 significant bits.
    Fast,
    /// One product: operands are rounded to `bf16`, sums are `f32`.
    Bf16,
}

impl F32Mode {
    const ALL: [F32Mode; 4] = [F32Mode::Auto, F32Mode::Strict, F32Mode::Fast, F32Mode::Bf16];

    /// The name that [`FromStr`] reads and `GRADUS_F32` takes.
    pub fn name(self) -> &'static str {
        match self {
            F32Mode::Auto => "auto",
            F32Mode::Strict => "strict",
            F32Mode::Fast => "fast",
            F32Mode::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for F32Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error of parsing an [`F32Mode`]: no mode has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("f32 mode: none is named {0:?}; the modes are auto, strict, fast and bf16")]
pub struct UnknownF32Mode(pub String);

impl FromStr for F32Mode {
    type Err = UnknownF32Mode;

    /// The mode with this name, in any case and with blanks around it.
    fn from_str(s: &str) -> Result<F32Mode, UnknownF32Mode> {
        let matches = |mode: &F32Mode| mode.name().eq_ignore_ascii_case(s.trim());
        F32Mode::ALL.into_iter().find(matches).ok_or_else(|| UnknownF32Mode(s.to_owned()))
    }
}

/// The mode of the products that this thread starts now.
///
/// It is set, from the strongest: by [`with_f32_mode`], by [`set_f32_mode`], by the environment variable `GRADUS_F32`
/// (`auto`, `strict`, `fast`, `bf16`; anything else is ignored); else it is [`F32Mode::Auto`].
pub fn f32_mode() -> F32Mode {
    OVERRIDE.get().unwrap_or_else(|| match CHOSEN.load(Relaxed) {
        0 => default_mode(),
        at => F32Mode::ALL[usize::from(at) - 1],
    })
}

/// Sets the mode for the whole process.
pub fn set_f32_mode(mode: F32Mode) {
    CHOSEN.store(mode as u8 + 1, Relaxed);
}

/// Runs `f` with [`f32_mode`] equal to `mode` on this thread, then restores what was, also when `f` panics.
///
/// ```
/// use gradus_tensor::{Device, F32Mode, Tensor, with_f32_mode};
/// # fn main() -> gradus_tensor::Result<()> {
/// let x = Tensor::ones([64, 64], &Device::cpu())?;
/// let y = with_f32_mode(F32Mode::Strict, || x.matmul(&x))?;
/// assert_eq!(y.select(0, 0)?.select(0, 0)?.item()?, 64.0);
/// # Ok(()) }
/// ```
pub fn with_f32_mode<R>(mode: F32Mode, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<F32Mode>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }

    let _restore = Restore(OVERRIDE.replace(Some(mode)));
    f()
}

/// The mode set by [`set_f32_mode`], as its place in `ALL` plus 1; 0 for none.
static CHOSEN: AtomicU8 = AtomicU8::new(0);

thread_local! {
    /// The mode set by [`with_f32_mode`].
    static OVERRIDE: Cell<Option<F32Mode>> = const { Cell::new(None) };
}

fn default_mode() -> F32Mode {
    static DEFAULT: OnceLock<F32Mode> = OnceLock::new();
    *DEFAULT.get_or_init(|| parse_mode(std::env::var("GRADUS_F32").ok()).unwrap_or_default())
}

/// The mode that a value of `GRADUS_F32` asks for, if it is one.
fn parse_mode(asked: Option<String>) -> Option<F32Mode> {
    asked?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_parses_from_its_own_name() {
        for (at, mode) in F32Mode::ALL.into_iter().enumerate() {
            assert_eq!(mode as usize, at);
            assert_eq!(format!(" {} ", mode.to_string().to_uppercase()).parse(), Ok(mode));
            assert_eq!(parse_mode(Some(mode.name().into())), Some(mode));
        }
        assert_eq!("tf32".parse::<F32Mode>(), Err(UnknownF32Mode("tf32".into())));
        assert_eq!(parse_mode(Some("tf32".into())), None);
    }

    #[test]
    fn with_f32_mode_nests_holds_for_its_thread_and_ends_with_its_closure() {
        let before = f32_mode();
        for mode in F32Mode::ALL {
            with_f32_mode(mode, || {
                assert_eq!(f32_mode(), mode);
                with_f32_mode(F32Mode::Fast, || assert_eq!(f32_mode(), F32Mode::Fast));
                assert_eq!(f32_mode(), mode);
                std::thread::scope(|s| assert_eq!(s.spawn(f32_mode).join().unwrap(), before));
            });
        }
        assert!(std::panic::catch_unwind(|| with_f32_mode(F32Mode::Bf16, || panic!("on purpose"))).is_err());
        assert_eq!(f32_mode(), before);
    }
}
