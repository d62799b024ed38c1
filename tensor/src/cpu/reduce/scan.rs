//! Running results along a dim: sums, products, extremes, logarithms of sums.
//!
//! A step waits for the one before it, so several rows are taken side by side; columns are anyway.

use super::contiguous;
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::dispatch;
use crate::op::{ArgOp, ReduceFormula, ReduceVisitor, ScanOp};
use crate::{Result, Scalar, Tensor, match_dtype, match_float};
use std::marker::PhantomData;

/// Columns that are scanned side by side.
const COLUMNS: usize = 512;

/// Rows that are: as many as have a place in the first cache when they are a power of two apart.
const ROWS: usize = 4;

/// What is carried along a dim.
trait Running: Sync {
    type In: Scalar;
    type Out: Scalar;
    type State: Copy;
    /// Before the first element.
    fn start(&self) -> Self::State;
    /// Takes in element `i`, and gives the result so far.
    fn step(&self, state: &mut Self::State, x: Self::In, i: usize) -> Self::Out;
}

/// Running totals along `dim`, kept in doubles for floats and in 64 bits for integers.
pub(crate) fn scan(op: ScanOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    struct Along<'a>(&'a Tensor, usize);
    impl ReduceVisitor for Along<'_> {
        type Output = Result<Tensor>;
        fn visit<F: ReduceFormula>(self) -> Result<Tensor> {
            match_dtype!(self.0.dtype(), T => match T::DTYPE.is_float() {
                true => along(&Floats::<T, F>(PhantomData), self.0, self.1),
                false => along(&Integers::<T, F>(PhantomData), self.0, self.1),
            })
        }
    }
    op.reduction().dispatch(Along(x, dim))
}

/// The index of the extreme so far: the last of equals, the last NaN if there is one.
pub(crate) fn arg_scan(op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    match_dtype!(x.dtype(), T => match op {
        ArgOp::ArgMax => along(&Extreme::<T, false>(PhantomData), x, dim),
        ArgOp::ArgMin => along(&Extreme::<T, true>(PhantomData), x, dim),
    })
}

/// `log Σ e^x` of the elements so far, in doubles.
pub(crate) fn logcumsumexp(x: &Tensor, dim: usize) -> Result<Tensor> {
    match_float!("logcumsumexp", x.dtype(), T => along(&LogSum::<T>(PhantomData), x, dim))
}

struct Floats<T, F>(PhantomData<fn() -> (T, F)>);

impl<T: Scalar, F: ReduceFormula> Running for Floats<T, F> {
    type In = T;
    type Out = T;
    type State = f64;
    #[inline(always)]
    fn start(&self) -> f64 {
        F::init()
    }
    #[inline(always)]
    fn step(&self, total: &mut f64, x: T, _: usize) -> T {
        *total = F::combine(*total, x.to_f64());
        T::from_f64(*total)
    }
}

struct Integers<T, F>(PhantomData<fn() -> (T, F)>);

impl<T: Scalar, F: ReduceFormula> Running for Integers<T, F> {
    type In = T;
    type Out = T;
    type State = i64;
    #[inline(always)]
    fn start(&self) -> i64 {
        F::init_int()
    }
    #[inline(always)]
    fn step(&self, total: &mut i64, x: T, _: usize) -> T {
        *total = F::combine_int(*total, x.to_i64());
        T::from_i64(*total)
    }
}

struct Extreme<T, const LEAST: bool>(PhantomData<fn() -> T>);

impl<T: Scalar, const LEAST: bool> Running for Extreme<T, LEAST> {
    type In = T;
    type Out = i64;
    type State = (T, i64);
    #[inline(always)]
    fn start(&self) -> (T, i64) {
        (T::default(), 0)
    }
    #[inline(always)]
    fn step(&self, (best, at): &mut (T, i64), x: T, i: usize) -> i64 {
        let as_far = if LEAST { x <= *best } else { x >= *best };
        let is_nan = x.partial_cmp(&x).is_none();
        let wins = (i == 0) | as_far | is_nan;
        (*best, *at) = if wins { (x, i as i64) } else { (*best, *at) };
        *at
    }
}

