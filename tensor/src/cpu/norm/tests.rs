use super::*;
use crate::cpu::simd::stream::tests::streaming_from;
use crate::cpu::{isa, threads};
use crate::{DType, Device, Distribution, Generator, composed};

fn normal(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let normal = Distribution::Normal { mean: 3.0, std: 2.0 };
    Tensor::random(normal, shape, &Device::cpu(), &mut Generator::new(seed))
}

/// Equal to the composed form up to rounding, and bit for bit for any number of threads, on each level.
fn same(
    label: &str,
    tolerance: f64,
    expected: &[Tensor],
    run: impl Fn() -> Result<Vec<Tensor>>,
) -> Result<()> {
    for &level in isa::available() {
        let run = |n| threads::with_num_threads(n, || isa::with_isa(level, &run));
        let one = run(1)?;
        for (i, (y, e)) in one.iter().zip(expected).enumerate() {
            assert!(y.all_close(e, tolerance, tolerance)?, "{label} {level} result {i}: {y} expected {e}");
        }
        for (a, b) in one.iter().zip(run(3)?) {
            assert!(a.all_close(&b, 0.0, 0.0)?, "{label}: threads change a result");
        }
    }
    Ok(())
}

/// Gradients sum up to `n` terms of order 1.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-10,
        DType::F32 => 1e-3,
        _ => 0.2,
    }
}

