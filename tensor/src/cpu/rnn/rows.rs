//! The equations for some units of some sequences at one step: vectors inside a row.

use super::cell::{Cell, MAX_BLOCKS};
use crate::cpu::gemm::{MatMut, MatRef};
use crate::cpu::isa::Isa;
use crate::cpu::simd::lanes::{Lanes, MAX_WIDTH};
use crate::cpu::simd::levels::levels;
use crate::op::Real;
use std::marker::PhantomData;
use std::ops::Range;

/// Rows of equal length that several threads write, each its own parts.
pub(super) struct RowsMut<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    stride: usize,
    data: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is an exclusive borrow of the slice; its methods leave it to the caller that threads take different parts.
unsafe impl Sync for RowsMut<'_> {}

impl<'a> RowsMut<'a> {
    /// Rows of `width` elements, `stride` apart.
    pub(super) fn new(data: &'a mut [f32], rows: usize, width: usize, stride: usize) -> Self {
        let needed = if rows == 0 { 0 } else { (rows - 1) * stride + width };
        assert!(width <= stride && data.len() >= needed, "the rows lie in the slice, one after the other");
        Self { start: data.as_mut_ptr(), rows, width, stride, data: PhantomData }
    }

    /// Panics unless there are rows up to `row` that have elements up to `width`.
    fn assert_has(&self, row: usize, width: usize) {
        assert!(
            row <= self.rows && width <= self.width,
            "{row} rows of {width} in {} of {}",
            self.rows,
            self.width
        );
    }

    #[inline(always)]
    fn at(&self, row: usize, from: usize, count: usize) -> *mut f32 {
        debug_assert!(row < self.rows && from + count <= self.width, "row {row}, elements from {from} on");
        self.start.wrapping_add(row * self.stride + from)
    }

    /// Some elements of a row, to write.
    ///
    /// # Safety
    /// The row has them, and nobody else reaches them meanwhile.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint, and the caller takes each once")]
    unsafe fn part_mut(&self, row: usize, from: usize, count: usize) -> &mut [f32] {
        // SAFETY: rows are inside the slice (checked in `new`), and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.at(row, from, count), count) }
    }

    /// Some elements of a row, to read.
    ///
    /// # Safety
    /// The row has them, and nobody writes them meanwhile.
    #[inline(always)]
    unsafe fn part(&self, row: usize, from: usize, count: usize) -> &[f32] {
        // SAFETY: rows are inside the slice (checked in `new`), and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.at(row, from, count), count) }
    }

    /// The first columns of some rows as a matrix, to read.
    ///
    /// # Safety
    /// Nobody writes them meanwhile.
    pub(super) unsafe fn matrix(&self, rows: Range<usize>, cols: usize) -> MatRef<'_, f32> {
        let len = if rows.is_empty() { 0 } else { (rows.len() - 1) * self.stride + cols };
        self.assert_has(rows.end, cols);
        // SAFETY: the elements from the first to the last are inside the slice; those between the rows are nobody's.
        let data =
            unsafe { std::slice::from_raw_parts(self.start.wrapping_add(rows.start * self.stride), len) };
        MatRef::new(data, 0, [rows.len(), cols], [self.stride as isize, 1])
    }

    /// Some columns of some rows as a matrix, to write.
    ///
    /// # Safety
    /// Nobody else reaches them meanwhile.
    pub(super) unsafe fn matrix_mut(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, f32> {
        self.assert_has(rows.end, cols.end);
        let start = self.start.wrapping_add(rows.start * self.stride + cols.start);
        // SAFETY: the elements are inside the slice, and the caller's alone.
        unsafe { MatMut::beside(start, rows.len(), cols.len(), self.stride) }
    }
}

/// What a forward pass reads and writes. Rows are sequences, at one step after the other where there are several.
pub(super) struct Forward<'a> {
    /// First the input's products, then what is kept: `[steps * n, kept * hidden]`.
    pub kept: RowsMut<'a>,
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

/// Which units of a forward pass are computed.
pub(super) struct ForwardPart<'a> {
    /// The recurrent products: element `(row, gate, unit)`, counted from the first row and unit of the part, is at
    /// `row · strides[0] + gate · strides[1] + unit`.
    pub products: &'a [f32],
    /// See `products`.
    pub strides: [usize; 2],
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
    vectors fn forward_part<C: Cell>(pass: &Forward, part: &ForwardPart) {
        let hidden = pass.hidden;
        for (at, row) in part.rows.clone().enumerate() {
            let kept_row = part.kept + row;
            for_units::<V>(part.units.clone(), #[inline(always)] |unit| {
                let (mut from_x, mut from_h) = ([V::zero(); MAX_BLOCKS], [V::zero(); MAX_BLOCKS]);
                for gate in 0..C::GATES {
                    let block = gate * hidden + unit.first;
                    let product = at * part.strides[0] + gate * part.strides[1] + unit.first - part.units.start;
                    // SAFETY: these elements of the pass are the task's.
                    let projected = unsafe { pass.kept.part(kept_row, block, unit.count) };
                    from_x[gate] = unit.load::<V>(projected) + unit.load(&pass.biases[0][block..]);
                    from_h[gate] = unit.load::<V>(&part.products[product..]) + unit.load(&pass.biases[1][block..]);
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
                for block in 0..C::KEPT {
                    // SAFETY: as above.
                    let kept = unsafe { pass.kept.part_mut(kept_row, block * hidden + unit.first, unit.count) };
                    unit.store(next.kept[block], kept);
                }
                unit.store(next.h, h);
                unit.store(next.h, output);
                if let Some(c) = &mut c {
                    unit.store(next.c, c);
                }
            });
        }
    }
}

