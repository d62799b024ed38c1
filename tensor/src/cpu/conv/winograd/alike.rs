//! Whether neighbours are of like size: then the transforms, which add them up, cost no accuracy.
//!
//! A product of the definition is one input times one weight. The transforms take the error of the largest input of a tile to
//! the largest weight of a kernel. That is much only where both operands differ by orders of magnitude from neighbour to
//! neighbour, and a large input meets a small weight. So it is enough to look at one of them.

/// The most windows that are looked at.
const SAMPLE: usize = 256;

/// Values smaller than this part of the largest of their window are small. A zero is none.
const SMALL: f32 = 1.0 / 32.0;

/// One in so many may be small. Of normal values one in 20 is, of lognormal ones with a deviation of 1.5 one in 4.
const FEW: usize = 6;

/// The golden ratio in 64 bits: multiples of it are spread evenly, and share no factor with the sizes of images.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Looks at a sample of `windows` windows of neighbours.
pub(super) fn alike<const N: usize>(windows: usize, window: impl Fn(usize) -> [f32; N]) -> bool {
    let (mut small, mut seen) = (0, 0);
    for i in 0..windows.min(SAMPLE) {
        let at = match windows <= SAMPLE {
            true => i,
            false => ((GOLDEN.wrapping_mul(i as u64) as u128 * windows as u128) >> 64) as usize,
        };
        let values = window(at).map(f32::abs);
        let largest = values.into_iter().fold(0.0, f32::max);
        small += values.iter().filter(|&&value| value > 0.0 && value < SMALL * largest).count();
        seen += values.iter().filter(|&&value| value > 0.0).count();
    }
    small * FEW <= seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Distribution, Generator, Tensor};

    /// Windows of 9 of normal numbers, each changed.
    fn normal(windows: usize, change: impl Fn(f32) -> f32) -> bool {
        let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
        let values = Tensor::random(normal, [windows, 9], &Device::cpu(), &mut Generator::new(7)).unwrap();
        let values: Vec<f32> = values.to_vec().unwrap();
        alike(windows, |i| -> [f32; 9] { std::array::from_fn(|j| change(values[i * 9 + j])) })
    }

    #[test]
    fn windows_of_numbers_of_like_size_are_told_from_others() {
        for windows in [40, 256, 5000] {
            assert!(normal(windows, |x| x), "normal");
            assert!(normal(windows, |x| 1e-30 * x), "small, all of them");
            assert!(normal(windows, |x| x.max(0.0)), "zeros are no small numbers");
            assert!(normal(windows, f32::exp), "lognormal, deviation 1");
            assert!(!normal(windows, |x| (1.7 * x).exp()), "lognormal, deviation 1.7");
            assert!(!normal(windows, |x| if x > 0.3 { x } else { 1e-9 * x }), "two scales");
        }
        assert!(alike(0, |_| [0.0; 4]) && alike(9, |_| [0.0; 4]), "nothing but zeros");
    }
}
