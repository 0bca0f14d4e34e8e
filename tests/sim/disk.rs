//! The disk of the world: the memory disk, or one that a saboteur has been at.
//!
//! The sabotaged ones stand for the mistakes that a relay could make; the simulator must find each of them, else it
//! proves nothing.

use chopar::queue::{Disk, DiskError, DiskRead, Entry, MemoryDisk, SpoolFile, SpoolFolder};

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
}

/// The disk.
#[derive(Clone, Debug)]
pub(crate) struct WorldDisk {
    pub(crate) memory: MemoryDisk,
    pub(crate) sabotage: Sabotage,
}

impl DiskRead for WorldDisk {
    fn read_at(
        &mut self,
        file: SpoolFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        self.memory.read_at(file, offset, into)
    }

    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError> {
        self.memory.len(file)
    }
}

impl Disk for WorldDisk {
    fn create(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        self.memory.create(file)
    }

    fn write_at(&mut self, file: SpoolFile, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.memory.write_at(file, offset, bytes)
    }

    fn preallocate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        self.memory.preallocate(file, len)
    }

    fn truncate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        self.memory.truncate(file, len)
    }

    fn sync_data(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        match self.sabotage {
            Sabotage::EarlyAcknowledgement => Ok(()),
            Sabotage::RetriedSync => self
                .memory
                .sync_data(file)
                .or_else(|_| self.memory.sync_data(file)),
            Sabotage::None | Sabotage::ForgottenOutcome => self.memory.sync_data(file),
        }
    }

    fn sync_folder(&mut self, folder: SpoolFolder) -> Result<(), DiskError> {
        self.memory.sync_folder(folder)
    }

    fn remove(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        self.memory.remove(file)
    }

    fn list(&mut self, folder: SpoolFolder) -> Result<Vec<Entry>, DiskError> {
        self.memory.list(folder)
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        self.memory.free_bytes()
    }
}
