//! The gradient in the weight as matrix products, where many channels share a pixel: `dW [k, taps] = Σ_(n, pixels) dy [k, pixels] · im2colᵀ [pixels, taps]`.
//!
//! The sum over images and pixels is cut into parts by shape alone; their sums are added in order.

use super::ConvElement;
use super::gather::Gathered;
use super::geometry::{Geometry, positions, volume};
use super::grad_weight::parts;
use super::pass::Pass;
use super::planes::{Frame, Images};
use super::spread::spread;
use super::stacked::{Stacked, planes_of};
use crate::Result;
use crate::cpu::f32_mode::{f32_mode, with_f32_mode};
use crate::cpu::gemm::{Beta, Epilogue, MatMut, MatRef, Operand, PackSource, Scalar, gemm_with};
use crate::cpu::isa::{isa, with_isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_chunks_mut};
use std::ops::Range;

/// Steps of one product: a few blocks of k, and little enough for both operands to stay in the cache.
const STEPS: usize = 4096;

/// Results that a thread puts together at a time.
const CHUNK: usize = 1 << 12;

/// Computes the gradient.
///
/// # Shapes
/// - grad: `[n, groups · k, y…]` in row-major order, x: `[n, groups · c, x…]`
/// - out: `[groups · k, c, kernel…]` in row-major order
pub(super) fn run<T: ConvElement>(g: &Geometry, grad: &[T], x: &Images<T>, out: &mut [T]) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let plane = volume(g.y);
    let total = g.n * plane;
    if total == 0 {
        out.fill(T::narrow(T::Acc::ZERO));
        return Ok(());
    }
    let (rows, columns) = (g.k, g.c * volume(g.w));
    let columns_of = Columns::new(g, x)?;
    let parts = parts(g, rows * columns).min(total);
    let mut sums = Memory::new(g.groups * parts * rows * columns * size_of::<T::Acc>())?;
    let sums = &mut sums.as_mut_slice::<T::Acc>()[..g.groups * parts * rows * columns];
    let shared = SharedMut::new(sums);
    // What the calling thread asks for, not those that the units run on.
    let (isa, mode) = (isa(), f32_mode());
    spread(g.groups * parts, rows * columns * (total / parts).max(1), |unit| {
        let (group, part) = (unit / parts, unit % parts);
        // SAFETY: each unit has sums of its own.
        let sums = unsafe { shared.slice(unit * rows * columns..(unit + 1) * rows * columns) };
        let of_image = |n: usize| {
            MatRef::row_major(&grad[(n * g.groups + group) * rows * plane..][..rows * plane], rows, plane)
        };
        let grads: Vec<MatRef<T>> = (0..g.n).map(of_image).collect();
        let (start, end) = (total * part / parts, total * (part + 1) / parts);
        let mut from = start;
        loop {
            let to = end.min(from + STEPS);
            let a = Stacked::new(&grads, from..to);
            let beta = if from == start { Beta::Zero } else { Beta::One };
            columns_of.read(group, from..to, |b| {
                let c = MatMut::row_major(&mut *sums, rows, columns);
                let (a, b) = (Operand::Source(&a), Operand::Source(b));
                with_isa(isa, || with_f32_mode(mode, || gemm_with(a, b, c, beta, Epilogue::default())));
            });
            from = to;
            if from == end {
                return Ok(());
            }
        }
    })?;

    // [groups, parts, k, kernel, c] -> [groups, k, c, kernel]
    let (sums, kernel) = (&*sums, volume(g.w));
    let together = (CHUNK / columns).max(1);
    parallel_chunks_mut(out, together * columns, |chunk, out| {
        for (i, out) in out.chunks_exact_mut(columns).enumerate() {
            let (group, k) = ((chunk * together + i) / rows, (chunk * together + i) % rows);
            let of_part = |part: usize| &sums[((group * parts + part) * rows + k) * columns..][..columns];
            let mut row = of_part(0).to_vec();
            for part in 1..parts {
                row.iter_mut().zip(of_part(part)).for_each(|(sum, value)| *sum = sum.plus(*value));
            }
            for (c, out) in out.chunks_exact_mut(kernel).enumerate() {
                for (tap, out) in out.iter_mut().enumerate() {
                    *out = T::narrow(row[tap * g.c + c]);
                }
            }
        }
    });
    Ok(())
}

/// The columns of `im2colᵀ`, kernel position before channel.
enum Columns<'a, T: ConvElement> {
    /// The planes themselves: for each group, those of each image.
    Planes(Vec<Vec<MatRef<'a, T::Acc>>>),
    /// Framed copies with the channels innermost, so that the taps of a pixel are contiguous runs.
    Framed {
        values: Memory,
        image: usize,
        /// Values of a group from one to the next.
        channels: usize,
        taps: Vec<usize>,
        pixels: Vec<usize>,
    },
}

impl<'a, T: ConvElement> Columns<'a, T> {
    fn new(g: &Geometry, x: &Images<'a, T>) -> Result<Self> {
        // A kernel of one place that misses none reads the planes as they are.
        if volume(g.w) == 1 && g.x == g.y && g.padding == [0; 3] {
            let planes = (0..g.groups).map(|group| planes_of(x, g.n, group * g.c, g.c));
            if let Some(planes) = planes.collect() {
                return Ok(Columns::Planes(planes));
            }
        }
        let pass = Pass::forward(g);
        let frame = Frame { fold: 1, ..pass.frame };
        let channels = g.groups * g.c;
        let image = frame.volume() * channels;
        let mut values = Memory::new(g.n * image * size_of::<T::Acc>())?;
        let shared = SharedMut::new(&mut values.as_mut_slice::<T::Acc>()[..g.n * image]);
        spread(g.n, image.saturating_mul(16), |n| {
            // SAFETY: each image belongs to one unit.
            let out = unsafe { shared.slice(n * image..(n + 1) * image) };
            frame.fill_channels_last(x, n, channels, out);
            Ok(())
        })?;
        let taps = positions(g.w)
            .map(|tap| frame.at(std::array::from_fn(|i| tap[i] * g.dilation[i])) * channels)
            .flat_map(|at| (0..g.c).map(move |c| at + c))
            .collect();
        let pixels = pass.pixels(&pass.phases[0], |p| frame.at(p) * channels);
        Ok(Columns::Framed { values, image, channels: g.c, taps, pixels })
    }

    /// Hands those of a group at some steps, which are pixels of all images, to `f`.
    fn read(&self, group: usize, steps: Range<usize>, f: impl FnOnce(&dyn PackSource<T::Acc>)) {
        match self {
            Columns::Planes(groups) => f(&Stacked::new(&groups[group], steps)),
            Columns::Framed { values, image, channels, taps, pixels } => {
                let taps: Vec<usize> = taps.iter().map(|tap| tap + group * channels).collect();
                let at = |step: usize| step / pixels.len() * image + pixels[step % pixels.len()];
                let pixels: Vec<usize> = steps.map(at).collect();
                f(&Gathered::new(values.as_slice::<T::Acc>(), &taps, &pixels));
            }
        }
    }
}
