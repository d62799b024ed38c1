//! [`Two`] vectors at a time, by turns: while a step of one waits for the step before, the other's is computed.
//!
//! The functions of `math` are long chains of steps of four cycles each, and a processor looks only so far ahead that it seldom
//! finds work of the next but one iteration. On a Zen 4 core, loops over two vectors are 1.2 to 1.4 times as fast as over one; over
//! three they are hardly faster, and some run out of registers.

use super::lanes::{BitLanes, Lanes};
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

/// The lanes of the first followed by those of the second. The same for their masks and their bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Two<T>(T, T);

macro_rules! operators {
    ($($Op:ident $op:ident of $Of:path),+) => { $(
        impl<T: $Of> $Op for Two<T>
        where
            T: $Op<Output = T>,
        {
            type Output = Self;
            #[inline(always)]
            fn $op(self, other: Self) -> Self {
                Two(self.0.$op(other.0), self.1.$op(other.1))
            }
        }
    )+ };
}
operators!(Add add of Copy, Sub sub of Copy, Mul mul of Copy, Div div of Copy, BitAnd bitand of Copy, BitOr bitor of Copy);

impl<T: Neg<Output = T>> Neg for Two<T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Two(-self.0, -self.1)
    }
}

impl<T: Not<Output = T>> Not for Two<T> {
    type Output = Self;
    #[inline(always)]
    fn not(self) -> Self {
        Two(!self.0, !self.1)
    }
}

/// Methods that do for both what they do for one.
macro_rules! both {
    ($($name:ident($($other:ident),*) -> $Out:ty;)+) => { $(
        #[inline(always)]
        fn $name(self $(, $other: Self)*) -> $Out {
            Two(self.0.$name($($other.0),*), self.1.$name($($other.1),*))
        }
    )+ };
}

impl<V: Lanes> Lanes for Two<V> {
    type Mask = Two<V::Mask>;
    type Bits = Two<V::Bits>;
    const WIDTH: usize = 2 * V::WIDTH;

    both! {
        mul_add(factor, term) -> Self;
        mul_add_exact(factor, term) -> Self;
        sqrt() -> Self;
        floor() -> Self;
        ceil() -> Self;
        trunc() -> Self;
        round() -> Self;
        larger(other) -> Self;
        smaller(other) -> Self;
        lt(other) -> Self::Mask;
        le(other) -> Self::Mask;
        eq(other) -> Self::Mask;
        bits() -> Self::Bits;
    }
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Two(V::splat(value), V::splat(value))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise, for either half.
        unsafe { Two(V::load(from), V::load(from.add(V::WIDTH))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise, for either half.
        unsafe {
            self.0.store(to);
            self.1.store(to.add(V::WIDTH));
        }
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Two(V::select(mask.0, yes.0, no.0), V::select(mask.1, yes.1, no.1))
    }
    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        V::any(mask.0 | mask.1)
    }
    #[inline(always)]
    fn split_pairs(self, next: Self) -> (Self, Self) {
        let ((even, odd), (next_even, next_odd)) = (self.0.split_pairs(self.1), next.0.split_pairs(next.1));
        (Two(even, next_even), Two(odd, next_odd))
    }
    #[inline(always)]
    fn join_pairs(self, odd: Self) -> (Self, Self) {
        let (first, next) = (self.0.join_pairs(odd.0), self.1.join_pairs(odd.1));
        (Two(first.0, first.1), Two(next.0, next.1))
    }
}

impl<B: BitLanes> BitLanes for Two<B>
where
    B::Float: Lanes<Bits = B>,
{
    type Float = Two<B::Float>;

    both! {
        add(other) -> Self;
        sub(other) -> Self;
        and(other) -> Self;
        or(other) -> Self;
        xor(other) -> Self;
        is_zero() -> Two<<B::Float as Lanes>::Mask>;
        to_float() -> Two<B::Float>;
        as_float() -> Two<B::Float>;
    }
    #[inline(always)]
    fn splat(value: i32) -> Self {
        Two(B::splat(value), B::splat(value))
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Two(self.0.shl::<N>(), self.1.shl::<N>())
    }
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Two(self.0.shr::<N>(), self.1.shr::<N>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_lanes_are_split_and_joined_as_those_of_a_wider_vector() {
        let two = |a: f32, b: f32| Two(Two(a, a + 1.0), Two(b, b + 1.0));
        let lanes = |x: Two<Two<f32>>| [x.0.0, x.0.1, x.1.0, x.1.1];
        let (x, next) = (two(0.0, 2.0), two(4.0, 6.0));
        let (even, odd) = x.split_pairs(next);
        // One lane has no second: where vectors are wider, these are the even and the odd ones.
        assert_eq!((lanes(even), lanes(odd)), ([0.0, 2.0, 4.0, 6.0], [1.0, 3.0, 5.0, 7.0]));
        let (first, second) = even.join_pairs(odd);
        assert_eq!((lanes(first), lanes(second)), (lanes(x), lanes(next)));
    }
}
