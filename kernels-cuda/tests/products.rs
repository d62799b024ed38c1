//! Matrix products on the emulated GPU, beyond the contract suite: exact sums of small integers in every view and tile.
//!
//! Integers are multiplied by the naive kernel, which makes it the oracle of the others.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use tensor::{DType, Device, F32Mode, Result, Tensor, with_f32_mode};

/// Small integers, so that sums are exact in whatever order and type.
fn integers(shape: &[usize], seed: usize, gpu: &Device) -> Result<Tensor> {
    let n: usize = shape.iter().product();
    let values: Vec<i32> = (0..n).map(|i| ((i * 7 + seed * 3 + i / 11) % 5) as i32 - 2).collect();
    Tensor::from_vec(values, shape, gpu)
}

/// The product of integers, which must be that of the CPU, and that of each float type, which must be the same once rounded to it.
fn compare(a: &Tensor, b: &Tensor, floats: &[DType]) -> Result<()> {
    let cpu = Device::cpu();
    let expected = a.to_device(&cpu)?.matmul(&b.to_device(&cpu)?)?;
    assert_eq!(a.matmul(b)?.to_vec::<i32>()?, expected.to_vec::<i32>()?, "{a:?} {b:?}");
    for &dtype in floats {
        let y = a.to_dtype(dtype)?.matmul(&b.to_dtype(dtype)?)?.to_dtype(DType::F64)?.to_vec::<f64>()?;
        let rounded = expected.to_dtype(dtype)?.to_dtype(DType::F64)?.to_vec::<f64>()?;
        assert_eq!(y, rounded, "{dtype} {:?} {:?}", a.shape(), b.shape());
    }
    Ok(())
}

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

