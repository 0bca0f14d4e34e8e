//! Segments that were damaged, cut, forged or written by a later version.

use super::*;

/// A journal of five messages in one segment, with an outcome, and its disk.
fn five() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    drop(journal.execute((1..6).map(|number| append(message(number, 40))).collect()));
    drop(journal.execute(vec![append(Record::Outcome(deferred(2, 1)))]));
    journal.close();
    disk
}

#[test]
fn a_flipped_bit_costs_at_most_the_message_that_it_hits() {
    let disk = five();
    let bytes = disk.bytes(SpoolFile::Segment(1)).expect("a segment");
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let hurt = MemoryDisk::new();
        hurt.set_bytes(SpoolFile::Segment(1), bad);
        let (_, found, report) = open(&hurt, SMALL);
        assert!(found.len() >= 4, "{at}: {}", found.len());
        let noticed = report.damage.len() + report.torn.len();
        assert!(noticed == 1, "{at}: {report:?}");
        for message in found.values() {
            assert_eq!(whole(&hurt, message), text(message.id.number(), 40));
        }
        let aside = hurt.clone().list(SpoolFolder::Damaged).expect("a list");
        assert_eq!(aside.len(), 1, "{at}");
        let again = open(&hurt, SMALL).1;
        assert_eq!(found, again, "{at}");
    }
}

#[test]
fn a_journal_cut_at_any_length_keeps_what_is_before_the_cut() {
    let disk = five();
    let bytes = disk.bytes(SpoolFile::Segment(1)).expect("a segment");
    let mut most = 0;
    for len in 0..bytes.len() {
        let cut = MemoryDisk::new();
        cut.set_bytes(SpoolFile::Segment(1), bytes[..len].to_vec());
        let (mut journal, found, _) = open(&cut, SMALL);
        assert!(found.len() >= most, "{len}");
        most = found.len();
        assert!(is_committed(
            &journal.execute(vec![append(message(9, 40))]),
            9
        ));
        let (_, again, _) = open(&cut, SMALL);
        assert_eq!(again.len(), most + 1, "{len}");
    }
    assert_eq!(most, 5);
}

#[test]
fn a_torn_record_stays_dead_when_its_segment_is_sealed() {
    // Its envelope is whole, its body is not: a later start reads no bodies of this segment.
    let disk = five();
    let mut bytes = disk.bytes(SpoolFile::Segment(1)).expect("a segment");
    let body = text(3, 40);
    let at = bytes
        .windows(body.len())
        .position(|window| window == body)
        .expect("the body of 3");
    bytes[at + 20] ^= 1;
    disk.set_bytes(SpoolFile::Segment(1), bytes);
    let (mut journal, found, _) = open(&disk, SMALL);
    assert!(!found.contains_key(&id(3)));
    drop(journal.execute(vec![append(message(9, 40))]));
    let (_, found, report) = open(&disk, SMALL);
    assert_eq!(found.len(), 5);
    assert!(!found.contains_key(&id(3)));
    assert_eq!(report.damage.len(), 1);
}

#[test]
fn a_future_version_is_refused_and_left_alone() {
    let disk = five();
    let mut bytes = disk.bytes(SpoolFile::Segment(1)).expect("a segment");
    bytes[4] = 2;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..44]);
    hasher.update(&1_u32.to_le_bytes());
    hasher.update(&0_u32.to_le_bytes());
    bytes[44..48].copy_from_slice(&hasher.finalize().to_le_bytes());
    disk.set_bytes(SpoolFile::Segment(1), bytes.clone());
    let error = Journal::open_sized(disk.clone(), SMALL, &mut |_| {}).map(drop);
    assert_eq!(
        error,
        Err(OpenError::FutureVersion {
            segment: 1,
            version: 2
        })
    );
    assert_eq!(disk.bytes(SpoolFile::Segment(1)), Some(bytes));
}

#[test]
fn unauthenticated_clients_in_the_spool_are_reported_and_left() {
    let disk = five();
    disk.add_foreign(SpoolFolder::Journal, "core");
    disk.add_foreign(SpoolFolder::Body, "..");
    let (_, found, report) = open(&disk, SMALL);
    assert_eq!((found.len(), report.foreign.len()), (5, 2));
}

#[test]
fn a_message_cannot_forge_a_record() {
    // The bytes of a record inside a body, with the header in front of it destroyed.
    let forged = five().bytes(SpoolFile::Segment(1)).expect("a segment");
    let disk = MemoryDisk::new();
    let (mut journal, _, _) = open(&disk, SMALL);
    let Record::Message(mut carrier) = message(7, 0) else {
        panic!("a message");
    };
    carrier.body = MessageBody::Inline(forged);
    drop(journal.execute(vec![append(Record::Message(carrier))]));
    let mut bytes = disk.bytes(SpoolFile::Segment(1)).expect("a segment");
    bytes[60 + 10] ^= 1;
    disk.set_bytes(SpoolFile::Segment(1), bytes);
    let (_, found, report) = open(&disk, SMALL);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(report.damage.len() + report.torn.len(), 1);
}

proptest! {
    #[test]
    fn any_bytes_in_a_segment_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        at in 0_usize..1_500,
    ) {
        let disk = five();
        let mut segment = disk.bytes(SpoolFile::Segment(1)).expect("a segment");
        for (slot, byte) in segment.iter_mut().skip(at).zip(&bytes) {
            *slot = *byte;
        }
        disk.set_bytes(SpoolFile::Segment(1), segment);
        disk.set_bytes(SpoolFile::Segment(3), bytes);
        let (mut journal, found, _) = open(&disk, SMALL);
        let committed = is_committed(&journal.execute(vec![append(message(9, 40))]), 9);
        prop_assert!(committed);
        prop_assert_eq!(open(&disk, SMALL).1.len(), found.len() + 1);
    }
}
