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
    let kept = |d: usize| !mask[d];
    let outputs = Dims::of([x.layout()], kept).joined();
    let reduced = Dims::of([x.layout()], |d| !kept(d)).joined();
    let (count, n) = (outputs.count(), reduced.count());
    countable(op.name(), &[count, n])?;
    let shape: Vec<usize> = x.dims().iter().enumerate().map(|(d, &e)| if kept(d) { e } else { 1 }).collect();
    let y = New::contiguous(gpu, shape, x.dtype())?;
    if count == 0 {
        return y.tensor();
    }
    // How many outputs lie side by side: the kept dims behind the last that is reduced.
    let behind = (0..x.rank()).rev().take_while(|&d| kept(d) || x.dims()[d] == 1);
    let inner: usize = behind.map(|d| x.dims()[d]).product();
    let group = if inner >= 32 { Group::of(1 << 12, n, inner) } else { Group::of(count, n, inner) };
    let chunk = if group.log == 0 { TALL } else { LONG }.max(n.div_ceil(MOST_PIECES));
    let pieces = if count < 1 << 16 { n.div_ceil(chunk).max(1) } else { 1 };
    let chunk = if pieces == 1 { n } else { chunk };
    let run = |kernel: &str, y: &New, x: launch::Pointer| {
        let mut launch = group.launch(count);
        launch.grid[1] = pieces as u32;
        launch::reduce(
            gpu,
            kernel,
            launch,
            outputs.walk(),
            reduced.walk(),
            chunk as u32,
            group.log,
            y.at(),
            x,
        )
    };
    let name = |from, to| format!("reduce_{}_{}_{}", op.name(), number(from), number(to));
    let (dtype, wide) = (x.dtype(), x.dtype().accumulator());
    if pieces == 1 {
        run(&name(dtype, dtype), &y, at(x))?;
        return y.tensor();
    }
    let partial = New::contiguous(gpu, [count, pieces], wide)?;
    run(&name(dtype, wide), &partial, at(x))?;
    let rows = Layout::contiguous(Shape::from([count, pieces]));
    let (outputs, reduced) = (Dims::of([&rows], |d| d == 0), Dims::of([&rows], |d| d == 1));
    let group = Group::of(count, pieces, 1);
    launch::reduce(
        gpu,
        &name(wide, dtype),
        group.launch(count),
        outputs.walk(),
        reduced.walk(),
        pieces as u32,
        group.log,
        y.at(),
        partial.at(),
    )?;
    y.tensor()
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
