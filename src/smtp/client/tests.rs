//! The client session against servers that behave well, badly and oddly.

use super::*;
use crate::address::{Mailbox, ReversePath};
use crate::envelope::{BodyKind, Notify};

/// Plays a server: feeds replies, and collects the output and the requests of the client.
struct Play {
    session: Session,
    sent: Vec<u8>,
}

impl Play {
    fn new(tls: TlsPolicy) -> Self {
        Self {
            session: Session::new("client.example", tls, None),
            sent: Vec::new(),
        }
    }

    fn server(&mut self, wire: &str) -> &mut Self {
        self.session.on_bytes(wire.as_bytes(), &mut self.sent);
        self
    }

    fn sent(&mut self) -> String {
        String::from_utf8(mem::take(&mut self.sent)).expect("ASCII")
    }

    fn wanted(&mut self) -> Vec<ClientRequest> {
        std::iter::from_fn(|| self.session.next_request()).collect()
    }

    fn results(&mut self) -> Vec<RecipientResult> {
        self.wanted()
            .into_iter()
            .find_map(|request| {
                if let ClientRequest::Done(results) = request {
                    Some(results)
                } else {
                    None
                }
            })
            .expect("fates")
    }

    fn ready(extensions: &str) -> Self {
        let mut play = Self::new(TlsPolicy::Opportunistic);
        play.server("220 mx\r\n")
            .server(&format!("250-mx\r\n{extensions}250 HELP\r\n"));
        assert!(matches!(play.wanted().as_slice(), [ClientRequest::Ready]));
        play.sent();
        play
    }

    fn begin(&mut self, recipients: &[&str]) -> &mut Self {
        self.session.begin(mail(recipients), &mut self.sent);
        self
    }
}

fn mail(recipients: &[&str]) -> ClientMail {
    ClientMail {
        reverse_path: ReversePath::parse("from@a.example").expect("a path"),
        recipients: recipients
            .iter()
            .map(|text| Rcpt {
                mailbox: Mailbox::parse(text).expect("a mailbox"),
                notify: Notify::Default,
                original: None,
            })
            .collect(),
        size: 5,
        body: BodyKind::SevenBit,
        smtputf8: false,
        dsn_return: None,
        envelope_id: None,
    }
}

#[test]
fn pipelines_a_whole_envelope() {
    let mut play = Play::ready("250-PIPELINING\r\n250-SIZE 100\r\n");
    play.begin(&["x@b.example", "y@b.example"]);
    assert_eq!(
        play.sent(),
        "MAIL FROM:<from@a.example> SIZE=5\r\nRCPT TO:<x@b.example>\r\nRCPT TO:<y@b.example>\r\nDATA\r\n"
    );
    play.server("250 ok\r\n250 ok\r\n550 5.1.1 who\r\n354 go\r\n");
    assert!(matches!(play.wanted().as_slice(), [ClientRequest::Body]));
    let mut out = Vec::new();
    play.session.on_body(b".a\r\n", &mut out);
    play.session.on_body_end(&mut out);
    assert_eq!(out, b"..a\r\n.\r\n");
    play.server("250 2.0.0 taken\r\n");
    assert_eq!(
        play.results(),
        [
            RecipientResult::Delivered {
                text: "250 2.0.0 taken".into(),
                dsn: false
            },
            RecipientResult::Failed {
                about: RefusalScope::Recipient,
                status: EnhancedCode::new(5, 1, 1),
                words: crate::cause::QuotedWords::Reply("550 5.1.1 who".into())
            }
        ]
    );
}

#[test]
fn without_pipelining_says_one_command_at_a_time() {
    let mut play = Play::ready("");
    play.begin(&["x@b.example"]);
    assert_eq!(play.sent(), "MAIL FROM:<from@a.example>\r\n");
    play.server("250 ok\r\n");
    assert_eq!(play.sent(), "RCPT TO:<x@b.example>\r\n");
    play.server("450 4.2.1 later\r\n");
    assert_eq!(play.sent(), "", "no DATA without a recipient");
    assert!(matches!(
        play.results().as_slice(),
        [RecipientResult::Deferred { .. }]
    ));
}

#[test]
fn a_354_without_recipients_delivers_nothing() {
    let mut play = Play::ready("250-PIPELINING\r\n");
    play.begin(&["x@b.example"]);
    play.sent();
    play.server("250 ok\r\n550 no\r\n354 go\r\n");
    assert_eq!(play.sent(), ".\r\n");
    play.server("250 ok\r\n");
    assert!(matches!(
        play.results().as_slice(),
        [RecipientResult::Failed { .. }]
    ));
}

