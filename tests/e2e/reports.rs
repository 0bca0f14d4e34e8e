//! Reports of other hosts that arrive by mail: counted once, summarized in words, and separated from mail of people.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{PATIENCE, program, run, wait_for};
use crate::relay::{CHOPAR, Relay, Setup};
use crate::status::{browse, get, text_of};
use crate::world::free_port;

const ZONE: &str = "
writer.test. MX 10 mx.four.test.
_dmarc.writer.test. TXT \"v=DMARC1; p=reject\"
relay.test. TXT \"v=spf1 ip4:192.0.2.10 -all\"
25.100.51.198.in-addr.arpa. PTR mail25.atl.mcsv.net.
mail25.atl.mcsv.net. A 198.51.100.25
77.113.0.203.in-addr.arpa. PTR mail.google.com.
mail.google.com. A 192.0.2.99
";
/// The rows of a report: our host, a service that is not set up for the domain, and a spoofer.
const ROWS: &str = "<record><row><source_ip>192.0.2.10</source_ip><count>12</count><policy_evaluated>\
    <disposition>none</disposition><dkim>pass</dkim><spf>pass</spf></policy_evaluated></row>\
    <identifiers><header_from>relay.test</header_from></identifiers><auth_results><dkim><domain>relay.test</domain>\
    <result>pass</result></dkim><spf><domain>relay.test</domain><result>pass</result></spf></auth_results></record>\
    <record><row><source_ip>198.2.128.9</source_ip><count>30</count><policy_evaluated><disposition>none</disposition>\
    <dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>relay.test</header_from>\
    </identifiers><auth_results><dkim><domain>mailchimpapp.net</domain><result>pass</result></dkim>\
    <spf><domain>mail9.atl.mcsv.net</domain><result>pass</result></spf></auth_results></record>\
    <record><row><source_ip>203.0.113.77</source_ip><count>5</count><policy_evaluated><disposition>none</disposition>\
    <dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>relay.test</header_from>\
    </identifiers><auth_results><spf><domain>relay.test</domain><result>fail</result></spf></auth_results></record>";

/// Mail of a host that only its reverse name identifies.
const NAMED: &str = "<record><row><source_ip>198.51.100.25</source_ip><count>7</count><policy_evaluated>\
    <disposition>none</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers>\
    <header_from>relay.test</header_from></identifiers><auth_results><spf><domain>relay.test</domain>\
    <result>fail</result></spf></auth_results></record>";

/// Another domain, with a key that signs for it.
struct Reporter {
    folder: TempDir,
    zone: String,
}

impl Reporter {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("domains/writer.test")).expect("a domain");
        let text = "hostname = \"mx.writer.test\"\n";
        fs::write(folder.path().join("chopar.toml"), text).expect("a file");
        let chopar = |words: &[&str], input: &[u8]| {
            let mut command = Command::new(CHOPAR);
            run(command.arg("-C").arg(folder.path()).args(words), input).ok()
        };
        let zone = chopar(&["dkim", "keygen", "--selector", "s1", "writer.test"], b"");
        let zone = format!("{ZONE}{zone}");
        Self { folder, zone }
    }

    fn signed(&self, message: &[u8]) -> Vec<u8> {
        let mut command = Command::new(CHOPAR);
        command.arg("-C").arg(self.folder.path());
        run(command.args(["dkim", "sign"]), message)
            .ok()
            .into_bytes()
    }
}

