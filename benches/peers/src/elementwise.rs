//! Elementwise ops and a transposition. Bytes: operands and results, once each.

use crate::form::{form, sure};
use crate::gemm::text;
use crate::peers::{burn as theirs, candle, gradus as ours, ndarray as arrays};
use crate::row::{Peer, Row, Work};
use ::burn::tensor::{Tensor as BurnTensor, activation};
use gradus::prelude::*;

/// A function of one operand, in every library.
struct Unary {
    name: &'static str,
    gradus: fn(&Tensor) -> gradus::Result<Tensor>,
    candle: fn(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>,
    burn: fn(BurnTensor<1>) -> BurnTensor<1>,
    ndarray: Option<fn(f32) -> f32>,
    torch: &'static str,
}

const UNARY: [Unary; 6] = [
    Unary {
        name: "exp",
        gradus: Tensor::exp,
        candle: candle_core::Tensor::exp,
        burn: |x| x.exp(),
        ndarray: Some(f32::exp),
        torch: "torch.exp(x)",
    },
    Unary {
        name: "tanh",
        gradus: Tensor::tanh,
        candle: candle_core::Tensor::tanh,
        burn: activation::tanh,
        ndarray: Some(f32::tanh),
        torch: "torch.tanh(x)",
    },
    Unary {
        name: "sigmoid",
        gradus: Tensor::sigmoid,
        candle: candle_nn::ops::sigmoid,
        burn: activation::sigmoid,
        ndarray: None,
        torch: "torch.sigmoid(x)",
    },
    Unary {
        name: "gelu_tanh",
        gradus: Tensor::gelu_tanh,
        candle: candle_core::Tensor::gelu,
        burn: activation::gelu_approximate,
        ndarray: None,
        torch: "F.gelu(x, approximate='tanh')",
    },
    Unary {
        name: "gelu_erf",
        gradus: Tensor::gelu,
        candle: candle_core::Tensor::gelu_erf,
        burn: activation::gelu,
        ndarray: None,
        torch: "F.gelu(x)",
    },
    Unary {
        name: "relu",
        gradus: Tensor::relu,
        candle: candle_core::Tensor::relu,
        burn: activation::relu,
        ndarray: None,
        torch: "F.relu(x)",
    },
];

/// 256 Ki elements: 2 MiB of traffic.
const N: usize = 1 << 18;

fn unary(Unary { name, gradus, candle, burn, ndarray, torch }: Unary) -> Row {
    let row = Row::new(format!("elementwise/{name}/256Ki/f32"), Work::Copy((8 * N) as f64))
        .with(Peer::Gradus, move || {
            let x = ours::scaled(1, [N], 4.0).map_err(text)?;
            form(move || gradus(&x))
        })
        .with(Peer::Candle, move || {
            let x = candle::scaled(1, N, 4.0).map_err(text)?;
            form(move || candle(&x))
        })
        .with(Peer::Burn, move || {
            let x = theirs::scaled(1, [N], 4.0);
            sure(move || burn(x.clone()))
        })
        .torch(format!("x = rnd(1, {N}, scale=4.0)\nf = lambda: {torch}"));
    match ndarray {
        None => row,
        Some(f) => row.with(Peer::Ndarray, move || {
            let x = arrays::array(1, N) * 4.0;
            sure(move || x.mapv(f))
        }),
    }
}

fn add(n: usize, size: &str) -> Row {
    Row::new(format!("elementwise/add/{size}/f32"), Work::Copy((12 * n) as f64))
        .with(Peer::Gradus, move || {
            let (x, y) = (ours::tensor(1, [n]).map_err(text)?, ours::tensor(2, [n]).map_err(text)?);
            form(move || x.add(&y))
        })
        .with(Peer::Candle, move || {
            let (x, y) = (candle::tensor(1, n).map_err(text)?, candle::tensor(2, n).map_err(text)?);
            form(move || x.add(&y))
        })
        .with(Peer::Burn, move || {
            let (x, y) = (theirs::tensor(1, [n]), theirs::tensor(2, [n]));
            sure(move || x.clone() + y.clone())
        })
        .with(Peer::Ndarray, move || {
            let (x, y) = (arrays::array(1, n), arrays::array(2, n));
            sure(move || &x + &y)
        })
        .torch(format!("x = rnd(1, {n}); y = rnd(2, {n})\nf = lambda: x + y"))
}

fn transpose() -> Row {
    let n = 1024;
    Row::new("elementwise/transpose/1024x1024/f32", Work::Copy((8 * n * n) as f64))
        .with(Peer::Gradus, move || {
            let x = ours::tensor(1, [n, n]).map_err(text)?;
            form(move || x.t()?.contiguous())
        })
        .with(Peer::Candle, move || {
            let x = candle::tensor(1, (n, n)).map_err(text)?;
            form(move || x.t()?.contiguous())
        })
        .with(Peer::Ndarray, move || {
            let x = arrays::array(1, (n, n));
            sure(move || x.t().as_standard_layout().into_owned())
        })
        .torch(format!("x = rnd(1, {n}, {n})\nf = lambda: x.t().contiguous()"))
}

pub(crate) fn rows() -> Vec<Row> {
    let headline = ["exp", "tanh", "gelu_tanh"];
    let unary = UNARY.map(|op| if headline.contains(&op.name) { unary(op).quick() } else { unary(op) });
    let rest = [add(1 << 18, "256Ki"), add(1 << 22, "4Mi").quick(), add(1 << 25, "32Mi"), transpose()];
    unary.into_iter().chain(rest).collect()
}
