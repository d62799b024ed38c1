//! Matrix products, convolutions and pooling, against plain loops; gradients by the law that defines them.

use super::cases::{moderate, places, position, views};
use super::{FLOATS, Report, Tolerance, epsilon, host, upload};
use crate::op::UnaryOp;
use crate::{Conv, DType, Device, Pool, Result, Tensor, composed};

/// A sum of `k` products of numbers up to 2, in any order, then rounded.
fn sum_of(k: usize, dtype: DType) -> Tolerance {
    Tolerance {
        relative: epsilon(dtype),
        absolute: 4.0 * (k as f64 + 1.0) * epsilon(dtype.accumulator()) * 2.0,
    }
}

/// `[…, m, k] · […, k, n]` for odd sizes and every layout of either side.
pub fn check_matmul(device: &Device) {
    Report::of("matmul", |report| {
        for dtype in FLOATS {
            for [m, k, n] in [
                [1, 1, 1],
                [3, 5, 2],
                [17, 33, 9],
                [64, 64, 64],
                [1, 70, 40],
                [40, 70, 1],
                [5, 0, 3],
                [0, 2, 2],
            ] {
                let (a, b) = (moderate(2 * m * k, dtype, 1), moderate(2 * k * n, dtype, 2));
                let x = upload(device, dtype, &[2, m, k], &a)?;
                let y = upload(device, dtype, &[2, k, n], &b)?;
                let exact: Vec<f64> = places(&[2, m, n])
                    .map(|p| {
                        (0..k).map(|l| a[(p[0] * m + p[1]) * k + l] * b[(p[0] * k + l) * n + p[2]]).sum()
                    })
                    .collect();
                let turned = |t: &Tensor| t.transpose(1, 2)?.copy()?.transpose(1, 2);
                let flipped = |t: &Tensor| t.flip([1, 2])?.copy()?.flip([1, 2]);
                for (name, x, y) in [
                    ("contiguous", x.clone(), y.clone()),
                    ("transposed left", turned(&x)?, y.clone()),
                    ("transposed right", x.clone(), turned(&y)?),
                    ("flipped", flipped(&x)?, flipped(&y)?),
                ] {
                    let label = || format!("matmul of {dtype}, [{m}, {k}, {n}], {name}");
                    report.close(label, &device.backend().matmul(&x, &y)?, &exact, sum_of(k, dtype))?;
                }
            }
        }
        Ok(())
    });
}

/// `activation(x · weightᵀ + bias + residual)` with and without each of its parts.
pub fn check_linear(device: &Device) {
    Report::of("linear", |report| {
        let backend = device.backend();
        for (dtype, [m, k, n]) in FLOATS.into_iter().flat_map(|t| [[3, 5, 2], [20, 40, 24]].map(|s| (t, s))) {
            let values = |len, seed| moderate(len, dtype, seed);
            let (xv, wv, bv, rv) = (values(m * k, 1), values(n * k, 2), values(n, 3), values(m * n, 4));
            let (x, w) = (upload(device, dtype, &[m, k], &xv)?, upload(device, dtype, &[n, k], &wv)?);
            let (b, r) = (upload(device, dtype, &[n], &bv)?, upload(device, dtype, &[m, n], &rv)?);
            let turned = r.t()?.copy()?.t()?;
            let activations =
                [UnaryOp::Relu, UnaryOp::Relu6, UnaryOp::Gelu, UnaryOp::GeluTanh, UnaryOp::Silu]
                    .into_iter()
                    .chain([UnaryOp::Sigmoid, UnaryOp::Tanh, UnaryOp::Hardswish, UnaryOp::Softplus]);
            let mut cases = vec![(None, None, None), (Some(&b), None, None), (None, Some(&r), None)];
            cases.extend(activations.map(|op| (Some(&b), Some(&turned), Some(op))));
            for (bias, residual, activation) in cases {
                let sums: Vec<f64> = places(&[m, n])
                    .map(|p| {
                        let sum: f64 = (0..k).map(|l| xv[p[0] * k + l] * wv[p[1] * k + l]).sum();
                        let added = residual.map_or(0.0, |_| rv[p[0] * n + p[1]]);
                        sum + bias.map_or(0.0, |_| bv[p[1]]) + added
                    })
                    .collect();
                let largest = sums.iter().fold(1.0f64, |most, x| most.max(x.abs()));
                let exact: Vec<f64> =
                    sums.into_iter().map(|x| activation.map_or(x, |op| op.scalar_f64()(x))).collect();
                let sum = sum_of(k, dtype);
                // What an activation is given may be rounded before, up to three times.
                let before = 4.0 * epsilon(dtype) * largest;
                let allowed =
                    Tolerance { relative: 4.0 * sum.relative, absolute: 2.0 * sum.absolute + before };
                let label = || format!("linear of {dtype}, [{m}, {k}, {n}], {activation:?}");
                let y = backend.linear_fused(&x, &w, bias, residual, activation)?;
                report.close(label, &y, &exact, allowed)?;
                if residual.is_none() {
                    report.same(label, &backend.linear(&x, &w, bias)?, &y)?;
                }
            }
        }
        Ok(())
    });
}

