//! Convolutions of single channels: depthwise, and whatever else has one channel on a side of each group.
//!
//! There is nothing to share between channels, so the memory bounds these: a plane is read once and written once. Where it
//! is too large for the first-level cache, bands of its rows go through it. A band is framed by zeros in a [`Strip`], from which
//! tiles of outputs are summed in registers ([`rows`], [`dots`]). Rows that are only copied get there a tile before they are
//! read, so that memory and arithmetic are waited for at the same time.

mod dots;
mod rows;
mod strip;
mod woven;

use super::ConvElement;
use super::finish::Finish;
use super::geometry::{Geometry, volume};
use super::level::Levels;
use super::pass::{Pass, Phase, Tap};
use super::planes::Images;
use super::spread::side_by_side;
use crate::Result;
use crate::cpu::gemm::Scalar;
use crate::cpu::isa::{Isa, isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::SharedMut;
use crate::cpu::wide::dispatch;
use std::ops::Range;
use strip::Strip;

/// The most values of a strip: half of a first-level cache of 32 KiB, in `f32`.
const STRIP: usize = 4096;

/// Values that a vector may read beyond a row.
const SLACK: usize = 64;

/// Products per task that are worth a hand-over to another thread.
const TASK: usize = 1 << 19;

/// Whether a pass has this form: two dims, and one channel on a side of each group.
pub(super) fn suits(pass: &Pass) -> bool {
    let flat = |phase: &Phase| {
        let [depth, rows, columns] = &phase.taps;
        // A phase may have no taps: its outputs are zero.
        let slab = rows.is_empty() || columns.is_empty() || (depth.len() == 1 && depth[0].offset == 0);
        slab && dilation(rows).is_some()
    };
    pass.sources.min(pass.outs) == 1
        && pass.sources.max(pass.outs) <= 8
        && (pass.frame.lead[0], pass.frame.dims[0], pass.out[0]) == (0, 1, 1)
        && pass.phases.iter().all(flat)
}

/// The distance between the taps of a kernel along one dim, in the order of their offsets, if it is the same for all.
fn dilation(taps: &[Tap]) -> Option<usize> {
    let offsets = sorted(taps);
    let step = match offsets[..] {
        [first, second, ..] => second.offset - first.offset,
        _ => 1,
    };
    offsets.windows(2).all(|pair| pair[1].offset - pair[0].offset == step).then_some(step)
}

/// The taps by offset.
fn sorted(taps: &[Tap]) -> Vec<Tap> {
    let mut taps = taps.to_vec();
    taps.sort_unstable_by_key(|tap| tap.offset);
    taps
}

/// A phase with everything that does not depend on the image.
struct Prepared<'a, S> {
    phase: &'a Phase,
    /// The first row of the kernel in the frame.
    row: usize,
    /// From one row of the kernel to the next.
    dilation: usize,
    /// Rows of the kernel.
    height: usize,
    /// Where the columns of the kernel start in the strips, source after source.
    taps: Vec<usize>,
    /// `[groups, outs, taps, height]`.
    weights: Vec<S>,
}

impl<'a, S: Scalar> Prepared<'a, S> {
    fn new<T: ConvElement<Sum = S>>(pass: &Pass, phase: &'a Phase, plan: &Plan, weight: &[T]) -> Self {
        let (rows, columns) = (sorted(&phase.taps[1]), sorted(&phase.taps[2]));
        let sources = || (0..pass.sources).flat_map(|s| columns.iter().map(move |column| (s, column)));
        let taps = sources().map(|(s, column)| s * plan.size + plan.strip.column(column.offset)).collect();
        let depth = phase.taps[0].first().map_or(0, |tap| tap.index);
        let of = |group: usize, out: usize, s: usize, column: &Tap, row: &Tap| {
            let kernel = (depth * pass.kernel[1] + row.index) * pass.kernel[2] + column.index;
            let group = group * pass.outs * pass.sources * volume(pass.kernel);
            weight[group + out * pass.weight_out + s * pass.weight_source + kernel].widen()
        };
        let mut weights = Vec::with_capacity(weight.len());
        for (group, out) in (0..pass.groups).flat_map(|g| (0..pass.outs).map(move |o| (g, o))) {
            for (s, column) in sources() {
                weights.extend(rows.iter().map(|row| of(group, out, s, column, row)));
            }
        }
        let row = rows.first().map_or(0, |tap| tap.offset);
        let dilation = dilation(&rows).unwrap_or(1);
        Prepared { phase, row, dilation, height: rows.len(), taps, weights }
    }

