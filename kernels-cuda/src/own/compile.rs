//! Compiles a source with nvcc when the program runs.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use tensor::{Error, ErrorKind, Result};

use crate::{emulator, nvcc};

/// The machine code of a source for a compute capability; compiled before if nothing has changed.
pub(super) fn compile(source: &Path, (major, minor): (u32, u32), folder: &Path) -> Result<Vec<u8>> {
    let wrong = |error: emulator::EmulatorError| Error::from(ErrorKind::Device(error.to_string()));
    let source = source.canonicalize().map_err(|error| Error::file(source, error))?;
    // Some instructions are of one architecture alone, which has a name of its own.
    let architecture = format!("sm_{major}{minor}{}", if major == 9 { "a" } else { "" });
    let headers = emulator::write_headers(folder).map_err(wrong)?;
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    let hash = emulator::hash_of_source(&source).map_err(wrong)?;
    let cubin = folder.join(format!("{name}-{hash:016x}.{architecture}.cubin"));
    if let Ok(image) = fs::read(&cubin) {
        return Ok(image);
    }
    // Renamed when complete: another process may be looking for it.
    let unfinished = cubin.with_extension(format!("{}.unfinished", std::process::id()));
    let arguments: [OsString; 9] = [
        "-O3".into(),
        "-std=c++17".into(),
        "--expt-relaxed-constexpr".into(),
        "-I".into(),
        headers.into(),
        format!("-arch={architecture}").into(),
        "-cubin".into(),
        "-o".into(),
        unfinished.clone().into(),
    ];
    let missing = || {
        Error::from(ErrorKind::Device(format!("{}: there is no nvcc to compile it", source.display())))
            .hint("install the CUDA toolkit 13.0 (scripts/cuda-toolkit does) and set NVCC to its nvcc")
    };
    let nvcc = nvcc::find().ok_or_else(missing)?;
    let said = match Command::new(nvcc).args(arguments).arg(&source).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        other => other.map_err(|error| Error::file(&source, error))?,
    };
    if !said.status.success() {
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        return Err(Error::file(&source, format!("does not compile with nvcc:\n{said}")));
    }
    fs::rename(&unfinished, &cubin).map_err(|error| Error::file(&cubin, error))?;
    fs::read(&cubin).map_err(|error| Error::file(&cubin, error))
}
