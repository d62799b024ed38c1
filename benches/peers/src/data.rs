//! Random numbers that Rust and the Python child compute alike, so that no data has to travel between them.

/// The 32-bit mixer "lowbias32" (Wellons): element `i` of a draw depends on its position and the seed alone.
fn mixed(seed: u32, i: usize) -> u32 {
    let mut x = (i as u32).wrapping_mul(0x9e37_79b1).wrapping_add(seed.wrapping_mul(0x85eb_ca77));
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// `n` numbers uniform in `[-scale, scale)`, never all zeros: those would flatter kernels and power limits.
pub(crate) fn random(seed: u32, n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| ((mixed(seed, i) >> 8) as f32 * 2f32.powi(-23) - 1.0) * scale).collect()
}

/// `n` whole numbers in `0..below`.
pub(crate) fn integers(seed: u32, n: usize, below: usize) -> Vec<i64> {
    (0..n).map(|i| mixed(seed, i) as i64 % below as i64).collect()
}

/// How many values of a result are compared.
pub(crate) const SAMPLES: usize = 1024;

/// The positions of the compared values in a result of `n` values.
pub(crate) fn positions(n: usize) -> Vec<usize> {
    if n <= SAMPLES {
        (0..n).collect()
    } else {
        (0..SAMPLES).map(|j| (j * 2_654_435_761 + 12_345) % n).collect()
    }
}

/// The values at [`positions`], and how many there are in all.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Values of the whole result.
    pub(crate) numel: usize,
    /// Those that are compared.
    pub(crate) values: Vec<f32>,
}

impl Sample {
    /// Of a whole result.
    pub(crate) fn of(all: &[f32]) -> Sample {
        Sample { numel: all.len(), values: positions(all.len()).into_iter().map(|i| all[i]).collect() }
    }

    /// The largest difference from another, in units of the other's largest magnitude; `None` if the sizes differ.
    pub(crate) fn distance(&self, other: &Sample) -> Option<f32> {
        if self.numel != other.numel || self.values.len() != other.values.len() {
            return None;
        }
        let scale = other.values.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
        let worst = self.values.iter().zip(&other.values).map(|(a, b)| (a - b).abs());
        Some(worst.fold(0f32, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) }) / scale)
    }
}
