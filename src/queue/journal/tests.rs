//! The journal through crashes, failures and damage.

mod crashes;
mod damage;
mod exhaustive;
mod hostile;
mod power_cuts;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::disk::DiskRead;
use super::super::memory_disk::{MemoryDisk, Operation};
use super::super::reader::{Part, ReadContent, ReadError, read};
use super::super::record::{DeliveryResult, MessageRecord};
use super::super::recovery::DamageKind;
use super::bodies::SPACE_BATCHES;
use super::*;
use crate::address::{Mailbox, ReversePath};
use crate::cause::FailureCause;
use crate::date::Timestamp;
use crate::entropy::{Entropy, SeededEntropy};
use crate::envelope::{BodyKind, DsnReturn, Envelope, Notify, Recipient};
use crate::limits::SPOOL_RESERVE_BYTES;
use crate::status::EnhancedCode;

const SMALL: u64 = 8_192;

fn envelope(recipients: usize) -> Envelope {
    Envelope {
        reverse_path: ReversePath::parse("sender@example.com").expect("a path"),
        recipients: (0..recipients)
            .map(|number| Recipient {
                destination: None,
                reverse_path: None,
                mailbox: Mailbox::parse(&format!("r{number}@example.org")).expect("a mailbox"),
                notify: Notify::On {
                    success: false,
                    failure: true,
                    delay: number == 1,
                },
                original: Some("rfc822;r@example.org".into()),
            })
            .collect(),
        envelope_id: Some("QQ314159".into()),
        dsn_return: Some(DsnReturn::Headers),
        body: BodyKind::EightBitMime,
        smtputf8: false,
        arrived: Timestamp::from_seconds(1_795_527_131),
        origin: "uid=1000".into(),
    }
}

fn id(number: u64) -> QueueId {
    QueueId::new(number)
}

/// The body that message `number` has in every test.
fn text(number: u64, len: usize) -> Vec<u8> {
    let line = format!("Subject: {number}\r\n\r\n");
    line.bytes().cycle().take(len).collect()
}

fn message(number: u64, len: usize) -> Record {
    Record::Message(MessageRecord {
        id: id(number),
        envelope: envelope(3),
        fields: format!("Received: by here id {number}\r\n").into_bytes(),
        body: MessageBody::Inline(text(number, len)),
    })
}

fn append(record: Record) -> JournalCommand {
    JournalCommand::Append {
        ticket: Ticket(record.id().number()),
        record,
    }
}

fn deferred(number: u64, attempts: u16) -> OutcomeRecord {
    OutcomeRecord {
        id: id(number),
        at: Timestamp::from_seconds(7),
        recipients: vec![(
            1,
            DeliveryResult::Deferred {
                attempts,
                until: Timestamp::from_seconds(9),
                status: Some(EnhancedCode::new(4, 2, 1)),
                why: FailureCause::here("busy").into(),
            },
        )],
        warned: false,
        done: false,
    }
}

type Opened = (
    Journal<MemoryDisk>,
    BTreeMap<QueueId, Recovered>,
    OpenReport,
);

fn open(disk: &MemoryDisk, segment_bytes: u64) -> Opened {
    let mut found = BTreeMap::new();
    let sink = &mut |message: Recovered| drop(found.insert(message.id, message));
    let (journal, report) =
        Journal::open_sized(disk.clone(), segment_bytes, sink).expect("it opens");
    (journal, found, report)
}

fn is_committed(completions: &[JournalCompletion], number: u64) -> bool {
    completions.iter().any(
        |done| matches!(done, JournalCompletion::Committed { ticket, .. } if *ticket == Ticket(number)),
    )
}

fn error_of(completions: &[JournalCompletion], number: u64) -> Option<JournalError> {
    completions.iter().find_map(|done| match done {
        JournalCompletion::Failed { ticket, error } if *ticket == Ticket(number) => Some(*error),
        _ => None,
    })
}

