//! Means and variances in one pass over memory.
//!
//! Moments are taken from cache-sized leaves, by the corrected two-pass formula, and merged in doubles (Chan et al., 1979): a
//! large mean costs no digits of the variance. Leaves follow from the layout alone.

use super::view::{Stage, View, result};
use super::{COLUMNS, Kernel, LEAF, ROWS};
use crate::backend::DimMask;
use crate::cpu::isa::{Isa, isa};
use crate::cpu::storage::{filled_shape, memory};
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use crate::cpu::vectors::{LANES, Vector, VectorLoop, Vectorised, halved, update_all};
use crate::cpu::walk::GRAIN;
use crate::cpu::wide::{Wide, WideFloat, Widened, dispatch};
use crate::op::ReduceOp;
use crate::{Layout, Result, Scalar, Shape, Tensor, match_float};

/// How many numbers, their mean, and the sum of their squared distances from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: f64,
    pub(crate) m2: f64,
}

impl Moments {
    /// Of a slice of any length.
    pub(crate) fn of<A: WideFloat>(isa: Isa, x: &[A]) -> Moments {
        x.chunks(LEAF).map(|x| leaf(isa, x)).fold(Moments::default(), Moments::merge)
    }

    /// Of both together.
    pub(crate) fn merge(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        if self.count == 0.0 || other.count == 0.0 {
            return if self.count == 0.0 { other } else { self };
        }
        let apart = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + apart * (other.count / count),
            m2: self.m2 + other.m2 + apart * apart * (self.count * other.count / count),
        }
    }

    /// Biased.
    pub(crate) fn variance(&self) -> f64 {
        self.m2 / self.count
    }

    /// From sums of distances, and of their squares, from a number close to the mean: which corrects its rounding.
    fn around<A: WideFloat>(count: usize, middle: A, first: A, second: A) -> Moments {
        let off = first / A::splat(count as f64);
        let m2 = (second - first * off).to_f64();
        Moments {
            count: count as f64,
            mean: middle.to_f64() + off.to_f64(),
            m2: if m2 < 0.0 { 0.0 } else { m2 },
        }
    }
}

/// The variance over the dims in `mask`, over `n - correction`, and the mean; the dims stay with extent 1.
pub(crate) fn var_mean(x: &Tensor, mask: &DimMask, correction: f64) -> Result<(Tensor, Tensor)> {
    let mut view = View::new(x, mask, false)?;
    let mut moments = vec![];
    let mut first = true;
    while let Some(stage) = view.stage() {
        let mut y = vec![Moments::default(); stage.outer() * stage.inner];
        if stage.r > 0 && !y.is_empty() {
            match first {
                true => match_float!("var", x.dtype(), T => {
                    of_elements::<T>(memory::<T>(&view.x), stage, &mut y);
                    Ok(())
                })?,
                false => of_moments(&moments, stage, &mut y),
            }
        }
        (moments, first) = (y, false);
        // What the view is of from now on are the moments, from the first on.
        let rest = view.x.with_layout(Layout::contiguous(Shape::SCALAR));
        view.reduced(rest);
    }
    match_float!("var", x.dtype(), T => {
        let of = |f: &dyn Fn(&Moments) -> f64| -> Result<Tensor> {
            let y = filled_shape::<T>([moments.len()].into(), |y| {
                y.iter_mut().zip(&moments).for_each(|(y, m)| *y = T::from_f64(f(m)));
                Ok(())
            })?;
            Ok(result(view.order, y, x, mask))
        };
        let var = |m: &Moments| m.m2 / (m.count - correction).max(0.0);
        Ok((of(&var)?, of(&|m| if m.count > 0.0 { m.mean } else { f64::NAN })?))
    })
}

/// Of `[outer, r, inner]` moments, a stage later.
fn of_moments(x: &[Moments], stage: Stage, y: &mut [Moments]) {
    let Stage { r, step, inner, .. } = stage;
    let per_task = (GRAIN / r).max(1);
    parallel_chunks_mut(y, per_task, |task, y| {
        for (i, y) in y.iter_mut().enumerate() {
            let at = task * per_task + i;
            let rows = x[stage.start(at / inner) + at % inner..].iter().step_by(step).take(r);
            *y = rows.fold(Moments::default(), |a, &b| a.merge(b));
        }
    });
}

/// Of `[outer, r, inner]` elements.
fn of_elements<T: Wide>(x: &[T], stage: Stage, y: &mut [Moments])
where
    T::Acc: Vectorised,
{
    let isa = isa();
    // Parts of the reduced dim, moments of each, then both merged in order.
    let part = if stage.inner == 1 { LEAF } else { ROWS.max(LEAF / stage.inner) };
    let parts = stage.r.div_ceil(part);
    if parts == 1 {
        return of_parts(isa, x, stage, part, y);
    }
    let mut shares = vec![Moments::default(); y.len() * parts];
    of_parts(isa, x, stage, part, &mut shares);
    for (y, shares) in y.chunks_exact_mut(stage.inner).zip(shares.chunks_exact(parts * stage.inner)) {
        for share in shares.chunks_exact(stage.inner) {
            y.iter_mut().zip(share).for_each(|(y, &share)| *y = y.merge(share));
        }
    }
}

