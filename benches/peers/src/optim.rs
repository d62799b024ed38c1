//! Optimizers' steps and clipping, over the 62 parameters of ResNet-18: 11.2 M numbers. Bytes: what a step must read and write.

use crate::form::{Form, form};
use crate::gemm::text;
use crate::models::gradus::resnet18;
use crate::peers::gradus as ours;
use crate::row::{Peer, Row, Work};
use gradus::nn::clip_grad_norm;
use gradus::prelude::*;

/// Of the network for 10 classes.
const NUMBERS: f64 = 11_173_962.0;

/// The network, and gradients drawn for it.
fn model() -> gradus::Result<(Sequential, Gradients)> {
    let model = resnet18()?;
    ours::set_weights(&model)?;
    let mut gradients = Gradients::default();
    for (i, (_, param)) in model.params().into_iter().enumerate() {
        gradients.set(&param.leaf(), ours::scaled(2000 + i as u32, param.shape(), 0.1)?);
    }
    Ok((model, gradients))
}

/// The same in Python: `m` with gradients, `last`, one parameter to compare.
const PYTHON: &str = "m = set_weights(resnet18()); ps = list(m.parameters()); last = ps[-2]\n\
                      for i, p in enumerate(ps): p.grad = rnd(2000 + i, *p.shape, scale=0.1)\n";

/// The weight of the last layer, to compare.
fn compared(model: &Sequential) -> gradus::Result<Param> {
    let mut params = model.params();
    params.pop();
    params.pop().map(|(_, param)| param.clone()).ok_or_else(|| Error::argument("peers", "no parameters"))
}

/// A step of an optimizer that moves `times` as many bytes as it has parameters.
fn step<O: Optimizer + 'static>(
    name: &str,
    times: f64,
    optimizer: fn(&Sequential) -> gradus::Result<O>,
    torch: &str,
) -> Row {
    Row::new(format!("optim/{name}/resnet18/f32"), Work::Copy(4.0 * times * NUMBERS))
        .with(Peer::Gradus, move || {
            let (model, gradients) = model().map_err(text)?;
            let (mut optimizer, param) = (optimizer(&model).map_err(text)?, compared(&model).map_err(text)?);
            form(move || {
                optimizer.step(&gradients)?;
                Ok::<_, Error>(param.var())
            })
        })
        .torch_grad(format!("{PYTHON}o = torch.optim.{torch}\ndef f():\n    o.step()\n    return last"))
}

/// Clipping that bites each time: the bound shrinks with the norm.
fn clip() -> Row {
    const SHRINK: f64 = 0.999;
    let ready = || -> std::result::Result<Box<dyn Form>, String> {
        let (model, mut gradients) = model().map_err(text)?;
        let param = compared(&model).map_err(text)?;
        let mut bound = 1.0;
        form(move || {
            bound *= SHRINK;
            clip_grad_norm(&mut gradients, &model, bound, 2.0)?;
            // A copy of the pointer would make the next clipping copy the numbers.
            gradients.get(&param.leaf())?.to_vec::<f32>()
        })
    };
    Row::new("optim/clip_grad_norm/resnet18/f32", Work::Copy(4.0 * 3.0 * NUMBERS))
        .with(Peer::Gradus, ready)
        .torch_grad(format!(
            "{PYTHON}bound = [1.0]\ndef f():\n    bound[0] *= {SHRINK}\n    nn.utils.clip_grad_norm_(ps, bound[0])\n    return last.grad.clone()"
        ))
}

pub(crate) fn rows() -> Vec<Row> {
    vec![
        // Parameter, gradient and momentum are read, the first and the last written.
        step(
            "sgd_momentum",
            5.0,
            |m| Sgd::new(m, SgdConfig { lr: 1e-3, momentum: 0.9, ..Default::default() }),
            "SGD(ps, 1e-3, momentum=0.9, fused=True)",
        ),
        // Two moments.
        step("adam", 7.0, |m| Adam::new(m, AdamConfig::default()), "Adam(ps, 1e-3, fused=True)"),
        step("adamw", 7.0, |m| AdamW::new(m, AdamWConfig::default()), "AdamW(ps, 1e-3, fused=True)"),
        clip(),
    ]
}
