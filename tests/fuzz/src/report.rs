use std::str;

use chopar::address::Domain;
use chopar::date::Timestamp;
use chopar::limits::{
    REPORT_DOMAINS_MAX, REPORT_ROWS_MAX, REPORT_SUMMARY_BYTES_MAX, REPORT_TEXT_CHARS_MAX,
};
use chopar::report::{
    DomainSummary, KnownAddress, Ledger, LedgerAddition, Page, ReceivedReport, ReportContent,
    ReportReading, Reporter, Tally, read, served,
};

/// A message to `reports:`. It is read within limits, counted once, and described in words of bounded length.
pub fn report(data: &[u8]) {
    let Some((form, data)) = data.split_first() else {
        return;
    };
    let head: &[u8] = match form % 4 {
        0 => b"",
        1 => b"Content-Type: application/xml; name=a!b!c!d.xml\n\n",
        2 => b"Content-Type: application/octet-stream; name=a!b!c!d.xml.gz\n\n",
        _ => b"Content-Type: application/tlsrpt+json\n\n",
    };
    let message = [head, data].concat();
    match read(&message, message.len() as u64) {
        ReportReading::Report(report) => hold(&report),
        ReportReading::Other => {}
        ReportReading::Refused(refusal) => assert!(!refusal.as_str().is_empty()),
    }
}

fn hold(report: &ReceivedReport) {
    for text in [&report.organisation, &report.id] {
        assert!(text.chars().count() <= REPORT_TEXT_CHARS_MAX);
        assert!(!text.contains(char::is_control));
    }
    assert!(!report.id.is_empty() && report.span.0 <= report.span.1);
    if let ReportContent::Dmarc { rows, .. } = &report.content {
        assert!(rows.len() <= REPORT_ROWS_MAX);
    }
    assert!(served(report, |_| None).is_empty());
    let ours = Domain::parse("example.com").expect("a domain");
    let is_ours = |domain: &Domain| *domain == ours || domain.is_under(&ours);
    let found = served(report, |domain| is_ours(domain).then_some(&ours));
    assert!(found.len() <= REPORT_DOMAINS_MAX);
    // A possible time of its arrival.
    let now = Timestamp::from_seconds(report.span.1);
    let mut ledger = Ledger::default();
    let first = ledger.add(report, &Reporter::Unverified, now, &is_ours);
    let written = ledger.to_json();
    let mut again = Ledger::parse(&written).expect("what was written");
    assert_eq!(again, ledger);
    let second = again.add(report, &Reporter::Unverified, now, &is_ours);
    match first {
        LedgerAddition::Counted => assert_eq!((second, &again), (LedgerAddition::Known, &ledger)),
        other => assert_eq!(second, other),
    }
    let shown = Reporter::Verified(Domain::parse("reporter.example").expect("a domain"));
    again.add(report, &shown, now, &is_ours);
    let summary = DomainSummary::new(&ours, &again, (now, 30), &mut |_| KnownAddress::default());
    let page = Page {
        at: now.seconds(),
        tally: Tally::default(),
        domains: vec![summary.into()],
    };
    let text = page.to_json();
    assert!(text.len() <= REPORT_SUMMARY_BYTES_MAX && str::from_utf8(&text).is_ok());
}
