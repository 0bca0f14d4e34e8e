//! The server session against clients that follow the rules and clients that do not.

use std::mem;

use super::*;
use crate::address::Mailbox;
use crate::envelope::Recipient;
use crate::limits::COMMAND_LINE_BYTES_MAX;
use crate::smtp::command::ForwardPath;
use crate::smtp::data::LongLines;

/// Plays a client against a session whose owner accepts everything except what a test sets.
struct Play {
    session: Session,
    out: Vec<u8>,
    body: Vec<u8>,
    stored: Vec<(Box<Transaction>, Vec<u8>)>,
    closed: bool,
    forgotten: usize,
}

fn settings() -> ServerSettings {
    ServerSettings {
        hostname: "mx.example".into(),
        message_bytes_max: 1000,
        recipients_max: 3,
        long_lines: LongLines::Refuse,
    }
}

impl Play {
    fn new(role: PortRole, encryption: Encryption) -> Self {
        let mut play = Self {
            session: Session::new(role, encryption),
            out: Vec::new(),
            body: Vec::new(),
            stored: Vec::new(),
            closed: false,
            forgotten: 0,
        };
        play.session.start(&settings(), &mut play.out);
        play.out.clear();
        play
    }

    fn relay() -> Self {
        Self::new(PortRole::Relay, Encryption::Offered)
    }

    /// Sends `wire` in pieces of `piece` bytes, as the engine would; returns the codes of the replies.
    fn pieces(&mut self, wire: &[u8], piece: usize) -> Vec<u16> {
        let mut kept: Vec<u8> = Vec::new();
        for part in wire.chunks(piece.max(1)) {
            if self.closed {
                break;
            }
            kept.extend_from_slice(part);
            let mut input = kept.as_slice();
            while let Some(request) =
                self.session
                    .advance(&mut input, &settings(), &mut self.out, &mut self.body)
            {
                if matches!(request, ServerRequest::StartTls) {
                    input = &[];
                }
                if self.answer(request) {
                    break;
                }
            }
            kept = input.to_vec();
        }
        let out = String::from_utf8(mem::take(&mut self.out)).expect("ASCII");
        out.lines()
            .filter(|line| line.as_bytes()[3] == b' ')
            .map(|line| line[..3].parse().expect("a code"))
            .collect()
    }

    fn say(&mut self, wire: &str) -> Vec<u16> {
        self.pieces(wire.as_bytes(), wire.len())
    }

    fn answer(&mut self, request: ServerRequest) -> bool {
        match request {
            ServerRequest::Hello { name } => {
                let verdict = match &*name {
                    "bad" => Err(Reply::BAD_HELLO),
                    _ => Ok(()),
                };
                self.session.on_ehlo(verdict, &settings(), &mut self.out);
            }
            ServerRequest::Sender { .. } => self.session.on_sender(Ok(()), &mut self.out),
            ServerRequest::Recipient {
                to,
                notify,
                original,
            } => {
                let verdict = match to {
                    ForwardPath::Mailbox(mailbox) if mailbox.local_part() != "nobody" => {
                        Ok(vec![Recipient {
                            mailbox,
                            notify,
                            original,
                            destination: None,
                            reverse_path: None,
                        }])
                    }
                    _ => Err(Reply::UNKNOWN_RECIPIENT),
                };
                self.session.on_recipient(verdict, &mut self.out);
            }
            ServerRequest::Authenticate { mechanism, initial } => {
                let step = match (&*mechanism, initial.as_deref()) {
                    ("PLAIN", None) => AuthStep::Challenge(Vec::new()),
                    ("PLAIN", Some(b"\0u\0right")) => AuthStep::Success,
                    _ => AuthStep::Failure(Reply::AUTH_FAILED),
                };
                self.session.on_auth(step, &mut self.out);
            }
            ServerRequest::Respond(bytes) => {
                let step = if bytes == b"\0u\0right" {
                    AuthStep::Success
                } else {
                    AuthStep::Failure(Reply::AUTH_FAILED)
                };
                self.session.on_auth(step, &mut self.out);
            }
            ServerRequest::StartTls => self.session.on_tls(),
            ServerRequest::BeginBody => {
                (self.session).on_body_ready(Ok(()), &settings(), &mut self.out)
            }
            ServerRequest::Store(transaction) => {
                self.stored.push((transaction, mem::take(&mut self.body)));
                self.session.on_stored(
                    &Reply::queued(crate::queue_id::QueueId::new(1)),
                    &mut self.out,
                );
            }
            ServerRequest::Forget | ServerRequest::Refuse(_) => {
                self.body.clear();
                self.forgotten += 1;
            }
            ServerRequest::Close | ServerRequest::RefuseAndClose(_) => {
                self.closed = true;
                return true;
            }
        }
        false
    }
}

