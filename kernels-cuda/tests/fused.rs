//! Fused kernels at sizes that the contract suite lacks, on the emulated GPU against the CPU and the composed forms there.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use gradus_kernels_cuda::emulator;
use tensor::op::UnaryOp;
use tensor::{DType, Device, MAX_RANK, Number, Result, Tensor, composed};

const FLOATS: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];

/// The bytes of a tensor.
fn bytes(x: &Tensor) -> Result<Vec<u8>> {
    x.device().backend().download(x)
}

fn doubles(x: &Tensor) -> Result<Vec<f64>> {
    x.to_device(&Device::cpu())?.to_dtype(DType::F64)?.to_vec()
}

/// Numbers from -1 to 3, on the CPU.
fn wave(dims: &[usize], dtype: DType, step: f32) -> Result<Tensor> {
    let n: usize = dims.iter().product();
    let wave: Vec<f32> = (0..n).map(|i| (i as f32 * step).sin() * 2.0 + 1.0).collect();
    Tensor::from_vec(wave, dims, &Device::cpu())?.to_dtype(dtype)
}

/// Results of a dtype against those in doubles, relative to the largest.
fn near(what: &str, found: &[&Tensor], expected: &[&Tensor], dtype: DType) -> Result<()> {
    let error = match dtype {
        DType::BF16 => 0.02,
        DType::F16 => 3e-3,
        DType::F32 => 5e-5,
        _ => 1e-9,
    };
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.dims(), expected.dims(), "result {i} of {what}");
        let (found, expected) = (doubles(found)?, doubles(expected)?);
        let largest = expected.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
        let far = found
            .iter()
            .zip(&expected)
            .find(|(a, b)| (*a - *b).abs().is_nan() || (*a - *b).abs() > error * largest);
        assert!(far.is_none(), "result {i} of {what} in {dtype}: {far:?}");
    }
    Ok(())
}

