//! Reports in the forms of real reporters, and messages that only look like reports.

mod summaries;

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::deflate::compress_to_vec;

use super::*;
use crate::date::Timestamp;
use crate::entropy::{Entropy as _, SeededEntropy};
use crate::limits::{
    REPORT_BYTES_MAX, REPORT_DEPTH_MAX, REPORT_ENTRIES_MAX, REPORT_FILE_BYTES_MAX, REPORT_IDS_MAX,
    REPORT_REPORTERS_MAX, REPORT_SOURCES_MAX, REPORT_TEXT_CHARS_MAX,
};

/// A seed of the fuzzer's: how it is wrapped, and what it is.
fn seed(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/report");
    let bytes = fs::read(folder.join(name)).expect("a seed");
    bytes[1..].to_vec()
}

fn message(kind: &str, name: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: a@b.example\nContent-Type: {kind}\nContent-Disposition: attachment; filename=\"{name}\"\n\n"
    );
    [head.as_bytes(), body].concat()
}

fn read_all(message: &[u8]) -> ReportReading {
    read(message, message.len() as u64)
}

fn report(message: &[u8]) -> ReceivedReport {
    match read_all(message) {
        ReportReading::Report(report) => report,
        other => panic!("{other:?}"),
    }
}

fn attached(body: &[u8]) -> ReportReading {
    read_all(&message("application/octet-stream", NAME, body))
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend(compress_to_vec(data, 6));
    out.extend(crc32fast::hash(data).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out
}

/// The parts of a ZIP of one file, to be put together rightly or wrongly.
struct Zip {
    packed: Vec<u8>,
    sums: [u32; 3],
    method: u16,
    name: Vec<u8>,
    entries: u16,
    local_name: Vec<u8>,
    local_sums: [u32; 3],
    local_at: u32,
}

impl Zip {
    fn new(data: &[u8]) -> Self {
        let packed = compress_to_vec(data, 6);
        let sums = [
            crc32fast::hash(data),
            packed.len() as u32,
            data.len() as u32,
        ];
        Self {
            packed,
            sums,
            method: 8,
            name: b"x.xml".to_vec(),
            entries: 1,
            local_name: b"x.xml".to_vec(),
            local_sums: sums,
            local_at: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let words = |out: &mut Vec<u8>, words: &[u16]| {
            words.iter().for_each(|word| out.extend(word.to_le_bytes()));
        };
        let longs = |out: &mut Vec<u8>, longs: &[u32]| {
            longs.iter().for_each(|long| out.extend(long.to_le_bytes()));
        };
        let mut out = b"PK\x03\x04".to_vec();
        words(&mut out, &[20, 0, self.method, 0, 0]);
        longs(&mut out, &self.local_sums);
        words(&mut out, &[self.local_name.len() as u16, 0]);
        out.extend(&self.local_name);
        out.extend(&self.packed);
        let start = out.len() as u32;
        out.extend(b"PK\x01\x02");
        words(&mut out, &[20, 20, 0, self.method, 0, 0]);
        longs(&mut out, &self.sums);
        words(&mut out, &[self.name.len() as u16, 0, 0, 0, 0]);
        longs(&mut out, &[0, self.local_at]);
        out.extend(&self.name);
        let len = out.len() as u32 - start;
        out.extend(b"PK\x05\x06");
        words(&mut out, &[0, 0, self.entries, self.entries]);
        longs(&mut out, &[len, start]);
        words(&mut out, &[0]);
        out
    }
}

fn name(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

#[test]
fn reports_in_the_shape_of_large_providers_are_read() {
    for (seed_name, organisation, rows, messages) in [
        ("message-google", "google.com", 3, 47),
        ("message-microsoft", "Enterprise Outlook", 2, 5),
        ("message-yahoo", "Yahoo", 1, 1),
    ] {
        let report = report(&seed(seed_name));
        assert_eq!(report.organisation, organisation);
        let ReportContent::Dmarc {
            domain,
            policy,
            rows: found,
        } = &report.content
        else {
            panic!("{report:?}");
        };
        assert_eq!((domain.as_str(), policy.as_str()), ("example.com", "none"));
        let sum: u64 = found.iter().map(|row| row.count).sum();
        assert_eq!((found.len(), sum), (rows, messages), "{seed_name}");
    }
    let ReportContent::Dmarc { rows, .. } = report(&seed("message-google")).content else {
        panic!("DMARC");
    };
    let signer = rows[1].signer.as_ref().expect("a signer");
    assert_eq!(signer.domain.as_str(), "mailchimpapp.net");
    assert!(signer.passes && !rows[1].dkim && rows[0].dkim && rows[0].spf);
    assert!(rows[2].signer.is_none() && !rows[2].envelope.as_ref().expect("SPF").passes);
}

#[test]
fn elements_in_any_order_and_with_a_prefix_are_read() {
    for (seed_name, author) in [
        ("xml-mailru", "example.com"),
        ("xml-rfc9990", "news.example.com"),
    ] {
        let report = report(&message("text/xml", "report.xml", &seed(seed_name)));
        let ReportContent::Dmarc { rows, .. } = &report.content else {
            panic!("{report:?}");
        };
        assert_eq!(rows[0].author, Some(name(author)));
    }
    for seed_name in ["zip-mailru", "zip-stored", "gzip-rfc9990"] {
        assert!(
            matches!(attached(&seed(seed_name)), ReportReading::Report(_)),
            "{seed_name}"
        );
    }
}

#[test]
fn a_tls_report_is_read_with_its_causes() {
    let plain = message("application/tlsrpt+json", "x.json", &seed("json-tls"));
    for message in [plain, seed("message-tls")] {
        let report = report(&message);
        let ReportContent::Tls(results) = &report.content else {
            panic!("{report:?}");
        };
        assert_eq!((results[0].successes, results[0].failures), (40, 3));
        assert_eq!(
            results[0].causes,
            [("certificate-expired", 2), ("other", 1)]
        );
        assert_eq!(report.span.0, 1_795_824_000);
    }
}

#[test]
fn what_a_person_writes_is_not_a_report() {
    assert_eq!(read_all(&seed("message-person")), ReportReading::Other);
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><g/></svg>";
    let photos = Zip::new(b"not a report at all").bytes();
    for (kind, file, body) in [
        ("image/svg+xml", "logo.svg", svg.to_vec()),
        ("application/zip", "photos.zip", photos),
        (
            "application/zip",
            "broken.zip",
            b"PK\x03\x04broken".to_vec(),
        ),
        ("application/json", "data.json", b"{\"a\": 1}".to_vec()),
        ("text/html", "", seed("xml-google")),
        ("text/plain", "", Vec::new()),
    ] {
        let message = message(kind, file, &body);
        assert_eq!(read_all(&message), ReportReading::Other, "{kind} {file}");
    }
    // However long it is.
    let long = message("application/zip", "film.zip", b"x");
    assert_eq!(read(&long, 1 << 40), ReportReading::Other);
    let long = message("application/zip", NAME, b"x");
    assert_eq!(
        read(&long, 1 << 40),
        ReportReading::Refused(ReportRefusal::TooLong)
    );
}

#[test]
fn bombs_are_refused_by_their_ratio_and_by_their_length() {
    let zeros = vec![b' '; 4 * 1024 * 1024];
    assert_eq!(
        attached(&gzip(&zeros)),
        ReportReading::Refused(ReportRefusal::Ratio)
    );
    assert_eq!(
        attached(&Zip::new(&zeros).bytes()),
        ReportReading::Refused(ReportRefusal::Ratio)
    );
    // What packs no better than a report does, and is too long all the same.
    let mut chance = SeededEntropy::new(7);
    let mut long = Vec::new();
    while long.len() <= REPORT_BYTES_MAX {
        let word = chance.next_u64().to_le_bytes();
        (0..16).for_each(|_| long.extend(word));
    }
    assert_eq!(
        attached(&gzip(&long)),
        ReportReading::Refused(ReportRefusal::TooLong)
    );
    // An archive in an archive, as the known bombs are made.
    let inner = Zip::new(&seed("xml-google")).bytes();
    for outer in [Zip::new(&inner).bytes(), gzip(&inner), gzip(&gzip(b"x"))] {
        assert_eq!(
            attached(&outer),
            ReportReading::Refused(ReportRefusal::Nested)
        );
    }
}

#[test]
fn a_zip_that_contradicts_itself_is_refused() {
    let xml = seed("xml-google");
    assert!(matches!(
        attached(&Zip::new(&xml).bytes()),
        ReportReading::Report(_)
    ));
    let changed = |change: &dyn Fn(&mut Zip)| {
        let mut zip = Zip::new(&xml);
        change(&mut zip);
        zip.bytes()
    };
    let mut front = b"#!/bin/sh\n".to_vec();
    front.extend(Zip::new(&xml).bytes());
    let mut behind = Zip::new(&xml).bytes();
    behind.extend(b"more");
    let mut encrypted = Zip::new(&xml).bytes();
    encrypted[6] |= 1;
    for (what, bytes) in [
        ("two files", changed(&|zip| zip.entries = 2)),
        (
            "another name",
            changed(&|zip| zip.local_name = b"y.xml".to_vec()),
        ),
        ("another length", changed(&|zip| zip.local_sums[2] += 1)),
        (
            "another length twice",
            changed(&|zip| {
                zip.local_sums[2] += 1;
                zip.sums[2] += 1;
            }),
        ),
        (
            "another checksum",
            changed(&|zip| {
                zip.local_sums[0] ^= 1;
                zip.sums[0] ^= 1;
            }),
        ),
        (
            "a file in the middle of another",
            changed(&|zip| zip.local_at = 4),
        ),
        ("another method", changed(&|zip| zip.method = 12)),
        (
            "bytes that belong to no file",
            changed(&|zip| zip.packed.extend(b"overlap")),
        ),
        ("a cut", Zip::new(&xml).bytes()[..200].to_vec()),
        ("something behind", behind),
        ("encryption in one of its headers", encrypted),
    ] {
        assert_eq!(
            attached(&bytes),
            ReportReading::Refused(ReportRefusal::Archive),
            "{what}"
        );
    }
    // No archive at its front is none.
    assert_eq!(attached(&front), ReportReading::Other);
}

#[test]
fn entities_and_document_types_are_refused() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]>\
                <feedback>&lol2;</feedback>";
    let outside = "<!DOCTYPE feedback SYSTEM \"file:///etc/passwd\"><feedback/>";
    let unknown = "<feedback><version>&xxe;</version></feedback>";
    for text in [bomb, outside, unknown] {
        assert_eq!(
            attached(text.as_bytes()),
            ReportReading::Refused(ReportRefusal::Entity),
            "{text}"
        );
    }
}

#[test]
fn what_is_too_deep_or_too_much_is_refused() {
    let deep = format!("<feedback>{}", "<a>".repeat(REPORT_DEPTH_MAX * 100));
    assert_eq!(
        attached(deep.as_bytes()),
        ReportReading::Refused(ReportRefusal::TooMany)
    );
    let text = String::from_utf8(seed("xml-google")).expect("text");
    let (start, end) = (
        text.find("<record>").expect("one"),
        text.rfind("</feedback>").expect("one"),
    );
    let row = "<record><row><source_ip>192.0.2.1</source_ip><count>1</count></row></record>";
    let many = |count: usize| format!("{}{}{}", &text[..start], row.repeat(count), &text[end..]);
    assert_eq!(
        attached(many(20_001).as_bytes()),
        ReportReading::Refused(ReportRefusal::TooMany)
    );
    let ReportReading::Report(report) = attached(&gzip(many(3_000).as_bytes())) else {
        panic!("a report");
    };
    assert!(matches!(report.content, ReportContent::Dmarc { rows, .. } if rows.len() == 3_000));
    let nested = format!("{{\"policies\":{}", "[".repeat(100_000));
    let json = message("application/tlsrpt+json", "x.json", nested.as_bytes());
    assert!(matches!(read_all(&json), ReportReading::Refused(_)));
}

#[test]
fn what_lacks_something_is_refused_and_not_bounced_as_a_letter() {
    let text = String::from_utf8(seed("xml-google")).expect("text");
    for (from, to, refusal) in [
        (
            "<report_id>4711000000000000001</report_id>",
            "",
            ReportRefusal::Schema,
        ),
        ("<begin>", "<begin>x", ReportRefusal::Schema),
        (
            "<source_ip>192.0.2.10</source_ip>",
            "<source_ip>here</source_ip>",
            ReportRefusal::Schema,
        ),
        (
            "<count>12</count>",
            "<count>-12</count>",
            ReportRefusal::Schema,
        ),
        ("</feedback>", "", ReportRefusal::Xml),
        ("</record>", "</rekord>", ReportRefusal::Xml),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        // Its own text says what it is meant to be, whatever it is called.
        let message = message("text/xml", "x.xml", changed.as_bytes());
        assert_eq!(
            read_all(&message),
            ReportReading::Refused(refusal),
            "{from}"
        );
    }
}

#[test]
fn ten_thousand_mutated_reports_are_read_within_their_bounds() {
    let xml = seed("xml-google");
    let seeds = [
        xml.clone(),
        seed("xml-rfc9990"),
        seed("json-tls"),
        gzip(&xml),
        Zip::new(&xml).bytes(),
    ];
    let mut chance = SeededEntropy::new(3);
    let mut read_as = [0_u32; 3];
    for turn in 0..10_000_usize {
        let mut bytes = seeds[turn % seeds.len()].clone();
        for _ in 0..=chance.below(3) {
            let at = chance.below(bytes.len() as u64) as usize;
            match chance.below(4) {
                0 => bytes[at] ^= 1 << chance.below(8),
                1 => bytes[at] = b"<>&;/\"{}[]0\0"[chance.below(12) as usize],
                2 => drop(bytes.drain(at..(at + 9).min(bytes.len()))),
                _ => {
                    let part = bytes[at..(at + 40).min(bytes.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        let kind = match turn % seeds.len() {
            2 => "application/tlsrpt+json",
            _ => "application/octet-stream",
        };
        match read_all(&message(kind, NAME, &bytes)) {
            ReportReading::Report(report) => {
                assert!(report.organisation.chars().count() <= REPORT_TEXT_CHARS_MAX);
                read_as[0] += 1;
            }
            ReportReading::Other => read_as[1] += 1,
            ReportReading::Refused(_) => read_as[2] += 1,
        }
    }
    assert!(read_as[0] > 500 && read_as[2] > 2_000, "{read_as:?}");
}

#[test]
fn the_archives_of_a_message_share_what_may_come_out_of_them() {
    let part = |body: &[u8]| {
        let text = STANDARD.encode(body);
        format!(
            "--b\nContent-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{text}\n"
        )
    };
    let mut noise = vec![0_u8; REPORT_BYTES_MAX / 2 - 1_000];
    for (at, byte) in noise.iter_mut().enumerate().step_by(50) {
        *byte = at as u8;
    }
    let with = |count: usize| {
        let mut text =
            "From: a@b.example\nContent-Type: multipart/mixed; boundary=b\n\n".to_owned();
        for _ in 0..count {
            text.push_str(&part(&gzip(&noise)));
        }
        text + &part(&gzip(&seed("xml-google"))) + "--b--\n"
    };
    assert!(matches!(
        read_all(with(1).as_bytes()),
        ReportReading::Report(_)
    ));
    assert!(!matches!(
        read_all(with(2).as_bytes()),
        ReportReading::Report(_)
    ));
}

/// How senders of reports name them.
const NAME: &str = "reporter.example!example.com!1795824000!1795910399.xml.gz";
