//! Makes a library of kernels with the machine's C++ compiler.

use super::EmulatorError;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{fs, thread};

/// The headers that kernels include, by their path beside each other.
const HEADERS: &[(&str, &str)] = &[
    ("device.h", include_str!("../../cuda/device.h")),
    ("hopper.h", include_str!("../../cuda/hopper.h")),
    ("slice.h", include_str!("../../cuda/slice.h")),
    ("gpu/device.h", include_str!("../../cuda/gpu/device.h")),
    ("gpu/hopper.h", include_str!("../../cuda/gpu/hopper.h")),
    ("gpu/im2col.h", include_str!("../../cuda/gpu/im2col.h")),
    ("emulator/asynchronous.h", include_str!("../../cuda/emulator/asynchronous.h")),
    ("emulator/device.h", include_str!("../../cuda/emulator/device.h")),
    ("emulator/fiber.h", include_str!("../../cuda/emulator/fiber.h")),
    ("emulator/hopper.h", include_str!("../../cuda/emulator/hopper.h")),
    ("emulator/im2col.h", include_str!("../../cuda/emulator/im2col.h")),
    ("emulator/library.h", include_str!("../../cuda/emulator/library.h")),
    ("emulator/machine.h", include_str!("../../cuda/emulator/machine.h")),
    ("emulator/memory.h", include_str!("../../cuda/emulator/memory.h")),
    ("emulator/registry.h", include_str!("../../cuda/emulator/registry.h")),
    ("emulator/tensor_map.h", include_str!("../../cuda/emulator/tensor_map.h")),
];

/// Compiles the kernels in `source`, which includes `device.h`, to a library in `folder`, and gives its path. See [`compile_all`].
///
/// # Errors
///
/// [`EmulatorError::NoCompiler`] where there is none, else what the compiler said.
pub fn compile(source: &Path, folder: &Path) -> Result<PathBuf, EmulatorError> {
    compile_all(&[source.to_owned()], folder)
}

/// Compiles the kernels of this crate, and those in `own` beside them, to one library in `folder`, and gives its path: what a
/// program needs that runs kernels of its own and those of tensors on one emulated GPU. The first time it takes minutes.
///
/// # Errors
///
/// As [`compile_all`]; the sources of this crate must still be where it was built.
pub fn compile_with(own: &[PathBuf], folder: &Path) -> Result<PathBuf, EmulatorError> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let mut sources = vec![];
    for entry in fs::read_dir(&ours).map_err(|e| file(&ours, &e))? {
        let path = entry.map_err(|e| file(&ours, &e))?.path();
        if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
    sources.sort();
    sources.extend_from_slice(own);
    compile_all(&sources, folder)
}

/// Compiles kernels in several sources, each of which includes `device.h`, to one library in `folder`, and gives its path.
///
/// A source that was compiled before is compiled again only if it changed, or one of the headers that it includes. The compiler is
/// the one that `CXX` names, else `c++`, `g++` or `clang++`.
///
/// # Errors
///
/// [`EmulatorError::NoCompiler`] where there is none, else what the compiler said.
pub fn compile_all(sources: &[PathBuf], folder: &Path) -> Result<PathBuf, EmulatorError> {
    let headers = write_headers(folder)?;
    // What the driver calls is a source of its own.
    let entry = headers.join("library.cpp");
    write(&entry, "#include \"emulator/library.h\"\n")?;
    let mut units = vec![Unit::new(&entry, folder)?];
    for source in sources {
        units.push(Unit::new(source, folder)?);
    }
    let keys: Vec<&Path> = units.iter().map(|unit| unit.object.as_path()).collect();
    let library = folder.join(format!("kernels-{:016x}.so", hash(&keys)));
    if library.exists() {
        return Ok(library);
    }
    compile_missing(&units, &headers)?;
    let objects = units.iter().map(|unit| unit.object.clone().into_os_string());
    run_compiler(["-shared".into()].into_iter().chain(objects).collect(), &library, &entry)?;
    Ok(library)
}

/// Writes the headers that kernels include below `folder`, and gives the path that they are included from.
pub(crate) fn write_headers(folder: &Path) -> Result<PathBuf, EmulatorError> {
    let headers = folder.join(format!("headers-{:016x}", hash(&HEADERS)));
    for (name, text) in HEADERS {
        write(&headers.join(name), text)?;
    }
    Ok(headers)
}

