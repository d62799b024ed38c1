//! Pooling over windows of planes, forward and backward.

use tensor::{DType, Layout, Number, Pool, Result, Shape, Tensor};

use super::copy::full;
use super::index::add_to_zeros;
use super::lines::countable;
use super::names::short;
use super::storage::{New, at};
use super::windows::Windows;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;

fn threads(count: usize) -> Launch {
    let threads = count.clamp(1, 256).next_multiple_of(32) as u32;
    Launch::new((count as u32).div_ceil(threads), threads)
}

fn spatial(shape: &Shape) -> &[usize] {
    &shape.dims()[2..]
}

/// The windows of a pooling, unless they are more than a kernel counts.
fn windows(op: &'static str, x: Shape, out: Shape, pool: &Pool, dilated: bool) -> Result<Windows> {
    let (size, out) = (spatial(&x), spatial(&out));
    let taps = pool.kernel[..size.len()].iter().try_fold(1usize, |taps, &k| taps.checked_mul(k));
    countable(op, &[taps.unwrap_or(usize::MAX)])?;
    Ok(Windows::of_pool(size, out, pool, dilated))
}

/// How the place of a largest element is written: `Place` of `cuda/pool.cu`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    NotAsked = 0,
    Index = 1,
    Code = 2,
}

impl Place {
    /// The form of places that a backend keeps to itself: a byte, if that numbers the taps of a window.
    fn own(x: Shape, pool: &Pool) -> Place {
        let taps = pool.kernel[..x.rank() - 2].iter().try_fold(1usize, |taps, &k| taps.checked_mul(k));
        if taps.is_some_and(|taps| taps <= 256) { Place::Code } else { Place::Index }
    }

    /// The form of a tensor of places.
    fn of(places: &Tensor) -> Place {
        if places.dtype() == DType::U8 { Place::Code } else { Place::Index }
    }

    /// Its pointers to indices and to codes, of which it has one.
    fn pointers(self, places: Pointer) -> [Pointer; 2] {
        match self {
            Place::NotAsked => [Pointer::NONE; 2],
            Place::Index => [places, Pointer::NONE],
            Place::Code => [Pointer::NONE, places],
        }
    }
}

fn largest(gpu: &'static Gpu, x: &Tensor, pool: &Pool, place: Place) -> Result<(Tensor, Option<Tensor>)> {
    const OP: &str = "max_pool";
    let out = pool.output_shape(OP, x.shape())?;
    countable(OP, &[x.numel(), out.numel()])?;
    let y = New::contiguous(gpu, out, x.dtype())?;
    let places = match place {
        Place::NotAsked => None,
        Place::Index => Some(New::contiguous(gpu, out, DType::I64)?),
        Place::Code => Some(New::contiguous(gpu, out, DType::U8)?),
    };
    if out.numel() > 0 {
        let x = x.contiguous()?;
        let windows = windows(OP, x.shape(), out, pool, true)?;
        let (kernel, count) = (format!("max_pool_{}", short(x.dtype())), out.numel());
        let [index, code] = place.pointers(places.as_ref().map_or(Pointer::NONE, New::at));
        let (launch, form) = (threads(count), place as u32);
        launch::max_pool(gpu, &kernel, launch, windows, count as u32, form, y.at(), index, code, at(&x))?;
    }
    Ok((y.tensor()?, places.map(New::tensor).transpose()?))
}

pub(super) fn max_pool(gpu: &'static Gpu, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
    let (y, index) = largest(gpu, x, pool, Place::Index)?;
    Ok((y, index.expect("indices were asked for")))
}

/// With places as bytes where these number the taps of a window.
pub(super) fn max_pool_places(
    gpu: &'static Gpu,
    x: &Tensor,
    pool: &Pool,
    places: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let form = if places && x.rank() > 2 { Place::own(x.shape(), pool) } else { Place::NotAsked };
    largest(gpu, x, pool, form)
}