fn whole(disk: &MemoryDisk, found: &Recovered) -> Vec<u8> {
    let mut disk = disk.clone();
    match read(&mut disk, found.location, found.id, Part::Whole) {
        Ok(ReadContent::Whole { body, fields, .. }) => {
            assert!(fields.starts_with(b"Received: by here id "));
            body
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_committed_is_recovered() {
    let disk = MemoryDisk::new();
    let (mut journal, _, report) = open(&disk, SMALL);
    assert_eq!(report, OpenReport::default());
    let done = journal.execute(vec![
        append(message(1, 100)),
        append(message(2, 100)),
        append(Record::Outcome(deferred(1, 3))),
        append(Record::Hold(id(1))),
        append(Record::Done(id(2))),
    ]);
    assert!(is_committed(&done, 1) && is_committed(&done, 2));
    let (_, found, report) = open(&disk, SMALL);
    assert_eq!(found.len(), 1);
    let first = &found[&id(1)];
    assert_eq!(first.envelope, envelope(3));
    assert!(first.held && !first.warned);
    assert_eq!(first.results[0], None);
    assert_eq!(
        first.results[1],
        Some(deferred(1, 3).recipients[0].1.clone())
    );
    assert_eq!(whole(&disk, first), text(1, 100));
    assert_eq!(report.highest, Some(id(2)));
    assert!(report.torn.is_empty() && report.damage.is_empty());
}

#[test]
fn what_a_killed_process_left_with_the_kernel_survives_the_next_power_cut() {
    let segment = SpoolFile::Segment(1);
    for seed in 0..20 {
        let disk = MemoryDisk::new();
        let (mut journal, _, _) = open(&disk, SMALL);
        drop(journal.execute(vec![append(message(1, 100))]));
        // The second record as the process wrote it, killed before its sync.
        let mut writer = disk.snapshot();
        journal.disk = writer.clone();
        let end = journal.current.expect("a segment").committed;
        drop(journal.execute(vec![append(message(2, 2_000))]));
        let len = journal.current.expect("a segment").committed - end;
        let mut record = vec![0; len as usize];
        writer
            .read_at(segment, end, &mut record)
            .expect("it is there");
        disk.clone()
            .write_at(segment, end, &record)
            .expect("it takes it");
        let (_, found, _) = open(&disk, SMALL);
        assert_eq!(found.len(), 2);
        disk.crash(&mut SeededEntropy::new(seed));
        let (_, again, report) = open(&disk, SMALL);
        assert_eq!(again, found, "seed {seed}");
        assert_eq!(report.damage, []);
    }
}

#[test]
fn one_sync_commits_a_batch() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SEGMENT_BYTES);
    drop(journal.execute(vec![append(message(1, 100))]));
    let before = disk.operations();
    let done = journal.execute((2..100).map(|n| append(message(n, 100))).collect());
    assert_eq!(done.len(), 98);
    assert_eq!(disk.operations() - before, 2, "one write, one sync");
}

#[test]
fn a_piece_of_a_body_is_read_with_the_sum_of_the_whole() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 500))]));
    let (_, found, _) = open(&disk, SMALL);
    let part = Part::Body {
        offset: 490,
        len: 100,
    };
    let piece = read(&mut disk.clone(), found[&id(1)].location, id(1), part);
    assert_eq!(
        piece,
        Ok(ReadContent::Body {
            bytes: text(1, 500)[490..].to_vec(),
            crc32: crc32fast::hash(&text(1, 500)),
        })
    );
    let unauthenticated = read(&mut disk.clone(), found[&id(1)].location, id(2), part);
    assert_eq!(unauthenticated, Err(ReadError::Damaged));
}

#[test]
fn a_large_message_has_a_file_that_lives_as_long_as_it() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    let record = Record::Message(MessageRecord {
        id: id(1),
        envelope: envelope(1),
        fields: b"Received: by here id 1\r\n".to_vec(),
        body: MessageBody::File {
            len: 60_000,
            crc32: 0,
        },
    });
    let piece = |range: std::ops::Range<usize>| JournalCommand::BodyAppend {
        id: id(1),
        bytes: text(1, 60_000)[range].to_vec(),
    };
    let done = journal.execute(vec![piece(0..30_000), piece(30_000..60_000)]);
    assert!(done.contains(&JournalCompletion::BodyWritten {
        id: id(1),
        bytes: 30_000
    }));
    assert!(is_committed(&journal.execute(vec![append(record)]), 1));
    disk.crash(&mut SeededEntropy::new(1));
    let (mut journal, found, _) = open(&disk, SMALL);
    let part = Part::Body {
        offset: 0,
        len: 60_000,
    };
    let Ok(ReadContent::Body { bytes, crc32 }) =
        read(&mut disk.clone(), found[&id(1)].location, id(1), part)
    else {
        panic!("unreadable");
    };
    assert_eq!((crc32fast::hash(&bytes), bytes), (crc32, text(1, 60_000)));
    drop(journal.execute(vec![append(Record::Done(id(1)))]));
    assert_eq!(disk.bytes(SpoolFile::Body(id(1))), None);
}

