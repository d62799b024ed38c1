//! Recurrent layers of `x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh`; a GRU looks at no `c0`.

use super::{Run, one};
use gradus::tensor::{RnnInputs, RnnKind, RnnSpec, rnn, rnn_backward};
use gradus::{Result, Tensor};

/// The layer `name`, forward or both ways, or `None` if it is not one of these.
pub(super) fn prepare(name: &str, x: &[Tensor]) -> Option<Run> {
    let (kind, both_ways) = match name {
        "lstm" => (RnnKind::Lstm, false),
        "lstm_both" => (RnnKind::Lstm, true),
        "gru" => (RnnKind::Gru, false),
        "gru_both" => (RnnKind::Gru, true),
        _ => return None,
    };
    let [x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh] = x.first_chunk()?.clone();
    let inputs = RnnInputs {
        x,
        h0,
        c0: (kind == RnnKind::Lstm).then_some(c0),
        weight_ih,
        weight_hh,
        bias_ih: Some(bias_ih),
        bias_hh: Some(bias_hh),
    };
    let spec = RnnSpec { kind, reverse: false };
    Some(match both_ways {
        false => Box::new(move || one(rnn(spec, &inputs, false).map(|outputs| outputs.output))),
        true => Box::new(move || both(spec, &inputs)),
    })
}

/// Forward, and the gradients of all inputs for a gradient of ones.
fn both(spec: RnnSpec, inputs: &RnnInputs) -> Result<Vec<Tensor>> {
    let outputs = rnn(spec, inputs, true)?;
    let ones = outputs.output.ones_like()?;
    let grads = rnn_backward(spec, inputs, &outputs, Some(&ones), None, None)?;
    Ok(vec![outputs.output, grads.x, grads.weight_ih, grads.weight_hh])
}
