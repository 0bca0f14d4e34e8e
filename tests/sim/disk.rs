//! The disk of the world: the memory disk under the supervision of a warden, or one that a saboteur has altered.
//!
//! The warden holds the journal to what Linux promises: a file whose sync failed is never trusted again (I5), and
//! everything that is relied on is synced with its name (I7). The sabotages represent the mistakes that a relay could
//! make; the simulator must find each of them, otherwise it proves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use chopar::queue::{DirEntry, Disk, DiskError, DiskRead, MemoryDisk, SpoolFile, SpoolFolder};

use crate::rule::{Broken, Rule, check};

/// A mistake that is made on purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    /// None.
    None,
    /// Messages are acknowledged before they are on the disk: a sync says that it is done and does nothing.
    EarlyAcknowledgement,
    /// Some outcomes are never written.
    ForgottenOutcome,
    /// A sync that failed is tried again on the same file, and believed.
    RetriedSync,
    /// A new segment's name is never synced.
    NamelessSegment,
    /// The rewritten sender of what is forwarded is forgotten on the way to the disk.
    ForgottenSender,
    /// A file of the drop folder is removed although something is still owed for it.
    ForgottenDrop,
    /// None; but what is read comes so late that many who have asked are gone.
    SlowReads,
    /// The same, and an answer finds who asked by the slot of a connection alone, whoever has that now.
    AnswerBySlot,
    /// What is on its way to the disk is counted, and a failure does not lower the count.
    CountKept,
    /// A turn ends without a look at the input that was held back.
    EarlyExit,
    /// A recipient is entered in the transaction before it is known whether it is refused.
    FactsFirst,
}

/// The disk; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct WorldDisk {
    pub(crate) memory: MemoryDisk,
    pub(crate) sabotage: Sabotage,
    warden: Arc<Mutex<Warden>>,
}

/// What is known of files beside their bytes.
#[derive(Debug, Default)]
pub(crate) struct Warden {
    /// Files whose last sync failed.
    distrusted: BTreeSet<SpoolFile>,
    /// Files with bytes that no sync covers.
    unsynced: BTreeSet<SpoolFile>,
    /// Files whose name no sync covers.
    nameless: BTreeSet<SpoolFile>,
    /// Operations that failed, by what they were.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Reads, and the bytes that they brought.
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

    /// Something in this file is counted on.
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

    /// After a power cut what is on the disk is all there is.
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

    /// Reads so far, and the bytes that they brought.
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

    /// The journal says that something in this file is durable.
    pub(crate) fn counted_on(&self, file: SpoolFile) -> Result<(), Broken> {
        self.warden().counted_on(file)
    }

    fn count(&self, what: &'static str, result: Result<(), DiskError>) -> Result<(), DiskError> {
        // A file that is there already, or gone already, is no error of the disk.
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

/// Ends the run where an invariant does not hold.
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
            // What came before is on the disk all the same.
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
    fn what_is_counted_on_is_synced_with_its_name() {
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
