//! Sets damaged data aside during recovery: none of it is deleted, and the operator is informed once.

use std::collections::{BTreeSet, HashMap};

use super::super::disk::{DirEntry, Disk, DiskError, SpoolFile, SpoolFolder};
use super::super::frame::{HEADER_BYTES, Header, Location, Place};
use super::report::{Aside, Damage, DamageKind, OpenError};
use super::scan::Scan;
use super::window::SCAN_BYTES;
use crate::limits::{DAMAGED_REGIONS_MAX, TOLD_BYTES_MAX};
use crate::queue_id::QueueId;

impl<D: Disk> Scan<'_, D> {
    /// Copies bytes to `damaged/` and reports them. A segment with too much damage is kept whole.
    pub(super) fn set_aside(
        &mut self,
        segment: u32,
        from: u64,
        to: u64,
        id: Option<QueueId>,
        kind: DamageKind,
    ) {
        let offset = u32::try_from(from).unwrap_or(u32::MAX);
        let len = to.saturating_sub(from);
        let room = self.report.damage.len() < DAMAGED_REGIONS_MAX;
        let kept = room && self.keep(segment, offset, len).is_ok();
        if !kept {
            self.kept.insert(segment);
        }
        self.note_damage(Damage {
            segment,
            offset,
            len,
            id,
            kind,
            kept,
        });
    }

    /// Copies bytes to `damaged/`; the name of the copy is durable once the folder is synced.
    pub(super) fn keep(&mut self, segment: u32, offset: u32, len: u64) -> Result<(), DiskError> {
        let aside = SpoolFile::Damaged { segment, offset };
        match self.disk.create(aside) {
            // An earlier start set it aside, whole or in part: it is written again.
            Ok(()) | Err(DiskError::Exists) => {}
            Err(error) => return Err(error),
        }
        let from = SpoolFile::Segment(segment);
        let mut done = 0;
        let mut piece = vec![0; SCAN_BYTES];
        while done < len {
            let want = usize::try_from(len.saturating_sub(done))
                .map_or(SCAN_BYTES, |left| left.min(SCAN_BYTES));
            let into = piece.get_mut(..want).unwrap_or_default();
            let at = u64::from(offset).saturating_add(done);
            let got = self.disk.read_at(from, at, into)?;
            if got == 0 {
                break;
            }
            self.disk
                .write_at(aside, done, piece.get(..got).unwrap_or_default())?;
            done = done.saturating_add(got as u64);
        }
        self.disk.truncate(aside, done)?;
        self.disk.sync_data(aside)?;
        self.is_damaged_unsynced = true;
        Ok(())
    }

    pub(super) fn sync_damaged(&mut self) -> Result<(), DiskError> {
        if self.is_damaged_unsynced {
            self.disk.sync_folder(SpoolFolder::Damaged)?;
            self.is_damaged_unsynced = false;
        }
        Ok(())
    }

    /// Removes files of large messages that are dead, and sets aside those that no record mentions.
    pub(super) fn sweep_bodies(
        &mut self,
        live: &HashMap<QueueId, (Location, bool)>,
    ) -> Result<(), OpenError> {
        let mut moved = false;
        for entry in self.disk.list(SpoolFolder::Body)? {
            match entry {
                DirEntry::File(SpoolFile::Body(id)) if live.contains_key(&id) => {}
                DirEntry::File(file @ SpoolFile::Body(id)) if !self.done.contains(&id) => {
                    self.disk.rename(file, SpoolFile::DamagedBody(id))?;
                    moved = true;
                }
                DirEntry::File(file @ (SpoolFile::Body(_) | SpoolFile::Draft(_))) => {
                    self.disk.remove(file)?;
                    self.report.orphan_bodies = self.report.orphan_bodies.saturating_add(1);
                }
                DirEntry::File(other) => self.foreign(SpoolFolder::Body, &other.to_string()),
                DirEntry::Foreign(name) => self.foreign(SpoolFolder::Body, &name),
            }
        }
        if moved {
            // The new name first: a file with two is better than one with none.
            self.disk.sync_folder(SpoolFolder::Damaged)?;
            self.disk.sync_folder(SpoolFolder::Body)?;
            self.is_damaged_unsynced = false;
        }
        Ok(())
    }

    /// Finds damage that was not reported to `admin`; returns the names of the reported damage.
    pub(super) fn review_damaged(&mut self) -> Result<BTreeSet<Box<str>>, OpenError> {
        if self.sync_damaged().is_err() {
            // Their names may not last: the segments have to.
            for damage in &mut self.report.damage {
                damage.kept = false;
                self.kept.insert(damage.segment);
            }
        }
        let mut found: Vec<Aside> = Vec::new();
        found.extend(self.report.missing.iter().map(|one| Aside::Missing(*one)));
        let lost = self.report.damage.iter().filter(|damage| !damage.kept);
        found.extend(lost.map(|damage| Aside::Lost {
            segment: damage.segment,
            offset: damage.offset,
            len: damage.len,
            id: damage.id,
        }));
        let mut told = BTreeSet::new();
        for entry in self.disk.list(SpoolFolder::Damaged)? {
            match entry {
                DirEntry::File(SpoolFile::Told) => told = self.read_told()?,
                DirEntry::File(file) => found.extend(self.aside(file)?),
                DirEntry::Foreign(_) => {}
            }
        }
        let names: BTreeSet<Box<str>> = found.iter().map(Aside::name).collect();
        told.retain(|name| names.contains(name));
        found.retain(|aside| !told.contains(&aside.name()));
        found.truncate(DAMAGED_REGIONS_MAX);
        self.report.untold = found;
        Ok(told)
    }

    /// Identifies a file in `damaged/`.
    fn aside(&mut self, file: SpoolFile) -> Result<Option<Aside>, DiskError> {
        Ok(match file {
            SpoolFile::Damaged { segment, offset } => {
                let front = self.window.get(self.disk, file, 0, HEADER_BYTES)?;
                let header = Header::decode(front, Place { segment, offset });
                Some(Aside::Region {
                    segment,
                    offset,
                    len: self.disk.len(file)?,
                    id: header.ok().map(|header| header.id),
                })
            }
            SpoolFile::DamagedBody(id) => Some(Aside::Body {
                id,
                len: self.disk.len(file)?,
            }),
            SpoolFile::DamagedSegment(number) => Some(Aside::Segment(number)),
            _ => None,
        })
    }

    /// The list of reported damage; an unreadable list counts as empty, and all is reported again.
    fn read_told(&mut self) -> Result<BTreeSet<Box<str>>, DiskError> {
        let len = self.disk.len(SpoolFile::Told)?;
        let len = usize::try_from(len).map_or(TOLD_BYTES_MAX, |len| len.min(TOLD_BYTES_MAX));
        let mut bytes = vec![0; len];
        let got = self.disk.read_at(SpoolFile::Told, 0, &mut bytes)?;
        bytes.truncate(got);
        Ok(told(&bytes).unwrap_or_default())
    }
}

/// `damaged/told`: a checksum, then one name per line.
pub(in crate::queue) fn put_told(names: &BTreeSet<Box<str>>) -> Vec<u8> {
    let mut list = String::new();
    for name in names {
        if list.len().saturating_add(name.len()) < TOLD_BYTES_MAX - SUM_LINE_BYTES {
            list.push_str(name);
            list.push('\n');
        }
    }
    let sum = crc32fast::hash(list.as_bytes());
    format!("{sum:08x}\n{list}").into_bytes()
}

fn told(bytes: &[u8]) -> Option<BTreeSet<Box<str>>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (sum, list) = text.split_once('\n')?;
    let whole = u32::from_str_radix(sum, 16) == Ok(crc32fast::hash(list.as_bytes()));
    whole.then(|| list.lines().map(Box::from).collect())
}

const SUM_LINE_BYTES: usize = 10;
