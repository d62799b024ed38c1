//! What a module holds: trainable tensors, buffers that are saved but not trained, and its mode.

use autograd::Var;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tensor::{DType, Device, Error, Generator, Layout, Result, Shape, Tensor};

/// A trainable tensor. The model reads it, the optimizer replaces its value; clones share both.
///
/// ```
/// use gradus_nn::Param;
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let w = Param::new(Tensor::ones([2], &Device::cpu())?);
/// let grads = w.var().square()?.sum_all()?.backward()?;
/// let step = grads.get(&w.var())?.clone();
/// w.update(|value| {
///     *value = value.sub(&step)?;
///     Ok(())
/// })?;
/// assert_eq!(w.value().to_vec::<f32>()?, [-1., -1.]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Param(Arc<Inner>);

struct Inner {
    /// The leaf, whose identity outlives its values.
    leaf: Mutex<Var>,
    shape: Shape,
    frozen: AtomicBool,
    name: OnceLock<String>,
}

impl Param {
    /// A trainable tensor.
    pub fn new(value: Tensor) -> Param {
        Param(Arc::new(Inner {
            shape: value.shape(),
            leaf: Mutex::new(Var::leaf(value)),
            frozen: AtomicBool::new(false),
            name: OnceLock::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Var> {
        self.0.leaf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leaf to compute with; a constant while frozen.
    pub fn var(&self) -> Var {
        let leaf = self.leaf();
        if self.is_frozen() { leaf.value().into() } else { leaf }
    }

    /// The leaf, frozen or not: what gradients are looked up with.
    pub fn leaf(&self) -> Var {
        self.lock().clone()
    }

    /// The value.
    pub fn value(&self) -> Tensor {
        self.lock().value().clone()
    }

    /// Replaces the value by one of the same shape. Its dtype and device may be others.
    pub fn set(&self, value: Tensor) -> Result<()> {
        if value.shape() != self.0.shape {
            return Err(Error::shapes("parameter", self.0.shape, value.shape()).at(self.label()));
        }
        *self.lock().value_mut() = value;
        Ok(())
    }

    /// Changes the value by `f`, which gets the only handle there is unless a graph or a clone still holds the value, so
    /// that it can work in place.
    ///
    /// # Errors
    /// What `f` returns, or that it left a value of another shape.
    pub fn update(&self, f: impl FnOnce(&mut Tensor) -> Result<()>) -> Result<()> {
        Param::update_all(std::slice::from_ref(self), |mut values| f(values.remove(0)))
    }

    /// As [`update`](Self::update), of several distinct parameters together.
    pub(crate) fn update_all(params: &[Param], f: impl FnOnce(Vec<&mut Tensor>) -> Result<()>) -> Result<()> {
        // Everybody takes several locks in one order, so that nobody waits in a circle.
        let mut order: Vec<usize> = (0..params.len()).collect();
        order.sort_by_key(|&i| Arc::as_ptr(&params[i].0));
        let mut leaves: Vec<_> = order.into_iter().map(|i| (i, params[i].lock())).collect();
        leaves.sort_by_key(|(i, _)| *i);
        f(leaves.iter_mut().map(|(_, leaf)| leaf.value_mut()).collect())?;
        match leaves.iter().find(|(i, leaf)| leaf.shape() != params[*i].0.shape) {
            None => Ok(()),
            Some((i, leaf)) => {
                let (shape, label) = (params[*i].0.shape, params[*i].label());
                Err(Error::shapes("parameter", shape, leaf.shape()).at(label))
            }
        }
    }

    /// The shape, which never changes.
    pub fn shape(&self) -> Shape {
        self.0.shape
    }

    /// The dotted path in the model, such as `encoder.layer3.weight`: known once the model was visited, by an optimizer,
    /// `load`, `save`, `train`, `eval` or the like.
    pub fn name(&self) -> Option<&str> {
        self.0.name.get().map(String::as_str)
    }

    /// The name, or in its absence the shape: for messages.
    pub fn label(&self) -> String {
        self.name().map_or_else(|| format!("a parameter of {}", self.0.shape), str::to_string)
    }

    /// The path of the module that holds it, where known.
    pub(crate) fn module(&self) -> Option<&str> {
        let name = self.name()?;
        Some(name.rsplit_once('.').map_or(name, |(module, _)| module))
    }

    pub(crate) fn set_name(&self, name: &str) {
        // The first visit names it: a parameter that two models share keeps the name of the first.
        self.0.name.get_or_init(|| name.to_string());
    }

    /// Takes it out of training: it gets no gradient, and optimizers leave it alone.
    pub fn freeze(&self) {
        self.0.frozen.store(true, Ordering::Relaxed);
    }

    /// Puts it back into training.
    pub fn unfreeze(&self) {
        self.0.frozen.store(false, Ordering::Relaxed);
    }

    /// Whether it is out of training.
    pub fn is_frozen(&self) -> bool {
        self.0.frozen.load(Ordering::Relaxed)
    }

    /// Whether two handles are of one parameter.
    pub fn is(&self, other: &Param) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Param({} {})", self.label(), self.0.shape)
    }
}

/// A tensor that belongs to a model's state but is not trained, such as a running mean. Clones share it.
#[derive(Clone)]
pub struct Buffer(Arc<Mutex<Tensor>>);

impl Buffer {
    /// A buffer.
    pub fn new(value: Tensor) -> Buffer {
        Buffer(Arc::new(Mutex::new(value)))
    }

    fn lock(&self) -> MutexGuard<'_, Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value.
    pub fn value(&self) -> Tensor {
        self.lock().clone()
    }

    /// Replaces the value by one of the same shape. In a step that is captured in a graph it is written into the memory of the old one,
    /// where the next replay looks for it.
    ///
    /// # Errors
    /// When the shapes differ, or in a captured step somebody else holds the old value, or it has another dtype or device.
    pub fn set(&self, value: Tensor) -> Result<()> {
        let mut slot = self.lock();
        if slot.shape() != value.shape() {
            return Err(Error::shapes("buffer", slot.shape(), value.shape()));
        }
        if !value.device().backend().is_capturing() {
            *slot = value;
            return Ok(());
        }
        let (device, layout) = (value.device().clone(), Layout::contiguous(value.shape()));
        let alike = slot.dtype() == value.dtype() && *slot.device() == device;
        if !(alike && *slot.layout() == layout && slot.storage_mut().is_some()) {
            return Err(not_in_place("buffer"));
        }
        let old = std::mem::replace(&mut *slot, value.clone());
        *slot = device.backend().write(old, &layout, &value)?;
        Ok(())
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({:?})", self.value())
    }
}

/// Whether a module is training; modules start in training mode. Clones share it.
#[derive(Clone, Debug)]
pub struct Mode(Arc<AtomicBool>);

impl Default for Mode {
    fn default() -> Mode {
        Mode(Arc::new(AtomicBool::new(true)))
    }
}

impl Mode {
    /// Whether it is training.
    pub fn is_training(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Switches it.
    pub fn set_training(&self, training: bool) {
        self.0.store(training, Ordering::Relaxed);
    }
}

/// The random stream of a module that draws in training: a checkpoint keeps it. Clones share it.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<Generator>>);

impl Random {
    /// The stream of a generator.
    pub fn new(generator: Generator) -> Random {
        Random(Arc::new(Mutex::new(generator)))
    }

    /// The generator, to draw from.
    pub fn generator(&self) -> MutexGuard<'_, Generator> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a captured step that would leave its results where no replay looks for them.
pub(crate) fn not_in_place(op: &'static str) -> Error {
    let message =
        "a step that is captured in a graph changes its state in place, and this state is not or cannot be";
    Error::argument(op, message)
        .hint("hold no other handle of it; of optimizers Sgd, Adam and AdamW work in place")
}

/// Converts a parameter or buffer in place.
pub(crate) fn converted(value: Tensor, dtype: Option<DType>, device: Option<&Device>) -> Result<Tensor> {
    let value = match dtype {
        Some(dtype) if value.dtype().is_float() => value.to_dtype(dtype)?,
        _ => value,
    };
    device.map_or(Ok(value.clone()), |d| value.to_device(d))
}
