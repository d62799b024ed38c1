//! Planes of images as kernels read them: zeros around them, contiguous rows, in the type that sums are in.

use super::deal::{Deal, Lines};
use super::geometry::{Dims, volume};
use super::level::Levels;
use crate::cpu::gemm::GemmElement;
use crate::cpu::isa::isa;
use crate::cpu::storage::memory;
use crate::cpu::threads::parallel_chunks_mut;
use crate::{Scalar, Tensor};
use bytemuck::Zeroable;

/// Images in memory, of any strides.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, T> {
    /// All of the memory.
    pub data: &'a [T],
    offset: isize,
    /// From image to image.
    pub image: isize,
    /// From channel to channel.
    pub channel: isize,
    /// Along the planes.
    pub along: [isize; 3],
    /// The size of a plane.
    pub dims: Dims,
}

impl<'a, T: Scalar> Images<'a, T> {
    /// The images of a tensor `[n, c, spatial…]`.
    pub(super) fn new(x: &'a Tensor) -> Self {
        let (layout, missing) = (x.layout(), 5 - x.rank());
        let along = std::array::from_fn(|i| i.checked_sub(missing).map_or(0, |i| layout.strides()[i + 2]));
        let dims = std::array::from_fn(|i| i.checked_sub(missing).map_or(1, |i| layout.dims()[i + 2]));
        let [image, channel] = [layout.strides()[0], layout.strides()[1]];
        Images { data: memory(x), offset: layout.offset() as isize, image, channel, along, dims }
    }

    /// Images one after the other in `data`, `channels` dense planes each.
    pub(super) fn dense(data: &'a [T], channels: usize, dims: Dims) -> Self {
        let plane = volume(dims) as isize;
        let along = [(dims[1] * dims[2]) as isize, dims[2] as isize, 1];
        Images { data, offset: 0, image: channels as isize * plane, channel: plane, along, dims }
    }

    /// The memory from the first element of a channel of an image on, if it can be read as it is: its values need no
    /// widening, offsets in it are never negative, and neighbours in a row are neighbours in memory.
    pub(super) fn in_place(&self, image: usize, channel: usize) -> Option<&'a [T::Acc]>
    where
        T: GemmElement,
    {
        let forward = self.image >= 0 && self.channel >= 0 && self.along.iter().all(|&s| s >= 0);
        let dense = self.along[2] == 1 || self.dims[2] == 1;
        let start = self.start(image, channel);
        // A native type is its own accumulator.
        (T::NATIVE && forward && dense).then(|| bytemuck::cast_slice(self.data.get(start..).unwrap_or(&[])))
    }

    /// Where a channel of an image starts.
    pub(super) fn start(&self, image: usize, channel: usize) -> usize {
        (self.offset + image as isize * self.image + channel as isize * self.channel) as usize
    }

    /// The element at `start + steps · i` for each `i` below `len`, handed to `f` in order.
    #[inline(always)]
    fn row(&self, start: usize, step: isize, out: &mut [T::Acc])
    where
        T: GemmElement,
    {
        if step == 1 {
            T::widen_slice(&self.data[start..][..out.len()], out);
        } else if step == 2 {
            // Every other element, which the compiler turns into shuffles.
            let values = &self.data[start..][..2 * out.len() - usize::from(!out.is_empty())];
            for (out, value) in out.iter_mut().zip(values.chunks(2)) {
                *out = value[0].widen();
            }
        } else {
            for (i, out) in out.iter_mut().enumerate() {
                *out = self.data[(start as isize + i as isize * step) as usize].widen();
            }
        }
    }
}

/// A frame around planes: how many zeros stand before them and how large they are with all zeros.
///
/// A row is folded by `fold`: columns `0, fold, 2 · fold, …` come first, then `1, fold + 1, …`, so that every `fold`-th
/// column is the neighbour of the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    /// Zeros before each dim; where negative, that many positions are cut off.
    pub lead: [isize; 3],
    /// The size with all zeros.
    pub dims: Dims,
    /// Into how many parts the columns are dealt.
    pub fold: usize,
}

