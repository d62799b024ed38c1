use super::{arg_reduce, arg_scan, logcumsumexp, naive, reduce, scan, var_mean};
use crate::cpu::{isa, threads};
use crate::op::{ArgOp, ReduceOp, ScanOp};
use crate::{DType, Device, Generator, Layout, MAX_RANK, Result, Tensor};

/// Shapes around every limit of the kernels: lanes, leaves, blocks of rows, stretches of columns.
fn cases() -> Vec<(Vec<usize>, Vec<usize>)> {
    vec![
        (vec![], vec![]),
        (vec![1], vec![0]),
        (vec![5], vec![]),
        (vec![31], vec![0]),
        (vec![4097], vec![0]),
        (vec![40_000], vec![0]),
        (vec![3, 9000], vec![1]),
        (vec![700, 3], vec![0]),
        (vec![9000, 3], vec![0]),
        (vec![131, 1030], vec![0]),
        (vec![2, 67, 17], vec![1]),
        (vec![2, 3, 5, 7], vec![0, 2]),
        (vec![2, 3, 5, 7], vec![1, 3]),
        (vec![4, 3, 1, 7], vec![0, 2, 3]),
        (vec![0, 3], vec![0]),
        (vec![0, 3], vec![1]),
        (vec![3, 0, 2], vec![1]),
    ]
}

fn mask(dims: &[usize]) -> [bool; MAX_RANK] {
    std::array::from_fn(|d| dims.contains(&d))
}

fn random(shape: &[usize], dtype: DType) -> Result<Tensor> {
    let x = Tensor::random(
        crate::Distribution::Normal { mean: 0.0, std: 1.0 },
        shape,
        &Device::cpu(),
        &mut Generator::new(7),
    )?;
    if dtype.is_float() { x.to_dtype(dtype) } else { x.mul_scalar(3.0)?.abs()?.to_dtype(dtype) }
}

fn bits(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.to_vec()
}

