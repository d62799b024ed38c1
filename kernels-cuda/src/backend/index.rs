//! Elements by index: gathering, scattering, and the places of what is not zero. Indices are checked on the GPU; that they were right
//! is known when it has got that far, so each of these waits for it.

use tensor::backend::ScatterMode;
use tensor::op::ScanOp;
use tensor::{DType, Error, Layout, Number, Result, Shape, Tensor};

use super::copy::{copy, full};
use super::lines::countable;
use super::names::{number, short, size};
use super::reduce::scan;
use super::storage::{New, at, memory, operand};
use super::walk::{Dims, Operand, pieces_of_elements};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

/// A place for the kernel to put an index that is out of range.
pub(super) struct Bad(Tensor);

/// What [`Bad`] holds as long as none was.
const NONE: i64 = i64::MIN;

impl Bad {
    pub(super) fn new(gpu: &'static Gpu) -> Result<Bad> {
        full(gpu, Layout::contiguous(Shape::from([1])), DType::I64, Number::Int(NONE)).map(Bad)
    }

    pub(super) fn at(&self) -> Pointer {
        at(&self.0)
    }

    /// An index that was out of range, once the kernel is done.
    pub(super) fn found(&self, gpu: &'static Gpu) -> Result<Option<i64>> {
        let mut bytes = [0; 8];
        gpu.download(memory(&self.0).0, 0, &mut bytes)?;
        Ok(Some(i64::from_le_bytes(bytes)).filter(|&index| index != NONE))
    }

    /// An error if an index was out of range.
    fn check(&self, gpu: &'static Gpu, op: &'static str, size: usize) -> Result<()> {
        self.found(gpu)?.map_or(Ok(()), |index| Err(Error::index(op, index, size)))
    }
}

/// `[k]` as a layout of `shape` that has the indices along `dim`.
fn along(index: &Tensor, dim: usize, shape: Shape) -> Layout {
    let lifted = (dim + 1..shape.rank()).fold(*index.layout(), |layout, _| layout.unsqueeze(layout.rank()));
    lifted.broadcast_to(shape).expect("the shape has the extent of the index along the dim")
}

/// A layout in which every index along `dim` is the first.
fn pinned(layout: &Layout, dim: usize, shape: Shape) -> Layout {
    let first = layout.slice(dim, 0, 1, 1);
    // The other extents may be longer than those of the index.
    let cut = (0..shape.rank()).filter(|&d| d != dim).fold(first, |l, d| l.slice(d, 0, shape.dims()[d], 1));
    cut.broadcast_to(shape).expect("only the dim has an extent of its own")
}

/// An error if an index is out of range, where no kernel looks at them: one of the tensors has no elements.
fn check_on_host(op: &'static str, index: &Tensor, size: usize) -> Result<()> {
    let wrong = |&i: &i64| i < 0 || i as usize >= size;
    match index.to_vec::<i64>()?.into_iter().find(wrong) {
        Some(bad) => Err(Error::index(op, bad, size)),
        None => Ok(()),
    }
}

fn gather_by(
    gpu: &'static Gpu,
    op: &'static str,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    by: Layout,
) -> Result<Tensor> {
    let shape = by.shape();
    let y = New::contiguous(gpu, shape, x.dtype())?;
    let extent = x.dims()[dim];
    if shape.numel() == 0 || x.numel() == 0 {
        check_on_host(op, index, extent)?;
        return y.tensor();
    }
    let bad = Bad::new(gpu)?;
    let from = Operand { layout: pinned(x.layout(), dim, shape), ..operand(x) };
    let by = Operand { layout: by, ..operand(index) };
    let kernel = format!("gather_{}", size(x.dtype()));
    for piece in pieces_of_elements([y.operand(), by, from]) {
        let [to, by, from] = piece.at;
        let stride = x.layout().strides()[dim] as i64;
        launch::gather(
            gpu,
            &kernel,
            piece.launch(),
            piece.walk,
            extent as i64,
            stride,
            to,
            by,
            from,
            bad.at(),
        )?;
    }
    bad.check(gpu, op, extent)?;
    y.tensor()
}

