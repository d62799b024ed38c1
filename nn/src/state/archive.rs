//! The safetensors format: a JSON header that says where each tensor lies, then the bytes.
//!
//! The header is not trusted: lengths are compared without overflow before anything is sliced.

use safetensors::tensor::{Dtype, Metadata, View};
use std::borrow::Cow;
use std::collections::BTreeMap;
use tensor::{DType, Device, Error, Result, Shape, Tensor};

/// What goes wrong inside a file, without its name.
type Parsed<T> = std::result::Result<T, String>;

/// Length of the number in front of the header.
const PREFIX: usize = 8;
/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// A file whose header was found to be sound.
pub(super) struct Archive<'a> {
    names: Vec<String>,
    metadata: Metadata,
    data: &'a [u8],
}

impl<'a> Archive<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Parsed<Archive<'a>> {
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else {
            return Err(format!(
                "truncated: a safetensors file starts with 8 bytes, this one has {}",
                bytes.len()
            ));
        };
        let promised = u64::from_le_bytes(*prefix);
        if promised > MAX_HEADER {
            return Err(format!("not a safetensors file: its header would take {promised} bytes"));
        }
        let length = promised as usize;
        let Some((header, data)) = rest.split_at_checked(length) else {
            return Err(format!("truncated: the header takes {length} bytes, file has {}", rest.len()));
        };
        let metadata: Metadata = serde_json::from_slice(header)
            .map_err(|e| format!("corrupt header: {}", one_line(&e.to_string())))?;
        let described = metadata.data_len();
        match described.cmp(&data.len()) {
            std::cmp::Ordering::Equal => Ok(Archive { names: metadata.offset_keys(), metadata, data }),
            std::cmp::Ordering::Greater => Err(format!(
                "truncated: the header describes {described} bytes of tensors, file has {}",
                data.len()
            )),
            std::cmp::Ordering::Less => Err(format!(
                "corrupt: the header describes {described} bytes of tensors, file has {}",
                data.len()
            )),
        }
    }

    /// The names in the order of the data.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The part of it whose names satisfy `of`.
    pub(super) fn only(&self, of: impl Fn(&str) -> bool) -> Archive<'a> {
        let names = self.names.iter().filter(|name| of(name)).cloned().collect();
        Archive { names, metadata: self.metadata.clone(), data: self.data }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Shape and dtype of a tensor.
    pub(super) fn describe(&self, name: &str) -> Parsed<(Shape, DType)> {
        let info = self.metadata.info(name).ok_or_else(|| format!("has no {name}"))?;
        let shape = Shape::from(&info.shape);
        shape
            .checked("load")
            .map_err(|_| format!("{name} has shape {:?}, which no tensor has", info.shape))?;
        let dtype = dtype_of(info.dtype)
            .ok_or_else(|| format!("{name} is stored as {:?}, which no tensor has", info.dtype))?;
        Ok((shape, dtype))
    }

    pub(super) fn tensor(&self, name: &str, device: &Device) -> Parsed<Tensor> {
        let (shape, dtype) = self.describe(name)?;
        let info = self.metadata.info(name).ok_or_else(|| format!("has no {name}"))?;
        let (start, end) = info.data_offsets;
        let bytes = self.data.get(start..end).ok_or_else(|| format!("{name} lies outside the file"))?;
        Tensor::from_bytes(bytes, dtype, shape, device).map_err(|e| format!("{name}: {e}"))
    }
}

/// A message of a library, made fit for one line of ours.
fn one_line(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn dtype_of(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn stored_as(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I8 => Dtype::I8,
        DType::U8 => Dtype::U8,
        DType::U32 => Dtype::U32,
        DType::Bool => Dtype::BOOL,
    }
}

/// A tensor's bytes on their way to a file.
struct Bytes {
    dtype: Dtype,
    shape: Shape,
    bytes: Vec<u8>,
}

impl View for &Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.shape.dims()
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes of a file of these tensors. The same tensors give the same bytes.
pub(super) fn serialize(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let mut views = vec![];
    for (name, tensor) in tensors {
        let bytes = tensor.device().backend().download(tensor)?;
        views.push((name, Bytes { dtype: stored_as(tensor.dtype()), shape: tensor.shape(), bytes }));
    }
    // One entry alone: the order of several would differ from run to run.
    let metadata = [("format".to_string(), "pt".to_string())].into_iter().collect();
    safetensors::tensor::serialize(views.iter().map(|(name, view)| (name, view)), Some(metadata))
        .map_err(|e| Error::argument("save", e.to_string()))
}
