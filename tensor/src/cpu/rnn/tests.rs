//! The fused layers against the composed ones in double precision, at every instruction level and number of threads.

use crate::cpu::{isa, threads};
use crate::rnn::testing::{noise, operands, specs};
use crate::{
    DType, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec, Tensor, composed,
};
use crate::{rnn, rnn_backward, rnn_bidirectional, rnn_bidirectional_backward};

/// `[t, n, input, hidden]`.
const SIZES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [5, 3, 4, 2],
    [2, 1, 9, 7],
    [3, 9, 5, 17],
    [4, 2, 33, 8],
    [3, 5, 0, 9],
    [2, 33, 17, 64],
    [7, 4, 8, 16],
    [9, 1, 3, 33],
];

/// Operands that are exact in `f32`, with weights small enough for the states to stay lively.
fn inputs(kind: RnnKind, sizes: [usize; 4], biases: bool) -> Result<RnnInputs> {
    let mut inputs = operands(kind, sizes, biases);
    inputs.weight_ih = inputs.weight_ih.div_scalar((sizes[2].max(1) as f64).sqrt())?;
    inputs.weight_hh = inputs.weight_hh.div_scalar((sizes[3] as f64).sqrt())?;
    inputs.to_dtype(DType::F32)
}

/// Gradients of the outputs.
struct Upstream {
    output: Tensor,
    h_n: Tensor,
    c_n: Option<Tensor>,
}

impl Upstream {
    fn of(kind: RnnKind, [t, n, _, hidden]: [usize; 4], dtype: DType) -> Result<Upstream> {
        let noise = |shape: &[usize], seed| noise(shape, seed).to_dtype(DType::F32)?.to_dtype(dtype);
        Ok(Upstream {
            output: noise(&[t, n, hidden], 11)?,
            h_n: noise(&[n, hidden], 12)?,
            c_n: (kind == RnnKind::Lstm).then(|| noise(&[n, hidden], 13)).transpose()?,
        })
    }

    fn back(&self, spec: RnnSpec, inputs: &RnnInputs, outputs: &RnnOutputs) -> Result<RnnGrads> {
        rnn_backward(spec, inputs, outputs, Some(&self.output), Some(&self.h_n), self.c_n.as_ref())
    }
}

/// Everything that a layer computes, by name.
fn all(outputs: RnnOutputs, grads: RnnGrads) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let tensors = [
        ("output", Some(outputs.output)),
        ("h_n", Some(outputs.h_n)),
        ("c_n", outputs.c_n),
        ("saved", outputs.saved.first().cloned()),
        ("grad of x", Some(grads.x)),
        ("grad of h0", Some(grads.h0)),
        ("grad of c0", grads.c0),
        ("grad of weight_ih", Some(grads.weight_ih)),
        ("grad of weight_hh", Some(grads.weight_hh)),
        ("grad of bias_ih", grads.bias_ih),
        ("grad of bias_hh", grads.bias_hh),
    ];
    let values = tensors.into_iter().filter_map(|(name, t)| Some((name, t?)));
    values.map(|(name, t)| Ok((name, t.to_dtype(DType::F64)?.to_vec()?))).collect()
}

/// Both passes.
fn both(spec: RnnSpec, inputs: &RnnInputs, sizes: [usize; 4]) -> Result<Vec<(&'static str, Vec<f64>)>> {
    let outputs = rnn(spec, inputs, true)?;
    let grads = Upstream::of(spec.kind, sizes, inputs.x.dtype())?.back(spec, inputs, &outputs)?;
    all(outputs, grads)
}

fn assert_close(got: &[(&str, Vec<f64>)], expected: &[(&str, Vec<f64>)], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for ((name, got), (_, expected)) in got.iter().zip(expected) {
        assert_eq!(got.len(), expected.len(), "{what}: {name}");
        for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
            let near = (got - expected).abs() <= tolerance * (1.0 + expected.abs());
            assert!(
                near || (got.is_nan() && expected.is_nan()),
                "{what}: {name} [{at}] is {got}, not {expected}"
            );
        }
    }
}

