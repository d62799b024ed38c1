//! Starting values of parameters.

use crate::Param;
use tensor::{DType, Device, Distribution, Generator, Result, Shape, Tensor};

/// Draws the starting values of a model: one seed gives the same model on every device.
#[derive(Clone, Debug)]
pub struct Init {
    generator: Generator,
    dtype: DType,
    device: Device,
}

/// Which fan the spread of a weight follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fan {
    /// Of the inputs: keeps the variance of activations.
    In,
    /// Of the outputs: keeps the variance of gradients.
    Out,
}

impl Init {
    /// `float32` values on the CPU, from a seed.
    pub fn new(seed: u64) -> Init {
        Init { generator: Generator::new(seed), dtype: DType::F32, device: Device::cpu() }
    }

    /// Values on another device.
    #[must_use]
    pub fn device(mut self, device: &Device) -> Init {
        self.device = device.clone();
        self
    }

    /// Values of another dtype.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Init {
        self.dtype = dtype;
        self
    }

    /// A generator of its own, for a module that draws in training.
    pub fn fork(&mut self) -> Generator {
        self.generator.fork()
    }

    /// A parameter of draws.
    pub fn draw(&mut self, shape: impl Into<Shape>, distribution: Distribution) -> Result<Param> {
        let options = (self.dtype, &self.device);
        Ok(Param::new(Tensor::random(distribution, shape, options, &mut self.generator)?))
    }

    /// Every element `value`.
    pub fn full(&mut self, shape: impl Into<Shape>, value: f64) -> Result<Param> {
        Ok(Param::new(self.tensor(shape, value)?))
    }

    /// A tensor of `value`, for a buffer.
    pub fn tensor(&self, shape: impl Into<Shape>, value: f64) -> Result<Tensor> {
        Tensor::full(shape, value, (self.dtype, &self.device))
    }

    /// Uniform in `[-bound, bound)`.
    pub fn uniform(&mut self, shape: impl Into<Shape>, bound: f64) -> Result<Param> {
        self.draw(shape, Distribution::Uniform { low: -bound, high: bound })
    }

    /// Normal.
    pub fn normal(&mut self, shape: impl Into<Shape>, mean: f64, std: f64) -> Result<Param> {
        self.draw(shape, Distribution::Normal { mean, std })
    }

    /// Uniform with bound `√(6 / ((1 + a²) · fan))` (He et al., 2015), for a leaky ReLU of slope `a` behind the weight.
    pub fn kaiming_uniform(&mut self, shape: impl Into<Shape>, a: f64, fan: Fan) -> Result<Param> {
        let shape = shape.into();
        let bound = (6.0 / ((1.0 + a * a) * fans(shape, fan) as f64)).sqrt();
        self.uniform(shape, bound)
    }

    /// Normal with deviation `√(2 / ((1 + a²) · fan))` (He et al., 2015).
    pub fn kaiming_normal(&mut self, shape: impl Into<Shape>, a: f64, fan: Fan) -> Result<Param> {
        let shape = shape.into();
        let std = (2.0 / ((1.0 + a * a) * fans(shape, fan) as f64)).sqrt();
        self.normal(shape, 0.0, std)
    }

    /// Uniform with bound `gain · √(6 / (fan_in + fan_out))` (Glorot & Bengio, 2010).
    pub fn xavier_uniform(&mut self, shape: impl Into<Shape>, gain: f64) -> Result<Param> {
        let shape = shape.into();
        let both = (fans(shape, Fan::In) + fans(shape, Fan::Out)) as f64;
        self.uniform(shape, gain * (6.0 / both).sqrt())
    }

    /// Normal with deviation `gain · √(2 / (fan_in + fan_out))` (Glorot & Bengio, 2010).
    pub fn xavier_normal(&mut self, shape: impl Into<Shape>, gain: f64) -> Result<Param> {
        let shape = shape.into();
        let both = (fans(shape, Fan::In) + fans(shape, Fan::Out)) as f64;
        self.normal(shape, 0.0, gain * (2.0 / both).sqrt())
    }
}

/// The fan of a weight `[out, in, kernel…]`: features times window. At least 1.
fn fans(shape: Shape, fan: Fan) -> usize {
    let dims = shape.dims();
    let window: usize = dims.iter().skip(2).product();
    let features = match fan {
        Fan::In => dims.get(1).or(dims.first()),
        Fan::Out => dims.first(),
    };
    (features.copied().unwrap_or(1) * window).max(1)
}