    /// The rows of the frame that some rows of outputs read, if they read any.
    fn reach(&self, rows: &Range<usize>) -> Option<Range<usize>> {
        let rows = rows.start..rows.end.min(self.phase.count[1]);
        if rows.is_empty() || self.taps.is_empty() || self.height == 0 {
            return None;
        }
        let stride = self.phase.stride[1];
        let last = (rows.end - 1) * stride + self.row + (self.height - 1) * self.dilation;
        Some(rows.start * stride + self.row..last + 1)
    }
}

/// How the planes are cut.
struct Plan {
    strip: Strip,
    /// Rows of outputs of a band.
    band: usize,
    /// Bands of a plane.
    bands: usize,
    /// Values of a strip.
    size: usize,
}

impl Plan {
    /// Bands of `rows` rows of outputs, from one to the next of which there are `stride` rows of sources, of which `reach` are
    /// read for one.
    fn new(strip: Strip, rows: usize, stride: usize, reach: usize) -> Plan {
        let fit = (STRIP / strip.pitch).saturating_sub(reach.saturating_sub(stride)) / stride;
        let bands = rows.div_ceil(fit.max(8)).max(1);
        let band = rows.div_ceil(bands).max(1);
        let size = ((band - 1) * stride + reach) * strip.pitch + strip.head + SLACK;
        Plan { strip, band, bands: rows.div_ceil(band), size }
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
    let isa = isa();
    let most = pass.phases.iter().map(|p| p.count[1]).max().unwrap_or(0);
    let stride = pass.phases.first().map_or(1, |p| p.stride[1]);
    let offsets = || pass.phases.iter().flat_map(|p| p.taps[1].iter().map(|tap| tap.offset));
    let reach = offsets().max().map_or(0, |last| last + 1 - offsets().min().unwrap_or(0));
    let plan = Plan::new(Strip::new(pass.frame, images.dims[2]), most, stride, reach);
    let prepared: Vec<Prepared<T::Acc>> =
        pass.phases.iter().map(|phase| Prepared::new(pass, phase, &plan, weight)).collect();
    let direct = T::NATIVE && pass.is_dense();
    let plane = volume(pass.out);
    let out = SharedMut::new(out);
    let units = pass.n * pass.groups * plan.bands;
    let group = (TASK / (pass.products() / plan.bands).max(1)).clamp(1, units);
    side_by_side(units.div_ceil(group), TASK, |task| {
        // One strip for each source, and for the sums where they are not written in place.
        let (strips, sums) = (pass.sources * plan.size, plan.band * (pass.out[2] + pass.phases.len()));
        let sums = if direct { 0 } else { sums };
        let mut memory = Memory::new((strips + sums) * size_of::<T::Acc>())?;
        let (strips, sums) = memory.as_mut_slice::<T::Acc>().split_at_mut(strips);
        strips.fill(T::Acc::ZERO);
        for unit in task * group..units.min((task + 1) * group) {
            let (at, band) = (unit / plan.bands, unit % plan.bands);
            let (n, group) = (at / pass.groups, at % pass.groups);
            let rows = band * plan.band..(band + 1) * plan.band;
            let read = prepared
                .iter()
                .filter_map(|p| p.reach(&rows))
                .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
                .unwrap_or(0..0);
            let (data, len) = (strips.as_mut_ptr(), strips.len());
            // One source that one set of rows is made of comes while they are made. Dealing takes the time of more arithmetic
            // than a stride leaves.
            let feed = match direct && pass.sources == 1 && pass.frame.fold == 1 {
                true => plan.strip.feed(images, n, group, read.clone(), data, len),
                false => None,
            };
            if feed.is_none() {
                for (s, strip) in strips.chunks_exact_mut(plan.size).enumerate() {
                    let channel = group * pass.sources + s;
                    plan.strip.fill(isa, images, n, channel, read.clone(), strip);
                }
            }
            let (next, band) = ((unit + 1) / plan.bands, (unit + 1) % plan.bands);
            let row = band * plan.band * stride;
            let ahead = ahead(images, next / pass.groups, next % pass.groups * pass.sources, row);
            for o in 0..pass.outs {
                let channel = group * pass.outs + o;
                let start = finish.bias.map_or(T::Acc::ZERO, |bias| bias[channel].widen());
                let first = (at * pass.outs + o) * plane;
                // SAFETY: a band of rows of a plane belongs to one unit, in every phase.
                let plane = || unsafe { out.slice(first..first + plane) };
                for prepared in prepared.chunk_by(|a, b| a.phase.start[1] == b.phase.start[1]) {
                    let phase = prepared[0].phase;
                    let rows = rows.start..rows.end.min(phase.count[1]);
                    if rows.is_empty() {
                        continue;
                    }
                    let weights_of = |prepared: &Prepared<T::Acc>| {
                        let weights = prepared.weights.len() / (pass.groups * pass.outs);
                        channel * weights..(channel + 1) * weights
                    };
                    let from = |prepared: &Prepared<T::Acc>| {
                        let row = rows.start * phase.stride[1] + prepared.row;
                        row.saturating_sub(read.start) * plan.strip.pitch
                    };
                    let job = |prepared: &Prepared<T::Acc>, to: &mut [T::Acc]| {
                        let rows_job = rows::Rows {
                            data: data.wrapping_add(from(prepared)),
                            len: len.saturating_sub(from(prepared)),
                            feed: feed.filter(|_| o == 0),
                            pitch: plan.strip.pitch,
                            stride: phase.stride[1],
                            dilation: prepared.dilation,
                            taps: &prepared.taps,
                            height: prepared.height,
                            weights: &prepared.weights[weights_of(prepared)],
                            start,
                            size: [rows.len(), prepared.phase.count[2]],
                            out: to.as_mut_ptr(),
                            ahead,
                        };
                        T::Acc::run(isa, rows_job);
                    };
                    if direct {
                        let width = pass.out[2];
                        let to = &mut plane()[rows.start * width..rows.end * width];
                        job(&prepared[0], bytemuck::cast_slice_mut(to));
                        finish.complete(isa, to, first + rows.start * width);
                        continue;
                    }
                    let row = phase.start[1] + rows.start * phase.step[1];
                    let (width, pitch) = (pass.out[2], phase.step[1] * pass.out[2]);
                    let to = &mut plane()[row * width..];
                    if let [even, odd] = prepared
                        && T::NATIVE
                        && phase.step[2] == 2
                        && odd.phase.count[2] >= T::Acc::lanes(isa)
                    {
                        let parts = [even, odd].map(|prepared| woven::Part {
                            taps: &prepared.taps[..],
                            weights: &prepared.weights[weights_of(prepared)],
                            columns: prepared.phase.count[2],
                        });
                        let job = woven::Woven {
                            data: &strips[from(even)..],
                            pitch: plan.strip.pitch,
                            dilation: even.dilation,
                            height: even.height,
                            parts,
                            start,
                            rows: rows.len(),
                            out_pitch: pitch,
                            out: bytemuck::cast_slice_mut(to),
                        };
                        T::Acc::run(isa, job);
                        complete(finish, isa, to, first + row * width, rows.len(), [width, pitch]);
                        continue;
                    }
                    let mut rest = &mut *sums;
                    let mut parts: Vec<&[T::Acc]> = Vec::with_capacity(prepared.len());
                    for prepared in prepared {
                        let (part, after) = rest.split_at_mut(rows.len() * prepared.phase.count[2]);
                        job(prepared, part);
                        parts.push(part);
                        rest = after;
                    }
                    weave(isa, &parts, rows.len(), pitch, width, to);
                    complete(finish, isa, to, first + row * width, rows.len(), [width, pitch]);
                }
            }
        }
        Ok(())
    })
}

/// Completes rows of `width` outputs, `pitch` apart; `at` is the place of the first.
fn complete<T: ConvElement>(
    finish: Finish<T>,
    isa: Isa,
    out: &mut [T],
    at: usize,
    rows: usize,
    [width, pitch]: [usize; 2],
) {
    for (i, out) in out.chunks_mut(pitch).take(rows).enumerate() {
        finish.complete(isa, &mut out[..width], at + i * pitch);
    }
}

/// The address of a row of a channel, which need not exist, for prefetching; of nothing where values are widened first.
fn ahead<T: ConvElement>(images: &Images<T>, image: usize, channel: usize, row: usize) -> *const T::Acc {
    let start = images.start(image, channel).wrapping_add_signed(row as isize * images.along[1]);
    if T::NATIVE { images.data.as_ptr().wrapping_add(start).cast() } else { std::ptr::null() }
}

dispatch! {
    /// Rows of results from the sums of their phases: column `j` of the result is the next one of part `j` modulo their number.
    fn weave<T: ConvElement>(
        parts: &[&[T::Acc]],
        rows: usize,
        pitch: usize,
        width: usize,
        out: &mut [T],
    ) {
        for row in 0..rows {
            let out = &mut out[row * pitch..][..width];
            if let [even, odd] = parts {
                let (even_width, odd_width) = (width.div_ceil(2), width / 2);
                let (even, odd) = (&even[row * even_width..][..even_width], &odd[row * odd_width..][..odd_width]);
                let mut pairs = out.chunks_exact_mut(2);
                for ((pair, even), odd) in (&mut pairs).zip(even).zip(odd) {
                    (pair[0], pair[1]) = (T::narrow(*even), T::narrow(*odd));
                }
                if let ([last], Some(even)) = (pairs.into_remainder(), even.last()) {
                    *last = T::narrow(*even);
                }
                continue;
            }
            for (i, part) in parts.iter().enumerate() {
                let part_width = part.len() / rows;
                let part = &part[row * part_width..][..part_width];
                for (out, sum) in out[i..].iter_mut().step_by(parts.len()).zip(part) {
                    *out = T::narrow(*sum);
                }
            }
        }
    }
}

/// Whether the gradient in the weight has this form.
pub(super) fn suits_gradient(g: &Geometry) -> bool {
    g.c == 1
        && g.k <= 8
        && (g.w[0], g.x[0], g.y[0]) == (1, 1, 1)
        && g.padding[0] == 0
        && g.dilation[1] == 1
        && dots::WIDTHS.contains(&g.w[2])
}

/// Adds the sums over some images of a group, `[k, kernel]`, to `sums`.
pub(super) fn grad_weight<T: ConvElement>(
    g: &Geometry,
    images: &Images<T>,
    grad: &[T],
    group: usize,
    range: Range<usize>,
    isa: Isa,
    sums: &mut [T::Acc],
) -> Result<()> {
    let pass = Pass::forward(g);
    let plan = Plan::new(Strip::new(pass.frame, images.dims[2]), g.y[1], g.stride[1], g.w[1]);
    let taps: Vec<usize> = (0..g.w[2]).map(|t| plan.strip.column(t * g.dilation[2])).collect();
    let (plane, width, kernel) = (volume(g.y), g.y[2], volume(g.w));
    let wide = if T::NATIVE { 0 } else { plan.band * width };
    let mut memory = Memory::new((plan.size + wide) * size_of::<T::Acc>())?;
    let (strip, wide) = memory.as_mut_slice::<T::Acc>().split_at_mut(plan.size);
    strip.fill(T::Acc::ZERO);
    for (n, band) in range.flat_map(|n| (0..plan.bands).map(move |band| (n, band))) {
        let rows = band * plan.band..g.y[1].min((band + 1) * plan.band);
        let read = rows.start * g.stride[1]..(rows.end - 1) * g.stride[1] + g.w[1];
        plan.strip.fill(isa, images, n, group, read, strip);
        for (k, sums) in sums.chunks_exact_mut(kernel).enumerate() {
            let first = ((n * g.groups + group) * g.k + k) * plane;
            let grad = &grad[first + rows.start * width..first + rows.end * width];
            let grad = if T::NATIVE {
                bytemuck::cast_slice(grad)
            } else {
                T::widen_slice(grad, &mut wide[..grad.len()]);
                &wide[..grad.len()]
            };
            let (pitch, stride, size) = (plan.strip.pitch, g.stride[1], [rows.len(), width]);
            let (data, taps) = (&*strip, &taps[..]);
            let (next, row) = (n + (band + 1) / plan.bands, (band + 1) % plan.bands * plan.band * stride);
            let ahead = ahead(images, next, group, row);
            T::Acc::run(
                isa,
                dots::Dots { data, pitch, stride, taps, height: g.w[1], grad, size, sums, ahead },
            );
        }
    }
    Ok(())
}
