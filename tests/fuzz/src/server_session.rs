use chopar::envelope::Recipient;
use chopar::queue_id::QueueId;
use chopar::smtp::command::ForwardPath;
use chopar::smtp::data::LongLines;
use chopar::smtp::reply::Reply;
use chopar::smtp::server::{
    AuthStep, Encryption, PortRole, ServerRequest, ServerSettings, Session, Tolerance,
};

/// A client's whole side of a session, on a port that the first byte chooses. However it is split, the replies and the
/// messages are the same. A stored message has no lone CR, no lone LF and no NUL.
pub fn server_session(data: &[u8]) {
    let (variant, wire) = super::variant(data);
    let whole = Play::run(variant, wire, wire.len());
    for body in &whole.stored {
        assert!(super::is_clean(body), "{}", body.escape_ascii());
    }
    assert!(super::is_clean(&whole.replies));
    for piece in [1, 7] {
        let pieces = Play::run(variant, wire, piece);
        assert_eq!(
            pieces.replies.escape_ascii().to_string(),
            whole.replies.escape_ascii().to_string(),
            "in pieces of {piece}"
        );
        assert_eq!(pieces.stored, whole.stored, "in pieces of {piece}");
    }
}

/// A session whose owner permits almost everything.
struct Play {
    session: Session,
    settings: ServerSettings,
    replies: Vec<u8>,
    body: Vec<u8>,
    stored: Vec<Vec<u8>>,
    over: bool,
}

impl Play {
    fn run(variant: u8, wire: &[u8], piece: usize) -> Self {
        let (role, encryption) = match variant % 4 {
            0 => (PortRole::Relay, Encryption::Offered),
            1 => (PortRole::Submission, Encryption::Active),
            2 => (PortRole::Submission, Encryption::Offered),
            _ => (PortRole::Local, Encryption::Unavailable),
        };
        let mut play = Self {
            session: Session::new(role, encryption),
            settings: ServerSettings {
                hostname: "mx.example".into(),
                message_bytes_max: 1_000,
                recipients_max: 3,
                long_lines: match variant & 8 {
                    0 => LongLines::Take,
                    _ => LongLines::Refuse,
                },
            },
            replies: Vec::new(),
            body: Vec::new(),
            stored: Vec::new(),
            over: false,
        };
        play.session.tolerate(match variant >> 4 & 3 {
            1 => Tolerance::Form,
            2 => Tolerance::LineEnds,
            _ => Tolerance::None,
        });
        if variant & 4 != 0 {
            play.session.ask_about_ehlo();
        }
        play.session.start(&play.settings, &mut play.replies);
        let mut kept: Vec<u8> = Vec::new();
        for part in wire.chunks(piece.max(1)) {
            kept.extend_from_slice(part);
            let rest = play.advance(&kept).len();
            kept.drain(..kept.len() - rest);
            if play.over {
                break;
            }
        }
        play
    }

    /// Feeds the session until it wants no more; returns the rest of the input.
    fn advance<'a>(&mut self, mut input: &'a [u8]) -> &'a [u8] {
        while !self.over {
            let request = self.session.advance(
                &mut input,
                &self.settings,
                &mut self.replies,
                &mut self.body,
            );
            let Some(request) = request else { break };
            self.answer(request);
        }
        input
    }

    fn answer(&mut self, request: ServerRequest) {
        let out = &mut self.replies;
        match request {
            ServerRequest::Hello { name } => {
                let verdict = match name.len() % 2 {
                    0 => Ok(()),
                    _ => Err(Reply::BAD_HELLO),
                };
                self.session.on_ehlo(verdict, &self.settings, out);
            }
            ServerRequest::Sender { .. } => self.session.on_sender(Ok(()), out),
            ServerRequest::Recipient {
                to,
                notify,
                original,
            } => {
                let verdict = match to {
                    ForwardPath::Mailbox(mailbox) => Ok(vec![Recipient {
                        mailbox,
                        notify,
                        original,
                        destination: None,
                        reverse_path: None,
                    }]),
                    _ => Err(Reply::UNKNOWN_RECIPIENT),
                };
                self.session.on_recipient(verdict, out);
            }
            ServerRequest::Authenticate { initial: None, .. } => {
                self.session.on_auth(AuthStep::Challenge(b"?".into()), out);
            }
            ServerRequest::Authenticate {
                initial: Some(response),
                ..
            }
            | ServerRequest::Respond(response) => {
                let step = if response.ends_with(b"right") {
                    AuthStep::Success
                } else {
                    AuthStep::Failure(Reply::AUTH_FAILED)
                };
                self.session.on_auth(step, out);
            }
            ServerRequest::BeginBody => self.session.on_body_ready(Ok(()), &self.settings, out),
            ServerRequest::Store(transaction) => {
                assert!(transaction.accepted > 0);
                self.stored.push(std::mem::take(&mut self.body));
                let reply = Reply::queued(QueueId::new(1));
                self.session.on_stored(&reply, out);
            }
            ServerRequest::Forget | ServerRequest::Refuse(_) => self.body.clear(),
            // After STARTTLS the client sends TLS, which the session does not see.
            ServerRequest::StartTls | ServerRequest::Close | ServerRequest::RefuseAndClose(_) => {
                self.over = true
            }
        }
    }
}
