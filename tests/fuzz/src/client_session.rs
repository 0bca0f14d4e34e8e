use chopar::address::{Mailbox, ReversePath};
use chopar::envelope::{BodyKind, Notify};
use chopar::smtp::client::{
    ClientLogin, ClientMail, ClientProtocol, ClientRequest, Rcpt, Session, TlsPolicy,
};

/// A server's whole side of a session. The first byte chooses the client's mode (LMTP instead of a login that is never
/// sent) and the size of the pieces. Each message ends with one delivery result for each recipient, whatever the server
/// sends, even if it stops.
pub fn client_session(data: &[u8]) {
    let (variant, wire) = super::variant(data);
    let tls = match variant % 4 {
        0 => TlsPolicy::Opportunistic,
        1 => TlsPolicy::Required,
        2 => TlsPolicy::Avoided,
        _ => TlsPolicy::Active,
    };
    let lmtp = tls == TlsPolicy::Avoided && variant & 4 != 0;
    let protocol = if lmtp {
        ClientProtocol::Lmtp
    } else {
        ClientProtocol::Smtp
    };
    let login = (variant & 4 != 0 && !lmtp).then(|| ClientLogin {
        user: String::from("user").into(),
        password: String::from("password").into(),
    });
    let mut play = Play {
        session: Session::new("client.example", tls, login).speaking(protocol),
        recipients: usize::from(variant >> 3 & 3) + 1,
        under_way: false,
        over: false,
    };
    let piece = usize::from(variant >> 5) * 9;
    let piece = if piece == 0 { wire.len() } else { piece };
    for part in wire.chunks(piece.max(1)) {
        let mut out = Vec::new();
        play.session.on_bytes(part, &mut out);
        play.answer(&mut out);
        assert!(super::is_clean(&out), "{}", out.escape_ascii());
        if play.over {
            break;
        }
    }
    let _ = play.session.on_end();
    play.session.on_lost("gone");
    play.answer(&mut Vec::new());
    assert!(!play.under_way, "a message without results");
}

struct Play {
    session: Session,
    recipients: usize,
    under_way: bool,
    over: bool,
}

impl Play {
    /// Answers all requests of the session.
    fn answer(&mut self, out: &mut Vec<u8>) {
        while let Some(request) = self.session.next_request() {
            match request {
                ClientRequest::Ready => {
                    assert!(!self.under_way);
                    if self.session.messages() < 3 {
                        self.under_way = true;
                        self.session.begin(self.mail(), out);
                    } else {
                        self.session.quit(out);
                    }
                }
                ClientRequest::Body => {
                    assert!(self.session.wants_body());
                    self.session.on_body(b"Subject: x\r\n\r\n.dot\r\n", out);
                    self.session.on_body_end(out);
                }
                ClientRequest::Done(results) => {
                    assert!(self.under_way);
                    assert_eq!(results.len(), self.recipients);
                    self.under_way = false;
                }
                ClientRequest::StartTls => self.session.on_tls(out),
                ClientRequest::Refused(_) | ClientRequest::Parted(_) | ClientRequest::Close => {
                    self.over = true
                }
            }
        }
    }

    fn mail(&self) -> ClientMail {
        let recipients = (0..self.recipients)
            .filter_map(|number| Mailbox::parse(&format!("r{number}@example.org")).ok())
            .map(|mailbox| Rcpt {
                mailbox,
                notify: Notify::Never,
                original: Some("rfc822;x y@example.org".into()),
            })
            .collect();
        ClientMail {
            reverse_path: ReversePath::Null,
            recipients,
            size: 20,
            body: BodyKind::EightBitMime,
            smtputf8: false,
            dsn_return: None,
            envelope_id: Some("a=b".into()),
        }
    }
}
