//! Elementwise families: operands are walked together, and kernels see contiguous blocks.
//!
//! What is strided, or of short runs, is gathered into a small block first, so every kernel is written once, for slices.

use crate::cpu::copy::copy_as;
use crate::cpu::gather::{BLOCK, Gather, Room, block_size};
use crate::cpu::isa::isa;
use crate::cpu::map::{self, Operand};
use crate::cpu::moves::with_unit;
use crate::cpu::results::Results;
use crate::cpu::simd::map::Pair;
use crate::cpu::storage::{elements, filled, filled_like, memory, memory_mut};
use crate::cpu::threads::parallel_chunks_mut;
use crate::cpu::walk::{GRAIN, Run, Walk};
use crate::op::{BinaryOp, CompareOp, PredicateOp, UnaryOp};
use crate::{Bool, DType, Layout, Number, Result, Scalar, Tensor, match_dtype};
use bytemuck::{cast_slice, cast_slice_mut};
use std::mem::MaybeUninit;
use std::ops::Range;

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

/// Elements of a run that a kernel gets at once: all, unless an operand is gathered.
fn stretch<const N: usize>(run: &Run<N>) -> usize {
    if run.step[1..].iter().all(|&s| s == 0 || s == 1) { run.len } else { BLOCK }
}

/// The shortest run that is worth a call of a kernel.
const SHORT: usize = 256;

/// A result of a dense layout, written by `kernel` from the elements of one operand.
fn from_one<T: Scalar, U: Scalar>(
    layout: Layout,
    x: &Tensor,
    kernel: impl Fn(Operand<T>, &mut [U]) + Sync,
) -> Result<Tensor> {
    filled::<U>(layout, |y| {
        let (walk, y) = (Walk::new([&layout, x.layout()]), Results::fresh(isa(), y));
        if walk.run_len() < SHORT {
            let x = Gather::<T>::new(&layout, x);
            walk.parallel_grains(|grain| {
                let mut room = Room::new();
                let f = |at: Range<usize>, y: &mut [U]| kernel(x.read(at, &mut room), y);
                // SAFETY: each grain belongs to one task.
                unsafe { y.task().write_blocks(grain, block_size([x.period()]), f) }
            });
            return Ok(());
        }
        let x0 = memory::<T>(x);
        walk.parallel_grains(|grain| {
            let (mut task, mut block) = (y.task(), block());
            walk.runs(grain.start, grain.end, |run| {
                let f = |[_, p]: [isize; 2], y: &mut [U]| {
                    kernel(operand(x0, p, run.step[1], y.len(), &mut block), y);
                };
                // SAFETY: the walk hands each element of the dense result to one task, once.
                unsafe { task.write(run, stretch(&run), f) }
            });
        });
        Ok(())
    })
}

/// As [`from_one`], from two operands, which are brought to the order of the result first.
fn from_two<T: Scalar, U: Scalar>(
    layout: Layout,
    a: &Tensor,
    b: &Tensor,
    kernel: impl Fn(Operand<T>, Operand<T>, &mut [U]) + Sync,
) -> Result<Tensor> {
    let (a_moved, b_moved) = (in_order(&layout, a)?, in_order(&layout, b)?);
    let (a, b) = (a_moved.as_ref().unwrap_or(a), b_moved.as_ref().unwrap_or(b));
    filled::<U>(layout, |y| {
        let (walk, y) = (Walk::new([&layout, a.layout(), b.layout()]), Results::fresh(isa(), y));
        if walk.run_len() < SHORT {
            let (a, b) = (Gather::<T>::new(&layout, a), Gather::<T>::new(&layout, b));
            walk.parallel_grains(|grain| {
                let (mut room0, mut room1) = (Room::new(), Room::new());
                let f = |at: Range<usize>, y: &mut [U]| {
                    kernel(a.read(at.clone(), &mut room0), b.read(at, &mut room1), y);
                };
                // SAFETY: each grain belongs to one task.
                unsafe { y.task().write_blocks(grain, block_size([a.period(), b.period()]), f) }
            });
            return Ok(());
        }
        let (x0, x1) = (memory::<T>(a), memory::<T>(b));
        walk.parallel_grains(|grain| {
            let (mut task, mut block0, mut block1) = (y.task(), block(), block());
            walk.runs(grain.start, grain.end, |run| {
                let f = |[_, p, q]: [isize; 3], y: &mut [U]| {
                    let p = operand(x0, p, run.step[1], y.len(), &mut block0);
                    kernel(p, operand(x1, q, run.step[2], y.len(), &mut block1), y);
                };
                // SAFETY: the walk hands each element of the dense result to one task, once.
                unsafe { task.write(run, stretch(&run), f) }
            });
        });
        Ok(())
    })
}

