//! Elements by index: gathering, scattering, and the places of what is not zero. Indices are checked on the GPU; that they were right
//! is known when it has got that far, so each of these waits for it, unless it is captured in a graph, which can be asked after a replay.

use tensor::backend::ScatterMode;
use tensor::{DType, Error, Layout, Number, Result, Shape, Tensor};

use super::copy::{copy, full};
use super::lines::countable;
use super::names::{number, short, size};
use super::sort::sort;
use super::storage::{New, at, memory, operand};
use super::walk::{Dims, Operand, pieces_of_elements};
use crate::gpu::Gpu;
use crate::launch::{self, Groups, Pointer};
use crate::module::Launch;

/// Up to so many indices along the dim a line of them is one thread's.
const SHORT: usize = 32;

/// Elements of a block of the kernels for places: `TILE` of `cuda/nonzero.cu`.
const TILE: usize = 1024;

/// A place for a kernel to say that an index was out of range.
pub(super) struct Bad(Tensor);

impl Bad {
    pub(super) fn new(gpu: &'static Gpu) -> Result<Bad> {
        full(gpu, Layout::contiguous(Shape::from([1])), DType::U32, Number::Int(0)).map(Bad)
    }

    pub(super) fn at(&self) -> Pointer {
        at(&self.0)
    }

    /// The error that `error` makes of these indices, if a kernel has said so. Waits for it, or leaves that to a graph's check.
    pub(super) fn check(
        self,
        gpu: &'static Gpu,
        index: &Tensor,
        error: impl Fn(&Tensor) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        let index = index.clone();
        let check = move || {
            let mut bytes = [0; 4];
            gpu.download(memory(&self.0).0, 0, &mut bytes)?;
            if bytes == [0; 4] { Ok(()) } else { error(&index) }
        };
        if !gpu.captures.here() {
            return check();
        }
        gpu.put_off(Box::new(check));
        Ok(())
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
    let outside = |&i: &i64| i < 0 || i as u64 >= size as u64;
    match index.to_vec::<i64>()?.into_iter().find(outside) {
        Some(bad) => Err(Error::index(op, bad, size)),
        None => Ok(()),
    }
}

/// An error unless the extents beside the dim are within those of `x`.
fn check_extents(op: &'static str, x: &Tensor, dim: usize, by: &Layout) -> Result<()> {
    let fits = by.rank() == x.rank() && (0..x.rank()).all(|d| d == dim || by.dims()[d] <= x.dims()[d]);
    if fits { Ok(()) } else { Err(Error::shapes(op, x.shape(), by.shape())) }
}

fn gather_by(
    gpu: &'static Gpu,
    op: &'static str,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    by: Layout,
) -> Result<Tensor> {
    check_extents(op, x, dim, &by)?;
    let (shape, extent) = (by.shape(), x.dims()[dim]);
    let y = New::contiguous(gpu, shape, x.dtype())?;
    if shape.numel() == 0 || x.numel() == 0 {
        check_on_host(op, index, extent)?;
        return y.tensor();
    }
    let bad = Bad::new(gpu)?;
    let from = Operand { layout: pinned(x.layout(), dim, shape), ..operand(x) };
    let by = Operand { layout: by, ..operand(index) };
    let kernel = format!("gather_{}", size(x.dtype()));
    let stride = x.layout().strides()[dim] as i64;
    for piece in pieces_of_elements([y.operand(), by, from]) {
        let [to, by, from] = piece.at;
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
    bad.check(gpu, index, move |index| check_on_host(op, index, extent))?;
    y.tensor()
}

pub(super) fn gather(gpu: &'static Gpu, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    gather_by(gpu, "gather", x, dim, index, *index.layout())
}

pub(super) fn index_select(gpu: &'static Gpu, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
    let shape = x.shape().with_dim(dim, index.numel());
    gather_by(gpu, "index_select", x, dim, index, along(index, dim, shape))
}

/// A thread for each of `count`, which are not none.
fn threads(count: usize) -> Launch {
    let threads = count.clamp(1, 256).next_multiple_of(32) as u32;
    Launch::new((count as u32).div_ceil(threads), threads)
}

/// Writes `src` to where the indices say. `index` has them along `dim`, and may lack the other dims if it has but that one.
struct Scatter<'a> {
    gpu: &'static Gpu,
    op: &'static str,
    dim: usize,
    index: &'a Tensor,
    src: &'a Tensor,
    mode: ScatterMode,
    /// Whether each of several sums of 16 bits is rounded, or only the last.
    rounds: bool,
}

impl Scatter<'_> {
    /// Into a tensor that nobody else sees.
    fn onto(&self, y: Tensor) -> Result<Tensor> {
        let (op, extent, shape) = (self.op, y.dims()[self.dim], self.src.shape());
        let by = self.lifted(self.index);
        check_extents(op, &y, self.dim, &by)?;
        if shape.numel() == 0 || y.numel() == 0 {
            check_on_host(op, self.index, extent)?;
            return Ok(y);
        }
        countable(op, &[shape.numel()])?;
        let bad = Bad::new(self.gpu)?;
        match shape.dims()[self.dim] <= SHORT && (self.rounds || self.mode == ScatterMode::Set) {
            true => self.by_lines(&y, &by, &bad)?,
            false => self.by_groups(&y, &bad)?,
        }
        bad.check(self.gpu, self.index, move |index| check_on_host(op, index, extent))?;
        Ok(y)
    }

    fn lifted(&self, index: &Tensor) -> Layout {
        match index.rank() == self.src.rank() {
            true => *index.layout(),
            false => along(index, self.dim, self.src.shape()),
        }
    }

