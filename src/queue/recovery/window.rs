//! The part of a file that is in memory while it is scanned.

use super::super::disk::{Disk, DiskError, SpoolFile};
use super::super::frame::HEADER_BYTES;

/// The part of a file that is in memory.
#[derive(Default)]
pub(super) struct Window {
    file: Option<SpoolFile>,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `len` bytes from `at`, or fewer at the end of the file.
    pub(super) fn get<D: Disk>(
        &mut self,
        disk: &mut D,
        file: SpoolFile,
        at: u64,
        len: usize,
    ) -> Result<&[u8], DiskError> {
        let inside = at.checked_sub(self.start).filter(|skip| {
            self.file == Some(file) && skip.saturating_add(len as u64) <= self.bytes.len() as u64
        });
        let skip = match inside {
            Some(skip) => usize::try_from(skip).unwrap_or_default(),
            None => {
                self.load(disk, file, at, len.max(WINDOW_BYTES))?;
                0
            }
        };
        let end = skip.saturating_add(len).min(self.bytes.len());
        Ok(self.bytes.get(skip..end).unwrap_or_default())
    }

    /// All bytes in memory from `at` on, if that includes a header; otherwise what a scan reads at a time.
    pub(super) fn rest<D: Disk>(
        &mut self,
        disk: &mut D,
        file: SpoolFile,
        at: u64,
    ) -> Result<&[u8], DiskError> {
        let end = self.start.saturating_add(self.bytes.len() as u64);
        let left = end.saturating_sub(at);
        let inside = self.file == Some(file) && at >= self.start && left >= HEADER_BYTES as u64;
        let len = match usize::try_from(left) {
            Ok(left) if inside => left,
            _ => SCAN_BYTES,
        };
        self.get(disk, file, at, len)
    }

    fn load<D: Disk>(
        &mut self,
        disk: &mut D,
        file: SpoolFile,
        at: u64,
        len: usize,
    ) -> Result<(), DiskError> {
        // Holds nothing until it is read.
        self.file = None;
        self.bytes.clear();
        self.bytes.shrink_to(len.max(SCAN_BYTES));
        self.bytes.resize(len, 0);
        let got = disk.read_at(file, at, &mut self.bytes)?;
        self.bytes.truncate(got);
        (self.file, self.start) = (Some(file), at);
        Ok(())
    }
}

pub(super) const WINDOW_BYTES: usize = 4_096; // about one message: bodies in between are skipped, not read
pub(super) const SCAN_BYTES: usize = 64 * 1_024;
