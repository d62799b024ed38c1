//! Bytes a second between a core and each level of memory.

use super::rate;
use super::together::together;
use std::fs;
use std::hint::black_box;

/// Bytes of the data or unified cache at a level, as Linux tells.
fn cache(level: usize) -> Option<usize> {
    (0..8).find_map(|i| {
        let read = |what: &str| {
            fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{i}/{what}")).ok()
        };
        let is = read("level")?.trim().parse() == Ok(level) && read("type")?.trim() != "Instruction";
        let size = read("size")?;
        let kib: usize = size.trim().strip_suffix('K')?.parse().ok()?;
        is.then_some(kib * 1024)
    })
}

/// By level: name, bytes in use that fit for all threads together, bytes copied a second, bytes read a second.
pub(crate) fn measure(threads: usize) -> Vec<(&'static str, f64, f64, f64)> {
    let (l2, l3) = (cache(2).unwrap_or(1 << 20), cache(3).unwrap_or(32 << 20).min(96 << 20));
    // A thread's part while measuring, and what the threads may use together for the level to be theirs.
    let levels = [
        ("L2", l2 / 2, l2 * 3 / 4 * threads),
        ("L3", l3 / 2 / threads, l3),
        ("DRAM", (256 << 20) / threads, usize::MAX),
    ];
    levels
        .into_iter()
        .map(|(name, bytes, fits)| {
            let (copy, read) = of_all(threads, bytes);
            (name, fits as f64, copy, read)
        })
        .collect()
}

/// Copy and read rates of all threads, each with `bytes` in use.
fn of_all(threads: usize, bytes: usize) -> (f64, f64) {
    let rates = together(threads, |line| {
        let half = bytes / 2 / 4 / 64 * 64;
        let (x, mut y) = (vec![1f32; half], vec![0f32; half]);
        let passes = ((64 << 20) / bytes).max(1);
        let moved = (passes * 2 * half * 4) as f64;
        let (mut copy, mut read) = (0f64, 0f64);
        line.up(1);
        for _ in 0..6 {
            copy = copy.max(rate(moved, || (0..passes).for_each(|_| copied(&x, &mut y, false))));
            if bytes > 64 << 20 {
                copy = copy.max(rate(moved, || (0..passes).for_each(|_| copied(&x, &mut y, true))));
            }
        }
        line.up(2);
        for _ in 0..6 {
            read = read.max(rate(moved, || {
                (0..passes).for_each(|_| {
                    black_box(total(&x) + total(&y));
                })
            }));
        }
        (copy, read)
    });
    rates.into_iter().fold((0.0, 0.0), |sum, (copy, read)| (sum.0 + copy, sum.1 + read))
}

/// Copies, around the caches if `streaming`.
fn copied(x: &[f32], y: &mut [f32], streaming: bool) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX.
        return unsafe { x86::copied(x, y, streaming) };
    }
    let _ = streaming;
    y.copy_from_slice(x);
    black_box(y);
}

/// The sum, in enough chains to be bound by loading.
fn total(x: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX.
        return unsafe { x86::total(x) };
    }
    let mut sums = [0f32; 64];
    for chunk in x.chunks_exact(64) {
        sums.iter_mut().zip(chunk).for_each(|(s, v)| *s += v);
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::black_box;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx")]
    pub(super) fn copied(x: &[f32], y: &mut [f32], streaming: bool) {
        let n = x.len().min(y.len());
        // A streaming store wants 32-byte alignment; the few elements before it do not matter here.
        let start = y.as_ptr().align_offset(32).min(n);
        let mut i = start;
        while i + 8 <= n {
            // SAFETY: `i + 8 <= n`, which is at most the length of both; `y[i]` is 32-byte aligned, as `i - start` is a
            // multiple of 8.
            unsafe {
                let v = _mm256_loadu_ps(x.as_ptr().add(i));
                if streaming {
                    _mm256_stream_ps(y.as_mut_ptr().add(i), v);
                } else {
                    _mm256_store_ps(y.as_mut_ptr().add(i), v);
                }
            }
            i += 8;
        }
        _mm_sfence();
        black_box(y);
    }

    #[target_feature(enable = "avx")]
    pub(super) fn total(x: &[f32]) -> f32 {
        let mut sums = [_mm256_setzero_ps(); 8];
        for chunk in x.chunks_exact(64) {
            for (j, s) in sums.iter_mut().enumerate() {
                // SAFETY: `chunk` has 64 elements, and `8 * j + 8 <= 64`.
                *s = _mm256_add_ps(*s, unsafe { _mm256_loadu_ps(chunk.as_ptr().add(8 * j)) });
            }
        }
        let mut lanes = [0f32; 8];
        let all = sums.into_iter().fold(_mm256_setzero_ps(), |a, b| _mm256_add_ps(a, b));
        // SAFETY: `lanes` has room for 8.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), all) };
        lanes.iter().sum()
    }
}
