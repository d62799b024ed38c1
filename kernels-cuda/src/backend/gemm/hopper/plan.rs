//! What Hopper's kernels multiply, in which tiles, and which of them a product takes.
//!
//! The choice follows a model of cycles: each step of a tile takes as long as its multiplications or its bytes from the L2 cache,
//! whichever is longer, and blocks take tiles until all are done. The figures are from the hardware's description, not measured.

use crate::backend::gemm::plan::Extent;
use crate::backend::gemm::product::Output;

/// Of k in a stage of the ring, in bytes.
const ROW_BYTES: usize = 128;

/// What a block may have of shared memory.
const SHARED: usize = 232_448;

/// What the kernels multiply: the units of `cuda/hopper/unit.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Unit {
    /// `f16` and `bf16`.
    Halves,
    /// `f32` rounded to tf32.
    Tf32,
    /// `f32` as six products of `bf16` parts.
    SixHalves,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Bytes of a number in the ring.
    fn size(self) -> usize {
        match self {
            Unit::Halves | Unit::SixHalves => 2,
            Unit::Tf32 => 4,
            Unit::Bytes => 1,
        }
    }

    /// Of k in a stage.
    pub(super) fn depth(self) -> usize {
        ROW_BYTES / self.size()
    }

    /// Numbers in the ring for each of an operand.
    fn planes(self) -> usize {
        if self == Unit::SixHalves { 3 } else { 1 }
    }

    /// Instructions for each of a stage of 16-bit numbers.
    fn instructions(self) -> usize {
        if self == Unit::SixHalves { 6 } else { 1 }
    }

    /// Bytes of a result, where it is not summed in parts.
    fn of_result(self) -> usize {
        if self == Unit::Halves { 2 } else { 4 }
    }

    /// Whether both operands must lie along k.
    pub(super) fn only_by_k(self) -> bool {
        matches!(self, Unit::Tf32 | Unit::Bytes)
    }

    /// Two sums for each result are too many for the registers of the widest tiles.
    fn tiles(self) -> &'static [Tile] {
        if self == Unit::SixHalves { &TILES[2..] } else { &TILES }
    }
}

/// A tile that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    pub(in crate::backend) rows: usize,
    pub(in crate::backend) columns: usize,
    /// Blocks of a cluster: they have the same columns, and bring them once.
    pub(in crate::backend) cluster: usize,
    /// Multiply-adds of 16-bit numbers of a multiprocessor in a cycle.
    rate: f64,
}

/// 2048 multiply-adds a cycle, of which wider instructions reach more.
const TILES: [Tile; 5] = [
    Tile { rows: 128, columns: 256, cluster: 1, rate: 2048.0 * 0.87 },
    Tile { rows: 128, columns: 256, cluster: 2, rate: 2048.0 * 0.9 },
    Tile { rows: 128, columns: 128, cluster: 1, rate: 2048.0 * 0.84 },
    Tile { rows: 128, columns: 128, cluster: 2, rate: 2048.0 * 0.87 },
    Tile { rows: 128, columns: 64, cluster: 1, rate: 2048.0 * 0.8 },
];

/// Bytes that a multiprocessor takes from the L2 cache in a cycle, when all do.
const L2_BYTES: f64 = 64.0;

/// Cycles until a block's first tile is there, and from its last until its results are stored.
const START: f64 = 2500.0;

/// Bytes of results that a block stores in a cycle, while it multiplies nothing.
const STORE_BYTES: f64 = 40.0;

/// Cycles of one launch more, bytes that all of the GPU reads or writes in a cycle, and the most parts and bytes of partial sums.
pub(super) const LAUNCH: f64 = 4000.0;
pub(super) const BANDWIDTH: f64 = 2000.0;
const MOST_PARTS: usize = 32;
const MOST_BYTES: usize = 256 << 20;

impl Tile {
    /// As the names of its kernels have it.
    pub(in crate::backend) fn name(&self) -> String {
        format!("{}x{}_{}", self.rows, self.columns, self.cluster)
    }

    /// Tiles of a result, down in whole clusters and across.
    pub(super) fn grid(&self, extent: Extent) -> (usize, usize) {
        (extent.m.div_ceil(self.rows * self.cluster), extent.n.div_ceil(self.columns))
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    unit: Unit,
    pub(in crate::backend) tile: Tile,
    /// Of k, each of `depth` but the last.
    pub(super) parts: usize,
    pub(super) depth: usize,
}

impl Plan {
    /// The best choice on a GPU of so many multiprocessors; of choices as good, the first.
    pub(in crate::backend) fn new(unit: Unit, extent: Extent, multiprocessors: usize) -> Plan {
        let steps = extent.k.div_ceil(unit.depth()).max(1);
        let choices = unit.tiles().iter().flat_map(|&tile| {
            (1..=MOST_PARTS.min(steps)).map(move |parts| {
                let depth = steps.div_ceil(parts) * unit.depth();
                Plan { unit, tile, parts: extent.k.div_ceil(depth).max(1), depth }
            })
        });
        let allowed = choices.filter(|plan| plan.parts == 1 || plan.partial(extent) * 8 <= MOST_BYTES);
        let cost = |plan: &Plan| plan.cycles(extent, multiprocessors);
        allowed.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("one part is always allowed")
    }

    /// Whether nothing is done to a tile's sums but that each column has its bias, so that TMA may store them.
    pub(in crate::backend) fn leaves_sums(&self, out: &Output) -> bool {
        self.parts == 1 && out.bias_row == 0 && out.epilogue.is_plain()
    }

