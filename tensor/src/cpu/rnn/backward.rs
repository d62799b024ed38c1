//! The backward pass over a sequence, in one direction or in both at once: step by step for the gradients of the
//! pre-activations, then one product for each operand.

use super::cell::Cell;
use super::cut::Cut;
use super::gates::{self, BackwardPart};
use super::matrix::{matrix, packed, padded, writable};
use super::rows::RowsMut;
use crate::cpu::gemm::{Beta, Epilogue, MatMut, MatRef, Operand, Packed, Rows, gemm, gemm_part, gemm_with};
use crate::cpu::isa::{self, Isa};
use crate::cpu::memory::Memory;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads;
use crate::{Result, RnnGrads, RnnInputs, RnnOutputGrads, RnnSizes, RnnSpec, Shape, Tensor};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// A direction, and what its backward pass starts from.
pub(super) struct Direction<'a> {
    pub spec: RnnSpec,
    pub inputs: &'a RnnInputs,
    /// What the forward pass kept: `[t, n, kept * hidden]`, row-major.
    pub kept: Tensor,
    /// The forward pass's output: `[t, n, hidden]`, row-major.
    pub output: Tensor,
    pub grads: RnnOutputGrads<'a>,
}

/// Runs the backward pass of a layer in some directions, all of the same extents; each step is taken in all of them, in one
/// phase. No extent but that of the input is 0.
pub(super) fn run<C: Cell>(directions: &[Direction], sizes: RnnSizes) -> Result<Vec<RnnGrads>> {
    let layers = directions.iter().map(|direction| Layer::<C>::new(direction, sizes));
    let mut layers = layers.collect::<Result<Vec<_>>>()?;
    {
        let steps: Vec<Steps<C>> = layers.iter_mut().map(Layer::steps).collect();
        if steps.iter().any(|steps| steps.weight.is_for_tiles()) {
            steps.iter().for_each(Steps::run_on_tiles);
        } else {
            let tasks = steps.first().map_or(0, |steps| steps.cut.tasks());
            // The last phase is the product that leads to the initial state.
            threads::phases(
                sizes.t + 1,
                |_| steps.len() * tasks,
                |at, task| steps[task / tasks].task(sizes.t - at, task % tasks),
            );
        }
    }
    layers.into_iter().map(Layer::finish).collect()
}

/// One direction: its operands as the steps want them, and the gradients that they give.
struct Layer<'a, C> {
    of: &'a Direction<'a>,
    sizes: RnnSizes,
    weight_hh: Arc<Packed<f32>>,
    grad: Option<Tensor>,
    h0: Tensor,
    c0: Option<Tensor>,
    dh: Tensor,
    dc: Option<Tensor>,
    /// The gradients of all pre-activations.
    d: Memory,
    cell: PhantomData<C>,
}

impl<'a, C: Cell> Layer<'a, C> {
    fn new(of: &'a Direction<'a>, sizes: RnnSizes) -> Result<Self> {
        let (RnnOutputGrads { output: grad, h_n, c_n }, inputs) = (of.grads, of.inputs);
        Ok(Self {
            of,
            sizes,
            weight_hh: packed(&inputs.weight_hh),
            grad: grad.map(Tensor::contiguous).transpose()?,
            h0: inputs.h0.contiguous()?,
            c0: inputs.c0.as_ref().map(Tensor::contiguous).transpose()?,
            dh: start(h_n, &inputs.h0)?,
            dc: inputs.c0.as_ref().map(|c0| start(c_n, c0)).transpose()?,
            d: Memory::new(sizes.t * sizes.n * padded(C::GRADS * sizes.hidden) * size_of::<f32>())?,
            cell: PhantomData,
        })
    }

