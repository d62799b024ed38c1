//! The equations for some units of some sequences at one step: vectors inside a row.

use super::cell::{Cell, MAX_BLOCKS};
use super::rows::{RowsMut, ask_for};
use super::unit::{ForUnit, Unit, for_units};
use crate::cpu::isa::Isa;
use crate::cpu::simd::lanes::Lanes;
use crate::cpu::simd::levels::levels;
use crate::op::Real;
use std::marker::PhantomData;
use std::ops::Range;

/// What a forward pass reads and writes. Rows are sequences, at one step after the other where there are several.
pub(super) struct Forward<'a> {
    /// First the input's products, then what is kept: `[steps * n, kept * hidden]`.
    pub kept: RowsMut<'a>,
    /// Whether anything is kept.
    pub keeps: bool,
    /// `[gates * hidden]` each.
    pub biases: [&'a [f32]; 2],
    /// The hidden states before and after a step, `[n, hidden]`, taking turns: what the products read.
    pub states: [RowsMut<'a>; 2],
    /// The hidden states again, where the layer's caller wants them: `[t * n, hidden]`.
    pub output: RowsMut<'a>,
    /// The cell states, replaced: `[n, hidden]`, or rows without elements if there are none.
    pub c: RowsMut<'a>,
    /// How many units a row has.
    pub hidden: usize,
}

/// The recurrent products of a part of a step: element `(row, gate, unit)`, counted from the first row and unit of the part, is
/// at `row · strides[0] + gate · strides[1] + unit`.
pub(super) struct Products<'a> {
    pub elements: &'a [f32],
    pub strides: [usize; 2],
}

/// Which units of a forward pass are computed.
pub(super) struct ForwardPart {
    /// The first row of the step in [`Forward::kept`].
    pub kept: usize,
    /// The first row of the step in [`Forward::output`].
    pub output: usize,
    /// Which of the [`Forward::states`] is that before the step.
    pub before: usize,
    /// The sequences.
    pub rows: Range<usize>,
    /// The units.
    pub units: Range<usize>,
}

/// What a backward pass reads and writes, rows as in [`Forward`].
pub(super) struct Backward<'a> {
    /// What was kept: `[t * n, kept * hidden]`.
    pub kept: &'a [f32],
    /// The hidden states after the steps, `[t * n, hidden]`.
    pub states: &'a [f32],
    /// The hidden states before the first step taken, and the cell states if there are any: `[n, hidden]`.
    pub initial: [&'a [f32]; 2],
    /// The gradient of the output: `[t * n, hidden]`.
    pub grad: Option<&'a [f32]>,
    /// The gradients of the pre-activations: `[t * n, grads * hidden]`.
    pub d: RowsMut<'a>,
    /// The gradients of the hidden states, replaced by the part that does not go through the product: `[n, hidden]`.
    pub dh: RowsMut<'a>,
    /// The gradients of the cell states, replaced; rows without elements if there are none.
    pub dc: RowsMut<'a>,
    /// How many units a row has.
    pub hidden: usize,
}

/// Which units of a backward pass are computed.
pub(super) struct BackwardPart {
    /// The first row of the step.
    pub own: usize,
    /// The first row of the step taken before it, if there was one.
    pub before: Option<usize>,
    /// The sequences.
    pub rows: Range<usize>,
    /// The units.
    pub units: Range<usize>,
}

levels! {
    /// A part of a step forwards; no other thread has it.
    vectors fn forward_part<C: Cell>(pass: &Forward, part: &ForwardPart, products: &Products) {
        for row in part.rows.clone() {
            let row = ForwardRow::<C> { pass, part, products, row, cell: PhantomData };
            // SAFETY: the units are the task's, and this function has the instructions.
            unsafe { for_units::<V>(part.units.clone(), &row) }
        }
    }
}

/// A row of [`forward_part`].
struct ForwardRow<'a, C> {
    pass: &'a Forward<'a>,
    part: &'a ForwardPart,
    products: &'a Products<'a>,
    row: usize,
    cell: PhantomData<C>,
}

