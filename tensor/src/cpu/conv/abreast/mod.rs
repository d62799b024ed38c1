//! Convolutions of small planes with few channels, some images abreast: each is a lane of every vector.
//!
//! ```text
//! out[o][pixel · lanes + image] = start[o] + Σ_t weights[t][o] · data[pixel · lanes + steps[t] + image]
//! ```
//!
//! Rows of 10 pixels fill two vectors of 8 to 62 %; images fill them whatever the size of a row. And an output near an edge
//! needs no products with zeros outside, which a gradient in the input has as many of as others where the kernel is half as
//! large as the plane. For that the images of a block are transposed on their way in and out.

mod planes;

use super::ConvElement;
use super::dots::{Dots, Row};
use super::finish::Finish;
use super::geometry::{Dims, Geometry, flat, positions, volume};
use super::level::Levels;
use super::pass::{Pass, Phase};
use super::planes::Images;
use super::spread::side_by_side;
use super::tiles::{Class, Panels, Spot, Tiles, per_row};
use crate::Result;
use crate::cpu::isa::{Isa, isa};
use crate::cpu::memory::Memory;
use crate::cpu::threads::SharedMut;
use bytemuck::Zeroable;
use planes::{Planes, cross};
use std::ops::Range;

/// The most values of a block's sources and results: they stay in the second-level cache.
const BLOCK: usize = 1 << 17;

/// Products that take as long as a value on its way in or out.
const MOVE: usize = 8;

/// Vectors that take as long as beginning a row of a gradient in the weight.
const ROW: usize = 3;

/// Images of a block: no fewer than a tile of a transpose has lines.
pub(super) fn lanes<T: ConvElement>(isa: Isa) -> usize {
    T::Sum::lanes(isa).max(8)
}

/// Whether images fill their blocks, and need no widening.
fn fills<T: ConvElement>(n: usize, lanes: usize) -> bool {
    T::NATIVE && n > 0 && 8 * n >= 7 * n.next_multiple_of(lanes)
}

/// Whether this way of a pass is faster than [`direct`](super::direct)'s.
pub(super) fn suits<T: ConvElement>(pass: &Pass) -> bool {
    let isa = isa();
    let (lanes, vector) = (lanes::<T>(isa), T::Sum::lanes(isa));
    let planes = Planes::of_sources(pass, lanes);
    let by_rows = |phase: &Phase| {
        let [d, h, w] = phase.count;
        d * h * per_row(w, vector) * vector * volume(phase.taps.each_ref().map(Vec::len))
    };
    let inside = |phase: &Phase| (0..3).map(|i| planes.products(phase, i)).product::<usize>();
    let of_all = |products: &dyn Fn(&Phase) -> usize| {
        pass.phases.iter().map(products).sum::<usize>() * pass.sources * pass.outs
    };
    let values = pass.sources * volume(planes.dims) + pass.outs * volume(pass.out);
    fills::<T>(pass.n, lanes)
        && lanes * values <= BLOCK
        && 10 * of_all(&by_rows) > 11 * (of_all(&inside) + MOVE * values)
}

/// A phase with everything that does not depend on the images.
struct Prepared<T: ConvElement> {
    /// The weights of each group.
    panels: Vec<Panels<T::Acc>>,
    /// The offsets of the taps in the sources.
    steps: Vec<usize>,
    classes: Vec<Class>,
}

impl<T: ConvElement> Prepared<T> {
    fn new(pass: &Pass, phase: &Phase, planes: &Planes, weight: &[T], isa: Isa) -> Self {
        let counts = phase.taps.each_ref().map(Vec::len);
        // Source channels innermost, so that neighbouring taps are one stretch.
        let taps = || positions(counts).flat_map(|at| (0..pass.sources).map(move |source| (at, source)));
        let weights: Vec<usize> = taps()
            .map(|(at, source)| {
                let index = std::array::from_fn(|i| phase.taps[i][at[i]].index);
                source * pass.weight_source + flat(pass.kernel, index)
            })
            .collect();
        let start = planes.at([0; 3]);
        let steps = taps().map(|(at, source)| {
            let offset = planes.at(std::array::from_fn(|i| phase.taps[i][at[i]].offset));
            offset - start + source * planes.pitch
        });
        let panels = (0..pass.groups).map(|group| {
            let first = group * pass.outs * pass.sources * volume(pass.kernel);
            Panels::new(pass.outs, weights.len(), |o, t| {
                weight[first + o * pass.weight_out + weights[t]].widen()
            })
        });
        Prepared {
            panels: panels.collect(),
            steps: steps.collect(),
            classes: classes(pass, phase, planes, T::Sum::lanes(isa)),
        }
    }
}