pub(super) fn gather(gpu: &'static Gpu, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    gather_by(gpu, "gather", x, dim, index, *index.layout())
}

pub(super) fn index_select(gpu: &'static Gpu, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let shape = x.shape().with_dim(dim, index.numel());
    gather_by(gpu, "index_select", x, dim, index, along(index, dim, shape))
}

fn scatter_by(
    gpu: &'static Gpu,
    op: &'static str,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    by: Layout,
    src: &Tensor,
    mode: ScatterMode,
) -> Result<Tensor> {
    let y = copy(gpu, x, x.dtype())?;
    let (n, extent) = (by.dims()[dim], x.dims()[dim]);
    if by.shape().numel() == 0 || x.numel() == 0 {
        check_on_host(op, index, extent)?;
        return Ok(y);
    }
    let bad = Bad::new(gpu)?;
    let to = pinned(y.layout(), dim, by.shape());
    let lines = Dims::of([&to, &by, src.layout()], |d| d != dim).joined();
    countable(op, &[lines.count(), n])?;
    let kernel = match mode {
        ScatterMode::Set => format!("scatter_set_{}", size(x.dtype())),
        ScatterMode::Add => format!("scatter_add_{}", short(x.dtype())),
    };
    let [along_y, along_index, along_src] =
        [y.layout(), &by, src.layout()].map(|layout| layout.strides()[dim] as i64);
    let threads = lines.count().clamp(1, 256).next_multiple_of(32) as u32;
    launch::scatter(
        gpu,
        &kernel,
        Launch::new((lines.count() as u32).div_ceil(threads), threads),
        lines.walk(),
        n as u32,
        extent as i64,
        along_y,
        along_index,
        along_src,
        at(&y),
        at(index),
        at(src),
        bad.at(),
    )?;
    bad.check(gpu, op, extent)?;
    Ok(y)
}

pub(super) fn scatter(
    gpu: &'static Gpu,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    src: &Tensor,
    mode: ScatterMode,
) -> Result<Tensor> {
    scatter_by(gpu, "scatter", x, dim, index, *index.layout(), src, mode)
}

pub(super) fn index_add(
    gpu: &'static Gpu,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    src: &Tensor,
) -> Result<Tensor> {
    let by = along(index, dim, src.shape());
    scatter_by(gpu, "index_add", x, dim, index, by, src, ScatterMode::Add)
}

/// Running totals of what is not zero, in row-major order; then each writes its place where its total says.
pub(super) fn nonzero(gpu: &'static Gpu, x: &Tensor) -> Result<Tensor> {
    let (n, rank) = (x.numel(), x.rank());
    countable("nonzero", &[n])?;
    let mut found = 0;
    let mut counts = None;
    if n > 0 {
        let flags = New::contiguous(gpu, x.shape(), DType::I32)?;
        let kernel = format!("nonzero_{}", number(x.dtype()));
        for piece in pieces_of_elements([flags.operand(), operand(x)]) {
            let [to, from] = piece.at;
            launch::map1(gpu, &kernel, piece.launch(), piece.walk, to, from)?;
        }
        let totals = scan(gpu, ScanOp::CumSum, &flags.tensor()?.reshape([n])?, 0)?;
        let mut last = [0; 4];
        gpu.download(memory(&totals).0, (n - 1) * 4, &mut last)?;
        found = i32::from_le_bytes(last) as usize;
        counts = Some(totals);
    }
    let y = New::contiguous(gpu, [found, rank], DType::I64)?;
    if let Some(counts) = counts.filter(|_| found * rank > 0) {
        let shape = Layout::contiguous(x.shape());
        // Every dim is kept, also those of extent 1: a place has a number for each.
        let dims = Dims(shape.dims().iter().rev().map(|&extent| (extent, [0])).collect());
        let launch = Launch::new((n as u32).div_ceil(256), 256);
        launch::nonzero_places(gpu, "nonzero_places", launch, dims.walk(), rank as u32, y.at(), at(&counts))?;
    }
    y.tensor()
}
