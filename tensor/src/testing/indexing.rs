//! Copies, constants, indexing and random numbers.

use super::cases::{grid, moderate, places, position, views};
use super::{FLOATS, Report, Tolerance, host, rounded, upload};
use crate::backend::ScatterMode;
use crate::{DType, Device, Distribution, Kind, Number, Result, Scalar, Shape, Tensor, match_dtype};

/// Upload, download, copies of every layout to every dtype, writing into a part, constants and ranges.
pub fn check_copies(device: &Device) {
    Report::of("copies", |report| {
        let backend = device.backend();
        for &dtype in DType::ALL {
            for view in views(device, dtype, &grid(dtype))? {
                let label = || format!("download of {dtype}, {}", view.name);
                report.close(label, &view.x, &view.values, Tolerance::EXACT)?;
                for &to in DType::ALL {
                    let label = || format!("copy of {dtype} to {to}, {}", view.name);
                    let y = backend.copy(&view.x, to)?;
                    report.check(y.layout().is_contiguous(), || format!("{}: expected row-major", label()));
                    let cast: Vec<f64> = view.values.iter().map(|&x| cast(x, dtype, to)).collect();
                    report.close(label, &y, &cast, Tolerance::EXACT)?;
                }
                // Writing a tensor into its own place among ones gives it back there and leaves the rest.
                let dims: Vec<usize> = view.x.dims().iter().map(|n| n + 2).collect();
                let ones = backend.full(Shape::from(&dims[..]), dtype, Number::Int(1))?;
                let at = (0..dims.len()).fold(*ones.layout(), |l, d| l.slice(d, 1, view.x.dims()[d], 1));
                let y = backend.write(ones.clone(), &at, &view.x)?;
                let mut expected = vec![1.0; y.numel()];
                at.positions().zip(&view.values).for_each(|(at, &x)| expected[at] = x);
                report.close(
                    || format!("write of {dtype}, {}", view.name),
                    &y,
                    &expected,
                    Tolerance::EXACT,
                )?;
                let untouched = vec![1.0; y.numel()];
                report.close(
                    || format!("write of {dtype} changed a shared tensor"),
                    &ones,
                    &untouched,
                    Tolerance::EXACT,
                )?;
            }
            for value in [Number::Int(3), Number::Float(2.5), Number::Bool(true)] {
                let y = backend.full([2, 3].into(), dtype, value)?;
                let expected = match_dtype!(dtype, T => value.to_scalar::<T>().to_f64());
                report.close(|| format!("full of {dtype}"), &y, &[expected; 6], Tolerance::EXACT)?;
            }
            if dtype.kind() != Kind::Bool {
                let y = backend.arange(50, dtype, Number::Int(3), Number::Int(2))?;
                let expected: Vec<f64> = (0..50).map(|i| f64::from(3 + 2 * i)).collect();
                report.close(|| format!("arange of {dtype}"), &y, &expected, Tolerance::EXACT)?;
            }
        }
        Ok(())
    });
}

/// Views one after the other along every dim: as they are, as copies, a part of them, nothing of them.
pub fn check_cat(device: &Device) {
    Report::of("cat", |report| {
        for &dtype in DType::ALL {
            for view in views(device, dtype, &grid(dtype))? {
                let (x, dims) = (&view.x, view.x.dims());
                for dim in 0..x.rank() {
                    let along = dim as isize;
                    let part = x.narrow(along, 0, dims[dim].min(1))?;
                    let all = [x.clone(), part, x.copy()?, x.narrow(along, 0, 0)?, x.clone()];
                    let mut shape = dims.to_vec();
                    shape[dim] = all.iter().map(|t| t.dims()[dim]).sum();
                    let element = |mut place: Vec<usize>| {
                        place[dim] = match place[dim].checked_sub(dims[dim]) {
                            None => place[dim],
                            Some(0) => 0,
                            Some(i) => (i - 1) % dims[dim],
                        };
                        view.values[position(dims, &place)]
                    };
                    let exact: Vec<f64> = places(&shape).map(element).collect();
                    let label = || format!("cat of {dtype}, {}, dim {dim}", view.name);
                    let y = device.backend().cat(&all, dim, Shape::from(&shape[..]))?;
                    report.check(y.dims() == shape, || format!("{}: expected shape {shape:?}", label()));
                    report.close(label, &y, &exact, Tolerance::EXACT)?;
                }
            }
        }
        Ok(())
    });
}

