//! What a device must be able to do: one method per kernel family, never one per op.
//!
//! *Required* methods are the contract. *Provided* ones are the speed: fused kernels whose default bodies, in
//! [`crate::composed`], are made of required ones; a backend overrides them when it has a kernel, and the contract
//! suite in `testing` compares the two.
//!
//! The public functions on [`Tensor`] check shapes, dtypes and devices before they come here: a backend may rely on
//! operands being on its device, of the documented shapes and dtypes. It must take every layout. Where a result has
//! a natural memory order (channels-last), the backend is free to choose it.

use crate::op::{ArgOp, BinaryOp, CompareOp, PredicateOp, ReduceOp, ScanOp, UnaryOp};
pub use crate::rnn::{RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec};
use crate::shape::MAX_RANK;
use crate::{Conv, DType, Layout, MemoryStats, Number, Pool, Result, Shape, Tensor, composed};

/// One flag per dim.
pub type DimMask = [bool; MAX_RANK];

/// How [`Backend::scatter`] combines what it writes with what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScatterMode {
    /// Overwrites; of several writes to one place the last in row-major order stays.
    Set,
    /// Adds, in row-major order.
    Add,
}

/// Which numbers [`Backend::random`] draws.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Distribution {
    /// Uniform in `[low, high)`.
    Uniform {
        /// Least value.
        low: f64,
        /// Bound above.
        high: f64,
    },
    /// Normal.
    Normal {
        /// Mean.
        mean: f64,
        /// Standard deviation.
        std: f64,
    },
    /// 1 with probability `p`, else 0.
    Bernoulli {
        /// Probability of 1.
        p: f64,
    },
    /// Integers in `[low, high)`.
    Integers {
        /// Least value.
        low: i64,
        /// Bound above.
        high: i64,
    },
}

/// Hyperparameters of an SGD step, PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Momentum factor.
    pub momentum: f64,
    /// How much of the gradient momentum ignores.
    pub dampening: f64,
    /// L2 penalty.
    pub weight_decay: f64,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Whether this is the first step, which starts the momentum at the gradient itself.
    pub first: bool,
    /// Factor on the gradient: -1 goes up instead of down.
    pub grad_scale: f64,
}

/// A parameter in an SGD step.
#[derive(Debug)]
pub struct SgdUpdate<'a> {
    /// The parameter, which changes.
    pub param: &'a mut Tensor,
    /// Its gradient, of the same shape.
    pub grad: &'a Tensor,
    /// Its momentum, of the same shape and dtype, which changes; absent without momentum.
    pub momentum: Option<&'a mut Tensor>,
}

/// Hyperparameters of an Adam or AdamW step, PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter (AdamW) instead of being added to the gradient (Adam).
    pub decoupled: bool,
    /// Number of this step, from 1.
    pub step: u64,
    /// Factor on the gradient: -1 goes up instead of down.
    pub grad_scale: f64,
}

/// A parameter in an Adam or AdamW step; its means have its shape and dtype.
#[derive(Debug)]
pub struct AdamUpdate<'a> {
    /// The parameter, which changes.
    pub param: &'a mut Tensor,
    /// Its gradient, of the same shape.
    pub grad: &'a Tensor,
    /// The mean of gradients, which changes.
    pub mean: &'a mut Tensor,
    /// The mean of squared gradients, which changes.
    pub square: &'a mut Tensor,
}

/// How the losses of single elements become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reduction {
    /// Not at all.
    None,
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// Options of a cross-entropy, PyTorch's names.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    /// A factor for each class, `[c]`.
    pub weight: Option<&'a Tensor>,
    /// Rows of this class count for nothing.
    pub ignore_index: i64,
    /// This share of the target is spread evenly over all classes.
    pub label_smoothing: f64,
    /// The mean is over the weights of the rows that count.
    pub reduction: Reduction,
}

