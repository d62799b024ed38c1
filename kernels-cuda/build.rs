//! Compiles `cuda/*.cu` with nvcc, where there is one, and writes `images.rs`, which holds what came out.
//!
//! nvcc is looked for in `NVCC`, `CUDA_PATH/bin`, `/usr/local/cuda/bin` and `PATH`. Without it the crate builds all the same and
//! carries no kernels. Each source becomes a fatbin of its own, compiled again only when it, a header or a flag changed:
//! machine code for `GRADUS_CUDA_ARCHS` (by default sm_80, sm_86, sm_89 and sm_90a), and PTX of compute_80 for GPUs to come; or, where
//! a line `// archs: …` names some, for those of them alone.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs, thread};

#[path = "src/nvcc.rs"]
mod nvcc;

fn main() {
    for name in ["NVCC", "CUDA_PATH", "GRADUS_CUDA_ARCHS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/nvcc.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let (images, built_with) = match nvcc::find() {
        Some(nvcc) => {
            assert!(nvcc::runs(&nvcc), "NVCC is {}, which cannot be run", nvcc.display());
            (compile(&nvcc, &out), Some(format!("{}, for {}", nvcc::version(&nvcc), archs())))
        }
        None => (vec![], None),
    };
    let mut text = String::from(
        "/// Compiled kernels: the name of the source, and its fatbin.\npub(crate) static IMAGES: &[(&str, &[u8])] = &[\n",
    );
    for (name, path) in &images {
        writeln!(text, "    ({name:?}, aligned!({path:?})),").expect("a String takes everything");
    }
    text.push_str("];\n");
    writeln!(text, "/// The compiler and what it compiled for.\npub(crate) const BUILT_WITH: Option<&str> = {built_with:?};")
        .expect("a String takes everything");
    write_if_changed(&out.join("images.rs"), &text);
}

/// The machine code that is made.
fn archs() -> String {
    env::var("GRADUS_CUDA_ARCHS").unwrap_or_else(|_| "sm_80,sm_86,sm_89,sm_90a".to_owned())
}

/// The fatbins of all sources, by name; compiled side by side.
///
/// # Panics
/// With what nvcc printed, if it does not compile one.
fn compile(nvcc: &Path, out: &Path) -> Vec<(String, PathBuf)> {
    let mut headers = files(Path::new("cuda"), "h");
    headers.retain(|path| !path.starts_with("cuda/emulator"));
    let mut sources = files(Path::new("cuda"), "cu");
    sources.retain(|source| !targets(&read(source)).is_empty());
    sources.sort();
    let left = Mutex::new(sources.clone());
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(source) = left.lock().expect("no thread panics while it holds the lock").pop()
                    else {
                        return;
                    };
                    compile_one(nvcc, &source, &headers, &fatbin(out, &source));
                }
            });
        }
    });
    sources.iter().map(|source| (stem(source), fatbin(out, source))).collect()
}

fn compile_one(nvcc: &Path, source: &Path, headers: &[PathBuf], fatbin: &Path) {
    let text = read(source);
    let flags = flags(&text);
    let mut hasher = DefaultHasher::new();
    (&text, &flags, nvcc).hash(&mut hasher);
    headers.iter().for_each(|header| read(header).hash(&mut hasher));
    let (key, mark) = (format!("{:016x}", hasher.finish()), fatbin.with_extension("hash"));
    if fatbin.exists() && fs::read_to_string(&mark).is_ok_and(|found| found == key) {
        return;
    }
    let output = Command::new(nvcc).args(&flags).arg("-o").arg(fatbin).arg(source).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", nvcc.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: nvcc failed\n{said}", source.display());
    write_if_changed(&mark, &key);
}

/// What nvcc is told; a line `// nvcc: …` in the source adds to it.
fn flags(text: &str) -> Vec<String> {
    let own = words(text, "// nvcc: ").map(String::from);
    let common = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "--fatbin"].into_iter().map(String::from);
    common.chain(own).chain(targets(text)).collect()
}

/// What is made of a source.
fn targets(text: &str) -> Vec<String> {
    let archs = archs();
    let only: Vec<&str> = words(text, "// archs: ").collect();
    let archs = archs.split(',').map(str::trim).filter(|arch| !arch.is_empty());
    // One PTX for all GPUs of 8.x, so that the source is read once for them.
    let family = |arch: &str| match arch.strip_prefix("sm_8") {
        Some(_) => "compute_80".to_owned(),
        None => arch.replace("sm_", "compute_"),
    };
    let code = archs
        .filter(|arch| only.is_empty() || only.contains(arch))
        .map(|arch| format!("-gencode=arch={},code={arch}", family(arch)));
    let ptx = only.is_empty().then(|| "-gencode=arch=compute_80,code=compute_80".to_owned());
    code.chain(ptx).collect()
}

/// The words of the lines that begin with `mark`.
fn words<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(mark)).flat_map(str::split_whitespace)
}

/// The files of a folder and those below it with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut found = vec![];
    for path in paths {
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn stem(source: &Path) -> String {
    source.file_stem().expect("a source has a name").to_string_lossy().into_owned()
}

fn fatbin(out: &Path, source: &Path) -> PathBuf {
    out.join(stem(source)).with_extension("fatbin")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write_if_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return;
    }
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
