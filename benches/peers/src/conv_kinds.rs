//! The rarer kinds of convolution: over one dim and three, in groups, transposed, and fused with what follows. FLOPs:
//! `2 · result · (in / groups) · kernel` forward, twice that backward.

use crate::form::{form, sure};
use crate::gemm::text;
use crate::peers::{burn as theirs, candle, gradus as ours};
use crate::row::{Peer, Row, Type, Work};
use ::burn::tensor::module;
use ::burn::tensor::ops::ConvTransposeOptions;
use gradus::prelude::*;

/// A convolution over any number of dims, without bias.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    x: &'static [usize],
    w: &'static [usize],
    stride: usize,
    padding: usize,
    groups: usize,
}

impl Kind {
    fn dims(self) -> usize {
        self.x.len() - 2
    }

    fn result(self) -> Vec<usize> {
        let side = |d: usize| (self.x[d] + 2 * self.padding - self.w[d]) / self.stride + 1;
        [self.x[0], self.w[0]].into_iter().chain((2..self.x.len()).map(side)).collect()
    }

    fn row(self, what: &str, times: f64) -> Row {
        let flops = 2 * self.result().iter().product::<usize>() * self.w[1..].iter().product::<usize>();
        let shape: Vec<_> = self.x.iter().map(|d| d.to_string()).collect();
        let Kind { name, stride, .. } = self;
        let name = format!("conv/{name}_{what}/{}_{}s{stride}/f32", shape.join("x"), self.w[0]);
        Row::new(name, Work::Flops(times * flops as f64, Type::F32))
    }

    fn ours(self) -> gradus::Result<(Var, Var, Conv)> {
        let conv = Conv::default().stride(self.stride).padding(self.padding).groups(self.groups);
        Ok((Var::leaf(ours::tensor(1, self.x)?), Var::leaf(ours::scaled(2, self.w, 0.1)?), conv))
    }

    fn apply(self, x: &Var, w: &Var, conv: &Conv) -> gradus::Result<Var> {
        match self.dims() {
            1 => x.conv1d(w, None, conv),
            2 => x.conv2d(w, None, conv),
            _ => x.conv3d(w, None, conv),
        }
    }

    fn python(self, last: bool) -> String {
        let Kind { x, w, stride, padding, groups, .. } = self;
        let (x, w) = (text_of(x), text_of(w));
        let layout = match (last, self.dims()) {
            (false, _) => "",
            (true, 2) => "x = last(x); w = last(w)\n",
            (true, _) => {
                "x = x.to(memory_format=torch.channels_last_3d); w = w.to(memory_format=torch.channels_last_3d)\n"
            }
        };
        format!(
            "x = rnd(1, {x}); w = rnd(2, {w}, scale=0.1)\n{layout}\
             f = lambda: F.conv{}d(x, w, None, {stride}, {padding}, 1, {groups})\n",
            self.dims()
        )
    }

    fn python_backward(self, last: bool) -> String {
        format!(
            "{}x.requires_grad_(True); w.requires_grad_(True); y = f(); g = rnd(4, {})\n\
             f = lambda: torch.autograd.grad(y, [x, w], g, retain_graph=True)",
            self.python(last),
            text_of(&self.result())
        )
    }
}

/// Extents as arguments.
fn text_of(shape: &[usize]) -> String {
    shape.iter().map(|d| d.to_string()).collect::<Vec<_>>().join(", ")
}

fn forward(kind: Kind) -> Row {
    let row = kind
        .row("forward", 1.0)
        .with(Peer::Gradus, move || {
            let (x, w, conv) = kind.ours().map_err(text)?;
            form(move || no_grad(|| kind.apply(&x, &w, &conv)))
        })
        .torch(kind.python(false));
    if kind.dims() > 1 { row.snippet(Peer::TorchLast, kind.python(true), false) } else { row }
}

/// The gradients of input and weight.
fn backward(kind: Kind) -> Row {
    let row = kind
        .row("backward", 2.0)
        .within(1e-3)
        .with(Peer::Gradus, move || {
            let (x, w, conv) = kind.ours().map_err(text)?;
            let y = kind.apply(&x, &w, &conv).map_err(text)?;
            let from = ours::back_from(ours::tensor(4, kind.result()).map_err(text)?);
            form(move || grad(&y, &[&x, &w], &from))
        })
        .torch_grad(kind.python_backward(false));
    if kind.dims() > 1 { row.snippet(Peer::TorchLast, kind.python_backward(true), true) } else { row }
}

