//! Matrix products by Hopper's kernels on the emulated GPU: every layout, tile and tail, compared with the CPU.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;
mod emulated_hopper;

use emulated_hopper::{Product, compare, doubles, integers, on_emulated_hopper};
use tensor::op::UnaryOp;
use tensor::{DType, Device, Result, Tensor};

const HALVES: [DType; 2] = [DType::F16, DType::BF16];

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
