//! Pooling over windows of planes, forward and backward. Images whose channels come last stay so.

use tensor::{DType, Layout, Number, Pool, Result, Shape, Tensor};

use super::channels::{Lies, is_aligned};
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

/// How many units a kernel has to work on, and what they are: elements, or vectors of 16 bytes of channels that come last.
struct Units {
    count: usize,
    /// Side by side at a place.
    inner: usize,
    /// What the names of kernels have for them.
    suffix: &'static str,
}

impl Units {
    /// Of a result of a shape: elements.
    fn elements(shape: Shape, lies: Lies) -> Units {
        let inner = if lies == Lies::Last { shape.dims()[1] } else { 1 };
        Units { count: shape.numel(), inner, suffix: "" }
    }

    /// Of a result of a shape in memory of its own, from these operands: vectors where all are whole and aligned.
    fn new(shape: Shape, lies: Lies, operands: &[&Tensor]) -> Units {
        let units = Units::elements(shape, lies);
        let lanes = operands.first().map_or(1, |x| 16 / x.dtype().size());
        // Bytes beside the elements are taken as many at once, and need no more than that.
        if lies == Lies::Last && units.inner.is_multiple_of(lanes) && operands.iter().all(|x| is_aligned(x)) {
            return Units { count: units.count / lanes, inner: units.inner / lanes, suffix: "_v" };
        }
        units
    }

    fn launch(&self) -> Launch {
        threads(self.count)
    }

