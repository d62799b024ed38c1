//! Whole steps of training: forward, backward, optimizer. Elements are examples, or characters of text.
//!
//! FLOPs of a step, three times those of the forward pass: about 1.6e9 for the digits (64 · 3 · 8.5e6), about
//! 1.1e10 for the text (2048 · 3 · 1.7e6).

mod common;

use common::{bench, device, random, settings};
use criterion::Throughput::Elements;
use gradus::nn::{Flatten, MaxPool2d, Relu};
use gradus::prelude::*;

/// Two convolutions and two linear layers, as digits of 28×28 pixels take them.
fn cnn(init: &mut Init) -> Result<Sequential> {
    Ok(Sequential::new()
        .add(Conv2d::new(1, 32, 3, init)?.padding(1))
        .add(Relu)
        .add(MaxPool2d { pool: 2.into() })
        .add(Conv2d::new(32, 64, 3, init)?.padding(1))
        .add(Relu)
        .add(MaxPool2d { pool: 2.into() })
        .add(Flatten::default())
        .add(Linear::new(64 * 7 * 7, 128, init)?)
        .add(Relu)
        .add(Linear::new(128, 10, init)?))
}

/// LeNet-5 with ReLU and max-pooling.
fn lenet(init: &mut Init) -> Result<Sequential> {
    Ok(Sequential::new()
        .add(Conv2d::new(1, 6, 5, init)?.padding(2))
        .add(Relu)
        .add(MaxPool2d { pool: 2.into() })
        .add(Conv2d::new(6, 16, 5, init)?)
        .add(Relu)
        .add(MaxPool2d { pool: 2.into() })
        .add(Flatten::default())
        .add(Linear::new(400, 120, init)?)
        .add(Relu)
        .add(Linear::new(120, 84, init)?)
        .add(Relu)
        .add(Linear::new(84, 10, init)?))
}

/// A model of text: an embedding, two layers of LSTM, a linear layer.
struct CharLm {
    embed: Embedding,
    rnn: Lstm,
    head: Linear,
}
module!(CharLm { embed, rnn, head });

impl CharLm {
    fn new(vocab: usize, hidden: usize, init: &mut Init) -> Result<CharLm> {
        Ok(CharLm {
            embed: Embedding::new(vocab, 64, init)?,
            rnn: Lstm::new(64, hidden, RnnConfig { num_layers: 2, ..Default::default() }, init)?,
            head: Linear::new(hidden, vocab, init)?,
        })
    }

    /// The mean of `-log p` of each next character.
    fn loss(&self, inputs: &Tensor, targets: &Tensor) -> Result<Var> {
        let (y, _) = self.rnn.forward(&self.embed.forward(inputs)?, None)?; // [t, n, hidden]
        self.head.forward(&y)?.flatten_range(0, 1)?.cross_entropy(&targets.flatten(0)?)
    }
}

fn main() -> Result<()> {
    let mut criterion = settings();
    let mut group = criterion.benchmark_group("train_step");
    let mut init = Init::new(42).device(device());

    let model = cnn(&mut init)?;
    let mut adam = Adam::new(&model, AdamConfig::default())?;
    let images = Var::from(random([64, 1, 28, 28], DType::F32)?);
    let labels = Tensor::randint(0, 10, [64], device())?;
    bench(&mut group, "digits_forward/64x1x28x28/float32", Elements(64), || {
        no_grad(|| model.forward(&images))
    });
    bench(&mut group, "digits_cnn/64x1x28x28/float32", Elements(64), || {
        adam.step(&model.forward(&images)?.cross_entropy(&labels)?.backward()?)
    });

    let model = lenet(&mut init)?;
    let config = SgdConfig { lr: 0.01, momentum: 0.9, ..Default::default() };
    let mut sgd = Sgd::new(&model, config.clone())?;
    bench(&mut group, "lenet5/64x1x28x28/float32", Elements(64), || {
        sgd.step(&model.forward(&images)?.cross_entropy(&labels)?.backward()?)
    });
    let model = Sequential::new()
        .add(Linear::new(784, 256, &mut init)?)
        .add(Relu)
        .add(Linear::new(256, 256, &mut init)?)
        .add(Relu)
        .add(Linear::new(256, 10, &mut init)?);
    let mut sgd = Sgd::new(&model, config)?;
    let rows = images.flatten(1)?;
    bench(&mut group, "mlp/64x784/float32", Elements(64), || {
        sgd.step(&model.forward(&rows)?.cross_entropy(&labels)?.backward()?)
    });

    let (t, n, vocab) = (64, 32, 64);
    let model = CharLm::new(vocab, 256, &mut init)?;
    let mut adam = Adam::new(&model, AdamConfig::default())?;
    let inputs = Tensor::randint(0, vocab as i64, [t, n], device())?;
    let targets = Tensor::randint(0, vocab as i64, [t, n], device())?;
    bench(&mut group, "char_lstm_2x256/64x32/float32", Elements((t * n) as u64), || {
        adam.step(&model.loss(&inputs, &targets)?.backward()?)
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
