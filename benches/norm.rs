//! Softmax, layer and batch normalisation, pooling. Bytes are those of inputs and results, each counted once.

mod common;

use common::{bench, random, settings};
use criterion::Throughput::Bytes;
use gradus::{DType, Result};

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("norm");
    let bytes = |tensors: u64, numel: usize| Bytes(4 * tensors * numel as u64);

    let (x, gradient) = (random([1024, 768], DType::F32)?, random([1024, 768], DType::F32)?);
    let (weight, bias) = (random([768], DType::F32)?, random([768], DType::F32)?);
    let softmax = x.softmax(-1)?;
    let (two, three) = (bytes(2, x.numel()), bytes(3, x.numel()));
    bench(&mut group, "softmax/1024x768/float32", two.clone(), || x.softmax(-1));
    bench(&mut group, "log_softmax/1024x768/float32", two.clone(), || x.log_softmax(-1));
    bench(&mut group, "softmax_backward/1024x768/float32", three.clone(), || {
        gradient.softmax_backward(&softmax, -1, false)
    });
    bench(&mut group, "layer_norm/1024x768/float32", two, || {
        x.layer_norm(&[768], Some(&weight), Some(&bias), 1e-5)
    });
    let (_, mean, rstd) = x.layer_norm_stats(&[768], Some(&weight), Some(&bias), 1e-5)?;
    bench(&mut group, "layer_norm_backward/1024x768/float32", three, || {
        gradient.layer_norm_backward(&x, &mean, &rstd, Some(&weight), 1)
    });

    let (x, gradient) = (random([65536, 64], DType::F32)?, random([65536, 64], DType::F32)?);
    let (weight, bias) = (random([64], DType::F32)?, random([64], DType::F32)?);
    let (two, three) = (bytes(2, x.numel()), bytes(3, x.numel()));
    bench(&mut group, "softmax/65536x64/float32", two.clone(), || x.softmax(-1));
    bench(&mut group, "layer_norm/65536x64/float32", two, || {
        x.layer_norm(&[64], Some(&weight), Some(&bias), 1e-5)
    });
    let (_, mean, rstd) = x.layer_norm_stats(&[64], Some(&weight), Some(&bias), 1e-5)?;
    bench(&mut group, "layer_norm_backward/65536x64/float32", three, || {
        gradient.layer_norm_backward(&x, &mean, &rstd, Some(&weight), 1)
    });

    let x = random([16, 64, 28, 28], DType::F32)?;
    let (weight, bias) = (random([64], DType::F32)?, random([64], DType::F32)?);
    let (mean, variance) = x.batch_norm_stats()?;
    let rstd = variance.add_scalar(1e-5)?.rsqrt()?;
    bench(&mut group, "batch_norm_stats/16x64x28x28/float32", bytes(1, x.numel()), || x.batch_norm_stats());
    bench(&mut group, "batch_norm_apply/16x64x28x28/float32", bytes(2, x.numel()), || {
        x.batch_norm_apply(&mean, &rstd, Some(&weight), Some(&bias))
    });
    let gradient = random(x.shape(), DType::F32)?;
    bench(&mut group, "batch_norm_backward/16x64x28x28/float32", bytes(3, x.numel()), || {
        gradient.batch_norm_backward(&x, &mean, &rstd, Some(&weight), true)
    });

    let pooled = Bytes(5 * x.numel() as u64);
    let (y, index) = x.max_pool_with_indices(2)?;
    bench(&mut group, "max_pool/16x64x28x28/float32", pooled.clone(), || x.max_pool2d(2));
    bench(&mut group, "max_pool_backward/16x64x28x28/float32", pooled.clone(), || {
        y.max_pool_backward(&index, x.shape())
    });
    let last = x.permute([0, 2, 3, 1])?.contiguous()?.permute([0, 3, 1, 2])?;
    for (name, x) in [("", &x), ("_channels_last", &last)] {
        let gradient = x.avg_pool2d(2)?;
        bench(&mut group, &format!("avg_pool{name}/16x64x28x28/float32"), pooled.clone(), || x.avg_pool2d(2));
        bench(&mut group, &format!("avg_pool_backward{name}/16x64x28x28/float32"), pooled.clone(), || {
            gradient.avg_pool_backward(x.shape(), 2)
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
