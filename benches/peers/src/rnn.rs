//! Recurrent layers over 128 steps of 32 sequences. FLOPs of the products: `2 · t · n · 2 · hidden · gates · hidden` forward,
//! three times that forward and backward.

use crate::form::{form, sure};
use crate::gemm::text;
use crate::peers::{burn as theirs, candle, gradus as ours};
use crate::row::{Check, Peer, Row, Type, Work};
use ::burn::nn::LstmConfig;
use ::burn::nn::gru::GruConfig;
use candle_nn::RNN;
use gradus::prelude::*;

const STEPS: usize = 128;
const BATCH: usize = 32;

#[derive(Clone, Copy)]
struct Case {
    gru: bool,
    hidden: usize,
    bf16: bool,
    /// Both directions, side by side in the result.
    both: bool,
}

impl Case {
    fn gates(self) -> usize {
        if self.gru { 3 } else { 4 }
    }

    fn flops(self) -> f64 {
        let directions = if self.both { 2 } else { 1 };
        (directions * 2 * STEPS * BATCH * 2 * self.hidden * self.gates() * self.hidden) as f64
    }

    fn row(self, what: &str, times: f64) -> Row {
        let kind = match (self.gru, self.both) {
            (true, _) => "gru",
            (false, false) => "lstm",
            (false, true) => "bilstm",
        };
        let (dtype, of) = if self.bf16 { ("bf16", Type::BF16) } else { ("f32", Type::F32) };
        let name = format!("rnn/{kind}_{what}/t{STEPS}_n{BATCH}_h{}/{dtype}", self.hidden);
        Row::new(name, Work::Flops(times * self.flops(), of))
    }

    fn dims(self) -> [usize; 3] {
        [STEPS, BATCH, self.hidden]
    }

    /// Batch first, as candle and Burn have it.
    fn batch_first(self) -> [usize; 3] {
        [BATCH, STEPS, self.hidden]
    }

    fn dtype(self) -> DType {
        if self.bf16 { DType::BF16 } else { DType::F32 }
    }

    fn ours(self) -> gradus::Result<Ours> {
        let (h, mut init) = (self.hidden, Init::new(0));
        let config = RnnConfig { bidirectional: self.both, ..Default::default() };
        if self.gru {
            let gru = Gru::new(h, h, config, &mut init)?;
            ours::set_weights(&gru)?;
            gru.to_dtype(self.dtype())?;
            return Ok(Ours::Gru(gru));
        }
        let lstm = Lstm::new(h, h, config, &mut init)?;
        ours::set_weights(&lstm)?;
        lstm.to_dtype(self.dtype())?;
        Ok(Ours::Lstm(lstm))
    }

    fn candle(self, train: bool) -> candle_core::Result<(Theirs, Vec<candle_core::Var>)> {
        let (h, rows) = (self.hidden, self.gates() * self.hidden);
        let shapes = [
            ("weight_ih_l0", vec![rows, h]),
            ("weight_hh_l0", vec![rows, h]),
            ("bias_ih_l0", vec![rows]),
            ("bias_hh_l0", vec![rows]),
        ];
        let (weights, leaves) = candle::weights(train, &shapes, 1.0 / (h as f32).sqrt())?;
        let model = if self.gru {
            Theirs::Gru(candle_nn::gru(h, h, Default::default(), weights)?)
        } else {
            Theirs::Lstm(candle_nn::lstm(h, h, Default::default(), weights)?)
        };
        Ok((model, leaves))
    }

    fn python(self) -> String {
        let (kind, h) = (if self.gru { "GRU" } else { "LSTM" }, self.hidden);
        let cast = if self.bf16 { ".bfloat16()" } else { "" };
        let both = if self.both { ", bidirectional=True" } else { "" };
        format!("m = set_weights(nn.{kind}({h}, {h}{both})){cast}; x = rnd(1, {STEPS}, {BATCH}, {h}){cast}\n")
    }
}

enum Ours {
    Lstm(Lstm),
    Gru(Gru),
}

impl Ours {
    fn forward(&self, x: &Var) -> gradus::Result<Var> {
        match self {
            Ours::Lstm(m) => Ok(m.forward(x, None)?.0),
            Ours::Gru(m) => Ok(m.forward(x, None)?.0),
        }
    }

    fn leaves(&self) -> Vec<Var> {
        let params = match self {
            Ours::Lstm(m) => m.params(),
            Ours::Gru(m) => m.params(),
        };
        params.into_iter().map(|(_, p)| p.leaf()).collect()
    }
}

enum Theirs {
    Lstm(candle_nn::LSTM),
    Gru(candle_nn::GRU),
}

impl Theirs {
    fn forward(&self, x: &candle_core::Tensor) -> candle_core::Result<candle_core::Tensor> {
        match self {
            Theirs::Lstm(m) => m.states_to_tensor(&m.seq(x)?),
            // Its `states_to_tensor` puts the steps side by side.
            Theirs::Gru(m) => m.states_to_tensor(&m.seq(x)?)?.reshape((BATCH, STEPS, ())),
        }
    }
}

