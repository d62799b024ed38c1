//! A [`Pass`] as matrix products: per image and group, `out [outs, pixels] = weights [outs, taps] · im2col [taps, pixels]`.
//!
//! The weights are packed once per call; im2col is never written, only its panels ([`Gathered`]). Planes so small that
//! they would leave vectors half empty share a product with those of the next images.

use super::ConvElement;
use super::finish::Finish;
use super::gather::Gathered;
use super::geometry::{Dims, positions, volume};
use super::pass::{Pass, Phase};
use super::planes::Images;
use super::spread::spread;
use super::weights::Weights;
use crate::Result;
use crate::cpu::gemm::{
    Beta, Bias, Cols, Epilogue, MatMut, MatRef, Operand, PackSource, Packed, Side, gemm_with,
};
use crate::cpu::isa::isa;
use crate::cpu::memory::Memory;
use crate::cpu::threads::SharedMut;

/// Columns that a product should have, and values of the widest vector, so that its vectors are filled.
const COLUMNS: usize = 64;
const VECTOR: usize = 16;

/// How many of `n` images share a product: so many that they have enough pixels, of which few are in a vector that is not full.
fn per_product(plane: usize, n: usize) -> usize {
    let fills = |images: &usize| {
        let (columns, padded) = (images * plane, (images * plane).next_multiple_of(VECTOR));
        columns >= COLUMNS * 3 / 4 && VECTOR * (padded - columns) <= padded
    };
    let enough = COLUMNS.div_ceil(plane.max(1));
    if plane >= 4 * COLUMNS { 1 } else { (1..=enough.max(4)).find(fills).unwrap_or(enough).min(n) }
}

/// A phase with everything that does not depend on the image.
struct Prepared<'a> {
    phase: &'a Phase,
    /// The offsets of the taps in the sources.
    taps: Vec<usize>,
    /// The offsets of the pixels of all images of a product.
    pixels: Vec<usize>,
}

impl Prepared<'_> {
    /// Whether some of the pixels of all source channels are a matrix as they lie: each channel has one tap, and each pixel follows
    /// the one before. Such a matrix is packed in longer runs than tables of offsets allow.
    fn is_matrix(&self, pass: &Pass, pixels: &[usize]) -> bool {
        let follow = |two: &[usize]| two[0] + 1 == two[1];
        !self.taps.is_empty()
            && self.taps.len() == pass.sources
            && pixels.first() == Some(&0)
            && pixels.windows(2).all(follow)
    }
}

/// The weights of all groups, for each phase.
fn pack<T: ConvElement>(pass: &Pass, weight: &[T]) -> Vec<Vec<Packed<T::Acc>>> {
    let of_phase = |phase| {
        let weights = pass.taps(phase, 0, |_| 0).0;
        let pack = |group: usize| {
            let first = group * pass.outs * pass.sources * volume(pass.kernel);
            let lines: Vec<usize> = (0..pass.outs).map(|o| first + o * pass.weight_out).collect();
            Packed::with_results::<T>(Side::A, &Gathered::new(weight, &lines, &weights))
        };
        (0..pass.groups).map(pack).collect()
    };
    pass.phases.iter().map(of_phase).collect()
}

