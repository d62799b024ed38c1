//! The forward pass over a sequence.

use super::cell::Cell;
use super::cut::Cut;
use super::matrix::{packed, padded, writable};
use super::rows::{self, ForwardPart, RowsMut};
use crate::cpu::gemm::{
    Beta, Epilogue, MatMut, MatRef, Operand, Packed, Rows, Scratch, gemm_part, gemm_with,
};
use crate::cpu::isa::{self, Isa};
use crate::cpu::memory::Memory;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads;
use crate::{Result, RnnInputs, RnnOutputs, RnnSizes, RnnSpec, Tensor};
use std::marker::PhantomData;
use std::ops::Range;

/// The input is projected for this many kept elements at a time, 4 MiB: enough for a product of many rows, and still in the
/// last cache when the steps come to them.
const CHUNK: usize = 1024 * 1024;

/// Runs the layer. No extent but that of the input is 0.
pub(super) fn run<C: Cell>(
    spec: RnnSpec,
    inputs: &RnnInputs,
    sizes: RnnSizes,
    training: bool,
) -> Result<RnnOutputs> {
    let RnnSizes { t, n, input, hidden } = sizes;
    let (gates, width) = (C::GATES * hidden, C::KEPT * hidden);
    let weight_ih = packed(&inputs.weight_ih.t()?);
    let weight_hh = packed(&inputs.weight_hh.t()?);
    let (x, h0) = (inputs.x.contiguous()?, inputs.h0.contiguous()?);
    let (x, h0) = (elements::<f32>(&x), elements::<f32>(&h0));
    let zeros = Memory::zeroed(gates * size_of::<f32>())?;
    let bias = |bias: &Option<Tensor>| bias.as_ref().map(Tensor::contiguous).transpose();
    let biases = [bias(&inputs.bias_ih)?, bias(&inputs.bias_hh)?];
    let biases = biases.each_ref().map(|bias| bias.as_ref().map_or(zeros.as_slice(), elements::<f32>));

    // The rows of a plain layer's steps are its output: they need not be kept twice.
    let keeps = training && C::KEPT > 1;
    let chunk = (CHUNK / (n * width)).clamp(1, t);
    let mut kept = filled_shape::<f32>([if keeps { t } else { chunk }, n, width].into(), |_| Ok(()))?;
    let mut output = filled_shape::<f32>([t, n, hidden].into(), |_| Ok(()))?;
    let mut c_n = inputs.c0.as_ref().map(Tensor::copy).transpose()?;
    let stride = padded(hidden);
    let mut states = Memory::new(2 * n * stride * size_of::<f32>())?;
    let (before, after) = states.as_mut_slice::<f32>().split_at_mut(n * stride);
    for (state, h0) in before.chunks_exact_mut(stride).zip(h0.chunks_exact(hidden)) {
        state[..hidden].copy_from_slice(h0);
    }
    let whole = if weight_hh.is_for_tiles() { n * gates } else { 0 };
    let mut whole = Memory::new(whole * size_of::<f32>())?;

    let (kept_rows, hs) = (writable(&mut kept), writable(&mut output));
    let cs: &mut [f32] = c_n.as_mut().map_or(&mut [], writable);
    let cells = cs.len() / n;
    for first in (0..t).step_by(chunk) {
        let steps = chunk.min(t - first);
        // The chunk's earliest time: running backwards, its last step.
        let low = spec.time(if spec.reverse { first + steps - 1 } else { first }, t);
        let from = if keeps { low * n * width } else { 0 };
        let projected = &mut kept_rows[from..][..steps * n * width];
        gemm_with(
            Operand::Source(&Rows(MatRef::row_major(
                &x[low * n * input..][..steps * n * input],
                steps * n,
                input,
            ))),
            Operand::Packed(&weight_ih),
            MatMut::new(projected, 0, [steps * n, gates], [width as isize, 1]),
            Beta::Zero,
            Epilogue::default(),
        );
        let pass = rows::Forward {
            kept: RowsMut::new(projected, steps * n, width, width),
            biases,
            states: [&mut *before, &mut *after].map(|states| RowsMut::new(states, n, hidden, stride)),
            output: RowsMut::new(hs, t * n, hidden, hidden),
            c: RowsMut::new(cs, n, cells, cells),
            hidden,
        };
        let cut = Cut::new(n, hidden, gates);
        let (weight, isa) = (&*weight_hh, isa::isa());
        Steps::<C> { spec, sizes, low, pass: &pass, weight, cut, isa, cell: PhantomData }
            .run(first..first + steps, &mut whole);
    }
    let h_n = output.select(0, spec.time(t - 1, t) as isize)?.copy()?;
    Ok(RnnOutputs { output, h_n, c_n, saved: if keeps { vec![kept] } else { vec![] } })
}

