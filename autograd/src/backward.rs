//! The walk back through the graph.

use crate::node::{History, Node, Severed, with_recording};
use crate::var::Var;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use tensor::op::BinaryOp;
use tensor::{Error, ErrorKind, Result, Tensor};

/// How to go back.
#[derive(Clone, Debug, Default)]
pub struct Backward {
    /// The gradient to start from, of the shape of the value; 1 if absent, which a value of one element allows.
    pub gradient: Option<Tensor>,
    /// Whether the graph may be walked again. It keeps what it had saved.
    pub retain_graph: bool,
    /// Whether the gradients get a history of their own, to be differentiated in turn. Retains the graph.
    pub create_graph: bool,
}

/// Gradients by leaf.
#[derive(Debug, Default)]
pub struct Gradients {
    by_node: HashMap<u64, Var, BuildHasherDefault<IdHasher>>,
    severed: Vec<Arc<Severed>>,
}

impl Gradients {
    /// The gradient with respect to a leaf.
    ///
    /// # Errors
    /// If the leaf did not take part: the message says what cut it off, where that is known.
    pub fn get(&self, leaf: &Var) -> Result<&Tensor> {
        self.get_var(leaf).map(Var::value)
    }

    /// As [`get`](Self::get), with the history that [`Backward::create_graph`] gave it.
    pub fn get_var(&self, leaf: &Var) -> Result<&Var> {
        self.find(leaf).ok_or_else(|| {
            let cause = match self.severed_at(leaf) {
                Some(op) => format!("the value was cut off by {op}"),
                None => "it did not take part in computing the value".to_string(),
            };
            ErrorKind::Gradient { op: "gradient", message: format!("no gradient for {leaf:?}: {cause}") }
                .into()
        })
    }

    /// The gradient with respect to a leaf, if there is one.
    pub fn find(&self, leaf: &Var) -> Option<&Var> {
        self.by_node.get(&leaf.node()?.id)
    }

    /// The op that cut a leaf off on its way to the differentiated value, where that is known.
    pub fn severed_at(&self, leaf: &Var) -> Option<&'static str> {
        let id = leaf.node()?.id;
        self.severed.iter().find(|cut| cut.leaves.contains(&id)).map(|cut| cut.op)
    }

    /// Takes the gradient of a leaf out, if there is one: nobody else holding it, it may be changed in place, and
    /// [`set`](Self::set) again.
    pub fn take(&mut self, leaf: &Var) -> Option<Var> {
        self.by_node.remove(&leaf.node()?.id)
    }

    /// Puts another gradient in place of a leaf's: for clipping and accumulating.
    pub fn set(&mut self, leaf: &Var, gradient: Tensor) {
        if let Some(node) = leaf.node() {
            self.by_node.insert(node.id, gradient.into());
        }
    }

    /// Adds the gradients of another walk: accumulation over several batches.
    pub fn accumulate(&mut self, other: Gradients) -> Result<()> {
        for (id, g) in other.by_node {
            self.add(id, g, false)?;
        }
        self.severed.extend(other.severed);
        Ok(())
    }

    /// Adds to the gradient of a node.
    fn add(&mut self, id: u64, gradient: Var, create_graph: bool) -> Result<()> {
        match self.by_node.entry(id) {
            Entry::Vacant(place) => {
                place.insert(gradient);
            }
            Entry::Occupied(place) => {
                // Taken out, so that it may be added to in place.
                let sum = add(place.remove(), &gradient, create_graph)?;
                self.by_node.insert(id, sum);
            }
        }
        Ok(())
    }

    /// How many leaves have a gradient.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether no leaf has one.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }
}