#[test]
fn fused_layers_equal_composed_ones_at_every_level() -> Result<()> {
    for spec in specs() {
        for (sizes, biases) in SIZES.into_iter().zip([true, true, false].into_iter().cycle()) {
            let inputs = inputs(spec.kind, sizes, biases)?;
            let expected = both(spec, &inputs.to_dtype(DType::F64)?, sizes)?;
            for &level in isa::available() {
                let what = format!("{spec:?} {sizes:?} {level}");
                isa::with_isa(level, || -> Result<()> {
                    assert_close(&both(spec, &inputs, sizes)?, &expected, 2e-5, &what);
                    let (trained, inferred) = (rnn(spec, &inputs, true)?, rnn(spec, &inputs, false)?);
                    assert_eq!(inferred.output.to_vec::<f32>()?, trained.output.to_vec::<f32>()?, "{what}");
                    assert_eq!(inferred.h_n.to_vec::<f32>()?, trained.h_n.to_vec::<f32>()?, "{what}");
                    assert!(inferred.saved.is_empty(), "inference keeps nothing");
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn one_bias_may_be_absent() -> Result<()> {
    for spec in specs() {
        let sizes = [3, 2, 4, 5];
        let full = inputs(spec.kind, sizes, true)?;
        for inputs in [RnnInputs { bias_ih: None, ..full.clone() }, RnnInputs { bias_hh: None, ..full }] {
            let expected = both(spec, &inputs.to_dtype(DType::F64)?, sizes)?;
            assert_close(&both(spec, &inputs, sizes)?, &expected, 1e-5, &format!("{spec:?}"));
        }
    }
    Ok(())
}

#[test]
fn no_bit_depends_on_the_number_of_threads() -> Result<()> {
    let sizes = [3, 37, 70, 130];
    for spec in specs() {
        let inputs = inputs(spec.kind, sizes, true)?;
        let alone = threads::with_num_threads(1, || both(spec, &inputs, sizes))?;
        for n in [2, 3, 7] {
            assert!(
                threads::with_num_threads(n, || both(spec, &inputs, sizes))? == alone,
                "{spec:?}, {n} threads"
            );
        }
    }
    Ok(())
}

/// The same elements in another order of memory.
fn strided(x: &Tensor) -> Result<Tensor> {
    x.t()?.copy()?.t()
}

#[test]
fn operands_of_any_layout_give_the_same_result() -> Result<()> {
    let sizes = [4, 3, 5, 6];
    for spec in specs() {
        let dense = inputs(spec.kind, sizes, true)?;
        let expected = both(spec, &dense, sizes)?;
        let bias = |bias: &Option<Tensor>| -> Result<Option<Tensor>> {
            let bias = bias.as_ref().map(|b| Tensor::stack(&[b.clone(), b.clone()], 1)?.select(1, 1));
            bias.transpose()
        };
        let strided_inputs = RnnInputs {
            x: dense.x.transpose(0, 1)?.copy()?.transpose(0, 1)?,
            h0: strided(&dense.h0)?,
            c0: dense.c0.as_ref().map(strided).transpose()?,
            weight_ih: strided(&dense.weight_ih)?,
            weight_hh: strided(&dense.weight_hh)?,
            bias_ih: bias(&dense.bias_ih)?,
            bias_hh: bias(&dense.bias_hh)?,
        };
        assert_close(&both(spec, &strided_inputs, sizes)?, &expected, 1e-6, &format!("{spec:?}"));

        // The gradient of a sum is one number seen everywhere.
        let outputs = rnn(spec, &dense, true)?;
        let one = Tensor::ones([1, 1, 1], dense.x.device())?;
        let spread = rnn_backward(spec, &dense, &outputs, Some(&one.broadcast_to([4, 3, 6])?), None, None)?;
        let dense_ones = outputs.output.ones_like()?;
        let dense_grads = rnn_backward(spec, &dense, &outputs, Some(&dense_ones), None, None)?;
        assert_eq!(spread.weight_hh.to_vec::<f32>()?, dense_grads.weight_hh.to_vec::<f32>()?);
    }
    Ok(())
}

#[test]
fn the_composed_form_saves_what_the_fused_backward_pass_takes() -> Result<()> {
    let sizes = [4, 3, 5, 6];
    for spec in specs() {
        let inputs = inputs(spec.kind, sizes, true)?;
        let outputs = composed::rnn(spec, &inputs, true)?;
        let upstream = Upstream::of(spec.kind, sizes, DType::F32)?;
        let fused = upstream.back(spec, &inputs, &outputs)?;
        let (output, h_n, c_n) = (Some(&upstream.output), Some(&upstream.h_n), upstream.c_n.as_ref());
        let composed = composed::rnn_backward(spec, &inputs, &outputs, output, h_n, c_n)?;
        let (fused, composed) = (all(outputs.clone(), fused)?, all(outputs, composed)?);
        assert_close(&fused, &composed, 1e-5, &format!("{spec:?}"));
    }
    Ok(())
}

#[test]
fn a_nan_stays_in_its_sequence_and_saturated_gates_are_finite() -> Result<()> {
    for spec in specs() {
        let sizes = [3, 4, 2, 19];
        let mut inputs = inputs(spec.kind, sizes, true)?;
        let mut x = inputs.x.to_vec::<f32>()?;
        let middle = |sequence: usize| (4 + sequence) * 2;
        x[middle(1)] = f32::NAN;
        (x[middle(2)], x[middle(2) + 1]) = (3e4, -3e4);
        inputs.x = Tensor::from_vec(x, [3, 4, 2], inputs.x.device())?;
        let expected = rnn(spec, &inputs.to_dtype(DType::F64)?, false)?.output.to_vec::<f64>()?;
        let got = rnn(spec, &inputs, false)?.output.to_vec::<f32>()?;
        assert!(expected.iter().any(|x| x.is_nan()), "the NaN reaches the output");
        for (at, (&got, expected)) in got.iter().zip(expected).enumerate() {
            let got = f64::from(got);
            let near = (got - expected).abs() <= 1e-4 * (1.0 + expected.abs());
            assert!(near || (got.is_nan() && expected.is_nan()), "{spec:?} [{at}]: {got}, not {expected}");
        }
    }
    Ok(())
}

#[test]
fn outputs_of_another_layer_are_an_error() -> Result<()> {
    let spec = RnnSpec { kind: RnnKind::Lstm, reverse: false };
    let inputs = inputs(spec.kind, [4, 3, 5, 6], true)?;
    let mut outputs = rnn(spec, &inputs, true)?;
    outputs.saved = vec![outputs.output.clone()];
    let error = rnn_backward(spec, &inputs, &outputs, None, None, None).unwrap_err();
    assert!(error.to_string().contains("shapes [4, 3, 30] and [4, 3, 6]"), "{error}");
    outputs.saved = vec![];
    let error = rnn_backward(spec, &inputs, &outputs, None, None, None).unwrap_err();
    assert!(error.to_string().contains("training = true"), "{error}");
    Ok(())
}

#[test]
fn two_directions_at_once_have_the_bits_of_each_alone_with_any_number_of_threads() -> Result<()> {
    // A task, four and thirteen tasks to a step; and layers of which one is wider, so that they are taken in turn.
    let cases = [
        ([5, 2, 3, 17], [5, 2, 3, 17]),
        ([4, 1, 70, 128], [4, 1, 70, 128]),
        ([3, 40, 9, 200], [3, 40, 9, 200]),
        ([3, 2, 5, 8], [3, 2, 5, 24]),
        ([2, 3, 0, 9], [2, 3, 0, 9]),
    ];
    for kind in [RnnKind::Tanh, RnnKind::Relu, RnnKind::Lstm, RnnKind::Gru] {
        for (first, second) in cases {
            let sizes = [first, second];
            let both_inputs = [inputs(kind, first, true)?, inputs(kind, second, false)?];
            let spec = |i: usize| RnnSpec { kind, reverse: i == 1 };
            for &level in isa::available() {
                isa::with_isa(level, || -> Result<()> {
                    let alone =
                        [both(spec(0), &both_inputs[0], first)?, both(spec(1), &both_inputs[1], second)?];
                    for threads in [1, 2, 3, 7] {
                        let got = threads::with_num_threads(threads, || at_once(kind, &both_inputs, sizes))?;
                        for (i, alone) in alone.iter().enumerate() {
                            let what =
                                format!("{kind:?} {sizes:?} {level}, direction {i}, {threads} threads");
                            assert_close(&got[i], alone, 0.0, &what);
                        }
                    }
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

/// Both passes of two directions at once.
fn at_once(
    kind: RnnKind,
    inputs: &[RnnInputs; 2],
    sizes: [[usize; 4]; 2],
) -> Result<[Vec<(&'static str, Vec<f64>)>; 2]> {
    let inputs = [&inputs[0], &inputs[1]];
    let [first, second] = rnn_bidirectional(kind, inputs, true)?;
    let upstream = [Upstream::of(kind, sizes[0], DType::F32)?, Upstream::of(kind, sizes[1], DType::F32)?];
    let grads = upstream.each_ref().map(|upstream| RnnOutputGrads {
        output: Some(&upstream.output),
        h_n: Some(&upstream.h_n),
        c_n: upstream.c_n.as_ref(),
    });
    let [of_first, of_second] = rnn_bidirectional_backward(kind, inputs, [&first, &second], grads)?;
    Ok([all(first, of_first)?, all(second, of_second)?])
}