impl<C: Cell> ForUnit for ForwardRow<'_, C> {
    #[inline(always)]
    unsafe fn call<V: Lanes>(&self, unit: Unit) {
        let Self { pass, part, products, row, .. } = *self;
        let (hidden, kept_row) = (pass.hidden, part.kept + row);
        let first = (row - part.rows.start) * products.strides[0] + unit.first - part.units.start;
        let (mut from_x, mut from_h) = ([V::zero(); MAX_BLOCKS], [V::zero(); MAX_BLOCKS]);
        for gate in 0..C::GATES {
            let block = gate * hidden + unit.first;
            // SAFETY: these elements of the pass are the task's.
            let projected = unsafe { pass.kept.part(kept_row, block, unit.count) };
            from_x[gate] = unit.load::<V>(projected) + unit.load(&pass.biases[0][block..]);
            let product = &products.elements[first + gate * products.strides[1]..];
            from_h[gate] = unit.load::<V>(product) + unit.load(&pass.biases[1][block..]);
        }
        // SAFETY: as above; and the state before the step is written by nobody now.
        let (before, h, output) = unsafe {
            (
                pass.states[part.before].part(row, unit.first, unit.count),
                pass.states[1 - part.before].part_mut(row, unit.first, unit.count),
                pass.output.part_mut(part.output + row, unit.first, unit.count),
            )
        };
        // SAFETY: as above.
        let mut c = C::HAS_CELL.then(|| unsafe { pass.c.part_mut(row, unit.first, unit.count) });
        let cell = c.as_ref().map_or(V::zero(), |c| unit.load(c));
        let next = C::forward(from_x, from_h, unit.load(before), cell);
        if pass.keeps {
            for block in 0..C::KEPT {
                // SAFETY: as above.
                let kept = unsafe { pass.kept.part_mut(kept_row, block * hidden + unit.first, unit.count) };
                unit.store(next.kept[block], kept);
            }
        }
        unit.store(next.h, h);
        unit.store(next.h, output);
        if let Some(c) = &mut c {
            unit.store(next.c, c);
        }
    }
}

levels! {
    /// A part of a step backwards; no other thread has it.
    vectors fn backward_part<C: Cell>(pass: &Backward, part: &BackwardPart) {
        for row in part.rows.clone() {
            let (h_before, c_before) = pass.before::<C>(part, row);
            let row = BackwardRow::<C> { pass, own: part.own + row, row, h_before, c_before, cell: PhantomData };
            // SAFETY: the units are the task's, and this function has the instructions.
            unsafe { for_units::<V>(part.units.clone(), &row) }
        }
    }
}

impl Backward<'_> {
    /// The hidden and the cell state of a row before a step; the latter is empty if there is none.
    #[inline(always)]
    fn before<C: Cell>(&self, part: &BackwardPart, row: usize) -> (&[f32], &[f32]) {
        let (hidden, width) = (self.hidden, C::KEPT * self.hidden);
        let cells = if C::HAS_CELL { hidden } else { 0 };
        match part.before {
            // An LSTM keeps the cell state in its last block.
            Some(before) => (
                &self.states[(before + row) * hidden..][..hidden],
                &self.kept[(before + row + 1) * width - cells..][..cells],
            ),
            None => (&self.initial[0][row * hidden..][..hidden], &self.initial[1][row * cells..][..cells]),
        }
    }
}

/// A row of [`backward_part`].
struct BackwardRow<'a, C> {
    pass: &'a Backward<'a>,
    own: usize,
    row: usize,
    h_before: &'a [f32],
    c_before: &'a [f32],
    cell: PhantomData<C>,
}