#[test]
fn a_link_lost_behind_the_dot_is_unknown_and_before_it_deferred() {
    for (end, unknown) in [(false, false), (true, true)] {
        let mut play = Play::ready("250-PIPELINING\r\n");
        play.begin(&["x@b.example"])
            .server("250 ok\r\n250 ok\r\n354 go\r\n");
        let mut out = Vec::new();
        if end {
            play.session.on_body_end(&mut out);
        }
        play.wanted();
        play.session.on_lost("reset");
        assert_eq!(
            matches!(play.results().as_slice(), [RecipientResult::Unknown { .. }]),
            unknown
        );
    }
}

#[test]
fn refusal_of_mail_reaches_every_recipient() {
    let mut play = Play::ready("250-PIPELINING\r\n");
    play.begin(&["x@b.example", "y@b.example"]);
    play.server("550 5.7.1 not you\r\n503 no\r\n503 no\r\n503 no\r\n");
    let results = play.results();
    assert!(
        results
            .iter()
            .all(|result| matches!(result, RecipientResult::Failed { words, .. } if words.as_str() == "550 5.7.1 not you")),
        "{results:?}"
    );
    play.sent();
    play.begin(&["z@b.example"]);
    assert!(play.sent().starts_with("RSET\r\nMAIL"));
}

#[test]
fn bytes_behind_starttls_end_the_session() {
    let mut play = Play::new(TlsPolicy::Opportunistic);
    play.server("220 mx\r\n")
        .server("250-mx\r\n250 STARTTLS\r\n")
        .server("220 go\r\n250 injected\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::Refused(SessionRefusal::Injection)]
    ));
}

#[test]
fn forgets_extensions_at_tls_and_greets_again() {
    let mut play = Play::new(TlsPolicy::Opportunistic);
    play.server("220 mx\r\n")
        .server("250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
        .server("220 go\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::StartTls]
    ));
    play.sent();
    play.session.on_tls(&mut play.sent);
    assert_eq!(play.sent(), "EHLO client.example\r\n");
    play.server("250 mx\r\n");
    play.begin(&["x@b.example"]);
    assert_eq!(
        play.sent(),
        "MAIL FROM:<from@a.example>\r\n",
        "PIPELINING was learned in clear"
    );
}

#[test]
fn required_tls_that_is_not_offered_refuses() {
    let mut play = Play::new(TlsPolicy::Required);
    play.server("220 mx\r\n").server("250 mx\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::Refused(SessionRefusal::NoTls(None))]
    ));
}

#[test]
fn a_server_without_ehlo_gets_helo() {
    let mut play = Play::new(TlsPolicy::Opportunistic);
    play.server("220 mx\r\n").server("502 what\r\n");
    assert_eq!(
        play.sent(),
        "EHLO client.example\r\nHELO client.example\r\n"
    );
    play.server("250 mx\r\n");
    assert!(matches!(play.wanted().as_slice(), [ClientRequest::Ready]));
}

#[test]
fn a_full_transaction_is_continued_in_another() {
    let mut play = Play::ready("250-PIPELINING\r\n250-LIMITS RCPTMAX=2\r\n");
    play.begin(&["a@b.example", "b@b.example", "c@b.example"]);
    assert_eq!(play.sent().matches("RCPT").count(), 2);
    play.server("250 ok\r\n250 ok\r\n452 4.5.3 enough\r\n354 go\r\n");
    let mut out = Vec::new();
    play.session.on_body_end(&mut out);
    play.wanted();
    play.server("250 ok\r\n");
    let results = play.results();
    assert!(
        matches!(
            results.as_slice(),
            [
                RecipientResult::Delivered { .. },
                RecipientResult::Again,
                RecipientResult::Again
            ]
        ),
        "{results:?}"
    );
}

#[test]
fn too_many_recipients_are_sent_again_however_the_server_says_it() {
    for (reply, again) in [
        ("452 4.5.3 enough", true),
        ("452 too many", true),
        ("552 5.5.3 Too many recipients", true),
        ("552 too many recipients", true),
        ("552 5.2.2 the mailbox is full", false),
        ("452 4.2.2 the mailbox is full", false),
        ("550 5.5.3 too many", false),
    ] {
        let mut play = Play::ready("250-PIPELINING\r\n");
        play.begin(&["a@b.example", "b@b.example"]);
        play.server(&format!("250 ok\r\n250 ok\r\n{reply}\r\n354 go\r\n"));
        let mut out = Vec::new();
        play.session.on_body_end(&mut out);
        play.wanted();
        play.server("250 ok\r\n");
        assert_eq!(
            play.results()[1] == RecipientResult::Again,
            again,
            "{reply}"
        );
    }
}

