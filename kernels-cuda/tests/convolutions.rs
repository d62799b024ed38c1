//! Convolutions on the emulated GPU against the CPU: both orders of memory, every form of window, and that channels stay last.
//!
//! Operands are small integers, so that all sums are exact and results are the same bits.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod convolution;
mod emulated_gpu;

use convolution::{Expected, ONE, channels_last, integers, of, values};
use emulated_gpu::on_emulated_gpu;
use tensor::{Conv, DType, Device, F32Mode, Pool, Result, Tensor, with_f32_mode};

fn is_channels_last(x: &Tensor) -> bool {
    let mut order: Vec<usize> = (0..x.rank()).filter(|&d| d != 1).collect();
    order.push(1);
    x.layout().permute(&order).is_contiguous()
}

/// The convolution and both gradients of operands in either order, against the CPU.
fn compare(gpu: &Device, dtype: DType, xs: &[usize], ws: &[usize], conv: &Conv) -> Result<()> {
    let Expected { x, w, b, g, results } = Expected::of(dtype, xs, ws, conv)?;
    let (backend, bias) = (gpu.backend(), b.to_device(gpu)?);
    for last in [false, true] {
        let there = |t: &Tensor| match last {
            true => channels_last(&t.to_device(gpu)?),
            false => t.to_device(gpu),
        };
        let (x, w, g) = (there(&x)?, there(&w)?, there(&g)?);
        let found = [
            backend.conv(&x, &w, Some(&bias), conv)?,
            backend.conv_grad_input(&g, &w, xs.into(), conv)?,
            backend.conv_grad_weight(&g, &x, ws.into(), conv)?,
        ];
        for (y, (what, expected)) in found.iter().zip(&results) {
            let label = format!("{what} of {dtype}, {xs:?} ∗ {ws:?}, channels last: {last}, {conv:?}");
            assert!(values(y)? == *expected, "{label}");
        }
    }
    Ok(())
}

/// Every form of window over one to three dims, in channels that do and do not fill vectors and tiles.
const CASES: [(&[usize], &[usize], Conv); 15] = [
    (&[2, 8, 9, 7], &[16, 8, 3, 3], of(ONE, [1, 1, 0], ONE, 1)),
    (&[1, 16, 8, 9], &[72, 16, 3, 2], of([2, 3, 1], [1, 0, 0], ONE, 1)),
    (&[2, 24, 7, 6], &[9, 24, 1, 1], of(ONE, [0; 3], ONE, 1)),
    (&[2, 8, 7, 6], &[8, 8, 1, 1], of([2, 2, 1], [0; 3], ONE, 1)),
    (&[1, 8, 12, 11], &[8, 8, 3, 3], of([2, 1, 1], [2, 3, 0], [2, 3, 1], 1)),
    (&[2, 3, 11, 10], &[16, 3, 5, 4], of([2, 2, 1], [2, 1, 0], ONE, 1)),
    (&[2, 1, 9, 9], &[5, 1, 3, 3], of(ONE, [1, 1, 0], ONE, 1)),
    (&[1, 32, 6, 5], &[16, 8, 3, 3], of(ONE, [1, 1, 0], ONE, 4)),
    (&[1, 12, 6, 5], &[6, 4, 3, 3], of([1, 2, 1], [1, 1, 0], ONE, 3)),
    (&[2, 16, 21], &[24, 16, 5], of([3, 1, 1], [2, 0, 0], [2, 1, 1], 1)),
    (&[1, 8, 5, 4, 6], &[8, 8, 2, 3, 2], of([2, 1, 2], [1, 1, 0], [1, 1, 2], 1)),
    (&[0, 8, 5, 5], &[8, 8, 3, 3], of(ONE, [1, 1, 0], ONE, 1)),
    // Images of one place, whose strides mean nothing.
    (&[2, 8, 1, 1], &[8, 8, 3, 3], of(ONE, [1, 1, 0], ONE, 1)),
    (&[2, 8, 2, 1], &[16, 8, 3, 3], of([2, 2, 1], [1, 1, 0], ONE, 1)),
    (&[1, 8, 1, 1], &[8, 8, 3, 3], of(ONE, [2, 2, 0], ONE, 1)),
];

