//! Convolutions computed straight from the framed sources, without packing them: for few channels, and for groups of few.
//!
//! A matrix product spends its time packing where few channels share a pixel. Here a tile of channels by pixels stays in
//! registers ([`tiles`](super::tiles), [`dots`](super::dots)) and reads the sources where they stand.

use super::ConvElement;
use super::correlate::{Finish, Sources};
use super::dots::{Dots, Row};
use super::geometry::{Geometry, positions, volume};
use super::level::Levels;
use super::pass::{Pass, Phase};
use super::planes::Images;
use super::spread::spread;
use super::tiles::{Panels, Spot, Tiles, per_row, spots};
use crate::Result;
use crate::cpu::gemm::Scalar;
use crate::cpu::isa::{Isa, isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_for};
use std::ops::Range;

/// Products of a band of rows: what is worth a hand-over to another thread.
const BAND: usize = 1 << 19;

/// Pixels of a band of the gradient in the weight: a tile's rows of both operands stay in the first-level cache.
const PIXELS: usize = 1024;

/// Whether the direct way of a pass is the faster one.
pub(super) fn suits(pass: &Pass) -> bool {
    let taps = pass.sources * volume(pass.kernel);
    pass.outs <= 8 || taps <= 160
}

/// A phase with everything that does not depend on the image.
struct Prepared<'a, T: ConvElement> {
    phase: &'a Phase,
    /// The weights of each group.
    panels: Vec<Panels<T::Acc>>,
    /// The offsets of the taps in the sources.
    taps: Vec<usize>,
    /// All vectors of the outputs, row by row.
    spots: Vec<Spot>,
    /// How many of them a row has.
    per_row: usize,
}

impl<'a, T: ConvElement> Prepared<'a, T> {
    fn new(
        pass: &Pass,
        phase: &'a Phase,
        sources: &Sources<T>,
        weight: &[T],
        isa: Isa,
    ) -> Self {
        let (weights, taps) = pass.taps(phase, sources.channel, |p| sources.at(p));
        let panels = (0..pass.groups).map(|group| {
            let first = group * pass.outs * pass.sources * volume(pass.kernel);
            Panels::new(pass.outs, taps.len(), |o, t| {
                weight[first + o * pass.weight_out + weights[t]].widen()
            })
        });
        let panels = panels.collect();
        let (rows, width) = (phase.count[0] * phase.count[1], phase.count[2]);
        let at = positions([phase.count[0], phase.count[1], 1]);
        let rows = (0..rows).zip(at).map(|(row, j)| Spot {
            from: sources.at(std::array::from_fn(|i| j[i] * phase.stride[i])),
            to: row * width,
        });
        let spots = spots(rows, width, T::Acc::lanes(isa));
        Prepared { phase, panels, taps, spots, per_row: per_row(width, T::Acc::lanes(isa)) }
    }

    fn rows(&self) -> usize {
        self.phase.count[0] * self.phase.count[1]
    }
}

