//! Segments as a program that controls the account could write them. Whatever they claim, a start reads no more at a
//! time than it would of an honest segment, and finds the messages beside the claim.

use super::super::super::frame::{Header, Kind, Place, Seal, put_copy, put_record, put_seal};
use super::*;

const SEGMENT: u64 = 16 * 1024 * 1024;
/// More than any bound on a single read, and less than the smallest of the claims.
const READ_BYTES_MAX: usize = 128 * 1024;

/// The place of the next record in a first segment.
fn next(bytes: &[u8]) -> Place {
    let offset = u32::try_from(bytes.len()).expect("small");
    Place { segment: 1, offset }
}

/// A first segment of message 1, the record that `put` adds, and message 2.
fn around(put: impl FnOnce(&mut Vec<u8>)) -> MemoryDisk {
    let mut bytes = Vec::new();
    put_seal(&Seal::default(), id(2), 1, &mut bytes);
    put_record(&message(1, 40), next(&bytes), &mut bytes);
    put(&mut bytes);
    put_record(&message(2, 40), next(&bytes), &mut bytes);
    let disk = MemoryDisk::new();
    disk.set_bytes(SpoolFile::Segment(1), bytes);
    disk
}

/// The header of a record that claims parts of these lengths.
fn claim(kind: Kind, envelope_len: u32, fields_len: u32, body_len: u64) -> Header {
    Header {
        kind,
        body_in_file: false,
        id: id(1),
        envelope_len,
        fields_len,
        body_len,
        envelope_crc: 0,
        fields_crc: 0,
        body_crc: 0,
    }
}

#[test]
fn a_record_that_claims_gigabytes_is_not_read_into_memory_and_hides_nothing() {
    let claims = [
        claim(Kind::Message, 1_610_612_736, 0, 0),
        claim(Kind::Outcome, u32::MAX, 0, 0),
        claim(Kind::Message, 300, u32::MAX, 0),
        claim(Kind::Message, 300, 20, u64::MAX >> 1),
        claim(Kind::Message, 15 * 1024 * 1024, 0, 0),
    ];
    for header in claims {
        let disk = around(|bytes| put_copy(&header, b"", next(bytes), bytes));
        let (journal, found, report) = open(&disk, SEGMENT);
        assert!(
            found.contains_key(&id(1)) && found.contains_key(&id(2)),
            "{header:?}: {report:?}"
        );
        assert_eq!(report.damage.len(), 1, "{header:?}: {report:?}");
        assert!(report.damage[0].kept, "{header:?}: {report:?}");
        let largest = disk.largest_read();
        assert!(largest <= READ_BYTES_MAX, "{header:?}: {largest} bytes");
        drop(journal);
    }
}

#[test]
fn an_outcome_of_a_hundred_thousand_recipients_costs_what_its_message_has() {
    // From the highest index down, each once: the order in which a list that grows by one each time is moved most.
    let outcome = OutcomeRecord {
        recipients: (0..100_000)
            .rev()
            .map(|index| (index, DeliveryResult::Delivered))
            .collect(),
        ..deferred(1, 1)
    };
    let record = Record::Outcome(outcome);
    let disk = around(|bytes| {
        put_record(&record, next(bytes), bytes);
    });
    let (journal, found, report) = open(&disk, SEGMENT);
    assert_eq!(report.damage, [], "{report:?}");
    let results = &found[&id(1)].results;
    assert_eq!(*results, vec![Some(DeliveryResult::Delivered); 3]);
    assert!(results.capacity() < 1_000, "{}", results.capacity());
    assert!(found.contains_key(&id(2)));
    drop(journal);
}
