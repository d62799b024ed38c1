//! Recurrent layers: a backend's kernels against the composed form.

use super::cases::moderate;
use super::{FLOATS, Report, Tolerance, epsilon, host, upload};
use crate::{DType, Device, Result, RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnSpec, Tensor, composed};

/// Operands of `[t, n, input, hidden]`, small enough for gates that are not saturated.
fn operands(
    device: &Device,
    dtype: DType,
    kind: RnnKind,
    [t, n, input, hidden]: [usize; 4],
    biases: bool,
) -> Result<RnnInputs> {
    let random = |dims: &[usize], seed| {
        let values: Vec<f64> =
            moderate(dims.iter().product(), DType::F64, seed).iter().map(|x| x * 0.3).collect();
        upload(device, dtype, dims, &values)
    };
    let rows = kind.gates() * hidden;
    let bias = |seed| biases.then(|| random(&[rows], seed)).transpose();
    Ok(RnnInputs {
        x: random(&[t, n, input], 1)?,
        h0: random(&[n, hidden], 2)?,
        c0: (kind == RnnKind::Lstm).then(|| random(&[n, hidden], 3)).transpose()?,
        weight_ih: random(&[rows, input], 4)?,
        weight_hh: random(&[rows, hidden], 5)?,
        bias_ih: bias(6)?,
        bias_hh: bias(7)?,
    })
}

/// Results against those of the composed form; `terms` is how many numbers the longest sum has.
fn compare(
    report: &mut Report,
    label: &str,
    terms: usize,
    pairs: impl IntoIterator<Item = (Option<Tensor>, Option<Tensor>)>,
) -> Result<()> {
    for (i, pair) in pairs.into_iter().enumerate() {
        let (y, expected) = match pair {
            (Some(y), Some(expected)) => (y, expected),
            (None, None) => continue,
            _ => {
                report.check(false, || format!("{label}: result {i} is there in one form alone"));
                continue;
            }
        };
        report.check(y.shape() == expected.shape() && y.dtype() == expected.dtype(), || {
            format!("{label}: result {i} is {} of {}", y.dtype(), y.shape())
        });
        let error = 16.0 * epsilon(y.dtype()) + 8.0 * terms as f64 * epsilon(y.dtype().accumulator());
        let tolerance = Tolerance { relative: error, absolute: error };
        report.close(|| format!("{label}, result {i}"), &y, &host(&expected)?, tolerance)?;
    }
    Ok(())
}

/// The gradients of one form and of the other, by operand.
fn of_operands(d: RnnGrads, e: RnnGrads) -> [(Option<Tensor>, Option<Tensor>); 7] {
    [
        (Some(d.x), Some(e.x)),
        (Some(d.h0), Some(e.h0)),
        (d.c0, e.c0),
        (Some(d.weight_ih), Some(e.weight_ih)),
        (Some(d.weight_hh), Some(e.weight_hh)),
        (d.bias_ih, e.bias_ih),
        (d.bias_hh, e.bias_hh),
    ]
}

