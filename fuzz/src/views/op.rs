//! The views: read from bytes, applied to a tensor, applied to the model.

use super::model::{Map, Model, Outcome, index, position};
use crate::bytes::Bytes;
use tensor::{Result, Tensor};

/// A view and its arguments, which may make no sense.
#[derive(Debug)]
pub(super) enum Op {
    Transpose(isize, isize),
    Permute(Vec<isize>),
    Movedim(isize, isize),
    Reshape(Vec<usize>),
    View(Vec<isize>),
    Flatten(isize, isize),
    Unflatten(isize, Vec<usize>),
    BroadcastTo(Vec<usize>),
    Expand(Vec<isize>),
    Squeeze(isize),
    SqueezeAll,
    Unsqueeze(isize),
    Narrow(isize, usize, usize),
    Slice(isize, Option<isize>, Option<isize>, usize),
    Select(isize, isize),
    Flip(Vec<isize>),
    /// One of the pieces.
    Split(usize, isize, usize),
    /// One of the pieces.
    Chunk(usize, isize, usize),
    Unfold(isize, usize, usize),
    /// Not compared: what it shows depends on the memory behind the view.
    AsStrided(Vec<usize>, Vec<isize>, usize),
    Copy,
}

impl Op {
    /// The op that the bytes say, for a tensor of `numel` elements.
    pub(super) fn read(b: &mut Bytes, numel: usize) -> Op {
        match b.below(22) {
            0 => Op::Transpose(b.signed(), b.signed()),
            1 => Op::Permute(b.list(Bytes::signed)),
            2 => Op::Movedim(b.signed(), b.signed()),
            3 => Op::Reshape(b.list(Bytes::size)),
            4 => Op::Reshape(b.factors(numel)),
            5 => Op::View(b.list(Bytes::signed)),
            6 => Op::Flatten(b.signed(), b.signed()),
            7 => Op::Unflatten(b.signed(), b.list(Bytes::size)),
            8 => Op::BroadcastTo(b.list(Bytes::size)),
            9 => Op::Expand(b.list(Bytes::signed)),
            10 => Op::Squeeze(b.signed()),
            11 => Op::SqueezeAll,
            12 => Op::Unsqueeze(b.signed()),
            13 => Op::Narrow(b.signed(), b.size(), b.size()),
            14 => {
                let mut bound = || (b.below(4) > 0).then(|| b.signed());
                let (start, end) = (bound(), bound());
                Op::Slice(b.signed(), start, end, b.size())
            }
            15 => Op::Select(b.signed(), b.signed()),
            16 => Op::Flip(b.list(Bytes::signed)),
            17 => Op::Split(b.size(), b.signed(), b.below(6)),
            18 => Op::Chunk(b.size(), b.signed(), b.below(6)),
            19 => Op::Unfold(b.signed(), b.size(), b.size()),
            20 => Op::AsStrided(b.list(Bytes::size), b.list(Bytes::signed), b.size()),
            _ => Op::Copy,
        }
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let piece = |pieces: Vec<Tensor>, which: usize| pieces[which % pieces.len()].clone();
        match self {
            &Op::Transpose(a, b) => x.transpose(a, b),
            Op::Permute(dims) => x.permute(dims),
            &Op::Movedim(from, to) => x.movedim(from, to),
            Op::Reshape(shape) => x.reshape(shape),
            Op::View(dims) => x.view(dims),
            &Op::Flatten(start, end) => x.flatten_range(start, end),
            Op::Unflatten(dim, sizes) => x.unflatten(*dim, sizes),
            Op::BroadcastTo(shape) => x.broadcast_to(shape),
            Op::Expand(dims) => x.expand(dims),
            &Op::Squeeze(dim) => x.squeeze(dim),
            Op::SqueezeAll => x.squeeze_all(),
            &Op::Unsqueeze(dim) => x.unsqueeze(dim),
            &Op::Narrow(dim, start, length) => x.narrow(dim, start, length),
            &Op::Slice(dim, start, end, step) => x.slice(dim, start, end, step),
            &Op::Select(dim, index) => x.select(dim, index),
            Op::Flip(dims) => x.flip(dims),
            &Op::Split(size, dim, which) => Ok(piece(x.split(size, dim)?, which)),
            &Op::Chunk(chunks, dim, which) => Ok(piece(x.chunk(chunks, dim)?, which)),
            &Op::Unfold(dim, size, step) => x.unfold(dim, size, step),
            Op::AsStrided(shape, strides, offset) => {
                let view = x.as_strided(shape, strides, *offset)?;
                // What it shows must be readable, whatever it is.
                if view.numel() < 1000 { view.copy() } else { Ok(view) }
            }
            Op::Copy => x.copy(),
        }
    }

