//! Convolutions over one to three spatial dims, and their gradients.
//!
//! Everything is brought to one form first ([`geometry`]); the forward pass and the gradient in the input are then the
//! same thing ([`pass`]), computed as matrix products whose im2col operand is virtual ([`correlate`], [`gather`]), or
//! without packing anything where channels are few ([`direct`]) or alone in their groups ([`depthwise`]), small planes of several images at a time ([`abreast`]). The same choice exists for the gradient in the
//! weight ([`grad_product`], [`grad_weight`]). Large 3x3 kernels of stride 1 save products ([`winograd`]). Matrix tiles read the
//! sources where they lie ([`amx`]).
//!
//! The zeros of the padding take part in the sums, as in PyTorch: times an infinite weight they give NaN.

mod abreast;
mod amx;
mod correlate;
mod deal;
mod depthwise;
mod direct;
mod dots;
mod finish;
mod gather;
mod geometry;
mod grad_product;
mod grad_weight;
mod level;
#[cfg(test)]
mod naive;
mod pass;
mod planes;
mod spread;
mod stacked;
#[cfg(test)]
mod tests;
mod tiles;
mod weights;
mod winograd;

use crate::cpu::copy;
use crate::cpu::gemm::GemmElement;
use crate::cpu::gemm::amx::Level;
use crate::cpu::isa::isa;
use crate::cpu::simd::map::Element;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::parallel_chunks_mut;
use crate::op::UnaryOp;
use crate::{Conv, DType, Result, Shape, Tensor, bf16, f16, match_float};
use finish::Finish;
use geometry::Geometry;
use pass::Pass;
use planes::Images;
use weights::Weights;

/// A type that convolutions exist for: sums are in `Acc`, which is its own accumulator.
trait ConvElement: crate::Scalar + Element + GemmElement<Acc = Self::Sum> {
    /// The type of sums.
    type Sum: crate::Scalar + GemmElement<Acc = Self::Sum> + level::Levels;
}

impl ConvElement for f32 {
    type Sum = f32;
}
impl ConvElement for f64 {
    type Sum = f64;
}
impl ConvElement for f16 {
    type Sum = f32;
}
impl ConvElement for bf16 {
    type Sum = f32;
}

/// The tensor itself if it is row-major, else a copy that is.
fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.layout().is_contiguous() { Ok(x.clone()) } else { copy::copy(x, x.dtype()) }
}

/// The pixels that a kernel of one place reads where it leaves some out, and the convolution of these with a stride of 1.
fn thinned(x: &Tensor, weight: Shape, conv: &Conv) -> Result<Option<(Tensor, Conv)>> {
    let spatial = x.rank() - 2;
    let one = weight.dims()[2..].iter().all(|&size| size == 1);
    let unpadded = conv.padding[..spatial].iter().all(|&padding| padding == 0);
    if !one || !unpadded || conv.stride[..spatial].iter().all(|&stride| stride == 1) {
        return Ok(None);
    }
    let mut read = x.clone();
    for (i, &stride) in conv.stride[..spatial].iter().enumerate() {
        read = read.slice(i as isize + 2, None, None, stride)?;
    }
    Ok(Some((contiguous(&read)?, Conv { stride: [1; 3], ..*conv })))
}

/// Runs a pass over the images of `x`, the way that suits it.
fn run<T: ConvElement>(
    pass: &Pass,
    x: &Tensor,
    weight: Weights<T>,
    finish: Finish<T>,
    out: &mut [T],
) -> Result<()> {
    let images = &Images::new(x);
    if depthwise::suits(pass) {
        return depthwise::run(pass, images, weight.values, finish, out);
    }
    if direct::suits(pass) {
        if abreast::suits::<T>(pass) {
            return abreast::run(pass, &Images::new(&contiguous(x)?), weight.values, finish, out);
        }
        return direct::run(pass, images, weight.values, finish, out);
    }
    let one = Pass { n: 1, ..pass.clone() };
    if let Some(level) = Level::now::<T>()
        && amx::suits(pass)
    {
        let simple = if finish.is_simple() { finish } else { Finish { bias: finish.bias, ..Finish::PLAIN } };
        amx::run(level, pass, images, weight.values, simple, out, |n, out| {
            correlate::run(&one, &Images::new(&x.narrow(0, n, 1)?), weight, simple, out)
        })?;
        if !finish.is_simple() {
            let isa = isa();
            parallel_chunks_mut(out, CHUNK, |i, outputs| finish.complete(isa, outputs, i * CHUNK));
        }
        return Ok(());
    }
    if T::DTYPE == DType::F32 && winograd::suits(pass) {
        let outputs: &mut [f32] = bytemuck::cast_slice_mut(&mut *out);
        let [bias, residual] = [finish.bias, finish.residual].map(|values| values.map(bytemuck::cast_slice));
        let (weight, finish) = (weight.cast(), Finish { bias, residual, activation: finish.activation });
        let exact = |n: usize, out: &mut [f32]| {
            let finish = finish.part(n * out.len(), out.len());
            correlate::run(&one, &Images::new(&x.narrow(0, n, 1)?), weight, finish, out)
        };
        if winograd::run(pass, &Images::new(x), weight, finish, outputs, exact)? {
            return Ok(());
        }
    }
    if direct::suits_few_outputs(pass) {
        return direct::run(pass, images, weight.values, finish, out);
    }
    correlate::run(pass, images, weight, finish, out)
}

