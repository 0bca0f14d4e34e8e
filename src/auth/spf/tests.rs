//! What the published test suite (`tests/spf.rs`) leaves open: questions, order, odd records.

use std::time::Duration;

use super::*;

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

fn verdict(path: &str, answers: &[(Question, Answer)]) -> Verdict {
    match check(&sender(path), answers) {
        Step::Done(verdict) => verdict,
        Step::Ask(questions) => panic!("asks {questions:?}"),
    }
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
        (Outcome::Pass, Some("mx"))
    );
}

#[test]
fn the_null_path_is_checked_by_the_hello() {
    let answers = [text("helo.example", "v=spf1 ip4:192.0.2.0/24 -all")];
    assert_eq!(verdict("", &answers).outcome, Outcome::Pass);
    let address = "192.0.2.1".parse().expect("an address");
    let literal = Sender::new(address, "[192.0.2.1]", "", "mx", Timestamp::from_seconds(0));
    assert!(matches!(
        check(&literal, &[]),
        Step::Done(Verdict {
            outcome: Outcome::None,
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
        ("v=spf1 moo -all", "the record of x.example: moo is no term"),
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
        assert_eq!(verdict.outcome, Outcome::PermError, "{record}");
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
        (Outcome::PermError, Some(Cause::TooManyTerms))
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
        Step::Done(Verdict {
            outcome: Outcome::Pass,
            ..
        })
    ));
}
