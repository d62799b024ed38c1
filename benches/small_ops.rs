//! What an op costs besides its arithmetic: tensors so small that only the way there counts. Elements are ops.

mod common;

use common::{bench, device, random, settings};
use criterion::Throughput::Elements;
use gradus::{DType, Result, Tensor, Var};

/// Ops in the recorded chain.
const CHAIN: u64 = 100;

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("small_ops");
    let (x, y) = (random([4, 4], DType::F32)?, random([4, 4], DType::F32)?);
    let mut run = |name: &str, f: &dyn Fn() -> Result<Tensor>| {
        bench(&mut group, &format!("{name}/4x4/float32"), Elements(1), f);
    };
    run("from_slice", &|| Tensor::from_slice(&[1.5f32; 16], [4, 4], device()));
    run("clone", &|| Ok(x.clone()));
    run("transpose", &|| x.transpose(0, 1));
    run("narrow", &|| x.narrow(0, 1, 2));
    run("reshape", &|| x.reshape([2, 8]));
    run("add", &|| x.add(&y));
    run("add_transposed", &|| x.add(&y.t()?));
    run("exp", &|| x.exp());
    run("sum_all", &|| x.sum_all());
    run("softmax", &|| x.softmax(-1));
    run("matmul", &|| x.matmul(&y));

    let (leaf, step) = (Var::leaf(x), Var::from(y));
    bench(&mut group, "mul_sum_backward/4x4/float32", Elements(3), || leaf.mul(&step)?.sum_all()?.backward());
    let chain = || (0..CHAIN).try_fold(leaf.clone(), |x, _| x.add(&step));
    bench(&mut group, "record_adds/4x4/float32", Elements(CHAIN), chain);
    bench(&mut group, "record_and_differentiate_adds/4x4/float32", Elements(CHAIN), || {
        chain()?.sum_all()?.backward()
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
