//! Searches for the index of an extreme along a dim.
//!
//! Floats are searched side by side, each lane with the best so far and where it stands: as a number, so in pieces short enough
//! for every index to be one.

use super::view::memory_order;
use super::{Kernel, contiguous};
use crate::cpu::isa::isa;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::vectors::{LANES, Vector, VectorLoop, Vectorised, for_each, update_all};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Accumulator, Wide, WideFloat, Widened, dispatch};
use crate::op::{ArgOp, Real, ReduceOp};
use crate::{Result, Scalar, Tensor, match_dtype, match_float};

/// Columns searched side by side.
const COLUMNS: usize = 512;

/// Rows that are searched before the next stretch of columns is.
const ROWS: usize = 64;

/// Elements along the dim whose indices are exact numbers of every float type.
const PIECE: usize = 1 << 23;

/// The index of the extreme along `dim`, which stays with extent 1: the first of equals, the first NaN if there is one.
pub(crate) fn arg_reduce(op: ArgOp, x: &Tensor, dim: usize) -> Result<Tensor> {
    if let Some(order) = memory_order(x.layout()).filter(|_| !x.layout().is_contiguous()) {
        let order = &order[..x.rank()];
        let there = x.with_layout(x.layout().permute(order));
        if there.layout().is_contiguous() {
            let place = |d: usize| order.iter().position(|&from| from == d).unwrap_or(d);
            let y = arg_reduce(op, &there, place(dim))?;
            let back: Vec<usize> = (0..x.rank()).map(place).collect();
            return Ok(y.with_layout(y.layout().permute(&back)));
        }
    }
    let (n, inner) = (x.dims()[dim], x.dims()[dim + 1..].iter().product());
    let (x, isa) = (contiguous(x)?, isa());
    filled_shape::<i64>(x.shape().with_dim(dim, 1), |y| match (x.dtype().is_float(), inner) {
        _ if y.is_empty() || n == 0 => Ok(()),
        (true, 1) => match_float!(op.name(), x.dtype(), T => {
            rows(elements::<T>(&x), n, y, |x, y| <T as Wide>::Acc::vectorised(isa, Rows { op, n, x, y }));
            Ok(())
        }),
        (true, _) => match_float!(op.name(), x.dtype(), T => {
            let search = |part: Columns<<T as Wide>::Acc>| Vectorised::vectorised(isa, Floats(op, part));
            columns(op, elements::<T>(&x), [n, inner], y, search);
            Ok(())
        }),
        (false, 1) => match_dtype!(x.dtype(), T => {
            let kernel = Kernel::<<T as Wide>::Acc>::new(extreme(op), isa);
            rows(elements::<T>(&x), n, y, |x, y| {
                let rows = y.iter_mut().zip(x.chunks_exact(n));
                rows.for_each(|(y, x)| *y = first(isa, x, kernel.fold(x)) as i64);
            });
            Ok(())
        }),
        (false, _) => match_dtype!(x.dtype(), T => {
            columns(op, elements::<T>(&x), [n, inner], y, |part| whole_columns(isa, op, part));
            Ok(())
        }),
    })
}

fn extreme(op: ArgOp) -> ReduceOp {
    match op {
        ArgOp::ArgMax => ReduceOp::Amax,
        ArgOp::ArgMin => ReduceOp::Amin,
    }
}

/// `[outer, n] -> [outer]`, a block of rows at a time.
fn rows<T: Wide>(x: &[T], n: usize, y: &mut [i64], search: impl Fn(&[T::Acc], &mut [i64]) + Sync) {
    let per_task = (GRAIN / n).max(1);
    parallel_chunks_mut(y, per_task, |task, y| {
        let mut wide = Widened::<T>::new();
        search(wide.view(&x[task * per_task * n..][..y.len() * n]), y);
    });
}

/// Rows of `n` floats.
struct Rows<'a, A> {
    op: ArgOp,
    n: usize,
    x: &'a [A],
    y: &'a mut [i64],
}

