//! The provided methods: a backend's kernels against [`crate::composed`].

use super::cases::{moderate, views};
use super::{FLOATS, Report, Tolerance, epsilon, host, upload};
use crate::backend::{AdamStep, AdamUpdate, CrossEntropy, Reduction, SgdStep, SgdUpdate};
use crate::{DType, Device, Number, Result, Tensor, composed};

/// Two ways to sum up to `n` terms of order 1; 16-bit intermediates of the composed form are rounded a few times more.
fn either_way(dtype: DType, n: usize) -> Tolerance {
    let units = 16.0 * (n as f64).sqrt().max(1.0);
    let wide = units * epsilon(dtype.accumulator());
    Tolerance { relative: 16.0 * epsilon(dtype) + wide, absolute: 16.0 * epsilon(dtype) + wide }
}

fn compare(
    report: &mut Report,
    label: impl Fn() -> String,
    n: usize,
    results: impl IntoIterator<Item = (Tensor, Tensor)>,
) -> Result<()> {
    for (i, (y, expected)) in results.into_iter().enumerate() {
        report.check(y.shape() == expected.shape() && y.dtype() == expected.dtype(), || {
            format!("{}: result {i} is {} of {}", label(), y.dtype(), y.shape())
        });
        let tolerance = either_way(y.dtype(), n);
        report.close(|| format!("{}, result {i}", label()), &y, &host(&expected)?, tolerance)?;
    }
    Ok(())
}

/// Softmax, its logarithm and the gradients of both, along every dim.
pub fn check_softmax(device: &Device) {
    Report::of("softmax", |report| {
        let backend = device.backend();
        for dtype in FLOATS {
            for view in views(device, dtype, &moderate(8192, dtype, 1))? {
                let g = upload(device, dtype, view.x.dims(), &moderate(view.values.len(), dtype, 2))?;
                for (dim, log) in (0..view.x.rank()).flat_map(|d| [(d, false), (d, true)]) {
                    let label = || format!("softmax of {dtype}, {}, dim {dim}, log: {log}", view.name);
                    let (y, expected) =
                        (backend.softmax(&view.x, dim, log)?, composed::softmax(&view.x, dim, log)?);
                    let dx = backend.softmax_backward(&g, &y, dim, log)?;
                    let expected_dx = composed::softmax_backward(&g, &y, dim, log)?;
                    let n = view.x.dims()[dim];
                    compare(report, label, n, [(y.clone(), expected), (dx, expected_dx)])?;
                    report.same(label, &y, &backend.softmax(&view.x.copy()?, dim, log)?)?;
                }
            }
        }
        Ok(())
    });
}

