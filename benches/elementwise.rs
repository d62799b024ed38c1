//! Elementwise ops on 2²⁰ elements, and on so many that results are written past the caches. Bytes are all that must be read and
//! written once.

mod common;

use common::{bench, random, settings};
use criterion::Throughput::Bytes;
use gradus::{DType, Result};

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("elementwise");
    let (side, n) = (1024, 1 << 20);
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let (x, y) = (random([side, side], dtype)?, random([side, side], dtype)?);
        let row = y.narrow(0, 0, 1)?;
        let size = dtype.size() as u64;
        let (unary, binary) = (Bytes(2 * n * size), Bytes(3 * n * size));
        let mut run = |name: &str, traffic, f: &dyn Fn() -> Result<_>| {
            bench(&mut group, &format!("{name}/1024x1024/{dtype}"), traffic, f);
        };
        run("add", binary.clone(), &|| x.add(&y));
        run("add_row", unary.clone(), &|| x.add(&row));
        run("add_transposed", binary.clone(), &|| x.add(&y.t()?));
        run("copy_transposed", unary.clone(), &|| x.t()?.copy());
        run("mul_scalar", unary.clone(), &|| x.mul_scalar(1.5));
        run("relu", unary.clone(), &|| x.relu());
        run("exp", unary.clone(), &|| x.exp());
        run("tanh", unary.clone(), &|| x.tanh());
        run("sigmoid", unary.clone(), &|| x.sigmoid());
        run("gelu", unary.clone(), &|| x.gelu());
        run("gelu_tanh", unary.clone(), &|| x.gelu_tanh());
    }
    let x = random([side, side], DType::F32)?;
    bench(&mut group, "to_bfloat16/1024x1024/float32", Bytes(6 * n), || x.to_dtype(DType::BF16));
    let (x, y) = (random([4096, 4096], DType::F32)?, random([4096, 4096], DType::F32)?);
    let n = x.numel() as u64;
    bench(&mut group, "add/4096x4096/float32", Bytes(12 * n), || x.add(&y));
    bench(&mut group, "relu/4096x4096/float32", Bytes(8 * n), || x.relu());
    bench(&mut group, "copy/4096x4096/float32", Bytes(8 * n), || x.copy());
    bench(&mut group, "to_bfloat16/4096x4096/float32", Bytes(6 * n), || x.to_dtype(DType::BF16));
    group.finish();
    criterion.final_summary();
    Ok(())
}
