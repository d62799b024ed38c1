//! Products with few rows or columns: a matrix times at most [`FEW`] vectors, by kernels that read the matrix once.
//!
//! The matrix is the left operand of the kernels, so products with few rows are computed turned around, `Yᵀ = Bᵀ Aᵀ`. How many threads
//! share the sums of a row, and in how many parts k is cut, follows a model of cycles: all bytes at the GPU's bandwidth, and rounds of
//! blocks, each of which waits for memory a few times. The figures are estimates from the hardware's description, not measured.

use tensor::{DType, Result};

use super::plan::{BANDWIDTH, Extent, LAUNCH, Plan, Tile};
use super::product::{Output, Strided};
use super::work::{Work, run_planned};
use crate::backend::names::short;
use crate::gpu::Gpu;
use crate::launch;

/// Rows or columns up to which a product is read rather than multiplied: tensor cores would wait for memory.
pub(super) const FEW: usize = 8;

/// Threads of a block, at most, and of a multiprocessor at a time.
const THREADS: usize = 256;
const RESIDENT: usize = 1024;

/// Cycles of a block besides, and each time that its threads wait for memory.
const START: f64 = 1000.0;
const WAIT: f64 = 600.0;

/// Runs of a row that a thread asks for at once, by rows: `FEW_AT_ONCE` of `cuda/gemm/few.h`.
const AT_ONCE: usize = 4;

/// Parts of k are powers of two below this one; each costs so many cycles when they are added.
const MOST_PARTS: usize = 9;
const PART: f64 = 20.0;

/// Elements of the partial sums of a part, at most.
const MOST_PARTIAL: usize = 32 << 20;

/// Which of an operand's indices its runs of 16 bytes lie along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    K,
    Rows,
}

/// Whether a product has few rows or columns.
pub(super) fn takes(extent: Extent) -> bool {
    extent.m.min(extent.n) <= FEW
}

/// Columns that there is a kernel for, with its name in both layouts.
const COLUMNS: [(usize, [&str; 2]); 4] = [
    (1, ["few1_by_k", "few1_by_rows"]),
    (2, ["few2_by_k", "few2_by_rows"]),
    (4, ["few4_by_k", "few4_by_rows"]),
    (8, ["few8_by_k", "few8_by_rows"]),
];

/// The best choice for a product of at most [`FEW`] columns on a GPU of so many multiprocessors; of choices as good, the first.
fn plan(dtype: DType, along: Along, extent: Extent, multiprocessors: usize) -> Plan {
    let fits = |&(columns, _): &(usize, _)| columns >= extent.n.min(FEW);
    let (columns, names) =
        COLUMNS.into_iter().find(fits).expect("there is a kernel for every number up to FEW");
    let lanes = 16 / dtype.size();
    // Rows of a thread, and how many k it takes at once: `few_rows` and `few_run`.
    let (name, rows, at_once, most_share) = match along {
        Along::K => (names[0], if columns > 4 { 2 } else { 4 }, lanes, 8),
        Along::Rows => (names[1], lanes.min(32 / columns), 1, 5),
    };
    let choices = (0..=most_share).flat_map(|share| {
        (0..MOST_PARTS).map(move |log_parts| {
            let step = at_once << share;
            let depth = extent.k.div_ceil(1 << log_parts).next_multiple_of(step).max(step);
            // No more threads than have rows, whole warps of them.
            let lots = extent.m.div_ceil(rows);
            let threads = lots.saturating_mul(1 << share).clamp(32, THREADS).next_power_of_two();
            let rows = (threads >> share) * rows;
            let tile = Tile::few(name, rows, columns, depth, threads as u32, share);
            Plan { tile, parts: extent.k.div_ceil(depth).max(1), depth }
        })
    });
    // Runs across fewer than 8 threads would be less than lines of the cache; more threads than there are in a block share nothing.
    let allowed = choices.filter(|plan| {
        let across = plan.tile.threads as usize >> plan.tile.share;
        (across >= 8 || along == Along::K && across >= 1)
            && (plan.parts == 1 || plan.partial(extent) <= MOST_PARTIAL)
    });
    let cost = |plan: &Plan| cycles(plan, along, dtype, extent, multiprocessors);
    allowed.min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("one thread for each sum is always allowed")
}

/// Cycles that a choice takes.
fn cycles(plan: &Plan, along: Along, dtype: DType, extent: Extent, multiprocessors: usize) -> f64 {
    let Plan { tile, parts, depth } = *plan;
    let Extent { m, n, k, matrices } = extent;
    let bytes = (matrices * dtype.size()) as f64 * (m as f64 * k as f64 + m as f64 * n as f64);
    let blocks = m.div_ceil(tile.rows) as f64 * (parts * matrices) as f64;
    let rounds = (blocks / (multiprocessors.max(1) * (RESIDENT / tile.threads as usize)) as f64).ceil();
    let (lanes, sharing) = (16 / dtype.size(), 1usize << tile.share);
    let depth = depth.min(k.max(1));
    let (waits, sums) = match along {
        // Sums are added by shuffles, one after the other.
        Along::K => (depth.div_ceil(lanes * sharing), tile.share * 30 * n),
        Along::Rows => (depth.div_ceil(AT_ONCE * sharing), (100 + 30 * sharing) * n),
    };
    let block = START + waits as f64 * WAIT + sums as f64;
    let partial = if parts > 1 {
        LAUNCH + parts as f64 * PART + plan.partial(extent) as f64 * 8.0 / BANDWIDTH
    } else {
        0.0
    };
    bytes / BANDWIDTH + rounds * block + partial
}