/// Cross-entropy and its gradient, with every option, of rows and of planes.
pub fn check_cross_entropy(device: &Device) {
    Report::of("cross_entropy", |report| {
        let backend = device.backend();
        for dtype in FLOATS {
            for dims in [vec![1, 1], vec![9, 5], vec![3, 200], vec![2, 7, 3, 11], vec![0, 3]] {
                let classes = dims[1];
                let x = upload(device, dtype, &dims, &moderate(dims.iter().product(), dtype, 1))?;
                let weight = upload(device, dtype, &dims[1..2], &moderate(classes, dtype, 2))?.abs()?;
                let places: Vec<usize> = [&dims[..1], &dims[2..]].concat();
                let class = |i| if i % 4 == 3 { -100 } else { (i * 7 % classes) as i64 };
                let target: Vec<i64> = (0..places.iter().product()).map(class).collect();
                let target = Tensor::from_slice(&target, places, device)?;
                for reduction in [Reduction::None, Reduction::Mean, Reduction::Sum] {
                    for (weight, label_smoothing) in [(None, 0.0), (Some(&weight), 0.0), (Some(&weight), 0.2)]
                    {
                        let options = CrossEntropy { weight, ignore_index: -100, label_smoothing, reduction };
                        let label = || format!("cross_entropy of {dtype}, {dims:?}, {options:?}");
                        let (loss, dx) = backend.cross_entropy(&x, &target, &options, true)?;
                        let (expected, d) = composed::cross_entropy(&x, &target, &options, true)?;
                        let pairs = [(loss.clone(), expected)].into_iter().chain(dx.zip(d));
                        compare(report, label, dims.iter().product(), pairs)?;
                        let (alone, none) = backend.cross_entropy(&x, &target, &options, false)?;
                        report.check(none.is_none(), || format!("{}: a gradient, not asked for", label()));
                        report.close(label, &alone, &host(&loss)?, either_way(dtype, x.numel()))?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// Layer and batch normalisation, forward and backward, with and without parameters.
pub fn check_norms(device: &Device) {
    Report::of("norm", |report| {
        let backend = device.backend();
        for dtype in FLOATS {
            for view in views(device, dtype, &moderate(8192, dtype, 1))? {
                let (x, dims) = (&view.x, view.x.dims());
                let random = |dims: &[usize], seed| {
                    upload(device, dtype, dims, &moderate(dims.iter().product(), dtype, seed))
                };
                let g = random(dims, 2)?;
                for last in 1..=x.rank().min(2) {
                    let affine = &dims[dims.len() - last..];
                    let n = affine.iter().product::<usize>();
                    // The gradient is as large as rstd, which a single element drives to 1 / √eps.
                    if n == 1 {
                        continue;
                    }
                    let (w, b) = (random(affine, 3)?, random(affine, 4)?);
                    for (w, b) in [(Some(&w), Some(&b)), (None, None)] {
                        let label = || format!("layer_norm of {dtype}, {}, {last} dims", view.name);
                        let y = backend.layer_norm(x, last, w, b, 1e-5)?;
                        let e = composed::layer_norm(x, last, w, b, 1e-5)?;
                        let d = backend.layer_norm_backward(&g, x, &e.1, &e.2, w, last)?;
                        let ed = composed::layer_norm_backward(&g, x, &e.1, &e.2, w, last)?;
                        let pairs =
                            [(y.0, e.0), (y.1, e.1), (y.2, e.2), (d.0, ed.0), (d.1, ed.1), (d.2, ed.2)];
                        compare(report, label, x.numel(), pairs)?;
                        let label = || format!("rms_norm of {dtype}, {}, {last} dims", view.name);
                        let (y, e) =
                            (backend.rms_norm(x, last, w, 1e-5)?, composed::rms_norm(x, last, w, 1e-5)?);
                        let d = backend.rms_norm_backward(&g, x, &e.1, w, last)?;
                        let ed = composed::rms_norm_backward(&g, x, &e.1, w, last)?;
                        compare(
                            report,
                            label,
                            x.numel(),
                            [(y.0, e.0), (y.1, e.1), (d.0, ed.0), (d.1, ed.1)],
                        )?;
                    }
                }
                if x.rank() < 2 || x.numel() / dims[1].max(1) < 2 {
                    continue;
                }
                let (w, b) = (random(&dims[1..2], 3)?, random(&dims[1..2], 4)?);
                let label = || format!("batch_norm of {dtype}, {}", view.name);
                let (stats, e) = (backend.batch_norm_stats(x)?, composed::batch_norm_stats(x)?);
                let (mean, rstd) = (e.0.clone(), e.1.add_scalar(1e-2)?.rsqrt()?);
                compare(report, label, x.numel(), [(stats.0, e.0), (stats.1, e.1)])?;
                let divisors = (1..=dims[1]).filter(|&groups| dims[1].is_multiple_of(groups));
                for (groups, affine) in divisors.flat_map(|groups| [(groups, true), (groups, false)]) {
                    let (w, b) = (affine.then_some(&w), affine.then_some(&b));
                    let label = || format!("group_norm of {dtype}, {}, {groups} groups", view.name);
                    let y = backend.group_norm(x, groups, w, b, 1e-2)?;
                    let e = composed::group_norm(x, groups, w, b, 1e-2)?;
                    let d = backend.group_norm_backward(&g, x, &e.1, &e.2, w)?;
                    let ed = composed::group_norm_backward(&g, x, &e.1, &e.2, w)?;
                    let pairs = [(y.0, e.0), (y.1, e.1), (y.2, e.2), (d.0, ed.0), (d.1, ed.1), (d.2, ed.2)];
                    compare(report, label, x.numel(), pairs)?;
                }
                for (w, b) in [(Some(&w), Some(&b)), (None, None)] {
                    let y = backend.batch_norm_training(x, w, b, 1e-2)?;
                    let e = composed::batch_norm_training(x, w, b, 1e-2)?;
                    let pairs = [(y.0, e.0), (y.1, e.1), (y.2, e.2), (y.3, e.3)];
                    compare(report, label, x.numel(), pairs)?;
                    let y = backend.batch_norm_apply(x, &mean, &rstd, w, b)?;
                    let e = composed::batch_norm_apply(x, &mean, &rstd, w, b)?;
                    compare(report, label, 1, [(y, e)])?;
                    for training in [true, false] {
                        let d = backend.batch_norm_backward(&g, x, &mean, &rstd, w, training)?;
                        let e = composed::batch_norm_backward(&g, x, &mean, &rstd, w, training)?;
                        compare(report, label, x.numel(), [(d.0, e.0), (d.1, e.1), (d.2, e.2)])?;
                    }
                }
            }
        }
        Ok(())
    });
}

/// Steps of SGD and Adam and the norms that clip them; tensors that somebody else holds stay as they were.
pub fn check_optimizers(device: &Device) {
    Report::of("optimizers", |report| {
        let backend = device.backend();
        let sgd = SgdStep {
            lr: 0.1,
            momentum: 0.9,
            dampening: 0.1,
            weight_decay: 0.01,
            nesterov: true,
            first: false,
            grad_scale: -1.0,
        };
        let adam = AdamStep {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-4,
            weight_decay: 0.1,
            decoupled: true,
            step: 4,
            grad_scale: 1.0,
        };
        for dtype in FLOATS {
            for view in views(device, dtype, &moderate(8192, dtype, 1))? {
                let p = &view.x;
                let random =
                    |seed| upload(device, dtype, p.dims(), &moderate(view.values.len(), dtype, seed));
                let (g, m, v) = (random(2)?, random(3)?, random(4)?.square()?);
                let label = || format!("sgd of {dtype}, {}", view.name);
                let factor = Tensor::full((), 0.5, (dtype.accumulator(), device))?;
                // A second parameter, smaller and of one's own.
                let few = upload(device, dtype, &[3], &moderate(3, dtype, 5))?;
                for (step, clip) in [
                    (sgd, Some(&factor)),
                    (SgdStep { first: true, ..sgd }, None),
                    (SgdStep { nesterov: false, weight_decay: 0.0, ..sgd }, Some(&factor)),
                ] {
                    for with in [true, false] {
                        let run = |fused: bool| {
                            let (mut y, mut m) = ([p.clone(), few.copy()?], [m.clone(), few.copy()?]);
                            let ([y0, y1], [m0, m1]) = (y.each_mut(), m.each_mut());
                            let mut updates = [
                                SgdUpdate { param: y0, grad: &g, momentum: with.then_some(m0) },
                                SgdUpdate { param: y1, grad: &few, momentum: with.then_some(m1) },
                            ];
                            match fused {
                                true => backend.sgd_step(&step, clip, &mut updates)?,
                                false => composed::sgd_step(&step, clip, &mut updates)?,
                            }
                            Ok::<_, crate::Error>(y.into_iter().chain(m))
                        };
                        compare(report, label, 1, run(true)?.zip(run(false)?))?;
                    }
                }
                let label = || format!("adam of {dtype}, {}", view.name);
                for (step, clip) in [(adam, Some(&factor)), (AdamStep { decoupled: false, ..adam }, None)] {
                    let run = |fused: bool| {
                        let mut y = [p.clone(), m.clone(), v.clone()];
                        let mut few_y = [few.copy()?, few.copy()?, few.square()?];
                        let ([y0, y1, y2], [z0, z1, z2]) = (y.each_mut(), few_y.each_mut());
                        let mut updates = [
                            AdamUpdate { param: y0, grad: &g, mean: y1, square: y2 },
                            AdamUpdate { param: z0, grad: &few, mean: z1, square: z2 },
                        ];
                        match fused {
                            true => backend.adam_step(&step, clip, &mut updates)?,
                            false => composed::adam_step(&step, clip, &mut updates)?,
                        }
                        Ok::<_, crate::Error>(y.into_iter().chain(few_y))
                    };
                    compare(report, label, 1, run(true)?.zip(run(false)?))?;
                }
                let label = || format!("norms of {dtype}, {}", view.name);
                let all = [&g, &few, p];
                compare(report, label, p.numel(), [(backend.norms(&all)?, composed::norms(&all)?)])?;
                report.close(
                    || format!("parameter of {dtype}, {}", view.name),
                    p,
                    &view.values,
                    Tolerance::EXACT,
                )?;
            }
        }
        Ok(())
    });
}

/// Clamping, dropout, and the gradients of both.
pub fn check_clamp_and_dropout(device: &Device) {
    Report::of("clamp and dropout", |report| {
        let backend = device.backend();
        for dtype in FLOATS {
            for view in views(device, dtype, &moderate(8192, dtype, 1))? {
                let x = &view.x;
                let g = upload(device, dtype, x.dims(), &moderate(view.values.len(), dtype, 2))?;
                for bounds in
                    [(Some(-0.5), Some(0.25)), (None, Some(0.0)), (Some(0.5), None), (Some(1.0), Some(-1.0))]
                {
                    let (low, high) = (bounds.0.map(Number::Float), bounds.1.map(Number::Float));
                    let label = || format!("clamp of {dtype}, {}, to {bounds:?}", view.name);
                    report.same(label, &composed::clamp(x, low, high)?, &backend.clamp(x, low, high)?)?;
                    let expected = composed::clamp_backward(&g, x, low, high)?;
                    report.same(label, &expected, &backend.clamp_backward(&g, x, low, high)?)?;
                }
                let label = || format!("dropout of {dtype}, {}", view.name);
                let (expected, expected_kept) = composed::dropout(x, 0.75, 5, 11)?;
                let (y, kept) = backend.dropout(x, 0.75, 5, 11)?;
                report.same(label, &expected, &y)?;
                report.same(label, &expected_kept, &kept)?;
                let expected = composed::dropout_backward(&g, &kept, 0.75)?;
                report.same(label, &expected, &backend.dropout_backward(&g, &kept, 0.75)?)?;
            }
        }
        Ok(())
    });
}
