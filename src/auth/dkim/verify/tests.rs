//! Verification of published vectors, and of each way in which a signature can be wrong.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::address::Domain;
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::auth::dkim::key::{Algorithm, SigningKey, ed25519_pem};
use crate::auth::dkim::record::{KeyRecordError, record_text};
use crate::auth::dkim::sign::{Signer, prepare};
use crate::auth::dkim::tag::TagListError;
use crate::auth::dkim::verdict::{DkimResult, Partial};
use crate::dns::{NoRecords, RecordKind, Records};
use crate::limits::{HEADER_BYTES_MAX, SIGNED_BYTES_MAX};
use crate::mail::header::header_and_body;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MESSAGE: &str = "Received: from x\r\nFrom: Alice <alice@example.com>\r\nTo: bob@example.org\r\n\
    Subject: =?utf-8?q?x?=\r\n  folded\r\nList-Id: <l.example.com>\r\nDate: now\r\n\r\nHello  world \r\n\r\n";

/// A zone of one name.
type Lookup<'a> = &'a dyn Fn(&str) -> Result<Vec<Vec<u8>>, NoRecords>;

fn verify(message: &[u8], at: Timestamp, lookup: Lookup<'_>) -> Vec<SignatureVerdict> {
    let (header, body) = header_and_body(message).expect("a header");
    let mut verification = DkimVerification::new(&header, at);
    for piece in body.chunks(7) {
        verification.on_body(piece);
    }
    let mut answers = Vec::new();
    loop {
        match verification.resume(&header, &answers) {
            Step::Done(verdicts) => return verdicts,
            Step::Ask(questions) => {
                assert!(!questions.is_empty());
                answers.extend(questions.into_iter().map(|question| {
                    assert_eq!(question.kind, RecordKind::Txt);
                    let records = lookup(question.name.as_str())
                        .map(Records::Txt)
                        .map(Arc::new);
                    let answer = Answer {
                        records,
                        authentic: false,
                        ttl: Duration::ZERO,
                    };
                    (question, answer)
                }));
            }
        }
    }
}

fn key() -> SigningKey {
    SigningKey::from_pem(&ed25519_pem(&[9; 32])).expect("a key")
}

fn rsa_key() -> SigningKey {
    let pem = include_str!("../../../../tests/data/dkim/rsa-2048-pkcs8.pem");
    SigningKey::from_pem(pem).expect("a key")
}

/// Signs `message` as chopar does.
fn signed(message: &str, key: &SigningKey) -> Vec<u8> {
    let (header, body) = message.split_once("\r\n\r\n").expect("a body");
    let header = Header::parse(format!("{header}\r\n").into_bytes()).expect("a header");
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(body.as_bytes());
    let domain = Domain::parse("example.com").expect("a domain");
    let signer = Signer {
        domain: &domain,
        selector: "s1",
        algorithm: key.algorithm(),
        at: NOW,
    };
    let input = prepare(&header, b"", &hasher.finish().hash, &signer);
    let signature = key.sign(input.data()).expect("a signature");
    let mut out = input.finish(&signature);
    out.extend_from_slice(message.as_bytes());
    out
}

/// Signs a message with a field of one's own making: `tags` stand before `b=`, and `bh=` is put in for `{bh}`.
fn crafted(tags: &str, message: &str) -> Vec<u8> {
    let (_, body) = message.split_once("\r\n\r\n").expect("a body");
    let mut hasher = BodyHasher::new(Canonicalization::Simple);
    hasher.update(body.as_bytes());
    let tags = tags.replace("{bh}", &STANDARD.encode(hasher.finish().hash));
    let unsigned = format!("DKIM-Signature: {tags}; b=AAAAAAAAAAAA\r\n{message}");
    let header = unsigned.split_once("\r\n\r\n").expect("a body").0;
    let header = Header::parse(format!("{header}\r\n").into_bytes()).expect("a header");
    let verification = DkimVerification::new(&header, NOW);
    let data = match &verification.slots[0].state {
        Ok(signature) => signature.data(&Fields::new(&header), 0),
        Err(_) => Vec::new(),
    };
    let b = STANDARD.encode(key().sign(&data).expect("a signature"));
    unsigned.replace("AAAAAAAAAAAA", &b).into_bytes()
}