/// Lines of one element, of a few, of whole and broken vectors, of more than a thread holds in registers, and of those that begin anywhere.
#[test]
fn lines_of_every_length_are_normalised() {
    fn check(gpu: &Device) -> Result<()> {
        let backend = gpu.backend();
        for (n, dtype) in [1, 2, 7, 8, 9, 31, 64, 255, 1000, 1024, 1032, 2056, 4099, 8200, 16400]
            .into_iter()
            .zip(FLOATS.into_iter().cycle())
            .flat_map(|(n, dtype)| [(n, dtype), (n, DType::BF16)])
        {
            let lines = if n < 100 { 67 } else { 3 };
            let x = wave(&[lines, n], dtype, 0.37)?;
            // Whose products with the input do not cancel.
            let g = x.square()?;
            let (w, b) = (wave(&[n], dtype, 0.7)?, wave(&[n], dtype, 0.9)?);
            let [wide_x, wide_g, wide_w, wide_b] = [&x, &g, &w, &b].map(|t| t.to_dtype(DType::F64));
            let (wide_x, wide_g, wide_w, wide_b) = (wide_x?, wide_g?, wide_w?, wide_b?);
            // Memory that begins at an element which begins no vector.
            let there = |x: &Tensor| -> Result<Tensor> {
                let x = x.to_device(gpu)?;
                if n % 3 != 0 {
                    return Ok(x);
                }
                let flat = Tensor::cat(&[x.flatten(0)?.narrow(0, 0, 1)?, x.flatten(0)?], 0)?;
                flat.narrow(0, 1, x.numel())?.reshape(x.dims())
            };
            let (x, g, w, b) = (there(&x)?, there(&g)?, there(&w)?, there(&b)?);
            for given in [true, false] {
                let (w, b) = (given.then_some(&w), given.then_some(&b));
                let (ew, eb) = (given.then_some(&wide_w), given.then_some(&wide_b));
                let what = format!("layer_norm of {n}");
                let e = composed::layer_norm(&wide_x, 1, ew, eb, 0.5)?;
                let y = backend.layer_norm(&x, 1, w, b, 0.5)?;
                near(&what, &[&y.0, &y.1, &y.2], &[&e.0, &e.1, &e.2], dtype)?;
                let e = composed::layer_norm_backward(&wide_g, &wide_x, &e.1, &e.2, ew, 1)?;
                let d = backend.layer_norm_backward(&g, &x, &y.1, &y.2, w, 1)?;
                near(&format!("{what}, backward"), &[&d.0, &d.1, &d.2], &[&e.0, &e.1, &e.2], dtype)?;
                let what = format!("rms_norm of {n}");
                let e = composed::rms_norm(&wide_x, 1, ew, 0.5)?;
                let y = backend.rms_norm(&x, 1, w, 0.5)?;
                near(&what, &[&y.0, &y.1], &[&e.0, &e.1], dtype)?;
                let e = composed::rms_norm_backward(&wide_g, &wide_x, &e.1, ew, 1)?;
                let d = backend.rms_norm_backward(&g, &x, &y.1, w, 1)?;
                near(&format!("{what}, backward"), &[&d.0, &d.1], &[&e.0, &e.1], dtype)?;
                assert_eq!(bytes(&d.1)?, bytes(&backend.rms_norm_backward(&g, &x, &y.1, w, 1)?.1)?);
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// Groups of one channel and of all, of places that are and are not whole vectors, and of more than threads hold.
#[test]
fn groups_of_every_form_are_normalised() {
    fn check(gpu: &Device) -> Result<()> {
        let backend = gpu.backend();
        let cases: [(&[usize], usize); 8] = [
            (&[3, 8, 4, 4], 2),
            (&[2, 6, 5, 7], 3),
            (&[2, 6, 5, 7], 6),
            (&[5, 32], 4),
            (&[5, 21], 7),
            (&[1, 4, 1], 1),
            (&[2, 4, 72, 64], 2),
            (&[1, 2, 9, 10, 101], 1),
        ];
        for ((dims, groups), dtype) in cases.into_iter().flat_map(|case| FLOATS.map(|dtype| (case, dtype))) {
            let x = wave(dims, dtype, 0.37)?;
            let g = x.square()?;
            let (w, b) = (wave(&dims[1..2], dtype, 0.7)?, wave(&dims[1..2], dtype, 0.9)?);
            let wide = |t: &Tensor| t.to_dtype(DType::F64);
            let (ew, eb) = (wide(&w)?, wide(&b)?);
            let e = composed::group_norm(&wide(&x)?, groups, Some(&ew), Some(&eb), 0.5)?;
            let ed = composed::group_norm_backward(&wide(&g)?, &wide(&x)?, &e.1, &e.2, Some(&ew))?;
            let [x, g, w, b] = [&x, &g, &w, &b].map(|t| t.to_device(gpu));
            let (x, g, w, b) = (x?, g?, w?, b?);
            let y = backend.group_norm(&x, groups, Some(&w), Some(&b), 0.5)?;
            let what = format!("group_norm of {dims:?} in {groups}");
            near(&what, &[&y.0, &y.1, &y.2], &[&e.0, &e.1, &e.2], dtype)?;
            let d = backend.group_norm_backward(&g, &x, &y.1, &y.2, Some(&w))?;
            near(&format!("{what}, backward"), &[&d.0, &d.1, &d.2], &[&ed.0, &ed.1, &ed.2], dtype)?;
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn variances_keep_their_digits_beside_large_means() {
    fn check(gpu: &Device) -> Result<()> {
        let over = |dims: &[usize]| std::array::from_fn::<bool, MAX_RANK, _>(|d| dims.contains(&d));
        let cases: [(&[usize], &[usize]); 7] = [
            (&[40_000], &[0]),
            (&[2, 33_000], &[1]),
            (&[2500, 40], &[0]),
            (&[3, 5, 700], &[0, 2]),
            (&[7, 9], &[1]),
            (&[300, 3], &[0]),
            (&[1, 1], &[0, 1]),
        ];
        for (dims, reduced) in cases {
            let x = wave(dims, DType::F64, 0.37)?.add_scalar(10_000.0)?.to_dtype(DType::F32)?;
            let e = composed::var_mean(&x.to_dtype(DType::F64)?, &over(reduced), 0.0)?;
            let x = x.to_device(gpu)?;
            let (var, mean) = gpu.backend().var_mean(&x, &over(reduced), 0.0)?;
            near(&format!("var of {dims:?}"), &[&var, &mean], &[&e.0, &e.1], DType::F32)?;
            assert_eq!(bytes(&var)?, bytes(&gpu.backend().var_mean(&x, &over(reduced), 0.0)?.0)?);
        }
        let nothing = Tensor::ones([2, 0], gpu)?;
        let (var, mean) = gpu.backend().var_mean(&nothing, &over(&[1]), 1.0)?;
        assert!([var, mean].iter().all(|x| doubles(x).unwrap().iter().all(|x| x.is_nan())));
        let one = Tensor::ones([2, 1], gpu)?;
        let (var, mean) = gpu.backend().var_mean(&one, &over(&[1]), 1.0)?;
        assert!(doubles(&var)?.iter().all(|x| x.is_nan()) && doubles(&mean)? == [1.0, 1.0]);
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// Zeros of both signs, infinities and NaN among others.
fn strange(n: usize, dtype: DType) -> Result<Tensor> {
    const STRANGE: [f64; 9] = [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.5, -1.5, 3.0, -7.0];
    let values: Vec<f64> = (0..n).map(|i| STRANGE[i % 9]).collect();
    Tensor::from_vec(values, [n], &Device::cpu())?.to_dtype(dtype)
}

#[test]
fn dropout_keeps_what_the_cpu_keeps_bit_for_bit() {
    fn check(gpu: &Device) -> Result<()> {
        let cpu = Device::cpu();
        let cpu = cpu.backend();
        for dtype in FLOATS {
            for n in [0, 1, 7, 8, 9, 1000, 4099] {
                for (keep, seed, offset) in
                    [(0.9, 3, 0), (0.25, 1 << 60, u64::MAX - 5), (0.0, 1, 2), (1.0, 1, 2)]
                {
                    let x = strange(n + 1, dtype)?;
                    for start in [0, 1] {
                        let x = x.narrow(0, start, n)?;
                        let there = strange(n + 1, dtype)?.to_device(gpu)?.narrow(0, start, n)?;
                        let (y, kept) = cpu.dropout(&x, keep, seed, offset)?;
                        let (found, found_kept) = gpu.backend().dropout(&there, keep, seed, offset)?;
                        let what = format!("{n} of {dtype} from {start} on with {keep}");
                        assert_eq!(bytes(&found_kept)?, bytes(&kept)?, "{what}");
                        same(&what, &found, &y)?;
                        let dx = cpu.dropout_backward(&x, &kept, keep)?;
                        same(&what, &gpu.backend().dropout_backward(&there, &found_kept, keep)?, &dx)?;
                    }
                }
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

/// The same numbers with the same signs, or NaN both.
fn same(what: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
    for (a, b) in doubles(found)?.into_iter().zip(doubles(expected)?) {
        assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{what}: {a}, expected {b}");
    }
    Ok(())
}

#[test]
fn clamping_treats_nan_infinities_and_integers_as_the_composed_form() {
    fn check(gpu: &Device) -> Result<()> {
        let (half, inf) = (Number::Float(0.5), Number::Float(f64::INFINITY));
        let bounds = [
            (Some(Number::Float(-0.5)), Some(half)),
            (Some(Number::Float(0.0)), None),
            (None, Some(Number::Float(-0.0))),
            (Some(Number::Float(f64::NAN)), Some(inf)),
            (Some(half), Some(Number::Float(-2.0))),
        ];
        for dtype in FLOATS {
            for n in [0, 1, 9, 64, 1003] {
                let x = strange(n, dtype)?;
                let (there, g) = (x.to_device(gpu)?, wave(&[n], dtype, 0.3)?);
                for (low, high) in bounds {
                    let what = format!("{n} of {dtype} to {low:?}, {high:?}");
                    same(&what, &gpu.backend().clamp(&there, low, high)?, &composed::clamp(&x, low, high)?)?;
                    let dx = gpu.backend().clamp_backward(&g.to_device(gpu)?, &there, low, high)?;
                    same(&what, &dx, &composed::clamp_backward(&g, &x, low, high)?)?;
                }
            }
        }
        for dtype in [DType::I64, DType::I32, DType::I8, DType::U8, DType::U32] {
            let x = Tensor::arange(0, 100, 1, &Device::cpu())?.to_dtype(dtype)?;
            for (low, high) in [(Some(5), Some(20)), (Some(90), Some(3)), (None, Some(7)), (Some(50), None)] {
                let (low, high) = (low.map(Number::Int), high.map(Number::Int));
                let found = gpu.backend().clamp(&x.to_device(gpu)?, low, high)?;
                assert_eq!(bytes(&found)?, bytes(&composed::clamp(&x, low, high)?)?, "{dtype}");
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}

#[test]
fn an_op_writes_into_memory_that_nobody_else_holds() {
    fn check(gpu: &Device) -> Result<()> {
        let taken = || gpu.backend().memory_stats().system_allocations;
        let x = wave(&[5, 7], DType::F32, 0.4)?.to_device(gpu)?;
        let expected = doubles(&x.neg()?)?;
        let held = x.clone();
        let y = x.unary_into(UnaryOp::Neg)?;
        assert!(doubles(&y)? == expected && doubles(&held)? != expected);
        let before = taken();
        let y = y.unary_into(UnaryOp::Neg)?;
        assert!(!emulator::installed() || taken() == before);
        assert_eq!(bytes(&y)?, bytes(&held)?);
        // Every other element: what lies between stays.
        let part = y.slice(1, None, None, 2)?;
        drop(y);
        same("part", &part.unary_into(UnaryOp::Neg)?, &held.slice(1, None, None, 2)?.neg()?)
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
