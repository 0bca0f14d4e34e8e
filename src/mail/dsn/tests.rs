//! DSNs, parsed as a receiver would parse them.

use proptest::prelude::*;

use super::*;
use crate::entropy::SeededEntropy;
use crate::envelope::Notify;
use crate::mail::header::{HeaderEnd, header_end};

const HEADER: &[u8] =
    b"From: Alice <alice@example.com>\r\nMessage-ID: <1@example.com>\r\nSubject: hello\r\n";

fn recipient(text: &str, original: Option<&str>) -> Recipient {
    Recipient {
        mailbox: Mailbox::parse(text).expect("a mailbox"),
        notify: Notify::Default,
        original: original.map(Into::into),
        destination: None,
        reverse_path: None,
    }
}

fn report(recipient: &Recipient) -> RecipientReport<'_> {
    RecipientReport {
        recipient,
        action: DsnAction::Failed,
        status: EnhancedCode::new(5, 1, 1),
        diagnostic: Diagnostic::Smtp(b"550 5.1.1 no such user"),
        remote: Some("mx.example.org"),
        last_attempt: Some(Timestamp::from_seconds(1_795_527_131)),
        expired: false,
    }
}

struct Parts {
    header: Header,
    text: String,
    status: String,
    third_type: String,
    third: Vec<u8>,
}

fn build(reports: &[RecipientReport<'_>], original: Original<'_>, to: &str) -> DsnMessage {
    let domain = Domain::parse("example.com").expect("a domain");
    let hostname = Domain::parse("mx.example.com").expect("a domain");
    let message = DsnFacts {
        hostname: &hostname,
        domain: &domain,
        to: &Mailbox::parse(to).expect("a mailbox"),
        id: QueueId::new(1),
        dsn_id: QueueId::new(2),
        envelope_id: Some("QQ314159"),
        arrived: Timestamp::from_seconds(1_795_500_000),
        at: Timestamp::from_seconds(1_795_527_131),
        retry_until: Some(Timestamp::from_seconds(1_795_800_000)),
        reports,
        original,
    }
    .build(&mut SeededEntropy::new(5));
    assert_lines_are_legal(&message.bytes);
    assert_eq!(message.eight_bit, !message.bytes.is_ascii());
    message
}

fn assert_lines_are_legal(bytes: &[u8]) {
    assert!(bytes.ends_with(b"\r\n"));
    for line in bytes.split(|&byte| byte == b'\n') {
        assert!(line.len() <= TEXT_LINE_BYTES_MAX + 1);
        let text = line.strip_suffix(b"\r").unwrap_or_else(|| {
            assert!(line.is_empty(), "bare LF");
            line
        });
        assert!(!text.contains(&b'\r') && !text.contains(&0));
    }
}

fn parts(message: &DsnMessage) -> Parts {
    let HeaderEnd::EmptyLine { at, body } = header_end(&message.bytes) else {
        panic!("no body");
    };
    let header = Header::parse(message.bytes[..at].to_vec()).expect("a header");
    let kind = header
        .named("Content-Type")
        .next()
        .expect("a type")
        .unfolded();
    let kind = String::from_utf8(kind).expect("text");
    let boundary = kind.split('"').nth(1).expect("a boundary");
    let body = String::from_utf8_lossy(&message.bytes[body..]).into_owned();
    let delimiter = format!("\r\n--{boundary}");
    let pieces: Vec<&str> = body.split(&delimiter).collect();
    assert_eq!(pieces.len(), 5, "preamble, three parts, end");
    assert_eq!(pieces[4], "--\r\n");
    let contents = |nth: usize| pieces[nth].split_once("\r\n\r\n").expect("a part");
    Parts {
        header,
        text: contents(1).1.to_owned(),
        status: contents(2).1.to_owned(),
        third_type: contents(3).0.to_owned(),
        third: contents(3).1.as_bytes().to_vec(),
    }
}

fn value(header: &Header, name: &str) -> String {
    let field = header
        .named(name)
        .next()
        .unwrap_or_else(|| panic!("no {name}"));
    String::from_utf8(field.unfolded()).expect("text")
}

const HEADERS_ONLY: Original<'_> = Original {
    header: HEADER,
    body: None,
};

