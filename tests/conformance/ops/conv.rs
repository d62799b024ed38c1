//! Convolution and pooling.

use super::elementwise::ops;
use super::{Answer, Failure, Inputs, Op, Value, sizes};
use crate::format::Args;
use gradus::tensor::{Conv, Pool};

pub(super) fn lookup(name: &str) -> Option<Op> {
    ops! { name;
        "conv1d" => |i, a| padded(i, a)?.conv1d(i.get("weight"), i.opt("bias"), &conv(a)?);
        "conv2d" => |i, a| padded(i, a)?.conv2d(i.get("weight"), i.opt("bias"), &conv(a)?);
        "conv3d" => |i, a| padded(i, a)?.conv3d(i.get("weight"), i.opt("bias"), &conv(a)?);
        "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d" => |i, a| {
            i.x().conv_transpose(i.get("weight"), i.opt("bias"), &conv(a)?, spatial(a, "output_padding")?)
        };
        "avg_pool1d" | "avg_pool2d" | "avg_pool3d" => |i, a| match a.ints("kernel").len() {
            2 => Ok(i.x().avg_pool2d(pool(a)?)?),
            dims => planes(i.x(), dims, |x| Ok(x.avg_pool(pool(a)?)?)),
        };
        "adaptive_max_pool1d" => |i, a| i.x().adaptive_max_pool1d(spatial(a, "output_size")?[0]);
        "adaptive_max_pool2d" => |i, a| i.x().adaptive_max_pool2d(spatial(a, "output_size")?);
        "adaptive_avg_pool2d" => |i, a| i.x().adaptive_avg_pool2d(spatial(a, "output_size")?);
        "adaptive_avg_pool1d" | "adaptive_avg_pool3d" => |i, a| {
            let dims = a.ints("output_size").len();
            planes(i.x(), dims, |x| Ok(x.adaptive_avg_pool(spatial(a, "output_size")?)?))
        };
    }
    .or(match name {
        "max_pool1d" | "max_pool2d" | "max_pool3d" => Some(max_pool),
        _ => None,
    })
}

/// An op of `[n, c, spatial…]` on `[c, spatial…]` too. What the library names for images takes both by itself.
fn planes(
    x: &Value,
    dims: usize,
    op: impl FnOnce(&Value) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    match x.rank() == dims + 1 {
        true => Ok(op(&x.unsqueeze(0)?)?.squeeze(0)?),
        false => op(x),
    }
}

fn max_pool(i: &Inputs, a: &Args) -> Answer {
    let dims = a.ints("kernel").len();
    if dims == 2 && !a.bool("return_indices") {
        return Ok(vec![i.x().max_pool2d(pool(a)?)?]);
    }
    let mut indices = None;
    let values = planes(i.x(), dims, |x| {
        let (values, picks) = x.max_pool_with_indices(pool(a)?)?;
        indices = Some(if x.rank() == i.x().rank() { picks } else { picks.squeeze(0)? });
        Ok(values)
    })?;
    let indices = indices.filter(|_| a.bool("return_indices")).map(Value::from);
    Ok([values].into_iter().chain(indices).collect())
}

/// One to three numbers, one for each spatial dim; the last stands for those that are not there.
fn spatial(args: &Args, key: &str) -> Result<[usize; 3], Failure> {
    let given = sizes(&args.ints(key))?;
    Ok(std::array::from_fn(|i| given[i.min(given.len() - 1)]))
}

/// The input, with the zeros that the padding `same` puts around it: one more behind than before where they are odd.
fn padded(i: &Inputs, a: &Args) -> Result<Value, Failure> {
    if a.get("padding").is_none_or(|padding| padding != "same") {
        return Ok(i.x().clone());
    }
    if a.ints("stride").iter().any(|&stride| stride != 1) {
        return Err(Failure::Unsayable);
    }
    let (kernel, dilation) = (&i.get("weight").dims()[2..], spatial(a, "dilation")?);
    let zeros = |d: usize| (dilation[d] * kernel[d].saturating_sub(1)) as isize;
    let pads = (0..kernel.len()).rev().flat_map(|d| [zeros(d) / 2, zeros(d) - zeros(d) / 2]);
    Ok(i.x().pad(&pads.collect::<Vec<_>>(), 0)?)
}

fn conv(args: &Args) -> Result<Conv, Failure> {
    let groups = usize::try_from(args.int("groups"))?;
    let named = args.opt_ints("padding").is_none();
    let padding = if named { [0; 3] } else { spatial(args, "padding")? };
    let conv = Conv::default().stride(spatial(args, "stride")?).padding(padding);
    Ok(conv.dilation(spatial(args, "dilation")?).groups(groups))
}

fn pool(args: &Args) -> Result<Pool, Failure> {
    let pool = Pool::new(spatial(args, "kernel")?)
        .stride(spatial(args, "stride")?)
        .padding(spatial(args, "padding")?);
    let dilation = if args.get("dilation").is_some() { spatial(args, "dilation")? } else { [1; 3] };
    let include = args.get("count_include_pad").is_none() || args.bool("count_include_pad");
    let pool = pool.dilation(dilation).ceil_mode(args.bool("ceil_mode")).count_include_pad(include);
    Ok(match args.get("divisor") {
        Some(_) => pool.divisor_override(usize::try_from(args.int("divisor"))?),
        None => pool,
    })
}
