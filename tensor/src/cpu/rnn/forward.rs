//! The forward pass over a sequence, in one direction or in both at once.

use super::cell::Cell;
use super::cut::Cut;
use super::gates::{self, ForwardPart, Products};
use super::matrix::{packed, padded, writable};
use super::rows::RowsMut;
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
use std::sync::Arc;

/// The input is projected for this many kept elements at a time, 4 MiB: enough for a product of many rows, and still in the
/// last cache when the steps come to them.
const CHUNK: usize = 1024 * 1024;

/// Runs a layer in some directions, all of the same extents; each step is taken in all of them, in one phase. No extent but that
/// of the input is 0.
pub(super) fn run<C: Cell>(
    directions: &[(RnnSpec, &RnnInputs)],
    sizes: RnnSizes,
    training: bool,
) -> Result<Vec<RnnOutputs>> {
    let layers = directions.iter().map(|(spec, inputs)| Layer::<C>::new(*spec, inputs, sizes, training));
    let mut layers = layers.collect::<Result<Vec<_>>>()?;
    let chunk = layers.first().map_or(1, |layer| layer.chunk);
    for first in (0..sizes.t).step_by(chunk) {
        let taken = first..sizes.t.min(first + chunk);
        let steps: Vec<Steps<C>> = layers.iter_mut().map(|layer| layer.project(taken.clone())).collect();
        if steps.iter().any(|steps| steps.weight.is_for_tiles()) {
            steps.iter().try_for_each(|steps| steps.run_on_tiles(taken.clone()))?;
            continue;
        }
        let tasks = steps.first().map_or(0, |steps| steps.cut.tasks());
        threads::phases(
            taken.len(),
            |_| steps.len() * tasks,
            |step, task| steps[task / tasks].task(taken.start + step, task % tasks),
        );
    }
    layers.into_iter().map(Layer::finish).collect()
}

/// One direction: its operands as the steps want them, and its results.
struct Layer<C> {
    spec: RnnSpec,
    sizes: RnnSizes,
    x: Tensor,
    weight_ih: Arc<Packed<f32>>,
    weight_hh: Arc<Packed<f32>>,
    biases: [Option<Tensor>; 2],
    /// In place of an absent bias.
    zeros: Memory,
    /// Whether all steps are kept; else one chunk of them.
    keeps: bool,
    chunk: usize,
    kept: Tensor,
    output: Tensor,
    c_n: Option<Tensor>,
    /// The hidden states before and after a step, their rows [`padded`].
    states: Memory,
    cell: PhantomData<C>,
}

impl<C: Cell> Layer<C> {
    fn new(spec: RnnSpec, inputs: &RnnInputs, sizes: RnnSizes, training: bool) -> Result<Self> {
        let RnnSizes { t, n, hidden, .. } = sizes;
        let width = C::KEPT * hidden;
        let bias = |bias: &Option<Tensor>| bias.as_ref().map(Tensor::contiguous).transpose();
        // The rows of a plain layer's steps are its output: they need not be kept twice.
        let keeps = training && C::KEPT > 1;
        let chunk = (CHUNK / (n * width)).clamp(1, t);
        let stride = padded(hidden);
        let mut states = Memory::new(2 * n * stride * size_of::<f32>())?;
        let h0 = inputs.h0.contiguous()?;
        let h0 = elements::<f32>(&h0).chunks_exact(hidden);
        for (state, h0) in states.as_mut_slice::<f32>().chunks_exact_mut(stride).zip(h0) {
            state[..hidden].copy_from_slice(h0);
        }
        Ok(Self {
            spec,
            sizes,
            x: inputs.x.contiguous()?,
            weight_ih: packed(&inputs.weight_ih.t()?),
            weight_hh: packed(&inputs.weight_hh.t()?),
            biases: [bias(&inputs.bias_ih)?, bias(&inputs.bias_hh)?],
            zeros: Memory::zeroed(C::GATES * hidden * size_of::<f32>())?,
            keeps,
            chunk,
            kept: filled_shape::<f32>([if keeps { t } else { chunk }, n, width].into(), |_| Ok(()))?,
            output: filled_shape::<f32>([t, n, hidden].into(), |_| Ok(()))?,
            c_n: inputs.c0.as_ref().map(Tensor::copy).transpose()?,
            states,
            cell: PhantomData,
        })
    }

