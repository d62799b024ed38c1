//! Which magnitudes a block of an operand has, and what follows: multiply it as it is, scaled, or without tiles.
//!
//! Tiles know no denormal numbers. A number below 2^-102 may have a bit below 2^-126, which one of its parts then
//! loses; and a product below 2^-102 a bit that counts. So numbers have to lie, and products stay, above that, and sums below
//! 2^127. Numbers from 2^-51 to 2^56 keep to all of it, whatever they are multiplied with; most blocks are such. Others are moved there by an
//! exact power of two, and where two blocks have too many magnitudes even so, or one has infinities or NaN, their product is left to
//! ordinary multiply-adds.

/// The largest and the smallest magnitude of some numbers.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu) struct Range {
    /// The bits of the largest.
    most: u32,
    /// The bits of the smallest but zero, less 1: so that zero is the last of all.
    least: u32,
}

/// The exponent that no natural magnitude reaches.
const HIGH: i32 = 56;
/// The smallest exponent of natural magnitudes.
const LOW: i32 = -51;
/// The smallest exponent that is exact, of numbers and of products.
const EXACT: i32 = -102;

impl Range {
    /// Of no numbers.
    pub(in crate::cpu) const EMPTY: Range = Range { most: 0, least: u32::MAX };

    /// The range of sixteen parallel counts: of the bits of magnitudes, and of those less 1.
    #[inline(always)]
    pub(super) fn of_lanes(most: &[u32; 16], least: &[u32; 16]) -> Range {
        let most = most.iter().fold(0, |a, b| a.max(*b));
        Range { most, least: least.iter().fold(u32::MAX, |a, b| a.min(*b)) }
    }

    /// Of the numbers of both.
    pub(in crate::cpu) fn and(self, other: Range) -> Range {
        Range { most: self.most.max(other.most), least: self.least.min(other.least) }
    }

    /// What becomes of a block of such numbers.
    pub(in crate::cpu) fn head(self) -> Head {
        if self.most >= f32::INFINITY.to_bits() {
            return Head::RAW;
        }
        if self.most == 0 {
            return Head { form: Form::Scaled(0), low: LOW };
        }
        let (low, high) = (exponent(self.least + 1), exponent(self.most));
        if low >= LOW && high < HIGH {
            return Head { form: Form::Scaled(0), low };
        }
        let scale = (HIGH - 1 - high).min(127);
        if low + scale < EXACT {
            return Head::RAW;
        }
        Head { form: Form::Scaled(scale), low: low + scale }
    }
}

/// `floor(log2 |x|)` from the bits of a magnitude that is finite and not zero.
fn exponent(bits: u32) -> i32 {
    match bits >> 23 {
        0 => bits.ilog2() as i32 - 149,
        biased => biased as i32 - 127,
    }
}

/// What a panel of a block of k holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cpu) struct Head {
    pub(in crate::cpu) form: Form,
    /// The exponent of the smallest number but zero, as it was split.
    low: i32,
}

/// How numbers are held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cpu) enum Form {
    /// As parts of the numbers times this power of two.
    Scaled(i32),
    /// As they are, for the multiplication without tiles.
    Raw,
}

/// How the product of two panels is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cpu) enum Way {
    /// By tiles, added to C there.
    Tiles,
    /// By tiles, times this power of two.
    ScaledTiles(i32),
    /// By multiply-adds.
    Strict,
}

impl Head {
    /// Numbers that are taken as they are, whatever they are.
    pub(in crate::cpu) const PLAIN: Head = Head { form: Form::Scaled(0), low: LOW };
    const RAW: Head = Head { form: Form::Raw, low: 0 };

    /// How to multiply with another panel.
    pub(in crate::cpu) fn way(self, other: Head) -> Way {
        match (self.form, other.form) {
            (Form::Scaled(a), Form::Scaled(b)) if self.low + other.low >= EXACT => match a + b {
                _ if a == 0 && b == 0 => Way::Tiles,
                sum => Way::ScaledTiles(-sum),
            },
            _ => Way::Strict,
        }
    }
}

/// `x · 2^exponent`, rounded once.
pub(in crate::cpu) fn scale(x: f32, exponent: i32) -> f32 {
    (f64::from(x) * power_of_two(exponent)) as f32
}

/// `2^exponent` for exponents of normal numbers of `f64`.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// `2^exponent` for exponents from -126 to 127.
pub(in crate::cpu) fn factor(exponent: i32) -> f32 {
    power_of_two(exponent) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(values: &[f32]) -> Range {
        values
            .iter()
            .map(|x| x.to_bits() & 0x7fff_ffff)
            .fold(Range::EMPTY, |range, bits| range.and(Range { most: bits, least: bits.wrapping_sub(1) }))
    }

    #[test]
    fn ordinary_numbers_and_zeros_are_taken_as_they_are() {
        for values in [&[][..], &[0.0, -0.0], &[1.0, -1e-15, 0.0], &[7e16, 5e-16]] {
            assert_eq!(range(values).head().form, Form::Scaled(0), "{values:?}");
        }
    }

    #[test]
    fn small_and_large_numbers_are_scaled_below_2_to_the_56() {
        for values in
            [&[1e-30f32, 3e-35][..], &[f32::MAX, 1.0], &[1e20], &[1e-40, 1e-45], &[f32::MIN_POSITIVE]]
        {
            let range = range(values);
            let Head { form: Form::Scaled(by), low } = range.head() else { panic!("{values:?} are scaled") };
            for x in values {
                let scaled = x * factor(by);
                assert!(scaled < 2f32.powi(56) && scaled >= 2f32.powi(low), "{values:?} by {by}");
                assert_eq!(scale(scaled, -by), *x);
            }
        }
    }

    #[test]
    fn what_is_not_finite_or_spans_too_much_is_kept_raw() {
        for values in
            [&[f32::NAN][..], &[1.0, f32::NEG_INFINITY], &[1e20, 1e-45], &[f32::MAX, 1e-10, 1e-12, 1e-38]]
        {
            assert_eq!(range(values).head().form, Form::Raw, "{values:?}");
        }
    }

    #[test]
    fn a_product_needs_the_range_of_both() {
        let (plain, wide) = (range(&[1.0]).head(), range(&[1.0, 1e-38]).head());
        assert_eq!(plain.way(plain), Way::Tiles);
        assert_eq!(plain.way(wide), Way::ScaledTiles(-55));
        assert_eq!(wide.way(wide), Way::Strict);
        assert_eq!(plain.way(range(&[f32::INFINITY]).head()), Way::Strict);
    }
}
