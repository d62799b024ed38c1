//! Both operands of the gradient in the weight, as tiles read them.

use super::super::planes::is_bf16;
use super::Gradient;
use crate::Result;
use crate::cpu::conv::ConvElement;
use crate::cpu::conv::geometry::volume;
use crate::cpu::conv::planes::Images;
use crate::cpu::gemm::Scalar;
use crate::cpu::gemm::amx::{BLOCK, Form, Head, Products, Range, Row, factor, one_by_one};
use crate::cpu::memory::Memory;
use crate::cpu::threads::{SharedMut, parallel_for};
use std::ops::Range as Span;
use std::sync::Mutex;

impl Gradient<'_> {
    /// Splits the sources of some images. None if there are numbers that tiles do not multiply.
    pub(super) fn pack_sources<T: ConvElement>(
        &self,
        x: &Images<T>,
        images: &Span<usize>,
        planes: &mut [u16],
    ) -> Result<Option<Head>> {
        let range = self.split_sources(x, images, 1.0, planes)?;
        let head = self.head(range);
        match head.form {
            Form::Raw => return Ok(None),
            Form::Scaled(0) => {}
            Form::Scaled(by) => drop(self.split_sources(x, images, factor(by), planes)?),
        }
        Ok(Some(head))
    }

    fn head(&self, range: Range) -> Head {
        if self.level.products == Products::One { Head::PLAIN } else { range.head() }
    }

    fn split_sources<T: ConvElement>(
        &self,
        x: &Images<T>,
        images: &Span<usize>,
        factor: f32,
        planes: &mut [u16],
    ) -> Result<Range> {
        let (frame, first) = (&self.plan.pass.frame, self.group * self.g.c);
        let (isa, products) = (self.level.isa, self.level.products);
        if is_bf16::<T>() && products == Products::One {
            let fill = |image, channel, out: &mut [u16]| {
                frame.copy_plane(x, images.start + image, first + channel, bytemuck::cast_slice_mut(out));
            };
            return self.split_from(images.len(), fill, planes, |values, parts| {
                parts[0].copy_from_slice(values);
                Range::EMPTY
            });
        }
        let fill = |image, channel, out: &mut [f32]| {
            frame.fill_plane(x, images.start + image, first + channel, bytemuck::cast_slice_mut(out));
        };
        self.split_from(images.len(), fill, planes, |values, parts| {
            one_by_one(isa, products, values, factor, parts)
        })
    }

    /// Splits all channels of some images, which `fill` writes framed, by `split`, row by row.
    fn split_from<O: bytemuck::Pod>(
        &self,
        images: usize,
        fill: impl Fn(usize, usize, &mut [O]) + Sync,
        planes: &mut [u16],
        split: impl Fn(&[O], [&mut [u16]; 3]) -> Range + Sync,
    ) -> Result<Range> {
        let (plan, products) = (&self.plan, self.level.products);
        let (size, row) = (plan.pass.frame.volume(), plan.width * plan.step[1]);
        let part = planes.len() / products.parts();
        let planes = SharedMut::new(planes);
        let ranges = Mutex::new((Range::EMPTY, Ok(())));
        let each = ((1 << 15) / size.max(1) + 1).min(self.g.c);
        parallel_for(images * self.g.c.div_ceil(each), |task| {
            let (image, from) = (task % images, task / images * each);
            let mut range = Range::EMPTY;
            let done = Memory::new(size * size_of::<O>()).map(|mut memory| {
                let framed = &mut memory.as_mut_slice::<O>()[..size];
                for channel in from..self.g.c.min(from + each) {
                    fill(image, channel, framed);
                    let mut split = |values: &[O], at: [usize; 2]| {
                        let to = channel * self.plane + plan.place(self.images, image, at);
                        let parts = std::array::from_fn(|at| {
                            let (to, len) =
                                if at < products.parts() { (to + at * part, values.len()) } else { (0, 0) };
                            // SAFETY: the area of an image in the planes of a channel, in all parts, belongs to one task.
                            unsafe { planes.slice(to..to + len) }
                        });
                        range = range.and(split(values, parts));
                    };
                    if plan.step == [1, 1] {
                        split(framed, [0, 0]);
                        continue;
                    }
                    for (h, values) in framed.chunks_exact(row).enumerate() {
                        values
                            .chunks_exact(plan.width)
                            .enumerate()
                            .for_each(|(w, values)| split(values, [h, w]));
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

    /// Packs the gradient of some images, with a head for every 32 channels. None if there are numbers that tiles do not multiply.
    pub(super) fn pack_gradient<T: ConvElement>(
        &self,
        grad: &[T],
        images: &Span<usize>,
        rows: &mut [Row],
    ) -> Result<Option<Vec<Head>>> {
        let panel = self.blocks * self.packer.rows();
        let mut heads = vec![Head::PLAIN; rows.len() / panel];
        let (rows, shared) = (SharedMut::new(rows), SharedMut::new(&mut heads));
        parallel_for(shared.len(), |at| {
            // SAFETY: each panel belongs to one task.
            let (rows, head) =
                unsafe { (rows.slice(at * panel..(at + 1) * panel), shared.slice(at..at + 1)) };
            let fill = |line: usize, from: usize, values: &mut [f32]| {
                self.fill(grad, images, at * BLOCK + line, from, bytemuck::cast_slice_mut(values));
            };
            head[0] = self.head(self.packer.lines(1.0, fill, rows));
            if let Form::Scaled(by) = head[0].form
                && by != 0
            {
                self.packer.lines(factor(by), fill, rows);
            }
        });
        Ok((!heads.iter().any(|head| head.form == Form::Raw)).then_some(heads))
    }

    /// Writes a channel's gradient from a pixel on, as long as `values` is, with zeros between rows and images.
    fn fill<T: ConvElement>(
        &self,
        grad: &[T],
        images: &Span<usize>,
        channel: usize,
        from: usize,
        values: &mut [T::Acc],
    ) {
        let (g, plane) = (self.g, volume(self.g.y));
        values.fill(T::Acc::ZERO);
        if channel >= g.k {
            return;
        }
        let (area, width) = (self.plan.area, self.plan.width);
        let mut at = 0;
        while at < values.len() {
            let (image, y, x) = ((from + at) / area, (from + at) % area / width, (from + at) % width);
            let run = (width - x).min(values.len() - at);
            if image < images.len() && y < g.y[1] && x < g.y[2] {
                let of = (images.start + image) * g.groups * g.k + self.group * g.k + channel;
                let start = of * plane + y * g.y[2] + x;
                let len = run.min(g.y[2] - x);
                T::widen_slice(&grad[start..start + len], &mut values[at..at + len]);
            }
            at += run;
        }
    }
}
