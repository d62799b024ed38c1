//! Recurrent layers on the emulated GPU against the CPU: whole sequences in one launch, and step by step where a layer does not fit.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod emulated_gpu;

use emulated_gpu::on_emulated_gpu;
use gradus_kernels_cuda::emulator;
use tensor::backend::{RnnGrads, RnnInputs, RnnKind, RnnOutputGrads, RnnOutputs, RnnSpec};
use tensor::testing::host;
use tensor::{DType, Device, Generator, Result, Tensor};

const KINDS: [RnnKind; 4] = [RnnKind::Tanh, RnnKind::Relu, RnnKind::Lstm, RnnKind::Gru];

/// Extents of a layer: steps, sequences, features and units.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: RnnKind,
    dtype: DType,
    extents: [usize; 4],
    reverse: bool,
    biased: bool,
}

/// Random numbers of either sign, up to `scale`.
fn random(
    generator: &mut Generator,
    dims: &[usize],
    scale: f64,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let count = dims.iter().product();
    let values: Vec<f64> =
        (0..count).map(|_| (generator.below(2001) as f64 / 1000.0 - 1.0) * scale).collect();
    Tensor::from_slice(&values, dims, &Device::cpu())?.to_dtype(dtype)?.to_device(device)
}

/// The operands of a layer.
fn inputs(case: Case, generator: &mut Generator, device: &Device) -> Result<RnnInputs> {
    let Case { kind, dtype, extents: [t, n, input, hidden], biased, .. } = case;
    let mut tensor = |dims: &[usize], scale| random(generator, dims, scale, dtype, device);
    let (rows, scale) = (kind.gates() * hidden, 1.0 / (hidden as f64).sqrt());
    Ok(RnnInputs {
        x: tensor(&[t, n, input], 1.0)?,
        h0: tensor(&[n, hidden], 1.0)?,
        c0: (kind == RnnKind::Lstm).then(|| tensor(&[n, hidden], 1.0)).transpose()?,
        weight_ih: tensor(&[rows, input], scale)?,
        weight_hh: tensor(&[rows, hidden], scale)?,
        bias_ih: biased.then(|| tensor(&[rows], scale)).transpose()?,
        bias_hh: biased.then(|| tensor(&[rows], scale)).transpose()?,
    })
}

/// Both passes of a layer: every result and gradient.
fn run(case: Case, device: &Device) -> Result<Vec<Tensor>> {
    let Case { kind, dtype, extents: [t, n, _, hidden], reverse, biased } = case;
    let mut generator = Generator::new(1);
    let inputs = inputs(case, &mut generator, device)?;
    let mut tensor = |dims: &[usize], scale| random(&mut generator, dims, scale, dtype, device);
    let spec = RnnSpec { kind, reverse };
    let outputs = device.backend().rnn(spec, &inputs, true)?;
    let (grad, grad_h) = (tensor(&[t, n, hidden], 1.0)?, tensor(&[n, hidden], 1.0)?);
    let grad_c = (kind == RnnKind::Lstm).then(|| tensor(&[n, hidden], 1.0)).transpose()?;
    let grad = biased.then_some(&grad);
    let grads =
        device.backend().rnn_backward(spec, &inputs, &outputs, grad, Some(&grad_h), grad_c.as_ref())?;
    let quiet = device.backend().rnn(spec, &inputs, false)?;
    assert!(quiet.saved.is_empty());
    let mut all =
        vec![outputs.output, outputs.h_n, quiet.output, quiet.h_n, grads.x, grads.h0, grads.weight_ih];
    all.push(grads.weight_hh);
    all.extend([outputs.c_n, grads.c0, grads.bias_ih, grads.bias_hh].into_iter().flatten());
    Ok(all)
}

/// Fails unless both devices have the same, up to what the order of sums and 16-bit states make.
fn compare(case: Case, gpu: &Device) -> Result<()> {
    let error = if case.dtype.size() == 2 { 0.02 } else { 2e-5 };
    let (here, there) = (run(case, &Device::cpu())?, run(case, gpu)?);
    assert_eq!(here.len(), there.len());
    for (i, (expected, y)) in here.iter().zip(&there).enumerate() {
        assert_eq!((y.dims(), y.dtype()), (expected.dims(), expected.dtype()), "{case:?}: result {i}");
        let (y, expected) = (host(y)?, host(expected)?);
        let largest = expected.iter().fold(1.0f64, |a, b| a.max(b.abs()));
        for (place, (y, e)) in y.iter().zip(&expected).enumerate() {
            assert!((y - e).abs() <= error * largest, "{case:?}: result {i} at {place} is {y}, expected {e}");
        }
    }
    Ok(())
}

