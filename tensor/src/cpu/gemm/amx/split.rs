//! Numbers as sums of `bf16` parts, in the order in which tiles read them, and back.
//!
//! A panel of 32 lines is held in blocks of 32 steps. A block has, for each part, two tiles of 16 lines; a tile has 16 rows of 16
//! words, and a word is a pair of neighbouring steps, the first in the lower half:
//!
//! ```text
//!              A: row = line, word = pair of steps       B: row = pair of steps, word = line
//! block 0      h: lines 0..16 | h: lines 16..32 | m: lines 0..16 | m: lines 16..32 | l …
//! block 1      …
//! ```
//!
//! The tiles of A are the transposes of those of B.

use super::range::Range;
use super::{BLOCK, Row};
use crate::cpu::isa::Isa;
use crate::cpu::wide::dispatch;

/// How a number is split.
pub(super) trait Parts {
    /// How many parts there are.
    const COUNT: usize;
    /// The bits of the parts, each in the upper half of a word.
    fn split(x: f32) -> [u32; 3];
}

/// The nearest `bf16`, ties to even; NaN stays NaN.
pub(super) struct One;
/// 16 bits, the second part rounded: exact for numbers of `f16`.
pub(super) struct Two;
/// All 24 bits: exact.
pub(super) struct Three;

const UPPER: u32 = 0xffff_0000;

/// The nearest `bf16`, ties away from zero, and the exact rest.
#[inline(always)]
fn nearest(x: f32) -> (u32, f32) {
    let bits = x.to_bits().wrapping_add(0x8000) & UPPER;
    (bits, x - f32::from_bits(bits))
}

impl Parts for One {
    const COUNT: usize = 1;
    #[inline(always)]
    fn split(x: f32) -> [u32; 3] {
        let bits = x.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        [if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x0040_0000 } else { nearest } & UPPER, 0, 0]
    }
}

impl Parts for Two {
    const COUNT: usize = 2;
    #[inline(always)]
    fn split(x: f32) -> [u32; 3] {
        let (h, rest) = nearest(x);
        [h, nearest(rest).0, 0]
    }
}

impl Parts for Three {
    const COUNT: usize = 3;
    #[inline(always)]
    fn split(x: f32) -> [u32; 3] {
        let (h, rest) = nearest(x);
        let m = rest.to_bits() & UPPER;
        [h, m, (rest - f32::from_bits(m)).to_bits() & UPPER]
    }
}

/// The largest and smallest magnitudes so far, lane by lane.
pub(super) struct Lanes {
    most: [u32; 16],
    least: [u32; 16],
}

impl Lanes {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Lanes { most: [0; 16], least: [u32::MAX; 16] }
    }

    /// Sixteen words for each part: the pairs of `first` and `second`, times `factor`.
    #[inline(always)]
    pub(super) fn pairs<P: Parts>(
        &mut self,
        first: &[f32; 16],
        second: &[f32; 16],
        factor: f32,
    ) -> [[u32; 16]; 3] {
        let mut words = [[0; 16]; 3];
        for j in 0..16 {
            let (a, b) = (first[j].to_bits() & 0x7fff_ffff, second[j].to_bits() & 0x7fff_ffff);
            self.most[j] = self.most[j].max(a).max(b);
            self.least[j] = self.least[j].min(a.wrapping_sub(1)).min(b.wrapping_sub(1));
            let (a, b) = (P::split(first[j] * factor), P::split(second[j] * factor));
            for part in 0..P::COUNT {
                words[part][j] = a[part] >> 16 | b[part];
            }
        }
        words
    }

    /// Sixteen numbers for each part, times `factor`.
    #[inline(always)]
    pub(super) fn halves<P: Parts>(&mut self, values: &[f32; 16], factor: f32) -> [[u16; 16]; 3] {
        let mut halves = [[0; 16]; 3];
        for j in 0..16 {
            let bits = values[j].to_bits() & 0x7fff_ffff;
            self.most[j] = self.most[j].max(bits);
            self.least[j] = self.least[j].min(bits.wrapping_sub(1));
            let parts = P::split(values[j] * factor);
            for part in 0..P::COUNT {
                halves[part][j] = (parts[part] >> 16) as u16;
            }
        }
        halves
    }

    pub(super) fn range(&self) -> Range {
        Range::of_lanes(&self.most, &self.least)
    }
}

dispatch! {
    /// Splits `values[step * 32 + line]`, whole blocks of steps, into rows of B. Gives the range of the values.
    pub(super) fn steps<P: Parts>(values: &[f32], factor: f32, rows: &mut [Row]) -> Range {
        let mut lanes = Lanes::new();
        for (values, rows) in values.as_chunks::<{ BLOCK * BLOCK }>().0.iter().zip(rows.chunks_exact_mut(P::COUNT * BLOCK)) {
            let values: &[[f32; 16]] = values.as_chunks().0;
            for pair in 0..16 {
                for half in 0..2 {
                    let words = lanes.pairs::<P>(&values[4 * pair + half], &values[4 * pair + 2 + half], factor);
                    for part in 0..P::COUNT {
                        rows[(part * 2 + half) * 16 + pair] = Row(words[part]);
                    }
                }
            }
        }
        lanes.range()
    }
}

