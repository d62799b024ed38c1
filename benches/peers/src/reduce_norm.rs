//! Reductions, softmax, normalisation and pooling. Bytes: operands and results, once each.

use crate::form::{form, sure};
use crate::gemm::text;
use crate::peers::{burn as theirs, candle, gradus as ours, ndarray as arrays};
use crate::row::{Check, Peer, Row, Work};
use ::burn::nn::loss::CrossEntropyLossConfig;
use ::burn::nn::{BatchNormConfig, LayerNormConfig};
use ::burn::tensor::ops::MaxPoolOptions;
use ::burn::tensor::{activation, module};
use candle_nn::ModuleT;
use gradus::prelude::*;
use ndarray::Axis;
use std::result::Result;

/// Rows and columns of the matrices.
const R: usize = 4096;
const C: usize = 1024;
/// Bytes of one of them.
const BYTES: f64 = (4 * R * C) as f64;
/// Images for batch normalisation and pooling, and their bytes.
const IMAGES: [usize; 4] = [8, 64, 56, 56];
const IMAGE_BYTES: f64 = (4 * 8 * 64 * 56 * 56) as f64;

fn matrix() -> Result<Tensor, String> {
    ours::scaled(1, [R, C], 3.0).map_err(text)
}

fn candle_matrix() -> Result<candle_core::Tensor, String> {
    candle::scaled(1, (R, C), 3.0).map_err(text)
}

/// A reduction of the matrix.
fn reduce<T: crate::form::Answer + 'static>(
    name: &str,
    torch: &str,
    gradus: fn(&Tensor) -> gradus::Result<T>,
    candle: fn(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>,
) -> Row {
    Row::new(format!("reduce/{name}/4096x1024/f32"), Work::Read(BYTES))
        .with(Peer::Gradus, move || {
            let x = matrix()?;
            form(move || gradus(&x))
        })
        .with(Peer::Candle, move || {
            let x = candle_matrix()?;
            form(move || candle(&x))
        })
        .torch(format!("x = rnd(1, {R}, {C}, scale=3.0)\nf = lambda: {torch}"))
}

fn reductions() -> Vec<Row> {
    let burn = || theirs::scaled(1, [R, C], 3.0);
    let array = || arrays::array(1, (R, C)) * 3.0;
    vec![
        reduce("sum_all", "x.sum()", |x| x.sum_all(), |x| x.sum_all())
            // Of a sum near 0, relative to itself.
            .with_check(Peer::Burn, Check::Shape, move || {
                let x = burn();
                sure(move || x.clone().sum())
            })
            .with_check(Peer::Ndarray, Check::Shape, move || {
                let x = array();
                sure(move || ndarray::arr0(x.sum()))
            }),
        reduce("sum_dim0", "x.sum(0)", |x| x.sum(0, false), |x| x.sum(0))
            .with(Peer::Burn, move || {
                let x = burn();
                sure(move || x.clone().sum_dim(0))
            })
            .with(Peer::Ndarray, move || {
                let x = array();
                sure(move || x.sum_axis(Axis(0)))
            }),
        reduce("sum_dim1", "x.sum(1)", |x| x.sum(1, false), |x| x.sum(1)).with(Peer::Burn, move || {
            let x = burn();
            sure(move || x.clone().sum_dim(1))
        }),
        reduce("max", "x.amax(1)", |x| x.amax(1, false), |x| x.max(1)).with(Peer::Burn, move || {
            let x = burn();
            sure(move || x.clone().max_dim(1))
        }),
        reduce("max_with_index", "x.max(1)", |x| x.max(1, false), |x| x.max(1)),
        reduce("argmax", "x.argmax(1)", |x| x.argmax(1, false), |x| x.argmax(1)).quick(),
    ]
}

fn softmax() -> Row {
    Row::new("norm/softmax/4096x1024/f32", Work::Copy(2.0 * BYTES))
        .quick()
        .with(Peer::Gradus, || {
            let x = matrix()?;
            form(move || x.softmax(-1))
        })
        .with(Peer::Candle, || {
            let x = candle_matrix()?;
            form(move || candle_nn::ops::softmax_last_dim(&x))
        })
        .with(Peer::Burn, || {
            let x = theirs::scaled(1, [R, C], 3.0);
            sure(move || activation::softmax(x.clone(), 1))
        })
        .torch(format!("x = rnd(1, {R}, {C}, scale=3.0)\nf = lambda: F.softmax(x, 1)"))
}