/// Which operand has the result's layout if there are so few elements that a walk would cost more than the work: all
/// operands are consecutive elements, or one element everywhere, but not all are the latter.
#[inline(always)]
fn few<const N: usize>(operands: [&Tensor; N]) -> Option<&Layout> {
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
    match_dtype!(x.dtype(), T => {
        from_one::<T, T>(result_layout(&[x]), x, |x, y| map::unary(op, isa, x, y))
    })
}

/// `op(x)` into the memory of `x` where nobody else holds it and its elements fill it densely.
pub(crate) fn unary_into(op: UnaryOp, mut x: Tensor) -> Result<Tensor> {
    map::check_unary(op, x.dtype())?;
    let (layout, isa) = (*x.layout(), isa());
    let bounds = if layout.is_dense() { layout.bounds() } else { None };
    let done = match_dtype!(x.dtype(), T => match (bounds, memory_mut::<T>(&mut x)) {
        (Some((low, high)), Some(y)) => {
            parallel_chunks_mut(&mut y[low..=high], GRAIN, |_, y| map::unary_in_place(op, isa, y));
            true
        }
        _ => false,
    });
    if done { Ok(x) } else { unary(op, &x) }
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
    match_dtype!(a.dtype(), T => {
        from_two::<T, T>(result_layout(&[a, b]), a, b, |a, b, y| map::binary(op, isa, a, b, y))
    })
}

/// `op(a, b)` into `a`'s memory where nobody else holds it and its elements fill it densely.
pub(crate) fn binary_into(op: BinaryOp, mut a: Tensor, b: &Tensor) -> Result<Tensor> {
    let isa = isa();
    map::check_binary(op, a.dtype())?;
    let (layout, first) = (a.layout().at_start(), a.layout().offset());
    if !a.layout().is_dense() || a.shares_memory_with(b) {
        return binary(op, &a, b);
    }
    let moved = in_order(&layout, b)?;
    let b = moved.as_ref().unwrap_or(b);
    let few = layout.is_contiguous() && few([&a, b]).is_some();
    let done = match_dtype!(a.dtype(), T => match memory_mut::<T>(&mut a) {
        None => false,
        Some(memory) => {
            // The offset of a view without elements may lie behind the end.
            let y = memory.get_mut(first..).map_or(&mut [][..], |rest| &mut rest[..layout.numel()]);
            match few {
                true => map::binary_into(op, isa, y, one_of_few::<T>(b)),
                false => into_left::<T>(&layout, y, b, |y, b| map::binary_into(op, isa, y, b)),
            }
            true
        }
    });
    if done { Ok(a) } else { binary(op, &a, b) }
}

/// As [`from_one`], in place: `y` has the elements of a dense layout, and `kernel` changes them by those of `b`.
fn into_left<T: Scalar>(
    layout: &Layout,
    y: &mut [T],
    b: &Tensor,
    kernel: impl Fn(&mut [T], Operand<T>) + Sync,
) {
    let (walk, y) = (Walk::new([layout, b.layout()]), Results::new(y));
    if walk.run_len() < SHORT {
        let b = Gather::<T>::new(layout, b);
        return walk.parallel_grains(|grain| {
            let mut room = Room::new();
            let f = |at: Range<usize>, y: &mut [T]| kernel(y, b.read(at, &mut room));
            // SAFETY: each grain belongs to one task.
            unsafe { y.task().write_blocks(grain, block_size([b.period()]), f) }
        });
    }
    let memory = memory::<T>(b);
    walk.parallel_runs(|run| {
        let mut block = block();
        let f = |[_, q]: [isize; 2], y: &mut [T]| {
            let b = operand(memory, q, run.step[1], y.len(), &mut block);
            kernel(y, b);
        };
        // SAFETY: the walk hands each element of the dense operand to one task, once.
        unsafe { y.task().write(run, stretch(&run), f) }
    });
}

