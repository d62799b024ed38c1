//! Checkpoints: all that a training run depends on, in one file.

use super::archive::{Archive, serialize};
use super::{LoadOptions, fit, places, state_dict, write};
use crate::Module;
use crate::data::LoaderState;
use crate::optim::Optimizer;
use std::collections::BTreeMap;
use std::path::Path;
use tensor::{Device, Error, Generator, Result, Tensor};

/// Where a training run stands, besides the model and the optimizer.
#[derive(Clone, Debug, Default)]
pub struct TrainState {
    /// The epoch.
    pub epoch: u64,
    /// Steps made in all.
    pub step: u64,
    /// The position of the loader.
    pub loader: LoaderState,
    /// Tensors of one's own: the best accuracy so far, a hidden state that is carried on, ….
    pub extra: BTreeMap<String, Tensor>,
}

const MODEL: &str = "model.";
const OPTIMIZER: &str = "optimizer.";
const EXTRA: &str = "extra.";
/// Seed and offset of each of the model's random streams.
const RANDOM: &str = "random.";
/// Epoch, step, the loader's epoch and batch, the global generator's seed and offset.
const POSITION: &str = "position";
const POSITIONS: usize = 6;

/// Writes model with its random streams, optimizer, position and the global generator to one safetensors file, which appears complete or not at
/// all. A run that goes on from it ends in the same bytes as one that was never interrupted.
///
/// # Errors
/// When the file cannot be written.
pub fn save_checkpoint<M: Module + ?Sized>(
    path: impl AsRef<Path>,
    model: &M,
    optimizer: &dyn Optimizer,
    state: &TrainState,
) -> Result<()> {
    let prefixed = |prefix: &'static str, tensors: BTreeMap<String, Tensor>| {
        tensors.into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
    };
    let mut tensors: BTreeMap<String, Tensor> = prefixed(MODEL, state_dict(model)).collect();
    tensors.extend(prefixed(OPTIMIZER, optimizer.state()?));
    tensors.extend(prefixed(EXTRA, state.extra.clone()));
    for (name, random) in model.randoms() {
        tensors.insert(format!("{RANDOM}{name}"), stream(&random.generator())?);
    }
    let (seed, offset) = {
        let generator = Generator::global();
        (generator.seed(), generator.offset())
    };
    let position: [u64; POSITIONS] =
        [state.epoch, state.step, state.loader.epoch, state.loader.batch, seed, offset];
    // Bits are kept: int64 is the widest integer of the format that tensors have.
    let position = Tensor::from_slice(&position.map(|x| x as i64), [POSITIONS], &Device::cpu())?;
    tensors.insert(POSITION.to_string(), position);
    write::replace(path.as_ref(), &serialize(&tensors)?)
}

/// Sets model, optimizer and the global generator to what [`save_checkpoint`] wrote; returns where the run stood.
///
/// # Errors
/// When the file cannot be read, is damaged, or is of another model or optimizer. Nothing is changed then.
pub fn load_checkpoint<M: Module + ?Sized>(
    path: impl AsRef<Path>,
    model: &M,
    optimizer: &mut dyn Optimizer,
) -> Result<TrainState> {
    let path = path.as_ref();
    let bytes = write::read(path)?;
    let archive = Archive::parse(&bytes).map_err(|message| Error::file(path, message))?;
    let cpu = Device::cpu();
    let part = |prefix: &str| -> Result<BTreeMap<String, Tensor>> {
        let names = archive.names().filter_map(|n| Some((n.strip_prefix(prefix)?.to_string(), n)));
        names
            .map(|(short, n)| Ok((short, archive.tensor(n, &cpu).map_err(|m| Error::file(path, m))?)))
            .collect()
    };
    if !archive.has(POSITION) {
        return Err(Error::file(path, "is not a checkpoint: it has no position"));
    }
    let position = archive.tensor(POSITION, &cpu).map_err(|m| Error::file(path, m))?;
    let position = position.to_vec::<i64>().ok().and_then(|p| <[i64; POSITIONS]>::try_from(p).ok());
    let [epoch, step, loader_epoch, batch, seed, offset] = position
        .ok_or_else(|| Error::file(path, "is not a checkpoint: its position is malformed"))?
        .map(|x| x as u64);
    let options = LoadOptions {
        strict: true,
        cast: false,
        rename: Some(Box::new(|name| name.strip_prefix(MODEL).unwrap_or(name).to_string())),
    };
    let model_archive = archive.only(|name| name.starts_with(MODEL));
    let places = places(model);
    let (values, _) = fit::fit(&places, &model_archive, path, &options)?;
    let (extra, randoms) = (part(EXTRA)?, part(RANDOM)?);
    let mut streams = vec![];
    for (name, random) in model.randoms() {
        let stored = randoms.get(&name).and_then(|t| t.to_vec::<i64>().ok());
        let Some(&[seed, offset]) = stored.as_deref() else {
            return Err(Error::file(path, format!("has no random stream for {name}")));
        };
        streams.push((random, Generator::resume(seed as u64, offset as u64)));
    }
    optimizer.load_state(&part(OPTIMIZER)?).map_err(|e| Error::file(path, e))?;
    values.into_iter().try_for_each(|(place, value)| place.set(value))?;
    streams.into_iter().for_each(|(random, stream)| *random.generator() = stream);
    *Generator::global() = Generator::resume(seed, offset);
    Ok(TrainState { epoch, step, loader: LoaderState { epoch: loader_epoch, batch }, extra })
}

/// Seed and offset, as the bits of `int64`.
fn stream(generator: &Generator) -> Result<Tensor> {
    Tensor::from_slice(&[generator.seed() as i64, generator.offset() as i64], [2], &Device::cpu())
}
