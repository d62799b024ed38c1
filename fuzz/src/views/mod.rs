//! Sequences of views on small tensors, each compared with the same view of a plain vector.

mod model;
mod op;

use crate::bytes::Bytes;
use model::{Model, Outcome};
use op::Op;
use tensor::{Device, Tensor};

/// The longest sequence of views.
const MAX_OPS: usize = 24;

/// Makes a tensor of up to four dims and applies view after view with whatever arguments the bytes give.
///
/// No argument makes an op panic. A view exists exactly where the model has one, it has the model's shape and elements,
/// and kernels that walk it see the same elements.
pub fn views(bytes: &[u8]) {
    let mut bytes = Bytes::new(bytes);
    let dims: Vec<usize> = (0..bytes.below(5)).map(|_| bytes.below(6)).collect();
    let mut model = Model::counting(dims);
    let mut tensor = Tensor::from_slice(model.data(), model.dims(), &Device::cpu())
        .expect("as many elements as the shape");
    let mut history = vec![];
    for _ in 0..MAX_OPS {
        if bytes.is_empty() {
            break;
        }
        let op = Op::read(&mut bytes, model.data().len());
        history.push(format!("{op:?}"));
        let describe = || format!("after {} of shape {:?}", history.join(", "), tensor.dims());
        match (op.apply(&tensor), op.apply_to_model(&model)) {
            (Ok(view), Outcome::View(expected)) => {
                assert_eq!(view.dims(), expected.dims(), "{}", describe());
                compare(&view, &expected, &describe);
                (tensor, model) = (view, expected);
            }
            (Err(error), Outcome::View(_)) => panic!("{error} {}", describe()),
            (Ok(view), Outcome::Refused) => panic!("shape {:?} was allowed {}", view.dims(), describe()),
            (Err(_), Outcome::Refused) | (_, Outcome::TooLarge) => {}
        }
    }
}

/// Compares elements, as read, as added up in pairs, and as a copy.
fn compare(view: &Tensor, expected: &Model, describe: &dyn Fn() -> String) {
    let read = |tensor: tensor::Result<Tensor>| {
        tensor.and_then(|t| t.to_vec::<f32>()).unwrap_or_else(|error| panic!("{error} {}", describe()))
    };
    assert_eq!(read(Ok(view.clone())), expected.data(), "elements {}", describe());
    assert_eq!(read(view.contiguous()), expected.data(), "contiguous {}", describe());
    let doubled: Vec<f32> = expected.data().iter().map(|x| x + x).collect();
    assert_eq!(read(view.add(view)), doubled, "add {}", describe());
    let sum: f32 = expected.data().iter().sum();
    // Exact: a few thousand small integers.
    assert_eq!(read(view.sum_all()), [sum], "sum {}", describe());
}