    fn windows(&self, windows: Windows) -> Windows {
        windows.beside(self.inner)
    }
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
    let lies = Lies::of(x);
    let of = |dtype: DType| New::of(gpu, lies.layout(out), dtype);
    let y = of(x.dtype())?;
    let places = match place {
        Place::NotAsked => None,
        Place::Index => Some(of(DType::I64)?),
        Place::Code => Some(of(DType::U8)?),
    };
    if out.numel() > 0 {
        let x = lies.bring(gpu, x)?;
        let units = Units::new(out, lies, &[&x]);
        let windows = units.windows(windows(OP, x.shape(), out, pool, true)?);
        let (kernel, count) = (format!("max_pool{}_{}", units.suffix, short(x.dtype())), units.count as u32);
        let [index, code] = place.pointers(places.as_ref().map_or(Pointer::NONE, New::at));
        let (launch, form) = (units.launch(), place as u32);
        launch::max_pool(gpu, &kernel, launch, windows, count, form, y.at(), index, code, at(&x))?;
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
    let lies = Lies::of(places);
    let places = lies.bring(gpu, places)?;
    let index = New::of(gpu, lies.layout(places.shape()), DType::I64)?;
    let units = Units::elements(places.shape(), lies);
    if units.count > 0 {
        let windows = units.windows(windows("max_pool", input, places.shape(), pool, true)?);
        let (launch, kernel, count) = (units.launch(), "max_pool_index", units.count as u32);
        launch::max_pool_index(gpu, kernel, launch, windows, count, index.at(), at(&places))?;
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
    let lies = Lies::of(places);
    let dx = New::of(gpu, lies.layout(input), grad.dtype())?;
    let (grad, places) = (lies.bring(gpu, grad)?, lies.bring(gpu, places)?);
    let units = Units::new(input, lies, &[&grad, &places]);
    let (windows, form) = (windows(OP, input, grad.shape(), pool, true)?, Place::of(&places));
    let [index, code] = form.pointers(at(&places));
    let (kernel, count) =
        (format!("max_pool_backward{}_{}", units.suffix, short(grad.dtype())), units.count as u32);
    let (launch, windows, form) = (units.launch(), units.windows(windows), form as u32);
    launch::max_pool_backward(gpu, &kernel, launch, windows, count, form, dx.at(), at(&grad), index, code)?;
    dx.tensor()
}

/// What a mean divides by if not the elements of its window: whether padding counts, and a fixed number or 0.
fn divisor(pool: &Pool) -> (u32, f64) {
    (u32::from(pool.count_include_pad), pool.divisor_override.map_or(0.0, |n| n as f64))
}

pub(super) fn avg_pool(gpu: &'static Gpu, x: &Tensor, pool: &Pool) -> Result<Tensor> {
    let out = pool.output_shape("avg_pool", x.shape())?;
    countable("avg_pool", &[x.numel(), out.numel()])?;
    let lies = Lies::of(x);
    let y = New::of(gpu, lies.layout(out), x.dtype())?;
    if out.numel() > 0 {
        let x = lies.bring(gpu, x)?;
        let units = Units::new(out, lies, &[&x]);
        let windows = units.windows(windows("avg_pool", x.shape(), out, pool, false)?);
        let ((padded, fixed), count, launch) = (divisor(pool), units.count as u32, units.launch());
        let kernel = format!("avg_pool{}_{}", units.suffix, short(x.dtype()));
        launch::avg_pool(gpu, &kernel, launch, windows, count, padded, fixed, y.at(), at(&x))?;
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
    let lies = Lies::of(grad);
    let dx = New::of(gpu, lies.layout(input), grad.dtype())?;
    let grad = lies.bring(gpu, grad)?;
    let units = Units::new(input, lies, &[&grad]);
    let windows = units.windows(windows("avg_pool_backward", input, grad.shape(), pool, false)?);
    let ((padded, fixed), count, launch) = (divisor(pool), units.count as u32, units.launch());
    let kernel = format!("avg_pool_backward{}_{}", units.suffix, short(grad.dtype()));
    launch::avg_pool(gpu, &kernel, launch, windows, count, padded, fixed, dx.at(), at(&grad))?;
    dx.tensor()
}

pub(super) fn adaptive_max_pool(gpu: &'static Gpu, x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
    countable("adaptive_max_pool", &[x.numel(), output.numel()])?;
    let (lies, units) = (Lies::of(x), Units::elements(output, Lies::of(x)));
    let layout = lies.layout(output);
    let (y, index) = (New::of(gpu, layout, x.dtype())?, New::of(gpu, layout, DType::I64)?);
    if output.numel() > 0 {
        let x = lies.bring(gpu, x)?;
        let windows = units.windows(Windows::of_cells(spatial(&x.shape()), spatial(&output)));
        let (kernel, count) = (format!("adaptive_max_pool_{}", short(x.dtype())), output.numel());
        let launch = threads(count);
        launch::adaptive_max_pool(gpu, &kernel, launch, windows, count as u32, y.at(), index.at(), at(&x))?;
    }
    Ok((y.tensor()?, index.tensor()?))
}

pub(super) fn adaptive_avg_pool(gpu: &'static Gpu, x: &Tensor, output: Shape) -> Result<Tensor> {
    countable("adaptive_avg_pool", &[x.numel(), output.numel()])?;
    let (lies, units) = (Lies::of(x), Units::elements(output, Lies::of(x)));
    let y = New::of(gpu, lies.layout(output), x.dtype())?;
    if output.numel() > 0 {
        let x = lies.bring(gpu, x)?;
        let windows = units.windows(Windows::of_cells(spatial(&x.shape()), spatial(&output)));
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
    let (lies, units) = (Lies::of(grad), Units::elements(input, Lies::of(grad)));
    let dx = New::of(gpu, lies.layout(input), grad.dtype())?;
    let grad = lies.bring(gpu, grad)?;
    let (size, out) = (spatial(&input).to_vec(), spatial(&grad.shape()).to_vec());
    let kernel = format!("adaptive_avg_pool_backward_{}", short(grad.dtype()));
    let (windows, across) = (Windows::of_cells(&size, &out), Windows::of_cells(&out, &size));
    let count = input.numel();
    launch::adaptive_avg_pool_backward(
        gpu,
        &kernel,
        threads(count),
        units.windows(windows),
        across,
        count as u32,
        dx.at(),
        at(&grad),
    )?;
    dx.tensor()
}
