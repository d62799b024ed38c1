//! The gradient in the weight as matrix products, where many channels share a pixel: `dW [k, taps] = Σ_(n, pixels) dy [k, pixels] · im2colᵀ [pixels, taps]`.
//!
//! The channels of x are laid innermost first, so that the taps of a pixel are contiguous runs. The sum over images and
//! pixels is cut into parts by shape alone; their sums are added in order.

use super::ConvElement;
use super::gather::Gathered;
use super::geometry::{Geometry, positions, volume};
use super::grad_weight::parts;
use super::pass::Pass;
use super::planes::{Frame, Images};
use super::spread::spread;
use crate::Result;
use crate::cpu::f32_mode::{f32_mode, with_f32_mode};
use crate::cpu::gemm::{Beta, Epilogue, MatMut, MatRef, Operand, PackSource, Rows, Scalar, gemm_with};
use crate::cpu::isa::{isa, with_isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::SharedMut;

/// Steps of one product: a few blocks of k, and little enough for both operands to stay in the cache.
const STEPS: usize = 4096;

/// Pixels of an image from which it is worth a product of its own.
const PLANE: usize = 512;

/// Computes the gradient.
///
/// # Shapes
/// - grad: `[n, groups · k, y…]` in row-major order, x: `[n, groups · c, x…]`
/// - out: `[groups · k, c, kernel…]` in row-major order
pub(super) fn run<T: ConvElement>(g: &Geometry, grad: &[T], x: &Images<T>, out: &mut [T]) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let pass = Pass::forward(g);
    let frame = Frame { fold: 1, ..pass.frame };
    let channels = g.groups * g.c;
    let image = frame.volume() * channels;
    let mut framed = Memory::new(g.n * image * size_of::<T::Acc>())?;
    let framed = &mut framed.as_mut_slice::<T::Acc>()[..g.n * image];
    let shared = SharedMut::new(framed);
    spread(g.n, image.saturating_mul(16), |n| {
        // SAFETY: each image belongs to one unit.
        let out = unsafe { shared.slice(n * image..(n + 1) * image) };
        frame.fill_channels_last(x, n, channels, out);
        Ok(())
    })?;
    let framed = &*framed;

    // Taps in the order of memory, kernel position before channel; pixels of one image.
    let taps: Vec<usize> = positions(g.w)
        .map(|tap| frame.at(std::array::from_fn(|i| tap[i] * g.dilation[i])) * channels)
        .flat_map(|at| (0..g.c).map(move |c| at + c))
        .collect();
    let pixels = pass.pixels(&pass.phases[0], |p| frame.at(p) * channels);
    let plane = pixels.len();

    let total = g.n * plane;
    let (rows, columns) = (g.k, taps.len());
    let parts = parts(g, rows * columns).min(total.max(1));
    let mut sums = Memory::new(g.groups * parts * rows * columns * size_of::<T::Acc>())?;
    let sums = &mut sums.as_mut_slice::<T::Acc>()[..g.groups * parts * rows * columns];
    let shared = SharedMut::new(sums);
    // What the calling thread asks for, not those that the units run on.
    let (isa, mode) = (isa(), f32_mode());
    spread(g.groups * parts, rows * columns * (total / parts).max(1), |unit| {
        let (group, part) = (unit / parts, unit % parts);
        // SAFETY: each unit has sums of its own.
        let sums = unsafe { shared.slice(unit * rows * columns..(unit + 1) * rows * columns) };
        let lines: Vec<usize> = (0..rows).map(|k| (group * rows + k) * plane).collect();
        let taps: Vec<usize> = taps.iter().map(|t| t + group * g.c).collect();
        let (start, end) = (total * part / parts, total * (part + 1) / parts);
        let mut from = start;
        loop {
            // The pixels of one image are a matrix, whose transpose packs fast; those of small planes are taken together.
            let one_image = plane >= PLANE;
            let to = if one_image { (from / plane + 1) * plane } else { from + STEPS };
            let to = end.min(to).min(from + STEPS);
            let at = |q: usize, image: usize, pixel: usize| q / plane * image + pixel;
            let in_grad: Vec<usize> = (from..to).map(|q| at(q, g.groups * rows * plane, q % plane)).collect();
            let in_x: Vec<usize> = (from..to).map(|q| at(q, image, pixels[q % plane])).collect();
            let (a, b) = (Gathered::new(grad, &lines, &in_grad), Gathered::new(framed, &taps, &in_x));
            let matrix = (one_image && from < to).then(|| {
                Rows(MatRef::new(grad, lines[0] + in_grad[0], [rows, to - from], [plane as isize, 1]))
            });
            let a: &dyn PackSource<T::Acc> = matrix.as_ref().map_or(&a, |matrix| matrix);
            let c = MatMut::row_major(&mut *sums, rows, columns);
            let beta = if from == start { Beta::Zero } else { Beta::One };
            let (a, b) = (Operand::Source(a), Operand::Source(&b));
            with_isa(isa, || with_f32_mode(mode, || gemm_with(a, b, c, beta, Epilogue::default())));
            from = to;
            if from == end {
                return Ok(());
            }
        }
    })?;

    // [groups, parts, k, kernel, c] -> [groups, k, c, kernel]
    let kernel = volume(g.w);
    for (group, out) in out.chunks_exact_mut(rows * columns).enumerate() {
        let sums = &sums[group * parts * rows * columns..][..parts * rows * columns];
        for (at, out) in out.iter_mut().enumerate() {
            let (k, c, tap) = (at / columns, at % columns / kernel, at % kernel);
            let from = (k * kernel + tap) * g.c + c;
            let sum = sums[from..].iter().step_by(rows * columns).copied().reduce(Scalar::plus);
            *out = T::narrow(sum.unwrap_or(T::Acc::ZERO));
        }
    }
    Ok(())
}