#[test]
fn a_failure_tells_people_and_programs() {
    let bob = recipient("bob@example.org", Some("rfc822;Bob@example.org"));
    let message = build(&[report(&bob)], HEADERS_ONLY, "alice@example.com");
    assert!(!message.smtputf8 && !message.eight_bit);
    let parts = parts(&message);
    assert_eq!(
        value(&parts.header, "From"),
        "Mail Delivery System <postmaster@example.com>"
    );
    assert_eq!(value(&parts.header, "To"), "<alice@example.com>");
    assert_eq!(value(&parts.header, "Auto-Submitted"), "auto-replied");
    assert_eq!(value(&parts.header, "In-Reply-To"), "<1@example.com>");
    assert_eq!(value(&parts.header, "References"), "<1@example.com>");
    assert_eq!(
        value(&parts.header, "X-Failed-Recipients"),
        "bob@example.org"
    );
    assert!(value(&parts.header, "Subject").starts_with("Undelivered"));
    let text = parts.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("accepted your message \"hello\" of Tue, 24 Nov 2026 06:00:00 +0000"));
    assert!(text.contains("<bob@example.org>: mx.example.org answered: 550 5.1.1 no such user"));
    assert!(text.contains("check the spelling of the address"));
    assert_eq!(
        parts.status,
        "Reporting-MTA: dns; mx.example.com\r\n\
         Original-Envelope-Id: QQ314159\r\n\
         Arrival-Date: Tue, 24 Nov 2026 06:00:00 +0000\r\n\
         \r\n\
         Original-Recipient: rfc822;Bob@example.org\r\n\
         Final-Recipient: rfc822; bob@example.org\r\n\
         Action: failed\r\n\
         Status: 5.1.1\r\n\
         Remote-MTA: dns; mx.example.org\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
         Last-Attempt-Date: Tue, 24 Nov 2026 13:32:11 +0000\r\n"
    );
    assert!(
        parts
            .third_type
            .contains("Content-Type: text/rfc822-headers")
    );
    assert_eq!(parts.third, HEADER);
}

#[test]
fn the_body_comes_back_where_it_was_asked_for_and_fits() {
    let bob = recipient("bob@example.org", None);
    let failed = report(&bob);
    let full = |body| Original {
        header: HEADER,
        body: Some(body),
    };
    let whole = parts(&build(&[failed], full(b"hi\r\n"), "a@example.com"));
    assert!(whole.third_type.contains("message/rfc822"));
    assert_eq!(whole.third, [HEADER, b"\r\nhi\r\n"].concat());
    let long = vec![b'\n'; DSN_ORIGINAL_BYTES_MAX];
    for body in [
        &long[..],
        b"bare\nlf\r\n",
        b"nul\0\r\n",
        b"open",
        &[b'x'; 2000],
    ] {
        let cut = parts(&build(&[failed], full(body), "a@example.com"));
        assert!(cut.third_type.contains("text/rfc822-headers"));
    }
    let delayed = RecipientReport {
        action: DsnAction::Delayed,
        ..failed
    };
    let kept = parts(&build(&[delayed], full(b"hi\r\n"), "a@example.com"));
    assert!(kept.third_type.contains("text/rfc822-headers"));
}

#[test]
fn a_delay_says_until_when_and_a_failure_is_permanent() {
    let bob = recipient("bob@example.org", None);
    let delayed = RecipientReport {
        action: DsnAction::Delayed,
        status: EnhancedCode::new(4, 4, 1),
        diagnostic: Diagnostic::Local("connection timed out"),
        remote: None,
        ..report(&bob)
    };
    let delay = parts(&build(&[delayed], HEADERS_ONLY, "a@example.com"));
    assert!(
        delay
            .status
            .contains("Action: delayed\r\nStatus: 4.4.1\r\n")
    );
    assert!(
        delay
            .status
            .contains("Diagnostic-Code: x-chopar; connection timed out")
    );
    assert!(delay.status.contains("Will-Retry-Until: "));
    assert!(
        delay
            .text
            .replace("\r\n", " ")
            .contains("tried for another 3 days")
    );
    assert!(delay.text.contains("should not send it again"));
    assert!(!delay.text.contains("send the message again"));
    assert!(!delay.header.has("X-Failed-Recipients"));
    let failed = RecipientReport {
        action: DsnAction::Failed,
        status: EnhancedCode::new(4, 4, 7),
        ..delayed
    };
    let failure = parts(&build(&[failed], HEADERS_ONLY, "a@example.com"));
    assert!(failure.status.contains("Status: 5.4.7\r\n"));
}

