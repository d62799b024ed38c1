//! State files: safetensors with PyTorch's names and layouts, and checkpoints.
//!
//! Reading is strict: either a file fits the model, or the model is left as it was and the error says all that does not
//! fit. Writing is atomic: the old file stays until the new one is complete.

mod archive;
mod checkpoint;
mod fit;
mod write;

pub use checkpoint::{TrainState, load_checkpoint, save_checkpoint};
pub use fit::{LoadOptions, Loaded};

use crate::{Buffer, Entry, Module, Param};
use archive::{Archive, serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tensor::{Device, Error, Result, Tensor};

/// Writes the parameters and buffers of a model to a safetensors file, which PyTorch reads.
///
/// The file appears complete or not at all: it is written to a temporary name in the same folder, synced and renamed.
///
/// ```
/// use gradus_nn::{Init, Linear, load, save};
/// # fn main() -> tensor::Result<()> {
/// let path = std::env::temp_dir().join(format!("gradus-doc-{}.safetensors", std::process::id()));
/// let (model, other) = (Linear::new(3, 2, &mut Init::new(1))?, Linear::new(3, 2, &mut Init::new(2))?);
/// save(&model, &path)?;
/// load(&other, &path)?;
/// assert_eq!(other.weight.value().to_vec::<f32>()?, model.weight.value().to_vec::<f32>()?);
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the file cannot be written.
pub fn save<M: Module + ?Sized>(model: &M, path: impl AsRef<Path>) -> Result<()> {
    save_tensors(&state_dict(model), path)
}

/// As [`save`], to memory.
pub fn save_to_bytes<M: Module + ?Sized>(model: &M) -> Result<Vec<u8>> {
    serialize(&state_dict(model))
}

/// Sets the parameters and buffers of a model from a safetensors file, such as one that PyTorch wrote.
///
/// # Errors
/// When the file cannot be read or is damaged, or when it does not fit: names that are missing or unexpected, shapes
/// and dtypes that differ. Nothing is changed then.
pub fn load<M: Module + ?Sized>(model: &M, path: impl AsRef<Path>) -> Result<()> {
    load_with(model, path, &LoadOptions::default()).map(|_| ())
}

/// As [`load`], with options.
pub fn load_with<M: Module + ?Sized>(
    model: &M,
    path: impl AsRef<Path>,
    options: &LoadOptions,
) -> Result<Loaded> {
    let path = path.as_ref();
    load_bytes(model, &write::read(path)?, path, options)
}

/// As [`load_with`], from memory.
pub fn load_from_bytes<M: Module + ?Sized>(model: &M, bytes: &[u8], options: &LoadOptions) -> Result<Loaded> {
    load_bytes(model, bytes, Path::new("bytes"), options)
}

fn load_bytes<M: Module + ?Sized>(
    model: &M,
    bytes: &[u8],
    path: &Path,
    options: &LoadOptions,
) -> Result<Loaded> {
    let archive = Archive::parse(bytes).map_err(|message| Error::file(path, message))?;
    let places = places(model);
    let (values, loaded) = fit::fit(&places, &archive, path, options)?;
    values.into_iter().try_for_each(|(place, value)| place.set(value))?;
    Ok(loaded)
}

/// Writes tensors to a safetensors file, as [`save`] does.
pub fn save_tensors(tensors: &BTreeMap<String, Tensor>, path: impl AsRef<Path>) -> Result<()> {
    write::replace(path.as_ref(), &serialize(tensors)?)
}

/// All tensors of a safetensors file.
///
/// # Errors
/// When the file cannot be read or is damaged, or holds a dtype or a shape that no tensor has.
pub fn load_tensors(path: impl AsRef<Path>, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    let path = path.as_ref();
    let bytes = write::read(path)?;
    tensors_of(&bytes, device).map_err(|message| Error::file(path, message))
}

/// As [`load_tensors`], from memory.
pub fn load_tensors_from_bytes(bytes: &[u8], device: &Device) -> Result<BTreeMap<String, Tensor>> {
    tensors_of(bytes, device).map_err(|message| Error::file("bytes", message))
}

fn tensors_of(bytes: &[u8], device: &Device) -> std::result::Result<BTreeMap<String, Tensor>, String> {
    let archive = Archive::parse(bytes)?;
    archive.names().map(|name| Ok((name.to_string(), archive.tensor(name, device)?))).collect()
}

/// The parameters and buffers of a model by name. A parameter that stands in several places is there once, under the
/// first name.
pub fn state_dict<M: Module + ?Sized>(model: &M) -> BTreeMap<String, Tensor> {
    places(model).into_iter().map(|mut place| (place.names.swap_remove(0), place.target.value())).collect()
}

/// Something that a file can set.
pub(crate) struct Place<'a> {
    /// Its name; more than one if it stands in several places.
    names: Vec<String>,
    target: Target<'a>,
}

pub(crate) enum Target<'a> {
    Param(&'a Param),
    Buffer(&'a Buffer),
}

impl Target<'_> {
    fn value(&self) -> Tensor {
        match self {
            Target::Param(param) => param.value(),
            Target::Buffer(buffer) => buffer.value(),
        }
    }
}

impl Place<'_> {
    fn set(&self, value: Tensor) -> Result<()> {
        match self.target {
            Target::Param(param) => param.set(value),
            Target::Buffer(buffer) => buffer.set(value),
        }
    }
}

/// All that a file of a model holds.
pub(crate) fn places<M: Module + ?Sized>(model: &M) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = vec![];
    model.for_each(&mut |name, entry| {
        let target = match entry {
            Entry::Param(param) => Target::Param(param),
            Entry::Buffer(buffer) => Target::Buffer(buffer),
            Entry::Mode(_) | Entry::Random(_) => return,
        };
        let same = |place: &&mut Place| match (&place.target, &target) {
            (Target::Param(a), Target::Param(b)) => a.is(b),
            _ => false,
        };
        match places.iter_mut().find(same) {
            Some(place) => place.names.push(name.to_string()),
            None => places.push(Place { names: vec![name.to_string()], target }),
        }
    });
    places
}
