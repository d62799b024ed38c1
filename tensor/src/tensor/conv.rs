//! Convolutions over one to three spatial dims.

use super::Tensor;
use crate::op::{BinaryOp, UnaryOp};
use crate::{Conv, Error, Result, Shape};

impl Tensor {
    /// Cross-correlation with `weight`, plus `bias`: what this field calls a convolution. The number of spatial dims
    /// is that of the operands; [`conv1d`](Self::conv1d), [`conv2d`](Self::conv2d) and [`conv3d`](Self::conv3d) also
    /// check it and take an input without a batch dim.
    ///
    /// # Shapes
    /// - `self`: `[n, c, spatial…]`, `weight`: `[o, c / groups, kernel…]`, `bias`: `[o]`
    /// - result: `[n, o, spatial…]` with `(size + 2 · padding - dilation · (kernel - 1) - 1) / stride + 1` each
    pub fn conv(&self, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
        self.conv_named("conv", weight, bias, conv)
    }

    fn conv_named(
        &self,
        op: &'static str,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
    ) -> Result<Tensor> {
        self.check_conv(op, weight, bias, conv)?;
        self.backend().conv(self, weight, bias, conv)
    }

    /// The shape of the result, if the operands fit together.
    fn check_conv(
        &self,
        op: &'static str,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
    ) -> Result<Shape> {
        self.check_same(op, weight)?;
        self.check_float(op)?;
        let shape = conv.output_shape(op, self.shape(), weight.shape())?;
        if let Some(bias) = bias {
            self.check_same(op, bias)?;
            if bias.dims() != &weight.dims()[..1] {
                return Err(Error::shape(
                    op,
                    bias.shape(),
                    format!("expected a bias of [{}]", weight.dims()[0]),
                ));
            }
        }
        Ok(shape)
    }

