//! Independent fused multiply-adds in registers: enough chains to hide their latency.

use super::rate;
use std::hint::black_box;

const STEPS: usize = 2_000_000;

/// A measurement, FLOP/s, for each instruction set that this processor has.
pub(crate) fn kernels() -> Vec<(&'static str, fn() -> f64)> {
    let mut found: Vec<(&'static str, fn() -> f64)> = vec![];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has AVX2 and FMA.
            found.push(("avx2", || rate((STEPS * 12 * 8 * 2) as f64, || unsafe { x86::avx2() })));
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has AVX-512F.
            found.push(("avx512", || rate((STEPS * 24 * 16 * 2) as f64, || unsafe { x86::avx512() })));
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push(("neon", || rate((STEPS * 24 * 4 * 2) as f64, neon)));
    if found.is_empty() {
        found.push(("portable", || rate((STEPS * 16 * 2) as f64, portable)));
    }
    found
}

/// What the compiler makes of plain code.
fn portable() {
    let (x, y) = (black_box(0.999f32), black_box(1e-6f32));
    let mut sums = [1f32; 16];
    for _ in 0..STEPS {
        sums.iter_mut().for_each(|s| *s = *s * x + y);
    }
    black_box(sums);
}

#[cfg(target_arch = "aarch64")]
fn neon() {
    use std::arch::aarch64::*;
    let (x, y) = (black_box(0.999f32), black_box(1e-6f32));
    // SAFETY: every 64-bit ARM processor has NEON.
    unsafe {
        let (x, y) = (vdupq_n_f32(x), vdupq_n_f32(y));
        let mut sums = [vdupq_n_f32(1.0); 24];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|s| *s = vfmaq_f32(y, *s, x));
        }
        black_box(sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{STEPS, black_box};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2() {
        let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-6)));
        let mut sums = [_mm256_set1_ps(1.0); 12];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|s| *s = _mm256_fmadd_ps(*s, x, y));
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512() {
        let (x, y) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-6)));
        let mut sums = [_mm512_set1_ps(1.0); 24];
        for _ in 0..STEPS {
            sums.iter_mut().for_each(|s| *s = _mm512_fmadd_ps(*s, x, y));
        }
        black_box(sums);
    }
}
