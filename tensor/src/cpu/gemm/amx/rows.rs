//! Rows of numbers as rows of `bf16` parts, for tiles that are loaded from planes.

use super::Products;
use super::range::Range;
use super::split::{Lanes, One, Parts, Three, Two};
use crate::cpu::isa::Isa;
use crate::cpu::wide::dispatch;

dispatch! {
    /// Splits pairs of values of two rows, times a factor, into rows of words, one for each part. Gives the range of the values.
    fn rows<P: Parts>(first: &[f32], second: &[f32], factor: f32, words: [&mut [u32]; 3]) -> Range {
        let mut lanes = Lanes::new();
        let len = first.len().min(second.len());
        let (whole, rest) = (len / 16, len % 16);
        let (first_whole, second_whole) = (first.as_chunks::<16>().0, second.as_chunks::<16>().0);
        for at in 0..whole {
            let pairs = lanes.pairs::<P>(&first_whole[at], &second_whole[at], factor);
            for part in 0..P::COUNT {
                words[part][at * 16..][..16].copy_from_slice(&pairs[part]);
            }
        }
        if rest > 0 {
            let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
            a[..rest].copy_from_slice(&first[whole * 16..len]);
            b[..rest].copy_from_slice(&second[whole * 16..len]);
            let pairs = lanes.pairs::<P>(&a, &b, factor);
            for part in 0..P::COUNT {
                words[part][whole * 16..][..rest].copy_from_slice(&pairs[part][..rest]);
            }
        }
        lanes.range()
    }
}

dispatch! {
    /// Pairs of numbers of two rows that are one part already.
    pub(in crate::cpu) fn pairs(rows: [&[u16]; 2], words: &mut [u32]) {
        for ((word, first), second) in words.iter_mut().zip(rows[0]).zip(rows[1]) {
            *word = u32::from(*first) | u32::from(*second) << 16;
        }
    }
}

/// Splits two rows of equal length into words of pairs, a row of words for each part of some products; the others are not looked at.
/// Gives the range of the values.
pub(in crate::cpu) fn channels(
    isa: Isa,
    products: Products,
    [first, second]: [&[f32]; 2],
    factor: f32,
    words: [&mut [u32]; 3],
) -> Range {
    match products {
        Products::One => rows::<One>(isa, first, second, factor, words),
        Products::Three | Products::Four => rows::<Two>(isa, first, second, factor, words),
        Products::Six => rows::<Three>(isa, first, second, factor, words),
    }
}

dispatch! {
    /// Splits values, times a factor, each part into a row of its own. Gives the range of the values.
    fn halves<P: Parts>(values: &[f32], factor: f32, parts: [&mut [u16]; 3]) -> Range {
        let mut lanes = Lanes::new();
        let (whole, rest) = values.as_chunks::<16>();
        for (at, values) in whole.iter().enumerate() {
            let halves = lanes.halves::<P>(values, factor);
            for part in 0..P::COUNT {
                parts[part][at * 16..][..16].copy_from_slice(&halves[part]);
            }
        }
        if !rest.is_empty() {
            let mut values = [0.0; 16];
            values[..rest.len()].copy_from_slice(rest);
            let halves = lanes.halves::<P>(&values, factor);
            for part in 0..P::COUNT {
                parts[part][whole.len() * 16..][..rest.len()].copy_from_slice(&halves[part][..rest.len()]);
            }
        }
        lanes.range()
    }
}

/// Splits a row into numbers that stay side by side, a row for each part of some products; the others are not looked at. Gives the
/// range of the values.
pub(in crate::cpu) fn one_by_one(
    isa: Isa,
    products: Products,
    values: &[f32],
    factor: f32,
    parts: [&mut [u16]; 3],
) -> Range {
    match products {
        Products::One => halves::<One>(isa, values, factor, parts),
        Products::Three | Products::Four => halves::<Two>(isa, values, factor, parts),
        Products::Six => halves::<Three>(isa, values, factor, parts),
    }
}
