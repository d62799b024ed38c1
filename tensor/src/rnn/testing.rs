//! Operands to test recurrent layers with.

use crate::{Device, RnnInputs, RnnKind, RnnSpec, Tensor};

/// All kinds in both directions.
pub(crate) fn specs() -> impl Iterator<Item = RnnSpec> {
    let kinds = [RnnKind::Tanh, RnnKind::Relu, RnnKind::Lstm, RnnKind::Gru];
    kinds.into_iter().flat_map(|kind| [false, true].map(|reverse| RnnSpec { kind, reverse }))
}

/// Numbers in [-1, 1) without pattern, `float64`.
pub(crate) fn noise(shape: &[usize], seed: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let data: Vec<f64> = (0..n as u64)
        .map(|i| {
            let mixed = (i + seed * 1_000_003).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) as f64 / 2f64.powi(63) - 1.0
        })
        .collect();
    Tensor::from_slice(&data, shape, &Device::cpu()).expect("as many numbers as the shape has")
}

/// Operands of given extents, `float64`.
pub(crate) fn operands(kind: RnnKind, [t, n, input, hidden]: [usize; 4], biases: bool) -> RnnInputs {
    let rows = kind.gates() * hidden;
    RnnInputs {
        x: noise(&[t, n, input], 1),
        h0: noise(&[n, hidden], 2),
        c0: (kind == RnnKind::Lstm).then(|| noise(&[n, hidden], 3)),
        weight_ih: noise(&[rows, input], 4),
        weight_hh: noise(&[rows, hidden], 5),
        bias_ih: biases.then(|| noise(&[rows], 6)),
        bias_hh: biases.then(|| noise(&[rows], 7)),
    }
}
