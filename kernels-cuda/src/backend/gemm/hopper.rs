//! Matrix products of `f16` and `bf16` on Hopper: which of them its kernels take, in which tile, and their launch.
//!
//! The kernels bring operands by tensor maps, so each operand needs a dim whose elements are neighbours, and strides of whole runs of
//! 16 bytes along the others; any extents will do. What they do not take goes to the kernels that every GPU has.
//!
//! The choice follows a model of cycles: each step of a tile takes as long as its multiplications or its bytes from the L2 cache,
//! whichever is longer, and blocks take tiles until all are done. The figures are from the hardware's description, not measured.

use tensor::{DType, Result};

use super::LIMIT;
use super::plan::Extent;
use super::product::{Extents, Output, Product, Strided, Tiles};
use super::work::{Work, sum_parts};
use crate::CudaError;
use crate::backend::names::short;
use crate::backend::storage::New;
use crate::backend::walk::{Dims, Divisor};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;
use crate::tensor_map::{Element, Swizzle, TensorMap, Tiled};

/// Of k, in elements of 16 bits: 128 bytes.
const DEPTH: usize = 64;

/// What a block may have of shared memory.
const SHARED: usize = 232_448;

/// A tile that there are kernels for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tile {
    rows: usize,
    columns: usize,
    /// Blocks of a cluster: they have the same columns, and bring them once.
    cluster: usize,
    /// Multiply-adds of a multiprocessor in a cycle.
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
const LAUNCH: f64 = 4000.0;
const BANDWIDTH: f64 = 2000.0;
const MOST_PARTS: usize = 32;
const MOST_BYTES: usize = 256 << 20;

impl Tile {
    /// As the names of its kernels have it.
    fn name(&self) -> String {
        format!("{}x{}_{}", self.rows, self.columns, self.cluster)
    }

    /// Bytes of a stage, of the stages that fit, and of what else a block has in shared memory: `Ring` of `cuda/hopper/ring.h`.
    fn shared(&self) -> usize {
        let (stage, out) = ((self.rows + self.columns) * 2 * DEPTH, 2 * 64 * 64 * 4);
        let stages = (SHARED - out - 256) / stage;
        stages * (stage + 16) + out
    }

    /// Tiles of a result, down in whole clusters and across.
    fn grid(&self, extent: Extent) -> (usize, usize) {
        (extent.m.div_ceil(self.rows * self.cluster), extent.n.div_ceil(self.columns))
    }
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    tile: Tile,
    /// Of k, each of `depth` but the last.
    parts: usize,
    depth: usize,
}

