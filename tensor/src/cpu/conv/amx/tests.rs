//! Correlations by the model of the tiles against the definition.

use super::super::finish::Finish;
use super::super::geometry::Geometry;
use super::super::naive;
use super::super::pass::Pass;
use super::super::planes::Images;
use super::*;
use crate::cpu::gemm::amx::Products;
use crate::cpu::storage::{elements, filled_shape};
use crate::random::Generator;
use crate::{Conv, DType, Device, Error, Shape, Tensor, bf16};

/// Uniform values in ±1, times a factor.
fn random(shape: &[usize], factor: f64, generator: &mut Generator) -> Result<Tensor> {
    let value = |_| ((generator.next_u64() >> 40) as f64 / (1u64 << 23) as f64 - 1.0) * factor;
    let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_slice(&values, Shape::from(shape), &Device::cpu())
}

/// Convolutions that tiles suit: input, weight, parameters.
fn cases() -> Vec<(Vec<usize>, Vec<usize>, Conv)> {
    let conv = Conv::default;
    vec![
        (vec![2, 16, 9, 8], vec![20, 16, 3, 3], conv().padding(1)),
        (vec![1, 37, 7, 11], vec![33, 37, 1, 1], conv()),
        (vec![2, 17, 13, 12], vec![16, 17, 3, 3], conv().padding(1).stride(2)),
        (vec![1, 32, 15, 14], vec![36, 16, 3, 2], conv().padding([1, 0]).groups(2)),
        (vec![1, 16, 12, 14], vec![16, 16, 3, 3], conv().padding(2).dilation(2)),
        (vec![2, 20, 50], vec![24, 20, 5], conv().padding(2)),
        (vec![1, 16, 16, 21], vec![16, 16, 3, 4], conv().padding([1, 2]).stride([1, 3])),
    ]
}

/// A pass over the images of `x` by the model; `refused` is called for images that tiles do not take.
fn by_model<T: ConvElement>(
    pass: &Pass,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    shape: Shape,
    products: Products,
    refused: impl Fn(usize) + Sync,
) -> Result<Tensor> {
    let level = Level::model::<T>(Some(products)).expect("the model has tiles");
    let finish = Finish { bias: bias.map(elements::<T>), ..Finish::PLAIN };
    filled_shape::<T>(shape, |out| {
        run(level, pass, &Images::new(x), elements::<T>(weight), finish, out, |n, _| {
            refused(n);
            Ok(())
        })
    })
}

/// The largest difference, in units of the sum of the magnitudes.
fn error(got: &Tensor, want: &Tensor, magnitudes: &Tensor) -> Result<f64> {
    let [got, want, magnitudes] = [got, want, magnitudes].map(|t| t.to_dtype(DType::F64)?.to_vec::<f64>());
    let errors = got?
        .into_iter()
        .zip(want?)
        .zip(magnitudes?)
        .map(|((got, want), m)| (got - want).abs() / m.max(1e-300));
    Ok(errors.fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) }))
}

#[test]
fn correlations_match_the_definition_forwards_and_backwards() -> Result<()> {
    let generator = &mut Generator::new(3);
    for (at, (x, w, conv)) in cases().into_iter().enumerate() {
        // Numbers of ordinary size and some that are scaled.
        let factor = [1.0, 1e-25][at % 2];
        let (x, w) = (random(&x, 1.0, generator)?, random(&w, factor, generator)?);
        let shape = conv.output_shape("conv", x.shape(), w.shape())?;
        let geometry = Geometry::new(x.shape(), w.shape(), shape, &conv);
        let bias = random(&[w.dims()[0]], factor, generator)?;
        let dy = random(shape.dims(), 1.0, generator)?;
        let (forward, backward) = (Pass::forward(&geometry), Pass::backward(&geometry));
        assert!(suits(&forward), "case {at}");
        let expected = naive::conv(&x, &w, Some(&bias), &conv)?;
        let magnitude = naive::conv(&x.abs()?, &w.abs()?, Some(&bias.abs()?), &conv)?;
        let f32 = |t: &Tensor| t.to_dtype(DType::F32);
        let refused = |n| panic!("image {n} of case {at} is refused");
        for (products, bound) in [(Products::Six, 1e-6), (Products::Three, 4e-5), (Products::One, 1e-2)] {
            let (x, w, bias) = (f32(&x)?, f32(&w)?, f32(&bias)?);
            if products == Products::One && factor != 1.0 {
                continue;
            }
            let y = by_model::<f32>(&forward, &x, &w, Some(&bias), shape, products, refused)?;
            let error = error(&y, &expected, &magnitude)?;
            assert!(error <= bound, "case {at}, {products:?}: {error:e}");
        }
        if suits(&backward) {
            let expected = naive::conv_grad_input(&dy, &w, x.shape(), &conv)?;
            let magnitude = naive::conv_grad_input(&dy.abs()?, &w.abs()?, x.shape(), &conv)?;
            let (dy, w) = (f32(&dy)?, f32(&w)?);
            let dx = by_model::<f32>(&backward, &dy, &w, None, x.shape(), Products::Six, refused)?;
            let error = error(&dx, &expected, &magnitude)?;
            assert!(error <= 1e-6, "case {at}, backwards: {error:e}");
        } else {
            assert!(at == 6, "the gradient of case {at} suits");
        }
        if factor == 1.0 {
            let bf16 = |t: &Tensor| t.to_dtype(DType::BF16);
            let (x, w, bias) = (bf16(&x)?, bf16(&w)?, bf16(&bias)?);
            let y = by_model::<bf16>(&forward, &x, &w, Some(&bias), shape, Products::Six, refused)?;
            let wide = |t: &Tensor| t.to_dtype(DType::F64);
            let expected = naive::conv(&wide(&x)?, &wide(&w)?, Some(&wide(&bias)?), &conv)?;
            assert!(error(&y, &expected, &magnitude)? <= 1.0 / 256.0, "case {at} of bf16");
        }
    }
    Ok(())
}