#[test]
fn what_expired_says_how_long_it_was_tried_and_who_said_what_last() {
    let bob = recipient("bob@example.org", None);
    let said = |diagnostic, remote| {
        let late = RecipientReport {
            diagnostic,
            remote,
            expired: true,
            status: EnhancedCode::new(4, 4, 2),
            ..report(&bob)
        };
        let parts = parts(&build(&[late], HEADERS_ONLY, "a@example.com"));
        (
            parts.text.split_whitespace().collect::<Vec<_>>().join(" "),
            parts.status,
        )
    };
    let mx = Some("mx.example.org");
    let (text, status) = said(Diagnostic::Smtp("450 später".as_bytes()), mx);
    let words = "tried for 8 hours; the last attempt: mx.example.org answered: 450 später";
    assert!(text.contains(words), "{text}");
    assert!(status.contains("Diagnostic-Code: smtp; 450 sp\\xc3\\xa4ter\r\n"));
    let (text, status) = said(Diagnostic::Local("the server closed the connection"), mx);
    assert!(
        text.contains("the last attempt: at mx.example.org: the server closed"),
        "{text}"
    );
    assert!(status.contains("Diagnostic-Code: x-chopar; the server closed the connection\r\n"));
}

#[test]
fn one_hour_is_not_hours() {
    let hours = |hours: u64| spell(Duration::from_secs(hours * 3_600));
    assert_eq!(
        [hours(1), hours(2), hours(48), hours(72)],
        ["1 hour", "2 hours", "48 hours", "3 days"]
    );
}

#[test]
fn an_original_recipient_stays_ascii_unless_it_is_of_the_type_utf_8() {
    let bob = recipient("bob@example.org", Some("rfc822;andré@example.org"));
    let message = build(&[report(&bob)], HEADERS_ONLY, "a@example.com");
    assert!(!message.smtputf8);
    let parts = parts(&message);
    let field = "Original-Recipient: rfc822;andr+C3+A9@example.org\r\n";
    assert!(parts.status.contains(field), "{}", parts.status);
}

#[test]
fn a_success_is_reported_as_relayed() {
    let bob = recipient("bob@example.org", None);
    let relayed = RecipientReport {
        action: DsnAction::Relayed,
        status: EnhancedCode::new(2, 1, 5),
        diagnostic: Diagnostic::Smtp(b"250 ok"),
        ..report(&bob)
    };
    let parts = parts(&build(&[relayed], HEADERS_ONLY, "a@example.com"));
    assert!(value(&parts.header, "Subject").starts_with("Delivered"));
    assert!(
        parts
            .status
            .contains("Action: relayed\r\nStatus: 2.1.5\r\n")
    );
}

#[test]
fn utf8_addresses_make_a_global_report() {
    let bob = recipient("bøb@bücher.example", None);
    let message = build(&[report(&bob)], HEADERS_ONLY, "alice@example.com");
    assert!(message.smtputf8 && message.eight_bit);
    let text = String::from_utf8(message.bytes.clone()).expect("UTF-8");
    assert!(text.contains("message/global-delivery-status"));
    assert!(text.contains("message/global-headers"));
    assert!(text.contains("Final-Recipient: utf-8; bøb@bücher.example"));
    assert!(text.contains("Content-Transfer-Encoding: 8bit"));
    let domain_only = recipient("bob@bücher.example", None);
    let parts = parts(&build(
        &[report(&domain_only)],
        HEADERS_ONLY,
        "a@example.com",
    ));
    assert!(
        parts
            .status
            .contains("Final-Recipient: rfc822; bob@xn--bcher-kva.example")
    );
}

#[test]
fn hostile_replies_stay_in_their_field() {
    let bob = recipient("bob@example.org", Some("rfc822;a\r\nEvil: yes"));
    let reply = b"550 \r\n\r\n--boundary\r\nEvil: yes\x00\xff\x1b[2J".repeat(50);
    let hostile = RecipientReport {
        diagnostic: Diagnostic::Smtp(&reply),
        remote: Some("mx\r\nEvil: yes"),
        ..report(&bob)
    };
    let original = Original {
        header: b"Message-ID: <a\xff b>\r\nX: \0\ry\nz",
        body: None,
    };
    let parts = parts(&build(&[hostile], original, "a@example.com"));
    assert!(!parts.header.has("In-Reply-To"));
    for line in parts.status.lines().chain(parts.text.lines()) {
        assert!(!line.starts_with("Evil"), "{line}");
    }
}

proptest! {
    #[test]
    fn any_input_gives_legal_lines_and_three_parts(
        header in proptest::collection::vec(any::<u8>(), 0..300),
        body in proptest::collection::vec(any::<u8>(), 0..300),
        reply in proptest::collection::vec(any::<u8>(), 0..300),
        words in ".{0,80}",
    ) {
        let bob = recipient("bob@example.org", Some(&words));
        let local = RecipientReport { diagnostic: Diagnostic::Local(&words), remote: Some(&words), ..report(&bob) };
        let remote = RecipientReport { diagnostic: Diagnostic::Smtp(&reply), ..report(&bob) };
        let original = Original { header: &header, body: Some(&body) };
        parts(&build(&[local, remote], original, "a@example.com"));
    }
}
