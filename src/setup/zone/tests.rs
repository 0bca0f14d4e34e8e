//! What the zone of a made-up domain lacks, and the findings about it.

use super::*;
use crate::setup::record::DnsRecord;

fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn text(text: &str) -> RecordValue {
    RecordValue::Text(text.to_owned())
}

fn address(text: &str) -> RecordValue {
    RecordValue::Address(text.parse().expect("an address"))
}

fn mx(preference: u16, host: &str) -> RecordValue {
    RecordValue::Mx(Mx {
        preference,
        host: Some(name(host)),
    })
}

/// RFC 8463 appendix A.2's Ed25519 key.
const KEY: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
/// Another one.
const OTHER_KEY: &str = "v=DKIM1; k=ed25519; p=PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

fn facts() -> ZoneFacts {
    ZoneFacts {
        host: name("mail.example.com"),
        addresses: vec![
            "192.0.2.1".parse().expect("an address"),
            "2001:db8::1".parse().expect("an address"),
        ],
        domain: name("example.com"),
        receives: true,
        keys: vec![PublishedKey {
            selector: "s1".to_owned(),
            text: KEY.to_owned(),
        }],
        reports: "postmaster@example.com".to_owned(),
        submission: Some(587),
        submissions: Some(465),
        key_digest: Some(vec![0xAB; 32]),
        web: Vec::new(),
        policy_record: None,
    }
}

/// A zone in which everything is right.
fn right() -> ZoneView {
    let mut seen = ZoneView {
        spf_passes: Some(true),
        helo_passes: Some(true),
        spf_lookups: Some(1),
        ..ZoneView::default()
    };
    for question in questions(&facts()) {
        seen.records.insert(question, PublishedRecords::Nothing);
    }
    for row in compare(&facts(), &seen) {
        let DnsRecord { name, value } = row.record;
        let entry = seen
            .records
            .entry((name, value.kind()))
            .or_insert(PublishedRecords::Nothing);
        match entry {
            PublishedRecords::Records(values) => values.push(value),
            entry => *entry = PublishedRecords::Records(vec![value]),
        }
    }
    seen
}

fn put(seen: &mut ZoneView, owner: &str, kind: ZoneKind, values: Vec<RecordValue>) {
    seen.records
        .insert((name(owner), kind), PublishedRecords::Records(values));
}

/// The first row for this purpose.
#[track_caller]
fn row(seen: &ZoneView, purpose: Purpose) -> WantedRecord {
    let rows = compare(&facts(), seen);
    rows.into_iter()
        .find(|row| row.purpose == purpose)
        .unwrap_or_else(|| panic!("no row for {purpose:?}"))
}

#[test]
fn an_empty_zone_lacks_everything_and_says_what() {
    let mut seen = ZoneView::default();
    for question in questions(&facts()) {
        seen.records.insert(question, PublishedRecords::Nothing);
    }
    let rows = compare(&facts(), &seen);
    assert!(
        rows.iter().all(|row| row.state == RecordState::Missing),
        "{rows:?}"
    );
    let required: Vec<String> = rows
        .iter()
        .filter(|row| row.need == ZoneNeed::Required)
        .map(|row| format!("{} {}", row.record.value.kind(), row.record.name))
        .collect();
    let v6 = format!(
        "PTR {}",
        reverse_name("2001:db8::1".parse().expect("an address"))
    );
    assert_eq!(
        required,
        [
            "A mail.example.com",
            "AAAA mail.example.com",
            "PTR 1.2.0.192.in-addr.arpa",
            &v6,
            "MX example.com",
            "TXT example.com",
            "TXT s1._domainkey.example.com",
            "TXT _dmarc.example.com",
        ]
    );
    assert!(!is_complete(&rows));
}

#[test]
fn a_zone_that_holds_what_was_asked_for_is_complete_and_nothing_is_said_against_it() {
    let rows = compare(&facts(), &right());
    for row in &rows {
        assert_eq!(row.state, RecordState::There, "{row:?}");
        assert_eq!(row.found, [], "{row:?}");
    }
    assert!(is_complete(&rows));
}

#[test]
fn whatever_required_record_is_taken_out_is_missed_alone() {
    for row in compare(&facts(), &right()) {
        let mut seen = right();
        let key = (row.record.name.clone(), row.record.value.kind());
        seen.records.insert(key, PublishedRecords::Nothing);
        if row.purpose == Purpose::Spf {
            seen.spf_passes = Some(false);
        }
        if row.purpose == Purpose::SpfHelo {
            seen.helo_passes = Some(false);
        }
        let rows = compare(&facts(), &seen);
        let lacking: Vec<Purpose> = rows
            .iter()
            .filter(|row| row.state != RecordState::There)
            .map(|row| row.purpose)
            .collect();
        assert_eq!(lacking, [row.purpose]);
        assert_eq!(is_complete(&rows), row.need != ZoneNeed::Required);
    }
}

