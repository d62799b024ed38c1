//! A GPU as a device for tensors: `impl Backend`, one file for each kernel family.

mod channels;
pub(crate) mod conv;
mod copy;
mod derived;
mod elementwise;
pub(crate) mod gemm;
mod index;
mod lines;
mod loss;
mod moments;
mod names;
pub(crate) mod norm;
pub(crate) mod optim;
mod pool;
mod random;
mod reduce;
pub(crate) mod rnn;
mod scan;
mod softmax;
mod sort;
pub(crate) mod storage;
pub(crate) mod walk;
pub(crate) mod windows;

use tensor::backend::{AdamStep, AdamUpdate, DimMask, RnnOutputGrads, ScatterMode, SgdStep, SgdUpdate};
use tensor::op::{ArgOp, BinaryOp, CompareOp, PredicateOp, ReduceOp, ScanOp, UnaryOp};
use tensor::{
    Backend, Conv, CrossEntropy, DType, Device, Distribution, Layout, MemoryStats, Number, Pool, Result,
    RnnGrads, RnnInputs, RnnKind, RnnOutputs, RnnSpec, Shape, Tensor, composed,
};

use crate::gpu::{Gpu, gpu};

/// The device of GPU `index`.
pub(crate) fn device(index: usize) -> Result<Device> {
    let gpu = gpu(index)?;
    Ok(gpu.device.get_or_init(|| Device::new(Cuda(gpu))).clone())
}

/// Writes `value` into the memory of `x`, of the same shape, dtype and device, whoever else sees that memory.
pub(crate) fn overwrite(gpu: &'static Gpu, x: &Tensor, value: &Tensor) -> Result<()> {
    // What is read must not lie in what is written.
    let value = value.copy()?;
    storage::changes(x);
    copy::relocate(gpu, storage::operand(x), storage::operand(&value), x.dtype())
}

