//! A training step as a graph of an emulated GPU: replays train the model to the same last bit as the steps one by one.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use gradus::prelude::*;
use kernels_cuda::{Graph, emulator};

struct Net {
    conv: Conv2d,
    bn: BatchNorm2d,
    dropout: Dropout,
    rnn: Lstm,
    fc: Linear,
}
module!(Net { conv, bn, dropout, rnn, fc });

impl Net {
    fn new(device: &Device) -> Result<Net> {
        let mut init = Init::new(3);
        let net = Net {
            conv: Conv2d::new(1, 2, 3, &mut init)?.padding(1),
            bn: BatchNorm2d::new(2, &mut init)?,
            dropout: Dropout::new(0.25, &mut init)?,
            rnn: Lstm::new(8, 4, RnnConfig::default(), &mut init)?,
            fc: Linear::new(4, 3, &mut init)?,
        };
        net.to_device(device)?;
        Ok(net)
    }

    /// All numbers that a step changes.
    fn state(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let params = self.params().into_iter().map(|(name, param)| (name, param.value()));
        let buffers = [("mean", &self.bn.running_mean), ("var", &self.bn.running_var)];
        let count = ("batches", &self.bn.num_batches_tracked);
        let buffers = buffers.into_iter().chain([count]).map(|(name, b)| (name.to_string(), b.value()));
        params.chain(buffers).map(|(name, x)| Ok((name, x.device().backend().download(&x)?))).collect()
    }
}

impl Forward for Net {
    /// `[n, 1, 4, 4] -> [n, 3]`.
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = self.bn.forward(&self.conv.forward(x)?)?.relu()?;
        let rows = self.dropout.forward(&x)?.permute([2, 0, 1, 3])?.flatten(2)?; // [4, n, 8]
        let (y, _) = self.rnn.forward(&rows, None)?;
        self.fc.forward(&y.select(0, -1)?)
    }
}

fn step(net: &Net, adam: &mut AdamW, x: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let loss = net.forward(&x.clone().into())?.cross_entropy(labels)?;
    let gradients = loss.backward()?;
    let loss = loss.value().clone();
    adam.step_clipped(&gradients, 0.5)?;
    Ok(loss)
}

fn batch(i: u64, device: &Device) -> Result<(Tensor, Tensor)> {
    let mut generator = Generator::new(i);
    let x = Tensor::random(
        gradus::Distribution::Normal { mean: 0.0, std: 1.0 },
        [3, 1, 4, 4],
        device,
        &mut generator,
    )?;
    let labels: Vec<i64> = (0..3).map(|_| generator.below(3) as i64).collect();
    Ok((x, Tensor::from_slice(&labels, [3], device)?))
}

// One test: there is one GPU.
#[test]
fn a_graph_trains_as_the_steps_one_by_one_do() -> Result<()> {
    let gpu = emulator::device_for_tests(&[], env!("CARGO_TARGET_TMPDIR").as_ref());
    let Some(gpu) = gpu.unwrap() else { return Ok(()) };
    let (x, labels) = batch(0, &gpu)?;

    // Without a step before, the optimizer's state would begin anew with each replay.
    let fresh = Net::new(&gpu)?;
    let mut adam = AdamW::new(&fresh, AdamWConfig::default())?;
    let error = Graph::capture(&gpu, || step(&fresh, &mut adam, &x, &labels)).unwrap_err().to_string();
    assert!(error.contains("make a step before"), "{error}");

    // The draws of that attempt are gone: both models begin alike again.
    let (eager, captured) = (Net::new(&gpu)?, Net::new(&gpu)?);
    let (mut by_steps, mut by_graph) =
        (AdamW::new(&eager, AdamWConfig::default())?, AdamW::new(&captured, AdamWConfig::default())?);
    step(&eager, &mut by_steps, &x, &labels)?;
    step(&captured, &mut by_graph, &x, &labels)?;
    let (graph, loss) = Graph::capture(&gpu, || step(&captured, &mut by_graph, &x, &labels))?;
    for i in 1..4 {
        let (new_x, new_labels) = batch(i, &gpu)?;
        let expected = step(&eager, &mut by_steps, &new_x, &new_labels)?;
        graph.write(&x, &new_x)?;
        graph.write(&labels, &new_labels)?;
        graph.replay()?;
        assert_eq!(loss.item()?, expected.item()?, "loss {i}");
        for (got, expected) in captured.state()?.iter().zip(&eager.state()?) {
            assert_eq!(got, expected, "after step {i}");
        }
    }
    graph.check()?;
    drop(graph);

    // A rule that makes new tensors is refused.
    let mut other = gradus::nn::optim::RmsProp::new(&captured, Default::default())?;
    let mut slow = |x: &Tensor, labels: &Tensor| -> Result<()> {
        let loss = captured.forward(&x.clone().into())?.cross_entropy(labels)?;
        other.step(&loss.backward()?)
    };
    slow(&x, &labels)?;
    let error = Graph::capture(&gpu, || slow(&x, &labels)).unwrap_err().to_string();
    assert!(error.contains("in place"), "{error}");
    if let Some(report) = emulator::last_report() {
        panic!("{report}");
    }
    Ok(())
}