#[test]
fn a_body_nobody_was_promised_is_swept() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![JournalCommand::BodyAppend {
        id: id(5),
        bytes: vec![b'x'; 100],
    }]));
    let (_, _, report) = open(&disk, SMALL);
    assert_eq!(report.orphan_bodies, 1);
    assert_eq!(disk.bytes(SpoolFile::Body(id(5))), None);
}

#[test]
fn a_body_of_another_length_is_refused() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    let record = Record::Message(MessageRecord {
        id: id(1),
        envelope: envelope(1),
        fields: Vec::new(),
        body: MessageBody::File { len: 2, crc32: 0 },
    });
    let piece = JournalCommand::BodyAppend {
        id: id(1),
        bytes: b"x".to_vec(),
    };
    let done = journal.execute(vec![piece, append(record)]);
    assert_eq!(error_of(&done, 1), Some(JournalError::NoBody));
}

#[test]
fn a_message_that_is_not_taken_leaves_no_body_behind() {
    type Trouble = fn(&MemoryDisk, &mut Journal<MemoryDisk>);
    let troubles: [(Trouble, JournalError); 3] = [
        (
            |disk, _| disk.fail(Operation::Preallocate, 0, 1, DiskError::NoSpace),
            JournalError::NoSpace,
        ),
        (
            |disk, journal| {
                disk.set_free(1);
                for _ in 0..=SPACE_BATCHES {
                    drop(journal.execute(Vec::new()));
                }
            },
            JournalError::NoSpace,
        ),
        (
            |disk, _| disk.fail(Operation::Sync, 0, 1, DiskError::Io),
            JournalError::Io,
        ),
    ];
    for (trouble, error) in troubles {
        let disk = MemoryDisk::new();
        let (mut journal, _, _) = open(&disk, SMALL);
        let record = Record::Message(MessageRecord {
            id: id(1),
            envelope: envelope(1),
            fields: Vec::new(),
            body: MessageBody::File { len: 1, crc32: 0 },
        });
        let piece = JournalCommand::BodyAppend {
            id: id(1),
            bytes: b"x".to_vec(),
        };
        drop(journal.execute(vec![piece]));
        trouble(&disk, &mut journal);
        let done = journal.execute(vec![append(record)]);
        assert_eq!(error_of(&done, 1), Some(error));
        for file in [SpoolFile::Draft(id(1)), SpoolFile::Body(id(1))] {
            assert_eq!(disk.bytes(file), None, "{error:?}");
        }
        disk.mend();
        let (_, found, report) = open(&disk, SMALL);
        assert!(found.is_empty() && report.damage.is_empty() && report.orphan_bodies == 0);
    }
}

#[test]
fn a_lost_body_file_sets_its_message_aside() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    let record = Record::Message(MessageRecord {
        id: id(1),
        envelope: envelope(1),
        fields: Vec::new(),
        body: MessageBody::File { len: 1, crc32: 0 },
    });
    let piece = JournalCommand::BodyAppend {
        id: id(1),
        bytes: b"x".to_vec(),
    };
    drop(journal.execute(vec![piece, append(record), append(message(2, 9))]));
    disk.clone().remove(SpoolFile::Body(id(1))).expect("gone");
    let (_, found, report) = open(&disk, SMALL);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [id(2)]);
    let damage = report.damage[0];
    assert_eq!(
        (damage.id, damage.kind),
        (Some(id(1)), DamageKind::BodyFile)
    );
    assert!(damage.kept);
}