/// Outputs that a thread completes at a time.
const CHUNK: usize = 1 << 15;

/// `x ∗ weight + bias`; see [`conv_fused`].
pub(crate) fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
    conv_fused(x, weight, bias, conv, None, None)
}

/// `activation(x ∗ weight + bias + residual)`.
///
/// # Shapes
/// - x: `[n, groups · c, spatial…]`, weight: `[groups · k, c, kernel…]`, bias: `[groups · k]`
/// - result and residual: `[n, groups · k, spatial…]`, the result row-major
pub(crate) fn conv_fused(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    conv: &Conv,
    residual: Option<&Tensor>,
    activation: Option<UnaryOp>,
) -> Result<Tensor> {
    if let Some((x, conv)) = thinned(x, weight.shape(), conv)? {
        return conv_fused(&x, weight, bias, &conv, residual, activation);
    }
    let shape = conv.output_shape("conv", x.shape(), weight.shape())?;
    let geometry = Geometry::new(x.shape(), weight.shape(), shape, conv);
    let pass = Pass::forward(&geometry);
    let values = contiguous(weight)?;
    let (bias, residual) = (bias.map(contiguous).transpose()?, residual.map(contiguous).transpose()?);
    match_float!("conv", x.dtype(), T => filled_shape::<T>(shape, |y| {
        let (bias, residual) = (bias.as_ref().map(elements), residual.as_ref().map(elements));
        let weight = Weights::new(weight, elements::<T>(&values), false);
        run(&pass, x, weight, Finish { bias, residual, activation }, y)
    }))
}

/// The gradient in the input.
///
/// # Shapes
/// - grad: `[n, groups · k, spatial…]`, weight: `[groups · k, c, kernel…]`
/// - result: `input`, row-major
pub(crate) fn conv_grad_input(grad: &Tensor, weight: &Tensor, input: Shape, conv: &Conv) -> Result<Tensor> {
    let geometry = Geometry::new(input, weight.shape(), grad.shape(), conv);
    let pass = Pass::backward(&geometry);
    let values = contiguous(weight)?;
    match_float!("conv_grad_input", grad.dtype(), T => filled_shape::<T>(input, |dx| {
        run(&pass, grad, Weights::new(weight, elements::<T>(&values), true), Finish::PLAIN, dx)
    }))
}

/// The gradient in the weight.
///
/// # Shapes
/// - grad: `[n, groups · k, spatial…]`, x: `[n, groups · c, spatial…]`
/// - result: `weight`, row-major
pub(crate) fn conv_grad_weight(grad: &Tensor, x: &Tensor, weight: Shape, conv: &Conv) -> Result<Tensor> {
    if let Some((x, conv)) = thinned(x, weight, conv)? {
        return conv_grad_weight(grad, &x, weight, &conv);
    }
    let geometry = Geometry::new(x.shape(), weight, grad.shape(), conv);
    let grad = contiguous(grad)?;
    match_float!("conv_grad_weight", x.dtype(), T => filled_shape::<T>(weight, |dw| {
        if let Some(level) = Level::now::<T>()
            && amx::gradient::suits(&geometry)
            && amx::gradient::run(level, &geometry, elements::<T>(&grad), &Images::new(x), dw)?
        {
            return Ok(());
        }
        if x.dtype() == DType::F32
            && winograd::suits_gradient(&geometry)
            && winograd::grad_weight(&geometry, x, &grad, bytemuck::cast_slice_mut(dw))?
        {
            return Ok(());
        }
        if abreast::suits_gradient::<T>(&geometry) {
            let x = contiguous(x)?;
            return grad_weight::run(&geometry, elements::<T>(&grad), &Images::new(&x), dw);
        }
        let direct = grad_weight::suits(&geometry) || depthwise::suits_gradient(&geometry);
        let run = if direct { grad_weight::run } else { grad_product::run };
        run(&geometry, elements::<T>(&grad), &Images::new(x), dw)
    }))
}
