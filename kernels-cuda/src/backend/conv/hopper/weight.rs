//! Weights, whose taps are numbered as windows are walked over.

use tensor::DType;

use super::windows::{Blocks, Windows};
use super::{BLOCK, bytes};
use crate::CudaError;
use crate::backend::conv::geometry::Dim;
use crate::backend::conv::product::Parts;
use crate::backend::gemm::hopper::{Unit, element};
use crate::launch::Pointer;
use crate::tensor_map::{Swizzle, TensorMap, Tiled};

/// A weight: `Weight` of `cuda/hopper/images.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Weight {
    blocks: Blocks,
    first: i32,
    steps: [i32; 3],
    results: u32,
    unused: u32,
}

/// A weight, `[channels of the result, taps, channels]`, that a tensor map describes.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) weight: Weight,
    /// With the channels first.
    dims: [Dim; 3],
    at: Pointer,
    by_k: bool,
}

impl Taps {
    /// With its channels along k, or along the columns.
    pub(super) fn new(parts: &Parts, windows: &Windows, by_k: bool) -> Option<Taps> {
        let (columns, [a, b, c, sums]) = (parts.left.0[0], parts.left.1);
        let (near, far) = if by_k { (sums, columns) } else { (columns, sums) };
        // Numbers of taps count what all steps are multiples of.
        let unit = [a, b, c].iter().filter(|d| d.0 > 1).fold(0, |unit, d| gcd(unit, d.1.unsigned_abs()));
        let unit = if unit == 0 { 8 } else { unit as isize };
        let steps = [a, b, c].map(|(n, stride)| if n > 1 { stride / unit } else { 0 });
        let last: [isize; 3] = std::array::from_fn(|s| (windows.along[s].taps as isize - 1) * steps[s]);
        let turned = windows.along.map(|along| along.turned);
        let far = (far.0 * parts.groups, far.1);
        let allowed = near.1 == 1
            && unit % 8 == 0
            && steps.iter().all(|&step| step >= 0)
            && (far.0 == 1 || far.1 > 0 && far.1 % 8 == 0)
            && parts.at[1].0.is_multiple_of(16);
        let first: isize = (0..3).filter(|&s| turned[s]).map(|s| last[s]).sum();
        let weight = Weight {
            blocks: Blocks::new(windows.taps(), sums.0),
            first: first as i32,
            steps: std::array::from_fn(|s| (if turned[s] { -steps[s] } else { steps[s] }) as i32),
            results: (far.0 / parts.groups) as u32,
            unused: 0,
        };
        let taps = (last.iter().sum::<isize>() as usize + 1, unit);
        allowed.then_some(Taps { weight, dims: [near, taps, far], at: parts.at[1], by_k })
    }

    /// The map of it in boxes of so many columns.
    pub(super) fn map(&self, dtype: DType, columns: usize) -> std::result::Result<TensorMap, CudaError> {
        let boxed = if self.by_k { columns } else { BLOCK };
        Tiled {
            element: element(Unit::Halves, dtype),
            address: self.at.0,
            dims: &self.dims.map(|d| d.0 as u64),
            strides: &[bytes(&self.dims[1]), bytes(&self.dims[2])],
            box_dims: &[BLOCK as u32, 1, boxed as u32],
            swizzle: Swizzle::Bytes128,
        }
        .encode()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
