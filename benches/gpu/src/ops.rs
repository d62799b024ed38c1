//! Ops by name: what a case computes from its tensors and numbers.

use gradus::tensor::backend::{AdamStep, AdamUpdate};
use gradus::tensor::{
    CrossEntropy, Generator, Reduction, RnnInputs, RnnKind, RnnOutputs, RnnSpec, Shape, rnn, rnn_backward,
};
use gradus::{Conv, DType, Error, Pool, Result, Tensor};

/// Computes the results of a case once.
pub type Run = Box<dyn FnMut() -> Result<Vec<Tensor>> + Send>;

/// The numbers behind the tensors of an op: strides, dims and so on.
struct Numbers<'a>(&'a [f64]);

impl Numbers<'_> {
    fn size(&self, i: usize) -> usize {
        self.0.get(i).map_or(0, |&x| x as usize)
    }

    /// Stride, padding, dilation and groups from `i` on.
    fn conv(&self, i: usize) -> Conv {
        let at = |k: usize| self.size(i + k);
        Conv::default().stride(at(0).max(1)).padding(at(1)).dilation(at(2).max(1)).groups(at(3).max(1))
    }

    fn shape(&self, i: usize) -> Shape {
        Shape::from(self.0[i..].iter().map(|&x| x as usize).collect::<Vec<_>>().as_slice())
    }
}

