//! Random numbers, the same as on the CPU, and dropout.

use tensor::{DType, Distribution, Number, Result, Shape, Tensor, composed};

use super::channels::is_aligned;
use super::copy::bits;
use super::elementwise::{in_order, result_layout};
use super::names::short;
use super::storage::{New, at, operand};
use super::walk::pieces;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Elements of a launch.
const PART: usize = 1 << 30;

pub(super) fn random(
    gpu: &'static Gpu,
    distribution: Distribution,
    dtype: DType,
    shape: Shape,
    seed: u64,
    offset: u64,
) -> Result<Tensor> {
    let y = New::contiguous(gpu, shape, dtype)?;
    let n = shape.numel();
    let begin = gpu.draw(seed, offset, n as u64)?;
    for start in (0..n).step_by(PART) {
        let count = (n - start).min(PART) as u32;
        let at = Pointer(y.at().0 + (start * dtype.size()) as u64);
        // A captured kernel adds what it finds in memory.
        let offset = if begin.is_some() { 0 } else { offset }.wrapping_add(start as u64);
        let begin = begin.unwrap_or(Pointer::NONE);
        let launch = Launch::new(count.div_ceil(256), 256);
        // The numbers of `Distribution` in cuda/random.cu.
        let (kind, a, b) = match distribution {
            Distribution::Uniform { low, high } => (0, low, high),
            Distribution::Normal { mean, std } => (1, mean, std),
            Distribution::Bernoulli { p } => (2, p, 0.0),
            Distribution::Integers { low, high } => {
                let (name, range) =
                    (format!("random_integers_{}", short(dtype)), high.wrapping_sub(low) as u64);
                launch::random_integers(gpu, &name, launch, count, low, range, seed, offset, begin, at)?;
                continue;
            }
        };
        let name = format!("random_{}", short(dtype));
        launch::random(gpu, &name, launch, count, kind, a, b, seed, offset, begin, at)?;
    }
    y.tensor()
}

/// `x / keep` with probability `keep`, else `x · 0`, and which were kept: those for which [`random`] draws 1.
pub(super) fn dropout(
    gpu: &'static Gpu,
    x: &Tensor,
    keep: f64,
    seed: u64,
    offset: u64,
) -> Result<(Tensor, Tensor)> {
    let (dtype, n) = (x.dtype(), x.numel());
    if !dtype.is_float() || !x.layout().is_contiguous() {
        let kept = random(gpu, Distribution::Bernoulli { p: keep }, DType::Bool, x.shape(), seed, offset)?;
        return Ok((dropout_backward(gpu, x, &kept, keep)?, kept));
    }
    let (y, kept) = (New::contiguous(gpu, x.shape(), dtype)?, New::contiguous(gpu, x.shape(), DType::Bool)?);
    let begin = gpu.draw(seed, offset, n as u64)?;
    // A draw has 53 bits: as an integer it is compared exactly.
    let limit = (keep * (1u64 << 53) as f64).ceil() as u64;
    let (kernel, factor) = (format!("dropout_{}", short(dtype)), bits(dtype, Number::Float(1.0 / keep)));
    let lanes = if is_aligned(x) { 16 / dtype.size() } else { 1 };
    for start in (0..n).step_by(PART) {
        let count = (n - start).min(PART);
        let [y_at, x_at] = [y.at(), at(x)].map(|at| Pointer(at.0 + (start * dtype.size()) as u64));
        let kept_at = Pointer(kept.at().0 + start as u64);
        // A captured kernel adds what it finds in memory.
        let offset = if begin.is_some() { 0 } else { offset }.wrapping_add(start as u64);
        launch::dropout(
            gpu,
            &kernel,
            Launch::new(count.div_ceil(lanes).div_ceil(256) as u32, 256),
            count as u32,
            u32::from(lanes > 1),
            limit,
            factor,
            seed,
            offset,
            begin.unwrap_or(Pointer::NONE),
            y_at,
            kept_at,
            x_at,
        )?;
    }
    Ok((y.tensor()?, kept.tensor()?))
}

/// `grad / keep` where it was kept, else `grad · 0`.
pub(super) fn dropout_backward(gpu: &'static Gpu, grad: &Tensor, kept: &Tensor, keep: f64) -> Result<Tensor> {
    let dtype = grad.dtype();
    if !dtype.is_float() {
        return composed::dropout_backward(grad, kept, keep);
    }
    let dx = New::of(gpu, result_layout(&[grad, kept]), dtype)?;
    let (kernel, factor) =
        (format!("dropout_backward_{}", short(dtype)), bits(dtype, Number::Float(1.0 / keep)));
    let (grad, kept) = (&in_order(gpu, &dx.operand(), grad)?, &in_order(gpu, &dx.operand(), kept)?);
    for piece in pieces([dx.operand(), operand(grad), operand(kept)]) {
        let [dx, g, kept] = piece.at;
        launch::dropout_backward(gpu, &kernel, piece.launch(), piece.walk, factor, dx, g, kept)?;
    }
    dx.tensor()
}
