//! A message body: in memory while it is short, otherwise in an unnamed file.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};

use crate::limits::SENDMAIL_MEMORY_BYTES_MAX;

#[derive(Debug, Default)]
pub(super) struct Body {
    start: Vec<u8>,
    /// All of it, once it is too long for memory.
    file: Option<File>,
    len: u64,
}

impl Body {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.file.is_none()
            && self.start.len().saturating_add(bytes.len()) > SENDMAIL_MEMORY_BYTES_MAX
        {
            let mut file = nameless_file()?;
            file.write_all(&self.start)?;
            self.start = Vec::new();
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(bytes)?,
            None => self.start.extend_from_slice(bytes),
        }
        self.len = self.len.saturating_add(len);
        Ok(())
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        match &self.file {
            Some(file) => file.read_at(into, at),
            None => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                self.start.get(at..).unwrap_or_default().read(into)
            }
        }
    }
}

/// Reads a header and the body behind it.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    head: &'a [u8],
    body: &'a Body,
    at: u64,
}

impl<'a> Reader<'a> {
    /// From the start.
    pub(super) const fn new(head: &'a [u8], body: &'a Body) -> Self {
        Self { head, body, at: 0 }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.head.is_empty() {
            return self.head.read(into);
        }
        let len = self.body.read_at(into, self.at)?;
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }
}

/// A file that no other process can open and that disappears with this one, in the first folder that allows it.
fn nameless_file() -> io::Result<File> {
    let folders = env::var_os("TMPDIR").map(PathBuf::from).into_iter();
    let folders = folders.chain(["/var/tmp", "/tmp"].map(PathBuf::from));
    let mut refused = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders {
        match nameless_file_in(&folder) {
            Ok(file) => return Ok(file),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn nameless_file_in(folder: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_in_memory_and_in_a_file() {
        for pieces in [3, 300] {
            let piece: Vec<u8> = (0..=250).cycle().take(10_000).collect();
            let mut body = Body::default();
            for _ in 0..pieces {
                body.append(&piece).expect("room");
            }
            assert_eq!(body.file.is_some(), pieces == 300);
            assert!(body.start.len() <= SENDMAIL_MEMORY_BYTES_MAX);
            for _ in 0..2 {
                let mut read = Vec::new();
                Reader::new(b"head", &body)
                    .read_to_end(&mut read)
                    .expect("a body");
                assert_eq!(read.len() as u64, 4 + body.len());
                assert!(read == [b"head".as_slice(), &piece.repeat(pieces)].concat());
            }
        }
    }
}
