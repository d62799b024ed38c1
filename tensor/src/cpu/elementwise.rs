//! Elementwise families: operands are walked together, and kernels see contiguous blocks.
//!
//! A run whose operand is strided is gathered into a small block first, so every kernel is written once, for slices.

use crate::cpu::copy::copy_as;
use crate::cpu::isa::isa;
use crate::cpu::map::{self, Operand};
use crate::cpu::moves::with_unit;
use crate::cpu::simd::map::Pair;
use crate::cpu::storage::{elements, filled, filled_like, memory, memory_mut};
use crate::cpu::threads::SharedMut;
use crate::cpu::walk::{GRAIN, Run, Walk};
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use crate::{Bool, DType, Layout, Result, Scalar, Tensor, match_dtype};
use bytemuck::{cast_slice, cast_slice_mut};
use std::mem::MaybeUninit;

/// Elements gathered at a time: a few of these fit into the first-level cache.
const BLOCK: usize = 512;

/// The layout of an elementwise result: the memory order of the first operand that has one.
fn result_layout(operands: &[&Tensor]) -> Layout {
    let shape = operands[0].shape();
    let dense = operands.iter().find(|t| t.layout().is_dense());
    dense.map_or_else(|| Layout::contiguous(shape), |t| t.layout().dense_like(shape))
}

/// An operand's copy in the memory order of the result, where its rows run across those of the result: transposing it tile
/// by tile first costs less than reading a cache line for every element.
fn in_order(layout: &Layout, x: &Tensor) -> Result<Option<Tensor>> {
    let crosses = || Walk::new([layout, x.layout()]).crossing().is_some();
    Ok(if x.numel() > GRAIN && crosses() { Some(copy_as(x, layout)?) } else { None })
}

/// Room for gathered elements: not initialised, as most runs need none.
type Block<T> = [MaybeUninit<T>; BLOCK];

fn block<T>() -> Block<T> {
    [const { MaybeUninit::uninit() }; BLOCK]
}

/// One operand over a stretch of a run: a slice of its memory, one repeated element, or a gathered block.
fn operand<'a, T: Copy>(
    memory: &'a [T],
    at: isize,
    step: isize,
    len: usize,
    block: &'a mut Block<T>,
) -> Operand<'a, T> {
    match step {
        1 => Operand::Slice(&memory[at as usize..][..len]),
        0 => Operand::Scalar(memory[at as usize]),
        _ => {
            for (i, b) in block[..len].iter_mut().enumerate() {
                b.write(memory[(at + i as isize * step) as usize]);
            }
            // SAFETY: the first `len` elements were written just now.
            Operand::Slice(unsafe { std::slice::from_raw_parts(block.as_ptr().cast(), len) })
        }
    }
}

/// Cuts a run into stretches of at most `BLOCK` if an operand must be gathered, else hands it out whole.
fn stretches<const N: usize>(run: Run<N>, mut f: impl FnMut([isize; N], usize)) {
    let whole = run.step[1..].iter().all(|&s| s == 0 || s == 1);
    let size = if whole { run.len } else { BLOCK };
    for start in (0..run.len).step_by(size.max(1)) {
        let at = std::array::from_fn(|k| run.at[k] + start as isize * run.step[k]);
        f(at, size.min(run.len - start));
    }
}

/// Which operand has the result's layout if there are so few elements that a walk would cost more than the work: all
/// operands are consecutive elements, or one element everywhere, but not all are the latter.
#[inline(always)]
fn few<'a, const N: usize>(operands: [&'a Tensor; N]) -> Option<&'a Layout> {
    let layouts = operands.map(|t| t.layout());
    if layouts[0].numel() > FEW || !layouts.iter().all(|l| l.is_contiguous() || l.is_uniform()) {
        return None;
    }
    layouts.into_iter().find(|l| l.is_contiguous())
}

