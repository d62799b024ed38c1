//! Conversion between `f32` and the 16-bit formats, slice by slice. To 16 bits it rounds to nearest, halves to even.

use crate::cpu::isa::{Isa, isa};
use crate::cpu::wide::dispatch;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A 16-bit floating-point format, computed with in `f32`.
pub(crate) trait Half: Copy + Default {
    /// `to[i] = from[i]`.
    fn widen_at(isa: Isa, from: &[Self], to: &mut [f32]);
    /// `to[i] = from[i]`, rounded.
    fn narrow_at(isa: Isa, from: &[f32], to: &mut [Self]);
    /// As [`widen_at`](Self::widen_at) the level of this thread.
    fn widen(from: &[Self], to: &mut [f32]) {
        Self::widen_at(isa(), from, to);
    }
    /// As [`narrow_at`](Self::narrow_at) the level of this thread.
    fn narrow(from: &[f32], to: &mut [Self]) {
        Self::narrow_at(isa(), from, to);
    }
}

impl Half for f16 {
    fn widen_at(isa: Isa, from: &[f16], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "both have one length");
        match isa {
            // SAFETY: the machine has the level, and the lengths are equal.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => unsafe { super::avx2::widen_f16(from, to) },
            _ => from.convert_to_f32_slice(to),
        }
    }
    fn narrow_at(isa: Isa, from: &[f32], to: &mut [f16]) {
        assert_eq!(from.len(), to.len(), "both have one length");
        match isa {
            // SAFETY: the machine has the level, and the lengths are equal.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => unsafe { super::avx2::narrow(from, to) },
            _ => to.convert_from_f32_slice(from),
        }
    }
}

impl Half for bf16 {
    fn widen_at(isa: Isa, from: &[bf16], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "both have one length");
        widen_bf16(isa, from, to);
    }
    fn narrow_at(isa: Isa, from: &[f32], to: &mut [bf16]) {
        assert_eq!(from.len(), to.len(), "both have one length");
        match isa {
            // SAFETY: the machine has the level, and the lengths are equal.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 | Isa::Amx => unsafe { super::avx2::narrow(from, to) },
            _ => narrow_bf16(isa, from, to),
        }
    }
}

dispatch! {
    /// The 16 bits become the upper half.
    fn widen_bf16(from: &[bf16], to: &mut [f32]) {
        for (y, x) in to.iter_mut().zip(from) {
            *y = f32::from_bits(u32::from(x.to_bits()) << 16);
        }
    }
}

dispatch! {
    /// The upper half, rounded.
    fn narrow_bf16(from: &[f32], to: &mut [bf16]) {
        for (y, x) in to.iter_mut().zip(from) {
            *y = nearest_bf16(*x);
        }
    }
}

/// The nearest `bf16`, halves to even, in a form that the compiler vectorises.
#[inline(always)]
pub(crate) fn nearest_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Rounding could carry a NaN into infinity: keep it, and quiet.
    let nan = (bits >> 16) | 0x40;
    bf16::from_bits(if x.is_nan() { nan as u16 } else { rounded as u16 })
}

#[cfg(test)]
mod tests {
    use super::Half;
    use crate::cpu::isa;
    use half::{bf16, f16};

    #[test]
    fn every_level_and_length_gives_the_same_numbers() {
        fn check<T: Half + PartialEq + std::fmt::Debug>(bits: fn(u16) -> T, of: fn(T) -> u16) {
            let wide: Vec<f32> = (0..=u32::MAX).step_by(65_003).map(f32::from_bits).collect();
            for n in (0..70).chain([1000, wide.len()]) {
                let mut expected = vec![bits(0); n];
                T::narrow_at(isa::Isa::Portable, &wide[..n], &mut expected);
                let narrow: Vec<T> = (0..n).map(|i| bits((i * 7919) as u16)).collect();
                let mut expected_wide = vec![0.0; n];
                T::widen_at(isa::Isa::Portable, &narrow, &mut expected_wide);
                for &level in isa::available() {
                    let (mut y, mut y_wide) = (vec![bits(0); n + 1], vec![0.0; n + 1]);
                    T::narrow_at(level, &wide[..n], &mut y[..n]);
                    T::widen_at(level, &narrow, &mut y_wide[..n]);
                    let nan = |i: usize| wide[i].is_nan() || expected_wide[i].is_nan();
                    for i in (0..n).filter(|&i| !nan(i)) {
                        assert_eq!(of(y[i]), of(expected[i]), "{level}: {} of {n}", wide[i]);
                        assert_eq!(y_wide[i].to_bits(), expected_wide[i].to_bits(), "{level}");
                    }
                    for i in (0..n).filter(|&i| expected_wide[i].is_nan()) {
                        assert!(y_wide[i].is_nan(), "{level}");
                    }
                    assert_eq!((of(y[n]), y_wide[n]), (0, 0.0), "{level}: beyond the end");
                }
            }
        }
        check(bf16::from_bits, bf16::to_bits);
        check(f16::from_bits, f16::to_bits);
    }

    #[test]
    fn every_16_bit_number_survives_widening_and_narrowing() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let mut wide = vec![0.0f32; all.len()];

        let from: Vec<bf16> = all.iter().map(|&b| bf16::from_bits(b)).collect();
        let mut back = vec![bf16::ZERO; all.len()];
        Half::widen(&from, &mut wide);
        Half::narrow(&wide, &mut back);
        assert!(
            from.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
        );

        let from: Vec<f16> = all.iter().map(|&b| f16::from_bits(b)).collect();
        let mut back = vec![f16::ZERO; all.len()];
        Half::widen(&from, &mut wide);
        Half::narrow(&wide, &mut back);
        assert!(
            from.iter().zip(&back).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
        );
    }

    #[test]
    fn narrowing_rounds_halves_to_even() {
        let from: Vec<f32> = (0..=u32::MAX).step_by(4_099).map(f32::from_bits).collect();
        let (mut narrow, mut narrow16) = (vec![bf16::ZERO; from.len()], vec![f16::ZERO; from.len()]);
        Half::narrow(&from, &mut narrow);
        Half::narrow(&from, &mut narrow16);
        for i in 0..from.len() {
            let (a, b) = (bf16::from_f32(from[i]), f16::from_f32(from[i]));
            assert!(narrow[i].to_bits() == a.to_bits() || (narrow[i].is_nan() && a.is_nan()), "{}", from[i]);
            assert!(
                narrow16[i].to_bits() == b.to_bits() || (narrow16[i].is_nan() && b.is_nan()),
                "{}",
                from[i]
            );
        }
        let mut tie = [bf16::ZERO; 2];
        Half::narrow(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0], &mut tie);
        assert_eq!(tie.map(f32::from), [1.0, 1.0 + 1.0 / 64.0]);
    }
}
