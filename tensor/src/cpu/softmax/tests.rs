use super::*;
use crate::backend::{CrossEntropy, Reduction};
use crate::cpu::{isa, threads};
use crate::{DType, Device, composed};

#[test]
fn fused_softmax_and_its_gradient_equal_the_composed_ones() -> Result<()> {
    let cases: [(&[usize], usize); 11] = [
        (&[], 0),
        (&[1], 0),
        (&[70, 10], 1),
        (&[19, 3], 1),
        (&[67, 64], 1),
        (&[9, 255], 1),
        (&[3, 9001], 1),
        (&[70, 10], 0),
        (&[2, 33, 700], 1),
        (&[2, 9001, 3], 1),
        (&[3, 0], 0),
    ];
    for ((shape, dim), log) in cases.into_iter().flat_map(|c| [(c, false), (c, true)]) {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            if shape.is_empty() && dtype != DType::F32 {
                continue;
            }
            let x = Tensor::randn(shape, (dtype, &Device::cpu()))?.mul_scalar(3.0)?;
            let g = x.mul_scalar(0.3)?.add_scalar(0.1)?;
            if shape.is_empty() {
                assert_eq!(softmax(&x, dim, log)?.item()?, if log { 0.0 } else { 1.0 });
                continue;
            }
            // Values up to 30; the halves differ by the rounding of every intermediate step.
            let tolerance = match dtype {
                DType::F64 => 1e-10,
                DType::F32 => 1e-4,
                _ => 0.2,
            };
            let y = composed::softmax(&x, dim, log)?;
            let dx = composed::softmax_backward(&g, &y, dim, log)?;
            for &level in isa::available() {
                let run = |n| {
                    threads::with_num_threads(n, || {
                        isa::with_isa(level, || -> Result<_> {
                            Ok((softmax(&x, dim, log)?, softmax_backward(&g, &y, dim, log)?))
                        })
                    })
                };
                let one = run(1)?;
                assert!(one.0.all_close(&y, tolerance, tolerance)?, "{shape:?} {dim} {dtype} {log}");
                assert!(one.1.all_close(&dx, tolerance, tolerance)?, "{shape:?} {dim} {dtype} {log}");
                for n in [2, 3, 7] {
                    let two = run(n)?;
                    assert!(one.0.all_close(&two.0, 0.0, 0.0)? && one.1.all_close(&two.1, 0.0, 0.0)?);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn large_logits_do_not_overflow_and_infinities_behave() -> Result<()> {
    let inf = f32::INFINITY;
    let x = Tensor::from_slice(&[1e30, 1e30, -inf, 0.0, -inf, 5.0], [2, 3], &Device::cpu())?;
    let y = softmax(&x, 1, false)?.to_vec::<f32>()?;
    assert_eq!(y[..3], [0.5, 0.5, 0.0]);
    assert_eq!(y[4], 0.0);
    assert!((y[3] + y[5] - 1.0).abs() < 1e-6);
    let empty = Tensor::full([2], -inf, &Device::cpu())?;
    assert!(softmax(&empty, 0, false)?.to_vec::<f32>()?.iter().all(|y| y.is_nan()));
    Ok(())
}

#[test]
fn small_shares_are_as_exact_as_large_ones_down_to_the_least_float() -> Result<()> {
    let data: Vec<f32> = (0..1100).map(|i| -0.1 * i as f32).collect();
    let x = Tensor::from_slice(&data, [1100], &Device::cpu())?;
    let terms: Vec<f64> = data.iter().map(|&x| f64::from(x).exp()).collect();
    let sum: f64 = terms.iter().sum();
    for &level in isa::available() {
        for view in [x.clone(), x.reshape([1100, 1])?.broadcast_to([1100, 3])?.narrow(1, 1, 1)?] {
            let y = isa::with_isa(level, || softmax(&view, 0, false))?.flatten(0)?.to_vec::<f32>()?;
            for (y, term) in y.iter().zip(&terms) {
                let expected = term / sum;
                // A few roundings, and half the distance of subnormal numbers.
                assert!((f64::from(*y) - expected).abs() <= 4e-7 * expected + 0.8e-45, "{y} {expected:e}");
            }
        }
    }
    Ok(())
}

#[test]
fn fused_cross_entropy_and_its_gradient_equal_the_composed_ones() -> Result<()> {
    let device = Device::cpu();
    for shape in [vec![1, 1], vec![70, 10], vec![3, 9001], vec![5, 7, 3], vec![2, 33, 20, 35], vec![0, 4]] {
        let classes = shape[1];
        let rest: Vec<usize> = shape.iter().enumerate().filter(|&(d, _)| d != 1).map(|(_, &n)| n).collect();
        let targets: Vec<i64> = (0..rest.iter().product::<usize>())
            .map(|i| if i % 5 == 4 { -7 } else { (i * 31 % classes) as i64 })
            .collect();
        let target = Tensor::from_slice(&targets, rest, &device)?;
        let weight = Tensor::rand([classes], &device)?.add_scalar(0.1)?;
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let x = Tensor::randn(shape.clone(), (dtype, &device))?.mul_scalar(3.0)?;
            // Losses of up to 30; what a half keeps of them, and of the sums of many.
            let tolerance = match dtype {
                DType::F64 => 1e-10,
                DType::F32 => 1e-4,
                _ => 0.02,
            };
            let weight = weight.to_dtype(dtype)?;
            for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
                for (label_smoothing, weight) in
                    [(0.0, None), (0.3, None), (0.0, Some(&weight)), (0.3, Some(&weight))]
                {
                    let options = CrossEntropy { weight, ignore_index: -7, label_smoothing, reduction };
                    let label = format!("{shape:?} {dtype} {options:?}");
                    let (loss, dx) = composed::cross_entropy(&x, &target, &options, true)?;
                    let dx = dx.expect("it was asked for");
                    for &level in isa::available() {
                        let run = |n| {
                            let run = || cross_entropy(&x, &target, &options, true);
                            threads::with_num_threads(n, || isa::with_isa(level, run))
                        };
                        let (y, d) = run(1)?;
                        let d = d.expect("it was asked for");
                        assert!(y.all_close(&loss, tolerance, tolerance)?, "{label}: {y}, expected {loss}");
                        assert!(d.all_close(&dx, tolerance, tolerance)?, "{label}: gradient");
                        let (y3, d3) = run(3)?;
                        assert!(
                            y.all_close(&y3, 0.0, 0.0)?
                                && d3.is_some_and(|e| e.all_close(&d, 0.0, 0.0).unwrap_or(false))
                        );
                    }
                    let alone = cross_entropy(&x, &target, &options, false)?;
                    assert!(alone.0.all_close(&loss, tolerance, tolerance)? && alone.1.is_none(), "{label}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_class_that_is_not_there_is_an_error_and_what_is_ignored_counts_for_nothing() -> Result<()> {
    let device = Device::cpu();
    let options =
        |reduction| CrossEntropy { weight: None, ignore_index: -100, label_smoothing: 0.0, reduction };
    let x = Tensor::from_slice(&[f32::NAN, f32::INFINITY, 0.0, 0.0], [2, 2], &device)?;
    for target in [[2i64, 0], [-1, 0]] {
        let target = Tensor::from_slice(&target, [2], &device)?;
        let fails = [
            cross_entropy(&x, &target, &options(Reduction::Mean), true),
            composed::cross_entropy(&x, &target, &options(Reduction::Mean), true),
        ];
        assert!(fails.iter().all(|f| f.as_ref().is_err_and(|e| e.to_string().contains("is out of range"))));
    }
    let target = Tensor::from_slice(&[-100i64, 1], [2], &device)?;
    let (loss, dx) = cross_entropy(&x, &target, &options(Reduction::Mean), true)?;
    assert!((loss.item()? - 2f64.ln()).abs() < 1e-6);
    assert_eq!(dx.expect("it was asked for").to_vec::<f32>()?, [0.0, 0.0, 0.5, -0.5]);
    let nothing = Tensor::from_slice(&[-100i64, -100], [2], &device)?;
    let (loss, dx) = cross_entropy(&x, &nothing, &options(Reduction::Mean), true)?;
    assert!(loss.item()?.is_nan());
    assert_eq!(dx.expect("it was asked for").to_vec::<f32>()?, [0.0; 4]);
    Ok(())
}
