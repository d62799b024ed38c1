//! Products of panels that tiles must not multiply, by multiply-adds.

use super::BLOCK;
use crate::cpu::wide::dispatch;

dispatch! {
    /// `c[i][j] = Σ_p a[p * 32 + i] · b[p * 32 + j]`, in the order of p.
    pub(super) fn product(a: &[f32], b: &[f32], c: &mut [[f32; BLOCK]; BLOCK]) {
        const ROWS: usize = 4;
        let (a, b) = (a.as_chunks::<BLOCK>().0, b.as_chunks::<BLOCK>().0);
        for (at, c) in c.chunks_exact_mut(ROWS).enumerate() {
            let mut sums = [[0.0f32; BLOCK]; ROWS];
            for (a, b) in a.iter().zip(b) {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = a[at * ROWS + i];
                    for j in 0..BLOCK {
                        sums[j] = a.mul_add(b[j], sums[j]);
                    }
                }
            }
            c.copy_from_slice(&sums);
        }
    }
}
