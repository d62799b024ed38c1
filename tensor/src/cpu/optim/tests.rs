//! Steps of many parameters against their composed form, bit for bit.

use super::*;
use crate::Device;
use crate::cpu::threads::with_num_threads;

const SGD: SgdStep = SgdStep {
    lr: 0.1,
    momentum: 0.9,
    dampening: 0.0,
    weight_decay: 0.0,
    nesterov: false,
    first: false,
    grad_scale: 1.0,
};

const ADAM: AdamStep = AdamStep {
    lr: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.0,
    decoupled: false,
    step: 3,
    grad_scale: 1.0,
};

/// Empty, single, ragged, and cut into several stretches.
const SIZES: [usize; 5] = [37, 0, 40_000, 1, 16_384];

/// A tensor of each size.
fn randn(dtype: DType) -> Result<Vec<Tensor>> {
    SIZES.iter().map(|&n| Tensor::randn([n], (dtype, &Device::cpu()))).collect()
}

/// Row-major copies that nobody else holds.
fn copies(x: &[Tensor]) -> Result<Vec<Tensor>> {
    x.iter().map(Tensor::copy).collect()
}

fn assert_same(a: &[Tensor], b: &[Tensor], what: &str) -> Result<()> {
    for (a, b) in a.iter().zip(b) {
        assert!(a.all_close(b, 0.0, 0.0)?, "{what}, {} elements", a.numel());
    }
    Ok(())
}

fn sgd_updates<'a>(p: &'a mut [Tensor], g: &'a [Tensor], m: Option<&'a mut [Tensor]>) -> Vec<SgdUpdate<'a>> {
    let mut m = m.map(|m| m.iter_mut());
    let update = |(param, grad)| SgdUpdate { param, grad, momentum: m.as_mut().and_then(Iterator::next) };
    p.iter_mut().zip(g).map(update).collect()
}

fn adam_updates<'a>([p, m, v]: &'a mut [Vec<Tensor>; 3], g: &'a [Tensor]) -> Vec<AdamUpdate<'a>> {
    let means = m.iter_mut().zip(v);
    let update = |((param, grad), (mean, square))| AdamUpdate { param, grad, mean, square };
    p.iter_mut().zip(g).zip(means).map(update).collect()
}

#[test]
fn sgd_of_many_equals_its_composed_form_bit_for_bit() -> Result<()> {
    let steps = [
        SGD,
        SgdStep { first: true, weight_decay: 0.01, ..SGD },
        SgdStep { nesterov: true, grad_scale: -1.0, ..SGD },
        SgdStep { dampening: 0.5, weight_decay: 0.1, ..SGD },
    ];
    let clip = Tensor::full((), 0.3, (DType::F32, &Device::cpu()))?;
    for (i, step) in steps.iter().enumerate() {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let (p, g, m) = (randn(dtype)?, randn(dtype)?, randn(dtype)?);
            let clip = (i % 2 == 1).then_some(&clip);
            for with_momentum in [false, true] {
                let [mut p1, mut m1, mut p2, mut m2] = [&p, &m, &p, &m].map(Clone::clone);
                composed::sgd_step(
                    step,
                    clip,
                    &mut sgd_updates(&mut p1, &g, with_momentum.then_some(&mut m1)),
                )?;
                (p2, m2) = (copies(&p2)?, if i == 0 { m2 } else { copies(&m2)? });
                sgd_step(step, clip, &mut sgd_updates(&mut p2, &g, with_momentum.then_some(&mut m2)))?;
                assert_same(&p2, &p1, &format!("{step:?} {dtype}"))?;
                assert_same(&m2, &m1, &format!("momentum, {step:?} {dtype}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn adam_of_many_equals_its_composed_form_bit_for_bit() -> Result<()> {
    let steps = [
        ADAM,
        AdamStep { weight_decay: 0.1, step: 1, ..ADAM },
        AdamStep { weight_decay: 0.1, decoupled: true, grad_scale: -1.0, ..ADAM },
    ];
    let clip = Tensor::full((), 0.3, (DType::F32, &Device::cpu()))?;
    for (i, step) in steps.iter().enumerate() {
        for dtype in [DType::F32, DType::F64, DType::F16] {
            let (p, g, m) = (randn(dtype)?, randn(dtype)?, randn(dtype)?);
            let v = m.iter().map(Tensor::square).collect::<Result<Vec<_>>>()?;
            let clip = (i % 2 == 0).then_some(&clip);
            let mut expected = [&p, &m, &v].map(Clone::clone);
            composed::adam_step(step, clip, &mut adam_updates(&mut expected, &g))?;
            let mut got = [copies(&p)?, copies(&m)?, v.clone()];
            adam_step(step, clip, &mut adam_updates(&mut got, &g))?;
            for (got, expected) in got.iter().zip(&expected) {
                assert_same(got, expected, &format!("{step:?} {dtype}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn shared_state_stays_as_it_was_and_state_of_ones_own_is_reused() -> Result<()> {
    let step = SgdStep { lr: 1.0, momentum: 0.0, first: true, ..SGD };
    let p = Tensor::ones([4], &Device::cpu())?;
    let mut q = p.clone();
    let once = |q: &mut Tensor| {
        sgd_step(&step, None, &mut [SgdUpdate { param: q, grad: &p, momentum: None }])?;
        Ok::<_, crate::Error>(elements::<f32>(q).as_ptr())
    };
    let before = once(&mut q)?;
    assert_eq!((p.to_vec::<f32>()?, q.to_vec::<f32>()?), (vec![1.0; 4], vec![0.0; 4]));
    assert_eq!(once(&mut q)?, before);
    assert_eq!(q.to_vec::<f32>()?, [-1.0; 4]);
    Ok(())
}

#[test]
fn a_step_of_no_parameters_changes_nothing() -> Result<()> {
    sgd_step(&SGD, None, &mut [])?;
    adam_step(&ADAM, None, &mut [])
}

#[test]
fn norms_are_those_of_the_composed_form_for_any_number_of_threads() -> Result<()> {
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let x = randn(dtype)?;
        let mut x: Vec<&Tensor> = x.iter().collect();
        let matrix = Tensor::randn([30, 41], (dtype, &Device::cpu()))?.t()?;
        x.push(&matrix);
        let expected = composed::norms(&x)?;
        let once = norms(&x)?;
        assert_eq!((once.dtype(), once.dims()), (dtype.accumulator(), &[6][..]));
        assert!(once.all_close(&expected, 1e-6, 0.0)?, "{dtype}: {once}, not {expected}");
        for threads in [1, 2, 3, 7] {
            assert!(with_num_threads(threads, || norms(&x))?.all_close(&once, 0.0, 0.0)?);
        }
    }
    let special = [[f32::NAN, 1.0], [f32::INFINITY, 1.0], [3e30, 4e30], [1e-45, 0.0]];
    let x = special.map(|x| Tensor::from_slice(&x, [2], &Device::cpu()).expect("two numbers"));
    let norms = norms(&x.each_ref())?.to_vec::<f32>()?;
    assert!(norms[0].is_nan());
    assert_eq!(norms[1..], [f32::INFINITY, 5e30, 1e-45]);
    Ok(())
}
