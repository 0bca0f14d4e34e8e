//! Cases that the published test suite (`tests/spf.rs`) leaves open: questions, order, odd records.

use std::time::Duration;

use super::*;
use crate::workload;

fn question(name: &str, kind: RecordKind) -> Question {
    Question {
        name: Domain::parse_lookup(name).expect("a name"),
        kind,
    }
}

fn answer(records: Result<Records, NoRecords>) -> Answer {
    Answer {
        records: records.map(Into::into),
        authentic: false,
        ttl: Duration::from_secs(60),
    }
}

fn text(name: &str, text: &str) -> (Question, Answer) {
    let records = Records::Txt(vec![text.as_bytes().to_vec()]);
    (question(name, RecordKind::Txt), answer(Ok(records)))
}

fn sender(path: &str) -> Sender<'_> {
    let address = "192.0.2.1".parse().expect("an address");
    Sender::new(
        address,
        "helo.example",
        path,
        "mx.example",
        Timestamp::from_seconds(1_000),
    )
}

fn verdict(path: &str, answers: &[(Question, Answer)]) -> SpfVerdict {
    match check(&sender(path), answers) {
        Step::Done(verdict) => verdict,
        Step::Ask(questions) => panic!("asks {questions:?}"),
    }
}

/// A zone in which each record is as long as one may be and leads to the next, and what is asked for and found in it.
fn long_chain() -> Vec<(Question, Answer)> {
    let terms: String = (0..1_000)
        .map(|at| format!(" ip4:10.0.{}.{}", at / 250, at % 250))
        .collect();
    let mut zone: Vec<(Question, Answer)> = (0..SPF_TERMS_MAX)
        .map(|number| {
            let next = format!("v=spf1{terms} include:p{}.example -all", number + 1);
            text(&format!("p{number}.example"), &next)
        })
        .collect();
    zone.push(text(
        &format!("p{SPF_TERMS_MAX}.example"),
        &format!("v=spf1{terms} +all"),
    ));
    zone
}

#[test]
fn a_check_costs_what_its_records_are_long_however_many_rounds_of_answers_it_takes() {
    let zone = long_chain();
    let sender = sender("a@p0.example");
    let mut progress = SpfProgress::default();
    let (rounds, spent) = workload::during(|| {
        let mut answers = Vec::new();
        for rounds in 1.. {
            match progress.resume(&sender, &answers) {
                Step::Done(verdict) => {
                    assert_eq!(verdict.outcome, SpfResult::Pass);
                    assert_eq!(verdict.mechanism.as_deref(), Some("include:p1.example"));
                    return rounds;
                }
                Step::Ask(questions) => {
                    let known = zone
                        .iter()
                        .filter(|(question, _)| questions.contains(question));
                    answers.extend(known.cloned());
                }
            }
        }
        0
    });
    let bytes: usize = zone.iter().map(|(_, answer)| answer.bytes()).sum();
    let terms = zone.len() * 1_001;
    assert_eq!(rounds, SPF_TERMS_MAX + 2);
    assert!(spent.bytes <= bytes as u64, "{spent:?} for {bytes} bytes");
    assert!(
        spent.names <= 2 * terms as u64,
        "{spent:?} for {terms} terms"
    );
    // What was found does not depend on the rounds.
    let Step::Done(at_once) = check(&sender, &zone) else {
        panic!("everything is known");
    };
    assert_eq!(progress.resume(&sender, &[]), Step::Done(at_once));
}

#[test]
fn asks_for_the_record_first_and_for_all_exchangers_at_once() {
    let mut answers = Vec::new();
    let asked = |answers: &[(Question, Answer)]| match check(&sender("a@x.example"), answers) {
        Step::Ask(questions) => questions,
        Step::Done(verdict) => panic!("{verdict:?}"),
    };
    assert_eq!(asked(&answers), [question("x.example", RecordKind::Txt)]);
    answers.push(text("x.example", "v=spf1 mx -all"));
    assert_eq!(asked(&answers), [question("x.example", RecordKind::Mx)]);
    let hosts = ["m1.example", "m2.example"].map(|name| crate::dns::Mx {
        preference: 10,
        host: Domain::parse(name).ok(),
    });
    answers.push((
        question("x.example", RecordKind::Mx),
        answer(Ok(Records::Mx(hosts.to_vec()))),
    ));
    let both = ["m1.example", "m2.example"].map(|name| question(name, RecordKind::A));
    assert_eq!(asked(&answers), both);
    for (name, address) in [("m1.example", "192.0.2.9"), ("m2.example", "192.0.2.1")] {
        let address = address.parse().expect("an address");
        answers.push((
            question(name, RecordKind::A),
            answer(Ok(Records::A(vec![address]))),
        ));
    }
    let verdict = verdict("a@x.example", &answers);
    assert_eq!(
        (verdict.outcome, verdict.mechanism.as_deref()),
        (SpfResult::Pass, Some("mx"))
    );
}

#[test]
fn the_null_path_is_checked_by_the_hello() {
    let answers = [text("helo.example", "v=spf1 ip4:192.0.2.0/24 -all")];
    assert_eq!(verdict("", &answers).outcome, SpfResult::Pass);
    let address = "192.0.2.1".parse().expect("an address");
    let literal = Sender::new(address, "[192.0.2.1]", "", "mx", Timestamp::from_seconds(0));
    assert!(matches!(
        check(&literal, &[]),
        Step::Done(SpfVerdict {
            outcome: SpfResult::None,
            domain: None,
            ..
        })
    ));
}

#[test]
fn an_error_says_where_it_is() {
    let cases = [
        (
            "v=spf1 ip4:1.2.3",
            "the record of x.example: ip4:1.2.3 is malformed",
        ),
        (
            "v=spf1 moo -all",
            "the record of x.example: moo is not a term",
        ),
        (
            "v=spf1 redirect=a.example redirect=b.example",
            "the record of x.example: redirect= stands in it twice",
        ),
        (
            "v=spf1 \u{e9} -all",
            "the record of x.example: it holds bytes that are not ASCII",
        ),
    ];
    for (record, expected) in cases {
        let verdict = verdict("a@x.example", &[text("x.example", record)]);
        assert_eq!(verdict.outcome, SpfResult::PermError, "{record}");
        assert_eq!(
            verdict.cause.map(|cause| cause.to_string()).as_deref(),
            Some(expected)
        );
    }
}

#[test]
fn a_loop_of_records_ends() {
    let answers = [
        text("x.example", "v=spf1 include:y.example -all"),
        text("y.example", "v=spf1 include:x.example -all"),
    ];
    let verdict = verdict("a@x.example", &answers);
    assert_eq!(
        (verdict.outcome, verdict.cause),
        (SpfResult::PermError, Some(SpfErrorCause::TooManyTerms))
    );
}

#[test]
fn a_client_that_is_mapped_into_ipv6_is_one_of_ipv4() {
    let answers = [text("x.example", "v=spf1 ip4:192.0.2.1 -all")];
    let address = "::ffff:192.0.2.1".parse().expect("an address");
    let mapped = Sender {
        address,
        ..sender("a@x.example")
    };
    assert!(matches!(
        check(&mapped, &answers),
        Step::Done(SpfVerdict {
            outcome: SpfResult::Pass,
            ..
        })
    ));
}
