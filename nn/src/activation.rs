//! Functions without parameters as modules, to stand in a [`Sequential`](crate::Sequential).

use crate::{Entry, Forward, Fusable, Module, Path};
use autograd::Var;
use tensor::op::{BinaryOp, UnaryOp};
use tensor::{Pool, Result, Spatial};

/// A struct for each row, with nothing to train, save or switch.
macro_rules! stateless {
    ($( $(#[$doc:meta])+ $Layer:ident $({ $field:ident: $T:ty })? $(fuses $op:ident)? |$x:ident $(, $parameter:ident)?| $forward:expr; )+) => { $(
        stateless!(@struct $(#[$doc])+ $Layer $({ $field: $T })?);

        impl Module for $Layer {
            fn visit<'a>(&'a self, _: &mut Path, _: &mut dyn FnMut(&Path, Entry<'a>)) {}
        }

        impl Forward for $Layer {
            fn forward(&self, $x: &Var) -> Result<Var> {
                $( let $parameter = self.$field; )?
                $forward
            }

            $( fn fusable(&self) -> Fusable<'_> {
                Fusable::Activation(UnaryOp::$op)
            } )?
        }
    )+ };
    (@struct $(#[$doc:meta])+ $Layer:ident) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $Layer;
    };
    (@struct $(#[$doc:meta])+ $Layer:ident { $field:ident: $T:ty }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug)]
        pub struct $Layer {
            #[doc = concat!("The parameter `", stringify!($field), "`.")]
            pub $field: $T,
        }
    };
}

stateless! {
    /// `max(x, 0)`.
    Relu fuses Relu |x| x.relu();
    /// `x` above 0, `slope · x` below.
    LeakyRelu { slope: f64 } |x, slope| x.binary_scalar(BinaryOp::LeakyRelu, slope);
    /// `x` above 0, `alpha · (e^x - 1)` below.
    Elu { alpha: f64 } |x, alpha| x.binary_scalar(BinaryOp::Elu, alpha);
    /// `x · Φ(x)`.
    Gelu fuses Gelu |x| x.gelu();
    /// `x · sigmoid(x)`.
    Silu fuses Silu |x| x.silu();
    /// Hyperbolic tangent.
    Tanh fuses Tanh |x| x.tanh();
    /// `1 / (1 + e^-x)`.
    Sigmoid fuses Sigmoid |x| x.sigmoid();
    /// `e^x / Σ e^x` along `dim`.
    Softmax { dim: isize } |x, dim| x.softmax(dim);
    /// `log softmax(x)` along `dim`.
    LogSoftmax { dim: isize } |x, dim| x.log_softmax(dim);
    /// The largest of each window; see [`Var::max_pool2d`].
    MaxPool2d { pool: Pool } |x, pool| x.max_pool2d(pool);
    /// The mean of each window; see [`Var::avg_pool2d`].
    AvgPool2d { pool: Pool } |x, pool| x.avg_pool2d(pool);
    /// Means of nearly equal windows; see [`Var::adaptive_avg_pool2d`].
    AdaptiveAvgPool2d { output: Spatial } |x, output| x.adaptive_avg_pool2d(output);
    /// The largest of nearly equal windows; see [`Var::adaptive_max_pool1d`].
    AdaptiveMaxPool1d { output: usize } |x, output| x.adaptive_max_pool1d(output);
    /// The largest of nearly equal windows; see [`Var::adaptive_max_pool2d`].
    AdaptiveMaxPool2d { output: Spatial } |x, output| x.adaptive_max_pool2d(output);
    /// One dim in place of the dims from `start_dim` on.
    Flatten { start_dim: isize } |x, start_dim| x.flatten(start_dim);
}

impl MaxPool2d {
    /// Windows as [`Pool`] describes them; a number alone is a size.
    pub fn new(pool: impl Into<Pool>) -> MaxPool2d {
        MaxPool2d { pool: pool.into() }
    }
}

impl AvgPool2d {
    /// Windows as [`Pool`] describes them; a number alone is a size.
    pub fn new(pool: impl Into<Pool>) -> AvgPool2d {
        AvgPool2d { pool: pool.into() }
    }
}

impl AdaptiveAvgPool2d {
    /// That many windows along each spatial dim.
    pub fn new(output: impl Into<Spatial>) -> AdaptiveAvgPool2d {
        AdaptiveAvgPool2d { output: output.into() }
    }
}

impl AdaptiveMaxPool1d {
    /// That many windows.
    pub fn new(output: usize) -> AdaptiveMaxPool1d {
        AdaptiveMaxPool1d { output }
    }
}

impl AdaptiveMaxPool2d {
    /// That many windows along each spatial dim.
    pub fn new(output: impl Into<Spatial>) -> AdaptiveMaxPool2d {
        AdaptiveMaxPool2d { output: output.into() }
    }
}

impl Default for Flatten {
    fn default() -> Flatten {
        Flatten { start_dim: 1 }
    }
}