fn outcome(tags: &str, record: &str) -> Result<(), DkimFailure> {
    let message = crafted(tags, MESSAGE);
    let lookup = |_: &str| Ok(vec![record.as_bytes().to_vec()]);
    let verdicts = verify(&message, NOW, &lookup);
    assert_eq!(verdicts.len(), 1);
    verdicts[0].outcome
}

/// What is verified of a message whose every signature is wrong, and whose every key has these records.
fn judge(message: &[u8], records: &[Vec<u8>]) -> (Vec<SignatureVerdict>, VerificationCost) {
    let (header, body) = header_and_body(message).expect("a header");
    let mut verification = DkimVerification::new(&header, NOW);
    verification.on_body(body);
    let answer = |question: Question| {
        let answer = Answer {
            records: Ok(Arc::new(Records::Txt(records.to_vec()))),
            authentic: false,
            ttl: Duration::ZERO,
        };
        (question, answer)
    };
    let missing = verification.missing(&[]);
    let answers: Vec<(Question, Answer)> = missing.into_iter().map(answer).collect();
    let mut cost = VerificationCost::default();
    let verdicts = verification.judge(&header, &answers, &mut cost);
    (verdicts, cost)
}

#[test]
fn a_message_has_no_more_hashed_than_one_may() {
    let mut hasher = BodyHasher::new(Canonicalization::Simple);
    hasher.update(b"x\r\n");
    let hash = STANDARD.encode(hasher.finish().hash);
    let long = format!("X-Long:{}\r\n", "\r\n 0123456789".repeat(18_000));
    let names = "x-long:".repeat(1_000);
    let signature = format!(
        "DKIM-Signature: v=1; a=ed25519-sha256; d=example.com; s=s1; h={names}from; bh={hash}; b=AAAA\r\n"
    );
    let message = format!(
        "{}{long}From: a@example.com\r\n\r\nx\r\n",
        signature.repeat(3)
    );
    let records = vec![good_record().into_bytes(); 4];
    let (verdicts, cost) = judge(message.as_bytes(), &records);
    // However often h= lists a field, it is signed once.
    assert_eq!((verdicts.len(), cost.checks), (3, 12));
    assert!(cost.bytes < 12 * HEADER_BYTES_MAX, "{cost:?}");

    let short = signature.replace(&names, "x-long:");
    let message = format!("{}{long}From: a@example.com\r\n\r\nx\r\n", short.repeat(10));
    let (verdicts, cost) = judge(message.as_bytes(), &records);
    assert!((SIGNED_BYTES_MAX..SIGNED_BYTES_MAX + HEADER_BYTES_MAX).contains(&cost.bytes));
    let outcomes: Vec<_> = verdicts.iter().map(|verdict| verdict.outcome).collect();
    assert_eq!(outcomes.first(), Some(&Err(DkimFailure::Signature)));
    assert_eq!(outcomes.last(), Some(&Err(DkimFailure::TooMuch)));
    assert_eq!(
        verdicts.last().map(SignatureVerdict::verdict),
        Some(DkimResult::Policy)
    );
}

fn good_record() -> String {
    record_text(&key())
}

const GOOD: &str = "v=1; a=ed25519-sha256; d=example.com; s=s1; h=from:to:subject:from; bh={bh}";

mod rfc8463_appendix_a {
    use super::*;

    const EML: &[u8] = include_bytes!("../../../../tests/data/dkim/rfc8463-appendix-a.eml");
    const DNS: &str = include_str!("../../../../tests/data/dkim/rfc8463-appendix-a.dns");

