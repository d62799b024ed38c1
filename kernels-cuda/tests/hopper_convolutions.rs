//! Convolutions and their gradients by Hopper's kernels on the emulated GPU: every form of window, in one to three dims, against the CPU.
//!
//! Operands are small integers, so that all sums are exact and results are the same bits.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod convolution;
mod emulated_gpu;
mod emulated_hopper;

use convolution::{Expected, ONE, channels_last, integers, of, values};
use emulated_hopper::on_emulated_hopper;
use gradus_kernels_cuda::emulator;
use tensor::op::UnaryOp;
use tensor::{Conv, DType, Device, Result, Tensor};

/// `f()`, and whether it takes a map of pixels: without one it cannot be computed.
fn gathers(f: impl Fn() -> Result<Tensor>) -> Result<(Tensor, bool)> {
    let gathers = emulator::installed() && emulator::failing("cuTensorMapEncodeIm2col", 1, &f).is_err();
    Ok((f()?, gathers))
}

/// The convolution with a bias and both gradients against the CPU, and which of them Hopper's kernels compute.
fn compare(gpu: &Device, dtype: DType, xs: &[usize], ws: &[usize], conv: &Conv) -> Result<[bool; 3]> {
    let Expected { x, w, b, g, results } = Expected::of(dtype, xs, ws, conv)?;
    let backend = gpu.backend();
    let there = |t: &Tensor| channels_last(&t.to_device(gpu)?);
    let (bias, x, w, g) = (b.to_device(gpu)?, there(&x)?, there(&w)?, there(&g)?);
    let found = [
        gathers(|| backend.conv(&x, &w, Some(&bias), conv))?,
        gathers(|| backend.conv_grad_input(&g, &w, xs.into(), conv))?,
        gathers(|| backend.conv_grad_weight(&g, &x, ws.into(), conv))?,
    ];
    for ((y, _), (what, expected)) in found.iter().zip(&results) {
        let got = values(y)?;
        let wrong = got.iter().zip(expected).filter(|(a, b)| a != b).count();
        assert!(wrong == 0, "{what} of {dtype}, {xs:?} ∗ {ws:?}, {conv:?}: {wrong} of {} differ", got.len());
    }
    Ok(found.map(|(_, gathers)| gathers))
}

/// Images, weights and windows, and which of the convolution and its gradients are for Hopper's kernels: those whose blocks of 64
/// channels are mostly filled, and that are not too small for its tiles.
type Case = (&'static [usize], &'static [usize], Conv, [bool; 3]);

/// Every form of window.
const WINDOWS: [Case; 13] = [
    (&[2, 64, 13, 11], &[72, 64, 3, 3], of(ONE, [1, 1, 0], ONE, 1), [true; 3]),
    (&[1, 128, 31, 31], &[128, 128, 3, 3], of([2, 2, 1], [1, 1, 0], ONE, 1), [true; 3]),
    (&[2, 64, 19, 20], &[136, 64, 1, 1], of(ONE, [0; 3], ONE, 1), [true, true, false]),
    (&[2, 256, 31, 30], &[64, 256, 1, 1], of([2, 2, 1], [0; 3], ONE, 1), [true, false, false]),
    (&[1, 96, 12, 17], &[120, 96, 3, 3], of(ONE, [2, 2, 0], [2, 2, 1], 1), [true, true, false]),
    (&[2, 64, 11, 12], &[67, 64, 3, 3], of(ONE, [0, 1, 0], ONE, 1), [true, false, true]),
    (&[2, 64, 300], &[64, 64, 5], of([1, 1, 1], [4, 0, 0], [2, 1, 1], 1), [true; 3]),
    (&[1, 64, 700], &[64, 64, 2], of(ONE, [128, 0, 0], [256, 1, 1], 1), [true, true, false]),
    (&[1, 64, 5, 6, 7], &[64, 64, 3, 3, 3], of(ONE, [1, 1, 1], ONE, 1), [true; 3]),
    (&[1, 64, 9, 7, 15], &[128, 64, 2, 3, 2], of([2, 1, 2], [1, 1, 0], [1, 1, 2], 1), [true; 3]),
    (&[1, 128, 12, 13], &[128, 64, 3, 3], of(ONE, [1, 1, 0], ONE, 2), [true; 3]),
    (&[1, 64, 46, 48], &[128, 64, 5, 1], of([3, 2, 1], [2, 0, 0], ONE, 1), [true; 3]),
    (&[1, 64, 62, 63], &[128, 64, 2, 2], of([3, 3, 1], [1, 1, 0], ONE, 1), [true; 3]),
];

/// The other tiles, and sums in parts.
const TILES: [Case; 10] = [
    (&[1, 64, 13, 20], &[512, 64, 1, 1], of(ONE, [0; 3], ONE, 1), [true; 3]),
    (&[1, 128, 10, 10], &[1024, 128, 1, 1], of(ONE, [0; 3], ONE, 1), [true, false, true]),
    (&[1, 128, 13, 10], &[512, 128, 1, 1], of(ONE, [0; 3], ONE, 1), [true, true, false]),
    (&[1, 192, 131], &[136, 192, 2], of(ONE, [0; 3], ONE, 1), [true, false, true]),
    (&[1, 64, 10, 10], &[264, 64, 3, 3], of(ONE, [1, 1, 0], ONE, 1), [true; 3]),
    (&[1, 256, 10, 10], &[512, 256, 1, 1], of(ONE, [0; 3], ONE, 1), [true; 3]),
    (&[1, 64, 260], &[136, 64, 3], of(ONE, [1, 0, 0], ONE, 1), [true; 3]),
    (&[1, 64, 104], &[64, 64, 5], of(ONE, [0; 3], ONE, 1), [false, false, true]),
    (&[1, 64, 264], &[72, 64, 5], of(ONE, [0; 3], ONE, 1), [true; 3]),
    (&[1, 128, 2000], &[64, 128, 1], of(ONE, [0; 3], ONE, 1), [true; 3]),
];