    fn steps(&mut self) -> Steps<'_, C> {
        let RnnSizes { t, n, hidden, .. } = self.sizes;
        let dc: &mut [f32] = self.dc.as_mut().map_or(&mut [], writable);
        let cells = dc.len() / n;
        let (width, stride) = (C::GRADS * hidden, padded(C::GRADS * hidden));
        let pass = gates::Backward {
            kept: elements(&self.of.kept),
            states: elements(&self.of.output),
            initial: [elements(&self.h0), self.c0.as_ref().map_or(&[][..], elements)],
            grad: self.grad.as_ref().map(elements),
            d: RowsMut::new(self.d.as_mut_slice(), t * n, width, stride),
            dh: RowsMut::new(writable(&mut self.dh), n, hidden, hidden),
            dc: RowsMut::new(dc, n, cells, cells),
            hidden,
        };
        let cut = Cut::new(n, hidden, C::GATES * hidden);
        let (spec, sizes, weight, isa) = (self.of.spec, self.sizes, &*self.weight_hh, isa::isa());
        Steps { spec, sizes, pass, weight, cut, isa, cell: PhantomData }
    }

    fn finish(self) -> Result<RnnGrads> {
        let (spec, inputs, sizes) = (self.of.spec, self.of.inputs, self.sizes);
        let stride = padded(C::GRADS * sizes.hidden);
        let d = Preactivations::<C> { d: self.d.as_slice(), stride, sizes, cell: PhantomData };
        let bias_hh = inputs.bias_hh.as_ref().map(|_| d.row_sums(&[(0, 0, C::GATES)])).transpose()?;
        let bias_ih = match (&inputs.bias_ih, &bias_hh) {
            (None, _) => None,
            (Some(_), Some(same)) if C::GRADS == C::GATES => Some(same.clone()),
            (Some(_), _) => Some(d.row_sums(C::A_PARTS)?),
        };
        Ok(RnnGrads {
            x: d.to_x(&inputs.weight_ih)?,
            weight_ih: d.to_weight_ih(&inputs.x.contiguous()?)?,
            weight_hh: d.to_weight_hh(spec, elements(&self.h0), elements(&self.of.output))?,
            bias_ih,
            bias_hh,
            h0: self.dh,
            c0: self.dc,
        })
    }
}

/// All steps, the last one first.
struct Steps<'a, C> {
    spec: RnnSpec,
    sizes: RnnSizes,
    pass: gates::Backward<'a>,
    weight: &'a Packed<f32>,
    cut: Cut,
    isa: Isa,
    cell: PhantomData<C>,
}

impl<C: Cell> Steps<'_, C> {
    /// Takes all steps. Tiles multiply whole operands, so a step is a pass over the gates and then a product.
    fn run_on_tiles(&self) {
        for taken in (0..self.sizes.t).rev() {
            threads::parallel_for(self.cut.tasks(), |task| {
                let (rows, units) = self.cut.get(task);
                self.gates(&self.part(taken, rows, units));
            });
            let d = Rows(self.products_of(taken, 0..self.sizes.n));
            // SAFETY: nobody else reaches the gradient now.
            let dh = unsafe { self.pass.dh.matrix_mut(0..self.sizes.n, 0..self.sizes.hidden) };
            gemm_with(Operand::Source(&d), Operand::Packed(self.weight), dh, Beta::One, Epilogue::default());
        }
    }

    /// Some units of some sequences: what reaches them through the recurrent product of step `taken`, and then the gates of the
    /// step before it.
    fn task(&self, taken: usize, task: usize) {
        let (rows, units) = self.cut.get(task);
        let before = taken.checked_sub(1).map(|taken| self.part(taken, rows.clone(), units.clone()));
        if taken < self.sizes.t {
            if let Some(before) = &before {
                gates::ask_for_backward::<C>(&self.pass, before);
            }
            // SAFETY: a step's tasks have different sequences or units.
            let dh = unsafe { self.pass.dh.matrix_mut(rows.clone(), units.clone()) };
            gemm_part(self.products_of(taken, rows.clone()), self.weight, units.clone(), dh, Beta::One);
        }
        if let Some(before) = before {
            self.gates(&before);
        }
    }

    /// The gradients of a step's recurrent products. All tasks that write them have ended.
    fn products_of(&self, taken: usize, rows: Range<usize>) -> MatRef<'_, f32> {
        let first = self.spec.time(taken, self.sizes.t) * self.sizes.n;
        let rows = first + rows.start..first + rows.end;
        // SAFETY: the step's gates were done in an earlier phase, and nobody writes them again.
        unsafe { self.pass.d.matrix(rows, C::GATES * self.sizes.hidden) }
    }

    fn part(&self, taken: usize, rows: Range<usize>, units: Range<usize>) -> BackwardPart {
        let row = |taken| self.spec.time(taken, self.sizes.t) * self.sizes.n;
        BackwardPart { own: row(taken), before: taken.checked_sub(1).map(row), rows, units }
    }

    fn gates(&self, part: &BackwardPart) {
        // SAFETY: a step's tasks have different sequences or units.
        unsafe { gates::backward::<C>(self.isa, &self.pass, part) }
    }
}