/// An operand that [`few`] found fit.
fn one_of_few<T: Scalar>(x: &Tensor) -> Operand<'_, T> {
    match x.layout().is_contiguous() {
        true => Operand::Slice(elements(x)),
        false => Operand::Scalar(memory(x)[x.layout().offset()]),
    }
}

/// A part of what one task would get.
const FEW: usize = GRAIN / 4;

/// `op(x)`.
pub(crate) fn unary(op: UnaryOp, x: &Tensor) -> Result<Tensor> {
    map::check_unary(op, x.dtype())?;
    let isa = isa();
    if let Some(layout) = few([x]) {
        return match_dtype!(x.dtype(), T => filled_like::<T>(layout, |y| {
            map::unary(op, isa, one_of_few::<T>(x), y);
            Ok(())
        }));
    }
    let layout = result_layout(&[x]);
    match_dtype!(x.dtype(), T => filled::<T>(layout, |y| {
        let (source, y) = (memory::<T>(x), SharedMut::new(y));
        Walk::new([&layout, x.layout()]).parallel_runs(|run| {
            let mut block = block();
            stretches(run, |[to, from], len| {
                // SAFETY: the walk hands each element of the dense result to one task, once.
                let y = unsafe { y.slice(to as usize..to as usize + len) };
                map::unary(op, isa, operand(source, from, run.step[1], len, &mut block), y);
            });
        });
        Ok(())
    }))
}

/// `op(a, b)`.
pub(crate) fn binary(op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    map::check_binary(op, a.dtype())?;
    pair(op.into(), a, b)
}

/// The gradient of `op`, from that of its result and what its rule saves; none if it takes more than one pass.
pub(crate) fn unary_backward(op: UnaryOp, grad: &Tensor, saved: &Tensor) -> Result<Option<Tensor>> {
    match map::has_gradient(op) && grad.dtype().is_float() {
        true => pair(Pair::Gradient(op), grad, saved).map(Some),
        false => Ok(None),
    }
}

/// A function of two elements whose dtype was checked.
fn pair(op: Pair, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let isa = isa();
    if let Some(layout) = few([a, b]) {
        return match_dtype!(a.dtype(), T => filled_like::<T>(layout, |y| {
            map::binary(op, isa, one_of_few::<T>(a), one_of_few::<T>(b), y);
            Ok(())
        }));
    }
    let layout = result_layout(&[a, b]);
    let (a_moved, b_moved) = (in_order(&layout, a)?, in_order(&layout, b)?);
    let (a, b) = (a_moved.as_ref().unwrap_or(a), b_moved.as_ref().unwrap_or(b));
    match_dtype!(a.dtype(), T => filled::<T>(layout, |y| {
        let (x0, x1, y) = (memory::<T>(a), memory::<T>(b), SharedMut::new(y));
        Walk::new([&layout, a.layout(), b.layout()]).parallel_runs(|run| {
            let (mut block0, mut block1) = (block(), block());
            stretches(run, |[to, p, q], len| {
                // SAFETY: the walk hands each element of the dense result to one task, once.
                let y = unsafe { y.slice(to as usize..to as usize + len) };
                let p = operand(x0, p, run.step[1], len, &mut block0);
                let q = operand(x1, q, run.step[2], len, &mut block1);
                map::binary(op, isa, p, q, y);
            });
        });
        Ok(())
    }))
}

/// `op(a, b)` into `a`'s memory where nobody else holds it and its elements fill it densely.
pub(crate) fn binary_into(op: BinaryOp, mut a: Tensor, b: &Tensor) -> Result<Tensor> {
    let isa = isa();
    map::check_binary(op, a.dtype())?;
    let layout = *a.layout();
    if !layout.is_dense() || a.shares_memory_with(b) {
        return binary(op, &a, b);
    }
    let moved = in_order(&layout, b)?;
    let b = moved.as_ref().unwrap_or(b);
    let done = match_dtype!(a.dtype(), T => match memory_mut::<T>(&mut a) {
        None => false,
        Some(y) => {
            let (x1, y) = (memory::<T>(b), SharedMut::new(y));
            Walk::new([&layout, b.layout()]).parallel_runs(|run| {
                let mut block = block();
                stretches(run, |[to, q], len| {
                    // SAFETY: the walk hands each element of the dense operand to one task, once.
                    let y = unsafe { y.slice(to as usize..to as usize + len) };
                    map::binary_into(op, isa, y, operand(x1, q, run.step[1], len, &mut block));
                });
            });
            true
        }
    });
    if done { Ok(a) } else { binary(op, &a, b) }
}

