//! Matrix products of `f32` and of bytes by Hopper's kernels on the emulated GPU.
//!
//! Each tile is the plan's choice for one of the products here: see the unit test in src/backend/gemm/hopper/mod.rs.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;
mod emulated_hopper;

use emulated_hopper::{Product, compare, integers, on_emulated_hopper};
use tensor::op::UnaryOp;
use tensor::{DType, Device, F32Mode, Result, Tensor, with_f32_mode};

/// The product of `[m, k]` and `[k, n]` in every layout.
fn in_every_layout(gpu: &Device, [m, n, k]: [usize; 3], dtypes: [DType; 2], f: [Product; 4]) -> Result<()> {
    let (a, b) = (integers(&[m, k], 1, dtypes[0])?, integers(&[k, n], 5, dtypes[1])?);
    let (turned_a, turned_b) = (a.t()?.contiguous()?, b.t()?.contiguous()?);
    compare(gpu, &a, &turned_b, f[1])?;
    compare(gpu, &a, &b, f[0])?;
    compare(gpu, &turned_a, &b, f[2])?;
    compare(gpu, &turned_a, &turned_b, f[3])
}

const PRODUCTS: [Product; 4] =
    [|a, b| a.matmul(b), |a, b| a.matmul(&b.t()?), |a, b| a.t()?.matmul(b), |a, b| a.t()?.matmul(&b.t()?)];

#[test]
fn rounded_numbers_in_every_layout_tile_and_tail_give_the_same_sums() {
    fn check(gpu: &Device) -> Result<()> {
        for extents in [[136, 136, 776], [72, 776, 392], [136, 392, 392], [264, 264, 200]] {
            in_every_layout(gpu, extents, [DType::F32; 2], PRODUCTS)?;
        }
        // Rows that are no whole runs are copied too.
        in_every_layout(gpu, [135, 391, 395], [DType::F32; 2], PRODUCTS)?;
        let (a, b) = (integers(&[72, 200], 1, DType::F32)?, integers(&[264, 200], 5, DType::F32)?);
        compare(gpu, &a, &b, PRODUCTS[1])?;
        // In parts of k.
        let (a, b) = (integers(&[72, 1544], 1, DType::F32)?, integers(&[69, 1544], 5, DType::F32)?);
        compare(gpu, &a, &b, PRODUCTS[1])
    }
    on_emulated_hopper(|gpu| with_f32_mode(F32Mode::Fast, || check(gpu)).unwrap());
}

#[test]
fn numbers_in_parts_in_every_layout_tile_and_tail_give_the_same_sums() {
    fn check(gpu: &Device) -> Result<()> {
        for extents in [[72, 264, 392], [136, 136, 392], [264, 264, 104], [133, 131, 391], [72, 69, 1544]] {
            in_every_layout(gpu, extents, [DType::F32; 2], PRODUCTS)?;
        }
        // Neither dim's elements are neighbours, and neighbours that come from the end to the beginning.
        let (a, b) = (integers(&[72, 784], 1, DType::F32)?, integers(&[392, 264], 5, DType::F32)?);
        compare(gpu, &a, &b, |a, b| a.step_by_two()?.matmul(b))?;
        compare(gpu, &a, &b, |a, b| a.narrow(1, 0, 392)?.flip([1])?.matmul(b))
    }
    on_emulated_hopper(|gpu| with_f32_mode(F32Mode::Auto, || check(gpu)).unwrap());
}

/// Views that the products here take.
trait Views {
    fn step_by_two(&self) -> Result<Tensor>;
}

impl Views for Tensor {
    fn step_by_two(&self) -> Result<Tensor> {
        let [rows, columns] = [self.dims()[0], self.dims()[1]];
        self.reshape([rows, columns / 2, 2])?.select(2, 1)
    }
}

