//! Ops on single elements: the tables of [`crate::op`].

use super::cases::{grid, moderate, views};
use super::{FLOATS, Report, Tolerance, upload, wrapped};
use crate::op::binary::{BinaryIntFormula, BinaryIntVisitor};
use crate::op::unary::{UnaryIntFormula, UnaryIntVisitor};
use crate::op::{BinaryFormula, BinaryOp, BinaryVisitor, CompareOp, PredicateOp, UnaryOp};
use crate::{Bool, DType, Device, Kind, Scalar};

/// Functions of `f32` are good to 32 roundings, relative to the result or to 1: formulas as that of `gelu` lose some.
const UNITS: f64 = 32.0;

struct IntAt(i64);
impl UnaryIntVisitor for IntAt {
    type Output = i64;
    fn visit<F: UnaryIntFormula>(self) -> i64 {
        F::eval(self.0)
    }
}

struct IntPair(i64, i64);
impl BinaryIntVisitor for IntPair {
    type Output = i64;
    fn visit<F: BinaryIntFormula>(self) -> i64 {
        F::eval(self.0, self.1)
    }
}

/// The formula of a gradient on two `f64`.
struct Exact;
impl BinaryVisitor for Exact {
    type Output = fn(f64, f64) -> f64;
    fn visit<F: BinaryFormula>(self) -> Self::Output {
        F::eval::<f64>
    }
}

/// Every unary op equals its formula, into new memory and into its operand's; an op without one for a dtype is an error.
pub fn check_unary(device: &Device) {
    Report::of("unary", |report| {
        let backend = device.backend();
        for &dtype in DType::ALL {
            for view in views(device, dtype, &grid(dtype))? {
                let copy = view.x.copy()?;
                for &op in UnaryOp::ALL {
                    let label = || format!("{} of {dtype}, {}", op.name(), view.name);
                    let exact = |&x: &f64| match dtype.kind() {
                        Kind::Float => Some(op.scalar_f64()(x)),
                        Kind::Int => op.dispatch_int(IntAt(x as i64)).map(|y| wrapped(y, dtype)),
                        Kind::Bool => None,
                    };
                    let exact: Option<Vec<f64>> = view.values.iter().map(exact).collect();
                    let defined = dtype.is_float() || (dtype.is_int() && op.dispatch_int(IntAt(1)).is_some());
                    match (backend.unary(op, &view.x), defined, exact) {
                        (Ok(y), true, Some(exact)) => {
                            report.close(label, &y, &exact, Tolerance::units(dtype, UNITS))?;
                            report.same(label, &y, &backend.unary(op, &copy)?)?;
                            report.same(label, &y, &backend.unary_into(op, copy.copy()?)?)?;
                            report.same(label, &y, &backend.unary_into(op, view.x.clone())?)?;
                        }
                        (y, defined, _) => report.check(y.is_err() && !defined, || {
                            format!("{}: expected {}", label(), if defined { "a result" } else { "an error" })
                        }),
                    }
                }
            }
        }
        Ok(())
    });
}