impl Frame {
    /// Columns of one part of a row.
    fn part(&self) -> usize {
        self.dims[2].div_ceil(self.fold)
    }

    /// Values of a framed plane.
    pub(super) fn volume(&self) -> usize {
        volume([self.dims[0], self.dims[1], self.fold * self.part()])
    }

    /// The offset of a position in a framed plane.
    pub(super) fn at(&self, [d, h, w]: Dims) -> usize {
        (d * self.dims[1] + h) * self.fold * self.part() + w % self.fold * self.part() + w / self.fold
    }

    /// Whether the frame adds and moves nothing.
    pub(super) fn is_bare(&self, dims: Dims) -> bool {
        self.fold == 1 && self.lead == [0; 3] && (0..3).all(|i| self.dims[i] <= dims[i])
    }

    /// The part of dim `i` of the plane that lies in the frame: where it starts in the frame, in the plane, its length.
    pub(super) fn overlap(&self, i: usize, size: usize) -> (usize, usize, usize) {
        let to = self.lead[i].max(0).min(self.dims[i] as isize) as usize;
        let from = (-self.lead[i]).max(0).min(size as isize) as usize;
        (to, from, (size - from).min(self.dims[i] - to))
    }

    /// Writes planes `first..` of an image, framed, one after the other.
    pub(super) fn fill<T: Scalar + GemmElement>(
        &self,
        images: &Images<T>,
        image: usize,
        first: usize,
        out: &mut [T::Acc],
    ) where
        T::Acc: Levels,
    {
        let plane = self.volume();
        if plane == 0 {
            return;
        }
        parallel_chunks_mut(out, plane * (8192 / plane).max(1), |at, planes| {
            for (i, plane_out) in planes.chunks_mut(plane).enumerate() {
                self.fill_plane(images, image, first + at * (8192 / plane).max(1) + i, plane_out);
            }
        });
    }

    /// Writes a plane, framed.
    pub(super) fn fill_plane<T: Scalar + GemmElement>(
        &self,
        images: &Images<T>,
        image: usize,
        channel: usize,
        out: &mut [T::Acc],
    ) where
        T::Acc: Levels,
    {
        if self.deals(images) {
            out.fill(T::Acc::zeroed());
            return self.deal_plane(images, image, channel, out);
        }
        self.fill_from(images, image, channel, out, |start, step, row| images.row(start, step, row));
    }

    /// As [`fill_plane`](Self::fill_plane), into the place of another plane in this frame, or of zeros.
    pub(super) fn replace_plane<T: Scalar + GemmElement>(
        &self,
        images: &Images<T>,
        image: usize,
        channel: usize,
        out: &mut [T::Acc],
    ) where
        T::Acc: Levels,
    {
        match self.deals(images) {
            true => self.deal_plane(images, image, channel, out),
            false => self.fill_plane(images, image, channel, out),
        }
    }

    /// Whether rows are dealt in vectors: contiguous ones of a native type, folded in two.
    fn deals<T: Scalar + GemmElement>(&self, images: &Images<T>) -> bool {
        self.fold == 2 && images.along[2] == 1 && T::NATIVE
    }