/// The outputs of a phase by the taps that lead into the planes.
fn classes(pass: &Pass, phase: &Phase, planes: &Planes, vector: usize) -> Vec<Class> {
    let along = |i: usize| {
        let mut sets: Vec<(Range<usize>, Vec<usize>)> = Vec::new();
        for j in 0..phase.count[i] {
            let taps = planes.inside(phase, i, j);
            match sets.iter_mut().find(|set| set.0 == taps) {
                Some(set) => set.1.push(j),
                None => sets.push((taps, vec![j])),
            }
        }
        sets
    };
    let sets = [along(0), along(1), along(2)];
    let counts = phase.taps.each_ref().map(Vec::len);
    let of_sets = |at: Dims| {
        let [d, h, w] = [&sets[0][at[0]], &sets[1][at[1]], &sets[2][at[2]]];
        let mut steps: Vec<Range<usize>> = Vec::new();
        for (i, j) in d.0.clone().flat_map(|i| h.0.clone().map(move |j| (i, j))) {
            let row = (i * counts[1] + j) * counts[2];
            let taps = (row + w.0.start) * pass.sources..(row + w.0.end) * pass.sources;
            match steps.last_mut() {
                Some(last) if last.end == taps.start => last.end = taps.end,
                _ => steps.push(taps),
            }
        }
        let spot = |at: Dims| {
            let at = [d.1[at[0]], h.1[at[1]], w.1[at[2]]];
            let from = planes.at(std::array::from_fn(|i| at[i] * phase.stride[i]));
            let to = flat(pass.out, std::array::from_fn(|i| phase.start[i] + at[i] * phase.step[i]));
            (0..planes.lanes / vector)
                .map(move |i| Spot { from: from + i * vector, to: to * planes.lanes + i * vector })
        };
        Class { spots: positions([d.1.len(), h.1.len(), w.1.len()]).flat_map(spot).collect(), steps }
    };
    positions(sets.each_ref().map(Vec::len)).map(of_sets).collect()
}

/// Runs a pass; operands as for [`correlate::run`](super::correlate::run), the images in row-major order.
pub(super) fn run<T: ConvElement>(
    pass: &Pass,
    images: &Images<T>,
    weight: &[T],
    finish: Finish<T>,
    out: &mut [T],
) -> Result<()> {
    let (isa, plane) = (isa(), volume(pass.out));
    let lanes = lanes::<T>(isa);
    let planes = Planes::of_sources(pass, lanes);
    let prepared: Vec<Prepared<T>> =
        pass.phases.iter().map(|phase| Prepared::new(pass, phase, &planes, weight, isa)).collect();
    let start: Vec<T::Acc> = match finish.bias {
        Some(bias) => bias.iter().map(|b| b.widen()).collect(),
        None => vec![T::Acc::zeroed(); pass.groups * pass.outs],
    };
    let out = SharedMut::new(out);
    let size = pass.outs * plane;
    side_by_side(pass.n.div_ceil(lanes) * pass.groups, pass.products().saturating_mul(lanes), |unit| {
        let (first, group) = (unit / pass.groups * lanes, unit % pass.groups);
        let block = first..pass.n.min(first + lanes);
        let sources = planes.len(pass.sources, pass.frame.dims);
        let mut memory = Memory::new((sources + size * lanes) * size_of::<T::Acc>())?;
        let (data, sums) = memory.as_mut_slice::<T::Acc>()[..sources + size * lanes].split_at_mut(sources);
        planes.fill(images, &block, group * pass.sources..(group + 1) * pass.sources, isa, data);
        let start = &start[group * pass.outs..][..pass.outs];
        for Prepared { panels, steps, classes } in &prepared {
            let (panels, to) = (&panels[group], sums.as_mut_ptr());
            // SAFETY: the sums have a place for each output of each channel and image.
            let tiles = unsafe { Tiles::in_classes(data, steps, panels, start, classes, to, plane * lanes) };
            T::Acc::run(isa, tiles);
        }
        let of_image = |n: usize| (n * pass.groups + group) * size;
        // SAFETY: the outputs of a group of each image of the block are inside the result, and belong to this unit.
        unsafe {
            let (to, next) = (out.as_mut_ptr().add(of_image(first)), pass.groups * size);
            cross::<T>(isa, (to, next), (sums.as_ptr().cast(), lanes as isize), [size, block.len()]);
        }
        for n in block {
            // SAFETY: as above.
            let outputs = unsafe { out.slice(of_image(n)..of_image(n) + size) };
            finish.complete(isa, outputs, of_image(n));
        }
        Ok(())
    })
}

