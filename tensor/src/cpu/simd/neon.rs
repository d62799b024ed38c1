//! Four lanes: Advanced SIMD, which every 64-bit Arm machine has.

use super::lanes::{BitLanes, Lanes};
use std::arch::aarch64::*;
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub};

/// Four `f32`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct F32x4(float32x4_t);

/// The answers to a comparison of [`F32x4`]: all bits of a lane, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mask4(uint32x4_t);

/// The bits of a [`F32x4`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits4(int32x4_t);

/// An intrinsic that has no requirement but its instruction set.
macro_rules! neon {
    ($call:expr) => {
        // SAFETY: these instructions are part of the architecture that this module is compiled for.
        unsafe { $call }
    };
}

macro_rules! operators {
    ($($T:ident: $Op:ident $op:ident $intrinsic:ident)+) => { $(
        impl $Op for $T {
            type Output = $T;
            #[inline(always)]
            fn $op(self, other: $T) -> $T {
                $T(neon!($intrinsic(self.0, other.0)))
            }
        }
    )+ };
}
operators! {
    F32x4: Add add vaddq_f32
    F32x4: Sub sub vsubq_f32
    F32x4: Mul mul vmulq_f32
    F32x4: Div div vdivq_f32
    Mask4: BitAnd bitand vandq_u32
    Mask4: BitOr bitor vorrq_u32
}

impl Neg for F32x4 {
    type Output = F32x4;
    #[inline(always)]
    fn neg(self) -> F32x4 {
        F32x4(neon!(vnegq_f32(self.0)))
    }
}

impl Not for Mask4 {
    type Output = Mask4;
    #[inline(always)]
    fn not(self) -> Mask4 {
        Mask4(neon!(vmvnq_u32(self.0)))
    }
}

impl Lanes for F32x4 {
    type Mask = Mask4;
    type Bits = Bits4;
    const WIDTH: usize = 4;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        F32x4(neon!(vdupq_n_f32(value)))
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise; the instruction set as in `neon!`.
        F32x4(unsafe { vld1q_f32(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise; the instruction set as in `neon!`.
        unsafe { vst1q_f32(to, self.0) }
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        F32x4(neon!(vfmaq_f32(term.0, self.0, factor.0)))
    }
    #[inline(always)]
    fn mul_add_exact(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        F32x4(neon!(vsqrtq_f32(self.0)))
    }
    #[inline(always)]
    fn floor(self) -> Self {
        F32x4(neon!(vrndmq_f32(self.0)))
    }
    #[inline(always)]
    fn ceil(self) -> Self {
        F32x4(neon!(vrndpq_f32(self.0)))
    }
    #[inline(always)]
    fn trunc(self) -> Self {
        F32x4(neon!(vrndq_f32(self.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        F32x4(neon!(vrndnq_f32(self.0)))
    }
    // The instructions `fmax` and `fmin` give NaN where either operand is one, unlike these two.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        Self::select(other.lt(self), self, other)
    }
    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        Self::select(self.lt(other), self, other)
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Mask4 {
        Mask4(neon!(vcltq_f32(self.0, other.0)))
    }
    #[inline(always)]
    fn le(self, other: Self) -> Mask4 {
        Mask4(neon!(vcleq_f32(self.0, other.0)))
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Mask4 {
        Mask4(neon!(vceqq_f32(self.0, other.0)))
    }
    #[inline(always)]
    fn select(mask: Mask4, yes: Self, no: Self) -> Self {
        F32x4(neon!(vbslq_f32(mask.0, yes.0, no.0)))
    }
    #[inline(always)]
    fn any(mask: Mask4) -> bool {
        neon!(vmaxvq_u32(mask.0)) != 0
    }
    #[inline(always)]
    fn bits(self) -> Bits4 {
        Bits4(neon!(vreinterpretq_s32_f32(self.0)))
    }
    #[inline(always)]
    fn split_pairs(self, next: Self) -> (Self, Self) {
        (F32x4(neon!(vuzp1q_f32(self.0, next.0))), F32x4(neon!(vuzp2q_f32(self.0, next.0))))
    }
    #[inline(always)]
    fn join_pairs(self, odd: Self) -> (Self, Self) {
        (F32x4(neon!(vzip1q_f32(self.0, odd.0))), F32x4(neon!(vzip2q_f32(self.0, odd.0))))
    }
}

impl BitLanes for Bits4 {
    type Float = F32x4;

    #[inline(always)]
    fn splat(value: i32) -> Self {
        Bits4(neon!(vdupq_n_s32(value)))
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Bits4(neon!(vaddq_s32(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Bits4(neon!(vsubq_s32(self.0, other.0)))
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Bits4(neon!(vandq_s32(self.0, other.0)))
    }
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        Bits4(neon!(vorrq_s32(self.0, other.0)))
    }
    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Bits4(neon!(veorq_s32(self.0, other.0)))
    }
    #[inline(always)]
    fn shl<const N: u32>(self) -> Self {
        Bits4(neon!(vshlq_s32(self.0, vdupq_n_s32(N as i32))))
    }
    // A shift to the left by a negative amount is one to the right.
    #[inline(always)]
    fn shr<const N: u32>(self) -> Self {
        Bits4(neon!(vshlq_s32(self.0, vdupq_n_s32(-(N as i32)))))
    }
    #[inline(always)]
    fn is_zero(self) -> Mask4 {
        Mask4(neon!(vceqzq_s32(self.0)))
    }
    #[inline(always)]
    fn to_float(self) -> F32x4 {
        F32x4(neon!(vcvtq_f32_s32(self.0)))
    }
    #[inline(always)]
    fn as_float(self) -> F32x4 {
        F32x4(neon!(vreinterpretq_f32_s32(self.0)))
    }
}
