//! The gradient in the weight without packing anything ([`dots`](super::dots)), where channels are few or planes large.
//!
//! The sum over the images is cut into parts by shape alone; their sums are added in order.

use super::ConvElement;
use super::correlate::Sources;
use super::dots::Totals;
use super::geometry::{Geometry, volume};
use super::level::Levels;
use super::pass::Pass;
use super::planes::Images;
use super::spread::side_by_side;
use super::{abreast, depthwise, direct};
use crate::Result;
use crate::cpu::gemm::Scalar;
use crate::cpu::isa::isa;
use crate::cpu::memory::Memory;
use crate::cpu::threads::SharedMut;

/// Products of a part that are worth sums of its own.
const PART: usize = 1 << 21;

/// The most parts of all groups together, or one for each group; each has sums of its own.
const PARTS: usize = 16;

/// The most values that the sums of all parts may have.
const SUMS: usize = 1 << 21;

/// Into how many parts, each with sums of its own, the sum of a gradient with `size` weights in a group is cut.
pub(super) fn parts(g: &Geometry, size: usize) -> usize {
    (g.products() / g.groups / PART).min(SUMS / (size * g.groups)).clamp(1, PARTS.div_ceil(g.groups))
}

/// Whether this way is the faster one.
pub(super) fn suits(g: &Geometry) -> bool {
    let taps = g.c * volume(g.w);
    let most = if g.y[2] >= 32 { 576 } else { 160 };
    g.y[2] >= 16 && (taps <= most || g.k <= 8) || g.k * g.c <= 8
}

/// Computes the gradient.
///
/// # Shapes
/// - grad: `[n, groups · k, y…]` in row-major order, x: `[n, groups · c, x…]`
/// - out: `[groups · k, c, kernel…]` in row-major order
pub(super) fn run<T: ConvElement>(g: &Geometry, grad: &[T], x: &Images<T>, out: &mut [T]) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let isa = isa();
    let pass = Pass::forward(g);
    let sources = Sources::new(&pass, x);
    let taps = pass.taps(&pass.phases[0], sources.channel, |p| sources.at(p)).1;
    let size = g.k * taps.len();
    let grads = Images::dense(grad, g.groups * g.k, g.y);
    let abreast = abreast::suits_gradient::<T>(g);
    let block = if abreast { abreast::lanes::<T>(isa) } else { 1 };
    let blocks = g.n.div_ceil(block);
    let parts = if abreast { PARTS.div_ceil(g.groups) } else { parts(g, size) };
    let parts = parts.min(blocks.max(1));
    let mut sums = Memory::new(g.groups * parts * size * size_of::<T::Acc>())?;
    let sums = &mut sums.as_mut_slice::<T::Acc>()[..g.groups * parts * size];
    let shared = SharedMut::new(sums);
    side_by_side(g.groups * parts, g.products() / (g.groups * parts), |unit| {
        let (group, part) = (unit / parts, unit % parts);
        // SAFETY: each unit has sums of its own.
        let sums = unsafe { shared.slice(unit * size..(unit + 1) * size) };
        let images = (blocks * part / parts * block)..(blocks * (part + 1) / parts * block).min(g.n);
        if !abreast && depthwise::suits_gradient(g) {
            sums.fill(T::Acc::ZERO);
            return depthwise::grad_weight(g, x, grad, group, images, isa, sums);
        }
        let lanes = T::Acc::lanes(isa);
        let mut memory = Memory::new(size * lanes * size_of::<T::Acc>())?;
        let vectors = &mut memory.as_mut_slice::<T::Acc>()[..size * lanes];
        vectors.fill(T::Acc::ZERO);
        match abreast {
            true => abreast::grad_weight(g, [x, &grads], group, images, isa, vectors)?,
            false => direct::grad_weight(g, &sources, &taps, grad, group, images, isa, vectors)?,
        }
        T::Acc::run(isa, Totals { vectors, out: sums });
        Ok(())
    })?;
    for (out, sums) in out.chunks_exact_mut(size).zip(sums.chunks_exact(parts * size)) {
        for (at, out) in out.iter_mut().enumerate() {
            let sum = sums[at..].iter().step_by(size).copied().reduce(Scalar::plus);
            *out = T::narrow(sum.unwrap_or(T::Acc::ZERO));
        }
    }
    Ok(())
}
