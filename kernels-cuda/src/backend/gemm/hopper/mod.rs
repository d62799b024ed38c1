//! Matrix products on Hopper: which of them its kernels take, and their launch.
//!
//! The kernels bring operands by tensor maps, so each operand needs a dim whose elements are neighbours, and strides of whole runs of
//! 16 bytes along the others; any extents will do. What they do not take goes to the kernels that every GPU has.
//!
//! | numbers | operands |
//! |---|---|
//! | `f16`, `bf16` | as they are, along either index |
//! | `f32` rounded to tf32, bytes | along k: others are copied first |
//! | `f32` | of any strides: split into planes of `bf16` parts first |
//!
//! Products that need a pass over their operands take it where a model of cycles says that it pays.

mod operand;
mod plan;
mod planes;

use tensor::{DType, Result};

use super::LIMIT;
use super::plan::{self as everywhere, Extent};
use super::product::{Extents, Output, Product, Strided, Tiles};
use super::work::{Work, launch_planned, sum_parts};
use crate::CudaError;
use crate::backend::copy::full;
use crate::backend::storage::{New, at};
use crate::backend::walk::{Dims, Divisor};
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};
use crate::module::Launch;
use crate::tensor_map::{Element, Swizzle, TensorMap, Tiled};

pub(crate) use self::operand::Mapped;
pub(in crate::backend) use self::operand::Operand;
use self::operand::Turned;
use self::plan::{BANDWIDTH, LAUNCH};
pub(in crate::backend) use self::plan::{Plan, Unit};
use self::planes::Planes;

/// How an operand is made what its kernel takes.
#[derive(Clone, Debug)]
enum Side {
    AsItIs(Operand),
    Turned(Box<Turned>),
    Planes(Box<Planes>),
}

impl Side {
    fn by_k(&self) -> bool {
        match self {
            Side::AsItIs(operand) => operand.by_k,
            Side::Turned(_) => true,
            Side::Planes(planes) => planes.by_k(),
        }
    }

    /// Cycles until it is.
    fn cycles(&self) -> f64 {
        let bytes = match self {
            Side::AsItIs(_) => return 0.0,
            Side::Turned(turned) => turned.bytes(),
            Side::Planes(planes) => planes.bytes(),
        };
        LAUNCH + bytes as f64 / BANDWIDTH
    }

    /// The operand, how kernels find its matrices, and the memory that must live until the product is in the queue.
    fn make(&self, gpu: &'static Gpu, strange: Pointer) -> Result<(Operand, Mapped, Option<New>)> {
        match self {
            Side::AsItIs(operand) => Ok((*operand, operand.mapped(), None)),
            Side::Turned(turned) => {
                turned.make(gpu).map(|(copy, operand)| (operand, operand.mapped(), Some(copy)))
            }
            Side::Planes(planes) => {
                planes.make(gpu, strange).map(|(made, operand)| (operand, planes.mapped(), Some(made)))
            }
        }
    }
}

/// A product that Hopper's kernels compute.
pub(super) struct Hopper {
    unit: Unit,
    plan: Plan,
    sides: [Side; 2],
    kernel: String,
    instead: Instead,
}

/// The kernels that every GPU has for the same product.
#[derive(Clone, Copy)]
pub(super) struct Instead {
    pub(super) tiles: &'static [everywhere::Tile],
    /// As their names have it, if they do.
    pub(super) layout: &'static str,
}

