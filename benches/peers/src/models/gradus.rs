//! The networks in Gradus.

use super::{BLOCKS, EMBED, Plain, VOCAB};
use crate::form::{Form, form};
use crate::gemm::text;
use crate::peers::gradus::set_weights;
use gradus::nn::AdaptiveAvgPool2d;
use gradus::prelude::*;

pub(crate) fn plain(net: Plain) -> Result<Sequential> {
    let mut init = Init::new(0);
    let mut model = Sequential::new();
    for &(i, o, kernel, padding, pool) in net.convs {
        model = model.add(Conv2d::new(i, o, kernel, &mut init)?.padding(padding)).add(Relu);
        if pool {
            model = model.add(MaxPool2d { pool: 2.into() });
        }
    }
    if !net.convs.is_empty() {
        model = model.add(Flatten::default());
    }
    for (i, pair) in net.widths.windows(2).enumerate() {
        model = if i > 0 { model.add(Relu) } else { model };
        model = model.add(Linear::new(pair[0], pair[1], &mut init)?);
    }
    Ok(model)
}

struct Block {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    down: Option<Sequential>,
}
module!(Block { conv1, bn1, conv2, bn2, down });

impl Forward for Block {
    fn forward(&self, x: &Var) -> Result<Var> {
        let y = self.bn1.forward(&self.conv1.forward(x)?)?.relu()?;
        let y = self.bn2.forward(&self.conv2.forward(&y)?)?;
        let skip = self.down.as_ref().map_or(Ok(x.clone()), |down| down.forward(x))?;
        y.add(&skip)?.relu()
    }
}

pub(crate) fn resnet18() -> Result<Sequential> {
    let mut init = Init::new(0);
    let mut model = Sequential::new()
        .add(Conv2d::new(3, 64, 3, &mut init)?.padding(1).no_bias())
        .add(BatchNorm2d::new(64, &mut init)?)
        .add(Relu);
    for (i, o, stride) in BLOCKS {
        let down = match (stride, i == o) {
            (1, true) => None,
            _ => Some(
                Sequential::new()
                    .add(Conv2d::new(i, o, 1, &mut init)?.stride(stride).no_bias())
                    .add(BatchNorm2d::new(o, &mut init)?),
            ),
        };
        model = model.add(Block {
            conv1: Conv2d::new(i, o, 3, &mut init)?.stride(stride).padding(1).no_bias(),
            bn1: BatchNorm2d::new(o, &mut init)?,
            conv2: Conv2d::new(o, o, 3, &mut init)?.padding(1).no_bias(),
            bn2: BatchNorm2d::new(o, &mut init)?,
            down,
        });
    }
    Ok(model.add(AdaptiveAvgPool2d::new(1)).add(Flatten::default()).add(Linear::new(512, 10, &mut init)?))
}

pub(crate) struct CharLstm {
    embed: Embedding,
    rnn: Lstm,
    head: Linear,
}
module!(CharLstm { embed, rnn, head });

impl CharLstm {
    pub(crate) fn new(hidden: usize) -> Result<CharLstm> {
        let mut init = Init::new(0);
        let config = RnnConfig { num_layers: 2, ..Default::default() };
        Ok(CharLstm {
            embed: Embedding::new(VOCAB, EMBED, &mut init)?,
            rnn: Lstm::new(EMBED, hidden, config, &mut init)?,
            head: Linear::new(hidden, VOCAB, &mut init)?,
        })
    }

    /// Logits, `[t · n, vocab]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Var> {
        let (y, _) = self.rnn.forward(&self.embed.forward(x)?, None)?;
        self.head.forward(&y)?.flatten_range(0, 1)
    }
}

/// A training step that gives its loss.
pub(crate) fn train<M: Module + 'static>(
    model: M,
    adam: bool,
    dtype: DType,
    logits: impl Fn(&M) -> Result<Var> + 'static,
    labels: Tensor,
) -> std::result::Result<Box<dyn Form>, String> {
    set_weights(&model).map_err(text)?;
    model.to_dtype(dtype).map_err(text)?;
    let sgd = SgdConfig { lr: 0.01, momentum: 0.9, ..Default::default() };
    let mut optimizer: Box<dyn Optimizer> = if adam {
        Box::new(Adam::new(&model, AdamConfig::default()).map_err(text)?)
    } else {
        Box::new(Sgd::new(&model, sgd).map_err(text)?)
    };
    form(move || {
        let loss = logits(&model)?.cross_entropy(&labels)?;
        optimizer.step(&loss.backward()?)?;
        Ok::<_, Error>(loss.detach())
    })
}

/// The result in evaluation.
pub(crate) fn infer(
    model: Sequential,
    x: Tensor,
    dtype: DType,
) -> std::result::Result<Box<dyn Form>, String> {
    set_weights(&model).map_err(text)?;
    model.to_dtype(dtype).map_err(text)?;
    model.eval();
    let x = Var::from(x.to_dtype(dtype).map_err(text)?);
    form(move || no_grad(|| model.forward(&x)))
}