/// A message with a report as its attachment.
fn message(attachment: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(attachment);
    let lines = text.as_bytes().chunks(76).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    let name = "writer.test!relay.test!1!2.xml.gz";
    format!(
        "From: reporter@writer.test\r\nTo: reports@relay.test\r\nDate: Tue, 24 Nov 2026 14:00:00 +0000\r\n\
         Message-ID: <{}@writer.test>\r\nSubject: Report Domain: relay.test Submitter: writer.test Report-ID: <1>\r\n\
         MIME-Version: 1.0\r\nContent-Type: application/gzip; name=\"{name}\"\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        crc32fast::hash(attachment),
        lines.join("\r\n")
    )
    .into_bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(compress_to_vec(data, 6));
    out.extend(crc32fast::hash(data).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out
}

/// A report about yesterday.
fn report(id: &str) -> Vec<u8> {
    report_of(id, ROWS)
}

fn report_of(id: &str, rows: &str) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    let begin = (now.as_secs() / 86_400 - 1) * 86_400;
    let text = format!(
        "<?xml version=\"1.0\"?><feedback><report_metadata><org_name>Writer</org_name><report_id>{id}</report_id>\
         <date_range><begin>{begin}</begin><end>{}</end></date_range></report_metadata>\
         <policy_published><domain>relay.test</domain><p>none</p></policy_published>{rows}</feedback>",
        begin + 86_399
    );
    message(&gzip(text.as_bytes()))
}

fn send(relay: &Relay, message: &[u8]) {
    let mut client = relay.client();
    let to = ["reports@relay.test"];
    let reply = client.transaction("reporter@writer.test", &to, message);
    assert_eq!(reply.code, 250, "{reply:?}");
    relay.wait_for_empty_queue(PATIENCE);
}

/// The reports as the status page gets them.
fn kept(at: SocketAddr) -> Value {
    serde_json::from_str(&get(at, "/reports.json")).expect("JSON")
}

