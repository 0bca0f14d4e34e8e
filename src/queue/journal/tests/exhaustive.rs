//! A small journal through every single damage to its files: every bit, every length, every segment missing, doubled or
//! renumbered. Power cuts are tested beside this, in `power_cuts`.

use super::super::super::recovery::{Aside, Missing, TipState};
use super::*;

/// The acknowledged state of a message.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    location: Location,
    done: bool,
}

/// A journal as a killed process leaves it, and the promises made.
struct History {
    disk: MemoryDisk,
    promised: BTreeMap<QueueId, Acknowledged>,
    segments: Vec<u32>,
}

const SEGMENT: u64 = 900;
const LARGE_BYTES: usize = 70;

fn is_large(id: QueueId) -> bool {
    id.number().is_multiple_of(3) || id.number().is_multiple_of(5)
}

fn body(id: QueueId) -> Vec<u8> {
    text(id.number(), if is_large(id) { LARGE_BYTES } else { 20 })
}

/// The commands that bring a message in.
fn arrival(id: QueueId) -> Vec<JournalCommand> {
    let bytes = body(id);
    let len = bytes.len() as u64;
    let mut commands = Vec::new();
    let kept = if is_large(id) {
        commands.push(JournalCommand::BodyAppend { id, bytes });
        MessageBody::File { len, crc32: 0 }
    } else {
        MessageBody::Inline(bytes)
    };
    let mut sender = envelope(1);
    sender.recipients[0].original = None;
    commands.push(append(Record::Message(MessageRecord {
        id,
        envelope: sender,
        fields: b"X: 1\r\n".to_vec(),
        body: kept,
    })));
    commands
}

/// A journal with this number of records: small and large messages, outcomes, holds, and messages that are done.
fn history(records: u64) -> History {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SEGMENT);
    let mut promised: BTreeMap<QueueId, Acknowledged> = BTreeMap::new();
    let mut next = 1;
    for record in 0..records {
        let settled = QueueId::new(next - 1);
        let commands = match record % 8 {
            3 => vec![append(Record::Outcome(OutcomeRecord {
                recipients: vec![(0, DeliveryResult::Delivered)],
                ..deferred(settled.number(), 1)
            }))],
            5 => vec![append(Record::Hold(settled))],
            7 => vec![append(Record::Done(settled))],
            _ => {
                next += 1;
                arrival(QueueId::new(next - 1))
            }
        };
        for completion in journal.execute(commands) {
            let JournalCompletion::Committed { ticket, location } = completion else {
                continue;
            };
            let id = id(ticket.0);
            if let Some(location) = location {
                let done = false;
                promised.insert(id, Acknowledged { location, done });
            } else if record % 8 == 7 {
                promised.get_mut(&id).expect("accepted").done = true;
            }
        }
    }
    let segments = journal.segments.keys().copied().collect();
    drop(journal);
    History {
        disk,
        promised,
        segments,
    }
}

fn usual() -> History {
    history(64)
}

/// The damage to one segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Harm {
    /// None: every loss is our fault.
    None,
    /// This byte is another.
    Flipped { segment: u32, at: usize },
    /// The segment ends here.
    Cut { segment: u32, at: usize },
    /// No byte of these segments can be relied on.
    Scrambled([u32; 2]),
}

impl Harm {
    fn touches(self, location: Location) -> bool {
        let place = location.place();
        let start = place.offset as usize;
        let end = start + location.record_len() as usize;
        match self {
            Self::None => false,
            Self::Flipped { segment, at } => segment == place.segment && (start..end).contains(&at),
            Self::Cut { segment, at } => segment == place.segment && at < end,
            Self::Scrambled(segments) => segments.contains(&place.segment),
        }
    }

    /// Whether bytes of the record are on no disk any more.
    fn destroys(self, location: Location) -> bool {
        matches!(self, Self::Cut { .. }) && self.touches(location)
    }
}

