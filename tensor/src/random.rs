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
#[inline]
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
#[inline]
pub fn unit_f64(bits: [u32; 4]) -> f64 {
    ((bits[0] as u64) << 21 ^ (bits[1] as u64) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A standard normal double (Box-Muller on two uniform numbers in `(0, 1]` and `[0, 1)`).
#[inline]
pub fn normal_f64(bits: [u32; 4]) -> f64 {
    let u = 1.0 - unit_f64(bits);
    let v = unit_f64([bits[2], bits[3], 0, 0]);
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