/// Runs a pass.
///
/// # Shapes
/// - images: `[n, groups · sources, …]`, the bias of `finish`: `[groups · outs]`, its residual as `out`
/// - out: `[n, groups · outs, …]`, row-major
pub(super) fn run<T: ConvElement>(
    pass: &Pass,
    images: &Images<T>,
    weight: Weights<T>,
    finish: Finish<T>,
    out: &mut [T],
) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let isa = isa();
    let plane = volume(pass.out);
    let per_product = per_product(plane, pass.n);
    let sources = Sources::new(pass, images);
    let names = ["panels of a convolution", "panels of a convolution's gradient"];
    let packed = weight.kept(names, pass, || pack(pass, weight.values));
    let prepare = |phase| {
        let taps = pass.taps(phase, sources.channel, |p| sources.at(p)).1;
        let pixels = pass.pixels(phase, |p| sources.at(p));
        let pixels = (0..per_product).flat_map(|n| pixels.iter().map(move |p| n * sources.image + p));
        Prepared { phase, pixels: pixels.collect(), taps }
    };
    let prepared: Vec<Prepared> = pass.phases.iter().map(prepare).collect();

    let out = SharedMut::new(out);
    let units = pass.n.div_ceil(per_product) * pass.groups;
    spread(units, pass.products().saturating_mul(per_product), |unit| {
        let (first, group) = (unit / pass.groups * per_product, unit % pass.groups);
        let images = first..pass.n.min(first + per_product);
        sources.read(images.clone(), group, |data| {
            for (prepared, weights) in prepared.iter().zip(&packed.value) {
                let bias = match finish.bias {
                    Some(bias) => Bias::PerRow(&bias[group * pass.outs..][..pass.outs]),
                    None => Bias::None,
                };
                let epilogue = Epilogue { bias, activation: finish.in_product() };
                let pixels = &prepared.pixels[..images.len() * volume(prepared.phase.count)];
                let (gathered, planes);
                let columns: &dyn PackSource<T::Acc> = if prepared.is_matrix(pass, pixels) {
                    let strides = [sources.channel as isize, 1];
                    planes = Cols(MatRef::new(data, prepared.taps[0], [pass.sources, pixels.len()], strides));
                    &planes
                } else {
                    gathered = Gathered::new(data, pixels, &prepared.taps);
                    &gathered
                };
                let product = |c: MatMut<T>| {
                    let (a, b) = (Operand::Packed(&weights[group]), Operand::Source(columns));
                    gemm_with(a, b, c, Beta::Zero, epilogue);
                };
                let of_image = |n: usize| {
                    let start = (n * pass.groups + group) * pass.outs * plane;
                    // SAFETY: the outputs of one image and group belong to one unit, which reaches them here only.
                    unsafe { out.slice(start..start + pass.outs * plane) }
                };
                if images.len() == 1 && pass.is_dense() {
                    product(MatMut::row_major(of_image(first), pass.outs, plane));
                } else {
                    let mut scratch = Memory::new(pass.outs * pixels.len() * size_of::<T>())?;
                    let sums = &mut scratch.as_mut_slice::<T>()[..pass.outs * pixels.len()];
                    product(MatMut::row_major(sums, pass.outs, pixels.len()));
                    for (i, n) in images.clone().enumerate() {
                        scatter(pass, prepared.phase, sums, i, images.len(), of_image(n));
                    }
                }
            }
            if !finish.is_simple() {
                for n in images {
                    let start = (n * pass.groups + group) * pass.outs * plane;
                    // SAFETY: as above.
                    let outputs = unsafe { out.slice(start..start + pass.outs * plane) };
                    finish.complete(isa, outputs, start);
                }
            }
            Ok(())
        })
    })
}

/// Writes the sums of image `i` of `images`, `[outs, images, pixels]`, to their places in the output planes.
fn scatter<T: Copy>(pass: &Pass, phase: &Phase, sums: &[T], i: usize, images: usize, out: &mut [T]) {
    let [rows, width] = [phase.count[0] * phase.count[1], phase.count[2]];
    let (pixels, plane) = (rows * width, volume(pass.out));
    for (sums, out) in sums.chunks_exact(images * pixels).zip(out.chunks_exact_mut(plane)) {
        let sums = &sums[i * pixels..][..pixels];
        for (sums, j) in sums.chunks_exact(width).zip(positions([phase.count[0], phase.count[1], 1])) {
            let at: Dims = std::array::from_fn(|i| phase.start[i] + j[i] * phase.step[i]);
            let row = &mut out[(at[0] * pass.out[1] + at[1]) * pass.out[2] + at[2]..];
            match phase.step[2] {
                1 => row[..width].copy_from_slice(sums),
                step => row.iter_mut().step_by(step).zip(sums).for_each(|(out, sum)| *out = *sum),
            }
        }
    }
}

/// The source planes of a pass: in place where they can be read so, else framed copies.
pub(super) struct Sources<'a, T: ConvElement> {
    pass: &'a Pass,
    images: &'a Images<'a, T>,
    in_place: bool,
    /// From channel to channel.
    pub channel: usize,
    /// From image to image.
    pub image: usize,
}

impl<'a, T: ConvElement> Sources<'a, T> {
    pub(super) fn new(pass: &'a Pass, images: &'a Images<T>) -> Self {
        let in_place = pass.frame.is_bare(images.dims) && images.in_place(0, 0).is_some();
        let (channel, image) = match in_place {
            true => (images.channel as usize, images.image as usize),
            false => (pass.frame.volume(), pass.frame.volume() * pass.sources),
        };
        Sources { pass, images, in_place, channel, image }
    }

    /// The offset of a position of the frame in a plane.
    pub(super) fn at(&self, p: Dims) -> usize {
        match self.in_place {
            true => p.iter().zip(self.images.along).map(|(p, s)| p * s as usize).sum(),
            false => self.pass.frame.at(p),
        }
    }

    /// Hands the planes of one group of some images to `f`.
    pub(super) fn read(
        &self,
        images: std::ops::Range<usize>,
        group: usize,
        f: impl FnOnce(&[T::Acc]) -> Result<()>,
    ) -> Result<()> {
        let channel = group * self.pass.sources;
        if self.in_place {
            return f(self.images.in_place(images.start, channel).unwrap_or(&[]));
        }
        // A vector's worth of room at the end lets kernels read whole vectors.
        let mut copies = Memory::new((images.len() * self.image + SLACK) * size_of::<T::Acc>())?;
        let copies = &mut copies.as_mut_slice::<T::Acc>()[..images.len() * self.image + SLACK];
        for (i, n) in images.enumerate() {
            self.pass.frame.fill(self.images, n, channel, &mut copies[i * self.image..(i + 1) * self.image]);
        }
        f(copies)
    }
}

/// Values after the last framed plane.
pub(super) const SLACK: usize = 64;
