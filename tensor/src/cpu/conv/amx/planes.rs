//! Images as tiles read them.
//!
//! ```text
//! part h:  channels 0, 1 | channels 2, 3 | …      a plane of words for each pair, the first channel in the lower half
//! part m:  …
//! ```
//!
//! A plane is framed by zeros. Where a pass steps over rows or columns, those that are equal modulo the step stand together, in an area of
//! their own, so that the pixels of consecutive outputs are neighbours in any case.

use super::super::ConvElement;
use super::super::geometry::Dims;
use super::super::pass::Pass;
use super::super::planes::Images;
use crate::cpu::gemm::amx::{BLOCK, Form, Head, Level, Products, Range, channels, factor, pairs};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_for};
use crate::{Result, bf16};
use std::any::TypeId;
use std::sync::Mutex;

/// Where everything is in the planes of a group of an image.
pub(super) struct Plan<'a> {
    pub(super) pass: &'a Pass,
    /// The steps over rows and columns.
    pub(super) step: [usize; 2],
    /// Columns of an area.
    pub(super) width: usize,
    /// Words of an area.
    pub(super) area: usize,
    /// Words from a plane to the next.
    pub(super) plane: usize,
    /// Blocks of 16 pairs.
    pub(super) blocks: usize,
    /// Words from a part to the next.
    part: usize,
}

/// The planes of a group of an image.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) words: &'a [u32],
    /// Words from a part to the next.
    pub(super) part: usize,
    pub(super) head: Head,
}

/// Pairs of channels of a block of steps.
const PAIRS: usize = BLOCK / 2;

impl<'a> Plan<'a> {
    /// For a pass that suits.
    pub(super) fn new(pass: &'a Pass) -> Self {
        let step = [pass.phases[0].stride[1], pass.frame.fold];
        let width = pass.frame.dims[2].div_ceil(step[1]);
        let area = pass.frame.dims[1].div_ceil(step[0]) * width;
        let size = area * step[0] * step[1];
        // An odd number of cache lines, so that the 16 rows of a tile are in different sets.
        let plane = (size.div_ceil(16) | 1) * 16;
        let blocks = pass.sources.div_ceil(BLOCK);
        let mut plan = Plan { pass, step, width, area, plane, blocks, part: 0 };
        // How far the last pixels of a phase read, with those that are dropped.
        let mut reach = size;
        for phase in &pass.phases {
            let pixels = ((phase.count[1] - 1) * width + phase.count[2]).next_multiple_of(BLOCK);
            for (h, w) in phase.taps[1].iter().flat_map(|h| phase.taps[2].iter().map(move |w| (h, w))) {
                reach = reach.max(plan.at([0, h.offset, w.offset]) + pixels);
            }
        }
        plan.part = (blocks * PAIRS - 1) * plane + reach;
        plan
    }

    /// The place of a position of the frame in a plane. The place of an output and that of a tap add up.
    pub(super) fn at(&self, [_, h, w]: Dims) -> usize {
        self.place(1, 0, [h, w])
    }

    /// How many areas a plane has.
    pub(super) fn phases(&self) -> usize {
        self.step[0] * self.step[1]
    }

    /// The place of a position of the frame of an image in planes of several images, whose areas of a kind are consecutive.
    pub(super) fn place(&self, images: usize, image: usize, [h, w]: [usize; 2]) -> usize {
        let area = h % self.step[0] * self.step[1] + w % self.step[1];
        (area * images + image) * self.area + h / self.step[0] * self.width + w / self.step[1]
    }

    /// Bytes of all planes.
    pub(super) fn bytes(&self, products: Products) -> usize {
        products.parts() * self.part * size_of::<u32>()
    }