/// Spreads ids, which grow one by one and are nobody's to choose, by one multiplication.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(b.into()));
    }

    fn write_u64(&mut self, id: u64) {
        // 2⁶⁴ over the golden ratio; a table looks at the lowest and the highest bits, which are good after the rotation.
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// The sum of two gradients of one value, in place where nobody else holds the first.
fn add(a: Var, b: &Var, create_graph: bool) -> Result<Var> {
    match create_graph {
        true => a.add(b),
        false => Ok(a.into_value().binary_into(BinaryOp::Add, b.value())?.into()),
    }
}

impl Var {
    /// Gradients of this one number with respect to every leaf it depends on. The graph is used up.
    ///
    /// # Errors
    /// If it is not one number, has no history, or was differentiated already.
    pub fn backward(&self) -> Result<Gradients> {
        self.backward_with(&Backward::default())
    }

    /// As [`backward`](Self::backward), with options.
    pub fn backward_with(&self, options: &Backward) -> Result<Gradients> {
        self.walk_back(options, &HashSet::new())
    }

    fn walk_back(&self, options: &Backward, keep: &HashSet<u64>) -> Result<Gradients> {
        let root = match &self.history {
            History::Node(node) => node,
            History::Severed(cut) => {
                return Err(no_history(format!("the value has no history: {} cut it off", cut.op)));
            }
            History::Constant => {
                return Err(no_history(
                    "the value has no history: it is computed from constants".to_string(),
                ));
            }
        };
        let start = match &options.gradient {
            Some(g) if g.shape() != self.shape() => {
                return Err(Error::shapes("backward", self.shape(), g.shape())
                    .hint("the gradient to start from has the shape of the value"));
            }
            Some(g) => g.clone(),
            None if self.numel() == 1 => self.value().ones_like()?,
            None => {
                return Err(Error::shape("backward", self.shape(), "expected one number")
                    .hint("reduce it with sum_all or mean_all, or give the gradient to start from"));
            }
        };
        let create_graph = options.create_graph;
        let walk = Walk { retain: options.retain_graph || create_graph, create_graph, keep, stop: false };
        with_recording(create_graph, || walk.run(root, start.into()))
    }
}

/// One walk: what it keeps and where it ends.
struct Walk<'a> {
    retain: bool,
    create_graph: bool,
    /// Nodes besides leaves whose gradients are asked for.
    keep: &'a HashSet<u64>,
    /// Whether it does not go on behind those.
    stop: bool,
}

impl Walk<'_> {
    fn run(&self, root: &Arc<Node>, start: Var) -> Result<Gradients> {
        let mut grads = Gradients::default();
        let mut todo = Waiting::default();
        self.arrive(root, start, &mut todo, &mut grads)?;
        while let Some((node, grad)) = todo.take_youngest() {
            if self.keep.contains(&node.id) {
                grads.by_node.insert(node.id, grad.clone());
                if self.stop {
                    continue;
                }
            }
            let given = node.step(grad, self.retain)?;
            if given.len() != node.edges.len() {
                let message =
                    format!("its rule gave {} gradients for {} inputs", given.len(), node.edges.len());
                return Err(ErrorKind::Gradient { op: node.op, message }.into());
            }
            for (edge, grad) in node.edges.iter().zip(given) {
                match (edge, grad) {
                    (History::Node(input), Some(grad)) => {
                        if grad.dims() != input.shape.dims() {
                            return Err(wrong_shape(&node, input, &grad));
                        }
                        self.arrive(input, grad, &mut todo, &mut grads)?;
                    }
                    (History::Severed(cut), _) => grads.severed.push(cut.clone()),
                    (History::Node(_), None) | (History::Constant, _) => {}
                }
            }
        }
        Ok(grads)
    }

    /// A gradient reaches a node: a leaf keeps it, another one waits until it has all of its gradients.
    fn arrive(&self, node: &Arc<Node>, grad: Var, todo: &mut Waiting, grads: &mut Gradients) -> Result<()> {
        match node.is_leaf() {
            true => grads.add(node.id, grad, self.create_graph),
            false => todo.add(node, grad, self.create_graph),
        }
    }
}

/// Nodes that gradients have reached, each with the sum of them.
#[derive(Default)]
struct Waiting {
    /// The one with the highest id, unless it is in `others`: along a chain of ops there is no other.
    youngest: Option<(Arc<Node>, Var)>,
    others: Others,
}

impl Waiting {
    /// The node with the highest id: all that use it have been visited.
    fn take_youngest(&mut self) -> Option<(Arc<Node>, Var)> {
        self.youngest.take().or_else(|| self.others.take_youngest())
    }

