//! Laws of views, on random shapes and layouts.

use gradus_tensor::testing::strategies::{shapes, views};
use gradus_tensor::{Device, Result, Tensor};
use proptest::prelude::*;

/// The elements in row-major order.
fn values(x: &Tensor) -> Vec<f32> {
    x.to_vec().expect("a float32 tensor on the CPU")
}

fn ok<T>(x: Result<T>) -> std::result::Result<T, TestCaseError> {
    x.map_err(|e| TestCaseError::fail(e.to_string()))
}

#[test]
fn a_view_without_elements_behind_the_end_is_empty() -> Result<()> {
    let x = Tensor::zeros([4, 0], &Device::cpu())?.narrow(0, 4, 0)?;
    let y = Tensor::zeros([4], &Device::cpu())?.narrow(0, 4, 0)?;
    assert!(values(&x).is_empty() && values(&x.copy()?).is_empty());
    assert!(values(&y).is_empty() && values(&y.square()?).is_empty());
    assert_eq!(y.sum_all()?.item()?, 0.0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reshape_is_undone_by_the_reshape_back(x in views(4)) {
        let flat = ok(x.reshape([x.numel()]))?;
        prop_assert_eq!(values(&flat), values(&x));
        let back = ok(flat.reshape(x.shape()))?;
        prop_assert_eq!(back.shape(), x.shape());
        prop_assert_eq!(values(&back), values(&x));
    }

    #[test]
    fn a_permutation_is_undone_by_its_inverse(x in views(4), seed in any::<u64>()) {
        let mut order: Vec<isize> = (0..x.rank() as isize).collect();
        gradus_tensor::Generator::new(seed).shuffle(&mut order);
        let mut inverse = order.clone();
        order.iter().enumerate().for_each(|(i, &d)| inverse[d as usize] = i as isize);
        let back = ok(ok(x.permute(&order))?.permute(&inverse))?;
        prop_assert_eq!(back.shape(), x.shape());
        prop_assert_eq!(values(&back), values(&x));
    }

    #[test]
    fn parts_put_together_are_the_whole(x in views(4), dim in 0..4usize, at in 0..6usize) {
        prop_assume!(x.rank() > 0);
        let dim = (dim % x.rank()) as isize;
        let n = ok(x.size(dim))?;
        let at = at % (n + 1);
        let parts = [ok(x.narrow(dim, 0, at))?, ok(x.narrow(dim, at, n - at))?];
        let whole = ok(Tensor::cat(&parts, dim))?;
        prop_assert_eq!(whole.shape(), x.shape());
        prop_assert_eq!(values(&whole), values(&x));
    }

    #[test]
    fn a_slice_takes_what_python_takes(n in 0..8usize, start in -10..10isize, end in -10..10isize, step in 1..4usize) {
        let x = ok(Tensor::arange(0, n, 1, &Device::cpu()))?;
        let wrap = |i: isize| (if i < 0 { i + n as isize } else { i }).clamp(0, n as isize);
        let expected: Vec<f32> = (wrap(start)..wrap(end)).step_by(step).map(|i| i as f32).collect();
        prop_assert_eq!(values(&ok(x.slice(0, Some(start), Some(end), step))?), expected);
    }

    #[test]
    fn ops_see_a_view_as_they_see_its_copy(x in views(4)) {
        let copy = ok(x.copy())?;
        prop_assert_eq!(values(&ok(x.square())?), values(&ok(copy.square())?));
        prop_assert_eq!(values(&ok(x.sum_all())?), values(&ok(copy.sum_all())?));
        prop_assert_eq!(values(&ok(&x + &copy)?), values(&ok(copy.mul_scalar(2.0))?));
    }

    #[test]
    fn broadcasting_and_summing_back_are_adjoint(shape in shapes(3), lead in 1..4usize, ones in 0..8usize) {
        // Some dims shrink to 1; small integers keep every sum exact.
        let small: Vec<usize> =
            shape.iter().enumerate().map(|(d, &n)| if ones >> d & 1 == 1 { 1 } else { n }).collect();
        let large = [&[lead], &shape[..]].concat();
        let count = |s: &[usize]| s.iter().product::<usize>();
        let x = ok(ok(Tensor::arange(0, count(&small), 1, &Device::cpu()))?.reshape(small.clone()))?;
        let g = ok(ok(Tensor::arange(1, 1 + count(&large), 1, &Device::cpu()))?.reshape(large.clone()))?;
        let forward = ok(ok(&ok(x.broadcast_to(large))? * &g)?.sum_all())?;
        let backward = ok(ok(&x * &ok(g.sum_to(small))?)?.sum_all())?;
        prop_assert_eq!(values(&forward), values(&backward));
    }
}