/// Whether this way of a gradient in the weight is faster than [`direct`](super::direct)'s.
pub(super) fn suits_gradient<T: ConvElement>(g: &Geometry) -> bool {
    let isa = isa();
    let (lanes, vector) = (lanes::<T>(isa), T::Sum::lanes(isa));
    let by_rows = (per_row(g.y[2], vector) + ROW) * vector * g.y[0] * g.y[1];
    let frame = Pass::forward(g).frame.dims;
    let values = g.c * volume(frame) + g.k * volume(g.y);
    let products = g.c * g.k * volume(g.w);
    // Single channels have a way of their own.
    g.k * g.c > 1
        && fills::<T>(g.n, lanes)
        && lanes * values <= BLOCK
        && 10 * by_rows * products > 11 * (volume(g.y) * products + MOVE * values)
}

/// Adds the sums over some images of a group, which are in row-major order, to `sums`, a vector for each of `[k, c, kernel]`.
pub(super) fn grad_weight<T: ConvElement>(
    g: &Geometry,
    [x, grad]: [&Images<T>; 2],
    group: usize,
    images: Range<usize>,
    isa: Isa,
    sums: &mut [T::Acc],
) -> Result<()> {
    let lanes = lanes::<T>(isa);
    let pass = Pass::forward(g);
    let of_x = Planes::of_sources(&pass, lanes);
    let of_grad = Planes::new([0; 3], [0; 3], g.y, lanes);
    let taps = |c: usize| positions(g.w).map(move |tap| (c, tap));
    let steps: Vec<usize> = (0..g.c)
        .flat_map(taps)
        .map(|(c, tap)| c * of_x.pitch + of_x.at(std::array::from_fn(|i| tap[i] * g.dilation[i])))
        .collect();
    // Pixels that follow each other in both are a row.
    let along = if g.stride[2] == 1 { g.y[2] } else { 1 };
    let rows: Vec<Row> = positions([g.y[0], g.y[1], g.y[2] / along.max(1)])
        .map(|j| {
            let j = [j[0], j[1], j[2] * along];
            Row { x: of_x.at(std::array::from_fn(|i| j[i] * g.stride[i])), grad: of_grad.at(j) }
        })
        .collect();
    let lens = [of_x.len(g.c, pass.frame.dims), of_grad.len(g.k, g.y)];
    let mut memory = Memory::new((lens[0] + lens[1]) * size_of::<T::Acc>())?;
    let (of_sources, of_grads) = memory.as_mut_slice::<T::Acc>()[..lens[0] + lens[1]].split_at_mut(lens[0]);
    for first in images.clone().step_by(lanes) {
        let block = first..images.end.min(first + lanes);
        of_x.fill(x, &block, group * g.c..(group + 1) * g.c, isa, of_sources);
        of_grad.fill(grad, &block, group * g.k..(group + 1) * g.k, isa, of_grads);
        let dots = Dots {
            x: of_sources,
            grad: of_grads,
            plane: of_grad.pitch,
            outs: g.k,
            steps: &steps,
            rows: &rows,
            width: along * lanes,
            sums: &mut *sums,
        };
        T::Acc::run(isa, dots);
    }
    Ok(())
}