#[test]
fn batches_of_numbers_may_be_shared_and_interleaved() {
    fn check(gpu: &Device) -> Result<()> {
        let (x, y) =
            (integers(&[3, 2, 72, 264], 1, DType::F32)?, integers(&[3, 2, 264, 136], 2, DType::F32)?);
        compare(gpu, &x, &y, |x, y| x.matmul(y))?;
        compare(gpu, &x, &y, |x, y| {
            x.matmul(&y.narrow(0, 1, 1)?.narrow(1, 1, 1)?.broadcast_to([3, 2, 264, 136])?.contiguous()?)
        })?;
        compare(gpu, &x, &y, |x, y| {
            x.narrow(0, 1, 1)?.narrow(1, 1, 1)?.broadcast_to([3, 2, 72, 264])?.matmul(y)
        })?;
        let heads = integers(&[3, 136, 2, 264], 3, DType::F32)?;
        compare(gpu, &heads, &heads, |q, k| q.transpose(1, 2)?.matmul(&k.transpose(1, 2)?.transpose(2, 3)?))
    }
    on_emulated_hopper(|gpu| {
        for mode in [F32Mode::Fast, F32Mode::Auto] {
            with_f32_mode(mode, || check(gpu)).unwrap();
        }
    });
}

#[test]
fn a_linear_layer_of_numbers_has_every_part_of_the_epilogue() {
    fn check(gpu: &Device) -> Result<()> {
        // A weight whose last column is taken as the bias.
        fn layer(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
            let bias = weight.select(1, 411)?;
            x.device().backend().linear(x, &weight.narrow(1, 0, 400)?, Some(&bias))
        }
        fn finished(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
            let (bias, outputs) = (weight.select(1, 411)?, weight.dims()[0]);
            let residual = x.narrow(2, 1, 1)?.broadcast_to([2, 90, outputs])?;
            let (weight, relu) = (weight.narrow(1, 0, 400)?, Some(UnaryOp::Relu));
            x.device().backend().linear_fused(x, &weight, Some(&bias), Some(&residual), relu)
        }
        for outputs in [200, 131] {
            let (x, weight) =
                (integers(&[2, 90, 400], 1, DType::F32)?, integers(&[outputs, 412], 2, DType::F32)?);
            compare(gpu, &x, &weight, layer)?;
            compare(gpu, &x, &weight, finished)?;
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| {
        for mode in [F32Mode::Fast, F32Mode::Auto] {
            with_f32_mode(mode, || check(gpu)).unwrap();
        }
    });
}

/// Numbers in [-1, 1) with all their bits (splitmix64).
fn uniform(shape: [usize; 2], seed: u64) -> Vec<f32> {
    let mut state = seed << 32;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 39) as f32 / (1 << 24) as f32 - 1.0
    };
    (0..shape[0] * shape[1]).map(|_| next()).collect()
}

