//! Transposes in registers, for panels of lines that are contiguous each.

use std::arch::x86_64::*;

/// Lines of a register transpose.
const SIDE: usize = 8;

/// `panel[p * W + i] = starts[i][p]` for elements of four bytes, eight lines and eight steps at a time.
///
/// # Safety
/// AVX2 exists, and each line has `panel.len() / W` contiguous elements.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn transpose<const W: usize>(starts: [*const f32; W], panel: &mut [f32]) {
    let depth = panel.len() / W;
    // A group that is not full stores a few elements too many, into the next step, which is written after it. So where there
    // is one, the last step is left to the plain loop.
    let blocks = if W.is_multiple_of(SIDE) { depth / SIDE } else { depth.saturating_sub(1) / SIDE };
    for p in (0..blocks * SIDE).step_by(SIDE) {
        for group in (0..W).step_by(SIDE) {
            let lines: [*const f32; SIDE] =
                std::array::from_fn(|i| starts[(group + i).min(W - 1)].wrapping_add(p));
            assert!((p + SIDE - 1) * W + group + SIDE <= panel.len(), "the last store ends inside the panel");
            // SAFETY: steps `p..p + 8` are inside each line, and the stores inside the panel (asserted above).
            unsafe { transpose8(lines, panel.as_mut_ptr().add(p * W + group), W) }
        }
    }
    for p in blocks * SIDE..depth {
        for (value, start) in panel[p * W..(p + 1) * W].iter_mut().zip(starts) {
            // SAFETY: the step is inside the line.
            *value = unsafe { *start.add(p) };
        }
    }
}

/// Writes step p of eight lines to `to[p * row..p * row + 8]`, for p in order.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose8(lines: [*const f32; 8], to: *mut f32, row: usize) {
    // SAFETY: the caller vouches for eight elements of each line and for the eight stores.
    unsafe {
        let mut r = [_mm256_setzero_ps(); 8];
        for (r, line) in r.iter_mut().zip(lines) {
            *r = _mm256_loadu_ps(line);
        }
        // Pairs of lines, then quadruples, then halves.
        let p = [
            _mm256_unpacklo_ps(r[0], r[1]),
            _mm256_unpackhi_ps(r[0], r[1]),
            _mm256_unpacklo_ps(r[2], r[3]),
            _mm256_unpackhi_ps(r[2], r[3]),
            _mm256_unpacklo_ps(r[4], r[5]),
            _mm256_unpackhi_ps(r[4], r[5]),
            _mm256_unpacklo_ps(r[6], r[7]),
            _mm256_unpackhi_ps(r[6], r[7]),
        ];
        let q = [
            _mm256_shuffle_ps::<0x44>(p[0], p[2]),
            _mm256_shuffle_ps::<0xEE>(p[0], p[2]),
            _mm256_shuffle_ps::<0x44>(p[1], p[3]),
            _mm256_shuffle_ps::<0xEE>(p[1], p[3]),
            _mm256_shuffle_ps::<0x44>(p[4], p[6]),
            _mm256_shuffle_ps::<0xEE>(p[4], p[6]),
            _mm256_shuffle_ps::<0x44>(p[5], p[7]),
            _mm256_shuffle_ps::<0xEE>(p[5], p[7]),
        ];
        for i in 0..4 {
            _mm256_storeu_ps(to.add(i * row), _mm256_permute2f128_ps::<0x20>(q[i], q[i + 4]));
        }
        for i in 0..4 {
            _mm256_storeu_ps(to.add((i + 4) * row), _mm256_permute2f128_ps::<0x31>(q[i], q[i + 4]));
        }
    }
}
