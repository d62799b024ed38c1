//! The equations over all units of all sequences at one step: vectors inside a row, rows shared out to threads.

use super::cell::{Cell, MAX_BLOCKS};
use crate::cpu::isa::{self, Isa};
use crate::cpu::simd::lanes::{Lanes, MAX_WIDTH};
use crate::cpu::simd::levels::levels;
use crate::cpu::threads;
use crate::op::Real;
use std::marker::PhantomData;
use std::ops::Range;

/// Units per task: about 10 us of work, well above what handing it over costs.
const GRAIN: usize = 2048;

/// Rows of equal length that several threads write, each its own.
pub(super) struct RowsMut<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    data: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is an exclusive borrow of the slice; `row` leaves it to the caller that threads take different rows.
unsafe impl Sync for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    /// The rows of a slice that is made of them.
    pub(super) fn new(data: &'a mut [f32], rows: usize, width: usize) -> Self {
        assert_eq!(data.len(), rows * width, "the rows fill the slice");
        Self { start: data.as_mut_ptr(), rows, width, data: PhantomData }
    }

    /// One row.
    ///
    /// # Safety
    /// Nobody else holds the same row.
    #[expect(clippy::mut_from_ref, reason = "the rows are disjoint, and the caller takes each once")]
    unsafe fn row(&self, at: usize) -> &mut [f32] {
        assert!(at < self.rows, "row {at} of {}", self.rows);
        // SAFETY: the row is inside the slice (checked here and in `new`), and the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at * self.width), self.width) }
    }
}

/// A step of the forward pass. Rows are sequences; those of `[n, hidden]` states and `[n, gates * hidden]` products are dense.
pub(super) struct Forward<'a> {
    /// How many units a row has.
    pub hidden: usize,
    /// First the input's products, then what is kept: `[n, kept * hidden]`.
    pub kept: RowsMut<'a>,
    /// The recurrent products.
    pub b: &'a [f32],
    /// `[gates * hidden]` each.
    pub biases: [&'a [f32]; 2],
    /// The hidden state before the step.
    pub h_before: &'a [f32],
    /// The hidden state after the step.
    pub h: RowsMut<'a>,
    /// The cell state, replaced; of rows without elements if there is none.
    pub c: RowsMut<'a>,
}

/// A step of the backward pass, rows as in [`Forward`].
pub(super) struct Backward<'a> {
    /// How many units a row has.
    pub hidden: usize,
    /// What was kept: `[n, kept * hidden]`.
    pub kept: &'a [f32],
    /// The hidden state before the step.
    pub h_before: &'a [f32],
    /// The cell state before the step, its rows so far apart; empty if there is none.
    pub c_before: (&'a [f32], usize),
    /// The gradient of the step's output.
    pub grad: Option<&'a [f32]>,
    /// The gradients of the pre-activations: `[n, grads * hidden]`.
    pub d: RowsMut<'a>,
    /// The gradient of the hidden state, replaced by the part that does not go through the product.
    pub dh: RowsMut<'a>,
    /// The gradient of the cell state, replaced; of rows without elements if there is none.
    pub dc: RowsMut<'a>,
}

/// Does a step of the forward pass.
pub(super) fn forward<C: Cell>(step: &Forward) {
    let run = forward_rows::<C>(isa::isa());
    // SAFETY: the machine has the level that `isa` names, and each row is in one task.
    share_out(step.h.rows, step.hidden, |rows| unsafe { run(step, rows) });
}

/// Does a step of the backward pass.
pub(super) fn backward<C: Cell>(step: &Backward) {
    let run = backward_rows::<C>(isa::isa());
    // SAFETY: as above.
    share_out(step.dh.rows, step.hidden, |rows| unsafe { run(step, rows) });
}

/// Runs `f` on ranges that together are `0..rows`. The cut depends on the shape alone.
fn share_out(rows: usize, hidden: usize, f: impl Fn(Range<usize>) + Sync) {
    let each = (GRAIN / hidden).max(1);
    threads::parallel_for(rows.div_ceil(each), |task| f(task * each..rows.min((task + 1) * each)));
}