#[test]
fn fast_reductions_equal_naive_ones_whatever_the_threads() -> Result<()> {
    for (shape, dims) in cases() {
        for &dtype in DType::ALL {
            let x = random(&shape, dtype)?;
            for &op in ReduceOp::ALL {
                let expected = bits(&naive::reduce(op, &x, &mask(&dims))?)?;
                for &level in isa::available() {
                    let run = |n| {
                        threads::with_num_threads(n, || {
                            isa::with_isa(level, || reduce(op, &x, &mask(&dims))).and_then(|y| bits(&y))
                        })
                    };
                    let y = run(1)?;
                    assert_eq!(y.len(), expected.len());
                    // Sums of n normal numbers: √n terms of error each below half an ulp of the partial sums.
                    let eps = if dtype.size() == 2 { 0.01 } else { 1e-5 };
                    let n = (x.numel() / y.len().max(1)).max(1) as f64;
                    for (a, e) in y.iter().zip(&expected) {
                        let close = (a - e).abs() <= eps * (n.sqrt() + e.abs());
                        assert!(a == e || close, "{} {shape:?} {dims:?} {dtype}: {a} {e}", op.name());
                    }
                    for threads in [2, 3] {
                        assert_eq!(run(threads)?, y, "{} {shape:?} {dtype} {threads}", op.name());
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn searches_and_scans_equal_naive_ones() -> Result<()> {
    for (shape, _) in cases() {
        for dim in 0..shape.len() {
            for &dtype in DType::ALL {
                let x = random(&shape, dtype)?;
                for &op in ScanOp::ALL {
                    assert_eq!(
                        bits(&scan(op, &x, dim)?)?,
                        bits(&naive::scan(op, &x, dim)?)?,
                        "{shape:?} {dtype}"
                    );
                }
                for &op in ArgOp::ALL.iter().filter(|_| shape[dim] > 0) {
                    let (y, expected) = (arg_reduce(op, &x, dim)?, naive::arg_reduce(op, &x, dim)?);
                    assert_eq!(y.to_vec::<i64>()?, expected.to_vec::<i64>()?, "{shape:?} {dtype}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn nan_wins_extremes_and_searches_wherever_it_stands() -> Result<()> {
    for at in [0, 1, 31, 32, 100, 4500] {
        let mut data = vec![1f32; 5000];
        data[at] = f32::NAN;
        data[4999] = f32::NAN;
        for shape in [[5000, 1], [1, 5000]] {
            let x = Tensor::from_slice(&data, shape, &Device::cpu())?;
            let dim = usize::from(shape[0] == 1);
            for op in [ReduceOp::Amax, ReduceOp::Amin, ReduceOp::Sum, ReduceOp::Prod] {
                assert!(reduce(op, &x, &mask(&[dim]))?.item()?.is_nan());
            }
            for &op in ArgOp::ALL {
                assert_eq!(arg_reduce(op, &x, dim)?.item()?, at as f64);
            }
        }
    }
    Ok(())
}

#[test]
fn a_long_sum_of_f32_keeps_its_digits() -> Result<()> {
    let n = 3_000_001;
    let x = Tensor::full([n], 0.1, &Device::cpu())?;
    let exact = 0.1f32 as f64 * n as f64;
    // One after the other it would be off by 1e-2.
    assert!((reduce(ReduceOp::Sum, &x, &mask(&[0]))?.item()? / exact - 1.0).abs() < 1e-6);
    let x = x.reshape([n, 1])?.broadcast_to([n, 3])?;
    let y = reduce(ReduceOp::Sum, &x, &mask(&[0]))?.to_vec::<f32>()?;
    assert!(y.iter().all(|&y| (y as f64 / exact - 1.0).abs() < 1e-6), "{y:?}");
    Ok(())
}

/// Transposed, permuted, sliced, stepped, flipped and stretched views of larger tensors.
fn views() -> Result<Vec<Tensor>> {
    let x = random(&[6, 40, 5, 70], DType::F32)?;
    Ok(vec![
        random(&[67, 130], DType::F32)?.t()?,
        x.permute([0, 2, 3, 1])?,
        x.permute([3, 1, 0, 2])?,
        x.narrow(3, 3, 50)?,
        x.narrow(1, 1, 33)?.narrow(2, 1, 3)?,
        x.permute([2, 3, 0, 1])?.narrow(1, 2, 60)?,
        x.slice(3, None, None, 2)?,
        x.flip([1])?,
        random(&[1, 40, 1, 7], DType::F32)?.broadcast_to([3, 40, 5, 7])?,
        x.narrow(0, 2, 1)?,
        x.narrow(3, 0, 0)?,
    ])
}

/// The same view of a tensor of another dtype.
fn converted(x: &Tensor, dtype: DType) -> Result<Tensor> {
    let all = x.with_layout(Layout::contiguous([x.layout().bounds().map_or(0, |b| b.1 + 1)].into()));
    Ok(all.to_dtype(dtype)?.with_layout(*x.layout()))
}

#[test]
fn views_are_reduced_as_their_elements_are() -> Result<()> {
    for x in views()? {
        for bits_of_dims in 0..1 << x.rank() {
            let dims: Vec<usize> = (0..x.rank()).filter(|d| bits_of_dims >> d & 1 == 1).collect();
            for dtype in [DType::F32, DType::BF16, DType::I32] {
                let x = converted(&x, dtype)?;
                for op in [ReduceOp::Sum, ReduceOp::Amax] {
                    let y = reduce(op, &x, &mask(&dims))?;
                    let expected = naive::reduce(op, &x, &mask(&dims))?;
                    assert_eq!(y.shape(), expected.shape());
                    let eps = if dtype == DType::BF16 { 0.02 } else { 1e-4 };
                    assert!(y.all_close(&expected, eps, eps)?, "{:?} {dims:?} {dtype}", x.layout());
                }
            }
            let expected = crate::composed::var_mean(&x, &mask(&dims), 1.0)?;
            for &level in isa::available() {
                let run = |n| {
                    threads::with_num_threads(n, || isa::with_isa(level, || var_mean(&x, &mask(&dims), 1.0)))
                };
                let (one, three) = (run(1)?, run(3)?);
                assert_eq!(one.0.shape(), expected.0.shape());
                assert!(one.0.all_close(&expected.0, 1e-4, 1e-5)?, "{:?} {dims:?}", x.layout());
                assert!(one.1.all_close(&expected.1, 1e-4, 1e-5)?, "{:?} {dims:?}", x.layout());
                assert!(one.0.all_close(&three.0, 0.0, 0.0)? && one.1.all_close(&three.1, 0.0, 0.0)?);
            }
        }
        for dim in (0..x.rank()).filter(|&d| x.dims()[d] > 0) {
            for &op in ArgOp::ALL {
                let (y, expected) = (arg_reduce(op, &x, dim)?, naive::arg_reduce(op, &x, dim)?);
                assert_eq!(y.to_vec::<i64>()?, expected.to_vec::<i64>()?, "{:?} {dim}", x.layout());
            }
        }
    }
    Ok(())
}

#[test]
fn variances_keep_their_digits_beside_a_large_mean() -> Result<()> {
    // 10^8 ± 64, which are floats.
    let data: Vec<f32> = (0..30_000).map(|i| 1e8 + if i % 2 == 0 { 64.0 } else { -64.0 }).collect();
    let x = Tensor::from_slice(&data, [100, 300], &Device::cpu())?;
    for dims in [vec![0], vec![1], vec![0, 1]] {
        let (var, mean) = var_mean(&x, &mask(&dims), 0.0)?;
        let expected = if dims == [0] { 0.0 } else { 4096.0 };
        assert!(var.to_vec::<f32>()?.iter().all(|&v| v == expected), "{dims:?} {var}");
        assert!(mean.to_vec::<f32>()?.iter().all(|&m| (m - 1e8).abs() <= 64.0));
    }
    Ok(())
}

#[test]
fn the_variance_of_one_or_of_nothing_is_nan() -> Result<()> {
    for shape in [[3, 1], [3, 0]] {
        let (var, _) = var_mean(&random(&shape, DType::F32)?, &mask(&[1]), 1.0)?;
        assert!(var.to_vec::<f32>()?.iter().all(|v| v.is_nan()));
    }
    let x = Tensor::from_slice(&[1.0, f32::INFINITY, f32::NAN, 2.0], [2, 2], &Device::cpu())?;
    assert!(var_mean(&x, &mask(&[1]), 0.0)?.0.to_vec::<f32>()?.iter().all(|v| v.is_nan()));
    Ok(())
}

#[test]
fn the_first_of_equals_is_found_in_every_lane() -> Result<()> {
    for n in [1, 7, 31, 32, 33, 100, 257] {
        for at in 0..n {
            let mut data = vec![-1f32; n];
            for later in at..n {
                data[later] = if (later - at) % 3 == 0 { 2.0 } else { 1.0 };
            }
            for (x, op) in [(data.clone(), ArgOp::ArgMax), (data.iter().map(|x| -x).collect(), ArgOp::ArgMin)]
            {
                let x = Tensor::from_slice(&x, [n], &Device::cpu())?;
                for &level in isa::available() {
                    let rows = isa::with_isa(level, || arg_reduce(op, &x, 0))?.item()?;
                    let columns = x.reshape([n, 1])?.broadcast_to([n, 3])?.contiguous()?;
                    let columns = isa::with_isa(level, || arg_reduce(op, &columns, 0))?.to_vec::<i64>()?;
                    assert_eq!((rows, columns), (at as f64, vec![at as i64; 3]), "{n}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn running_extremes_and_logarithms_of_sums_are_those_of_the_definition() -> Result<()> {
    for (shape, _) in cases() {
        for dim in (0..shape.len()).filter(|&d| shape[d] <= 700) {
            for &dtype in DType::ALL {
                let x = random(&shape, dtype)?;
                for &op in ArgOp::ALL {
                    let (y, expected) = (arg_scan(op, &x, dim)?, crate::composed::arg_scan(op, &x, dim)?);
                    assert_eq!(y.to_vec::<i64>()?, expected.to_vec::<i64>()?, "{shape:?} {dtype}");
                }
                if dtype.is_float() {
                    let y = logcumsumexp(&x, dim)?;
                    let expected = crate::composed::logcumsumexp(&x.to_dtype(DType::F64)?, dim)?;
                    let eps = if dtype.size() == 2 { 0.01 } else { 1e-6 };
                    assert!(y.to_dtype(DType::F64)?.all_close(&expected, eps, eps)?, "{shape:?} {dtype}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn running_results_treat_infinities_and_nan_as_pytorch_does() -> Result<()> {
    let (inf, nan, device) = (f32::INFINITY, f32::NAN, Device::cpu());
    let x = Tensor::from_slice(&[1.0, 3.0, nan, 2.0, nan, 5.0], [6], &device)?;
    for op in ArgOp::ALL {
        let expected = if *op == ArgOp::ArgMax { [0, 1, 2, 2, 4, 4] } else { [0, 0, 2, 2, 4, 4] };
        assert_eq!(arg_scan(*op, &x, 0)?.to_vec::<i64>()?, expected);
    }
    let x = Tensor::from_slice(&[-inf, -inf, 1.0, inf, -inf, inf, nan, 2.0], [8], &device)?;
    for y in [logcumsumexp(&x, 0)?, crate::composed::logcumsumexp(&x, 0)?] {
        let y = y.to_vec::<f32>()?;
        assert_eq!(y[..6], [-inf, -inf, 1.0, inf, inf, inf]);
        assert!(y[6].is_nan() && y[7].is_nan());
    }
    Ok(())
}
