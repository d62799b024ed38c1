//! Conversion between `f32` and the 16-bit formats, slice by slice. To 16 bits it rounds to nearest, halves to even.

use crate::cpu::isa::isa;
use crate::cpu::wide::dispatch;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A 16-bit floating-point format, computed with in `f32`.
pub(crate) trait Half: Copy + Default {
    /// `to[i] = from[i]`.
    fn widen(from: &[Self], to: &mut [f32]);
    /// `to[i] = from[i]`, rounded.
    fn narrow(from: &[f32], to: &mut [Self]);
}

impl Half for f16 {
    fn widen(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }
    fn narrow(from: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }
}

impl Half for bf16 {
    fn widen(from: &[bf16], to: &mut [f32]) {
        widen_bf16(isa(), from, to);
    }
    fn narrow(from: &[f32], to: &mut [bf16]) {
        narrow_bf16(isa(), from, to);
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
    use half::{bf16, f16};

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