#[test]
fn whole_sequences_in_one_launch_are_those_of_the_cpu() {
    on_emulated_gpu(|gpu| {
        for kind in KINDS {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let case = Case { kind, dtype, extents: [5, 3, 4, 21], reverse: false, biased: true };
                compare(case, gpu).unwrap();
                // It is that launch that did it.
                if emulator::installed() {
                    assert!(emulator::failing("cuLaunchCooperativeKernel", 999, || run(case, gpu)).is_err());
                }
            }
            let case = Case { kind, dtype: DType::F32, extents: [4, 19, 3, 9], reverse: true, biased: false };
            compare(case, gpu).unwrap();
        }
    });
}

#[test]
fn long_rows_go_in_panels_and_large_batches_in_tiles() {
    on_emulated_gpu(|gpu| {
        // More terms than a panel has, in the backward pass; more rows than the emulated GPU's blocks have tiles for.
        for (dtype, extents) in
            [(DType::F32, [4, 2, 2, 70]), (DType::BF16, [4, 1, 1, 130]), (DType::F32, [4, 70, 1, 40])]
        {
            compare(Case { kind: RnnKind::Lstm, dtype, extents, reverse: false, biased: true }, gpu).unwrap();
        }
    });
}

#[test]
fn what_does_not_fit_goes_step_by_step() {
    on_emulated_gpu(|gpu| {
        for (dtype, extents) in
            [(DType::F64, [5, 3, 4, 6]), (DType::F32, [3, 2, 4, 6]), (DType::BF16, [2, 1, 3, 5])]
        {
            compare(Case { kind: RnnKind::Gru, dtype, extents, reverse: true, biased: true }, gpu).unwrap();
        }
        // A GPU that holds no block.
        let case = Case {
            kind: RnnKind::Lstm,
            dtype: DType::F32,
            extents: [5, 3, 4, 6],
            reverse: false,
            biased: true,
        };
        emulator::failing("cuFuncSetAttribute", 1, || compare(case, gpu).unwrap());
    });
}

/// Results and gradients of a layer in one row.
fn row(outputs: RnnOutputs, grads: RnnGrads) -> Vec<Tensor> {
    let all = [outputs.output, outputs.h_n, grads.x, grads.h0, grads.weight_ih, grads.weight_hh];
    let some = [outputs.c_n, grads.c0, grads.bias_ih, grads.bias_hh];
    all.into_iter().chain(outputs.saved).chain(some.into_iter().flatten()).collect()
}

/// Layers of their own features and with or without biases and gradients, of several tiles, and, in the last case, of another
/// number of units, which go one after the other.
#[test]
fn two_directions_at_once_are_those_of_each_alone_bit_for_bit() {
    fn check(gpu: &Device) -> Result<()> {
        let backend = gpu.backend();
        let cases = [
            (RnnKind::Lstm, DType::F32, [9, 9]),
            (RnnKind::Gru, DType::BF16, [17, 17]),
            (RnnKind::Relu, DType::F16, [5, 5]),
            (RnnKind::Tanh, DType::F32, [6, 7]),
        ];
        for (kind, dtype, units) in cases {
            let (mut generator, [t, n]) = (Generator::new(2), [4, 18]);
            let case = |i: usize| Case {
                kind,
                dtype,
                extents: [t, n, 3 + i, units[i]],
                reverse: i == 1,
                biased: i == 0,
            };
            let layers = [inputs(case(0), &mut generator, gpu)?, inputs(case(1), &mut generator, gpu)?];
            let layers = layers.each_ref();
            let grads = [
                random(&mut generator, &[t, n, units[0]], 1.0, dtype, gpu)?,
                random(&mut generator, &[n, units[1]], 1.0, dtype, gpu)?,
            ];
            let given = [
                RnnOutputGrads { output: Some(&grads[0]), ..RnnOutputGrads::default() },
                RnnOutputGrads { h_n: Some(&grads[1]), ..RnnOutputGrads::default() },
            ];
            let outputs = backend.rnn_bidirectional(kind, layers, true)?;
            let both = backend.rnn_bidirectional_backward(kind, layers, outputs.each_ref(), given)?;
            for (i, (found, back)) in outputs.into_iter().zip(both).enumerate() {
                let spec = RnnSpec { kind, reverse: i == 1 };
                let alone = backend.rnn(spec, layers[i], true)?;
                let RnnOutputGrads { output, h_n, c_n } = given[i];
                let grads = backend.rnn_backward(spec, layers[i], &alone, output, h_n, c_n)?;
                for (j, (a, b)) in row(found, back).iter().zip(&row(alone, grads)).enumerate() {
                    assert!(host(a)? == host(b)?, "{kind:?} of {dtype}, direction {i}, result {j}");
                }
            }
        }
        Ok(())
    }
    on_emulated_gpu(|gpu| check(gpu).unwrap());
}
