//! Pooling against its definition, backwards by the adjoint law, in one to three dims and either order of channels.

use super::cases::{channels_last, moderate, places, position, views};
use super::products::{dot, sum_of};
use super::{FLOATS, Report, Tolerance, epsilon, upload};
use crate::{DType, Device, Pool, Result, Shape, composed};

/// What is pooled, and how.
fn cases() -> [(&'static [usize], Pool); 14] {
    let image: &[usize] = &[2, 3, 8, 7];
    let wide: &[usize] = &[2, 8, 5, 6];
    let volume: &[usize] = &[1, 2, 5, 4, 6];
    let overlapping = Pool::new(3).stride(2).padding(1);
    [
        (image, Pool::new(2)),
        (image, overlapping),
        (image, Pool::new([2, 3]).stride(1)),
        (image, Pool::new(3).stride(2).ceil_mode(true)),
        (image, overlapping.count_include_pad(false)),
        (image, overlapping.divisor_override(5)),
        (image, Pool::new(2).stride(3).dilation(2)),
        (wide, overlapping),
        (wide, Pool::new(2).ceil_mode(true).count_include_pad(false)),
        (&[2, 3, 9], Pool::new(2)),
        (&[2, 3, 9], overlapping),
        (volume, Pool::new([2, 1, 3])),
        (volume, Pool::new(2).padding(1).count_include_pad(false)),
        (&[0, 3, 4, 4], Pool::new(2)),
    ]
}

/// The part of the window of result `o` that lies inside of a dim of `n`, and how many places it has with the padding.
fn along(pool: &Pool, d: usize, n: usize, o: usize) -> (Vec<usize>, usize) {
    let (start, kernel, padding) = (o * pool.stride[d], pool.kernel[d], pool.padding[d]);
    let at = |k: usize| (start + k * pool.dilation[d]).checked_sub(padding).filter(|&at| at < n);
    ((0..kernel).filter_map(at).collect(), kernel.min(n + 2 * padding - start))
}

/// The flat places of a plane that lists of places along each of its dims span.
fn spanned(size: &[usize], lists: &[Vec<usize>]) -> Vec<usize> {
    let counts: Vec<usize> = lists.iter().map(Vec::len).collect();
    let flat = |i: Vec<usize>| {
        let place: Vec<usize> = lists.iter().zip(i).map(|(list, i)| list[i]).collect();
        position(size, &place)
    };
    places(&counts).map(flat).collect()
}

/// Pooling with every option, and adaptive pooling.
pub fn check_pool(device: &Device) {
    Report::of("pool", |report| {
        for (dtype, (dims, pool)) in FLOATS.into_iter().flat_map(|t| cases().map(|c| (t, c))) {
            check_windows(report, device, dtype, dims, &pool)?;
        }
        for (dtype, dims) in FLOATS.into_iter().flat_map(|t| {
            [&[2, 3, 8, 7][..], &[2, 8, 5, 6], &[2, 3, 9], &[1, 2, 5, 4, 6], &[0, 3, 4, 4]].map(|d| (t, d))
        }) {
            check_adaptive(report, device, dtype, dims)?;
        }
        check_nan(report, device)
    });
}

fn check_windows(
    report: &mut Report,
    device: &Device,
    dtype: DType,
    dims: &[usize],
    pool: &Pool,
) -> Result<()> {
    let (backend, size) = (device.backend(), &dims[2..]);
    let label = |op: &str| format!("{op} of {dtype}, {dims:?}, {pool:?}");
    let values = moderate(dims.iter().product(), dtype, 6);
    let x = upload(device, dtype, dims, &values)?;
    let last = channels_last(&x)?;
    let out = pool.output_shape("pool", x.shape())?;
    let window = |p: &[usize]| {
        let lists: Vec<_> = size.iter().enumerate().map(|(d, &n)| along(pool, d, n, p[d + 2]).0).collect();
        spanned(size, &lists)
    };
    let plane = |p: &[usize]| (p[0] * dims[1] + p[1]) * size.iter().product::<usize>();
    let best = |p: &[usize]| {
        let (window, at) = (window(p), |i: usize| values[plane(p) + i]);
        window[1..].iter().fold(window[0], |b, &i| if at(i) > at(b) { i } else { b })
    };
    let indices: Vec<f64> = places(out.dims()).map(|p| best(&p) as f64).collect();
    let largest: Vec<f64> = places(out.dims()).map(|p| values[plane(&p) + best(&p)]).collect();
    let (y, index) = backend.max_pool(&x, pool)?;
    for (y, index) in [(y.clone(), index.clone()), backend.max_pool(&last, pool)?] {
        report.close(|| label("max_pool"), &y, &largest, Tolerance::EXACT)?;
        report.close(|| label("index of max_pool"), &index, &indices, Tolerance::EXACT)?;
    }

    let g = upload(device, dtype, out.dims(), &moderate(out.numel(), dtype, 8))?;
    let allowed = epsilon(dtype) * x.numel().max(400) as f64;
    let expected = backend.max_pool_backward(&g, &index, x.shape())?;
    report.check((dot(&expected, &x)? - dot(&g, &y)?).abs() <= allowed, || label("max_pool_backward"));
    for x in [&x, &last] {
        let (values_too, held) = backend.max_pool_places(x, pool, true)?;
        report.same(|| label("max_pool_places"), &values_too, &y)?;
        let held = held.expect("places were asked for");
        let decoded = backend.max_pool_index(&held, x.shape(), pool)?;
        report.same(|| label("max_pool_index"), &decoded, &index)?;
        let back = backend.max_pool_places_backward(&g, &held, x.shape(), pool)?;
        report.same(|| label("max_pool_places_backward"), &back, &expected)?;
    }

    // An average has no dilation.
    if pool.dilation != [1; 3] {
        return Ok(());
    }
    let mean = |p: Vec<usize>| {
        let window = window(&p);
        let padded = || size.iter().enumerate().map(|(d, &n)| along(pool, d, n, p[d + 2]).1).product();
        let counted = if pool.count_include_pad { padded() } else { window.len() };
        let divisor = pool.divisor_override.unwrap_or(counted) as f64;
        window.iter().map(|i| values[plane(&p) + i]).sum::<f64>() / divisor
    };
    let means: Vec<f64> = places(out.dims()).map(mean).collect();
    let y = backend.avg_pool(&x, pool)?;
    report.close(|| label("avg_pool"), &y, &means, sum_of(27, dtype))?;
    report.close(|| label("avg_pool"), &backend.avg_pool(&last, pool)?, &means, sum_of(27, dtype))?;
    for g in [&g, &channels_last(&g)?] {
        let backward = dot(&backend.avg_pool_backward(g, x.shape(), pool)?, &x)?;
        report.check((backward - dot(g, &y)?).abs() <= allowed, || label("avg_pool_backward"));
    }
    Ok(())
}

/// Windows from `⌊i·size/out⌋` to `⌈(i+1)·size/out⌉`, of two sizes where the one is no multiple of the other.
fn check_adaptive(report: &mut Report, device: &Device, dtype: DType, dims: &[usize]) -> Result<()> {
    let (backend, size) = (device.backend(), &dims[2..]);
    let label = |op: &str| format!("{op} of {dtype}, {dims:?}");
    let values = moderate(dims.iter().product(), dtype, 6);
    let x = upload(device, dtype, dims, &values)?;
    let last = channels_last(&x)?;
    let cells: Vec<usize> = size.iter().map(|n| n / 2 + 1).collect();
    let out = Shape::from([&dims[..2], &cells].concat());
    let (expected, indices) = composed::adaptive_max_pool(&x, out)?;
    for x in [&x, &last] {
        let (y, index) = backend.adaptive_max_pool(x, out)?;
        report.same(|| label("adaptive_max_pool"), &y, &expected)?;
        report.same(|| label("index of adaptive_max_pool"), &index, &indices)?;
    }
    let mean = |p: Vec<usize>| {
        let cell = |(d, &n): (usize, &usize)| {
            let (o, out) = (p[d + 2], cells[d]);
            (o * n / out..((o + 1) * n).div_ceil(out)).collect()
        };
        let lists: Vec<Vec<usize>> = size.iter().enumerate().map(cell).collect();
        let (window, plane) = (spanned(size, &lists), size.iter().product::<usize>());
        let of = |i: &usize| values[(p[0] * dims[1] + p[1]) * plane + i];
        window.iter().map(of).sum::<f64>() / window.len() as f64
    };
    let means: Vec<f64> = places(out.dims()).map(mean).collect();
    let y = backend.adaptive_avg_pool(&x, out)?;
    report.close(|| label("adaptive_avg_pool"), &y, &means, sum_of(27, dtype))?;
    let by_last = backend.adaptive_avg_pool(&last, out)?;
    report.close(|| label("adaptive_avg_pool"), &by_last, &means, sum_of(27, dtype))?;
    let g = upload(device, dtype, out.dims(), &moderate(out.numel(), dtype, 8))?;
    let backward = dot(&backend.adaptive_avg_pool_backward(&g, x.shape())?, &x)?;
    let allowed = epsilon(dtype) * x.numel().max(400) as f64;
    report.check((backward - dot(&g, &y)?).abs() <= allowed, || label("adaptive_avg_pool_backward"));
    Ok(())
}

/// NaN wins, of several the last one, as in PyTorch; and views are as good as copies.
fn check_nan(report: &mut Report, device: &Device) -> Result<()> {
    let backend = device.backend();
    for view in views(device, DType::F32, &moderate(8192, DType::F32, 2))? {
        if view.x.rank() == 4 {
            let label = || format!("max_pool, {}", view.name);
            let (a, b) = (backend.max_pool(&view.x, &Pool::new(2))?, view.x.copy()?);
            report.same(label, &a.0, &backend.max_pool(&b, &Pool::new(2))?.0)?;
        }
    }
    let nan = f64::NAN;
    let x = upload(device, DType::F32, &[1, 1, 2, 2], &[1.0, nan, 9.0, 2.0])?;
    let (y, index) = backend.max_pool(&x, &Pool::new(2))?;
    report.close(|| "max_pool of NaN".into(), &y, &[nan], Tolerance::EXACT)?;
    report.close(|| "index of NaN".into(), &index, &[1.0], Tolerance::EXACT)?;
    let x = [1., nan, 3., nan, 2., nan, 9., 1., 0., 1., 2., 3., nan, 1., 1., nan];
    let x = upload(device, DType::F32, &[1, 1, 4, 4], &x)?;
    for (size, places) in [(4, vec![15.]), (2, vec![5., 3., 12., 15.])] {
        let label = || format!("index of several NaN in windows of {size}");
        report.close(label, &backend.max_pool(&x, &Pool::new(size))?.1, &places, Tolerance::EXACT)?;
        let adaptive = backend.adaptive_max_pool(&x, [1, 1, 4 / size, 4 / size].into())?.1;
        report.close(|| format!("adaptive, {}", label()), &adaptive, &places, Tolerance::EXACT)?;
    }
    Ok(())
}