fn all(gpu: &Device, cases: &[Case]) -> Result<()> {
    for ((xs, ws, conv, hopper), dtype) in cases.iter().zip([DType::BF16, DType::F16].into_iter().cycle()) {
        let found = compare(gpu, dtype, xs, ws, conv)?;
        assert!(found == *hopper || !emulator::installed(), "{found:?} of {xs:?} ∗ {ws:?}, {conv:?}");
    }
    Ok(())
}

#[test]
fn every_form_of_window_gives_the_sums_of_the_cpu() {
    on_emulated_hopper(|gpu| all(gpu, &WINDOWS).unwrap());
}

#[test]
fn every_tile_gives_the_sums_of_the_cpu() {
    on_emulated_hopper(|gpu| all(gpu, &TILES).unwrap());
}

#[test]
fn a_convolution_is_finished_by_its_kernel() {
    fn check(gpu: &Device) -> Result<()> {
        let conv = Conv::default().padding(1);
        for (dtype, outputs) in [(DType::F16, 72), (DType::BF16, 67)] {
            let (x, w) = (integers(&[2, 64, 12, 10], dtype, 1)?, integers(&[outputs, 64, 3, 3], dtype, 2)?);
            let (b, r) = (integers(&[outputs], dtype, 3)?, integers(&[2, outputs, 12, 10], dtype, 4)?);
            let run = |x: &Tensor, w: &Tensor, b: &Tensor, r: &Tensor| {
                x.device().backend().conv_fused(x, w, Some(b), &conv, Some(r), Some(UnaryOp::Relu))
            };
            let expected = values(&run(&x, &w, &b, &r)?)?;
            let [x, w, b, r] = [&x, &w, &b, &r].map(|t| t.to_device(gpu));
            let (x, w, b, r) = (x?, w?, b?, r?);
            let (y, gathers) = gathers(|| run(&x, &w, &b, &r))?;
            assert!(values(&y)? == expected && (gathers || !emulator::installed()), "{dtype}");
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn images_may_be_some_of_the_channels_and_rows_of_others() {
    fn check(gpu: &Device) -> Result<()> {
        let conv = Conv::default().padding(1);
        let whole = integers(&[2, 136, 13, 14], DType::BF16, 1)?;
        let w = integers(&[72, 64, 3, 3], DType::BF16, 2)?;
        let part = |x: &Tensor| x.narrow(1, 64, 64)?.narrow(2, 1, 11)?.narrow(3, 2, 12);
        let expected = values(&part(&whole)?.conv(&w, None, &conv)?)?;
        let (x, w) = (part(&channels_last(&whole.to_device(gpu)?)?)?, w.to_device(gpu)?);
        let (y, gathers) = gathers(|| x.conv(&w, None, &conv))?;
        assert!(values(&y)? == expected && (gathers || !emulator::installed()));
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn channels_that_fill_blocks_up_meet_no_infinity() {
    fn check(gpu: &Device) -> Result<()> {
        let conv = Conv::default().padding(1);
        let x = integers(&[1, 96, 14, 15], DType::BF16, 1)?.to_vec::<tensor::bf16>()?;
        let strange =
            x.iter().enumerate().map(|(i, &x)| if i == 95 * 210 + 33 { tensor::bf16::INFINITY } else { x });
        let x = Tensor::from_vec(strange.collect::<Vec<_>>(), [1, 96, 14, 15], &Device::cpu())?;
        let w = integers(&[72, 96, 3, 3], DType::BF16, 2)?;
        let expected = values(&x.conv(&w, None, &conv)?)?;
        let (x, w) = (x.to_device(gpu)?, w.to_device(gpu)?);
        let (y, gathers) = gathers(|| x.conv(&w, None, &conv))?;
        assert!(gathers || !emulator::installed());
        for (a, b) in values(&y)?.into_iter().zip(expected) {
            assert!(a == b || a.is_nan() && b.is_nan(), "{a} {b}");
        }
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}

#[test]
fn parts_of_sums_come_out_the_same_each_time() {
    fn check(gpu: &Device) -> Result<()> {
        let wave = |dims: &[usize], step: f32| -> Result<Tensor> {
            let n: usize = dims.iter().product();
            let wave: Vec<f32> = (0..n).map(|i| (i as f32 * step).sin()).collect();
            Tensor::from_vec(wave, dims, gpu)?.to_dtype(DType::BF16)
        };
        let (x, g) = (wave(&[1, 128, 2000], 0.37)?, wave(&[1, 64, 2000], 0.11)?);
        let run = || gpu.backend().conv_grad_weight(&g, &x, [64, 128, 1].into(), &Conv::default());
        let (first, gathers) = gathers(run)?;
        assert!(values(&first)? == values(&run()?)? && (gathers || !emulator::installed()));
        Ok(())
    }
    on_emulated_hopper(|gpu| check(gpu).unwrap());
}
