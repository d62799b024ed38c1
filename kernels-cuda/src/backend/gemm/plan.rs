//! Which tile a product is computed in, and into how many parts its sums are cut: a model of the cycles that each choice takes.
//!
//! A block takes `rows · columns · ⌈depth⌉ / (rate · efficiency) + START` cycles, and each multiprocessor one block after the other,
//! `⌈blocks / multiprocessors⌉` of them. Parts of k make more blocks of a small result, and cost the traffic of their sums and a launch
//! more. The figures are estimates from the hardware's description, not measured.

use tensor::F32Mode;

/// A tile that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    /// As the names of its kernels have it.
    pub(crate) name: &'static str,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Steps of k.
    pub(crate) depth: usize,
    pub(crate) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
    /// How many threads share sums, as a logarithm, where kernels leave that open.
    pub(crate) share: usize,
    /// Multiply-adds of a multiprocessor in a cycle, at best.
    rate: f64,
    /// The share of that which the tile reaches: larger ones load less for each multiplication.
    efficiency: f64,
}

/// Of `f32`: 128 multiply-adds a cycle.
pub(crate) const F32: [Tile; 2] = [simt("128x128", 128, 128.0, 0.9), simt("64x64", 64, 128.0, 0.6)];

/// Of `f64` without tensor cores, on GPUs that are made for them.
pub(crate) const F64: [Tile; 1] = [simt("64x64", 64, 64.0, 0.8)];

/// Of `f64` on tensor cores.
pub(crate) const DOUBLES: [Tile; 2] =
    [tensor_cores("128x128", 128, 256, 8, 128.0, 0.9), tensor_cores("64x64", 64, 128, 8, 128.0, 0.6)];

/// Of `f16` and `bf16` on tensor cores: 1024 multiply-adds a cycle by the instructions that all of them have.
pub(crate) const HALF: [Tile; 2] =
    [tensor_cores("128x128", 128, 256, 32, 1024.0, 0.9), tensor_cores("64x64", 64, 128, 32, 1024.0, 0.6)];

/// Of bytes, twice as fast as numbers of 16 bits.
pub(crate) const BYTES: [Tile; 2] =
    [tensor_cores("128x128", 128, 256, 64, 2048.0, 0.9), tensor_cores("64x64", 64, 128, 64, 2048.0, 0.6)];

/// Of `f32` as one product of tf32 numbers, half as fast as those of 16 bits.
pub(crate) const TF32: [Tile; 2] = [
    tensor_cores("tf32_128x128", 128, 256, 16, 512.0, 0.9),
    tensor_cores("tf32_64x64", 64, 128, 16, 512.0, 0.6),
];

/// Of `f32` as six products of `bf16` parts.
pub(crate) const SIX_HALVES: [Tile; 2] = [
    tensor_cores("6xbf16_128x128", 128, 256, 16, 170.0, 0.8),
    tensor_cores("6xbf16_64x64", 64, 128, 16, 170.0, 0.6),
];

/// Terms of a sum from which on six products of parts are as exact as multiply-adds of `f32`: measured with the emulated GPU, whose
/// tensor cores truncate, from 16 on, for numbers of one sign, of both, and of many magnitudes.
const EXACT_FROM: usize = 64;

/// Of `f32` in a mode, for sums of `k` terms on a GPU of this compute capability.
///
/// | mode | kernels |
/// |---|---|
/// | `Strict` | multiply-adds of `f32` |
/// | `Auto` | six products of `bf16` parts where they are as exact and tensor cores much faster than multiply-adds, else as `Strict` |
/// | `Fast`, `Bf16` | operands rounded to tf32, of 11 significant bits |
pub(crate) fn of_f32(mode: F32Mode, k: usize, capability: (u32, u32)) -> &'static [Tile] {
    // Those of the other GPUs are about as fast as their multiply-adds.
    let many_cores = matches!(capability, (8, 0) | (9 | 10, _));
    match mode {
        F32Mode::Auto if k >= EXACT_FROM && many_cores => &SIX_HALVES,
        F32Mode::Auto | F32Mode::Strict => &F32,
        F32Mode::Fast | F32Mode::Bf16 => &TF32,
    }
}

