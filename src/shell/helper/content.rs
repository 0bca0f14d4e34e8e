//! A message during delivery: with LF line ends, in memory while it is short, otherwise in an unnamed file.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::INLINE_BODY_BYTES_MAX;

/// A message. Its input has CR only in line ends.
#[derive(Debug, Default)]
pub(super) struct Content {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl Content {
    /// Adds a piece. A file, if needed, is created in `folder`.
    pub(super) fn push(&mut self, bytes: &[u8], folder: &Path) -> io::Result<()> {
        let before = self.memory.len();
        self.memory
            .extend(bytes.iter().filter(|byte| **byte != b'\r'));
        self.len += (self.memory.len() - before) as u64;
        if self.memory.len() > INLINE_BODY_BYTES_MAX {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => nameless(folder)?,
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
            self.file = Some(file);
        }
        Ok(())
    }

    /// Ends the message.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(&self.memory)?;
            self.memory = Vec::new();
        }
        Ok(())
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads from an offset on; 0 at the end.
    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if let Some(file) = &self.file {
            return file.read_at(into, offset);
        }
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.memory.get(offset..))
            .unwrap_or_default();
        io::Read::read(&mut &*rest, into)
    }

    /// Writes all of it.
    pub(super) fn write_to(&self, out: &mut File) -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        let mut at = 0;
        while at < self.len {
            let len = self.read_at(at, &mut block)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write_all(block.get(..len).unwrap_or_default())?;
            at += len as u64;
        }
        Ok(())
    }
}

/// A file that disappears when it is closed.
///
/// It never has a name, so no other user with write access to the folder can replace it. If the file system does not
/// support such files, the message stays in memory, within the limit on simultaneous deliveries.
fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            let memory = rustix::fs::memfd_create("delivery", MemfdFlags::CLOEXEC)?;
            Ok(File::from(memory))
        }
        file => Ok(File::from(file?)),
    }
}

/// Bytes copied at a time.
pub(super) const BLOCK_BYTES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_long_message_is_kept_in_a_file_without_a_name_and_is_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut content = Content::default();
        let line = b"0123456789abcdef\r\n";
        for _ in 0..40_000 {
            content.push(line, folder.path()).expect("room");
        }
        content.finish().expect("room");
        assert!(content.file.is_some());
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        let path = folder.path().join("out");
        let mut out = File::create(&path).expect("a file");
        content.write_to(&mut out).expect("written");
        let text = fs::read(path).expect("a file");
        assert_eq!(text, b"0123456789abcdef\n".repeat(40_000));
    }
}
