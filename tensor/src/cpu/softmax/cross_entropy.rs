//! Cross-entropy and its gradient while the logits are in the cache: one pass over memory for both.
//!
//! With `p = softmax(x)`, the class `t` of a row, the factor `w[t]` of that class and the share `ε` of label smoothing, a row loses
//! `-(1 - ε) · w[t] · log p[t] - ε/c · Σ w · log p`.

use super::Groups;
use crate::backend::{CrossEntropy, Reduction};
use crate::composed::out_of_range;
use crate::cpu::isa::{Isa, isa};
use crate::cpu::reduce::{Kernel, LEAF, contiguous};
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads::SharedMut;
use crate::cpu::vectors::{Vector, VectorLoop, Vectorised, largest, map_sum, sums, update};
use crate::cpu::wide::{Wide, Widened};
use crate::op::{Real, ReduceOp};
use crate::{Result, Scalar, Shape, Tensor, match_float};

/// The loss of logits `[n, c, …]` for classes `[n, …]` and, if asked for, its gradient.
pub(crate) fn cross_entropy(
    x: &Tensor,
    target: &Tensor,
    options: &CrossEntropy,
    gradient: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let (x, target, isa) = (contiguous(x)?, contiguous(target)?, isa());
    let (groups, classes) = (Groups::new(&x, 1), x.dims()[1]);
    let targets = elements::<i64>(&target);
    match_float!("cross_entropy", x.dtype(), T => {
        type A = <T as Wide>::Acc;
        let weights: Vec<A> = match options.weight {
            Some(w) => elements::<A>(&contiguous(&w.to_dtype(A::DTYPE)?)?).to_vec(),
            None => vec![A::one(); classes],
        };
        let mut total = 0.0;
        for &class in targets.iter().filter(|&&t| t != options.ignore_index) {
            let weight = usize::try_from(class).ok().and_then(|class| weights.get(class));
            total += weight.ok_or_else(|| out_of_range(class, classes))?.to_f64();
        }
        let scale = if options.reduction == Reduction::Mean { 1.0 / total } else { 1.0 };
        let rule = Rule::<A> { isa, weights, ignore: options.ignore_index, smoothing: options.label_smoothing, scale };
        let mut losses = vec![A::zero(); targets.len()];
        let dx = match gradient {
            false => {
                rule.losses::<T>(&groups, elements::<T>(&x), targets, &mut losses, None);
                None
            }
            true => Some(filled_shape::<T>(x.shape(), |dx| {
                rule.losses(&groups, elements::<T>(&x), targets, &mut losses, Some(SharedMut::new(dx)));
                Ok(())
            })?),
        };
        let loss = match options.reduction {
            Reduction::None => filled_shape::<T>(target.shape(), |y| {
                T::narrow(&losses, y);
                Ok(())
            })?,
            Reduction::Sum | Reduction::Mean => {
                let sum = Kernel::<A>::new(ReduceOp::Sum, isa);
                let sum: f64 = losses.chunks(LEAF).map(|part| sum.fold(part).to_f64()).sum();
                let loss = if options.reduction == Reduction::Mean { sum / total } else { sum };
                filled_shape::<T>(Shape::SCALAR, |y| {
                    y[0] = T::from_f64(loss);
                    Ok(())
                })?
            }
        };
        Ok((loss, dx))
    })
}

/// What the loss of a row depends on beside the row.
struct Rule<A> {
    isa: Isa,
    /// A factor for each class.
    weights: Vec<A>,
    ignore: i64,
    smoothing: f64,
    /// A factor for the gradient.
    scale: f64,
}

impl<A: Vectorised> Rule<A> {
    fn losses<T: Wide<Acc = A>>(
        &self,
        groups: &Groups,
        x: &[T],
        targets: &[i64],
        losses: &mut [A],
        dx: Option<SharedMut<T>>,
    ) {
        let (n, losses) = (groups.n, SharedMut::new(losses));
        groups.rows(|at| {
            let rows = at.start / n..at.end / n;
            let (mut wide_x, mut wide_dx) = (Widened::<T>::new(), Widened::<T>::new());
            let (x, targets) = (wide_x.view(&x[at.clone()]), &targets[rows.clone()]);
            // SAFETY: each block of rows belongs to one task.
            let losses = unsafe { losses.slice(rows) };
            match &dx {
                // SAFETY: as above.
                Some(dx) => wide_dx.write(unsafe { dx.slice(at) }, |dx| {
                    A::vectorised(self.isa, Rows { rule: self, n, x, targets, losses, dx: Some(dx) });
                }),
                None => A::vectorised(self.isa, Rows { rule: self, n, x, targets, losses, dx: None }),
            }
        });
        groups.panels(|panel| {
            let columns = panel.columns();
            let targets = &targets[columns.clone()];
            let mut data = panel.read(x);
            // SAFETY: each panel of columns belongs to one task.
            let losses = unsafe { losses.slice(columns) };
            A::vectorised(
                self.isa,
                Columns { rule: self, panel: &mut data, targets, losses, gradient: dx.is_some() },
            );
            if let Some(dx) = &dx {
                panel.write(&data, dx);
            }
        });
    }

    /// The class of a target that counts.
    #[inline(always)]
    fn class(&self, target: i64) -> Option<usize> {
        (target != self.ignore).then_some(target as usize)
    }

    /// `1 - ε` and `ε/c`.
    #[inline(always)]
    fn shares(&self) -> (A, A) {
        (A::from_f64(1.0 - self.smoothing), A::from_f64(self.smoothing / self.weights.len() as f64))
    }

