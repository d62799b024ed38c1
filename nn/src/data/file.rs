//! Reading files, gzipped or not, with errors that name the file.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::Path;
use tensor::{Error, Result};

/// The first two bytes of every gzip stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes with a name. Gzip is recognised by its first bytes, not by the name, and undone.
pub(super) struct Source<'a> {
    path: &'a Path,
    reader: Box<dyn Read + 'a>,
}

impl<'a> Source<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Source<'a>> {
        let file = File::open(path).map_err(|e| Error::file(path, reason(&e)))?;
        Source::new(path, file)
    }

    pub(super) fn new(path: &'a Path, mut reader: impl Read + 'a) -> Result<Source<'a>> {
        let mut head = Vec::new();
        reader.by_ref().take(2).read_to_end(&mut head).map_err(|e| Error::file(path, reason(&e)))?;
        let zipped = head == GZIP;
        let whole = Cursor::new(head).chain(reader);
        let reader: Box<dyn Read + 'a> =
            if zipped { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        Ok(Source { path, reader })
    }

    /// The next `limit` bytes, or fewer where the file ends. Memory grows with what is there, not with `limit`.
    pub(super) fn up_to(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(limit as u64).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(self.error(reason(&e))),
        }
    }

    /// All the bytes that are left.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>> {
        self.up_to(usize::MAX)
    }

    pub(super) fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::file(self.path, message)
    }
}

/// What an I/O error means, in one line. Only a gzip stream can end unexpectedly: plain files just end.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_string(),
        ErrorKind::PermissionDenied => "permission denied".to_string(),
        ErrorKind::UnexpectedEof => "truncated: the gzip stream ends early".to_string(),
        ErrorKind::InvalidInput | ErrorKind::InvalidData => format!("corrupt gzip stream: {error}"),
        _ => error.to_string(),
    }
}

/// The text of a UTF-8 file, gzipped or not.
///
/// # Errors
/// When the file cannot be read, or holds bytes that are not UTF-8: the message says where.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let mut source = Source::open(path.as_ref())?;
    let bytes = source.rest()?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        source.error(format!("not UTF-8: byte 0x{:02x} at position {at}", e.as_bytes()[at]))
    })
}
