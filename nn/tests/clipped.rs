//! Steps that clip by the global norm against clipping and a step, one after the other.

use autograd::Gradients;
use gradus_nn::optim::*;
use gradus_nn::{Param, clip_grad_norm};
use tensor::{DType, Device, Result, Tensor};

/// Parameters of several dtypes, one of them empty, all the same in each call.
fn model() -> Vec<Param> {
    let filled = |n: usize, dtype| {
        let x = Tensor::arange(0, n as i64, 1, &Device::cpu()).unwrap();
        Param::new(x.to_dtype(dtype).unwrap().sin().unwrap())
    };
    let dtypes = [DType::F32, DType::F64, DType::BF16, DType::F32];
    [20_000, 7, 12, 0].into_iter().zip(dtypes).map(|(n, dtype)| filled(n, dtype)).collect()
}

fn gradients(model: &[Param], round: usize) -> Gradients {
    let mut gradients = Gradients::default();
    for (i, param) in model.iter().enumerate() {
        let grad = param.value().cos().unwrap().mul_scalar((round * 3 + i) as f64).unwrap();
        gradients.set(&param.leaf(), grad);
    }
    gradients
}

fn check<R: Rule>(config: R, max_norm: f64) -> Result<()> {
    let (one, other) = (model(), model());
    let (mut fused, mut separate) = (Optim::new(&one, config.clone())?, Optim::new(&other, config)?);
    for round in 0..3 {
        // The second parameter is a step behind from then on, so that there are more calls of the rule than dtypes.
        if round == 1 {
            one[0].freeze();
            other[0].freeze();
        } else {
            one[0].unfreeze();
            other[0].unfreeze();
        }
        let total = fused.step_clipped(&gradients(&one, round), max_norm)?;
        assert_eq!((total.dims(), total.dtype()), (&[][..], DType::F64));
        let mut clipped = gradients(&other, round);
        let visible: Vec<Param> = other.iter().filter(|p| !p.is_frozen()).cloned().collect();
        let expected = clip_grad_norm(&mut clipped, &visible, max_norm, 2.0)?;
        assert!((total.item()? - expected).abs() <= 1e-12 * expected, "{total} is not {expected}");
        separate.step(&clipped)?;
        for (a, b) in one.iter().zip(&other) {
            let (a, b) = (a.value(), b.value());
            assert!(a.all_close(&b, 0.0, 0.0)?, "{} of {} in round {round}", R::NAME, a.dtype());
        }
    }
    Ok(())
}

#[test]
fn a_clipped_step_is_clipping_and_a_step_bit_for_bit() -> Result<()> {
    for max_norm in [0.5, 1e6, f64::INFINITY] {
        check(SgdConfig { lr: 0.1, ..Default::default() }, max_norm)?;
        check(SgdConfig { lr: 0.1, momentum: 0.9, maximize: true, ..Default::default() }, max_norm)?;
        check(AdamConfig::default(), max_norm)?;
        check(AdamConfig { amsgrad: true, weight_decay: 0.1, ..Default::default() }, max_norm)?;
        check(AdamWConfig::default(), max_norm)?;
        check(RmsPropConfig { momentum: 0.5, ..Default::default() }, max_norm)?;
        check(AdaGradConfig::default(), max_norm)?;
    }
    Ok(())
}

#[test]
fn a_bound_that_makes_no_sense_changes_nothing() -> Result<()> {
    let model = model();
    let before: Vec<Tensor> = model.iter().map(Param::value).collect();
    let mut sgd = Sgd::new(&model, SgdConfig::default())?;
    for bound in [-1.0, f64::NAN] {
        assert!(sgd.step_clipped(&gradients(&model, 1), bound).is_err());
    }
    for (param, before) in model.iter().zip(&before) {
        assert!(param.value().all_close(before, 0.0, 0.0)?);
    }
    Ok(())
}

#[test]
fn a_norm_that_is_not_a_number_makes_the_parameters_so() -> Result<()> {
    let w = Param::new(Tensor::ones([2], &Device::cpu())?);
    let mut gradients = Gradients::default();
    gradients.set(&w.leaf(), Tensor::from_slice(&[f32::NAN, 1.0], [2], &Device::cpu())?);
    let mut sgd = Sgd::new(&w, SgdConfig::default())?;
    assert!(sgd.step_clipped(&gradients, 1.0)?.item()?.is_nan());
    assert!(w.value().to_vec::<f32>()?.iter().all(|x| x.is_nan()));
    Ok(())
}

#[test]
fn a_gradient_that_others_hold_is_clipped_without_changing_theirs() -> Result<()> {
    let model = model();
    for shared in [false, true] {
        let mut clipped = gradients(&model, 1);
        if shared {
            // Two parameters with one gradient, as a sum of them has.
            let same = clipped.get(&model[0].leaf())?.clone();
            clipped.set(&model[3].leaf(), same);
        }
        let held = clipped.get(&model[0].leaf())?.clone();
        let before = held.copy()?;
        let total = clip_grad_norm(&mut clipped, &model, 0.5, 2.0)?;
        assert!(held.all_close(&before, 0.0, 0.0)?);
        let scaled = before.mul_scalar(0.5 / (total + 1e-6))?;
        assert!(clipped.get(&model[0].leaf())?.all_close(&scaled, 0.0, 0.0)?);
        assert_eq!(shared, clipped.get(&model[3].leaf())?.all_close(&scaled, 0.0, 0.0).unwrap_or(false));
        for param in &model {
            assert!(clipped.find(&param.leaf()).is_some());
        }
    }
    Ok(())
}
