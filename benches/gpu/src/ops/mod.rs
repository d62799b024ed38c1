//! Ops by name: what a case computes from its tensors and numbers.

mod layers;
mod recurrent;
mod steps;

use gradus::tensor::op::UnaryOp;
use gradus::tensor::{F32Mode, Generator, Shape, with_f32_mode};
use gradus::{Conv, DType, Error, Pool, Result, Tensor};

/// Computes the results of a case once.
pub type Run = Box<dyn FnMut() -> Result<Vec<Tensor>> + Send>;

/// The numbers behind the tensors of an op: strides, dims and so on.
struct Numbers<'a>(&'a [f64]);

impl Numbers<'_> {
    fn size(&self, i: usize) -> usize {
        self.0.get(i).map_or(0, |&x| x as usize)
    }

    /// A dim; the last unless it is there.
    fn dim(&self, i: usize) -> isize {
        self.0.get(i).map_or(-1, |&d| d as isize)
    }

    /// Stride, padding, dilation and groups from `i` on.
    fn conv(&self, i: usize) -> Conv {
        let at = |k: usize| self.size(i + k);
        Conv::default().stride(at(0).max(1)).padding(at(1)).dilation(at(2).max(1)).groups(at(3).max(1))
    }

    /// The side of a window, stride and padding from `i` on.
    fn pool(&self, i: usize) -> Pool {
        Pool::new(self.size(i).max(1)).stride(self.size(i + 1).max(1)).padding(self.size(i + 2))
    }

    fn shape(&self, i: usize) -> Shape {
        Shape::from(self.0[i..].iter().map(|&x| x as usize).collect::<Vec<_>>().as_slice())
    }
}

/// One result.
fn one(y: Result<Tensor>) -> Result<Vec<Tensor>> {
    y.map(|y| vec![y])
}