/// The loss alone, or with its gradient.
fn cross_entropy(gradient: bool) -> Row {
    let (what, work) =
        if gradient { ("train", Work::Copy(3.0 * BYTES)) } else { ("forward", Work::Read(BYTES)) };
    let python = format!("x = rnd(1, {R}, {C}, scale=3.0); t = ints(2, {R}, below={C})\n");
    let row = Row::new(format!("norm/log_softmax_cross_entropy_{what}/4096x1024/f32"), work);
    if !gradient {
        return row
            .with(Peer::Gradus, || {
                let (x, t) = (Var::from(matrix()?), ours::labels(2, [R], C).map_err(text)?);
                form(move || no_grad(|| x.cross_entropy(&t)))
            })
            .with(Peer::Candle, || {
                let (x, t) = (candle_matrix()?, candle::labels(2, R, C).map_err(text)?);
                form(move || candle_nn::loss::cross_entropy(&x, &t))
            })
            .torch(python + "f = lambda: F.cross_entropy(x, t)");
    }
    row.quick()
        .with(Peer::Gradus, || {
            let (x, t) = (Var::leaf(matrix()?), ours::labels(2, [R], C).map_err(text)?);
            form(move || grad(&x.cross_entropy(&t)?, &[&x], &Backward::default()))
        })
        .with(Peer::Candle, || {
            let (x, t) =
                (candle::leaf(1, (R, C), 3.0).map_err(text)?, candle::labels(2, R, C).map_err(text)?);
            form(move || candle::gradients(&candle_nn::loss::cross_entropy(&x, &t)?, &[&x]))
        })
        .with(Peer::Burn, || {
            let device = theirs::device(true);
            let (x, t) = (
                theirs::recorded(1, [R, C]).mul_scalar(3.0).detach().require_grad(),
                theirs::labels(2, [R], C, &device),
            );
            let loss = CrossEntropyLossConfig::new().init(&device);
            sure(move || {
                x.grad(&loss.forward(x.clone(), t.clone()).backward()).expect("the logits are a leaf")
            })
        })
        .torch_grad(
            python + "x.requires_grad_(True)\nf = lambda: torch.autograd.grad(F.cross_entropy(x, t), x)",
        )
}

fn layer_norm() -> [Row; 2] {
    let python = format!("x = rnd(1, {R}, {C}, scale=3.0); w = rnd(2, {C}); b = rnd(3, {C})\n");
    let affine =
        || Ok::<_, String>((ours::tensor(2, [C]).map_err(text)?, ours::tensor(3, [C]).map_err(text)?));
    let forward = Row::new("norm/layer_norm_forward/4096x1024/f32", Work::Copy(2.0 * BYTES))
        .with(Peer::Gradus, move || {
            let (x, (w, b)) = (matrix()?, affine()?);
            form(move || x.layer_norm(&[C], Some(&w), Some(&b), 1e-5))
        })
        .with(Peer::Candle, || {
            let (x, w, b) =
                (candle_matrix()?, candle::tensor(2, C).map_err(text)?, candle::tensor(3, C).map_err(text)?);
            form(move || candle_nn::ops::layer_norm(&x, &w, &b, 1e-5))
        })
        .with_check(Peer::Burn, Check::Shape, || {
            let (x, norm) =
                (theirs::scaled(1, [R, C], 3.0), LayerNormConfig::new(C).init(&theirs::device(false)));
            sure(move || norm.forward(x.clone()))
        })
        .torch(python.clone() + &format!("f = lambda: F.layer_norm(x, ({C},), w, b)"));
    let backward = Row::new("norm/layer_norm_backward/4096x1024/f32", Work::Copy(3.0 * BYTES))
        .within(1e-3)
        .quick()
        .with(Peer::Gradus, move || {
            let (w, b) = affine()?;
            let (x, w, b) = (Var::leaf(matrix()?), Var::leaf(w), Var::leaf(b));
            let y = x.layer_norm(&[C], Some(&w), Some(&b), 1e-5).map_err(text)?;
            let from = ours::back_from(ours::tensor(4, [R, C]).map_err(text)?);
            form(move || grad(&y, &[&x, &w, &b], &from))
        })
        .torch_grad(
            python
                + &format!(
                    "ins = [x, w, b]\nfor t in ins: t.requires_grad_(True)\ny = F.layer_norm(x, ({C},), w, b); g = rnd(4, {R}, {C})\n\
                     f = lambda: torch.autograd.grad(y, ins, g, retain_graph=True)"
                ),
        );
    [forward, backward]
}

