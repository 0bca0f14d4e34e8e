//! Opens a file of the drop folder: does not follow links, and opens nothing for reading that could make a reader wait.
//!
//! The length of the file is fixed when it is opened, for the check and for sending. A file that is being written to is
//! left for later.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Take};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::date::Timestamp;
use crate::engine::drop_folder::{About, DroppedFile, Rejected};

/// A file that is in the right form.
#[derive(Debug)]
pub(super) struct Opened {
    file: File,
    /// As it was when it was opened.
    about: Metadata,
    size: u64,
    message_at: u64,
}

impl Opened {
    /// Opens a file and checks its form; a message longer than the relay accepts, `size_max`, is not read to its end.
    /// `own` is the relay's uid.
    pub(super) fn open(
        path: &Path,
        own: u32,
        size_max: u64,
    ) -> Result<(Self, DroppedFile), Rejected> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(path)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::LOOP) => Rejected::Form("a symbolic link"),
                // A socket, or a device without a driver.
                Some(Errno::NXIO | Errno::NODEV) => Rejected::Form("not a regular file"),
                // Its owner did not intend the relay to read it.
                Some(Errno::ACCESS | Errno::PERM) => Rejected::Form("not readable"),
                _ => Rejected::Io(error),
            })?;
        let about = file.metadata()?;
        let kind = about.file_type();
        if !about.is_file() || kind.is_fifo() {
            return Err(Rejected::Form("not a regular file"));
        }
        if about.nlink() != 1 {
            return Err(Rejected::Form("several links"));
        }
        let known = About {
            uid: about.uid(),
            len: about.len(),
            written: Timestamp::from_seconds(u64::try_from(about.mtime()).unwrap_or(0)),
        };
        let form = DroppedFile::read(&mut BufReader::new(&file), &known, own, size_max)?;
        let opened = Self {
            file,
            about,
            size: form.size,
            message_at: form.message_at,
        };
        Ok((opened, form))
    }

    /// The message from its beginning, as long as it was when the file was opened.
    pub(super) fn message(&self) -> io::Result<Take<&File>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.message_at))?;
        Ok(file.take(self.size))
    }

    /// The next piece of the message, read so far up to `at`; empty at its end.
    pub(super) fn piece(&self, at: u64, piece: &mut [u8]) -> io::Result<usize> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.message_at.saturating_add(at)))?;
        let left = self.size.saturating_sub(at);
        let mut front = file.take(left);
        let len = front.read(piece)?;
        if len == 0 && left > 0 {
            return Err(io::Error::other(CHANGES));
        }
        if len as u64 == left {
            self.check_unchanged()?;
        }
        Ok(len)
    }

    /// Fails if it was written to since it was opened.
    pub(super) fn check_unchanged(&self) -> io::Result<()> {
        let now = self.file.metadata()?;
        let then = &self.about;
        let times = |about: &Metadata| (about.mtime(), about.mtime_nsec());
        if now.len() == then.len() && times(&now) == times(then) {
            Ok(())
        } else {
            Err(io::Error::other(CHANGES))
        }
    }
}

const CHANGES: &str = "the file changes while it is read";
