//! The disk of the world: the memory disk, supervised by a warden, or sabotaged.
//!
//! The warden checks that the journal relies only on what Linux guarantees: a file is never trusted again after its
//! sync failed (I5), and data that the relay relies on is synced together with its directory entry (I7). Each sabotage
//! is a bug that a relay could have. The simulator must find every one of them, otherwise it proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use chopar::queue::{DirEntry, Disk, DiskError, DiskRead, MemoryDisk, SpoolFile, SpoolFolder};

use crate::rule::{Broken, Rule, check};

/// A deliberate bug.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    None,
    /// The relay acknowledges messages before they are on the disk: a sync reports success and does nothing.
    EarlyAcknowledgement,
    /// The relay never writes some delivery results.
    ForgottenOutcome,
    /// The relay retries a failed sync on the same file, and trusts the success.
    RetriedSync,
    /// The relay never syncs the directory entry of a new segment.
    NamelessSegment,
    /// The rewritten sender of a forwarded message is lost on the way to the disk.
    ForgottenSender,
    /// The relay removes a file of the drop folder before it has dealt with all recipients.
    ForgottenDrop,
    /// Not a bug: reads are so slow that many of the connections that requested them are gone.
    SlowReads,
    /// Slow reads, and the engine finds the requester by the slot of a connection alone, whoever owns that slot now.
    AnswerBySlot,
    /// A failed write does not lower the count of bytes on their way to the disk.
    CountKept,
    /// A turn ends before the engine looks at input that it held back.
    EarlyExit,
    /// The session adds a recipient to the transaction before it knows whether the recipient is refused.
    FactsFirst,
}

/// The disk; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct WorldDisk {
    pub(crate) memory: MemoryDisk,
    pub(crate) sabotage: Sabotage,
    warden: Arc<Mutex<Warden>>,
}

/// State of files beside their bytes.
#[derive(Debug, Default)]
pub(crate) struct Warden {
    /// Files whose last sync failed.
    distrusted: BTreeSet<SpoolFile>,
    /// Files with bytes that no sync covers.
    unsynced: BTreeSet<SpoolFile>,
    /// Files whose directory entry no sync covers.
    nameless: BTreeSet<SpoolFile>,
    /// Failed operations, by kind.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Reads so far.
    reads: u64,
    read_bytes: u64,
}

impl Warden {
    fn written(&mut self, file: SpoolFile) -> Result<(), Broken> {
        self.unsynced.insert(file);
        check(!self.distrusted.contains(&file), Rule::I5, || {
            format!("{file} is written to after its sync failed")
        })
    }

    fn synced(&mut self, file: SpoolFile, result: Result<(), DiskError>) -> Result<(), Broken> {
        let trusted = !self.distrusted.contains(&file);
        match result {
            Ok(()) => drop(self.unsynced.remove(&file)),
            Err(_) => drop(self.distrusted.insert(file)),
        }
        check(trusted, Rule::I5, || {
            format!("{file} is synced again after its sync failed")
        })
    }

    fn removed(&mut self, file: SpoolFile) {
        self.distrusted.remove(&file);
        self.unsynced.remove(&file);
        self.nameless.remove(&file);
    }

    /// The relay relies on data in this file.
    fn counted_on(&self, file: SpoolFile) -> Result<(), Broken> {
        check(!self.nameless.contains(&file), Rule::I7, || {
            format!("{file} is counted on, and its name is not synced")
        })?;
        check(!self.unsynced.contains(&file), Rule::I7, || {
            format!("{file} is counted on, and its bytes are not synced")
        })
    }

    fn renamed(&mut self, from: SpoolFile, to: SpoolFile) {
        for files in [&mut self.distrusted, &mut self.unsynced] {
            if files.remove(&from) {
                files.insert(to);
            }
        }
        self.nameless.remove(&from);
        self.nameless.insert(to);
    }

    /// After a power cut, everything that is left is on the disk.
    fn forget(&mut self) {
        self.distrusted.clear();
        self.unsynced.clear();
        self.nameless.clear();
    }
}

impl WorldDisk {
    pub(crate) fn new(sabotage: Sabotage) -> Self {
        Self {
            memory: MemoryDisk::new(),
            sabotage,
            warden: Arc::default(),
        }
    }

    pub(crate) fn warden(&self) -> MutexGuard<'_, Warden> {
        self.warden
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Number of reads so far, and of bytes that they returned.
    pub(crate) fn read_so_far(&self) -> (u64, u64) {
        let warden = self.warden();
        (warden.reads, warden.read_bytes)
    }

    /// The power fails.
    pub(crate) fn crash(&self, entropy: &mut dyn chopar::entropy::Entropy) {
        self.memory.mend();
        self.memory.crash(entropy);
        self.warden().forget();
    }

