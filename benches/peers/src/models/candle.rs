//! The networks in candle. Its SGD has no momentum, so that its steps do a little less.

use super::{BLOCKS, EMBED, Plain, VOCAB};
use crate::form::{Form, form};
use crate::gemm::text;
use candle_core::{DType, Device, ModuleT, Result, Tensor};
use candle_nn::{
    AdamW, BatchNorm, Conv2d, Conv2dConfig, Embedding, LSTM, Linear, Module, Optimizer, ParamsAdamW, RNN,
    SGD, VarBuilder, VarMap,
};

/// A network for images or vectors.
pub(crate) trait Net: Sized + 'static {
    fn logits(&self, x: &Tensor, train: bool) -> Result<Tensor>;
}

pub(crate) struct PlainNet {
    convs: Vec<(Conv2d, bool)>,
    linears: Vec<Linear>,
}

pub(crate) fn plain(net: Plain, vb: VarBuilder) -> Result<PlainNet> {
    let conv = |(at, &(i, o, kernel, padding, pool)): (usize, &(usize, usize, usize, usize, bool))| {
        let config = Conv2dConfig { padding, ..Default::default() };
        Ok((candle_nn::conv2d(i, o, kernel, config, vb.pp(format!("conv{at}")))?, pool))
    };
    let linear =
        |(at, pair): (usize, &[usize])| candle_nn::linear(pair[0], pair[1], vb.pp(format!("linear{at}")));
    Ok(PlainNet {
        convs: net.convs.iter().enumerate().map(conv).collect::<Result<_>>()?,
        linears: net.widths.windows(2).enumerate().map(linear).collect::<Result<_>>()?,
    })
}

impl Net for PlainNet {
    fn logits(&self, x: &Tensor, _: bool) -> Result<Tensor> {
        let mut x = x.clone();
        for (conv, pool) in &self.convs {
            x = conv.forward(&x)?.relu()?;
            x = if *pool { x.max_pool2d(2)? } else { x };
        }
        let mut x = if self.convs.is_empty() { x } else { x.flatten_from(1)? };
        for (i, linear) in self.linears.iter().enumerate() {
            x = linear.forward(&if i > 0 { x.relu()? } else { x })?;
        }
        Ok(x)
    }
}

struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    down: Option<(Conv2d, BatchNorm)>,
}

pub(crate) struct ResNet {
    stem: (Conv2d, BatchNorm),
    blocks: Vec<Block>,
    head: Linear,
}

fn conv(i: usize, o: usize, kernel: usize, stride: usize, vb: VarBuilder) -> Result<Conv2d> {
    let config = Conv2dConfig { padding: kernel / 2, stride, ..Default::default() };
    candle_nn::conv2d_no_bias(i, o, kernel, config, vb)
}

pub(crate) fn resnet18(vb: VarBuilder) -> Result<ResNet> {
    let block = |(at, (i, o, stride)): (usize, (usize, usize, usize))| {
        let vb = vb.pp(format!("block{at}"));
        let down = match (stride, i == o) {
            (1, true) => None,
            _ => Some((conv(i, o, 1, stride, vb.pp("down"))?, candle_nn::batch_norm(o, 1e-5, vb.pp("bn"))?)),
        };
        Ok(Block {
            conv1: conv(i, o, 3, stride, vb.pp("conv1"))?,
            bn1: candle_nn::batch_norm(o, 1e-5, vb.pp("bn1"))?,
            conv2: conv(o, o, 3, 1, vb.pp("conv2"))?,
            bn2: candle_nn::batch_norm(o, 1e-5, vb.pp("bn2"))?,
            down,
        })
    };
    Ok(ResNet {
        stem: (conv(3, 64, 3, 1, vb.pp("stem"))?, candle_nn::batch_norm(64, 1e-5, vb.pp("stem_bn"))?),
        blocks: BLOCKS.into_iter().enumerate().map(block).collect::<Result<_>>()?,
        head: candle_nn::linear(512, 10, vb.pp("head"))?,
    })
}

impl Net for ResNet {
    fn logits(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut x = self.stem.1.forward_t(&self.stem.0.forward(x)?, train)?.relu()?;
        for b in &self.blocks {
            let y = b.bn1.forward_t(&b.conv1.forward(&x)?, train)?.relu()?;
            let y = b.bn2.forward_t(&b.conv2.forward(&y)?, train)?;
            let skip = match &b.down {
                None => x,
                Some((conv, bn)) => bn.forward_t(&conv.forward(&x)?, train)?,
            };
            x = (y + skip)?.relu()?;
        }
        self.head.forward(&x.mean((2, 3))?)
    }
}

pub(crate) struct CharLstm {
    embed: Embedding,
    layers: [LSTM; 2],
    head: Linear,
}

pub(crate) fn char_lstm(hidden: usize, vb: VarBuilder) -> Result<CharLstm> {
    Ok(CharLstm {
        embed: candle_nn::embedding(VOCAB, EMBED, vb.pp("embed"))?,
        layers: [
            candle_nn::lstm(EMBED, hidden, Default::default(), vb.pp("0"))?,
            candle_nn::lstm(hidden, hidden, Default::default(), vb.pp("1"))?,
        ],
        head: candle_nn::linear(hidden, VOCAB, vb.pp("head"))?,
    })
}

impl Net for CharLstm {
    fn logits(&self, x: &Tensor, _: bool) -> Result<Tensor> {
        let mut x = self.embed.forward(x)?;
        for layer in &self.layers {
            x = layer.states_to_tensor(&layer.seq(&x)?)?;
        }
        self.head.forward(&x.flatten(0, 1)?)
    }
}

/// A training step that gives its loss.
pub(crate) fn train<N: Net>(
    net: impl Fn(VarBuilder) -> Result<N>,
    adam: bool,
    x: Tensor,
    labels: Tensor,
) -> std::result::Result<Box<dyn Form>, String> {
    let map = VarMap::new();
    let net = net(VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).map_err(text)?;
    let params = ParamsAdamW { lr: 1e-3, weight_decay: 0.0, ..Default::default() };
    let mut adam = adam.then(|| AdamW::new(map.all_vars(), params)).transpose().map_err(text)?;
    let mut sgd = SGD::new(map.all_vars(), 0.01).map_err(text)?;
    form(move || {
        let loss = candle_nn::loss::cross_entropy(&net.logits(&x, true)?, &labels)?;
        match &mut adam {
            Some(adam) => adam.backward_step(&loss)?,
            None => sgd.backward_step(&loss)?,
        }
        Ok::<_, candle_core::Error>(loss)
    })
}

/// The result in evaluation, of weights that are constants.
pub(crate) fn infer<N: Net>(
    net: impl Fn(VarBuilder) -> Result<N>,
    x: Tensor,
) -> std::result::Result<Box<dyn Form>, String> {
    let map = VarMap::new();
    net(VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu)).map_err(text)?;
    let named =
        map.data().lock().map_err(text)?.iter().map(|(k, v)| (k.clone(), v.as_detached_tensor())).collect();
    let net = net(VarBuilder::from_tensors(named, DType::F32, &Device::Cpu)).map_err(text)?;
    form(move || net.logits(&x, false))
}
