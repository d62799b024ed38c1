//! The fast convolutions against the definition.

use super::{naive, *};
use crate::cpu::isa::{Isa, available, with_isa};
use crate::cpu::threads::with_num_threads;
use crate::random::Generator;
use crate::{Device, F32Mode, with_f32_mode};

/// Uniform values in ±1.
fn random(shape: impl Into<Shape>, generator: &mut Generator) -> Result<Tensor> {
    let shape = shape.into();
    let value = |_| (generator.next_u64() >> 40) as f64 / (1u64 << 23) as f64 - 1.0;
    let values: Vec<f64> = (0..shape.numel()).map(value).collect();
    Tensor::from_slice(&values, shape, &Device::cpu())
}

/// One convolution: input, weight, parameters.
#[derive(Clone, Debug)]
struct Case {
    x: Vec<usize>,
    w: Vec<usize>,
    conv: Conv,
}

fn case(x: &[usize], w: &[usize], conv: Conv) -> Case {
    Case { x: x.to_vec(), w: w.to_vec(), conv }
}

/// Shapes by hand: what networks have, and the corners.
fn known() -> Vec<Case> {
    let conv = Conv::default;
    vec![
        case(&[2, 3, 9, 11], &[5, 3, 3, 3], conv().padding(1)),
        case(&[3, 1, 28, 28], &[8, 1, 3, 3], conv()),
        case(&[1, 3, 23, 21], &[7, 3, 7, 7], conv().stride(2).padding(3)),
        case(&[2, 16, 14, 14], &[9, 16, 1, 1], conv()),
        case(&[2, 6, 15, 14], &[9, 6, 1, 1], conv().stride(2)),
        case(&[70, 4, 2, 2], &[5, 4, 3, 3], conv().padding(1)),
        case(&[65, 8, 1, 1], &[16, 8, 1, 1], conv()),
        case(&[5, 8, 4, 4], &[8, 1, 3, 3], conv().padding(1).groups(8)),
        case(&[2, 6, 13, 20], &[6, 1, 3, 3], conv().padding(1).groups(6).stride(2)),
        case(&[2, 3, 9, 8], &[9, 1, 5, 4], conv().padding(2).groups(3)),
        case(&[2, 6, 9, 8], &[4, 3, 3, 2], conv().padding([0, 1]).groups(2).dilation([1, 2])),
        case(&[2, 3, 5, 1], &[4, 3, 3, 1], conv().padding([1, 0]).stride([2, 1])),
        case(&[2, 3, 40], &[6, 3, 5], conv().padding(2).stride(3)),
        case(&[2, 3, 17], &[3, 1, 4], conv().padding(3).groups(3).dilation(2)),
        case(&[1, 2, 5, 6, 7], &[4, 2, 3, 2, 3], conv().padding([1, 0, 2]).stride([1, 2, 2])),
        case(&[1, 4, 4, 5, 3], &[4, 1, 2, 3, 3], conv().padding(1).groups(4).dilation([1, 1, 2])),
        case(&[1, 2, 1, 1], &[3, 2, 3, 3], conv().padding(2)),
        case(&[1, 2, 3, 3], &[3, 2, 1, 1], conv().padding(3)),
        case(&[2, 1, 6, 6], &[1, 1, 2, 2], conv().stride(3)),
        case(&[0, 3, 8, 8], &[4, 3, 3, 3], conv()),
        case(&[2, 3, 8, 8], &[0, 3, 3, 3], conv()),
        case(&[2, 0, 8, 8], &[4, 0, 3, 3], conv()),
        case(&[2, 3, 0, 4], &[4, 3, 3, 3], conv().padding(2)),
        case(&[9, 40, 12, 12], &[50, 40, 3, 3], conv().padding(1)),
        // Saves products: odd sizes, no padding, groups, a block that spans images.
        case(&[3, 33, 9, 7], &[35, 33, 3, 3], conv().padding(1)),
        case(&[2, 32, 13, 18], &[32, 32, 3, 3], conv()),
        case(&[5, 64, 6, 5], &[64, 32, 3, 3], conv().padding(1).groups(2)),
        // The same with a depth: blocks of several planes and of one, a stride and a dilation along it, flat kernels.
        case(&[2, 32, 5, 9, 7], &[34, 32, 3, 3, 3], conv().padding(1)),
        case(&[1, 33, 9, 6, 62], &[32, 33, 2, 3, 3], conv().padding([0, 1, 0]).stride([2, 1, 1])),
        case(&[2, 64, 6, 4, 5], &[64, 32, 3, 3, 3], conv().padding(1).groups(2).dilation([2, 1, 1])),
        case(&[1, 32, 4, 7, 8], &[32, 32, 1, 3, 3], conv().padding([2, 1, 1])),
        // Direct: whole vectors, rows shorter than one, more channels than a tile has.
        case(&[3, 6, 14, 14], &[16, 6, 5, 5], conv()),
        case(&[2, 3, 30, 33], &[13, 3, 5, 5], conv().stride(2).padding(2)),
        case(&[2, 8, 19, 21], &[8, 1, 5, 5], conv().stride(2).padding(2).groups(8)),
        case(&[2, 4, 20, 37], &[8, 2, 3, 3], conv().padding(1).groups(2)),
        // Images abreast: a block that is not full, edges of all sorts, groups, strides, three dims, one.
        case(&[16, 6, 10, 9], &[16, 6, 5, 5], conv()),
        case(&[23, 4, 7, 6], &[6, 4, 3, 3], conv().padding(2).stride(2)),
        case(&[31, 2, 12, 10], &[12, 1, 5, 4], conv().padding([2, 1]).groups(2)),
        case(&[15, 2, 4, 5, 6], &[4, 2, 2, 3, 3], conv().padding([1, 0, 2]).stride([1, 2, 1])),
        case(&[8, 6, 10], &[4, 3, 5], conv().dilation(2).groups(2)),
        case(&[16, 3, 9, 4], &[2, 3, 6, 3], conv().padding([5, 0]).stride([3, 5])),
        // A channel per group: bands of rows, several outputs, kernels and strides with tiles and without, rows cut off.
        case(&[1, 3, 70, 90], &[3, 1, 3, 3], conv().padding(1).groups(3)),
        case(&[2, 2, 41, 130], &[4, 1, 5, 5], conv().padding(2).groups(2)),
        case(&[2, 3, 30, 29], &[6, 1, 7, 7], conv().padding(3).groups(3).stride(2)),
        case(&[2, 3, 23, 40], &[3, 1, 3, 3], conv().groups(3).stride([1, 2])),
        case(&[2, 3, 23, 24], &[3, 1, 5, 5], conv().padding([0, 2]).groups(3).stride([2, 1])),
        case(&[2, 3, 21, 26], &[3, 1, 3, 3], conv().padding(2).groups(3).dilation(2)),
        case(&[2, 3, 26, 27], &[9, 1, 4, 2], conv().padding(1).groups(3).stride(3)),
        case(&[2, 3, 9, 5], &[3, 1, 9, 3], conv().padding([4, 1]).groups(3)),
        case(&[3, 5, 7, 7], &[5, 1, 3, 3], conv().padding(1).groups(5)),
        case(&[2, 5, 14, 14], &[5, 1, 5, 5], conv().padding(2).groups(5)),
        case(&[2, 5, 64], &[5, 1, 7], conv().padding(3).groups(5)),
        case(&[2, 1, 19, 33], &[7, 1, 3, 3], conv().padding(1)),
        case(&[2, 3, 18, 75], &[3, 1, 3, 3], conv().padding(1).groups(3).stride(2)),
        // Kernels of one place: planes in place, some pixels only, several images in a product.
        case(&[5, 170, 7, 7], &[12, 170, 1, 1], conv()),
        case(&[3, 40, 11, 9], &[24, 20, 1, 1], conv().groups(2)),
        case(&[2, 170, 29], &[12, 170, 1], conv().stride(3)),
        case(&[2, 7, 5, 6, 9], &[12, 7, 1, 1, 1], conv().stride([2, 1, 2])),
    ]
}

