//! Recurrent layers over whole sequences.

use crate::{
    Error, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec, Shape, Tensor,
};

/// One layer and direction of a recurrent network over a whole sequence. `training` keeps what [`rnn_backward`] needs.
///
/// # Shapes
/// - `x`: `[t, n, input]`, output: `[t, n, hidden]`; the states are `[n, hidden]`
/// - with no steps the output is empty and the final states are the initial ones
///
/// # Errors
/// When an operand's shape, dtype or device does not fit, see [`RnnInputs::sizes`].
///
/// ```
/// use gradus_tensor::{Device, RnnInputs, RnnKind, RnnSpec, Tensor, rnn};
/// # fn main() -> gradus_tensor::Result<()> {
/// let cpu = &Device::cpu();
/// let inputs = RnnInputs {
///     x: Tensor::ones([5, 2, 3], cpu)?,
///     h0: Tensor::zeros([2, 4], cpu)?,
///     c0: None,
///     weight_ih: Tensor::zeros([12, 3], cpu)?,
///     weight_hh: Tensor::zeros([12, 4], cpu)?,
///     bias_ih: Some(Tensor::ones([12], cpu)?),
///     bias_hh: None,
/// };
/// let y = rnn(RnnSpec { kind: RnnKind::Gru, reverse: false }, &inputs, false)?;
/// assert_eq!(y.output.dims(), [5, 2, 4]);
/// assert_eq!(y.h_n.dims(), [2, 4]);
/// # Ok(()) }
/// ```
pub fn rnn(spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
    inputs.sizes(spec.kind)?;
    inputs.x.backend().rnn(spec, inputs, training)
}

/// The gradients of [`rnn`] from those of its outputs; an absent one is zero.
///
/// # Errors
/// When an operand's or a gradient's shape, dtype or device does not fit, or `outputs` were computed without `training`.
pub fn rnn_backward(
    spec: RnnSpec,
    inputs: &RnnInputs,
    outputs: &RnnOutputs,
    grad_output: Option<&Tensor>,
    grad_h_n: Option<&Tensor>,
    grad_c_n: Option<&Tensor>,
) -> Result<RnnGrads> {
    check_grads(spec, inputs, outputs, RnnOutputGrads { output: grad_output, h_n: grad_h_n, c_n: grad_c_n })?;
    inputs.x.backend().rnn_backward(spec, inputs, outputs, grad_output, grad_h_n, grad_c_n)
}

/// Two layers of a kind, the first forwards and the second in reverse, side by side where that is faster; see [`rnn`].
///
/// # Errors
/// As for [`rnn`], and when the operands of the two are on different devices.
pub fn rnn_bidirectional(kind: RnnKind, inputs: [&RnnInputs; 2], training: bool) -> Result<[RnnOutputs; 2]> {
    check_both(kind, inputs)?;
    inputs[0].x.backend().rnn_bidirectional(kind, inputs, training)
}

/// The gradients of [`rnn_bidirectional`] from those of its outputs; an absent one is zero.
///
/// # Errors
/// As for [`rnn_backward`], and when the operands of the two are on different devices.
pub fn rnn_bidirectional_backward(
    kind: RnnKind,
    inputs: [&RnnInputs; 2],
    outputs: [&RnnOutputs; 2],
    grads: [RnnOutputGrads; 2],
) -> Result<[RnnGrads; 2]> {
    check_both(kind, inputs)?;
    for i in 0..2 {
        check_grads(RnnSpec { kind, reverse: i == 1 }, inputs[i], outputs[i], grads[i])?;
    }
    inputs[0].x.backend().rnn_bidirectional_backward(kind, inputs, outputs, grads)
}

/// Whether the operands of two layers are right, and of one dtype and device.
fn check_both(kind: RnnKind, inputs: [&RnnInputs; 2]) -> Result<()> {
    inputs[0].sizes(kind)?;
    inputs[1].sizes(kind)?;
    inputs[0].x.check_same("rnn", &inputs[1].x)
}

/// Whether the operands of a backward pass fit together.
fn check_grads(spec: RnnSpec, inputs: &RnnInputs, outputs: &RnnOutputs, grads: RnnOutputGrads) -> Result<()> {
    const OP: &str = "rnn_backward";
    let sizes = inputs.sizes(spec.kind)?;
    let expected = Shape::from([sizes.t, sizes.n, sizes.hidden]);
    inputs.x.check_same(OP, &outputs.output)?;
    if outputs.output.shape() != expected {
        return Err(Error::shapes(OP, expected, outputs.output.shape())
            .hint("the outputs are those of another layer"));
    }
    let of = [
        ("output", grads.output, Some(&outputs.output)),
        ("h_n", grads.h_n, Some(&outputs.h_n)),
        ("c_n", grads.c_n, outputs.c_n.as_ref()),
    ];
    for (name, grad, output) in of {
        let Some(grad) = grad else { continue };
        let Some(output) = output else {
            return Err(Error::argument(
                OP,
                format!("got a gradient of {name}, which the layer does not have"),
            ));
        };
        output.check_same(OP, grad)?;
        if output.shape() != grad.shape() {
            return Err(Error::shapes(OP, output.shape(), grad.shape())
                .hint(format!("the gradient of {name} has the shape of {name}")));
        }
    }
    Ok(())
}