/// Rows of 64 elements, as attention heads and small embeddings have them.
fn short_rows() -> [Row; 2] {
    const SHORT: [usize; 2] = [65536, 64];
    let python = format!("x = rnd(1, *{SHORT:?}, scale=3.0); w = rnd(2, 64); b = rnd(3, 64)\n");
    let of = || {
        let x = ours::scaled(1, SHORT, 3.0)?;
        Ok::<_, gradus::Error>([x, ours::tensor(2, [64])?, ours::tensor(3, [64])?])
    };
    let forward = Row::new("norm/layer_norm_forward/65536x64/f32", Work::Copy(2.0 * BYTES))
        .with(Peer::Gradus, move || {
            let [x, w, b] = of().map_err(text)?;
            form(move || x.layer_norm(&[64], Some(&w), Some(&b), 1e-5))
        })
        .torch(python.clone() + "f = lambda: F.layer_norm(x, (64,), w, b)");
    let backward = Row::new("norm/layer_norm_backward/65536x64/f32", Work::Copy(3.0 * BYTES))
        .within(1e-3)
        .with(Peer::Gradus, move || {
            let [x, w, b] = of().map_err(text)?.map(Var::leaf);
            let y = x.layer_norm(&[64], Some(&w), Some(&b), 1e-5).map_err(text)?;
            let from = ours::back_from(ours::tensor(4, SHORT).map_err(text)?);
            form(move || grad(&y, &[&x, &w, &b], &from))
        })
        .torch_grad(
            python
                + &format!(
                    "ins = [x, w, b]\nfor t in ins: t.requires_grad_(True)\ny = F.layer_norm(x, (64,), w, b); g = rnd(4, *{SHORT:?})\n\
                     f = lambda: torch.autograd.grad(y, ins, g, retain_graph=True)"
                ),
        );
    [forward, backward]
}

fn batch_norm() -> [Row; 2] {
    let [_, c, ..] = IMAGES;
    let python = format!("bn = nn.BatchNorm2d({c}); x = rnd(1, *{IMAGES:?}, scale=3.0)\n");
    let forward = Row::new("norm/batch_norm_forward/8x64x56x56/f32", Work::Copy(2.0 * IMAGE_BYTES))
        .quick()
        .with(Peer::Gradus, move || {
            let norm = BatchNorm2d::new(c, &mut Init::new(0)).map_err(text)?;
            let x = Var::from(ours::scaled(1, IMAGES, 3.0).map_err(text)?);
            form(move || no_grad(|| norm.forward(&x)))
        })
        .with(Peer::Candle, move || {
            let one = candle_core::Tensor::ones(c, candle_core::DType::F32, &candle_core::Device::Cpu)
                .map_err(text)?;
            let zero = one.zeros_like().map_err(text)?;
            let norm =
                candle_nn::BatchNorm::new(c, zero.clone(), one.clone(), one, zero, 1e-5).map_err(text)?;
            let x = candle::scaled(1, IMAGES.as_slice(), 3.0).map_err(text)?;
            form(move || norm.forward_t(&x, true))
        })
        .with(Peer::Burn, move || {
            let norm = BatchNormConfig::new(c).init(&theirs::device(true));
            let x = theirs::recorded(1, IMAGES).mul_scalar(3.0).detach();
            sure(move || norm.forward(x.clone()))
        })
        .torch(python.clone() + "f = lambda: bn(x)");
    let backward = Row::new("norm/batch_norm_backward/8x64x56x56/f32", Work::Copy(3.0 * IMAGE_BYTES))
        .within(1e-3)
        .quick()
        .with(Peer::Gradus, move || {
            let norm = BatchNorm2d::new(c, &mut Init::new(0)).map_err(text)?;
            let x = Var::leaf(ours::scaled(1, IMAGES, 3.0).map_err(text)?);
            let y = norm.forward(&x).map_err(text)?;
            let (w, b) = (norm.weight.leaf(), norm.bias.leaf());
            let from = ours::back_from(ours::tensor(4, IMAGES).map_err(text)?);
            form(move || grad(&y, &[&x, &w, &b], &from))
        })
        .torch_grad(
            python
                + &format!(
                    "x.requires_grad_(True); y = bn(x); g = rnd(4, *{IMAGES:?}); ins = [x, bn.weight, bn.bias]\n\
                     f = lambda: torch.autograd.grad(y, ins, g, retain_graph=True)"
                ),
        );
    [forward, backward]
}