/// The same numbers as ours, transposed.
fn candle_input(case: Case) -> candle_core::Result<candle_core::Tensor> {
    candle::tensor(1, case.dims().as_slice())?.transpose(0, 1)?.contiguous()
}

fn inference(case: Case) -> Row {
    let mut row =
        case.row("infer", 1.0).within(if case.bf16 { 5e-2 } else { 1e-4 }).with(Peer::Gradus, move || {
            let model = case.ours().map_err(text)?;
            let x =
                Var::from(ours::tensor(1, case.dims()).and_then(|x| x.to_dtype(case.dtype())).map_err(text)?);
            form(move || no_grad(|| model.forward(&x)))
        });
    if !(case.bf16 || case.both) {
        row = row
            .with(Peer::Candle, move || {
                let ((model, _), x) = (case.candle(false).map_err(text)?, candle_input(case).map_err(text)?);
                form(move || model.forward(&x)?.transpose(0, 1))
            })
            .with_check(Peer::Burn, Check::Shape, move || {
                let (x, device) = (theirs::tensor(1, case.batch_first()), theirs::device(false));
                if case.gru {
                    let model = GruConfig::new(case.hidden, case.hidden, true).init(&device);
                    return sure(move || model.forward(x.clone(), None));
                }
                let model = LstmConfig::new(case.hidden, case.hidden, true).init(&device);
                sure(move || model.forward(x.clone(), None).0)
            });
    }
    row.torch(case.python() + "f = lambda: m(x)[0]")
}

/// Forward with a graph, then the gradients of the input and all weights.
fn training(case: Case) -> Row {
    let mut row =
        case.row("train", 3.0).within(if case.bf16 { 8e-2 } else { 1e-3 }).with(Peer::Gradus, move || {
            let model = case.ours().map_err(text)?;
            let [t, n, h] = case.dims();
            let of = |seed, width| {
                ours::tensor(seed, [t, n, width]).and_then(|t| t.to_dtype(case.dtype())).map_err(text)
            };
            let (x, g) = (Var::leaf(of(1, h)?), of(2, if case.both { 2 * h } else { h })?);
            let leaves = model.leaves();
            form(move || {
                let inputs: Vec<&Var> = std::iter::once(&x).chain(&leaves).collect();
                let from = Backward { gradient: Some(g.clone()), ..Default::default() };
                grad(&model.forward(&x)?, &inputs, &from)
            })
        });
    if !(case.bf16 || case.both) {
        row = row
            .with_check(Peer::Candle, Check::Shape, move || {
                let (model, leaves) = case.candle(true).map_err(text)?;
                let x = candle_core::Var::from_tensor(&candle_input(case).map_err(text)?).map_err(text)?;
                let g = candle::tensor(2, case.batch_first().as_slice()).map_err(text)?;
                form(move || {
                    let leaves: Vec<_> = std::iter::once(&x).chain(&leaves).collect();
                    candle::gradients(&(model.forward(&x)? * &g)?.sum_all()?, &leaves)
                })
            })
            .with_check(Peer::Burn, Check::Any, move || {
                let (x, g) =
                    (theirs::recorded(1, case.batch_first()), theirs::recorded(2, case.batch_first()));
                let (x, device) = (x.require_grad(), theirs::device(true));
                if case.gru {
                    let model = GruConfig::new(case.hidden, case.hidden, true).init(&device);
                    return sure(move || {
                        let grads = (model.forward(x.clone(), None) * g.clone()).sum().backward();
                        x.grad(&grads).expect("the input is a leaf")
                    });
                }
                let model = LstmConfig::new(case.hidden, case.hidden, true).init(&device);
                sure(move || {
                    let grads = (model.forward(x.clone(), None).0 * g.clone()).sum().backward();
                    x.grad(&grads).expect("the input is a leaf")
                })
            });
    }
    row.torch_grad(
        case.python()
            + &format!(
                "x.requires_grad_(True); g = rnd(2, {STEPS}, {BATCH}, {}).to(x.dtype); ins = [x, *m.parameters()]\n\
                 f = lambda: torch.autograd.grad(m(x)[0], ins, g)",
                if case.both { 2 * case.hidden } else { case.hidden }
            ),
    )
}

pub(crate) fn rows() -> Vec<Row> {
    let lstm = |hidden| Case { gru: false, hidden, bf16: false, both: false };
    let gru = Case { gru: true, ..lstm(256) };
    let both = Case { both: true, ..lstm(256) };
    vec![
        inference(lstm(256)).quick(),
        training(lstm(256)).quick(),
        inference(lstm(512)),
        training(lstm(512)),
        inference(gru).quick(),
        training(gru).quick(),
        inference(both),
        training(both),
        inference(Case { bf16: true, ..lstm(512) }),
    ]
}
