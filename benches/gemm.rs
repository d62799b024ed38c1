//! Matrix products `[m, k] · [k, n]`. Elements are FLOPs: `2 · m · n · k`, times the number of matrices.

mod common;

use common::{bench, random, settings};
use criterion::Throughput::Elements;
use gradus::{DType, Result};

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("gemm");
    let cases = [
        (DType::F32, [64, 64, 64]),
        (DType::F32, [256, 256, 256]),
        (DType::F32, [512, 512, 512]),
        (DType::F32, [1024, 1024, 1024]),
        // Nothing divides into tiles.
        (DType::F32, [257, 511, 129]),
        // Hardly more than the call.
        (DType::F32, [16, 16, 16]),
        // A layer of a network, for a batch, for the sequences of a recurrent one, and for one example.
        (DType::F32, [64, 1024, 1024]),
        (DType::F32, [32, 4096, 1024]),
        (DType::F32, [32, 1024, 4096]),
        (DType::F32, [32, 256, 1024]),
        (DType::F32, [1, 1024, 1024]),
        (DType::F32, [1, 4096, 4096]),
        (DType::F64, [512, 512, 512]),
        (DType::F16, [512, 512, 512]),
        (DType::BF16, [512, 512, 512]),
    ];
    for (dtype, [m, n, k]) in cases {
        let (a, b) = (random([m, k], dtype)?, random([k, n], dtype)?);
        let flops = Elements(2 * (m * n * k) as u64);
        bench(&mut group, &format!("plain/{m}x{n}x{k}/{dtype}"), flops, || a.matmul(&b));
    }
    let [m, n, k] = [512, 512, 512];
    let flops = Elements(2 * (m * n * k) as u64);
    let (a, b) = (random([m, k], DType::F32)?, random([n, k], DType::F32)?.t()?);
    bench(&mut group, "transposed_rhs/512x512x512/float32", flops.clone(), || a.matmul(&b));
    let a = random([k, m], DType::F32)?.t()?;
    bench(&mut group, "transposed_both/512x512x512/float32", flops, || a.matmul(&b));
    let bytes = || random([512, 512], DType::F32)?.mul_scalar(40.0)?.to_dtype(DType::I8);
    let (a, b) = (bytes()?, bytes()?);
    bench(&mut group, "int_mm/512x512x512/int8", Elements(2 * 512 * 512 * 512), || a.int_mm(&b));
    let (a, b) = (random([32, 64, 64], DType::F32)?, random([32, 64, 64], DType::F32)?);
    let flops = Elements(32 * 2 * 64 * 64 * 64);
    bench(&mut group, "batched/32x64x64x64/float32", flops, || a.matmul(&b));
    group.finish();
    criterion.final_summary();
    Ok(())
}
