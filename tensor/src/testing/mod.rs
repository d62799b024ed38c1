//! The contract suite: what every backend owes, checked against plain loops on the host in `f64`.
//!
//! [`check_backend`] walks the op tables, so a new op is tested the moment it exists, over every dtype that has it, over layouts
//! of every sort and over a grid of values with zeros of both signs, infinities and NaN. Every op on a view must equal
//! the op on a copy of the view bit for bit, and every fused kernel its form in [`crate::composed`].
//!
//! Each `check_…` function panics with all that is wrong in its family, a sentence each.

mod along;
mod cases;
mod elementwise;
mod fused;
mod indexing;
mod pool;
mod products;
mod recurrent;
mod running;
pub mod strategies;

pub use along::{check_arg_reduce, check_reduce, check_sort, check_topk, check_var_mean};
pub use elementwise::{
    check_binary, check_compare, check_predicate, check_select, check_unary, check_unary_backward,
};
pub use fused::{check_clamp_and_dropout, check_cross_entropy, check_norms, check_optimizers, check_softmax};
pub use indexing::{check_cat, check_copies, check_index, check_random};
pub use pool::check_pool;
pub use products::{check_conv, check_int_mm, check_linear, check_matmul};
pub use recurrent::{check_rnn, check_rnn_bidirectional};
pub use running::{check_arg_scan, check_logcumsumexp, check_scan};

use crate::{DType, Device, Number, Result, Scalar, Tensor, match_dtype};

/// Everything that a backend owes.
///
/// # Panics
/// If the device's backend breaks the contract, with what is wrong.
pub fn check_backend(device: &Device) {
    check_device(device);
    check_copies(device);
    check_cat(device);
    check_unary(device);
    check_unary_backward(device);
    check_binary(device);
    check_compare(device);
    check_predicate(device);
    check_select(device);
    check_reduce(device);
    check_arg_reduce(device);
    check_var_mean(device);
    check_scan(device);
    check_arg_scan(device);
    check_logcumsumexp(device);
    check_sort(device);
    check_topk(device);
    check_index(device);
    check_random(device);
    check_matmul(device);
    check_linear(device);
    check_int_mm(device);
    check_conv(device);
    check_pool(device);
    check_clamp_and_dropout(device);
    check_softmax(device);
    check_cross_entropy(device);
    check_norms(device);
    check_optimizers(device);
    check_rnn(device);
    check_rnn_bidirectional(device);
}

/// The device has a name, records nothing, waits for its work, and counts the memory of its tensors.
pub fn check_device(device: &Device) {
    Report::of("device", |report| {
        let backend = device.backend();
        report.check(!backend.name().is_empty(), || "a device without a name".into());
        report.check(!backend.is_capturing(), || "nobody asked for work to be recorded".into());
        let x = backend.full([1 << 16].into(), DType::F32, Number::Int(1))?;
        backend.synchronize()?;
        let stats = backend.memory_stats();
        let bytes = 4 << 16;
        // What other threads do may be counted a little later.
        report.check(stats.live_bytes >= bytes / 2 && stats.peak_bytes >= bytes / 2, || {
            format!("a tensor of {bytes} bytes is there, and the memory in use is {stats:?}")
        });
        report.close(|| "full".into(), &x, &[1.0; 1 << 16], Tolerance::EXACT)
    });
}

/// The floating-point dtypes.
pub const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

/// Half the distance from 1 to the next number: the relative error of one rounding. 0 for integers.
pub fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.0,
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::F16 => 1.0 / 2048.0,
        DType::BF16 => 1.0 / 256.0,
        DType::I64 | DType::I32 | DType::I8 | DType::U8 | DType::U32 | DType::Bool => 0.0,
    }
}

/// A number as an element of `dtype` has it.
pub fn rounded(x: f64, dtype: DType) -> f64 {
    match_dtype!(dtype, T => <T as Scalar>::from_f64(x).to_f64())
}

/// An integer as `dtype` has it: what is too large wraps.
fn wrapped(x: i64, dtype: DType) -> f64 {
    match_dtype!(dtype, T => <T as Scalar>::from_i64(x).to_f64())
}

/// The elements in row-major order, converted on the host.
pub fn host(x: &Tensor) -> Result<Vec<f64>> {
    let bytes = x.device().backend().download(x)?;
    Ok(match_dtype!(x.dtype(), T => {
        bytes.chunks_exact(size_of::<T>()).map(|b| bytemuck::pod_read_unaligned::<T>(b).to_f64()).collect()
    }))
}

