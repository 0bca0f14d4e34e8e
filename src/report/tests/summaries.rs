//! The counts that are kept from reports, and the text of a summary.

use super::*;

/// The day that the reports of the tests are about.
const NOW: Timestamp = Timestamp::from_seconds(1_795_824_000 + 100_000);

fn shown(text: &str) -> Reporter {
    Reporter::Verified(name(text))
}

fn is_ours(domain: &Domain) -> bool {
    *domain == name("example.com") || domain.is_under(&name("example.com"))
}

/// A report of one row for each source.
fn made(id: &str, begin: u64, sources: impl IntoIterator<Item = u32>) -> ReceivedReport {
    let rows = sources.into_iter().map(|source| ReportRow {
        source: IpAddr::from(source.to_be_bytes()),
        count: 1,
        disposition: Disposition::None,
        dkim: false,
        spf: false,
        is_overridden: false,
        author: Some(name("example.com")),
        signer: None,
        envelope: None,
    });
    ReceivedReport {
        organisation: "made".to_owned(),
        id: id.to_owned(),
        span: (begin, begin + 86_399),
        content: ReportContent::Dmarc {
            domain: name("example.com"),
            policy: "none".to_owned(),
            rows: rows.collect(),
        },
    }
}

fn summary(ledger: &Ledger) -> DomainSummary {
    DomainSummary::new(&name("example.com"), ledger, (NOW, 30), &mut |address| {
        KnownAddress {
            is_own: address.to_string() == "192.0.2.10",
            spf: Some(address.to_string() == "192.0.2.10"),
            name: None,
        }
    })
}

#[test]
fn a_report_is_counted_once_and_a_forged_one_does_not_stand_for_it() {
    let report = report(&seed("message-google"));
    let mut ledger = Ledger::default();
    let mut add = |reporter: &Reporter| ledger.add(&report, reporter, NOW, &is_ours);
    // Whoever guesses its id and is first.
    assert_eq!(add(&Reporter::Unverified), LedgerAddition::Counted);
    assert_eq!(add(&shown("evil.example")), LedgerAddition::Counted);
    assert_eq!(add(&shown("google.com")), LedgerAddition::Counted);
    assert_eq!(add(&shown("google.com")), LedgerAddition::Known);
    assert_eq!(add(&Reporter::Unverified), LedgerAddition::Known);
    let written = Ledger::parse(&ledger.to_json()).expect("what was written");
    assert_eq!(written, ledger);
    let summary = summary(&ledger);
    assert_eq!(summary.reporters, ["evil.example", "google.com"]);
    assert_eq!((summary.messages.messages(), summary.unverified), (94, 47));
}

#[test]
fn who_sends_is_said_in_words() {
    let mut ledger = Ledger::default();
    for (seed_name, from) in [
        ("message-google", "google.com"),
        ("message-microsoft", "microsoft.com"),
        ("message-tls", "google.com"),
    ] {
        let added = ledger.add(&report(&seed(seed_name)), &shown(from), NOW, &is_ours);
        assert_eq!(added, LedgerAddition::Counted);
    }
    let summary = summary(&ledger);
    let mut text = String::new();
    for source in &summary.sources {
        let (ok, failed) = (source.messages.passed(), source.messages.neither);
        writeln!(text, "{} {ok} {failed}: {}", source.who, source.words).expect("text");
    }
    let expected = "\
Mailchimp 0 30: Mailchimp sends for you and is not in your SPF record: if it should, have it sign with a DKIM key of example.com, or bounce to example.com with include:servers.mcsv.net in its SPF record
this host 15 0: your own host; all of it passes
203.0.113.77 0 5: nobody known: it is not signed, and your SPF record does not allow it
2001:db8::25 2 0: passes on mail that you have signed: your signature passes, its address is not in your SPF record, and need not be
";
    assert_eq!(text, expected);
    assert_eq!(
        summary.advice,
        "do not set p=quarantine yet: mail from Mailchimp fails; if it is yours, correct that first"
    );
    assert_eq!(summary.days.len(), 1);
    assert_eq!(summary.days[0].day, "2026-11-28");
    assert_eq!((summary.tls[0].successes, summary.tls[0].failures), (40, 3));
    assert_eq!(
        summary.tls[0].words,
        "your certificate had ended (2); something else (1)"
    );
}

#[test]
fn a_stricter_policy_is_advised_once_reports_of_two_weeks_have_nothing_against_it() {
    let mut ledger = Ledger::default();
    for day in 0..14 {
        let begin = NOW.seconds() - 86_400 * (day + 1);
        let before = summary(&ledger).advice;
        assert!(!before.contains("can be set"), "{before}");
        ledger.add(
            &made(&day.to_string(), begin, [1]),
            &shown("a.example"),
            NOW,
            &is_ours,
        );
    }
    let advice = summary(&ledger).advice;
    assert!(advice.starts_with("p=quarantine can be set"), "{advice}");
}