/// A source, and what it is compiled to: a name that holds a hash of all that went in.
struct Unit {
    source: PathBuf,
    object: PathBuf,
}

impl Unit {
    fn new(source: &Path, folder: &Path) -> Result<Unit, EmulatorError> {
        let source = source.canonicalize().map_err(|e| file(source, &e))?;
        let name = source.file_stem().unwrap_or_default().to_string_lossy();
        let object = folder.join(format!("{name}-{:016x}.o", hash_of_source(&source)?));
        Ok(Unit { source, object })
    }
}

/// Of all that a source is made of: its path and text, and the headers that it includes.
pub(crate) fn hash_of_source(source: &Path) -> Result<u64, EmulatorError> {
    let mut texts = BTreeMap::new();
    with_headers(source, &mut texts)?;
    Ok(hash(&(&texts, source, HEADERS)))
}

/// Adds the text of a file, and of the headers that it includes, of those that lie beside it or below.
fn with_headers(path: &Path, texts: &mut BTreeMap<PathBuf, String>) -> Result<(), EmulatorError> {
    if texts.contains_key(path) {
        return Ok(());
    }
    let text = read(path)?;
    texts.insert(path.to_owned(), text.clone());
    let included = text.lines().filter_map(|line| line.trim().strip_prefix("#include \"")?.split('"').next());
    for name in included {
        let header = path.parent().expect("a file lies in a folder").join(name);
        if let Ok(header) = header.canonicalize() {
            with_headers(&header, texts)?;
        }
    }
    Ok(())
}

/// Compiles the units that have no object yet, side by side.
fn compile_missing(units: &[Unit], headers: &Path) -> Result<(), EmulatorError> {
    let left = Mutex::new(units.iter().filter(|unit| !unit.object.exists()));
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<(), EmulatorError> {
        while let Some(Unit { source, object }) = next() {
            let include = [OsString::from("-I"), headers.into()];
            let what = ["-x".into(), "c++".into(), "-c".into(), source.into()];
            run_compiler(include.into_iter().chain(what).collect(), object, source)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..num_workers()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("the work does not panic"))
    })
}

fn num_workers() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the first compiler that there is, to make `output` of `source`.
fn run_compiler(arguments: Vec<OsString>, output: &Path, source: &Path) -> Result<(), EmulatorError> {
    let named = std::env::var("CXX").ok().filter(|name| !name.trim().is_empty());
    let candidates =
        named.map_or_else(|| ["c++", "g++", "clang++"].map(String::from).to_vec(), |name| vec![name]);
    // Renamed when complete: another process may be looking for it.
    let unfinished = output.with_extension(format!("{}.unfinished", std::process::id()));
    for compiler in &candidates {
        let said = Command::new(compiler)
            .args(["-std=c++17", "-O1", "-fPIC", "-fwrapv", "-ffp-contract=off", "-DGRADUS_EMULATOR", "-o"])
            .arg(&unfinished)
            .args(&arguments)
            .output();
        match said {
            Ok(said) if said.status.success() => {
                return fs::rename(&unfinished, output).map_err(|e| file(output, &e));
            }
            Ok(said) => {
                return Err(EmulatorError::DoesNotCompile {
                    source_file: source.to_owned(),
                    compiler: compiler.clone(),
                    output: String::from_utf8_lossy(&said.stderr).into_owned(),
                });
            }
            Err(_) => {}
        }
    }
    Err(EmulatorError::NoCompiler { tried: candidates.join(", ") })
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn read(path: &Path) -> Result<String, EmulatorError> {
    fs::read_to_string(path).map_err(|e| file(path, &e))
}

/// Writes a file that may be there already, from this or another process.
fn write(path: &Path, text: &str) -> Result<(), EmulatorError> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let folder = path.parent().expect("the path was joined to a folder");
    fs::create_dir_all(folder).and_then(|()| fs::write(path, text)).map_err(|e| file(path, &e))
}

fn file(path: &Path, error: &std::io::Error) -> EmulatorError {
    EmulatorError::File { path: path.to_owned(), reason: error.to_string() }
}
