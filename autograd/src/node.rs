//! The recorded graph: one node per op or leaf.

use crate::var::{Backprop, Var};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tensor::{ErrorKind, Result, Shape, Tensor};

/// Where gradients go: what a value, and each input of an op, knows of its past.
#[derive(Clone, Default)]
pub(crate) enum History {
    /// Nowhere.
    #[default]
    Constant,
    /// Nowhere any more.
    Severed(Arc<Severed>),
    /// Back to a node.
    Node(Arc<Node>),
}

/// Where a history ends although a gradient was wanted: the op, and the leaves that lie behind it.
#[derive(Debug)]
pub(crate) struct Severed {
    pub(crate) op: &'static str,
    pub(crate) leaves: Vec<u64>,
}

/// How far back [`Severed::behind`] looks: enough to name the parameters of a layer, and cheap on a long history.
const SEVERED_WALK: usize = 64;

impl Severed {
    /// The cut of `op` through the history of `node`.
    pub(crate) fn behind(op: &'static str, node: &Arc<Node>) -> Arc<Severed> {
        let mut leaves = vec![];
        let mut todo = std::collections::VecDeque::from([node.clone()]);
        for _ in 0..SEVERED_WALK {
            let Some(node) = todo.pop_front() else { break };
            if node.is_leaf() {
                leaves.push(node.id);
            }
            todo.extend(node.edges.iter().filter_map(|e| match e {
                History::Node(n) => Some(n.clone()),
                History::Severed(_) | History::Constant => None,
            }));
        }
        Arc::new(Severed { op, leaves })
    }
}

/// The inputs of an op: most ops have one or two, which take no memory of their own.
#[derive(Default)]
pub(crate) struct Edges {
    count: usize,
    first: [History; 2],
    rest: Vec<History>,
}

impl Edges {
    /// The histories of `inputs`.
    pub(crate) fn of(inputs: &[&Var]) -> Edges {
        let history = |v: &Var| v.history.clone();
        let (first, rest) = match inputs {
            [] => ([History::Constant, History::Constant], vec![]),
            [a] => ([history(a), History::Constant], vec![]),
            [a, b] => ([history(a), history(b)], vec![]),
            [a, b, rest @ ..] => ([history(a), history(b)], rest.iter().map(|v| history(v)).collect()),
        };
        Edges { count: inputs.len(), first, rest }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &History> {
        self.first.iter().take(self.count).chain(&self.rest)
    }

    /// The one of input `i`, if there is such an input.
    pub(crate) fn get(&self, i: usize) -> Option<&History> {
        if i < 2 { self.first[..self.count.min(2)].get(i) } else { self.rest.get(i - 2) }
    }
}

/// What a node keeps for its rule: the closure, until it is forgotten.
pub(crate) trait Rule: Send + Sync {
    /// The gradients of the inputs, `None` where there is none to give; `None` altogether if the rule is forgotten.
    fn apply(&self, back: &Backprop<'_>) -> Option<Result<Vec<Option<Var>>>>;

    /// Drops the closure with all it holds.
    fn forget(&mut self);
}

impl<F: Fn(&Backprop<'_>) -> Result<Vec<Option<Var>>> + Send + Sync> Rule for Option<F> {
    fn apply(&self, back: &Backprop<'_>) -> Option<Result<Vec<Option<Var>>>> {
        self.as_ref().map(|rule| rule(back))
    }

    fn forget(&mut self) {
        *self = None;
    }
}

/// A leaf passes nothing on.
impl Rule for () {
    fn apply(&self, _: &Backprop<'_>) -> Option<Result<Vec<Option<Var>>>> {
        None
    }