#[test]
fn a_report_about_another_time_or_with_too_many_ids_is_refused() {
    let mut ledger = Ledger::default();
    let mut add = |report: &ReceivedReport| ledger.add(report, &shown("a.example"), NOW, &is_ours);
    let begin = NOW.seconds() - 86_400;
    for begin in [
        0,
        begin - 50 * 86_400,
        begin + 4 * 86_400,
        u64::MAX - 86_400,
    ] {
        let refused = LedgerAddition::Refused(ReportRefusal::Date);
        assert_eq!(add(&made("x", begin, [1])), refused, "{begin}");
    }
    for id in 0..REPORT_IDS_MAX {
        assert_eq!(
            add(&made(&id.to_string(), begin, [1])),
            LedgerAddition::Counted
        );
    }
    let refused = LedgerAddition::Refused(ReportRefusal::Share);
    assert_eq!(add(&made("one more", begin, [1])), refused);
}

#[test]
fn one_who_reports_much_pushes_out_only_what_he_has_said() {
    let mut ledger = Ledger::default();
    let begin = |day: u64| NOW.seconds() - 86_400 * (day + 1);
    for day in 0..29 {
        let report = made("good", begin(day), 1..=20);
        assert_eq!(
            ledger.add(&report, &shown("good.example"), NOW, &is_ours),
            LedgerAddition::Counted
        );
    }
    let mut source = 1_000_000_u32;
    for day in 0..29 {
        for turn in 0..4 {
            for who in ["evil.example", "?"] {
                let sources = source..source + 400;
                source += 400;
                let reporter = match who {
                    "?" => Reporter::Unverified,
                    who => shown(who),
                };
                let report = made(&turn.to_string(), begin(day), sources);
                ledger.add(&report, &reporter, NOW, &is_ours);
            }
        }
    }
    // Many who all say something about one day.
    for who in 0..REPORT_REPORTERS_MAX * 2 {
        let report = made("many", begin(3), [1, 2, 3]);
        ledger.add(&report, &shown(&format!("r{who}.example")), NOW, &is_ours);
    }
    let shares = ledger.days.values().flatten();
    let held: usize = shares.clone().map(|(_, share)| share.sources.len()).sum();
    assert!(held <= REPORT_ENTRIES_MAX, "{held}");
    assert!(
        shares
            .clone()
            .all(|(_, share)| share.sources.len() <= REPORT_SOURCES_MAX)
    );
    let good: usize = shares
        .clone()
        .filter(|(who, _)| *who == "good.example")
        .map(|(_, share)| share.sources.len())
        .sum();
    assert_eq!(good, 29 * 20, "nothing of it went");
    assert!(
        ledger
            .days
            .values()
            .all(|day| day.len() <= REPORT_REPORTERS_MAX + 2)
    );
    // No message is lost from the counts.
    let summary = summary(&ledger);
    let sums = 29 * 20 + 29 * 4 * 400 + REPORT_REPORTERS_MAX as u64 * 2 * 3;
    assert_eq!(summary.messages.messages(), sums);
    assert_eq!(summary.unverified, 29 * 4 * 400);
}

/// A report with one row, whose checks are of these domains and passed.
fn of_row(id: &str, day: u64, signer: &str) -> ReceivedReport {
    let mut report = made(id, NOW.seconds() - 86_400 * (day + 1), [1]);
    if let ReportContent::Dmarc { rows, .. } = &mut report.content {
        rows[0].signer = Some(CheckedDomain {
            domain: name(signer),
            passes: true,
        });
    }
    report
}

#[test]
fn who_reports_under_many_names_takes_the_place_of_nobody() {
    let mut ledger = Ledger::default();
    let mut add =
        |report: &ReceivedReport, who: &str| ledger.add(report, &shown(who), NOW, &is_ours);
    let begin = |day: u64| NOW.seconds() - 86_400 * (day + 1);
    for day in 1..10 {
        add(&made("good", begin(day), 1..=20), "good.example");
    }
    let mut source = 1_000_000_u32;
    let mut messages = 9 * 20;
    for day in 0..10 {
        for who in 0..REPORT_REPORTERS_MAX as u32 * 2 {
            // Names below one domain, and domains of a few days.
            for who in [format!("r{who}.evil.example"), format!("evil{who}.example")] {
                source += 300;
                if let LedgerAddition::Counted =
                    add(&made("e", begin(day), source..source + 300), &who)
                {
                    messages += 300;
                }
            }
        }
    }
    // About the day of which the others have reported before.
    assert_eq!(
        add(&made("late", begin(0), 1..=20), "good.example"),
        LedgerAddition::Counted
    );
    assert_eq!(
        add(&made("late", begin(0), 1..=20), "good.example"),
        LedgerAddition::Known
    );
    messages += 20;
    for (day, shares) in &ledger.days {
        assert_eq!(shares["good.example"].sources.len(), 20, "{day}");
        let below = shares.keys().filter(|who| who.ends_with(".evil.example"));
        assert!(below.count() <= 4);
        assert!(shares.len() <= REPORT_REPORTERS_MAX + 2);
    }
    assert_eq!(summary(&ledger).messages.messages(), messages);
}

