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

impl Outputs<'_> {
    /// The outputs of a vector of tiles from tile `at` of a row on: even and odd columns of two rows.
    ///
    /// # Safety
    /// As for `run`; the tiles are those of a row.
    #[inline(always)]
    unsafe fn tiles<V: Vector<Elem = f32>>(&self, o: usize, row: usize, at: usize, bias: V) -> [[V; 2]; 2] {
        // SAFETY: the last vector ends inside the products (asserted by `run`).
        unsafe {
            let from = self.products.as_ptr().add(o * self.pitch + row * self.width + at);
            let mut columns = [[V::zero(); 2]; 4];
            for (j, column) in columns.iter_mut().enumerate() {
                let at = from.add(j * self.position);
                let m = |i: usize| V::load(at.add(i * 4 * self.position));
                *column = output([m(0), m(1), m(2), m(3)]);
            }
            let mut rows = [[V::zero(); 2]; 2];
            for (i, row) in rows.iter_mut().enumerate() {
                let y = output([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                *row = [y[0].plus(bias), y[1].plus(bias)];
            }
            rows
        }
    }
}

impl Kernel<f32> for Outputs<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector<Elem = f32>>(self) {
        let (width, columns) = (self.width, self.size[1]);
        let vectors = width.next_multiple_of(V::LANES);
        let last = 15 * self.position + (self.outs - 1) * self.pitch + (self.count - 1) * width;
        assert!(last + vectors <= self.products.len(), "the products are all there");
        // SAFETY: the caller vouches for the instructions and, with who made the kernel, for the rows of all planes.
        unsafe {
            // Zeros, unless an output is not finite.
            let mut zeros = V::zero();
            for o in 0..self.outs {
                let bias = V::splat(self.bias.map_or(0.0, |bias| bias[o]));
                for row in 0..self.count {
                    let height = (self.size[0] - 2 * row).min(2);
                    for at in (0..width).step_by(V::LANES) {
                        // The last vector starts early, if it can.
                        let at = at.min(width.saturating_sub(V::LANES));
                        let rows = self.tiles(o, row, at, bias);
                        let to = self.out.add(o * self.plane + 2 * row * columns + 2 * at);
                        for i in 0..height {
                            let (low, high) = rows[i][0].weave(rows[i][1]);
                            zeros = put(zeros, [low, high], to.add(i * columns), columns - 2 * at);
                        }
                    }
                }
            }
            let mut lanes = [0f32; 16];
            const { assert!(V::LANES <= 16) };
            zeros.store(lanes.as_mut_ptr());
            if lanes.iter().any(|lane| lane.is_nan()) {
                self.spoilt.store(true, Relaxed);
            }
        }
    }
}

/// Stores the lanes of two vectors, the first `count` if there are more, and adds zero times each of these to `zeros`.
///
/// # Safety
/// The instructions of `V` exist, and `to` is valid for as many values.
#[inline(always)]
unsafe fn put<V: Vector<Elem = f32>>(mut zeros: V, values: [V; 2], to: *mut f32, count: usize) -> V {
    // SAFETY: the caller vouches for the places and the instructions; there is room for the lanes of two vectors.
    unsafe {
        if count >= 2 * V::LANES {
            for (i, values) in values.into_iter().enumerate() {
                zeros = values.times_plus(V::zero(), zeros);
                values.store(to.add(i * V::LANES));
            }
            return zeros;
        }
        let mut lanes = [0f32; 32];
        values[0].store(lanes.as_mut_ptr());
        values[1].store(lanes.as_mut_ptr().add(V::LANES));
        lanes[count..].fill(0.0);
        to.copy_from_nonoverlapping(lanes.as_ptr(), count);
        zeros = V::load(lanes.as_ptr()).times_plus(V::zero(), zeros);
        V::load(lanes.as_ptr().add(V::LANES)).times_plus(V::zero(), zeros)
    }
}