const ENVELOPE: &str = "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n";

#[test]
fn takes_a_message_in_any_pieces() {
    let wire = format!("{ENVELOPE}DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n");
    for piece in 1..wire.len() {
        let mut play = Play::relay();
        assert_eq!(
            play.pieces(wire.as_bytes(), piece),
            [250, 250, 250, 354, 250, 221]
        );
        let (transaction, body) = &play.stored[0];
        assert_eq!(
            transaction.recipients[0].mailbox,
            Mailbox::parse("x@y.example").expect("a mailbox")
        );
        assert_eq!(body, b"Subject: x\r\n\r\n.dot\r\n");
        assert!(play.closed);
    }
}

#[test]
fn chunks_may_hold_anything_that_looks_like_commands() {
    let wire = format!("{ENVELOPE}BDAT 8\r\nA: b\r\n\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    for piece in [1, 3, wire.len()] {
        let mut play = Play::relay();
        assert_eq!(
            play.pieces(wire.as_bytes(), piece),
            [250, 250, 250, 250, 250, 250]
        );
        assert_eq!(play.stored[0].1, b"A: b\r\n\r\nQUIT\r\n");
    }
}

#[test]
fn a_chunk_that_is_refused_is_never_read_as_commands() {
    let mut play = Play::relay();
    assert_eq!(
        play.say("EHLO c\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"),
        [250, 503, 250]
    );
    assert!(!play.closed);
    assert_eq!(
        play.say("MAIL FROM:<>\r\nBDAT 6\r\nQUIT\r\nRSET\r\n"),
        [250, 554, 250]
    );
    assert_eq!(
        play.say("MAIL FROM:<>\r\nRCPT TO:<x@y>\r\nBDAT 2000 LAST\r\n"),
        [250, 250]
    );
    assert_eq!(play.say(&"a".repeat(2000)), [554]);
    assert_eq!(play.say("BDAT 0 LAST\r\n"), [503]);
}

#[test]
fn smuggling_gets_one_refusal_and_the_end_in_any_pieces() {
    for inner in [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r\n.\r",
        "\r.\r",
        "a\0b",
        "\r\n.\r\r\n",
    ] {
        let wire = format!(
            "{ENVELOPE}DATA\r\nSubject: x\r\n\r\nx{inner}MAIL FROM:<evil@x>\r\nRCPT TO:<v@y.example>\r\nDATA\r\n\
             evil\r\n.\r\nNOOP\r\nMAIL FROM:<evil@x>\r\n"
        );
        for piece in [1, 2, 3, 5, 64, wire.len()] {
            let mut play = Play::relay();
            assert_eq!(
                play.pieces(wire.as_bytes(), piece),
                [250, 250, 250, 354, 554],
                "{inner:?} by {piece}"
            );
            assert!(play.closed && play.stored.is_empty());
        }
    }
}

#[test]
fn what_is_said_before_starttls_is_forgotten() {
    let mut play = Play::relay();
    assert_eq!(
        play.say("EHLO c\r\nSTARTTLS\r\nMAIL FROM:<evil@x>\r\n"),
        [250, 220]
    );
    assert_eq!(play.session.greeting(), None);
    assert_eq!(play.say("MAIL FROM:<a@b>\r\n"), [503]);
    assert_eq!(play.say("EHLO c\r\nSTARTTLS\r\n"), [250, 503]);
}