    /// Writes a plane with contiguous rows of a native type, folded in two, to where zeros frame it.
    fn deal_plane<T: Scalar + GemmElement>(
        &self,
        images: &Images<T>,
        image: usize,
        channel: usize,
        out: &mut [T::Acc],
    ) where
        T::Acc: Levels,
    {
        let [d, h, w]: [_; 3] = std::array::from_fn(|i| self.overlap(i, images.dims[i]));
        if [d.2, h.2, w.2].contains(&0) {
            return;
        }
        let start = images.start(image, channel) as isize + w.1 as isize;
        let columns = (self.at([0, 0, w.0]), Some(if w.2 > 1 { self.at([0, 0, w.0 + 1]) } else { 0 }));
        let row = 2 * self.part();
        let slabs = out.chunks_exact_mut(self.dims[1] * row).skip(d.0).take(d.2);
        for (i, out) in slabs.enumerate() {
            let lines = Lines {
                first: -self.lead[1],
                count: self.dims[1],
                rows: images.dims[1],
                start: start + (d.1 + i) as isize * images.along[0],
                pitch: images.along[1],
                to: row,
            };
            // Native types are their own accumulators.
            let data = bytemuck::cast_slice(images.data);
            let (out, room) = (out.as_mut_ptr(), out.len());
            T::Acc::run(isa(), Deal { data, lines, len: w.2, columns, out, room });
        }
    }

    /// Writes a plane, framed, its values as they are stored.
    pub(super) fn copy_plane<T: Scalar>(
        &self,
        images: &Images<T>,
        image: usize,
        channel: usize,
        out: &mut [T],
    ) {
        self.fill_from(images, image, channel, out, |start, step, row| {
            if step == 1 {
                return row.copy_from_slice(&images.data[start..][..row.len()]);
            }
            for (i, out) in row.iter_mut().enumerate() {
                *out = images.data[(start as isize + i as isize * step) as usize];
            }
        });
    }

    /// Writes a plane, framed; `read` writes the elements at `start + step · i` of the images' memory.
    #[inline(always)]
    fn fill_from<T: Scalar, O: Zeroable + Copy>(
        &self,
        images: &Images<T>,
        image: usize,
        channel: usize,
        out: &mut [O],
        read: impl Fn(usize, isize, &mut [O]),
    ) {
        let [d, h, w]: [_; 3] = std::array::from_fn(|i| self.overlap(i, images.dims[i]));
        let width = self.fold * self.part();
        if [d.2, h.2, w.2].contains(&0) {
            return out.fill(O::zeroed());
        }
        let [sd, sh, sw] = images.along;
        let start = images.start(image, channel) as isize + w.1 as isize * sw;
        for (i, slab) in out.chunks_mut(self.dims[1] * width).enumerate() {
            for (j, row) in slab.chunks_mut(width).enumerate() {
                if !(d.0..d.0 + d.2).contains(&i) || !(h.0..h.0 + h.2).contains(&j) {
                    row.fill(O::zeroed());
                    continue;
                }
                let [i, j] = [i - d.0 + d.1, j - h.0 + h.1].map(|i| i as isize);
                let start = start + i * sd + j * sh;
                if self.fold == 1 {
                    let (before, rest) = row.split_at_mut(w.0);
                    let (inside, after) = rest.split_at_mut(w.2);
                    before.fill(O::zeroed());
                    read(start as usize, sw, inside);
                    after.fill(O::zeroed());
                } else {
                    row.fill(O::zeroed());
                    for (f, part) in row.chunks_mut(self.part()).enumerate() {
                        // Columns `q · fold + f` of the frame that lie in the plane.
                        let q = w.0.saturating_sub(f).div_ceil(self.fold);
                        let end = (w.0 + w.2).saturating_sub(f).div_ceil(self.fold);
                        if q < end {
                            let column = (q * self.fold + f - w.0) as isize;
                            let step = sw * self.fold as isize;
                            read((start + column * sw) as usize, step, &mut part[q..end]);
                        }
                    }
                }
            }
        }
    }

