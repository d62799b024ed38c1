//! The gradient in the weight on tiles: for each tap, the product of the sources and the gradient over all pixels.
//!
//! ```text
//! dW[k][c][tap] = Σ_pixels x[c][pixel + offset(tap)] · dy[k][pixel]
//! ```
//!
//! Sources are split into framed planes of single `bf16` parts, a plane per channel; there a tile of 16 channels by 32 pixels is
//! loaded from where a tap reads it, at any address. The gradient is packed once for all taps, in rows as long as those of the
//! planes, with zeros where they are longer than its own. So nothing is gathered, and each value is split once.
//!
//! A few images at a time stand one after the other in the planes. Their sums are added in order.

mod pack;

use super::super::ConvElement;
use super::super::geometry::{Geometry, volume};
use super::super::pass::Pass;
use super::super::planes::Images;
use super::super::spread::spread;
use super::planes::Plan;
use super::{Place, Square};
use crate::Result;
use crate::cpu::gemm::Side;
use crate::cpu::gemm::amx::{BLOCK, Correlator, Head, Level, LinesJob, Packer, Row, Way, scale};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_chunks_mut, parallel_for};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Pixels that are taken at a time, with those between rows, unless one image has more.
const PIXELS: usize = 4096;

/// Blocks of pixels that are multiplied for all taps before the next: both operands stay in the second-level cache.
const DEPTH: usize = 64;

/// Panels from which each thread has some.
const MANY: usize = 16;

/// Whether tiles should compute the gradient in the weight.
pub(in super::super) fn suits(g: &Geometry) -> bool {
    let padded = |lines: usize| lines.next_multiple_of(BLOCK);
    // Half of the tiles may be empty, and more than half of the pixels in a row of the planes.
    let fills = padded(g.c) * padded(g.k) <= 2 * g.c * g.k;
    if !fills
        || g.c.min(g.k) == 0
        || (g.x[0], g.w[0], g.y[0]) != (1, 1, 1)
        || g.padding[0] != 0
        || volume(g.y) == 0
        || g.n == 0
    {
        return false;
    }
    let pass = Pass::forward(g);
    5 * volume(g.y) >= 2 * Plan::new(&pass).area
}

/// Computes the gradient, if tiles can multiply all of its operands.
///
/// # Shapes
/// - grad: `[n, groups · k, y…]` in row-major order, x: `[n, groups · c, x…]`
/// - out: `[groups · k, c, kernel…]` in row-major order
pub(in super::super) fn run<T: ConvElement>(
    level: Level,
    g: &Geometry,
    grad: &[T],
    x: &Images<T>,
    out: &mut [T],
) -> Result<bool> {
    let pass = Pass::forward(g);
    let (size, refused) = (g.k * g.c * volume(g.w), AtomicBool::new(false));
    let out = SharedMut::new(out);
    spread(g.groups, g.products() / g.groups, |group| {
        if refused.load(Relaxed) {
            return Ok(());
        }
        // SAFETY: the weights of a group belong to its unit.
        let out = unsafe { out.slice(group * size..(group + 1) * size) };
        if !Gradient::new(level, g, &pass, group).run(grad, x, out)? {
            refused.store(true, Relaxed);
        }
        Ok(())
    })?;
    Ok(!refused.into_inner())
}

/// The gradient of a group.
struct Gradient<'a> {
    level: Level,
    g: &'a Geometry,
    plan: Plan<'a>,
    group: usize,
    packer: Packer,
    /// Images that are taken at a time.
    images: usize,
    /// Blocks of pixels of so many.
    blocks: usize,
    /// Places in a plane, of which each image has an area in each set of rows and columns that a stride keeps apart.
    plane: usize,
    /// Where each tap reads the first pixel.
    taps: Vec<usize>,
}

impl<'a> Gradient<'a> {
    fn new(level: Level, g: &'a Geometry, pass: &'a Pass, group: usize) -> Self {
        let plan = Plan::new(pass);
        let images = (PIXELS / plan.area).clamp(1, g.n);
        let pixels = (images - 1) * plan.area + (g.y[1] - 1) * plan.width + g.y[2];
        let phase = &pass.phases[0];
        let taps: Vec<usize> = phase.taps[1]
            .iter()
            .flat_map(|h| phase.taps[2].iter().map(move |w| (h.offset, w.offset)))
            .map(|(h, w)| plan.place(images, 0, [h, w]))
            .collect();
        let blocks = pixels.div_ceil(BLOCK);
        let reach = taps.iter().max().unwrap_or(&0) + blocks * BLOCK;
        // An odd number of cache lines, so that the 16 planes of a tile are in different sets.
        let plane = (reach.max(plan.phases() * images * plan.area).div_ceil(32) | 1) * 32;
        let packer = Packer { products: level.products, side: Side::B, isa: level.isa };
        Gradient { level, g, plan, group, packer, images, blocks, plane, taps }
    }