#[test]
fn a_report_is_counted_once_and_shown_by_the_command_and_on_the_page() {
    let reporter = Reporter::new();
    let port = free_port();
    let mut relay = Setup {
        zone: reporter.zone.clone(),
        keys: "admin = \"boss@home.test\"\n".to_owned(),
        listen: format!("status = [\"127.0.0.1:{port}\"]\n"),
        aliases: "reports: reports:\n".to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let signed = reporter.signed(&report("first"));
    send(&relay, &signed);
    send(&relay, &signed);
    assert_eq!(kept(at)["tally"]["counted"], 1);
    assert_eq!(kept(at)["tally"]["known"], 1);
    // Nor does it count again after a crash.
    relay.kill();
    relay.run();
    send(&relay, &signed);
    // A report with an unauthenticated sender, and an attachment that is a trap.
    let second = String::from_utf8(report("second")).expect("text");
    let unsigned = second.replace("From: reporter@writer.test", "From: reporter@four.test");
    send(&relay, unsigned.as_bytes());
    let bomb = message(&gzip(&vec![0; 8 * 1024 * 1024]));
    send(&relay, &reporter.signed(&bomb));
    let refused = relay.wait_for_log("event=report-refused");
    assert!(refused.contains("cause=ratio"), "{refused}");
    let tally = &kept(at)["tally"];
    let counts = ["counted", "known", "passed_on"].map(|name| tally[name].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(0)]);
    assert_eq!(tally["refused"]["ratio"], 1);

    let said: Value = serde_json::from_str(&relay.cli(&["report", "--json"]).ok()).expect("JSON");
    let about = &said[0];
    assert_eq!(about["reporters"], serde_json::json!(["writer.test"]));
    assert_eq!(
        (&about["messages"]["both"], &about["messages"]["neither"]),
        (&12.into(), &35.into())
    );
    assert_eq!(about["unverified"], 47);
    let text = relay.cli(&["report", "relay.test"]).ok();
    for words in [
        "47 messages, 12 passed, 35 failed",
        "your SPF record allows it; all of it passes",
        "Mailchimp sends for you and is not in your SPF record",
        "nobody known: it is not signed, and your SPF record does not allow it",
        "do not set p=quarantine yet: mail from Mailchimp fails",
        "1 reports were not taken: ratio 1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }

    let figures = get(at, "/metrics");
    for figure in [
        "chopar_reports_total{result=\"counted\"} 2",
        "chopar_reports_total{result=\"known\"} 2",
        "chopar_reports_refused_total{cause=\"ratio\"} 1",
        "chopar_reported_messages{domain=\"relay.test\",result=\"passed\"} 12",
        "chopar_reported_messages{domain=\"relay.test\",result=\"failed\"} 35",
        "chopar_reported_sessions{domain=\"relay.test\",tls=\"no\"} 0",
    ] {
        assert!(
            figures.lines().any(|line| line == figure),
            "{figure}: {figures}"
        );
    }
    let mut check = Command::new(program("promtool"));
    let said = run(check.args(["check", "metrics"]), figures.as_bytes());
    assert_eq!((said.code, &*said.stderr), (0, ""), "{said:?}");

    for (size, scheme) in [("1280,2000", "1"), ("390,3600", "0")] {
        let (dom, complaints) = browse(at, size, scheme);
        assert_eq!(complaints, "");
        let page = text_of(&dom);
        for words in [
            "12 passed, 35 failed in 30 days, said by writer.test",
            "Mailchimp sends for you, but its mail does not pass",
            "Not taken: ratio 1",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
    assert_eq!(relay.sink.count(), 0, "nobody is told anything");
}

#[test]
fn a_source_is_named_only_if_its_reverse_name_leads_back_to_it() {
    let reporter = Reporter::new();
    let relay = Setup {
        zone: reporter.zone.clone(),
        keys: "admin = \"boss@home.test\"\n".to_owned(),
        aliases: "reports: reports:\n".to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start();
    send(
        &relay,
        &reporter.signed(&report_of("first", &format!("{ROWS}{NAMED}"))),
    );
    let text = relay.cli(&["report", "relay.test"]).ok();
    // Two hosts of one service, of which receivers identified one, and a host with a false reverse name at Google.
    for words in [
        "0 ok       37 failed  Mailchimp (198.2.128.9 and others)",
        "0 ok        5 failed  203.0.113.77\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("Google"), "{text}");
    // If no name server answers, the command ends within its time limit and prints what it knows.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let server = silent.local_addr().expect("an address").to_string();
    let begin = std::time::Instant::now();
    let text = relay.cli(&["report", "--dns", &server, "relay.test"]).ok();
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
    assert!(
        text.contains("0 ok        7 failed  198.51.100.25"),
        "{text}"
    );
}

#[test]
fn mail_of_a_person_to_the_address_for_reports_reaches_the_admin() {
    let relay = Setup {
        zone: ZONE.replace("p=reject", "p=none"),
        keys: "admin = \"boss@home.test\"\n".to_owned(),
        aliases: "reports: reports:\n".to_owned(),
        ..Setup::unauthenticated_clients()
    }
    .start();
    let text = b"From: Ann <ann@writer.test>\r\nSubject: Re: Report Domain: relay.test\r\n\r\nWhat is this?\r\n.dots\r\n";
    let mut client = relay.client();
    let reply = client.transaction("ann@writer.test", &["reports@relay.test"], text);
    assert_eq!(reply.code, 250, "{reply:?}");
    let arrived = relay.sink.wait_to("boss@home.test");
    assert_eq!(arrived.from, "postmaster@relay.test");
    let text = arrived.text();
    assert!(
        text.contains("Delivered-To: reports@relay.test\r\n"),
        "{text}"
    );
    assert!(text.contains("What is this?\r\n.dots\r\n"), "{text}");
    // Sent from here, it would pass as our own.
    let spoofed = b"From: boss@relay.test\r\nSubject: x\r\n\r\nx\r\n";
    let reply = client.transaction("ann@writer.test", &["reports@relay.test"], spoofed);
    assert_eq!(reply.code, 550, "{reply:?}");
    // A message that the relay has forwarded before is a loop: its sender gets a DSN.
    let mut client = relay.client();
    let again = text.as_bytes();
    let reply = client.transaction("ann@writer.test", &["reports@relay.test"], again);
    assert_eq!(reply.code, 250, "{reply:?}");
    let log = wait_for("the loop", PATIENCE, || {
        let log = relay.log();
        log.contains("5.4.6").then_some(log)
    });
    assert!(log.contains("has been here before"), "{log}");
    let ours = relay.sink.messages();
    assert_eq!(
        ours.iter()
            .filter(|one| one.to == ["boss@home.test"])
            .count(),
        1
    );
}
