//! Steps of training by name: forward, backward and optimizer, on random data that stays the same.
//!
//! - `mnist_cnn`: two convolutions of 32 and 64 channels, pooling, two linear layers; images of 28×28; Adam
//! - `resnet18`: the network for images of 3×224×224 and 1,000 classes (He et al., 2016); SGD with momentum
//! - `char_lstm`: an embedding of 64, two layers of LSTM of 512 units, a linear layer; 64 steps of text; Adam

use gradus::nn::{Flatten, Relu};
use gradus::prelude::*;

use crate::ops::Run;

/// The residual block of two 3×3 convolutions.
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    downsample: Option<Sequential>,
}
module!(Block { conv1, bn1, conv2, bn2, downsample });

impl Block {
    fn new(from: usize, to: usize, stride: usize, init: &mut Init) -> Result<Block> {
        let downsample = match stride == 1 && from == to {
            true => None,
            false => Some(
                Sequential::new()
                    .add(Conv2d::new(from, to, 1, init)?.stride(stride).no_bias())
                    .add(BatchNorm2d::new(to, init)?),
            ),
        };
        Ok(Block {
            conv1: Conv2d::new(from, to, 3, init)?.stride(stride).padding(1).no_bias(),
            bn1: BatchNorm2d::new(to, init)?,
            conv2: Conv2d::new(to, to, 3, init)?.padding(1).no_bias(),
            bn2: BatchNorm2d::new(to, init)?,
            downsample,
        })
    }
}

impl Forward for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.bn1.forward(&self.conv1.forward(x)?)?.relu()?;
        let y = self.bn2.forward(&self.conv2.forward(&y)?)?;
        match &self.downsample {
            Some(downsample) => y.add(&downsample.forward(x)?)?.relu(),
            None => y.add(x)?.relu(),
        }
    }
}

struct ResNet18 {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    layers: Sequential,
    fc: Linear,
}
module!(ResNet18 { conv1, bn1, layers, fc });

impl ResNet18 {
    fn new(init: &mut Init) -> Result<ResNet18> {
        let mut layers = Sequential::new();
        let mut from = 64;
        for (to, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
            layers = layers.add(Block::new(from, to, stride, init)?).add(Block::new(to, to, 1, init)?);
            from = to;
        }
        Ok(ResNet18 {
            conv1: Conv2d::new(3, 64, 7, init)?.stride(2).padding(3).no_bias(),
            bn1: BatchNorm2d::new(64, init)?,
            layers,
            fc: Linear::new(512, 1000, init)?,
        })
    }
}

impl Forward for ResNet18 {
    /// `[n, 3, s, s] -> [n, 1000]`
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = self.bn1.forward(&self.conv1.forward(x)?)?.relu()?;
        let x = self.layers.forward(&x.max_pool2d(Pool::new(3).stride(2).padding(1))?)?;
        self.fc.forward(&x.adaptive_avg_pool2d(1)?.flatten(1)?)
    }
}

fn mnist_cnn(init: &mut Init) -> Result<Sequential> {
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

struct CharLm {
    embed: Embedding,
    rnn: Lstm,
    head: Linear,
}
module!(CharLm { embed, rnn, head });

/// One step of training of the model `name` with `n` examples of `side` pixels, or of `side` steps of text; its result is the loss.
///
/// # Errors
/// If there is no such model, or it does not fit the device.
pub fn prepare(name: &str, device: &Device, dtype: DType, n: usize, side: usize) -> Result<Run> {
    let init = &mut Init::new(1).device(device).dtype(dtype);
    let images =
        |channels| -> Result<Var> { Ok(Tensor::randn([n, channels, side, side], (dtype, device))?.into()) };
    let labels = |classes| Tensor::randint(0, classes, [n], device);
    match name {
        "mnist_cnn" => {
            let (model, x, labels) = (mnist_cnn(init)?, images(1)?, labels(10)?);
            let mut adam = Adam::new(&model, AdamConfig::default())?;
            Ok(Box::new(move || step(&mut adam, model.forward(&x)?.cross_entropy(&labels)?)))
        }
        "resnet18" => {
            let (model, x, labels) = (ResNet18::new(init)?, images(3)?, labels(1000)?);
            let mut sgd = Sgd::new(&model, SgdConfig { lr: 0.01, momentum: 0.9, ..Default::default() })?;
            Ok(Box::new(move || step(&mut sgd, model.forward(&x)?.cross_entropy(&labels)?)))
        }
        "char_lstm" => {
            let (vocab, hidden) = (96, 512);
            let model = CharLm {
                embed: Embedding::new(vocab, 64, init)?,
                rnn: Lstm::new(64, hidden, RnnConfig { num_layers: 2, ..Default::default() }, init)?,
                head: Linear::new(hidden, vocab, init)?,
            };
            let mut adam = Adam::new(&model, AdamConfig::default())?;
            let tokens = Tensor::randint(0, vocab as i64, [side, n], device)?;
            let targets = Tensor::randint(0, vocab as i64, [side * n], device)?;
            Ok(Box::new(move || {
                let (y, _) = model.rnn.forward(&model.embed.forward(&tokens)?, None)?;
                step(&mut adam, model.head.forward(&y)?.flatten_range(0, 1)?.cross_entropy(&targets)?)
            }))
        }
        _ => Err(Error::argument("model", format!("no model is called {name}"))),
    }
}

fn step(optimizer: &mut impl Optimizer, loss: Var) -> Result<Vec<Tensor>> {
    optimizer.step(&loss.backward()?)?;
    Ok(vec![loss.into_value()])
}