/// The op `name` on `x`, ready to run. The numbers of each op stand beside it.
///
/// # Errors
/// If there is no such op, it has fewer tensors than it takes, or what it prepares cannot be computed.
pub fn prepare(name: &str, x: Vec<Tensor>, numbers: &[f64]) -> Result<Run> {
    let needs = match name {
        "matmul" | "add" | "mul" | "conv2d" | "conv2d_grad_input" | "conv2d_grad_weight"
        | "cross_entropy" | "gather" | "embedding" | "cat" | "softmax_backward" | "adam" => 2,
        "linear" | "layer_norm" | "batch_norm" | "scatter_add" | "where" => 3,
        "lstm" | "lstm_both" | "gru" => 7,
        _ => 1,
    };
    if x.len() < needs {
        return Err(Error::argument("case", format!("{name} takes {needs} tensors, {} were given", x.len())));
    }
    let n = Numbers(numbers);
    let one = |y: Result<Tensor>| y.map(|y| vec![y]);
    let dim = n.0.first().map_or(-1, |&d| d as isize);
    Ok(match name {
        "matmul" => Box::new(move || one(x[0].matmul(&x[1]))),
        "linear" => Box::new(move || one(x[0].device().backend().linear(&x[0], &x[1], Some(&x[2])))),
        "add" => Box::new(move || one(x[0].add(&x[1]))),
        "mul" => Box::new(move || one(x[0].mul(&x[1]))),
        "where" => Box::new(move || one(x[0].select_from(&x[1], &x[2]))),
        "relu" => Box::new(move || one(x[0].relu())),
        "gelu" => Box::new(move || one(x[0].gelu())),
        "exp" => Box::new(move || one(x[0].exp())),
        "tanh" => Box::new(move || one(x[0].tanh())),
        "copy" => Box::new(move || one(x[0].copy())),
        "transpose" => Box::new(move || one(x[0].transpose(-1, -2)?.copy())),
        "to_bf16" => Box::new(move || one(x[0].to_dtype(DType::BF16))),
        "sum_all" => Box::new(move || one(x[0].sum_all())),
        // dim
        "sum" => Box::new(move || one(x[0].sum(dim, false))),
        "amax" => Box::new(move || one(x[0].amax(dim, false))),
        "argmax" => Box::new(move || one(x[0].argmax(dim, false))),
        "cumsum" => Box::new(move || one(x[0].cumsum(dim))),
        "softmax" => Box::new(move || one(x[0].softmax(dim))),
        "log_softmax" => Box::new(move || one(x[0].log_softmax(dim))),
        "softmax_backward" => Box::new(move || one(x[0].softmax_backward(&x[1], dim, false))),
        "sort" => Box::new(move || x[0].sort(dim, false).map(|(values, places)| vec![values, places])),
        // dim, k
        "topk" => {
            let k = n.size(1);
            Box::new(move || x[0].topk(k, dim, true).map(|(values, places)| vec![values, places]))
        }
        "gather" => Box::new(move || one(x[0].gather(dim, &x[1]))),
        "scatter_add" => Box::new(move || one(x[0].scatter_add(dim, &x[1], &x[2]))),
        "embedding" => Box::new(move || one(x[0].embedding(&x[1]))),
        "cat" => Box::new(move || one(Tensor::cat(&x, dim))),
        "cross_entropy" => Box::new(move || {
            let options = CrossEntropy {
                weight: None,
                ignore_index: -100,
                label_smoothing: 0.0,
                reduction: Reduction::Mean,
            };
            let (loss, gradient) = x[0].cross_entropy(&x[1], &options, true)?;
            Ok([Some(loss), gradient].into_iter().flatten().collect())
        }),
        "layer_norm" => Box::new(move || one(x[0].layer_norm(x[1].dims(), Some(&x[1]), Some(&x[2]), 1e-5))),
        "batch_norm" => {
            Box::new(move || x[0].batch_norm_training(Some(&x[1]), Some(&x[2]), 1e-5).map(|(y, ..)| vec![y]))
        }
        "dropout" => {
            let mut generator = Generator::new(1);
            Box::new(move || x[0].dropout(0.5, &mut generator).map(|(y, kept)| vec![y, kept]))
        }
        // stride, padding, dilation, groups
        "conv2d" => {
            let conv = n.conv(0);
            Box::new(move || one(x[0].conv2d(&x[1], x.get(2), &conv)))
        }
        // ..., shape of the input
        "conv2d_grad_input" => {
            let (conv, shape) = (n.conv(0), n.shape(4));
            Box::new(move || one(x[0].conv_grad_input(&x[1], shape, &conv)))
        }
        // ..., shape of the weight
        "conv2d_grad_weight" => {
            let (conv, shape) = (n.conv(0), n.shape(4));
            Box::new(move || one(x[0].conv_grad_weight(&x[1], shape, &conv)))
        }
        // side of the window, stride, padding
        "max_pool2d" | "avg_pool2d" => {
            let pool = Pool::new(n.size(0).max(1)).stride(n.size(1).max(1)).padding(n.size(2));
            let max = name == "max_pool2d";
            Box::new(move || one(if max { x[0].max_pool2d(pool) } else { x[0].avg_pool2d(pool) }))
        }
        "lstm" => {
            let inputs = recurrent(x, RnnKind::Lstm);
            Box::new(move || one(rnn(LSTM, &inputs, false).map(|outputs| outputs.output)))
        }
        "gru" => {
            let inputs = recurrent(x, RnnKind::Gru);
            let spec = RnnSpec { kind: RnnKind::Gru, reverse: false };
            Box::new(move || one(rnn(spec, &inputs, false).map(|outputs| outputs.output)))
        }
        "lstm_both" => {
            let inputs = recurrent(x, RnnKind::Lstm);
            Box::new(move || both(&inputs))
        }
        // The state is of its own, so that it changes in place.
        "adam" => {
            let (mut param, grad) = (x[0].copy()?, x[1].clone());
            let (mut mean, mut square) = (param.zeros_like()?, param.zeros_like()?);
            let step = AdamStep {
                lr: 1e-3,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.01,
                decoupled: true,
                step: 10,
                grad_scale: 1.0,
            };
            Box::new(move || {
                let device = param.device().clone();
                let update =
                    AdamUpdate { param: &mut param, grad: &grad, mean: &mut mean, square: &mut square };
                device.backend().adam_step(&step, None, &mut [update])?;
                Ok(vec![])
            })
        }
        _ => return Err(Error::argument("case", format!("no op is called {name}"))),
    })
}

const LSTM: RnnSpec = RnnSpec { kind: RnnKind::Lstm, reverse: false };

/// `x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh`; a GRU looks at no `c0`.
fn recurrent(mut x: Vec<Tensor>, kind: RnnKind) -> RnnInputs {
    x.truncate(7);
    let mut next = x.into_iter();
    let mut take = || next.next().expect("counted before");
    let (x, h0, c0) = (take(), take(), take());
    let (weight_ih, weight_hh) = (take(), take());
    let (bias_ih, bias_hh) = (Some(take()), Some(take()));
    RnnInputs { x, h0, c0: (kind == RnnKind::Lstm).then_some(c0), weight_ih, weight_hh, bias_ih, bias_hh }
}

/// Forward, and the gradients of all inputs for a gradient of ones.
fn both(inputs: &RnnInputs) -> Result<Vec<Tensor>> {
    let outputs: RnnOutputs = rnn(LSTM, inputs, true)?;
    let ones = outputs.output.ones_like()?;
    let grads = rnn_backward(LSTM, inputs, &outputs, Some(&ones), None, None)?;
    Ok(vec![outputs.output, grads.x, grads.weight_ih, grads.weight_hh])
}