    fn forget(&mut self) {}
}

/// One recorded op, or a leaf.
///
/// Ids grow with time, so an input's id is always below its consumers': walking ids downwards visits the graph in
/// reverse topological order without a sort or recursion.
pub(crate) struct Node<R: Rule + ?Sized = dyn Rule> {
    pub(crate) id: u64,
    pub(crate) op: &'static str,
    pub(crate) shape: Shape,
    pub(crate) edges: Edges,
    /// Whether a walk has used it up.
    spent: AtomicBool,
    /// In the node itself, so that recording an op takes one block of memory.
    saved: RwLock<Saved<R>>,
}

struct Saved<R: ?Sized> {
    /// The op's output if its rule needs it.
    output: Option<Tensor>,
    rule: R,
}

/// The op name of leaves.
const LEAF: &str = "leaf";

impl Node {
    /// An op with the rule that goes back through it, and its output if the rule needs it.
    pub(crate) fn of(
        op: &'static str,
        shape: Shape,
        edges: Edges,
        output: Option<Tensor>,
        rule: impl Fn(&Backprop<'_>) -> Result<Vec<Option<Var>>> + Send + Sync + 'static,
    ) -> Arc<Node> {
        let saved = RwLock::new(Saved { output, rule: Some(rule) });
        Arc::new(Node { id: next_id(), op, shape, edges, spent: AtomicBool::new(false), saved })
    }

    /// A value that wants a gradient.
    pub(crate) fn leaf(shape: Shape) -> Arc<Node> {
        let (edges, saved) = (Edges::default(), RwLock::new(Saved { output: None, rule: () }));
        Arc::new(Node { id: next_id(), op: LEAF, shape, edges, spent: AtomicBool::new(false), saved })
    }

    /// Whether it wants a gradient, and passes none on.
    pub(crate) fn is_leaf(&self) -> bool {
        // Every op has an input.
        self.edges.count == 0
    }

    /// Runs its rule on the gradient of its output; without `retain`, what it saved is freed for good.
    pub(crate) fn step(self: &Arc<Node>, grad: Var, retain: bool) -> Result<Vec<Option<Var>>> {
        let consumed = || ErrorKind::GraphConsumed.into();
        let apply = |saved: &Saved<dyn Rule>| {
            let back = Backprop { grad, node: self, output: saved.output.as_ref() };
            saved.rule.apply(&back).unwrap_or_else(|| Err(consumed()))
        };
        if retain {
            return apply(&self.saved.read().unwrap_or_else(PoisonError::into_inner));
        }
        // Marked before the lock is taken: a rule that walks its own graph again gets an error.
        if self.spent.swap(true, Ordering::Relaxed) {
            return Err(consumed());
        }
        let mut saved = self.saved.write().unwrap_or_else(PoisonError::into_inner);
        let grads = apply(&saved);
        saved.rule.forget();
        saved.output = None;
        grads
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<R: Rule + ?Sized> Node<R> {
    /// Drops what it saved, then its inputs; those that nobody else holds are left in `pending`.
    fn take_apart(&mut self, pending: &mut Vec<Arc<Node>>) {
        // In this order, so that nothing it saved is the last owner of an input.
        self.saved.get_mut().unwrap_or_else(PoisonError::into_inner).rule.forget();
        let mut take = |edge: &mut History| {
            if let History::Node(node) = std::mem::take(edge)
                && Arc::strong_count(&node) == 1
            {
                pending.push(node);
            }
        };
        self.edges.first.iter_mut().for_each(&mut take);
        self.edges.rest.iter_mut().for_each(take);
    }
}

/// A chain of a million steps must not free itself by a million nested calls.
impl<R: Rule + ?Sized> Drop for Node<R> {
    fn drop(&mut self) {
        let mut pending = vec![];
        self.take_apart(&mut pending);
        while let Some(mut node) = pending.pop() {
            if let Some(node) = Arc::get_mut(&mut node) {
                node.take_apart(&mut pending);
            }
        }
    }
}

thread_local!(static RECORDING: Cell<bool> = const { Cell::new(true) });

/// Whether ops on this thread record how to go back.
pub fn is_recording() -> bool {
    RECORDING.get()
}

/// Runs `f` without recording: what it computes has no gradient, and nothing is kept for one.
pub fn no_grad<T>(f: impl FnOnce() -> T) -> T {
    with_recording(false, f)
}

/// Runs `f` with recording on or off, and puts it back however `f` ends.
pub(crate) fn with_recording<T>(on: bool, f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(on));
    f()
}