/// Each message that was acknowledged, and is not done, is in the queue and whole, or in `damaged/` and reported.
fn check(
    disk: &MemoryDisk,
    promised: &BTreeMap<QueueId, Acknowledged>,
    found: &BTreeMap<QueueId, Recovered>,
    report: &OpenReport,
    harm: Harm,
) {
    let why = || format!("{harm:?}: {report:?}");
    for (id, promise) in promised.iter().filter(|(_, promise)| !promise.done) {
        let hit = harm.touches(promise.location);
        if let Some(message) = found.get(id) {
            let bytes = content(disk, message);
            let is_whole = bytes.as_deref() == Some(&body(*id)[..]);
            assert!(is_whole || hit && bytes.is_none(), "{id} {}", why());
            continue;
        }
        assert!(hit, "{id} is lost: {}", why());
        if is_large(*id) {
            let aside = disk.bytes(SpoolFile::DamagedBody(*id));
            assert_eq!(aside, Some(body(*id)), "{id} {}", why());
        }
        if !harm.destroys(promise.location) {
            assert!(is_aside(disk, promise.location, harm), "{id} {}", why());
        }
    }
}

/// The bytes of a message; `None` if its checksum shows that they have changed.
fn content(disk: &MemoryDisk, message: &Recovered) -> Option<Vec<u8>> {
    let part = Part::Body {
        offset: 0,
        len: u32::MAX,
    };
    match read(&mut disk.clone(), message.location, message.id, part) {
        Ok(ReadContent::Body { bytes, crc32 }) => {
            (crc32fast::hash(&bytes) == crc32).then_some(bytes)
        }
        other => panic!("{other:?}"),
    }
}

/// Whether all of a record is in `damaged/`.
fn is_aside(disk: &MemoryDisk, location: Location, harm: Harm) -> bool {
    let mut place = location.place();
    if let Harm::Scrambled([one, other]) = harm {
        // They bear each other's number.
        place.segment = if place.segment == one { other } else { one };
    }
    let end = u64::from(place.offset) + location.record_len();
    let mut listing = disk.clone();
    let entries = listing.list(SpoolFolder::Damaged).expect("a list");
    entries.into_iter().any(|entry| match entry {
        DirEntry::File(file @ SpoolFile::Damaged { segment, offset }) => {
            let len = disk.bytes(file).map_or(0, |bytes| bytes.len() as u64);
            segment == place.segment && offset <= place.offset && end <= u64::from(offset) + len
        }
        _ => false,
    })
}

/// Starts twice, reports to `admin`, and takes a message; after each the promises hold.
fn starts(disk: &MemoryDisk, history: &History, harm: Harm) {
    let (journal, found, report) = open(disk, SEGMENT);
    check(disk, &history.promised, &found, &report, harm);
    let noticed = !report.untold.is_empty();
    let lost = |(id, promise): (&QueueId, &Acknowledged)| !promise.done && !found.contains_key(id);
    if history.promised.iter().any(lost) {
        assert!(noticed, "{harm:?}: nobody is told: {report:?}");
    }
    drop(journal);
    let (mut journal, again, report) = open(disk, SEGMENT);
    assert_eq!(again, found, "{harm:?}");
    check(disk, &history.promised, &again, &report, harm);
    assert_eq!(!report.untold.is_empty(), noticed, "{harm:?}: {report:?}");
    let names = report.untold.iter().map(Aside::name).collect();
    let new = QueueId::new(9_000);
    let mut commands = vec![JournalCommand::Told { names }];
    commands.extend(arrival(new));
    assert!(is_committed(&journal.execute(commands), 9_000), "{harm:?}");
    drop(journal);
    let (_, mut last, report) = open(disk, SEGMENT);
    assert!(last.remove(&new).is_some(), "{harm:?}");
    check(disk, &history.promised, &last, &report, harm);
    assert_eq!(report.untold, [], "{harm:?}: told twice");
}

use super::super::super::disk::DirEntry;

#[test]
fn a_history_is_what_the_tests_below_need() {
    let history = usual();
    assert!(history.segments.len() >= 3, "{:?}", history.segments);
    let large = history.promised.iter().filter(|(id, _)| is_large(**id));
    assert!(large.clone().any(|(_, promise)| promise.done));
    assert!(large.clone().any(|(_, promise)| !promise.done));
    starts(&history.disk.fork(), &history, Harm::None);
}

