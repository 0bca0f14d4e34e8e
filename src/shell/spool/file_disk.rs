//! The spool's folder as a [`Disk`].
//!
//! Folders are opened once, and files below them by their fixed names, without following links (`O_NOFOLLOW`); folders
//! are 0700 and files 0600. A [`FileDisk`] holds a lock on `lock` in the spool, so that a second daemon on the same
//! spool is refused. A [`FileReader`] is a second handle for another thread; both keep a bounded number of descriptors.
//! The space of a removed file is freed when its last descriptor is closed, so readers are notified of each removal.
//!
//! Invariant: after a failed sync the descriptor is closed and the error is passed on; nothing here tries again.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::limits::SPOOL_FILES_OPEN_MAX;
use crate::queue::{DirEntry, Disk, DiskError, DiskRead, SpoolFile, SpoolFolder};

/// The writing handle of a spool; there is one a spool.
#[derive(Debug)]
pub struct FileDisk {
    reader: FileReader,
    readers: Vec<Sender<SpoolFile>>,
    path: PathBuf,
    _lock: OwnedFd,
}

/// A reading handle of a spool.
#[derive(Debug)]
pub struct FileReader {
    folders: Arc<Folders>,
    open: Vec<(SpoolFile, OwnedFd)>, // the last used at the end
    access: OFlags,
    removed: Receiver<SpoolFile>,
}

#[derive(Debug)]
struct Folders {
    journal: OwnedFd,
    body: OwnedFd,
    damaged: OwnedFd,
}

/// Why a spool could not be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpoolError {
    /// Another process uses it.
    InUse,
    /// The disk failed.
    Disk(DiskError),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => out.write_str(
                "the spool is in use by another chopar: stop it, or set another state_dir",
            ),
            Self::Disk(error) => write!(out, "the spool cannot be opened: {error}"),
        }
    }
}

impl std::error::Error for SpoolError {}

impl From<DiskError> for SpoolError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Errno> for SpoolError {
    fn from(error: Errno) -> Self {
        Self::Disk(disk_error(error))
    }
}

impl FileDisk {
    /// Opens the spool in the folder `path`, which must exist, and makes the missing parts.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let spool = rustix::fs::open(path, FOLDER, Mode::empty())?;
        let lock = rustix::fs::openat(
            &spool,
            "lock",
            OFlags::RDWR | OFlags::CREATE | FILE,
            FILE_MODE,
        )?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            match error {
                Errno::WOULDBLOCK => SpoolError::InUse,
                error => error.into(),
            }
        })?;
        let folders = Folders {
            journal: folder(&spool, SpoolFolder::Journal)?,
            body: folder(&spool, SpoolFolder::Body)?,
            damaged: folder(&spool, SpoolFolder::Damaged)?,
        };
        rustix::fs::fsync(&spool)?;
        // The writing handle itself forgets the files that it removes.
        let (_, removed) = channel();
        Ok(Self {
            reader: FileReader::new(Arc::new(folders), OFlags::RDWR, removed),
            readers: Vec::new(),
            path: std::path::absolute(path).map_err(|_| DiskError::Io)?,
            _lock: lock,
        })
    }

    /// Another handle to read by, for another thread.
    pub fn reader(&mut self) -> FileReader {
        let (sender, removed) = channel();
        self.readers.push(sender);
        let folders = Arc::clone(&self.reader.folders);
        FileReader::new(folders, OFlags::RDONLY, removed)
    }
}

fn folder(spool: &OwnedFd, folder: SpoolFolder) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(spool, folder.name(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    rustix::fs::openat(
        spool,
        folder.name(),
        FOLDER | OFlags::NOFOLLOW,
        Mode::empty(),
    )
}

impl Folders {
    fn of(&self, folder: SpoolFolder) -> &OwnedFd {
        match folder {
            SpoolFolder::Journal => &self.journal,
            SpoolFolder::Body => &self.body,
            SpoolFolder::Damaged => &self.damaged,
        }
    }
}

impl FileReader {
    fn new(folders: Arc<Folders>, access: OFlags, removed: Receiver<SpoolFile>) -> Self {
        Self {
            folders,
            open: Vec::new(),
            access,
            removed,
        }
    }

    fn descriptor(&mut self, file: SpoolFile) -> Result<&OwnedFd, DiskError> {
        let known = self.open.iter().position(|(name, _)| *name == file);
        let entry = match known {
            Some(index) => self.open.remove(index),
            None => {
                let folder = self.folders.of(file.folder());
                let flags = self.access | FILE;
                let descriptor = rustix::fs::openat(folder, file.to_string(), flags, Mode::empty())
                    .map_err(disk_error)?;
                (file, descriptor)
            }
        };
        self.keep(entry);
        self.open
            .last()
            .map(|(_, descriptor)| descriptor)
            .ok_or(DiskError::Missing)
    }

    fn keep(&mut self, entry: (SpoolFile, OwnedFd)) {
        if self.open.len() >= SPOOL_FILES_OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(entry);
    }

    /// Closes the files that were removed since the last call, so that their room is given back.
    pub fn forget_removed(&mut self) {
        while let Ok(file) = self.removed.try_recv() {
            self.forget(file);
        }
    }

    fn forget(&mut self, file: SpoolFile) {
        self.open.retain(|(name, _)| *name != file);
    }
}

impl DiskRead for FileReader {
    fn read_at(
        &mut self,
        file: SpoolFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        let descriptor = self.descriptor(file)?;
        let mut done = 0_usize;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(descriptor, rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(got) => done = done.saturating_add(got),
                Err(Errno::INTR) => {}
                Err(error) => return Err(disk_error(error)),
            }
        }
        Ok(done)
    }

    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError> {
        let stat = rustix::fs::fstat(self.descriptor(file)?).map_err(disk_error)?;
        u64::try_from(stat.st_size).map_err(|_| DiskError::Io)
    }
}

