//! Binary encoding of envelopes and outcomes: little-endian numbers and length-prefixed texts, without separators.
//!
//! Invariant: decoding arbitrary bytes neither panics nor allocates more than a constant times their number, and an
//! encoded value decodes to itself.

use std::sync::Arc;

use crate::address::{Mailbox, ReversePath};
use crate::cause::{FailureCause, FailurePlace, QuotedWords};
use crate::date::Timestamp;
use crate::destination::Assigned;
use crate::envelope::{BodyKind, DsnReturn, Envelope, MessageOrigin, Notify, Recipient};
use crate::limits::{ENVELOPE_RECIPIENTS_MAX, REPLY_TEXT_CHARS_MAX};
use crate::queue_id::QueueId;
use crate::status::EnhancedCode;

use super::record::{DeliveryResult, OutcomeRecord};

pub(super) fn put_envelope(envelope: &Envelope, out: &mut Vec<u8>) {
    put_u64(envelope.arrived.seconds(), out);
    out.push(match envelope.body {
        BodyKind::SevenBit => 0,
        BodyKind::EightBitMime => 1,
    });
    out.push(u8::from(envelope.smtputf8));
    out.push(match envelope.dsn_return {
        None => 0,
        Some(DsnReturn::Full) => 1,
        Some(DsnReturn::Headers) => 2,
    });
    put_optional_text(envelope.envelope_id.as_deref(), out);
    put_text(&envelope.origin.to_string(), out);
    put_text(envelope.reverse_path.as_str(), out);
    put_count(envelope.recipients.len(), out);
    for recipient in &envelope.recipients {
        put_text(recipient.mailbox.as_str(), out);
        out.push(match recipient.notify {
            Notify::Default => 0,
            Notify::Never => 1,
            Notify::Once => 3,
            Notify::On {
                success,
                failure,
                delay,
            } => 2 | u8::from(success) << 2 | u8::from(failure) << 3 | u8::from(delay) << 4,
        });
        put_optional_text(recipient.original.as_deref(), out);
    }
    // Only a recipient that an alias leads elsewhere has this; records of releases before that feature do not.
    let plain =
        |recipient: &Recipient| recipient.destination.is_none() && recipient.reverse_path.is_none();
    if !envelope.recipients.iter().all(plain) {
        for recipient in &envelope.recipients {
            let destination = recipient.destination.as_ref().map(Assigned::to_string);
            put_optional_text(destination.as_deref(), out);
            let path = recipient.reverse_path.as_deref();
            put_optional_text(path.map(Mailbox::as_str), out);
        }
    }
}

pub(super) fn envelope(bytes: &[u8]) -> Option<Envelope> {
    let mut input = Input(bytes);
    let arrived = Timestamp::from_seconds(input.u64()?);
    let body = match input.u8()? {
        0 => BodyKind::SevenBit,
        1 => BodyKind::EightBitMime,
        _ => return None,
    };
    let smtputf8 = input.bool()?;
    let dsn_return = match input.u8()? {
        0 => None,
        1 => Some(DsnReturn::Full),
        2 => Some(DsnReturn::Headers),
        _ => return None,
    };
    let envelope_id = input.optional_text()?.map(Box::from);
    let origin = MessageOrigin::read(input.text()?);
    let reverse_path = ReversePath::parse(input.text()?).ok()?;
    let count = input.count(RECIPIENT_BYTES_MIN)?;
    let mut recipients = Vec::with_capacity(count);
    for _ in 0..count {
        let mailbox = Mailbox::parse(input.text()?).ok()?;
        let notify = notify(input.u8()?)?;
        let original = input.optional_text()?.map(Box::from);
        recipients.push(Recipient::new(mailbox, notify, original));
    }
    if input.end().is_none() {
        for recipient in &mut recipients {
            recipient.destination = input.optional_text()?.map(Assigned::read);
            recipient.reverse_path = match input.optional_text()? {
                Some(text) => Some(Box::new(Mailbox::parse(text).ok()?)),
                None => None,
            };
        }
    }
    input.end()?;
    Some(Envelope {
        reverse_path,
        recipients,
        envelope_id,
        dsn_return,
        body,
        smtputf8,
        arrived,
        origin,
    })
}