#[test]
fn any_flipped_bit_costs_no_message_that_is_not_kept_and_told_of() {
    let history = usual();
    for &segment in &history.segments {
        let file = SpoolFile::Segment(segment);
        let bytes = history.disk.bytes(file).expect("a segment");
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 2);
        for at in 0..used.min(bytes.len()) {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let disk = history.disk.fork();
                disk.set_bytes(file, bad);
                starts(&disk, &history, Harm::Flipped { segment, at });
            }
        }
    }
    let tip = history.disk.bytes(SpoolFile::Tip).expect("a note");
    for bit in 0..tip.len() * 8 {
        let mut bad = tip.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let disk = history.disk.fork();
        disk.set_bytes(SpoolFile::Tip, bad);
        let (_, _, report) = open(&disk.fork(), SEGMENT);
        assert_eq!(report.tip, TipState::Damaged);
        starts(&disk, &history, Harm::None);
    }
}

#[test]
fn any_truncation_costs_no_message_that_is_whole_somewhere() {
    let history = usual();
    for &segment in &history.segments {
        let file = SpoolFile::Segment(segment);
        let bytes = history.disk.bytes(file).expect("a segment");
        for at in 0..bytes.len() {
            let disk = history.disk.fork();
            disk.set_bytes(file, bytes[..at].to_vec());
            // No seal records the length of the last segment: its large messages are kept, its small ones are gone.
            let harm = Harm::Cut { segment, at };
            let (_, found, report) = open(&disk, SEGMENT);
            check(&disk, &history.promised, &found, &report, harm);
            let (mut journal, again, report) = open(&disk, SEGMENT);
            assert_eq!(again, found, "{harm:?}");
            check(&disk, &history.promised, &again, &report, harm);
            let is_last = history.segments.last() == Some(&segment);
            let lost = |promise: &Acknowledged| !promise.done && harm.touches(promise.location);
            if !is_last && history.promised.values().any(lost) {
                assert!(!report.untold.is_empty(), "{harm:?}: {report:?}");
            }
            let done = journal.execute(arrival(QueueId::new(9_000)));
            assert!(is_committed(&done, 9_000), "{harm:?}");
        }
    }
}

