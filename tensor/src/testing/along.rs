//! Ops along dims: reductions, searches, statistics, sorting.

use super::cases::{View, grid, moderate, places, position, views};
use super::{FLOATS, Report, Tolerance, epsilon, rounded};
use crate::op::{ArgOp, ReduceFormula, ReduceOp, ReduceVisitor};
use crate::{DType, Device, MAX_RANK, Result, Scalar, match_dtype};

/// Views of finite values and views of the grid, with its infinities and NaN.
fn all_views(device: &Device, dtype: DType) -> Result<Vec<View>> {
    let mut all = views(device, dtype, &moderate(8192, dtype, 3))?;
    all.extend(views(device, dtype, &grid(dtype))?);
    Ok(all)
}

/// One element after the other, in doubles or 64-bit integers.
pub(super) struct Fold<'a>(pub(super) &'a [f64], pub(super) DType);
impl ReduceVisitor for Fold<'_> {
    type Output = f64;
    fn visit<F: ReduceFormula>(self) -> f64 {
        if self.1.is_float() {
            return self.0.iter().fold(F::init(), |a, &b| F::combine(a, b));
        }
        let total = self.0.iter().fold(F::init_int::<i64>(), |a, &b| F::combine_int(a, b as i64));
        match_dtype!(self.1, T => <T as Scalar>::from_i64(total).to_f64())
    }
}

/// The elements along the masked dims, for each place of the result.
fn lines(view: &View, mask: &[bool; MAX_RANK]) -> (Vec<usize>, Vec<Vec<f64>>) {
    let dims = view.x.dims();
    let out: Vec<usize> = dims.iter().zip(mask).map(|(&n, &m)| if m { 1 } else { n }).collect();
    let mut lines = vec![vec![]; out.iter().product()];
    for (place, &x) in places(dims).zip(&view.values) {
        let place: Vec<usize> = place.iter().zip(mask).map(|(&i, &m)| if m { 0 } else { i }).collect();
        lines[position(&out, &place)].push(x);
    }
    (out, lines)
}