impl Plan {
    /// The best choice on a GPU of so many multiprocessors; of choices as good, the first.
    fn new(extent: Extent, multiprocessors: usize) -> Plan {
        let steps = extent.k.div_ceil(DEPTH).max(1);
        let choices = TILES.iter().flat_map(|&tile| {
            (1..=MOST_PARTS.min(steps)).map(move |parts| {
                let depth = steps.div_ceil(parts) * DEPTH;
                Plan { tile, parts: extent.k.div_ceil(depth).max(1), depth }
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

    /// Elements of all partial sums.
    fn partial(&self, extent: Extent) -> usize {
        self.parts.saturating_mul(extent.m).saturating_mul(extent.n).saturating_mul(extent.matrices)
    }

    /// Tiles of all clusters, parts and matrices.
    fn count(&self, extent: Extent) -> usize {
        let (down, across) = self.tile.grid(extent);
        down.saturating_mul(across).saturating_mul(self.parts).saturating_mul(extent.matrices)
    }

    fn cycles(&self, extent: Extent, multiprocessors: usize) -> f64 {
        let Tile { rows, columns, cluster, rate } = self.tile;
        let clusters = (multiprocessors / cluster).max(1);
        let rounds = (self.count(extent) as f64 / clusters as f64).ceil();
        let multiplied = (rows * columns * DEPTH) as f64 / rate;
        let brought = ((rows + columns / cluster) * 2 * DEPTH) as f64 / L2_BYTES;
        let size = if self.parts > 1 { 4 } else { 2 };
        let stored = (rows * columns * size) as f64 / STORE_BYTES;
        let tile =
            (self.depth.min(extent.k.max(1)).div_ceil(DEPTH)) as f64 * multiplied.max(brought) + stored;
        // Partial sums are read again.
        let sums = if self.parts > 1 { LAUNCH + self.partial(extent) as f64 * 4.0 / BANDWIDTH } else { 0.0 };
        START + rounds * tile + sums
    }
}

/// An operand as kernels take it: `Mapped` of `cuda/hopper/ring.h`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Mapped {
    inner: Divisor,
    steps: [u32; 2],
    unused: u32,
}

/// An operand of a product: rows (of A, or columns of B), k, and up to two dims of matrices, the inner one first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Operand {
    rows: (usize, isize),
    k: (usize, isize),
    batch: [(usize, isize); 2],
    address: u64,
    by_k: bool,
}

impl Operand {
    /// `None` if a tensor map cannot describe it.
    fn new(rows: &Extents, k: (usize, isize), batch: &Extents, address: Pointer) -> Option<Operand> {
        let joined = Dims::<1>(rows.iter().filter(|d| d.0 != 1).map(|&(n, s)| (n, [s])).collect()).joined();
        let rows = match joined.0[..] {
            [] => (1, 1),
            [(n, [stride])] => (n, stride),
            _ => return None,
        };
        let mut dims = [(1, 0); 2];
        dims.get_mut(..batch.len())?.copy_from_slice(batch);
        let fits = |(n, stride): (usize, isize)| n == 1 || stride > 0 && stride % 8 == 0;
        let batches = dims.iter().all(|&(n, stride)| n == 1 || stride == 0 || fits((n, stride)));
        let along = |near: (usize, isize), far| (near.0 == 1 || near.1 == 1) && fits(far);
        let by_k = along(k, rows);
        let taken = batches && address.0.is_multiple_of(16) && (by_k || along(rows, k)) && k.0 > 0;
        taken.then_some(Operand { rows, k, batch: dims, address: address.0, by_k })
    }

    /// The map of its matrices, in boxes of so many rows.
    fn map(&self, dtype: DType, rows: usize) -> std::result::Result<TensorMap, CudaError> {
        let (near, far) = if self.by_k { (self.k, self.rows) } else { (self.rows, self.k) };
        let boxed = if self.by_k { rows } else { DEPTH };
        // A stride that leads nowhere is any that the driver takes.
        let bytes = |(n, stride): (usize, isize)| if n == 1 { 16 } else { 2 * stride as u64 };
        let [inner, outer] = self.batch.map(|dim| if dim.1 == 0 { (1, 0) } else { dim });
        let tensor = Tiled {
            element: element(dtype),
            address: self.address,
            dims: &[near.0, far.0, inner.0, outer.0].map(|n| n as u64),
            strides: &[bytes(far), bytes(inner), bytes(outer)],
            box_dims: &[64, boxed as u32, 1, 1],
            swizzle: Swizzle::Bytes128,
        };
        tensor.encode()
    }

    fn mapped(&self) -> Mapped {
        let steps = self.batch.map(|(_, stride)| u32::from(stride != 0));
        Mapped { inner: Divisor::new(self.batch[0].0), steps, unused: 0 }
    }
}

fn element(dtype: DType) -> Element {
    if dtype == DType::F16 { Element::F16 } else { Element::Bf16 }
}

/// A product that Hopper's kernels compute.
pub(super) struct Hopper {
    plan: Plan,
    a: Operand,
    b: Operand,
    kernel: String,
}

impl Hopper {
    /// `None` if the kernels do not take it or are not there. `sides` are the rows of A and the columns of B, each with the stride of k;
    /// `batch` has the strides of y, A, B and the bias.
    pub(super) fn new(
        gpu: &Gpu,
        work: &Work<Strided, Strided>,
        sides: [(&Extents, isize); 2],
        batch: &Dims<4>,
    ) -> Option<Hopper> {
        if !gpu.is_hopper() || !matches!(work.dtype, DType::F16 | DType::BF16) || batch.0.len() > 2 {
            return None;
        }
        // All that is done to results, by name: what comes to be asked for besides must be done by the kernels too, or not come here.
        let Output {
            rows: _,
            columns: _,
            with_bias: _,
            vector: _,
            row: _,
            column: _,
            bias_row: _,
            bias_column: _,
            batch: _,
            epilogue: _,
        } = work.out;
        let beside = |operand: usize| batch.0.iter().map(|(n, s)| (*n, s[operand])).collect::<Vec<_>>();
        let [(rows, a_k), (columns, b_k)] = sides;
        let Work { extent, pointers, .. } = *work;
        let a = Operand::new(rows, (extent.k, a_k), &beside(1), pointers[1])?;
        let b = Operand::new(columns, (extent.k, b_k), &beside(2), pointers[2])?;
        let plan = Plan::new(extent, gpu.multiprocessors);
        if plan.count(extent) > LIMIT {
            return None;
        }
        let layout = match (a.by_k, b.by_k) {
            (true, false) => "nn",
            (true, true) => "nt",
            (false, false) => "tn",
            (false, true) => "tt",
        };
        let kernel = format!("hopper_{}_{}_{layout}", short(work.dtype), plan.tile.name());
        gpu.kernel(&kernel).is_ok().then_some(Hopper { plan, a, b, kernel })
    }

    /// Computes it.
    pub(super) fn run(&self, gpu: &'static Gpu, work: &Work<Strided, Strided>) -> Result<()> {
        let Hopper { plan, a, b, kernel } = self;
        let Work { extent, out, pointers, dtype, .. } = *work;
        let maps = [a.map(dtype, plan.tile.rows)?, b.map(dtype, plan.tile.columns / plan.tile.cluster)?];
        let whole = extent.n.is_multiple_of(8) && pointers[0].0.is_multiple_of(16);
        let by_tma = plan.leaves_sums(&out) && whole;
        let map = if by_tma { Some(results(pointers[0], extent, dtype)?) } else { None };
        let work = Work { extent, a: a.mapped(), b: b.mapped(), out, pointers, dtype };
        run(gpu, kernel, launch::hopper, plan, &work, maps, map)
    }
}

/// What launches the kernels of a kind of operands: maps of A, B and the results, how many tiles, whether TMA stores them, then y,
/// partial sums and bias.
pub(in crate::backend) type Launcher<A, B> = fn(
    &Gpu,
    &str,
    Launch,
    Product<A, B>,
    TensorMap,
    TensorMap,
    TensorMap,
    u32,
    u32,
    Pointer,
    Pointer,
    Pointer,
) -> std::result::Result<(), CudaError>;

/// Computes a product as it was planned. Results are stored by TMA where there is a map of them, which a plan without parts may have
/// if it [leaves sums as they are](Plan::leaves_sums).
pub(in crate::backend) fn run<A: Copy, B: Copy>(
    gpu: &'static Gpu,
    kernel: &str,
    launcher: Launcher<A, B>,
    plan: &Plan,
    work: &Work<A, B>,
    [map_a, map_b]: [TensorMap; 2],
    results: Option<TensorMap>,
) -> Result<()> {
    let (Plan { tile, parts, depth }, Work { extent, a, b, out, pointers: [y, _, _, bias], .. }) =
        (*plan, *work);
    let (down, across) = tile.grid(extent);
    let product = Product {
        k: extent.k as u32,
        depth: depth as u32,
        first: 0,
        parts: Divisor::new(parts),
        tiles: Tiles::new(down, across),
        share: 0,
        a,
        b,
        out,
    };
    let partial = match parts {
        1 => None,
        _ => Some(New::contiguous(gpu, plan.partial(extent), DType::F32)?),
    };
    let sums = partial.as_ref().map_or(Pointer::NONE, New::at);
    let count = plan.count(extent);
    let clusters = count.min((gpu.multiprocessors / tile.cluster).max(1));
    let launch =
        Launch { shared: tile.shared() as u32, ..Launch::new((clusters * tile.cluster) as u32, 384) };
    let (count, by_tma) = (count as u32, u32::from(results.is_some()));
    let map_y = results.unwrap_or(map_a);
    launcher(gpu, kernel, launch, product, map_a, map_b, map_y, count, by_tma, y, sums, bias)?;
    if parts > 1 {
        sum_parts(gpu, work, parts, sums)?;
    }
    Ok(())
}

/// The map of row-major results.
fn results(y: Pointer, extent: Extent, dtype: DType) -> std::result::Result<TensorMap, CudaError> {
    let [m, n, matrices] = [extent.m, extent.n, extent.matrices].map(|n| n as u64);
    let tensor = Tiled {
        element: element(dtype),
        address: y.0,
        dims: &[n, m, matrices],
        strides: &[2 * n, 2 * n * m],
        box_dims: &[64, 64, 1],
        swizzle: Swizzle::Bytes128,
    };
    tensor.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(m: usize, n: usize, k: usize, matrices: usize) -> Plan {
        Plan::new(Extent { m, n, k, matrices }, 132)
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
        assert!(long.parts > 16 && long.depth.is_multiple_of(DEPTH), "{long:?}");
        assert!(plan(512, 512, 512, 64).parts == 1);
    }

    #[test]
    fn every_cut_of_k_has_no_empty_part() {
        for k in 1..3000 {
            let plan = plan(8, 8, k, 1);
            assert!((plan.parts - 1) * plan.depth < k && plan.parts * plan.depth >= k, "{k} {plan:?}");
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
        let chosen = products.map(|(m, n, k)| Plan::new(Extent { m, n, k, matrices: 1 }, 4).tile);
        for tile in TILES {
            assert!(chosen.contains(&tile), "{tile:?} of {chosen:?}");
        }
    }

    #[test]
    fn tiles_fit_into_shared_memory_with_four_stages_or_more() {
        for tile in TILES {
            let stage = (tile.rows + tile.columns) * 128;
            assert!(tile.shared() <= SHARED && tile.shared() > 4 * stage, "{tile:?}");
        }
    }

    #[test]
    fn operands_need_neighbours_along_one_dim_and_whole_runs_along_the_others() {
        let new = |rows: &Extents, k, batch: &Extents| Operand::new(rows, k, batch, Pointer(64));
        assert!(new(&[(5, 72)], (70, 1), &[]).unwrap().by_k);
        assert!(!new(&[(5, 1)], (70, 8), &[]).unwrap().by_k);
        assert!(new(&[(5, 70)], (70, 1), &[]).is_none());
        assert!(new(&[(5, -72)], (70, 1), &[]).is_none());
        assert!(new(&[(5, 144)], (70, 2), &[]).is_none());
        assert!(new(&[(5, 72), (3, 400)], (70, 1), &[]).is_none());
        assert!(new(&[(5, 72), (3, 360)], (70, 1), &[]).is_some());
        assert!(new(&[(5, 72)], (70, 1), &[(3, 8), (4, 0)]).is_some());
        assert!(new(&[(5, 72)], (70, 1), &[(3, 9)]).is_none());
        assert!(new(&[(5, 72)], (70, 1), &[(3, 8), (4, 16), (5, 24)]).is_none());
        assert!(new(&[(5, 72)], (0, 1), &[]).is_none());
        assert!(Operand::new(&[(5, 72)], (70, 1), &[], Pointer(72)).is_none());
        assert_eq!(new(&[(1, 9)], (70, 1), &[]).unwrap().rows, (1, 1));
    }
}
