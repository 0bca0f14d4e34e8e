use std::sync::Arc;
use std::time::Duration;

use chopar::auth::dkim::record::KeyRecord;
use chopar::auth::dkim::verdict::SignatureVerdict;
use chopar::auth::dkim::verify::DkimVerification;
use chopar::date::Timestamp;
use chopar::dns::{Answer, Records, Step};
use chopar::limits::DKIM_SIGNATURES_MAX;
use chopar::mail::header::Header;

/// From RFC 8463 appendix A.
const FIELDS: &str = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n\
    Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
    Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n";
const BODY: &[u8] = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
const KEY: &[u8] = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

/// The signature of a message and, after a NUL, the record of its key. The verdict does not depend on how the body is
/// split, and a signature that passes covers the beginning of the body.
pub fn dkim_signature(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let value = parts.next().unwrap_or_default();
    let record = parts.next().unwrap_or(KEY);
    drop(KeyRecord::parse(record));
    let block = [b"DKIM-Signature:", value, b"\r\n", FIELDS.as_bytes()].concat();
    let Ok(header) = Header::parse(block) else {
        return;
    };
    let whole = verify(&header, record, &mut [BODY].into_iter());
    assert_eq!(verify(&header, record, &mut BODY.chunks(1)), whole);
    let altered = verify(&header, record, &mut [b"x", BODY].into_iter());
    for verdict in altered.iter().filter(|verdict| verdict.outcome.is_ok()) {
        assert!(verdict.partial.is_some_and(|partial| partial.signed == 0));
    }
}

fn verify(
    header: &Header,
    record: &[u8],
    body: &mut dyn Iterator<Item = &[u8]>,
) -> Vec<SignatureVerdict> {
    let mut verification = DkimVerification::new(header, Timestamp::from_seconds(1_528_640_000));
    body.for_each(|part| verification.on_body(part));
    let answers = match verification.resume(header, &[]) {
        Step::Done(verdicts) => return verdicts,
        Step::Ask(questions) => questions.into_iter().map(|question| {
            let answer = Answer {
                records: Ok(Arc::new(Records::Txt(vec![record.to_vec()]))),
                authentic: false,
                ttl: Duration::ZERO,
            };
            (question, answer)
        }),
    };
    match verification.resume(header, &answers.collect::<Vec<_>>()) {
        Step::Done(verdicts) => {
            assert!(verdicts.len() <= DKIM_SIGNATURES_MAX);
            verdicts
        }
        Step::Ask(questions) => panic!("asked twice: {questions:?}"),
    }
}
