//! Where the CUDA compiler is; the build script looks for it in the same way.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `NVCC` names, be it there or not; else the one in `CUDA_PATH`, `/usr/local/cuda` or `PATH`, if there is one.
pub(crate) fn find() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NVCC").filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    let toolkit = env::var_os("CUDA_PATH").map(|folder| Path::new(&folder).join("bin/nvcc"));
    let usual = PathBuf::from("/usr/local/cuda/bin/nvcc");
    toolkit.into_iter().chain([usual, PathBuf::from("nvcc")]).find(|nvcc| runs(nvcc))
}

/// Whether it can be run.
pub(crate) fn runs(nvcc: &Path) -> bool {
    Command::new(nvcc).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// `nvcc 13.0.88`, or only `nvcc` where it says nothing of the sort.
pub(crate) fn version(nvcc: &Path) -> String {
    let output = Command::new(nvcc).arg("--version").output();
    let said = output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned());
    let number = said.split_whitespace().find_map(|word| word.strip_prefix('V'));
    number.map_or("nvcc".to_owned(), |number| format!("nvcc {number}"))
}
