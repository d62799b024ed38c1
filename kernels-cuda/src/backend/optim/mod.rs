//! Optimizer steps of all parameters in one launch, in place where nobody else sees the state, and the norms that clip gradients.

mod table;

use tensor::backend::{AdamStep, AdamUpdate, SgdStep, SgdUpdate};
use tensor::{DType, Result, Tensor, composed};

use self::table::Row;
pub(crate) use self::table::Table;
use super::copy::copy;
use super::names::short;
use super::storage::{New, at, changes};
use crate::capture::Number;
use crate::gpu::Gpu;
use crate::launch::{self, Pointer};

/// A row-major tensor that nobody else sees: the same, or a copy, which a captured step must not make: each replay would begin with what
/// was there at the capture.
fn own(gpu: &'static Gpu, x: &mut Tensor) -> Result<Option<Tensor>> {
    if x.layout().is_contiguous() && x.storage_mut().is_some() {
        changes(x);
        return Ok(None);
    }
    gpu.not_captured("a step of an optimizer for a parameter or state that another tensor shares")?;
    copy(gpu, x, x.dtype()).map(Some)
}

/// Whether there are kernels for parameters of this dtype. State of 16 bits is rounded in each of the steps of which the composed form is
/// made, and what underflows there decides how far a parameter goes: so it is that form that is computed, which makes new tensors.
fn is_wide(gpu: &'static Gpu, param: &Tensor) -> Result<bool> {
    let wide = matches!(param.dtype(), DType::F32 | DType::F64);
    if !wide {
        gpu.not_captured("a step of an optimizer for parameters of 16 bits")?;
    }
    Ok(wide)
}

/// What a step works on: the tensors that change, copied where they must not, and the gradient.
struct Place<const N: usize> {
    new: [Option<Tensor>; N],
    at: [Pointer; N],
    grad: Tensor,
}

impl<const N: usize> Place<N> {
    fn of(gpu: &'static Gpu, state: [&mut Tensor; N], grad: &Tensor) -> Result<Place<N>> {
        let grad = grad.to_dtype(state[0].dtype())?.contiguous()?;
        let (mut new, mut places) = ([const { None }; N], [Pointer::NONE; N]);
        for (i, x) in state.into_iter().enumerate() {
            new[i] = own(gpu, x)?;
            places[i] = at(new[i].as_ref().unwrap_or(x));
        }
        Ok(Place { new, at: places, grad })
    }

    /// With the gradient behind the tensors that change.
    fn row<const M: usize>(&self) -> Row<M> {
        let place = |i: usize| self.at.get(i).copied().unwrap_or(at(&self.grad));
        Row { at: std::array::from_fn(place), elements: self.grad.numel() }
    }

    /// Puts the copies in the place of the tensors.
    fn settle(self, state: [&mut Tensor; N]) {
        for (old, new) in state.into_iter().zip(self.new) {
            if let Some(new) = new {
                *old = new;
            }
        }
    }
}

/// The factor that clips, in the dtype of the parameters.
fn factor(clip: Option<&Tensor>, dtype: DType) -> Result<Option<Tensor>> {
    clip.map(|clip| clip.to_dtype(dtype)).transpose()
}

pub(super) fn sgd_step(
    gpu: &'static Gpu,
    step: &SgdStep,
    clip: Option<&Tensor>,
    updates: &mut [SgdUpdate],
) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    if !is_wide(gpu, first.param)? {
        return composed::sgd_step(step, clip, updates);
    }
    let dtype = first.param.dtype();
    let factor = factor(clip, dtype)?;
    let clip = factor.as_ref().map_or(Pointer::NONE, at);
    let SgdStep { lr, weight_decay: decay, grad_scale: scale, .. } = *step;
    // All memory is there before anything changes.
    let (mut plain, mut moving) = (vec![], vec![]);
    for SgdUpdate { param, grad, momentum } in &mut *updates {
        match momentum {
            Some(momentum) => moving.push(Place::of(gpu, [param, momentum], grad)?),
            None => plain.push(Place::of(gpu, [param], grad)?),
        }
    }
    let rows: Vec<Row<2>> = plain.iter().map(Place::row).collect();
    let kernel = format!("sgd_{}", short(dtype));
    for table in Table::of(&rows) {
        if let Some(launch) = table.launch() {
            launch::sgd(gpu, &kernel, launch, table, clip, lr, decay, scale)?;
        }
    }
    let rows: Vec<Row<3>> = moving.iter().map(Place::row).collect();
    let kernel = format!("momentum_{}", short(dtype));
    let (share, first, nesterov) = (1.0 - step.dampening, u32::from(step.first), u32::from(step.nesterov));
    for table in Table::of(&rows) {
        if let Some(launch) = table.launch() {
            let momentum = step.momentum;
            launch::momentum(
                gpu, &kernel, launch, table, clip, lr, decay, scale, momentum, share, first, nesterov,
            )?;
        }
    }
    let (mut plain, mut moving) = (plain.into_iter(), moving.into_iter());
    for SgdUpdate { param, momentum, .. } in updates {
        match momentum {
            Some(momentum) => {
                if let Some(place) = moving.next() {
                    place.settle([param, momentum]);
                }
            }
            None => {
                if let Some(place) = plain.next() {
                    place.settle([param]);
                }
            }
        }
    }
    Ok(())
}

