//! The IDX format, in which MNIST and its successors are stored.
//!
//! Big-endian: two zero bytes, the element type, the rank, one 32-bit extent per dim, then the elements.

use super::TensorDataset;
use super::file::Source;
use std::io::Read;
use std::path::{Path, PathBuf};
use tensor::{DType, Device, Error, MAX_RANK, Result, Shape, Tensor};

/// The type of unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// Reads a tensor of bytes from an IDX file, gzipped or not.
///
/// # Errors
/// When the file cannot be read, is not IDX, or does not have the length that its header promises.
pub fn read_idx(path: impl AsRef<Path>, device: &Device) -> Result<Tensor> {
    let path = path.as_ref();
    parse(&mut Source::open(path)?, device)
}

/// As [`read_idx`], from any bytes; `name` stands for the path in errors.
///
/// ```
/// use gradus_nn::data::parse_idx;
/// use tensor::Device;
/// # fn main() -> tensor::Result<()> {
/// let bytes = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
/// assert_eq!(parse_idx(&bytes[..], "six", &Device::cpu())?.dims(), [2, 3]);
/// let error = parse_idx(&bytes[..17], "five", &Device::cpu()).unwrap_err();
/// assert_eq!(error.to_string(), "five: truncated: header promises 2x3 = 6 bytes, file has 5");
/// # Ok(()) }
/// ```
pub fn parse_idx(reader: impl Read, name: &str, device: &Device) -> Result<Tensor> {
    parse(&mut Source::new(Path::new(name), reader)?, device)
}

fn parse(source: &mut Source, device: &Device) -> Result<Tensor> {
    let head = source.up_to(4)?;
    let &[zero, zero_too, element, rank] = head.as_slice() else {
        let n = head.len();
        return Err(source.error(format!("truncated: an IDX file starts with 4 bytes, this one has {n}")));
    };
    if (zero, zero_too) != (0, 0) {
        return Err(
            source.error(format!("not an IDX file: starts with {head:02x?}, expected [00, 00, 08, …]"))
        );
    }
    if element != UNSIGNED_BYTE {
        return Err(source.error(format!("elements are of IDX type 0x{element:02x}, expected bytes, 0x08")));
    }
    let rank = rank as usize;
    if rank > MAX_RANK {
        return Err(source.error(format!("header promises {rank} dims, a tensor has at most {MAX_RANK}")));
    }
    let extents = source.up_to(4 * rank)?;
    if extents.len() < 4 * rank {
        let n = extents.len();
        return Err(source.error(format!("truncated: {rank} extents take {} bytes, file has {n}", 4 * rank)));
    }
    let dims: Vec<usize> =
        extents.chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let words = dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let shape = Shape::from(&dims);
    if shape.checked("read_idx").is_err() {
        return Err(source.error(format!("header promises {words} bytes, more than memory can address")));
    }
    let promised = shape.numel();
    let data = source.up_to(promised)?;
    if data.len() < promised {
        let n = data.len();
        return Err(
            source.error(format!("truncated: header promises {words} = {promised} bytes, file has {n}"))
        );
    }
    if !source.up_to(1)?.is_empty() {
        return Err(source.error(format!("bytes follow the {words} = {promised} that the header promises")));
    }
    Tensor::from_slice(&data, shape, device)
}

/// The two parts of MNIST, or of a set of the same format.
#[derive(Clone, Debug)]
pub struct Mnist {
    /// What to train on.
    pub train: TensorDataset,
    /// What to judge by.
    pub test: TensorDataset,
}

/// Reads the four files of MNIST, Fashion-MNIST, … in a folder: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`
/// and the same with `t10k`, each as it is or with `.gz`.
///
/// # Shapes
/// Inputs are `[n, 1, h, w]`, `float32` in `[0, 1]`; labels are `[n]`, `int64`.
///
/// # Errors
/// When a file is missing or bad, or the images and the labels are not equally many.
pub fn mnist_dir(path: impl AsRef<Path>, device: &Device) -> Result<Mnist> {
    let path = path.as_ref();
    Ok(Mnist { train: mnist_part(path, "train", device)?, test: mnist_part(path, "t10k", device)? })
}

/// One part of what [`mnist_dir`] reads: `train` or `t10k`.
///
/// # Errors
/// When a file is missing or bad, or the images and the labels are not equally many.
pub fn mnist_part(dir: &Path, part: &str, device: &Device) -> Result<TensorDataset> {
    let images_path = find(dir, &format!("{part}-images-idx3-ubyte"))?;
    let labels_path = find(dir, &format!("{part}-labels-idx1-ubyte"))?;
    let images = read_idx(&images_path, device)?;
    let labels = read_idx(&labels_path, device)?;
    if images.rank() != 3 {
        return Err(Error::file(
            images_path,
            format!("holds a tensor {}, expected images [n, h, w]", images.shape()),
        ));
    }
    if labels.dims() != [images.dims()[0]] {
        let message = format!(
            "holds labels {}, expected [{}]: one for each image in {}",
            labels.shape(),
            images.dims()[0],
            images_path.display()
        );
        return Err(Error::file(labels_path, message));
    }
    let inputs = images.unsqueeze(1)?.to_dtype(DType::F32)?.div_scalar(255.0)?;
    TensorDataset::new(inputs, labels.to_dtype(DType::I64)?)
}

/// The file of that name, or with `.gz`.
fn find(dir: &Path, name: &str) -> Result<PathBuf> {
    let candidates = [dir.join(name), dir.join(format!("{name}.gz"))];
    candidates
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::file(dir, format!("has neither {name} nor {name}.gz")))
}