#[test]
fn an_unknown_answer_is_never_taken_for_there() {
    let mut seen = ZoneView::default();
    for question in questions(&facts()) {
        seen.records
            .insert(question, PublishedRecords::Unknown("no answer".to_owned()));
    }
    let rows = compare(&facts(), &seen);
    assert!(rows.iter().all(|row| row.state == RecordState::Unknown));
    assert!(
        rows.iter()
            .all(|row| row.notes.contains(&"no answer".to_owned()))
    );
    assert!(!is_complete(&rows));
}

#[test]
fn a_record_that_only_some_servers_have_is_on_its_way() {
    let mut seen = right();
    let key = text(KEY);
    let divided = PublishedRecords::Divided(vec![
        ("ns1.example.com".to_owned(), vec![key]),
        ("ns2.example.com".to_owned(), Vec::new()),
    ]);
    seen.records
        .insert((name("s1._domainkey.example.com"), ZoneKind::Txt), divided);
    assert_eq!(row(&seen, Purpose::Dkim).state, RecordState::OnItsWay);
    let divided = PublishedRecords::Divided(vec![
        (
            "ns1.example.com".to_owned(),
            vec![mx(10, "mail.example.com")],
        ),
        (
            "ns2.example.com".to_owned(),
            vec![mx(10, "old.example.com")],
        ),
    ]);
    seen.records
        .insert((name("example.com"), ZoneKind::Mx), divided);
    assert_eq!(row(&seen, Purpose::Mx).state, RecordState::OnItsWay);
}

#[test]
fn other_texts_under_the_domain_are_nobodys_business() {
    let mut seen = right();
    let spf = text("v=spf1 a:mail.example.com ~all");
    let verification = text("google-site-verification=x");
    put(
        &mut seen,
        "example.com",
        ZoneKind::Txt,
        vec![verification, spf],
    );
    let row = row(&seen, Purpose::Spf);
    assert_eq!((row.state, row.found), (RecordState::There, Vec::new()));
}

#[test]
fn a_policy_that_is_published_is_kept_and_this_host_put_in_front() {
    let mut seen = right();
    seen.spf_passes = Some(false);
    let published = "v=spf1 include:_spf.google.com ~all";
    put(
        &mut seen,
        "example.com",
        ZoneKind::Txt,
        vec![text(published)],
    );
    let row = row(&seen, Purpose::Spf);
    assert_eq!(row.state, RecordState::Differs);
    assert_eq!(
        row.record.value,
        text("v=spf1 a:mail.example.com include:_spf.google.com ~all")
    );
    assert_eq!(row.found, [text(published)]);
}

#[test]
fn plus_all_two_records_and_too_many_lookups_are_pointed_out() {
    let mut seen = right();
    put(
        &mut seen,
        "example.com",
        ZoneKind::Txt,
        vec![text("v=spf1 mx +all")],
    );
    let open = row(&seen, Purpose::Spf);
    assert_eq!(open.state, RecordState::Differs);
    assert_eq!(open.record.value, text("v=spf1 mx ~all"));
    let two = vec![text("v=spf1 mx -all"), text("v=spf1 a ~all")];
    put(&mut seen, "example.com", ZoneKind::Txt, two);
    seen.spf_passes = Some(false);
    let twice = row(&seen, Purpose::Spf);
    assert_eq!(
        twice.record.value,
        text("v=spf1 a:mail.example.com mx a ~all")
    );
    assert!(
        twice
            .notes
            .iter()
            .any(|note| note.contains("2 SPF records")),
        "{twice:?}"
    );
    seen.spf_lookups = Some(14);
    let many = row(&seen, Purpose::Spf);
    assert!(
        many.notes.iter().any(|note| note.contains("14 times")),
        "{many:?}"
    );
}

#[test]
fn what_a_panel_did_to_a_key_is_told() {
    let cases = [
        (OTHER_KEY.to_owned(), "it is another key"),
        (KEY[..40].to_owned(), "it is cut off after 40 of"),
        (
            format!("\"{KEY}\""),
            "quotes or backslashes have become part of it",
        ),
        (
            KEY.replace("; ", "\\; "),
            "quotes or backslashes have become part of it",
        ),
        (
            "v=DKIM1; k=ed25519; p=".to_owned(),
            "the key cannot be used",
        ),
    ];
    for (found, expected) in cases {
        let mut seen = right();
        put(
            &mut seen,
            "s1._domainkey.example.com",
            ZoneKind::Txt,
            vec![text(&found)],
        );
        let row = row(&seen, Purpose::Dkim);
        assert_eq!(row.state, RecordState::Differs, "{found}");
        assert!(
            row.notes.iter().any(|note| note.contains(expected)),
            "{found}: {row:?}"
        );
    }
}

