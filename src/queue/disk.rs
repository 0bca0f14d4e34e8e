//! The disk operations that the journal needs.
//!
//! Files are named by type, never by text from outside. A write is durable only after [`Disk::sync_data`] of its file;
//! a new or removed file only after [`Disk::sync_folder`] as well.

use std::fmt;

use crate::limits::SEGMENT_NUMBER_MAX;
use crate::queue_id::QueueId;

/// A file of the spool, named by its content.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SpoolFile {
    /// `journal/00000001.seg`.
    Segment(u32),
    /// `journal/tip`: the number of the newest segment, so that the loss of the last ones is noticed, and the highest
    /// id that may occur in them.
    Tip,
    /// `journal/tip.new`: the next `journal/tip`, until it is complete.
    TipDraft,
    /// `body/QUEUEID.part`: a message too large for the journal, while it is received. It has not been accepted.
    Draft(QueueId),
    /// `body/QUEUEID`: a message too large for the journal.
    Body(QueueId),
    /// `damaged/QUEUEID.body`: a large message that no readable record names.
    DamagedBody(QueueId),
    /// `damaged/00000001.seg`: a segment whose damage could not be set aside piece by piece.
    DamagedSegment(u32),
    /// `damaged/told`: the names of damage that was reported to `admin`.
    Told,
    /// `damaged/00000001-00000000.bad`: bytes that recovery could not read.
    Damaged {
        /// The segment that contained them.
        segment: u32,
        /// Their offset in it.
        offset: u32,
    },
}

/// A folder of the spool, relative to `spool/`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SpoolFolder {
    /// `journal/`.
    Journal,
    /// `body/`.
    Body,
    /// `damaged/`.
    Damaged,
}

impl SpoolFile {
    /// The folder that the file lives in.
    pub const fn folder(self) -> SpoolFolder {
        match self {
            Self::Segment(_) | Self::Tip | Self::TipDraft => SpoolFolder::Journal,
            Self::Draft(_) | Self::Body(_) => SpoolFolder::Body,
            Self::Damaged { .. } | Self::DamagedBody(_) | Self::DamagedSegment(_) | Self::Told => {
                SpoolFolder::Damaged
            }
        }
    }
}

impl fmt::Display for SpoolFile {
    /// The file's name within its folder.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) | Self::DamagedSegment(number) => {
                write!(out, "{number:08}.seg")
            }
            Self::Tip => out.write_str("tip"),
            Self::TipDraft => out.write_str("tip.new"),
            Self::Draft(id) => write!(out, "{id}.part"),
            Self::Body(id) => write!(out, "{id}"),
            Self::DamagedBody(id) => write!(out, "{id}.body"),
            Self::Told => out.write_str("told"),
            Self::Damaged { segment, offset } => write!(out, "{segment:08}-{offset:08}.bad"),
        }
    }
}

impl SpoolFolder {
    /// The folder's name within the spool.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Body => "body",
            Self::Damaged => "damaged",
        }
    }

    /// The file with this `name` in this folder; `None` if the journal never gives such a name.
    pub fn parse(self, name: &str) -> Option<SpoolFile> {
        let file = match self {
            Self::Journal if name == "tip" => SpoolFile::Tip,
            Self::Journal if name == "tip.new" => SpoolFile::TipDraft,
            Self::Journal => SpoolFile::Segment(segment_number(name)?),
            Self::Body => match name.strip_suffix(".part") {
                Some(id) => SpoolFile::Draft(id.parse().ok()?),
                None => SpoolFile::Body(name.parse().ok()?),
            },
            Self::Damaged => damaged(name)?,
        };
        // Each file has exactly one name: "+1.seg" and "1.seg" are not ours.
        (file.to_string() == name).then_some(file)
    }
}