/// Two results.
fn two(y: Result<(Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    y.map(|(a, b)| vec![a, b])
}

/// Three results.
fn three(y: Result<(Tensor, Tensor, Tensor)>) -> Result<Vec<Tensor>> {
    y.map(|(a, b, c)| vec![a, b, c])
}

/// The op `name` on `x`, ready to run. The numbers of each op stand beside it. `matmul:fast` is `matmul` in that [`F32Mode`].
///
/// # Errors
/// If there is no such op or mode, the op has fewer tensors than it takes, or what it prepares cannot be computed.
pub fn prepare(name: &str, x: Vec<Tensor>, numbers: &[f64]) -> Result<Run> {
    if let Some((name, mode)) = name.split_once(':') {
        let mode: F32Mode = mode.parse().map_err(|e| Error::argument("case", format!("{e}")))?;
        let mut run = prepare(name, x, numbers)?;
        return Ok(Box::new(move || with_f32_mode(mode, &mut run)));
    }
    let needs = match name {
        "matmul" | "int_mm" | "add" | "mul" | "gelu_backward" | "clamp_backward" | "dropout_backward"
        | "conv" | "conv_grad_input" | "conv_grad_weight" | "cross_entropy" | "gather" | "embedding"
        | "embedding_backward" | "cat" | "softmax_backward" | "rms_norm" | "adam" | "sgd" => 2,
        "linear" | "layer_norm" | "batch_norm" | "group_norm" | "scatter_add" | "where" => 3,
        "rms_norm_backward" => 4,
        "layer_norm_backward" | "batch_norm_backward" | "group_norm_backward" => 5,
        "lstm" | "lstm_both" | "gru" | "gru_both" => 7,
        _ => 1,
    };
    if x.len() < needs {
        return Err(Error::argument("case", format!("{name} takes {needs} tensors, {} were given", x.len())));
    }
    let n = Numbers(numbers);
    if let Some(run) = layers::prepare(name, &x, &n)? {
        return Ok(run);
    }
    if let Some(run) = steps::prepare(name, &x)? {
        return Ok(run);
    }
    if let Some(run) = recurrent::prepare(name, &x) {
        return Ok(run);
    }
    let dim = n.dim(0);
    Ok(match name {
        "matmul" => Box::new(move || one(x[0].matmul(&x[1]))),
        // The right-hand side transposed.
        "int_mm" => Box::new(move || one(x[0].int_mm(&x[1].t()?))),
        "linear" => Box::new(move || one(x[0].device().backend().linear(&x[0], &x[1], Some(&x[2])))),
        "add" => Box::new(move || one(x[0].add(&x[1]))),
        "mul" => Box::new(move || one(x[0].mul(&x[1]))),
        "where" => Box::new(move || one(x[0].select_from(&x[1], &x[2]))),
        "relu" => Box::new(move || one(x[0].relu())),
        "gelu" => Box::new(move || one(x[0].gelu())),
        // The gradient, and what it was computed from.
        "gelu_backward" => Box::new(move || {
            let gradient = x[0].unary_backward(UnaryOp::Gelu, &x[1])?;
            gradient
                .map(|y| vec![y])
                .ok_or_else(|| Error::argument("gelu_backward", "the device has no kernel"))
        }),
        "clamp" => Box::new(move || one(x[0].clamp(Some(-0.5), Some(0.5)))),
        // The gradient, and the input.
        "clamp_backward" => Box::new(move || one(x[0].clamp_backward(&x[1], Some(-0.5), Some(0.5)))),
        "exp" => Box::new(move || one(x[0].exp())),
        "tanh" => Box::new(move || one(x[0].tanh())),
        "copy" => Box::new(move || one(x[0].copy())),
        "transpose" => Box::new(move || one(x[0].transpose(-1, -2)?.copy())),
        "to_bf16" => Box::new(move || one(x[0].to_dtype(DType::BF16))),
        "cat" => Box::new(move || one(Tensor::cat(&x, dim))),
        "sum_all" => Box::new(move || one(x[0].sum_all())),
        // dim
        "sum" => Box::new(move || one(x[0].sum(dim, false))),
        "amax" => Box::new(move || one(x[0].amax(dim, false))),
        "argmax" => Box::new(move || one(x[0].argmax(dim, false))),
        "var_mean" => Box::new(move || two(x[0].var_mean(dim, 1, false))),
        "cumsum" => Box::new(move || one(x[0].cumsum(dim))),
        "cummax" => Box::new(move || two(x[0].cummax(dim))),
        "logcumsumexp" => Box::new(move || one(x[0].logcumsumexp(dim))),
        "sort" => Box::new(move || two(x[0].sort(dim, false))),
        // dim, k
        "topk" => {
            let k = n.size(1);
            Box::new(move || two(x[0].topk(k, dim, true)))
        }
        "gather" => Box::new(move || one(x[0].gather(dim, &x[1]))),
        "scatter_add" => Box::new(move || one(x[0].scatter_add(dim, &x[1], &x[2]))),
        "embedding" => Box::new(move || one(x[0].embedding(&x[1]))),
        // The gradient, the indices; how many rows the table has.
        "embedding_backward" => {
            let table = [n.size(0), x[0].dims()[1]];
            Box::new(move || {
                one(Tensor::zeros(table, (x[0].dtype(), x[0].device()))?.index_add(0, &x[1], &x[0]))
            })
        }
        "nonzero" => Box::new(move || one(x[0].nonzero())),
        "dropout" => {
            let mut generator = Generator::new(1);
            Box::new(move || two(x[0].dropout(0.5, &mut generator)))
        }
        // The gradient, and what was kept.
        "dropout_backward" => Box::new(move || one(x[0].dropout_backward(&x[1], 0.5))),
        // As many normal numbers as there are elements.
        "randn" => Box::new(move || one(Tensor::randn(x[0].dims(), (x[0].dtype(), x[0].device())))),
        _ => return Err(Error::argument("case", format!("no op is called {name}"))),
    })
}
