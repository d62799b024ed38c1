//! Convolutions. The three of them are each other's gradients.

use crate::Var;
use crate::node::is_recording;
use tensor::op::{BinaryOp, UnaryOp};
use tensor::{Conv, Error, Result, Shape, Spatial};

impl Var {
    /// Cross-correlation with `weight`, plus `bias`; see [`Tensor::conv`](tensor::Tensor::conv).
    pub fn conv(&self, weight: &Var, bias: Option<&Var>, conv: &Conv) -> Result<Var> {
        self.conv_ranked("conv", self.rank(), weight, bias, conv)
    }

    /// [`conv`](Self::conv) over one spatial dim: `[n, c, l]` or `[c, l]`.
    pub fn conv1d(&self, weight: &Var, bias: Option<&Var>, conv: &Conv) -> Result<Var> {
        self.conv_ranked("conv1d", 3, weight, bias, conv)
    }

    /// [`conv`](Self::conv) over two spatial dims: `[n, c, h, w]` or `[c, h, w]`.
    pub fn conv2d(&self, weight: &Var, bias: Option<&Var>, conv: &Conv) -> Result<Var> {
        self.conv_ranked("conv2d", 4, weight, bias, conv)
    }

    /// [`conv`](Self::conv) over three spatial dims: `[n, c, d, h, w]` or `[c, d, h, w]`.
    pub fn conv3d(&self, weight: &Var, bias: Option<&Var>, conv: &Conv) -> Result<Var> {
        self.conv_ranked("conv3d", 5, weight, bias, conv)
    }

    /// `activation(conv(self) + residual)`: in one go where nothing is recorded, else op by op; see
    /// [`Tensor::conv_fused`](tensor::Tensor::conv_fused).
    pub fn conv_fused(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        conv: &Conv,
        residual: Option<&Var>,
        activation: Option<UnaryOp>,
    ) -> Result<Var> {
        let inputs: Vec<&Var> = [self, weight].into_iter().chain(bias).chain(residual).collect();
        if is_recording() && inputs.iter().any(|v| v.requires_grad()) {
            let mut y = self.conv(weight, bias, conv)?;
            if let Some(residual) = residual {
                y = y.binary_into(BinaryOp::Add, residual)?;
            }
            return match activation {
                Some(op) => y.unary(op),
                None => Ok(y),
            };
        }
        let (bias, residual) = (bias.map(Var::value), residual.map(Var::value));
        let y = self.value().conv_fused(weight.value(), bias, conv, residual, activation)?;
        // No input has a history, so there is no way back and the rule is dropped.
        Ok(Var::record("conv_fused", y, &inputs, |_| Ok(vec![])))
    }

    fn conv_ranked(
        &self,
        op: &'static str,
        rank: usize,
        weight: &Var,
        bias: Option<&Var>,
        conv: &Conv,
    ) -> Result<Var> {
        if self.rank() + 1 == rank {
            return self.unsqueeze(0)?.conv_ranked(op, rank, weight, bias, conv)?.squeeze(0);
        }
        let (x, w, b) = (self.value(), weight.value(), bias.map(Var::value));
        let y = match op {
            "conv1d" => x.conv1d(w, b, conv)?,
            "conv2d" => x.conv2d(w, b, conv)?,
            "conv3d" => x.conv3d(w, b, conv)?,
            _ => x.conv(w, b, conv)?,
        };
        let (x, w, conv) = (self.clone(), weight.clone(), *conv);
        let mut inputs = vec![self, weight];
        inputs.extend(bias);
        let has_bias = bias.is_some();
        Ok(Var::record(op, y, &inputs, move |b| {
            let g = b.grad();
            let mut grads = vec![
                b.want(0, || conv_grad_input(g, &w, x.shape(), conv))?,
                b.want(1, || conv_grad_weight(g, &x, w.shape(), conv))?,
            ];
            if has_bias {
                grads.push(b.want(2, || sum_but_channels(g))?);
            }
            Ok(grads)
        }))
    }

    /// The transposed convolution; see [`Tensor::conv_transpose`](tensor::Tensor::conv_transpose).
    pub fn conv_transpose(
        &self,
        weight: &Var,
        bias: Option<&Var>,
        conv: &Conv,
        output_padding: impl Into<Spatial>,
    ) -> Result<Var> {
        let shape = self.value().conv_transpose(weight.value(), None, conv, output_padding)?;
        let y = conv_grad_input_of(self, weight, shape, *conv);
        let Some(bias) = bias else { return Ok(y) };
        if bias.rank() != 1 || bias.dims()[0] != y.dims()[1] {
            return Err(Error::shape(
                "conv_transpose",
                bias.shape(),
                format!("expected a bias of [{}]", y.dims()[1]),
            ));
        }
        let mut per_channel = vec![1; y.rank()];
        per_channel[1] = y.dims()[1];
        y.add(&bias.reshape(per_channel)?)
    }
}

/// The sum over every dim but the channels of `[n, c, …]`.
fn sum_but_channels(g: &Var) -> Result<Var> {
    let dims: Vec<isize> = (0..g.rank() as isize).filter(|&d| d != 1).collect();
    g.sum(dims, false)
}

fn conv_grad_input(g: &Var, w: &Var, input: Shape, conv: Conv) -> Result<Var> {
    let value = g.value().conv_grad_input(w.value(), input, &conv)?;
    Ok(conv_grad_input_of(g, w, value, conv))
}

/// Records `value`, the gradient of a convolution in its input: linear in `g` and in `w`.
fn conv_grad_input_of(g: &Var, w: &Var, value: tensor::Tensor, conv: Conv) -> Var {
    let (g2, w2) = (g.clone(), w.clone());
    Var::record("conv_transpose", value, &[g, w], move |b| {
        let u = b.grad();
        Ok(vec![
            b.want(0, || u.conv(&w2, None, &conv))?,
            b.want(1, || conv_grad_weight(&g2, u, w2.shape(), conv))?,
        ])
    })
}

fn conv_grad_weight(g: &Var, x: &Var, weight: Shape, conv: Conv) -> Result<Var> {
    let value = g.value().conv_grad_weight(x.value(), weight, &conv)?;
    let (g2, x2) = (g.clone(), x.clone());
    Ok(Var::record("conv_grad_weight", value, &[g, x], move |b| {
        let u = b.grad();
        Ok(vec![
            b.want(0, || x2.conv(u, None, &conv))?,
            b.want(1, || conv_grad_input(&g2, u, x2.shape(), conv))?,
        ])
    }))
}