impl Hopper {
    /// `None` if the kernels of `unit` do not take it, are not there, or would take longer than those of every GPU. `numbers` are those of the
    /// operands as names of kernels have them; `sides` are the rows of A and the columns of B, each with the stride of k; `batch` has
    /// the strides of y, A, B and the bias.
    pub(super) fn new(
        gpu: &Gpu,
        (unit, numbers): (Unit, &str),
        work: &Work<Strided, Strided>,
        dtypes: [DType; 2],
        sides: [(&Extents, isize); 2],
        batch: &Dims<4>,
        instead: Instead,
    ) -> Option<Hopper> {
        if !gpu.is_hopper() || batch.0.len() > 2 {
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
        let Work { extent, pointers, .. } = *work;
        let side = |which: usize| {
            let (rows, stride) = sides[which];
            let (k, at, dtype) = ((extent.k, stride), pointers[which + 1], dtypes[which]);
            let beside: Vec<_> = batch.0.iter().map(|(n, s)| (*n, s[which + 1])).collect();
            if unit == Unit::SixHalves {
                return Planes::new(rows, k, &beside, extent.matrices, at)
                    .map(|planes| Side::Planes(Box::new(planes)));
            }
            let element = element(unit, dtype);
            let found = Operand::new(element, rows, k, &beside, at);
            match found.filter(|operand| operand.by_k || !unit.only_by_k()) {
                Some(operand) => Some(Side::AsItIs(operand)),
                None if unit.only_by_k() => Turned::new(element, dtype, rows, k, &beside, at)
                    .map(|turned| Side::Turned(Box::new(turned))),
                None => None,
            }
        };
        let sides = [side(0)?, side(1)?];
        let plan = Plan::new(unit, extent, gpu.multiprocessors);
        if plan.count(extent) > LIMIT
            || !pays(unit, &plan, &sides, extent, instead.tiles, gpu.multiprocessors)
        {
            return None;
        }
        let layout = layout([sides[0].by_k(), sides[1].by_k()]);
        let kernel = format!("hopper_{numbers}_{}_{layout}", plan.tile.name());
        gpu.kernel(&kernel).is_ok().then_some(Hopper { unit, plan, sides, kernel, instead })
    }

    /// Computes it.
    pub(super) fn run(
        &self,
        gpu: &'static Gpu,
        op: &'static str,
        work: &Work<Strided, Strided>,
    ) -> Result<()> {
        let Hopper { unit, plan, sides, kernel, instead } = self;
        let Work { extent, out, pointers, dtype, .. } = *work;
        let strange = match unit {
            Unit::SixHalves => {
                Some(full(gpu, tensor::Layout::contiguous(1.into()), DType::I32, tensor::Number::Int(0))?)
            }
            _ => None,
        };
        let flag = strange.as_ref().map_or(Pointer::NONE, at);
        let (a, left, _a) = sides[0].make(gpu, flag)?;
        let (b, right, _b) = sides[1].make(gpu, flag)?;
        let maps = [a.map(plan.tile.rows)?, b.map(plan.tile.columns / plan.tile.cluster)?];
        let whole = (extent.n * dtype.size()).is_multiple_of(16) && pointers[0].0.is_multiple_of(16);
        let by_tma = plan.leaves_sums(&out) && whole;
        let map = if by_tma { Some(results(pointers[0], extent, dtype)?) } else { None };
        let mapped = Work { extent, a: left, b: right, out, pointers, dtype };
        if strange.is_none() {
            return run(gpu, kernel, launch::hopper, plan, &mapped, maps, map);
        }
        let sums = partial(gpu, plan, &mapped)?;
        let at = sums.as_ref().map_or(Pointer::NONE, New::at);
        launch_tiles(gpu, plan, &mapped, maps, map, |launch, p, [a, b, out], count, by_tma| {
            let [y, .., bias] = pointers;
            launch::hopper_parts(gpu, kernel, launch, p, a, b, out, count, by_tma, y, at, bias, flag)
        })?;
        // Which of both computes it is known to the GPU alone. They cut k alike, so their sums are added alike.
        let other = everywhere::Plan::cut(instead.tiles, extent, plan.parts, plan.depth, gpu.multiprocessors);
        let kernel = |tile: &everywhere::Tile| format!("gemm_f32_{}_{}", tile.name, instead.layout);
        launch_planned(op, &other, kernel, work, |kernel, launch, p, [y, a, b, bias]| {
            launch::gemm_parts(gpu, kernel, launch, p, y, at, a, b, bias, flag)
        })?;
        if plan.parts > 1 {
            sum_parts(gpu, work, plan.parts, at)?;
        }
        Ok(())
    }
}

/// Whether a product takes less time than on every GPU, with what must be done before: 16-bit floats as they are always do.
fn pays(
    unit: Unit,
    plan: &Plan,
    sides: &[Side; 2],
    extent: Extent,
    tiles: &[everywhere::Tile],
    multiprocessors: usize,
) -> bool {
    if unit == Unit::Halves {
        return true;
    }
    // The number of those without parts is set to 0, and the other kernel finds that there is nothing to do.
    let more = if unit == Unit::SixHalves { 2.0 * LAUNCH } else { 0.0 };
    let here = plan.cycles(extent, multiprocessors) + sides[0].cycles() + sides[1].cycles() + more;
    here < everywhere::Plan::new(tiles, extent, multiprocessors).cycles(extent, multiprocessors)
}

/// Which operands lie along k, as names of kernels have it.
pub(super) fn layout(by_k: [bool; 2]) -> &'static str {
    match by_k {
        [true, false] => "nn",
        [true, true] => "nt",
        [false, false] => "tn",
        [false, true] => "tt",
    }
}