/// Every reduction over every set of dims. A sum may be off by a rounding of each magnitude in it, for half of the
/// rounds of a pairwise sum and leaves of 128; products lose one rounding for each factor.
pub fn check_reduce(device: &Device) {
    Report::of("reduce", |report| {
        for &dtype in DType::ALL {
            for view in all_views(device, dtype)? {
                let (rank, copy) = (view.x.rank(), view.x.copy()?);
                for set in 0..1usize << rank {
                    let mask: [bool; MAX_RANK] = std::array::from_fn(|d| set >> d & 1 == 1);
                    let (out, lines) = lines(&view, &mask);
                    for &op in ReduceOp::ALL {
                        if !op.has_identity() && lines.iter().any(Vec::is_empty) {
                            continue;
                        }
                        let label = || format!("{} of {dtype}, {}, over {set:b}", op.name(), view.name);
                        let y = device.backend().reduce(op, &view.x, &mask)?;
                        report.check(y.dims() == out, || format!("{}: expected shape {out:?}", label()));
                        let exact: Vec<f64> = lines.iter().map(|l| op.dispatch(Fold(l, dtype))).collect();
                        let terms = lines.first().map_or(0, Vec::len) as f64;
                        let eps = epsilon(dtype.accumulator());
                        let tolerance = match op {
                            ReduceOp::Sum => {
                                let size =
                                    |l: &Vec<f64>| l.iter().filter(|x| x.is_finite()).map(|x| x.abs()).sum();
                                let size = lines.iter().map(size).fold(0.0, f64::max);
                                Tolerance {
                                    relative: epsilon(dtype),
                                    absolute: terms.min(160.0) * eps * size,
                                }
                            }
                            ReduceOp::Prod => Tolerance {
                                relative: epsilon(dtype) + 2.0 * terms * eps,
                                absolute: f64::from(f32::MIN_POSITIVE) + eps,
                            },
                            ReduceOp::Amax | ReduceOp::Amin | ReduceOp::Any | ReduceOp::All => {
                                Tolerance::EXACT
                            }
                        };
                        // Overflow of a partial product is not that of the whole one.
                        let bounded = op != ReduceOp::Prod || terms < 16.0 || !dtype.is_float();
                        if bounded {
                            report.close(label, &y, &exact, tolerance)?;
                        }
                        report.same(label, &y, &device.backend().reduce(op, &copy, &mask)?)?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// The first of equals and the first NaN win.
pub fn check_arg_reduce(device: &Device) {
    Report::of("arg_reduce", |report| {
        for &dtype in DType::ALL {
            for view in all_views(device, dtype)? {
                for dim in (0..view.x.rank()).filter(|&d| view.x.dims()[d] > 0) {
                    let (_, lines) = lines(&view, &std::array::from_fn(|d| d == dim));
                    for &op in ArgOp::ALL {
                        let label = || format!("{} of {dtype}, {}, dim {dim}", op.name(), view.name);
                        let best = |l: &Vec<f64>| {
                            (1..l.len()).fold(0, |b, i| if op.replaces(l[i], l[b]) { i } else { b }) as f64
                        };
                        let exact: Vec<f64> = lines.iter().map(best).collect();
                        let y = device.backend().arg_reduce(op, &view.x, dim)?;
                        report.check(y.dtype() == DType::I64, || format!("{}: expected int64", label()));
                        report.close(label, &y, &exact, Tolerance::EXACT)?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// The mean and the squared distances from it, over `n` or one less.
pub fn check_var_mean(device: &Device) {
    Report::of("var_mean", |report| {
        for dtype in FLOATS {
            for view in views(device, dtype, &moderate(8192, dtype, 3))? {
                let copy = view.x.copy()?;
                for (set, correction) in (0..1usize << view.x.rank()).flat_map(|s| [(s, 0.0), (s, 1.0)]) {
                    let mask: [bool; MAX_RANK] = std::array::from_fn(|d| set >> d & 1 == 1);
                    let label =
                        || format!("var_mean of {dtype}, {}, over {set:b}, less {correction}", view.name);
                    let (out, lines) = lines(&view, &mask);
                    let n = lines.first().map_or(0, Vec::len) as f64;
                    let mean = |line: &Vec<f64>| line.iter().sum::<f64>() / n;
                    let var = |line: &Vec<f64>| {
                        let mean = mean(line);
                        line.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - correction).max(0.0)
                    };
                    // Terms are at most 4.
                    let tolerance = Tolerance {
                        relative: epsilon(dtype),
                        absolute: 8.0 * (n + 4.0).min(160.0) * epsilon(dtype.accumulator()),
                    };
                    let (v, m) = device.backend().var_mean(&view.x, &mask, correction)?;
                    report.check(v.dims() == out && m.dims() == out, || {
                        format!("{}: expected shape {out:?}", label())
                    });
                    report.close(label, &m, &lines.iter().map(mean).collect::<Vec<_>>(), tolerance)?;
                    report.close(label, &v, &lines.iter().map(var).collect::<Vec<_>>(), tolerance)?;
                    let (v_too, m_too) = device.backend().var_mean(&copy, &mask, correction)?;
                    report.same(label, &v, &v_too)?;
                    report.same(label, &m, &m_too)?;
                }
            }
        }
        Ok(())
    });
}

/// Stable, NaN last (first when descending), with the indices that say where each element was.
pub fn check_sort(device: &Device) {
    Report::of("sort", |report| {
        for &dtype in DType::ALL {
            for view in all_views(device, dtype)? {
                let dims = view.x.dims();
                for (dim, descending) in (0..view.x.rank()).flat_map(|d| [(d, false), (d, true)]) {
                    let label =
                        || format!("sort of {dtype}, {}, dim {dim}, descending: {descending}", view.name);
                    let (_, lines) = lines(&view, &std::array::from_fn(|d| d == dim));
                    let orders: Vec<Vec<usize>> = lines
                        .iter()
                        .map(|line| {
                            let mut order: Vec<usize> = (0..line.len()).collect();
                            let compare = |a: f64, b: f64| {
                                a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
                            };
                            order.sort_by(|&i, &j| match descending {
                                false => compare(line[i], line[j]),
                                true => compare(line[j], line[i]),
                            });
                            order
                        })
                        .collect();
                    let (mut values, mut indices) = (vec![], vec![]);
                    let out: Vec<usize> =
                        dims.iter().enumerate().map(|(d, &n)| if d == dim { 1 } else { n }).collect();
                    for mut place in places(dims) {
                        let j = std::mem::take(&mut place[dim]);
                        let line = position(&out, &place);
                        indices.push(orders[line][j] as f64);
                        values.push(rounded(lines[line][orders[line][j]], dtype));
                    }
                    let (y, index) = device.backend().sort(&view.x, dim, descending)?;
                    report.close(label, &y, &values, Tolerance::EXACT)?;
                    report.close(label, &index, &indices, Tolerance::EXACT)?;
                }
            }
        }
        Ok(())
    });
}

/// The first elements of the sorted dim, and where they were.
pub fn check_topk(device: &Device) {
    Report::of("topk", |report| {
        let backend = device.backend();
        for &dtype in DType::ALL {
            for view in all_views(device, dtype)? {
                for (dim, largest) in (0..view.x.rank()).flat_map(|d| [(d, false), (d, true)]) {
                    let n = view.x.dims()[dim];
                    let (values, indices) = backend.sort(&view.x, dim, largest)?;
                    for k in [0, 1, 3, n].into_iter().filter(|&k| k <= n) {
                        let label = || {
                            format!("the first {k} of {dtype}, {}, dim {dim}, largest: {largest}", view.name)
                        };
                        let (y, index) = backend.topk(&view.x, dim, k, largest)?;
                        report.same(label, &y, &values.narrow(dim as isize, 0, k)?)?;
                        report.same(label, &index, &indices.narrow(dim as isize, 0, k)?)?;
                    }
                }
            }
        }
        Ok(())
    });
}
