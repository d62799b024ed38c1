//! Whole networks: training steps (forward, backward, optimizer) and inference. FLOPs of the products and convolutions;
//! a step counts three times the forward pass.

use crate::form::sure;
use crate::gemm::text;
use crate::models::{self, LENET, MLP, MNIST, Plain, VOCAB};
use crate::peers::{burn as theirs, candle, gradus as ours};
use crate::row::{Check, Peer, Row, Type, Work};
use gradus::prelude::*;

/// candle and Burn draw their own weights, candle larger ones: only the size of the first loss is alike.
const LOOSELY: Check = Check::Within(3.0);

fn flops(net: Plain, batch: usize, images: f64) -> f64 {
    let linear: usize = net.widths.windows(2).map(|w| w[0] * w[1]).sum();
    2.0 * batch as f64 * (images + linear as f64)
}

/// Multiply-adds of the convolutions for one image.
const LENET_CONVS: f64 = (6 * 784 * 25 + 16 * 100 * 150) as f64;
const MNIST_CONVS: f64 = (32 * 676 * 9 + 64 * 576 * 288) as f64;
const RESNET: f64 = 0.5563e9;

/// A training step of a plain network on 64 examples.
fn plain(name: &str, net: Plain, adam: bool, convs: f64, python: &str) -> Row {
    const N: usize = 64;
    let images = !net.convs.is_empty();
    let input: &'static [usize] = if images { &[N, 1, 28, 28] } else { &[N, 784] };
    let optimizer = if adam { "adam" } else { "sgd" };
    let code = move |more: &str| {
        format!("f = train({python}(), rnd(1, *{input:?}), ints(2, {N}, below=10), {optimizer}{more})")
    };
    let row = Row::new(
        format!("train/{name}_{optimizer}/b{N}/f32"),
        Work::Flops(3.0 * flops(net, N, convs), Type::F32),
    )
    .within(1e-3)
    .quick()
    .with(Peer::Gradus, move || {
        let x = Var::from(ours::tensor(1, input).map_err(text)?);
        let model = models::gradus::plain(net).map_err(text)?;
        let labels = ours::labels(2, [N], 10).map_err(text)?;
        models::gradus::train(model, adam, DType::F32, move |m| m.forward(&x), labels)
    })
    .with_check(Peer::Candle, LOOSELY, move || {
        let (x, t) = (candle::tensor(1, input).map_err(text)?, candle::labels(2, N, 10).map_err(text)?);
        models::candle::train(|vb| models::candle::plain(net, vb), adam, x, t)
    })
    .with_check(Peer::Burn, LOOSELY, move || {
        let device = theirs::device(true);
        let (model, t) = (models::burn::PlainNet::new(net, &device), theirs::labels(2, [N], 10, &device));
        if images {
            let x = theirs::recorded(1, [N, 1, 28, 28]);
            return models::burn::train(model, adam, t, move |m| m.images(x.clone()));
        }
        let x = theirs::recorded(1, [N, 784]);
        models::burn::train(model, adam, t, move |m| m.vectors(x.clone()))
    })
    .torch_grad(code(""))
    .snippet(Peer::TorchCompiled, code(", compile=True"), true);
    if images { row.snippet(Peer::TorchLast, code(", channels_last=True"), true) } else { row }
}

/// A training step of ResNet-18 for images of 32×32.
fn resnet(dtype: DType) -> Row {
    const N: usize = 32;
    let bf16 = dtype == DType::BF16;
    let (of, short) = if bf16 { (Type::BF16, "bf16") } else { (Type::F32, "f32") };
    let code = move |more: &str| {
        let bf16 = if bf16 { ", bf16=True" } else { "" };
        format!("f = train(resnet18(), rnd(1, {N}, 3, 32, 32), ints(2, {N}, below=10), sgd{bf16}{more})")
    };
    let row =
        Row::new(format!("train/resnet18_sgd/b{N}_32x32/{short}"), Work::Flops(6.0 * N as f64 * RESNET, of))
            .within(if bf16 { 5e-2 } else { 2e-3 })
            .with(Peer::Gradus, move || {
                let x =
                    Var::from(ours::tensor(1, [N, 3, 32, 32]).and_then(|x| x.to_dtype(dtype)).map_err(text)?);
                let model = models::gradus::resnet18().map_err(text)?;
                models::gradus::train(
                    model,
                    false,
                    dtype,
                    move |m| m.forward(&x),
                    ours::labels(2, [N], 10).map_err(text)?,
                )
            })
            .torch_grad(code(""))
            .snippet(Peer::TorchLast, code(", channels_last=True"), true);
    if bf16 {
        return row;
    }
    row.snippet(Peer::TorchCompiled, code(", compile=True"), true)
        .with_check(Peer::Candle, LOOSELY, || {
            let x = candle::tensor(1, (N, 3, 32, 32)).map_err(text)?;
            models::candle::train(models::candle::resnet18, false, x, candle::labels(2, N, 10).map_err(text)?)
        })
        .with_check(Peer::Burn, LOOSELY, || {
            let device = theirs::device(true);
            let (model, x) = (models::burn::ResNet::new(&device), theirs::recorded(1, [N, 3, 32, 32]));
            models::burn::train(model, false, theirs::labels(2, [N], 10, &device), move |m| {
                m.images(x.clone())
            })
        })
}

