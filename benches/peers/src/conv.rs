//! Convolutions of images; `conv_kinds.rs` has the rarer ones. FLOPs: `2 · n · out · (in / groups) · kernel² · height' · width'` forward, twice that backward,
//! or once where the input is an image that needs no gradient.

use crate::data::random;
use crate::form::{form, sure};
use crate::gemm::text;
use crate::peers::{burn as theirs, candle, gradus as ours};
use crate::row::{Peer, Reference, Row, Type, Work};
use ::burn::tensor::module;
use ::burn::tensor::ops::ConvOptions;
use gradus::prelude::*;

/// What is convolved with what: bias included, images square.
#[derive(Clone, Copy)]
struct Case {
    n: usize,
    c: usize,
    h: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
    bf16: bool,
}

impl Case {
    fn new([n, c, h, out]: [usize; 4], kernel: usize) -> Case {
        Case { n, c, h, out, kernel, stride: 1, padding: kernel / 2, groups: 1, bf16: false }
    }

    fn side(self) -> usize {
        (self.h + 2 * self.padding - self.kernel) / self.stride + 1
    }

    fn input(self) -> [usize; 4] {
        [self.n, self.c, self.h, self.h]
    }

    fn weight(self) -> [usize; 4] {
        [self.out, self.c / self.groups, self.kernel, self.kernel]
    }

    fn output(self) -> [usize; 4] {
        [self.n, self.out, self.side(), self.side()]
    }

    /// A depthwise convolution is bound by its traffic, others by arithmetic.
    fn work(self, backward: bool) -> Work {
        let (x, y): (usize, usize) = (self.input().iter().product(), self.output().iter().product());
        if self.groups > 1 {
            return Work::Copy(4.0 * if backward { 2 * x + y } else { x + y } as f64);
        }
        let forward = 2.0 * (y * self.weight()[1..].iter().product::<usize>()) as f64;
        let times = if !backward {
            1.0
        } else if self.image() {
            1.0
        } else {
            2.0
        };
        Work::Flops(times * forward, if self.bf16 { Type::BF16 } else { Type::F32 })
    }

    /// The first layer's input is data.
    fn image(self) -> bool {
        self.c <= 3
    }

    fn ours(self) -> Conv {
        Conv::default().stride(self.stride).padding(self.padding).groups(self.groups)
    }

    fn dtype(self) -> DType {
        if self.bf16 { DType::BF16 } else { DType::F32 }
    }

    fn name(self, what: &str) -> String {
        let Case { n, c, h, out, kernel, stride, groups, .. } = self;
        let kind = if groups > 1 { "depthwise" } else { "conv" };
        let dtype = if self.bf16 { "bf16" } else { "f32" };
        format!("{kind}/{what}/n{n}_{c}x{h}x{h}_{out}_k{kernel}s{stride}/{dtype}")
    }

    /// Python for input, weight, bias and result.
    fn python(self, last: bool) -> String {
        let Case { n, c, h, out, kernel, stride, padding, groups, .. } = self;
        let cast = if self.bf16 { ".bfloat16()" } else { "" };
        let layout = if last { "x = last(x); w = last(w)\n" } else { "" };
        format!(
            "x = rnd(1, {n}, {c}, {h}, {h}){cast}; w = rnd(2, {out}, {}, {kernel}, {kernel}, scale=0.1){cast}; b = rnd(3, {out}){cast}\n\
             {layout}conv = lambda: F.conv2d(x, w, b, {stride}, {padding}, 1, {groups})\n",
            c / groups
        )
    }

    /// As [`python`](Self::python), and the backward pass alone as `f`.
    fn python_backward(self, last: bool) -> String {
        let inputs = if self.image() { "[w, b]" } else { "[x, w, b]" };
        let [n, out, side, _] = self.output();
        format!(
            "{}ins = {inputs}\nfor t in ins: t.requires_grad_(True)\n\
             g = rnd(4, {n}, {out}, {side}, {side}).to(x.dtype)\n{}y = conv()\n\
             f = lambda: torch.autograd.grad(y, ins, g, retain_graph=True)",
            self.python(last),
            if last { "g = last(g)\n" } else { "" }
        )
    }
}

fn forward(case: Case) -> Row {
    let tolerance = if case.bf16 { 3e-2 } else { 1e-4 };
    let mut row =
        Row::new(case.name("forward"), case.work(false)).within(tolerance).with(Peer::Gradus, move || {
            let (x, w, b) = operands(case).map_err(text)?;
            let conv = case.ours();
            form(move || x.conv2d(&w, Some(&b), &conv))
        });
    if !case.bf16 {
        row = row
            .with(Peer::Candle, move || {
                let (x, w) = (
                    candle::tensor(1, case.input().as_slice()),
                    candle::scaled(2, case.weight().as_slice(), 0.1),
                );
                let (x, w) = (x.map_err(text)?, w.map_err(text)?);
                let b = candle::tensor(3, (1, case.out, 1, 1)).map_err(text)?;
                form(move || x.conv2d(&w, case.padding, case.stride, 1, case.groups)?.broadcast_add(&b))
            })
            .with(Peer::Burn, move || {
                let (x, w, b) = (
                    theirs::tensor(1, case.input()),
                    theirs::scaled(2, case.weight(), 0.1),
                    theirs::tensor(3, [case.out]),
                );
                let options = ConvOptions::new([case.stride; 2], [case.padding; 2], [1, 1], case.groups);
                sure(move || module::conv2d(x.clone(), w.clone(), Some(b.clone()), options.clone()))
            })
            .exact(move || exact(case));
    }
    row.torch(case.python(false) + "f = conv").snippet(Peer::TorchLast, case.python(true) + "f = conv", false)
}

