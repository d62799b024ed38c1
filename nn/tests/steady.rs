//! Training in the steady state. One test alone: it reads the memory statistics of the whole process.

use autograd::Var;
use gradus_nn::optim::{Adam, AdamConfig, Optimizer};
use gradus_nn::{Conv2d, Flatten, Forward, Init, Linear, Lstm, MaxPool2d, Relu, RnnConfig, Sequential};
use tensor::{Device, Result, Tensor};

#[test]
fn steps_of_training_ask_nothing_of_the_system_once_they_have_run() -> Result<()> {
    let cpu = Device::cpu();
    let mut init = Init::new(1);
    let cnn = Sequential::new()
        .add(Conv2d::new(1, 8, 3, &mut init)?.padding(1))
        .add(Relu)
        .add(MaxPool2d { pool: 2.into() })
        .add(Flatten::default())
        .add(Linear::new(8 * 14 * 14, 10, &mut init)?);
    let lstm = Lstm::new(8, 32, RnnConfig { num_layers: 2, ..Default::default() }, &mut init)?;
    let mut cnn_adam = Adam::new(&cnn, AdamConfig::default())?;
    let mut lstm_adam = Adam::new(&lstm, AdamConfig::default())?;
    let images = Var::from(Tensor::randn([16, 1, 28, 28], &cpu)?);
    let labels = Tensor::randint(0, 10, [16], &cpu)?;
    let text = Var::from(Tensor::randn([20, 4, 8], &cpu)?);
    let mut step = || -> Result<()> {
        cnn_adam.step(&cnn.forward(&images)?.cross_entropy(&labels)?.backward()?)?;
        let (y, _) = lstm.forward(&text, None)?;
        lstm_adam.step(&y.square()?.mean_all()?.backward()?)
    };
    // Threads share blocks as chance has it: it takes some steps until each has its own.
    (0..20).try_for_each(|_| step())?;
    let before = cpu.backend().memory_stats();
    (0..20).try_for_each(|_| step())?;
    let after = cpu.backend().memory_stats();
    assert_eq!(after.live_bytes.abs_diff(before.live_bytes) / (1 << 20), 0, "{before:?}, {after:?}");
    // A worker may still meet a size for the first time.
    assert!(after.system_allocations <= before.system_allocations + 2, "{before:?}, {after:?}");
    Ok(())
}