fn logging_in(tls: TlsPolicy) -> Play {
    let login = ClientLogin {
        user: zeroize::Zeroizing::new("u".into()),
        password: zeroize::Zeroizing::new("p".into()),
    };
    Play {
        session: Session::new("c", tls, Some(login)),
        sent: Vec::new(),
    }
}

#[test]
fn a_server_that_does_not_like_one_way_to_log_in_gets_the_next() {
    // The server's extensions, and its reply to each command until it refuses.
    let plain = "AUTH PLAIN AHUAcA==\r\n";
    let (bare, response) = ("AUTH PLAIN\r\n", "AHUAcA==\r\n");
    let login = ["AUTH LOGIN\r\n", "dQ==\r\n", "cA==\r\n"];
    let ok = "235 2.7.0 ok\r\n";
    for (offer, talk) in [
        ("AUTH PLAIN", vec![(plain, ok)]),
        (
            "AUTH PLAIN",
            vec![
                (plain, "501 no initial response\r\n"),
                (bare, "334 \r\n"),
                (response, ok),
            ],
        ),
        (
            "AUTH PLAIN LOGIN",
            vec![
                (plain, "504 5.5.4 not that\r\n"),
                (bare, "504 5.5.4 not that\r\n"),
                (login[0], "334 VXNlcm5hbWU6\r\n"),
                (login[1], "334 UGFzc3dvcmQ6\r\n"),
                (login[2], ok),
            ],
        ),
        (
            "AUTH=LOGIN",
            vec![
                (login[0], "334 VXNlcm5hbWU6\r\n"),
                (login[1], "334 UGFzc3dvcmQ6\r\n"),
                (login[2], ok),
            ],
        ),
    ] {
        let mut play = logging_in(TlsPolicy::Active);
        play.server("220 mx\r\n").sent();
        play.server(&format!("250-mx\r\n250 {offer}\r\n"));
        for (command, reply) in talk {
            assert_eq!(play.sent(), command, "{offer}");
            play.server(reply);
        }
        assert!(
            matches!(play.wanted().as_slice(), [ClientRequest::Ready]),
            "{offer}"
        );
    }
}

#[test]
fn a_wrong_password_is_said_once() {
    let mut play = logging_in(TlsPolicy::Active);
    play.server("220 mx\r\n")
        .server("250-mx\r\n250 AUTH PLAIN LOGIN\r\n")
        .sent();
    play.server("535 5.7.8 no\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::Refused(SessionRefusal::Login(_))]
    ));
    assert_eq!(play.sent(), "");
}

#[test]
fn somebody_on_this_machine_may_be_told_a_password_in_clear() {
    let mut play = logging_in(TlsPolicy::Opportunistic);
    play.session = play.session.on_this_machine();
    play.server("220 bridge\r\n")
        .server("250-bridge\r\n250 AUTH PLAIN\r\n");
    assert!(play.sent().ends_with("AUTH PLAIN AHUAcA==\r\n"));
    play.server("235 ok\r\n");
    assert!(matches!(play.wanted().as_slice(), [ClientRequest::Ready]));
}

#[test]
fn a_421_defers_and_closes() {
    let mut play = Play::ready("250-PIPELINING\r\n");
    play.begin(&["a@b.example"]);
    play.server("421 4.3.2 going down\r\n");
    let wanted = play.wanted();
    assert!(
        matches!(
            wanted.as_slice(),
            [ClientRequest::Done(_), ClientRequest::Close]
        ),
        "{wanted:?}"
    );
}

#[test]
fn a_password_never_goes_in_clear() {
    let login = ClientLogin {
        user: zeroize::Zeroizing::new("u".into()),
        password: zeroize::Zeroizing::new("p".into()),
    };
    let mut play = Play {
        session: Session::new("c", TlsPolicy::Opportunistic, Some(login)),
        sent: Vec::new(),
    };
    play.server("220 mx\r\n")
        .server("250-mx\r\n250 AUTH PLAIN\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::Refused(SessionRefusal::NoTls(None))]
    ));
    assert!(!play.sent().contains("AUTH"));
}

#[test]
fn a_banner_with_our_own_name_is_a_loop() {
    let mut play = Play::new(TlsPolicy::Opportunistic);
    play.server("220 Client.Example ESMTP\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::Refused(SessionRefusal::Ourselves)]
    ));
    assert_eq!(play.sent(), "");
}