pub(super) fn adam_step(
    gpu: &'static Gpu,
    step: &AdamStep,
    clip: Option<&Tensor>,
    updates: &mut [AdamUpdate],
) -> Result<()> {
    let Some(first) = updates.first() else { return Ok(()) };
    if !is_wide(gpu, first.param)? {
        return composed::adam_step(step, clip, updates);
    }
    let dtype = first.param.dtype();
    let factor = factor(clip, dtype)?;
    let clip = factor.as_ref().map_or(Pointer::NONE, at);
    // All memory is there before anything changes.
    let mut places = vec![];
    for AdamUpdate { param, grad, mean, square } in &mut *updates {
        places.push(Place::of(gpu, [param, mean, square], grad)?);
    }
    // Of the step that is `later` steps after this one.
    let AdamStep { lr, beta1, beta2, step: number, .. } = *step;
    let correction = move |beta: f64, later: u64| 1.0 - beta.powf((number + later) as f64);
    let root = move |later| correction(beta2, later).sqrt();
    let rate = move |later| lr / correction(beta1, later);
    let corrections = gpu.slots([Number::Of(Box::new(root)), Number::Of(Box::new(rate))])?;
    let decay = if step.decoupled { 0.0 } else { step.weight_decay };
    let shrunk = if step.decoupled { 1.0 - lr * step.weight_decay } else { 1.0 };
    let rows: Vec<Row<4>> = places.iter().map(Place::row).collect();
    let kernel = format!("adam_{}", short(dtype));
    for table in Table::of(&rows) {
        let Some(launch) = table.launch() else { continue };
        launch::adam(
            gpu,
            &kernel,
            launch,
            table,
            clip,
            step.grad_scale,
            decay,
            shrunk,
            beta1,
            beta2,
            root(0),
            step.eps,
            rate(0),
            corrections.unwrap_or(Pointer::NONE),
        )?;
    }
    for (place, update) in places.into_iter().zip(updates) {
        place.settle([update.param, update.mean, update.square]);
    }
    Ok(())
}

/// The 2-norm of each of tensors of one dtype.
pub(super) fn norms(gpu: &'static Gpu, tensors: &[&Tensor]) -> Result<Tensor> {
    let Some(first) = tensors.first() else { return composed::norms(tensors) };
    let (dtype, wide) = (first.dtype(), first.dtype().accumulator());
    let tensors = tensors.iter().map(|x| x.contiguous()).collect::<Result<Vec<_>>>()?;
    let rows: Vec<Row<1>> = tensors.iter().map(|x| Row { at: [at(x)], elements: x.numel() }).collect();
    let y = New::contiguous(gpu, [rows.len()], wide)?;
    let (of_chunks, of_tensors) = (format!("squares_{}", short(dtype)), format!("norms_{}", short(wide)));
    let mut done = 0;
    for table in Table::of(&rows) {
        let sums = New::contiguous(gpu, [table.chunks()], wide)?;
        if let Some(launch) = table.launch() {
            launch::squares(gpu, &of_chunks, launch, table, sums.at())?;
        }
        let to = Pointer(y.at().0 + (done * wide.size()) as u64);
        launch::norms(gpu, &of_tensors, table.launch_of_entries(), table, to, sums.at())?;
        done += table.count();
    }
    y.tensor()
}