const fn tensor_cores(
    name: &'static str,
    side: usize,
    threads: u32,
    depth: usize,
    rate: f64,
    efficiency: f64,
) -> Tile {
    // Four stages of both operands, of 64 bytes a row.
    let shared = (4 * 64 * side * 2) as u32;
    Tile { name, rows: side, columns: side, depth, threads, shared, share: 0, rate, efficiency }
}

const fn simt(name: &'static str, side: usize, rate: f64, efficiency: f64) -> Tile {
    Tile { name, rows: side, columns: side, depth: 16, threads: 256, shared: 0, share: 0, rate, efficiency }
}

/// Cycles until a block's first tile is there, and from its last until its results are stored.
const START: f64 = 1500.0;

/// Cycles of one launch more.
pub(super) const LAUNCH: f64 = 4000.0;

/// Bytes that all of the GPU reads or writes in a cycle.
pub(super) const BANDWIDTH: f64 = 2000.0;

/// The most parts, and the most bytes of partial sums.
const MOST_PARTS: usize = 64;
const MOST_BYTES: usize = 256 << 20;

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) tile: Tile,
    /// Of k, each of `depth` but the last.
    pub(crate) parts: usize,
    pub(crate) depth: usize,
}

/// A product's extents, at least 1 but for `k`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) matrices: usize,
}

impl Tile {
    /// Of the kernels for few columns, whose plans have a model of their own.
    pub(super) fn few(
        name: &'static str,
        rows: usize,
        columns: usize,
        depth: usize,
        threads: u32,
        share: usize,
    ) -> Tile {
        Tile { name, rows, columns, depth, threads, shared: 0, share, rate: 0.0, efficiency: 0.0 }
    }
}

impl Plan {
    /// The best of `tiles` on a GPU of so many multiprocessors; of choices as good, the first. Depends on nothing else, so that
    /// results are the same each time.
    pub(crate) fn new(tiles: &[Tile], extent: Extent, multiprocessors: usize) -> Plan {
        let choices = tiles.iter().flat_map(|&tile| {
            let steps = extent.k.div_ceil(tile.depth).max(1);
            (1..=MOST_PARTS.min(steps)).map(move |parts| {
                let depth = steps.div_ceil(parts) * tile.depth;
                Plan { tile, parts: extent.k.div_ceil(depth).max(1), depth }
            })
        });
        let allowed = choices.filter(|plan| plan.parts == 1 || plan.partial(extent) * 8 <= MOST_BYTES);
        let cost = |plan: &Plan| plan.cycles(extent, multiprocessors);
        allowed.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("one part is always allowed")
    }

    /// The best of `tiles` where k is cut already.
    pub(crate) fn cut(
        tiles: &[Tile],
        extent: Extent,
        parts: usize,
        depth: usize,
        multiprocessors: usize,
    ) -> Plan {
        let plans = tiles.iter().map(|&tile| Plan { tile, parts, depth });
        let cost = |plan: &Plan| plan.cycles(extent, multiprocessors);
        plans.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("there are tiles for every product")
    }

    /// Elements of all partial sums.
    pub(crate) fn partial(&self, extent: Extent) -> usize {
        self.parts.saturating_mul(extent.m).saturating_mul(extent.n).saturating_mul(extent.matrices)
    }

    /// Tiles of a result, down and across.
    pub(crate) fn grid(&self, extent: Extent) -> (usize, usize) {
        (extent.m.div_ceil(self.tile.rows), extent.n.div_ceil(self.tile.columns))
    }