    /// `Σ w`.
    #[inline(always)]
    fn weight_sum(&self) -> A {
        A::from_f64(self.weights.iter().map(|w| w.to_f64()).sum())
    }
}

/// Rows of `n` logits, one after the other.
struct Rows<'a, A> {
    rule: &'a Rule<A>,
    n: usize,
    x: &'a [A],
    targets: &'a [i64],
    losses: &'a mut [A],
    dx: Option<&'a mut [A]>,
}

impl<A: Vectorised> VectorLoop<A> for Rows<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Rows { rule, n, x, targets, losses, mut dx } = self;
        let (own, spread) = rule.shares();
        let (scale, least) = (A::from_f64(rule.scale), -A::splat(f64::INFINITY));
        let unit = A::from_f64(1.0 / V::UNIT);
        let all = if rule.smoothing > 0.0 { spread * rule.weight_sum() } else { A::zero() };
        for (i, x) in x.chunks_exact(n).enumerate() {
            let dx = dx.as_deref_mut().map(|dx| &mut dx[i * n..(i + 1) * n]);
            let Some(class) = rule.class(targets[i]) else {
                losses[i] = A::zero();
                dx.into_iter().for_each(|dx| dx.fill(A::zero()));
                continue;
            };
            let (top, weight) = (largest::<V>(x), own * rule.weights[class]);
            let tops = V::all(top);
            let sum = match dx {
                Some(dx) => {
                    let sum = map_sum::<V, 1>(
                        [x],
                        [least],
                        dx,
                        #[inline(always)]
                        |[x]| (x - tops).exp_below(),
                    );
                    let factor = V::all((weight + all) / sum * scale);
                    if rule.smoothing > 0.0 {
                        let share = V::all(spread * scale);
                        update::<V, 1>(
                            dx,
                            [&rule.weights],
                            #[inline(always)]
                            |e, [w]| e * factor - w * share,
                        );
                    } else {
                        update::<V, 0>(
                            dx,
                            [],
                            #[inline(always)]
                            |e, []| e * factor,
                        );
                    }
                    dx[class] = dx[class] - weight * scale;
                    sum
                }
                None => sums::<V, 1, 1>(
                    [x],
                    [least],
                    #[inline(always)]
                    |[x]| [(x - tops).exp_below()],
                )[0],
            };
            let log_sum = (sum * unit).ln();
            let mut loss = -(((x[class] - top) - log_sum) * weight);
            if rule.smoothing > 0.0 {
                let log_sums = V::all(log_sum);
                let [sum] = sums::<V, 2, 1>(
                    [x, &rule.weights],
                    [top, A::zero()],
                    #[inline(always)]
                    |[x, w]| [((x - tops) - log_sums) * w],
                );
                loss = loss - sum * spread;
            }
            losses[i] = loss;
        }
    }
}

/// Columns of logits side by side; the panel becomes their gradient if that is wanted.
struct Columns<'a, A> {
    rule: &'a Rule<A>,
    panel: &'a mut [A],
    targets: &'a [i64],
    losses: &'a mut [A],
    gradient: bool,
}

impl<A: Vectorised> VectorLoop<A> for Columns<'_, A> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector<Element = A>>(self) {
        let Columns { rule, panel, targets, losses, gradient } = self;
        let (width, (own, spread)) = (targets.len(), rule.shares());
        let (scale, smooth) = (A::from_f64(rule.scale), rule.smoothing > 0.0);
        let (all, unit) = (rule.weight_sum(), A::from_f64(1.0 / V::UNIT));
        let mut tops = panel[..width].to_vec();
        for row in panel.chunks_exact(width) {
            update::<V, 1>(
                &mut tops,
                [row],
                #[inline(always)]
                |top, [x]| x.larger(top),
            );
        }
        let (mut factors, mut smoothed) = (vec![A::zero(); width], vec![A::zero(); width]);
        for (row, &w) in panel.chunks_exact_mut(width).zip(&rule.weights) {
            update::<V, 1>(
                row,
                [&tops],
                #[inline(always)]
                |x, [top]| x - top,
            );
            update::<V, 1>(
                &mut factors,
                [row],
                #[inline(always)]
                |sum, [x]| sum + x.exp_below(),
            );
            if smooth {
                let w = V::all(w);
                update::<V, 1>(
                    &mut smoothed,
                    [row],
                    #[inline(always)]
                    |sum, [x]| sum + x * w,
                );
            }
        }
        for j in 0..width {
            let Some(class) = rule.class(targets[j]) else {
                (losses[j], factors[j]) = (A::zero(), A::zero());
                continue;
            };
            let (weight, log_sum) = (own * rule.weights[class], (factors[j] * unit).ln());
            losses[j] = -((panel[class * width + j] - log_sum) * weight);
            let mut mass = weight;
            if smooth {
                losses[j] = losses[j] - (smoothed[j] - log_sum * all) * spread;
                mass = mass + spread * all;
            }
            factors[j] = mass / factors[j] * scale;
        }
        if !gradient {
            return;
        }
        for (row, &w) in panel.chunks_exact_mut(width).zip(&rule.weights) {
            let share = V::all(if smooth { spread * w * scale } else { A::zero() });
            update::<V, 1>(
                row,
                [&factors],
                #[inline(always)]
                |x, [factor]| x.exp_below() * factor - share,
            );
        }
        for (j, &target) in targets.iter().enumerate() {
            match rule.class(target) {
                Some(class) => {
                    let dx = &mut panel[class * width + j];
                    *dx = *dx - own * rule.weights[class] * scale;
                }
                None => panel[j..].iter_mut().step_by(width).for_each(|dx| *dx = A::zero()),
            }
        }
    }
}
