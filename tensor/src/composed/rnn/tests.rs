//! The composed recurrent layers against loops over numbers, and their gradients against finite differences.

use crate::rnn::testing::{noise, operands, specs};
use crate::{DType, Result, RnnInputs, RnnKind, RnnSpec, Tensor, rnn, rnn_backward};

/// The equations in loops over single numbers: the outputs in the order of time, and the last cell state.
fn naive(spec: RnnSpec, inputs: &RnnInputs) -> Result<(Vec<f64>, Vec<f64>)> {
    let s = inputs.sizes(spec.kind)?;
    let values = |t: Option<&Tensor>, otherwise: usize| match t {
        Some(t) => t.to_vec::<f64>(),
        None => Ok(vec![0.0; otherwise]),
    };
    let rows = spec.kind.gates() * s.hidden;
    let (x, w, u) =
        (inputs.x.to_vec::<f64>()?, inputs.weight_ih.to_vec::<f64>()?, inputs.weight_hh.to_vec::<f64>()?);
    let (wb, ub) = (values(inputs.bias_ih.as_ref(), rows)?, values(inputs.bias_hh.as_ref(), rows)?);
    let mut h = inputs.h0.to_vec::<f64>()?;
    let mut c = values(inputs.c0.as_ref(), s.n * s.hidden)?;
    let mut output = vec![0.0; s.t * s.n * s.hidden];
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    for time in (0..s.t).map(|taken| spec.time(taken, s.t)) {
        let old = h.clone();
        for row in 0..s.n {
            let a = |k: usize| -> f64 {
                wb[k]
                    + (0..s.input)
                        .map(|j| w[k * s.input + j] * x[(time * s.n + row) * s.input + j])
                        .sum::<f64>()
            };
            let b = |k: usize| -> f64 {
                ub[k] + (0..s.hidden).map(|j| u[k * s.hidden + j] * old[row * s.hidden + j]).sum::<f64>()
            };
            for unit in 0..s.hidden {
                let k = |gate: usize| gate * s.hidden + unit;
                let sum = |gate: usize| a(k(gate)) + b(k(gate));
                let at = row * s.hidden + unit;
                h[at] = match spec.kind {
                    RnnKind::Tanh => sum(0).tanh(),
                    RnnKind::Relu => sum(0).max(0.0),
                    RnnKind::Lstm => {
                        c[at] = sigmoid(sum(1)) * c[at] + sigmoid(sum(0)) * sum(2).tanh();
                        sigmoid(sum(3)) * c[at].tanh()
                    }
                    RnnKind::Gru => {
                        let (r, z) = (sigmoid(sum(0)), sigmoid(sum(1)));
                        let n = (a(k(2)) + r * b(k(2))).tanh();
                        (1.0 - z) * n + z * old[at]
                    }
                };
            }
        }
        output[time * s.n * s.hidden..][..s.n * s.hidden].copy_from_slice(&h);
    }
    Ok((output, c))
}

fn assert_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!(
            (got - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{what}: {got}, not {expected}"
        );
    }
}

#[test]
fn every_kind_and_direction_follows_its_equations() -> Result<()> {
    for spec in specs() {
        for (sizes, biases) in
            [([1, 1, 1, 1], true), ([5, 3, 4, 2], true), ([4, 2, 1, 5], false), ([3, 1, 0, 2], true)]
        {
            let inputs = operands(spec.kind, sizes, biases);
            let (output, c) = naive(spec, &inputs)?;
            let got = rnn(spec, &inputs, false)?;
            let what = format!("{spec:?} {sizes:?}");
            assert_close(&got.output.to_vec()?, &output, 1e-13, &what);
            let last = got.output.select(0, if spec.reverse { 0 } else { -1 })?;
            assert_eq!(got.h_n.to_vec::<f64>()?, last.to_vec::<f64>()?, "{what}");
            if let Some(c_n) = got.c_n {
                assert_close(&c_n.to_vec()?, &c, 1e-13, &what);
            }
            assert!(got.saved.is_empty(), "inference keeps nothing");
        }
    }
    Ok(())
}

