//! The CPU backend.

pub(crate) mod conv;
mod copy;
mod derived;
mod elementwise;
pub(crate) mod f32_mode;
mod gather;
pub mod gemm;
mod index;
pub mod isa;
mod map;
mod matmul;
pub mod memory;
mod moves;
mod norm;
mod optim;
mod pool;
mod random;
mod reduce;
mod results;
mod rnn;
mod short;
pub mod simd;
mod softmax;
mod sort;
mod storage;
pub mod threads;
mod vectors;
mod walk;
mod wide;

use crate::backend::{
    AdamStep, AdamUpdate, Backend, CrossEntropy, DimMask, Distribution, ScatterMode, SgdStep, SgdUpdate,
};
use crate::op::{ArgOp, BinaryOp, CompareOp, PredicateOp, ReduceOp, ScanOp, UnaryOp};
use crate::rnn::{RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec};
use crate::{Conv, DType, Layout, Number, Pool, Result, Shape, Tensor};

/// The processor.
pub(crate) struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }
    fn memory_stats(&self) -> memory::MemoryStats {
        memory::memory_stats()
    }
    fn upload(&self, bytes: &[u8], dtype: DType, shape: Shape) -> Result<Tensor> {
        copy::upload(bytes, dtype, shape)
    }
    fn download(&self, x: &Tensor) -> Result<Vec<u8>> {
        copy::download(x)
    }
    fn full(&self, shape: Shape, dtype: DType, value: Number) -> Result<Tensor> {
        copy::full(shape, dtype, value)
    }
    fn arange(&self, n: usize, dtype: DType, start: Number, step: Number) -> Result<Tensor> {
        copy::arange(n, dtype, start, step)
    }
    fn copy(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        copy::copy(x, dtype)
    }
    fn write(&self, out: Tensor, at: &Layout, x: &Tensor) -> Result<Tensor> {
        copy::write(out, at, x)
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Result<Tensor> {
        elementwise::unary(op, x)
    }
    fn unary_into(&self, op: UnaryOp, x: Tensor) -> Result<Tensor> {
        elementwise::unary_into(op, x)
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::binary(op, a, b)
    }
    fn binary_into(&self, op: BinaryOp, a: Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::binary_into(op, a, b)
    }
    fn clamp_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        low: Option<Number>,
        high: Option<Number>,
    ) -> Result<Tensor> {
        elementwise::clamp_backward(grad, x, low, high)
    }
    fn dropout(&self, x: &Tensor, keep: f64, seed: u64, offset: u64) -> Result<(Tensor, Tensor)> {
        random::dropout(x, keep, seed, offset)
    }
    fn dropout_backward(&self, grad: &Tensor, kept: &Tensor, keep: f64) -> Result<Tensor> {
        random::dropout_backward(grad, kept, keep)
    }
    fn compare(&self, op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::compare(op, a, b)
    }
    fn predicate(&self, op: PredicateOp, x: &Tensor) -> Result<Tensor> {
        elementwise::predicate(op, x)
    }
    fn select(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::select(condition, a, b)
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor> {
        reduce::reduce(op, x, mask)
    }
    fn arg_reduce(&self, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        reduce::arg_reduce(op, x, dim)
    }
    fn scan(&self, op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        reduce::scan(op, x, dim)
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
        sort::sort(x, dim, descending)
    }
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::gather(x, dim, index)
    }
    fn scatter(
        &self,
        x: &Tensor,
        dim: usize,
        index: &Tensor,
        src: &Tensor,
        mode: ScatterMode,
    ) -> Result<Tensor> {
        index::scatter(x, dim, index, src, mode)
    }
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::index_select(x, dim, index)
    }
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        index::index_add(x, dim, index, src)
    }
    fn nonzero(&self, x: &Tensor) -> Result<Tensor> {
        index::nonzero(x)
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        matmul::matmul(a, b)
    }
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        matmul::linear(x, weight, bias)
    }
    fn int_mm(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        matmul::int_mm(a, b)
    }
    fn conv(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
        conv::conv(x, weight, bias, conv)
    }
    fn conv_fused(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        conv: &Conv,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Tensor> {
        conv::conv_fused(x, weight, bias, conv, residual, activation)
    }
    fn conv_grad_input(&self, grad: &Tensor, weight: &Tensor, input: Shape, conv: &Conv) -> Result<Tensor> {
        conv::conv_grad_input(grad, weight, input, conv)
    }
    fn conv_grad_weight(&self, grad: &Tensor, x: &Tensor, weight: Shape, conv: &Conv) -> Result<Tensor> {
        conv::conv_grad_weight(grad, x, weight, conv)
    }
    fn max_pool(&self, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
        pool::max_pool(x, pool)
    }
    fn max_pool_backward(&self, grad: &Tensor, index: &Tensor, input: Shape) -> Result<Tensor> {
        pool::max_pool_backward(grad, index, input)
    }
    fn max_pool_places(&self, x: &Tensor, pool: &Pool, places: bool) -> Result<(Tensor, Option<Tensor>)> {
        pool::max_pool_places(x, pool, places)
    }
    fn max_pool_places_backward(
        &self,
        grad: &Tensor,
        places: &Tensor,
        input: Shape,
        pool: &Pool,
    ) -> Result<Tensor> {
        pool::max_pool_places_backward(grad, places, input, pool)
    }
    fn max_pool_index(&self, places: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor> {
        pool::max_pool_index(places, input, pool)
    }
    fn adaptive_max_pool(&self, x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
        pool::adaptive_max_pool(x, output)
    }
    fn avg_pool(&self, x: &Tensor, pool: &Pool) -> Result<Tensor> {
        pool::avg_pool(x, pool)
    }
    fn avg_pool_backward(&self, grad: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor> {
        pool::avg_pool_backward(grad, input, pool)
    }
    fn adaptive_avg_pool(&self, x: &Tensor, output: Shape) -> Result<Tensor> {
        pool::adaptive_avg_pool(x, output)
    }
    fn adaptive_avg_pool_backward(&self, grad: &Tensor, input: Shape) -> Result<Tensor> {
        pool::adaptive_avg_pool_backward(grad, input)
    }
    fn rnn(&self, spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
        rnn::rnn(spec, inputs, training)
    }
    fn rnn_backward(
        &self,
        spec: RnnSpec,
        inputs: &RnnInputs,
        outputs: &RnnOutputs,
        grad_output: Option<&Tensor>,
        grad_h_n: Option<&Tensor>,
        grad_c_n: Option<&Tensor>,
    ) -> Result<RnnGrads> {
        rnn::rnn_backward(spec, inputs, outputs, grad_output, grad_h_n, grad_c_n)
    }
    fn rnn_bidirectional(
        &self,
        kind: RnnKind,
        inputs: [&RnnInputs; 2],
        training: bool,
    ) -> Result<[RnnOutputs; 2]> {
        rnn::rnn_bidirectional(kind, inputs, training)
    }
    fn rnn_bidirectional_backward(
        &self,
        kind: RnnKind,
        inputs: [&RnnInputs; 2],
        outputs: [&RnnOutputs; 2],
        grads: [RnnOutputGrads; 2],
    ) -> Result<[RnnGrads; 2]> {
        rnn::rnn_bidirectional_backward(kind, inputs, outputs, grads)
    }
    fn random(
        &self,
        distribution: Distribution,
        dtype: DType,
        shape: Shape,
        seed: u64,
        offset: u64,
    ) -> Result<Tensor> {
        random::random(distribution, dtype, shape, seed, offset)
    }
    fn unary_backward(&self, op: UnaryOp, grad: &Tensor, saved: &Tensor) -> Result<Option<Tensor>> {
        elementwise::unary_backward(op, grad, saved)
    }
    fn var_mean(&self, x: &Tensor, mask: &DimMask, correction: f64) -> Result<(Tensor, Tensor)> {
        reduce::var_mean(x, mask, correction)
    }
    fn arg_scan(&self, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        reduce::arg_scan(op, x, dim)
    }
    fn logcumsumexp(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        reduce::logcumsumexp(x, dim)
    }
    fn topk(&self, x: &Tensor, dim: usize, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
        sort::topk(x, dim, k, largest)
    }
    fn cat(&self, tensors: &[Tensor], dim: usize, shape: Shape) -> Result<Tensor> {
        copy::cat(tensors, dim, shape)
    }
    fn softmax(&self, x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
        softmax::softmax(x, dim, log)
    }
    fn softmax_backward(&self, grad: &Tensor, y: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
        softmax::softmax_backward(grad, y, dim, log)
    }
    fn cross_entropy(
        &self,
        x: &Tensor,
        target: &Tensor,
        options: &CrossEntropy,
        gradient: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        softmax::cross_entropy(x, target, options, gradient)
    }
    fn layer_norm(
        &self,
        x: &Tensor,
        dims: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        norm::layer_norm(x, dims, weight, bias, eps)
    }
    fn layer_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        norm::layer_norm_backward(grad, x, mean, rstd, weight, dims)
    }
    fn rms_norm(
        &self,
        x: &Tensor,
        dims: usize,
        weight: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        norm::rms_norm(x, dims, weight, eps)
    }
    fn rms_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor)> {
        norm::rms_norm_backward(grad, x, rstd, weight, dims)
    }
    fn group_norm(
        &self,
        x: &Tensor,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        norm::group_norm(x, groups, weight, bias, eps)
    }
    fn group_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        norm::group_norm_backward(grad, x, mean, rstd, weight)
    }
    fn batch_norm_training(
        &self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        norm::batch_norm_training(x, weight, bias, eps)
    }
    fn batch_norm_stats(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        norm::batch_norm_stats(x)
    }
    fn batch_norm_apply(
        &self,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        norm::batch_norm_apply(x, mean, rstd, weight, bias)
    }
    fn batch_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        training: bool,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        norm::batch_norm_backward(grad, x, mean, rstd, weight, training)
    }
    fn norms(&self, tensors: &[&Tensor]) -> Result<Tensor> {
        optim::norms(tensors)
    }
    fn sgd_step(&self, step: &SgdStep, clip: Option<&Tensor>, updates: &mut [SgdUpdate]) -> Result<()> {
        optim::sgd_step(step, clip, updates)
    }
    fn adam_step(&self, step: &AdamStep, clip: Option<&Tensor>, updates: &mut [AdamUpdate]) -> Result<()> {
        optim::adam_step(step, clip, updates)
    }
}