/// Convolution, normalisation and ReLU in evaluation, which become one pass. PyTorch folds the normalisation likewise.
fn fused() -> Row {
    const X: [usize; 4] = [8, 64, 56, 56];
    let flops = 2.0 * (8 * 64 * 56 * 56 * 64 * 9) as f64;
    let code = |layout: &str| {
        format!(
            "from torch.nn.utils.fusion import fuse_conv_bn_eval\n\
             m = set_weights(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64))).eval()\n\
             c = fuse_conv_bn_eval(m[0], m[1]); x = rnd(1, *{X:?})\n{layout}f = lambda: F.relu(c(x), inplace=True)"
        )
    };
    Row::new("conv/fused_bn_relu/n8_64x56x56_64_k3s1/f32", Work::Flops(flops, Type::F32))
        .with(Peer::Gradus, || {
            let mut init = Init::new(0);
            let conv = Conv2d::new(64, 64, 3, &mut init).map_err(text)?.padding(1);
            let model = Sequential::new().add(conv).add(BatchNorm2d::new(64, &mut init).map_err(text)?);
            ours::set_weights(&model).map_err(text)?;
            let model = model.add(Relu);
            model.eval();
            let model = model.fuse_eval().map_err(text)?;
            let x = Var::from(ours::tensor(1, X).map_err(text)?);
            form(move || no_grad(|| model.forward(&x)))
        })
        .torch(code(""))
        .snippet(Peer::TorchLast, code("c, x = last(c), last(x)\n"), false)
}

/// `[8, 128, 28, 28]` to `[8, 64, 56, 56]`, kernel 4, stride 2, padding 1.
fn transposed() -> Row {
    let (x, w) = ([8, 128, 28, 28], [128, 64, 4, 4]);
    let flops = 2.0 * (8 * 128 * 28 * 28 * 64 * 16) as f64;
    Row::new("conv/transposed/n8_128x28x28_64_k4s2/f32", Work::Flops(flops, Type::F32))
        .with(Peer::Gradus, move || {
            let (x, w) = (ours::tensor(1, x).map_err(text)?, ours::scaled(2, w, 0.1).map_err(text)?);
            let conv = Conv::default().stride(2).padding(1);
            form(move || x.conv_transpose(&w, None, &conv, 0))
        })
        .with(Peer::Candle, move || {
            let (x, w) = (candle::tensor(1, x.as_slice()).map_err(text)?, candle::scaled(2, w.as_slice(), 0.1).map_err(text)?);
            form(move || x.conv_transpose2d(&w, 1, 0, 2, 1))
        })
        .with(Peer::Burn, move || {
            let (x, w) = (theirs::tensor(1, x), theirs::scaled(2, w, 0.1));
            let options = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1);
            sure(move || module::conv_transpose2d(x.clone(), w.clone(), None, options.clone()))
        })
        .torch("x = rnd(1, 8, 128, 28, 28); w = rnd(2, 128, 64, 4, 4, scale=0.1)\nf = lambda: F.conv_transpose2d(x, w, None, 2, 1)")
}

pub(crate) fn rows() -> Vec<Row> {
    let line = Kind { name: "1d", x: &[16, 64, 2048], w: &[128, 64, 5], stride: 1, padding: 2, groups: 1 };
    let space =
        Kind { name: "3d", x: &[2, 32, 16, 28, 28], w: &[32, 32, 3, 3, 3], stride: 1, padding: 1, groups: 1 };
    let halving = Kind { x: &[2, 16, 16, 28, 28], w: &[32, 16, 3, 3, 3], stride: 2, ..space };
    let grouped = Kind {
        name: "grouped8",
        x: &[8, 256, 28, 28],
        w: &[256, 32, 3, 3],
        stride: 1,
        padding: 1,
        groups: 8,
    };
    let both = |kind| [forward(kind), backward(kind)];
    let mut rows: Vec<Row> = [line, space, halving, grouped].into_iter().flat_map(both).collect();
    rows.extend([transposed(), fused()]);
    rows
}