/// A GPU.
struct Cuda(&'static Gpu);

impl Backend for Cuda {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn synchronize(&self) -> Result<()> {
        self.0.not_captured("waiting for the GPU")?;
        Ok(self.0.stream.synchronize()?)
    }
    fn is_capturing(&self) -> bool {
        self.0.captures.here()
    }
    fn memory_stats(&self) -> MemoryStats {
        self.0.pool.stats()
    }
    fn upload(&self, bytes: &[u8], dtype: DType, shape: Shape) -> Result<Tensor> {
        copy::upload(self.0, bytes, dtype, shape)
    }
    fn download(&self, x: &Tensor) -> Result<Vec<u8>> {
        copy::download(self.0, x)
    }
    fn full(&self, shape: Shape, dtype: DType, value: Number) -> Result<Tensor> {
        copy::full(self.0, Layout::contiguous(shape), dtype, value)
    }
    fn arange(&self, n: usize, dtype: DType, start: Number, step: Number) -> Result<Tensor> {
        copy::arange(self.0, n, dtype, start, step)
    }
    fn copy(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        copy::copy(self.0, x, dtype)
    }
    fn write(&self, out: Tensor, at: &Layout, x: &Tensor) -> Result<Tensor> {
        copy::write(self.0, out, at, x)
    }
    fn cat(&self, tensors: &[Tensor], dim: usize, shape: Shape) -> Result<Tensor> {
        copy::cat(self.0, tensors, dim, shape)
    }
    fn unary(&self, op: UnaryOp, x: &Tensor) -> Result<Tensor> {
        elementwise::unary(self.0, op, x)
    }
    fn unary_into(&self, op: UnaryOp, x: Tensor) -> Result<Tensor> {
        elementwise::unary_into(self.0, op, x)
    }
    fn unary_backward(&self, op: UnaryOp, grad: &Tensor, saved: &Tensor) -> Result<Option<Tensor>> {
        elementwise::unary_backward(self.0, op, grad, saved)
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::binary(self.0, op, a, b)
    }
    fn binary_into(&self, op: BinaryOp, a: Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::binary_into(self.0, op, a, b)
    }
    fn clamp(&self, x: &Tensor, low: Option<Number>, high: Option<Number>) -> Result<Tensor> {
        elementwise::clamp(self.0, x, low, high)
    }
    fn clamp_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        low: Option<Number>,
        high: Option<Number>,
    ) -> Result<Tensor> {
        elementwise::clamp_backward(self.0, grad, x, low, high)
    }
    fn compare(&self, op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::compare(self.0, op, a, b)
    }
    fn predicate(&self, op: PredicateOp, x: &Tensor) -> Result<Tensor> {
        elementwise::predicate(self.0, op, x)
    }
    fn select(&self, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::select(self.0, condition, a, b)
    }
    fn reduce(&self, op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor> {
        reduce::reduce(self.0, op, x, mask)
    }
    fn var_mean(&self, x: &Tensor, mask: &DimMask, correction: f64) -> Result<(Tensor, Tensor)> {
        match x.dtype().is_float() {
            true => moments::var_mean(self.0, x, mask, correction),
            false => composed::var_mean(x, mask, correction),
        }
    }
    fn arg_reduce(&self, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        reduce::arg_reduce(self.0, op, x, dim)
    }
    fn scan(&self, op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        scan::scan(self.0, op, x, dim)
    }
    fn arg_scan(&self, op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
        scan::arg_scan(self.0, op, x, dim)
    }
    fn logcumsumexp(&self, x: &Tensor, dim: usize) -> Result<Tensor> {
        scan::logcumsumexp(self.0, x, dim)
    }
    fn sort(&self, x: &Tensor, dim: usize, descending: bool) -> Result<(Tensor, Tensor)> {
        sort::sort(self.0, x, dim, descending)
    }
    fn topk(&self, x: &Tensor, dim: usize, k: usize, largest: bool) -> Result<(Tensor, Tensor)> {
        sort::topk(self.0, x, dim, k, largest)
    }
    fn gather(&self, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::gather(self.0, x, dim, index)
    }
    fn scatter(
        &self,
        x: &Tensor,
        dim: usize,
        index: &Tensor,
        src: &Tensor,
        mode: ScatterMode,
    ) -> Result<Tensor> {
        index::scatter(self.0, x, dim, index, src, mode)
    }
    fn index_select(&self, x: &Tensor, dim: usize, index: &Tensor) -> Result<Tensor> {
        index::index_select(self.0, x, dim, index)
    }
    fn index_add(&self, x: &Tensor, dim: usize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
        index::index_add(self.0, x, dim, index, src)
    }
    fn nonzero(&self, x: &Tensor) -> Result<Tensor> {
        index::nonzero(self.0, x)
    }
    fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        gemm::matmul(self.0, a, b)
    }
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        gemm::linear(self.0, x, weight, bias, None, None)
    }
    fn linear_fused(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        activation: Option<UnaryOp>,
    ) -> Result<Tensor> {
        gemm::linear(self.0, x, weight, bias, residual, activation)
    }
    fn int_mm(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        gemm::int_mm(self.0, a, b)
    }
    fn conv(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv: &Conv) -> Result<Tensor> {
        conv::conv(self.0, x, weight, bias, conv, None, None)
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
        conv::conv(self.0, x, weight, bias, conv, residual, activation)
    }
    fn conv_grad_input(&self, grad: &Tensor, weight: &Tensor, input: Shape, conv: &Conv) -> Result<Tensor> {
        conv::conv_grad_input(self.0, grad, weight, input, conv)
    }
    fn conv_grad_weight(&self, grad: &Tensor, x: &Tensor, weight: Shape, conv: &Conv) -> Result<Tensor> {
        conv::conv_grad_weight(self.0, grad, x, weight, conv)
    }
    fn max_pool(&self, x: &Tensor, pool: &Pool) -> Result<(Tensor, Tensor)> {
        pool::max_pool(self.0, x, pool)
    }
    fn max_pool_places(&self, x: &Tensor, pool: &Pool, places: bool) -> Result<(Tensor, Option<Tensor>)> {
        pool::max_pool_places(self.0, x, pool, places)
    }
    fn max_pool_index(&self, places: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor> {
        pool::max_pool_index(self.0, places, input, pool)
    }
    fn adaptive_max_pool(&self, x: &Tensor, output: Shape) -> Result<(Tensor, Tensor)> {
        pool::adaptive_max_pool(self.0, x, output)
    }
    fn max_pool_backward(&self, grad: &Tensor, index: &Tensor, input: Shape) -> Result<Tensor> {
        pool::max_pool_backward(self.0, grad, index, input)
    }
    fn max_pool_places_backward(
        &self,
        grad: &Tensor,
        places: &Tensor,
        input: Shape,
        pool: &Pool,
    ) -> Result<Tensor> {
        pool::max_pool_places_backward(self.0, grad, places, input, pool)
    }
    fn avg_pool(&self, x: &Tensor, pool: &Pool) -> Result<Tensor> {
        pool::avg_pool(self.0, x, pool)
    }
    fn avg_pool_backward(&self, grad: &Tensor, input: Shape, pool: &Pool) -> Result<Tensor> {
        pool::avg_pool_backward(self.0, grad, input, pool)
    }
    fn adaptive_avg_pool(&self, x: &Tensor, output: Shape) -> Result<Tensor> {
        pool::adaptive_avg_pool(self.0, x, output)
    }
    fn adaptive_avg_pool_backward(&self, grad: &Tensor, input: Shape) -> Result<Tensor> {
        pool::adaptive_avg_pool_backward(self.0, grad, input)
    }
    fn random(
        &self,
        distribution: Distribution,
        dtype: DType,
        shape: Shape,
        seed: u64,
        offset: u64,
    ) -> Result<Tensor> {
        random::random(self.0, distribution, dtype, shape, seed, offset)
    }
    fn dropout(&self, x: &Tensor, keep: f64, seed: u64, offset: u64) -> Result<(Tensor, Tensor)> {
        random::dropout(self.0, x, keep, seed, offset)
    }
    fn dropout_backward(&self, grad: &Tensor, kept: &Tensor, keep: f64) -> Result<Tensor> {
        random::dropout_backward(self.0, grad, kept, keep)
    }
    fn softmax(&self, x: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
        softmax::softmax(self.0, x, dim, log)
    }
    fn softmax_backward(&self, grad: &Tensor, y: &Tensor, dim: usize, log: bool) -> Result<Tensor> {
        softmax::softmax_backward(self.0, grad, y, dim, log)
    }
    fn cross_entropy(
        &self,
        x: &Tensor,
        target: &Tensor,
        options: &CrossEntropy,
        gradient: bool,
    ) -> Result<(Tensor, Option<Tensor>)> {
        match norm::takes(x, &[options.weight]) {
            true => loss::cross_entropy(self.0, x, target, options, gradient),
            false => composed::cross_entropy(x, target, options, gradient),
        }
    }
    fn layer_norm(
        &self,
        x: &Tensor,
        dims: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        match norm::takes(x, &[weight, bias]) {
            true => norm::layer_norm(self.0, x, dims, weight, bias, eps),
            false => composed::layer_norm(x, dims, weight, bias, eps),
        }
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
        match norm::takes(x, &[weight, Some(grad)]) && norm::are_wide(x, [mean, rstd]) {
            true => norm::layer_norm_backward(self.0, grad, x, mean, rstd, weight, dims),
            false => composed::layer_norm_backward(grad, x, mean, rstd, weight, dims),
        }
    }
    fn rms_norm(
        &self,
        x: &Tensor,
        dims: usize,
        weight: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        match norm::takes(x, &[weight]) {
            true => norm::rms_norm(self.0, x, dims, weight, eps),
            false => composed::rms_norm(x, dims, weight, eps),
        }
    }
    fn rms_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        dims: usize,
    ) -> Result<(Tensor, Tensor)> {
        match norm::takes(x, &[weight, Some(grad)]) && norm::are_wide(x, [rstd]) {
            true => norm::rms_norm_backward(self.0, grad, x, rstd, weight, dims),
            false => composed::rms_norm_backward(grad, x, rstd, weight, dims),
        }
    }
    fn group_norm(
        &self,
        x: &Tensor,
        groups: usize,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        match norm::takes(x, &[weight, bias]) {
            true => norm::group_norm(self.0, x, groups, weight, bias, eps),
            false => composed::group_norm(x, groups, weight, bias, eps),
        }
    }
    fn group_norm_backward(
        &self,
        grad: &Tensor,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        match norm::takes(x, &[weight, Some(grad)]) && norm::are_wide(x, [mean, rstd]) {
            true => norm::group_norm_backward(self.0, grad, x, mean, rstd, weight),
            false => composed::group_norm_backward(grad, x, mean, rstd, weight),
        }
    }
    fn batch_norm_training(
        &self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<(Tensor, Tensor, Tensor, Tensor)> {
        match norm::takes(x, &[weight, bias]) {
            true => norm::batch_norm_training(self.0, x, weight, bias, eps),
            false => composed::batch_norm_training(x, weight, bias, eps),
        }
    }
    fn batch_norm_stats(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        if norm::takes(x, &[]) { norm::batch_norm_stats(self.0, x) } else { composed::batch_norm_stats(x) }
    }
    fn batch_norm_apply(
        &self,
        x: &Tensor,
        mean: &Tensor,
        rstd: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        match norm::takes(x, &[weight, bias]) && norm::are_wide(x, [mean, rstd]) {
            true => norm::batch_norm_apply(self.0, x, mean, rstd, weight, bias),
            false => composed::batch_norm_apply(x, mean, rstd, weight, bias),
        }
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
        match norm::takes(x, &[weight, Some(grad)]) && norm::are_wide(x, [mean, rstd]) {
            true => norm::batch_norm_backward(self.0, grad, x, mean, rstd, weight, training),
            false => composed::batch_norm_backward(grad, x, mean, rstd, weight, training),
        }
    }
    fn norms(&self, tensors: &[&Tensor]) -> Result<Tensor> {
        optim::norms(self.0, tensors)
    }
    fn sgd_step(&self, step: &SgdStep, clip: Option<&Tensor>, updates: &mut [SgdUpdate]) -> Result<()> {
        optim::sgd_step(self.0, step, clip, updates)
    }
    fn adam_step(&self, step: &AdamStep, clip: Option<&Tensor>, updates: &mut [AdamUpdate]) -> Result<()> {
        optim::adam_step(self.0, step, clip, updates)
    }
    fn rnn(&self, spec: RnnSpec, inputs: &RnnInputs, training: bool) -> Result<RnnOutputs> {
        rnn::rnn(self.0, spec, inputs, training)
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
        let grads = RnnOutputGrads { output: grad_output, h_n: grad_h_n, c_n: grad_c_n };
        rnn::rnn_backward(self.0, spec, inputs, outputs, grads)
    }
    fn rnn_bidirectional(
        &self,
        kind: RnnKind,
        inputs: [&RnnInputs; 2],
        training: bool,
    ) -> Result<[RnnOutputs; 2]> {
        rnn::rnn_bidirectional(self.0, kind, inputs, training)
    }
    fn rnn_bidirectional_backward(
        &self,
        kind: RnnKind,
        inputs: [&RnnInputs; 2],
        outputs: [&RnnOutputs; 2],
        grads: [RnnOutputGrads; 2],
    ) -> Result<[RnnGrads; 2]> {
        rnn::rnn_bidirectional_backward(self.0, kind, inputs, outputs, grads)
    }
}