/// Of each part of `part` rows: `y` is `[outer, parts, inner]`.
fn of_parts<T: Wide>(isa: Isa, x: &[T], stage: Stage, part: usize, y: &mut [Moments])
where
    T::Acc: Vectorised,
{
    let Stage { r, step, inner, .. } = stage;
    let (parts, stretches) = (r.div_ceil(part), inner.div_ceil(COLUMNS));
    let count = y.len() / inner * stretches;
    let per_task = (GRAIN / (part.min(r) * inner.min(COLUMNS))).max(1);
    let y = SharedMut::new(y);
    parallel_for(count.div_ceil(per_task), |task| {
        let (mut wide, mut room) = (Widened::<T>::new(), vec![]);
        for i in task * per_task..count.min((task + 1) * per_task) {
            let (share, stretch) = (i / stretches, i % stretches);
            let (outer, first) = (share / parts, share % parts * part);
            let rows = part.min(r - first);
            let (left, right) = (stretch * COLUMNS, inner.min((stretch + 1) * COLUMNS));
            // SAFETY: each stretch of each part belongs to one task.
            let y = unsafe { y.slice(share * inner + left..share * inner + right) };
            let x = &x[stage.start(outer) + first * step..];
            if inner == 1 {
                y[0] = leaf(isa, wide.view(&x[..rows]));
                continue;
            }
            let x = wide.view(&x[left..(rows - 1) * step + right]);
            columns(isa, x, rows, step, &mut room, y);
        }
    });
}

/// Of each column of `rows` rows that are `step` apart. `room` is working memory.
fn columns<A: Vectorised>(isa: Isa, x: &[A], rows: usize, step: usize, room: &mut Vec<A>, y: &mut [Moments]) {
    let width = y.len();
    room.clear();
    room.resize(3 * width, A::zero());
    let (means, sums) = room.split_at_mut(width);
    let (firsts, seconds) = sums.split_at_mut(width);
    Kernel::<A>::new(ReduceOp::Sum, isa).columns(x, step, means);
    let count = A::splat(rows as f64);
    means.iter_mut().for_each(|mean| *mean = *mean / count);
    A::vectorised(isa, Distances { x, step, means, firsts, seconds });
    for (j, y) in y.iter_mut().enumerate() {
        *y = Moments::around(rows, means[j], firsts[j], seconds[j]);
    }
}

/// Sums of the distances from a number for each column, and of their squares.
struct Distances<'a, A> {
    x: &'a [A],
    step: usize,
    means: &'a [A],
    firsts: &'a mut [A],
    seconds: &'a mut [A],
}

impl<A: WideFloat> VectorLoop<A> for Distances<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Distances { x, step, means, firsts, seconds } = self;
        let width = means.len();
        let mut rows = x.chunks(step).map(|row| &row[..width]);
        while let Some(row) = rows.next() {
            // Two rows share each load and store of the sums.
            match rows.next() {
                Some(next) => update_all::<V, 2, 3>(
                    [firsts, seconds],
                    [row, next, means],
                    #[inline(always)]
                    |[first, second], [x, z, mean]| {
                        let (d, e) = (x - mean, z - mean);
                        [first + (d + e), e.mul_add(e, d.mul_add(d, second))]
                    },
                ),
                None => update_all::<V, 2, 2>(
                    [firsts, seconds],
                    [row, means],
                    #[inline(always)]
                    |[first, second], [x, mean]| {
                        let d = x - mean;
                        [first + d, d.mul_add(d, second)]
                    },
                ),
            }
        }
    }
}

/// The lanes added up.
fn total<A: WideFloat>(mut lanes: [A; LANES]) -> A {
    halved(&mut lanes, |a, b| a + b)
}

dispatch! {
    /// The moments of a leaf.
    fn leaf<A: WideFloat>(x: &[A]) -> Moments {
        if x.is_empty() {
            return Moments::default();
        }
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut lanes = [A::zero(); LANES];
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = lanes[i] + chunk[i];
            }
        }
        let mean = rest.iter().fold(total(lanes), |sum, &x| sum + x) / A::splat(x.len() as f64);
        let (mut firsts, mut seconds) = ([A::zero(); LANES], [A::zero(); LANES]);
        for chunk in chunks {
            for i in 0..LANES {
                let d = chunk[i] - mean;
                firsts[i] = firsts[i] + d;
                seconds[i] = seconds[i] + d * d;
            }
        }
        let (mut first, mut second) = (total(firsts), total(seconds));
        for &x in rest {
            let d = x - mean;
            first = first + d;
            second = second + d * d;
        }
        Moments::around(x.len(), mean, first, second)
    }
}