#[test]
fn submission_needs_tls_then_auth() {
    let mut play = Play::new(PortRole::Submission, Encryption::Offered);
    assert_eq!(
        play.say("EHLO c\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN AHUAcmlnaHQ=\r\n"),
        [250, 530, 538]
    );
    assert_eq!(play.say("STARTTLS\r\n"), [220]);
    assert_eq!(
        play.say("EHLO c\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN AHUAcmlnaHQ=\r\n"),
        [250, 530, 235]
    );
    assert_eq!(
        play.say("AUTH PLAIN AHUAcmlnaHQ=\r\nMAIL FROM:<a@b>\r\n"),
        [503, 250]
    );
}

#[test]
fn auth_exchanges_can_be_cancelled_and_malformed() {
    let mut play = Play::new(PortRole::Submission, Encryption::Active);
    assert_eq!(
        play.say("EHLO c\r\nAUTH PLAIN\r\n*\r\nNOOP\r\n"),
        [250, 334, 501, 250]
    );
    assert_eq!(
        play.say("AUTH PLAIN\r\nnot base64!\r\nAUTH CRAM-MD5\r\nAUTH PLAIN !\r\n"),
        [334, 501, 504, 501]
    );
    assert_eq!(
        play.say(&format!("AUTH PLAIN\r\n{}\r\nNOOP\r\n", "a".repeat(13_000))),
        [334, 500, 250]
    );
    assert_eq!(play.say("AUTH PLAIN\r\nAHUAcmlnaHQ=\r\n"), [334, 235]);
}

#[test]
fn three_failures_of_auth_close() {
    let mut play = Play::new(PortRole::Submission, Encryption::Active);
    assert_eq!(play.say("EHLO c\r\n"), [250]);
    assert_eq!(
        play.say(&"AUTH PLAIN AHUAd3Jvbmc=\r\n".repeat(4)),
        [535, 535, 535, 421]
    );
    assert!(play.closed);
}

#[test]
fn auth_is_not_offered_on_port_25() {
    let mut play = Play::new(PortRole::Relay, Encryption::Active);
    assert_eq!(
        play.say("EHLO c\r\nAUTH PLAIN AHUAcmlnaHQ=\r\n"),
        [250, 502]
    );
}

#[test]
fn ten_errors_and_then_the_end() {
    let mut play = Play::relay();
    let codes = play.say(&"WHAT\r\n".repeat(20));
    assert_eq!(codes, [[500; 11].as_slice(), &[421]].concat());
    assert!(play.closed);
}

#[test]
fn a_line_without_end_costs_nothing_and_is_refused_once() {
    let mut play = Play::relay();
    let wire = format!("{}\r\nNOOP\r\n", "x".repeat(1_000_000));
    assert_eq!(play.pieces(wire.as_bytes(), 4096), [500, 250]);
}

#[test]
fn a_bare_line_end_makes_one_refusal_of_the_whole_line() {
    let mut play = Play::relay();
    assert_eq!(
        play.say("EHLO c\nMAIL FROM:<a@b>\r\nEHLO c\r\nNOOP\rNOOP\r\nNOOP\0\r\n"),
        [500, 250, 500, 500]
    );
}

#[test]
fn other_protocols_are_shown_the_door() {
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"SSH-2.0-x\r\n",
        b"\0",
        b"\x80\x2e",
    ] {
        let mut play = Play::relay();
        assert_eq!(play.pieces(hello, 64), [554], "{hello:?}");
        assert!(play.closed);
    }
}

#[test]
fn order_is_kept() {
    let mut play = Play::relay();
    assert_eq!(
        play.say("MAIL FROM:<a@b>\r\nRCPT TO:<x@y>\r\nDATA\r\n"),
        [503, 503, 503]
    );
    assert_eq!(
        play.say("EHLO c\r\nRCPT TO:<x@y>\r\nMAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\nDATA\r\n"),
        [250, 503, 250, 503, 554]
    );
    assert_eq!(
        play.say("RCPT TO:<nobody@y>\r\nDATA\r\nRSET\r\nRCPT TO:<x@y>\r\n"),
        [550, 554, 250, 503]
    );
}