fn damaged(name: &str) -> Option<SpoolFile> {
    if name == "told" {
        return Some(SpoolFile::Told);
    }
    if let Some(id) = name.strip_suffix(".body") {
        return Some(SpoolFile::DamagedBody(id.parse().ok()?));
    }
    let Some(region) = name.strip_suffix(".bad") else {
        return Some(SpoolFile::DamagedSegment(segment_number(name)?));
    };
    let (segment, offset) = region.split_once('-')?;
    Some(SpoolFile::Damaged {
        segment: segment.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

/// The number in `00000001.seg`. Numbers that no journal ever reaches are rejected: there must be a next one.
fn segment_number(name: &str) -> Option<u32> {
    let number = name.strip_suffix(".seg")?.parse().ok()?;
    (1..=SEGMENT_NUMBER_MAX).contains(&number).then_some(number)
}

/// An entry of a folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DirEntry {
    /// A regular file with a name of ours.
    File(SpoolFile),
    /// Anything else: unknown names, symbolic links, folders. Contains the name, for the log.
    Foreign(Box<str>),
}

/// Why a disk operation failed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum DiskError {
    /// ENOSPC or EDQUOT.
    NoSpace,
    /// EROFS, EACCES or EPERM.
    ReadOnly,
    /// The file does not exist.
    Missing,
    /// The file exists already.
    Exists,
    /// The name leads to another place than before: the folder, or one above it, was removed or replaced.
    Displaced,
    /// EMFILE, ENFILE or ENOMEM: a later attempt may succeed.
    Exhausted,
    /// EIO and everything else.
    Io,
}

impl fmt::Display for DiskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NoSpace => "no space is left on the disk",
            Self::ReadOnly => "the disk does not permit writing",
            Self::Missing => "the file is missing",
            Self::Exists => "the file exists already",
            Self::Displaced => "the folder of the spool was removed or replaced",
            Self::Exhausted => "the system is out of descriptors or memory",
            Self::Io => "the disk reports an error",
        })
    }
}

impl std::error::Error for DiskError {}

/// The read operations of a disk; threads other than the writer may have one.
pub trait DiskRead {
    /// Reads from `offset` until `into` is full or the file ends; returns how many bytes were read.
    fn read_at(
        &mut self,
        file: SpoolFile,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, DiskError>;

    /// Bytes of the file.
    fn len(&mut self, file: SpoolFile) -> Result<u64, DiskError>;
}

/// A disk as the journal uses it.
pub trait Disk: DiskRead {
    /// Makes a new, empty file; fails with [`DiskError::Exists`] if there is one.
    fn create(&mut self, file: SpoolFile) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`. After an error any part of them may have been written.
    fn write_at(&mut self, file: SpoolFile, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the file `len` bytes long and allocates them all; new bytes read as zeros.
    fn preallocate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError>;

    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, file: SpoolFile, len: u64) -> Result<(), DiskError>;

    /// Makes the file's bytes durable. After an error, nothing written since the last success may be relied on, and a
    /// later success on the same file proves nothing.
    fn sync_data(&mut self, file: SpoolFile) -> Result<(), DiskError>;

    /// Makes the folder's names durable.
    fn sync_folder(&mut self, folder: SpoolFolder) -> Result<(), DiskError>;

    /// Removes the file.
    fn remove(&mut self, file: SpoolFile) -> Result<(), DiskError>;

    /// Renames the file in one step; a file that had that name is removed.
    fn rename(&mut self, from: SpoolFile, to: SpoolFile) -> Result<(), DiskError>;

    /// Whether the file's name still leads to the file that is open, from the root down; [`DiskError::Displaced`] if
    /// not.
    fn check_place(&mut self, file: SpoolFile) -> Result<(), DiskError>;

    /// The entries of the folder, in any order.
    fn list(&mut self, folder: SpoolFolder) -> Result<Vec<DirEntry>, DiskError>;

    /// Bytes that may still be written to the disk.
    fn free_bytes(&mut self) -> Result<u64, DiskError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unauthenticated_clients_are_none() {
        let files = [
            SpoolFile::Segment(1),
            SpoolFile::Segment(SEGMENT_NUMBER_MAX),
            SpoolFile::Tip,
            SpoolFile::TipDraft,
            SpoolFile::Draft(QueueId::new(77)),
            SpoolFile::Body(QueueId::new(77)),
            SpoolFile::DamagedBody(QueueId::new(77)),
            SpoolFile::DamagedSegment(3),
            SpoolFile::Told,
            SpoolFile::Damaged {
                segment: 3,
                offset: 4096,
            },
        ];
        for file in files {
            assert_eq!(file.folder().parse(&file.to_string()), Some(file));
        }
        for name in [
            "1.seg",
            "+0000001.seg",
            "00000001.seg~",
            "00000000.seg",
            "4294967295.seg",
            "..",
            "",
        ] {
            assert_eq!(SpoolFolder::Journal.parse(name), None, "{name}");
        }
        assert_eq!(SpoolFolder::Body.parse("000000000000a"), None);
    }
}
