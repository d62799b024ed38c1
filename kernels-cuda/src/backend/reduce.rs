//! Reductions over any dims, and searches.

use tensor::backend::DimMask;
use tensor::op::{ArgOp, ReduceOp};
use tensor::{DType, Layout, Result, Shape, Tensor};

use super::lines::{Group, countable};
use super::names::number;
use super::storage::{New, at};
use super::walk::Dims;
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

/// Elements of a piece of a long reduction: of a line of its own, and of one among others side by side.
const LONG: usize = 1 << 16;
const TALL: usize = 1 << 10;

/// Pieces that a launch may have.
const MOST_PIECES: usize = 1 << 15;

pub(super) fn reduce(gpu: &'static Gpu, op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor> {
    // Of 0 and 1 these are the same, and no byte overflows.
    let op = match (x.dtype(), op) {
        (DType::Bool, ReduceOp::Sum) => ReduceOp::Any,
        (DType::Bool, ReduceOp::Prod) => ReduceOp::All,
        _ => op,
    };
    let cut = Cut::of(op.name(), x, mask, [LONG, TALL])?;
    let y = New::contiguous(gpu, reduced(x, mask), x.dtype())?;
    if cut.count == 0 {
        return y.tensor();
    }
    let name = |from, to| format!("reduce_{}_{}_{}", op.name(), number(from), number(to));
    let run = |kernel: &str, cut: &Cut, y: &New, x: launch::Pointer| {
        let (outputs, reduced) = (cut.outputs.walk(), cut.reduced.walk());
        launch::reduce(
            gpu,
            kernel,
            cut.launch(),
            outputs,
            reduced,
            cut.chunk as u32,
            cut.group.log,
            y.at(),
            x,
        )
    };
    let (dtype, wide) = (x.dtype(), x.dtype().accumulator());
    if cut.pieces == 1 {
        run(&name(dtype, dtype), &cut, &y, at(x))?;
        return y.tensor();
    }
    let partial = New::contiguous(gpu, [cut.count, cut.pieces], wide)?;
    run(&name(dtype, wide), &cut, &partial, at(x))?;
    let rows = Layout::contiguous(Shape::from([cut.count, cut.pieces]));
    let join = Cut {
        outputs: Dims::of([&rows], |d| d == 0),
        reduced: Dims::of([&rows], |d| d == 1),
        count: cut.count,
        n: cut.pieces,
        group: Group::of(cut.count, cut.pieces, 1),
        chunk: cut.pieces,
        pieces: 1,
    };
    run(&name(wide, dtype), &join, &y, partial.at())?;
    y.tensor()
}

/// The shape of a reduction: the dims in `mask` stay with extent 1.
pub(super) fn reduced(x: &Tensor, mask: &DimMask) -> Vec<usize> {
    x.dims().iter().enumerate().map(|(d, &extent)| if mask[d] { 1 } else { extent }).collect()
}

/// How a reduction is cut into work for groups of threads.
pub(super) struct Cut {
    pub(super) outputs: Dims<1>,
    pub(super) reduced: Dims<1>,
    /// How many outputs there are, and elements of each.
    pub(super) count: usize,
    pub(super) n: usize,
    pub(super) group: Group,
    /// Elements of a piece, and how many pieces there are.
    pub(super) chunk: usize,
    pub(super) pieces: usize,
}

impl Cut {
    /// Into pieces of so many elements of a line of its own, or of one among others side by side.
    pub(super) fn of(op: &'static str, x: &Tensor, mask: &DimMask, [long, tall]: [usize; 2]) -> Result<Cut> {
        let kept = |d: usize| !mask[d];
        let outputs = Dims::of([x.layout()], kept).joined();
        let reduced = Dims::of([x.layout()], |d| !kept(d)).joined();
        let (count, n) = (outputs.count(), reduced.count());
        countable(op, &[count, n])?;
        // How many outputs lie side by side: the kept dims behind the last that is reduced.
        let behind = (0..x.rank()).rev().take_while(|&d| kept(d) || x.dims()[d] == 1);
        let inner: usize = behind.map(|d| x.dims()[d]).product();
        let group = if inner >= 32 { Group::of(1 << 12, n, inner) } else { Group::of(count, n, inner) };
        let chunk = if group.log == 0 { tall } else { long }.max(n.div_ceil(MOST_PIECES));
        let pieces = if count < 1 << 16 { n.div_ceil(chunk).max(1) } else { 1 };
        let chunk = if pieces == 1 { n } else { chunk };
        Ok(Cut { outputs, reduced, count, n, group, chunk, pieces })
    }

    /// A group of threads for each output and piece.
    pub(super) fn launch(&self) -> Launch {
        let mut launch = self.group.launch(self.count);
        launch.grid[1] = self.pieces as u32;
        launch
    }
}

pub(super) fn arg_reduce(gpu: &'static Gpu, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let lines = Dims::of([x.layout()], |d| d != dim).joined();
    let (count, n) = (lines.count(), x.dims()[dim]);
    countable(op.name(), &[count, n])?;
    let y = New::contiguous(gpu, x.shape().with_dim(dim, 1), DType::I64)?;
    if count > 0 {
        let group = Group::of(count, n, x.dims()[dim + 1..].iter().product());
        let kernel = format!("{}_{}", op.name(), number(x.dtype()));
        let stride = x.layout().strides()[dim] as i64;
        launch::search(
            gpu,
            &kernel,
            group.launch(count),
            lines.walk(),
            n as u32,
            stride,
            group.log,
            y.at(),
            at(x),
        )?;
    }
    y.tensor()
}