    /// How long it takes, by the model.
    pub(in crate::backend) fn cycles(&self, extent: Extent, multiprocessors: usize) -> f64 {
        let (down, across) = self.grid(extent);
        let blocks = (down * across) as f64 * (extent.matrices * self.parts) as f64;
        let products = (self.tile.rows * self.tile.columns * self.depth) as f64;
        let block = products / (self.tile.rate * self.tile.efficiency) + START;
        let multiplied = (blocks / multiprocessors.max(1) as f64).ceil() * block;
        // Written and read again.
        let sums = if self.parts > 1 { LAUNCH + self.partial(extent) as f64 * 8.0 / BANDWIDTH } else { 0.0 };
        multiplied + sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(m: usize, n: usize, k: usize, matrices: usize) -> Plan {
        Plan::new(&F32, Extent { m, n, k, matrices }, 132)
    }

    #[test]
    fn large_products_take_large_tiles_in_one_part() {
        for (m, n, k) in [(4096, 4096, 4096), (8192, 1024, 512), (16384, 4096, 64)] {
            let plan = plan(m, n, k, 1);
            assert_eq!((plan.tile.name, plan.parts), ("128x128", 1), "{m} {n} {k}");
        }
    }

    #[test]
    fn small_results_of_long_sums_are_cut_into_parts() {
        let plan = plan(64, 64, 100_000, 1);
        assert!(plan.parts > 30, "{plan:?}");
        assert!(plan.depth * (plan.parts - 1) < 100_000 && plan.depth * plan.parts >= 100_000);
        assert_eq!(plan.depth % plan.tile.depth, 0);
    }

    #[test]
    fn small_products_take_small_tiles_and_many_matrices_are_not_cut() {
        assert_eq!(plan(64, 64, 64, 1).tile.name, "64x64");
        assert_eq!(plan(64, 64, 64, 1).parts, 1);
        assert_eq!(plan(64, 64, 1000, 4096).parts, 1);
        assert_eq!(plan(512, 512, 512, 1).tile.name, "64x64");
    }

    #[test]
    fn f32_is_split_only_where_that_is_as_exact_and_faster() {
        let name = |mode, k, capability| of_f32(mode, k, capability)[0].name;
        assert_eq!(name(F32Mode::Auto, 64, (9, 0)), "6xbf16_128x128");
        assert_eq!(name(F32Mode::Auto, 64, (8, 0)), "6xbf16_128x128");
        for (k, capability) in [(63, (9, 0)), (4096, (8, 6)), (4096, (8, 9)), (4096, (12, 0))] {
            assert_eq!(name(F32Mode::Auto, k, capability), "128x128");
        }
        assert_eq!(name(F32Mode::Strict, 4096, (9, 0)), "128x128");
        assert_eq!(name(F32Mode::Fast, 4096, (8, 6)), "tf32_128x128");
        assert_eq!(name(F32Mode::Bf16, 1, (9, 0)), "tf32_128x128");
    }

    #[test]
    fn steps_of_k_on_tensor_cores_are_64_bytes() {
        for (tiles, size) in [(&BYTES, 1), (&HALF, 2), (&TF32, 4), (&SIX_HALVES, 4), (&DOUBLES, 8)] {
            for tile in tiles {
                assert_eq!(tile.depth * size, 64);
                assert_eq!(tile.shared as usize, 4 * 64 * (tile.rows + tile.columns));
            }
        }
    }

    #[test]
    fn nothing_to_sum_is_one_part() {
        let plan = plan(3, 5, 0, 1);
        assert_eq!((plan.parts, plan.grid(Extent { m: 3, n: 5, k: 0, matrices: 1 })), (1, (1, 1)));
    }

    #[test]
    fn every_cut_of_k_has_no_empty_part() {
        for k in 1..700 {
            let plan = plan(8, 8, k, 1);
            assert!((plan.parts - 1) * plan.depth < k && plan.parts * plan.depth >= k, "{k} {plan:?}");
        }
    }
}
