//! Damage to bytes of the spool while the relay is down, and what recovery may report about it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use chopar::entropy::{Entropy, SeededEntropy};
use chopar::queue::{DirEntry, Disk, DiskRead, MemoryDisk, SpoolFile, SpoolFolder};
use chopar::queue_id::QueueId;

/// A segment, and its changed bytes.
pub(crate) type Hit = (u32, Range<usize>);

/// The damage to the segments of a spool.
pub(crate) struct Rotten {
    before: BTreeMap<u32, Vec<u8>>,
    after: BTreeMap<u32, Vec<u8>>,
    hits: Vec<Hit>,
}

/// A record at its place in its segment, before the damage.
struct Record {
    segment: u32,
    range: Range<usize>,
    kind: u8,
    id: QueueId,
}

/// The layout of a header is frozen for all versions: magic, version, kind, flags, ID, lengths.
const MAGIC: [u8; 4] = [0xC4, 0x00, 0x0D, 0x01];
const HEADER_BYTES: usize = 48;
const KIND_MESSAGE: u8 = 1;

pub(crate) fn segments(disk: &MemoryDisk) -> BTreeMap<u32, Vec<u8>> {
    let entries = disk.clone().list(SpoolFolder::Journal).expect("a folder");
    let numbers = entries.into_iter().filter_map(|entry| match entry {
        DirEntry::File(SpoolFile::Segment(number)) => Some(number),
        _ => None,
    });
    numbers
        .map(|number| {
            let bytes = disk.bytes(SpoolFile::Segment(number)).unwrap_or_default();
            (number, bytes)
        })
        .collect()
}

impl Rotten {
    /// `earlier` is damage before an earlier start, which is still there.
    pub(crate) fn new(before: BTreeMap<u32, Vec<u8>>, earlier: Vec<Hit>) -> Self {
        Self {
            after: before.clone(),
            before,
            hits: earlier,
        }
    }

    pub(crate) fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// All damage so far.
    pub(crate) fn into_hits(self) -> Vec<Hit> {
        self.hits
    }

    /// Damages one segment; returns the kind of damage.
    pub(crate) fn spoil(&mut self, disk: &MemoryDisk, entropy: &mut SeededEntropy) -> &'static str {
        let numbers: Vec<u32> = self.after.keys().copied().collect();
        let Some(number) = numbers.get(entropy.below(numbers.len() as u64) as usize) else {
            return "nothing to spoil";
        };
        let mut bytes = self.after.remove(number).unwrap_or_default();
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let at = entropy.below(used as u64 + 1) as usize;
        let (kind, range) = match entropy.below(4) {
            0 | 1 if at < used => {
                bytes[at] ^= 1 << entropy.below(8);
                ("bit flip", at..at + 1)
            }
            2 => {
                let len = 1 + entropy.below(600) as usize;
                let end = (at + len).min(bytes.len());
                entropy.fill(&mut bytes[at..end]);
                ("random bytes", at..end)
            }
            _ => {
                let end = bytes.len();
                bytes.truncate(at);
                ("truncation", at..end)
            }
        };
        disk.set_bytes(SpoolFile::Segment(*number), bytes.clone());
        debug_assert!(disk.clone().len(SpoolFile::Segment(*number)).is_ok());
        self.after.insert(*number, bytes);
        self.hits.push((*number, range));
        kind
    }

    /// The bytes that recovery read at this place.
    pub(crate) fn after(&self, segment: u32, offset: u32, len: u64) -> &[u8] {
        let bytes = self.after.get(&segment).map_or(&[][..], Vec::as_slice);
        let start = (offset as usize).min(bytes.len());
        let end = start.saturating_add(len as usize).min(bytes.len());
        &bytes[start..end]
    }

    /// Whether damage near this place explains a report: in it, after it where a record is cut off, or in a header or
    /// seal that covers it. In the last segment, a power cut may also have torn data.
    pub(crate) fn touches(&self, segment: u32, offset: u32, len: u64) -> bool {
        let region = offset as usize..offset as usize + len as usize;
        let inside = |(number, hit): &Hit| {
            let seal = *number > segment && hit.start < HEADER_BYTES + 64;
            seal || (*number == segment && hit.start <= region.end && region.start < hit.end)
        };
        let is_last = self.before.keys().next_back() == Some(&segment);
        is_last || self.hits.iter().any(inside)
    }

    /// Messages with a damaged record.
    pub(crate) fn messages_hit(&self) -> BTreeSet<QueueId> {
        self.records_hit().map(|record| record.id).collect()
    }

    /// Whether recovery must notice: a message with a damaged header is not at the end of its segment.
    pub(crate) fn must_be_told(&self) -> bool {
        self.records_hit().any(|record| {
            let end = record.range.end;
            let header = record.range.start..record.range.start + HEADER_BYTES;
            let after = self.after.get(&record.segment).map_or(0, Vec::len);
            let changed = self.before_after(record.segment, header);
            record.kind == KIND_MESSAGE && changed && after > end
        })
    }

    fn before_after(&self, segment: u32, range: Range<usize>) -> bool {
        let of = |map: &BTreeMap<u32, Vec<u8>>| {
            map.get(&segment)
                .and_then(|bytes| bytes.get(range.clone()))
                .map(<[u8]>::to_vec)
        };
        of(&self.before) != of(&self.after)
    }

    fn records_hit(&self) -> impl Iterator<Item = Record> {
        let records = self
            .before
            .iter()
            .flat_map(|(segment, bytes)| records(*segment, bytes));
        records.filter(|record| {
            self.hits.iter().any(|(segment, hit)| {
                *segment == record.segment
                    && hit.start < record.range.end
                    && record.range.start < hit.end
            })
        })
    }
}

/// Everything in a segment that looks like a record.
fn records(segment: u32, bytes: &[u8]) -> impl Iterator<Item = Record> {
    let starts = bytes
        .windows(MAGIC.len())
        .enumerate()
        .filter(|(_, window)| *window == MAGIC)
        .map(|(at, _)| at);
    starts.filter_map(move |at| {
        let header = bytes.get(at..at + HEADER_BYTES)?;
        let u32_at =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four")) as usize;
        let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight"));
        let in_file = header[6] & 1 != 0;
        let body = if in_file { 0 } else { u64_at(24) as usize };
        let len = HEADER_BYTES + u32_at(16) + u32_at(20) + body;
        Some(Record {
            segment,
            range: at..at.saturating_add(len).min(bytes.len()),
            kind: header[5],
            id: QueueId::new(u64_at(8)),
        })
    })
}