impl<A: WideFloat> VectorLoop<A> for Rows<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Rows { op, n, x, y } = self;
        for (y, x) in y.iter_mut().zip(x.chunks_exact(n)) {
            let mut best = None;
            for (i, x) in x.chunks(PIECE).enumerate() {
                let (value, at) = match op {
                    ArgOp::ArgMax => place::<V, false>(x),
                    ArgOp::ArgMin => place::<V, true>(x),
                };
                if best.is_none_or(|best| op.replaces(value, best)) {
                    best = Some(value);
                    *y = (i * PIECE + at) as i64;
                }
            }
        }
    }
}

/// Whether a later `x` takes the place of the best so far, which a NaN keeps.
#[inline(always)]
fn wins<V: Vector, const LEAST: bool>(x: V, best: V) -> V::Mask {
    let not_further = if LEAST { best.le(x) } else { x.le(best) };
    !not_further & best.eq(best)
}

/// The extreme of up to [`PIECE`] elements, and where it first stands.
#[inline(always)]
fn place<V: Vector, const LEAST: bool>(x: &[V::Element]) -> (V::Element, usize) {
    let op = if LEAST { ArgOp::ArgMin } else { ArgOp::ArgMax };
    let worst = V::Element::splat(if LEAST { f64::INFINITY } else { f64::NEG_INFINITY });
    // Part `p` of the best holds lanes `p · WIDTH …` of every 32 elements, and the index of the first of these.
    let (mut best, mut at) = ([V::all(worst); LANES], [V::zero(); LANES]);
    let mut here = -V::splat(LANES as f64);
    for_each::<V, 1>(
        [x],
        [worst],
        #[inline(always)]
        |part, _, _, [x]| {
            if part == 0 {
                here = here + V::splat(LANES as f64);
            }
            let wins = wins::<V, LEAST>(x, best[part]);
            best[part] = V::select(wins, x, best[part]);
            at[part] = V::select(wins, here, at[part]);
        },
    );
    let (mut first, mut index) = (best[0], at[0]);
    for part in 1..LANES / V::WIDTH {
        let (x, i): (V, V) = (best[part], at[part] + V::splat((part * V::WIDTH) as f64));
        let same = x.eq(first) | (x.is_nan() & first.is_nan());
        let wins = wins::<V, LEAST>(x, first) | (same & i.lt(index));
        first = V::select(wins, x, first);
        index = V::select(wins, i, index);
    }
    let (mut values, mut places) = ([V::Element::zero(); LANES], [V::Element::zero(); LANES]);
    // SAFETY: there is room for `LANES >= WIDTH` elements.
    unsafe {
        first.write(values.as_mut_ptr());
        index.write(places.as_mut_ptr());
    }
    let mut found = (values[0], places[0].to_f64() as usize);
    for lane in 1..V::WIDTH {
        let (x, i) = (values[lane], places[lane].to_f64() as usize + lane);
        let further = op.replaces(x, found.0);
        let same = !further && !op.replaces(found.0, x);
        if further || (same && i < found.1) {
            found = (x, i);
        }
    }
    found
}

dispatch! {
    /// Where `value` first stands in `x`.
    fn first<A: Accumulator>(x: &[A], value: A) -> usize {
        for (i, chunk) in x.chunks(64).enumerate() {
            if chunk.iter().fold(false, |any, &x| any | (x == value)) {
                return 64 * i + chunk.iter().position(|&x| x == value).unwrap_or(0);
            }
        }
        0
    }
}

/// Rows of a stretch of columns, which are `step` apart, taken into the best so far and its index; they start at row `start`.
struct Columns<'a, A> {
    start: usize,
    x: &'a [A],
    step: usize,
    best: &'a mut [A],
    at: &'a mut [A],
}