    fn lookup(name: &str) -> Result<Vec<Vec<u8>>, NoRecords> {
        DNS.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(other, _)| *other == name)
            .map(|(_, text)| vec![text.as_bytes().to_vec()])
            .ok_or(NoRecords::NoDomain)
    }

    #[test]
    fn both_signatures_pass() {
        let verdicts = verify(EML, NOW, &lookup);
        assert_eq!(verdicts.len(), 2);
        for verdict in &verdicts {
            assert_eq!(verdict.outcome, Ok(()), "{verdict:?}");
        }
        assert_eq!(verdicts[0].algorithm, Some(Algorithm::Ed25519Sha256));
        assert_eq!(verdicts[1].b_start.as_deref(), Some("F45dVWDf"));
    }

    #[test]
    fn a_changed_byte_fails_both() {
        for (at, failure) in [
            (EML.len() - 10, DkimFailure::BodyHash),
            (
                EML.windows(6).position(|w| w == b"Suzie ").expect("To"),
                DkimFailure::Signature,
            ),
        ] {
            let mut message = EML.to_vec();
            message[at] ^= 1;
            for verdict in verify(&message, NOW, &lookup) {
                assert_eq!(verdict.outcome, Err(failure));
                assert_eq!(verdict.verdict(), DkimResult::Fail);
            }
        }
    }
}

#[test]
fn what_is_signed_passes_with_both_algorithms() {
    for key in [key(), rsa_key()] {
        let message = signed(MESSAGE, &key);
        let record = record_text(&key);
        let verdicts = verify(&message, NOW, &|name| {
            assert_eq!(name, "s1._domainkey.example.com");
            Ok(vec![b"unrelated".to_vec(), record.as_bytes().to_vec()])
        });
        assert_eq!(verdicts[0].outcome, Ok(()));
        assert_eq!(verdicts[0].partial, None);
    }
}

#[test]
fn a_field_whose_name_would_end_a_tag_breaks_no_signature() {
    let message = signed(
        &format!("List-;b=x: y\r\nList-Id: <l>\r\n{MESSAGE}"),
        &key(),
    );
    let record = good_record();
    let verdicts = verify(&message, NOW, &|_| Ok(vec![record.clone().into_bytes()]));
    assert_eq!(verdicts[0].outcome, Ok(()));
    let text = String::from_utf8(message).expect("ASCII");
    let field = text.split("\r\nList-;").next().unwrap_or_default();
    assert!(
        field.contains("list-id") && !field.contains("list-;"),
        "{field}"
    );
}

