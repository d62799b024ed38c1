//! Counter-based random numbers: the same on every device and for any number of threads.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Element `i`
//! of a draw is made from counter `offset + i` alone, so it does not matter who computes it or when.

use std::sync::{LazyLock, Mutex, MutexGuard};

/// A stream of random numbers: a seed and how many were drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    seed: u64,
    offset: u64,
}

static GLOBAL: LazyLock<Mutex<Generator>> = LazyLock::new(|| Mutex::new(Generator::new(0)));

impl Generator {
    /// The start of the stream of a seed.
    pub fn new(seed: u64) -> Generator {
        Generator { seed, offset: 0 }
    }

    /// A stream taken up where it was left, from what [`seed`](Self::seed) and [`offset`](Self::offset) gave.
    pub fn resume(seed: u64, offset: u64) -> Generator {
        Generator { seed, offset }
    }

    /// The generator behind `Tensor::rand` and the like. Seeded with 0 until [`manual_seed`] is called.
    pub fn global() -> MutexGuard<'static, Generator> {
        GLOBAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many numbers were drawn.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes `n` numbers off the stream: their counters start at the result.
    pub fn advance(&mut self, n: u64) -> u64 {
        let at = self.offset;
        self.offset = self.offset.wrapping_add(n);
        at
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let at = self.advance(1);
        let [a, b, ..] = philox(self.seed, at);
        (a as u64) << 32 | b as u64
    }

    /// A uniform integer in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.next_u64() as u128 * n as u128) >> 64) as usize
    }

    /// A generator whose stream has nothing to do with this one's: for a worker, a layer, an epoch.
    pub fn fork(&mut self) -> Generator {
        Generator::new(self.next_u64())
    }

    /// Puts a slice in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Restarts the global generator from a seed.
pub fn manual_seed(seed: u64) {
    *Generator::global() = Generator::new(seed);
}

/// 128 random bits from a seed and a counter: Philox4x32 with 10 rounds.
///
/// ```
/// // Known answer of the Random123 distribution: all-zero key and counter.
/// assert_eq!(gradus_tensor::random::philox(0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
#[inline(always)]
pub fn philox(seed: u64, counter: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    let mut c = [counter as u32, (counter >> 32) as u32, 0, 0];
    for _ in 0..10 {
        let a = 0xD251_1F53 * c[0] as u64;
        let b = 0xCD9E_8D57 * c[2] as u64;
        c = [(b >> 32) as u32 ^ c[1] ^ key[0], b as u32, (a >> 32) as u32 ^ c[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// A double in `[0, 1)` with 53 random bits.
#[inline(always)]
pub fn unit_f64(bits: [u32; 4]) -> f64 {
    // Both parts and their sum are exact; a loop of these becomes one of vectors.
    (f64::from(bits[0]) * 2_097_152.0 + f64::from(bits[1] >> 11)) * (1.0 / (1u64 << 53) as f64)
}

/// A standard normal double (Box-Muller on two uniform numbers in `(0, 1]` and `[0, 1)`).
#[inline(always)]
pub fn normal_f64(bits: [u32; 4]) -> f64 {
    let u = 1.0 - unit_f64(bits);
    let v = unit_f64([bits[2], bits[3], 0, 0]);
    (-2.0 * ln(u)).sqrt() * cos_of_turns(v)
}

/// `c₀ + c₁ x + c₂ x² + …`, by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum * x + coefficients[i];
    }
    sum
}

/// The natural logarithm of a normal positive number, to an ulp and without a branch; coefficients of FDLIBM.
#[inline(always)]
fn ln(x: f64) -> f64 {
    // x = 2^n · (1 + f) with √½ <= 1 + f < √2; the exponent field becomes a number below 2⁵² by its bits.
    let shifted = x.to_bits().wrapping_add(1f64.to_bits() - std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let n = f64::from_bits(shifted >> 52 | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let f = f64::from_bits(x.to_bits().wrapping_sub((shifted >> 52).wrapping_sub(1023) << 52)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial(
        z,
        [
            6.666_666_666_666_735e-1,
            3.999_999_999_940_942e-1,
            2.857_142_874_366_239e-1,
            2.222_219_843_214_978_4e-1,
            1.818_357_216_161_805e-1,
            1.531_383_769_920_937_3e-1,
            1.479_819_860_511_658_6e-1,
        ],
    );
    let half = 0.5 * f * f;
    // ln 2 in two parts, the first with few enough bits for its product with n to be exact
    let (high, low) = (6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10);
    n * high - ((half - (s * (half + r) + n * low)) - f)
}

/// `cos(2π v)` for `v` in `[0, 1)`, to an ulp of 1 and without a branch; coefficients of FDLIBM.
#[inline(always)]
fn cos_of_turns(v: f64) -> f64 {
    /// `1.5 · 2⁵²`: added to a small number, it leaves the nearest integer.
    const ROUNDING: f64 = 6_755_399_441_055_744.0;
    let quarter = (v * 4.0 + ROUNDING) - ROUNDING;
    let x = (v - quarter * 0.25) * std::f64::consts::TAU;
    let z = x * x;
    let sine = x * polynomial(
        z,
        [
            1.0,
            -1.666_666_666_666_663_2e-1,
            8.333_333_333_322_49e-3,
            -1.984_126_982_985_795e-4,
            2.755_731_370_707_007e-6,
            -2.505_076_025_340_686_3e-8,
            1.589_690_995_211_55e-10,
        ],
    );
    let cosine = polynomial(
        z,
        [
            1.0,
            -0.5,
            4.166_666_666_666_66e-2,
            -1.388_888_888_887_411e-3,
            2.480_158_728_947_673e-5,
            -2.755_731_435_139_066_3e-7,
            2.087_572_321_298_175e-9,
            -1.135_964_755_778_819_5e-11,
        ],
    );
    let odd = (quarter == 1.0) | (quarter == 3.0);
    let value = if odd { sine } else { cosine };
    if (quarter == 1.0) | (quarter == 2.0) { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::{cos_of_turns, ln, normal_f64, philox};

    #[test]
    fn normal_numbers_are_those_of_the_library_functions() {
        for i in 0..100_000u64 {
            let bits = philox(3, i);
            let u = (((bits[0] as u64) << 21 ^ (bits[1] as u64) >> 11) as f64)
                .mul_add(-1.0 / (1u64 << 53) as f64, 1.0);
            let v = ((bits[2] as u64) << 21 ^ (bits[3] as u64) >> 11) as f64 / (1u64 << 53) as f64;
            assert!((ln(u) - u.ln()).abs() <= 3e-16 * u.ln().abs(), "ln {u}");
            let (cosine, expected) = (cos_of_turns(v), (std::f64::consts::TAU * v).cos());
            assert!((cosine - expected).abs() < 1e-15, "cos of {v} turns");
            let y = (-2.0 * u.ln()).sqrt() * expected;
            assert!((normal_f64(bits) - y).abs() < 1e-14, "{y}");
        }
        for (x, y) in
            [(1.0, 0.0), (0.5, -std::f64::consts::LN_2), (f64::EPSILON / 2.0, -36.736_800_569_677_1)]
        {
            assert!((ln(x) - y).abs() < 1e-13, "ln {x}");
        }
        assert_eq!([0.0, 0.5].map(cos_of_turns), [1.0, -1.0]);
        assert!(cos_of_turns(0.25).abs() < 1e-15 && cos_of_turns(0.75).abs() < 1e-15);
    }
}