    fn run<T: ConvElement>(&self, grad: &[T], x: &Images<T>, out: &mut [T]) -> Result<bool> {
        let (g, parts) = (self.g, self.level.products.parts());
        let [outs, sources] = [g.k, g.c].map(|lines| lines.div_ceil(BLOCK));
        let part = sources * BLOCK * self.plane;
        let mut planes = Memory::new(parts * part * size_of::<u16>())?;
        let planes = &mut planes.as_mut_slice::<u16>()[..parts * part];
        // What lies between the areas, and behind the last, is read times zero, and never written again.
        planes.fill(0);
        let panel = self.blocks * self.packer.rows();
        let mut rows = Memory::new(outs * panel * size_of::<Row>())?;
        let rows = &mut rows.as_mut_slice::<Row>()[..outs * panel];
        let squares = outs * sources * self.taps.len();
        let mut sums = Memory::new(squares * BLOCK * BLOCK * size_of::<f32>())?;
        let sums = &mut sums.as_mut_slice::<f32>()[..squares * BLOCK * BLOCK];
        for first in (0..g.n).step_by(self.images) {
            let images = first..g.n.min(first + self.images);
            let Some(x_head) = self.pack_sources(x, &images, planes)? else { return Ok(false) };
            let Some(heads) = self.pack_gradient(grad, &images, rows)? else { return Ok(false) };
            if heads.iter().any(|head| x_head.way(*head) == Way::Strict) {
                return Ok(false);
            }
            self.add(planes, x_head, rows, &heads, first > 0, sums);
        }
        self.write(sums, out);
        Ok(true)
    }

    /// Adds the products of the packed images to the sums: squares of sources by outputs for each tap, or writes them.
    fn add(&self, planes: &[u16], x_head: Head, rows: &[Row], heads: &[Head], add: bool, sums: &mut [f32]) {
        let (parts, taps) = (self.level.products.parts(), self.taps.len());
        let (part, panel) = (planes.len() / parts, rows.len() / heads.len());
        let sources = part / self.plane / BLOCK;
        // Where panels are few, each tap is a task.
        let few = heads.len() * sources < MANY;
        let (tasks, each) = if few { (taps, 1) } else { (1, taps) };
        let sums = Place(sums.as_mut_ptr());
        parallel_for(heads.len() * sources * tasks, |task| {
            let (at, first_tap) = (task / tasks, task % tasks * each);
            let (out, source) = (at / sources, at % sources);
            let correlator = Correlator::new(self.level);
            let mut square = Square([[0.0; BLOCK]; BLOCK]);
            for first in (0..self.blocks).step_by(DEPTH) {
                let blocks = DEPTH.min(self.blocks - first);
                for tap in first_tap..first_tap + each {
                    let from = source * BLOCK * self.plane + self.taps[tap] + first * BLOCK;
                    let to = sums.get().wrapping_add((at * taps + tap) * BLOCK * BLOCK);
                    let way = x_head.way(heads[out]);
                    let (c, adds) = match way {
                        Way::Tiles => (to, add || first > 0),
                        _ => (square.0.as_mut_ptr().cast(), false),
                    };
                    let job = LinesJob {
                        planes: planes[from..].as_ptr(),
                        part: part * size_of::<u16>(),
                        row: self.plane * size_of::<u16>(),
                        b: rows[out * panel + first * self.packer.rows()..].as_ptr(),
                        blocks,
                        c,
                        add: adds,
                    };
                    // SAFETY: the planes of each part reach as far as the last tap reads the last block (`new`), and there are
                    // planes for 32 channels of each panel; B has `blocks` blocks from there on; C is a square of this task.
                    unsafe { correlator.add_lines(&job) };
                    if let Way::ScaledTiles(by) = way {
                        // SAFETY: the square of sums belongs to this task.
                        let to = unsafe { std::slice::from_raw_parts_mut(to, BLOCK * BLOCK) };
                        for (sum, value) in to.iter_mut().zip(square.0.as_flattened()) {
                            let value = scale(*value, by);
                            *sum = if add || first > 0 { *sum + value } else { value };
                        }
                    }
                }
            }
        });
    }

    /// Writes `out[k][c][tap]` from squares of sources by outputs.
    fn write<T: ConvElement>(&self, sums: &[f32], out: &mut [T]) {
        let (g, taps) = (self.g, self.taps.len());
        let (slab, sources) = (BLOCK * g.c * taps, g.c.div_ceil(BLOCK));
        parallel_chunks_mut(out, slab, |panel, out| {
            for (k, out) in out.chunks_exact_mut(g.c * taps).enumerate() {
                for (c, out) in out.chunks_exact_mut(taps).enumerate() {
                    let first = (panel * sources + c / BLOCK) * taps * BLOCK * BLOCK + c % BLOCK * BLOCK + k;
                    for (tap, value) in out.iter_mut().enumerate() {
                        // Tiles are for types that are summed in `f32`.
                        *value = T::narrow(bytemuck::cast(sums[first + tap * BLOCK * BLOCK]));
                    }
                }
            }
        });
    }
}
