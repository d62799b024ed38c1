//! The networks in Burn.

use super::{BLOCKS, EMBED, Plain, VOCAB};
use crate::form::{Form, sure};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{
    BatchNorm, BatchNormConfig, Embedding, EmbeddingConfig, Linear, LinearConfig, Lstm, LstmConfig,
    PaddingConfig2d,
};
use burn::optim::{AdamConfig, GradientsParams, SgdConfig, momentum::MomentumConfig};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Int, Tensor, activation::relu, module};

fn conv(
    i: usize,
    o: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    bias: bool,
    device: &Device,
) -> Conv2d {
    let config = Conv2dConfig::new([i, o], [kernel, kernel]).with_stride([stride, stride]).with_bias(bias);
    config.with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding)).init(device)
}

/// Convolutions for images, none for vectors.
#[derive(Module, Debug)]
pub(crate) struct PlainNet {
    convs: Vec<Conv2d>,
    linears: Vec<Linear>,
    #[module(skip)]
    pools: Vec<bool>,
}

impl PlainNet {
    pub(crate) fn new(net: Plain, device: &Device) -> PlainNet {
        let linear = |pair: &[usize]| LinearConfig::new(pair[0], pair[1]).init(device);
        PlainNet {
            convs: net.convs.iter().map(|&(i, o, k, p, _)| conv(i, o, k, 1, p, true, device)).collect(),
            linears: net.widths.windows(2).map(linear).collect(),
            pools: net.convs.iter().map(|c| c.4).collect(),
        }
    }

    pub(crate) fn images(&self, mut x: Tensor<4>) -> Tensor<2> {
        for (conv, &pool) in self.convs.iter().zip(&self.pools) {
            x = relu(conv.forward(x));
            x = if pool { module::max_pool2d(x, MaxPoolOptions::new([2, 2])) } else { x };
        }
        self.vectors(x.flatten(1, 3))
    }

    pub(crate) fn vectors(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, linear) in self.linears.iter().enumerate() {
            x = linear.forward(if i > 0 { relu(x) } else { x });
        }
        x
    }
}

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    down: Option<(Conv2d, BatchNorm)>,
}

#[derive(Module, Debug)]
pub(crate) struct ResNet {
    stem: Conv2d,
    bn: BatchNorm,
    blocks: Vec<Block>,
    head: Linear,
}

impl ResNet {
    pub(crate) fn new(device: &Device) -> ResNet {
        let norm = |c| BatchNormConfig::new(c).init(device);
        let block = |(i, o, stride)| Block {
            conv1: conv(i, o, 3, stride, 1, false, device),
            bn1: norm(o),
            conv2: conv(o, o, 3, 1, 1, false, device),
            bn2: norm(o),
            down: (stride != 1 || i != o).then(|| (conv(i, o, 1, stride, 0, false, device), norm(o))),
        };
        ResNet {
            stem: conv(3, 64, 3, 1, 1, false, device),
            bn: norm(64),
            blocks: BLOCKS.map(block).into(),
            head: LinearConfig::new(512, 10).init(device),
        }
    }

    pub(crate) fn images(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.bn.forward(self.stem.forward(x)));
        for b in &self.blocks {
            let y = relu(b.bn1.forward(b.conv1.forward(x.clone())));
            let y = b.bn2.forward(b.conv2.forward(y));
            x = relu(y + b.down.as_ref().map_or(x.clone(), |(conv, bn)| bn.forward(conv.forward(x))));
        }
        self.head.forward(module::adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3))
    }
}

#[derive(Module, Debug)]
pub(crate) struct CharLstm {
    embed: Embedding,
    first: Lstm,
    second: Lstm,
    head: Linear,
}

impl CharLstm {
    pub(crate) fn new(hidden: usize, device: &Device) -> CharLstm {
        CharLstm {
            embed: EmbeddingConfig::new(VOCAB, EMBED).init(device),
            first: LstmConfig::new(EMBED, hidden, true).init(device),
            second: LstmConfig::new(hidden, hidden, true).init(device),
            head: LinearConfig::new(hidden, VOCAB).init(device),
        }
    }

    /// Of `[n, t]`.
    pub(crate) fn text(&self, x: Tensor<2, Int>) -> Tensor<2> {
        let x = self.first.forward(self.embed.forward(x), None).0;
        self.head.forward(self.second.forward(x, None).0).flatten(0, 1)
    }
}

/// A training step that gives its loss.
pub(crate) fn train<M: Module + 'static>(
    model: M,
    adam: bool,
    labels: Tensor<1, Int>,
    logits: impl Fn(&M) -> Tensor<2> + 'static,
) -> Result<Box<dyn Form>, String> {
    let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
    let (mut optimizer, lr) = match adam {
        true => (AdamConfig::new().init(), 1e-3),
        false => (SgdConfig::new().with_momentum(Some(momentum)).init(), 0.01),
    };
    let loss = CrossEntropyLossConfig::new().init(&labels.device());
    let mut kept = Some(model);
    sure(move || {
        let model = kept.take().expect("every step puts the model back");
        let value = loss.forward(logits(&model), labels.clone());
        let gradients = GradientsParams::from_grads(value.backward(), &model);
        kept = Some(optimizer.step(lr, model, gradients));
        value.detach()
    })
}
