//! The transforms of Winograd's convolution, a vector of tiles at a time.

use crate::cpu::conv::level::Kernel;
use crate::cpu::gemm::Vector;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// `Bᵀ d B` of some rows of tiles of one channel.
pub(super) struct Inputs<'a> {
    /// Two rows of inputs per row of tiles, and two more: in each, the even columns and then the odd ones, `width + 1` of
    /// either. A vector may run on after the last.
    pub rows: &'a [f32],
    /// Rows of tiles.
    pub count: usize,
    /// Tiles of a row.
    pub width: usize,
    /// The tiles one after the other, for each position. A vector may run on after the last.
    pub out: &'a mut [f32],
    /// From position to position.
    pub position: usize,
}

impl Kernel<f32> for Inputs<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = f32>>(self) {
        let (half, count, width) = (self.width + 1, self.count, self.width);
        let vectors = width.next_multiple_of(V::LANES);
        assert!(
            (2 * count + 1) * 2 * half + half + 1 + vectors <= self.rows.len(),
            "the inputs are all there"
        );
        assert!(
            15 * self.position + (count - 1) * width + vectors <= self.out.len(),
            "each tile has a place"
        );
        for row in 0..count {
            for at in (0..width).step_by(V::LANES) {
                // SAFETY: the last vector of the last row ends inside the inputs and the results (asserted above).
                unsafe {
                    let d: [[V; 4]; 4] = std::array::from_fn(|i| {
                        let even = self.rows.as_ptr().add((2 * row + i) * 2 * half + at);
                        [
                            V::load(even),
                            V::load(even.add(half)),
                            V::load(even.add(1)),
                            V::load(even.add(half + 1)),
                        ]
                    });
                    // Along the columns, then along the rows.
                    let columns: [[V; 4]; 4] =
                        std::array::from_fn(|j| input([d[0][j], d[1][j], d[2][j], d[3][j]]));
                    for i in 0..4 {
                        let row_of = input([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                        for (j, value) in row_of.into_iter().enumerate() {
                            let to = (i * 4 + j) * self.position + row * width + at;
                            value.store(self.out.as_mut_ptr().add(to));
                        }
                    }
                }
            }
        }
    }
}

/// `Bᵀ` times a column.
///
/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
pub(super) unsafe fn input<V: Vector<Elem = f32>>(d: [V; 4]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe { [minus(d[0], d[2]), d[1].plus(d[2]), minus(d[2], d[1]), minus(d[1], d[3])] }
}

/// `A` times a column.
///
/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
pub(super) unsafe fn gradient<V: Vector<Elem = f32>>(g: [V; 2]) -> [V; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe { [g[0], g[0].plus(g[1]), minus(g[0], g[1]), minus(V::zero(), g[1])] }
}

/// `Aᵀ` times a column.
///
/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
unsafe fn output<V: Vector<Elem = f32>>(m: [V; 4]) -> [V; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe { [m[0].plus(m[1]).plus(m[2]), minus(minus(m[1], m[2]), m[3])] }
}

/// # Safety
/// The instructions of `V` exist.
#[inline(always)]
unsafe fn minus<V: Vector<Elem = f32>>(a: V, b: V) -> V {
    // SAFETY: the caller vouches for the instructions.
    unsafe { V::splat(-1.0).times_plus(b, a) }
}

/// `Aᵀ M A + bias` of some rows of tiles, for all channels of a group.
pub(super) struct Outputs<'a> {
    /// `[position, channel, tile]`, from the first tile of the rows on. A vector may run on after the last.
    pub products: &'a [f32],
    /// From position to position.
    pub position: usize,
    /// From channel to channel.
    pub pitch: usize,
    /// Channels.
    pub outs: usize,
    /// Rows of tiles.
    pub count: usize,
    /// Tiles of a row.
    pub width: usize,
    /// One value per channel.
    pub bias: Option<&'a [f32]>,
    /// The output planes, from the first row on.
    pub out: *mut f32,
    /// From plane to plane.
    pub plane: usize,
    /// Rows and columns of outputs: all that the tiles have, or one less.
    pub size: [usize; 2],
    /// Set if an output is not finite.
    pub spoilt: &'a AtomicBool,
}

impl Kernel<f32> for Outputs<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = f32>>(self) {
        let vectors = self.width.next_multiple_of(V::LANES);
        let last = 15 * self.position + (self.outs - 1) * self.pitch + (self.count - 1) * self.width;
        assert!(last + vectors <= self.products.len(), "the products are all there");
        // Even and odd columns of two rows.
        let mut halves = vec![0f32; 4 * vectors];
        let mut largest = 0;
        for o in 0..self.outs {
            let bias = self.bias.map_or(0.0, |bias| bias[o]);
            for row in 0..self.count {
                for at in (0..self.width).step_by(V::LANES) {
                    let from = o * self.pitch + row * self.width + at;
                    // SAFETY: the last vector ends inside the products (asserted above) and the halves.
                    unsafe {
                        let from = self.products.as_ptr().add(from);
                        let columns: [[V; 2]; 4] = std::array::from_fn(|j| {
                            output(std::array::from_fn(|i| V::load(from.add((i * 4 + j) * self.position))))
                        });
                        for i in 0..2 {
                            let y = output([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                            for (j, y) in y.into_iter().enumerate() {
                                y.plus(V::splat(bias))
                                    .store(halves.as_mut_ptr().add((i * 2 + j) * vectors + at));
                            }
                        }
                    }
                }
                for (i, halves) in halves.chunks_exact(2 * vectors).enumerate() {
                    if 2 * row + i >= self.size[0] {
                        break;
                    }
                    let (even, odd) = halves.split_at(vectors);
                    let to = o * self.plane + (2 * row + i) * self.size[1];
                    // SAFETY: who made the kernel vouches for the rows of all planes.
                    let out = unsafe { std::slice::from_raw_parts_mut(self.out.add(to), self.size[1]) };
                    largest = largest.max(interleave(even, odd, out));
                }
            }
        }
        if largest >= f32::INFINITY.to_bits() {
            self.spoilt.store(true, Relaxed);
        }
    }
}

/// `out = even[0], odd[0], even[1], …`; returns the largest absolute value's bits.
#[inline(always)]
fn interleave(even: &[f32], odd: &[f32], out: &mut [f32]) -> u32 {
    let mut largest = 0;
    let magnitude = |x: f32| x.to_bits() & 0x7fff_ffff;
    let pairs = out.len() / 2;
    for ((pair, even), odd) in out.chunks_exact_mut(2).zip(even).zip(odd) {
        (pair[0], pair[1]) = (*even, *odd);
        largest = magnitude(*even).max(magnitude(*odd)).max(largest);
    }
    if out.len() % 2 == 1 {
        out[2 * pairs] = even[pairs];
        largest = magnitude(even[pairs]).max(largest);
    }
    largest
}