#[test]
fn a_refused_batch_does_not_come_back_although_its_bytes_got_there() {
    for operation in [
        Operation::Sync,
        Operation::SyncDone,
        Operation::Write,
        Operation::CheckPlace,
    ] {
        for error in [DiskError::Io, DiskError::NoSpace] {
            for seed in 0..50 {
                let disk = MemoryDisk::new();
                let (mut journal, _, _) = open(&disk, SMALL);
                drop(journal.execute(vec![append(message(1, 100))]));
                disk.fail(operation, 0, 1, error);
                let done = journal.execute(vec![append(message(2, 100)), append(message(3, 10))]);
                assert!(error_of(&done, 2).is_some() && error_of(&done, 3).is_some());
                if seed % 2 == 0 {
                    assert!(is_committed(
                        &journal.execute(vec![append(message(4, 100))]),
                        4
                    ));
                }
                disk.crash(&mut SeededEntropy::new(seed));
                let (_, found, report) = open(&disk, SMALL);
                assert!(found.contains_key(&id(1)), "{operation:?} {error:?} {seed}");
                assert!(
                    !found.contains_key(&id(2)),
                    "{operation:?} {error:?} {seed}"
                );
                assert!(
                    !found.contains_key(&id(3)),
                    "{operation:?} {error:?} {seed}"
                );
                assert_eq!(found.contains_key(&id(4)), seed % 2 == 0);
                assert!(report.damage.is_empty(), "{report:?}");
            }
        }
    }
}

#[test]
fn a_descriptor_whose_sync_failed_is_not_used_again() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 100))]));
    disk.fail(Operation::Sync, 0, 1, DiskError::Io);
    drop(journal.execute(vec![append(message(2, 100))]));
    let abandoned = disk.bytes(SpoolFile::Segment(1));
    drop(journal.execute(vec![append(message(3, 100))]));
    assert_eq!(disk.bytes(SpoolFile::Segment(1)), abandoned);
    assert!(disk.bytes(SpoolFile::Segment(2)).is_some());
}

#[test]
fn a_disk_that_keeps_failing_breaks_the_journal() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 100))]));
    disk.fail(Operation::Sync, 0, u64::MAX, DiskError::Io);
    for number in 2..6 {
        assert!(error_of(&journal.execute(vec![append(message(number, 9))]), number).is_some());
    }
    disk.mend();
    let done = journal.execute(vec![append(message(9, 9))]);
    assert_eq!(error_of(&done, 9), Some(JournalError::Broken));
    assert!(journal.is_broken());
    let (mut journal, found, _) = open(&disk, SMALL);
    assert!(found.contains_key(&id(1)));
    assert!(is_committed(
        &journal.execute(vec![append(message(9, 9))]),
        9
    ));
}

#[test]
fn a_disk_under_its_reserve_takes_outcomes_and_no_mail() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 100))]));
    disk.set_free(SPOOL_RESERVE_BYTES - 1);
    for _ in 0..SPACE_BATCHES {
        drop(journal.execute(Vec::new()));
    }
    let piece = JournalCommand::BodyAppend {
        id: id(3),
        bytes: vec![1],
    };
    let done = journal.execute(vec![
        append(message(2, 9)),
        append(Record::Outcome(deferred(1, 1))),
        piece,
    ]);
    assert_eq!(error_of(&done, 2), Some(JournalError::NoSpace));
    assert!(is_committed(&done, 1));
    assert!(done.contains(&JournalCompletion::BodyFailed {
        id: id(3),
        error: JournalError::NoSpace
    }));
    disk.set_free(1 << 40);
    let done = journal.execute(vec![append(message(4, 9))]);
    assert!(is_committed(&done, 4) && done.contains(&JournalCompletion::Space { free: 1 << 40 }));
}

#[test]
fn a_full_disk_never_breaks_the_journal() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 100))]));
    disk.fail(Operation::Write, 0, 20, DiskError::NoSpace);
    for number in 2..22 {
        let done = journal.execute(vec![append(message(number, 9))]);
        assert_eq!(error_of(&done, number), Some(JournalError::NoSpace));
    }
    assert!(is_committed(
        &journal.execute(vec![append(message(30, 9))]),
        30
    ));
}

#[test]
fn dead_segments_are_deleted_and_ids_are_remembered() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    for number in 1..100 {
        let done = journal.execute(vec![append(message(number, 1_000))]);
        assert!(is_committed(&done, number));
        drop(journal.execute(vec![append(Record::Done(id(number)))]));
    }
    let names = disk.clone().list(SpoolFolder::Journal).expect("a list");
    assert!(names.len() <= 2, "{names:?}");
    for _ in 0..3 {
        let (_, found, report) = open(&disk, SMALL);
        assert!(found.is_empty());
        assert_eq!(report.highest, Some(id(99)));
        let next = report.ids().next(Timestamp::from_seconds(0));
        assert!(next > id(99));
    }
}