    /// Splits a group of an image into `words`.
    pub(super) fn pack<'w, T: ConvElement>(
        &self,
        level: Level,
        images: &Images<T>,
        image: usize,
        group: usize,
        words: &'w mut [u32],
    ) -> Result<Packed<'w>> {
        let words = &mut words[..level.products.parts() * self.part];
        let range = self.split(level, images, image, group, 1.0, words)?;
        let mut head = Head::PLAIN;
        if level.products != Products::One {
            head = range.head();
            if let Form::Scaled(by) = head.form
                && by != 0
            {
                self.split(level, images, image, group, factor(by), words)?;
            }
        }
        Ok(Packed { words, part: self.part, head })
    }

    /// Splits all channels times a factor. Gives the range of the values.
    fn split<T: ConvElement>(
        &self,
        level: Level,
        images: &Images<T>,
        image: usize,
        group: usize,
        factor: f32,
        words: &mut [u32],
    ) -> Result<Range> {
        let (frame, first) = (&self.pass.frame, group * self.pass.sources);
        if is_bf16::<T>() && level.products == Products::One {
            // Numbers that are their own only part are not looked at.
            let fill = |channel, out: &mut [u16]| {
                frame.copy_plane(images, image, first + channel, bytemuck::cast_slice_mut(out));
            };
            return self.split_from(level.products, fill, words, |rows, words| {
                pairs(level.isa, rows, words[0]);
                Range::EMPTY
            });
        }
        let fill = |channel, out: &mut [f32]| {
            frame.fill_plane(images, image, first + channel, bytemuck::cast_slice_mut(out));
        };
        self.split_from(level.products, fill, words, |rows, words| {
            channels(level.isa, level.products, rows, factor, words)
        })
    }

    /// Splits all channels, which `fill` writes framed, by `split`, pair of rows by pair of rows.
    fn split_from<O: bytemuck::Pod>(
        &self,
        products: Products,
        fill: impl Fn(usize, &mut [O]) + Sync,
        words: &mut [u32],
        split: impl Fn([&[O]; 2], [&mut [u32]; 3]) -> Range + Sync,
    ) -> Result<Range> {
        let (volume, row) = (self.pass.frame.volume(), self.width * self.step[1]);
        let words = SharedMut::new(words);
        let ranges = Mutex::new((Range::EMPTY, Ok(())));
        let group_of = (1 << 14) / volume.max(1) + 1;
        let pairs = self.blocks * PAIRS;
        parallel_for(pairs.div_ceil(group_of), |task| {
            let mut range = Range::EMPTY;
            let done = Memory::new(2 * volume * size_of::<O>()).map(|mut memory| {
                let framed = &mut memory.as_mut_slice::<O>()[..2 * volume];
                for pair in task * group_of..pairs.min((task + 1) * group_of) {
                    for (half, framed) in framed.chunks_exact_mut(volume).enumerate() {
                        match 2 * pair + half {
                            channel if channel < self.pass.sources => fill(channel, framed),
                            _ => framed.fill(O::zeroed()),
                        }
                    }
                    let (first, second) = framed.split_at(volume);
                    for (h, rows) in first.chunks_exact(row).zip(second.chunks_exact(row)).enumerate() {
                        for w in 0..self.step[1] {
                            let part = w * self.width..(w + 1) * self.width;
                            let from = pair * self.plane + self.at([0, h, w]);
                            let words = std::array::from_fn(|part| {
                                let from = if part < products.parts() { from + part * self.part } else { 0 };
                                let len = if part < products.parts() { self.width } else { 0 };
                                // SAFETY: the rows of a pair of channels, in all parts, belong to one task.
                                unsafe { words.slice(from..from + len) }
                            });
                            range = range.and(split([&rows.0[part.clone()], &rows.1[part]], words));
                        }
                    }
                }
            });
            let mut all = ranges.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            all.0 = all.0.and(range);
            if all.1.is_ok() {
                all.1 = done;
            }
        });
        let (range, done) = ranges.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done?;
        Ok(range)
    }
}

/// Whether a type is the one that tiles multiply as it is.
pub(super) fn is_bf16<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<bf16>()
}
