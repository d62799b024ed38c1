//! Convolution, pooling and layer norm.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, sizes};
use crate::format::Args;
use tensor::{Conv, Pool};

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "conv1d" => |i, a| i.x().conv1d(i.get("weight"), i.opt("bias"), &conv(a)?);
        "conv2d" => |i, a| i.x().conv2d(i.get("weight"), i.opt("bias"), &conv(a)?);
        "conv3d" => |i, a| i.x().conv3d(i.get("weight"), i.opt("bias"), &conv(a)?);
        "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d" => |i, a| {
            i.x().conv_transpose(i.get("weight"), i.opt("bias"), &conv(a)?, spatial(a, "output_padding")?)
        };
        "avg_pool1d" | "avg_pool2d" | "avg_pool3d" => |i, a| match a.get("divisor") {
            None => Ok(i.x().avg_pool(pool(a)?)?),
            Some(_) => Err(Failure::NotCovered("avg_pool divisor".into())),
        };
        "adaptive_avg_pool1d" | "adaptive_avg_pool2d" | "adaptive_avg_pool3d" => |i, a| {
            i.x().adaptive_avg_pool(spatial(a, "output_size")?)
        };
        "layer_norm" => |i, a| {
            i.x().layer_norm(&sizes(&a.ints("normalized_shape"))?, i.opt("weight"), i.opt("bias"), a.f64("eps"))
        };
    }
    .or(match name {
        "max_pool1d" | "max_pool2d" | "max_pool3d" => Some(max_pool),
        _ => None,
    })
}

fn max_pool(i: &Inputs, a: &Args) -> Answer {
    if i.x().rank() == a.ints("kernel").len() + 1 {
        return Err(Failure::NotCovered("max_pool without a batch".into()));
    }
    let (values, indices) = i.x().max_pool_with_indices(pool(a)?)?;
    Ok(if a.bool("return_indices") { vec![values, indices] } else { vec![values] })
}

/// One to three numbers, one for each spatial dim; the last stands for those that are not there.
fn spatial(args: &Args, key: &str) -> Result<[usize; 3], Failure> {
    let given = sizes(&args.ints(key))?;
    Ok(std::array::from_fn(|i| given[i.min(given.len() - 1)]))
}

fn conv(args: &Args) -> Result<Conv, Failure> {
    if args.opt_ints("padding").is_none() {
        return Err(Failure::NotCovered(format!("conv padding {}", args.str("padding"))));
    }
    let groups = usize::try_from(args.int("groups"))?;
    let conv = Conv::default().stride(spatial(args, "stride")?).padding(spatial(args, "padding")?);
    Ok(conv.dilation(spatial(args, "dilation")?).groups(groups))
}

fn pool(args: &Args) -> Result<Pool, Failure> {
    let pool = Pool::new(spatial(args, "kernel")?)
        .stride(spatial(args, "stride")?)
        .padding(spatial(args, "padding")?);
    let dilation = if args.get("dilation").is_some() { spatial(args, "dilation")? } else { [1; 3] };
    let include = args.get("count_include_pad").is_none() || args.bool("count_include_pad");
    Ok(pool.dilation(dilation).ceil_mode(args.bool("ceil_mode")).count_include_pad(include))
}