/// `[m, k] · [n, k]ᵀ` in `f64`, and the same of magnitudes.
fn exact(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<(f64, f64)> {
    let term = |e: usize, l: usize| f64::from(a[e / n * k + l]) * f64::from(b[e % n * k + l]);
    (0..m * n).map(|e| ((0..k).map(|l| term(e, l)).sum(), (0..k).map(|l| term(e, l).abs()).sum())).collect()
}

/// The most and the mean of error / Σ|a||b| of a product in a mode.
fn errors(gpu: &Device, mode: F32Mode, a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Result<[f64; 2]> {
    let (x, y) = (Tensor::from_slice(a, [m, k], gpu)?, Tensor::from_slice(b, [n, k], gpu)?);
    let got = with_f32_mode(mode, || x.matmul(&y.t()?))?.to_vec::<f32>()?;
    let errors =
        got.iter().zip(exact(a, b, [m, n, k])).map(|(&y, (e, size))| (f64::from(y) - e).abs() / size);
    let (most, sum) = errors.fold((0.0, 0.0), |(most, sum), e| (f64::max(most, e), sum + e));
    Ok([most, sum / (m * n) as f64])
}

#[test]
fn each_f32_mode_is_as_exact_as_it_says() {
    fn check(gpu: &Device) -> Result<()> {
        let extents @ [m, n, k] = [72, 72, 4096];
        let (a, b) = (uniform([m, k], 1), uniform([n, k], 2));
        let positive = |x: &[f32]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let magnitudes = |x: &[f32]| {
            x.iter().enumerate().map(|(i, x)| x * 2f32.powi((i * 7 % 30) as i32 - 15)).collect::<Vec<_>>()
        };
        for (a, b, most) in [
            (a.clone(), b.clone(), [5e-8, 4e-5]),
            (positive(&a), positive(&b), [4e-7, 6e-5]),
            (magnitudes(&a), magnitudes(&b), [4e-7, 3e-4]),
        ] {
            let strict = errors(gpu, F32Mode::Strict, &a, &b, extents)?;
            let auto = errors(gpu, F32Mode::Auto, &a, &b, extents)?;
            let fast = errors(gpu, F32Mode::Fast, &a, &b, extents)?;
            println!("strict {strict:?} auto {auto:?} fast {fast:?}");
            assert!(auto[0] <= strict[0] && auto[0] < most[0], "{auto:?}, strict {strict:?}");
            assert!(fast[0] < most[1], "{fast:?}");
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn numbers_that_have_no_parts_are_multiplied_as_they_are() {
    fn check(gpu: &Device) -> Result<()> {
        for [m, n, k] in [[136, 136, 392], [72, 69, 1544]] {
            let (mut a, mut b) = (uniform([m, k], 4), uniform([n, k], 5));
            let strange =
                [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45, 2e-31, 3e18];
            for (i, &x) in strange.iter().enumerate() {
                a[i * 3 * k + i * 9] = x;
                b[i * 5 * k + i] = x;
            }
            let expected = exact(&a, &b, [m, n, k]);
            let (x, y) = (Tensor::from_vec(a, [m, k], gpu)?, Tensor::from_vec(b, [n, k], gpu)?.t()?);
            let run = |mode| with_f32_mode(mode, || x.matmul(&y)?.to_vec::<f32>());
            for (e, (got, strict)) in run(F32Mode::Auto)?.into_iter().zip(run(F32Mode::Strict)?).enumerate() {
                let fits = if strict.is_finite() {
                    (f64::from(got) - expected[e].0).abs() <= 5e-7 * expected[e].1
                } else {
                    got == strict || got.is_nan() && strict.is_nan()
                };
                assert!(fits, "element {e}: {got}, expected {strict}");
            }
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn a_product_with_one_is_the_number_itself() {
    fn check(gpu: &Device) -> Result<()> {
        let values = uniform([264, 264], 3);
        let x = Tensor::from_slice(&values, [264, 264], gpu)?;
        let one: Vec<f32> = (0..264 * 264).map(|e| f32::from(u8::from(e % 265 == 0))).collect();
        let one = Tensor::from_slice(&one, [264, 264], gpu)?;
        let y = with_f32_mode(F32Mode::Auto, || x.matmul(&one))?;
        assert_eq!(y.to_vec::<f32>()?, values);
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn bytes_of_any_sign_in_every_layout_tile_and_tail_give_the_same_sums() {
    fn check(gpu: &Device) -> Result<()> {
        const OF_BYTES: [Product; 4] = [
            |a, b| a.int_mm(b),
            |a, b| a.int_mm(&b.t()?),
            |a, b| a.t()?.int_mm(b),
            |a, b| a.t()?.int_mm(&b.t()?),
        ];
        // All 256 of them, on the CPU.
        let bytes = |shape: [usize; 2], dtype, seed: usize| {
            let all = (0..shape[0] * shape[1]).map(|i| ((i * 89 + seed) ^ (i >> 3)) as i32 % 256 - 128);
            Tensor::from_vec(all.collect::<Vec<_>>(), shape, &Device::cpu())?.to_dtype(dtype)
        };
        let signs = [DType::I8, DType::U8].into_iter().flat_map(|a| [[a, DType::I8], [a, DType::U8]]);
        let extents = [[72, 264, 784], [136, 136, 784], [72, 776, 400], [136, 392, 400]];
        for ([a, b], [m, n, k]) in signs.zip(extents) {
            compare(gpu, &bytes([m, k], a, 1)?, &bytes([n, k], b, 7)?, OF_BYTES[1])?;
        }
        in_every_layout(gpu, [264, 264, 784], [DType::I8, DType::U8], OF_BYTES)?;
        in_every_layout(gpu, [263, 261, 811], [DType::U8, DType::I8], OF_BYTES)?;
        // Sums wrap, and are cut into parts.
        let x = Tensor::full([80, 70_000], 255, (DType::U8, &Device::cpu()))?;
        compare(gpu, &x, &x, OF_BYTES[1])
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}
