use super::{arg_reduce, naive, reduce, scan};
use crate::cpu::{isa, threads};
use crate::op::{ArgOp, ReduceOp, ScanOp};
use crate::{DType, Device, Generator, MAX_RANK, Result, Tensor};

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
