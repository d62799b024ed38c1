//! Matrix products by Hopper's kernels on the emulated GPU: every layout, tile and tail, compared with the CPU.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use gradus_kernels_cuda::emulator;
use tensor::op::UnaryOp;
use tensor::{DType, Device, Result, Tensor};

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

/// Runs a check on an emulated GPU that says that it is Hopper.
fn on_emulated_hopper(check: fn(&Device)) {
    emulator::set_compute_capability(9, 0);
    on_emulated_gpu(check);
}

/// Small integers, so that sums are exact in whatever order. On the CPU.
fn integers(shape: &[usize], seed: usize, dtype: DType) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let values: Vec<i32> = (0..n).map(|i| ((i * 7 + seed * 3 + i / 11) % 5) as i32 - 2).collect();
    Tensor::from_vec(values, shape, &Device::cpu())?.to_dtype(dtype)
}

fn doubles(x: &Tensor) -> Result<Vec<f64>> {
    x.to_device(&Device::cpu())?.to_dtype(DType::F64)?.to_vec::<f64>()
}

type Product = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// `f(a, b)` on the GPU, which must be what the CPU says, by Hopper's kernels: without tensor maps it cannot be computed.
fn compare(gpu: &Device, a: &Tensor, b: &Tensor, f: Product) -> Result<()> {
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

#[test]
fn every_layout_tile_and_tail_gives_the_same_sums() {
    fn check(gpu: &Device) -> Result<()> {
        // Each tile is the plan's choice for one of these at least: see the unit test in src/backend/gemm/hopper.rs.
        let extents = [
            (128, 64, 64),
            (200, 72, 264),
            (520, 136, 264),
            (512, 256, 384),
            (512, 64, 512),
            (100, 72, 2048),
        ];
        for ((m, k, n), dtype) in extents.into_iter().zip(HALVES.into_iter().cycle()) {
            let (a, b) = (integers(&[m, k], 1, dtype)?, integers(&[k, n], 5, dtype)?);
            let (turned_a, turned_b) = (a.t()?.contiguous()?, b.t()?.contiguous()?);
            compare(gpu, &a, &b, |a, b| a.matmul(b))?;
            compare(gpu, &a, &turned_b, |a, b| a.matmul(&b.t()?))?;
            if m.is_multiple_of(8) {
                compare(gpu, &turned_a, &b, |a, b| a.t()?.matmul(b))?;
                compare(gpu, &turned_a, &turned_b, |a, b| a.t()?.matmul(&b.t()?))?;
            }
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn extents_need_not_be_whole_runs_where_strides_are() {
    fn check(gpu: &Device) -> Result<()> {
        fn narrowed<const K: usize>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
            a.narrow(1, 0, K)?.matmul(&b.narrow(1, 0, K)?.t()?)
        }
        let cases: [(usize, usize, Product); 4] = [
            (131, 67, narrowed::<77>),
            (9, 257, narrowed::<129>),
            (130, 65, narrowed::<1>),
            (300, 9, narrowed::<64>),
        ];
        for (m, n, f) in cases {
            compare(gpu, &integers(&[m, 136], 1, DType::BF16)?, &integers(&[n, 136], 2, DType::BF16)?, f)?;
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn batches_of_matrices_may_be_shared_and_interleaved() {
    fn check(gpu: &Device) -> Result<()> {
        let (x, y) = (integers(&[3, 2, 72, 64], 1, DType::F16)?, integers(&[3, 2, 64, 136], 2, DType::F16)?);
        compare(gpu, &x, &y, |x, y| x.matmul(y))?;
        compare(gpu, &x, &y, |x, y| x.matmul(&y.narrow(0, 1, 1)?.broadcast_to([3, 2, 64, 136])?))?;
        compare(gpu, &x, &y, |x, y| x.narrow(1, 1, 1)?.broadcast_to([3, 2, 72, 64])?.matmul(y))?;
        // Heads beside each other, as attention has them.
        let heads = integers(&[3, 72, 2, 64], 3, DType::BF16)?;
        compare(gpu, &heads, &heads, |q, k| q.transpose(1, 2)?.matmul(&k.transpose(1, 2)?.transpose(2, 3)?))?;
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn long_sums_are_cut_into_parts_and_come_out_the_same_each_time() {
    fn check(gpu: &Device) -> Result<()> {
        for (m, k, n) in [(136, 1000, 72), (16, 2048, 25)] {
            let (a, b) = (integers(&[2, m, k], 1, DType::F16)?, integers(&[2, n, k], 2, DType::F16)?);
            compare(gpu, &a, &b, |a, b| a.matmul(&b.transpose(1, 2)?))?;
        }
        let wave = |n: usize, by: f32| (0..n).map(|i| (i as f32 * by).sin()).collect::<Vec<_>>();
        let a = Tensor::from_vec(wave(16 * 2048, 0.37), [16, 2048], gpu)?.to_dtype(DType::BF16)?;
        let b = Tensor::from_vec(wave(2048 * 24, 0.11), [2048, 24], gpu)?.to_dtype(DType::BF16)?;
        let first = doubles(&a.matmul(&b)?)?;
        assert_eq!(doubles(&a.matmul(&b)?)?, first);
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn a_linear_layer_adds_its_bias_and_finishes_every_row() {
    fn check(gpu: &Device) -> Result<()> {
        // A weight whose last column is taken as the bias.
        fn layer(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
            let bias = weight.select(1, 79)?;
            x.device().backend().linear(x, &weight.narrow(1, 0, 72)?, Some(&bias))
        }
        fn one_for_all(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
            let bias = weight.select(1, 79)?.narrow(0, 1, 1)?.broadcast_to([weight.dims()[0]])?;
            x.device().backend().linear(x, &weight.narrow(1, 0, 72)?, Some(&bias))
        }
        fn finished(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
            let (bias, outputs) = (weight.select(1, 79)?, weight.dims()[0]);
            let residual = x.narrow(2, 1, 1)?.broadcast_to([2, 90, outputs])?;
            let (weight, relu) = (weight.narrow(1, 0, 72)?, Some(UnaryOp::Relu));
            x.device().backend().linear_fused(x, &weight, Some(&bias), Some(&residual), relu)
        }
        for (dtype, outputs) in [(DType::BF16, 200), (DType::F16, 67)] {
            let (x, weight) = (integers(&[2, 90, 72], 1, dtype)?, integers(&[outputs, 80], 2, dtype)?);
            compare(gpu, &x, &weight, finished)?;
            compare(gpu, &x, &weight, layer)?;
            compare(gpu, &x, &weight, one_for_all)?;
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}
