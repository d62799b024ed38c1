//! Matrix products of tensors, and the linear layer.

mod bytes;
pub(crate) mod epilogue;
mod few;
pub(crate) mod hopper;
pub(crate) mod plan;
pub(crate) mod product;
pub(crate) mod small;
pub(super) mod work;

pub(super) use self::bytes::int_mm;

use tensor::op::UnaryOp;
use tensor::{DType, Error, Result, Shape, Tensor, f32_mode};

use self::epilogue::{Epilogue, Fused};
use self::hopper::{Hopper, Instead, Unit};
use self::plan::{Extent, Tile};
use self::product::{Axis, Extents, Output, Product, Strided, runs_fit};
use self::work::{Work, run};
use super::names::short;
use super::storage::{New, at};
use super::walk::{Dims, Divisor};
use crate::CudaError;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Blocks, rows, columns, matrices and terms that a launch may have.
pub(super) const LIMIT: usize = (1 << 31) - 1;

/// `[…, m, k] · […, k, n] -> […, m, n]`.
pub(super) fn matmul(gpu: &'static Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dtype() == DType::Bool {
        return Err(Error::dtype("matmul", DType::Bool, "numbers"));
    }
    let (lead, [_, n]) = (&a.dims()[..a.rank() - 1], last_two(b)?);
    let y = New::contiguous(gpu, [lead, &[n]].concat(), a.dtype())?;
    product(gpu, "matmul", &y, a, b, None, Epilogue::PLAIN)?;
    y.tensor()
}

/// `activation([…, in] · [out, in]ᵀ (+ [out]) (+ residual)) -> […, out]`.
pub(super) fn linear(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
    activation: Option<UnaryOp>,
) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Err(Error::dtype("linear", x.dtype(), "floats"));
    }
    let (lead, inputs, outputs) = (&x.dims()[..x.rank() - 1], weight.dims()[1], weight.dims()[0]);
    let y = New::contiguous(gpu, [lead, &[outputs]].concat(), x.dtype())?;
    let fused = Fused::new(gpu, y.operand().layout, residual, activation)?;
    let rows = Shape::from(lead).numel();
    let x = if inputs == 0 { x.reshape([rows, 0])? } else { x.reshape([rows, inputs])? };
    product(gpu, "linear", &y, &x, &weight.t()?, bias, fused.epilogue())?;
    fused.finish(y.tensor()?)
}

fn last_two(x: &Tensor) -> Result<[usize; 2]> {
    match x.dims() {
        [.., r, c] => Ok([*r, *c]),
        dims => Err(Error::argument("matmul", format!("a matrix has two dims, got {dims:?}"))),
    }
}