/// One element of `from` as one of `to`: through integers if both are, else through doubles.
fn cast(x: f64, from: DType, to: DType) -> f64 {
    match_dtype!(to, T => match (from.kind(), to.kind()) {
        (Kind::Float, Kind::Int) | (Kind::Int | Kind::Bool, _) => <T as Scalar>::from_i64(x as i64).to_f64(),
        (Kind::Float, Kind::Float | Kind::Bool) => rounded(x, to),
    })
}

/// A plain scatter along `dim`, in row-major order of the index.
fn scattered(
    (dims, x): (&[usize], &[f64]),
    dim: usize,
    (index_dims, index): (&[usize], &[f64]),
    src: &[f64],
    mode: ScatterMode,
) -> Vec<f64> {
    let mut out = x.to_vec();
    for (k, mut place) in places(index_dims).enumerate() {
        place[dim] = index[k] as usize;
        let y = &mut out[position(dims, &place)];
        *y = match mode {
            ScatterMode::Set => src[k],
            ScatterMode::Add => *y + src[k],
        };
    }
    out
}

/// Gathering, scattering, selecting, adding and finding non-zeros; an index out of range is an error.
pub fn check_index(device: &Device) {
    Report::of("index", |report| {
        let backend = device.backend();
        for &dtype in DType::ALL {
            for view in views(device, dtype, &moderate(8192, dtype, 9))? {
                let (x, dims) = (&view.x, view.x.dims());
                for dim in (0..x.rank()).filter(|&d| dims[d] > 0) {
                    let label = |op: &str| format!("{op} of {dtype}, {}, dim {dim}", view.name);
                    // As the tensor, but with 5 indices along `dim`; transposed memory for the index itself.
                    let mut index_dims = dims.to_vec();
                    index_dims[dim] = 5;
                    let count: usize = index_dims.iter().product();
                    let index: Vec<f64> = (0..count).map(|k| (k * k * 7 % dims[dim]) as f64).collect();
                    let at = upload(device, DType::I64, &index_dims, &index)?;
                    let gathered: Vec<f64> = places(&index_dims)
                        .zip(&index)
                        .map(|(mut place, &i)| {
                            place[dim] = i as usize;
                            view.values[position(dims, &place)]
                        })
                        .collect();
                    report.close(
                        || label("gather"),
                        &backend.gather(x, dim, &at)?,
                        &gathered,
                        Tolerance::EXACT,
                    )?;

                    let src: Vec<f64> = moderate(count, dtype, 11);
                    let from = upload(device, dtype, &index_dims, &src)?;
                    // At most all of `count` terms of magnitude 2 meet at one place; integers may wrap.
                    let sums =
                        Tolerance { relative: 0.0, absolute: 20.0 * super::epsilon(dtype) * count as f64 };
                    for mode in [ScatterMode::Set, ScatterMode::Add] {
                        let exact = scattered((dims, &view.values), dim, (&index_dims, &index), &src, mode);
                        let exact: Vec<f64> = match dtype.is_float() {
                            true => exact,
                            false => exact.iter().map(|&x| cast(x, DType::I64, dtype)).collect(),
                        };
                        let y = backend.scatter(x, dim, &at, &from, mode)?;
                        let tolerance = if mode == ScatterMode::Set { Tolerance::EXACT } else { sums };
                        report.close(|| label("scatter"), &y, &exact, tolerance)?;
                    }

                    let picks: Vec<f64> = (0..5).map(|k| (k * k * 3 % dims[dim]) as f64).collect();
                    let at = upload(device, DType::I64, &[5], &picks)?;
                    let spread: Vec<f64> = places(&index_dims).map(|p| picks[p[dim]]).collect();
                    let picked = upload(device, DType::I64, &index_dims, &spread)?;
                    let (y, same) = (backend.index_select(x, dim, &at)?, backend.gather(x, dim, &picked)?);
                    report.same(|| label("index_select"), &y, &same)?;
                    let y = backend.index_add(x, dim, &at, &from)?;
                    let exact =
                        scattered((dims, &view.values), dim, (&index_dims, &spread), &src, ScatterMode::Add);
                    let exact: Vec<f64> = match dtype.is_float() {
                        true => exact,
                        false => exact.iter().map(|&x| cast(x, DType::I64, dtype)).collect(),
                    };
                    report.close(|| label("index_add"), &y, &exact, sums)?;

                    for bad in [-1.0, dims[dim] as f64] {
                        let at = upload(device, DType::I64, &[1], &[bad])?;
                        let refused = backend.index_select(x, dim, &at).is_err();
                        report.check(refused, || format!("{}: index {bad} was taken", label("index_select")));
                    }
                }
                let y = backend.nonzero(x)?;
                let found: Vec<f64> = places(dims)
                    .zip(&view.values)
                    .filter(|&(_, &v)| v != 0.0)
                    .flat_map(|(place, _)| place.into_iter().map(|i| i as f64))
                    .collect();
                report.close(
                    || format!("nonzero of {dtype}, {}", view.name),
                    &y,
                    &found,
                    Tolerance::EXACT,
                )?;
            }
        }
        Ok(())
    });
}