/// Every kind of layer, forwards and backwards through time: its results and its gradients.
pub fn check_rnn(device: &Device) {
    Report::of("rnn", |report| {
        let backend = device.backend();
        let kinds = [RnnKind::Tanh, RnnKind::Relu, RnnKind::Lstm, RnnKind::Gru];
        let specs = kinds.into_iter().flat_map(|kind| [false, true].map(|reverse| RnnSpec { kind, reverse }));
        for (spec, dtype) in specs.flat_map(|spec| FLOATS.map(|dtype| (spec, dtype))) {
            let cases =
                [([4, 3, 5, 7], true), ([1, 1, 1, 1], false), ([3, 2, 0, 33], true), ([0, 2, 3, 4], true)];
            for (sizes, biases) in cases {
                let [t, n, input, hidden] = sizes;
                let inputs = operands(device, dtype, spec.kind, sizes, biases)?;
                let label = format!("{spec:?} of {dtype}, {sizes:?}");
                let terms = t * n + input + hidden;
                let y = backend.rnn(spec, &inputs, true)?;
                let expected = composed::rnn(spec, &inputs, true)?;
                let untrained = backend.rnn(spec, &inputs, false)?;
                report.same(|| format!("{label}, without training"), &untrained.output, &y.output)?;
                let results = [
                    (Some(y.output.clone()), Some(expected.output.clone())),
                    (Some(y.h_n.clone()), Some(expected.h_n.clone())),
                    (y.c_n.clone(), expected.c_n.clone()),
                ];
                compare(report, &label, terms, results)?;

                let random = |dims: &[usize], seed| {
                    upload(device, dtype, dims, &moderate(dims.iter().product(), dtype, seed))
                };
                let grads =
                    [random(&[t, n, hidden], 8)?, random(&[n, hidden], 9)?, random(&[n, hidden], 10)?];
                for given in [[true, true, true], [true, false, false], [false, true, false]] {
                    let of = |k: usize| given[k].then_some(&grads[k]);
                    let of_c = of(2).filter(|_| spec.kind == RnnKind::Lstm);
                    let d = backend.rnn_backward(spec, &inputs, &y, of(0), of(1), of_c)?;
                    let e = composed::rnn_backward(spec, &inputs, &expected, of(0), of(1), of_c)?;
                    let label = format!("gradients of {label}, from {given:?}");
                    compare(report, &label, terms, of_operands(d, e))?;
                }
            }
        }
        Ok(())
    });
}

/// Two layers over the same steps, one in reverse: each as by itself, and so its gradients, from all results or from some.
pub fn check_rnn_bidirectional(device: &Device) {
    Report::of("rnn_bidirectional", |report| {
        let backend = device.backend();
        let kinds = [RnnKind::Tanh, RnnKind::Relu, RnnKind::Lstm, RnnKind::Gru];
        for (kind, dtype) in kinds.into_iter().flat_map(|kind| FLOATS.map(|dtype| (kind, dtype))) {
            for (sizes, biases) in [([5, 3, 4, 6], true), ([1, 1, 1, 1], false), ([0, 2, 3, 4], true)] {
                let [t, n, input, hidden] = sizes;
                let label = format!("both directions of {kind:?} of {dtype}, {sizes:?}");
                let terms = t * n + input + hidden;
                let one = operands(device, dtype, kind, sizes, biases)?;
                let mut two = one.clone();
                (two.weight_ih, two.weight_hh) = (two.weight_ih.neg()?, two.weight_hh.flip([0])?);
                let inputs = [&one, &two];
                let outputs = backend.rnn_bidirectional(kind, inputs, true)?;
                let untrained = backend.rnn_bidirectional(kind, inputs, false)?;
                let random = |dims: &[usize], seed| {
                    upload(device, dtype, dims, &moderate(dims.iter().product(), dtype, seed))
                };
                let grads =
                    [random(&[t, n, hidden], 8)?, random(&[n, hidden], 9)?, random(&[n, hidden], 10)?];
                let all = RnnOutputGrads {
                    output: Some(&grads[0]),
                    h_n: Some(&grads[1]),
                    c_n: Some(&grads[2]).filter(|_| kind == RnnKind::Lstm),
                };
                let given = [all, RnnOutputGrads { h_n: None, c_n: None, ..all }];
                let both =
                    backend.rnn_bidirectional_backward(kind, inputs, [&outputs[0], &outputs[1]], given)?;
                for (i, d) in both.into_iter().enumerate() {
                    let spec = RnnSpec { kind, reverse: i == 1 };
                    let (y, expected) = (&outputs[i], composed::rnn(spec, inputs[i], true)?);
                    report.same(|| format!("{label}, without training"), &untrained[i].output, &y.output)?;
                    let results = [
                        (Some(y.output.clone()), Some(expected.output.clone())),
                        (Some(y.h_n.clone()), Some(expected.h_n.clone())),
                        (y.c_n.clone(), expected.c_n.clone()),
                    ];
                    compare(report, &label, terms, results)?;
                    let RnnOutputGrads { output, h_n, c_n } = given[i];
                    let e = composed::rnn_backward(spec, inputs[i], &expected, output, h_n, c_n)?;
                    compare(report, &format!("gradients of {label}"), terms, of_operands(d, e))?;
                }
            }
        }
        Ok(())
    });
}
