//! The numbers that codes of places are counted in, beside the elements they belong to, and what is kept of them.

use super::max::MaxPool;
use crate::Scalar;
use crate::cpu::wide::WideFloat;

/// The number that stands for code 0: counting up from it counts up the bits.
#[inline(always)]
pub(super) fn code_zero<A: WideFloat>() -> A {
    A::from_f64(if size_of::<A>() == 4 { (1u64 << 23) as f64 } else { (1u64 << 52) as f64 })
}

/// The code in the bits of a number.
#[inline(always)]
fn code<A: WideFloat>(x: A) -> usize {
    let bits = match size_of::<A>() {
        4 => u64::from(bytemuck::cast::<A, u32>(x)),
        _ => bytemuck::cast::<A, u64>(x),
    };
    // Above are the exponents.
    (bits & 0x7f_ffff) as usize
}

/// What is kept of a code.
pub(super) trait Place: Scalar {
    /// The places of a plane.
    fn keep<A: WideFloat>(pool: &MaxPool, codes: &[A], places: &mut [Self]);
}

impl Place for u8 {
    #[inline(always)]
    fn keep<A: WideFloat>(_: &MaxPool, codes: &[A], places: &mut [u8]) {
        places.iter_mut().zip(codes).for_each(|(place, &x)| *place = code(x) as u8);
    }
}

impl Place for i64 {
    #[inline(always)]
    fn keep<A: WideFloat>(pool: &MaxPool, codes: &[A], places: &mut [i64]) {
        pool.decode(|i| code(codes[i]), |out, at| places[out] = at as i64);
    }
}