    pub(super) fn apply_to_model(&self, model: &Model) -> Outcome {
        if let Op::AsStrided(..) = self {
            return Outcome::TooLarge;
        }
        match self.map(model.dims()) {
            Some((dims, map)) => model.gather(dims, map),
            None => Outcome::Refused,
        }
    }

    /// The shape of the view and where its elements come from, or `None` where the arguments make no sense.
    fn map(&self, dims: &[usize]) -> Option<(Vec<usize>, Map)> {
        let rank = dims.len();
        let same: Map = Box::new(<[usize]>::to_vec);
        Some(match self {
            &Op::Transpose(a, b) => {
                let mut order: Vec<usize> = (0..rank).collect();
                order.swap(resolve(a, rank)?, resolve(b, rank)?);
                permuted(dims, order)
            }
            Op::Permute(given) => {
                let order = given.iter().map(|&d| resolve(d, rank)).collect::<Option<Vec<_>>>()?;
                let each_once = (0..rank).all(|d| order.iter().filter(|&&o| o == d).count() == 1);
                (each_once && order.len() == rank).then(|| permuted(dims, order))?
            }
            &Op::Movedim(from, to) => {
                let mut order: Vec<usize> = (0..rank).collect();
                let moved = order.remove(resolve(from, rank)?);
                order.insert(resolve(to, rank)?, moved);
                permuted(dims, order)
            }
            Op::Reshape(shape) => reshaped(dims, shape.clone())?,
            Op::View(given) => {
                let known = product(given.iter().filter(|&&d| d != -1).map(|&d| usize::try_from(d).ok()))?;
                let open = given.iter().filter(|&&d| d == -1).count();
                let numel: usize = dims.iter().product();
                let rest = match open {
                    0 => 0,
                    1 if known > 0 && numel.is_multiple_of(known) => numel / known,
                    _ => return None,
                };
                reshaped(dims, given.iter().map(|&d| usize::try_from(d).unwrap_or(rest)).collect())?
            }
            Op::Flatten(..) if rank == 0 => reshaped(dims, vec![1])?,
            &Op::Flatten(start, end) => {
                let (start, end) = (resolve(start, rank)?, resolve(end, rank)?);
                let merged = dims.get(start..=end)?.iter().product();
                (start <= end).then(|| reshaped(dims, replaced(dims, start..end + 1, &[merged])))??
            }
            Op::Unflatten(dim, sizes) => {
                let at = resolve(*dim, rank)?;
                reshaped(dims, replaced(dims, at..at + 1, sizes))?
            }
            Op::BroadcastTo(shape) => broadcast(dims, shape.clone())?,
            Op::Expand(given) => {
                let new = given.len().checked_sub(rank)?;
                let extent = |(i, &d): (usize, &isize)| match d {
                    -1 => i.checked_sub(new).map(|i| dims[i]),
                    _ => usize::try_from(d).ok(),
                };
                broadcast(dims, given.iter().enumerate().map(extent).collect::<Option<Vec<_>>>()?)?
            }
            &Op::Squeeze(dim) => {
                let at = resolve(dim, rank)?;
                match dims[at] {
                    1 => reshaped(dims, replaced(dims, at..at + 1, &[]))?,
                    _ => (dims.to_vec(), same),
                }
            }
            Op::SqueezeAll => reshaped(dims, dims.iter().copied().filter(|&d| d != 1).collect())?,
            &Op::Unsqueeze(dim) => {
                let at = resolve(dim, rank + 1)?;
                reshaped(dims, replaced(dims, at..at, &[1]))?
            }
            &Op::Narrow(dim, start, length) => {
                let at = resolve(dim, rank)?;
                (start.checked_add(length)? <= dims[at]).then(|| strided(dims, at, start, length, 1))?
            }
            &Op::Slice(dim, start, end, step) => {
                let at = resolve(dim, rank)?;
                let size = dims[at] as i128;
                let clamp = |i: isize| (i as i128 + if i < 0 { size } else { 0 }).clamp(0, size) as usize;
                let (start, end) = (start.map_or(0, clamp), end.map_or(dims[at], clamp));
                (step > 0)
                    .then(|| strided(dims, at, start, end.saturating_sub(start).div_ceil(step), step))?
            }
            &Op::Select(dim, index) => {
                let at = resolve(dim, rank)?;
                let i = resolve(index, dims[at])?;
                let full = move |out: &[usize]| [&out[..at], &[i], &out[at..]].concat();
                (replaced(dims, at..at + 1, &[]), Box::new(full))
            }
            Op::Flip(given) => {
                let order = given.iter().map(|&d| resolve(d, rank)).collect::<Option<Vec<_>>>()?;
                if (0..rank).any(|d| order.iter().filter(|&&o| o == d).count() > 1) {
                    return None;
                }
                let extents = dims.to_vec();
                let flipped = move |out: &[usize]| {
                    let back =
                        |(d, &i): (usize, &usize)| if order.contains(&d) { extents[d] - 1 - i } else { i };
                    out.iter().enumerate().map(back).collect()
                };
                (dims.to_vec(), Box::new(flipped))
            }
            &Op::Split(size, dim, which) => {
                let at = resolve(dim, rank)?;
                (size > 0 || dims[at] == 0).then(|| piece(dims, at, size.max(1), which))?
            }
            &Op::Chunk(chunks, dim, which) => {
                let at = resolve(dim, rank)?;
                (chunks > 0).then(|| piece(dims, at, dims[at].div_ceil(chunks).max(1), which))?
            }
            &Op::Unfold(dim, size, step) => {
                let at = resolve(dim, rank)?;
                let windows = dims[at].checked_sub(size)?.checked_div(step)? + 1;
                let window = move |out: &[usize]| {
                    let (last, out) = out.split_last().expect("windows have a dim of their own");
                    let mut full = out.to_vec();
                    full[at] = out[at] * step + last;
                    full
                };
                ([&replaced(dims, at..at + 1, &[windows])[..], &[size]].concat(), Box::new(window))
            }
            Op::AsStrided(..) => return None,
            Op::Copy => (dims.to_vec(), same),
        })
    }
}