impl DiskRead for FileDisk {
    fn read_at(
        &mut self,
        file: SpoolFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError> {
        self.reader.read_at(file, offset, into)
    }

    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError> {
        self.reader.len(file)
    }
}

impl Disk for FileDisk {
    fn create(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | FILE;
        let folder = self.reader.folders.of(file.folder());
        let descriptor =
            rustix::fs::openat(folder, file.to_string(), flags, FILE_MODE).map_err(disk_error)?;
        self.reader.forget(file);
        self.reader.keep((file, descriptor));
        Ok(())
    }

    fn write_at(&mut self, file: SpoolFile, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let descriptor = self.reader.descriptor(file)?;
        let mut done = 0_usize;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pwrite(descriptor, rest, offset.saturating_add(done as u64)) {
                Ok(0) => return Err(DiskError::Io),
                Ok(put) => done = done.saturating_add(put),
                Err(Errno::INTR) => {}
                Err(error) => return Err(disk_error(error)),
            }
        }
        Ok(())
    }

    fn preallocate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        let descriptor = self.reader.descriptor(file)?;
        match rustix::fs::fallocate(descriptor, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // The file system has no such thing: the room is taken as it is needed.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(disk_error(error)),
        }
    }

    fn truncate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError> {
        if self.len(file)? > len {
            rustix::fs::ftruncate(self.reader.descriptor(file)?, len).map_err(disk_error)?;
        }
        Ok(())
    }

    fn sync_data(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let outcome = rustix::fs::fdatasync(self.reader.descriptor(file)?);
        if outcome.is_err() {
            self.reader.forget(file);
        }
        outcome.map_err(disk_error)
    }

    fn sync_folder(&mut self, folder: SpoolFolder) -> Result<(), DiskError> {
        rustix::fs::fsync(self.reader.folders.of(folder)).map_err(disk_error)
    }

    fn remove(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        self.reader.forget(file);
        let folder = self.reader.folders.of(file.folder());
        rustix::fs::unlinkat(folder, file.to_string(), AtFlags::empty()).map_err(disk_error)?;
        // Only now can no reader open it again. A reader that is gone needs no notification.
        self.readers.retain(|reader| reader.send(file).is_ok());
        Ok(())
    }

    fn rename(&mut self, from: SpoolFile, to: SpoolFile) -> Result<(), DiskError> {
        self.reader.forget(to);
        let [old, new] = [from, to].map(|file| self.reader.folders.of(file.folder()));
        rustix::fs::renameat(old, from.to_string(), new, to.to_string()).map_err(disk_error)?;
        for (name, _) in &mut self.reader.open {
            if *name == from {
                *name = to;
            }
        }
        self.readers.retain(|reader| reader.send(from).is_ok());
        Ok(())
    }

    fn check_place(&mut self, file: SpoolFile) -> Result<(), DiskError> {
        let path = self.path.join(file.folder().name()).join(file.to_string());
        let open = rustix::fs::fstat(self.reader.descriptor(file)?).map_err(disk_error)?;
        // By the whole path: any folder on the way may have been replaced.
        match rustix::fs::lstat(&path) {
            Ok(named) if (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino) => Ok(()),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Err(DiskError::Displaced),
            Err(error) => Err(disk_error(error)),
        }
    }

    fn list(&mut self, folder: SpoolFolder) -> Result<Vec<DirEntry>, DiskError> {
        let descriptor = self.reader.folders.of(folder);
        let mut entries = Vec::new();
        for entry in Dir::read_from(descriptor).map_err(disk_error)? {
            let entry = entry.map_err(disk_error)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let text = name.to_string_lossy();
            let ours = match folder.parse(&text) {
                Some(file) if is_regular(descriptor, name)? => Some(file),
                _ => None,
            };
            entries.push(match ours {
                Some(file) => DirEntry::File(file),
                None => DirEntry::Foreign(text.into()),
            });
        }
        Ok(entries)
    }

    fn free_bytes(&mut self) -> Result<u64, DiskError> {
        let stat = rustix::fs::fstatvfs(&self.reader.folders.journal).map_err(disk_error)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Whether the name is that of a regular file. A file that cannot be examined is not treated as a foreign one.
fn is_regular(folder: &OwnedFd, name: &CStr) -> Result<bool, DiskError> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(disk_error(error)),
    }
}