/// `y = a · b + bias` and the epilogue, for a row-major `y` whose elements are those of `[…, m, n]`.
fn product(
    gpu: &'static Gpu,
    op: &'static str,
    y: &New,
    a: &Tensor,
    b: &Tensor,
    bias: Option<&Tensor>,
    epilogue: Epilogue,
) -> Result<()> {
    let (lead, dtype) = (a.rank() - 2, a.dtype());
    let ([m, k], [_, n]) = (last_two(a)?, last_two(b)?);
    let (sa, sb) = (a.layout().strides(), b.layout().strides());
    let mut rows = vec![(m, sa[lead])];
    // The dims before the last two, innermost first, with the strides of y, a, b and bias.
    let mut step = (m * n) as isize;
    let mut batch = vec![];
    for d in (0..lead).rev().filter(|&d| a.dims()[d] != 1) {
        batch.push((a.dims()[d], [step, sa[d], sb[d], 0]));
        step *= a.dims()[d] as isize;
    }
    let mut batch = Dims(batch).joined();
    // One right matrix for all: the left ones are one matrix of many rows, if their dims are few enough.
    if batch.0.len() <= 3 && batch.0.iter().all(|(_, [_, _, shared, _])| *shared == 0) {
        rows.extend(batch.0.drain(..).map(|(extent, [_, stride, ..])| (extent, stride)));
    }
    let m = rows.iter().map(|d| d.0).product::<usize>();
    let pointers = [y.at(), at(a), at(b), bias.map_or(Pointer::NONE, at)];
    let extent = Extent { m, n, k, matrices: batch.count() };
    if m == 0 || n == 0 || extent.matrices == 0 {
        return Ok(());
    }
    countable(op, k.max(1))?;
    countable(op, extent.matrices)?;
    // The dims of the batch, with the strides of one operand.
    let beside = |operand: usize| batch.0.iter().map(|(extent, s)| (*extent, s[operand])).collect::<Vec<_>>();
    let lanes = 16 / dtype.size();
    let (left, a_by_k) = side(&rows, &[(k, sa[lead + 1])], &beside(1), pointers[1], dtype);
    let (right, b_by_k) = side(&[(n, sb[lead + 1])], &[(k, sb[lead])], &beside(2), pointers[2], dtype);
    let out = Output {
        rows: countable(op, m)?,
        columns: countable(op, n)?,
        with_bias: u32::from(bias.is_some()),
        vector: u32::from(
            epilogue.is_aligned()
                && runs_fit(&[(n, 1)], &[&[(m, n as isize)], &beside(0)], y.at().0, lanes, dtype.size()),
        ),
        row: Axis::new(&[(m, n as isize)]),
        column: Axis::new(&[(n, 1)]),
        bias_row: 0,
        bias_column: bias.map_or(0, |b| b.layout().strides()[0] as i64),
        batch: batch.walk(),
        epilogue,
    };
    let work = Work { extent, a: left, b: right, out, pointers, dtype };
    if dtype.is_float() && small::takes(extent) {
        return small::run(gpu, &work, [a_by_k, b_by_k]);
    }
    if dtype.is_float() && few::takes(extent) {
        return few::run(gpu, op, &work, [a_by_k, b_by_k]);
    }
    let tiles: &'static [Tile] = match dtype {
        DType::F32 => plan::of_f32(f32_mode(), k, gpu.context.info().compute_capability),
        DType::F64 => &plan::DOUBLES,
        DType::F16 | DType::BF16 => &plan::HALF,
        _ => return naive(gpu, op, &work),
    };
    let sides = [(&rows[..], sa[lead + 1]), (&[(n, sb[lead + 1])][..], sb[lead])];
    let kind = match dtype {
        DType::F16 | DType::BF16 => Some((Unit::Halves, short(dtype))),
        DType::F32 if *tiles == plan::TF32 => Some((Unit::Tf32, "f32_tf32")),
        DType::F32 if *tiles == plan::SIX_HALVES => Some((Unit::SixHalves, "f32_6xbf16")),
        _ => None,
    };
    let layout = hopper::layout([a_by_k, b_by_k]);
    let instead = Instead { tiles, layout };
    if let Some(hopper) =
        kind.and_then(|kind| Hopper::new(gpu, kind, &work, [dtype; 2], sides, &batch, instead))
    {
        return hopper.run(gpu, op, &work);
    }
    let kernel = |tile: &Tile| format!("gemm_{}_{}_{layout}", short(dtype), tile.name);
    let launcher = if *tiles == plan::SIX_HALVES { gemm_in_parts } else { launch::gemm };
    run(gpu, op, tiles, kernel, launcher, &work)
}

/// As [`launch::gemm`], of the kernels that can be told to do nothing, which they are not.
#[allow(clippy::too_many_arguments, reason = "those of a launcher")]
fn gemm_in_parts(
    gpu: &Gpu,
    kernel: &str,
    launch: Launch,
    p: Product<Strided, Strided>,
    y: Pointer,
    partial: Pointer,
    a: Pointer,
    b: Pointer,
    bias: Pointer,
) -> std::result::Result<(), CudaError> {
    launch::gemm_parts(gpu, kernel, launch, p, y, partial, a, b, bias, Pointer::NONE)
}

/// An operand as a kernel takes it, and whether its runs of 16 bytes lie along k: where they are whole and aligned, else where
/// elements are nearer to each other.
fn side(rows: &Extents, column: &Extents, batch: &Extents, at: Pointer, dtype: DType) -> (Strided, bool) {
    let (lanes, size) = (16 / dtype.size(), dtype.size());
    let along_k = runs_fit(column, &[rows, batch], at.0, lanes, size);
    let along_rows = !along_k && runs_fit(rows, &[column, batch], at.0, lanes, size);
    let nearer = column[0].1.unsigned_abs() <= rows[0].1.unsigned_abs();
    (Strided::new(rows, column, along_k || along_rows), along_k || !along_rows && nearer)
}

/// A number that kernels count to.
pub(super) fn countable(op: &'static str, n: usize) -> Result<Divisor> {
    if n <= LIMIT {
        return Ok(Divisor::new(n));
    }
    Err(Error::argument(op, format!("{n} rows, columns, matrices or terms are too many for a kernel")))
}

/// By the definition, a thread for each element.
fn naive(gpu: &'static Gpu, op: &'static str, work: &Work<Strided, Strided>) -> Result<()> {
    let Work { extent, pointers: [y, a, b, bias], dtype, .. } = *work;
    let count = extent.m.saturating_mul(extent.n).saturating_mul(extent.matrices);
    countable(op, count)?;
    let (kernel, launch) =
        (format!("gemm_naive_{}", short(dtype)), Launch::new(count.div_ceil(256) as u32, 256));
    Ok(launch::gemm_naive(gpu, &kernel, launch, work.whole(), count as u32, y, a, b, bias)?)
}