fn notify(byte: u8) -> Option<Notify> {
    match byte & 3 {
        0 if byte == 0 => Some(Notify::Default),
        1 if byte == 1 => Some(Notify::Never),
        3 if byte == 3 => Some(Notify::Once),
        2 if byte < 32 => Some(Notify::On {
            success: byte & 4 != 0,
            failure: byte & 8 != 0,
            delay: byte & 16 != 0,
        }),
        _ => None,
    }
}

/// The tag of a delivery result. The first three are those of 0.1.0, and are written as it wrote them.
const DELIVERED: u8 = 0;
const FAILED: u8 = 1;
const DEFERRED: u8 = 2;
/// As [`FAILED`], with the source and place of the words.
const FAILED_ELSEWHERE: u8 = 3;
/// As [`DEFERRED`], with the source and place of the words.
const DEFERRED_ELSEWHERE: u8 = 4;

pub(super) fn put_outcome(record: &OutcomeRecord, out: &mut Vec<u8>) {
    put_u64(record.at.seconds(), out);
    out.push(u8::from(record.warned) | u8::from(record.done) << 1);
    put_count(record.recipients.len(), out);
    for (index, outcome) in &record.recipients {
        put_u32(*index, out);
        match outcome {
            DeliveryResult::Delivered => out.push(DELIVERED),
            DeliveryResult::Failed { status, why } => {
                out.push(if is_of_here(why) {
                    FAILED
                } else {
                    FAILED_ELSEWHERE
                });
                put_status(Some(*status), out);
                put_cause(why, out);
            }
            DeliveryResult::Deferred {
                attempts,
                until,
                status,
                why,
            } => {
                out.push(if is_of_here(why) {
                    DEFERRED
                } else {
                    DEFERRED_ELSEWHERE
                });
                out.extend_from_slice(&attempts.to_le_bytes());
                put_u64(until.seconds(), out);
                put_status(*status, out);
                put_cause(why, out);
            }
        }
    }
}

pub(super) fn outcome(id: QueueId, bytes: &[u8]) -> Option<OutcomeRecord> {
    let mut input = Input(bytes);
    let at = Timestamp::from_seconds(input.u64()?);
    let flags = input.u8().filter(|flags| *flags < 4)?;
    let count = input.count(OUTCOME_BYTES_MIN)?;
    let mut recipients = Vec::with_capacity(count);
    for _ in 0..count {
        let index = input.u32()?;
        let outcome = match input.u8()? {
            DELIVERED => DeliveryResult::Delivered,
            kind @ (FAILED | FAILED_ELSEWHERE) => DeliveryResult::Failed {
                status: input.status()??,
                why: Arc::new(input.cause(kind == FAILED)?),
            },
            kind @ (DEFERRED | DEFERRED_ELSEWHERE) => DeliveryResult::Deferred {
                attempts: input.u16()?,
                until: Timestamp::from_seconds(input.u64()?),
                status: input.status()?,
                why: Arc::new(input.cause(kind == DEFERRED)?),
            },
            _ => return None,
        };
        recipients.push((index, outcome));
    }
    input.end()?;
    Some(OutcomeRecord {
        id,
        at,
        recipients,
        warned: flags & 1 != 0,
        done: flags & 2 != 0,
    })
}

/// Whether a cause is of this host, in our words: then only the words are written.
const fn is_of_here(why: &FailureCause) -> bool {
    why.at.is_none() && !why.words.is_reply()
}

fn put_cause(why: &FailureCause, out: &mut Vec<u8>) {
    put_text(bounded(why.text()), out);
    if is_of_here(why) {
        return;
    }
    let (kind, name, address) = match &why.at {
        None => (0, None, None),
        Some(FailurePlace::Host { name, address }) => (1, Some(&**name), *address),
        Some(FailurePlace::Socket(name)) => (2, Some(&**name), None),
        Some(FailurePlace::Program(name)) => (3, Some(&**name), None),
    };
    out.push(u8::from(why.words.is_reply()) | kind << 1);
    put_optional_text(name.map(bounded), out);
    let address = address.map(|address| address.to_string());
    put_optional_text(address.as_deref(), out);
}