#[test]
fn few_messages_in_an_old_segment_are_copied_forward_with_their_progress() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 1_000)), append(Record::Hold(id(1)))]));
    let mut retired = false;
    for number in 2..60 {
        let mut next = journal.execute(vec![append(message(number, 1_000))]);
        next.extend(journal.execute(vec![append(Record::Done(id(number)))]));
        while let Some(done) = next.pop() {
            match done {
                JournalCompletion::Crowded { messages } => {
                    assert_eq!(messages, [id(1)]);
                    next.extend(journal.execute(vec![JournalCommand::CopyForward {
                        ticket: Ticket(1_000),
                        id: id(1),
                        progress: deferred(1, 4),
                    }]));
                }
                JournalCompletion::Retirable { segment } => {
                    retired = true;
                    assert!(disk.bytes(SpoolFile::Segment(segment)).is_some());
                    next.extend(journal.execute(vec![JournalCommand::Retire { segment }]));
                    assert_eq!(disk.bytes(SpoolFile::Segment(segment)), None);
                }
                JournalCompletion::Failed { .. } => panic!("{done:?}"),
                _ => {}
            }
        }
    }
    assert!(retired);
    let (_, found, _) = open(&disk, SMALL);
    assert_eq!(found.len(), 1);
    let first = &found[&id(1)];
    assert!(first.held);
    assert_eq!(
        first.results[1],
        Some(deferred(1, 4).recipients[0].1.clone())
    );
    assert_eq!(whole(&disk, first), text(1, 1_000));
}

#[test]
fn a_done_message_is_not_copied_back_to_life() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute(vec![append(message(1, 100))]));
    let copy = JournalCommand::CopyForward {
        ticket: Ticket(7),
        id: id(1),
        progress: deferred(1, 1),
    };
    let done = journal.execute(vec![append(Record::Done(id(1))), copy]);
    assert_eq!(error_of(&done, 7), Some(JournalError::NotFound));
    assert!(open(&disk, SMALL).1.is_empty());
}

#[test]
fn a_record_larger_than_a_segment_is_refused_alone() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    let done = journal.execute(vec![
        append(message(1, 10)),
        append(message(2, 9_000)),
        append(message(3, 10)),
    ]);
    assert_eq!(error_of(&done, 2), Some(JournalError::TooLarge));
    assert!(is_committed(&done, 1) && is_committed(&done, 3));
}

#[test]
fn ten_thousand_messages_are_found_again() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SEGMENT_BYTES);
    for batch in 0..100 {
        let commands = (0..100).map(|n| append(message(batch * 100 + n + 1, 200)));
        drop(journal.execute(commands.collect()));
    }
    assert_eq!(open(&disk, SEGMENT_BYTES).1.len(), 10_000);
}

#[test]
fn a_read_that_fails_in_a_start_costs_no_message() {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    for number in 1..=20 {
        drop(journal.execute(vec![append(message(number, 200))]));
    }
    let id = QueueId::new(21);
    let mut large = message(21, 0);
    if let Record::Message(message) = &mut large {
        message.body = MessageBody::File {
            len: 1_000,
            crc32: 0,
        };
    }
    let bytes = vec![b'x'; 1_000];
    drop(journal.execute(vec![
        JournalCommand::BodyAppend { id, bytes },
        append(large),
    ]));
    drop(journal);
    let mut failed = 0;
    for skip in 0.. {
        disk.mend();
        disk.fail(Operation::Read, skip, 1, DiskError::Io);
        match Journal::open_sized(disk.clone(), SMALL, &mut |_| {}) {
            Ok(_) => break,
            Err(error) => assert_eq!(error, OpenError::Disk(DiskError::Io)),
        }
        disk.mend();
        let (_, found, report) = open(&disk, SMALL);
        assert_eq!((found.len(), report.damage.len()), (21, 0), "read {skip}");
        failed += 1;
    }
    assert!(failed > 20, "only {failed} reads");
}
