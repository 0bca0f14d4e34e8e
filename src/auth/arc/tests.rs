//! Chains that chopar seals, and each way in which a chain can be broken. Interoperation is tested end to end.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::Domain;
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::auth::dkim::key::{SigningKey, ed25519_pem};
use crate::auth::dkim::record::record_text;
use crate::auth::dkim::sign::Signer;
use crate::auth::dkim::verdict::DkimFailure as SignatureFailure;
use crate::auth::results::{AuthenticationResults, MethodResult};
use crate::date::Timestamp;
use crate::dns::{Answer, NoRecords, Question, Records, Step};
use crate::limits::{ARC_SETS_MAX, SIGNATURE_CHECKS_MAX};
use crate::mail::header::{Header, HeaderEnd, header_and_body, header_end};

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const MESSAGE: &str = "Received: from x\r\nDKIM-Signature: v=1; b=\r\nFrom: Ann <ann@example.com>\r\n\
    To: bob@example.org\r\nSubject: =?utf-8?q?x?=\r\n  folded\r\n\r\nHello  world \r\n\r\n";

fn ed25519() -> SigningKey {
    SigningKey::from_pem(&ed25519_pem(&[9; 32])).expect("a key")
}

fn rsa() -> SigningKey {
    let pem = include_str!("../../../tests/data/dkim/rsa-2048-pkcs8.pem");
    SigningKey::from_pem(pem).expect("a key")
}

fn split(message: &[u8]) -> (Header, &[u8]) {
    header_and_body(message).expect("a header")
}

/// Verifies where `rsa` names publish the RSA key, `none` names nothing, and all others the Ed25519 key.
fn verify(message: &[u8]) -> ArcVerdict {
    let (header, body) = split(message);
    let mut verification = ArcVerification::new(&header, NOW);
    body.chunks(7).for_each(|piece| verification.on_body(piece));
    let asked = verification.questions();
    let answers = match verification.resume(&header, &[]) {
        Step::Done(verdict) => return verdict,
        Step::Ask(questions) => questions.into_iter().map(|question| {
            assert!(asked.contains(&question));
            let name = question.name.as_str();
            let records = match name.split('.').next() {
                Some("rsa") => Ok(record_text(&rsa())),
                Some("none") => Err(NoRecords::NoDomain),
                Some("later") => Err(NoRecords::ServerFailure),
                _ => Ok(record_text(&ed25519())),
            };
            let records = records.map(|text| Arc::new(Records::Txt(vec![text.into_bytes()])));
            let answer = Answer {
                records,
                authentic: false,
                ttl: Duration::ZERO,
            };
            (question, answer)
        }),
    };
    let answers: Vec<(Question, Answer)> = answers.collect();
    assert!(answers.len() <= usize::from(ARC_SETS_MAX) + 1);
    match verification.resume(&header, &answers) {
        Step::Done(verdict) => verdict,
        Step::Ask(questions) => panic!("asked twice: {questions:?}"),
    }
}

fn sealing(message: &[u8], selector: &str, key: &SigningKey) -> Result<Sealing, SealRefusal> {
    let (header, body) = split(message);
    let verdict = verify(message);
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(body);
    let domain = Domain::parse("example.net").expect("a domain");
    let results = AuthenticationResults::new("mx.example.net").with(MethodResult::arc(&verdict));
    let signer = Signer {
        domain: &domain,
        selector,
        algorithm: key.algorithm(),
        at: NOW,
    };
    let hash = hasher.finish().hash;
    prepare(&header, b"", &hash, &results, &verdict, &signer)
}

fn sealed_with(message: &[u8], selector: &str, key: &SigningKey) -> Vec<u8> {
    let sealing = sealing(message, selector, key).expect("a set");
    let mut out = sealing.seal(key).expect("signatures");
    out.extend_from_slice(message);
    out
}

fn sealed(message: &[u8]) -> Vec<u8> {
    sealed_with(message, "ed", &ed25519())
}

fn text(message: &[u8]) -> String {
    String::from_utf8(message.to_vec()).expect("text")
}

fn chain(sets: usize) -> String {
    text(&(0..sets).fold(MESSAGE.as_bytes().to_vec(), |message, _| sealed(&message)))
}