levels! {
    /// A part of a step backwards; no other thread has it.
    vectors fn backward_part<C: Cell>(pass: &Backward, part: &BackwardPart) {
        let hidden = pass.hidden;
        let width = C::KEPT * hidden;
        for row in part.rows.clone() {
            let own = part.own + row;
            let kept = &pass.kept[own * width..][..width];
            let (h_before, c_before) = match part.before {
                // An LSTM keeps the cell state in its last block.
                Some(before) => (
                    &pass.states[(before + row) * hidden..][..hidden],
                    &pass.kept[(before + row + 1) * width - hidden..][..hidden],
                ),
                None => {
                    let cells = if C::HAS_CELL { &pass.initial[1][row * hidden..][..hidden] } else { &[][..] };
                    (&pass.initial[0][row * hidden..][..hidden], cells)
                }
            };
            let grad = pass.grad.map(|grad| &grad[own * hidden..][..hidden]);
            for_units::<V>(part.units.clone(), #[inline(always)] |unit| {
                let mut known = [V::zero(); MAX_BLOCKS];
                for (block, value) in known[..C::KEPT].iter_mut().enumerate() {
                    *value = unit.load(&kept[block * hidden + unit.first..]);
                }
                // SAFETY: these elements of the pass are the task's.
                let dh = unsafe { pass.dh.part_mut(row, unit.first, unit.count) };
                let mut of_h = unit.load::<V>(dh);
                if let Some(grad) = grad {
                    of_h = of_h + unit.load(&grad[unit.first..]);
                }
                // SAFETY: as above.
                let mut dc = C::HAS_CELL.then(|| unsafe { pass.dc.part_mut(row, unit.first, unit.count) });
                let (cell, of_c) = match &dc {
                    Some(dc) => (unit.load(&c_before[unit.first..]), unit.load(dc)),
                    None => (V::zero(), V::zero()),
                };
                let before = C::backward(known, unit.load(&h_before[unit.first..]), cell, of_h, of_c);
                for block in 0..C::GRADS {
                    // SAFETY: as above.
                    let d = unsafe { pass.d.part_mut(own, block * hidden + unit.first, unit.count) };
                    unit.store(before.d[block], d);
                }
                unit.store(before.h, dh);
                if let Some(dc) = &mut dc {
                    unit.store(before.c, dc);
                }
            });
        }
    }
}

/// Does a part of a step forwards.
///
/// # Safety
/// No other thread has these units of these sequences, nor writes the states before the step.
pub(super) unsafe fn forward<C: Cell>(isa: Isa, pass: &Forward, part: &ForwardPart) {
    let (rows, hidden) = (part.rows.end, pass.hidden);
    assert!(part.units.end <= hidden, "the units {:?} of {hidden}", part.units);
    pass.kept.assert_has(part.kept + rows, C::KEPT * hidden);
    pass.output.assert_has(part.output + rows, hidden);
    pass.states.iter().for_each(|states| states.assert_has(rows, hidden));
    pass.c.assert_has(rows, if C::HAS_CELL { hidden } else { 0 });
    // SAFETY: the machine has the level, which comes from `isa::isa`; all rows have these units (asserted above), and the
    // caller vouches for the threads.
    unsafe { forward_part::<C>(isa)(pass, part) }
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

/// Some units of a row that fit a vector.
#[derive(Clone, Copy)]
struct Unit {
    first: usize,
    count: usize,
}

/// Calls `f` for some units of a row, a vector of them at a time; the last may be partial.
#[inline(always)]
fn for_units<V: Lanes>(units: Range<usize>, mut f: impl FnMut(Unit)) {
    let whole = units.end - units.len() % V::WIDTH;
    for first in (units.start..whole).step_by(V::WIDTH) {
        f(Unit { first, count: V::WIDTH });
    }
    if whole < units.end {
        f(Unit { first: whole, count: units.end - whole });
    }
}

impl Unit {
    /// The first elements of a slice, one for each of these units; zeros beside a partial vector.
    #[inline(always)]
    fn load<V: Lanes>(self, units: &[f32]) -> V {
        let units = &units[..self.count];
        if self.count == V::WIDTH {
            // SAFETY: the slice has `WIDTH` elements.
            return unsafe { V::load(units.as_ptr()) };
        }
        let mut lanes = [0.0; MAX_WIDTH];
        lanes[..self.count].copy_from_slice(units);
        // SAFETY: the array has `MAX_WIDTH >= WIDTH` elements.
        unsafe { V::load(lanes.as_ptr()) }
    }

    /// Writes a slice with an element for each of these units.
    #[inline(always)]
    fn store<V: Lanes>(self, value: V, units: &mut [f32]) {
        let units = &mut units[..self.count];
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
