//! Printing, as NumPy does: aligned columns, `...` in the middle of large dims.

use super::Tensor;
use crate::{DType, Kind};
use std::fmt;

/// Tensors of more elements are abbreviated.
const THRESHOLD: usize = 1000;
/// How many elements are shown at both ends of an abbreviated dim.
const EDGE: usize = 3;

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.numel() > THRESHOLD;
        // Only what will be shown is fetched from the device.
        let Ok(shown) = (if short { edges(self) } else { Ok(self.clone()) }) else { return Err(fmt::Error) };
        let Ok(cells) = cells(&shown, f.precision()) else { return Err(fmt::Error) };
        let width = cells.iter().map(|c| c.len()).max().unwrap_or(0);
        let gaps: Vec<bool> = self.dims().iter().map(|&d| short && d > 2 * EDGE).collect();
        let mut out = String::new();
        write_dim(&mut out, shown.dims(), &gaps, &cells, width, 1);
        write!(f, "{out}")?;
        if self.numel() == 0 || self.dtype() != DType::F32 {
            write!(f, " ({} {})", self.dtype(), self.shape())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {})", self.dtype(), self.shape(), self.device())
    }
}

/// The tensor with the middle of long dims left out.
fn edges(x: &Tensor) -> crate::Result<Tensor> {
    (0..x.rank() as isize).try_fold(x.clone(), |x, d| {
        let n = x.size(d)?;
        match n > 2 * EDGE {
            true => Tensor::cat(&[x.narrow(d, 0, EDGE)?, x.narrow(d, n - EDGE, EDGE)?], d),
            false => Ok(x),
        }
    })
}

fn cells(x: &Tensor, precision: Option<usize>) -> crate::Result<Vec<String>> {
    match x.dtype().kind() {
        Kind::Bool => Ok(x.to_vec::<bool>()?.iter().map(|b| b.to_string()).collect()),
        Kind::Int => Ok(x.to_dtype(DType::I64)?.to_vec::<i64>()?.iter().map(|i| i.to_string()).collect()),
        Kind::Float => Ok(floats(&x.to_dtype(DType::F64)?.to_vec::<f64>()?, precision.unwrap_or(4))),
    }
}

/// One notation for all: integers with a dot, fixed point, or scientific where the magnitudes lie far apart.
fn floats(values: &[f64], precision: usize) -> Vec<String> {
    let finite = || values.iter().filter(|x| x.is_finite() && **x != 0.0).map(|x| x.abs());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(0.0, f64::max));
    let whole = values.iter().all(|x| !x.is_finite() || x.fract() == 0.0);
    let scientific = high >= 1e8 || (high > 0.0 && (low < 1e-4 || high / low > 1e3) && !whole);
    let cell = |&x: &f64| match x {
        x if x.is_nan() => "nan".to_string(),
        x if x.is_infinite() => if x > 0.0 { "inf" } else { "-inf" }.to_string(),
        x if scientific => format!("{x:.precision$e}"),
        x if whole => format!("{x:.0}."),
        x => format!("{x:.precision$}"),
    };
    values.iter().map(cell).collect()
}

fn write_dim(out: &mut String, dims: &[usize], gaps: &[bool], cells: &[String], width: usize, indent: usize) {
    let [d, inner @ ..] = dims else {
        out.push_str(cells.first().map_or("", |c| c.as_str()));
        return;
    };
    let step = cells.len() / d.max(&1);
    let separator = match inner.len() {
        0 => ", ".to_string(),
        deep => format!(",{}{}", "\n".repeat(deep), " ".repeat(indent)),
    };
    out.push('[');
    for i in 0..*d {
        if i > 0 {
            out.push_str(&separator);
        }
        if gaps[0] && i == EDGE {
            out.push_str("...");
            out.push_str(&separator);
        }
        match inner.len() {
            0 => out.push_str(&format!("{:>width$}", cells[i])),
            _ => write_dim(out, inner, &gaps[1..], &cells[i * step..(i + 1) * step], width, indent + 1),
        }
    }
    out.push(']');
}