levels! {
    /// Some rows of the forward pass; no other task has them.
    vectors fn forward_rows<C: Cell>(step: &Forward, rows: Range<usize>) {
        let hidden = step.hidden;
        for row in rows {
            // SAFETY: the row is this task's.
            let (kept, h, c) = unsafe { (step.kept.row(row), step.h.row(row), step.c.row(row)) };
            let h_before = &step.h_before[row * hidden..][..hidden];
            let b = &step.b[row * C::GATES * hidden..][..C::GATES * hidden];
            for_units::<V>(hidden, #[inline(always)] |unit| {
                let (mut from_x, mut from_h) = ([V::zero(); MAX_BLOCKS], [V::zero(); MAX_BLOCKS]);
                for gate in 0..C::GATES {
                    let at = gate * hidden;
                    from_x[gate] = unit.load::<V>(kept, at) + unit.load(step.biases[0], at);
                    from_h[gate] = unit.load::<V>(b, at) + unit.load(step.biases[1], at);
                }
                let cell = if C::HAS_CELL { unit.load(c, 0) } else { V::zero() };
                let next = C::forward(from_x, from_h, unit.load(h_before, 0), cell);
                for block in 0..C::KEPT {
                    unit.store(next.kept[block], kept, block * hidden);
                }
                unit.store(next.h, h, 0);
                if C::HAS_CELL {
                    unit.store(next.c, c, 0);
                }
            });
        }
    }
}

levels! {
    /// Some rows of the backward pass; no other task has them.
    vectors fn backward_rows<C: Cell>(step: &Backward, rows: Range<usize>) {
        let hidden = step.hidden;
        for row in rows {
            // SAFETY: the row is this task's.
            let (d, dh, dc) = unsafe { (step.d.row(row), step.dh.row(row), step.dc.row(row)) };
            let kept = &step.kept[row * C::KEPT * hidden..][..C::KEPT * hidden];
            let h_before = &step.h_before[row * hidden..][..hidden];
            let c_before = if C::HAS_CELL { &step.c_before.0[row * step.c_before.1..][..hidden] } else { &[] };
            let grad = step.grad.map(|grad| &grad[row * hidden..][..hidden]);
            for_units::<V>(hidden, #[inline(always)] |unit| {
                let mut known = [V::zero(); MAX_BLOCKS];
                for (block, value) in known[..C::KEPT].iter_mut().enumerate() {
                    *value = unit.load(kept, block * hidden);
                }
                let mut of_h = unit.load::<V>(dh, 0);
                if let Some(grad) = grad {
                    of_h = of_h + unit.load(grad, 0);
                }
                let (cell, of_c) = match C::HAS_CELL {
                    true => (unit.load(c_before, 0), unit.load(dc, 0)),
                    false => (V::zero(), V::zero()),
                };
                let before = C::backward(known, unit.load(h_before, 0), cell, of_h, of_c);
                for block in 0..C::GRADS {
                    unit.store(before.d[block], d, block * hidden);
                }
                unit.store(before.h, dh, 0);
                if C::HAS_CELL {
                    unit.store(before.c, dc, 0);
                }
            });
        }
    }
}

/// Some units of a row that fit a vector.
#[derive(Clone, Copy)]
struct Unit {
    first: usize,
    count: usize,
}

/// Calls `f` for a row's units, a vector of them at a time; the last may be partial.
#[inline(always)]
fn for_units<V: Lanes>(hidden: usize, mut f: impl FnMut(Unit)) {
    let whole = hidden - hidden % V::WIDTH;
    for first in (0..whole).step_by(V::WIDTH) {
        f(Unit { first, count: V::WIDTH });
    }
    if whole < hidden {
        f(Unit { first: whole, count: hidden - whole });
    }
}

impl Unit {
    /// These units of the block that starts at `block`; zeros beside a partial vector.
    #[inline(always)]
    fn load<V: Lanes>(self, row: &[f32], block: usize) -> V {
        let units = &row[block + self.first..][..self.count];
        if self.count == V::WIDTH {
            // SAFETY: the slice has `WIDTH` elements.
            return unsafe { V::load(units.as_ptr()) };
        }
        let mut lanes = [0.0; MAX_WIDTH];
        lanes[..self.count].copy_from_slice(units);
        // SAFETY: the array has `MAX_WIDTH >= WIDTH` elements.
        unsafe { V::load(lanes.as_ptr()) }
    }

    /// Writes these units of the block that starts at `block`.
    #[inline(always)]
    fn store<V: Lanes>(self, value: V, row: &mut [f32], block: usize) {
        let units = &mut row[block + self.first..][..self.count];
        if self.count == V::WIDTH {
            // SAFETY: the slice has `WIDTH` elements.
            return unsafe { value.store(units.as_mut_ptr()) };
        }
        let mut lanes = [0.0; MAX_WIDTH];
        // SAFETY: the array has `MAX_WIDTH >= WIDTH` elements.
        unsafe { value.store(lanes.as_mut_ptr()) };
        units.copy_from_slice(&lanes[..self.count]);
    }
}