    fn add(&mut self, node: &Arc<Node>, grad: Var, create_graph: bool) -> Result<()> {
        match self.youngest.take() {
            None if self.others.is_before(node.id) => self.youngest = Some((node.clone(), grad)),
            None => self.others.add(node, grad, create_graph)?,
            Some((youngest, sum)) if youngest.id == node.id => {
                self.youngest = Some((youngest, add(sum, &grad, create_graph)?));
            }
            Some((youngest, sum)) if youngest.id < node.id => {
                self.youngest = Some((node.clone(), grad));
                self.others.add(&youngest, sum, create_graph)?;
            }
            youngest => {
                self.youngest = youngest;
                self.others.add(node, grad, create_graph)?;
            }
        }
        Ok(())
    }
}

/// Nodes by id.
#[derive(Default)]
struct Others {
    /// Where each stands in `places`: small entries, which are cheap to move.
    by_id: BTreeMap<u64, usize>,
    places: Vec<Option<(Arc<Node>, Var)>>,
    free: Vec<usize>,
}

impl Others {
    /// Whether all of them have lower ids.
    fn is_before(&self, id: u64) -> bool {
        self.by_id.last_key_value().is_none_or(|(&last, _)| last < id)
    }

    fn take_youngest(&mut self) -> Option<(Arc<Node>, Var)> {
        let (_, place) = self.by_id.pop_last()?;
        self.free.push(place);
        self.places[place].take()
    }

    fn add(&mut self, node: &Arc<Node>, grad: Var, create_graph: bool) -> Result<()> {
        if let Some(&place) = self.by_id.get(&node.id) {
            if let Some((_, sum)) = self.places[place].take() {
                self.places[place] = Some((node.clone(), add(sum, &grad, create_graph)?));
            }
            return Ok(());
        }
        let entry = Some((node.clone(), grad));
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = entry;
                place
            }
            None => {
                self.places.push(entry);
                self.places.len() - 1
            }
        };
        self.by_id.insert(node.id, place);
        Ok(())
    }
}

fn no_history(message: String) -> Error {
    Error::from(ErrorKind::Gradient { op: "backward", message })
}

fn wrong_shape(node: &Node, input: &Node, grad: &Var) -> Error {
    Error::shapes(node.op, input.shape, grad.shape())
        .hint("its rule gave the second shape as the gradient of an input of the first")
}

/// Gradients of `output` with respect to any values it was computed from, leaves or not, in their order.
///
/// # Errors
/// If one of them did not take part.
///
/// ```
/// use gradus_autograd::{Backward, Var, grad};
/// use tensor::{Device, Tensor};
/// # fn main() -> tensor::Result<()> {
/// let x = Var::leaf(Tensor::from_slice(&[2f64], [1], &Device::cpu())?);
/// let y = x.square()?.mul(&x)?.sum_all()?;                                     // x³
/// let create = Backward { create_graph: true, ..Default::default() };
/// let dx = grad(&y, &[&x], &create)?.remove(0);                                // 3 x²
/// let ddx = grad(&dx.sum_all()?, &[&x], &Backward::default())?.remove(0);      // 6 x
/// assert_eq!((dx.item()?, ddx.item()?), (12., 12.));
/// # Ok(()) }
/// ```
pub fn grad(output: &Var, inputs: &[&Var], options: &Backward) -> Result<Vec<Var>> {
    let keep = inputs.iter().filter_map(|v| v.node()).map(|n| n.id).collect();
    let grads = output.walk_back(options, &keep)?;
    inputs.iter().map(|v| grads.get_var(v).cloned()).collect()
}

/// Gradients of `y` in `inputs`, in one step of a larger walk: it stops at the inputs, and keeps its history.
pub(crate) fn vjp(y: &Var, gradient: &Var, inputs: &[&Var]) -> Result<Vec<Option<Var>>> {
    let stop: HashSet<u64> = inputs.iter().filter_map(|v| v.node()).map(|n| n.id).collect();
    let Some(root) = y.node() else { return Ok(vec![None; inputs.len()]) };
    let walk = Walk { retain: true, create_graph: true, keep: &stop, stop: true };
    let grads = walk.run(root, gradient.clone())?;
    Ok(inputs.iter().map(|v| grads.find(v).cloned()).collect())
}
