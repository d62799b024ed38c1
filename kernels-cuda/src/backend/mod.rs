//! A GPU as a device for tensors: `impl Backend`, one file for each kernel family.

mod copy;
mod elementwise;
mod names;
mod storage;
pub(crate) mod walk;

use tensor::backend::{DimMask, ScatterMode};
use tensor::op::{ArgOp, BinaryOp, CompareOp, PredicateOp, ReduceOp, ScanOp, UnaryOp};
use tensor::{
    Backend, Conv, DType, Device, Distribution, ErrorKind, Layout, MemoryStats, Number, Pool, Result, Shape,
    Tensor,
};

use crate::gpu::{Gpu, gpu};

/// The device of GPU `index`.
pub(crate) fn device(index: usize) -> Result<Device> {
    let gpu = gpu(index)?;
    Ok(gpu.device.get_or_init(|| Device::new(Cuda(gpu))).clone())
}

/// A GPU.
struct Cuda(&'static Gpu);

impl Cuda {
    /// The error of an op that has no kernel.
    fn lacks<T>(&self, op: &'static str) -> Result<T> {
        Err(ErrorKind::NoKernel { op, device: self.0.name.clone() }.into())
    }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn synchronize(&self) -> Result<()> {
        Ok(self.0.stream.synchronize()?)
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
    fn unary_backward(&self, op: UnaryOp, grad: &Tensor, saved: &Tensor) -> Result<Option<Tensor>> {
        elementwise::unary_backward(self.0, op, grad, saved)
    }
    fn binary(&self, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::binary(self.0, op, a, b)
    }
    fn binary_into(&self, op: BinaryOp, a: Tensor, b: &Tensor) -> Result<Tensor> {
        elementwise::binary_into(self.0, op, a, b)
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
    fn reduce(&self, op: ReduceOp, _x: &Tensor, _mask: &DimMask) -> Result<Tensor> {
        self.lacks(op.name())
    }
    fn arg_reduce(&self, op: ArgOp, _x: &Tensor, _dim: usize) -> Result<Tensor> {
        self.lacks(op.name())
    }
    fn scan(&self, op: ScanOp, _x: &Tensor, _dim: usize) -> Result<Tensor> {
        self.lacks(op.name())
    }
    fn sort(&self, _x: &Tensor, _dim: usize, _descending: bool) -> Result<(Tensor, Tensor)> {
        self.lacks("sort")
    }
    fn gather(&self, _x: &Tensor, _dim: usize, _index: &Tensor) -> Result<Tensor> {
        self.lacks("gather")
    }
    fn scatter(
        &self,
        _x: &Tensor,
        _dim: usize,
        _index: &Tensor,
        _src: &Tensor,
        _mode: ScatterMode,
    ) -> Result<Tensor> {
        self.lacks("scatter")
    }
    fn index_select(&self, _x: &Tensor, _dim: usize, _index: &Tensor) -> Result<Tensor> {
        self.lacks("index_select")
    }
    fn index_add(&self, _x: &Tensor, _dim: usize, _index: &Tensor, _src: &Tensor) -> Result<Tensor> {
        self.lacks("index_add")
    }
    fn nonzero(&self, _x: &Tensor) -> Result<Tensor> {
        self.lacks("nonzero")
    }
    fn matmul(&self, _a: &Tensor, _b: &Tensor) -> Result<Tensor> {
        self.lacks("matmul")
    }
    fn conv(&self, _x: &Tensor, _weight: &Tensor, _bias: Option<&Tensor>, _conv: &Conv) -> Result<Tensor> {
        self.lacks("conv")
    }
    fn conv_grad_input(
        &self,
        _grad: &Tensor,
        _weight: &Tensor,
        _input: Shape,
        _conv: &Conv,
    ) -> Result<Tensor> {
        self.lacks("conv_grad_input")
    }
    fn conv_grad_weight(&self, _grad: &Tensor, _x: &Tensor, _weight: Shape, _conv: &Conv) -> Result<Tensor> {
        self.lacks("conv_grad_weight")
    }
    fn max_pool(&self, _x: &Tensor, _pool: &Pool) -> Result<(Tensor, Tensor)> {
        self.lacks("max_pool")
    }
    fn avg_pool(&self, _x: &Tensor, _pool: &Pool) -> Result<Tensor> {
        self.lacks("avg_pool")
    }
    fn avg_pool_backward(&self, _grad: &Tensor, _input: Shape, _pool: &Pool) -> Result<Tensor> {
        self.lacks("avg_pool_backward")
    }
    fn adaptive_avg_pool(&self, _x: &Tensor, _output: Shape) -> Result<Tensor> {
        self.lacks("adaptive_avg_pool")
    }
    fn adaptive_avg_pool_backward(&self, _grad: &Tensor, _input: Shape) -> Result<Tensor> {
        self.lacks("adaptive_avg_pool_backward")
    }
    fn max_pool_backward(&self, _grad: &Tensor, _index: &Tensor, _input: Shape) -> Result<Tensor> {
        self.lacks("max_pool_backward")
    }
    fn random(
        &self,
        _distribution: Distribution,
        _dtype: DType,
        _shape: Shape,
        _seed: u64,
        _offset: u64,
    ) -> Result<Tensor> {
        self.lacks("random")
    }
}
