//! Transposes in registers, for panels of lines that are contiguous each.

use std::arch::aarch64::*;

/// Lines, and steps, of a register transpose.
const SIDE: usize = 4;

/// `panel[p * W + i] = starts[i][p]` for elements of four bytes, four lines and four steps at a time.
///
/// # Safety
/// Each line has `panel.len() / W` contiguous elements.
pub(super) unsafe fn transpose<const W: usize>(starts: [*const f32; W], panel: &mut [f32]) {
    assert!(W.is_multiple_of(SIDE), "a panel is made of whole groups of lines");
    let depth = panel.len() / W;
    let whole = depth / SIDE * SIDE;
    for (block, steps) in panel.chunks_exact_mut(SIDE * W).enumerate() {
        for group in (0..W).step_by(SIDE) {
            let lines = std::array::from_fn(|i| starts[group + i].wrapping_add(block * SIDE));
            // SAFETY: the steps are inside each line, and the last store ends at `3 * W + group + 4 <= 4 * W`.
            unsafe { transpose4(lines, steps[group..].as_mut_ptr(), W) }
        }
    }
    for p in whole..depth {
        for (value, start) in panel[p * W..(p + 1) * W].iter_mut().zip(starts) {
            // SAFETY: the step is inside the line.
            *value = unsafe { *start.add(p) };
        }
    }
}

/// Writes step p of four lines to `to[p * row..p * row + 4]`, for p in order.
#[inline(always)]
unsafe fn transpose4(lines: [*const f32; 4], to: *mut f32, row: usize) {
    // SAFETY: the caller vouches for four elements of each line and for the four stores.
    unsafe {
        let [a, b, c, d] = lines.map(|line| vld1q_f32(line));
        // Pairs of lines, then pairs of pairs.
        let pairs = [vtrn1q_f32(a, b), vtrn2q_f32(a, b), vtrn1q_f32(c, d), vtrn2q_f32(c, d)];
        let [ab_even, ab_odd, cd_even, cd_odd] = pairs.map(|pair| vreinterpretq_f64_f32(pair));
        let steps = [
            vtrn1q_f64(ab_even, cd_even),
            vtrn1q_f64(ab_odd, cd_odd),
            vtrn2q_f64(ab_even, cd_even),
            vtrn2q_f64(ab_odd, cd_odd),
        ];
        for (p, step) in steps.into_iter().enumerate() {
            vst1q_f32(to.add(p * row), vreinterpretq_f32_f64(step));
        }
    }
}
