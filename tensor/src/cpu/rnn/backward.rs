//! The backward pass over a sequence: step by step for the gradients of the pre-activations, then one product for each operand.

use super::cell::Cell;
use super::cut::Cut;
use super::matrix::{matrix, packed, padded, writable};
use super::rows::{self, BackwardPart, RowsMut};
use crate::cpu::gemm::{Beta, Epilogue, MatMut, MatRef, Operand, Packed, Rows, gemm, gemm_part, gemm_with};
use crate::cpu::isa::{self, Isa};
use crate::cpu::memory::Memory;
use crate::cpu::storage::{elements, filled_shape};
use crate::cpu::threads;
use crate::{Result, RnnGrads, RnnInputs, RnnSizes, RnnSpec, Shape, Tensor};
use std::marker::PhantomData;
use std::ops::Range;

/// The gradients that the backward pass starts from.
pub(super) struct OfOutputs<'a> {
    pub output: Option<&'a Tensor>,
    pub h_n: Option<&'a Tensor>,
    pub c_n: Option<&'a Tensor>,
}

/// Runs the backward pass. No extent but that of the input is 0; `kept`, `[t, n, kept * hidden]`, and `output` are row-major.
pub(super) fn run<C: Cell>(
    spec: RnnSpec,
    inputs: &RnnInputs,
    sizes: RnnSizes,
    kept: &Tensor,
    output: &Tensor,
    grads: OfOutputs,
) -> Result<RnnGrads> {
    let RnnSizes { t, n, hidden, .. } = sizes;
    let d_stride = padded(C::GRADS * hidden);
    let weight_hh = packed(&inputs.weight_hh);
    let contiguous = |x: Option<&Tensor>| x.map(Tensor::contiguous).transpose();
    let (grad, c0) = (contiguous(grads.output)?, contiguous(inputs.c0.as_ref())?);
    let (grad, c0) = (grad.as_ref().map(elements::<f32>), c0.as_ref().map_or(&[][..], elements::<f32>));
    let h0 = inputs.h0.contiguous()?;
    let (h0, hs) = (elements::<f32>(&h0), elements::<f32>(output));
    let mut dh = start(grads.h_n, &inputs.h0)?;
    let mut dc = inputs.c0.as_ref().map(|c0| start(grads.c_n, c0)).transpose()?;
    let mut d = Memory::new(t * n * d_stride * size_of::<f32>())?;
    {
        let dc: &mut [f32] = dc.as_mut().map_or(&mut [], writable);
        let cells = dc.len() / n;
        let pass = rows::Backward {
            kept: elements::<f32>(kept),
            states: hs,
            initial: [h0, c0],
            grad,
            d: RowsMut::new(d.as_mut_slice(), t * n, C::GRADS * hidden, d_stride),
            dh: RowsMut::new(writable(&mut dh), n, hidden, hidden),
            dc: RowsMut::new(dc, n, cells, cells),
            hidden,
        };
        let cut = Cut::new(n, hidden, C::GATES * hidden);
        Steps::<C> { spec, sizes, pass: &pass, weight: &weight_hh, cut, isa: isa::isa(), cell: PhantomData }
            .run();
    }
    let d = Preactivations::<C> { d: d.as_slice(), stride: d_stride, sizes, cell: PhantomData };
    let bias_hh = inputs.bias_hh.as_ref().map(|_| d.row_sums(&[(0, 0, C::GATES)])).transpose()?;
    let bias_ih = match (&inputs.bias_ih, &bias_hh) {
        (None, _) => None,
        (Some(_), Some(same)) if C::GRADS == C::GATES => Some(same.clone()),
        (Some(_), _) => Some(d.row_sums(C::A_PARTS)?),
    };
    Ok(RnnGrads {
        x: d.to_x(&inputs.weight_ih)?,
        weight_ih: d.to_weight_ih(&inputs.x.contiguous()?)?,
        weight_hh: d.to_weight_hh(spec, h0, hs)?,
        bias_ih,
        bias_hh,
        h0: dh,
        c0: dc,
    })
}

/// All steps, the last one first.
struct Steps<'a, C> {
    spec: RnnSpec,
    sizes: RnnSizes,
    pass: &'a rows::Backward<'a>,
    weight: &'a Packed<f32>,
    cut: Cut,
    isa: Isa,
    cell: PhantomData<C>,
}

impl<C: Cell> Steps<'_, C> {
    fn run(&self) {
        let (t, tasks) = (self.sizes.t, self.cut.tasks());
        if !self.weight.is_for_tiles() {
            // The last phase is the product that leads to the initial state.
            threads::phases(t + 1, |_| tasks, |at, task| self.task(t - at, task));
            return;
        }
        // Tiles multiply whole operands, so a step is a pass over the gates and then a product.
        for taken in (0..t).rev() {
            threads::parallel_for(tasks, |task| {
                let (rows, units) = self.cut.get(task);
                self.gates(taken, rows, units);
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
        if taken < self.sizes.t {
            // SAFETY: a step's tasks have different sequences or units.
            let dh = unsafe { self.pass.dh.matrix_mut(rows.clone(), units.clone()) };
            gemm_part(self.products_of(taken, rows.clone()), self.weight, units.clone(), dh, Beta::One);
        }
        if taken > 0 {
            self.gates(taken - 1, rows, units);
        }
    }

    /// The gradients of a step's recurrent products. All tasks that write them have ended.
    fn products_of(&self, taken: usize, rows: Range<usize>) -> MatRef<'_, f32> {
        let first = self.spec.time(taken, self.sizes.t) * self.sizes.n;
        let rows = first + rows.start..first + rows.end;
        // SAFETY: the step's gates were done in an earlier phase, and nobody writes them again.
        unsafe { self.pass.d.matrix(rows, C::GATES * self.sizes.hidden) }
    }

    fn gates(&self, taken: usize, rows: Range<usize>, units: Range<usize>) {
        let row = |taken| self.spec.time(taken, self.sizes.t) * self.sizes.n;
        let part = BackwardPart { own: row(taken), before: taken.checked_sub(1).map(row), rows, units };
        // SAFETY: a step's tasks have different sequences or units.
        unsafe { rows::backward::<C>(self.isa, self.pass, &part) }
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
