//! Convolutional layers.

use crate::located::Located;
use crate::{Fan, Forward, Fusable, Init, Param, module};
use autograd::Var;
use tensor::{Conv, Error, Result, Shape, Spatial};

macro_rules! conv_layer {
    ($(#[$doc:meta])+ $Layer:ident $method:ident $rank:literal $(fuses $kind:ident)?) => {
        $(#[$doc])+
        #[derive(Clone, Debug)]
        pub struct $Layer {
            /// `[out, in / groups, kernel…]`.
            pub weight: Param,
            /// `[out]`.
            pub bias: Option<Param>,
            /// Stride, padding, dilation and groups.
            pub conv: Conv,
        }
        module!($Layer { weight, bias });

        impl $Layer {
            /// Weights and biases uniform within `1 / √(in · kernel)`, as PyTorch starts them. Options follow as methods:
            /// `.stride(2).padding(1)`.
            pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Spatial>, init: &mut Init) -> Result<Self> {
                Self::grouped(inputs, outputs, kernel, 1, init)
            }

            /// As [`new`](Self::new), for channels split into `groups`.
            ///
            /// # Errors
            /// If `groups` does not divide the channels.
            pub fn grouped(
                inputs: usize,
                outputs: usize,
                kernel: impl Into<Spatial>,
                groups: usize,
                init: &mut Init,
            ) -> Result<Self> {
                let (weight, bias) = parameters(stringify!($Layer), [outputs, inputs], kernel.into(), $rank, groups, init)?;
                Ok(Self { weight, bias: Some(bias), conv: Conv::default().groups(groups) })
            }

            /// Sets the steps between windows.
            #[must_use]
            pub fn stride(mut self, stride: impl Into<Spatial>) -> Self {
                self.conv = self.conv.stride(stride);
                self
            }

            /// Sets the zeros added on both sides.
            #[must_use]
            pub fn padding(mut self, padding: impl Into<Spatial>) -> Self {
                self.conv = self.conv.padding(padding);
                self
            }

            /// Sets the steps between the taps of a window.
            #[must_use]
            pub fn dilation(mut self, dilation: impl Into<Spatial>) -> Self {
                self.conv = self.conv.dilation(dilation);
                self
            }

            /// Without a bias.
            #[must_use]
            pub fn no_bias(mut self) -> Self {
                self.bias = None;
                self
            }
        }

        impl Forward for $Layer {
            fn forward(&self, x: &Var) -> Result<Var> {
                let bias = self.bias.as_ref().map(Param::var);
                x.$method(&self.weight.var(), bias.as_ref(), &self.conv).located(&self.weight, stringify!($Layer))
            }

            $( fn fusable(&self) -> Fusable<'_> {
                Fusable::$kind(self)
            } )?
        }
    };
}

/// Weight and bias of a layer with `[outputs, inputs]` channels.
fn parameters(
    layer: &'static str,
    [outputs, inputs]: [usize; 2],
    kernel: Spatial,
    spatial: usize,
    groups: usize,
    init: &mut Init,
) -> Result<(Param, Param)> {
    if groups == 0 || !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
        let message = format!("{groups} groups do not divide {inputs} input and {outputs} output channels");
        return Err(Error::argument(layer, message));
    }
    let shape: Shape = [&[outputs, inputs / groups], &kernel.dims()[..spatial]].concat().into();
    let weight = init.kaiming_uniform(shape, 5f64.sqrt(), Fan::In)?;
    let window: usize = shape.dims()[1..].iter().product();
    let bias = init.uniform([outputs], 1.0 / (window.max(1) as f64).sqrt())?;
    Ok((weight, bias))
}

conv_layer! {
    /// Convolution over one spatial dim: `[n, c, l] -> [n, o, l']`. See [`Var::conv1d`].
    Conv1d conv1d 1
}
conv_layer! {
    /// Convolution over two spatial dims: `[n, c, h, w] -> [n, o, h', w']`. See [`Var::conv2d`].
    ///
    /// ```
    /// use gradus_nn::{Conv2d, Forward, Init};
    /// use tensor::{Device, Tensor};
    /// # fn main() -> tensor::Result<()> {
    /// let conv = Conv2d::new(3, 8, 3, &mut Init::new(0))?.stride(2).padding(1);
    /// let x = Tensor::ones([1, 3, 32, 32], &Device::cpu())?;
    /// assert_eq!(conv.forward(&x.into())?.dims(), [1, 8, 16, 16]);
    /// # Ok(()) }
    /// ```
    Conv2d conv2d 2 fuses Conv
}
conv_layer! {
    /// Convolution over three spatial dims: `[n, c, d, h, w] -> [n, o, d', h', w']`. See [`Var::conv3d`].
    Conv3d conv3d 3
}

/// Transposed convolution over two spatial dims: `[n, c, h, w] -> [n, o, h', w']`. See [`Var::conv_transpose`].
#[derive(Clone, Debug)]
pub struct ConvTranspose2d {
    /// `[in, out / groups, kernel…]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    /// Stride, padding, dilation and groups.
    pub conv: Conv,
    /// Settles which of several input sizes is meant.
    pub output_padding: [usize; 2],
}
module!(ConvTranspose2d { weight, bias });

impl ConvTranspose2d {
    /// Weights and biases uniform within `1 / √(out · kernel)`, as PyTorch starts them.
    pub fn new(inputs: usize, outputs: usize, kernel: impl Into<Spatial>, init: &mut Init) -> Result<Self> {
        let (weight, _) = parameters("ConvTranspose2d", [inputs, outputs], kernel.into(), 2, 1, init)?;
        let window: usize = weight.shape().dims()[1..].iter().product();
        let bias = init.uniform([outputs], 1.0 / (window.max(1) as f64).sqrt())?;
        Ok(Self { weight, bias: Some(bias), conv: Conv::default(), output_padding: [0; 2] })
    }

    /// Sets the steps between windows of the convolution that this transposes.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Spatial>) -> Self {
        self.conv = self.conv.stride(stride);
        self
    }

    /// Sets the padding of the convolution that this transposes.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Spatial>) -> Self {
        self.conv = self.conv.padding(padding);
        self
    }

    /// Adds rows and columns to the result.
    #[must_use]
    pub fn output_padding(mut self, padding: [usize; 2]) -> Self {
        self.output_padding = padding;
        self
    }
}

impl Forward for ConvTranspose2d {
    fn forward(&self, x: &Var) -> Result<Var> {
        let bias = self.bias.as_ref().map(Param::var);
        x.conv_transpose(&self.weight.var(), bias.as_ref(), &self.conv, self.output_padding)
            .located(&self.weight, "ConvTranspose2d")
    }
}