#[test]
fn fused_layer_norm_equals_the_composed_one() -> Result<()> {
    for (shape, dims) in [
        (vec![1], 1),
        (vec![130, 37], 1),
        (vec![19, 3], 1),
        (vec![67, 64], 1),
        (vec![9, 256], 1),
        (vec![5, 257], 1),
        (vec![3, 5000], 1),
        (vec![4, 3, 5], 2),
        (vec![0, 3], 1),
    ] {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let (x, g) = (normal(1, &shape)?.to_dtype(dtype)?, normal(2, &shape)?.to_dtype(dtype)?);
            let affine = &shape[shape.len() - dims..];
            let (w, b) = (normal(3, affine)?.to_dtype(dtype)?, normal(4, affine)?.to_dtype(dtype)?);
            for (w, b) in [(Some(&w), Some(&b)), (Some(&w), None), (None, None)] {
                let (y, mean, rstd) = composed::layer_norm(&x, dims, w, b, 1e-5)?;
                let label = format!("{shape:?} {dtype}");
                same(&label, tolerance(dtype), &[y, mean.clone(), rstd.clone()], || {
                    let (y, mean, rstd) = layer_norm(&x, dims, w, b, 1e-5)?;
                    Ok(vec![y, mean, rstd])
                })?;
                let (dx, dw, db) = composed::layer_norm_backward(&g, &x, &mean, &rstd, w, dims)?;
                same(&label, tolerance(dtype), &[dx, dw, db], || {
                    let (dx, dw, db) = layer_norm_backward(&g, &x, &mean, &rstd, w, dims)?;
                    Ok(vec![dx, dw, db])
                })?;
                let (y, rstd) = composed::rms_norm(&x, dims, w, 1e-5)?;
                same(&label, tolerance(dtype), &[y, rstd.clone()], || {
                    let (y, rstd) = rms_norm(&x, dims, w, 1e-5)?;
                    Ok(vec![y, rstd])
                })?;
                let (dx, dw) = composed::rms_norm_backward(&g, &x, &rstd, w, dims)?;
                same(&label, tolerance(dtype), &[dx, dw], || {
                    let (dx, dw) = rms_norm_backward(&g, &x, &rstd, w, dims)?;
                    Ok(vec![dx, dw])
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn fused_group_norm_equals_the_composed_one() -> Result<()> {
    for (shape, groups) in [
        (vec![3, 4, 5, 7], 2),
        (vec![2, 6, 70, 61], 6),
        (vec![2, 6, 17], 1),
        (vec![3, 4], 2),
        (vec![1, 3, 2, 2], 3),
        (vec![0, 2, 5, 5], 2),
    ] {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let (x, g) = (normal(1, &shape)?.to_dtype(dtype)?, normal(2, &shape)?.to_dtype(dtype)?);
            let c = &shape[1..2];
            let (w, b) = (normal(3, c)?.to_dtype(dtype)?, normal(4, c)?.to_dtype(dtype)?);
            for (w, b) in [(Some(&w), Some(&b)), (None, Some(&b)), (None, None)] {
                let label = format!("{shape:?} {groups} {dtype}");
                let (y, mean, rstd) = composed::group_norm(&x, groups, w, b, 1e-5)?;
                same(&label, tolerance(dtype), &[y, mean.clone(), rstd.clone()], || {
                    let (y, mean, rstd) = group_norm(&x, groups, w, b, 1e-5)?;
                    Ok(vec![y, mean, rstd])
                })?;
                let (dx, dw, db) = composed::group_norm_backward(&g, &x, &mean, &rstd, w)?;
                same(&label, 10.0 * tolerance(dtype), &[dx, dw, db], || {
                    let (dx, dw, db) = group_norm_backward(&g, &x, &mean, &rstd, w)?;
                    Ok(vec![dx, dw, db])
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn fused_batch_norm_equals_the_composed_one() -> Result<()> {
    for shape in [
        vec![5, 3],
        vec![2, 3, 4, 4],
        vec![3, 9, 5, 7],
        vec![2, 8, 70, 61],
        vec![3, 2, 70, 61],
        vec![1, 1, 17],
        vec![0, 2, 5, 5],
    ] {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let (x, g) = (normal(1, &shape)?.to_dtype(dtype)?, normal(2, &shape)?.to_dtype(dtype)?);
            let c = &shape[1..2];
            let (w, b) = (normal(3, c)?.to_dtype(dtype)?, normal(4, c)?.to_dtype(dtype)?);
            let label = format!("{shape:?} {dtype}");
            let (mean, var) = composed::batch_norm_stats(&x)?;
            same(&label, tolerance(dtype), &[mean.clone(), var.clone()], || {
                let (mean, var) = batch_norm_stats(&x)?;
                Ok(vec![mean, var])
            })?;
            let rstd = var.add_scalar(1e-5)?.rsqrt()?;
            for (w, b) in [(Some(&w), Some(&b)), (None, None)] {
                let y = composed::batch_norm_apply(&x, &mean, &rstd, w, b)?;
                same(&label, tolerance(dtype), &[y, mean.clone(), var.clone(), rstd.clone()], || {
                    let (y, mean, var, rstd) = batch_norm_training(&x, w, b, 1e-5)?;
                    Ok(vec![y, mean, var, rstd])
                })?;
            }
            for (w, b) in [(Some(&w), Some(&b)), (None, None)] {
                let y = composed::batch_norm_apply(&x, &mean, &rstd, w, b)?;
                same(&label, tolerance(dtype), &[y], || Ok(vec![batch_norm_apply(&x, &mean, &rstd, w, b)?]))?;
                for training in [true, false] {
                    let (dx, dw, db) = composed::batch_norm_backward(&g, &x, &mean, &rstd, w, training)?;
                    same(&label, 10.0 * tolerance(dtype), &[dx, dw, db], || {
                        let (dx, dw, db) = batch_norm_backward(&g, &x, &mean, &rstd, w, training)?;
                        Ok(vec![dx, dw, db])
                    })?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn results_past_the_caches_equal_those_through_them() -> Result<()> {
    for shape in [[2, 8, 700], [1, 10, 4099], [3, 2, 37]] {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let (x, g) = (normal(1, &shape)?.to_dtype(dtype)?, normal(2, &shape)?.to_dtype(dtype)?);
            let all = || -> Result<Vec<Tensor>> {
                let (y, mean, rstd) = layer_norm(&x, 1, None, None, 1e-5)?;
                let (dx, dw, db) = layer_norm_backward(&g, &x, &mean, &rstd, None, 1)?;
                let (z, mean, var, rstd) = batch_norm_training(&x, None, None, 1e-5)?;
                let dz = batch_norm_backward(&g, &x, &mean, &rstd, None, true)?.0;
                let dv = batch_norm_backward(&g, &x, &mean, &rstd, None, false)?.0;
                let v = batch_norm_apply(&x, &var, &rstd, None, None)?;
                let (u, mean, rstd) = group_norm(&x, 2, None, None, 1e-5)?;
                let du = group_norm_backward(&g, &x, &mean, &rstd, None)?.0;
                Ok(vec![y, dx, dw, db, z, dz, dv, v, u, du])
            };
            for &level in isa::available() {
                let run = |n| isa::with_isa(level, || threads::with_num_threads(n, all));
                let expected = run(1)?;
                for threads in [1, 2, 3, 7] {
                    for got in [run(threads)?, streaming_from(1, || run(threads))?] {
                        for (i, (y, e)) in got.iter().zip(&expected).enumerate() {
                            let (y, e) = (y.backend().download(y)?, e.backend().download(e)?);
                            assert!(y == e, "result {i} of {shape:?} {dtype} at {level}, {threads} threads");
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_large_mean_costs_no_digits_of_the_variance() -> Result<()> {
    // 1000 ± 2^-8: representable, with a variance of 2^-16 exactly.
    let data: Vec<f32> = (0..60_000).map(|i| 1000.0 + if i % 2 == 0 { 1.0 } else { -1.0 } / 256.0).collect();
    let x = Tensor::from_slice(&data, [3, 2, 100, 100], &Device::cpu())?;
    let (_, var) = batch_norm_stats(&x)?;
    assert_eq!(var.to_vec::<f32>()?, [1.0 / 65536.0; 2]);
    let (_, _, rstd) = layer_norm(&x, 2, None, None, 0.0)?;
    assert_eq!(rstd.to_vec::<f32>()?, [256.0; 6]);
    let (_, mean, rstd) = layer_norm(&x.reshape([600, 100])?, 1, None, None, 0.0)?;
    assert_eq!((mean.to_vec::<f32>()?, rstd.to_vec::<f32>()?), (vec![1000.0; 600], vec![256.0; 600]));
    Ok(())
}

#[test]
fn what_does_not_belong_to_the_input_is_an_error() -> Result<()> {
    let x = normal(1, &[4, 6])?;
    let (_, mean, rstd) = x.layer_norm_stats(&[6], None, None, 1e-5)?;
    assert!(x.layer_norm_backward(&x, &mean, &rstd, None, 1).is_ok());
    let (short, weight) = (mean.narrow(0, 0, 3)?, normal(2, &[5])?);
    for (mean, rstd, weight, dims) in [
        (&short, &rstd, None, 1),
        (&mean, &short, None, 1),
        (&mean, &rstd, Some(&weight), 1),
        (&mean, &rstd, None, 0),
        (&mean, &rstd, None, 3),
    ] {
        assert!(x.layer_norm_backward(&x, mean, rstd, weight, dims).is_err(), "{dims}");
    }
    assert!(x.rms_norm_backward(&x, &short, None, 1).is_err());
    assert!(x.rms_norm_backward(&x, &rstd, None, 3).is_err());
    Ok(())
}
