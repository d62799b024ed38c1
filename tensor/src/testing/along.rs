//! Ops along dims: reductions, searches, running totals, sorting.

use super::cases::{View, grid, moderate, places, position, views};
use super::{Report, Tolerance, epsilon, rounded};
use crate::op::{ArgOp, ReduceFormula, ReduceOp, ReduceVisitor, ScanOp};
use crate::{DType, Device, MAX_RANK, Result, Scalar, match_dtype};

/// Views of finite values and views of the grid, with its infinities and NaN.
fn all_views(device: &Device, dtype: DType) -> Result<Vec<View>> {
    let mut all = views(device, dtype, &moderate(8192, dtype, 3))?;
    all.extend(views(device, dtype, &grid(dtype))?);
    Ok(all)
}

/// One element after the other, in doubles or 64-bit integers.
struct Fold<'a>(&'a [f64], DType);
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

/// Each element is the reduction of those up to it.
pub fn check_scan(device: &Device) {
    Report::of("scan", |report| {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64, DType::I32] {
            for view in views(device, dtype, &moderate(8192, dtype, 5))? {
                let (dims, copy) = (view.x.dims(), view.x.copy()?);
                for dim in 0..view.x.rank() {
                    for &op in ScanOp::ALL {
                        // Long products leave the range of the dtype.
                        if op == ScanOp::CumProd && dims[dim] > 16 {
                            continue;
                        }
                        let label = || format!("{} of {dtype}, {}, dim {dim}", op.name(), view.name);
                        let (mut exact, mut largest) = (view.values.clone(), 0.0f64);
                        for place in places(dims) {
                            let at = position(dims, &place);
                            if place[dim] > 0 {
                                let before = at - dims[dim + 1..].iter().product::<usize>();
                                exact[at] =
                                    op.reduction().dispatch(Fold(&[exact[before], view.values[at]], dtype));
                            }
                            largest = largest.max(exact[at].abs());
                        }
                        let y = device.backend().scan(op, &view.x, dim)?;
                        let eps = epsilon(dtype.accumulator());
                        let absolute = dims[dim] as f64 * eps * largest;
                        report.close(label, &y, &exact, Tolerance { relative: epsilon(dtype), absolute })?;
                        report.same(label, &y, &device.backend().scan(op, &copy, dim)?)?;
                    }
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