/// The gradients alone, along a graph that stays. Burn's graphs are used up by one walk, so it is left out.
fn backward(case: Case) -> Row {
    let tolerance = if case.bf16 { 5e-2 } else { 1e-3 };
    let mut row =
        Row::new(case.name("backward"), case.work(true)).within(tolerance).with(Peer::Gradus, move || {
            let (x, w, b) = operands(case).map_err(text)?;
            let (w, b) = (Var::leaf(w), Var::leaf(b));
            let x = if case.image() { Var::from(x) } else { Var::leaf(x) };
            let y = x.conv2d(&w, Some(&b), &case.ours()).map_err(text)?;
            let from = ours::back_from(
                ours::tensor(4, case.output()).and_then(|g| g.to_dtype(case.dtype())).map_err(text)?,
            );
            form(move || match case.image() {
                true => grad(&y, &[&w, &b], &from),
                false => grad(&y, &[&x, &w, &b], &from),
            })
        });
    if !case.bf16 {
        row = row.with(Peer::Candle, move || {
            let x = candle::leaf(1, case.input().as_slice(), 1.0).map_err(text)?;
            let input = if case.image() { x.as_detached_tensor() } else { x.as_tensor().clone() };
            let w = candle::leaf(2, case.weight().as_slice(), 0.1).map_err(text)?;
            let b = candle::leaf(3, (1, case.out, 1, 1), 1.0).map_err(text)?;
            let g = candle::tensor(4, case.output().as_slice()).map_err(text)?;
            let y =
                input.conv2d(&w, case.padding, case.stride, 1, case.groups).and_then(|y| y.broadcast_add(&b));
            let loss = y.and_then(|y| (y * g)?.sum_all()).map_err(text)?;
            form(move || match case.image() {
                true => candle::gradients(&loss, &[&w, &b]),
                false => candle::gradients(&loss, &[&x, &w, &b]),
            })
        });
    }
    row.torch_grad(case.python_backward(false)).snippet(Peer::TorchLast, case.python_backward(true), true)
}

fn operands(case: Case) -> gradus::Result<(Tensor, Tensor, Tensor)> {
    let cast = |t: Tensor| t.to_dtype(case.dtype());
    Ok((
        cast(ours::tensor(1, case.input())?)?,
        cast(ours::scaled(2, case.weight(), 0.1)?)?,
        cast(ours::tensor(3, [case.out])?)?,
    ))
}

/// The convolution in f64, element by element.
fn exact(case: Case) -> Reference {
    let numel = |shape: [usize; 4]| shape.iter().product::<usize>();
    let (x, w, b) =
        (random(1, numel(case.input()), 1.0), random(2, numel(case.weight()), 0.1), random(3, case.out, 1.0));
    let (side, per) = (case.side(), case.c / case.groups);
    Box::new(move |at| {
        let (image, o, i, j) =
            (at / (case.out * side * side), at / (side * side) % case.out, at / side % side, at % side);
        let first = o / (case.out / case.groups) * per;
        let (mut sum, mut scale) = (f64::from(b[o]), f64::from(b[o]).abs());
        for (c, r, s) in (0..per)
            .flat_map(|c| (0..case.kernel).flat_map(move |r| (0..case.kernel).map(move |s| (c, r, s))))
        {
            let (y, z) = (i * case.stride + r, j * case.stride + s);
            if y < case.padding
                || z < case.padding
                || y - case.padding >= case.h
                || z - case.padding >= case.h
            {
                continue;
            }
            let input =
                x[((image * case.c + first + c) * case.h + y - case.padding) * case.h + z - case.padding];
            let product =
                f64::from(input) * f64::from(w[((o * per + c) * case.kernel + r) * case.kernel + s]);
            (sum, scale) = (sum + product, scale + product.abs());
        }
        (sum, scale)
    })
}

pub(crate) fn rows() -> Vec<Row> {
    let (k56, k14) = (Case::new([8, 64, 56, 64], 3), Case::new([32, 256, 14, 256], 3));
    let stem = Case { stride: 2, ..Case::new([8, 3, 224, 64], 7) };
    let digits = Case::new([64, 1, 28, 32], 3);
    let lenet = Case { padding: 0, ..Case::new([64, 6, 12, 16], 5) };
    let depthwise = Case { groups: 128, ..Case::new([8, 128, 56, 128], 3) };
    let halving = Case { stride: 2, ..depthwise };
    let bf16 = |case| Case { bf16: true, ..case };
    let k28 = Case::new([8, 128, 28, 128], 3);
    let k32 = Case::new([32, 64, 32, 64], 3);
    let one = Case::new([8, 256, 14, 1024], 1);
    vec![
        forward(k56).quick(),
        backward(k56).quick(),
        forward(k28),
        backward(k28),
        forward(k14).quick(),
        backward(k14),
        forward(k32),
        backward(k32),
        forward(one),
        backward(one),
        forward(stem).quick(),
        backward(stem),
        forward(digits),
        backward(digits).quick(),
        forward(lenet),
        backward(lenet),
        forward(depthwise).quick(),
        backward(depthwise).quick(),
        forward(halving),
        backward(halving),
        forward(bf16(k56)),
        backward(bf16(k56)),
        forward(bf16(k14)),
    ]
}