/// The operands of a layer in one list, and back.
fn list(inputs: &RnnInputs) -> Vec<Option<Tensor>> {
    let i = inputs.clone();
    vec![Some(i.x), Some(i.h0), i.c0, Some(i.weight_ih), Some(i.weight_hh), i.bias_ih, i.bias_hh]
}

fn with(inputs: &RnnInputs, at: usize, value: Tensor) -> RnnInputs {
    let mut inputs = inputs.clone();
    match at {
        0 => inputs.x = value,
        1 => inputs.h0 = value,
        2 => inputs.c0 = Some(value),
        3 => inputs.weight_ih = value,
        4 => inputs.weight_hh = value,
        5 => inputs.bias_ih = Some(value),
        _ => inputs.bias_hh = Some(value),
    }
    inputs
}

#[test]
fn gradients_agree_with_central_differences() -> Result<()> {
    for spec in specs() {
        for (sizes, biases) in [([3, 2, 2, 3], true), ([4, 1, 3, 2], false)] {
            let inputs = operands(spec.kind, sizes, biases);
            let outputs = rnn(spec, &inputs, true)?;
            let [gy, gh] = [(&outputs.output, 11), (&outputs.h_n, 12)].map(|(t, seed)| noise(t.dims(), seed));
            let gc = outputs.c_n.as_ref().map(|c| noise(c.dims(), 13));
            let loss = |inputs: &RnnInputs| -> Result<f64> {
                let y = rnn(spec, inputs, false)?;
                let mut loss = y.output.mul(&gy)?.sum_all()?.item()? + y.h_n.mul(&gh)?.sum_all()?.item()?;
                if let (Some(c), Some(gc)) = (&y.c_n, &gc) {
                    loss += c.mul(gc)?.sum_all()?.item()?;
                }
                Ok(loss)
            };
            let grads = rnn_backward(spec, &inputs, &outputs, Some(&gy), Some(&gh), gc.as_ref())?;
            let grads = [
                Some(grads.x),
                Some(grads.h0),
                grads.c0,
                Some(grads.weight_ih),
                Some(grads.weight_hh),
                grads.bias_ih,
                grads.bias_hh,
            ];
            for (at, (operand, grad)) in list(&inputs).into_iter().zip(grads).enumerate() {
                assert_eq!(operand.is_some(), grad.is_some(), "{spec:?}, operand {at}");
                let (Some(operand), Some(grad)) = (operand, grad) else { continue };
                assert_eq!(operand.shape(), grad.shape());
                let values = operand.to_vec::<f64>()?;
                let moved = |i: usize, by: f64| -> Result<f64> {
                    let mut values = values.clone();
                    values[i] += by;
                    loss(&with(&inputs, at, Tensor::from_slice(&values, operand.shape(), operand.device())?))
                };
                let eps = 1e-5;
                let expected: Vec<f64> = (0..values.len())
                    .map(|i| Ok((moved(i, eps)? - moved(i, -eps)?) / (2.0 * eps)))
                    .collect::<Result<_>>()?;
                assert_close(&grad.to_vec()?, &expected, 1e-8, &format!("{spec:?} {sizes:?}, operand {at}"));
            }
        }
    }
    Ok(())
}

#[test]
fn absent_gradients_are_zero() -> Result<()> {
    for spec in specs() {
        let inputs = operands(spec.kind, [3, 2, 4, 3], true);
        let outputs = rnn(spec, &inputs, true)?;
        let grads = rnn_backward(spec, &inputs, &outputs, None, None, None)?;
        assert_eq!(grads.weight_hh.abs()?.sum_all()?.item()?, 0.0);
        let zero = outputs.output.zeros_like()?;
        let gh = noise(outputs.h_n.dims(), 5);
        let without = rnn_backward(spec, &inputs, &outputs, None, Some(&gh), None)?;
        let with = rnn_backward(spec, &inputs, &outputs, Some(&zero), Some(&gh), None)?;
        assert_eq!(without.x.to_vec::<f64>()?, with.x.to_vec::<f64>()?);
    }
    Ok(())
}

