//! Training as a whole: steady memory, the same bytes for any number of threads, and errors that help.

use gradus::prelude::*;
use gradus::tensor::cpu::threads::with_num_threads;

struct Net {
    conv: Conv2d,
    bn: BatchNorm2d,
    rnn: Lstm,
    fc: Linear,
}
module!(Net { conv, bn, rnn, fc });

impl Net {
    fn new(seed: u64) -> Result<Net> {
        let mut init = Init::new(seed);
        Ok(Net {
            conv: Conv2d::new(1, 4, 3, &mut init)?.padding(1),
            bn: BatchNorm2d::new(4, &mut init)?,
            rnn: Lstm::new(
                16,
                8,
                RnnConfig { num_layers: 2, dropout: 0.2, ..Default::default() },
                &mut init,
            )?,
            fc: Linear::new(8, 3, &mut init)?,
        })
    }
}

impl Forward for Net {
    /// `[n, 1, 8, 8] -> [n, 3]`, the rows of the pooled planes read as a sequence.
    fn forward(&self, x: &Var) -> Result<Var> {
        let x = self.bn.forward(&self.conv.forward(x)?)?.relu()?.max_pool2d(2)?; // [n, 4, 4, 4]
        let rows = x.permute([2, 0, 1, 3])?.flatten(2)?; // [4, n, 16]
        let (y, _) = self.rnn.forward(&rows, None)?;
        self.fc.forward(&y.select(0, -1)?)
    }
}

fn step(net: &Net, adam: &mut Adam, generator: &mut Generator) -> Result<f64> {
    let normal = gradus::Distribution::Normal { mean: 0.0, std: 1.0 };
    let x = Tensor::random(normal, [6, 1, 8, 8], &Device::cpu(), generator)?;
    let labels: Vec<i64> = (0..6).map(|_| generator.below(3) as i64).collect();
    let labels = Tensor::from_slice(&labels, [6], &Device::cpu())?;
    let loss = net.forward(&x.into())?.cross_entropy(&labels)?;
    let mut grads = loss.backward()?;
    gradus::nn::clip_grad_norm(&mut grads, net, 1.0, 2.0)?;
    adam.step(&grads)?;
    loss.item()
}

/// One test function: the memory counters are the process's, and tests of one binary run side by side.
#[test]
fn training_is_steady_and_the_same_for_any_number_of_threads() -> Result<()> {
    let net = Net::new(1)?;
    let mut adam = Adam::new(&net, AdamConfig::default())?;
    let mut generator = Generator::new(0);
    let stats = || Device::cpu().backend().memory_stats();
    for _ in 0..10 {
        step(&net, &mut adam, &mut generator)?;
    }
    let after_ten = stats();
    for _ in 10..1000 {
        step(&net, &mut adam, &mut generator)?;
    }
    assert_eq!(stats().live_bytes, after_ten.live_bytes, "memory after 1,000 steps is that after 10");

    let expected = trained_bytes(1)?;
    for threads in [2, 3, 7] {
        assert!(trained_bytes(threads)? == expected, "{threads} threads end in other bytes than one");
    }
    Ok(())
}

fn trained_bytes(threads: usize) -> Result<Vec<u8>> {
    with_num_threads(threads, || {
        let net = Net::new(7)?;
        let mut adam = Adam::new(&net, AdamConfig::default())?;
        let mut generator = Generator::new(3);
        for _ in 0..20 {
            step(&net, &mut adam, &mut generator)?;
        }
        gradus::nn::state::save_to_bytes(&net)
    })
}
