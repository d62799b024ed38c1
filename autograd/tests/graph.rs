//! How graphs are built, walked, and freed.

use gradus_autograd::{Backward, Var, grad, no_grad};
use std::sync::{Arc, OnceLock};
use tensor::{DType, Device, ErrorKind, Result, Tensor};

fn leaf(values: &[f32]) -> Var {
    Var::leaf(Tensor::from_slice(values, [values.len()], &Device::cpu()).expect("a small tensor"))
}

#[test]
fn a_chain_of_a_million_steps_neither_recurses_nor_leaks() -> Result<()> {
    let x = leaf(&[1.0]);
    let mut y = x.clone();
    for _ in 0..1_000_000 {
        y = y.neg()?;
    }
    let grads = y.sum_all()?.backward()?;
    assert_eq!(grads.get(&x)?.to_vec::<f32>()?, [1.0]);
    let before = Device::cpu().backend().memory_stats().live_bytes;
    let mut z = x.clone();
    for _ in 0..1_000_000 {
        z = z.mul(&x)?;
    }
    drop(z);
    let after = Device::cpu().backend().memory_stats().live_bytes;
    assert!(after <= before + 4096, "{before} bytes were live before a chain, {after} after it was dropped");
    Ok(())
}

#[test]
fn a_second_walk_needs_a_retained_graph() -> Result<()> {
    let x = leaf(&[2.0]);
    let y = x.mul(&x)?.sum_all()?;
    let retain = Backward { retain_graph: true, ..Default::default() };
    assert_eq!(y.backward_with(&retain)?.get(&x)?.to_vec::<f32>()?, [4.0]);
    assert_eq!(y.backward()?.get(&x)?.to_vec::<f32>()?, [4.0]);
    assert_eq!(y.backward().unwrap_err().kind(), &ErrorKind::GraphConsumed);
    assert_eq!(x.sum_all()?.backward()?.len(), 1, "leaves can be walked to again and again");
    Ok(())
}

#[test]
fn gradients_of_many_uses_add_up() -> Result<()> {
    let x = leaf(&[3.0]);
    let y = x.mul(&x)?.add(&x)?.add(&x.mul_scalar(2.0)?)?;
    assert_eq!(y.backward()?.get(&x)?.to_vec::<f32>()?, [9.0]);
    Ok(())
}

#[test]
fn a_gradient_that_does_not_arrive_is_explained() -> Result<()> {
    let (w, b) = (leaf(&[1.0, 2.0]), leaf(&[0.5, 0.5]));
    let y = w.exp()?.detach().mul(&b)?.sum_all()?;
    let grads = y.backward()?;
    assert_eq!(grads.severed_at(&w), Some("detach"));
    let message = grads.get(&w).unwrap_err().to_string();
    assert!(message.contains("cut off by detach"), "{message}");
    let rounded = w.to_dtype(DType::I64)?.to_dtype(DType::F32)?.sum_all()?;
    let message = rounded.backward().unwrap_err().to_string();
    assert!(message.contains("to_dtype cut it off"), "{message}");
    let message =
        leaf(&[1.0]).detach().add(&Var::from(b.value()))?.sum_all()?.backward().unwrap_err().to_string();
    assert!(message.contains("detach"), "{message}");
    Ok(())
}

#[test]
fn only_numbers_can_be_walked_back_from_without_a_gradient() -> Result<()> {
    let x = leaf(&[1.0, 2.0]);
    let y = x.square()?;
    assert!(y.backward().unwrap_err().to_string().contains("sum_all"));
    let gradient = Tensor::from_slice(&[1f32, 10.0], [2], &Device::cpu())?;
    let options = Backward { gradient: Some(gradient), ..Default::default() };
    assert_eq!(y.backward_with(&options)?.get(&x)?.to_vec::<f32>()?, [2.0, 40.0]);
    Ok(())
}

#[test]
fn nothing_is_recorded_without_need() -> Result<()> {
    let x = leaf(&[1.0]);
    assert!(!no_grad(|| x.exp())?.requires_grad());
    assert!(x.exp()?.requires_grad());
    assert!(!Var::from(x.value()).exp()?.requires_grad());
    let outcome = std::panic::catch_unwind(|| no_grad(|| panic!("inside")));
    assert!(outcome.is_err() && gradus_autograd::is_recording(), "recording is on again after a panic");
    Ok(())
}

#[test]
fn third_derivatives_come_from_the_same_rules() -> Result<()> {
    let x = Var::leaf(Tensor::from_slice(&[2f64], [1], &Device::cpu())?);
    let create = Backward { create_graph: true, ..Default::default() };
    let mut y = x.pow_scalar(4)?;
    for expected in [32.0, 48.0, 48.0] {
        y = grad(&y.sum_all()?, &[&x], &create)?.remove(0);
        assert_eq!(y.item()?, expected);
    }
    Ok(())
}

#[test]
fn hooks_see_and_change_gradients() -> Result<()> {
    let x = leaf(&[1.0]);
    let reversed = x.hook(|g| g.neg());
    assert_eq!(reversed.mul_scalar(3.0)?.backward()?.get(&x)?.to_vec::<f32>()?, [-3.0]);
    Ok(())
}

#[test]
fn graphs_cross_threads() -> Result<()> {
    let x = leaf(&[1.0, 2.0]);
    let y = x.square()?.sum_all()?;
    let grads = std::thread::scope(|s| s.spawn(|| y.backward()).join().expect("no panic"))?;
    assert_eq!(grads.get(&x)?.to_vec::<f32>()?, [2.0, 4.0]);
    Ok(())
}

#[test]
fn a_walk_inside_a_walk_of_the_same_graph_is_an_error() -> Result<()> {
    let x = leaf(&[1.0]);
    let whole = Arc::new(OnceLock::<Var>::new());
    let inner = whole.clone();
    let y = x.hook(move |g| {
        inner.get().expect("set before the walk").backward()?;
        Ok(g.clone())
    });
    let y = whole.get_or_init(|| y.sum_all().expect("a small sum"));
    assert_eq!(y.backward().unwrap_err().kind(), &ErrorKind::GraphConsumed);
    Ok(())
}

#[test]
fn gradients_wait_for_each_other_in_any_order() -> Result<()> {
    let x = leaf(&[1.0, 2.0]);
    let n = 1000;
    let parts = (0..n).map(|i| x.mul_scalar(i as f64)).collect::<Result<Vec<_>>>()?;
    let sum = |a: Var, b: &Var| a.add(b);
    let forwards = parts.iter().try_fold(x.clone(), sum)?;
    let backwards = parts.iter().rev().try_fold(x.clone(), sum)?;
    let expected = 1.0 + (n * (n - 1) / 2) as f32;
    for y in [forwards, backwards] {
        let retain = Backward { retain_graph: true, ..Default::default() };
        assert_eq!(y.sum_all()?.backward_with(&retain)?.get(&x)?.to_vec::<f32>()?, [expected; 2]);
    }
    Ok(())
}