/// A state's gradient to start from: that of the final state, or zeros. Nobody else sees it.
fn start(grad: Option<&Tensor>, state: &Tensor) -> Result<Tensor> {
    grad.map_or_else(|| state.zeros_like(), Tensor::copy)
}

/// The gradients of all pre-activations, `[t, n, grads * hidden]`.
struct Preactivations<'a, C> {
    d: &'a [f32],
    /// The distance of its rows.
    stride: usize,
    sizes: RnnSizes,
    cell: PhantomData<C>,
}

impl<C: Cell> Preactivations<'_, C> {
    /// Some blocks of the rows of some steps, as a matrix.
    fn blocks(&self, times: Range<usize>, first: usize, count: usize) -> MatRef<'_, f32> {
        let (n, hidden) = (self.sizes.n, self.sizes.hidden);
        let offset = times.start * n * self.stride + first * hidden;
        MatRef::new(self.d, offset, [times.len() * n, count * hidden], [self.stride as isize, 1])
    }

    /// `dA · weight_ih`: `[t, n, input]`.
    fn to_x(&self, weight_ih: &Tensor) -> Result<Tensor> {
        let RnnSizes { t, n, input, hidden } = self.sizes;
        filled_shape([t, n, input].into(), |dx| {
            for (at, &(block, gate, count)) in C::A_PARTS.iter().enumerate() {
                let weight = weight_ih.narrow(0, gate * hidden, count * hidden)?;
                let beta = if at == 0 { Beta::Zero } else { Beta::One };
                let dx = MatMut::row_major(dx, t * n, input);
                gemm(self.blocks(0..t, block, count), matrix(&weight), dx, beta, Epilogue::default());
            }
            Ok(())
        })
    }

    /// `dAᵀ · x`: `[gates * hidden, input]`.
    fn to_weight_ih(&self, x: &Tensor) -> Result<Tensor> {
        let RnnSizes { t, n, input, hidden } = self.sizes;
        let x = MatRef::row_major(elements::<f32>(x), t * n, input);
        filled_shape([C::GATES * hidden, input].into(), |dw| {
            for &(block, gate, count) in C::A_PARTS {
                let rows = &mut dw[gate * hidden * input..][..count * hidden * input];
                let rows = MatMut::row_major(rows, count * hidden, input);
                gemm(self.blocks(0..t, block, count).t(), x, rows, Beta::Zero, Epilogue::default());
            }
            Ok(())
        })
    }

    /// `dBᵀ · h` with the hidden states before the steps: `[gates * hidden, hidden]`.
    fn to_weight_hh(&self, spec: RnnSpec, h0: &[f32], hs: &[f32]) -> Result<Tensor> {
        let RnnSizes { t, n, hidden, .. } = self.sizes;
        // The first step taken began with h0, the others with the output beside them.
        let (others, theirs) = if spec.reverse { (0..t - 1, 1..t) } else { (1..t, 0..t - 1) };
        let first = spec.time(0, t);
        let pairs =
            [(first..first + 1, h0), (others, &hs[theirs.start * n * hidden..theirs.end * n * hidden])];
        filled_shape([C::GATES * hidden, hidden].into(), |dw| {
            for (at, (times, h)) in pairs.into_iter().enumerate() {
                let h = MatRef::row_major(h, times.len() * n, hidden);
                let beta = if at == 0 { Beta::Zero } else { Beta::One };
                let dw = MatMut::row_major(dw, C::GATES * hidden, hidden);
                gemm(self.blocks(times, 0, C::GATES).t(), h, dw, beta, Epilogue::default());
            }
            Ok(())
        })
    }

    /// The sums of the rows, of parts as in [`Cell::A_PARTS`]: a product with ones.
    fn row_sums(&self, parts: &[(usize, usize, usize)]) -> Result<Tensor> {
        let RnnSizes { t, n, hidden, .. } = self.sizes;
        let ones = MatRef::new(&[1.0], 0, [1, t * n], [0, 0]);
        filled_shape(Shape::from([C::GATES * hidden]), |sums| {
            for &(block, gate, count) in parts {
                let sums = MatMut::row_major(&mut sums[gate * hidden..][..count * hidden], 1, count * hidden);
                gemm(ones, self.blocks(0..t, block, count), sums, Beta::Zero, Epilogue::default());
            }
            Ok(())
        })
    }
}