/// Each number depends on the seed and its place alone, lies in its range, and is what the CPU draws.
pub fn check_random(device: &Device) {
    Report::of("random", |report| {
        let draws = [
            Distribution::Uniform { low: -1.0, high: 3.0 },
            Distribution::Normal { mean: 1.0, std: 2.0 },
            Distribution::Bernoulli { p: 0.3 },
            Distribution::Integers { low: -5, high: 9 },
        ];
        let of_floats = draws.into_iter().flat_map(|d| FLOATS.map(|t| (d, t)));
        let others = [DType::I64, DType::I32, DType::I8].map(|t| (draws[3], t));
        for (draw, dtype) in of_floats.chain(others).chain([(draws[2], DType::Bool)]) {
            let random = |n: usize, offset| -> Result<Tensor> {
                device.backend().random(draw, dtype, n.into(), 42, offset)
            };
            let all = random(5000, 10)?;
            let label = || format!("{draw:?} of {dtype}");
            report.same(label, &random(1000, 3010)?, &all.narrow(0, 3000, 1000)?)?;
            let values = host(&all)?;
            let fits = |&x: &f64| match draw {
                Distribution::Uniform { low, high } => {
                    (low..=high).contains(&x) && (x < high || dtype.size() == 2)
                }
                Distribution::Normal { .. } => x.is_finite(),
                Distribution::Bernoulli { .. } => x == 0.0 || x == 1.0,
                Distribution::Integers { low, high } => {
                    x >= low as f64 && x < high as f64 && x.fract() == 0.0
                }
            };
            report.check(values.iter().all(fits), || format!("{}: a value is out of range", label()));
            // Seven standard deviations of the mean of 5000.
            let (mean, std) = match draw {
                Distribution::Uniform { low, high } => ((low + high) / 2.0, (high - low) / 12f64.sqrt()),
                Distribution::Normal { mean, std } => (mean, std),
                Distribution::Bernoulli { p } => (p, (p * (1.0 - p)).sqrt()),
                Distribution::Integers { low, high } => {
                    ((low + high - 1) as f64 / 2.0, (high - low) as f64 / 12f64.sqrt())
                }
            };
            let got = values.iter().sum::<f64>() / 5000.0;
            report.check((got - mean).abs() < 0.1 * std, || format!("{}: the mean is {got}", label()));
            let cpu = host(&Device::cpu().backend().random(draw, dtype, 5000.into(), 42, 10)?)?;
            report.close(label, &all, &cpu, Tolerance::units(dtype, 64.0))?;
        }
        Ok(())
    });
}
