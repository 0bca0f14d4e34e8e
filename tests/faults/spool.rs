//! Reads the spool without the code under test: it knows only the frozen header of a record.

use std::fs;
use std::path::Path;

/// A record, as its header describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Record {
    kind: u8,
    id: u64,
    envelope: Vec<u8>,
}

/// The state of a message on the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Standing {
    /// Its record exists.
    pub(crate) written: bool,
    /// A record exists that says that the relay is done with it.
    pub(crate) recorded: bool,
}

/// Searches the whole journal for the message to this recipient.
pub(crate) fn standing(spool: &Path, recipient: &str) -> Standing {
    let records = records(spool);
    let is_it = |record: &&Record| {
        record.kind == MESSAGE && contains(&record.envelope, recipient.as_bytes())
    };
    let id = records.iter().find(is_it).map(|record| record.id);
    let recorded = records
        .iter()
        .any(|record| Some(record.id) == id && is_last(record));
    Standing {
        written: id.is_some(),
        recorded,
    }
}

/// The same for DSNs to this sender: whether there are any, and whether the relay is done with all of them.
pub(crate) fn dsns(spool: &Path, sender: &str) -> Standing {
    let records = records(spool);
    let is_dsn = |record: &&Record| {
        let is_to = |part: &str| contains(&record.envelope, part.as_bytes());
        record.kind == MESSAGE && is_to(sender) && !is_to("@four.test")
    };
    let ids: Vec<u64> = records
        .iter()
        .filter(is_dsn)
        .map(|record| record.id)
        .collect();
    let is_done = |id: &u64| {
        records
            .iter()
            .any(|record| record.id == *id && is_last(record))
    };
    Standing {
        written: !ids.is_empty(),
        recorded: ids.iter().all(is_done),
    }
}

/// Whether this record says that the relay is done with a message.
fn is_last(record: &Record) -> bool {
    // The flags of an outcome record follow its time.
    let flags = record.envelope.get(8).copied().unwrap_or_default();
    record.kind == DONE || record.kind == OUTCOME && flags & 2 != 0
}

/// Adds what a kill can leave: the front of a record after the last one, and the file of a message that was never
/// recorded.
pub(crate) fn tear(spool: &Path) {
    let last = segments(spool).pop().expect("a segment");
    let mut bytes = fs::read(&last).expect("a segment");
    let (mut at, mut first) = (0, 0);
    while let Some(len) = record_len(&bytes[at..]) {
        first = if bytes[at + 5] == MESSAGE && first == 0 {
            at
        } else {
            first
        };
        at += len;
    }
    let front = bytes[first..first + 60].to_vec();
    bytes.resize(bytes.len().max(at + 60), 0);
    bytes[at..at + 60].copy_from_slice(&front);
    fs::write(last, bytes).expect("a segment");
    fs::write(spool.join("body/0ZZZZZZZZZZZ0.part"), b"nobody's").expect("a file");
}

fn segments(spool: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(spool.join("journal")).into_iter().flatten();
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // The folder also has a note that names the newest segment.
    paths.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    paths.sort();
    paths
}

fn records(spool: &Path) -> Vec<Record> {
    let mut found = Vec::new();
    for path in segments(spool) {
        // The relay may remove it in between.
        let bytes = fs::read(path).unwrap_or_default();
        let mut at = 0;
        while let Some(len) = record_len(&bytes[at..]) {
            let envelope_len = u32_at(&bytes[at..], 16);
            let envelope = bytes
                .get(at + HEADER..at + HEADER + envelope_len)
                .unwrap_or_default();
            found.push(Record {
                kind: bytes[at + 5],
                id: u64_at(&bytes[at..], 8),
                envelope: envelope.to_vec(),
            });
            at = (at + len).min(bytes.len());
        }
    }
    found
}

/// The length of the record at the front, if one begins here.
fn record_len(bytes: &[u8]) -> Option<usize> {
    let is_record = bytes.len() >= HEADER && bytes.starts_with(&[0xC4, 0x00, 0x0D, 0x01]);
    let in_file = bytes.get(6)? & 1 == 1;
    let body = if in_file {
        0
    } else {
        usize::try_from(u64_at(bytes, 24)).ok()?
    };
    is_record.then(|| HEADER + u32_at(bytes, 16) + u32_at(bytes, 20) + body)
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes
        .get(at..at + 8)
        .and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_le_bytes)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

const HEADER: usize = 48;
const MESSAGE: u8 = 1;
const OUTCOME: u8 = 2;
const DONE: u8 = 5;
