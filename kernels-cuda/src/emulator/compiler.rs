//! Makes a library of kernels with the machine's C++ compiler.

use super::EmulatorError;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The headers that kernels include, by their path beside each other.
const HEADERS: &[(&str, &str)] = &[
    ("device.h", include_str!("../../cuda/device.h")),
    ("gpu/device.h", include_str!("../../cuda/gpu/device.h")),
    ("emulator/device.h", include_str!("../../cuda/emulator/device.h")),
    ("emulator/fiber.h", include_str!("../../cuda/emulator/fiber.h")),
    ("emulator/library.h", include_str!("../../cuda/emulator/library.h")),
    ("emulator/machine.h", include_str!("../../cuda/emulator/machine.h")),
    ("emulator/memory.h", include_str!("../../cuda/emulator/memory.h")),
    ("emulator/registry.h", include_str!("../../cuda/emulator/registry.h")),
];

/// Compiles the kernels in `source`, which includes `device.h`, to a library in `folder`, and gives its path.
///
/// What was compiled before from the same text is used again; texts that `source` includes besides the headers of this crate do
/// not count for that. The compiler is the one that `CXX` names, else `c++`, `g++` or `clang++`.
///
/// # Errors
///
/// [`EmulatorError::NoCompiler`] where there is none, else what the compiler said.
pub fn compile(source: &Path, folder: &Path) -> Result<PathBuf, EmulatorError> {
    let text = fs::read_to_string(source).map_err(|e| file(source, &e))?;
    let mut hasher = DefaultHasher::new();
    (&text, source, HEADERS).hash(&mut hasher);
    let folder = folder.join(format!("{:016x}", hasher.finish()));
    let library = folder.join("kernels.so");
    if library.exists() {
        return Ok(library);
    }
    for (name, text) in HEADERS {
        write(&folder.join(name), text)?;
    }
    // One file that includes the kernels and, after them, what the driver calls.
    let source = source.canonicalize().map_err(|e| file(source, &e))?;
    let unit = folder.join("library.cpp");
    write(&unit, &format!("#include {:?}\n#include \"emulator/library.h\"\n", source.display().to_string()))?;
    // Renamed when complete: another process may be looking for it.
    let unfinished = folder.join(format!("kernels.{}.so", std::process::id()));
    run_compiler(&unit, &folder, &unfinished, &source)?;
    fs::rename(&unfinished, &library).map_err(|e| file(&library, &e))?;
    Ok(library)
}

/// Runs the first compiler that there is.
fn run_compiler(unit: &Path, headers: &Path, library: &Path, source: &Path) -> Result<(), EmulatorError> {
    let named = std::env::var("CXX").ok().filter(|name| !name.trim().is_empty());
    let candidates =
        named.map_or_else(|| ["c++", "g++", "clang++"].map(String::from).to_vec(), |name| vec![name]);
    for compiler in &candidates {
        let output = Command::new(compiler)
            .args(["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-DGRADUS_EMULATOR", "-I"])
            .arg(headers)
            .arg("-o")
            .arg(library)
            .arg(unit)
            .output();
        match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => {
                return Err(EmulatorError::DoesNotCompile {
                    source_file: source.to_owned(),
                    compiler: compiler.clone(),
                    output: String::from_utf8_lossy(&output.stderr).into_owned(),
                });
            }
            Err(_) => {}
        }
    }
    Err(EmulatorError::NoCompiler { tried: candidates.join(", ") })
}

fn write(path: &Path, text: &str) -> Result<(), EmulatorError> {
    let folder = path.parent().expect("the path was joined to a folder");
    fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).map_err(|e| file(path, &e))
}

fn file(path: &Path, error: &std::io::Error) -> EmulatorError {
    EmulatorError::File { path: path.to_owned(), reason: error.to_string() }
}
