//! The tile instructions in plain code, rounding by rounding: the oracle of the kernels, and what runs all else of this module on machines
//! without tiles.

use super::{LinesJob, PlaneJob, Row, TileJob, Unit};

/// The model with the kernels' order of products.
pub(super) static UNIT: Unit = Unit {
    configure: nothing,
    release: nothing,
    products: [product::<0, 2>, product::<1, 2>, product::<2, 2>, product::<3, 2>],
    short: [product::<0, 1>, product::<1, 1>, product::<2, 1>, product::<3, 1>],
    bytes: [bytes::<0, 2>, bytes::<1, 2>, bytes::<2, 2>, bytes::<3, 2>],
    short_bytes: [bytes::<0, 1>, bytes::<1, 1>, bytes::<2, 1>, bytes::<3, 1>],
    correlations: [correlation::<0>, correlation::<1>, correlation::<2>, correlation::<3>],
    gradients: [gradient::<0>, gradient::<1>, gradient::<2>, gradient::<3>],
};

/// The parts of A and B in each product of a kernel, 0 for h, 1 for m, 2 for l, in the order in which it takes them.
const ORDERS: [&[(usize, usize)]; 4] = [
    &[(0, 0)],
    &[(0, 1), (0, 0), (1, 0)],
    &[(0, 1), (1, 1), (1, 0), (0, 0)],
    &[(0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0)],
];

/// The planes of each kernel's operands.
const PLANES: [usize; 4] = [1, 2, 2, 3];

type Tile = [[u32; 16]; 16];

unsafe fn nothing() {}

/// # Safety
/// See [`TileFn`](super::TileFn).
unsafe fn product<const WHICH: usize, const TALL: usize>(job: &TileJob) {
    let rows = PLANES[WHICH] * 32;
    let place =
        |i: usize, j: usize| job.c.wrapping_offset((i * 16) as isize * job.c_row).wrapping_add(j * 16);
    let mut c = [[[[0u32; 16]; 16]; 2]; TALL];
    if job.add {
        for (at, tile) in c.as_flattened_mut().iter_mut().enumerate() {
            for (r, row) in tile.iter_mut().enumerate() {
                let from = place(at / 2, at % 2).wrapping_offset(r as isize * job.c_row);
                // SAFETY: C is 16 rows of 32 values for each row of tiles (the caller's word).
                *row = unsafe { from.cast::<[f32; 16]>().read() }.map(f32::to_bits);
            }
        }
    }
    for block in 0..job.blocks {
        for &(pa, pb) in ORDERS[WHICH] {
            for at in 0..2 * TALL {
                let load = |panel: *const Row, plane: usize, half: usize| -> Tile {
                    // SAFETY: the panels hold `blocks` blocks of `rows` rows (the caller's word).
                    std::array::from_fn(|r| unsafe {
                        (*panel.add(block * rows + (plane * 2 + half) * 16 + r)).0
                    })
                };
                let (a, b) = (load(job.a, pa, at / 2), load(job.b, pb, at % 2));
                tdpbf16ps(&mut c[at / 2][at % 2], &a, &b);
            }
        }
    }
    for (at, tile) in c.as_flattened().iter().enumerate() {
        for (r, row) in tile.iter().enumerate() {
            let to = place(at / 2, at % 2).wrapping_offset(r as isize * job.c_row);
            // SAFETY: as above.
            unsafe { to.cast::<[f32; 16]>().write(row.map(f32::from_bits)) }
        }
    }
}

/// # Safety
/// See [`TileFn`](super::TileFn).
unsafe fn bytes<const SIGNS: usize, const TALL: usize>(job: &TileJob) {
    for (i, j) in (0..TALL * 16 * 32).map(|at| (at / 32, at % 32)) {
        let c = job.c.wrapping_offset(i as isize * job.c_row).wrapping_add(j).cast::<i32>();
        // SAFETY: C is 32 rows of 32 values (the caller's word).
        let mut sum = if job.add { unsafe { *c } } else { 0 };
        for (block, word) in (0..job.blocks * 16).map(|at| (at / 16, at % 16)) {
            // SAFETY: the panels hold `blocks` blocks of 32 rows (the caller's word).
            let (a, b) = unsafe {
                (
                    (*job.a.add(block * 32 + i)).0[word],
                    (*job.b.add(block * 32 + j / 16 * 16 + word)).0[j % 16],
                )
            };
            let value = |byte: u8, signed| if signed { i32::from(byte as i8) } else { i32::from(byte) };
            for (a, b) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
                sum = sum.wrapping_add(value(a, SIGNS & 2 != 0) * value(b, SIGNS & 1 != 0));
            }
        }
        // SAFETY: as above.
        unsafe { *c = sum };
    }
}