fn max_pool() -> [Row; 2] {
    let python = format!("x = rnd(1, *{IMAGES:?})\n");
    let half = [8, 64, 28, 28];
    let forward = Row::new("pool/max2_forward/8x64x56x56/f32", Work::Copy(1.25 * IMAGE_BYTES))
        .quick()
        .with(Peer::Gradus, || {
            let x = ours::tensor(1, IMAGES).map_err(text)?;
            form(move || x.max_pool2d(2))
        })
        .with(Peer::Candle, || {
            let x = candle::tensor(1, IMAGES.as_slice()).map_err(text)?;
            form(move || x.max_pool2d(2))
        })
        .with(Peer::Burn, || {
            let x = theirs::tensor(1, IMAGES);
            sure(move || module::max_pool2d(x.clone(), MaxPoolOptions::new([2, 2])))
        })
        .torch(python.clone() + "f = lambda: F.max_pool2d(x, 2)")
        .snippet(Peer::TorchLast, python.clone() + "x = last(x)\nf = lambda: F.max_pool2d(x, 2)", false);
    let backward = Row::new("pool/max2_backward/8x64x56x56/f32", Work::Copy(1.25 * IMAGE_BYTES))
        .with(Peer::Gradus, move || {
            let x = Var::leaf(ours::tensor(1, IMAGES).map_err(text)?);
            let y = x.max_pool2d(2).map_err(text)?;
            let from = ours::back_from(ours::tensor(4, half).map_err(text)?);
            form(move || grad(&y, &[&x], &from))
        })
        .with(Peer::Candle, move || {
            let x = candle::leaf(1, IMAGES.as_slice(), 1.0).map_err(text)?;
            let g = candle::tensor(4, half.as_slice()).map_err(text)?;
            let loss = x.max_pool2d(2).and_then(|y| (y * g)?.sum_all()).map_err(text)?;
            form(move || candle::gradients(&loss, &[&x]))
        })
        .torch_grad(
            python
                + &format!(
                    "x.requires_grad_(True); y = F.max_pool2d(x, 2); g = rnd(4, *{half:?})\n\
                     f = lambda: torch.autograd.grad(y, x, g, retain_graph=True)"
                ),
        );
    [forward, backward]
}

/// Pooling of other windows: ours, and PyTorch in both layouts.
fn pool(name: &str, apply: fn(&Var) -> gradus::Result<Var>, result: [usize; 4], torch: &str) -> [Row; 2] {
    let bytes = IMAGE_BYTES + 4.0 * result.iter().product::<usize>() as f64;
    let forward = |layout: &str| format!("x = rnd(1, *{IMAGES:?})\n{layout}f = lambda: F.{torch}\n");
    let backward = |layout: &str| {
        let python = forward(layout);
        format!(
            "{python}x.requires_grad_(True); y = f(); g = rnd(4, *{result:?})\n\
             f = lambda: torch.autograd.grad(y, x, g, retain_graph=True)"
        )
    };
    let last = "x = last(x)\n";
    let there = Row::new(format!("pool/{name}_forward/8x64x56x56/f32"), Work::Copy(bytes))
        .with(Peer::Gradus, move || {
            let x = Var::from(ours::tensor(1, IMAGES).map_err(text)?);
            form(move || apply(&x))
        })
        .torch(forward(""))
        .snippet(Peer::TorchLast, forward(last), false);
    let back = Row::new(format!("pool/{name}_backward/8x64x56x56/f32"), Work::Copy(bytes))
        .with(Peer::Gradus, move || {
            let x = Var::leaf(ours::tensor(1, IMAGES).map_err(text)?);
            let y = apply(&x).map_err(text)?;
            let g = ours::tensor(4, result).map_err(text)?;
            let from = ours::back_from(g);
            form(move || grad(&y, &[&x], &from))
        })
        .torch_grad(backward(""))
        .snippet(Peer::TorchLast, backward(last), true);
    [there, back]
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = reductions();
    rows.extend([softmax(), cross_entropy(false), cross_entropy(true)]);
    rows.extend(layer_norm());
    rows.extend(short_rows());
    rows.extend(batch_norm());
    rows.extend(max_pool());
    rows.extend(pool(
        "max3s2",
        |x| x.max_pool2d(Pool::new(3).stride(2).padding(1)),
        [8, 64, 28, 28],
        "max_pool2d(x, 3, 2, 1)",
    ));
    rows.extend(pool("avg2", |x| x.avg_pool2d(2), [8, 64, 28, 28], "avg_pool2d(x, 2)"));
    rows.extend(pool(
        "avg3s1",
        |x| x.avg_pool2d(Pool::new(3).stride(1).padding(1)),
        IMAGES,
        "avg_pool2d(x, 3, 1, 1)",
    ));
    rows
}