    /// Writes an image with the channels innermost, framed: `[d, h, w, c]`. Rows are not folded.
    pub(super) fn fill_channels_last<T: Scalar + GemmElement>(
        &self,
        images: &Images<T>,
        image: usize,
        channels: usize,
        out: &mut [T::Acc],
    ) {
        const TILE: usize = 8;
        let [d, h, w]: [_; 3] = std::array::from_fn(|i| self.overlap(i, images.dims[i]));
        let row = self.dims[2] * channels;
        out.fill(T::Acc::zeroed());
        if row == 0 {
            return;
        }
        let start = images.start(image, 0) as isize;
        let [sd, sh, sw] = images.along;
        for (i, j) in (0..d.2).flat_map(|i| (0..h.2).map(move |j| (i, j))) {
            let row = &mut out[((d.0 + i) * self.dims[1] + h.0 + j) * row..][..row];
            let row = &mut row[w.0 * channels..(w.0 + w.2) * channels];
            let start = start + (d.1 + i) as isize * sd + (h.1 + j) as isize * sh + w.1 as isize * sw;
            let value = |p: usize, c: usize| {
                images.data[(start + p as isize * sw + c as isize * images.channel) as usize].widen()
            };
            for p in (0..w.2).step_by(TILE) {
                for c in (0..channels).step_by(TILE) {
                    for p in p..w.2.min(p + TILE) {
                        for c in c..channels.min(c + TILE) {
                            row[p * channels + c] = value(p, c);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::conv::geometry::positions;
    use crate::{Device, Result};

    #[test]
    fn a_frame_surrounds_cuts_and_folds() -> Result<()> {
        let x = Tensor::arange(1, 1 + 2 * 3 * 4 * 5, 1, &Device::cpu())?.to_dtype(crate::DType::F32)?;
        let x = x.reshape([2, 3, 4, 5])?;
        let views = [x.clone(), x.permute([0, 1, 3, 2])?, x.permute([0, 2, 3, 1])?];
        for view in &views {
            for (lead, dims) in [([1, 2], [7, 9]), ([0, 0], [3, 2]), ([-1, -2], [3, 4]), ([-9, 9], [2, 3])] {
                for fold in [1, 2, 3] {
                    let frame = Frame { lead: [0, lead[0], lead[1]], dims: [1, dims[0], dims[1]], fold };
                    let images = Images::<f32>::new(view);
                    let plain = view.copy()?.to_vec::<f32>()?;
                    let [_, c, h, w] = view.dims()[..] else { unreachable!("four dims") };
                    let mut out = vec![f32::NAN; frame.volume() * c];
                    frame.fill(&images, 1, 0, &mut out);
                    let mut last = vec![f32::NAN; volume(frame.dims) * c];
                    frame.fill_channels_last(&images, 1, c, &mut last);
                    for at in positions(frame.dims) {
                        for channel in 0..c {
                            let i = (at[1] as isize - lead[0]) as usize;
                            let j = (at[2] as isize - lead[1]) as usize;
                            let inside = i < h && j < w;
                            let expected = if inside { plain[((c + channel) * h + i) * w + j] } else { 0.0 };
                            assert_eq!(out[channel * frame.volume() + frame.at(at)], expected);
                            assert_eq!(last[(at[1] * dims[1] + at[2]) * c + channel], expected);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn columns_dealt_by_vectors_are_those_dealt_one_by_one() -> Result<()> {
        let x = Tensor::arange(1, 1 + 2 * 2 * 3 * 5 * 41, 1, &Device::cpu())?.to_dtype(crate::DType::F32)?;
        let x = x.reshape([2, 2, 3, 5, 41])?;
        // The same values, no neighbours in memory.
        let apart = x.transpose(3, 4)?.contiguous()?.transpose(3, 4)?;
        for lead in [[0, 0, 0], [1, 2, 3], [-1, -1, -5], [4, 0, 1], [0, -6, 2]] {
            for dims in [[5, 8, 50], [3, 5, 41], [2, 1, 12], [1, 3, 1]] {
                let frame = Frame { lead, dims, fold: 2 };
                let [mut dealt, mut expected] =
                    [vec![f32::NAN; frame.volume()], vec![f32::NAN; frame.volume()]];
                frame.fill_plane(&Images::<f32>::new(&x), 1, 1, &mut dealt);
                frame.fill_plane(&Images::<f32>::new(&apart), 1, 1, &mut expected);
                assert_eq!(dealt, expected, "{frame:?}");
            }
        }
        Ok(())
    }
}