/// The gradient in the weight by the model; none if it is refused.
fn gradient_by_model<T: ConvElement>(
    dy: &Tensor,
    x: &Tensor,
    weight: Shape,
    conv: &Conv,
    products: Products,
) -> Result<Option<Tensor>> {
    let level = Level::model::<T>(Some(products)).expect("the model has tiles");
    let geometry = Geometry::new(x.shape(), weight, dy.shape(), conv);
    let mut taken = false;
    let dw = filled_shape::<T>(weight, |dw| {
        taken = gradient::run(level, &geometry, elements::<T>(dy), &Images::new(x), dw)?;
        Ok(())
    })?;
    Ok(taken.then_some(dw))
}

#[test]
fn gradients_in_the_weight_match_the_definition() -> Result<()> {
    let generator = &mut Generator::new(6);
    // Two that take several images at a time, and one whose images are taken one by one.
    let conv = Conv::default;
    let more = [
        (vec![5, 34, 5, 5], vec![33, 34, 3, 3], conv().padding(1)),
        (vec![3, 17, 8, 8], vec![18, 17, 1, 1], conv().stride(2)),
        (vec![3, 16, 42, 52], vec![30, 16, 1, 2], conv()),
    ];
    for (at, (x, w, conv)) in cases().into_iter().chain(more).enumerate() {
        let factor = [1.0, 1e-25][at % 2];
        let (x, weight) = (random(&x, 1.0, generator)?, Shape::from(&w[..]));
        let shape = conv.output_shape("conv", x.shape(), weight)?;
        let dy = random(shape.dims(), factor, generator)?;
        let expected = naive::conv_grad_weight(&dy, &x, weight, &conv)?;
        let magnitude = naive::conv_grad_weight(&dy.abs()?, &x.abs()?, weight, &conv)?;
        for (products, bound) in [(Products::Six, 1e-6), (Products::Three, 4e-5), (Products::One, 1e-2)] {
            if products == Products::One && factor != 1.0 {
                continue;
            }
            let (dy, x) = (dy.to_dtype(DType::F32)?, x.to_dtype(DType::F32)?);
            let dw = gradient_by_model::<f32>(&dy, &x, weight, &conv, products)?;
            let error = error(&dw.expect("ordinary numbers are taken"), &expected, &magnitude)?;
            assert!(error <= bound, "case {at}, {products:?}: {error:e}");
        }
        if factor == 1.0 {
            let (dy, x) = (dy.to_dtype(DType::BF16)?, x.to_dtype(DType::BF16)?);
            let dw = gradient_by_model::<bf16>(&dy, &x, weight, &conv, Products::Six)?;
            let wide = |t: &Tensor| t.to_dtype(DType::F64);
            let expected = naive::conv_grad_weight(&wide(&dy)?, &wide(&x)?, weight, &conv)?;
            let error = error(&dw.expect("bf16 is taken as it is"), &expected, &magnitude)?;
            assert!(error <= 1.0 / 256.0, "case {at} of bf16: {error:e}");
        }
    }
    Ok(())
}