/// `Σ a · b` over all elements.
fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
    Ok(host(a)?.iter().zip(host(b)?).map(|(a, b)| a * b).sum())
}

/// The convolution against its definition, for one to three spatial dims; its gradients against
/// `⟨g, conv(x, w)⟩ = ⟨conv_grad_input(g), x⟩ = ⟨conv_grad_weight(g), w⟩`.
pub fn check_conv(device: &Device) {
    Report::of("conv", |report| {
        let plain = Conv::default();
        let cases: [(&[usize], &[usize], Conv); 8] = [
            (&[2, 3, 9], &[4, 3, 3], plain),
            (&[2, 3, 8, 7], &[5, 3, 3, 3], plain.padding(1)),
            (&[1, 4, 9, 9], &[6, 2, 3, 3], plain.groups(2).stride(2).padding([0, 1])),
            (&[2, 4, 8, 8], &[4, 1, 3, 3], plain.groups(4).padding(1)),
            (&[1, 2, 11, 10], &[3, 2, 3, 2], plain.dilation([2, 3])),
            (&[2, 8, 5, 5], &[16, 8, 1, 1], plain),
            (&[1, 2, 5, 6, 4], &[3, 2, 2, 3, 2], plain.stride([1, 2, 1]).padding(1)),
            (&[0, 2, 5, 5], &[3, 2, 3, 3], plain),
        ];
        for (dtype, (xs, ws, conv)) in FLOATS.into_iter().flat_map(|t| cases.map(|c| (t, c))) {
            let (xn, wn) = (xs.iter().product(), ws.iter().product());
            let (xv, wv, bv) = (moderate(xn, dtype, 1), moderate(wn, dtype, 2), moderate(ws[0], dtype, 3));
            let (x, w) = (upload(device, dtype, xs, &xv)?, upload(device, dtype, ws, &wv)?);
            let bias = upload(device, dtype, &ws[..1], &bv)?;
            let out = conv.output_shape("conv", x.shape(), w.shape())?;
            let (c, per_group) = (ws[1], ws[0] / conv.groups);
            let exact: Vec<f64> = places(out.dims())
                .map(|p| {
                    let taps = places(&ws[1..]).map(|tap| {
                        let mut from = vec![p[0], p[1] / per_group * c + tap[0]];
                        for d in 0..xs.len() - 2 {
                            let at = p[d + 2] * conv.stride[d] + tap[d + 1] * conv.dilation[d];
                            match at.checked_sub(conv.padding[d]).filter(|&at| at < xs[d + 2]) {
                                Some(at) => from.push(at),
                                None => return 0.0,
                            }
                        }
                        let weight = [&[p[1]], &tap[..]].concat();
                        xv[position(xs, &from)] * wv[position(ws, &weight)]
                    });
                    taps.sum::<f64>() + bv[p[1]]
                })
                .collect();
            let label = || format!("conv of {dtype}, {xs:?} ∗ {ws:?}, {conv:?}");
            let backend = device.backend();
            let k: usize = ws[1..].iter().product();
            report.close(label, &backend.conv(&x, &w, Some(&bias), &conv)?, &exact, sum_of(k, dtype))?;
            // Channels-last images give the same numbers.
            let order: Vec<isize> = [0].into_iter().chain(2..xs.len() as isize).chain([1]).collect();
            let mut back = vec![0, xs.len() as isize - 1];
            back.extend(1..xs.len() as isize - 1);
            let last = x.permute(&order)?.copy()?.permute(&back)?;
            report.close(label, &backend.conv(&last, &w, Some(&bias), &conv)?, &exact, sum_of(k, dtype))?;

            let gv = moderate(out.numel(), dtype, 4);
            let g = upload(device, dtype, out.dims(), &gv)?;
            let fused = backend.conv_fused(&x, &w, Some(&bias), &conv, Some(&g), Some(UnaryOp::Relu))?;
            let added: Vec<f64> = exact.iter().zip(&gv).map(|(y, r)| y + r).collect();
            let finished: Vec<f64> = added.iter().map(|y| y.max(0.0)).collect();
            // What is added and what an activation is given may be rounded before.
            let largest = exact.iter().chain(&added).fold(1.0f64, |most, y| most.max(y.abs()));
            let sum = sum_of(k, dtype);
            let before = 4.0 * epsilon(dtype) * largest;
            let allowed = Tolerance { absolute: sum.absolute + before, ..sum };
            report.close(label, &fused, &finished, allowed)?;
            let forward = dot(&g, &backend.conv(&x, &w, None, &conv)?)?;
            let by_input = dot(&backend.conv_grad_input(&g, &w, x.shape(), &conv)?, &x)?;
            let by_weight = dot(&backend.conv_grad_weight(&g, &x, w.shape(), &conv)?, &w)?;
            // Three roundings of the results, which are summed with random signs; 10 for what is far out.
            let size = (out.numel() * k) as f64;
            let allowed = 40.0 * epsilon(dtype) * size.sqrt().max(1.0) + 1e-5 * size.sqrt();
            for (name, got) in [("input", by_input), ("weight", by_weight)] {
                report.check((got - forward).abs() <= allowed, || {
                    format!("{}: ⟨grad_{name}, {name}⟩ is {got}, expected {forward}", label())
                });
            }
        }
        Ok(())
    });
}