#[test]
fn the_field_is_folded_ascii() {
    let message = signed(MESSAGE, &rsa_key());
    let field = message.split(|&byte| byte == b'F').next().expect("a field");
    assert!(field.is_ascii());
    for line in message.split(|&byte| byte == b'\n') {
        assert!(line.len() <= 78, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn a_field_added_under_the_signature_breaks_it() {
    let record = good_record();
    for added in [
        "From: Eve <eve@example.net>",
        "Reply-To: eve@example.net",
        "Content-Type: text/html",
        "Subject: other",
    ] {
        let mut message = format!("{added}\r\n").into_bytes();
        message.extend(signed(MESSAGE, &key()));
        let verdicts = verify(&message, NOW, &|_| Ok(vec![record.clone().into_bytes()]));
        assert_eq!(verdicts[0].outcome, Err(DkimFailure::Signature), "{added}");
    }
    let mut message = b"List-Unsubscribe: <mailto:x>\r\nReceived: y\r\n".to_vec();
    message.extend(signed(MESSAGE, &key()));
    let verdicts = verify(&message, NOW, &|_| Ok(vec![record.clone().into_bytes()]));
    assert_eq!(verdicts[0].outcome, Ok(()), "a list may add its own fields");
}

#[test]
fn prepended_fields_are_signed() {
    let key = key();
    let domain = Domain::parse("example.com").expect("a domain");
    let signer = Signer {
        domain: &domain,
        selector: "s1",
        algorithm: key.algorithm(),
        at: NOW,
    };
    let header = Header::parse(b"From: a@example.com\r\n".to_vec()).expect("a header");
    let added = b"Date: Tue, 24 Nov 2026 13:32:11 +0000\r\n";
    let hash = BodyHasher::new(Canonicalization::Relaxed).finish().hash;
    let input = prepare(&header, added, &hash, &signer);
    let mut message = input
        .clone()
        .finish(&key.sign(input.data()).expect("a signature"));
    message.extend_from_slice(added);
    message.extend_from_slice(header.as_bytes());
    message.extend_from_slice(b"\r\n");
    let record = good_record();
    let verdicts = verify(&message, NOW, &|_| Ok(vec![record.clone().into_bytes()]));
    assert_eq!(verdicts[0].outcome, Ok(()));
}

#[test]
fn simple_and_relaxed_headers_pass() {
    for c in ["", "; c=simple/simple", "; c=relaxed", "; c=relaxed/simple"] {
        assert_eq!(
            outcome(&format!("{GOOD}{c}"), &good_record()),
            Ok(()),
            "{c}"
        );
    }
}

#[test]
fn tags_that_are_wrong_or_missing_are_named() {
    let tag = |name| Err(DkimFailure::Tag { name });
    let cases = [
        (
            "a=ed25519-sha256; d=example.com; s=s1; h=from; bh={bh}",
            tag("v"),
        ),
        (
            "v=2; a=ed25519-sha256; d=example.com; s=s1; h=from; bh={bh}",
            tag("v"),
        ),
        ("v=1; d=example.com; s=s1; h=from; bh={bh}", tag("a")),
        (
            "v=1; a=rsa-sha1; d=example.com; s=s1; h=from; bh={bh}",
            Err(DkimFailure::RetiredAlgorithm),
        ),
        (
            "v=1; a=rsa-md5; d=example.com; s=s1; h=from; bh={bh}",
            Err(DkimFailure::UnknownAlgorithm),
        ),
        ("v=1; a=ed25519-sha256; s=s1; h=from; bh={bh}", tag("d")),
        (
            "v=1; a=ed25519-sha256; d=[1.2.3.4]; s=s1; h=from; bh={bh}",
            tag("d"),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; h=from; bh={bh}",
            tag("s"),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; s=a b; h=from; bh={bh}",
            tag("s"),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; s=s1; bh={bh}",
            tag("h"),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; s=s1; h=to; bh={bh}",
            Err(DkimFailure::FromNotSigned),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; s=s1; h=from::to; bh={bh}",
            tag("h"),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; s=s1; h=from",
            tag("bh"),
        ),
        (
            "v=1; a=ed25519-sha256; d=example.com; s=s1; h=from; bh=AAAA",
            tag("bh"),
        ),
    ];
    for (tags, expected) in cases {
        assert_eq!(outcome(tags, &good_record()), expected, "{tags}");
    }
    let more = [
        ("c=strict", tag("c")),
        ("q=http", Err(DkimFailure::QueryMethod)),
        ("q=dns/txt:http", Ok(())),
        ("i=@sub.example.com", Ok(())),
        ("i=x@example.org", Err(DkimFailure::Identity)),
        ("i=@badexample.com", Err(DkimFailure::Identity)),
        ("i=example.com", tag("i")),
        ("i=x@@example.com", tag("i")),
        ("i=\"x@y\"@example.com", Ok(())),
        ("l=x", tag("l")),
        ("l=9999", Err(DkimFailure::BodyTooShort)),
        ("t=abc", tag("t")),
        ("t=1800000299", Ok(())),
        ("t=1800000301", Err(DkimFailure::Future)),
        ("x=1799999701", Ok(())),
        ("x=1799999699", Err(DkimFailure::Expired)),
        ("x=1799999699; l=x", tag("l")),
        ("t=1799999999; x=1799999998", tag("x")),
        ("z=From:x; y=unknown", Ok(())),
        (
            "d=example.com",
            Err(DkimFailure::Tags(TagListError::Duplicate)),
        ),
    ];
    for (tags, expected) in more {
        assert_eq!(
            outcome(&format!("{GOOD}; {tags}"), &good_record()),
            expected,
            "{tags}"
        );
    }
}

#[test]
fn key_records_are_judged() {
    let record = good_record();
    let cases = [
        (
            "v=DKIM1; p=".to_owned(),
            DkimFailure::Key(KeyRecordError::Revoked),
            DkimResult::PermError,
        ),
        (
            "junk".to_owned(),
            DkimFailure::Key(KeyRecordError::Syntax),
            DkimResult::PermError,
        ),
        (
            format!("{record}; h=sha1"),
            DkimFailure::Key(KeyRecordError::Hash),
            DkimResult::PermError,
        ),
        (
            format!("{record}; s=other"),
            DkimFailure::Key(KeyRecordError::Service),
            DkimResult::PermError,
        ),
        (
            record_text(&rsa_key()),
            DkimFailure::KeyType,
            DkimResult::PermError,
        ),
    ];
    for (record, failure, verdict) in cases {
        assert_eq!(outcome(GOOD, &record), Err(failure), "{record}");
        assert_eq!(failure.verdict(), verdict);
    }
    assert_eq!(outcome(GOOD, &format!("{record}; t=s; g=nobody")), Ok(()));
    assert_eq!(
        outcome(
            &format!("{GOOD}; i=@sub.example.com"),
            &format!("{record}; t=y:s")
        ),
        Err(DkimFailure::Identity)
    );
}

#[test]
fn the_dns_failing_is_told_from_no_key() {
    let message = crafted(GOOD, MESSAGE);
    for (reason, failure) in [
        (NoRecords::Timeout, DkimFailure::KeyUnavailable),
        (NoRecords::ServerFailure, DkimFailure::KeyUnavailable),
        (NoRecords::NoDomain, DkimFailure::NoKey),
        (NoRecords::NoData, DkimFailure::NoKey),
    ] {
        let verdicts = verify(&message, NOW, &|_| Err(reason));
        assert_eq!(verdicts[0].outcome, Err(failure));
    }
}

#[test]
fn a_length_limit_is_honoured_and_reported() {
    let mut message = signed(MESSAGE, &key());
    let record = good_record();
    let whole = crafted(&format!("{GOOD}; l=16"), MESSAGE);
    let lookup = |_: &str| Ok(vec![record.clone().into_bytes()]);
    // "Hello  world \r\n" is 15 bytes in the simple form, so 16 are too many.
    assert_eq!(
        verify(&whole, NOW, &lookup)[0].outcome,
        Err(DkimFailure::BodyTooShort)
    );
    let mut extended = crafted(&format!("{GOOD}; l=15"), MESSAGE);
    extended.extend_from_slice(b"appended\r\n");
    let verdict = &verify(&extended, NOW, &lookup)[0];
    assert_eq!(verdict.outcome, Ok(()));
    assert_eq!(
        verdict.partial,
        Some(Partial {
            signed: 15,
            total: 27
        })
    );
    message.extend_from_slice(b"appended\r\n");
    assert_eq!(
        verify(&message, NOW, &lookup)[0].outcome,
        Err(DkimFailure::BodyHash)
    );
}

#[test]
fn only_so_many_signatures_are_looked_at() {
    let field = String::from_utf8(crafted(GOOD, MESSAGE)).expect("text");
    let field = field.split_once("\r\n").expect("a line").0;
    let message = format!(
        "{}{MESSAGE}",
        format!("{field}\r\n").repeat(DKIM_SIGNATURES_MAX + 5)
    );
    let record = good_record();
    let verdicts = verify(message.as_bytes(), NOW, &|_| {
        Ok(vec![record.clone().into_bytes()])
    });
    assert_eq!(verdicts.len(), DKIM_SIGNATURES_MAX);
}

#[test]
fn no_look_up_is_made_for_a_body_that_was_changed() {
    let mut message = signed(MESSAGE, &key());
    message.extend_from_slice(b"more\r\n");
    let verdicts = verify(&message, NOW, &|_| panic!("asked"));
    assert_eq!(verdicts[0].outcome, Err(DkimFailure::BodyHash));
}

#[test]
fn a_message_without_signatures_has_no_verdicts() {
    assert!(verify(MESSAGE.as_bytes(), NOW, &|_| panic!("asked")).is_empty());
}
