//! The fast poolings against the definition.

use super::{naive, *};
use crate::cpu::isa::{available, with_isa};
use crate::cpu::threads::with_num_threads;
use crate::random::Generator;
use crate::{DType, Device};

/// Whole numbers, so that there are ties, with a NaN and infinities here and there.
fn random(shape: impl Into<Shape>, special: bool, generator: &mut Generator) -> Result<Tensor> {
    let shape = shape.into();
    let value = |_| match generator.below(40) {
        0 if special => f64::NAN,
        1 if special => f64::NEG_INFINITY,
        2 if special => f64::INFINITY,
        n => (n % 7) as f64 - 3.0,
    };
    let values: Vec<f64> = (0..shape.numel()).map(value).collect();
    Tensor::from_slice(&values, shape, &Device::cpu())
}

/// Inputs and windows: what networks have, the corners, and a sample.
fn cases(generator: &mut Generator) -> Vec<(Vec<usize>, Pool)> {
    let mut cases = vec![
        (vec![2, 3, 8, 8], Pool::from(2)),
        (vec![3, 2, 9, 37], Pool::from(2)),
        (vec![2, 3, 9, 9], Pool::from(2).ceil_mode(true)),
        (vec![2, 3, 13, 14], Pool::from(3).stride(2).padding(1)),
        (vec![1, 2, 9, 70], Pool::from(3).stride(2).padding(1)),
        (vec![1, 2, 6, 64], Pool::from(2)),
        (vec![1, 2, 7, 66], Pool::from(2).padding(1)),
        (vec![1, 1, 5, 67], Pool::from([3, 2]).stride([1, 2])),
        (vec![1, 1, 4, 3, 40], Pool::from(2)),
        // Windows that share rows: by their stride, across depths, all of them, and with others beside them.
        (vec![1, 2, 11, 41], Pool::from(3).stride([1, 2])),
        (vec![2, 1, 10, 38], Pool::from([4, 3]).stride([3, 2]).padding([2, 1])),
        (vec![1, 2, 5, 2, 40], Pool::from([2, 2, 3]).stride([1, 1, 2])),
        (vec![1, 1, 4, 7, 39], Pool::from(3).stride(2).padding(1)),
        (vec![1, 1, 9, 40], Pool::from(3).stride(2).dilation([2, 1])),
        (vec![1, 1, 1, 1], Pool::from(1)),
        (vec![0, 3, 4, 4], Pool::from(2)),
        (vec![40, 30, 12, 10], Pool::from(2)),
        (vec![2, 2, 2, 4], Pool::from(2).padding(1).dilation(3)),
    ];
    while cases.len() < 200 {
        let spatial = 1 + generator.below(3);
        let mut dims = |low: usize, high: usize| {
            std::array::from_fn::<_, 3, _>(|_| low + generator.below(high + 1 - low))
        };
        let (size, kernel) = (dims(1, 11), dims(1, 4));
        let (stride, dilation, coins) = (dims(1, 3), dims(1, 2), dims(0, 1));
        let padding = dims(0, 2);
        let padding = std::array::from_fn(|i| padding[i].min(kernel[i] / 2));
        let pool = Pool {
            kernel,
            stride,
            padding,
            dilation,
            ceil_mode: coins[0] == 1,
            count_include_pad: coins[1] == 1,
            divisor_override: (coins[2] == 1).then_some(5),
        };
        let x = [&[2, 3], &size[..spatial]].concat();
        if pool.output_shape("pool", Shape::from(x.clone())).is_ok() {
            cases.push((x, pool));
        }
    }
    cases
}

/// The values as bits of doubles, with all NaN alike.
fn bits(x: &Tensor) -> Result<Vec<u64>> {
    let values: Vec<f64> = x.to_dtype(DType::F64)?.to_vec()?;
    Ok(values.iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect())
}

/// The same images, with their channels last in memory.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.movedim(1, -1)?.contiguous()?.movedim(-1, 1)
}

#[test]
fn images_with_channels_last_stay_so() -> Result<()> {
    let mut generator = Generator::new(6);
    let x = random([2, 20, 9, 8], true, &mut generator)?.to_dtype(DType::F32)?;
    let (view, pool) = (channels_last(&x)?, Pool::from(3).stride(2).padding(1));
    let (y, last) = (avg_pool(&x, &pool)?, avg_pool(&view, &pool)?);
    assert_eq!((bits(&last)?, y.layout().is_contiguous()), (bits(&y)?, true));
    assert!(last.movedim(1, -1)?.layout().is_contiguous());
    let (dx, last) = (avg_pool_backward(&y, x.shape(), &pool)?, avg_pool_backward(&last, x.shape(), &pool)?);
    assert_eq!(bits(&last)?, bits(&dx)?);
    assert!(last.movedim(1, -1)?.layout().is_contiguous());
    Ok(())
}

