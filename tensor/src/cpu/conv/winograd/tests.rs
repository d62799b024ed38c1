//! The errors of the transforms beside those of the definition.

use crate::{Conv, DType, Device, Distribution, F32Mode, Generator, Result, Tensor, with_f32_mode};

/// Normal numbers, each changed.
fn numbers(shape: [usize; 4], seed: u64, change: &dyn Fn(f32) -> f32) -> Result<Tensor> {
    let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
    let values = Tensor::random(normal, shape, &Device::cpu(), &mut Generator::new(seed))?;
    let values: Vec<f32> = values.to_vec::<f32>()?.into_iter().map(change).collect();
    Tensor::from_vec(values, shape, &Device::cpu())
}

/// The root mean square of `|y - z| / scale`.
fn error(y: &Tensor, z: &Tensor, scale: &Tensor) -> Result<f64> {
    let off = y.to_dtype(DType::F64)?.sub(z)?.div(scale)?;
    off.square()?.mean_all()?.item().map(f64::sqrt)
}

/// Asserts that errors of `f`, in parts of what it makes of absolute values, are no larger by [`F32Mode::Auto`] than `times` those
/// by [`F32Mode::Strict`].
fn compare(
    name: &str,
    [x, w]: [&Tensor; 2],
    times: f64,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<()> {
    let double = |x: &Tensor| x.to_dtype(DType::F64);
    let exact = f(&double(x)?, &double(w)?)?;
    let scale = f(&double(&x.abs()?)?, &double(&w.abs()?)?)?;
    let of = |mode| error(&with_f32_mode(mode, || f(x, w))?, &exact, &scale);
    let (auto, strict) = (of(F32Mode::Auto)?, of(F32Mode::Strict)?);
    assert!(strict > 0.0 && auto <= times * strict, "{name}: {auto:e} and {strict:e}");
    Ok(())
}

#[test]
fn errors_are_about_those_of_the_definition_whatever_the_data() -> Result<()> {
    let kinds: [(&str, [&dyn Fn(f32) -> f32; 2]); 8] = [
        ("normal", [&|x| x, &|x| x]),
        ("positive", [&f32::abs, &f32::abs]),
        ("many zeros", [&|x| x.max(0.0), &|x| x]),
        ("lognormal, deviation 1", [&f32::exp, &f32::exp]),
        ("lognormal, deviation 2", [&|x| x.signum() * (2.0 * x).exp(), &|x| (2.0 * x).exp()]),
        ("large times small", [&|x| 1e30 * x, &|x| 1e-30 * x]),
        ("two scales", [&|x| if x > 0.0 { 1e9 * x } else { x }, &|x| if x > 0.0 { 1e-9 * x } else { x }]),
        ("subnormal", [&|x| 1e-40 * x, &|x| x]),
    ];
    for (seed, c) in [(1, 32), (2, 96)] {
        for (name, [of_x, of_w]) in kinds {
            let x = numbers([1, c, 18, 17], seed, of_x)?;
            let w = numbers([33, c, 3, 3], seed + 10, of_w)?;
            let conv = Conv::default().padding(1);
            compare(name, [&x, &w], 1.3, |x, w| x.conv2d(w, None, &conv))?;
            let grad = numbers([1, 33, 18, 17], seed + 20, of_w)?;
            compare(&format!("{name}, gradient"), [&x, &grad], 1.5, |x, grad| {
                grad.conv_grad_weight(x, [33, c, 3, 3], &conv)
            })?;
        }
    }
    Ok(())
}
