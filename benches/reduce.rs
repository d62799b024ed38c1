//! Reductions of 2²⁰ elements. Bytes are those of the input.

mod common;

use common::{bench, random, settings};
use criterion::Throughput::Bytes;
use gradus::{DType, Result};

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("reduce");
    for dtype in [DType::F32, DType::BF16] {
        let x = random([1024, 1024], dtype)?;
        let mut run = |name: &str, f: &dyn Fn() -> Result<_>| {
            let traffic = Bytes((x.numel() * dtype.size()) as u64);
            bench(&mut group, &format!("{name}/1024x1024/{dtype}"), traffic, f);
        };
        run("sum_all", &|| x.sum_all());
        run("sum_rows", &|| x.sum(-1, false));
        run("sum_columns", &|| x.sum(0, false));
        run("sum_transposed", &|| x.t()?.sum(-1, false));
        run("max_rows", &|| x.amax(-1, false));
        run("argmax_rows", &|| x.argmax(-1, false));
        run("var_rows", &|| x.var(-1, 1, false));
        run("cumsum_rows", &|| x.cumsum(-1));
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