/// Small shapes at random, of all ranks.
fn sampled(count: usize, generator: &mut Generator) -> Vec<Case> {
    let mut cases = vec![];
    while cases.len() < count {
        let spatial = 1 + generator.below(3);
        let groups = 1 + generator.below(3);
        let mut between = |low: usize, high: usize| low + generator.below(high + 1 - low);
        let (c, k) = (between(1, 3), between(1, 5));
        let mut dims = |low, high| std::array::from_fn::<_, 3, _>(|_| between(low, high));
        let conv = Conv { stride: dims(1, 3), padding: dims(0, 3), dilation: dims(1, 3), groups };
        let (size, kernel) = (dims(1, [40, 12, 6][spatial - 1]), dims(1, 4));
        let x = [&[between(1, 4), c * groups], &size[..spatial]].concat();
        let w = [&[k * groups, c], &kernel[..spatial]].concat();
        let case = case(&x, &w, conv);
        if case.y().is_ok() {
            cases.push(case);
        }
    }
    cases
}

impl Case {
    fn y(&self) -> Result<Shape> {
        self.conv.output_shape("conv", Shape::from(self.x.clone()), Shape::from(self.w.clone()))
    }

    /// x, weight, bias and the gradient of y.
    fn operands(&self, generator: &mut Generator) -> Result<[Tensor; 4]> {
        Ok([
            random(self.x.clone(), generator)?,
            random(self.w.clone(), generator)?,
            random(self.w[0], generator)?,
            random(self.y()?, generator)?,
        ])
    }