/// Some steps whose inputs are projected.
struct Steps<'a, C> {
    spec: RnnSpec,
    sizes: RnnSizes,
    /// The earliest time among them.
    low: usize,
    pass: &'a rows::Forward<'a>,
    weight: &'a Packed<f32>,
    cut: Cut,
    isa: Isa,
    cell: PhantomData<C>,
}

impl<C: Cell> Steps<'_, C> {
    /// Takes steps one after the other, all in one region.
    fn run(&self, taken: Range<usize>, whole: &mut Memory) {
        let tasks = self.cut.tasks();
        if !self.weight.is_for_tiles() {
            threads::phases(taken.len(), |_| tasks, |step, task| self.task(taken.start + step, task));
            return;
        }
        // Tiles multiply whole operands, so a step is a product and then a pass over the gates.
        let (n, gates) = (self.sizes.n, C::GATES * self.sizes.hidden);
        for taken in taken {
            let products = &mut whole.as_mut_slice::<f32>()[..n * gates];
            // SAFETY: nobody writes the states while the product is computed.
            let h = Rows(unsafe { self.pass.states[taken % 2].matrix(0..n, self.sizes.hidden) });
            let c = MatMut::row_major(products, n, gates);
            gemm_with(Operand::Source(&h), Operand::Packed(self.weight), c, Beta::Zero, Epilogue::default());
            threads::parallel_for(tasks, |task| {
                let (rows, units) = self.cut.get(task);
                let products = &whole.as_slice::<f32>()[rows.start * gates + units.start..];
                self.gates(taken, rows, units, products, [gates, self.sizes.hidden]);
            });
        }
    }

    /// Some units of some sequences: their part of the recurrent product, and what the gates make of it while it is in cache.
    fn task(&self, taken: usize, task: usize) {
        let (rows, units) = self.cut.get(task);
        let (m, n, hidden) = (rows.len(), units.len(), self.sizes.hidden);
        let mut scratch = Scratch::<f32>::new(m * C::GATES * n);
        // SAFETY: a step writes the other states only, and the step before has ended.
        let h = unsafe { self.pass.states[taken % 2].matrix(rows.clone(), hidden) };
        for gate in 0..C::GATES {
            let cols = gate * hidden + units.start..gate * hidden + units.end;
            let strides = [(C::GATES * n) as isize, 1];
            let c = MatMut::new(scratch.as_mut_slice(), gate * n, [m, n], strides);
            gemm_part(h, self.weight, cols, c, Beta::Zero);
        }
        self.gates(taken, rows, units, scratch.as_slice(), [C::GATES * n, n]);
    }

    fn gates(
        &self,
        taken: usize,
        rows: Range<usize>,
        units: Range<usize>,
        products: &[f32],
        strides: [usize; 2],
    ) {
        let time = self.spec.time(taken, self.sizes.t);
        let (kept, output) = ((time - self.low) * self.sizes.n, time * self.sizes.n);
        let part = ForwardPart { products, strides, kept, output, before: taken % 2, rows, units };
        // SAFETY: a step's tasks have different sequences or units, and the next step begins when all have ended.
        unsafe { rows::forward::<C>(self.isa, self.pass, &part) }
    }
}
