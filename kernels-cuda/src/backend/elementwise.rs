//! Ops on single elements: a kernel for each row of the op tables and each dtype.

use tensor::op::binary::{BinaryIntFormula, BinaryIntVisitor};
use tensor::op::unary::{UnaryIntFormula, UnaryIntVisitor};
use tensor::op::{BinaryFormula, BinaryOp, BinaryVisitor, CompareOp, PredicateOp, UnaryOp};
use tensor::{DType, Error, Layout, Number, Result, Tensor, composed};

use super::copy::{bits, copy_as, full};
use super::names::{number, short, size};
use super::storage::{New, changes, operand};
use super::walk::{Operand, crossing, pieces};
use crate::gpu::Gpu;
use crate::launch;

/// The layout of a result: the memory order of the first operand that has one.
pub(super) fn result_layout(operands: &[&Tensor]) -> Layout {
    let shape = operands[0].shape();
    let dense = operands.iter().find(|t| t.layout().is_dense());
    dense.map_or_else(|| Layout::contiguous(shape), |t| t.layout().dense_like(shape))
}

/// Whether a table has a row with a formula: what the visitors below are asked.
struct Exists;

impl UnaryIntVisitor for Exists {
    type Output = ();
    fn visit<F: UnaryIntFormula>(self) {}
}

impl BinaryIntVisitor for Exists {
    type Output = ();
    fn visit<F: BinaryIntFormula>(self) {}
}

impl BinaryVisitor for Exists {
    type Output = ();
    fn visit<F: BinaryFormula>(self) {}
}

/// An error unless the dtype has the op.
fn check(op: &'static str, dtype: DType, of_integers: bool) -> Result<()> {
    match (dtype.is_float(), dtype.is_int()) {
        (true, _) => Ok(()),
        (_, true) if of_integers => Ok(()),
        _ => Err(Error::dtype(op, dtype, if of_integers { "numbers" } else { "floats" })),
    }
}

/// Elements from which on an operand is turned around first.
const MANY: usize = 1 << 14;

/// An operand whose rows run across those of the result, in the order of the result: turning it around tile by tile first costs less
/// than reading a line of memory for every element.
pub(super) fn in_order(gpu: &'static Gpu, y: &Operand, x: &Tensor) -> Result<Tensor> {
    match x.numel() >= MANY && crossing(&y.layout, x.layout()).is_some() {
        true => copy_as(gpu, x, x.dtype(), y.layout),
        false => Ok(x.clone()),
    }
}

/// Launches `kernel` over a result and an operand.
fn one(gpu: &'static Gpu, kernel: &str, y: New, x: &Tensor) -> Result<Tensor> {
    let x = &in_order(gpu, &y.operand(), x)?;
    for piece in pieces([y.operand(), operand(x)]) {
        let [y, x] = piece.at;
        launch::map1(gpu, kernel, piece.launch(), piece.walk, y, x)?;
    }
    y.tensor()
}

/// Launches `kernel` over a result and two operands.
fn two(gpu: &'static Gpu, kernel: &str, y: New, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (&in_order(gpu, &y.operand(), a)?, &in_order(gpu, &y.operand(), b)?);
    for piece in pieces([y.operand(), operand(a), operand(b)]) {
        let [y, a, b] = piece.at;
        launch::map2(gpu, kernel, piece.launch(), piece.walk, y, a, b)?;
    }
    y.tensor()
}

pub(super) fn unary(gpu: &'static Gpu, op: UnaryOp, x: &Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    check(op.name(), dtype, op.dispatch_int(Exists).is_some())?;
    let layout = result_layout(&[x]);
    let rounds = matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc);
    if dtype.is_int() && rounds {
        return copy_as(gpu, x, dtype, layout);
    }
    one(gpu, &format!("unary_{}_{}", op.name(), short(dtype)), New::of(gpu, layout, dtype)?, x)
}

/// Into the memory of `x` where nobody else holds it and its elements fill it densely.
pub(super) fn unary_into(gpu: &'static Gpu, op: UnaryOp, mut x: Tensor) -> Result<Tensor> {
    let dtype = x.dtype();
    if !dtype.is_float() || !x.layout().is_dense() || x.storage_mut().is_none() {
        return unary(gpu, op, &x);
    }
    changes(&x);
    let kernel = format!("unary_{}_{}", op.name(), short(dtype));
    for piece in pieces([operand(&x), operand(&x)]) {
        let [y, x] = piece.at;
        launch::map1(gpu, &kernel, piece.launch(), piece.walk, y, x)?;
    }
    Ok(x)
}

pub(super) fn unary_backward(
    gpu: &'static Gpu,
    op: UnaryOp,
    grad: &Tensor,
    saved: &Tensor,
) -> Result<Option<Tensor>> {
    if op.dispatch_gradient(Exists).is_none() || !grad.dtype().is_float() {
        return Ok(None);
    }
    let (dtype, layout) = (grad.dtype(), result_layout(&[saved, grad]));
    let kernel = format!("gradient_{}_{}", op.name(), short(dtype));
    two(gpu, &kernel, New::of(gpu, layout, dtype)?, grad, saved).map(Some)
}

