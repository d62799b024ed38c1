//! Input that no kernel can take is an error with a reason, on the emulated GPU: nothing is computed wrongly, nothing hangs, and the GPU
//! goes on working.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use tensor::{Conv, DType, Device, ErrorKind, Pool, Result, Tensor};

fn works(gpu: &Device) -> bool {
    let x = Tensor::ones([3, 5], gpu).unwrap();
    x.matmul(&x.t().unwrap()).unwrap().to_vec::<f32>().unwrap() == [5.0; 9]
}

#[test]
fn an_index_that_does_not_exist_is_named() {
    on_emulated_gpu(|_| {
        for index in [1, 7, 1_000_000, usize::MAX] {
            match gradus_kernels_cuda::device(index) {
                Ok(device) => assert_eq!(device.name(), format!("cuda:{index}")),
                Err(error) => {
                    assert!(error.to_string().starts_with(&format!("no CUDA device {index}: ")), "{error}");
                }
            }
        }
    });
}

#[test]
fn tensors_of_two_devices_are_not_mixed() {
    fn check(gpu: &Device) -> Result<()> {
        let cpu = &Device::cpu();
        let (a, b) = (Tensor::ones([2, 2], gpu)?, Tensor::ones([2, 2], cpu)?);
        let index = Tensor::zeros([2, 2], (DType::I64, cpu))?;
        let (line, places) = (index.select(0, 0)?, Tensor::zeros([2], (DType::I64, gpu))?);
        let planes = |x: &Tensor| x.reshape([1, 1, 2, 2]);
        let outcomes = [
            ("add", a.add(&b)),
            ("add", b.add(&a)),
            ("matmul", a.matmul(&b)),
            ("matmul", b.matmul(&a)),
            ("eq", a.eq(&b)),
            ("select_from", a.lt(&a)?.select_from(&a, &b)),
            ("select_from", b.lt(&b)?.select_from(&a, &a)),
            ("gather", a.gather(0, &index)),
            ("scatter_add", a.scatter_add(0, &index, &a)),
            ("scatter", a.scatter(0, &index.to_device(gpu)?, &b)),
            ("index_select", a.index_select(0, &line)),
            ("index_add", b.index_add(0, &places, &b)),
            ("cat", Tensor::cat(&[a.clone(), b.clone()], 0)),
            ("conv2d", planes(&a)?.conv2d(&planes(&b)?, None, &Conv::default())),
            (
                "conv2d",
                planes(&a)?.conv2d(&planes(&a)?, Some(&b.select(0, 0)?.narrow(0, 0, 1)?), &Conv::default()),
            ),
            ("layer_norm", a.layer_norm(&[2], Some(&b.select(0, 0)?), None, 1e-5)),
        ];
        for (op, outcome) in outcomes {
            let error = outcome.expect_err(op);
            assert!(matches!(error.kind(), ErrorKind::DeviceMismatch { .. }), "{op}: {error}");
            assert!(
                error.to_string().contains("cuda:0") && error.to_string().contains("to_device"),
                "{error}"
            );
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// Views repeat one element, so that huge shapes take no memory until there is a result.
#[test]
fn shapes_beyond_what_memory_or_kernels_take_are_refused() {
    fn check(gpu: &Device) -> Result<()> {
        let one = Tensor::ones([1, 1, 1], gpu)?;
        let of = |dims: [usize; 3]| one.broadcast_to(dims);
        let (long, wide) = (of([1, 1, 1 << 37])?, of([1, 1 << 20, 1 << 20])?);
        let out_of_memory = [
            ("zeros", Tensor::zeros([1 << 40], gpu)),
            ("neg", wide.neg()),
            ("add", wide.add(&wide)),
            ("copy", wide.copy()),
            ("matmul", of([1, 1 << 20, 2])?.matmul(&of([1, 2, 1 << 20])?)),
            ("cumsum", long.cumsum(2)),
            ("softmax", long.softmax(2)),
        ];
        for (op, outcome) in out_of_memory {
            let error = outcome.expect_err(op);
            assert!(matches!(error.kind(), ErrorKind::OutOfMemory { .. }), "{op}: {error}");
        }
        let more_than_kernels_count = [
            ("argmax", long.argmax(2, false)),
            ("max_pool", long.max_pool(Pool::new(1).stride(1 << 31))),
            ("avg_pool", long.avg_pool(Pool::new(1).stride(1 << 31))),
            ("adaptive_avg_pool", long.adaptive_avg_pool([3])),
        ];
        for (op, outcome) in more_than_kernels_count {
            let error = outcome.expect_err(op);
            assert!(
                error.to_string().starts_with(op) || matches!(error.kind(), ErrorKind::OutOfMemory { .. }),
                "{op}: {error}"
            );
        }
        assert!(Tensor::zeros([usize::MAX, 2], gpu).is_err());
        assert!(works(gpu));
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn views_that_are_not_aligned_to_vectors_give_what_their_copies_give() {
    fn check(gpu: &Device) -> Result<()> {
        let bytes = |x: &Tensor| x.device().backend().download(x);
        for dtype in [DType::U8, DType::F16, DType::BF16, DType::F32, DType::F64] {
            let x = Tensor::randint(0, 9, [6, 131], &Device::cpu())?.to_dtype(dtype)?;
            let there = x.to_device(gpu)?;
            for start in [1, 3, 7] {
                let views = |x: &Tensor| -> Result<Vec<Tensor>> {
                    let (a, b) =
                        (x.narrow(1, start, 120)?, x.flatten(0)?.narrow(0, start, 720)?.reshape([6, 120])?);
                    Ok(vec![
                        a.add(&b)?,
                        a.copy()?,
                        b.t()?.copy()?,
                        a.gt(&b)?,
                        b.sum(1, false)?,
                        b.amax(0, false)?,
                    ])
                };
                for (got, expected) in views(&there)?.iter().zip(&views(&x)?) {
                    assert_eq!(bytes(got)?, bytes(expected)?, "{dtype} from element {start} on");
                }
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn indices_past_the_end_are_named_and_nothing_is_read_there() {
    fn check(gpu: &Device) -> Result<()> {
        let x = Tensor::ones([3, 4], gpu)?;
        for bad in [-4i64, 3, i64::MAX, i64::MIN] {
            let index = Tensor::from_slice(&[0, bad, 1], [3], gpu)?;
            let rows = index.unsqueeze(1)?.broadcast_to([3, 4])?;
            let outcomes = [
                ("gather", x.gather(0, &rows)),
                ("index_select", x.index_select(0, &index)),
                ("index_add", x.index_add(0, &index, &x)),
                ("scatter", x.scatter(0, &rows, &x)),
                ("scatter_add", x.scatter_add(0, &rows, &x)),
                ("embedding", x.embedding(&index)),
            ];
            for (op, outcome) in outcomes {
                let error = outcome.expect_err(op);
                assert!(matches!(error.kind(), ErrorKind::Index { .. }), "{op} of {bad}: {error}");
            }
        }
        assert!(works(gpu));
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn tensors_without_elements_are_no_work_and_no_error() {
    fn check(gpu: &Device) -> Result<()> {
        let none = Tensor::zeros([0, 3], gpu)?;
        assert_eq!(none.add(&none)?.dims(), [0, 3]);
        assert_eq!(none.sum(0, false)?.to_vec::<f32>()?, [0.0; 3]);
        assert_eq!(none.t()?.matmul(&none)?.to_vec::<f32>()?, [0.0; 9]);
        assert_eq!(none.softmax(1)?.numel() + none.cumsum(0)?.numel() + none.sort(0, false)?.0.numel(), 0);
        assert_eq!(none.nonzero()?.dims(), [0, 2]);
        let images = Tensor::zeros([0, 2, 5, 5], gpu)?;
        let y = images.conv2d(&Tensor::zeros([4, 2, 3, 3], gpu)?, None, &Conv::default())?;
        assert_eq!(y.dims(), [0, 4, 3, 3]);
        assert_eq!(images.max_pool2d(Pool::new(2))?.dims(), [0, 2, 2, 2]);
        assert!(none.argmax(0, false).is_err(), "no element is the largest of none");
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
