//! Softmax, its logarithm, and their gradients.

use tensor::{Result, Tensor};

use super::lines::{Group, countable};
use super::names::short;
use super::storage::{New, at};
use super::walk::Dims;
use crate::gpu::Gpu;
use crate::launch;

pub(super) fn softmax(gpu: &'static Gpu, x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
    let y = New::contiguous(gpu, x.shape(), x.dtype())?;
    let layouts = [&y.operand().layout, x.layout()];
    let lines = Dims::of(layouts, |d| d != dim).joined();
    let (count, n) = (lines.count(), x.dims()[dim]);
    countable("softmax", &[count, n])?;
    if count * n > 0 {
        let group = Group::of(count, n, x.dims()[dim + 1..].iter().product());
        let [to, from] = layouts.map(|layout| layout.strides()[dim] as i64);
        launch::softmax(
            gpu,
            &format!("softmax_{}", short(x.dtype())),
            group.launch(count),
            lines.walk(),
            n as u32,
            to,
            from,
            group.log,
            u32::from(log),
            y.at(),
            at(x),
        )?;
    }
    y.tensor()
}

pub(super) fn softmax_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    y: &Tensor,
    dim: usize,
    log: bool,
) -> Result<Tensor> {
    let dx = New::contiguous(gpu, y.shape(), y.dtype())?;
    let layouts = [&dx.operand().layout, grad.layout(), y.layout()];
    let lines = Dims::of(layouts, |d| d != dim).joined();
    let (count, n) = (lines.count(), y.dims()[dim]);
    countable("softmax_backward", &[count, n])?;
    if count * n > 0 {
        let group = Group::of(count, n, y.dims()[dim + 1..].iter().product());
        let [to, g, from] = layouts.map(|layout| layout.strides()[dim] as i64);
        launch::softmax_backward(
            gpu,
            &format!("softmax_backward_{}", short(y.dtype())),
            group.launch(count),
            lines.walk(),
            n as u32,
            to,
            g,
            from,
            group.log,
            u32::from(log),
            dx.at(),
            at(grad),
            at(y),
        )?;
    }
    dx.tensor()
}
