//! Matrix products and convolutions against plain loops; gradients by the law that defines them.

use super::cases::{bytes, channels_last, moderate, places, position};
use super::{FLOATS, Report, Tolerance, epsilon, host, upload, wrapped};
use crate::op::UnaryOp;
use crate::{Conv, DType, Device, Result, Tensor};

/// A sum of `k` products of numbers up to 2, in any order, then rounded.
pub(super) fn sum_of(k: usize, dtype: DType) -> Tolerance {
    Tolerance {
        relative: epsilon(dtype),
        absolute: 4.0 * (k as f64 + 1.0) * epsilon(dtype.accumulator()) * 2.0,
    }
}

/// Rows, terms and columns: a multiple of a tile, none of any, one, none at all.
const SIZES: [[usize; 3]; 8] =
    [[1, 1, 1], [3, 5, 2], [17, 33, 9], [64, 64, 64], [1, 70, 40], [40, 70, 1], [5, 0, 3], [0, 2, 2]];

/// Both operands in every layout of either.
fn layouts(x: &Tensor, y: &Tensor) -> Result<[(&'static str, Tensor, Tensor); 4]> {
    let turned = |t: &Tensor| t.transpose(-1, -2)?.copy()?.transpose(-1, -2);
    let flipped = |t: &Tensor| t.flip([-1, -2])?.copy()?.flip([-1, -2]);
    Ok([
        ("contiguous", x.clone(), y.clone()),
        ("transposed left", turned(x)?, y.clone()),
        ("transposed right", x.clone(), turned(y)?),
        ("flipped", flipped(x)?, flipped(y)?),
    ])
}

/// The products of `matrices` pairs of row-major matrices.
fn product(matrices: usize, [m, k, n]: [usize; 3], a: &[f64], b: &[f64]) -> Vec<f64> {
    let sum =
        |p: Vec<usize>| (0..k).map(|l| a[(p[0] * m + p[1]) * k + l] * b[(p[0] * k + l) * n + p[2]]).sum();
    places(&[matrices, m, n]).map(sum).collect()
}

/// `[…, m, k] · […, k, n]` for odd sizes and every layout of either side. Integers wrap.
pub fn check_matmul(device: &Device) {
    Report::of("matmul", |report| {
        for &dtype in DType::ALL.iter().filter(|&&dtype| dtype != DType::Bool) {
            let values = if dtype.is_float() { moderate } else { bytes };
            for size @ [m, k, n] in SIZES {
                let (a, b) = (values(2 * m * k, dtype, 1), values(2 * k * n, dtype, 2));
                let x = upload(device, dtype, &[2, m, k], &a)?;
                let y = upload(device, dtype, &[2, k, n], &b)?;
                let mut exact = product(2, size, &a, &b);
                if !dtype.is_float() {
                    exact.iter_mut().for_each(|x| *x = wrapped(*x as i64, dtype));
                }
                for (name, x, y) in layouts(&x, &y)? {
                    let label = || format!("matmul of {dtype}, {size:?}, {name}");
                    report.close(label, &device.backend().matmul(&x, &y)?, &exact, sum_of(k, dtype))?;
                }
            }
        }
        Ok(())
    });
}

/// `[m, k] · [k, n]` of bytes with signs or without, in 32 bits, which a long sum wraps around.
pub fn check_int_mm(device: &Device) {
    Report::of("int_mm", |report| {
        let dtypes = [DType::I8, DType::U8];
        for (left, right) in dtypes.into_iter().flat_map(|a| dtypes.map(|b| (a, b))) {
            for size @ [m, k, n] in SIZES {
                let (a, b) = (bytes(m * k, left, 1), bytes(k * n, right, 2));
                let (x, y) = (upload(device, left, &[m, k], &a)?, upload(device, right, &[k, n], &b)?);
                let exact = product(1, size, &a, &b);
                for (name, x, y) in layouts(&x, &y)? {
                    let label = || format!("int_mm of {left} and {right}, {size:?}, {name}");
                    let y = device.backend().int_mm(&x, &y)?;
                    report.check(y.dtype() == DType::I32, || format!("{}: expected int32", label()));
                    report.close(label, &y, &exact, Tolerance::EXACT)?;
                }
            }
        }
        let (k, most) = (34_000, 255.0);
        let row = upload(device, DType::U8, &[1, k], &vec![most; k])?;
        let y = device.backend().int_mm(&row, &row.t()?)?;
        let expected = wrapped((k as f64 * most * most) as i64, DType::I32);
        report.close(|| "int_mm of a sum beyond 32 bits".into(), &y, &[expected], Tolerance::EXACT)
    });
}

/// `activation(x · weightᵀ + bias + residual)` with and without each of its parts.
pub fn check_linear(device: &Device) {
    Report::of("linear", |report| {
        let backend = device.backend();
        for (dtype, [m, k, n]) in
            FLOATS.into_iter().flat_map(|t| [[3, 5, 2], [20, 40, 24], [1, 64, 40], [0, 5, 3]].map(|s| (t, s)))
        {
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
pub(super) fn dot(a: &Tensor, b: &Tensor) -> Result<f64> {
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
            let last = channels_last(&x)?;
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