/// Pooling in two dims against its definition; backwards by the adjoint law.
pub fn check_pool(device: &Device) {
    Report::of("pool", |report| {
        let pools = [
            Pool::new(2),
            Pool::new(3).stride(2).padding(1),
            Pool::new([2, 3]).stride(1),
            Pool::new(3).stride(2).ceil_mode(true),
            Pool::new(3).stride(2).padding(1).count_include_pad(false),
        ];
        for (dtype, pool) in FLOATS.into_iter().flat_map(|t| pools.map(|p| (t, p))) {
            let dims = [2, 3, 8, 7];
            let values = moderate(2 * 3 * 8 * 7, dtype, 6);
            let x = upload(device, dtype, &dims, &values)?;
            let out = pool.output_shape("pool", x.shape())?;
            let backend = device.backend();
            let label = |op: &str| format!("{op} of {dtype}, {pool:?}");
            let windows = |p: &[usize]| -> Vec<usize> {
                let inside = |d: usize, k: usize| {
                    let at = p[d + 2] * pool.stride[d] + k * pool.dilation[d];
                    at.checked_sub(pool.padding[d]).filter(|&at| at < dims[d + 2])
                };
                places(&pool.kernel[..2])
                    .filter_map(|k| Some(inside(0, k[0])? * dims[3] + inside(1, k[1])?))
                    .collect()
            };
            let plane = |p: &[usize]| (p[0] * dims[1] + p[1]) * dims[2] * dims[3];
            let best = |p: &[usize]| {
                let at = |i: usize| values[plane(p) + i];
                let window = windows(p);
                window[1..].iter().fold(window[0], |b, &i| if at(i) > at(b) { i } else { b })
            };
            let (y, index) = backend.max_pool(&x, &pool)?;
            let indices: Vec<f64> = places(out.dims()).map(|p| best(&p) as f64).collect();
            let largest: Vec<f64> = places(out.dims()).map(|p| values[plane(&p) + best(&p)]).collect();
            report.close(|| label("max_pool"), &y, &largest, Tolerance::EXACT)?;
            report.close(|| label("index of max_pool"), &index, &indices, Tolerance::EXACT)?;

            let g = upload(device, dtype, out.dims(), &moderate(out.numel(), dtype, 8))?;
            let allowed = 400.0 * epsilon(dtype);
            let backward = dot(&backend.max_pool_backward(&g, &index, x.shape())?, &x)?;
            let forward = dot(&g, &y)?;
            report.check((backward - forward).abs() <= allowed, || label("max_pool_backward"));

            let (values_too, held) = backend.max_pool_places(&x, &pool, true)?;
            report.same(|| label("max_pool_places"), &values_too, &y)?;
            let held = held.expect("places were asked for");
            let decoded = backend.max_pool_index(&held, x.shape(), &pool)?;
            report.same(|| label("max_pool_index"), &decoded, &index)?;
            let back = backend.max_pool_places_backward(&g, &held, x.shape(), &pool)?;
            let expected = backend.max_pool_backward(&g, &index, x.shape())?;
            report.same(|| label("max_pool_places_backward"), &back, &expected)?;

            let y = backend.avg_pool(&x, &pool)?;
            if pool.count_include_pad && !pool.ceil_mode {
                let size = (pool.kernel[0] * pool.kernel[1]) as f64;
                let mean =
                    |p: Vec<usize>| windows(&p).iter().map(|i| values[plane(&p) + i]).sum::<f64>() / size;
                let means: Vec<f64> = places(out.dims()).map(mean).collect();
                report.close(|| label("avg_pool"), &y, &means, sum_of(9, dtype))?;
            }
            let backward = dot(&backend.avg_pool_backward(&g, x.shape(), &pool)?, &x)?;
            report.check((backward - dot(&g, &y)?).abs() <= allowed, || label("avg_pool_backward"));

            let small = [2, 3, 3, 4].into();
            let (y, index) = backend.adaptive_max_pool(&x, small)?;
            let (expected, indices) = composed::adaptive_max_pool(&x, small)?;
            report.same(|| label("adaptive_max_pool"), &y, &expected)?;
            report.same(|| label("index of adaptive_max_pool"), &index, &indices)?;
            let y = backend.adaptive_avg_pool(&x, small)?;
            let g = upload(device, dtype, small.dims(), &moderate(small.numel(), dtype, 8))?;
            let backward = dot(&backend.adaptive_avg_pool_backward(&g, x.shape())?, &x)?;
            report.check((backward - dot(&g, &y)?).abs() <= allowed, || label("adaptive_avg_pool_backward"));
            let cells = |n: usize, out: usize, o: usize| o * n / out..((o + 1) * n).div_ceil(out);
            let mean = |p: Vec<usize>| {
                let (rows, columns) = (cells(8, 3, p[2]), cells(7, 4, p[3]));
                let size = (rows.len() * columns.len()) as f64;
                rows.flat_map(|r| columns.clone().map(move |c| r * 7 + c))
                    .map(|i| values[plane(&p) + i])
                    .sum::<f64>()
                    / size
            };
            let means: Vec<f64> = places(small.dims()).map(mean).collect();
            report.close(|| label("adaptive_avg_pool"), &y, &means, sum_of(9, dtype))?;
        }
        // NaN wins and views are as good as copies.
        for view in views(device, DType::F32, &moderate(8192, DType::F32, 2))? {
            if view.x.rank() == 4 {
                let (a, b) = (device.backend().max_pool(&view.x, &Pool::new(2))?, view.x.copy()?);
                report.same(
                    || format!("max_pool, {}", view.name),
                    &a.0,
                    &device.backend().max_pool(&b, &Pool::new(2))?.0,
                )?;
            }
        }
        let x = upload(device, DType::F32, &[1, 1, 2, 2], &[1.0, f64::NAN, 9.0, 2.0])?;
        let (y, index) = device.backend().max_pool(&x, &Pool::new(2))?;
        report.close(|| "max_pool of NaN".into(), &y, &[f64::NAN], Tolerance::EXACT)?;
        report.close(|| "index of NaN".into(), &index, &[1.0], Tolerance::EXACT)?;
        // Of several NaN in a window the last one is meant, as in PyTorch.
        let nan = f64::NAN;
        let x = [1., nan, 3., nan, 2., nan, 9., 1., 0., 1., 2., 3., nan, 1., 1., nan];
        let x = upload(device, DType::F32, &[1, 1, 4, 4], &x)?;
        for (size, places) in [(4, vec![15.]), (2, vec![5., 3., 12., 15.])] {
            let label = || format!("index of several NaN in windows of {size}");
            report.close(
                label,
                &device.backend().max_pool(&x, &Pool::new(size))?.1,
                &places,
                Tolerance::EXACT,
            )?;
            let output = crate::Shape::from([1, 1, 4 / size, 4 / size]);
            let adaptive = device.backend().adaptive_max_pool(&x, output)?.1;
            report.close(|| format!("adaptive, {}", label()), &adaptive, &places, Tolerance::EXACT)?;
        }
        Ok(())
    });
}