#[test]
fn limits_of_a_transaction_are_told() {
    let mut play = Play::relay();
    assert_eq!(
        play.say("EHLO c\r\nMAIL FROM:<a@b> SIZE=1001\r\nMAIL FROM:<a@b>\r\n"),
        [250, 552, 250]
    );
    assert_eq!(
        play.say("RCPT TO:<a@y>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nRCPT TO:<d@y>\r\n"),
        [250, 250, 250, 452]
    );
    let big = format!(
        "DATA\r\nA: b\r\n\r\n{}.\r\nNOOP\r\n",
        "0123456789\r\n".repeat(100)
    );
    assert_eq!(play.pieces(big.as_bytes(), 50), [354, 552, 250]);
    assert_eq!(
        (play.stored.len(), play.forgotten, play.body.len()),
        (0, 1, 0)
    );
}

#[test]
fn a_long_line_in_the_body_refuses_the_message_only() {
    let mut play = Play::relay();
    let wire = format!(
        "{ENVELOPE}DATA\r\nA: b\r\n\r\n{}\r\n.\r\nNOOP\r\n",
        "x".repeat(999)
    );
    assert_eq!(
        play.pieces(wire.as_bytes(), 100),
        [250, 250, 250, 354, 554, 250]
    );
}

#[test]
fn another_protocol_is_told_by_the_beginning_of_any_line_however_it_comes() {
    let wire = b"NOOP\r\n\x16\x03\r\nNOOP\r\n";
    for piece in [1, 6, wire.len()] {
        let mut play = Play::relay();
        assert_eq!(play.pieces(wire, piece), [250, 554], "{piece}");
        assert!(play.closed);
    }
}

#[test]
fn a_session_that_ends_at_a_line_that_is_too_long_is_closed_at_once() {
    let wire = format!("{}\r\n", "x".repeat(COMMAND_LINE_BYTES_MAX)).repeat(30);
    let mut play = Play::relay();
    play.say(&wire);
    assert!(play.closed);
}

#[test]
fn a_hello_that_is_refused_changes_nothing() {
    let mut play = Play::relay();
    play.session.ask_about_ehlo();
    assert_eq!(
        play.say("EHLO bad\r\nMAIL FROM:<a@b>\r\nEHLO good\r\nMAIL FROM:<a@b>\r\n"),
        [501, 503, 250, 250]
    );
    assert_eq!(
        play.say("RCPT TO:<x@y>\r\nEHLO bad\r\nDATA\r\n.\r\n"),
        [250, 501, 354, 250]
    );
    assert_eq!(
        play.say("MAIL FROM:<a@b>\r\nHELO other\r\nRCPT TO:<x@y>\r\n"),
        [250, 250, 503]
    );
    let (greeting, name) = play.session.greeting().expect("a greeting");
    assert_eq!((greeting, name), (Greeting::Helo, "other"));
    // STARTTLS forgets the session so far, but not that the owner is asked about greetings.
    assert_eq!(play.say("STARTTLS\r\n"), [220]);
    assert_eq!(play.say("EHLO bad\r\n"), [501]);
}

#[test]
fn a_lone_lf_ends_a_line_only_where_it_is_tolerated() {
    let wire = b"EHLO c\nMAIL FROM:<a@b.example>\nRCPT TO:<x@y.example>\nDATA\na\n\nb\n.\nQUIT\n";
    for piece in 1..wire.len() {
        let mut play = Play::relay();
        play.session.tolerate(Tolerance::LineEnds);
        play.pieces(wire, piece);
        assert_eq!(play.stored.len(), 1, "{piece}");
        assert_eq!(play.stored[0].1, b"a\r\n\r\nb\r\n", "{piece}");
        assert!(play.closed, "{piece}");
    }
    for tolerance in [Tolerance::None, Tolerance::Form] {
        let mut play = Play::relay();
        play.session.tolerate(tolerance);
        play.pieces(wire, wire.len());
        play.pieces(b"\r\n", 2);
        assert!(play.stored.is_empty() && !play.closed);
        assert!(play.session.greeting().is_none());
    }
}