pub(super) fn max_pool_index(
    gpu: &'static Gpu,
    places: &Tensor,
    input: Shape,
    pool: &Pool,
) -> Result<Tensor> {
    if Place::of(places) == Place::Index {
        return Ok(places.clone());
    }
    let (places, count) = (places.contiguous()?, places.numel());
    let index = New::contiguous(gpu, places.shape(), DType::I64)?;
    if count > 0 {
        let windows = windows("max_pool", input, places.shape(), pool, true)?;
        let (launch, kernel) = (threads(count), "max_pool_index");
        launch::max_pool_index(gpu, kernel, launch, windows, count as u32, index.at(), at(&places))?;
    }
    index.tensor()
}

/// Without windows to look at: as a scatter into each plane.
pub(super) fn max_pool_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    index: &Tensor,
    input: Shape,
) -> Result<Tensor> {
    const OP: &str = "max_pool_backward";
    countable(OP, &[grad.numel(), input.numel()])?;
    if grad.numel() == 0 {
        return full(gpu, Layout::contiguous(input), grad.dtype(), Number::Int(0));
    }
    let planes = input.dims()[0] * input.dims()[1];
    let of_planes = |t: &Tensor| t.reshape([planes, t.numel() / planes]);
    add_to_zeros(gpu, OP, input.numel() / planes, &of_planes(index)?, &of_planes(grad)?)?.reshape(input)
}

/// By a thread for each place of the input, which looks at the windows over it.
pub(super) fn max_pool_places_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    places: &Tensor,
    input: Shape,
    pool: &Pool,
) -> Result<Tensor> {
    const OP: &str = "max_pool_backward";
    countable(OP, &[grad.numel(), input.numel()])?;
    if grad.numel() == 0 {
        return full(gpu, Layout::contiguous(input), grad.dtype(), Number::Int(0));
    }
    let dx = New::contiguous(gpu, input, grad.dtype())?;
    let (grad, places) = (grad.contiguous()?, places.contiguous()?);
    let (windows, form) = (windows(OP, input, grad.shape(), pool, true)?, Place::of(&places));
    let [index, code] = form.pointers(at(&places));
    let (kernel, count) = (format!("max_pool_backward_{}", short(grad.dtype())), input.numel());
    let (launch, form) = (threads(count), form as u32);
    launch::max_pool_backward(
        gpu,
        &kernel,
        launch,
        windows,
        count as u32,
        form,
        dx.at(),
        at(&grad),
        index,
        code,
    )?;
    dx.tensor()
}

/// What a mean divides by if not the elements of its window: whether padding counts, and a fixed number or 0.
fn divisor(pool: &Pool) -> (u32, f64) {
    (u32::from(pool.count_include_pad), pool.divisor_override.map_or(0.0, |n| n as f64))
}

pub(super) fn avg_pool(gpu: &'static Gpu, x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let out = pool.output_shape("avg_pool", x.shape())?;
    countable("avg_pool", &[x.numel(), out.numel()])?;
    let y = New::contiguous(gpu, out, x.dtype())?;
    if out.numel() > 0 {
        let x = x.contiguous()?;
        let windows = windows("avg_pool", x.shape(), out, pool, false)?;
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
    let windows = windows("avg_pool_backward", input, grad.shape(), pool, false)?;
    let ((padded, fixed), count) = (divisor(pool), input.numel());
    let kernel = format!("avg_pool_backward_{}", short(grad.dtype()));
    launch::avg_pool(gpu, &kernel, threads(count), windows, count as u32, padded, fixed, dx.at(), at(&grad))?;
    dx.tensor()
}

pub(super) fn adaptive_max_pool(gpu: &'static Gpu, x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
    countable("adaptive_max_pool", &[x.numel(), output.numel()])?;
    let (y, index) = (New::contiguous(gpu, output, x.dtype())?, New::contiguous(gpu, output, DType::I64)?);
    if output.numel() > 0 {
        let x = x.contiguous()?;
        let windows = Windows::of_cells(spatial(&x.shape()), spatial(&output));
        let (kernel, count) = (format!("adaptive_max_pool_{}", short(x.dtype())), output.numel());
        let launch = threads(count);
        launch::adaptive_max_pool(gpu, &kernel, launch, windows, count as u32, y.at(), index.at(), at(&x))?;
    }
    Ok((y.tensor()?, index.tensor()?))
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
