use std::collections::BTreeMap;

use chopar::address::{Mailbox, ReversePath};
use chopar::cause::FailureCause;
use chopar::date::Timestamp;
use chopar::envelope::{BodyKind, Envelope, Notify, Recipient};
use chopar::queue::{
    DeliveryResult, Journal, JournalCommand, JournalCompletion, MemoryDisk, MessageBody,
    MessageRecord, OpenError, OpenReport, OutcomeRecord, Part, Record, Recovered, SpoolFile,
    Ticket, read,
};
use chopar::queue_id::QueueId;
use chopar::status::EnhancedCode;

/// A spool that the journal did not write. The first byte chooses: arbitrary bytes, a spool with some bytes changed, or
/// records with right checksums and nonsense payloads. It opens, and opens again with the same messages. A message that
/// is written to it is found, and none of the others is lost by that.
pub fn journal(data: &[u8]) {
    let (variant, bytes) = super::variant(data);
    let disk = match variant % 3 {
        0 => {
            let disk = MemoryDisk::new();
            disk.set_bytes(SpoolFile::Segment(1), bytes.to_vec());
            disk
        }
        1 => altered(bytes),
        _ => crafted(bytes),
    };
    let Some((journal, found, _)) = open(&disk) else {
        return;
    };
    drop(journal);
    let (mut journal, again, report) = open(&disk).expect("it opened before");
    assert_eq!(again, found);
    for (id, message) in &found {
        for part in [Part::Head, Part::Whole, Part::Body { offset: 1, len: 9 }] {
            drop(read(&mut disk.clone(), message.location, *id, part));
        }
    }
    let id = report.ids().next(Timestamp::from_seconds(1));
    if Some(id) <= report.highest {
        return; // there are no higher ids
    }
    let done = journal.execute(vec![append(message(id))]);
    let committed = |done: &JournalCompletion| matches!(done, JournalCompletion::Committed { .. });
    assert!(done.iter().any(committed), "{done:?}");
    drop(journal);
    let (_, mut after, _) = open(&disk).expect("it opened before");
    assert!(after.remove(&id).is_some(), "{id} is lost");
    assert_eq!(after, found);
}

type Opened = (
    Journal<MemoryDisk>,
    BTreeMap<QueueId, Recovered>,
    OpenReport,
);

/// Opens the spool; `None` if it belongs to a later version.
fn open(disk: &MemoryDisk) -> Option<Opened> {
    let mut found = BTreeMap::new();
    let sink = &mut |message: Recovered| {
        let id = message.id;
        assert!(found.insert(id, message).is_none(), "{id} twice");
    };
    match Journal::open_sized(disk.clone(), SEGMENT_BYTES, sink) {
        Ok((journal, report)) => {
            assert_eq!(report.messages, found.len());
            Some((journal, found, report))
        }
        Err(OpenError::FutureVersion { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

/// A spool of a few messages with changes: each three bytes give a place and the bits.
fn altered(changes: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk).expect("an empty spool");
    for number in 1..=8 {
        journal.execute(vec![append(message(QueueId::new(number)))]);
    }
    journal.execute(vec![
        append(Record::Outcome(outcome(QueueId::new(2)))),
        append(Record::Hold(QueueId::new(3))),
        append(Record::Done(QueueId::new(4))),
    ]);
    drop(journal);
    for change in changes.chunks_exact(3) {
        let &[high, low, bits] = change else { continue };
        let mut at = usize::from(u16::from_be_bytes([high, low]));
        for segment in 1.. {
            let file = SpoolFile::Segment(segment);
            let Some(mut bytes) = disk.bytes(file) else {
                break;
            };
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
                disk.set_bytes(file, bytes);
                break;
            }
            at -= bytes.len();
        }
    }
    disk
}

/// Records with these payloads, framed like those of queue/frame.rs. Each begins with its kind (the top bit starts a
/// new segment), flags, ID, and the lengths of its three parts.
fn crafted(mut bytes: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut segment, mut out) = (1_u32, Vec::new());
    while let Some((&[kind, flags, id, envelope, fields, body], rest)) = bytes.split_first_chunk() {
        if kind & 0x80 != 0 {
            disk.set_bytes(SpoolFile::Segment(segment), std::mem::take(&mut out));
            segment += 1;
        }
        let [envelope, fields, body] = [envelope, fields, body].map(usize::from);
        let (envelope, rest) = rest.split_at(envelope.min(rest.len()));
        let (fields, rest) = rest.split_at(fields.min(rest.len()));
        let (body, rest) = rest.split_at(body.min(rest.len()));
        bytes = rest;
        let mut header = vec![0xC4, 0x00, 0x0D, 0x01, 1, kind & 0x7F, flags, 0];
        header.extend_from_slice(&u64::from(id).to_le_bytes());
        header.extend_from_slice(&(envelope.len() as u32).to_le_bytes());
        header.extend_from_slice(&(fields.len() as u32).to_le_bytes());
        header.extend_from_slice(&(body.len() as u64).to_le_bytes());
        for part in [envelope, fields, body] {
            header.extend_from_slice(&crc32fast::hash(part).to_le_bytes());
        }
        let place = [segment.to_le_bytes(), (out.len() as u32).to_le_bytes()].concat();
        let sum = crc32fast::hash(&[header.as_slice(), &place].concat());
        header.extend_from_slice(&sum.to_le_bytes());
        out.extend([header.as_slice(), envelope, fields, body].concat());
    }
    disk.set_bytes(SpoolFile::Segment(segment), out);
    disk
}

fn append(record: Record) -> JournalCommand {
    JournalCommand::Append {
        ticket: Ticket(1),
        record,
    }
}

fn message(id: QueueId) -> Record {
    Record::Message(MessageRecord {
        id,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient {
                mailbox: Mailbox::parse("ann@example.org").expect("a mailbox"),
                notify: Notify::Default,
                original: None,
                destination: None,
                reverse_path: None,
            }],
            envelope_id: Some("Q".into()),
            dsn_return: None,
            body: BodyKind::SevenBit,
            smtputf8: false,
            arrived: Timestamp::from_seconds(1_795_527_131),
            origin: "uid=1000".into(),
        },
        fields: b"Received: here\r\n".to_vec(),
        body: MessageBody::Inline(b"Subject: x\r\n\r\nhello\r\n".to_vec()),
    })
}

fn outcome(id: QueueId) -> OutcomeRecord {
    let deferred = DeliveryResult::Deferred {
        attempts: 1,
        until: Timestamp::from_seconds(9),
        status: Some(EnhancedCode::new(4, 2, 1)),
        why: FailureCause::here("busy").into(),
    };
    OutcomeRecord {
        id,
        at: Timestamp::from_seconds(7),
        recipients: vec![(0, deferred)],
        warned: true,
        done: false,
    }
}

/// Small, so that eight messages fill more than one.
const SEGMENT_BYTES: u64 = 1_024;