#[test]
fn no_body_is_wanted_once_the_transaction_is_over() {
    let mut play = Play::ready("250-PIPELINING\r\n");
    play.begin(&["x@b.example"])
        .server("250 ok\r\n250 ok\r\n354 go\r\n451 no\r\n");
    let wanted = play.wanted();
    assert!(
        matches!(
            wanted.as_slice(),
            [ClientRequest::Done(_), ClientRequest::Close]
        ),
        "{wanted:?}"
    );
}

#[test]
fn a_login_that_is_refused_is_told_from_a_refusal_of_the_mail() {
    let login = ClientLogin {
        user: zeroize::Zeroizing::new("u".into()),
        password: zeroize::Zeroizing::new("old".into()),
    };
    let mut play = Play {
        session: Session::new("c", TlsPolicy::Active, Some(login)),
        sent: Vec::new(),
    };
    play.server("220 mx\r\n")
        .server("250-mx\r\n250 AUTH PLAIN\r\n")
        .server("535 5.7.8 no\r\n");
    assert!(matches!(
        play.wanted().as_slice(),
        [ClientRequest::Refused(SessionRefusal::Login(_))]
    ));
}

mod lmtp {
    use super::*;

    fn ready() -> Play {
        let mut play = Play {
            session: Session::new("client.example", TlsPolicy::Unneeded, None)
                .speaking(ClientProtocol::Lmtp),
            sent: Vec::new(),
        };
        // The name is ours: it is a server of this host.
        play.server("220 client.example LMTP\r\n");
        assert_eq!(play.sent(), "LHLO client.example\r\n");
        play.server("250-client.example\r\n250 PIPELINING\r\n");
        assert!(matches!(play.wanted().as_slice(), [ClientRequest::Ready]));
        play
    }

    fn at_the_dot(recipients: &[&str], replies: &str) -> Play {
        let mut play = ready();
        play.begin(recipients).server(replies);
        assert!(matches!(play.wanted().as_slice(), [ClientRequest::Body]));
        let mut out = Vec::new();
        play.session.on_body_end(&mut out);
        play
    }

    #[test]
    fn each_accepted_recipient_has_a_reply_of_its_own() {
        let mut play = at_the_dot(
            &["a@b.example", "b@b.example", "c@b.example", "d@b.example"],
            "250 ok\r\n250 ok\r\n550 5.1.1 who\r\n250 ok\r\n250 ok\r\n354 go\r\n",
        );
        play.server("250 2.0.0 in\r\n");
        assert!(play.wanted().is_empty(), "two more are due");
        assert_eq!(play.session.timeout(), Some(DATA_END_TIMEOUT));
        play.server("452 4.2.2 full\r\n554 5.7.1 no\r\n");
        let wanted = play.wanted();
        let [ClientRequest::Done(results), ClientRequest::Ready] = wanted.as_slice() else {
            panic!("{wanted:?}");
        };
        assert!(matches!(
            results.as_slice(),
            [
                RecipientResult::Delivered { .. },
                RecipientResult::Failed { status: who, .. },
                RecipientResult::Deferred { .. },
                RecipientResult::Failed { status: no, .. }
            ] if *who == EnhancedCode::new(5, 1, 1) && *no == EnhancedCode::new(5, 7, 1)
        ));
        play.begin(&["e@b.example"]);
        assert!(play.sent().contains("MAIL FROM"), "the session goes on");
    }

    #[test]
    fn a_link_that_breaks_leaves_open_only_who_had_no_reply() {
        let mut play = at_the_dot(
            &["a@b.example", "b@b.example"],
            "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n",
        );
        play.server("250 2.0.0 in\r\n");
        play.session.on_lost("gone");
        assert!(matches!(
            play.results().as_slice(),
            [
                RecipientResult::Delivered { .. },
                RecipientResult::Unknown { .. }
            ]
        ));
    }

    #[test]
    fn a_server_that_does_not_know_lhlo_is_not_greeted_otherwise() {
        let mut play = Play {
            session: Session::new("c", TlsPolicy::Unneeded, None).speaking(ClientProtocol::Lmtp),
            sent: Vec::new(),
        };
        play.server("220 mx\r\n").server("500 5.5.1 what\r\n");
        assert_eq!(play.sent(), "LHLO c\r\n");
        assert!(matches!(
            play.wanted().as_slice(),
            [ClientRequest::Refused(SessionRefusal::Reply(_))]
        ));
    }

    #[test]
    fn a_message_that_nobody_gets_is_not_begun() {
        let mut play = ready();
        play.begin(&["a@b.example"])
            .server("250 ok\r\n550 5.1.1 who\r\n354 go\r\n");
        let wanted = play.wanted();
        assert!(
            matches!(
                wanted.as_slice(),
                [ClientRequest::Done(_), ClientRequest::Close]
            ),
            "{wanted:?}"
        );
    }
}