struct LogSum<T>(PhantomData<fn() -> T>);

impl<T: Scalar> Running for LogSum<T> {
    type In = T;
    type Out = T;
    /// The largest, and the sum of `e^(x - largest)`.
    type State = (f64, f64);
    #[inline(always)]
    fn start(&self) -> (f64, f64) {
        (f64::NEG_INFINITY, 0.0)
    }
    #[inline(always)]
    fn step(&self, (top, sum): &mut (f64, f64), x: T, _: usize) -> T {
        let x = x.to_f64();
        if x.is_nan() || top.is_nan() {
            *top = f64::NAN;
        } else if x > *top {
            *sum = if *top == f64::NEG_INFINITY { 1.0 } else { *sum * (*top - x).exp() + 1.0 };
            *top = x;
        } else if top.is_finite() {
            *sum += (x - *top).exp();
        }
        // Nothing so far but -∞, or an infinity: ∞ - ∞ has no value.
        T::from_f64(if top.is_finite() { *top + sum.ln() } else { *top })
    }
}

/// `[outer, n, inner]`, along `n`.
fn along<R: Running>(run: &R, x: &Tensor, dim: usize) -> Result<Tensor> {
    let (n, inner) = (x.dims()[dim], x.dims()[dim + 1..].iter().product::<usize>());
    let (x, isa) = (contiguous(x)?, isa());
    filled_shape::<R::Out>(x.shape(), |y| {
        let x = elements::<R::In>(&x);
        if y.is_empty() {
            return Ok(());
        }
        if inner == 1 {
            let block = (GRAIN / n).max(1).next_multiple_of(ROWS) * n;
            parallel_chunks_mut(y, block, |task, y| rows(isa, run, n, &x[task * block..][..y.len()], y));
            return Ok(());
        }
        let stretches = inner.div_ceil(COLUMNS);
        let count = y.len() / (n * inner) * stretches;
        let per_task = (GRAIN / (n * inner.min(COLUMNS))).max(1);
        let y = SharedMut::new(y);
        parallel_for(count.div_ceil(per_task), |task| {
            let mut states = vec![run.start(); inner.min(COLUMNS)];
            for i in task * per_task..count.min((task + 1) * per_task) {
                let (outer, left) = (i / stretches, i % stretches * COLUMNS);
                let states = &mut states[..COLUMNS.min(inner - left)];
                states.fill(run.start());
                for row in 0..n {
                    let at = (outer * n + row) * inner + left;
                    let at = at..at + states.len();
                    // SAFETY: each stretch of columns belongs to one task.
                    columns(isa, run, row, &x[at.clone()], states, unsafe { y.slice(at) });
                }
            }
        });
        Ok(())
    })
}

dispatch! {
    /// Rows of `n`, a few side by side.
    fn rows<R: Running>(run: &R, n: usize, x: &[R::In], y: &mut [R::Out]) {
        for (x, y) in x.chunks(ROWS * n).zip(y.chunks_mut(ROWS * n)) {
            let mut states = [run.start(); ROWS];
            if x.len() == ROWS * n {
                for i in 0..n {
                    for k in 0..ROWS {
                        y[k * n + i] = run.step(&mut states[k], x[k * n + i], i);
                    }
                }
            } else {
                for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
                    let mut state = run.start();
                    for (i, (&x, y)) in x.iter().zip(y).enumerate() {
                        *y = run.step(&mut state, x, i);
                    }
                }
            }
        }
    }
}

dispatch! {
    /// Element `i` of each column.
    fn columns<R: Running>(run: &R, i: usize, x: &[R::In], states: &mut [R::State], y: &mut [R::Out]) {
        for ((&x, state), y) in x.iter().zip(states).zip(y) {
            *y = run.step(state, x, i);
        }
    }
}