    /// y, dx and dw by the kernels under test.
    fn fast(&self, [x, w, b, g]: &[Tensor; 4]) -> Result<[Tensor; 3]> {
        Ok([
            conv(x, w, Some(b), &self.conv)?,
            conv_grad_input(g, w, x.shape(), &self.conv)?,
            conv_grad_weight(g, x, w.shape(), &self.conv)?,
        ])
    }

    /// y, dx and dw by the definition.
    fn naive(&self, [x, w, b, g]: &[Tensor; 4]) -> Result<[Tensor; 3]> {
        Ok([
            naive::conv(x, w, Some(b), &self.conv)?,
            naive::conv_grad_input(g, w, x.shape(), &self.conv)?,
            naive::conv_grad_weight(g, x, w.shape(), &self.conv)?,
        ])
    }

    /// The lengths of the sums of y, dx and dw.
    fn terms(&self) -> Result<[usize; 3]> {
        let kernel: usize = self.w[2..].iter().product();
        let pixels: usize = self.y()?.dims()[2..].iter().product();
        Ok([self.w[1] * kernel + 1, self.w[0] / self.conv.groups * kernel, self.x[0] * pixels])
    }
}

/// Asserts that `got` is `expected` up to `tolerance`, NaN where it is.
fn assert_close(got: &Tensor, expected: &Tensor, tolerance: f64, what: &str) -> Result<()> {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let (a, b): (Vec<f64>, Vec<f64>) =
        (got.to_dtype(DType::F64)?.to_vec()?, expected.to_dtype(DType::F64)?.to_vec()?);
    for (i, (a, b)) in a.iter().zip(&b).enumerate() {
        let close = (a - b).abs() <= tolerance * (1.0 + b.abs()) || (a.is_nan() && b.is_nan());
        assert!(close, "{what}: element {i} is {a}, expected {b}");
    }
    Ok(())
}

const NAMES: [&str; 3] = ["y", "dx", "dw"];