    fn kernel(&self, form: &str) -> String {
        match self.mode {
            ScatterMode::Set => format!("{form}_set_{}", size(self.src.dtype())),
            ScatterMode::Add => format!("{form}_add_{}", short(self.src.dtype())),
        }
    }

    /// A thread for each line along the dim.
    fn by_lines(&self, y: &Tensor, by: &Layout, bad: &Bad) -> Result<()> {
        let to = pinned(y.layout(), self.dim, self.src.shape());
        let lines = Dims::of([&to, by, self.src.layout()], |d| d != self.dim).joined();
        let [y_stride, index_stride, src_stride] =
            [y.layout(), by, self.src.layout()].map(|l| self.stride(l));
        Ok(launch::scatter(
            self.gpu,
            &self.kernel("scatter"),
            threads(lines.count()),
            lines.walk(),
            self.src.dims()[self.dim] as u32,
            y.dims()[self.dim] as i64,
            y_stride,
            index_stride,
            src_stride,
            at(y),
            at(self.index),
            at(self.src),
            bad.at(),
        )?)
    }

    /// A thread for each target, or rather for each index that may be its first.
    fn by_groups(&self, y: &Tensor, bad: &Bad) -> Result<()> {
        let dim = if self.index.rank() == self.src.rank() { self.dim } else { 0 };
        let (sorted, order) = sort(self.gpu, self.index, dim, false)?;
        let shape = self.src.shape();
        let (by_sorted, by_order) = (self.lifted(&sorted), self.lifted(&order));
        let (to, from) = (pinned(y.layout(), self.dim, shape), pinned(self.src.layout(), self.dim, shape));
        let numbers = Layout::contiguous(Shape::from([shape.dims()[self.dim]]));
        let lift = |l: Layout, _| l.unsqueeze(l.rank());
        let numbers = (self.dim + 1..shape.rank()).fold(numbers, lift);
        let numbers = numbers.broadcast_to(shape).expect("the extent along the dim is that of the shape");
        let all = Dims::of([&to, &by_sorted, &by_order, &from, &numbers], |_| true).joined();
        let groups = Groups {
            n: shape.dims()[self.dim] as i64,
            size: y.dims()[self.dim] as i64,
            y_stride: self.stride(y.layout()),
            sorted_stride: self.stride(&by_sorted),
            order_stride: self.stride(&by_order),
            src_stride: self.stride(self.src.layout()),
        };
        Ok(launch::group(
            self.gpu,
            &self.kernel("group"),
            threads(shape.numel()),
            all.walk(),
            groups,
            u32::from(self.rounds),
            at(y),
            at(&sorted),
            at(&order),
            at(self.src),
            bad.at(),
        )?)
    }

    fn stride(&self, layout: &Layout) -> i64 {
        layout.strides()[self.dim] as i64
    }
}

pub(super) fn scatter(
    gpu: &'static Gpu,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    src: &Tensor,
    mode: ScatterMode,
) -> Result<Tensor> {
    let y = copy(gpu, x, x.dtype())?;
    Scatter { gpu, op: "scatter", dim, index, src, mode, rounds: true }.onto(y)
}

pub(super) fn index_add(
    gpu: &'static Gpu,
    x: &Tensor,
    dim: usize,
    index: &Tensor,
    src: &Tensor,
) -> Result<Tensor> {
    let y = copy(gpu, x, x.dtype())?;
    Scatter { gpu, op: "index_add", dim, index, src, mode: ScatterMode::Add, rounds: false }.onto(y)
}

/// Adds each of `src`, `[lines, n]`, to the place of its line in `[lines, size]` that `index` names; sums are rounded once.
pub(super) fn add_to_zeros(
    gpu: &'static Gpu,
    op: &'static str,
    size: usize,
    index: &Tensor,
    src: &Tensor,
) -> Result<Tensor> {
    let y = full(gpu, Layout::contiguous([src.dims()[0], size].into()), src.dtype(), Number::Int(0))?;
    Scatter { gpu, op, dim: 1, index, src, mode: ScatterMode::Add, rounds: false }.onto(y)
}

/// Counts of what is not zero, by blocks of elements in row-major order; their running totals say where each block writes its places.
pub(super) fn nonzero(gpu: &'static Gpu, x: &Tensor) -> Result<Tensor> {
    let (n, rank) = (x.numel(), x.rank());
    // The last block may count a little past the end.
    countable("nonzero", &[n + TILE])?;
    if n == 0 {
        return New::contiguous(gpu, [0, rank], DType::I64)?.tensor();
    }
    let blocks = n.div_ceil(TILE);
    let launch = Launch::new(blocks as u32, 256);
    let kernel = |form: &str| format!("nonzero_{form}_{}", number(x.dtype()));
    let walk = Dims::of([x.layout()], |_| true).joined().walk();
    let counts = New::contiguous(gpu, [blocks], DType::I64)?;
    launch::nonzero_count(gpu, &kernel("count"), launch, walk, counts.at(), at(x))?;
    launch::nonzero_ends(gpu, "nonzero_ends", Launch::new(1, 256), blocks as u32, counts.at())?;
    let ends = counts.tensor()?;
    let mut last = [0; 8];
    gpu.download(memory(&ends).0, (blocks - 1) * 8, &mut last)?;
    let found = i64::from_le_bytes(last) as usize;
    let y = New::contiguous(gpu, [found, rank], DType::I64)?;
    if found * rank > 0 {
        // Every dim is kept, also those of extent 1: a place has a number for each.
        let shape = Dims(x.dims().iter().rev().map(|&extent| (extent, [0])).collect());
        launch::nonzero_places(gpu, &kernel("places"), launch, walk, shape.walk(), y.at(), at(&ends), at(x))?;
    }
    y.tensor()
}
