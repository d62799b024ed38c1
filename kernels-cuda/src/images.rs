//! The compiled kernels: those that this build carries, none if it found no nvcc; or those of a folder.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::CudaError;

/// The bytes of a file, aligned as the driver wants an image.
#[allow(unused_macros, reason = "a build without nvcc has no images")]
macro_rules! aligned {
    ($path:expr) => {{
        #[repr(C, align(64))]
        struct Aligned<T: ?Sized>(T);
        static IMAGE: &Aligned<[u8]> = &Aligned(*include_bytes!($path));
        &IMAGE.0
    }};
}

include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// The variable that names a folder of kernels.
pub(crate) const FOLDER: &str = "GRADUS_CUDA_KERNELS";

/// What is loaded into a GPU: all cubins and fatbins of the folder that [`FOLDER`] names, if it does, else what was built in.
///
/// # Errors
///
/// [`CudaError::KernelsUnreadable`] if the folder has none, or they cannot be read.
pub(crate) fn images() -> Result<Vec<Cow<'static, [u8]>>, CudaError> {
    let Some(folder) = env::var_os(FOLDER).filter(|folder| !folder.is_empty()).map(PathBuf::from) else {
        return Ok(IMAGES.iter().map(|&(_, image)| Cow::Borrowed(image)).collect());
    };
    let unreadable =
        |reason: String| CudaError::KernelsUnreadable { folder: folder.display().to_string(), reason };
    let images = read(&folder).map_err(|error| unreadable(error.to_string()))?;
    if images.is_empty() {
        return Err(unreadable("it has no cubins or fatbins".to_owned()));
    }
    Ok(images.into_iter().map(Cow::Owned).collect())
}

fn read(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let is_image =
        |path: &PathBuf| matches!(path.extension().and_then(OsStr::to_str), Some("cubin" | "fatbin"));
    paths.retain(is_image);
    paths.sort();
    paths.iter().map(fs::read).collect()
}
