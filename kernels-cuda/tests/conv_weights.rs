//! The copy of a convolution's weight that lies as kernels want it: made once, used forward and backward, and made anew whenever the weight
//! has changed in place, on the emulated GPU.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;
mod steps;

use emulated_gpu::on_emulated_gpu;
use gradus_kernels_cuda::own;
use tensor::backend::SgdUpdate;
use tensor::op::BinaryOp;
use tensor::{Conv, DType, Device, Result, Tensor};

/// Small integers, so that sums are exact.
fn integers(dims: &[usize], device: &Device) -> Result<Tensor> {
    let values: Vec<f32> =
        (0..dims.iter().product()).map(|i: usize| ((i * 7 + i / 5) % 5) as f32 - 2.0).collect();
    Tensor::from_vec(values, dims, device)
}

/// An image, whose channels lie last.
fn image(device: &Device) -> Result<Tensor> {
    integers(&[2, 6, 5, 8], device)?.movedim(3, 1)
}

/// How many blocks of memory a convolution and its gradient take; checks both against the CPU.
fn blocks(x: &Tensor, w: &Tensor) -> Result<[usize; 2]> {
    let gpu = x.device();
    let taken = || gpu.backend().memory_stats().system_allocations;
    let conv = Conv::default().padding(1);
    let before = taken();
    let y = x.conv(w, None, &conv)?;
    let forward = taken() - before;
    let before = taken();
    let dx = y.conv_grad_input(w, x.shape(), &conv)?;
    let backward = taken() - before;

    let cpu = &Device::cpu();
    let (there, weight) = (x.to_device(cpu)?, w.to_device(cpu)?);
    let expected = there.conv(&weight, None, &conv)?;
    assert_eq!(y.to_vec::<f32>()?, expected.to_vec::<f32>()?);
    let expected = expected.conv_grad_input(&weight, x.shape(), &conv)?;
    assert_eq!(dx.to_vec::<f32>()?, expected.to_vec::<f32>()?);
    Ok([forward, backward])
}

#[test]
fn a_weight_is_brought_into_order_once_until_it_changes() {
    fn check(gpu: &Device) -> Result<()> {
        let (x, mut w) = (image(gpu)?, integers(&[8, 8, 3, 3], gpu)?);
        let [first, backward] = blocks(&x, &w)?;
        let once = [first - 1, backward];
        assert_eq!(blocks(&x, &w)?, once);
        let again = [first, backward];

        let (grad, ones) = (integers(&[8, 8, 3, 3], gpu)?, Tensor::ones([8, 8, 3, 3], gpu)?);
        let update = SgdUpdate { param: &mut w, grad: &grad, momentum: None };
        gpu.backend().sgd_step(&steps::down(2.0), None, &mut [update])?;
        assert_eq!([blocks(&x, &w)?, blocks(&x, &w)?], [again, once], "after a step");

        w = gpu.backend().binary_into(BinaryOp::Add, w, &ones)?;
        assert_eq!([blocks(&x, &w)?, blocks(&x, &w)?], [again, once], "after an addition");

        let part = w.layout().slice(0, 2, 3, 1);
        w = gpu.backend().write(w, &part, &grad.narrow(0, 0, 3)?)?;
        assert_eq!([blocks(&x, &w)?, blocks(&x, &w)?], [again, once], "after a part was written");

        // Another view of the same memory has a copy of its own, in the place of the first.
        let turned = w.transpose(2, 3)?;
        assert_eq!([blocks(&x, &turned)?, blocks(&x, &turned)?], [again, once], "another view");
        assert_eq!([blocks(&x, &w)?, blocks(&x, &w)?], [again, once], "and back");

        // Nobody knows when those who have the address write.
        own::address(&w)?;
        assert_eq!(blocks(&x, &w)?, [first, backward + 1], "exposed");
        assert_eq!(blocks(&x, &w)?, [first, backward + 1], "exposed");
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn channels_that_fill_vectors_up_are_kept_with_the_copy() {
    fn check(gpu: &Device) -> Result<()> {
        let (x, w) = (integers(&[1, 7, 6, 3], gpu)?.movedim(3, 1)?, integers(&[4, 3, 3, 3], gpu)?);
        let before = gpu.backend().memory_stats().live_bytes;
        blocks(&x, &w)?;
        let kept = gpu.backend().memory_stats().live_bytes - before;
        assert_eq!(kept, 4 * 4 * 9 * DType::F32.size(), "one copy, of four channels");
        drop(w);
        assert_eq!(gpu.backend().memory_stats().live_bytes, before - 4 * 3 * 9 * DType::F32.size());
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
