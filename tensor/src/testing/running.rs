//! Running results along a dim: totals, extremes, logarithms of sums.

use super::along::Fold;
use super::cases::{View, grid, long_view, moderate, places, position, views};
use super::{FLOATS, Report, Tolerance, epsilon};
use crate::op::{ArgOp, ScanOp};
use crate::{DType, Device, Result};

/// Views of finite values and of the grid, with its infinities and NaN; of some dtypes, lines long enough to be cut into pieces.
fn lines_of(device: &Device, dtype: DType) -> Result<Vec<View>> {
    let mut all = views(device, dtype, &moderate(8192, dtype, 5))?;
    all.extend(views(device, dtype, &grid(dtype))?);
    if matches!(dtype, DType::F32 | DType::BF16 | DType::I64) {
        all.extend(long_view(device, dtype)?);
    }
    Ok(all)
}

/// The result at each place of a view, from the result before it along `dim`, if there is one, and the place's index and element.
fn running<S: Copy>(
    view: &View,
    dim: usize,
    step: impl Fn(Option<S>, usize, f64) -> S,
    value: impl Fn(S) -> f64,
) -> Vec<f64> {
    let dims = view.x.dims();
    let before = dims[dim + 1..].iter().product::<usize>();
    let mut states: Vec<S> = Vec::with_capacity(view.values.len());
    for place in places(dims) {
        let (at, i) = (position(dims, &place), place[dim]);
        let previous = (i > 0).then(|| states[at - before]);
        states.push(step(previous, i, view.values[at]));
    }
    states.into_iter().map(value).collect()
}

/// Each element is the reduction of those up to it.
pub fn check_scan(device: &Device) {
    Report::of("scan", |report| {
        for &dtype in DType::ALL.iter().filter(|&&dtype| dtype != DType::Bool) {
            for view in lines_of(device, dtype)? {
                let (dims, copy) = (view.x.dims(), view.x.copy()?);
                for dim in 0..view.x.rank() {
                    for &op in ScanOp::ALL {
                        // Long products leave the range of the dtype.
                        if op == ScanOp::CumProd && dims[dim] > 16 {
                            continue;
                        }
                        let label = || format!("{} of {dtype}, {}, dim {dim}", op.name(), view.name);
                        let step = |total: Option<f64>, _, x| match total {
                            Some(total) => op.reduction().dispatch(Fold(&[total, x], dtype)),
                            None => x,
                        };
                        let exact = running(&view, dim, step, |total| total);
                        let largest =
                            exact.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
                        let y = device.backend().scan(op, &view.x, dim)?;
                        let absolute = dims[dim] as f64 * epsilon(dtype.accumulator()) * largest;
                        report.close(label, &y, &exact, Tolerance { relative: epsilon(dtype), absolute })?;
                        report.same(label, &y, &device.backend().scan(op, &copy, dim)?)?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// The last of equals and the last NaN win.
pub fn check_arg_scan(device: &Device) {
    Report::of("arg_scan", |report| {
        for &dtype in DType::ALL {
            for view in lines_of(device, dtype)? {
                for (dim, &op) in (0..view.x.rank()).flat_map(|d| ArgOp::ALL.iter().map(move |op| (d, op))) {
                    let label = || format!("{} so far of {dtype}, {}, dim {dim}", op.name(), view.name);
                    let step = |best: Option<(f64, usize)>, i, x: f64| match best {
                        Some((best, at)) => {
                            let as_far = if op == ArgOp::ArgMax { x >= best } else { x <= best };
                            if as_far || x.is_nan() { (x, i) } else { (best, at) }
                        }
                        None => (x, i),
                    };
                    let exact = running(&view, dim, step, |(_, at)| at as f64);
                    let y = device.backend().arg_scan(op, &view.x, dim)?;
                    report.check(y.dtype() == DType::I64, || format!("{}: expected int64", label()));
                    report.close(label, &y, &exact, Tolerance::EXACT)?;
                }
            }
        }
        Ok(())
    });
}

/// `log(e^a + e^b)`; infinities stay what they are, and NaN wins.
fn log_add(a: f64, b: f64) -> f64 {
    let (top, low) = if a >= b || a.is_nan() { (a, b) } else { (b, a) };
    match low.is_nan() {
        true => low,
        false if top.is_infinite() => top,
        false => top + (low - top).exp().ln_1p(),
    }
}

/// The logarithm of the sum of the exponentials so far. A sum of `n` may be off by as many roundings, which the logarithm makes
/// absolute.
pub fn check_logcumsumexp(device: &Device) {
    Report::of("logcumsumexp", |report| {
        for dtype in FLOATS {
            for view in lines_of(device, dtype)? {
                let copy = view.x.copy()?;
                for dim in 0..view.x.rank() {
                    let label = || format!("logcumsumexp of {dtype}, {}, dim {dim}", view.name);
                    let step = |sum: Option<f64>, _, x| sum.map_or(x, |sum| log_add(sum, x));
                    let exact = running(&view, dim, step, |sum| sum);
                    let y = device.backend().logcumsumexp(&view.x, dim)?;
                    let eps = epsilon(dtype.accumulator());
                    let tolerance = Tolerance {
                        relative: epsilon(dtype) + 4.0 * eps,
                        absolute: (view.x.dims()[dim] as f64 + 64.0) * eps,
                    };
                    report.close(label, &y, &exact, tolerance)?;
                    report.same(label, &y, &device.backend().logcumsumexp(&copy, dim)?)?;
                }
            }
        }
        Ok(())
    });
}
