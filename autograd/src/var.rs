//! [`Var`]: a tensor with a history.

use crate::node::{Edges, History, Node, Severed, is_recording};
use std::sync::Arc;
use tensor::{DType, Device, Result, Shape, Tensor};

/// A tensor and how it was computed. Made from a tensor by `From`, it is a constant and records nothing.
///
/// There is no implicit way back to a [`Tensor`], which would silently drop gradients: use [`Var::value`].
#[derive(Clone)]
pub struct Var {
    pub(crate) value: Tensor,
    pub(crate) history: History,
}

impl Var {
    /// A value that gradients are wanted for.
    pub fn leaf(value: Tensor) -> Var {
        let node = Node::leaf(value.shape());
        Var { value, history: History::Node(node) }
    }

    /// The same leaf with another value: what an optimizer makes of a parameter. A leaf of another shape is a new one.
    #[must_use]
    pub fn with_value(&self, value: Tensor) -> Var {
        match self.is_leaf() && value.shape() == self.shape() {
            true => Var { value, history: self.history.clone() },
            false => Var::leaf(value),
        }
    }

    /// The value alone.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The value alone, giving up the history.
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// The value to change in place, for a parameter that is being updated. Graphs that used the old value keep it.
    pub fn value_mut(&mut self) -> &mut Tensor {
        &mut self.value
    }

    /// The shape of the value.
    pub fn shape(&self) -> Shape {
        self.value.shape()
    }

    /// The extents of the value.
    pub fn dims(&self) -> &[usize] {
        self.value.dims()
    }

    /// How many dims the value has.
    pub fn rank(&self) -> usize {
        self.value.rank()
    }

    /// How many elements the value has.
    pub fn numel(&self) -> usize {
        self.value.numel()
    }

    /// The extent of a dim, which may count from the end.
    pub fn size(&self, dim: isize) -> Result<usize> {
        self.value.size(dim)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.value.dtype()
    }

    /// Where the value lives.
    pub fn device(&self) -> &Device {
        self.value.device()
    }

    /// The only element, as a double.
    pub fn item(&self) -> Result<f64> {
        self.value.item()
    }

    /// Whether gradients flow back from here.
    pub fn requires_grad(&self) -> bool {
        self.node().is_some()
    }

    /// Whether it is a leaf that gradients are wanted for.
    pub fn is_leaf(&self) -> bool {
        self.node().is_some_and(|n| n.is_leaf())
    }

    /// The value without its history: gradients do not flow back from here.
    #[must_use]
    pub fn detach(&self) -> Var {
        self.cut("detach", self.value.clone())
    }

    /// `value`, computed from this by an op that has no gradient.
    pub(crate) fn cut(&self, op: &'static str, value: Tensor) -> Var {
        let history = match &self.history {
            History::Node(node) => History::Severed(Severed::behind(op, node)),
            other => other.clone(),
        };
        Var { value, history }
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        match &self.history {
            History::Node(node) => Some(node),
            History::Constant | History::Severed(_) => None,
        }
    }