impl<C: Cell> ForUnit for BackwardRow<'_, C> {
    #[inline(always)]
    unsafe fn call<V: Lanes>(&self, unit: Unit) {
        let Self { pass, own, row, .. } = *self;
        let hidden = pass.hidden;
        let mut known = [V::zero(); MAX_BLOCKS];
        for (block, value) in known[..C::KEPT].iter_mut().enumerate() {
            *value = unit.load(&pass.kept[(own * C::KEPT + block) * hidden + unit.first..]);
        }
        // SAFETY: these elements of the pass are the task's.
        let dh = unsafe { pass.dh.part_mut(row, unit.first, unit.count) };
        let mut of_h = unit.load::<V>(dh);
        if let Some(grad) = pass.grad {
            of_h = of_h + unit.load(&grad[own * hidden + unit.first..]);
        }
        // SAFETY: as above.
        let mut dc = C::HAS_CELL.then(|| unsafe { pass.dc.part_mut(row, unit.first, unit.count) });
        let (cell, of_c) = match &dc {
            Some(dc) => (unit.load(&self.c_before[unit.first..]), unit.load(dc)),
            None => (V::zero(), V::zero()),
        };
        let before = C::backward(known, unit.load(&self.h_before[unit.first..]), cell, of_h, of_c);
        for block in 0..C::GRADS {
            // SAFETY: as above.
            let d = unsafe { pass.d.part_mut(own, block * hidden + unit.first, unit.count) };
            unit.store(before.d[block], d);
        }
        unit.store(before.h, dh);
        if let Some(dc) = &mut dc {
            unit.store(before.c, dc);
        }
    }
}

/// Asks for what [`forward`] will touch of large operands, while there are products to compute before.
pub(super) fn ask_for_forward<C: Cell>(pass: &Forward, part: &ForwardPart) {
    let blocks = if pass.keeps { C::KEPT } else { C::GATES };
    for row in part.rows.clone() {
        for block in 0..blocks {
            let first = block * pass.hidden;
            pass.kept.ask_for(part.kept + row, first + part.units.start..first + part.units.end);
        }
        pass.output.ask_for(part.output + row, part.units.clone());
    }
}

/// Asks for what [`backward`] will touch of large operands, while there are products to compute before.
pub(super) fn ask_for_backward<C: Cell>(pass: &Backward, part: &BackwardPart) {
    let (hidden, units) = (pass.hidden, &part.units);
    let ask = |rows: &[f32], block: usize| {
        ask_for(rows.as_ptr().wrapping_add(block * hidden + units.start), units.len());
    };
    for row in part.rows.clone() {
        let own = part.own + row;
        for block in 0..C::KEPT {
            ask(pass.kept, own * C::KEPT + block);
        }
        if let Some(before) = part.before {
            ask(pass.states, before + row);
            if C::HAS_CELL {
                ask(pass.kept, (before + row) * C::KEPT + C::KEPT - 1);
            }
        }
        if let Some(grad) = pass.grad {
            ask(grad, own);
        }
        for block in 0..C::GRADS {
            pass.d.ask_for(own, block * hidden + units.start..block * hidden + units.end);
        }
    }
}

/// Does a part of a step forwards.
///
/// # Safety
/// No other thread has these units of these sequences, nor writes the states before the step.
pub(super) unsafe fn forward<C: Cell>(isa: Isa, pass: &Forward, part: &ForwardPart, products: &Products) {
    let (rows, hidden) = (part.rows.end, pass.hidden);
    assert!(part.units.end <= hidden, "the units {:?} of {hidden}", part.units);
    pass.kept.assert_has(part.kept + rows, C::KEPT * hidden);
    pass.output.assert_has(part.output + rows, hidden);
    pass.states.iter().for_each(|states| states.assert_has(rows, hidden));
    pass.c.assert_has(rows, if C::HAS_CELL { hidden } else { 0 });
    // SAFETY: the machine has the level, which comes from `isa::isa`; all rows have these units (asserted above), and the
    // caller vouches for the threads.
    unsafe { forward_part::<C>(isa)(pass, part, products) }
}

/// Does a part of a step backwards.
///
/// # Safety
/// No other thread has these units of these sequences.
pub(super) unsafe fn backward<C: Cell>(isa: Isa, pass: &Backward, part: &BackwardPart) {
    let (rows, hidden) = (part.rows.end, pass.hidden);
    assert!(part.units.end <= hidden, "the units {:?} of {hidden}", part.units);
    pass.d.assert_has(part.own + rows, C::GRADS * hidden);
    pass.dh.assert_has(rows, hidden);
    pass.dc.assert_has(rows, if C::HAS_CELL { hidden } else { 0 });
    // SAFETY: the machine has the level, which comes from `isa::isa`; all rows have these units (asserted above), and the
    // caller vouches for the threads.
    unsafe { backward_part::<C>(isa)(pass, part) }
}
