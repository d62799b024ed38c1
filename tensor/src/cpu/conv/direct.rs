//! Convolutions computed straight from the framed sources, without packing them: for few channels, and for groups of few.
//!
//! A matrix product spends its time packing where few channels share a pixel. Here a tile of channels by pixels stays in
//! registers ([`tiles`](super::tiles), [`dots`](super::dots)) and reads the sources where they stand.

use super::ConvElement;
use super::correlate::Sources;
use super::dots::{Dots, Row};
use super::finish::Finish;
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

/// Whether it is faster than a product that packs the sources: where these serve few outputs, and rows fill vectors.
pub(super) fn suits_few_outputs(pass: &Pass) -> bool {
    let fills = |width: usize| width >= 8 && 8 * width.div_ceil(8) <= width + width / 7;
    let suits = |phase: &Phase| {
        let taps = pass.sources * volume(phase.taps.each_ref().map(Vec::len));
        taps <= 512 && fills(phase.count[2])
    };
    pass.outs <= 32 && volume(pass.kernel) > 1 && pass.phases.iter().all(suits)
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
    fn new(pass: &Pass, phase: &'a Phase, sources: &Sources<T>, weight: &[T], isa: Isa) -> Self {
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

    /// The sums of some rows, written where their spots say; the planes of `out` are `plane` apart.
    ///
    /// # Safety
    /// `out` leads to the planes of the group's channels, whose elements at these rows nobody else reaches.
    unsafe fn tiles(
        &self,
        rows: &Range<usize>,
        group: usize,
        data: &[T::Acc],
        start: &[T::Acc],
        isa: Isa,
        out: *mut T::Acc,
        plane: usize,
    ) {
        let spots = &self.spots[rows.start * self.per_row..rows.end * self.per_row];
        let (panels, width) = (&self.panels[group], self.phase.count[2]);
        // SAFETY: the caller vouches for the outputs.
        let tiles = unsafe { Tiles::new(data, &self.taps, panels, start, spots, width, out, plane) };
        T::Acc::run(isa, tiles);
    }

    /// The sums of some rows, `[outs, rows, width]`.
    fn sums(
        &self,
        rows: &Range<usize>,
        group: usize,
        data: &[T::Acc],
        start: &[T::Acc],
        isa: Isa,
    ) -> Vec<T::Acc> {
        let (first, pixels) = (rows.start * self.phase.count[2], rows.len() * self.phase.count[2]);
        let mut sums = vec![T::Acc::ZERO; start.len() * pixels];
        // Spots count from the first row of the plane: so does the address, which is not read from before the sums.
        let out = sums.as_mut_ptr().wrapping_sub(first);
        // SAFETY: the spots of these rows lie from `first` on, in planes of as many pixels as the rows have.
        unsafe { self.tiles(rows, group, data, start, isa, out, pixels) }
        sums
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
        // SAFETY: the outputs of one image and group belong to one unit.
        let to = unsafe { out.slice(unit * size..(unit + 1) * size) };
        let to = SharedMut::new(to);
        let start = &start[group * pass.outs..][..pass.outs];
        sources.read(n..n + 1, group, |data| {
            // Phases that differ in their columns only: their rows are the same rows of the result.
            for prepared in prepared.chunk_by(|a, b| a.phase.start[..2] == b.phase.start[..2]) {
                let rows = prepared[0].rows();
                let width: usize = prepared.iter().map(|p| p.phase.count[2]).sum();
                let products = width * prepared[0].taps.len() * pass.outs;
                let band = (BAND / products.max(1)).clamp(1, rows);
                parallel_for(rows.div_ceil(band), |at| {
                    let rows = at * band..rows.min((at + 1) * band);
                    if in_place {
                        // SAFETY: the rows of a band belong to one task, and are consecutive where the outputs are dense.
                        unsafe {
                            prepared[0].tiles(&rows, group, data, start, isa, to.as_mut_ptr().cast(), plane)
                        }
                        for o in 0..pass.outs {
                            let first = o * plane + rows.start * width;
                            // SAFETY: as above.
                            let outputs = unsafe { to.slice(first..first + rows.len() * width) };
                            finish.complete(isa, outputs, unit * size + first);
                        }
                        return;
                    }
                    let sums: Vec<Vec<T::Acc>> =
                        prepared.iter().map(|p| p.sums(&rows, group, data, start, isa)).collect();
                    for (o, row) in (0..pass.outs).flat_map(|o| rows.clone().map(move |row| (o, row))) {
                        let phase = prepared[0].phase;
                        let j = [row / phase.count[1], row % phase.count[1]];
                        let [d, h] = [0, 1].map(|i| phase.start[i] + j[i] * phase.step[i]);
                        let first = o * plane + (d * pass.out[1] + h) * pass.out[2];
                        // SAFETY: as above; each row of the result belongs to one row of the phases.
                        let to = unsafe { to.slice(first..first + pass.out[2]) };
                        let row = o * rows.len() + row - rows.start;
                        let of = |i: usize| {
                            let width = prepared[i].phase.count[2];
                            &sums[i][row * width..][..width]
                        };
                        if prepared.len() == 2 && phase.step[2] == 2 {
                            interleave(of(0), of(1), to);
                        } else {
                            for (i, prepared) in prepared.iter().enumerate() {
                                let to = to[prepared.phase.start[2]..].iter_mut().step_by(phase.step[2]);
                                to.zip(of(i)).for_each(|(y, sum)| *y = T::narrow(*sum));
                            }
                        }
                        finish.complete(isa, to, unit * size + first);
                    }
                });
            }
            Ok(())
        })
    })
}

/// `out = even[0], odd[0], even[1], …`.
fn interleave<T: ConvElement>(even: &[T::Acc], odd: &[T::Acc], out: &mut [T]) {
    let mut pairs = out.chunks_exact_mut(2);
    for ((pair, even), odd) in (&mut pairs).zip(even).zip(odd) {
        (pair[0], pair[1]) = (T::narrow(*even), T::narrow(*odd));
    }
    if let ([last], Some(even)) = (pairs.into_remainder(), even.last()) {
        *last = T::narrow(*even);
    }
}

/// Adds the sums over some images of a group to `sums`, a vector for each of `[k, c, kernel]`.
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
                T::Acc::run(
                    isa,
                    Dots { x, grad, plane, outs: g.k, steps: taps, rows, width, sums: &mut *sums },
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}
