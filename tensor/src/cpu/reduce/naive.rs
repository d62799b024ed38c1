//! Reductions, searches and scans as one would write them down: what the fast ones are tested against.

use crate::backend::DimMask;
use crate::cpu::storage::{filled_shape, memory};
use crate::op::{ArgOp, ReduceFormula, ReduceOp, ReduceVisitor, ScanOp};
use crate::{Kind, Layout, Result, Scalar, Shape, Tensor, match_dtype};

/// Reduces the dims in `mask`, which stay with extent 1.
pub(super) fn reduce(op: ReduceOp, x: &Tensor, mask: &DimMask) -> Result<Tensor> {
    let out = reduced_shape(x.shape(), mask);
    match_dtype!(x.dtype(), T => filled_shape::<T>(out, |y| {
        op.dispatch(Naive { x: memory::<T>(x), layout: x.layout(), out, y });
        Ok(())
    }))
}

fn reduced_shape(shape: Shape, mask: &DimMask) -> Shape {
    (0..shape.rank()).fold(shape, |s, d| if mask[d] { s.with_dim(d, 1) } else { s })
}

/// One element after the other, in doubles or 64-bit integers.
struct Naive<'a, T> {
    x: &'a [T],
    layout: &'a Layout,
    out: Shape,
    y: &'a mut [T],
}

impl<T: Scalar> ReduceVisitor for Naive<'_, T> {
    type Output = ();

    fn visit<F: ReduceFormula>(self) {
        let places =
            Layout::contiguous(self.out).broadcast_to(self.layout.shape()).expect("reduced dims are 1");
        let pairs = places.positions().zip(self.layout.positions());
        match T::DTYPE.kind() {
            Kind::Float => {
                let mut totals = vec![F::init::<f64>(); self.y.len()];
                pairs.for_each(|(to, from)| totals[to] = F::combine(totals[to], self.x[from].to_f64()));
                self.y.iter_mut().zip(totals).for_each(|(y, t)| *y = T::from_f64(t));
            }
            Kind::Int | Kind::Bool => {
                let mut totals = vec![F::init_int::<i64>(); self.y.len()];
                pairs.for_each(|(to, from)| totals[to] = F::combine_int(totals[to], self.x[from].to_i64()));
                self.y.iter_mut().zip(totals).for_each(|(y, t)| *y = T::from_i64(t));
            }
        }
    }
}

/// Where each row along `dim` starts, and the step between its elements.
fn rows(x: &Layout, dim: usize) -> (impl Iterator<Item = usize>, isize, usize) {
    (x.slice(dim, 0, 1.min(x.dims()[dim]), 1).positions(), x.strides()[dim], x.dims()[dim])
}

/// The index of the extreme along `dim`, which stays with extent 1.
pub(super) fn arg_reduce(op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let (starts, step, n) = rows(x.layout(), dim);
    match_dtype!(x.dtype(), T => filled_shape::<i64>(x.shape().with_dim(dim, 1), |y| {
        let data = memory::<T>(x);
        for (y, start) in y.iter_mut().zip(starts) {
            let at = |i: usize| data[(start as isize + i as isize * step) as usize];
            let better = |a: T, b: T| match op {
                ArgOp::ArgMax => a > b,
                ArgOp::ArgMin => a < b,
            };
            let is_nan = |a: T| a.partial_cmp(&a).is_none();
            let mut best = 0;
            for i in 1..n {
                if !is_nan(at(best)) && (better(at(i), at(best)) || is_nan(at(i))) {
                    best = i;
                }
            }
            *y = best as i64;
        }
        Ok(())
    }))
}

/// Running totals along `dim`.
pub(super) fn scan(op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    let out = Layout::contiguous(x.shape());
    let (starts, step, n) = rows(x.layout(), dim);
    let (targets, out_step, _) = rows(&out, dim);
    match_dtype!(x.dtype(), T => filled_shape::<T>(x.shape(), |y| {
        let data = memory::<T>(x);
        for (start, target) in starts.zip(targets) {
            op.reduction().dispatch(Running { data, start, step, y: &mut *y, target, out_step, n });
        }
        Ok(())
    }))
}

struct Running<'a, T> {
    data: &'a [T],
    start: usize,
    step: isize,
    y: &'a mut [T],
    target: usize,
    out_step: isize,
    n: usize,
}

impl<T: Scalar> ReduceVisitor for Running<'_, T> {
    type Output = ();

    fn visit<F: ReduceFormula>(self) {
        let (mut float, mut int) = (F::init::<f64>(), F::init_int::<i64>());
        for i in 0..self.n as isize {
            let x = self.data[(self.start as isize + i * self.step) as usize];
            let y = &mut self.y[(self.target as isize + i * self.out_step) as usize];
            if T::DTYPE.is_float() {
                float = F::combine(float, x.to_f64());
                *y = T::from_f64(float);
            } else {
                int = F::combine_int(int, x.to_i64());
                *y = T::from_i64(int);
            }
        }
    }
}
