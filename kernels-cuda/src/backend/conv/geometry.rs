//! Images, weights and the numbers of a convolution, in three spatial dims always.

use tensor::{Conv, DType, Error, Layout, Result, Tensor};

use crate::backend::gemm::LIMIT;
use crate::backend::storage::at;
use crate::launch::Pointer;

/// A dim: its extent and its stride.
pub(super) type Dim = (usize, isize);

/// An image or a weight: its dims, the spatial ones with the last first, and always three.
#[derive(Clone, Copy)]
pub(super) struct Image {
    /// Images, or channels of the result.
    pub(super) outer: Dim,
    pub(super) channels: Dim,
    pub(super) spatial: [Dim; 3],
    pub(super) at: Pointer,
    size: usize,
}

impl Image {
    pub(super) fn new(layout: &Layout, at: Pointer, dtype: DType) -> Image {
        let dim = |d: usize| (layout.dims()[d], layout.strides()[d]);
        let rank = layout.rank();
        // The stride of a dim of one place means nothing, and may be one that no vector has: no place but the first is ever read.
        let of_several = |(n, stride)| (n, if n == 1 { 0 } else { stride });
        let spatial =
            std::array::from_fn(|s| if s + 2 < rank { of_several(dim(rank - 1 - s)) } else { (1, 0) });
        Image { outer: dim(0), channels: dim(1), spatial, at, size: dtype.size() }
    }

    pub(super) fn of(x: &Tensor) -> Image {
        Image::new(x.layout(), at(x), x.dtype())
    }

    /// Where it begins if all places are counted from others: `by` steps on in each spatial dim, which may be outside.
    pub(super) fn moved(&self, by: [isize; 3]) -> Pointer {
        let steps: isize = (0..3).map(|s| by[s] * self.spatial[s].1).sum();
        Pointer(self.at.0.wrapping_add_signed((steps * self.size as isize) as i64))
    }
}

/// The numbers of a convolution for each spatial dim, the last first, and 3 dims always.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spec {
    pub(super) stride: [usize; 3],
    pub(super) padding: [usize; 3],
    pub(super) dilation: [usize; 3],
    pub(super) groups: usize,
}

impl Spec {
    /// For an image of extents `size` and windows of `kernel` taps. A stride that no second window takes, and a dilation that no
    /// second tap takes, become small, so that all that kernels compute with fits 32 bits.
    ///
    /// # Errors
    /// For padded images that kernels do not count.
    pub(super) fn new(op: &'static str, conv: &Conv, size: &[usize], kernel: &[usize]) -> Result<Spec> {
        let mut spec = Spec { stride: [1; 3], padding: [0; 3], dilation: [1; 3], groups: conv.groups };
        let n = size.len();
        for s in 0..n {
            let d = n - 1 - s;
            let padded =
                conv.padding[d].checked_mul(2).and_then(|p| p.checked_add(size[d])).filter(|&p| p < LIMIT);
            let padded = padded.ok_or_else(|| {
                Error::argument(
                    op,
                    format!("a size of {} with padding {} is too large", size[d], conv.padding[d]),
                )
            })?;
            spec.stride[s] = conv.stride[d].min(padded + 1);
            spec.padding[s] = conv.padding[d];
            spec.dilation[s] = if kernel[d] > 1 { conv.dilation[d] } else { 1 };
        }
        Ok(spec)
    }
}

/// The taps that meet a phase in one spatial dim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Phase {
    /// The first of them, and how many there are; each is `period` after the last.
    pub(super) first: usize,
    pub(super) taps: usize,
    pub(super) period: usize,
    /// Where in the gradient place 0 of the phase meets the first tap, and how much earlier the next.
    pub(super) shift: isize,
    pub(super) step: isize,
}

impl Phase {
    /// Of the places `phase + i · stride`: those taps r for which `phase + padding - r · dilation` is a multiple of the stride.
    pub(super) fn new(phase: usize, stride: usize, padding: usize, dilation: usize, kernel: usize) -> Phase {
        let meets = |r: usize| (phase + padding + r * (stride - dilation % stride)).is_multiple_of(stride);
        let period = stride / gcd(stride, dilation);
        match (0..period.min(kernel)).find(|&r| meets(r)) {
            None => Phase { first: 0, taps: 0, period, shift: 0, step: 0 },
            Some(first) => Phase {
                first,
                taps: (kernel - first).div_ceil(period),
                period,
                shift: ((phase + padding) as isize - (first * dilation) as isize) / stride as isize,
                step: (period * dilation / stride) as isize,
            },
        }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub(super) fn each(f: impl Fn(usize) -> Dim) -> [Dim; 3] {
    std::array::from_fn(f)
}

/// A number for each spatial dim.
pub(super) fn each_of(f: impl Fn(usize) -> usize) -> [usize; 3] {
    std::array::from_fn(f)
}

/// Three spatial dims, and one outside of them.
pub(super) fn with([a, b, c]: [Dim; 3], outer: Dim) -> [Dim; 4] {
    [a, b, c, outer]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_effect_become_small_and_images_too_large_are_refused() {
        let conv = Conv::default().stride(usize::MAX).dilation([usize::MAX, 2]).padding([1, 0]);
        let spec = Spec::new("conv", &conv, &[5, 9], &[1, 3]).unwrap();
        assert_eq!((spec.stride, spec.padding, spec.dilation), ([10, 8, 1], [0, 1, 0], [2, 1, 1]));
        let conv = Conv::default().padding(1 << 30).stride(usize::MAX);
        assert!(Spec::new("conv", &conv, &[5], &[1]).is_err());
    }

    #[test]
    fn the_taps_of_a_phase_are_those_that_meet_it() {
        for (stride, padding, dilation, kernel) in
            [(1, 1, 1, 3), (2, 1, 1, 3), (3, 0, 2, 4), (2, 3, 2, 3), (4, 1, 6, 5), (3, 2, 1, 1)]
        {
            for phase in 0..stride {
                let found = Phase::new(phase, stride, padding, dilation, kernel);
                // (tap, place of the gradient) for the place `phase` of the input.
                let taps: Vec<_> = (0..found.taps)
                    .map(|j| (found.first + j * found.period, found.shift - j as isize * found.step))
                    .collect();
                let expected: Vec<_> = (0..kernel)
                    .map(|r| (r, (phase + padding) as isize - (r * dilation) as isize))
                    .filter(|(_, at)| at % stride as isize == 0)
                    .map(|(r, at)| (r, at / stride as isize))
                    .collect();
                assert_eq!(taps, expected, "{phase} {stride} {padding} {dilation} {kernel}");
            }
        }
    }
}
