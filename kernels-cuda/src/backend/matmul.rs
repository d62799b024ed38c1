//! Matrix products of tensors, and the linear layer.

use tensor::{DType, Error, Layout, Result, Shape, Tensor};

use super::lines::{countable, grid};
use super::names::short;
use super::storage::{New, at};
use super::walk::Dims;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// Rows and columns of a tile: `TILE_SIDE` of `cuda/tile.h`.
const TILE: usize = 64;

/// `[…, m, k] · […, k, n] -> […, m, n]`.
pub(super) fn matmul(gpu: &'static Gpu, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match a.dtype() {
        DType::Bool => Err(Error::dtype("matmul", DType::Bool, "numbers")),
        // Sums of 32 bits wrap to those of fewer.
        DType::I8 | DType::U8 | DType::U32 => {
            let [a32, b32] = [a.to_dtype(DType::I32)?, b.to_dtype(DType::I32)?];
            product(gpu, &a32, &b32, None)?.to_dtype(a.dtype())
        }
        _ => product(gpu, a, b, None),
    }
}

/// `x · weightᵀ + bias`: one product over all rows.
pub(super) fn linear(
    gpu: &'static Gpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return Err(Error::dtype("linear", x.dtype(), "floats"));
    }
    let (inputs, outputs) = (weight.dims()[1], weight.dims()[0]);
    let lead: Shape = x.dims()[..x.rank() - 1].into();
    let rows = x.reshape([lead.numel(), inputs])?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    product(gpu, &rows, &weight.t()?, bias.as_ref())?.reshape([lead.dims(), &[outputs]].concat())
}

/// The kernel for a dtype, and its threads.
fn kernel(dtype: DType) -> (&'static str, u32) {
    match dtype {
        DType::F16 | DType::BF16 => ("matmul_tensor", 128),
        _ => ("matmul", 256),
    }
}

fn product(gpu: &'static Gpu, a: &Tensor, b: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let rank = a.rank();
    let (m, k, n) = (a.dims()[rank - 2], a.dims()[rank - 1], b.dims()[rank - 1]);
    let shape = a.shape().with_dim(rank - 1, n);
    let c = New::contiguous(gpu, shape, a.dtype())?;
    if shape.numel() == 0 {
        return c.tensor();
    }
    let layout: Layout = c.operand().layout;
    let batch = Dims::of([&layout, a.layout(), b.layout()], |d| d + 2 < rank).joined();
    let matrices = batch.count();
    countable("matmul", &[m * n, k, matrices, m.div_ceil(TILE) * n.div_ceil(TILE)])?;
    let (rows, layers) = grid(matrices).ok_or_else(|| {
        Error::argument("matmul", format!("{matrices} matrices are too many for one product"))
    })?;
    let (form, threads) = kernel(a.dtype());
    let tiles = m.div_ceil(TILE) * n.div_ceil(TILE);
    let launch = Launch { grid: [tiles as u32, rows, layers], ..Launch::new(1, threads) };
    let strides = |x: &Tensor| [rank - 2, rank - 1].map(|d| x.layout().strides()[d] as i64);
    let ([a_row, a_column], [b_row, b_column]) = (strides(a), strides(b));
    launch::matmul(
        gpu,
        &format!("{form}_{}", short(a.dtype())),
        launch,
        batch.walk(),
        m as u32,
        n as u32,
        k as u32,
        a_row,
        a_column,
        b_row,
        b_column,
        c.at(),
        at(a),
        at(b),
        bias.map_or(Pointer::NONE, at),
        u32::from(bias.is_some()),
    )?;
    c.tensor()
}
