//! Input that no kernel can take is an error with a reason, on the emulated GPU: nothing is computed wrongly, nothing hangs, and the GPU
//! goes on working.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;
mod steps;

use emulated_gpu::on_emulated_gpu;
use tensor::backend::SgdUpdate;
use tensor::{
    Conv, CrossEntropy, DType, Device, ErrorKind, Pool, Reduction, Result, RnnInputs, RnnKind, RnnSpec,
    Tensor,
};

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

const LOSS: CrossEntropy<'static> =
    CrossEntropy { weight: None, ignore_index: -100, label_smoothing: 0.0, reduction: Reduction::Mean };
const RNN: RnnSpec = RnnSpec { kind: RnnKind::Tanh, reverse: false };

/// A recurrent layer of two units, with its weights of `[2, 2]`.
fn layer(x: &Tensor, weights: &Tensor) -> Result<RnnInputs> {
    let (weight_ih, weight_hh) = (weights.clone(), weights.clone());
    Ok(RnnInputs {
        x: x.unsqueeze(0)?,
        h0: x.clone(),
        c0: None,
        weight_ih,
        weight_hh,
        bias_ih: None,
        bias_hh: None,
    })
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
            ("linear", a.linear(&a, Some(&b.select(0, 0)?))),
            ("int_mm", a.to_dtype(DType::I8)?.int_mm(&b.to_dtype(DType::I8)?)),
            ("embedding", a.embedding(&line)),
            ("cross_entropy", a.cross_entropy(&line, &LOSS, false).map(|(loss, _)| loss)),
            ("softmax_backward", a.softmax_backward(&b, 0, false)),
            ("batch_norm", a.batch_norm_training(Some(&b.select(0, 0)?), None, 1e-5).map(|(y, ..)| y)),
            ("max_pool_backward", planes(&a)?.max_pool_backward(&planes(&index)?, [1, 1, 4, 4])),
            ("rnn", tensor::rnn(RNN, &layer(&a, &b)?, false).map(|outputs| outputs.output)),
            ("rnn", tensor::rnn(RNN, &layer(&b, &a)?, false).map(|outputs| outputs.output)),
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
            ("sort", long.sort(2, false).map(|(y, _)| y)),
            ("cummax", long.cummax(2).map(|(y, _)| y)),
            ("logcumsumexp", long.logcumsumexp(2)),
            ("cat", Tensor::cat(&[long.clone(), long.clone()], 2)),
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
            ("topk", long.topk(1, 2, true).map(|(y, _)| y)),
            ("nonzero", long.nonzero()),
            ("layer_norm", wide.layer_norm(&[1 << 20], None, None, 1e-5)),
            ("conv", long.conv(&one, None, &Conv::default())),
            (
                "int_mm",
                of([1, 1 << 20, 2])?
                    .select(0, 0)?
                    .to_dtype(DType::I8)?
                    .int_mm(&of([1, 2, 1 << 20])?.select(0, 0)?.to_dtype(DType::I8)?),
            ),
            ("conv", long.conv(&one, None, &Conv::default().stride(1 << 31))),
            ("conv", one.conv(&one, None, &Conv::default().padding(1 << 40))),
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

/// Sums of small whole numbers are exact, so that it does not matter which kernel takes an operand.
#[test]
fn products_and_layers_of_views_that_are_not_aligned_give_what_those_of_copies_give() {
    fn check(gpu: &Device) -> Result<()> {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let x = Tensor::randint(0, 3, [2, 8, 6, 17], gpu)?.to_dtype(dtype)?;
            let weight = Tensor::randint(0, 3, [8, 8, 3, 3], gpu)?.to_dtype(dtype)?;
            let grads = Tensor::randint(0, 3, [2, 8, 6, 8], gpu)?.to_dtype(dtype)?;
            for start in [1, 3] {
                // Rows of 8 that begin anywhere, and the same with the channels last.
                let view = x.narrow(3, start, 8)?;
                let last = x.movedim(3, 1)?.narrow(1, start, 8)?;
                for x in [view, last] {
                    let results = |x: &Tensor| -> Result<Vec<Tensor>> {
                        let rows = x.select(0, 1)?.select(0, 2)?;
                        let conv = Conv::default().padding(1);
                        let loss = rows.cross_entropy(
                            &Tensor::zeros([rows.dims()[0]], (DType::I64, gpu))?,
                            &LOSS,
                            true,
                        )?;
                        let g = grads.narrow(3, 0, x.dims()[3].min(8))?;
                        let g = if g.shape() == x.shape() { g } else { x.ones_like()? };
                        Ok(vec![
                            rows.matmul(&rows.t()?)?,
                            rows.linear(&rows, None)?,
                            x.conv(&weight, None, &conv)?,
                            x.conv_grad_input(&weight, x.shape(), &conv)?,
                            g.conv_grad_weight(x, weight.shape(), &conv)?,
                            x.max_pool2d(Pool::new(3).stride(2).padding(1))?,
                            x.avg_pool2d(Pool::new(2))?,
                            rows.softmax(1)?,
                            rows.layer_norm(&rows.dims()[1..], None, None, 1e-5)?,
                            rows.sort(1, false)?.0,
                            rows.cummax(1)?.1,
                            loss.0,
                            loss.1.expect("it was asked for"),
                            x.batch_norm_stats()?.0,
                        ])
                    };
                    for (i, (got, expected)) in results(&x)?.iter().zip(&results(&x.copy()?)?).enumerate() {
                        let exact = i < 6 || (9..11).contains(&i);
                        let bound = if exact { 0.0 } else { 1e-2 };
                        assert!(got.all_close(expected, bound, bound)?, "{dtype} from {start}, result {i}");
                    }
                }
            }
        }
        let bytes = Tensor::randint(-100, 100, [9, 131], gpu)?.to_dtype(DType::I8)?;
        for start in [1, 3, 7] {
            let x = bytes.narrow(1, start, 120)?;
            let expected = x.copy()?.int_mm(&x.t()?.copy()?)?;
            assert_eq!(x.int_mm(&x.t()?)?.to_vec::<i32>()?, expected.to_vec::<i32>()?, "from {start}");
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
        let (weight, conv) = (Tensor::zeros([4, 2, 3, 3], gpu)?, Conv::default());
        assert_eq!(y.conv_grad_input(&weight, images.shape(), &conv)?.numel(), 0);
        assert_eq!(y.conv_grad_weight(&images, weight.shape(), &conv)?.to_vec::<f32>()?, [0.0; 72]);
        let no_terms = Tensor::zeros([2, 0], gpu)?;
        let bias = Tensor::ones([5], gpu)?;
        let y = no_terms.linear(&Tensor::zeros([5, 0], gpu)?, Some(&bias))?;
        assert_eq!(y.to_vec::<f32>()?, [1.0; 10]);
        let bytes = no_terms.to_dtype(DType::U8)?;
        assert_eq!(bytes.int_mm(&bytes.t()?)?.to_vec::<i32>()?, [0; 4]);
        assert_eq!(Tensor::ones([3, 4], gpu)?.topk(0, 1, true)?.0.dims(), [3, 0]);
        let nowhere = Tensor::zeros([0], (DType::I64, gpu))?;
        assert_eq!(Tensor::ones([3, 4], gpu)?.embedding(&nowhere)?.dims(), [0, 4]);
        assert_eq!(
            Tensor::ones([3, 4], gpu)?
                .index_add(0, &nowhere, &Tensor::ones([0, 4], gpu)?)?
                .to_vec::<f32>()?,
            [1.0; 12]
        );
        assert_eq!(none.layer_norm(&[3], None, None, 1e-5)?.dims(), [0, 3]);
        let (mut param, empty) = (Tensor::zeros([0, 3], gpu)?, Tensor::zeros([0, 3], gpu)?);
        let update = SgdUpdate { param: &mut param, grad: &empty, momentum: None };
        gpu.backend().sgd_step(&steps::down(0.1), None, &mut [update])?;
        assert!(works(gpu));
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