fn disk_error(error: Errno) -> DiskError {
    match error {
        Errno::NOSPC | Errno::DQUOT => DiskError::NoSpace,
        Errno::ROFS | Errno::ACCESS | Errno::PERM => DiskError::ReadOnly,
        Errno::NOENT | Errno::NOTDIR => DiskError::Missing,
        Errno::EXIST => DiskError::Exists,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => DiskError::Exhausted,
        _ => DiskError::Io,
    }
}

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

#[cfg(test)]
mod tests {
    use crate::address::ReversePath;
    use crate::date::Timestamp;
    use crate::envelope::{BodyKind, Envelope};
    use crate::queue::{
        Journal, JournalCommand, JournalCompletion, JournalError, MessageBody, MessageRecord,
        Record, Ticket,
    };
    use crate::queue_id::QueueId;

    use super::*;

    fn body(id: u64) -> SpoolFile {
        SpoolFile::Body(QueueId::new(id))
    }

    #[test]
    fn keeps_bytes_and_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = FileDisk::open(folder.path()).expect("a spool");
        disk.create(body(1)).expect("created");
        assert_eq!(disk.create(body(1)), Err(DiskError::Exists));
        disk.write_at(body(1), 0, b"0123456789").expect("written");
        disk.sync_data(body(1)).expect("synced");
        disk.sync_folder(SpoolFolder::Body).expect("synced");
        disk.preallocate(body(1), 4096).expect("allocated");
        assert_eq!(disk.len(body(1)), Ok(4096));
        disk.truncate(body(1), 10).expect("cut");
        let mut reader = disk.reader();
        let mut bytes = [0; 16];
        assert_eq!(reader.read_at(body(1), 4, &mut bytes), Ok(6));
        assert_eq!(&bytes[..6], b"456789");
        assert_eq!(
            disk.list(SpoolFolder::Body),
            Ok(vec![DirEntry::File(body(1))])
        );
        disk.remove(body(1)).expect("removed");
        assert_eq!(disk.len(body(1)), Err(DiskError::Missing));
        reader.forget_removed();
        assert_eq!(reader.len(body(1)), Err(DiskError::Missing));
        assert!(disk.free_bytes().expect("known") > 0);
    }

    #[test]
    fn a_second_daemon_on_the_spool_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = FileDisk::open(folder.path()).expect("a spool");
        assert_eq!(
            FileDisk::open(folder.path()).map(drop),
            Err(SpoolError::InUse)
        );
        drop(first);
        FileDisk::open(folder.path()).expect("free again");
    }

    #[test]
    fn links_and_folders_are_foreign_and_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = FileDisk::open(folder.path()).expect("a spool");
        let journal = folder.path().join("journal");
        std::os::unix::fs::symlink("/etc/passwd", journal.join("00000001.seg")).expect("a link");
        std::fs::create_dir(journal.join("00000002.seg")).expect("a folder");
        let entries = disk.list(SpoolFolder::Journal).expect("a list");
        assert!(entries.len() == 2 && entries.iter().all(|e| matches!(e, DirEntry::Foreign(_))));
        let mut bytes = [0; 4];
        assert!(disk.read_at(SpoolFile::Segment(1), 0, &mut bytes).is_err());
    }

    #[test]
    fn a_record_in_a_folder_that_was_removed_or_replaced_is_not_committed() {
        let removed = |spool: &Path| std::fs::remove_dir_all(spool.join("journal"));
        let replaced = |spool: &Path| {
            std::fs::rename(spool, spool.with_extension("old"))?;
            std::fs::create_dir_all(spool.join("journal"))
        };
        let spoil: [fn(&Path) -> std::io::Result<()>; 2] = [removed, replaced];
        for spoil in spoil {
            let folder = tempfile::tempdir().expect("a folder");
            let spool = folder.path().join("spool");
            std::fs::create_dir(&spool).expect("a folder");
            let disk = FileDisk::open(&spool).expect("a spool");
            let (mut journal, _) = Journal::open(disk, &mut |_| {}).expect("a journal");
            let mut append = |number| {
                let ticket = Ticket(number);
                let record = Record::Done(QueueId::new(number));
                journal.execute(vec![JournalCommand::Append { ticket, record }])
            };
            let committed = JournalCompletion::Committed {
                ticket: Ticket(1),
                location: None,
            };
            assert!(append(1).contains(&committed));
            spoil(&spool).expect("spoiled");
            for number in 2..4 {
                let (ticket, error) = (Ticket(number), JournalError::Displaced);
                assert!(append(number).contains(&JournalCompletion::Failed { ticket, error }));
            }
        }
    }

    #[test]
    fn a_folder_in_the_place_of_the_next_segment_is_left_alone_and_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = FileDisk::open(folder.path()).expect("a spool");
        let obstacle = folder.path().join("journal/00000002.seg");
        std::fs::create_dir(&obstacle).expect("a folder");
        let (mut journal, _) = Journal::open_sized(disk, 256, &mut |_| {}).expect("a journal");
        // Two of these fill a segment.
        for number in 1..10 {
            let ticket = Ticket(number);
            let record = Record::Done(QueueId::new(number));
            let done = journal.execute(vec![JournalCommand::Append { ticket, record }]);
            let committed = JournalCompletion::Committed {
                ticket,
                location: None,
            };
            assert!(done.contains(&committed), "{number}: {done:?}");
        }
        assert!(obstacle.is_dir());
        // Segments without queued messages are deleted: the newest has a higher number anyway.
        let newest = (3..10).map(|number| folder.path().join(format!("journal/{number:08}.seg")));
        assert!(newest.into_iter().any(|segment| segment.is_file()));
        drop(journal);
        let disk = FileDisk::open(folder.path()).expect("a spool");
        let (_, report) = Journal::open_sized(disk, 256, &mut |_| {}).expect("a journal");
        assert_eq!((report.missing, report.damage), (vec![], vec![]));
    }

    /// How many descriptors of this process lead to removed files below the folder.
    fn removed_but_open(folder: &Path) -> usize {
        let links = std::fs::read_dir("/proc/self/fd").expect("descriptors");
        links
            .flatten()
            .filter_map(|entry| std::fs::read_link(entry.path()).ok())
            .filter(|path| path.starts_with(folder))
            .filter(|path| path.to_string_lossy().ends_with(" (deleted)"))
            .count()
    }

    #[test]
    fn the_room_of_segments_and_bodies_that_are_done_is_given_back_while_a_reader_lives() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = FileDisk::open(folder.path()).expect("a spool");
        let mut reader = disk.reader();
        let (mut journal, _) = Journal::open_sized(disk, 4_096, &mut |_| {}).expect("a journal");
        let id = QueueId::new(1);
        let bytes = vec![b'x'; 1_000];
        let message = Record::Message(MessageRecord {
            id,
            envelope: envelope(),
            fields: Vec::new(),
            body: MessageBody::File {
                len: 1_000,
                crc32: 0,
            },
        });
        let append = |number, record| JournalCommand::Append {
            ticket: Ticket(number),
            record,
        };
        journal.execute(vec![
            JournalCommand::BodyAppend { id, bytes },
            append(1, message),
        ]);
        for file in [SpoolFile::Segment(1), SpoolFile::Body(id)] {
            reader.read_at(file, 0, &mut [0; 16]).expect("read");
        }
        // Done, and more behind it than the first segment holds.
        let done = (1..200).map(|number| append(number, Record::Done(QueueId::new(number))));
        journal.execute(done.collect());
        assert_eq!(reader.open.len(), 2);
        assert_eq!(removed_but_open(folder.path()), 2);
        reader.forget_removed();
        assert_eq!(reader.open.len(), 0);
        assert_eq!(removed_but_open(folder.path()), 0);
    }

    fn envelope() -> Envelope {
        Envelope {
            reverse_path: ReversePath::Null,
            recipients: Vec::new(),
            envelope_id: None,
            dsn_return: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            arrived: Timestamp::from_seconds(0),
            origin: "uid=0".into(),
        }
    }

    #[test]
    fn a_journal_lives_through_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = FileDisk::open(folder.path()).expect("a spool");
        let (mut journal, _) = Journal::open(disk, &mut |_| {}).expect("a journal");
        let done = journal.execute(vec![JournalCommand::Append {
            ticket: Ticket(1),
            record: Record::Done(QueueId::new(9)),
        }]);
        assert!(done.contains(&JournalCompletion::Committed {
            ticket: Ticket(1),
            location: None
        }));
        drop(journal);
        let disk = FileDisk::open(folder.path()).expect("a spool");
        let (_, report) = Journal::open(disk, &mut |_| {}).expect("a journal");
        assert_eq!(report.highest, Some(QueueId::new(9)));
        assert!(report.damage.is_empty() && report.torn.is_empty());
    }
}