/// Every gradient in one pass equals its formula, whatever the layouts of its operands; no op without a formula has one.
pub fn check_unary_backward(device: &Device) {
    Report::of("unary_backward", |report| {
        let backend = device.backend();
        for dtype in FLOATS {
            for view in views(device, dtype, &grid(dtype))? {
                let (saved, n) = (&view.x, view.values.len());
                let right = moderate(n, dtype, 2);
                let g = upload(device, dtype, saved.dims(), &right)?;
                let turned = match saved.rank() {
                    0 | 1 => g.clone(),
                    _ => g.transpose(0, -1)?.copy()?.transpose(0, -1)?,
                };
                let one = upload(device, dtype, &[], &[1.5])?.broadcast_to(saved.shape())?;
                for &op in UnaryOp::ALL {
                    let label = || format!("gradient of {} of {dtype}, {}", op.name(), view.name);
                    let formula = op.dispatch_gradient(Exact);
                    for (g, right) in [(&g, &right), (&turned, &right), (&one, &vec![1.5; n])] {
                        let Some(y) = backend.unary_backward(op, g, saved)? else { continue };
                        let Some(formula) = formula else {
                            report.check(false, || format!("{}: there is no formula for it", label()));
                            continue;
                        };
                        let exact: Vec<f64> =
                            right.iter().zip(&view.values).map(|(&g, &s)| formula(g, s)).collect();
                        // Terms that cancel multiply the error of what is left.
                        report.close(label, &y, &exact, Tolerance::units(dtype, 8.0 * UNITS))?;
                        let copies = backend.unary_backward(op, &g.copy()?, &saved.copy()?)?;
                        copies.map_or(Ok(()), |copies| report.same(label, &y, &copies))?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// Every binary op equals its formula, into new memory and into its left operand's.
pub fn check_binary(device: &Device) {
    Report::of("binary", |report| {
        let backend = device.backend();
        for &dtype in DType::ALL {
            let grid = grid(dtype);
            for (shift, view) in views(device, dtype, &grid)?.into_iter().enumerate() {
                let n = view.values.len();
                let (a, copy) = (&view.x, view.x.copy()?);
                // The shift of each view pairs other values, and a period of one more pairs all in a long tensor.
                let mut ring = grid.clone();
                ring.push(grid[shift % grid.len()]);
                let right: Vec<f64> = (0..n).map(|i| ring[(i + shift) % ring.len()]).collect();
                let b = upload(device, dtype, a.dims(), &right)?;
                let one =
                    upload(device, dtype, &[], &ring[shift % ring.len()..][..1])?.broadcast_to(a.shape())?;
                for &op in BinaryOp::ALL {
                    let exact = |(&x, y): (&f64, f64)| match dtype.kind() {
                        Kind::Float => Some(op.scalar_f64()(x, y)),
                        Kind::Int => op.dispatch_int(IntPair(x as i64, y as i64)).map(|y| wrapped(y, dtype)),
                        Kind::Bool => None,
                    };
                    let defined =
                        dtype.is_float() || (dtype.is_int() && op.dispatch_int(IntPair(1, 1)).is_some());
                    if !defined {
                        let label = || format!("{} of {dtype}: expected an error", op.name());
                        report.check(backend.binary(op, a, &b).is_err(), label);
                        continue;
                    }
                    for (b, right) in [(&b, right.clone()), (&one, vec![ring[shift % ring.len()]; n])] {
                        let label = || format!("{} of {dtype}, {}", op.name(), view.name);
                        let values = view.values.iter().zip(right.iter().map(|&y| super::rounded(y, dtype)));
                        let exact: Vec<f64> = values.filter_map(exact).collect();
                        let y = backend.binary(op, a, b)?;
                        // Powers and remainders multiply the error of their operands' quotient or logarithm.
                        report.close(label, &y, &exact, Tolerance::units(dtype, 8.0 * UNITS))?;
                        report.same(label, &y, &backend.binary(op, &copy, b)?)?;
                        report.same(label, &y, &backend.binary_into(op, copy.copy()?, b)?)?;
                        report.same(label, &y, &backend.binary_into(op, a.clone(), b)?)?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// Every comparison answers as its formula does.
pub fn check_compare(device: &Device) {
    Report::of("compare", |report| {
        for &dtype in DType::ALL {
            let grid = grid(dtype);
            for view in views(device, dtype, &grid)? {
                let right: Vec<f64> = (0..view.values.len()).map(|i| grid[i * 5 % grid.len()]).collect();
                let b = upload(device, dtype, view.x.dims(), &right)?;
                for &op in CompareOp::ALL {
                    let label = || format!("{} of {dtype}, {}", op.name(), view.name);
                    let values = view.values.iter().zip(&right);
                    let exact: Vec<f64> =
                        values.map(|(&a, &b)| f64::from(op.scalar(a, super::rounded(b, dtype)))).collect();
                    let y = device.backend().compare(op, &view.x, &b)?;
                    report.check(y.dtype() == DType::Bool, || format!("{}: expected bools", label()));
                    report.close(label, &y, &exact, Tolerance::EXACT)?;
                }
            }
        }
        Ok(())
    });
}

/// Every predicate answers as its formula does.
pub fn check_predicate(device: &Device) {
    Report::of("predicate", |report| {
        for &dtype in DType::ALL {
            for view in views(device, dtype, &grid(dtype))? {
                for &op in PredicateOp::ALL {
                    let label = || format!("{} of {dtype}, {}", op.name(), view.name);
                    let exact: Vec<f64> = view.values.iter().map(|&x| f64::from(op.scalar(x))).collect();
                    let y = device.backend().predicate(op, &view.x)?;
                    report.check(y.dtype() == Bool::DTYPE, || format!("{}: expected bools", label()));
                    report.close(label, &y, &exact, Tolerance::EXACT)?;
                }
            }
        }
        Ok(())
    });
}

/// Elements are chosen by the condition, whatever the layouts of the three operands.
pub fn check_select(device: &Device) {
    Report::of("select", |report| {
        for &dtype in DType::ALL {
            for view in views(device, dtype, &grid(dtype))? {
                let n = view.values.len();
                let (a, dims) = (&view.x, view.x.dims());
                let right: Vec<f64> = grid(dtype).into_iter().rev().cycle().take(n).collect();
                let answers: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i.is_multiple_of(3)))).collect();
                let (b, c) =
                    (upload(device, dtype, dims, &right)?, upload(device, DType::Bool, dims, &answers)?);
                let pick = |i: usize| {
                    if i.is_multiple_of(3) { view.values[i] } else { super::rounded(right[i], dtype) }
                };
                let exact: Vec<f64> = (0..n).map(pick).collect();
                let label = || format!("select of {dtype}, {}", view.name);
                report.close(label, &device.backend().select(&c, a, &b)?, &exact, Tolerance::EXACT)?;
            }
        }
        Ok(())
    });
}