#[test]
fn products_of_views_are_products_of_integers() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in [DType::I32].into_iter().chain(FLOATS) {
            let x = integers(&[3, 4, 9, 16], 1, gpu)?.to_dtype(dtype)?;
            let y = integers(&[3, 4, 16, 24], 2, gpu)?.to_dtype(dtype)?;
            let cases = [
                (x.clone(), y.clone()),
                (x.transpose(0, 1)?, y.transpose(0, 1)?),
                (x.narrow(1, 1, 2)?, y.narrow(1, 1, 2)?),
                (x.narrow(3, 3, 11)?, y.narrow(2, 4, 11)?),
                (x.narrow(3, 8, 8)?, y.narrow(2, 8, 8)?.narrow(3, 8, 16)?),
                (x.flip([0, 3])?, y.flip([1, 2])?),
                (x.select(0, 0)?.unsqueeze(0)?.broadcast_to([3, 4, 9, 16])?, y.clone()),
                (x.clone(), y.narrow(0, 1, 1)?.narrow(1, 2, 1)?.broadcast_to([3, 4, 16, 24])?),
                (x.narrow(2, 4, 1)?, y.narrow(3, 5, 1)?),
                (x.narrow(0, 0, 0)?, y.narrow(0, 0, 0)?),
                (x.narrow(3, 0, 0)?, y.narrow(2, 0, 0)?),
            ];
            let cpu = Device::cpu();
            for (a, b) in cases {
                let of_integers = |t: &Tensor| t.to_device(&cpu)?.to_dtype(DType::I32);
                let expected = of_integers(&a)?.matmul(&of_integers(&b)?)?.to_vec::<i32>()?;
                let got = a.matmul(&b)?.to_dtype(DType::I32)?.to_vec::<i32>()?;
                assert_eq!(got, expected, "{dtype} {:?} {:?}", a.layout(), b.layout());
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn every_tile_and_every_tail_gives_the_same_sums() {
    fn check(gpu: &Device) -> Result<()> {
        for [m, k, n] in [[1, 1, 1], [65, 17, 63], [130, 40, 140], [8, 72, 264]] {
            compare(&integers(&[m, k], 3, gpu)?, &integers(&[k, n], 4, gpu)?, &FLOATS)?;
            let turned = integers(&[n, k], 5, gpu)?;
            compare(&integers(&[m, k], 6, gpu)?, &turned.t()?, &[DType::F32])?;
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn long_sums_are_cut_into_parts_and_come_out_the_same_each_time() {
    fn check(gpu: &Device) -> Result<()> {
        for (m, k, n) in [(3, 6000, 5), (16, 4096, 24)] {
            compare(
                &integers(&[2, m, k], 7, gpu)?,
                &integers(&[2, k, n], 8, gpu)?,
                &[DType::F32, DType::F64, DType::BF16],
            )?;
            let x = Tensor::from_vec(
                (0..m * k).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>(),
                [m, k],
                gpu,
            )?;
            let y = Tensor::from_vec(
                (0..k * n).map(|i| (i as f32 * 0.11).cos()).collect::<Vec<_>>(),
                [k, n],
                gpu,
            )?;
            let first = x.matmul(&y)?.to_vec::<f32>()?;
            assert_eq!(x.matmul(&y)?.to_vec::<f32>()?, first);
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn a_linear_layer_adds_its_bias_to_every_row() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in FLOATS {
            let x = integers(&[2, 3, 5], 1, gpu)?.to_dtype(dtype)?;
            let (w, b) =
                (integers(&[7, 5], 2, gpu)?.to_dtype(dtype)?, integers(&[7], 3, gpu)?.to_dtype(dtype)?);
            let plain = x.matmul(&w.t()?.broadcast_to([2, 5, 7])?)?;
            let backend = gpu.backend();
            for (bias, expected) in [(None, plain.clone()), (Some(&b), plain.add(&b)?)] {
                let y = backend.linear(&x, &w, bias)?;
                assert_eq!(
                    (y.dims(), y.to_dtype(DType::F64)?.to_vec::<f64>()?),
                    (&[2, 3, 7][..], expected.to_dtype(DType::F64)?.to_vec::<f64>()?)
                );
            }
            // A view of the rows, a bias that is one number, and a layer without inputs.
            let (turned, one) = (x.transpose(0, 1)?, b.narrow(0, 0, 1)?.broadcast_to([7])?);
            let y = backend.linear(&turned, &w, Some(&one))?;
            let expected = plain.transpose(0, 1)?.add(&one)?;
            assert_eq!(
                y.to_dtype(DType::F64)?.to_vec::<f64>()?,
                expected.to_dtype(DType::F64)?.to_vec::<f64>()?
            );
            let none = backend.linear(&x.narrow(2, 0, 0)?, &w.narrow(1, 0, 0)?, Some(&b))?;
            assert_eq!(
                none.to_dtype(DType::F64)?.to_vec::<f64>()?,
                b.broadcast_to([2, 3, 7])?.to_dtype(DType::F64)?.to_vec::<f64>()?
            );
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// Numbers in [-1, 1] with all their bits.
fn uniform(shape: &[usize], seed: u64) -> Vec<f32> {
    let n: usize = shape.iter().product();
    let mixed =
        |i: usize| (i as u64 + 1).wrapping_mul(seed * 2 + 0x9e37_79b9_7f4a_7c15).rotate_left(29) >> 39;
    (0..n).map(|i| (mixed(i) % (1 << 25)) as f32 / (1 << 24) as f32 - 1.0).collect()
}

/// `[m, k] · [k, n]` in `f64`, and the same of magnitudes.
fn exact(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<(f64, f64)> {
    let term = |e: usize, l: usize| f64::from(a[e / n * k + l]) * f64::from(b[l * n + e % n]);
    (0..m * n).map(|e| ((0..k).map(|l| term(e, l)).sum(), (0..k).map(|l| term(e, l).abs()).sum())).collect()
}

/// The same operands with contiguous rows or columns.
fn in_every_layout(x: &Tensor, y: &Tensor) -> Result<[(Tensor, Tensor); 4]> {
    let turned = |t: &Tensor| t.t()?.copy()?.t();
    Ok([(x.clone(), y.clone()), (turned(x)?, y.clone()), (x.clone(), turned(y)?), (turned(x)?, turned(y)?)])
}

#[test]
fn each_f32_mode_is_as_exact_as_it_says_in_every_layout() {
    fn check(gpu: &Device) -> Result<()> {
        let [m, k, n] = [70, 100, 66];
        let (a, b) = (uniform(&[m, k], 1), uniform(&[k, n], 2));
        let expected = exact(&a, &b, [m, k, n]);
        let (x, y) = (Tensor::from_vec(a, [m, k], gpu)?, Tensor::from_vec(b, [k, n], gpu)?);
        for (x, y) in in_every_layout(&x, &y)? {
            let mut worst = vec![];
            for mode in [F32Mode::Strict, F32Mode::Auto, F32Mode::Fast, F32Mode::Bf16] {
                let got = with_f32_mode(mode, || x.matmul(&y))?.to_vec::<f32>()?;
                let errors = got.iter().zip(&expected).map(|(&y, (e, size))| (f64::from(y) - e).abs() / size);
                worst.push(errors.fold(0.0, f64::max));
            }
            assert!(worst[0] < 5e-7 && worst[1] <= worst[0], "{worst:?}");
            assert!(worst[2] < 3e-4 && worst[2] > 1e-6 && worst[3] < 3e-4, "{worst:?}");
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn a_product_with_one_is_the_number_itself() {
    fn check(gpu: &Device) -> Result<()> {
        let values = uniform(&[64, 64], 3);
        let x = Tensor::from_slice(&values, [64, 64], gpu)?;
        let one: Vec<f32> = (0..64 * 64).map(|e| f32::from(u8::from(e % 65 == 0))).collect();
        let y = with_f32_mode(F32Mode::Auto, || x.matmul(&Tensor::from_slice(&one, [64, 64], gpu)?))?;
        assert_eq!(y.to_vec::<f32>()?, values);
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn numbers_that_cannot_be_split_are_multiplied_as_they_are() {
    fn check(gpu: &Device) -> Result<()> {
        let [m, k, n] = [40, 80, 24];
        let (mut a, mut b) = (uniform(&[m, k], 4), uniform(&[k, n], 5));
        let strange =
            [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45, 2e-31, 3e18];
        for (i, &x) in strange.iter().enumerate() {
            a[i * 3 * k + i * 9] = x;
            b[i * 5 * n + i] = x;
        }
        let expected = exact(&a, &b, [m, k, n]);
        let (x, y) = (Tensor::from_vec(a, [m, k], gpu)?, Tensor::from_vec(b, [k, n], gpu)?);
        let run = |mode| with_f32_mode(mode, || x.matmul(&y)?.to_vec::<f32>());
        for (e, (got, strict)) in run(F32Mode::Auto)?.into_iter().zip(run(F32Mode::Strict)?).enumerate() {
            if strict.is_finite() {
                let error = (f64::from(got) - expected[e].0).abs();
                assert!(error <= 5e-7 * expected[e].1, "element {e}: {got}, expected {strict}");
            } else {
                assert!(
                    got == strict || got.is_nan() && strict.is_nan(),
                    "element {e}: {got}, expected {strict}"
                );
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn few_rows_or_columns_give_the_same_sums_in_every_view() {
    fn check(gpu: &Device) -> Result<()> {
        for (few, many, k) in
            [(1, 300, 1100), (2, 70, 64), (3, 33, 9), (4, 24, 2000), (7, 40, 72), (8, 129, 40)]
        {
            for [m, n] in [[few, many], [many, few]] {
                let (a, b) = (integers(&[2, m, k], 1, gpu)?, integers(&[2, k, n], 2, gpu)?);
                compare(&a, &b, &FLOATS)?;
                let turned = |t: &Tensor| t.transpose(1, 2)?.copy()?.transpose(1, 2);
                compare(&turned(&a)?, &b, &FLOATS)?;
                compare(&a, &turned(&b)?, &[DType::F32, DType::BF16])?;
                // Neither whole nor aligned runs, and one matrix for all.
                compare(&a.narrow(2, 1, k - 3)?, &b.narrow(1, 2, k - 3)?, &FLOATS)?;
                compare(&a.flip([1, 2])?, &b.flip([2])?, &[DType::F32, DType::F16])?;
                compare(&a, &b.narrow(0, 1, 1)?.broadcast_to([2, k, n])?, &[DType::F32, DType::F16])?;
            }
        }
        // A long sum, which is cut into parts.
        compare(&integers(&[1, 100_000], 3, gpu)?, &integers(&[100_000, 1], 4, gpu)?, &FLOATS[..2])?;
        compare(&integers(&[3, 20_000], 5, gpu)?, &integers(&[20_000, 8], 6, gpu)?, &FLOATS[..2])
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn a_linear_layer_of_few_rows_has_every_part_of_the_epilogue() {
    fn check(gpu: &Device) -> Result<()> {
        for (dtype, rows) in FLOATS.into_iter().flat_map(|t| [(t, 1), (t, 3), (t, 6)]) {
            let of = |shape: &[usize], seed| integers(shape, seed, gpu)?.to_dtype(dtype);
            let (x, w, b, r) = (of(&[rows, 40], 1)?, of(&[50, 40], 2)?, of(&[50], 3)?, of(&[rows, 50], 4)?);
            let (backend, relu) = (gpu.backend(), Some(tensor::op::UnaryOp::Relu));
            for w in [w.clone(), w.t()?.copy()?.t()?] {
                let y = backend.linear_fused(&x, &w, Some(&b), Some(&r), relu)?;
                let expected = backend.matmul(&x, &w.t()?)?.add(&b)?.add(&r)?.relu()?;
                let values = |t: &Tensor| t.to_dtype(DType::F64)?.to_vec::<f64>();
                assert_eq!(values(&y)?, values(&expected)?, "{dtype}, {rows} rows");
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn products_of_bytes_are_those_of_the_processor() {
    fn check(gpu: &Device) -> Result<()> {
        let cpu = Device::cpu();
        for (da, db) in [DType::I8, DType::U8].into_iter().flat_map(|a| [(a, DType::I8), (a, DType::U8)]) {
            let bytes = |shape: [usize; 2], dtype, seed: usize| {
                let all = (0..shape[0] * shape[1]).map(|i| ((i * 89 + seed) ^ (i >> 3)) as i32 % 256 - 128);
                Tensor::from_vec(all.collect::<Vec<_>>(), shape, &cpu)?.to_dtype(dtype)
            };
            for [m, k, n] in [[1, 1, 1], [5, 70, 9], [64, 64, 64], [130, 200, 144], [16, 4096, 32], [3, 0, 2]]
            {
                let (a, b) = (bytes([m, k], da, 1)?, bytes([k, n], db, 7)?);
                let expected = a.int_mm(&b)?.to_vec::<i32>()?;
                let (x, y) = (a.to_device(gpu)?, b.to_device(gpu)?);
                let reversed = (x.flip([0, 1])?.copy()?.flip([0, 1])?, y.clone());
                for (x, y) in in_every_layout(&x, &y)?.into_iter().chain([reversed]) {
                    assert_eq!(x.int_mm(&y)?.to_vec::<i32>()?, expected, "{da} {db} {m} {k} {n}");
                }
            }
        }
        // Sums wrap.
        let x = Tensor::full([2, 70_000], 255, (DType::U8, gpu))?;
        assert_eq!(x.int_mm(&x.t()?)?.to_vec::<i32>()?, [(70_000u32.wrapping_mul(255 * 255)) as i32; 4]);
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn many_small_matrices_are_multiplied_together() {
    fn check(gpu: &Device) -> Result<()> {
        for [m, k, n] in [[4, 4, 4], [16, 16, 16], [9, 40, 32], [1, 3, 32], [31, 5, 10]] {
            let (a, b) = (integers(&[5, 9, m, k], 1, gpu)?, integers(&[5, 9, k, n], 2, gpu)?);
            compare(&a, &b, &FLOATS)?;
            let turned = |t: &Tensor| t.transpose(2, 3)?.copy()?.transpose(2, 3);
            compare(&turned(&a)?, &b.transpose(0, 1)?.copy()?.transpose(0, 1)?, &FLOATS)?;
            compare(&a.flip([0, 3])?, &turned(&b)?, &[DType::F32, DType::F16])?;
            compare(&a.narrow(0, 1, 1)?.broadcast_to([5, 9, m, k])?, &b, &[DType::F64, DType::BF16])?;
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
