use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use chopar::auth::spf::{Sender, check};
use chopar::date::Timestamp;
use chopar::dns::{Answer, Mx, NoRecords, Question, RecordKind, Records, Step};
use chopar::limits::{SPF_HOSTS_MAX, SPF_TERMS_MAX};

/// A record that every name has, so that it may refer to any name. The check ends after a bounded number of questions,
/// none of which is repeated, with a verdict of printable text. The first byte chooses the address family and how the
/// DNS answers.
pub fn spf(data: &[u8]) {
    let (variant, record) = super::variant(data);
    let address = match variant & 1 {
        0 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        _ => IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1)),
    };
    let at = Timestamp::from_seconds(1_000_000_000);
    let sender = Sender::new(address, "helo.example", "a+b@x.example", "mx.example", at);
    let mut answers: Vec<(Question, Answer)> = Vec::new();
    let verdict = loop {
        match check(&sender, &answers) {
            Step::Done(verdict) => break verdict,
            Step::Ask(questions) => {
                assert!(!questions.is_empty());
                for question in questions {
                    assert!(answers.iter().all(|(known, _)| *known != question));
                    let records = answer(&question, variant, record);
                    let answer = Answer {
                        records: records.map(Into::into),
                        authentic: false,
                        ttl: Duration::ZERO,
                    };
                    answers.push((question, answer));
                }
                // The first record; for each term a name, its hosts, and those of the macro p; an explanation.
                assert!(
                    answers.len() <= 4 + SPF_TERMS_MAX * (3 + SPF_HOSTS_MAX) + 2 * SPF_HOSTS_MAX
                );
            }
        }
    };
    for text in [
        verdict.explanation,
        verdict.mechanism,
        verdict.cause.map(|cause| cause.to_string()),
    ] {
        let text = text.unwrap_or_default();
        assert!(
            text.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{text:?}"
        );
    }
}

/// Chosen by the length of the name, so that every kind of answer occurs.
fn answer(question: &Question, variant: u8, record: &[u8]) -> Result<Records, NoRecords> {
    let name = &question.name;
    if variant & 2 != 0 && question.kind != RecordKind::Txt {
        match name.as_str().len() % 5 {
            0 => return Err(NoRecords::NoData),
            1 => return Err(NoRecords::ServerFailure),
            _ => {}
        }
    }
    Ok(match question.kind {
        RecordKind::A => Records::A(vec![Ipv4Addr::new(192, 0, 2, variant)]),
        RecordKind::Aaaa => Records::Aaaa(vec![Ipv6Addr::LOCALHOST]),
        RecordKind::Mx => Records::Mx(
            (0..=u16::from(variant >> 4))
                .map(|preference| Mx {
                    preference,
                    host: (preference != 3).then(|| name.clone()),
                })
                .collect(),
        ),
        RecordKind::Ptr => Records::Ptr(vec![name.clone()]),
        RecordKind::Txt | RecordKind::Tlsa => Records::Txt(vec![record.to_vec()]),
    })
}
