//! [`Module`]: a tree of named parameters. Names come from the fields.

use crate::param::{Buffer, Mode, Param, Random, converted};
use autograd::Var;
use tensor::{DType, Device, Result};

/// What a visit of a module meets.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A trainable tensor.
    Param(&'a Param),
    /// A tensor that is saved but not trained.
    Buffer(&'a Buffer),
    /// Something that behaves differently in training.
    Mode(&'a Mode),
    /// A random stream.
    Random(&'a Random),
}

/// The dotted path of a visit, such as `encoder.layer3`.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Extends the path by a name while `f` runs.
    pub fn enter(&mut self, name: &str, f: impl FnOnce(&mut Path)) {
        let len = self.0.len();
        if len > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        f(self);
        self.0.truncate(len);
    }
}

/// A tree of named parameters, buffers and modes. Implemented by [`module!`](crate::module).
///
/// ```
/// use gradus_nn::{module, Forward, Init, Linear, Module};
/// # use autograd::Var;
/// struct Mlp { fc1: Linear, fc2: Linear }
/// module!(Mlp { fc1, fc2 });
/// # fn main() -> tensor::Result<()> {
/// let mut init = Init::new(42);
/// let mlp = Mlp { fc1: Linear::new(4, 8, &mut init)?, fc2: Linear::new(8, 2, &mut init)? };
/// let names: Vec<String> = mlp.params().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
/// assert_eq!(mlp.num_params(), 4 * 8 + 8 + 8 * 2 + 2);
/// # Ok(()) }
/// ```
pub trait Module {
    /// Calls `f` with the dotted name and each entry, in order of declaration.
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>));

    /// Visits the whole tree from its root, and tells every parameter its name.
    fn for_each<'a>(&'a self, f: &mut dyn FnMut(&str, Entry<'a>)) {
        self.visit(&mut Path::default(), &mut |path, entry| {
            if let Entry::Param(param) = entry {
                param.set_name(path.as_str());
            }
            f(path.as_str(), entry);
        });
    }

    /// The parameters and their names, in order of declaration. A parameter that stands in several places is listed at
    /// the first.
    fn params(&self) -> Vec<(String, &Param)> {
        let mut out: Vec<(String, &Param)> = vec![];
        self.for_each(&mut |name, entry| match entry {
            Entry::Param(p) if !out.iter().any(|(_, q)| q.is(p)) => out.push((name.to_string(), p)),
            Entry::Param(_) | Entry::Buffer(_) | Entry::Mode(_) | Entry::Random(_) => {}
        });
        out
    }

    /// The buffers and their names, in order of declaration.
    fn buffers(&self) -> Vec<(String, &Buffer)> {
        let mut out = vec![];
        self.for_each(&mut |name, entry| match entry {
            Entry::Buffer(b) => out.push((name.to_string(), b)),
            Entry::Param(_) | Entry::Mode(_) | Entry::Random(_) => {}
        });
        out
    }

    /// The random streams and their names, in order of declaration.
    fn randoms(&self) -> Vec<(String, &Random)> {
        let mut out = vec![];
        self.for_each(&mut |name, entry| match entry {
            Entry::Random(r) => out.push((name.to_string(), r)),
            Entry::Param(_) | Entry::Buffer(_) | Entry::Mode(_) => {}
        });
        out
    }

    /// How many numbers are trained.
    fn num_params(&self) -> usize {
        self.params().iter().map(|(_, p)| p.shape().numel()).sum()
    }

    /// Switches to training: dropout drops, batch norm uses and records the batch's statistics. Modules start here.
    fn train(&self) {
        self.set_training(true);
    }

    /// Switches to evaluation.
    fn eval(&self) {
        self.set_training(false);
    }

    /// Switches to training or evaluation.
    fn set_training(&self, training: bool) {
        self.for_each(&mut |_, entry| match entry {
            Entry::Mode(mode) => mode.set_training(training),
            Entry::Param(_) | Entry::Buffer(_) | Entry::Random(_) => {}
        });
    }

    /// Takes every parameter out of training.
    fn freeze(&self) {
        self.params().iter().for_each(|(_, p)| p.freeze());
    }

    /// Puts every parameter back into training.
    fn unfreeze(&self) {
        self.params().iter().for_each(|(_, p)| p.unfreeze());
    }

    /// Moves parameters and buffers to a device. An optimizer is created after this.
    fn to_device(&self, device: &Device) -> Result<()> {
        self.convert(None, Some(device))
    }

    /// Converts floating parameters and buffers to a dtype.
    fn to_dtype(&self, dtype: DType) -> Result<()> {
        self.convert(Some(dtype), None)
    }

    /// Moves and converts.
    fn convert(&self, dtype: Option<DType>, device: Option<&Device>) -> Result<()> {
        for (_, p) in self.params() {
            p.set(converted(p.value(), dtype, device)?)?;
        }
        for (_, b) in self.buffers() {
            b.set(converted(b.value(), dtype, device)?)?;
        }
        Ok(())
    }
}

/// A module that maps one value to one value, and so can stand in a [`Sequential`](crate::Sequential).
pub trait Forward: Module {
    /// The module's function.
    fn forward(&self, x: &Var) -> Result<Var>;

    /// What this is to [`Sequential::fuse_eval`](crate::Sequential::fuse_eval).
    fn fusable(&self) -> Fusable<'_> {
        Fusable::Other
    }
}

/// What a module is when modules are fused for inference.
#[derive(Clone, Copy, Debug)]
pub enum Fusable<'a> {
    /// A convolution, which takes up what follows it.
    Conv(&'a crate::Conv2d),
    /// A normalisation, which in evaluation scales and shifts each channel.
    Norm(&'a crate::BatchNorm),
    /// A function of each element.
    Activation(tensor::op::UnaryOp),
    /// Something that stays by itself.
    Other,
}

impl Module for Param {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        f(path, Entry::Param(self));
    }
}

impl Module for Buffer {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        f(path, Entry::Buffer(self));
    }
}

impl Module for Mode {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        f(path, Entry::Mode(self));
    }
}

impl Module for Random {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        f(path, Entry::Random(self));
    }
}

impl<M: Module> Module for Option<M> {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        if let Some(module) = self {
            module.visit(path, f);
        }
    }
}

impl<M: Module> Module for Vec<M> {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        for (i, module) in self.iter().enumerate() {
            path.enter(&i.to_string(), |path| module.visit(path, f));
        }
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit<'a>(&'a self, path: &mut Path, f: &mut dyn FnMut(&Path, Entry<'a>)) {
        (**self).visit(path, f);
    }
}

impl<M: Forward + ?Sized> Forward for Box<M> {
    fn forward(&self, x: &Var) -> Result<Var> {
        (**self).forward(x)
    }

    fn fusable(&self) -> Fusable<'_> {
        (**self).fusable()
    }
}

/// Implements [`Module`](crate::Module): every listed field becomes a child under its own name. Fields that hold nothing
/// to train, save or switch are left out.
///
/// ```
/// use gradus_nn::{module, Conv2d, Linear};
/// struct LeNet { conv1: Conv2d, fc1: Linear, classes: usize }
/// module!(LeNet { conv1, fc1 });
/// ```
#[macro_export]
macro_rules! module {
    ($Type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::Module for $Type {
            fn visit<'a>(&'a self, path: &mut $crate::Path, f: &mut dyn FnMut(&$crate::Path, $crate::Entry<'a>)) {
                let _ = (&path, &f);
                $( path.enter(stringify!($field), |path| $crate::Module::visit(&self.$field, path, f)); )*
            }
        }
    };
}
