//! Layers and their gradients, each by itself: softmax, losses, norms, convolutions, pooling.

use super::{Numbers, Run, one, three, two};
use gradus::tensor::{CrossEntropy, Reduction};
use gradus::{Result, Tensor};

/// The layer `name`, or `None` if it is not one of these.
pub(super) fn prepare(name: &str, x: &[Tensor], n: &Numbers) -> Result<Option<Run>> {
    let (x, dim) = (x.to_vec(), n.dim(0));
    let run: Run = match name {
        // dim
        "softmax" => Box::new(move || one(x[0].softmax(dim))),
        "log_softmax" => Box::new(move || one(x[0].log_softmax(dim))),
        "softmax_backward" => Box::new(move || one(x[0].softmax_backward(&x[1], dim, false))),
        "cross_entropy" => Box::new(move || {
            let options = CrossEntropy {
                weight: None,
                ignore_index: -100,
                label_smoothing: 0.0,
                reduction: Reduction::Mean,
            };
            let (loss, gradient) = x[0].cross_entropy(&x[1], &options, true)?;
            Ok([Some(loss), gradient].into_iter().flatten().collect())
        }),
        "layer_norm" => Box::new(move || one(x[0].layer_norm(x[1].dims(), Some(&x[1]), Some(&x[2]), 1e-5))),
        "rms_norm" => Box::new(move || one(x[0].rms_norm(x[1].dims(), Some(&x[1]), 1e-5))),
        // The gradient, the input, its mean and rstd, the weight.
        "layer_norm_backward" => {
            let dims = x[4].rank();
            Box::new(move || three(x[0].layer_norm_backward(&x[1], &x[2], &x[3], Some(&x[4]), dims)))
        }
        // The gradient, the input, its rstd, the weight.
        "rms_norm_backward" => {
            let dims = x[3].rank();
            Box::new(move || two(x[0].rms_norm_backward(&x[1], &x[2], Some(&x[3]), dims)))
        }
        "batch_norm" => {
            Box::new(move || one(x[0].batch_norm_training(Some(&x[1]), Some(&x[2]), 1e-5).map(|(y, ..)| y)))
        }
        "batch_norm_backward" => {
            Box::new(move || three(x[0].batch_norm_backward(&x[1], &x[2], &x[3], Some(&x[4]), true)))
        }
        // groups
        "group_norm" => {
            let groups = n.size(0);
            Box::new(move || one(x[0].group_norm(groups, Some(&x[1]), Some(&x[2]), 1e-5)))
        }
        "group_norm_backward" => {
            Box::new(move || three(x[0].group_norm_backward(&x[1], &x[2], &x[3], Some(&x[4]))))
        }
        // stride, padding, dilation, groups
        "conv" => {
            let conv = n.conv(0);
            Box::new(move || one(x[0].conv(&x[1], x.get(2), &conv)))
        }
        // ..., shape of the input
        "conv_grad_input" => {
            let (conv, shape) = (n.conv(0), n.shape(4));
            Box::new(move || one(x[0].conv_grad_input(&x[1], shape, &conv)))
        }
        // ..., shape of the weight
        "conv_grad_weight" => {
            let (conv, shape) = (n.conv(0), n.shape(4));
            Box::new(move || one(x[0].conv_grad_weight(&x[1], shape, &conv)))
        }
        // side of the window, stride, padding
        "max_pool" => {
            let pool = n.pool(0);
            Box::new(move || one(x[0].max_pool(pool)))
        }
        "avg_pool" => {
            let pool = n.pool(0);
            Box::new(move || one(x[0].avg_pool(pool)))
        }
        // The gradient of the largest elements of the input, which is there for where they stand.
        "max_pool_backward" => {
            let (_, places) = x[1].max_pool_places(n.pool(0))?;
            Box::new(move || one(places.backward(&x[0])))
        }
        "avg_pool_backward" => {
            let (pool, input) = (n.pool(0), x[1].shape());
            Box::new(move || one(x[0].avg_pool_backward(input, pool)))
        }
        // side of the result
        "adaptive_avg_pool" => {
            let side = n.size(0);
            Box::new(move || one(x[0].adaptive_avg_pool2d(side)))
        }
        _ => return Ok(None),
    };
    Ok(Some(run))
}
