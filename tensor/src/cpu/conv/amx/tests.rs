//! Correlations by the model of the tiles against the definition.

use super::super::correlate::Finish;
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
    let finish = Finish { bias: bias.map(elements::<T>), activation: Activation::None };
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
        for threads in [2, 3, 7] {
            assert_eq!(bits(threads)?, expected);
        }
    }
    Ok(())
}
