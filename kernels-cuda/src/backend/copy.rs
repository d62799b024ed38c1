//! Transfers, copies, conversions, constants and ranges.

use tensor::{DType, Kind, Layout, Number, Result, Shape, Tensor, match_dtype};

use super::lines::grid;
use super::names::{number, short, size};
use super::storage::{New, changes, memory, operand, operand_as};
use super::walk::{Operand, crossing, pieces};
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

/// Rows and columns of a tile: `SIDE` of `cuda/transpose.cu`.
const SIDE: usize = 32;

pub(super) fn upload(gpu: &'static Gpu, bytes: &[u8], dtype: DType, shape: Shape) -> Result<Tensor> {
    let mut y = New::contiguous(gpu, shape, dtype)?;
    gpu.upload(y.block(), bytes)?;
    y.tensor()
}

pub(super) fn download(gpu: &'static Gpu, x: &Tensor) -> Result<Vec<u8>> {
    let x = x.contiguous()?;
    let mut bytes = vec![0; x.numel() * x.dtype().size()];
    if !bytes.is_empty() {
        let (block, start) = memory(&x);
        gpu.download(block, start, &mut bytes)?;
    }
    Ok(bytes)
}

/// Every element `value`.
pub(super) fn full(gpu: &'static Gpu, layout: Layout, dtype: DType, value: Number) -> Result<Tensor> {
    let y = New::of(gpu, layout, dtype)?;
    let bits = bits(dtype, value);
    for piece in pieces([y.operand()]) {
        let (launch, [at]) = (piece.launch(), piece.at);
        match dtype.size() {
            1 => launch::fill_u8(gpu, "fill_u8", launch, piece.walk, at, bits as u8),
            2 => launch::fill_u16(gpu, "fill_u16", launch, piece.walk, at, bits as u16),
            4 => launch::fill_u32(gpu, "fill_u32", launch, piece.walk, at, bits as u32),
            _ => launch::fill_u64(gpu, "fill_u64", launch, piece.walk, at, bits),
        }?;
    }
    y.tensor()
}

/// A number as an element, in the low bytes, as both sides are little-endian.
pub(super) fn bits(dtype: DType, value: Number) -> u64 {
    let mut bits = [0; 8];
    match_dtype!(dtype, T => bits[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&value.to_scalar::<T>())));
    u64::from_le_bytes(bits)
}

/// `start + i · step`: in integers if all three are, else in doubles.
pub(super) fn arange(
    gpu: &'static Gpu,
    n: usize,
    dtype: DType,
    start: Number,
    step: Number,
) -> Result<Tensor> {
    const PART: usize = 1 << 30;
    let y = New::contiguous(gpu, n, dtype)?;
    let (a, b, whole) = match (start, step, dtype.kind()) {
        (Number::Int(a), Number::Int(b), Kind::Int) => (a, b, 1),
        _ => (0, 0, 0),
    };
    let (x, by) = (start.to_f64(), step.to_f64());
    for first in (0..n).step_by(PART) {
        let count = (n - first).min(PART) as u32;
        let at = launch::Pointer(y.at().0 + (first * dtype.size()) as u64);
        let a = a.wrapping_add(b.wrapping_mul(first as i64));
        let launch = Launch::new(count.div_ceil(256), 256);
        launch::range(
            gpu,
            &format!("range_{}", short(dtype)),
            launch,
            count,
            at,
            whole,
            a,
            b,
            x + by * first as f64,
            by,
        )?;
    }
    y.tensor()
}

/// Copies elements of one dtype from one place to another of the same shape.
pub(super) fn relocate(gpu: &'static Gpu, to: Operand, from: Operand, dtype: DType) -> Result<()> {
    let turned = crossing(&to.layout, &from.layout);
    let spread = turned.as_ref().and_then(|turned| grid(turned.matrices.count()));
    if let (Some(turned), Some((rows, layers))) = (turned, spread) {
        let tiles = turned.rows.div_ceil(SIDE) * turned.columns.div_ceil(SIDE);
        launch::transpose(
            gpu,
            &format!("transpose_{}", size(dtype)),
            Launch { grid: [tiles as u32, rows, layers], ..Launch::new(1, 256) },
            turned.matrices,
            turned.rows as u32,
            turned.columns as u32,
            turned.row_stride,
            turned.column_stride,
            to.at,
            from.at,
        )?;
        return Ok(());
    }
    for piece in pieces([to, from]) {
        let [y, x] = piece.at;
        launch::map1(gpu, &format!("copy_{}", size(dtype)), piece.launch(), piece.walk, y, x)?;
    }
    Ok(())
}

/// A row-major copy as elements of `dtype`.
pub(super) fn copy(gpu: &'static Gpu, x: &Tensor, dtype: DType) -> Result<Tensor> {
    copy_as(gpu, x, dtype, Layout::contiguous(x.shape()))
}

/// A copy as elements of `dtype` which lie as `layout` says.
pub(super) fn copy_as(gpu: &'static Gpu, x: &Tensor, dtype: DType, layout: Layout) -> Result<Tensor> {
    let y = New::of(gpu, layout, dtype)?;
    if x.dtype() == dtype {
        relocate(gpu, y.operand(), operand(x), dtype)?;
        return y.tensor();
    }
    // A bool is the byte 0 or 1, so it is converted as one.
    let name = format!("cast_{}_{}", number(x.dtype()), short(dtype));
    for piece in pieces([y.operand(), operand(x)]) {
        let [y, x] = piece.at;
        launch::map1(gpu, &name, piece.launch(), piece.walk, y, x)?;
    }
    y.tensor()
}

/// Writes `x` into the elements of `out` that `at` selects, in place if nobody else sees `out`.
pub(super) fn write(gpu: &'static Gpu, mut out: Tensor, at: &Layout, x: &Tensor) -> Result<Tensor> {
    // `at` counts from the start of a row-major tensor.
    let whole = out.layout().is_contiguous() && out.layout().offset() == 0;
    if !whole || out.storage_mut().is_none() {
        out = copy(gpu, &out, out.dtype())?;
    }
    changes(&out);
    relocate(gpu, operand_as(&out, *at), operand(x), x.dtype())?;
    Ok(out)
}

/// The tensors one after the other along `dim`, in a new one of `shape`.
pub(super) fn cat(gpu: &'static Gpu, tensors: &[Tensor], dim: usize, shape: Shape) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        return Err(tensor::Error::argument("cat", "there is nothing to join"));
    };
    let y = New::contiguous(gpu, shape, first.dtype())?;
    let whole = y.operand();
    let mut start = 0;
    for x in tensors {
        let layout = whole.layout.slice(dim, start, x.dims()[dim], 1);
        let at = launch::Pointer(whole.at.0 + (layout.offset() * whole.size) as u64);
        relocate(gpu, Operand { layout, at, ..whole }, operand(x), x.dtype())?;
        start += x.dims()[dim];
    }
    y.tensor()
}
