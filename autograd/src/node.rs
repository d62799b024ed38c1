//! The recorded graph: one node per op or leaf.

use crate::var::{Backprop, Var};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tensor::{Result, Shape, Tensor};

/// Maps the gradient of an output to the gradients of the inputs, `None` where there is none to give.
pub(crate) type Rule = Box<dyn Fn(&Backprop<'_>) -> Result<Vec<Option<Var>>> + Send + Sync>;

/// How a node takes part in a backward pass.
pub(crate) enum State {
    /// Wants a gradient.
    Leaf,
    /// Can pass one on; holds the op's output if its rule needs it.
    Live { rule: Rule, output: Option<Tensor> },
    /// Has passed it on, and freed what it had saved.
    Spent,
}

/// What an input of an op was.
pub(crate) enum Edge {
    /// A value with a history.
    Node(Arc<Node>),
    /// A value that had one until an op cut it off.
    Severed(Arc<Severed>),
    /// A value without.
    Constant,
}

/// Where a history ends although a gradient was wanted: the op, and the leaves that lie behind it.
#[derive(Debug)]
pub(crate) struct Severed {
    pub(crate) op: &'static str,
    pub(crate) leaves: Vec<u64>,
}

/// One recorded op, or a leaf.
///
/// Ids grow with time, so an input's id is always below its consumers': walking ids downwards visits the graph in
/// reverse topological order without a sort or recursion.
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) op: &'static str,
    pub(crate) shape: Shape,
    pub(crate) edges: Vec<Edge>,
    state: Mutex<State>,
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
            if node.op == LEAF {
                leaves.push(node.id);
            }
            todo.extend(node.edges.iter().filter_map(|e| match e {
                Edge::Node(n) => Some(n.clone()),
                Edge::Severed(_) | Edge::Constant => None,
            }));
        }
        Arc::new(Severed { op, leaves })
    }
}

/// The op name of leaves.
pub(crate) const LEAF: &str = "leaf";

impl Node {
    pub(crate) fn new(op: &'static str, shape: Shape, edges: Vec<Edge>, state: State) -> Arc<Node> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Node { id, op, shape, edges, state: Mutex::new(state) })
    }

    pub(crate) fn leaf(shape: Shape) -> Arc<Node> {
        Node::new(LEAF, shape, vec![], State::Leaf)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A chain of a million steps must not free itself by a million nested calls.
impl Drop for Node {
    fn drop(&mut self) {
        let mut pending = vec![];
        take_apart(self, &mut pending);
        while let Some(node) = pending.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                take_apart(&mut node, &mut pending);
            }
        }
    }
}

/// Moves a node's inputs out before what it saved is dropped, so that nothing it holds is the last owner of another.
fn take_apart(node: &mut Node, pending: &mut Vec<Arc<Node>>) {
    pending.extend(node.edges.drain(..).filter_map(|e| match e {
        Edge::Node(n) => Some(n),
        Edge::Severed(_) | Edge::Constant => None,
    }));
    *node.state.get_mut().unwrap_or_else(PoisonError::into_inner) = State::Spent;
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