    /// `activation(conv(self) + residual)` in one go: the convolution with what follows it in inference. The residual has
    /// the shape of the result.
    ///
    /// # Shapes
    /// As for [`conv`](Self::conv).
    ///
    /// ```
    /// use gradus_tensor::{Conv, Device, Tensor, op::UnaryOp};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let cpu = Device::cpu();
    /// let (x, w) = (Tensor::ones([1, 1, 3], &cpu)?, Tensor::ones([1, 1, 2], &cpu)?);
    /// let residual = Tensor::from_slice(&[-5f32, 1.], [1, 1, 2], &cpu)?;
    /// let y = x.conv_fused(&w, None, &Conv::default(), Some(&residual), Some(UnaryOp::Relu))?;
    /// assert_eq!(y.to_vec::<f32>()?, [0., 3.]);
    /// # Ok(()) }
    /// ```
    pub fn conv_fused(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Tensor> {
        const OP: &str = "conv_fused";
        let shape = self.check_conv(OP, weight, bias, conv)?;
        if let Some(residual) = residual {
            self.check_same(OP, residual)?;
            if residual.shape() != shape {
                return Err(Error::shapes(OP, residual.shape(), shape));
            }
        }
        self.backend().conv_fused(self, weight, bias, conv, residual, activation)
    }

    /// With a batch dim of 1 if the input has `rank - 1` dims; the second value says so.
    pub(super) fn batched(&self, op: &'static str, rank: usize) -> Result<(Tensor, bool)> {
        match self.rank() {
            r if r == rank => Ok((self.clone(), false)),
            r if r + 1 == rank => Ok((self.unsqueeze(0)?, true)),
            _ => Err(Error::shape(
                op,
                self.shape(),
                format!("expected {rank} dims, or {} without a batch", rank - 1),
            )),
        }
    }

    fn conv_ranked(
        &self,
        op: &'static str,
        rank: usize,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
    ) -> Result<Tensor> {
        let (x, single) = self.batched(op, rank)?;
        let y = x.conv_named(op, weight, bias, conv)?;
        if single { y.squeeze(0) } else { Ok(y) }
    }

    /// [`conv`](Self::conv) over one spatial dim: `[n, c, l]` or `[c, l]`.
    pub fn conv1d(&self, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
        self.conv_ranked("conv1d", 3, weight, bias, conv)
    }

    /// [`conv`](Self::conv) over two spatial dims: `[n, c, h, w]` or `[c, h, w]`.
    ///
    /// ```
    /// use gradus_tensor::{Conv, Device, Tensor};
    /// # fn main() -> gradus_tensor::Result<()> {
    /// let cpu = Device::cpu();
    /// let (x, w) = (Tensor::ones([1, 1, 4, 4], &cpu)?, Tensor::ones([1, 1, 3, 3], &cpu)?);
    /// let y = x.conv2d(&w, None, &Conv::default().stride(2).padding(1))?;
    /// assert_eq!((y.dims(), y.to_vec::<f32>()?), (&[1, 1, 2, 2][..], vec![4., 6., 6., 9.]));
    /// # Ok(()) }
    /// ```
    pub fn conv2d(&self, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
        self.conv_ranked("conv2d", 4, weight, bias, conv)
    }

    /// [`conv`](Self::conv) over three spatial dims: `[n, c, d, h, w]` or `[c, d, h, w]`.
    pub fn conv3d(&self, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
        self.conv_ranked("conv3d", 5, weight, bias, conv)
    }

    /// The gradient of [`conv`](Self::conv) in its input of shape `input`; `self` is the gradient of the result.
    pub fn conv_grad_input(&self, weight: &Tensor, input: impl Into<Shape>, conv: &Conv) -> Result<Tensor> {
        self.check_same("conv_grad_input", weight)?;
        let input = input.into();
        let expected = conv.output_shape("conv_grad_input", input, weight.shape())?;
        if expected != self.shape() {
            return Err(Error::shapes("conv_grad_input", self.shape(), expected));
        }
        self.backend().conv_grad_input(self, weight, input, conv)
    }

    /// The gradient of [`conv`](Self::conv) in its weight of shape `weight`; `self` is the gradient of the result.
    pub fn conv_grad_weight(&self, x: &Tensor, weight: impl Into<Shape>, conv: &Conv) -> Result<Tensor> {
        self.check_same("conv_grad_weight", x)?;
        let weight = weight.into();
        let expected = conv.output_shape("conv_grad_weight", x.shape(), weight)?;
        if expected != self.shape() {
            return Err(Error::shapes("conv_grad_weight", self.shape(), expected));
        }
        self.backend().conv_grad_weight(self, x, weight, conv)
    }

    /// The transposed convolution: what [`conv`](Self::conv) of the same parameters maps back from. `output_padding`
    /// (less than stride or dilation) settles which of several input sizes is meant.
    ///
    /// # Shapes
    /// - `self`: `[n, c, spatial…]`, `weight`: `[c, o / groups, kernel…]`, `bias`: `[o]`
    /// - result: `[n, o, spatial…]` with `(size - 1) · stride - 2 · padding + dilation · (kernel - 1) + output_padding + 1`
    pub fn conv_transpose(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        output_padding: impl Into<crate::Spatial>,
    ) -> Result<Tensor> {
        self.check_same("conv_transpose", weight)?;
        self.check_float("conv_transpose")?;
        let output = transposed_shape(self.shape(), weight.shape(), conv, output_padding.into().0)?;
        let y = self.backend().conv_grad_input(self, weight, output, conv)?;
        match bias {
            None => Ok(y),
            Some(bias) if bias.dims() == &output.dims()[1..2] => {
                let mut shape = vec![1; self.rank()];
                shape[1] = output.dims()[1];
                y.binary_into(BinaryOp::Add, &bias.reshape(shape)?)
            }
            Some(bias) => {
                let expected = format!("expected a bias of [{}]", output.dims()[1]);
                Err(Error::shape("conv_transpose", bias.shape(), expected))
            }
        }
    }
}

/// The shape of a transposed convolution's result.
fn transposed_shape(x: Shape, weight: Shape, conv: &Conv, output_padding: [usize; 3]) -> Result<Shape> {
    const OP: &str = "conv_transpose";
    let spatial = x.rank().saturating_sub(2);
    if !(1..=3).contains(&spatial) || weight.rank() != x.rank() || weight.dims()[0] != x.dims()[1] {
        return Err(Error::shapes(OP, x, weight)
            .hint("the input is [n, c, spatial…] and the weight [c, out / groups, kernel…]"));
    }
    let mut dims = x.dims().to_vec();
    dims[1] = weight.dims()[1].saturating_mul(conv.groups);
    for i in 0..spatial {
        let (kernel, extra) = (weight.dims()[i + 2], output_padding[i]);
        if extra >= conv.stride[i].max(conv.dilation[i]) {
            let message = format!("output_padding {extra} is not less than stride or dilation");
            return Err(Error::argument(OP, message));
        }
        let size = (|| {
            let full = x.dims()[i + 2].checked_sub(1)?.checked_mul(conv.stride[i])?;
            let taps = kernel.checked_sub(1)?.checked_mul(conv.dilation[i])?;
            full.checked_add(taps)?.checked_add(extra + 1)?.checked_sub(conv.padding[i].checked_mul(2)?)
        })();
        dims[i + 2] =
            size.ok_or_else(|| Error::shapes(OP, x, weight).hint("the result would have no elements"))?;
    }
    let output = Shape::from(dims).checked(OP)?;
    // The convolution that this transposes must exist and lead back to the shape of the input.
    match conv.output_shape(OP, output, weight)? == x {
        true => Ok(output),
        false => {
            Err(Error::shapes(OP, x, weight)
                .hint("padding and output_padding do not fit stride and dilation"))
        }
    }
}
