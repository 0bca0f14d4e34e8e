use std::sync::Arc;
use std::time::Duration;

use chopar::address::Domain;
use chopar::auth::arc::{
    ArcFailure, ArcResult, ArcVerdict, ArcVerification, ChainValidation, prepare,
};
use chopar::auth::dkim::canonical::{BodyHasher, Canonicalization};
use chopar::auth::dkim::key::{SigningKey, ed25519_pem};
use chopar::auth::dkim::record::record_text;
use chopar::auth::dkim::sign::Signer;
use chopar::auth::results::{AuthenticationResults, MethodResult, claims_id};
use chopar::date::Timestamp;
use chopar::dns::{Answer, Records, Step};
use chopar::limits::ARC_SETS_MAX;
use chopar::mail::header::Header;

const FIELDS: &[u8] = b"From: Ann <ann@src.test>\r\nTo: b@seal.test\r\nSubject: a\r\n";
const BODY: &[u8] = b"Hello  world \r\n.\r\n\r\n";
const AT: Timestamp = Timestamp::from_seconds(1_900_000_000);

/// The fields on top of a message and, after a NUL, the record of all keys. The verdict does not depend on how the body
/// is split. A chain that passes covers the body, and passes with a set of our own on top; one that fails fails with
/// it.
pub fn arc(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let above = parts.next().unwrap_or_default();
    let record = parts.next().unwrap_or_default();
    let Ok(header) = Header::parse([above, FIELDS].concat()) else {
        return;
    };
    let key = SigningKey::from_pem(&ed25519_pem(&[1; 32])).expect("a key");
    let verdict = verify(&header, record, &key, &mut [BODY].into_iter());
    assert_eq!(verify(&header, record, &key, &mut BODY.chunks(1)), verdict);
    let altered = verify(&header, record, &key, &mut [b"x", BODY].into_iter());
    if altered.status() == ChainValidation::Pass {
        assert!(altered.partial.is_some_and(|partial| partial.signed == 0));
    }

    let results = AuthenticationResults::new("mx.own.test").with(MethodResult::arc(&verdict));
    assert!(claims_id(results.to_string().as_bytes(), "MX.own.test"));
    for field in header.fields() {
        let _ = claims_id(field.value(), "mx.own.test");
    }
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(BODY);
    let domain = Domain::parse("own.test").expect("a domain");
    let signer = Signer {
        domain: &domain,
        selector: "own",
        algorithm: key.algorithm(),
        at: AT,
    };
    let hash = hasher.finish().hash;
    let Ok(sealing) = prepare(&header, b"", &hash, &results, &verdict, &signer) else {
        return;
    };
    let set = sealing.seal(&key).expect("signatures");
    assert!(super::is_clean(&set));
    let Ok(sealed) = Header::parse([&set, header.as_bytes()].concat()) else {
        return;
    };
    assert_eq!(sealed.fields().len(), header.fields().len() + 3);
    let after = verify(&sealed, record, &key, &mut [BODY].into_iter());
    match verdict.status() {
        ChainValidation::None | ChainValidation::Pass => {
            assert_eq!(after.status(), ChainValidation::Pass, "{after:?}")
        }
        ChainValidation::Fail => assert!(
            matches!(after.outcome, ArcResult::Fail(ArcFailure::Reported { .. })),
            "{after:?}"
        ),
    }
}

/// Verifies with `record` for every key but ours.
fn verify(
    header: &Header,
    record: &[u8],
    key: &SigningKey,
    body: &mut dyn Iterator<Item = &[u8]>,
) -> ArcVerdict {
    let mut verification = ArcVerification::new(header, AT);
    body.for_each(|part| verification.on_body(part));
    let questions = match verification.resume(header, &[]) {
        Step::Done(verdict) => return verdict,
        Step::Ask(questions) => questions,
    };
    assert!(questions.len() <= usize::from(ARC_SETS_MAX) + 1);
    let answers: Vec<_> = questions
        .into_iter()
        .map(|question| {
            let text = match question.name.as_str() {
                "own._domainkey.own.test" => record_text(key).into_bytes(),
                _ => record.to_vec(),
            };
            let answer = Answer {
                records: Ok(Arc::new(Records::Txt(vec![text]))),
                authentic: false,
                ttl: Duration::ZERO,
            };
            (question, answer)
        })
        .collect();
    match verification.resume(header, &answers) {
        Step::Done(verdict) => verdict,
        Step::Ask(questions) => panic!("asked twice: {questions:?}"),
    }
}
