//! Whole models on a GPU: the one that `GRADUS_TEST_DEVICE` names, or the emulated one. They train as on the processor, their weights
//! move between devices, and they survive a step for which memory runs out.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use gradus::nn::state::{load_from_bytes, save_to_bytes};
use gradus::nn::{Flatten, Relu};
use gradus::prelude::*;
use gradus::tensor::ErrorKind;
use kernels_cuda::emulator;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The GPU, one test at a time, as memory is counted; `None`, and a word about it, where there is no C++ compiler.
fn gpu() -> Option<(Device, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = emulator::device_for_tests(&[], env!("CARGO_TARGET_TMPDIR").as_ref());
    gpu.unwrap().map(|gpu| (gpu, turn))
}

/// A small convolutional network for images `[n, 1, 8, 8]`.
fn cnn(device: &Device) -> Result<Sequential> {
    let mut init = Init::new(7).device(device);
    Ok(Sequential::new()
        .add(Conv2d::new(1, 4, 3, &mut init)?.padding(1))
        .add(BatchNorm2d::new(4, &mut init)?)
        .add(Relu)
        .add(MaxPool2d { pool: 2.into() })
        .add(Flatten::default())
        .add(Dropout::new(0.2, &mut init)?)
        .add(Linear::new(64, 5, &mut init)?))
}

/// A small language model.
struct Lm {
    embed: Embedding,
    rnn: Lstm,
    norm: LayerNorm,
    head: Linear,
}
module!(Lm { embed, rnn, norm, head });

impl Lm {
    fn new(device: &Device) -> Result<Lm> {
        let mut init = Init::new(3).device(device);
        let config = RnnConfig { num_layers: 2, dropout: 0.1, ..Default::default() };
        Ok(Lm {
            embed: Embedding::new(11, 6, &mut init)?,
            rnn: Lstm::new(6, 8, config, &mut init)?,
            norm: LayerNorm::new(&[8], &mut init)?,
            head: Linear::new(8, 11, &mut init)?,
        })
    }

    fn loss(&self, tokens: &Tensor, targets: &Tensor) -> Result<Var> {
        let (y, _) = self.rnn.forward(&self.embed.forward(tokens)?, None)?;
        let y = self.head.forward(&self.norm.forward(&y)?)?;
        y.flatten_range(0, 1)?.cross_entropy(&targets.flatten(0)?)
    }
}

/// Images and labels that a network can learn: where the bright half is.
fn images(n: usize, device: &Device) -> Result<(Var, Tensor)> {
    let labels: Vec<i64> = (0..n as i64).map(|i| i % 5).collect();
    let pixel = |i: usize| {
        let (image, place) = (i / 64, i % 64);
        (if place / 13 == image % 5 { 1.0 } else { 0.1 }) + ((i * 37) % 17) as f32 / 60.0
    };
    let values: Vec<f32> = (0..n * 64).map(pixel).collect();
    let images = Tensor::from_slice(&values, [n, 1, 8, 8], device)?;
    Ok((images.into(), Tensor::from_slice(&labels, [n], device)?))
}

/// The losses of some steps of the network.
fn train_cnn(model: &Sequential, device: &Device, steps: usize) -> Result<Vec<f64>> {
    let mut adam = AdamW::new(model, AdamWConfig { lr: 0.01, ..Default::default() })?;
    let (images, labels) = images(10, device)?;
    model.train();
    let step = |_| {
        let loss = model.forward(&images)?.cross_entropy(&labels)?;
        let mut grads = loss.backward()?;
        clip_grad_norm(&mut grads, model, 1.0, 2.0)?;
        adam.step(&grads)?;
        loss.item()
    };
    (0..steps).map(step).collect()
}

/// The losses of some steps of the language model.
fn train_lm(model: &Lm, device: &Device, steps: usize) -> Result<Vec<f64>> {
    let mut sgd = Sgd::new(model, SgdConfig { lr: 0.1, momentum: 0.9, ..Default::default() })?;
    let tokens: Vec<i64> = (0..5 * 3).map(|i| (i * 4 + i / 3) % 11).collect();
    let inputs = Tensor::from_slice(&tokens, [5, 3], device)?;
    let targets = inputs.add_scalar(1)?.remainder(&Tensor::full((), 11, (DType::I64, device))?)?;
    model.train();
    let step = |_| {
        let loss = model.loss(&inputs, &targets)?;
        sgd.step(&loss.backward()?)?;
        loss.item()
    };
    (0..steps).map(step).collect()
}

fn assert_same_curve(got: &[f64], expected: &[f64]) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * b.abs().max(0.1);
    assert!(
        got.len() == expected.len() && got.iter().zip(expected).all(near),
        "{got:?}\nexpected {expected:?}"
    );
    assert!(got[got.len() - 1] < 0.9 * got[0], "it does not learn: {got:?}");
}