    /// The input's products for some steps, which can then be taken.
    fn project(&mut self, taken: Range<usize>) -> Steps<'_, C> {
        let RnnSizes { t, n, input, hidden } = self.sizes;
        let (gates, width, steps) = (C::GATES * hidden, C::KEPT * hidden, taken.len());
        // The earliest time among them: running backwards, that of the last step.
        let low = self.spec.time(if self.spec.reverse { taken.end - 1 } else { taken.start }, t);
        let from = if self.keeps { low * n * width } else { 0 };
        let kept = &mut writable(&mut self.kept)[from..][..steps * n * width];
        let x = &elements::<f32>(&self.x)[low * n * input..][..steps * n * input];
        gemm_with(
            Operand::Source(&Rows(MatRef::row_major(x, steps * n, input))),
            Operand::Packed(&self.weight_ih),
            MatMut::new(kept, 0, [steps * n, gates], [width as isize, 1]),
            Beta::Zero,
            Epilogue::default(),
        );
        let zeros = self.zeros.as_slice();
        let (stride, c) = (padded(hidden), self.c_n.as_mut().map_or(&mut [][..], writable));
        let cells = c.len() / n;
        let (before, after) = self.states.as_mut_slice::<f32>().split_at_mut(n * stride);
        let pass = gates::Forward {
            kept: RowsMut::new(kept, steps * n, width, width),
            keeps: self.keeps,
            biases: self.biases.each_ref().map(|bias| bias.as_ref().map_or(zeros, elements::<f32>)),
            states: [before, after].map(|states| RowsMut::new(states, n, hidden, stride)),
            output: RowsMut::new(writable(&mut self.output), t * n, hidden, hidden),
            c: RowsMut::new(c, n, cells, cells),
            hidden,
        };
        let cut = Cut::new(n, hidden, gates);
        let (spec, sizes, weight, isa) = (self.spec, self.sizes, &*self.weight_hh, isa::isa());
        Steps { spec, sizes, low, pass, weight, cut, isa, cell: PhantomData }
    }

    fn finish(self) -> Result<RnnOutputs> {
        let last = self.spec.time(self.sizes.t - 1, self.sizes.t);
        let h_n = self.output.select(0, last as isize)?.copy()?;
        let saved = if self.keeps { vec![self.kept] } else { vec![] };
        Ok(RnnOutputs { output: self.output, h_n, c_n: self.c_n, saved })
    }
}

/// Some steps whose inputs are projected.
struct Steps<'a, C> {
    spec: RnnSpec,
    sizes: RnnSizes,
    /// The earliest time among them.
    low: usize,
    pass: gates::Forward<'a>,
    weight: &'a Packed<f32>,
    cut: Cut,
    isa: Isa,
    cell: PhantomData<C>,
}

impl<C: Cell> Steps<'_, C> {
    /// Takes steps one after the other. Tiles multiply whole operands, so a step is a product and then a pass over the gates.
    fn run_on_tiles(&self, taken: Range<usize>) -> Result<()> {
        let (n, gates) = (self.sizes.n, C::GATES * self.sizes.hidden);
        let mut whole = Memory::new(n * gates * size_of::<f32>())?;
        for taken in taken {
            let products = &mut whole.as_mut_slice::<f32>()[..n * gates];
            // SAFETY: nobody writes the states while the product is computed.
            let h = Rows(unsafe { self.pass.states[taken % 2].matrix(0..n, self.sizes.hidden) });
            let c = MatMut::row_major(products, n, gates);
            gemm_with(Operand::Source(&h), Operand::Packed(self.weight), c, Beta::Zero, Epilogue::default());
            threads::parallel_for(self.cut.tasks(), |task| {
                let (rows, units) = self.cut.get(task);
                let elements = &whole.as_slice::<f32>()[rows.start * gates + units.start..];
                let products = Products { elements, strides: [gates, self.sizes.hidden] };
                self.gates(&self.part(taken, rows, units), &products);
            });
        }
        Ok(())
    }

    /// Some units of some sequences: their part of the recurrent product, and what the gates make of it while it is in cache.
    fn task(&self, taken: usize, task: usize) {
        let (rows, units) = self.cut.get(task);
        let part = self.part(taken, rows.clone(), units.clone());
        gates::ask_for_forward::<C>(&self.pass, &part);
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
        self.gates(&part, &Products { elements: scratch.as_slice(), strides: [C::GATES * n, n] });
    }

    fn part(&self, taken: usize, rows: Range<usize>, units: Range<usize>) -> ForwardPart {
        let time = self.spec.time(taken, self.sizes.t);
        let (kept, output) = ((time - self.low) * self.sizes.n, time * self.sizes.n);
        ForwardPart { kept, output, before: taken % 2, rows, units }
    }

    fn gates(&self, part: &ForwardPart, products: &Products) {
        // SAFETY: a step's tasks have different sequences or units, and the next step begins when all have ended.
        unsafe { gates::forward::<C>(self.isa, &self.pass, part, products) }
    }
}