    /// The journal reports that data in this file is durable.
    pub(crate) fn counted_on(&self, file: SpoolFile) -> Result<(), Broken> {
        self.warden().counted_on(file)
    }

    fn count(&self, what: &'static str, result: Result<(), DiskError>) -> Result<(), DiskError> {
        // A file that already exists, or that is already gone, is not a disk error.
        if result.is_err_and(|error| !matches!(error, DiskError::Exists | DiskError::Missing)) {
            *self.warden().errors.entry(what).or_default() += 1;
        }
        result
    }

    fn sync_once(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let result = self.memory.sync_data(file);
        hold(self.warden().synced(file, result));
        self.count("sync failed", result)
    }
}

/// Ends the run if an invariant does not hold.
pub(crate) fn hold(result: Result<(), Broken>) {
    if let Err(broken) = result {
        panic!("{broken}");
    }
}

impl DiskRead for WorldDisk {
    fn read_at(
        &mut self,
        file: SpoolFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        let result = self.memory.read_at(file, offset, into);
        let mut warden = self.warden();
        warden.reads += 1;
        warden.read_bytes += result.unwrap_or(0) as u64;
        result
    }

    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError> {
        self.memory.len(file)
    }
}

impl Disk for WorldDisk {
    fn create(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let result = self.memory.create(file);
        if result.is_ok() {
            self.warden().nameless.insert(file);
        }
        self.count("creation failed", result)
    }

    fn write_at(&mut self, file: SpoolFile, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let was_synced = !self.warden().unsynced.contains(&file);
        hold(self.warden().written(file));
        let result = self.memory.write_at(file, offset, bytes);
        if result.is_err() && was_synced {
            // The bytes before the failed write are still synced.
            self.warden().unsynced.remove(&file);
        }
        self.count("write failed", result)
    }

    fn preallocate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let result = self.memory.preallocate(file, len);
        self.count("preallocation failed", result)
    }

    fn truncate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let result = self.memory.truncate(file, len);
        self.count("truncation failed", result)
    }

    fn sync_data(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        match self.sabotage {
            Sabotage::EarlyAcknowledgement => Ok(()),
            Sabotage::RetriedSync => self.sync_once(file).or_else(|_| self.sync_once(file)),
            _ => self.sync_once(file),
        }
    }

    fn sync_folder(&mut self, folder: SpoolFolder) -> Result<(), DiskError> {
        if self.sabotage == Sabotage::NamelessSegment && folder == SpoolFolder::Journal {
            return Ok(());
        }
        let result = self.memory.sync_folder(folder);
        if result.is_ok() {
            let mut warden = self.warden();
            warden.nameless.retain(|file| file.folder() != folder);
        }
        self.count("folder sync failed", result)
    }

    fn remove(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let result = self.memory.remove(file);
        if result.is_ok() {
            self.warden().removed(file);
        }
        self.count("removal failed", result)
    }

    fn rename(&mut self, from: SpoolFile, to: SpoolFile) -> Result<(), DiskError> {
        let result = self.memory.rename(from, to);
        if result.is_ok() {
            self.warden().renamed(from, to);
        }
        self.count("renaming failed", result)
    }

    fn check_place(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        self.memory.check_place(file)
    }

    fn list(&mut self, folder: SpoolFolder) -> Result<Vec<DirEntry>, DiskError> {
        self.memory.list(folder)
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        self.memory.free_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: SpoolFile = SpoolFile::Segment(1);

    fn rule(result: Result<(), Broken>) -> Option<Rule> {
        result.err().map(|broken| broken.rule)
    }

    #[test]
    fn a_file_whose_sync_failed_is_not_touched_again() {
        let mut warden = Warden::default();
        assert_eq!(rule(warden.written(FILE)), None);
        assert_eq!(rule(warden.synced(FILE, Err(DiskError::Io))), None);
        assert_eq!(rule(warden.written(FILE)), Some(Rule::I5));
        assert_eq!(rule(warden.synced(FILE, Ok(()))), Some(Rule::I5));
        warden.removed(FILE);
        assert_eq!(rule(warden.written(FILE)), None);
    }

    #[test]
    fn data_that_the_relay_relies_on_is_synced_with_its_directory_entry() {
        let mut warden = Warden::default();
        warden.nameless.insert(FILE);
        assert_eq!(rule(warden.counted_on(FILE)), Some(Rule::I7));
        warden.nameless.clear();
        assert_eq!(rule(warden.written(FILE)), None);
        assert_eq!(rule(warden.counted_on(FILE)), Some(Rule::I7));
        assert_eq!(rule(warden.synced(FILE, Ok(()))), None);
        assert_eq!(rule(warden.counted_on(FILE)), None);
    }
}