dispatch! {
    /// Splits the steps of one line, the one at `line` in its panel, whole blocks of them, into rows of A. Gives the range of the values.
    pub(super) fn line<P: Parts>(values: &[f32], factor: f32, line: usize, rows: &mut [Row]) -> Range {
        let mut lanes = Lanes::new();
        for (values, rows) in values.as_chunks::<BLOCK>().0.iter().zip(rows.chunks_exact_mut(P::COUNT * BLOCK)) {
            let (mut first, mut second) = ([0.0; 16], [0.0; 16]);
            for j in 0..16 {
                first[j] = values[2 * j];
                second[j] = values[2 * j + 1];
            }
            let words = lanes.pairs::<P>(&first, &second, factor);
            for part in 0..P::COUNT {
                rows[part * 32 + line] = Row(words[part]);
            }
        }
        lanes.range()
    }
}

/// Transposes each tile of some rows: what was for B is for A, and the other way round.
pub(super) fn transpose(isa: Isa, rows: &mut [Row]) {
    for tile in rows.chunks_exact_mut(16) {
        let mut words = [[0u32; 16]; 16];
        for (words, row) in words.iter_mut().zip(&*tile) {
            *words = row.0;
        }
        #[cfg(target_arch = "x86_64")]
        if isa >= Isa::Avx2 {
            let starts = words.each_ref().map(|row| row.as_ptr().cast::<f32>());
            // SAFETY: the level has AVX2, and each row has 16 words. They are moved and not looked at.
            unsafe { super::super::pack_x86::transpose::<16>(starts, bytemuck::cast_slice_mut(tile)) };
            continue;
        }
        let _ = isa;
        for (r, row) in tile.iter_mut().enumerate() {
            row.0 = std::array::from_fn(|j| words[j][r]);
        }
    }
}

dispatch! {
    /// Adds up the parts of rows of B, times a factor: `values[step * 32 + line]`. What [`steps`] split into two parts of 16 bits or
    /// three of 24 comes back as it was.
    pub(super) fn join<P: Parts>(rows: &[Row], factor: f32, values: &mut [f32]) {
        for (values, rows) in values.as_chunks_mut::<{ BLOCK * BLOCK }>().0.iter_mut().zip(rows.chunks_exact(P::COUNT * BLOCK)) {
            let values: &mut [[f32; 16]] = values.as_chunks_mut().0;
            for pair in 0..16 {
                for half in 0..2 {
                    let mut sums = [[0.0f32; 16]; 2];
                    for part in 0..P::COUNT {
                        let Row(words) = rows[(part * 2 + half) * 16 + pair];
                        for j in 0..16 {
                            sums[0][j] += f32::from_bits(words[j] << 16);
                            sums[1][j] += f32::from_bits(words[j] & UPPER);
                        }
                    }
                    for (at, sums) in sums.into_iter().enumerate() {
                        values[4 * pair + 2 * at + half] = sums.map(|x| x * factor);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all magnitudes with random bits.
    fn numbers(len: usize) -> Vec<f32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 32) as u32
        };
        let one = |bits: u32| f32::from_bits((bits & 0x807f_ffff) | (60 + (bits >> 25)) << 23);
        (0..len).map(|at| if at % 17 == 3 { 0.0 } else { one(next()) }).collect()
    }

    #[test]
    fn three_parts_are_the_number() {
        for x in numbers(10_000).into_iter().chain([1.0, -1.0 + f32::EPSILON, 0.0, f32::MIN_POSITIVE, 1e38]) {
            let [h, m, l] = Three::split(x).map(f32::from_bits);
            assert_eq!((h + m) + l, x);
            assert!(m.abs() <= h.abs() / 256.0 && l.abs() <= h.abs() / 32768.0, "{x} = {h} + {m} + {l}");
        }
    }

    #[test]
    fn two_parts_are_a_number_of_16_bits() {
        for x in numbers(10_000) {
            let [h, m, _] = Two::split(x).map(f32::from_bits);
            assert!(((h + m) - x).abs() <= x.abs() / (1 << 17) as f32);
            let half = half::f16::from_f32(x.clamp(-65504.0, 65504.0));
            let [h, m, _] = Two::split(half.to_f32()).map(f32::from_bits);
            assert!(h + m == half.to_f32());
        }
    }

    #[test]
    fn one_part_is_the_nearest_bf16() {
        for x in numbers(10_000).into_iter().chain([f32::NAN, -f32::NAN, f32::INFINITY, f32::MAX, 1e-45]) {
            assert_eq!(One::split(x)[0] >> 16, u32::from(half::bf16::from_f32(x).to_bits()), "{x}");
        }
    }

    #[test]
    fn rows_of_a_are_the_transpose_of_rows_of_b_at_every_level() {
        let values = numbers(96 * 32);
        for &isa in crate::cpu::isa::available() {
            let mut b = vec![Row::ZERO; 3 * 96];
            let range = steps::<Three>(isa, &values, 4.0, &mut b);
            let mut joined = vec![f32::NAN; values.len()];
            join::<Three>(isa, &b, 0.25, &mut joined);
            assert_eq!(joined, values);
            let mut a = vec![Row::ZERO; 3 * 96];
            let mut of_lines = Range::EMPTY;
            for at in 0..32 {
                let steps: Vec<f32> = values.iter().skip(at).step_by(32).copied().collect();
                of_lines = of_lines.and(line::<Three>(isa, &steps, 4.0, at, &mut a));
            }
            assert_eq!(of_lines.head(), range.head());
            transpose(isa, &mut b);
            assert!(a == b, "{isa}");
        }
    }
}
