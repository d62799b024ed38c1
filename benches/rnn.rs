//! One recurrent layer over a sequence of 64 steps. Elements are FLOPs of the matrix products:
//! `2 · t · n · (input + hidden) · gates · hidden` forward, three times that forward and backward.

mod common;

use common::{bench, device, random, settings};
use criterion::Throughput::Elements;
use gradus::tensor::{RnnInputs, RnnKind, RnnSpec, rnn, rnn_backward};
use gradus::{DType, Result, Tensor};

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("rnn");
    let t = 64;
    for (name, kind) in [("lstm", RnnKind::Lstm), ("gru", RnnKind::Gru), ("tanh", RnnKind::Tanh)] {
        for [n, hidden] in [[32, 256], [1, 128]] {
            let (spec, rows) = (RnnSpec { kind, reverse: false }, kind.gates() * hidden);
            // Of the size that layers start with: larger weights would saturate every gate.
            let small = |shape: &[usize]| random(shape, DType::F32)?.mul_scalar(0.05);
            let state = || Tensor::zeros([n, hidden], device());
            let inputs = RnnInputs {
                x: random([t, n, hidden], DType::F32)?,
                h0: state()?,
                c0: matches!(kind, RnnKind::Lstm).then(state).transpose()?,
                weight_ih: small(&[rows, hidden])?,
                weight_hh: small(&[rows, hidden])?,
                bias_ih: Some(small(&[rows])?),
                bias_hh: Some(small(&[rows])?),
            };
            let gradient = random([t, n, hidden], DType::F32)?;
            let flops = (2 * t * n * 2 * hidden * rows) as u64;
            let shape = format!("{t}x{n}x{hidden}/float32");
            bench(&mut group, &format!("{name}_forward/{shape}"), Elements(flops), || {
                rnn(spec, &inputs, false)
            });
            bench(&mut group, &format!("{name}_both/{shape}"), Elements(3 * flops), || {
                let outputs = rnn(spec, &inputs, true)?;
                rnn_backward(spec, &inputs, &outputs, Some(&gradient), None, None)
            });
        }
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