#[test]
fn a_key_written_otherwise_is_the_same_key() {
    let mut seen = right();
    let found = KEY.replace("v=DKIM1; k=ed25519;", "k=ed25519;t=y ;");
    put(
        &mut seen,
        "s1._domainkey.example.com",
        ZoneKind::Txt,
        vec![text(&found)],
    );
    let row = row(&seen, Purpose::Dkim);
    assert_eq!(row.state, RecordState::There);
    assert!(row.notes.iter().any(|note| note.contains("t=y")), "{row:?}");
}

#[test]
fn an_alias_is_fine_for_a_key_and_in_the_way_of_a_mail_server() {
    let mut seen = right();
    let alias = |to: &str, value: RecordValue| PublishedRecords::Alias(name(to), vec![value]);
    seen.records.insert(
        (name("s1._domainkey.example.com"), ZoneKind::Txt),
        alias("key.example.net", text(KEY)),
    );
    assert_eq!(row(&seen, Purpose::Dkim).state, RecordState::There);
    seen.records.insert(
        (name("mail.example.com"), ZoneKind::A),
        alias("web.example.net", address("192.0.2.1")),
    );
    let row = row(&seen, Purpose::Address);
    assert!(
        row.notes
            .iter()
            .any(|note| note.contains("must not be one")),
        "{row:?}"
    );
}

#[test]
fn mail_that_goes_elsewhere_is_not_taken_over_without_a_word() {
    let mut seen = right();
    put(
        &mut seen,
        "example.com",
        ZoneKind::Mx,
        vec![mx(1, "aspmx.l.google.com")],
    );
    let elsewhere = row(&seen, Purpose::Mx);
    assert_eq!(elsewhere.state, RecordState::Differs);
    assert!(
        elsewhere
            .notes
            .iter()
            .any(|note| note.contains("receive = false"))
    );
    let both = vec![mx(1, "aspmx.l.google.com"), mx(20, "mail.example.com")];
    put(&mut seen, "example.com", ZoneKind::Mx, both);
    let second = row(&seen, Purpose::Mx);
    assert_eq!(second.state, RecordState::There);
    assert!(
        second.notes.iter().any(|note| note.contains("come first")),
        "{second:?}"
    );
}

#[test]
fn an_address_of_another_machine_beside_ours_is_pointed_out() {
    let mut seen = right();
    let both = vec![address("192.0.2.1"), address("203.0.113.9")];
    put(&mut seen, "mail.example.com", ZoneKind::A, both);
    let row = row(&seen, Purpose::Address);
    assert_eq!(row.state, RecordState::There);
    assert!(
        row.notes.iter().any(|note| note.contains("203.0.113.9")),
        "{row:?}"
    );
}

#[test]
fn an_aaaa_record_without_ipv6_is_pointed_out() {
    let mut seen = right();
    put(
        &mut seen,
        "mail.example.com",
        ZoneKind::Aaaa,
        vec![address("2001:db8::1")],
    );
    let mut facts = facts();
    facts.addresses.truncate(1);
    let rows = compare(&facts, &seen);
    let note = rows
        .iter()
        .flat_map(|row| &row.notes)
        .find(|note| note.contains("take the record out"));
    assert!(note.is_some(), "{rows:?}");
}

#[test]
fn a_policy_of_dmarc_is_left_as_it_is_and_led_on() {
    let mut seen = right();
    put(
        &mut seen,
        "_dmarc.example.com",
        ZoneKind::Txt,
        vec![text("v=DMARC1; p=none")],
    );
    let none = row(&seen, Purpose::Dmarc);
    assert_eq!(none.state, RecordState::There);
    assert!(none.notes.iter().any(|note| note.contains("p=quarantine")));
    assert!(
        none.notes
            .iter()
            .any(|note| note.contains("asks for no reports"))
    );
    let strict = "v=DMARC1; p=reject; rua=mailto:a@example.com";
    put(
        &mut seen,
        "_dmarc.example.com",
        ZoneKind::Txt,
        vec![text(strict)],
    );
    assert_eq!(row(&seen, Purpose::Dmarc).notes, Vec::<String>::new());
    put(
        &mut seen,
        "_dmarc.example.com",
        ZoneKind::Txt,
        vec![text("v=DMARC1; p=all")],
    );
    assert_eq!(row(&seen, Purpose::Dmarc).state, RecordState::Differs);
    let two = vec![text("v=DMARC1; p=none"), text("v=DMARC1; p=reject")];
    put(&mut seen, "_dmarc.example.com", ZoneKind::Txt, two);
    assert_eq!(row(&seen, Purpose::Dmarc).state, RecordState::Differs);
}

