//! The backward pass over a sequence: step by step for the gradients of the pre-activations, then one product for each operand.

use super::cell::Cell;
use super::matrix::{matrix, packed, writable};
use super::rows::{self, RowsMut};
use crate::cpu::gemm::{Beta, Epilogue, MatMut, MatRef, Operand, Rows, gemm, gemm_with};
use crate::cpu::memory::Memory;
use crate::cpu::storage::{elements, filled_shape};
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
    let (width, d_width, state) = (C::KEPT * hidden, C::GRADS * hidden, n * hidden);
    let weight_hh = packed(&inputs.weight_hh);
    let contiguous = |x: Option<&Tensor>| x.map(Tensor::contiguous).transpose();
    let (grad, c0) = (contiguous(grads.output)?, contiguous(inputs.c0.as_ref())?);
    let (grad, c0) = (grad.as_ref().map(elements::<f32>), c0.as_ref().map_or(&[][..], elements::<f32>));
    let h0 = inputs.h0.contiguous()?;
    let (h0, hs, kept) = (elements::<f32>(&h0), elements::<f32>(output), elements::<f32>(kept));
    let mut dh = start(grads.h_n, &inputs.h0)?;
    let mut dc = inputs.c0.as_ref().map(|c0| start(grads.c_n, c0)).transpose()?;
    let mut d = Memory::new(t * n * d_width * size_of::<f32>())?;
    let d = &mut d.as_mut_slice::<f32>()[..t * n * d_width];
    {
        let dh = writable(&mut dh);
        let dc: &mut [f32] = dc.as_mut().map_or(&mut [], writable);
        for taken in (0..t).rev() {
            let time = spec.time(taken, t);
            let before = (taken > 0).then(|| spec.time(taken.wrapping_sub(1), t));
            let own = &mut d[time * n * d_width..][..n * d_width];
            rows::backward::<C>(&rows::Backward {
                hidden,
                kept: &kept[time * n * width..][..n * width],
                h_before: before.map_or(h0, |before| &hs[before * state..][..state]),
                // An LSTM keeps the cell state in its last block.
                c_before: before
                    .map_or((c0, hidden), |before| (&kept[before * n * width + width - hidden..], width)),
                grad: grad.map(|grad| &grad[time * state..][..state]),
                d: RowsMut::new(own, n, d_width),
                dh: RowsMut::new(dh, n, hidden),
                dc: RowsMut::new(dc, n, dc.len() / n),
            });
            gemm_with(
                Operand::Source(&Rows(MatRef::new(own, 0, [n, C::GATES * hidden], [d_width as isize, 1]))),
                Operand::Packed(&weight_hh),
                MatMut::row_major(dh, n, hidden),
                Beta::One,
                Epilogue::default(),
            );
        }
    }
    let d = Preactivations::<C> { d, sizes, cell: PhantomData };
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

/// A state's gradient to start from: that of the final state, or zeros. Nobody else sees it.
fn start(grad: Option<&Tensor>, state: &Tensor) -> Result<Tensor> {
    grad.map_or_else(|| state.zeros_like(), Tensor::copy)
}

/// The gradients of all pre-activations, `[t, n, grads * hidden]`.
struct Preactivations<'a, C> {
    d: &'a [f32],
    sizes: RnnSizes,
    cell: PhantomData<C>,
}

impl<C: Cell> Preactivations<'_, C> {
    /// Some blocks of the rows of some steps, as a matrix.
    fn blocks(&self, times: Range<usize>, first: usize, count: usize) -> MatRef<'_, f32> {
        let (n, hidden, width) = (self.sizes.n, self.sizes.hidden, C::GRADS * self.sizes.hidden);
        let offset = times.start * n * width + first * hidden;
        MatRef::new(self.d, offset, [times.len() * n, count * hidden], [width as isize, 1])
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