#[test]
fn networks_train_as_on_the_processor() -> Result<()> {
    let Some((gpu, _turn)) = gpu() else { return Ok(()) };
    let cpu = Device::cpu();
    let live = || gpu.backend().memory_stats().live_bytes;
    let before = live();
    assert_same_curve(&train_cnn(&cnn(&gpu)?, &gpu, 12)?, &train_cnn(&cnn(&cpu)?, &cpu, 12)?);
    assert_same_curve(&train_lm(&Lm::new(&gpu)?, &gpu, 12)?, &train_lm(&Lm::new(&cpu)?, &cpu, 12)?);
    assert_eq!(live(), before, "memory of a model that is gone was kept");
    Ok(())
}

#[test]
fn weights_go_from_one_device_to_another_by_file() -> Result<()> {
    let Some((gpu, _turn)) = gpu() else { return Ok(()) };
    let cpu = Device::cpu();
    let trained = cnn(&gpu)?;
    train_cnn(&trained, &gpu, 2)?;
    let bytes = save_to_bytes(&trained)?;
    let (here, there) = (cnn(&cpu)?, cnn(&gpu)?);
    for model in [&here, &there] {
        load_from_bytes(model, &bytes, &Default::default())?;
        assert_eq!(save_to_bytes(model)?, bytes);
    }
    [&trained, &here, &there].iter().for_each(|model| model.eval());
    let predict = |model: &Sequential, device: &Device| {
        model.forward(&images(5, device)?.0)?.into_value().to_device(&Device::cpu())
    };
    let expected = predict(&trained, &gpu)?;
    assert_eq!(predict(&there, &gpu)?.to_vec::<f32>()?, expected.to_vec::<f32>()?);
    assert!(predict(&here, &cpu)?.all_close(&expected, 1e-4, 1e-4)?);
    Ok(())
}

/// A step for which memory runs out after each of its allocations in turn is an error each time, and the model goes on afterwards.
#[test]
fn a_step_for_which_memory_runs_out_leaves_the_model_usable() -> Result<()> {
    let Some((gpu, _turn)) = gpu() else { return Ok(()) };
    if !emulator::installed() {
        return Ok(());
    }
    let (cnn, lm) = (cnn(&gpu)?, Lm::new(&gpu)?);
    let (of_cnn, of_lm) = (train_cnn(&cnn, &gpu, 3)?, train_lm(&lm, &gpu, 3)?);
    run_out_of_memory(3 << 10, || train_cnn(&cnn, &gpu, 1), || Ok(()))?;
    // No statistics run along in this one: what a failed step has not reached is as it was.
    let before = save_to_bytes(&lm)?;
    let unchanged = || {
        assert!(save_to_bytes(&lm)? == before, "a step that failed has changed weights");
        Ok(())
    };
    run_out_of_memory(512, || train_lm(&lm, &gpu, 1), unchanged)?;
    for (after, before) in [(train_cnn(&cnn, &gpu, 3)?, of_cnn), (train_lm(&lm, &gpu, 3)?, of_lm)] {
        assert!(after.iter().all(|loss| loss.is_finite() && *loss < before[0]), "{after:?} after {before:?}");
    }
    Ok(())
}

/// Makes a step with a little more memory each time until it is enough; `check`s after each that fails.
fn run_out_of_memory(
    by: usize,
    mut step: impl FnMut() -> Result<Vec<f64>>,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    let used = emulator::allocated().1;
    let (mut failures, mut more) = (0, 0);
    loop {
        emulator::limit_memory(used + more);
        let outcome = step();
        emulator::limit_memory(emulator::BYTES);
        match outcome {
            Ok(_) => break,
            Err(error) => assert!(matches!(error.kind(), ErrorKind::OutOfMemory { .. }), "{error}"),
        }
        failures += 1;
        more += by;
        assert_eq!(emulator::allocated().1, used, "a step that failed has kept memory");
        check()?;
    }
    assert!(failures > 10, "memory ran out in {failures} places only");
    Ok(())
}

/// As above for a driver that refuses a launch.
#[test]
fn a_launch_that_fails_is_an_error_with_its_reason() -> Result<()> {
    let Some((gpu, _turn)) = gpu() else { return Ok(()) };
    if !emulator::installed() {
        return Ok(());
    }
    let model = cnn(&gpu)?;
    let error = emulator::failing("cuLaunchKernel", 701, || train_cnn(&model, &gpu, 1)).unwrap_err();
    assert!(error.to_string().contains("cuLaunchKernel: the CUDA driver answered 701"), "{error}");
    assert!(train_cnn(&model, &gpu, 1)?[0].is_finite());
    Ok(())
}
