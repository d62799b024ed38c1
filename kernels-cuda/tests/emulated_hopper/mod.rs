//! Products by Hopper's kernels, compared with the processor.
#![allow(dead_code, reason = "not every test needs all of it")]

use gradus_kernels_cuda::emulator;
use tensor::{DType, Device, Result, Tensor};

use super::emulated_gpu::on_emulated_gpu;

/// Runs a check on an emulated GPU that says that it is Hopper.
pub(crate) fn on_emulated_hopper(check: fn(&Device)) {
    emulator::set_compute_capability(9, 0);
    on_emulated_gpu(check);
}

/// Small integers, so that sums are exact in whatever order. On the CPU.
pub(crate) fn integers(shape: &[usize], seed: usize, dtype: DType) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let values: Vec<i32> = (0..n).map(|i| ((i * 7 + seed * 3 + i / 11) % 5) as i32 - 2).collect();
    Tensor::from_vec(values, shape, &Device::cpu())?.to_dtype(dtype)
}

pub(crate) fn doubles(x: &Tensor) -> Result<Vec<f64>> {
    x.to_device(&Device::cpu())?.to_dtype(DType::F64)?.to_vec::<f64>()
}

/// Of two tensors on one device.
pub(crate) type Product = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// `f(a, b)` on the GPU, which must be what the CPU says, by Hopper's kernels: without tensor maps it cannot be computed.
pub(crate) fn compare(gpu: &Device, a: &Tensor, b: &Tensor, f: Product) -> Result<()> {
    let (x, y) = (a.to_device(gpu)?, b.to_device(gpu)?);
    let what = format!("{} {:?} {:?}", a.dtype(), a.shape(), b.shape());
    if emulator::installed() {
        let without_maps = emulator::failing("cuTensorMapEncodeTiled", 1, || f(&x, &y));
        assert!(without_maps.is_err(), "{what}: another kernel");
    }
    let (got, expected) = (f(&x, &y)?, f(a, b)?);
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let pairs: Vec<(f64, f64)> = doubles(&got)?.into_iter().zip(doubles(&expected)?).collect();
    if let Some(i) = pairs.iter().position(|(got, expected)| got != expected) {
        let wrong = pairs.iter().filter(|(got, expected)| got != expected).count();
        panic!("{what}: {wrong} of {} differ, first {i}: {:?}", pairs.len(), pairs[i]);
    }
    Ok(())
}