#[test]
fn nothing_to_do_gives_empty_outputs_and_passes_states_through() -> Result<()> {
    for spec in specs() {
        for sizes in [[0, 2, 3, 4], [3, 0, 2, 4], [2, 3, 4, 0], [0, 0, 0, 0]] {
            let inputs = operands(spec.kind, sizes, true);
            let outputs = rnn(spec, &inputs, true)?;
            let [t, n, _, hidden] = sizes;
            assert_eq!(outputs.output.dims(), [t, n, hidden]);
            assert_eq!(outputs.h_n.to_vec::<f64>()?, inputs.h0.to_vec::<f64>()?);
            let gh = noise(&[n, hidden], 9);
            let grads = rnn_backward(spec, &inputs, &outputs, None, Some(&gh), None)?;
            assert_eq!(grads.h0.to_vec::<f64>()?, gh.to_vec::<f64>()?);
            assert_eq!(grads.x.shape(), inputs.x.shape());
            assert_eq!(grads.weight_ih.shape(), inputs.weight_ih.shape());
            assert_eq!(grads.weight_hh.to_vec::<f64>()?, inputs.weight_hh.zeros_like()?.to_vec::<f64>()?);
        }
    }
    Ok(())
}

#[test]
fn half_precision_is_computed_wide_and_rounded_once_per_step() -> Result<()> {
    for dtype in [DType::F16, DType::BF16] {
        for spec in specs() {
            let half = operands(spec.kind, [4, 2, 3, 5], true).to_dtype(dtype)?;
            let wide = half.to_dtype(DType::F32)?;
            let (y, expected) = (rnn(spec, &half, true)?, rnn(spec, &wide, true)?);
            assert_eq!(y.output.dtype(), dtype);
            let expected = expected.output.to_dtype(dtype)?.to_dtype(DType::F32)?;
            assert_eq!(y.output.to_dtype(DType::F32)?.to_vec::<f32>()?, expected.to_vec::<f32>()?);
            let grads = rnn_backward(spec, &half, &y, Some(&y.output), None, None)?;
            assert_eq!((grads.x.dtype(), grads.weight_hh.dtype()), (dtype, dtype));
        }
    }
    Ok(())
}

#[test]
fn errors_name_the_operand_both_shapes_and_the_reason() {
    let spec = RnnSpec { kind: RnnKind::Lstm, reverse: false };
    let good = operands(spec.kind, [3, 2, 4, 5], true);
    let message = |inputs: &RnnInputs| rnn(spec, inputs, false).unwrap_err().to_string();
    assert_eq!(
        message(&with(&good, 4, noise(&[20, 4], 1))),
        "rnn: got shape [20, 4], expected a weight_hh of [20, 5]; \
         the input has 2 sequences of 4 features, h0 has 5 units, the LSTM has 4 gates"
    );
    assert!(message(&RnnInputs { c0: None, ..good.clone() }).contains("needs an initial cell state c0"));
    assert!(message(&with(&good, 0, noise(&[3, 4], 1))).contains("[t, n, input]"));
    let narrow = good.weight_ih.to_dtype(DType::F32).expect("the CPU converts floats");
    assert!(message(&with(&good, 3, narrow)).contains("weight_ih differs from the input"));
    let gru = RnnSpec { kind: RnnKind::Gru, reverse: false };
    let with_cell = RnnInputs { c0: Some(noise(&[2, 5], 1)), ..operands(gru.kind, [3, 2, 4, 5], true) };
    assert!(rnn(gru, &with_cell, false).unwrap_err().to_string().contains("has no cell state"));
}

#[test]
fn the_backward_pass_asks_for_outputs_of_a_training_pass() -> Result<()> {
    let spec = RnnSpec { kind: RnnKind::Gru, reverse: false };
    let inputs = operands(spec.kind, [3, 2, 4, 5], true);
    let outputs = rnn(spec, &inputs, false)?;
    let error = rnn_backward(spec, &inputs, &outputs, Some(&outputs.output), None, None).unwrap_err();
    assert!(error.to_string().contains("training = true"), "{error}");
    let wrong = noise(&[3, 2, 4], 1);
    let error = rnn_backward(spec, &inputs, &outputs, Some(&wrong), None, None).unwrap_err();
    assert!(error.to_string().contains("[3, 2, 5] and [3, 2, 4]"), "{error}");
    Ok(())
}