/// `[outer, n, inner] -> [outer, inner]`, a stretch of columns at a time.
fn columns<T: Wide>(
    op: ArgOp,
    x: &[T],
    [n, inner]: [usize; 2],
    y: &mut [i64],
    search: impl Fn(Columns<T::Acc>) + Sync,
) {
    let stretches = inner.div_ceil(COLUMNS);
    let count = y.len() / inner * stretches;
    let per_task = (GRAIN / (n * inner.min(COLUMNS))).max(1);
    let y = SharedMut::new(y);
    parallel_for(count.div_ceil(per_task), |task| {
        let zeros = || vec![T::Acc::default(); inner.min(COLUMNS)];
        let (mut room, mut best, mut at, mut winner) = (vec![], zeros(), zeros(), zeros());
        for i in task * per_task..count.min((task + 1) * per_task) {
            let (outer, left) = (i / stretches, i % stretches * COLUMNS);
            let width = COLUMNS.min(inner - left);
            let (best, at) = (&mut best[..width], &mut at[..width]);
            // SAFETY: each stretch of columns belongs to one task.
            let y = unsafe { y.slice(outer * inner + left..outer * inner + left + width) };
            for piece in (0..n).step_by(PIECE) {
                let end = n.min(piece + PIECE);
                for first in (piece..end).step_by(ROWS) {
                    let (rows, from) = (ROWS.min(end - first), (outer * n + first) * inner + left);
                    let x = &x[from..from + (rows - 1) * inner + width];
                    let start = first - piece;
                    let (x, step) = match T::as_wide(x) {
                        Some(x) => (x, inner),
                        None => {
                            room.resize(rows * width, T::Acc::default());
                            for (row, wide) in x.chunks(inner).zip(room.chunks_exact_mut(width)) {
                                T::widen(&row[..width], wide);
                            }
                            (room.as_slice(), width)
                        }
                    };
                    search(Columns { start, x, step, best, at });
                }
                for j in 0..width {
                    if piece == 0 || op.replaces(best[j], winner[j]) {
                        (winner[j], y[j]) = (best[j], piece as i64 + at[j].to_f64() as i64);
                    }
                }
            }
        }
    });
}

/// [`Columns`] of floats.
struct Floats<'a, A>(ArgOp, Columns<'a, A>);

impl<A: WideFloat> VectorLoop<A> for Floats<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        match self.0 {
            ArgOp::ArgMax => float_columns::<V, false>(self.1),
            ArgOp::ArgMin => float_columns::<V, true>(self.1),
        }
    }
}

#[inline(always)]
fn float_columns<V: Vector, const LEAST: bool>(columns: Columns<V::Element>) {
    let Columns { start, x, step, best, at } = columns;
    let width = best.len();
    if start == 0 {
        best.copy_from_slice(&x[..width]);
        at.fill(V::Element::zero());
    }
    let mut rows = x.chunks(step).map(|row| &row[..width]).enumerate();
    while let Some((i, row)) = rows.next() {
        let here = V::splat((start + i) as f64);
        // Two rows share each load and store of the best.
        match rows.next() {
            Some((_, next)) => update_all::<V, 2, 2>(
                [&mut *best, &mut *at],
                [row, next],
                #[inline(always)]
                |[best, at], [x, z]| {
                    let first = wins::<V, LEAST>(x, best);
                    let (best, at) = (V::select(first, x, best), V::select(first, here, at));
                    let second = wins::<V, LEAST>(z, best);
                    [V::select(second, z, best), V::select(second, here + V::one(), at)]
                },
            ),
            None => update_all::<V, 2, 1>(
                [&mut *best, &mut *at],
                [row],
                #[inline(always)]
                |[best, at], [x]| {
                    let wins = wins::<V, LEAST>(x, best);
                    [V::select(wins, x, best), V::select(wins, here, at)]
                },
            ),
        }
    }
}

dispatch! {
    /// [`Columns`] of whole numbers.
    fn whole_columns<A: Accumulator>(op: ArgOp, columns: Columns<A>) {
        let Columns { start, x, step, best, at } = columns;
        let width = best.len();
        for (i, row) in x.chunks(step).enumerate() {
            let here = A::from_i64((start + i) as i64);
            for ((&x, best), at) in row[..width].iter().zip(&mut *best).zip(&mut *at) {
                let wins = here == A::from_i64(0) || op.replaces(x, *best);
                (*best, *at) = if wins { (x, here) } else { (*best, *at) };
            }
        }
    }
}
