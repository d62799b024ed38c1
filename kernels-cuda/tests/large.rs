//! What the contract suite is too small for: sums in pieces, copies through tiles, and operands that are turned around first. The CPU
//! computes the same.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use tensor::op::{BinaryOp, ReduceOp};
use tensor::testing::{FLOATS, host};
use tensor::{Conv, DType, Device, MAX_RANK, Result, Tensor};

/// A tensor of numbers that repeat after a long while, on the CPU and on the other device.
fn pair(dims: &[usize], dtype: DType, other: &Device) -> Result<(Tensor, Tensor)> {
    let n: usize = dims.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    let x = Tensor::from_slice(&values, dims, &Device::cpu())?.to_dtype(dtype)?;
    Ok((x.clone(), x.to_device(other)?))
}

/// Fails unless both are the same up to `error`, relative to the largest.
fn assert_near(what: &str, y: &Tensor, expected: &Tensor, error: f64) -> Result<()> {
    assert_eq!((y.dims(), y.dtype()), (expected.dims(), expected.dtype()), "{what}");
    let (y, expected) = (host(y)?, host(expected)?);
    let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs())).max(1e-3);
    for (i, (y, e)) in y.iter().zip(&expected).enumerate() {
        assert!((y - e).abs() <= error * largest, "{what}: element {i} is {y}, expected {e}");
    }
    Ok(())
}

#[test]
fn copies_that_cross_go_through_tiles() {
    on_emulated_gpu(|gpu| {
        for dtype in [DType::U8, DType::F16, DType::F32, DType::F64] {
            for dims in [vec![3, 40, 70], vec![33, 32], vec![2, 17, 3, 50]] {
                let (here, there) = pair(&dims, dtype, gpu).unwrap();
                // The last dim and the first but the batch.
                let other = usize::from(dims.len() > 2) as isize;
                let turned = |x: &Tensor| x.transpose(-1, other);
                let (here, there) = (turned(&here).unwrap(), turned(&there).unwrap());
                assert_near("copy", &there.copy().unwrap(), &here.copy().unwrap(), 0.0).unwrap();
            }
        }
    });
}

#[test]
fn operands_that_cross_are_turned_around_first() {
    on_emulated_gpu(|gpu| {
        let (a, a_there) = pair(&[130, 140], DType::F32, gpu).unwrap();
        let (b, b_there) = pair(&[140, 130], DType::F32, gpu).unwrap();
        let (sum, there) = (a.add(&b.t().unwrap()).unwrap(), a_there.add(&b_there.t().unwrap()).unwrap());
        assert_near("add", &there, &sum, 0.0).unwrap();
        let into =
            gpu.backend().binary_into(BinaryOp::Add, a_there.copy().unwrap(), &b_there.t().unwrap()).unwrap();
        assert_near("add into", &into, &sum, 0.0).unwrap();
    });
}

#[test]
fn long_sums_are_those_of_their_pieces() {
    on_emulated_gpu(|gpu| {
        for (dims, over) in [(vec![150_000], 0), (vec![3000, 40], 0), (vec![2, 70_000], 1)] {
            for dtype in [DType::F32, DType::BF16, DType::I32] {
                let (here, there) = pair(&dims, dtype, gpu).unwrap();
                let mask: [bool; MAX_RANK] = std::array::from_fn(|d| d == over);
                for op in [ReduceOp::Sum, ReduceOp::Amax] {
                    let y = gpu.backend().reduce(op, &there, &mask).unwrap();
                    let expected = Device::cpu().backend().reduce(op, &here, &mask).unwrap();
                    // Sums cancel here: what they may be off by is relative to the number of terms.
                    let error = if op == ReduceOp::Sum && dtype.is_float() { 0.02 } else { 0.0 };
                    assert_near(&format!("{} of {dims:?}, {dtype}", op.name()), &y, &expected, error)
                        .unwrap();
                }
            }
        }
    });
}

#[test]
fn norms_of_many_lines_and_large_planes_are_those_of_their_pieces() {
    on_emulated_gpu(|gpu| {
        for dtype in FLOATS {
            let error = if dtype.size() == 2 { 0.02 } else { 1e-4 };
            let near = |what: &str, y: &Tensor, e: &Tensor| assert_near(what, y, e, error).unwrap();
            let run = |device: &Device| -> Result<Vec<Tensor>> {
                let x = pair(&[700, 20], dtype, device)?.1;
                let (w, g) = (pair(&[20], dtype, device)?.1, pair(&[700, 20], dtype, device)?.1.square()?);
                let b = device.backend();
                let (y, mean, rstd) = b.layer_norm(&x, 1, Some(&w), None, 1e-3)?;
                let (dx, dw, db) = b.layer_norm_backward(&g, &x, &mean, &rstd, Some(&w), 1)?;
                let planes = pair(&[3, 2, 50, 70], dtype, device)?.1;
                let (mean, variance) = b.batch_norm_stats(&planes)?;
                let rstd = variance.add_scalar(1e-3)?.rsqrt()?;
                let d = b.batch_norm_backward(&planes.square()?, &planes, &mean, &rstd, None, true)?;
                Ok(vec![y, dx, dw, db, mean, variance, d.0, d.1, d.2])
            };
            let (there, here) = (run(gpu).unwrap(), run(&Device::cpu()).unwrap());
            there
                .iter()
                .zip(&here)
                .enumerate()
                .for_each(|(i, (y, e))| near(&format!("result {i} of {dtype}"), y, e));
        }
    });
}

#[test]
fn gradients_of_weights_are_those_of_their_pieces() {
    on_emulated_gpu(|gpu| {
        let run = |device: &Device| -> Result<Tensor> {
            let (x, g) =
                (pair(&[5, 3, 24, 24], DType::F32, device)?.1, pair(&[5, 4, 24, 24], DType::F32, device)?.1);
            device.backend().conv_grad_weight(&g, &x, [4, 3, 3, 3].into(), &Conv::default().padding(1))
        };
        assert_near("conv_grad_weight", &run(gpu).unwrap(), &run(&Device::cpu()).unwrap(), 1e-4).unwrap();
    });
}