/// Runs a pass; operands as for [`correlate::run`](super::correlate::run).
pub(super) fn run<T: ConvElement>(
    pass: &Pass,
    images: &Images<T>,
    weight: &[T],
    finish: Finish<T>,
    out: &mut [T],
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let (isa, plane) = (isa(), volume(pass.out));
    let sources = Sources::new(pass, images);
    let in_place = T::NATIVE && pass.is_dense();
    let prepare = |phase| Prepared::new(pass, phase, &sources, weight, isa);
    let prepared: Vec<Prepared<T>> = pass.phases.iter().map(prepare).collect();
    let start: Vec<T::Acc> = match finish.bias {
        Some(bias) => bias.iter().map(|b| b.widen()).collect(),
        None => vec![T::Acc::ZERO; pass.groups * pass.outs],
    };
    let out = SharedMut::new(out);
    spread(pass.n * pass.groups, pass.products(), |unit| {
        let (n, group) = (unit / pass.groups, unit % pass.groups);
        let size = pass.outs * plane;
        let start = &start[group * pass.outs..][..pass.outs];
        sources.read(n..n + 1, group, |data| {
            for prepared in &prepared {
                let (rows, width) = (prepared.rows(), prepared.phase.count[2]);
                let products = width * prepared.taps.len() * pass.outs;
                let band = (BAND / products.max(1)).clamp(1, rows);
                parallel_for(rows.div_ceil(band), |at| {
                    let rows = at * band..rows.min((at + 1) * band);
                    let spots = &prepared.spots[rows.start * prepared.per_row..rows.end * prepared.per_row];
                    let panels = &prepared.panels[group];
                    let tiles = |spots: &[Spot], to: *mut T::Acc, plane: usize| {
                        // SAFETY: the rows of a band belong to one task, and the callers below give planes that have them.
                        let tiles = unsafe {
                            Tiles::new(data, &prepared.taps, panels, start, spots, width, to, plane)
                        };
                        T::Acc::run(isa, tiles);
                    };
                    // SAFETY: the outputs of one image and group belong to one unit, and rows of a phase to one task.
                    let to = unsafe { out.as_mut_ptr().add(unit * size) };
                    if in_place {
                        tiles(spots, to.cast(), plane);
                        for o in 0..pass.outs {
                            // SAFETY: as above; the rows of a band are consecutive where the outputs are dense.
                            let range = unit * size + o * plane + rows.start * width..unit * size + o * plane + rows.end * width;
                            finish.activate(unsafe { out.slice(range) });
                        }
                    } else {
                        let pixels = rows.len() * width;
                        let mut sums = vec![T::Acc::ZERO; pass.outs * pixels];
                        let first = rows.start * width;
                        let own: Vec<Spot> = spots.iter().map(|s| Spot { to: s.to - first, ..*s }).collect();
                        tiles(&own, sums.as_mut_ptr(), pixels);
                        for (o, sums) in sums.chunks_exact(pixels).enumerate() {
                            // SAFETY: as above.
                            unsafe { scatter(pass, prepared.phase, &rows, sums, finish, to.add(o * plane)) }
                        }
                    }
                });
            }
            Ok(())
        })
    })
}

/// Writes sums of some rows of a phase to their places in a plane.
///
/// # Safety
/// `plane` leads to a plane of outputs, whose elements at these rows of the phase nobody else reaches.
unsafe fn scatter<T: ConvElement>(
    pass: &Pass,
    phase: &Phase,
    rows: &Range<usize>,
    sums: &[T::Acc],
    finish: Finish<T>,
    plane: *mut T,
) {
    for (row, sums) in rows.clone().zip(sums.chunks_exact(phase.count[2])) {
        let j = [row / phase.count[1], row % phase.count[1], 0];
        let at: [usize; 3] = std::array::from_fn(|i| phase.start[i] + j[i] * phase.step[i]);
        let start = (at[0] * pass.out[1] + at[1]) * pass.out[2] + at[2];
        for (i, sum) in sums.iter().enumerate() {
            // SAFETY: position `i` of the row is in the plane, and the caller's own.
            unsafe { *plane.add(start + i * phase.step[2]) = T::narrow(finish.activation.apply(*sum)) }
        }
    }
}

/// Adds the sums over some images of a group, `[k, c, kernel]`, to `sums`.
pub(super) fn grad_weight<T: ConvElement>(
    g: &Geometry,
    sources: &Sources<T>,
    taps: &[usize],
    grad: &[T],
    group: usize,
    images: Range<usize>,
    isa: Isa,
    sums: &mut [T::Acc],
) -> Result<()> {
    let (plane, width) = (volume(g.y), g.y[2]);
    let rows: Vec<Row> = positions([g.y[0], g.y[1], 1])
        .enumerate()
        .map(|(row, j)| Row { x: sources.at(std::array::from_fn(|i| j[i] * g.stride[i])), grad: row * width })
        .collect();
    let mut wide = Memory::new(if T::NATIVE { 0 } else { g.k * plane * size_of::<T::Acc>() })?;
    for n in images {
        let grad = &grad[(n * g.groups + group) * g.k * plane..][..g.k * plane];
        let grad = if T::NATIVE {
            bytemuck::cast_slice(grad)
        } else {
            let wide = &mut wide.as_mut_slice::<T::Acc>()[..grad.len()];
            T::widen_slice(grad, wide);
            &*wide
        };
        sources.read(n..n + 1, group, |x| {
            for rows in rows.chunks((PIXELS / width.max(1)).max(1)) {
                let sums = sums.as_mut_ptr();
                T::Acc::run(isa, Dots { x, grad, plane, outs: g.k, steps: taps, rows, width, sums });
            }
            Ok(())
        })?;
    }
    Ok(())
}