    /// `value` as a function of `inputs`, with the rule for going back: how an op of one's own becomes differentiable.
    ///
    /// The rule gets the gradient of `value` and returns the gradients of the inputs, in order, in their shapes; see
    /// [`Backprop`]. If it computes with `Var` ops on Vars it captured, gradients of gradients work too. It is kept only
    /// if recording is on and an input has a history. It must not capture the result: ask for [`Var::record_with_output`].
    ///
    /// ```
    /// use gradus_autograd::Var;
    /// use tensor::{Device, Tensor};
    /// # fn main() -> tensor::Result<()> {
    /// let x = Var::leaf(Tensor::from_slice(&[3f32], [1], &Device::cpu())?);
    /// let saved = x.clone();
    /// let cube = Var::record("cube", x.value().pow_scalar(3)?, &[&x], move |b| {
    ///     Ok(vec![b.want(0, || b.grad().mul(&saved.square()?.mul_scalar(3.0)?))?])
    /// });
    /// assert_eq!(cube.sum_all()?.backward()?.get(&x)?.to_vec::<f32>()?, [27.]);
    /// # Ok(()) }
    /// ```
    pub fn record(
        op: &'static str,
        value: Tensor,
        inputs: &[&Var],
        rule: impl Fn(&Backprop<'_>) -> Result<Vec<Option<Var>>> + Send + Sync + 'static,
    ) -> Var {
        Var::recorded(op, value, inputs, false, rule)
    }

    /// As [`record`](Self::record), for a rule that uses the op's result: [`Backprop::output`].
    pub fn record_with_output(
        op: &'static str,
        value: Tensor,
        inputs: &[&Var],
        rule: impl Fn(&Backprop<'_>) -> Result<Vec<Option<Var>>> + Send + Sync + 'static,
    ) -> Var {
        Var::recorded(op, value, inputs, true, rule)
    }

    fn recorded(
        op: &'static str,
        value: Tensor,
        inputs: &[&Var],
        save_output: bool,
        rule: impl Fn(&Backprop<'_>) -> Result<Vec<Option<Var>>> + Send + Sync + 'static,
    ) -> Var {
        if !is_recording() {
            return value.into();
        }
        if inputs.iter().all(|v| v.node().is_none()) {
            // A cut stays known, to explain a gradient that does not arrive.
            let severed = inputs.iter().find(|v| matches!(v.history, History::Severed(_)));
            return Var { value, history: severed.map_or(History::Constant, |v| v.history.clone()) };
        }
        let output = save_output.then(|| value.clone());
        let node = Node::of(op, value.shape(), Edges::of(inputs), output, rule);
        Var { value, history: History::Node(node) }
    }

    /// As [`record`](Self::record), for an op of one input.
    pub(crate) fn record1(
        op: &'static str,
        value: Tensor,
        input: &Var,
        rule: impl Fn(&Var) -> Result<Var> + Send + Sync + 'static,
    ) -> Var {
        Var::recorded(op, value, &[input], false, move |b| Ok(vec![Some(rule(b.grad())?)]))
    }

    /// The value of a node again, as a function of what it was a function of.
    pub(crate) fn revived(value: Tensor, node: &Arc<Node>) -> Var {
        Var { value, history: History::Node(node.clone()) }
    }

    /// Calls `f` with the gradient of this value on its way back, which goes on as what `f` returns: to look at it, clip
    /// it, or reverse it.
    pub fn hook(&self, f: impl Fn(&Var) -> Result<Var> + Send + Sync + 'static) -> Var {
        Var::record1("hook", self.value.clone(), self, f)
    }
}

impl From<Tensor> for Var {
    fn from(value: Tensor) -> Var {
        Var { value, history: History::Constant }
    }
}

impl From<&Tensor> for Var {
    fn from(value: &Tensor) -> Var {
        value.clone().into()
    }
}

impl std::fmt::Debug for Var {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.history {
            History::Node(node) => write!(f, "Var({:?}, from {})", self.value, node.op),
            History::Severed(cut) => write!(f, "Var({:?}, cut off by {})", self.value, cut.op),
            History::Constant => write!(f, "Var({:?})", self.value),
        }
    }
}

impl std::fmt::Display for Var {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.value.fmt(f)
    }
}

/// What a rule works with: the gradient that comes in, and which gradients are wanted.
pub struct Backprop<'a> {
    pub(crate) grad: Var,
    pub(crate) node: &'a Arc<Node>,
    pub(crate) output: Option<&'a Tensor>,
}

impl Backprop<'_> {
    /// The gradient of the op's result.
    pub fn grad(&self) -> &Var {
        &self.grad
    }

    /// The op's result, if it was recorded with it.
    ///
    /// # Errors
    /// If it was not.
    pub fn output(&self) -> Result<Var> {
        let output = self.output.ok_or_else(|| {
            tensor::Error::argument(
                self.node.op,
                "its rule uses the output: record it with record_with_output",
            )
        })?;
        Ok(Var::revived(output.clone(), self.node))
    }

    /// Whether the gradient of input `i` is wanted.
    pub fn wants(&self, i: usize) -> bool {
        matches!(self.node.edges.get(i), Some(History::Node(_)))
    }

    /// Input `i` again, as the function that it was, given its value: a rule that saves values alone has gradients too.
    pub(crate) fn input(&self, i: usize, value: &Tensor) -> Var {
        Var { value: value.clone(), history: self.node.edges.get(i).cloned().unwrap_or_default() }
    }

    /// `grad` as the gradient of input `i`, if that is wanted: broadcasting is undone.
    pub(crate) fn unbroadcast(&self, i: usize, grad: impl FnOnce() -> Result<Var>) -> Result<Option<Var>> {
        let Some(History::Node(input)) = self.node.edges.get(i) else { return Ok(None) };
        let grad = grad()?;
        if grad.dims() == input.shape.dims() { Ok(Some(grad)) } else { grad.sum_to(input.shape).map(Some) }
    }

    /// The gradient of input `i`, computed only if it is wanted.
    pub fn want(&self, i: usize, f: impl FnOnce() -> Result<Var>) -> Result<Option<Var>> {
        if self.wants(i) { f().map(Some) } else { Ok(None) }
    }
}
