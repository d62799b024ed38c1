//! Convolution by its definition, one tap at a time, in doubles: what the fast kernels are tested against.

use crate::cpu::storage::filled_shape;
use crate::{Conv, DType, Result, Shape, Tensor, match_dtype};

/// Extents padded to three spatial dims: `[n, c, d, h, w]`.
fn five(shape: Shape) -> [usize; 5] {
    let mut out = [1; 5];
    let spatial = shape.rank() - 2;
    out[..2].copy_from_slice(&shape.dims()[..2]);
    out[5 - spatial..].copy_from_slice(&shape.dims()[2..]);
    out
}

fn at(dims: &[usize; 5], i: [usize; 5]) -> usize {
    i.iter().zip(dims).fold(0, |flat, (i, d)| flat * d + i)
}

/// Calls `f(output, input, weight)` with the flat positions of every product of the convolution.
fn taps(x: Shape, weight: Shape, y: Shape, conv: &Conv, mut f: impl FnMut(usize, usize, usize)) {
    let missing = 5 - x.rank();
    let along = |v: [usize; 3], fill: usize| -> [usize; 3] {
        std::array::from_fn(|i| if i < missing { fill } else { v[i - missing] })
    };
    let (stride, padding, dilation) =
        (along(conv.stride, 1), along(conv.padding, 0), along(conv.dilation, 1));
    let (x, w, y) = (five(x), five(weight), five(y));
    let (group_in, group_out) = (x[1] / conv.groups, y[1] / conv.groups);
    let walk = |dims: [usize; 3]| {
        (0..dims[0]).flat_map(move |a| (0..dims[1]).flat_map(move |b| (0..dims[2]).map(move |c| [a, b, c])))
    };
    for n in 0..y[0] {
        for o in 0..y[1] {
            for out in walk([y[2], y[3], y[4]]) {
                for c in 0..group_in {
                    for tap in walk([w[2], w[3], w[4]]) {
                        let from: [Option<usize>; 3] = std::array::from_fn(|i| {
                            let p = (out[i] * stride[i] + tap[i] * dilation[i]).checked_sub(padding[i])?;
                            (p < x[i + 2]).then_some(p)
                        });
                        let [Some(d), Some(h), Some(v)] = from else { continue };
                        let channel = (o / group_out) * group_in + c;
                        f(
                            at(&y, [n, o, out[0], out[1], out[2]]),
                            at(&x, [n, channel, d, h, v]),
                            at(&w, [o, c, tap[0], tap[1], tap[2]]),
                        );
                    }
                }
            }
        }
    }
}

fn doubles(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.to_vec()
}

fn narrowed(values: &[f64], dtype: DType, shape: Shape) -> Result<Tensor> {
    use crate::Scalar;
    match_dtype!(dtype, T => filled_shape::<T>(shape, |y| {
        y.iter_mut().zip(values).for_each(|(y, &v)| *y = T::from_f64(v));
        Ok(())
    }))
}

/// `x ∗ weight + bias`.
pub(crate) fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
    let shape = conv.output_shape("conv", x.shape(), weight.shape())?;
    let mut y = vec![0.0; shape.numel()];
    if let Some(bias) = bias {
        let plane: usize = shape.dims()[2..].iter().product();
        let bias = doubles(bias)?;
        y.iter_mut().enumerate().for_each(|(i, y)| *y = bias[i / plane % bias.len()]);
    }
    let (a, w) = (doubles(x)?, doubles(weight)?);
    taps(x.shape(), weight.shape(), shape, conv, |to, from, tap| y[to] += a[from] * w[tap]);
    narrowed(&y, x.dtype(), shape)
}

/// The gradient in the input.
pub(crate) fn conv_grad_input(grad: &Tensor, weight: &Tensor, input: Shape, conv: &Conv) -> Result<Tensor> {
    let mut dx = vec![0.0; input.numel()];
    let (g, w) = (doubles(grad)?, doubles(weight)?);
    taps(input, weight.shape(), grad.shape(), conv, |to, from, tap| dx[from] += g[to] * w[tap]);
    narrowed(&dx, grad.dtype(), input)
}

/// The gradient in the weight.
pub(crate) fn conv_grad_weight(grad: &Tensor, x: &Tensor, weight: Shape, conv: &Conv) -> Result<Tensor> {
    let mut dw = vec![0.0; weight.numel()];
    let (g, a) = (doubles(grad)?, doubles(x)?);
    taps(x.shape(), weight, grad.shape(), conv, |to, from, tap| dw[tap] += g[to] * a[from]);
    narrowed(&dw, grad.dtype(), weight)
}
