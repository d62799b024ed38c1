//! What a graph holds, and for how long. One test alone: it reads the memory statistics of the whole process.

use gradus_autograd::{Backward, Var};
use tensor::{Device, Result, Tensor};

#[test]
fn a_walk_frees_what_the_graph_had_saved_as_it_goes() -> Result<()> {
    let cpu = Device::cpu();
    let live = || cpu.backend().memory_stats().live_bytes;
    let one = 4 << 20;
    let x = Var::leaf(Tensor::ones([one / 4], &cpu)?);
    let start = live();
    let y = x.exp()?.exp()?.exp()?.sum_all()?;
    assert_eq!((live() - start) / one, 3, "each op keeps its output");
    let retain = Backward { retain_graph: true, ..Default::default() };
    drop(y.backward_with(&retain)?);
    assert_eq!((live() - start) / one, 3, "what is retained is kept");
    let gradients = y.backward()?;
    assert_eq!((live() - start) / one, 1, "the gradient alone is left");
    drop((y, gradients));
    assert_eq!((live() - start) / one, 0);
    Ok(())
}