/// One channel for each group: taps that a thread has in registers and others, with and without strides, in one to three dims.
const DEPTHWISE: [(&[usize], &[usize], Conv); 10] = [
    (&[2, 16, 9, 7], &[16, 1, 3, 3], of(ONE, [1, 1, 0], ONE, 16)),
    (&[1, 24, 8, 11], &[24, 1, 3, 3], of([2, 2, 1], [1, 1, 0], ONE, 24)),
    (&[2, 8, 9, 10], &[8, 1, 5, 5], of(ONE, [2, 2, 0], ONE, 8)),
    (&[1, 20, 7, 6], &[20, 1, 3, 3], of(ONE, [1, 1, 0], ONE, 20)),
    (&[1, 8, 9, 10], &[8, 1, 4, 2], of([1, 3, 1], [2, 0, 0], [1, 2, 1], 8)),
    (&[1, 8, 6, 6], &[8, 1, 1, 1], of(ONE, [2, 1, 0], ONE, 8)),
    (&[2, 8, 13], &[8, 1, 3], of(ONE, [1, 0, 0], ONE, 8)),
    (&[1, 8, 4, 5, 6], &[8, 1, 2, 3, 3], of([1, 2, 2], [1, 1, 0], ONE, 8)),
    (&[3, 264, 5, 5], &[264, 1, 3, 3], of(ONE, [1, 1, 0], ONE, 264)),
    (&[2, 8, 1, 1], &[8, 1, 3, 3], of(ONE, [1, 1, 0], ONE, 8)),
];