/// # Safety
/// See [`PlaneFn`](super::PlaneFn).
unsafe fn correlation<const WHICH: usize>(job: &PlaneJob) {
    let mut c = [[[[0u32; 16]; 16]; 2]; 2];
    for block in 0..job.blocks {
        // SAFETY: there are `blocks` offsets (the caller's word).
        let offset = unsafe { *job.offsets.add(block) };
        for &(pa, pb) in ORDERS[WHICH] {
            for at in 0..4 {
                let a: Tile = std::array::from_fn(|r| {
                    let row = block * PLANES[WHICH] * 32 + (pa * 2 + at / 2) * 16 + r;
                    // SAFETY: A holds `blocks` blocks (the caller's word).
                    unsafe { (*job.a.add(row)).0 }
                });
                let b: Tile = std::array::from_fn(|r| {
                    let place = offset + pb * job.part + r * job.row + at % 2 * 64;
                    // SAFETY: the offset leads to 16 rows of 32 words in each part (the caller's word).
                    unsafe { job.planes.cast::<u8>().add(place).cast::<[u32; 16]>().read() }
                });
                tdpbf16ps(&mut c[at / 2][at % 2], &a, &b);
            }
        }
    }
    for (at, tile) in c.as_flattened().iter().enumerate() {
        for (r, row) in tile.iter().enumerate() {
            let to = job.c.wrapping_add((at / 2 * 16 + r) * 32 + at % 2 * 16);
            // SAFETY: C is 32 rows of 32 values (the caller's word).
            unsafe { to.cast::<[f32; 16]>().write(row.map(f32::from_bits)) }
        }
    }
}

/// # Safety
/// See [`LinesFn`](super::LinesFn).
unsafe fn gradient<const WHICH: usize>(job: &LinesJob) {
    let c = job.c.cast::<[[u32; 16]; 64]>();
    // SAFETY: C is 32 rows of 32 values (the caller's word).
    let mut sums = if job.add { unsafe { c.read() } } else { [[0u32; 16]; 64] };
    for block in 0..job.blocks {
        for &(pa, pb) in ORDERS[WHICH] {
            for at in 0..4 {
                let a: Tile = std::array::from_fn(|r| {
                    let place = block * 64 + pa * job.part + (at / 2 * 16 + r) * job.row;
                    // SAFETY: the planes of each part have 32 steps for each block (the caller's word).
                    unsafe { job.planes.cast::<u8>().add(place).cast::<[u32; 16]>().read_unaligned() }
                });
                let b: Tile = std::array::from_fn(|r| {
                    let row = block * PLANES[WHICH] * 32 + (pb * 2 + at % 2) * 16 + r;
                    // SAFETY: B holds `blocks` blocks (the caller's word).
                    unsafe { (*job.b.add(row)).0 }
                });
                let place = |r: usize| (at / 2 * 16 + r) * 2 + at % 2;
                let mut tile: Tile = std::array::from_fn(|r| sums[place(r)]);
                tdpbf16ps(&mut tile, &a, &b);
                (0..16).for_each(|r| sums[place(r)] = tile[r]);
            }
        }
    }
    // SAFETY: as above.
    unsafe { c.write(sums) };
}

/// `C[m][n] += Σ_k A[m][k] · B[k][n]` where words of A and B are pairs of `bf16`, the first in the lower half.
///
/// The first and the second numbers of the pairs are summed apart, each from zero by fused multiply-adds; then both sums are
/// added, then C. Each operation takes denormal operands as zero, gives zero for denormal results, and rounds to the nearest.
pub(super) fn tdpbf16ps(c: &mut Tile, a: &Tile, b: &Tile) {
    for (c, a) in c.iter_mut().zip(a) {
        let mut sums = [[0.0f32; 2]; 16];
        for (a, b) in a.iter().zip(b) {
            for (sums, b) in sums.iter_mut().zip(b) {
                sums[0] = multiply_add(bf16(a << 16), bf16(b << 16), sums[0]);
                sums[1] = multiply_add(bf16(a & 0xffff_0000), bf16(b & 0xffff_0000), sums[1]);
            }
        }
        for (c, sums) in c.iter_mut().zip(sums) {
            *c = flush(flush(f32::from_bits(*c)) + flush(sums[0] + sums[1])).to_bits();
        }
    }
}

fn bf16(bits: u32) -> f32 {
    flush(f32::from_bits(bits))
}

/// Zero of the same sign for a denormal number.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
}

fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    let product = a * b;
    // The product of two `bf16` is exact if it is normal; then a fused addition is an addition.
    flush(if product.is_normal() { product + sum } else { a.mul_add(b, sum) })
}
