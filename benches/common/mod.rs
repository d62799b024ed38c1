//! What the benches share: the device, random tensors, settings, and one way to time an op.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use gradus::{DType, Device, Result, Shape, Tensor, manual_seed};
use std::env;
use std::hint::black_box;
use std::sync::OnceLock;
use std::time::Duration;

/// The device that `GRADUS_BENCH_DEVICE` names, `cpu` if it names none.
pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let name = env::var("GRADUS_BENCH_DEVICE").unwrap_or("cpu".to_string());
        gradus::device(&name).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Standard normal numbers, the same in every run: zeros would flatter kernels, and denormals slander them.
pub(crate) fn random(shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    manual_seed(42);
    Tensor::randn(shape, device())?.to_dtype(dtype)
}

/// Short runs, so that all benches together take minutes. The command line still has the last word.
pub(crate) fn settings() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// Times `f` until its results are there, which on a GPU is later than its return.
pub(crate) fn bench<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    throughput: Throughput,
    mut f: impl FnMut() -> Result<T>,
) {
    let mut run = || -> Result<T> {
        let out = black_box(f()?);
        device().synchronize()?;
        Ok(out)
    };
    group.throughput(throughput);
    group.bench_function(name, |b| b.iter(|| run().unwrap_or_else(|error| panic!("{name}: {error}"))));
}