pub(super) fn binary(gpu: &'static Gpu, op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    check(op.name(), dtype, op.dispatch_int(Exists).is_some())?;
    let y = New::of(gpu, result_layout(&[a, b]), dtype)?;
    two(gpu, &format!("binary_{}_{}", op.name(), short(dtype)), y, a, b)
}

/// Into the memory of `a` where nobody else holds it and its elements fill it densely.
pub(super) fn binary_into(gpu: &'static Gpu, op: BinaryOp, mut a: Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    check(op.name(), dtype, op.dispatch_int(Exists).is_some())?;
    if !a.layout().is_dense() || a.storage_mut().is_none() {
        return binary(gpu, op, &a, b);
    }
    changes(&a);
    let kernel = format!("binary_{}_{}", op.name(), short(dtype));
    let b = &in_order(gpu, &operand(&a), b)?;
    for piece in pieces([operand(&a), operand(&a), operand(b)]) {
        let [y, a, b] = piece.at;
        launch::map2(gpu, &kernel, piece.launch(), piece.walk, y, a, b)?;
    }
    Ok(a)
}

pub(super) fn compare(gpu: &'static Gpu, op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let y = New::of(gpu, result_layout(&[a, b]), DType::Bool)?;
    two(gpu, &format!("compare_{}_{}", op.name(), number(a.dtype())), y, a, b)
}

pub(super) fn predicate(gpu: &'static Gpu, op: PredicateOp, x: &Tensor) -> Result<Tensor> {
    let layout = result_layout(&[x]);
    if !x.dtype().is_float() && op != PredicateOp::LogicalNot {
        // Integers are finite, all of them.
        return full(gpu, layout, DType::Bool, Number::Bool(op == PredicateOp::IsFinite));
    }
    let y = New::of(gpu, layout, DType::Bool)?;
    one(gpu, &format!("predicate_{}_{}", op.name(), number(x.dtype())), y, x)
}

pub(super) fn select(gpu: &'static Gpu, condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let dtype = a.dtype();
    let y = New::of(gpu, result_layout(&[a, b, condition]), dtype)?;
    let kernel = format!("select_{}", size(dtype));
    let [condition, a, b] = [
        in_order(gpu, &y.operand(), condition)?,
        in_order(gpu, &y.operand(), a)?,
        in_order(gpu, &y.operand(), b)?,
    ];
    for piece in pieces([y.operand(), operand(&condition), operand(&a), operand(&b)]) {
        let [y, c, a, b] = piece.at;
        launch::map3(gpu, &kernel, piece.launch(), piece.walk, y, c, a, b)?;
    }
    y.tensor()
}

/// Bounds as kernels take them: which there are, `LOW` and `HIGH` of `cuda/clamp.cu`, and both as bits.
fn bounds(dtype: DType, low: Option<Number>, high: Option<Number>) -> (u32, u64, u64) {
    let [least, most] = [low, high].map(|bound| bound.map_or(0, |bound| bits(dtype, bound)));
    (u32::from(low.is_some()) | u32::from(high.is_some()) << 1, least, most)
}

/// `min(max(x, low), high)`.
pub(super) fn clamp(
    gpu: &'static Gpu,
    x: &Tensor,
    low: Option<Number>,
    high: Option<Number>,
) -> Result<Tensor> {
    let dtype = x.dtype();
    let fit = [low, high].into_iter().flatten().all(|bound| bound.promote(dtype) == dtype);
    if dtype == DType::Bool || !fit {
        return composed::clamp(x, low, high);
    }
    let y = New::of(gpu, result_layout(&[x]), dtype)?;
    let (kernel, (given, low, high)) = (format!("clamp_{}", short(dtype)), bounds(dtype, low, high));
    let x = &in_order(gpu, &y.operand(), x)?;
    for piece in pieces([y.operand(), operand(x)]) {
        let [y, x] = piece.at;
        launch::clamp(gpu, &kernel, piece.launch(), piece.walk, given, low, high, y, x)?;
    }
    y.tensor()
}

/// `grad` where `low < x < high`, else 0.
pub(super) fn clamp_backward(
    gpu: &'static Gpu,
    grad: &Tensor,
    x: &Tensor,
    low: Option<Number>,
    high: Option<Number>,
) -> Result<Tensor> {
    let dtype = x.dtype();
    if !dtype.is_float() {
        return composed::clamp_backward(grad, x, low, high);
    }
    let dx = New::of(gpu, result_layout(&[grad, x]), dtype)?;
    let (kernel, (given, low, high)) = (format!("clamp_backward_{}", short(dtype)), bounds(dtype, low, high));
    let (grad, x) = (&in_order(gpu, &dx.operand(), grad)?, &in_order(gpu, &dx.operand(), x)?);
    for piece in pieces([dx.operand(), operand(grad), operand(x)]) {
        let [dx, g, x] = piece.at;
        launch::clamp_backward(gpu, &kernel, piece.launch(), piece.walk, given, low, high, dx, g, x)?;
    }
    dx.tensor()
}
