//! What an op costs besides its arithmetic: eight elements, with and without a graph. PyTorch is called from Python, as
//! its users call it.

use crate::form::{form, sure};
use crate::gemm::text;
use crate::peers::{burn as theirs, candle, gradus as ours, ndarray as arrays};
use crate::row::{Peer, Row, Work};
use gradus::prelude::*;

const N: usize = 8;

pub(crate) fn rows() -> Vec<Row> {
    let python = format!("x = rnd(1, {N}); y = rnd(2, {N})\n");
    let ours2 =
        || Ok::<_, String>((ours::tensor(1, [N]).map_err(text)?, ours::tensor(2, [N]).map_err(text)?));
    let add = Row::new("overhead/add/8/f32", Work::Overhead)
        .quick()
        .with(Peer::Gradus, move || {
            let (x, y) = ours2()?;
            form(move || x.add(&y))
        })
        .with(Peer::Candle, || {
            let (x, y) = (candle::tensor(1, N).map_err(text)?, candle::tensor(2, N).map_err(text)?);
            form(move || x.add(&y))
        })
        .with(Peer::Burn, || {
            let (x, y) = (theirs::tensor(1, [N]), theirs::tensor(2, [N]));
            sure(move || x.clone() + y.clone())
        })
        .with(Peer::Ndarray, || {
            let (x, y) = (arrays::array(1, N), arrays::array(2, N));
            sure(move || &x + &y)
        })
        .torch(python.clone() + "f = lambda: x + y");
    let recorded = Row::new("overhead/add_with_graph/8/f32", Work::Overhead)
        .quick()
        .with(Peer::Gradus, move || {
            let (x, y) = ours2()?;
            let (x, y) = (Var::leaf(x), Var::from(y));
            form(move || x.add(&y))
        })
        .with(Peer::Candle, || {
            let (x, y) = (candle::leaf(1, N, 1.0).map_err(text)?, candle::tensor(2, N).map_err(text)?);
            form(move || x.add(&y))
        })
        .with(Peer::Burn, || {
            let (x, y) = (theirs::recorded(1, [N]).require_grad(), theirs::recorded(2, [N]));
            sure(move || x.clone() + y.clone())
        })
        .torch_grad(python.clone() + "x.requires_grad_(True)\nf = lambda: x + y");
    let round = Row::new("overhead/mul_sum_backward/8/f32", Work::Overhead)
        .quick()
        .with(Peer::Gradus, move || {
            let (x, y) = ours2()?;
            let (x, y) = (Var::leaf(x), Var::from(y));
            form(move || x.mul(&y)?.sum_all()?.backward()?.get(&x).cloned())
        })
        .with(Peer::Candle, || {
            let (x, y) = (candle::leaf(1, N, 1.0).map_err(text)?, candle::tensor(2, N).map_err(text)?);
            form(move || candle::gradients(&x.mul(&y)?.sum_all()?, &[&x]))
        })
        .with(Peer::Burn, || {
            let (x, y) = (theirs::recorded(1, [N]).require_grad(), theirs::recorded(2, [N]));
            sure(move || x.grad(&(x.clone() * y.clone()).sum().backward()).expect("the factor is a leaf"))
        })
        .torch_grad(python + "x.requires_grad_(True)\ndef f():\n    x.grad = None\n    (x * y).sum().backward()\n    return x.grad");
    let view = Row::new("overhead/view/16x16/f32", Work::Overhead)
        .with(Peer::Gradus, || {
            let x = ours::tensor(1, [16, 16]).map_err(text)?;
            form(move || x.reshape([256]))
        })
        .with(Peer::Candle, || {
            let x = candle::tensor(1, (16, 16)).map_err(text)?;
            form(move || x.reshape(256))
        })
        .with(Peer::Burn, || {
            let x = theirs::tensor(1, [16, 16]);
            sure(move || x.clone().reshape([256]))
        })
        .torch("x = rnd(1, 16, 16)\nf = lambda: x.view(256)");
    vec![add, recorded, round, view]
}
