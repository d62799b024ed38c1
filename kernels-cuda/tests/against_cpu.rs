//! What the contract suite has no sizes for, on the emulated GPU against the CPU: long lines, and places in every form.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use tensor::op::ArgOp;
use tensor::{DType, Device, Pool, Result, Tensor};

/// The bytes of a tensor.
fn bytes(x: &Tensor) -> Result<Vec<u8>> {
    x.device().backend().download(x)
}

/// Lines too long for a tile or for a thread, against the CPU: the very same numbers.
fn check_long_lines(gpu: &Device) {
    let run = || -> Result<()> {
        let cpu = &Device::cpu();
        for dtype in [DType::F32, DType::BF16, DType::I64, DType::U8, DType::Bool] {
            let values = Tensor::randint(-20, 20, [2, 2500], cpu)?.to_dtype(dtype)?;
            let on_gpu = values.to_device(gpu)?;
            for (k, largest) in [(1, true), (7, false), (256, true), (300, true), (2500, false)] {
                let (got, expected) = (on_gpu.topk(k, 1, largest)?, values.topk(k, 1, largest)?);
                assert_eq!(bytes(&got.1)?, bytes(&expected.1)?, "places of the first {k} of {dtype}");
                assert_eq!(bytes(&got.0)?, bytes(&expected.0)?, "the first {k} of {dtype}");
            }
            let index = Tensor::randint(0, 37, [2, 300, 3], cpu)?;
            let source = Tensor::randint(-5, 6, [2, 300, 3], cpu)?.to_dtype(dtype)?;
            let into = Tensor::randint(-5, 6, [2, 37, 3], cpu)?.to_dtype(dtype)?;
            let [i, s, x] = [&index, &source, &into].map(|t| t.to_device(gpu));
            let (i, s, x) = (i?, s?, x?);
            let (set, add) = (into.scatter(1, &index, &source)?, into.scatter_add(1, &index, &source)?);
            assert_eq!(bytes(&x.scatter(1, &i, &s)?)?, bytes(&set)?, "scatter of {dtype}");
            assert_eq!(bytes(&x.scatter_add(1, &i, &s)?)?, bytes(&add)?, "scatter_add of {dtype}");
            let picks = Tensor::randint(0, 37, [300], cpu)?;
            let add = into.index_add(1, &picks, &source)?;
            assert_eq!(
                bytes(&x.index_add(1, &picks.to_device(gpu)?, &s)?)?,
                bytes(&add)?,
                "index_add of {dtype}"
            );
        }
        let wrong = Tensor::full([100], i64::MIN, (DType::I64, gpu))?;
        let x = Tensor::ones([5], gpu)?;
        assert!(x.scatter_add(0, &wrong, &Tensor::ones([100], gpu)?).is_err());
        assert!(x.gather(0, &wrong).is_err());
        Ok(())
    };
    run().unwrap();
}

#[test]
fn long_lines() {
    on_emulated_gpu(check_long_lines);
}

/// Maxima whose places do and do not fit a byte, in one to three dims, against the CPU.
fn check_places(gpu: &Device) {
    let run = || -> Result<()> {
        let cases: [(&[usize], Pool); 4] = [
            (&[2, 2, 40], Pool::new(5).stride(2).padding(2)),
            (&[1, 2, 19, 18], Pool::new(17).stride(1).padding(3)),
            (&[2, 1, 4, 5, 6], Pool::new([2, 3, 2]).stride(1).padding(1).dilation([1, 2, 1])),
            (&[0, 3, 4, 4], Pool::new(2)),
        ];
        for (dims, pool) in cases {
            let x = Tensor::randint(-9, 9, dims, &Device::cpu())?.to_dtype(DType::F32)?;
            let (y, places) = x.max_pool_places(pool)?;
            let (on_gpu, held) = x.to_device(gpu)?.max_pool_places(pool)?;
            assert_eq!(bytes(&on_gpu)?, bytes(&y)?, "{pool:?}");
            assert_eq!(bytes(&held.indices()?)?, bytes(&places.indices()?)?, "{pool:?}");
            let back = held.backward(&on_gpu)?;
            assert_eq!(bytes(&back)?, bytes(&places.backward(&y)?)?, "{pool:?}");
        }
        Ok(())
    };
    run().unwrap();
}

#[test]
fn places_of_maxima() {
    on_emulated_gpu(check_places);
}

/// Running extremes and logarithms of sums along short, long and strided lines, with infinities and NaN.
fn check_running(gpu: &Device) {
    let run = || -> Result<()> {
        let cpu = &Device::cpu();
        for &dtype in DType::ALL {
            for dims in [[3, 40], [2, 1100], [1, 9000]] {
                let x = Tensor::randint(-3, 4, dims, cpu)?.to_dtype(dtype)?;
                for x in [x.clone(), x.t()?] {
                    for dim in [0, 1] {
                        for op in ArgOp::ALL {
                            let on_gpu = x.to_device(gpu)?.arg_scan("arg_scan", *op, dim)?;
                            let expected = x.arg_scan("arg_scan", *op, dim)?;
                            assert_eq!(
                                bytes(&on_gpu)?,
                                bytes(&expected)?,
                                "{op:?} of {dtype}, {dims:?} along {dim}"
                            );
                        }
                        if dtype.is_float() {
                            let on_gpu =
                                x.to_device(gpu)?.logcumsumexp(dim)?.to_device(cpu)?.to_dtype(DType::F64)?;
                            let expected = x.to_dtype(DType::F64)?.logcumsumexp(dim)?;
                            let eps = if dtype.size() == 2 { 0.01 } else { 1e-6 };
                            assert!(
                                on_gpu.all_close(&expected, eps, eps)?,
                                "logcumsumexp of {dtype}, {dims:?} along {dim}"
                            );
                        }
                    }
                }
            }
        }
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for n in [1, 37] {
            let repeated = |values: &[f32]| {
                let values: Vec<f32> = values.iter().flat_map(|&v| vec![v; n]).collect();
                Tensor::from_vec(values, [6 * n], gpu)
            };
            let last = |i: usize, j: usize| (n * i + j) as i64;
            let x = repeated(&[1.0, 3.0, nan, 2.0, nan, 5.0])?;
            let largest = x.cummax(0)?.1.to_vec::<i64>()?;
            let found: Vec<i64> = (0..6).map(|i| largest[i * n + n - 1]).collect();
            assert_eq!(found, [0, 1, 2, 2, 4, 4].map(|i| last(i, n - 1)));
            let y = repeated(&[-inf, 1.0, inf, -inf, nan, 2.0])?.logcumsumexp(0)?.to_vec::<f32>()?;
            assert!(
                y[..n].iter().all(|&y| y == -inf) && y[n] == 1.0 && y[2 * n..4 * n].iter().all(|&y| y == inf)
            );
            assert!(y[4 * n..].iter().all(|y| y.is_nan()));
        }
        Ok(())
    };
    run().unwrap();
}

#[test]
fn running_extremes_and_logarithms() {
    on_emulated_gpu(check_running);
}