/// A dim, or a position, that counts from the end when negative.
fn resolve(i: isize, n: usize) -> Option<usize> {
    let at = i as i128 + if i < 0 { n as i128 } else { 0 };
    (0..n as i128).contains(&at).then_some(at as usize)
}

fn product(mut factors: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    factors.try_fold(1, |n: usize, d| Some(n.saturating_mul(d?)))
}

/// The extents with some of them replaced.
fn replaced(dims: &[usize], at: std::ops::Range<usize>, by: &[usize]) -> Vec<usize> {
    [&dims[..at.start], by, &dims[at.end..]].concat()
}

fn permuted(dims: &[usize], order: Vec<usize>) -> (Vec<usize>, Map) {
    let out = order.iter().map(|&d| dims[d]).collect();
    let map = move |out: &[usize]| {
        let mut full = vec![0; out.len()];
        order.iter().zip(out).for_each(|(&d, &i)| full[d] = i);
        full
    };
    (out, Box::new(map))
}

fn reshaped(dims: &[usize], shape: Vec<usize>) -> Option<(Vec<usize>, Map)> {
    let numel = match shape.contains(&0) {
        true => 0,
        false => product(shape.iter().map(|&d| Some(d)))?,
    };
    let (from, to) = (dims.to_vec(), shape.clone());
    let map = move |out: &[usize]| index(position(out, &to), &from);
    (numel == dims.iter().product::<usize>()).then(|| (shape, Box::new(map) as Map))
}

fn broadcast(dims: &[usize], shape: Vec<usize>) -> Option<(Vec<usize>, Map)> {
    let new = shape.len().checked_sub(dims.len())?;
    let fits = dims.iter().zip(&shape[new..]).all(|(&d, &s)| d == s || d == 1);
    let extents = dims.to_vec();
    let map = move |out: &[usize]| out[new..].iter().zip(&extents).map(|(&i, &d)| i.min(d - 1)).collect();
    fits.then(|| (shape, Box::new(map) as Map))
}

/// `length` elements of a dim, `step` apart.
fn strided(dims: &[usize], at: usize, start: usize, length: usize, step: usize) -> (Vec<usize>, Map) {
    let map = move |out: &[usize]| {
        let mut full = out.to_vec();
        full[at] = start + out[at] * step;
        full
    };
    (replaced(dims, at..at + 1, &[length]), Box::new(map))
}

/// One of the pieces of `size` along a dim; an empty dim is one piece.
fn piece(dims: &[usize], at: usize, size: usize, which: usize) -> (Vec<usize>, Map) {
    let start = which % dims[at].div_ceil(size).max(1) * size;
    strided(dims, at, start, size.min(dims[at] - start), 1)
}