fn failure(message: &str) -> ArcFailure {
    match verify(message.as_bytes()).outcome {
        ArcResult::Fail(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// Replaces what stands at the first place, and sees that it did.
fn altered(message: &str, from: &str, to: &str) -> String {
    assert!(message.contains(from), "{from:?} in {message}");
    message.replacen(from, to, 1)
}

/// The message with only those of its fields that `keep` wants, which gets their beginnings.
fn filtered(message: &str, keep: impl Fn(&str) -> bool) -> String {
    let (header, body) = split(message.as_bytes());
    let fields: String = header
        .fields()
        .map(|field| text(field.raw()))
        .filter(|field| keep(field))
        .collect();
    format!("{fields}\r\n{}", text(body))
}

#[test]
fn a_message_without_sets_has_no_chain() {
    let verdict = verify(MESSAGE.as_bytes());
    assert_eq!(verdict.outcome, ArcResult::None);
    assert_eq!(verdict.status(), ChainValidation::None);
    assert!(verdict.sets.is_empty());
}

#[test]
fn a_set_has_the_fields_of_the_standard() {
    let set = text(&sealed_with(MESSAGE.as_bytes(), "rsa", &rsa()));
    let set = set.strip_suffix(MESSAGE).expect("the message below");
    let names: Vec<&str> = set
        .split("\r\n")
        .filter(|line| !line.is_empty() && !line.starts_with('\t'))
        .filter_map(|line| line.split_once(':').map(|(name, _)| name))
        .collect();
    assert_eq!(
        names,
        [
            "ARC-Seal",
            "ARC-Message-Signature",
            "ARC-Authentication-Results"
        ]
    );
    assert!(set.starts_with(
        "ARC-Seal: i=1; a=rsa-sha256; t=1800000000; cv=none;\r\n\td=example.net;\r\n\ts=rsa;\r\n\tb="
    ));
    let unfolded = set.replace("\r\n\t", "");
    assert!(unfolded.contains(":dkim-signature"), "{unfolded}");
    assert!(!unfolded.contains(":arc-seal") && !unfolded.contains(":authentication-results"));
    assert!(set.ends_with("ARC-Authentication-Results: i=1; mx.example.net;\r\n\tarc=none\r\n"));
    assert!(set.split("\r\n").all(|line| line.len() <= 78), "{set}");
}

#[test]
fn chains_of_both_kinds_of_keys_pass() {
    let mut message = MESSAGE.as_bytes().to_vec();
    for instance in 1..=4 {
        message = if instance % 2 == 0 {
            sealed_with(&message, "rsa", &rsa())
        } else {
            sealed(&message)
        };
        let verdict = verify(&message);
        assert_eq!(verdict.outcome, ArcResult::Pass { oldest_pass: 0 });
        let instances: Vec<u8> = verdict.sets.iter().map(|set| set.instance).collect();
        assert_eq!(instances, (1..=instance).collect::<Vec<u8>>());
    }
    let sets = verify(&message).sets;
    assert_eq!(
        sets[3].sealer.as_ref().map(Domain::as_str),
        Some("example.net")
    );
    assert_eq!(sets[3].selector.as_deref(), Some("rsa"));
    assert_eq!(sets[0].results, "mx.example.net;\tarc=none");
    assert_eq!(
        sets[3].results,
        "mx.example.net;\tarc=pass\theader.oldest-pass=0"
    );
    assert!(sets.iter().all(|set| set.seal == Some(Ok(()))));
}

#[test]
fn fields_may_stand_in_any_order_and_be_refolded() {
    let message = chain(2);
    let (header, body) = split(message.as_bytes());
    let mut fields: Vec<String> = header.fields().map(|field| text(field.raw())).collect();
    fields[..6].reverse();
    let reordered = format!("{}\r\n{}", fields.concat(), text(body));
    let refolded = reordered.replace(";\r\n\t", "; ").replace("ARC-", "arc-");
    for message in [reordered, refolded] {
        assert_eq!(
            verify(message.as_bytes()).outcome,
            ArcResult::Pass { oldest_pass: 0 }
        );
    }
}

#[test]
fn an_older_message_signature_may_fail_and_the_oldest_that_passes_is_told() {
    let changed = altered(&chain(2), "Hello", "Hallo");
    let message = text(&sealed(changed.as_bytes()));
    // Changed on the way from the second hop to the third, which says so.
    assert!(matches!(
        failure(&changed),
        ArcFailure::Message { instance: 2, .. }
    ));
    assert_eq!(failure(&message), ArcFailure::Reported { instance: 3 });

    // A list that changes the message and says pass, because it checked what came in.
    let before = chain(2);
    let verdict = verify(before.as_bytes());
    let after = altered(&before, "Hello", "Hallo");
    let (header, body) = split(after.as_bytes());
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(body);
    let domain = Domain::parse("example.net").expect("a domain");
    let key = ed25519();
    let signer = Signer {
        domain: &domain,
        selector: "ed",
        algorithm: key.algorithm(),
        at: NOW,
    };
    let results = AuthenticationResults::new("mx.example.net");
    let hash = hasher.finish().hash;
    let sealing = prepare(&header, b"", &hash, &results, &verdict, &signer).expect("a set");
    let set = text(&sealing.seal(&key).expect("signatures"));
    let verdict = verify(format!("{set}{after}").as_bytes());
    assert_eq!(verdict.outcome, ArcResult::Pass { oldest_pass: 3 });
    assert_eq!(
        verdict.sets[1].message,
        Some(Err(SignatureFailure::BodyHash))
    );
}

#[test]
fn what_is_prepended_is_signed() {
    let (header, body) = split(MESSAGE.as_bytes());
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(body);
    let domain = Domain::parse("example.net").expect("a domain");
    let key = ed25519();
    let signer = Signer {
        domain: &domain,
        selector: "ed",
        algorithm: key.algorithm(),
        at: NOW,
    };
    let results = AuthenticationResults::new("mx.example.net");
    let above = "DKIM-Signature: v=1; d=own; b=\r\n";
    let (hash, verdict) = (hasher.finish().hash, verify(MESSAGE.as_bytes()));
    let sealing = prepare(
        &header,
        above.as_bytes(),
        &hash,
        &results,
        &verdict,
        &signer,
    );
    let set = text(&sealing.expect("a set").seal(&key).expect("signatures"));
    let whole = format!("{set}{above}{MESSAGE}");
    assert_eq!(
        verify(whole.as_bytes()).outcome,
        ArcResult::Pass { oldest_pass: 0 }
    );
    let without = format!("{set}{MESSAGE}");
    assert!(matches!(failure(&without), ArcFailure::Message { .. }));
}

mod rfc8617_5_2 {
    use super::*;

    #[test]
    fn a_broken_structure_fails_and_is_named() {
        let two = chain(2);
        let seal_1 = "ARC-Seal: i=1;";
        let duplicate = text(
            split(two.as_bytes())
                .0
                .fields()
                .next()
                .expect("a seal")
                .raw(),
        );
        let cases = [
            (
                filtered(&two, |field| !field.starts_with(seal_1)),
                ArcFailure::Missing { instance: 1 },
            ),
            (
                filtered(&two, |field| {
                    !field.starts_with("ARC-Message-Signature: i=2")
                }),
                ArcFailure::Missing { instance: 2 },
            ),
            (
                filtered(&two, |field| {
                    !field.starts_with("ARC-Authentication-Results: i=2")
                }),
                ArcFailure::Missing { instance: 2 },
            ),
            (
                filtered(&two, |field| {
                    !(field.starts_with("ARC-") && field.contains("i=1;"))
                }),
                ArcFailure::Missing { instance: 1 },
            ),
            (
                format!("{duplicate}{two}"),
                ArcFailure::Duplicate { instance: 2 },
            ),
            (
                altered(&two, "cv=pass", "cv=none"),
                ArcFailure::ChainValue { instance: 2 },
            ),
            (
                altered(&two, "cv=none", "cv=pass"),
                ArcFailure::ChainValue { instance: 1 },
            ),
            (
                altered(&two, "cv=none", "cv=fail"),
                ArcFailure::ChainValue { instance: 1 },
            ),
            (
                altered(&two, "cv=pass", "cv=maybe"),
                ArcFailure::ChainValue { instance: 2 },
            ),
            (
                altered(&two, "cv=pass;", ""),
                ArcFailure::ChainValue { instance: 2 },
            ),
            (
                altered(&two, "cv=pass", "cv=fail"),
                ArcFailure::Reported { instance: 2 },
            ),
            (
                altered(&two, "ARC-Seal: i=2", "ARC-Seal: i=0"),
                ArcFailure::Instance,
            ),
            (
                altered(&two, "ARC-Seal: i=2", "ARC-Seal: i=+2"),
                ArcFailure::Instance,
            ),
            (
                altered(&two, "ARC-Seal: i=2", "ARC-Seal: i="),
                ArcFailure::Instance,
            ),
            (
                altered(&two, "ARC-Seal: i=2;", "ARC-Seal:"),
                ArcFailure::Instance,
            ),
            (
                altered(&two, "Results: i=2;", "Results: i=2"),
                ArcFailure::Instance,
            ),
            (
                altered(&two, "Results: i=2;", "Results:"),
                ArcFailure::Instance,
            ),
            (
                altered(&two, "ARC-Seal: i=2", "ARC-Seal: i=51"),
                ArcFailure::TooMany,
            ),
            (
                altered(&two, "ARC-Seal: i=2", "ARC-Seal: i=99999999999999999999"),
                ArcFailure::TooMany,
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(failure(&message), expected, "{message}");
        }
    }

    #[test]
    fn seals_and_message_signatures_have_rules_of_their_own() {
        let one = chain(1);
        let seal = |why| ArcFailure::Seal { instance: 1, why };
        let message = |why| ArcFailure::Message { instance: 1, why };
        let tag = |name| SignatureFailure::Tag { name };
        for (from, to, expected) in [
            ("cv=none;", "cv=none; h=from;", seal(tag("h"))),
            ("h=from", "h=arc-seal:from", message(tag("h"))),
            ("h=from", "h=ARC-Seal : from", message(tag("h"))),
            (
                "h=from:from",
                "h=to:to",
                message(SignatureFailure::FromNotSigned),
            ),
            (
                "ARC-Seal: i=1; a=ed25519",
                "ARC-Seal: i=1; a=rsa",
                seal(SignatureFailure::KeyType),
            ),
            ("s=ed;", "s=none;", seal(SignatureFailure::NoKey)),
            ("s=ed;", "s=later;", seal(SignatureFailure::KeyUnavailable)),
            (
                "cv=none;",
                "cv=none; x=1;",
                seal(SignatureFailure::Signature),
            ),
        ] {
            assert_eq!(
                failure(&altered(&one, from, to)),
                expected,
                "{from} to {to}"
            );
        }
    }

    #[test]
    fn instance_numbers_may_have_comments_and_zeros_where_the_grammar_lets_them() {
        assert_eq!(
            super::super::sets::split_results(b" (a) i (b) = (c) 07 (d) ; mx; none"),
            Some((7, &b" mx; none"[..]))
        );
        assert_eq!(super::super::sets::split_results(b"j=1; mx"), None);
    }

    #[test]
    fn a_body_that_was_changed_costs_no_look_up() {
        let message = altered(&chain(1), "Hello", "Hallo");
        let (header, body) = split(message.as_bytes());
        let mut verification = ArcVerification::new(&header, NOW);
        verification.on_body(body);
        let Step::Done(verdict) = verification.resume(&header, &[]) else {
            panic!("asked");
        };
        let why = SignatureFailure::BodyHash;
        assert_eq!(
            verdict.outcome,
            ArcResult::Fail(ArcFailure::Message { instance: 1, why })
        );
    }
}

mod rfc8617_5_1 {
    use super::*;

    #[test]
    fn fifty_sets_pass_and_get_no_further_one() {
        let message = chain(usize::from(ARC_SETS_MAX));
        // Fifty seals, the newest message signature, and as many older ones as may still be checked.
        let checked = SIGNATURE_CHECKS_MAX - 51;
        let oldest_pass = ARC_SETS_MAX - u8::try_from(checked).expect("few");
        assert_eq!(
            verify(message.as_bytes()).outcome,
            ArcResult::Pass { oldest_pass }
        );
        let refusal = sealing(message.as_bytes(), "ed", &ed25519()).map(drop);
        assert_eq!(refusal, Err(SealRefusal::Full));
    }

    #[test]
    fn a_broken_chain_gets_one_seal_that_covers_its_own_set_only() {
        let broken = altered(&chain(2), "Subject", "X-Subject");
        let message = text(&sealed(broken.as_bytes()));
        assert!(message.starts_with("ARC-Seal: i=3; a=ed25519-sha256; t=1800000000; cv=fail;"));
        assert_eq!(failure(&message), ArcFailure::Reported { instance: 3 });
        let refusal = sealing(message.as_bytes(), "ed", &ed25519()).map(drop);
        assert_eq!(refusal, Err(SealRefusal::Broken));

        // Without the others, and as if it began a chain, the seal holds: it covers nothing else.
        let alone = filtered(&message, |field| {
            !field.starts_with("ARC-") || field.contains("i=3;")
        });
        let (header, _) = split(alone.as_bytes());
        let fields: Vec<_> = header.fields().collect();
        let mut data = Vec::new();
        for place in [2, 1] {
            crate::auth::dkim::canonical::append_field(
                &mut data,
                fields[place],
                Canonicalization::Relaxed,
            );
        }
        let seal = fields[0];
        let without_b = crate::auth::dkim::signature::without_b(seal.value());
        crate::auth::dkim::canonical::append_relaxed(&mut data, seal.name(), &without_b);
        let b = text(seal.value()).replace("\r\n\t", "");
        let b = b.split_once("b=").expect("a signature").1.to_owned();
        let expected = ed25519().sign(&data).expect("a signature");
        assert_eq!(
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, b),
            Ok(expected)
        );
    }
}

#[test]
fn a_field_name_cannot_end_the_list_of_signed_fields() {
    let message = format!("List-;b=x: y\r\n{MESSAGE}");
    assert_eq!(
        verify(&sealed(message.as_bytes())).outcome,
        ArcResult::Pass { oldest_pass: 0 }
    );
}

proptest! {
    #[test]
    fn what_is_sealed_passes(
        fields in "(X-[A-Za-z]{1,5}: [ -~]{0,40}\r\n( [!-~]{1,5}\r\n)?){0,4}",
        body in "([ -~]{0,20}\r\n){0,5}",
        sets in 1_usize..4,
    ) {
        let message = format!("{fields}From: a@b.example\r\n\r\n{body}").into_bytes();
        let message = (0..sets).fold(message, |message, _| sealed(&message));
        prop_assert_eq!(verify(&message).outcome, ArcResult::Pass { oldest_pass: 0 });
    }

    #[test]
    fn a_changed_byte_of_what_is_signed_fails(at in any::<prop::sample::Index>(), bit in 0_u8..7) {
        let message = chain(2);
        // Received is not signed, and everything else is: case of names and amounts of space do not count.
        let received = message.find("Received:").expect("a field");
        let end = received + "Received: from x\r\n".len();
        let at = at.index(message.len());
        let old = message.as_bytes()[at];
        let new = old ^ (1 << bit);
        let in_name = |at: usize| {
            let line = message[..at].rfind("\r\n").map_or(0, |end| end + 2);
            !message[line..=at].contains([':', '\t', ' '])
        };
        let is_space = |byte: u8| byte.is_ascii_whitespace();
        let is_signed = !(received..end).contains(&at) && !is_space(old) && !is_space(new);
        let is_case = in_name(at) && new.eq_ignore_ascii_case(&old);
        if !is_signed || is_case {
            return Ok(());
        }
        let mut changed = message.clone().into_bytes();
        changed[at] = new;
        if matches!(header_end(&changed), HeaderEnd::EmptyLine { .. }) {
            let verdict = verify(&changed);
            prop_assert_ne!(verdict.status(), ChainValidation::Pass, "{} {:?} {:?}", at, old as char, new as char);
        }
    }

    #[test]
    fn any_sets_are_read(
        text in "(ARC-(Seal|Message-Signature|Authentication-Results): i=[0-9]{1,2}; [ -~]{0,30}\r\n){0,6}",
    ) {
        let _ = verify(text.as_bytes());
    }
}