/// What copies bring of a dtype.
pub(in crate::backend) fn element(unit: Unit, dtype: DType) -> Element {
    match (unit, dtype) {
        (Unit::Tf32, _) => Element::Tf32,
        (Unit::Bytes, _) => Element::U8,
        (_, DType::F16) => Element::F16,
        _ => Element::Bf16,
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
    maps: [TensorMap; 2],
    results: Option<TensorMap>,
) -> Result<()> {
    let partial = partial(gpu, plan, work)?;
    let sums = partial.as_ref().map_or(Pointer::NONE, New::at);
    let [y, .., bias] = work.pointers;
    launch_tiles(gpu, plan, work, maps, results, |launch, p, [a, b, out], count, by_tma| {
        launcher(gpu, kernel, launch, p, a, b, out, count, by_tma, y, sums, bias)
    })?;
    if plan.parts > 1 {
        sum_parts(gpu, work, plan.parts, sums)?;
    }
    Ok(())
}

/// Memory for partial sums, if there are any.
fn partial<A, B>(gpu: &'static Gpu, plan: &Plan, work: &Work<A, B>) -> Result<Option<New>> {
    match plan.parts {
        1 => Ok(None),
        _ => New::contiguous(gpu, plan.partial(work.extent), work.dtype.accumulator()).map(Some),
    }
}

/// Launches the tiles of a plan: `launcher` is given what all kernels of Hopper take, but for addresses.
fn launch_tiles<A: Copy, B: Copy>(
    gpu: &Gpu,
    plan: &Plan,
    work: &Work<A, B>,
    [map_a, map_b]: [TensorMap; 2],
    results: Option<TensorMap>,
    launcher: impl FnOnce(Launch, Product<A, B>, [TensorMap; 3], u32, u32) -> std::result::Result<(), CudaError>,
) -> Result<()> {
    let (Plan { tile, parts, depth, .. }, Work { extent, a, b, out, .. }) = (*plan, *work);
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
    let count = plan.count(extent);
    let clusters = count.min((gpu.multiprocessors / tile.cluster).max(1));
    let launch =
        Launch { shared: plan.shared() as u32, ..Launch::new((clusters * tile.cluster) as u32, 384) };
    let maps = [map_a, map_b, results.unwrap_or(map_a)];
    Ok(launcher(launch, product, maps, count as u32, u32::from(results.is_some()))?)
}

/// The map of row-major results.
fn results(y: Pointer, extent: Extent, dtype: DType) -> std::result::Result<TensorMap, CudaError> {
    let [m, n, matrices] = [extent.m, extent.n, extent.matrices].map(|n| n as u64);
    let size = dtype.size() as u64;
    let element = match dtype {
        DType::F16 => Element::F16,
        DType::BF16 => Element::Bf16,
        DType::I32 => Element::I32,
        _ => Element::F32,
    };
    let tensor = Tiled {
        element,
        address: y.0,
        dims: &[n, m, matrices],
        strides: &[size * n, size * n * m],
        box_dims: &[(128 / size) as u32, 64, 1],
        swizzle: Swizzle::Bytes128,
    };
    tensor.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a product pays whose operands lie along k or not.
    fn pays_for(unit: Unit, [m, n, k]: [usize; 3], by_k: [bool; 2], multiprocessors: usize) -> bool {
        let extent = Extent { m, n, k, matrices: 1 };
        let dtype = if unit == Unit::Bytes { DType::U8 } else { DType::F32 };
        let side = |rows: usize, by_k: bool| {
            let (row, step) = if by_k { (k as isize, 1) } else { (1, rows as isize) };
            let rows: &Extents = &[(rows, row)];
            let k = (k, step);
            match unit {
                Unit::SixHalves => Side::Planes(Box::new(Planes::new(rows, k, &[], 1, Pointer(0)).unwrap())),
                _ if by_k => {
                    Side::AsItIs(Operand::new(element(unit, dtype), rows, k, &[], Pointer(0)).unwrap())
                }
                _ => Side::Turned(Box::new(
                    Turned::new(element(unit, dtype), dtype, rows, k, &[], Pointer(0)).unwrap(),
                )),
            }
        };
        let tiles = match unit {
            Unit::Halves => &everywhere::HALF,
            Unit::Tf32 => &everywhere::TF32,
            Unit::SixHalves => &everywhere::SIX_HALVES,
            Unit::Bytes => &everywhere::BYTES,
        };
        let plan = Plan::new(unit, extent, multiprocessors);
        pays(unit, &plan, &[side(m, by_k[0]), side(n, by_k[1])], extent, tiles, multiprocessors)
    }

    #[test]
    fn a_pass_over_the_operands_pays_for_large_products_and_not_for_small_ones() {
        for unit in [Unit::Tf32, Unit::SixHalves, Unit::Bytes] {
            for by_k in [[true, true], [true, false], [false, false]] {
                assert!(pays_for(unit, [4096; 3], by_k, 132), "{unit:?} {by_k:?}");
                assert!(pays_for(unit, [8192, 1024, 4096], by_k, 132), "{unit:?} {by_k:?}");
                assert!(!pays_for(unit, [128; 3], by_k, 132), "{unit:?} {by_k:?}");
            }
            // Few sums of each number that is turned or split.
            assert!(!pays_for(unit, [64, 1 << 16, 64], [false; 2], 132), "{unit:?}");
        }
    }

    #[test]
    fn each_tile_is_chosen_for_one_of_the_products_of_tests() {
        // Those of tests/hopper_numbers.rs, on the emulated GPU, which has four multiprocessors.
        let products = [
            (
                Unit::Tf32,
                &[[72, 264, 200], [136, 136, 776], [72, 776, 392], [136, 392, 392], [264, 264, 200]][..],
            ),
            (Unit::SixHalves, &[[72, 264, 392], [136, 136, 392], [264, 264, 104]]),
            (
                Unit::Bytes,
                &[[72, 264, 784], [136, 136, 784], [72, 776, 400], [136, 392, 400], [264, 264, 784]],
            ),
        ];
        for (unit, products) in products {
            let chosen = products.iter().map(|&[m, n, k]| {
                assert!(pays_for(unit, [m, n, k], [true; 2], 4), "{unit:?} {m} {n} {k}");
                Plan::new(unit, Extent { m, n, k, matrices: 1 }, 4).tile.name()
            });
            let mut names: Vec<_> = chosen.collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), if unit == Unit::SixHalves { 3 } else { 5 }, "{unit:?} {names:?}");
        }
    }
}