/// A row-major tensor of these values, rounded to `dtype` on the host.
pub fn upload(device: &Device, dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor> {
    match_dtype!(dtype, T => {
        let data: Vec<T> = values.iter().map(|&x| Scalar::from_f64(x)).collect();
        device.backend().upload(bytemuck::cast_slice(&data), dtype, shape.into())
    })
}

/// How far a result may be from the exact one: `absolute + relative · |exact|`.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    relative: f64,
    absolute: f64,
}

impl Tolerance {
    /// The rounding of the result, and `f32` or `f64` functions that are good to `units` roundings.
    fn units(dtype: DType, units: f64) -> Tolerance {
        let inner = units * epsilon(dtype.accumulator());
        Tolerance { relative: epsilon(dtype) + inner, absolute: inner }
    }

    const EXACT: Tolerance = Tolerance { relative: 0.0, absolute: 0.0 };
}

/// What is wrong, collected.
struct Report {
    family: &'static str,
    wrong: Vec<String>,
}

impl Report {
    /// Runs the checks of a family.
    ///
    /// # Panics
    /// With everything that is wrong, if anything is.
    fn of(family: &'static str, checks: impl FnOnce(&mut Report) -> Result<()>) {
        let mut report = Report { family, wrong: vec![] };
        if let Err(error) = checks(&mut report) {
            report.wrong.push(format!("unexpected error: {error}"));
        }
        let (count, first) = (report.wrong.len(), report.wrong.iter().take(20));
        let list: Vec<&str> = first.map(String::as_str).collect();
        assert!(list.is_empty(), "{}: {count} checks failed\n  {}", report.family, list.join("\n  "));
    }

    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }

    /// Elements against exact values: equal, both NaN, or within the tolerance of the value or of its rounding.
    fn close(
        &mut self,
        label: impl Fn() -> String,
        y: &Tensor,
        exact: &[f64],
        tolerance: Tolerance,
    ) -> Result<()> {
        let got = host(y)?;
        self.check(got.len() == exact.len(), || {
            format!("{}: {} elements, expected {}", label(), got.len(), exact.len())
        });
        let dtype = y.dtype();
        let wrong = got.iter().zip(exact).enumerate().find(|&(_, (&y, &e))| {
            let equal = y == e || y == rounded(e, dtype) || (y.is_nan() && e.is_nan());
            let near = (y - e).abs() <= tolerance.absolute + tolerance.relative * e.abs();
            !equal && !near
        });
        if let Some((i, (y, e))) = wrong {
            self.wrong.push(format!("{}: element {i} is {y:e}, expected {e:e}", label()));
        }
        Ok(())
    }

    /// Elements bit for bit, any NaN being like any other.
    fn same(&mut self, label: impl Fn() -> String, y: &Tensor, expected: &Tensor) -> Result<()> {
        let (got, want) = (host(y)?, host(expected)?);
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        let equal = got.len() == want.len() && got.iter().zip(&want).all(|(&a, &b)| same(a, b));
        let fits = y.dtype() == expected.dtype() && y.shape() == expected.shape();
        self.check(equal && fits, || format!("{}: differs from the same on a copy", label()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    /// The files of this folder that call a backend.
    const CASES: [&str; 9] = [
        include_str!("mod.rs"),
        include_str!("along.rs"),
        include_str!("elementwise.rs"),
        include_str!("fused.rs"),
        include_str!("indexing.rs"),
        include_str!("pool.rs"),
        include_str!("products.rs"),
        include_str!("recurrent.rs"),
        include_str!("running.rs"),
    ];

    #[test]
    fn every_method_of_a_backend_has_a_case() {
        let text = include_str!("../backend.rs");
        let (_, methods) = text.split_once("pub trait Backend").expect("it is defined there");
        let names = methods.lines().filter_map(|line| line.strip_prefix("    fn ")?.split_once('('));
        let mut count = 0;
        for (name, _) in names {
            let called = format!("backend.{name}(");
            let by_device = format!("backend().{name}(");
            let found = CASES.iter().any(|text| text.contains(&called) || text.contains(&by_device));
            assert!(found, "the contract suite calls no Backend::{name}");
            count += 1;
        }
        assert!(count > 50, "only {count} methods were found");
    }
}