#[test]
fn any_run_of_missing_segments_comes_back_whole_whatever_was_taken_and_sent_meanwhile() {
    let history = usual();
    let segments = &history.segments;
    for from in 0..segments.len() {
        for to in from..segments.len() {
            let run = &segments[from..=to];
            let disk = history.disk.fork();
            let bytes = run.iter().map(|segment| {
                let file = SpoolFile::Segment(*segment);
                (file, history.disk.bytes(file).expect("a segment"))
            });
            let bytes: Vec<_> = bytes.collect();
            for (file, _) in &bytes {
                disk.lose(*file);
            }
            for _ in 0..2 {
                let (mut journal, _, report) = open(&disk, SEGMENT);
                assert!(!report.missing.is_empty(), "{run:?}");
                // The clock does not know what was lost.
                let new = report.ids().next(Timestamp::from_seconds(0));
                let highest = history.promised.keys().max().copied();
                assert!(Some(new) > highest, "{run:?}: {new} is given out twice");
                assert!(is_committed(&journal.execute(arrival(new)), new.number()));
                let done = journal.execute(vec![append(Record::Done(new))]);
                assert!(is_committed(&done, new.number()), "{run:?}");
            }
            for (file, bytes) in bytes {
                disk.set_bytes(file, bytes);
            }
            for start in 1..=2 {
                let (_, found, report) = open(&disk, SEGMENT);
                assert_eq!(report.missing, [], "{run:?}, start {start}");
                for (id, promise) in &history.promised {
                    assert_eq!(
                        found.contains_key(id),
                        !promise.done,
                        "{id} with {run:?} put back, start {start}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_missing_segment_is_named_and_nothing_is_deleted_until_it_is_back() {
    let history = usual();
    for &segment in &history.segments {
        let file = SpoolFile::Segment(segment);
        let bytes = history.disk.bytes(file).expect("a segment");
        let disk = history.disk.fork();
        disk.lose(file);
        let before = names(&disk);
        for number in [9_001, 9_002] {
            let (mut journal, found, report) = open(&disk, SEGMENT);
            let missing = Missing {
                segment,
                found_as: None,
            };
            assert_eq!(report.missing, [missing]);
            assert_eq!(report.untold, [Aside::Missing(missing)]);
            for (id, promise) in &history.promised {
                let elsewhere = promise.location.segment() != segment && !promise.done;
                assert!(
                    !elsewhere || found.contains_key(id),
                    "{id} without {segment}"
                );
            }
            assert!(names(&disk).is_superset(&before), "without {segment}");
            // The rest of the queue runs.
            let done = journal.execute(arrival(QueueId::new(number)));
            assert!(is_committed(&done, number));
        }
        assert!(names(&disk).is_superset(&before), "without {segment}");

        let lost = disk.fork();
        lost.set_bytes(file, Vec::new()); // it is not coming back
        let harm = Harm::Cut { segment, at: 0 };
        let (_, found, report) = open(&lost, SEGMENT);
        assert_eq!(report.missing, []);
        check(&lost, &history.promised, &found, &report, harm);

        disk.set_bytes(file, bytes);
        let (_, found, report) = open(&disk, SEGMENT);
        assert_eq!(
            (report.missing.as_slice(), report.untold.as_slice()),
            (&[][..], &[][..])
        );
        check(&disk, &history.promised, &found, &report, Harm::None);
        assert!(found.contains_key(&id(9_001)) && found.contains_key(&id(9_002)));
    }
}

/// Segments and files of large messages.
fn names(disk: &MemoryDisk) -> std::collections::BTreeSet<SpoolFile> {
    let folders = [SpoolFolder::Journal, SpoolFolder::Body];
    let lists = folders.map(|folder| disk.clone().list(folder).expect("a list"));
    let files = lists.into_iter().flatten().filter_map(|entry| match entry {
        DirEntry::File(file) => Some(file),
        DirEntry::Foreign(_) => None,
    });
    files.collect()
}

#[test]
fn a_doubled_segment_changes_nothing() {
    let history = usual();
    let last = *history.segments.last().expect("a segment");
    for &segment in &history.segments {
        let bytes = history
            .disk
            .bytes(SpoolFile::Segment(segment))
            .expect("a segment");
        for copy in [last + 1, last + 2, last + 31, last + 33, 1 << 31] {
            let disk = history.disk.fork();
            disk.set_bytes(SpoolFile::Segment(copy), bytes.clone());
            starts(&disk, &history, Harm::None);
            assert_eq!(disk.bytes(SpoolFile::Segment(copy)), Some(bytes.clone()));
        }
    }
}

#[test]
fn a_renumbered_segment_is_told_by_its_old_number() {
    let history = usual();
    let last = *history.segments.last().expect("a segment");
    for &segment in &history.segments {
        let from = SpoolFile::Segment(segment);
        let bytes = history.disk.bytes(from).expect("a segment");
        for other in [last + 1, last + 2, last + 40] {
            let disk = history.disk.fork();
            disk.lose(from);
            disk.set_bytes(SpoolFile::Segment(other), bytes.clone());
            let before = names(&disk);
            for _ in 0..2 {
                let (_, _, report) = open(&disk, SEGMENT);
                let found_as = Some(other);
                assert_eq!(report.missing, [Missing { segment, found_as }]);
                assert!(names(&disk).is_superset(&before));
            }
            disk.lose(SpoolFile::Segment(other));
            disk.set_bytes(from, bytes.clone());
            let (_, found, report) = open(&disk, SEGMENT);
            assert_eq!(report.missing, []);
            check(&disk, &history.promised, &found, &report, Harm::None);
        }
        for &other in history.segments.iter().filter(|other| **other != segment) {
            let disk = history.disk.fork();
            let to = SpoolFile::Segment(other);
            let theirs = history.disk.bytes(to).expect("a segment");
            disk.set_bytes(to, bytes.clone());
            disk.set_bytes(from, theirs);
            starts(&disk, &history, Harm::Scrambled([segment, other]));
        }
    }
}