/// `op(a, b)` as bools.
pub(crate) fn compare(op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let isa = isa();
    match_dtype!(a.dtype(), T => {
        from_two::<T, Bool>(result_layout(&[a, b]), a, b, |a, b, y| map::compare(op, isa, a, b, y))
    })
}

/// `op(x)` as bools.
pub(crate) fn predicate(op: PredicateOp, x: &Tensor) -> Result<Tensor> {
    let isa = isa();
    match_dtype!(x.dtype(), T => {
        from_one::<T, Bool>(result_layout(&[x]), x, |x, y| map::predicate(op, isa, x, y))
    })
}

/// The bounds that there are, and what they do.
fn bounds(low: Option<Number>, high: Option<Number>) -> impl Iterator<Item = (BinaryOp, Number)> {
    let low = low.map(|bound| (BinaryOp::Maximum, bound));
    low.into_iter().chain(high.map(|bound| (BinaryOp::Minimum, bound)))
}

/// `grad` where `low < x < high`, else 0.
pub(crate) fn clamp_backward(
    grad: &Tensor,
    x: &Tensor,
    low: Option<Number>,
    high: Option<Number>,
) -> Result<Tensor> {
    let isa = isa();
    match_dtype!(grad.dtype(), T => from_two::<T, T>(result_layout(&[grad, x]), grad, x, |g, x, y| {
        let mut inside = [Bool(0); BLOCK];
        for (i, y) in y.chunks_mut(BLOCK).enumerate() {
            let (x, inside) = (x.part(i * BLOCK, y.len()), &mut inside[..y.len()]);
            g.part(i * BLOCK, y.len()).copy_to(y);
            for (op, bound) in bounds(low, high) {
                let op = if op == BinaryOp::Maximum { CompareOp::Gt } else { CompareOp::Lt };
                map::compare(op, isa, x, Operand::Scalar(bound.to_scalar::<T>()), inside);
                y.iter_mut().zip(&*inside).for_each(|(y, inside)| *y = if inside.0 != 0 { *y } else { T::default() });
            }
        }
    }))
}

/// `a` where `condition` is true, else `b`.
pub(crate) fn select(condition: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let layout = result_layout(&[a, b, condition]);
    let isa = isa();
    debug_assert_eq!(condition.dtype(), DType::Bool);
    let moved = [in_order(&layout, condition)?, in_order(&layout, a)?, in_order(&layout, b)?];
    let [condition, a, b] = std::array::from_fn(|i| moved[i].as_ref().unwrap_or([condition, a, b][i]));
    match_dtype!(a.dtype(), T => filled::<T>(layout, |y| {
        let (c, a, b) = (
            Gather::<Bool>::new(&layout, condition),
            Gather::<T>::new(&layout, a),
            Gather::<T>::new(&layout, b),
        );
        let y = Results::fresh(isa, y);
        let size = block_size([c.period(), a.period(), b.period()]);
        Walk::new([&layout]).parallel_grains(|grain| {
            let (mut room, mut room0, mut room1) = (Room::new(), Room::new(), Room::new());
            let f = |at: Range<usize>, y: &mut [T]| {
                let (p, q) = (a.read(at.clone(), &mut room0), b.read(at.clone(), &mut room1));
                match c.read(at, &mut room) {
                    Operand::Slice(c) => with_unit!(T, U => {
                        map::select::<U>(isa, cast_slice(c), p.as_unit(), q.as_unit(), cast_slice_mut(y));
                    }),
                    Operand::Scalar(c) => if c.0 != 0 { p } else { q }.copy_to(y),
                }
            };
            // SAFETY: each grain belongs to one task.
            unsafe { y.task().write_blocks(grain, size, f) }
        });
        Ok(())
    }))
}
