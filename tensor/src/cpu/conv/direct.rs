//! Convolutions whose groups have one channel each (depthwise), computed row by row: a product would spend its time packing.

use super::ConvElement;
use super::correlate::Sources;
use super::geometry::{Geometry, positions, volume};
use super::pass::{Pass, Phase};
use super::planes::Images;
use super::rows::{LANES, Taps};
use super::spread::spread;
use crate::Result;
use crate::cpu::gemm::Scalar;
use crate::cpu::isa::isa;
use crate::cpu::memory::Memory;
use crate::cpu::threads::SharedMut;

/// Whether a convolution has so few channels per group that the direct way is the faster one.
pub(super) fn suits(g: &Geometry) -> bool {
    g.c == 1 && g.k <= 4 && g.groups > 1
}

/// Runs a pass; operands as for [`correlate::run`](super::correlate::run).
pub(super) fn run<T: ConvElement>(
    pass: &Pass,
    images: &Images<T>,
    weight: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (isa, plane) = (isa(), volume(pass.out));
    let sources = Sources::new(pass, images);
    let phases: Vec<(&Phase, Vec<usize>, Taps)> = pass
        .phases
        .iter()
        .map(|phase| {
            let (weights, taps) = pass.taps(phase, sources.channel, |p| sources.at(p));
            (phase, weights, Taps::new(taps))
        })
        .collect();
    let out = SharedMut::new(out);
    spread(pass.n * pass.groups, pass.products(), |unit| {
        let (n, group) = (unit / pass.groups, unit % pass.groups);
        let size = pass.outs * plane;
        // SAFETY: the outputs of one image and group belong to one unit.
        let out = unsafe { out.slice(unit * size..(unit + 1) * size) };
        let mut sums = Memory::new(pass.out[2] * size_of::<T::Acc>())?;
        sources.read(n..n + 1, group, |data| {
            for (o, out) in out.chunks_exact_mut(plane).enumerate() {
                let channel = group * pass.outs + o;
                let start = bias.map_or(T::Acc::ZERO, |b| b[channel].widen());
                let first = group * pass.outs * pass.sources * volume(pass.kernel) + o * pass.weight_out;
                for (phase, weights, taps) in &phases {
                    let weights: Vec<T::Acc> = weights.iter().map(|w| weight[first + w].widen()).collect();
                    let sums = &mut sums.as_mut_slice::<T::Acc>()[..phase.count[2]];
                    for j in positions([phase.count[0], phase.count[1], 1]) {
                        let from = sources.at(std::array::from_fn(|i| j[i] * phase.stride[i]));
                        taps.correlate(isa, data, from, &weights, start, sums);
                        let at: [usize; 3] = std::array::from_fn(|i| phase.start[i] + j[i] * phase.step[i]);
                        let row = &mut out[(at[0] * pass.out[1] + at[1]) * pass.out[2] + at[2]..];
                        if phase.step[2] == 1 {
                            row.iter_mut().zip(&*sums).for_each(|(y, sum)| *y = T::narrow(*sum));
                        } else {
                            let row = row.iter_mut().step_by(phase.step[2]);
                            row.zip(&*sums).for_each(|(y, sum)| *y = T::narrow(*sum));
                        }
                    }
                }
            }
            Ok(())
        })
    })
}

/// The gradient in the weight; operands as for [`grad_weight::run`](super::grad_weight::run).
pub(super) fn grad_weight<T: ConvElement>(
    g: &Geometry,
    grad: &[T],
    x: &Images<T>,
    out: &mut [T],
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let isa = isa();
    let pass = Pass::forward(g);
    let sources = Sources::new(&pass, x);
    let phase = &pass.phases[0];
    let taps = Taps::new(pass.taps(phase, sources.channel, |p| sources.at(p)).1);
    let (plane, kernel, width) = (volume(g.y), volume(g.w), g.y[2]);
    let out = SharedMut::new(out);
    spread(g.groups, g.products() / g.groups, |group| {
        // SAFETY: the weights of a group belong to one unit.
        let out = unsafe { out.slice(group * g.k * kernel..(group + 1) * g.k * kernel) };
        let mut sums = vec![[T::Acc::ZERO; LANES]; g.k * kernel];
        let mut row = vec![T::Acc::ZERO; width];
        for n in 0..g.n {
            sources.read(n..n + 1, group, |data| {
                for (k, sums) in sums.chunks_exact_mut(kernel).enumerate() {
                    let grad = &grad[((n * g.groups + group) * g.k + k) * plane..][..plane];
                    for (j, grad) in positions([g.y[0], g.y[1], 1]).zip(grad.chunks_exact(width.max(1))) {
                        T::widen_slice(grad, &mut row);
                        let from = sources.at(std::array::from_fn(|i| j[i] * phase.stride[i]));
                        taps.dot(isa, data, from, &row, sums);
                    }
                }
                Ok(())
            })?;
        }
        for (out, sums) in out.iter_mut().zip(&sums) {
            *out = T::narrow(sums.iter().copied().fold(T::Acc::ZERO, Scalar::plus));
        }
        Ok(())
    })
}