#[test]
fn reports_to_another_domain_need_its_leave() {
    let mut facts = facts();
    facts.reports = "me@example.net".to_owned();
    let mut seen = right();
    for question in questions(&facts) {
        seen.records
            .entry(question)
            .or_insert(PublishedRecords::Nothing);
    }
    let rows = compare(&facts, &seen);
    let row = rows
        .iter()
        .find(|row| row.purpose == Purpose::DmarcReports)
        .expect("a row");
    assert_eq!(
        row.record.name,
        name("example.com._report._dmarc.example.net")
    );
    assert_eq!(row.state, RecordState::Missing);
}

#[test]
fn a_wrong_certificate_association_stops_mail_and_none_is_wanted_without_signatures() {
    let mut seen = right();
    assert!(
        !compare(&facts(), &seen)
            .iter()
            .any(|row| row.purpose == Purpose::Association)
    );
    seen.signed = true;
    assert_eq!(row(&seen, Purpose::Association).state, RecordState::Missing);
    let wrong = RecordValue::Association(Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![1; 32],
    });
    put(
        &mut seen,
        "_25._tcp.mail.example.com",
        ZoneKind::Tlsa,
        vec![wrong],
    );
    let row = row(&seen, Purpose::Association);
    assert_eq!(
        (row.state, row.need),
        (RecordState::Differs, ZoneNeed::Required)
    );
}

#[test]
fn a_wildcard_that_answers_is_named() {
    let mut seen = right();
    seen.wildcards.push(name("example.com"));
    put(
        &mut seen,
        "_dmarc.example.com",
        ZoneKind::Txt,
        vec![text("v=spf1 -all")],
    );
    let row = row(&seen, Purpose::Dmarc);
    assert_eq!(row.state, RecordState::Missing);
    assert!(
        row.notes.iter().any(|note| note.contains("*.example.com")),
        "{row:?}"
    );
}

#[test]
fn a_host_that_is_the_domain_itself_has_one_policy() {
    let mut facts = facts();
    facts.host = name("example.com");
    let mut seen = right();
    for question in questions(&facts) {
        seen.records
            .entry(question)
            .or_insert(PublishedRecords::Nothing);
    }
    let rows = compare(&facts, &seen);
    let texts: Vec<&WantedRecord> = rows
        .iter()
        .filter(|row| matches!(row.purpose, Purpose::Spf | Purpose::SpfHelo))
        .collect();
    assert!(
        texts
            .windows(2)
            .all(|pair| pair[0].record == pair[1].record),
        "{texts:?}"
    );
}

#[test]
fn what_is_served_over_https_has_its_names_and_the_policy_its_record() {
    let mut facts = facts();
    facts.web = vec![name("mta-sts.example.com")];
    facts.policy_record = Some("v=STSv1; id=2".to_owned());
    let mut seen = right();
    let asked = questions(&facts);
    for question in [
        (name("mta-sts.example.com"), ZoneKind::A),
        (name("mta-sts.example.com"), ZoneKind::Aaaa),
        (name("_mta-sts.example.com"), ZoneKind::Txt),
    ] {
        assert!(asked.contains(&question), "{question:?}");
        seen.records.insert(question, PublishedRecords::Nothing);
    }
    let states = |seen: &ZoneView| -> Vec<(String, RecordState)> {
        let rows = compare(&facts, seen).into_iter();
        let web = rows.filter(|row| matches!(row.purpose, Purpose::Web | Purpose::MtaSts));
        web.map(|row| (row.record.value.line(), row.state))
            .collect()
    };
    let all_missing = states(&seen);
    assert_eq!(all_missing.len(), 3);
    assert!(
        all_missing
            .iter()
            .all(|(_, state)| *state == RecordState::Missing),
        "{all_missing:?}"
    );
    seen.records.insert(
        (name("mta-sts.example.com"), ZoneKind::A),
        PublishedRecords::Records(vec![address("192.0.2.1")]),
    );
    // An alias to the host does as well.
    seen.records.insert(
        (name("mta-sts.example.com"), ZoneKind::Aaaa),
        PublishedRecords::Alias(name("mail.example.com"), vec![address("2001:db8::1")]),
    );
    seen.records.insert(
        (name("_mta-sts.example.com"), ZoneKind::Txt),
        PublishedRecords::Records(vec![text("v=STSv1; id=1")]),
    );
    let found: Vec<RecordState> = states(&seen).into_iter().map(|(_, state)| state).collect();
    assert_eq!(
        found,
        [RecordState::There, RecordState::There, RecordState::Differs]
    );
}