    /// Bytes of shared memory, with as many stages as fit: `Ring` of `cuda/hopper/ring.h`.
    pub(super) fn shared(&self) -> usize {
        let Tile { rows, columns, .. } = self.tile;
        let (stage, out) = ((rows + columns) * ROW_BYTES * self.unit.planes(), 2 * 64 * 64 * 4);
        let stages = (SHARED - out - 256) / stage;
        stages * (stage + 16) + out
    }

    /// Elements of all partial sums.
    pub(super) fn partial(&self, extent: Extent) -> usize {
        self.parts.saturating_mul(extent.m).saturating_mul(extent.n).saturating_mul(extent.matrices)
    }

    /// Tiles of all clusters, parts and matrices.
    pub(in crate::backend) fn count(&self, extent: Extent) -> usize {
        let (down, across) = self.tile.grid(extent);
        down.saturating_mul(across).saturating_mul(self.parts).saturating_mul(extent.matrices)
    }

    pub(in crate::backend) fn cycles(&self, extent: Extent, multiprocessors: usize) -> f64 {
        let Tile { rows, columns, cluster, rate } = self.tile;
        let clusters = (multiprocessors / cluster).max(1);
        let rounds = (self.count(extent) as f64 / clusters as f64).ceil();
        // A step takes as long whatever fills its 128 bytes.
        let multiplied = (rows * columns * 64 * self.unit.instructions()) as f64 / rate;
        let brought = ((rows + columns / cluster) * ROW_BYTES * self.unit.planes()) as f64 / L2_BYTES;
        let size = if self.parts > 1 { 4 } else { self.unit.of_result() };
        let stored = (rows * columns * size) as f64 / STORE_BYTES;
        let steps = self.depth.min(extent.k.max(1)).div_ceil(self.unit.depth());
        let tile = steps as f64 * multiplied.max(brought) + stored;
        // Partial sums are read again.
        let sums = if self.parts > 1 { LAUNCH + self.partial(extent) as f64 * 4.0 / BANDWIDTH } else { 0.0 };
        START + rounds * tile + sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: [Unit; 4] = [Unit::Halves, Unit::Tf32, Unit::SixHalves, Unit::Bytes];

    fn plan(m: usize, n: usize, k: usize, matrices: usize) -> Plan {
        Plan::new(Unit::Halves, Extent { m, n, k, matrices }, 132)
    }

    #[test]
    fn large_products_take_large_tiles_in_clusters() {
        for (m, n, k) in [(4096, 4096, 4096), (8192, 8192, 8192), (16384, 4096, 1024)] {
            let Plan { tile, parts, .. } = plan(m, n, k, 1);
            assert_eq!((tile.columns, tile.cluster, parts), (256, 2, 1), "{m} {n} {k}");
        }
    }

    #[test]
    fn small_results_take_small_tiles_and_long_sums_are_cut() {
        assert_eq!(plan(1024, 1024, 1024, 1).tile.columns, 64);
        assert_eq!(plan(2048, 1024, 1024, 1).tile.columns, 128);
        assert_eq!(plan(128, 64, 64, 1).parts, 1);
        let long = plan(128, 128, 65536, 1);
        assert!(long.parts > 16 && long.depth.is_multiple_of(64), "{long:?}");
        assert!(plan(512, 512, 512, 64).parts == 1);
    }

    #[test]
    fn every_cut_of_k_has_no_empty_part() {
        for (k, unit) in (1..3000).flat_map(|k| UNITS.map(|unit| (k, unit))) {
            let plan = Plan::new(unit, Extent { m: 8, n: 8, k, matrices: 1 }, 132);
            assert!((plan.parts - 1) * plan.depth < k && plan.parts * plan.depth >= k, "{k} {plan:?}");
            assert!(plan.depth.is_multiple_of(unit.depth()), "{k} {plan:?}");
        }
    }

    #[test]
    fn each_tile_is_chosen_for_one_of_the_products_of_tests() {
        let products = [
            (128, 64, 64),
            (200, 264, 72),
            (520, 264, 136),
            (512, 384, 256),
            (512, 512, 64),
            (100, 2048, 72),
        ];
        // The emulated GPU has four multiprocessors.
        let chosen =
            products.map(|(m, n, k)| Plan::new(Unit::Halves, Extent { m, n, k, matrices: 1 }, 4).tile);
        for tile in TILES {
            assert!(chosen.contains(&tile), "{tile:?} of {chosen:?}");
        }
    }

    #[test]
    fn tiles_fit_into_shared_memory_with_four_stages_or_two_of_planes() {
        for (unit, tile) in
            UNITS.into_iter().flat_map(|unit| unit.tiles().iter().map(move |&tile| (unit, tile)))
        {
            let plan = Plan { unit, tile, parts: 1, depth: 64 };
            let stage = (tile.rows + tile.columns) * 128 * unit.planes();
            let least = if unit == Unit::SixHalves { 2 } else { 4 };
            assert!(plan.shared() <= SHARED && plan.shared() > least * stage, "{plan:?}");
        }
    }

    #[test]
    fn steps_take_as_long_whatever_fills_them_but_parts_take_six_times_as_long() {
        let cycles = |unit: Unit| {
            let extent = Extent { m: 8192, n: 8192, k: 128 * unit.depth(), matrices: 1 };
            Plan::new(unit, extent, 132).cycles(extent, 132)
        };
        let halves = cycles(Unit::Halves);
        assert!((0.98..1.05).contains(&(cycles(Unit::Tf32) / halves)));
        assert!((0.98..1.05).contains(&(cycles(Unit::Bytes) / halves)));
        assert!((5.5..6.5).contains(&(cycles(Unit::SixHalves) / halves)));
    }
}