#[test]
fn depthwise_convolutions_and_their_gradients_are_those_of_the_cpu_in_either_order() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            for (xs, ws, conv) in &DEPTHWISE {
                compare(gpu, dtype, xs, ws, conv)?;
            }
        }
        let x = channels_last(&integers(&[1, 16, 6, 6], DType::BF16, 1)?.to_device(gpu)?)?;
        let w = integers(&[16, 1, 3, 3], DType::BF16, 2)?.to_device(gpu)?;
        assert!(is_channels_last(&x.conv(&w, None, &Conv::default().groups(16))?));
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn convolutions_and_their_gradients_are_those_of_the_cpu_in_either_order() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
            for (xs, ws, conv) in &CASES {
                compare(gpu, dtype, xs, ws, conv)?;
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn convolutions_rounded_to_tf32_have_every_form_of_window() {
    fn check(gpu: &Device) -> Result<()> {
        // Small integers are not rounded.
        for (xs, ws, conv) in &CASES {
            with_f32_mode(F32Mode::Fast, || compare(gpu, DType::F32, xs, ws, conv))?;
        }
        // Others are, to 11 significant bits.
        let wave = |dims: &[usize], step: f32| -> Result<Tensor> {
            let n: usize = dims.iter().product();
            Tensor::from_vec((0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>(), dims, gpu)
        };
        let (x, w) = (wave(&[1, 16, 9, 9], 0.37)?, wave(&[24, 16, 3, 3], 0.11)?);
        let conv = Conv::default().padding(1);
        let run = |mode| with_f32_mode(mode, || values(&x.conv(&w, None, &conv)?));
        let size = values(&x.abs()?.conv(&w.abs()?, None, &conv)?)?;
        let (exact, rounded) = (run(F32Mode::Strict)?, run(F32Mode::Fast)?);
        let errors = exact.iter().zip(&rounded).zip(&size).map(|((a, b), size)| (a - b).abs() / size);
        let worst = errors.fold(0.0, f64::max);
        assert!(worst < 1e-3 && worst > 1e-7, "{worst}");
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn results_have_their_channels_last_and_what_follows_keeps_them_there() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in [DType::BF16, DType::F32] {
            let x = integers(&[2, 8, 6, 5], dtype, 1)?.to_device(gpu)?;
            let w = integers(&[16, 8, 3, 3], dtype, 2)?.to_device(gpu)?;
            let b = integers(&[16], dtype, 3)?.to_device(gpu)?;
            let conv = Conv::default().padding(1);
            let y = x.conv(&w, Some(&b), &conv)?;
            assert!(is_channels_last(&y), "{:?}", y.layout());
            let dx = gpu.backend().conv_grad_input(&y, &w, x.shape(), &conv)?;
            assert!(is_channels_last(&dx), "{:?}", dx.layout());
            for (what, z) in
                [("relu", y.relu()?), ("add", y.add(&y)?), ("scaled", y.mul(&b.reshape([16, 1, 1])?)?)]
            {
                assert!(is_channels_last(&z), "{what}: {:?}", z.layout());
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn results_are_the_same_each_time() {
    fn check(gpu: &Device) -> Result<()> {
        let wave = |dims: &[usize], step: f32| -> Result<Tensor> {
            let n: usize = dims.iter().product();
            Tensor::from_vec((0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>(), dims, gpu)
        };
        let (x, g) = (wave(&[3, 8, 20, 20], 0.37)?, wave(&[3, 8, 20, 20], 0.11)?);
        let conv = Conv::default().padding(1);
        for dtype in [DType::F32, DType::BF16] {
            let (x, g) = (x.to_dtype(dtype)?, g.to_dtype(dtype)?);
            let run = || values(&gpu.backend().conv_grad_weight(&g, &x, [8, 8, 3, 3].into(), &conv)?);
            assert_eq!(run()?, run()?);
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn numbers_that_no_window_takes_may_be_huge_and_what_kernels_do_not_count_is_an_error() {
    fn check(gpu: &Device) -> Result<()> {
        let huge = Conv::default().stride(usize::MAX / 4).padding([1, 0]);
        compare(gpu, DType::F32, &[1, 4, 3, 3], &[4, 4, 3, 1], &huge)?;
        let x = Tensor::ones([1, 4, 3], gpu)?;
        let w = Tensor::ones([4, 4, 1], gpu)?;
        assert!(x.conv(&w, None, &Conv::default().padding(1 << 40).stride(1 << 50)).is_err());
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// Pooling of images with their channels last, forward and backward: the numbers of planes, and channels stay last.
#[test]
fn pooling_keeps_channels_last() {
    fn check(gpu: &Device) -> Result<()> {
        let cases: [(&[usize], Pool); 4] = [
            (&[2, 16, 7, 6], Pool::new(3).stride(2).padding(1)),
            (&[2, 5, 7, 6], Pool::new(2)),
            (&[2, 8, 9], Pool::new(3).stride(1).count_include_pad(false).padding(1)),
            (&[1, 8, 4, 5, 3], Pool::new(2).stride(1)),
        ];
        let backend = gpu.backend();
        for dtype in [DType::BF16, DType::F32, DType::F64] {
            for (dims, pool) in cases {
                let planes = integers(dims, dtype, 1)?.to_device(gpu)?;
                let last = channels_last(&planes)?;
                let run = |x: &Tensor| -> Result<Vec<Tensor>> {
                    let (y, places) = backend.max_pool_places(x, &pool, true)?;
                    let places = places.expect("places were asked for");
                    let index = backend.max_pool_index(&places, x.shape(), &pool)?;
                    let back = backend.max_pool_places_backward(&y, &places, x.shape(), &pool)?;
                    let mean = backend.avg_pool(x, &pool)?;
                    let mean_back = backend.avg_pool_backward(&mean, x.shape(), &pool)?;
                    let output = y.shape();
                    let (adaptive, at) = backend.adaptive_max_pool(x, output)?;
                    let cells = backend.adaptive_avg_pool(x, output)?;
                    let cells_back = backend.adaptive_avg_pool_backward(&cells, x.shape())?;
                    Ok(vec![y, index, back, mean, mean_back, adaptive, at, cells, cells_back])
                };
                for (i, (y, expected)) in run(&last)?.iter().zip(run(&planes)?).enumerate() {
                    assert!(is_channels_last(y), "{i} of {dims:?}: {:?}", y.layout());
                    assert!(values(y)? == values(&expected)?, "{i} of {dtype}, {dims:?}, {pool:?}");
                }
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// Batch normalisation of images with their channels last, against the CPU.
#[test]
fn batch_norm_keeps_channels_last() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in [DType::BF16, DType::F32, DType::F64] {
            for dims in [[3, 16, 5, 7], [2, 6, 5, 7], [9, 24, 11, 10], [40, 8, 1, 1]] {
                let run = |device: &Device| -> Result<Vec<Tensor>> {
                    let n: usize = dims.iter().product();
                    let wave: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 2.0 + 1.0).collect();
                    let x = Tensor::from_vec(wave, dims, device)?.to_dtype(dtype)?;
                    let x = channels_last(&x)?;
                    let (g, w) = (x.square()?, integers(&dims[1..2], dtype, 2)?.to_device(device)?);
                    let b = device.backend();
                    let (mean, variance) = b.batch_norm_stats(&x)?;
                    let rstd = variance.add_scalar(1e-3)?.rsqrt()?;
                    let y = b.batch_norm_apply(&x, &mean, &rstd, Some(&w), Some(&w))?;
                    let (dx, dw, db) = b.batch_norm_backward(&g, &x, &mean, &rstd, Some(&w), true)?;
                    Ok(vec![y, dx, mean, variance, dw, db])
                };
                let (found, expected) = (run(gpu)?, run(&Device::cpu())?);
                for (i, (y, expected)) in found.iter().zip(&expected).enumerate() {
                    assert!(i > 1 || is_channels_last(y), "{i} of {dims:?}: {:?}", y.layout());
                    let error = if dtype.size() == 2 { 0.02 } else { 1e-4 };
                    let (y, expected) = (values(y)?, values(expected)?);
                    let largest = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
                    let near = y.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= error * largest);
                    assert!(near, "{i} of {dtype}, {dims:?}: {y:?}, expected {expected:?}");
                }
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
