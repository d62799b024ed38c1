//! Pooling over windows of planes, forward and backward.

use tensor::{DType, Layout, Number, Pool, Result, Shape, Tensor};

use super::copy::full;
use super::lines::countable;
use super::names::short;
use super::storage::{New, at};
use super::windows::Windows;
use crate::gpu::Gpu;
use crate::launch;
use crate::module::Launch;

fn threads(count: usize) -> Launch {
    let threads = count.clamp(1, 256).next_multiple_of(32) as u32;
    Launch::new((count as u32).div_ceil(threads), threads)
}

fn spatial(shape: &Shape) -> &[usize] {
    &shape.dims()[2..]
}

pub(super) fn max_pool(gpu: &'static Gpu, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
    let out = pool.output_shape("max_pool", x.shape())?;
    countable("max_pool", &[x.numel(), out.numel()])?;
    let (y, index) = (New::contiguous(gpu, out, x.dtype())?, New::contiguous(gpu, out, DType::I64)?);
    if out.numel() > 0 {
        let x = x.contiguous()?;
        let windows = Windows::of_pool(spatial(&x.shape()), spatial(&out), pool, true);
        let kernel = format!("max_pool_{}", short(x.dtype()));
        launch::max_pool(
            gpu,
            &kernel,
            threads(out.numel()),
            windows,
            out.numel() as u32,
            y.at(),
            index.at(),
            at(&x),
        )?;
    }
    Ok((y.tensor()?, index.tensor()?))
}

/// By a thread for each plane, which adds in order.
pub(super) fn max_pool_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    index: &Tensor,
    input: Shape,
) -> Result<Tensor> {
    countable("max_pool_backward", &[grad.numel(), input.numel()])?;
    let sums = full(gpu, Layout::contiguous(input), grad.dtype().accumulator(), Number::Int(0))?;
    if grad.numel() > 0 {
        let (grad, index) = (grad.contiguous()?, index.contiguous()?);
        let planes = input.dims()[0] * input.dims()[1];
        launch::max_pool_backward(
            gpu,
            &format!("max_pool_backward_{}", short(grad.dtype())),
            threads(planes),
            planes as u32,
            (grad.numel() / planes) as u32,
            (input.numel() / planes) as u32,
            at(&sums),
            at(&grad),
            at(&index),
        )?;
    }
    sums.to_dtype(grad.dtype())
}

/// By a thread for each place of the input, which looks at the windows over it.
pub(super) fn max_pool_places_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    index: &Tensor,
    input: Shape,
    pool: &Pool,
) -> Result<Tensor> {
    countable("max_pool_backward", &[grad.numel(), input.numel()])?;
    if grad.numel() == 0 {
        return full(gpu, Layout::contiguous(input), grad.dtype(), Number::Int(0));
    }
    let dx = New::contiguous(gpu, input, grad.dtype())?;
    let (grad, index) = (grad.contiguous()?, index.contiguous()?);
    let windows = Windows::of_pool(spatial(&input), spatial(&grad.shape()), pool, true);
    launch::max_pool_places_backward(
        gpu,
        &format!("max_pool_places_backward_{}", short(grad.dtype())),
        threads(input.numel()),
        windows,
        input.numel() as u32,
        dx.at(),
        at(&grad),
        at(&index),
    )?;
    dx.tensor()
}

/// What a mean divides by if not the elements of its window: whether padding counts, and a fixed number or 0.
fn divisor(pool: &Pool) -> (u32, u32) {
    let fixed = pool.divisor_override.map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
    (u32::from(pool.count_include_pad), fixed)
}

pub(super) fn avg_pool(gpu: &'static Gpu, x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let out = pool.output_shape("avg_pool", x.shape())?;
    countable("avg_pool", &[x.numel(), out.numel()])?;
    let y = New::contiguous(gpu, out, x.dtype())?;
    if out.numel() > 0 {
        let x = x.contiguous()?;
        let windows = Windows::of_pool(spatial(&x.shape()), spatial(&out), pool, false);
        let ((padded, fixed), count) = (divisor(pool), out.numel());
        let kernel = format!("avg_pool_{}", short(x.dtype()));
        launch::avg_pool(gpu, &kernel, threads(count), windows, count as u32, padded, fixed, y.at(), at(&x))?;
    }
    y.tensor()
}

pub(super) fn avg_pool_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    input: Shape,
    pool: &Pool,
) -> Result<Tensor> {
    countable("avg_pool_backward", &[grad.numel(), input.numel()])?;
    if grad.numel() == 0 {
        return full(gpu, Layout::contiguous(input), grad.dtype(), Number::Int(0));
    }
    let dx = New::contiguous(gpu, input, grad.dtype())?;
    let grad = grad.contiguous()?;
    let windows = Windows::of_pool(spatial(&input), spatial(&grad.shape()), pool, false);
    let ((padded, fixed), count) = (divisor(pool), input.numel());
    let kernel = format!("avg_pool_backward_{}", short(grad.dtype()));
    launch::avg_pool(gpu, &kernel, threads(count), windows, count as u32, padded, fixed, dx.at(), at(&grad))?;
    dx.tensor()
}

pub(super) fn adaptive_avg_pool(gpu: &'static Gpu, x: &Tensor, output: Shape) -> Result<Tensor> {
    countable("adaptive_avg_pool", &[x.numel(), output.numel()])?;
    let y = New::contiguous(gpu, output, x.dtype())?;
    if output.numel() > 0 {
        let x = x.contiguous()?;
        let windows = Windows::of_cells(spatial(&x.shape()), spatial(&output));
        let (kernel, count) = (format!("adaptive_avg_pool_{}", short(x.dtype())), output.numel());
        launch::adaptive_avg_pool(gpu, &kernel, threads(count), windows, count as u32, y.at(), at(&x))?;
    }
    y.tensor()
}

pub(super) fn adaptive_avg_pool_backward(gpu: &'static Gpu, grad: &Tensor, input: Shape) -> Result<Tensor> {
    countable("adaptive_avg_pool_backward", &[grad.numel(), input.numel()])?;
    if grad.numel() == 0 {
        return full(gpu, Layout::contiguous(input), grad.dtype(), Number::Int(0));
    }
    let dx = New::contiguous(gpu, input, grad.dtype())?;
    let grad = grad.contiguous()?;
    let (size, out) = (spatial(&input).to_vec(), spatial(&grad.shape()).to_vec());
    let kernel = format!("adaptive_avg_pool_backward_{}", short(grad.dtype()));
    let (windows, across) = (Windows::of_cells(&size, &out), Windows::of_cells(&out, &size));
    let count = input.numel();
    launch::adaptive_avg_pool_backward(
        gpu,
        &kernel,
        threads(count),
        windows,
        across,
        count as u32,
        dx.at(),
        at(&grad),
    )?;
    dx.tensor()
}