/// The text without the part past the bound.
fn bounded(text: &str) -> &str {
    match text.char_indices().nth(REPLY_TEXT_CHARS_MAX) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

pub(super) fn put_u32(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

pub(super) fn put_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    // Saturation makes a record that does not decode, not a wrong one; a record of 4 GiB is refused long before.
    put_u32(u32::try_from(count).unwrap_or(u32::MAX), out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_count(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_optional_text(text: Option<&str>, out: &mut Vec<u8>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(text, out);
    }
}

fn put_status(status: Option<EnhancedCode>, out: &mut Vec<u8>) {
    put_optional_text(status.map(|status| status.to_string()).as_deref(), out);
}

pub(super) const RECIPIENT_BYTES_MIN: usize = 6; // text length, NOTIFY, no ORCPT
const OUTCOME_BYTES_MIN: usize = 5; // index, tag

/// The input that is left to decode.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.u32()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    fn optional_text(&mut self) -> Option<Option<&'a str>> {
        if self.bool()? {
            self.text().map(Some)
        } else {
            Some(None)
        }
    }

    fn status(&mut self) -> Option<Option<EnhancedCode>> {
        match self.optional_text()? {
            Some(text) => text.parse().ok().map(Some),
            None => Some(None),
        }
    }

    fn cause(&mut self, is_of_here: bool) -> Option<FailureCause> {
        let text: Box<str> = self.text()?.into();
        if is_of_here {
            return Some(FailureCause::here(text));
        }
        let flags = self.u8()?;
        let words = match flags & 1 != 0 {
            true => QuotedWords::Reply(text),
            false => QuotedWords::Ours(text),
        };
        let name = self.optional_text()?.map(Box::from);
        let address = match self.optional_text()? {
            Some(text) => Some(text.parse().ok()?),
            None => None,
        };
        let at = match (flags >> 1, name) {
            (0, None) => None,
            (1, Some(name)) => Some(FailurePlace::Host { name, address }),
            (2, Some(name)) => Some(FailurePlace::Socket(name)),
            (3, Some(name)) => Some(FailurePlace::Program(name)),
            _ => return None,
        };
        Some(FailureCause { at, words })
    }

    /// A number of items of at least `bytes_min` bytes each, so that the allocation for them is bounded.
    fn count(&mut self, bytes_min: usize) -> Option<usize> {
        let count = usize::try_from(self.u32()?).ok()?;
        let room = self
            .0
            .len()
            .checked_div(bytes_min.max(1))
            .unwrap_or(0)
            .min(ENVELOPE_RECIPIENTS_MAX);
        (count <= room).then_some(count)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_text() -> impl Strategy<Value = String> {
        proptest::string::string_regex("[ -~é]{0,20}").expect("a pattern")
    }

    fn any_notify() -> impl Strategy<Value = Notify> {
        prop_oneof![
            Just(Notify::Default),
            Just(Notify::Never),
            Just(Notify::Once),
            any::<(bool, bool, bool)>().prop_map(|(success, failure, delay)| Notify::On {
                success,
                failure,
                delay
            }),
        ]
    }

    fn any_recipient() -> impl Strategy<Value = Recipient> {
        let mailbox =
            || "[a-z]{1,9}@[a-z]{1,9}".prop_map(|text| Mailbox::parse(&text).expect("a mailbox"));
        let original = proptest::option::of(any_text());
        let destination = prop_oneof![
            any_text(),
            "(maildir:|lmtp:|[|] )/[a-z]{1,5}",
            Just("discard:".to_owned())
        ];
        let destination = proptest::option::weighted(0.1, destination);
        let reverse_path = proptest::option::weighted(0.1, mailbox());
        (mailbox(), any_notify(), original, destination, reverse_path).prop_map(
            |(mailbox, notify, original, destination, reverse_path)| Recipient {
                destination: destination.map(|text| Assigned::read(&text)),
                reverse_path: reverse_path.map(Box::new),
                ..Recipient::new(mailbox, notify, original.map(Into::into))
            },
        )
    }

    fn any_cause() -> impl Strategy<Value = FailureCause> {
        let address = proptest::option::of(any::<std::net::IpAddr>());
        let host = (any_text(), address).prop_map(|(name, address)| FailurePlace::Host {
            name: name.into(),
            address,
        });
        let here = any_text().prop_map(|name| FailurePlace::Socket(name.into()));
        let program = any_text().prop_map(|name| FailurePlace::Program(name.into()));
        let place = prop_oneof![host, here, program];
        let words = (any_text(), any::<bool>()).prop_map(|(text, is_reply)| match is_reply {
            true => QuotedWords::Reply(text.into()),
            false => QuotedWords::Ours(text.into()),
        });
        (proptest::option::of(place), words).prop_map(|(at, words)| FailureCause { at, words })
    }

    fn any_outcome() -> impl Strategy<Value = DeliveryResult> {
        let status = proptest::option::of((0..1_000_u16, 0..1_000_u16));
        prop_oneof![
            Just(DeliveryResult::Delivered),
            (0..1_000_u16, any_cause()).prop_map(|(detail, why)| DeliveryResult::Failed {
                status: EnhancedCode::new(5, 1, detail),
                why: why.into(),
            }),
            (any::<u16>(), any::<u64>(), status, any_cause()).prop_map(
                |(attempts, until, status, why)| DeliveryResult::Deferred {
                    attempts,
                    until: Timestamp::from_seconds(until),
                    status: status.map(|(subject, detail)| EnhancedCode::new(4, subject, detail)),
                    why: why.into(),
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn envelopes_round_trip(
            recipients in proptest::collection::vec(any_recipient(), 0..9),
            envelope_id in proptest::option::of(any_text()),
            origin in prop_oneof![any_text(), "(uid=|notice=)?[0-9]{1,13}", "192[.]0[.]2[.][0-9]{1,3}"],
            (null, eight, smtputf8) in any::<(bool, bool, bool)>(),
            dsn_return in proptest::option::of(any::<bool>()),
            arrived in any::<u64>(),
        ) {
            let original = Envelope {
                reverse_path: ReversePath::parse(if null { "" } else { "a@b" }).expect("a path"),
                recipients,
                envelope_id: envelope_id.map(Into::into),
                dsn_return: dsn_return.map(|full| {
                    if full { DsnReturn::Full } else { DsnReturn::Headers }
                }),
                body: if eight { BodyKind::EightBitMime } else { BodyKind::SevenBit },
                smtputf8,
                arrived: Timestamp::from_seconds(arrived),
                origin: origin.as_str().into(),
            };
            let mut bytes = Vec::new();
            put_envelope(&original, &mut bytes);
            prop_assert_eq!(envelope(&bytes), Some(original));
            bytes.pop();
            prop_assert_eq!(envelope(&bytes), None);
        }

        #[test]
        fn outcomes_round_trip(
            recipients in proptest::collection::vec((any::<u32>(), any_outcome()), 0..9),
            (warned, done) in any::<(bool, bool)>(),
            at in any::<u64>(),
        ) {
            let at = Timestamp::from_seconds(at);
            let original = OutcomeRecord { id: QueueId::new(3), at, recipients, warned, done };
            let mut bytes = Vec::new();
            put_outcome(&original, &mut bytes);
            prop_assert_eq!(outcome(QueueId::new(3), &bytes), Some(original));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = envelope(&bytes);
            let _ = outcome(QueueId::new(1), &bytes);
        }
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let mut bytes = Vec::new();
        put_u64(1, &mut bytes);
        bytes.push(0);
        put_u32(u32::MAX, &mut bytes);
        assert_eq!(outcome(QueueId::new(1), &bytes), None);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let record = OutcomeRecord {
            id: QueueId::new(1),
            at: Timestamp::from_seconds(5),
            recipients: vec![(
                0,
                DeliveryResult::Failed {
                    status: EnhancedCode::new(5, 1, 1),
                    why: FailureCause::here("ü".repeat(1_000)).into(),
                },
            )],
            warned: true,
            done: false,
        };
        let mut bytes = Vec::new();
        put_outcome(&record, &mut bytes);
        let back = outcome(record.id, &bytes).expect("it decodes");
        let (_, DeliveryResult::Failed { why, .. }) = &back.recipients[0] else {
            panic!("{back:?}");
        };
        assert_eq!(why.text(), "ü".repeat(REPLY_TEXT_CHARS_MAX));
    }
}
