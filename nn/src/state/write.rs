//! Files that appear complete or not at all.

use crate::data::reason;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tensor::{Error, Result};

/// All the bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::file(path, reason(&e)))
}

/// Puts a file of these bytes in place of whatever is there: written beside it under another name, synced, renamed.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |e: io::Error| Error::file(path, format!("cannot be written: {}", reason(&e)));
    let temporary = Temporary::beside(path).map_err(fail)?;
    temporary.fill(bytes).and_then(|()| temporary.become_file(path)).map_err(fail)
}

/// A file that is removed unless it gets its final name.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(path: &Path) -> io::Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::other("the path has no file name"))?
            .to_string_lossy()
            .into_owned();
        let unique = format!(".{name}.{}-{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Temporary { path: path.with_file_name(unique) })
    }

    fn fill(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn become_file(&self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        // The rename itself must survive a power failure. Not every system can sync a folder, and the file is complete
        // without it, so a failure here is none of the file's.
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Ok(folder) = File::open(folder) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing of this name.
        let _ = std::fs::remove_file(&self.path);
    }
}