/// A device's kernels.
pub trait Backend: Send + Sync + 'static {
    /// `cpu`, `cuda:0`, …
    fn name(&self) -> &str;

    /// Waits until everything that was asked is done.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    /// Whether this thread's work is only recorded, to be repeated later: what one step leaves for the next must then be
    /// changed in place, and nothing may wait for a result.
    fn is_capturing(&self) -> bool {
        false
    }

    /// Live, peak and cached bytes.
    fn memory_stats(&self) -> MemoryStats;

    // --- memory ---

    /// A row-major tensor of these bytes (native byte order).
    fn upload(&self, bytes: &[u8], dtype: DType, shape: Shape) -> Result<Tensor>;

    /// The bytes of a tensor in row-major order.
    fn download(&self, x: &Tensor) -> Result<Vec<u8>>;

    /// A row-major tensor with every element `value`.
    fn full(&self, shape: Shape, dtype: DType, value: Number) -> Result<Tensor>;

    /// `start + i · step`, `[n]`.
    fn arange(&self, n: usize, dtype: DType, start: Number, step: Number) -> Result<Tensor>;

    /// A row-major copy, converted to `dtype`.
    fn copy(&self, x: &Tensor, dtype: DType) -> Result<Tensor>;

    /// Writes `x` into the elements of `out` that `at` selects; `at` has the shape and `out` the dtype of `x`, and no
    /// two elements of `at` coincide. Copies `out` first if it is shared.
    fn write(&self, out: Tensor, at: &Layout, x: &Tensor) -> Result<Tensor>;

    // --- elementwise: results keep the memory order of their (first dense) operand ---

    /// `op(x)`.
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Result<Tensor>;

    /// `op(x)` into the memory of `x` where nobody else holds it, else as [`unary`](Self::unary).
    fn unary_into(&self, op: UnaryOp, x: Tensor) -> Result<Tensor> {
        self.unary(op, &x)
    }

    /// `op(a, b)` of equal shapes and dtypes.
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// `op(a, b)` into `a`'s memory where nobody else holds it, else as [`binary`](Self::binary).
    fn binary_into(&self, op: BinaryOp, a: Tensor, b: &Tensor) -> Result<Tensor> {
        self.binary(op, &a, b)
    }

    /// `op(a, b)` of equal shapes and dtypes, as bools.
    fn compare(&self, op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// `op(x)`, as bools.
    fn predicate(&self, op: PredicateOp, x: &Tensor) -> Result<Tensor>;

    /// `a` where `condition` (bool), else `b`; equal shapes.
    fn select(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    // --- along dims ---

    /// Reduces the dims in `mask`, which stay with extent 1.
    fn reduce(&self, op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor>;

    /// The index of the extreme along `dim` (the first of equals, NaN wins), which stays with extent 1; `int64`.
    fn arg_reduce(&self, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor>;

    /// Running totals along `dim`.
    fn scan(&self, op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor>;

    /// Stable sort along `dim`: values and `int64` indices. NaN is the largest.
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)>;

    // --- indexing: indices are int64 and checked ---

    /// `out[…, j, …] = x[…, index[…, j, …], …]` along `dim`; `index` has the shape of the result.
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor>;

    /// `out[…, index[…, j, …], …] (=|+=) src[…, j, …]` along `dim`, from a copy of `x`; `src` has the shape of `index`.
    fn scatter(
        &self,
        x: &Tensor,
        dim: usize,
        index: &Tensor,
        src: &Tensor,
        mode: ScatterMode,
    ) -> Result<Tensor>;

    /// `out[…, j, …] = x[…, index[j], …]` along `dim`; `index` is `[k]`.
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor>;

    /// `out[…, index[j], …] += src[…, j, …]` along `dim`, from a copy of `x`, in order of `j`.
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor) -> Result<Tensor>;

    /// Positions of non-zero elements in row-major order, `int64` `[count, rank]`.
    fn nonzero(&self, x: &Tensor) -> Result<Tensor>;

    // --- products ---

    /// `[…, m, k] · […, k, n] -> […, m, n]` over equal leading dims (strides may be 0).
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// `[n, c, spatial…] ∗ [o, c / groups, kernel…] (+ [o]) -> [n, o, spatial…]`: cross-correlation, as everywhere
    /// in this field.
    fn conv(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor>;

    /// The gradient of [`conv`](Self::conv) in `x`, which had shape `input`: also the transposed convolution.
    fn conv_grad_input(&self, grad: &Tensor, weight: &Tensor, input: Shape, conv: &Conv) -> Result<Tensor>;

    /// The gradient of [`conv`](Self::conv) in `weight`, which had shape `weight`.
    fn conv_grad_weight(&self, grad: &Tensor, x: &Tensor, weight: Shape, conv: &Conv) -> Result<Tensor>;

    // --- windows: inputs are [n, c, spatial…] with one to three spatial dims ---

    /// The largest of each window and its flat `int64` index in the spatial plane. NaN wins.
    fn max_pool(&self, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)>;

    /// The mean of each window.
    fn avg_pool(&self, x: &Tensor, pool: &Pool) -> Result<Tensor>;

    /// The gradient of [`avg_pool`](Self::avg_pool) for an input of shape `input`.
    fn avg_pool_backward(&self, grad: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor>;

    /// The mean of windows from `⌊i·size/out⌋` to `⌈(i+1)·size/out⌉`; `output` is the shape of the result.
    fn adaptive_avg_pool(&self, x: &Tensor, output: Shape) -> Result<Tensor>;

    /// The gradient of [`adaptive_avg_pool`](Self::adaptive_avg_pool) for an input of shape `input`.
    fn adaptive_avg_pool_backward(&self, grad: &Tensor, input: Shape) -> Result<Tensor>;

    /// Adds each element of `grad` to the place of the plane that `index` (from [`max_pool`](Self::max_pool)) names,
    /// in an input of shape `input`.
    fn max_pool_backward(&self, grad: &Tensor, index: &Tensor, input: Shape) -> Result<Tensor>;

    // --- random ---

    /// Element `i` of the row-major result depends on `seed` and `offset + i` alone, so that every device and every
    /// number of threads draws the same; see [`crate::random`].
    fn random(
        &self,
        distribution: Distribution,
        dtype: DType,
        shape: Shape,
        seed: u64,
        offset: u64,
    ) -> Result<Tensor>;

    // --- provided: fused kernels ---

    /// The gradient of a unary op in one pass: from that of its result and from its input or its result, whichever
    /// [`UnaryOp::dispatch_gradient`] takes. `None` if there is no kernel: `autograd` then composes it.
    fn unary_backward(&self, _op: UnaryOp, _grad: &Tensor, _saved: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `min(max(x, low), high)` with bounds of the dtype of `x`; an absent bound does not bind, and NaN stays NaN.
    fn clamp(&self, x: &Tensor, low: Option<Number>, high: Option<Number>) -> Result<Tensor> {
        composed::clamp(x, low, high)
    }

    /// The gradient of [`clamp`](Self::clamp): `grad` where `low < x < high`, else 0.
    fn clamp_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        low: Option<Number>,
        high: Option<Number>,
    ) -> Result<Tensor> {
        composed::clamp_backward(grad, x, low, high)
    }

    /// `x / keep` with probability `keep`, else `x · 0`, and which elements were kept, as bools. Element `i` in row-major
    /// order is kept where [`random`](Self::random) draws 1 with that probability.
    fn dropout(&self, x: &Tensor, keep: f64, seed: u64, offset: u64) -> Result<(Tensor, Tensor)> {
        composed::dropout(x, keep, seed, offset)
    }

    /// The gradient of [`dropout`](Self::dropout): `grad / keep` where it kept, else `grad · 0`.
    fn dropout_backward(&self, grad: &Tensor, kept: &Tensor, keep: f64) -> Result<Tensor> {
        composed::dropout_backward(grad, kept, keep)
    }

    /// The variance over the dims in `mask`, squared distances from the mean over `n - correction`, and the mean; the dims
    /// stay with extent 1.
    fn var_mean(&self, x: &Tensor, mask: &DimMask, correction: f64) -> Result<(Tensor, Tensor)> {
        composed::var_mean(x, mask, correction)
    }

    /// The index of the extreme so far along `dim`, `int64`: the last of equals, the last NaN if there is one.
    fn arg_scan(&self, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        composed::arg_scan(op, x, dim)
    }

    /// `log Σ e^x` of the elements so far along `dim`.
    fn logcumsumexp(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        composed::logcumsumexp(x, dim)
    }

    /// The first `k` of [`sort`](Self::sort).
    fn topk(&self, x: &Tensor, dim: usize, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
        composed::topk(x, dim, k, largest)
    }

    /// The tensors one after the other along `dim`; `shape` is that of the result.
    fn cat(&self, tensors: &[Tensor], dim: usize, shape: Shape) -> Result<Tensor> {
        composed::cat(tensors, dim, shape)
    }

    /// The largest of each window as [`max_pool`](Self::max_pool) and, if asked for, where it stands in whatever form suits the
    /// backend: what [`max_pool_places_backward`](Self::max_pool_places_backward) takes.
    fn max_pool_places(&self, x: &Tensor, pool: &Pool, places: bool) -> Result<(Tensor, Option<Tensor>)> {
        let (y, index) = self.max_pool(x, pool)?;
        Ok((y, places.then_some(index)))
    }

    /// As [`max_pool_backward`](Self::max_pool_backward), with places in place of indices.
    fn max_pool_places_backward(
        &self,
        grad: &Tensor,
        places: &Tensor,
        input: Shape,
        _pool: &Pool,
    ) -> Result<Tensor> {
        self.max_pool_backward(grad, places, input)
    }

    /// The flat `int64` indices that places stand for.
    fn max_pool_index(&self, places: &Tensor, _input: Shape, _pool: &Pool) -> Result<Tensor> {
        Ok(places.clone())
    }

    /// The largest of windows from `⌊i·size/out⌋` to `⌈(i+1)·size/out⌉` and its flat `int64` index in the plane.
    fn adaptive_max_pool(&self, x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
        composed::adaptive_max_pool(x, output)
    }

    /// `softmax(x)` along `dim`; `log` for its logarithm.
    fn softmax(&self, x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
        composed::softmax(x, dim, log)
    }

    /// The gradient of [`softmax`](Self::softmax) given its result `y`.
    fn softmax_backward(&self, grad: &Tensor, y: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
        composed::softmax_backward(grad, y, dim, log)
    }

    /// The loss of logits `[n, c, …]` for `int64` classes `[n, …]`, which are checked; with `gradient` also its gradient
    /// in `x`, or where losses are not reduced that of each in its own logits.
    fn cross_entropy(
        &self,
        x: &Tensor,
        target: &Tensor,
        options: &CrossEntropy,
        gradient: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        composed::cross_entropy(x, target, options, gradient)
    }

    /// Normalises over the last `dims` dims: `(y, mean, rstd)`, the latter two of the leading shape followed by ones.
    /// `weight` and `bias` have the shape of those dims.
    fn layer_norm(
        &self,
        x: &Tensor,
        dims: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        composed::layer_norm(x, dims, weight, bias, eps)
    }

    /// Gradients of [`layer_norm`](Self::layer_norm) in `x`, `weight` and `bias`.
    fn layer_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        composed::layer_norm_backward(grad, x, mean, rstd, weight, dims)
    }

    /// `x / √(mean(x²) + eps) · weight` over the last `dims` dims: `(y, rstd)`, the latter of the leading shape followed by
    /// ones. `weight` has the shape of those dims.
    fn rms_norm(
        &self,
        x: &Tensor,
        dims: usize,
        weight: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        composed::rms_norm(x, dims, weight, eps)
    }

    /// Gradients of [`rms_norm`](Self::rms_norm) in `x` and `weight`.
    fn rms_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor)> {
        composed::rms_norm_backward(grad, x, rstd, weight, dims)
    }

    /// Normalises each of `groups` groups of channels of every element of `[n, c, …]`: `(y, mean, rstd)`, the latter two
    /// `[n, groups]`. `weight` and `bias` are `[c]`.
    fn group_norm(
        &self,
        x: &Tensor,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        composed::group_norm(x, groups, weight, bias, eps)
    }

    /// Gradients of [`group_norm`](Self::group_norm) in `x`, `weight` and `bias`.
    fn group_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        composed::group_norm_backward(grad, x, mean, rstd, weight)
    }

    /// Normalises each channel of `[n, c, …]` by its own statistics: `(y, mean, biased variance, rstd)`, the latter three
    /// `[c]`, in the accumulator's dtype.
    fn batch_norm_training(
        &self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        composed::batch_norm_training(x, weight, bias, eps)
    }

    /// Mean and biased variance of each channel of `[n, c, …]`: `([c], [c])`.
    fn batch_norm_stats(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        composed::batch_norm_stats(x)
    }

    /// `(x - mean) · rstd · weight + bias` per channel of `[n, c, …]`; all of them `[c]`.
    fn batch_norm_apply(
        &self,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        composed::batch_norm_apply(x, mean, rstd, weight, bias)
    }

    /// Gradients of batch normalisation in `x`, `weight` and `bias`. With `training`, mean and rstd depend on `x`.
    fn batch_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        training: bool,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        composed::batch_norm_backward(grad, x, mean, rstd, weight, training)
    }

    /// `activation(x ∗ weight + bias + residual)`, for inference; the residual has the shape of the result.
    fn conv_fused(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Tensor> {
        composed::conv_fused(x, weight, bias, conv, residual, activation)
    }

    /// `x · weightᵀ + bias`: `[…, in] · [out, in] (+ [out]) -> […, out]`.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        composed::linear(x, weight, bias)
    }

    /// `activation(x · weightᵀ + bias + residual)`, for inference; the residual has the shape of the result.
    fn linear_fused(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Tensor> {
        composed::linear_fused(x, weight, bias, residual, activation)
    }

    /// `[m, k] · [k, n]` of bytes, `int8` or `uint8` each, in `int32`, whose sums wrap.
    fn int_mm(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        composed::int_mm(a, b)
    }

    /// One layer and direction of a recurrent network over a whole sequence; `training` asks for what
    /// [`rnn_backward`](Self::rnn_backward) needs to be [`saved`](RnnOutputs::saved).
    fn rnn(&self, spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
        composed::rnn(spec, inputs, training)
    }

    /// The gradients of [`rnn`](Self::rnn), from those of its outputs; an absent one is zero.
    fn rnn_backward(
        &self,
        spec: RnnSpec,
        inputs: &RnnInputs,
        outputs: &RnnOutputs,
        grad_output: Option<&Tensor>,
        grad_h_n: Option<&Tensor>,
        grad_c_n: Option<&Tensor>,
    ) -> Result<RnnGrads> {
        composed::rnn_backward(spec, inputs, outputs, grad_output, grad_h_n, grad_c_n)
    }

    /// Two layers of a kind over the same steps, the first forwards and the second in reverse: [`rnn`](Self::rnn) of each, in any
    /// order or at once.
    fn rnn_bidirectional(
        &self,
        kind: RnnKind,
        inputs: [&RnnInputs; 2],
        training: bool,
    ) -> Result<[RnnOutputs; 2]> {
        let run = |i: usize| self.rnn(RnnSpec { kind, reverse: i == 1 }, inputs[i], training);
        Ok([run(0)?, run(1)?])
    }

    /// The gradients of [`rnn_bidirectional`](Self::rnn_bidirectional).
    fn rnn_bidirectional_backward(
        &self,
        kind: RnnKind,
        inputs: [&RnnInputs; 2],
        outputs: [&RnnOutputs; 2],
        grads: [RnnOutputGrads; 2],
    ) -> Result<[RnnGrads; 2]> {
        let run = |i: usize| {
            let RnnOutputGrads { output, h_n, c_n } = grads[i];
            self.rnn_backward(RnnSpec { kind, reverse: i == 1 }, inputs[i], outputs[i], output, h_n, c_n)
        };
        Ok([run(0)?, run(1)?])
    }

    /// The 2-norm of each of at least one tensors of one dtype, of floats: `[n]`, in the accumulator's dtype.
    fn norms(&self, tensors: &[&Tensor]) -> Result<Tensor> {
        composed::norms(tensors)
    }

    /// An SGD step of all of `updates`, whose parameters are of one dtype, in place where nobody else holds the tensors.
    /// After an error all of them are as they were.
    ///
    /// Gradients are converted to the dtype of the parameters and multiplied by `clip` first, if there is one: no dims, of the
    /// accumulator's dtype and on this device, so that a factor computed there needs no way through the host.
    fn sgd_step(&self, step: &SgdStep, clip: Option<&Tensor>, updates: &mut [SgdUpdate]) -> Result<()> {
        composed::sgd_step(step, clip, updates)
    }

    /// An Adam or AdamW step of all of `updates`; everything else is as for [`sgd_step`](Self::sgd_step).
    fn adam_step(&self, step: &AdamStep, clip: Option<&Tensor>, updates: &mut [AdamUpdate]) -> Result<()> {
        composed::adam_step(step, clip, updates)
    }
}