/// A training step of a model of text: two layers of LSTM.
fn char_lstm(hidden: usize, steps: usize) -> Row {
    const N: usize = 32;
    let per = 4 * hidden * (models::EMBED + hidden) + 4 * hidden * 2 * hidden + VOCAB * hidden;
    let work = Work::Flops((6 * N * steps * per) as f64, Type::F32);
    let row = Row::new(format!("train/char_lstm_2x{hidden}_adam/b{N}_t{steps}/f32"), work)
        .within(1e-3)
        .with(Peer::Gradus, move || {
            let model = models::gradus::CharLstm::new(hidden).map_err(text)?;
            let x = ours::labels(1, [steps, N], VOCAB).map_err(text)?;
            let t = ours::labels(2, [steps * N], VOCAB).map_err(text)?;
            models::gradus::train(model, true, DType::F32, move |m| m.forward(&x), t)
        })
        .with_check(Peer::Candle, LOOSELY, move || {
            let (x, t) = (candle::labels(1, (N, steps), VOCAB), candle::labels(2, N * steps, VOCAB));
            models::candle::train(|vb| models::candle::char_lstm(hidden, vb), true, x.map_err(text)?, t.map_err(text)?)
        })
        .with_check(Peer::Burn, LOOSELY, move || {
            let device = theirs::device(true);
            let (x, t) = (theirs::labels(1, [N, steps], VOCAB, &device), theirs::labels(2, [N * steps], VOCAB, &device));
            let model = models::burn::CharLstm::new(hidden, &device);
            models::burn::train(model, true, t, move |m| m.text(x.clone()))
        })
        .torch_grad(format!(
            "f = train(CharLstm({VOCAB}, {}, {hidden}), ints(1, {steps}, {N}, below={VOCAB}), ints(2, {steps} * {N}, below={VOCAB}), adam)",
            models::EMBED
        ));
    if hidden == 256 { row.quick() } else { row }
}

/// LeNet-5 in evaluation.
fn lenet_infer(n: usize) -> Row {
    let code = move |more: &str| format!("f = infer(lenet(), rnd(1, {n}, 1, 28, 28){more})");
    Row::new(format!("infer/lenet5/b{n}/f32"), Work::Flops(flops(LENET, n, LENET_CONVS), Type::F32))
        .with(Peer::Gradus, move || {
            let x = ours::tensor(1, [n, 1, 28, 28]).map_err(text)?;
            models::gradus::infer(models::gradus::plain(LENET).map_err(text)?, x, DType::F32)
        })
        .with_check(Peer::Candle, Check::Shape, move || {
            let x = candle::tensor(1, (n, 1, 28, 28)).map_err(text)?;
            models::candle::infer(|vb| models::candle::plain(LENET, vb), x)
        })
        .with_check(Peer::Burn, Check::Shape, move || {
            let (model, x) = (
                models::burn::PlainNet::new(LENET, &theirs::device(false)),
                theirs::tensor(1, [n, 1, 28, 28]),
            );
            sure(move || model.images(x.clone()))
        })
        .torch(code(""))
        .snippet(Peer::TorchLast, code(", channels_last=True"), false)
        .snippet(Peer::TorchCompiled, code(", compile=True"), false)
}

/// ResNet-18 in evaluation.
fn resnet_infer(dtype: DType) -> Row {
    const N: usize = 32;
    let bf16 = dtype == DType::BF16;
    let (of, short) = if bf16 { (Type::BF16, "bf16") } else { (Type::F32, "f32") };
    let code = move |more: &str| {
        let bf16 = if bf16 { ", bf16=True" } else { "" };
        format!("f = infer(resnet18(), rnd(1, {N}, 3, 32, 32){bf16}{more})")
    };
    let row =
        Row::new(format!("infer/resnet18/b{N}_32x32/{short}"), Work::Flops(2.0 * N as f64 * RESNET, of))
            .within(if bf16 { 8e-2 } else { 1e-3 })
            .with(Peer::Gradus, move || {
                let x = ours::tensor(1, [N, 3, 32, 32]).map_err(text)?;
                models::gradus::infer(models::gradus::resnet18().map_err(text)?, x, dtype)
            })
            .torch(code(""))
            .snippet(Peer::TorchLast, code(", channels_last=True"), false);
    if bf16 {
        return row;
    }
    row.snippet(Peer::TorchCompiled, code(", compile=True"), false)
        .with_check(Peer::Candle, Check::Shape, || {
            models::candle::infer(models::candle::resnet18, candle::tensor(1, (N, 3, 32, 32)).map_err(text)?)
        })
        .with_check(Peer::Burn, Check::Shape, || {
            // The flag "training" is set on a new module: cleared as burn's `valid` does.
            let model = ::burn::module::Module::valid(&models::burn::ResNet::new(&theirs::device(true)));
            let x = theirs::tensor(1, [N, 3, 32, 32]);
            sure(move || model.images(x.clone()))
        })
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        plain("lenet5", LENET, false, LENET_CONVS, "lenet"),
        plain("mnist_cnn", MNIST, true, MNIST_CONVS, "mnist_cnn"),
        plain("mlp_784_256_256_10", MLP, false, 0.0, "mlp"),
        char_lstm(256, 64),
        char_lstm(512, 128),
        resnet(DType::F32),
        resnet(DType::BF16),
        lenet_infer(64).quick(),
        lenet_infer(1),
        resnet_infer(DType::F32),
        resnet_infer(DType::BF16),
    ]
}
