//! Normalisation, forward and backward.

mod channels;
mod lines;

pub(super) use self::channels::{
    batch_norm_apply, batch_norm_backward, batch_norm_stats, batch_norm_training,
};
pub(crate) use self::lines::Affine;
pub(super) use self::lines::{
    group_norm, group_norm_backward, layer_norm, layer_norm_backward, rms_norm, rms_norm_backward,
};

use tensor::backend::DimMask;
use tensor::op::ReduceOp;
use tensor::{MAX_RANK, Result, Tensor};

use super::reduce::reduce;
use super::storage::{New, at};
use crate::gpu::Gpu;
use crate::launch::Pointer;
use crate::module::Launch;

/// Whether the kernels take these operands: elements that are floats of one dtype. Else the composed form does.
pub(super) fn takes(x: &Tensor, others: &[Option<&Tensor>]) -> bool {
    x.numel() > 0 && x.dtype().is_float() && others.iter().flatten().all(|t| t.dtype() == x.dtype())
}

/// Whether these statistics are of the type that sums over `x` have.
pub(super) fn are_wide<const N: usize>(x: &Tensor, statistics: [&Tensor; N]) -> bool {
    statistics.iter().all(|t| t.dtype() == x.dtype().accumulator())
}

/// The bits of what there is: `WEIGHT` and `BIAS` of `cuda/norm.cu` and `cuda/batch_norm.cu`.
fn given(weight: Option<&Tensor>, bias: Option<&Tensor>) -> u32 {
    u32::from(weight.is_some()) | u32::from(bias.is_some()) << 1
}

fn place(x: Option<&Tensor>) -> Pointer {
    x.map_or(Pointer::NONE, at)
}

fn contiguous(x: Option<&Tensor>) -> Result<Option<Tensor>> {
    x.map(Tensor::contiguous).transpose()
}

fn threads(count: usize) -> Launch {
    let threads = count.clamp(1, 256).next_multiple_of(32) as u32;
    Launch::new((count as u32).div_ceil(threads), threads)
}

/// The sums of pieces along some dims, of as many dims as are left, in one.
pub(super) fn joined<const N: usize>(gpu: &'static Gpu, sums: New, dims: [usize; N]) -> Result<Tensor> {
    let sums = sums.tensor()?;
    let mask: DimMask = std::array::from_fn::<bool, MAX_RANK, _>(|d| dims.contains(&d));
    let sum = match dims.iter().all(|&d| sums.dims()[d] == 1) {
        true => sums,
        false => reduce(gpu, ReduceOp::Sum, &sums, &mask)?,
    };
    let n = sum.numel();
    sum.reshape([n])
}