#[test]
fn gradients_of_numbers_that_are_not_finite_are_refused() -> Result<()> {
    let generator = &mut Generator::new(7);
    let (conv, weight) = (Conv::default().padding(1), Shape::from([32, 16, 3, 3]));
    let x = random(&[2, 16, 6, 6], 1.0, generator)?.to_dtype(DType::F32)?;
    let dy = random(&[2, 32, 6, 6], 1.0, generator)?.to_dtype(DType::F32)?;
    let with = |t: &Tensor, odd: f32| {
        let mut values = t.to_vec::<f32>()?;
        values[t.numel() - 3] = odd;
        Tensor::from_slice(&values, t.shape(), &Device::cpu())
    };
    let taken = |dy: &Tensor, x: &Tensor| gradient_by_model::<f32>(dy, x, weight, &conv, Products::Six);
    assert!(taken(&dy, &x)?.is_some());
    for odd in [f32::NAN, f32::INFINITY] {
        assert!(taken(&with(&dy, odd)?, &x)?.is_none());
        assert!(taken(&dy, &with(&x, odd)?)?.is_none());
    }
    // Each is fine by itself; their products could lose bits.
    assert!(taken(&with(&dy, 1e-37)?, &with(&x, 1e-37)?)?.is_none());
    Ok(())
}

#[test]
fn tiles_are_for_gradients_that_fill_them() {
    let suits = |x: [usize; 4], w: [usize; 4], conv: Conv| {
        let (x, w) = (Shape::from(x), Shape::from(w));
        let y = conv.output_shape("conv", x, w).expect("the shapes fit");
        gradient::suits(&Geometry::new(x, w, y, &conv))
    };
    let padded = || Conv::default().padding(1);
    assert!(suits([8, 64, 56, 56], [64, 64, 3, 3], padded()));
    assert!(suits([8, 32, 4, 4], [512, 32, 3, 3], padded()));
    assert!(suits([8, 64, 56, 56], [128, 64, 3, 3], padded().stride(2)));
    assert!(suits([8, 16, 28, 28], [32, 16, 1, 1], Conv::default()));
    assert!(!suits([8, 3, 224, 224], [64, 3, 7, 7], Conv::default().padding(3).stride(2)));
    assert!(!suits([8, 64, 2, 2], [64, 64, 3, 3], padded()));
    assert!(!suits([8, 128, 56, 56], [128, 1, 3, 3], padded().groups(128)));
}

#[test]
fn images_and_weights_that_are_not_finite_are_refused() -> Result<()> {
    let generator = &mut Generator::new(4);
    let conv = Conv::default().padding(1);
    let w = random(&[16, 16, 3, 3], 1.0, generator)?.to_dtype(DType::F32)?;
    let x = random(&[3, 16, 8, 8], 1.0, generator)?.to_dtype(DType::F32)?;
    let shape = conv.output_shape("conv", x.shape(), w.shape())?;
    let pass = Pass::forward(&Geometry::new(x.shape(), w.shape(), shape, &conv));
    let refused_of = |x: &Tensor, w: &Tensor| -> Result<Vec<usize>> {
        let refused = std::sync::Mutex::new(vec![]);
        let refuse = |n| refused.lock().expect("no panic").push(n);
        by_model::<f32>(&pass, x, w, None, shape, Products::Six, refuse)?;
        let mut refused = refused.into_inner().map_err(|_| Error::argument("test", "a panic"))?;
        refused.sort_unstable();
        Ok(refused)
    };
    let mut values = x.to_vec::<f32>()?;
    values[16 * 64 + 77] = f32::INFINITY;
    let odd = Tensor::from_slice(&values, x.shape(), &Device::cpu())?;
    assert_eq!(refused_of(&x, &w)?, [0usize; 0]);
    assert_eq!(refused_of(&odd, &w)?, [1]);
    let mut values = w.to_vec::<f32>()?;
    values[5] = f32::NAN;
    assert_eq!(refused_of(&x, &Tensor::from_slice(&values, w.shape(), &Device::cpu())?)?, [0, 1, 2]);
    Ok(())
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    let generator = &mut Generator::new(5);
    for (x, w, conv) in cases().into_iter().take(3) {
        let f32 = |t: Tensor| t.to_dtype(DType::F32);
        let (x, w) = (f32(random(&x, 1.0, generator)?)?, f32(random(&w, 1.0, generator)?)?);
        let shape = conv.output_shape("conv", x.shape(), w.shape())?;
        let pass = Pass::forward(&Geometry::new(x.shape(), w.shape(), shape, &conv));
        let bits = |threads| {
            crate::cpu::threads::with_num_threads(threads, || {
                by_model::<f32>(&pass, &x, &w, None, shape, Products::Six, |_| ())?.to_vec::<f32>()
            })
        };
        let expected = bits(1)?;
        let dy = f32(random(shape.dims(), 1.0, generator)?)?;
        let gradient_bits = |threads| {
            crate::cpu::threads::with_num_threads(threads, || {
                let dw = gradient_by_model::<f32>(&dy, &x, w.shape(), &conv, Products::Six)?;
                dw.expect("ordinary numbers are taken").to_vec::<f32>()
            })
        };
        let gradient = gradient_bits(1)?;
        for threads in [2, 3, 7] {
            assert_eq!(bits(threads)?, expected);
            assert_eq!(gradient_bits(threads)?, gradient);
        }
    }
    Ok(())
}
