//! Operands of convolutions, and what the CPU makes of them, for the tests of a file.

use tensor::{Conv, DType, Device, Result, Tensor};

/// One in each of three dims.
pub(crate) const ONE: [usize; 3] = [1; 3];

/// Windows, in a constant.
pub(crate) const fn of(stride: [usize; 3], padding: [usize; 3], dilation: [usize; 3], groups: usize) -> Conv {
    Conv { stride, padding, dilation, groups }
}

/// Numbers from -2 to 2 that repeat after a long while.
pub(crate) fn integers(dims: &[usize], dtype: DType, seed: usize) -> Result<Tensor> {
    let n: usize = dims.iter().product();
    let values: Vec<f32> =
        (0..n).map(|i| ((i * 7919 + seed * 31 + i / 13) % 1009 % 5) as f32 - 2.0).collect();
    Tensor::from_vec(values, dims, &Device::cpu())?.to_dtype(dtype)
}

/// The same tensor with its channels last in memory.
pub(crate) fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.movedim(1, -1)?.copy()?.movedim(-1, 1)
}

pub(crate) fn values(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.to_vec()
}

/// A convolution with a bias and both gradients, as the CPU has them.
pub(crate) struct Expected {
    pub(crate) x: Tensor,
    pub(crate) w: Tensor,
    pub(crate) b: Tensor,
    pub(crate) g: Tensor,
    /// The result, and the gradients in the images and in the weight, by name.
    pub(crate) results: [(&'static str, Vec<f64>); 3],
}

impl Expected {
    /// Of small integers, whose sums are exact.
    pub(crate) fn of(dtype: DType, xs: &[usize], ws: &[usize], conv: &Conv) -> Result<Expected> {
        let shape = conv.output_shape("conv", xs.into(), ws.into())?;
        let (x, w) = (integers(xs, dtype, 1)?, integers(ws, dtype, 2)?);
        let (b, g) = (integers(&ws[..1], dtype, 3)?, integers(shape.dims(), dtype, 4)?);
        let cpu = Device::cpu();
        let backend = cpu.backend();
        let wide = |t: &Tensor| t.to_dtype(DType::F64);
        let narrow = |t: Tensor| values(&t.to_dtype(dtype)?);
        let results = [
            ("conv", narrow(backend.conv(&wide(&x)?, &wide(&w)?, Some(&wide(&b)?), conv)?)?),
            ("grad_input", narrow(backend.conv_grad_input(&wide(&g)?, &wide(&w)?, xs.into(), conv)?)?),
            ("grad_weight", narrow(backend.conv_grad_weight(&wide(&g)?, &wide(&x)?, ws.into(), conv)?)?),
        ];
        Ok(Expected { x, w, b, g, results })
    }
}