/// `op(a, b)` as bools.
pub(crate) fn compare(op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let layout = result_layout(&[a, b]);
    let isa = isa();
    let (a_moved, b_moved) = (in_order(&layout, a)?, in_order(&layout, b)?);
    let (a, b) = (a_moved.as_ref().unwrap_or(a), b_moved.as_ref().unwrap_or(b));
    match_dtype!(a.dtype(), T => filled::<Bool>(layout, |y| {
        let (x0, x1, y) = (memory::<T>(a), memory::<T>(b), SharedMut::new(y));
        Walk::new([&layout, a.layout(), b.layout()]).parallel_runs(|run| {
            let (mut block0, mut block1) = (block(), block());
            stretches(run, |[to, p, q], len| {
                // SAFETY: the walk hands each element of the dense result to one task, once.
                let y = unsafe { y.slice(to as usize..to as usize + len) };
                let p = operand(x0, p, run.step[1], len, &mut block0);
                let q = operand(x1, q, run.step[2], len, &mut block1);
                map::compare(op, isa, p, q, y);
            });
        });
        Ok(())
    }))
}

/// `op(x)` as bools.
pub(crate) fn predicate(op: PredicateOp, x: &Tensor) -> Result<Tensor> {
    let layout = result_layout(&[x]);
    let isa = isa();
    match_dtype!(x.dtype(), T => filled::<Bool>(layout, |y| {
        let (source, y) = (memory::<T>(x), SharedMut::new(y));
        Walk::new([&layout, x.layout()]).parallel_runs(|run| {
            let mut block = block();
            stretches(run, |[to, from], len| {
                // SAFETY: the walk hands each element of the dense result to one task, once.
                let y = unsafe { y.slice(to as usize..to as usize + len) };
                map::predicate(op, isa, operand(source, from, run.step[1], len, &mut block), y);
            });
        });
        Ok(())
    }))
}

/// `a` where `condition` is true, else `b`.
pub(crate) fn select(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let layout = result_layout(&[a, b, condition]);
    let isa = isa();
    debug_assert_eq!(condition.dtype(), DType::Bool);
    let moved = [in_order(&layout, condition)?, in_order(&layout, a)?, in_order(&layout, b)?];
    let [condition, a, b] = std::array::from_fn(|i| moved[i].as_ref().unwrap_or([condition, a, b][i]));
    let c = memory::<Bool>(condition);
    match_dtype!(a.dtype(), T => filled::<T>(layout, |y| with_unit!(T, U => {
        let (x0, x1) = (cast_slice::<T, U>(memory(a)), cast_slice::<T, U>(memory(b)));
        let y = SharedMut::new(cast_slice_mut::<T, U>(y));
        Walk::new([&layout, condition.layout(), a.layout(), b.layout()]).parallel_runs(|run| {
            let (mut block, mut block0, mut block1) = (block(), block(), block());
            stretches(run, |[to, at, p, q], len| {
                // SAFETY: the walk hands each element of the dense result to one task, once.
                let y = unsafe { y.slice(to as usize..to as usize + len) };
                let p = operand(x0, p, run.step[2], len, &mut block0);
                let q = operand(x1, q, run.step[3], len, &mut block1);
                match operand(c, at, run.step[1], len, &mut block) {
                    Operand::Slice(c) => map::select(isa, cast_slice(c), p, q, y),
                    Operand::Scalar(c) => if c.0 != 0 { p } else { q }.copy_to(y),
                }
            });
        });
        Ok(())
    })))
}