/// Computes a product of few rows or columns; `by_k` says of each operand whether its runs lie along k.
pub(super) fn run(
    gpu: &'static Gpu,
    op: &'static str,
    work: &Work<Strided, Strided>,
    by_k: [bool; 2],
) -> Result<()> {
    let (mut work, by_k) =
        if work.extent.n <= work.extent.m { (*work, by_k) } else { (turned(work), [by_k[1], by_k[0]]) };
    // The kernels read vectors along k, whatever else of them would be whole.
    if !by_k[1] {
        work.b = work.b.by_elements();
    }
    let along = if by_k[0] { Along::K } else { Along::Rows };
    let plan = plan(work.dtype, along, work.extent, gpu.multiprocessors);
    let kernel = |tile: &Tile| format!("gemm_{}_{}", short(work.dtype), tile.name);
    run_planned(gpu, op, &plan, kernel, launch::gemm, &work)
}

/// The same product with rows and columns in each other's place.
fn turned(work: &Work<Strided, Strided>) -> Work<Strided, Strided> {
    let Work { extent, a, b, out, pointers: [y, left, right, bias], dtype } = *work;
    let turned = Output {
        rows: out.columns,
        columns: out.rows,
        vector: 0,
        row: out.column,
        column: out.row,
        bias_row: out.bias_column,
        bias_column: out.bias_row,
        batch: out.batch.swapped(1, 2),
        ..out
    };
    Work {
        extent: Extent { m: extent.n, n: extent.m, ..extent },
        a: b,
        b: a,
        out: turned,
        pointers: [y, right, left, bias],
        dtype,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(along: Along, m: usize, n: usize, k: usize, matrices: usize) -> Plan {
        plan(DType::F32, along, Extent { m, n, k, matrices }, 132)
    }

    #[test]
    fn the_kernel_of_the_fewest_columns_that_suffice_is_taken() {
        for (n, name) in
            [(1, "few1_by_k"), (2, "few2_by_k"), (3, "few4_by_k"), (5, "few8_by_k"), (8, "few8_by_k")]
        {
            assert_eq!(of(Along::K, 4096, n, 4096, 1).tile.name, name);
        }
        assert_eq!(of(Along::Rows, 4096, 1, 4096, 1).tile.name, "few1_by_rows");
    }

    #[test]
    fn large_matrices_keep_all_multiprocessors_busy() {
        for along in [Along::K, Along::Rows] {
            for (m, k) in [(4096, 4096), (1024, 8192), (16384, 1024), (50_000, 768)] {
                let plan = of(along, m, 1, k, 1);
                let blocks = m.div_ceil(plan.tile.rows) * plan.parts;
                assert!(blocks * plan.tile.threads as usize >= 132 * 256, "{along:?} {m} {k} {plan:?}");
            }
        }
    }

    #[test]
    fn a_single_long_sum_is_cut_into_parts() {
        let plan = of(Along::K, 1, 1, 10_000_000, 1);
        assert!(plan.parts > 32 && plan.tile.share == 8, "{plan:?}");
    }

    #[test]
    fn many_small_matrices_have_small_blocks_in_one_part() {
        for along in [Along::K, Along::Rows] {
            let plan = of(along, 16, 4, 16, 10_000);
            assert_eq!((plan.parts, plan.tile.threads), (1, 32), "{along:?}");
        }
    }

    #[test]
    fn parts_cover_k_in_whole_steps_and_none_is_empty() {
        for (along, n) in [(Along::K, 1), (Along::Rows, 7)] {
            for k in [0, 1, 5, 31, 64, 1000, 4097, 1 << 20] {
                for m in [1, 9, 300] {
                    let Plan { tile, parts, depth } = of(along, m, n, k, 3);
                    assert!((parts - 1) * depth < k.max(1) && parts * depth >= k, "{k}: {parts} of {depth}");
                    let run = if along == Along::K { 4 } else { 1 };
                    assert_eq!(depth % (run << tile.share), 0);
                    assert!(tile.threads.is_power_of_two() && (32..=256).contains(&tile.threads));
                }
            }
        }
    }

    #[test]
    fn products_with_more_rows_and_columns_are_for_tiles() {
        let extent = |m, n| Extent { m, n, k: 64, matrices: 1 };
        assert!(takes(extent(8, 1000)) && takes(extent(1000, 1)) && !takes(extent(9, 9)));
    }
}