#[test]
fn every_level_agrees_with_the_definition() -> Result<()> {
    let mut generator = Generator::new(1);
    let cases = known().into_iter().chain(sampled(150, &mut generator));
    for case in cases {
        let doubles = case.operands(&mut generator)?;
        let expected = case.naive(&doubles)?;
        // Products and sums of values in ±1: each term adds at most a rounding of the sum so far.
        for (dtype, eps) in [(DType::F64, 3e-16), (DType::F32, 1.2e-7)] {
            let operands = doubles.each_ref().map(|t| t.to_dtype(dtype));
            let [x, w, b, g] = operands;
            let operands = [x?, w?, b?, g?];
            for &isa in available() {
                let got = with_isa(isa, || case.fast(&operands))?;
                for i in 0..3 {
                    let tolerance = eps * (4.0 + case.terms()?[i] as f64);
                    let what = format!("{} of {case:?} in {dtype} at {isa}", NAMES[i]);
                    assert_eq!(got[i].dtype(), dtype);
                    assert_close(&got[i], &expected[i], tolerance, &what)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn half_types_are_summed_in_f32_and_rounded_once() -> Result<()> {
    let mut generator = Generator::new(2);
    for case in known().into_iter().chain(sampled(20, &mut generator)) {
        for (dtype, eps) in [(DType::F16, 4.9e-4), (DType::BF16, 4e-3)] {
            let [x, w, b, g] = case.operands(&mut generator)?.map(|t| t.to_dtype(dtype));
            let operands = [x?, w?, b?, g?];
            let [x, w, b, g] = operands.each_ref().map(|t| t.to_dtype(DType::F64));
            let expected = case.naive(&[x?, w?, b?, g?])?;
            let got = case.fast(&operands)?;
            for i in 0..3 {
                let tolerance = eps + 1.2e-7 * case.terms()?[i] as f64;
                assert_close(
                    &got[i],
                    &expected[i],
                    tolerance,
                    &format!("{} of {case:?} in {dtype}", NAMES[i]),
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn operands_of_any_strides_give_the_same_bits() -> Result<()> {
    let mut generator = Generator::new(3);
    for case in known().into_iter().filter(|c| c.x.len() == 4) {
        let [x, w, b, g] = case.operands(&mut generator)?.map(|t| t.to_dtype(DType::F32));
        let operands = [x?, w?, b?, g?];
        let plain = case.fast(&operands)?;
        let channels_last = |t: &Tensor| t.permute([0, 2, 3, 1])?.contiguous()?.permute([0, 3, 1, 2]);
        let sliced = |t: &Tensor| {
            let wide = Tensor::cat(&[t.clone(), t.clone()], 3)?;
            wide.narrow(3, 0, t.dims()[3])
        };
        let flipped = |t: &Tensor| t.flip([1, 3])?.contiguous()?.flip([1, 3]);
        let views: [&dyn Fn(&Tensor) -> Result<Tensor>; 3] = [&channels_last, &sliced, &flipped];
        for view in views {
            let [x, w, b, g] = &operands;
            let got = case.fast(&[view(x)?, view(w)?, b.clone(), view(g)?])?;
            for i in 0..3 {
                assert_eq!(got[i].to_vec::<f32>()?, plain[i].to_vec::<f32>()?, "{} of {case:?}", NAMES[i]);
            }
        }
    }
    Ok(())
}

#[test]
fn the_number_of_threads_changes_no_bit() -> Result<()> {
    let mut generator = Generator::new(4);
    let large = [
        case(&[40, 16, 20, 20], &[24, 16, 3, 3], Conv::default().padding(1)),
        case(&[2, 64, 30, 30], &[64, 64, 3, 3], Conv::default().stride(2)),
        case(&[4, 64, 30, 30], &[64, 1, 3, 3], Conv::default().groups(64)),
    ];
    for case in known().into_iter().chain(large) {
        let [x, w, b, g] = case.operands(&mut generator)?.map(|t| t.to_dtype(DType::F32));
        let operands = [x?, w?, b?, g?];
        let one = with_num_threads(1, || case.fast(&operands))?;
        for threads in [2, 3, 7] {
            let some = with_num_threads(threads, || case.fast(&operands))?;
            for i in 0..3 {
                assert_eq!(some[i].to_vec::<f32>()?, one[i].to_vec::<f32>()?, "{} of {case:?}", NAMES[i]);
            }
        }
    }
    Ok(())
}

#[test]
fn nan_and_infinity_reach_what_they_are_part_of_and_nothing_else() -> Result<()> {
    let mut generator = Generator::new(5);
    for case in known().into_iter().filter(|c| c.x.iter().all(|&d| d > 0) && c.w[0] > 0) {
        for bad in [f64::NAN, f64::INFINITY] {
            let operands = case.operands(&mut generator)?;
            // One bad element in x and in the gradient; the weight stays finite.
            let spoilt = |t: &Tensor, generator: &mut Generator| -> Result<Tensor> {
                let mut values = t.to_dtype(DType::F64)?.to_vec::<f64>()?;
                let at = generator.below(values.len());
                values[at] = bad;
                Tensor::from_slice(&values, t.shape(), &Device::cpu())?.to_dtype(DType::F32)
            };
            let [x, w, b, g] = &operands;
            let (x, g) = (spoilt(x, &mut generator)?, spoilt(g, &mut generator)?);
            let operands = [x, w.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?, g];
            let (got, expected) = (case.fast(&operands)?, case.naive(&operands)?);
            for i in 0..2 {
                let (a, b) = (got[i].to_vec::<f32>()?, expected[i].to_vec::<f32>()?);
                for (a, b) in a.iter().zip(&b) {
                    assert_eq!((a.is_nan(), a.is_infinite()), (b.is_nan(), b.is_infinite()), "{case:?}");
                }
            }
        }
    }
    Ok(())
}

/// Transforms that save products spread what is not finite over whole tiles: such gradients are computed without them.
#[test]
fn a_gradient_with_infinities_is_that_of_all_products() -> Result<()> {
    let mut generator = Generator::new(9);
    let case = case(&[3, 33, 9, 7], &[35, 33, 3, 3], Conv::default().padding(1));
    let [x, w, _, g] = case.operands(&mut generator)?.map(|t| t.to_dtype(DType::F32));
    let (x, w, g) = (x?, w?, g?);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut values = x.to_vec::<f32>()?;
        values[5 * 63 + 40] = bad;
        let x = Tensor::from_slice(&values, x.shape(), &Device::cpu())?;
        let gradient = || conv_grad_weight(&g, &x, w.shape(), &case.conv)?.to_vec::<f32>();
        let (got, expected) = (gradient()?, with_f32_mode(F32Mode::Strict, gradient)?);
        assert!(got.iter().any(|value| value.is_finite()) && !got.iter().all(|value| value.is_finite()));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(&expected), "{bad}");
    }
    Ok(())
}

/// ⟨conv(x, w), g⟩ = ⟨x, grad_input(g, w)⟩ = ⟨w, grad_weight(g, x)⟩.
#[test]
fn the_gradients_are_the_adjoints() -> Result<()> {
    let mut generator = Generator::new(6);
    for case in known().into_iter().chain(sampled(60, &mut generator)) {
        let [x, w, _, g] = case.operands(&mut generator)?;
        let dot = |a: &Tensor, b: &Tensor| -> Result<f64> {
            Ok(a.to_vec::<f64>()?.iter().zip(b.to_vec::<f64>()?).map(|(a, b)| a * b).sum())
        };
        let forward = dot(&conv(&x, &w, None, &case.conv)?, &g)?;
        let input = dot(&x, &conv_grad_input(&g, &w, x.shape(), &case.conv)?)?;
        let weight = dot(&w, &conv_grad_weight(&g, &x, w.shape(), &case.conv)?)?;
        let tolerance = 1e-11 * (1.0 + forward.abs()) * (1.0 + (x.numel() as f64).sqrt());
        assert!((forward - input).abs() <= tolerance, "{case:?}: {forward} and {input}");
        assert!((forward - weight).abs() <= tolerance, "{case:?}: {forward} and {weight}");
    }
    Ok(())
}

#[test]
fn what_follows_a_convolution_is_what_it_would_be_by_itself() -> Result<()> {
    let mut generator = Generator::new(8);
    for case in known() {
        for (dtype, eps) in [(DType::F32, 1e-6), (DType::F64, 1e-14), (DType::BF16, 8e-3)] {
            let [x, w, b, r] = case.operands(&mut generator)?.map(|t| t.to_dtype(dtype));
            let (x, w, b, r) = (x?, w?, b?, r?);
            let terms = case.terms()?[0] as f64;
            for bias in [None, Some(&b)] {
                for residual in [None, Some(r.flip([0])?)] {
                    for activation in [None, Some(UnaryOp::Relu), Some(UnaryOp::Silu)] {
                        let residual = residual.as_ref();
                        let got = conv_fused(&x, &w, bias, &case.conv, residual, activation)?;
                        let y = conv(&x, &w, bias, &case.conv)?;
                        let y = residual.map_or(Ok(y.clone()), |r| y.add(r))?;
                        let expected = activation.map_or(Ok(y.clone()), |op| y.unary(op))?;
                        let what = format!("{case:?} in {dtype}, {activation:?}");
                        assert_close(&got, &expected, eps * (1.0 + terms.sqrt()), &what)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Convolutions whose packed weights are kept: by Winograd's products, as products, backwards, in groups.
fn keepers() -> [Case; 5] {
    [
        case(&[2, 33, 9, 7], &[35, 33, 3, 3], Conv::default().padding(1)),
        case(&[2, 40, 11, 12], &[20, 40, 3, 3], Conv::default().padding(1).stride(2)),
        case(&[1, 200, 6, 6], &[16, 200, 1, 1], Conv::default()),
        case(&[2, 64, 6, 5], &[64, 32, 3, 3], Conv::default().padding(1).groups(2)),
        case(&[1, 32, 3, 4, 6], &[32, 32, 3, 3, 3], Conv::default().padding(1)),
    ]
}

#[test]
fn weights_used_again_give_the_same_bits_and_changed_ones_others() -> Result<()> {
    let mut generator = Generator::new(9);
    for case in keepers() {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let [x, w, _, g] = case.operands(&mut generator)?.map(|t| t.to_dtype(dtype));
            let (x, mut w, g) = (x?, w?, g?);
            let bits = |w: &Tensor| -> Result<[Vec<f64>; 2]> {
                let (y, dx) =
                    (conv(&x, w, None, &case.conv)?, conv_grad_input(&g, w, x.shape(), &case.conv)?);
                Ok([y.to_dtype(DType::F64)?.to_vec()?, dx.to_dtype(DType::F64)?.to_vec()?])
            };
            let first = bits(&w)?;
            for _ in 0..3 {
                assert_eq!(bits(&w)?, first, "{case:?} in {dtype}");
            }
            // The weight is changed where it lies, and each time used often enough to be kept.
            for step in 1..4 {
                let one = Tensor::full(w.shape(), f64::from(step), &Device::cpu())?.to_dtype(dtype)?;
                w = w.binary_into(crate::op::BinaryOp::Add, &one)?;
                let fresh = bits(&w.copy()?)?;
                for _ in 0..3 {
                    assert_eq!(bits(&w)?, fresh, "{case:?} in {dtype}, changed {step} times");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn one_weight_serves_convolutions_of_several_forms_and_views() -> Result<()> {
    let mut generator = Generator::new(10);
    let w = random([64, 32, 3, 3], &mut generator)?.to_dtype(DType::F32)?;
    let transposed = w.transpose(2, 3)?;
    let forms = [
        (64, Conv::default().padding(1).groups(2)),
        (32, Conv::default().padding(1)),
        (32, Conv::default().padding(1).stride(2)),
        (64, Conv::default().padding(1).groups(2).stride(2)),
        (32, Conv::default().padding(2).dilation(2)),
    ];
    for _ in 0..3 {
        for (channels, parameters) in &forms {
            for w in [&w, &transposed] {
                let x = random([2, *channels, 9, 8], &mut generator)?.to_dtype(DType::F32)?;
                let y = conv(&x, w, None, parameters)?;
                let other = w.copy()?;
                assert_eq!(y.to_vec::<f32>()?, conv(&x, &other, None, parameters)?.to_vec::<f32>()?);
                let dx = conv_grad_input(&y, w, x.shape(), parameters)?;
                let expected = conv_grad_input(&y, &other, x.shape(), parameters)?;
                assert_eq!(dx.to_vec::<f32>()?, expected.to_vec::<f32>()?);
            }
        }
    }
    Ok(())
}

/// The error of the convolution with fewer products, against `f64`: at most four times that of the matrix product.
#[test]
fn fewer_products_cost_little_precision() -> Result<()> {
    let mut generator = Generator::new(7);
    let case = case(&[1, 64, 20, 20], &[64, 64, 3, 3], Conv::default().padding(1));
    let doubles = case.operands(&mut generator)?;
    let [x, w, b, g] = &doubles;
    let expected = naive::conv(x, w, Some(b), &case.conv)?.to_vec::<f64>()?;
    let (x, w, b) = (x.to_dtype(DType::F32)?, w.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?);
    let error = |mode: F32Mode| -> Result<f64> {
        let y = with_f32_mode(mode, || conv(&x, &w, Some(&b), &case.conv))?.to_vec::<f32>()?;
        let squares = y.iter().zip(&expected).map(|(y, e)| (f64::from(*y) - e).powi(2));
        Ok((squares.sum::<f64>() / y.len() as f64).sqrt())
    };
    let (few, all) = (error(F32Mode::Auto)?, error(F32Mode::Strict)?);
    assert!(few <= 4.0 * all, "{few} and {all}");
    let exact = conv_grad_weight(g, &doubles[0], w.shape(), &case.conv)?.to_vec::<f64>()?;
    let g = g.to_dtype(DType::F32)?;
    let error = |mode: F32Mode| -> Result<f64> {
        let dw = with_f32_mode(mode, || conv_grad_weight(&g, &x, w.shape(), &case.conv))?.to_vec::<f32>()?;
        let squares = dw.iter().zip(&exact).map(|(dw, e)| (f64::from(*dw) - e).powi(2));
        Ok((squares.sum::<f64>() / dw.len() as f64).sqrt())
    };
    let (few, all) = (error(F32Mode::Auto)?, error(F32Mode::Strict)?);
    assert!(few <= 4.0 * all, "of the gradient in the weight: {few} and {all}");
    Ok(())
}

/// Which of the ways a pass takes.
#[test]
fn shapes_take_the_ways_that_are_meant_for_them() -> Result<()> {
    let ways = |x: &[usize], w: &[usize], conv: Conv| -> Result<[&str; 3]> {
        let case = case(x, w, conv);
        let g =
            Geometry::new(Shape::from(case.x.clone()), Shape::from(case.w.clone()), case.y()?, &case.conv);
        let way = |pass: Pass| match (depthwise::suits(&pass), direct::suits(&pass), winograd::suits(&pass)) {
            (true, ..) => "depthwise",
            (_, true, _) if abreast::suits::<f32>(&pass) => "abreast",
            (_, true, _) => "direct",
            (_, _, true) => "winograd",
            _ => "product",
        };
        let weight =
            match (winograd::suits_gradient(&g), depthwise::suits_gradient(&g), grad_weight::suits(&g)) {
                (true, ..) => "winograd",
                _ if abreast::suits_gradient::<f32>(&g) => "abreast",
                (_, true, _) => "depthwise",
                (_, _, true) => "direct",
                _ => "product",
            };
        Ok([way(Pass::forward(&g)), way(Pass::backward(&g)), weight])
    };
    let same = Conv::default().padding(1);
    with_isa(Isa::Portable, || {
        let first = ways(&[64, 1, 28, 28], &[32, 1, 3, 3], same)?;
        assert_eq!(first, ["direct", "direct", "direct"], "few channels");
        let small = ways(&[64, 6, 13, 13], &[16, 6, 5, 5], Conv::default())?;
        assert_eq!(small, ["abreast"; 3], "small planes");
        let depthwise = ways(&[8, 128, 56, 56], &[128, 1, 3, 3], same.groups(128))?;
        assert_eq!(depthwise, ["depthwise"; 3], "a channel per group");
        let deep = ways(&[8, 128, 28, 28], &[128, 128, 3, 3], same)?;
        assert_eq!(deep, ["winograd"; 3], "many channels");
        let volumes = ways(&[2, 32, 8, 28, 28], &[32, 32, 3, 3, 3], same)?;
        assert_eq!(volumes[..2], ["winograd", "winograd"], "many channels, three dims");
        let strided = ways(&[8, 64, 56, 56], &[128, 64, 3, 3], same.stride(2))?;
        assert_eq!(strided, ["product", "product", "product"], "a stride");
        let strict = with_f32_mode(F32Mode::Strict, || ways(&[8, 128, 28, 28], &[128, 128, 3, 3], same))?;
        assert_eq!(strict, ["product", "product", "product"], "all products asked for");
        Ok(())
    })
}