/// Asserts that the means and shares agree up to a few roundings.
fn assert_close(got: &Tensor, expected: &Tensor, eps: f64, what: &str) -> Result<()> {
    assert_eq!((got.shape(), got.dtype()), (expected.shape(), expected.dtype()), "{what}");
    let (a, b): (Vec<f64>, Vec<f64>) =
        (got.to_dtype(DType::F64)?.to_vec()?, expected.to_dtype(DType::F64)?.to_vec()?);
    for (a, b) in a.iter().zip(&b) {
        let close = a == b || (a - b).abs() <= eps * (1.0 + b.abs()) || (a.is_nan() && b.is_nan());
        assert!(close, "{what}: {a}, expected {b}");
    }
    Ok(())
}

#[test]
fn maxima_and_their_places_are_those_of_the_definition() -> Result<()> {
    let mut generator = Generator::new(1);
    for (shape, pool) in cases(&mut generator) {
        let x = random(shape.clone(), true, &mut generator)?;
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let x = x.to_dtype(dtype)?;
            let (y, index) = naive::max_pool(&x, &pool)?;
            let grad = random(y.shape(), false, &mut generator)?.to_dtype(dtype)?;
            let dx = naive::max_pool_backward(&grad, &index, x.shape())?;
            for &isa in available() {
                let (got, at) = with_isa(isa, || max_pool(&x, &pool))?;
                assert_eq!(bits(&got)?, bits(&y)?, "{shape:?} {pool:?} {dtype} {isa}");
                assert_eq!(at.to_vec::<i64>()?, index.to_vec::<i64>()?, "{shape:?} {pool:?} {dtype} {isa}");
                let alone = with_isa(isa, || max_pool_places(&x, &pool, false))?.0;
                assert_eq!(bits(&alone)?, bits(&y)?, "values of {shape:?} {pool:?} {dtype} {isa}");
                let (got, places) = with_isa(isa, || max_pool_places(&x, &pool, true))?;
                let places = places.expect("they were asked for");
                assert_eq!(bits(&got)?, bits(&y)?, "{shape:?} {pool:?} {dtype} {isa}");
                let decoded = max_pool_index(&places, x.shape(), &pool)?;
                assert_eq!(
                    decoded.to_vec::<i64>()?,
                    index.to_vec::<i64>()?,
                    "{shape:?} {pool:?} {dtype} {isa}"
                );
                let back = max_pool_places_backward(&grad, &places, x.shape(), &pool)?;
                assert_eq!(bits(&back)?, bits(&dx)?, "{shape:?} {pool:?} {dtype} {isa}");
            }
            assert_eq!(
                bits(&max_pool_backward(&grad, &index, x.shape())?)?,
                bits(&dx)?,
                "{shape:?} {pool:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn windows_of_more_than_256_elements_have_places_too() -> Result<()> {
    let mut generator = Generator::new(4);
    let x = random([2, 3, 40, 50], true, &mut generator)?;
    let pool = Pool::from([16, 17]).stride([5, 4]);
    let (y, places) = max_pool_places(&x, &pool, true)?;
    let places = places.expect("they were asked for");
    let (expected, index) = naive::max_pool(&x, &pool)?;
    assert_eq!(bits(&y)?, bits(&expected)?);
    assert_eq!(max_pool_index(&places, x.shape(), &pool)?.to_vec::<i64>()?, index.to_vec::<i64>()?);
    let dx = max_pool_places_backward(&y, &places, x.shape(), &pool)?;
    assert_eq!(bits(&dx)?, bits(&naive::max_pool_backward(&y, &index, x.shape())?)?);
    Ok(())
}

#[test]
fn adaptive_maxima_are_those_of_the_parts() -> Result<()> {
    let mut generator = Generator::new(5);
    for (shape, outputs) in [
        (vec![2, 3, 7], vec![vec![1], vec![3], vec![7], vec![9]]),
        (vec![2, 2, 32, 37], vec![vec![1, 1], vec![3, 4], vec![8, 16], vec![40, 2]]),
        (vec![1, 2, 3, 4, 9], vec![vec![2, 2, 2], vec![1, 4, 3]]),
        (vec![0, 2, 3, 3], vec![vec![2, 2]]),
    ] {
        let x = random(shape.clone(), true, &mut generator)?;
        for output in outputs {
            let output = Shape::from([&shape[..2], &output].concat());
            let (expected, places) = crate::composed::adaptive_max_pool(&x, output)?;
            for dtype in [DType::F64, DType::F32, DType::BF16] {
                for &isa in available() {
                    let (y, index) = with_isa(isa, || adaptive_max_pool(&x.to_dtype(dtype)?, output))?;
                    assert_eq!(bits(&y)?, bits(&expected)?, "{shape:?} to {output} {dtype} {isa}");
                    assert_eq!(
                        index.to_vec::<i64>()?,
                        places.to_vec::<i64>()?,
                        "{shape:?} to {output} {dtype} {isa}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn means_and_their_gradients_are_those_of_the_definition() -> Result<()> {
    let mut generator = Generator::new(2);
    for (shape, pool) in cases(&mut generator) {
        let pool = pool.dilation(1);
        let Ok(y) = pool.output_shape("avg_pool", Shape::from(shape.clone())) else { continue };
        let x = random(shape.clone(), true, &mut generator)?;
        let grad = random(y, true, &mut generator)?;
        // Up to 64 terms per mean; the definition rounds halves after each.
        for (dtype, eps) in [(DType::F64, 1e-14), (DType::F32, 1e-5), (DType::BF16, 0.05)] {
            let (x, grad) = (x.to_dtype(dtype)?, grad.to_dtype(dtype)?);
            let y = naive::avg_pool(&x, &pool)?;
            let dx = naive::avg_pool_backward(&grad, x.shape(), &pool)?;
            for &isa in available() {
                let what = format!("{shape:?} {pool:?} {dtype} {isa}");
                for (x, grad) in [(&x, &grad), (&channels_last(&x)?, &channels_last(&grad)?)] {
                    assert_close(&with_isa(isa, || avg_pool(x, &pool))?, &y, eps, &what)?;
                    let got = with_isa(isa, || avg_pool_backward(grad, x.shape(), &pool))?;
                    assert_close(&got, &dx, eps, &what)?;
                }
            }
        }
        if shape.contains(&0) {
            continue;
        }
        for size in [1, 2, 5] {
            let mut dims = shape.clone();
            dims[2..].fill(size);
            let grad = random(dims.clone(), false, &mut generator)?;
            let what = format!("{shape:?} to {dims:?}");
            let y = naive::adaptive_avg_pool(&x, grad.shape())?;
            let dx = naive::adaptive_avg_pool_backward(&grad, x.shape())?;
            for (x, grad) in [(&x, &grad), (&channels_last(&x)?, &channels_last(&grad)?)] {
                assert_close(&adaptive_avg_pool(x, grad.shape())?, &y, 1e-14, &what)?;
                assert_close(&adaptive_avg_pool_backward(grad, x.shape())?, &dx, 1e-14, &what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn neither_strides_nor_threads_change_a_bit() -> Result<()> {
    let mut generator = Generator::new(3);
    let x = random([40, 30, 12, 10], true, &mut generator)?.to_dtype(DType::F32)?;
    let view = x.permute([0, 2, 3, 1])?.contiguous()?.permute([0, 3, 1, 2])?;
    for pool in [Pool::from(2), Pool::from(3).stride(2).padding(1)] {
        let all = |x: &Tensor| -> Result<Vec<Vec<u64>>> {
            let (y, index) = max_pool(x, &pool)?;
            let mean = avg_pool(x, &pool)?;
            let parts = adaptive_avg_pool(x, Shape::from([40, 30, 3, 3]))?;
            let back = max_pool_backward(&y, &index, x.shape())?;
            let spread = avg_pool_backward(&mean, x.shape(), &pool)?;
            let apart = adaptive_avg_pool_backward(&parts, x.shape())?;
            [&y, &index, &mean, &parts, &back, &spread, &apart].into_iter().map(bits).collect()
        };
        let expected = with_num_threads(1, || all(&x))?;
        for threads in [1, 2, 3, 7] {
            assert_eq!(with_num_threads(threads, || all(&view))?, expected);
        }
    }
    Ok(())
}

#[test]
fn a_gradient_without_planes_is_an_error() -> Result<()> {
    let (grad, index) =
        (Tensor::ones([3], &Device::cpu())?, Tensor::zeros([3], (DType::I64, &Device::cpu()))?);
    assert!(grad.max_pool_backward(&index, [3]).is_err());
    assert!(grad.adaptive_avg_pool_backward([3]).is_err());
    Ok(())
}
