//! The forward pass over a sequence.

use super::cell::Cell;
use super::matrix::{neighbours, packed, writable};
use super::rows::{self, RowsMut};
use crate::cpu::gemm::{Beta, Epilogue, MatMut, MatRef, Operand, Rows, gemm_with};
use crate::cpu::memory::Memory;
use crate::cpu::storage::{elements, filled_shape};
use crate::{Result, RnnInputs, RnnOutputs, RnnSizes, RnnSpec, Tensor};

/// The input is projected for this many kept elements at a time: half of a second-level cache, so that the steps find them there.
const CHUNK: usize = 128 * 1024;

/// Runs the layer. No extent but that of the input is 0.
pub(super) fn run<C: Cell>(
    spec: RnnSpec,
    inputs: &RnnInputs,
    sizes: RnnSizes,
    training: bool,
) -> Result<RnnOutputs> {
    let RnnSizes { t, n, input, hidden } = sizes;
    let (gates, width, state) = (C::GATES * hidden, C::KEPT * hidden, n * hidden);
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
    let mut products = Memory::new(n * gates * size_of::<f32>())?;
    let (kept_rows, hs) = (writable(&mut kept), writable(&mut output));
    let cs: &mut [f32] = c_n.as_mut().map_or(&mut [], writable);

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
        for time in (first..first + steps).map(|taken| spec.time(taken, t)) {
            let (h_before, h) = neighbours(spec, hs, state, time);
            let h_before = h_before.unwrap_or(h0);
            let b = &mut products.as_mut_slice::<f32>()[..n * gates];
            gemm_with(
                Operand::Source(&Rows(MatRef::row_major(h_before, n, hidden))),
                Operand::Packed(&weight_hh),
                MatMut::row_major(b, n, gates),
                Beta::Zero,
                Epilogue::default(),
            );
            rows::forward::<C>(&rows::Forward {
                hidden,
                kept: RowsMut::new(&mut projected[(time - low) * n * width..][..n * width], n, width),
                b,
                biases,
                h_before,
                h: RowsMut::new(h, n, hidden),
                c: RowsMut::new(cs, n, cs.len() / n),
            });
        }
    }
    let h_n = output.select(0, spec.time(t - 1, t) as isize)?.copy()?;
    Ok(RnnOutputs { output, h_n, c_n, saved: if keeps { vec![kept] } else { vec![] } })
}