#[test]
fn what_is_written_is_never_longer_than_what_is_read() {
    let mut ledger = Ledger::default();
    let long = [("a".repeat(60) + ".").repeat(4), "example".to_owned()].concat();
    let source = ledger::Source {
        signer: Some(ledger::Seen {
            domain: long,
            passes: true,
        }),
        ..Default::default()
    };
    for day in 0..400 {
        let sources = (0..120).map(|at| (format!("2001:db8::{at}"), source.clone()));
        let share = ledger::Share {
            sources: sources.collect(),
            ..Default::default()
        };
        ledger
            .days
            .insert(day, [("a.example".to_owned(), share)].into());
    }
    let text = ledger.to_json();
    assert!(text.len() as u64 <= REPORT_FILE_BYTES_MAX);
    assert!(ledger.days.len() > 100 && ledger.days.contains_key(&399));
    assert_eq!(Ledger::parse(&text), Some(ledger));
}

#[test]
fn a_long_name_is_of_no_service_whose_name_it_has_in_its_middle() {
    let front = ["x".repeat(60), "y".repeat(58)].join(".");
    let signer = format!("{front}.mcsv.net.evil.example");
    assert_eq!(&signer[..128], format!("{front}.mcsv.net"));
    let mut ledger = Ledger::default();
    ledger.add(&of_row("x", 0, &signer), &shown("a.example"), NOW, &is_ours);
    let source = &summary(&ledger).sources[0];
    assert_eq!(source.kind, SenderKind::Unknown, "{source:?}");
}

#[test]
fn what_the_spf_record_says_is_not_left_to_reporters() {
    let mut report = made("x", NOW.seconds() - 86_400, [1]);
    if let ReportContent::Dmarc { rows, policy, .. } = &mut report.content {
        rows[0].spf = true;
        policy.clear();
    }
    let mut ledger = Ledger::default();
    ledger.add(&report, &shown("a.example"), NOW, &is_ours);
    let about = summary(&ledger);
    assert_eq!(about.sources[0].kind, SenderKind::Unknown);
    assert_eq!(about.policy, None);
    let mut unasked = |_| KnownAddress::default();
    let about = DomainSummary::new(&name("example.com"), &ledger, (NOW, 30), &mut unasked);
    assert_eq!(about.sources[0].kind, SenderKind::Allowed);
}

#[test]
fn causes_of_a_tls_report_are_summed_however_many_there_are() {
    let text = String::from_utf8(seed("json-tls")).expect("text");
    let at = text.find("\"failure-details\"").expect("details");
    let at = at + text[at..].find('[').expect("a list") + 1;
    let many = "{\"failed-session-count\":1},".repeat(100_000);
    let text = [&text[..at], &many, &text[at..]].concat();
    let json = message("application/tlsrpt+json", "x.json", text.as_bytes());
    let ReportContent::Tls(results) = report(&json).content else {
        panic!("TLS");
    };
    let other = results.iter().flat_map(|result| &result.causes);
    let other = other
        .filter(|(cause, _)| *cause == "other")
        .map(|(_, count)| count);
    assert!(other.sum::<u64>() >= 100_000);
    assert!(results.iter().all(|result| result.causes.len() <= 12));
}

#[test]
fn bytes_that_are_no_text_take_no_more_room_than_they_did() {
    let text = String::from_utf8(seed("xml-google")).expect("text");
    let mut bytes = text.into_bytes();
    let at = bytes
        .windows(10)
        .position(|part| part == b"<org_name>")
        .expect("a name")
        + 10;
    bytes.splice(at..at, [0xff; 3]);
    let report = report(&message("text/xml", "x.xml", &bytes));
    assert!(
        report.organisation.starts_with("???"),
        "{}",
        report.organisation
    );
}

#[test]
fn rows_of_domains_that_are_not_served_are_not_counted() {
    let mut report = made("x", NOW.seconds() - 86_400, [1, 2]);
    let ReportContent::Dmarc { rows, .. } = &mut report.content else {
        panic!("DMARC");
    };
    rows[1].author = Some(name("other.example"));
    let mut ledger = Ledger::default();
    ledger.add(&report, &shown("a.example"), NOW, &is_ours);
    assert_eq!(summary(&ledger).messages.messages(), 1);
    let ours = name("example.com");
    let found = served(&report, |domain| is_ours(domain).then_some(&ours));
    assert_eq!(found, [&ours]);
}
