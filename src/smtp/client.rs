//! The client side of an SMTP session (RFC 5321 sections 3 and 4.5.4; PIPELINING RFC 2920, STARTTLS RFC 3207, AUTH RFC
//! 4954, DSN RFC 3461, SIZE RFC 1870, SMTPUTF8 RFC 6531, LIMITS RFC 9422), or of an LMTP session (RFC 2033).
//!
//! ```text
//!   Banner -> Ehlo -> [StartTls -> Handshake -> Ehlo] -> [Auth] -> Ready
//!   Ready --begin--> Envelope (MAIL, RCPT…, DATA) -> Body -> Dot -> Ready
//!     '--quit--> Quit -> over
//! ```
//!
//! Not supported: CHUNKING (every server accepts DATA), and conversion of 8-bit bodies to 7 bits (chopar sends them
//! unchanged, as Exim and qmail do). Invariants: a recipient counts as delivered only if its RCPT and the final dot (in
//! LMTP: the final dot for that recipient) got 2xx replies; nothing learned before TLS is used after it; bytes after
//! the reply to STARTTLS end the session.

mod auth;
mod envelope;
mod extensions;
mod login;
mod result;
mod transaction;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::data::Encoder;
use super::reply::{RemoteReply, ReplyError, ReplyReader};
use crate::cause::QuotedWords;
use crate::limits::{
    DATA_END_TIMEOUT, DATA_SEND_TIMEOUT, DATA_START_TIMEOUT, HANDSHAKE_TIMEOUT, REPLY_TIMEOUT,
};
use crate::status::EnhancedCode;

use extensions::Extensions;
pub use login::ClientLogin;
use login::Exchange;
pub use result::{RecipientResult, RefusalScope};
use result::{SessionMode, is_farewell};
pub use transaction::{ClientMail, Rcpt};
use transaction::{Sending, Sent};

/// The use of TLS towards the next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsPolicy {
    /// STARTTLS if the server offers it; otherwise no TLS.
    Opportunistic,
    /// STARTTLS; without it nothing is sent.
    Required,
    /// No TLS: an earlier handshake with this host failed, and the fallback is clear text.
    Avoided,
    /// No TLS: the server is a program of this machine.
    Unneeded,
    /// The connection began with TLS.
    Active,
}

/// SMTP or LMTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientProtocol {
    Smtp,
    /// LMTP: LHLO, and a reply for each recipient after the final dot. The server may have our hostname, because it
    /// runs on this host.
    Lmtp,
}

/// Why a session ended before it could take a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionRefusal {
    /// The server refused with this reply in its banner, or to both EHLO and HELO.
    Reply(RemoteReply),
    /// The server refused the login with this reply. Whatever the code, the operator must correct the login.
    Login(RemoteReply),
    /// TLS is required but unavailable: the server does not offer STARTTLS, or refused it with this reply.
    NoTls(Option<RemoteReply>),
    /// A reply was malformed or too long; with its text.
    Protocol(ReplyError, Box<str>),
    /// Bytes followed the reply to STARTTLS: an injection.
    Injection,
    /// AUTH is required, but the server does not offer it.
    NoAuth,
    /// The server refused STARTTLS, EHLO or the like with this reply, and closed the connection when the session
    /// continued without it.
    Fallback(RemoteReply),
    /// The server sent this reply unasked.
    Parted(RemoteReply),
    /// The banner contains our own hostname: the message would loop (RFC 5321 section 6.3).
    Ourselves,
}

/// A request of the session to its owner.
#[must_use]
#[derive(Debug)]
pub enum ClientRequest {
    /// Start TLS; answer with [`Session::on_tls`].
    StartTls,
    /// The session can take a message: answer with [`Session::begin`], or [`Session::quit`].
    Ready,
    /// The session wants bytes of the body; answer with [`Session::on_body`] or [`Session::on_body_end`].
    Body,
    /// The transaction has ended, with a delivery result for each recipient. [`ClientRequest::Ready`] or
    /// [`ClientRequest::Close`] follows.
    Done(Vec<RecipientResult>),
    /// The next hop cannot be used; close the connection.
    Refused(SessionRefusal),
    /// The server sent this reply unasked, which ends the session; close the connection.
    Parted(RemoteReply),
    /// The session has ended; close the connection.
    Close,
}

/// The client's end of one connection (RFC 5321 section 3.1): bytes in, bytes and requests out.
pub struct Session {
    terms: Terms,
    state: State,
    tls: TlsPolicy,
    extensions: Extensions,
    reader: ReplyReader,
    requests: VecDeque<ClientRequest>,
    messages: u32,
    footing: SessionMode,
    /// The last refusal after which the session continued. If the server then closes the connection without a reply,
    /// this is the reason.
    unheeded: Option<RemoteReply>,
    /// Counts progress of the session: complete replies, and output.
    progress: u64,
}

/// The owner's requirements, whatever the server offers.
struct Terms {
    protocol: ClientProtocol,
    /// Our name in EHLO.
    hostname: Box<str>,
    login: Option<ClientLogin>,
    /// Whether nobody can eavesdrop on the connection, because the server runs on this machine.
    private: bool,
}

enum State {
    Banner,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    Auth(Exchange),
    Ready(Readiness),
    Envelope(Box<Sending>),
    Body(Box<Sending>, Encoder),
    Dot(Box<Sending>),
    Quit,
    Over,
}

/// What the next transaction must begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    /// MAIL.
    Fresh,
    /// RSET, because the previous transaction was not completed.
    AfterFailure,
}

impl Session {
    /// A session over a new connection. With [`TlsPolicy::Active`] the owner has completed the handshake.
    pub fn new(hostname: &str, tls: TlsPolicy, login: Option<ClientLogin>) -> Self {
        Self {
            terms: Terms {
                protocol: ClientProtocol::Smtp,
                hostname: hostname.into(),
                login,
                private: false,
            },
            state: State::Banner,
            tls,
            extensions: Extensions::default(),
            reader: ReplyReader::default(),
            requests: VecDeque::new(),
            messages: 0,
            footing: match tls {
                TlsPolicy::Avoided => SessionMode::Fallback,
                _ => SessionMode::Full,
            },
            unheeded: None,
            progress: 0,
        }
    }

    /// Sets the protocol.
    pub fn speaking(mut self, protocol: ClientProtocol) -> Self {
        self.terms.protocol = protocol;
        self
    }

    /// Marks the server as a program of this machine, to which a password may be sent in clear.
    pub fn on_this_machine(mut self) -> Self {
        self.terms.private = true;
        self
    }

    /// Messages that were sent in this session.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Grows with each complete reply and each output. [`Session::timeout`] runs from its last change, so a server that
    /// sends single bytes gains no time.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether the session can take another message.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Whether a message was sent completely and its reply has not arrived.
    pub fn is_past_dot(&self) -> bool {
        matches!(self.state, State::Dot(_))
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.tls == TlsPolicy::Active
    }

    /// The oldest request that the owner has not taken.
    pub fn next_request(&mut self) -> Option<ClientRequest> {
        self.requests.pop_front()
    }

    /// How long to wait for the server; `None` while the session waits for its owner.
    /// Decides RFC 5321 section 4.5.3.2.
    pub fn timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Ready(_) | State::Over => None,
            State::Handshake => Some(HANDSHAKE_TIMEOUT),
            State::Envelope(sending) if sending.awaited.front() == Some(&Sent::Data) => {
                Some(DATA_START_TIMEOUT)
            }
            State::Body(..) => Some(DATA_SEND_TIMEOUT),
            State::Dot(_) => Some(DATA_END_TIMEOUT),
            State::Quit => Some(Duration::from_secs(5)), // all is done, this is courtesy
            _ => Some(REPLY_TIMEOUT),
        }
    }

    /// Bytes arrived from the server. Output is appended to `out`.
    pub fn on_bytes(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        loop {
            match self.reader.read(&mut input) {
                Ok(Some(reply)) => {
                    self.moves();
                    self.unheeded = None;
                    self.on_reply(reply, input.is_empty(), out);
                }
                Ok(None) => return,
                Err(error) => return self.on_malformed(error),
            }
            if matches!(self.state, State::Over | State::Handshake) {
                return;
            }
        }
    }

    fn moves(&mut self) {
        self.progress = self.progress.wrapping_add(1);
    }

    /// The connection is lost, or a deadline has passed. Earlier input still counts: a refusal whose last line has no
    /// line end is the reply to the current command, and a refusal after which the session continued was the server's
    /// reason to close. Returns the refusal of the whole session, if there was one; otherwise [`Session::on_lost`]
    /// follows.
    pub fn on_end(&mut self) -> Option<SessionRefusal> {
        // A truncated reply proves no success.
        if let Some(reply) = self.reader.cut_off().filter(|reply| reply.code >= 400) {
            self.unheeded = None;
            self.on_reply(reply, true, &mut Vec::new());
        }
        let refused = (self.requests.iter())
            .position(|request| {
                matches!(
                    request,
                    ClientRequest::Refused(_) | ClientRequest::Parted(_)
                )
            })
            .and_then(|at| self.requests.remove(at));
        match refused {
            Some(ClientRequest::Refused(refusal)) => return Some(refusal),
            Some(ClientRequest::Parted(reply)) => return Some(SessionRefusal::Parted(reply)),
            _ => {}
        }
        let refusal = match self.state {
            State::Helo => SessionRefusal::Fallback,
            State::Auth(_) => SessionRefusal::Login,
            State::Ready(_) => SessionRefusal::Parted,
            _ => return None,
        };
        self.unheeded.take().map(refusal)
    }

    /// The connection is lost, or a deadline has passed: every open recipient gets its result. No request follows.
    pub fn on_lost(&mut self, what: &str) {
        // A truncated reply may have ended a transaction and requested another one, which is impossible now.
        self.requests
            .retain(|request| matches!(request, ClientRequest::Done(_)));
        let (status, words) = match self.unheeded.take() {
            Some(reply) => (
                reply.status().as_transient(),
                QuotedWords::Reply(reply.to_text().into()),
            ),
            None => (EnhancedCode::new(4, 4, 2), QuotedWords::ours(what)),
        };
        let (sending, result) = match mem::replace(&mut self.state, State::Over) {
            State::Envelope(sending) | State::Body(sending, _) => {
                (sending, RecipientResult::deferred(status, words))
            }
            State::Dot(sending) => (sending, RecipientResult::Unknown { words }),
            _ => return,
        };
        // A refusal of all recipients takes precedence.
        let result = sending.refused.clone().unwrap_or(result);
        self.give_results(*sending, result);
    }

    /// Answers [`ClientRequest::StartTls`]: TLS is active. The session forgets everything it learned before.
    pub fn on_tls(&mut self, out: &mut Vec<u8>) {
        self.moves();
        self.tls = TlsPolicy::Active;
        self.extensions = Extensions::default();
        self.reader = ReplyReader::default();
        self.say_ehlo(out);
    }

    /// Answers [`ClientRequest::Ready`] with QUIT.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        self.moves();
        out.extend_from_slice(b"QUIT\r\n");
        self.state = State::Quit;
    }

    /// Answers [`ClientRequest::Body`] with the next bytes. When they have been written, check [`Session::wants_body`]
    /// for more.
    pub fn on_body(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.moves();
        if let State::Body(_, encoder) = &mut self.state {
            encoder.encode(bytes, out);
        }
    }

    /// Whether the body is being sent.
    pub fn wants_body(&self) -> bool {
        matches!(self.state, State::Body(..))
    }

    /// Answers [`ClientRequest::Body`]: the body is complete.
    pub fn on_body_end(&mut self, out: &mut Vec<u8>) {
        self.moves();
        match mem::replace(&mut self.state, State::Over) {
            State::Body(sending, encoder) => {
                encoder.finish(out);
                self.state = State::Dot(sending);
            }
            state => self.state = state,
        }
    }

    /// Handles a reply: one method for each state. `last` is true if no byte followed it.
    fn on_reply(&mut self, reply: RemoteReply, last: bool, out: &mut Vec<u8>) {
        match mem::replace(&mut self.state, State::Over) {
            State::Banner => self.on_banner(reply, out),
            State::Ehlo => self.on_ehlo_reply(reply, out),
            State::Helo => self.on_helo_reply(reply),
            State::StartTls => self.on_starttls_reply(reply, last, out),
            State::Handshake => self.refuse(SessionRefusal::Injection),
            State::Auth(exchange) => self.on_auth_reply(exchange, reply, out),
            State::Envelope(sending) => self.on_envelope_reply(sending, reply, out),
            State::Body(sending, _) => self.on_reply_amid_body(sending, &reply),
            State::Dot(sending) => self.on_dot_reply(sending, &reply),
            // An unexpected reply: 421 before a close, or a confused server.
            State::Ready(_) => self.requests.push_back(ClientRequest::Parted(reply)),
            State::Quit | State::Over => self.requests.push_back(ClientRequest::Close),
        }
    }

    fn on_banner(&mut self, reply: RemoteReply, out: &mut Vec<u8>) {
        match reply.code {
            220 if self.is_ourselves(&reply) => self.refuse(SessionRefusal::Ourselves),
            220 => self.say_ehlo(out),
            _ => self.refuse(SessionRefusal::Reply(reply)),
        }
    }

    /// Handles the reply to EHLO or LHLO. After a refusal it tries HELO, unless a required feature needs an extension.
    fn on_ehlo_reply(&mut self, reply: RemoteReply, out: &mut Vec<u8>) {
        let may_do_without = self.terms.protocol == ClientProtocol::Smtp
            && self.tls != TlsPolicy::Required
            && self.terms.login.is_none();
        if reply.is_positive() {
            self.extensions = Extensions::parse(&reply);
            self.after_ehlo(out);
        } else if reply.is_permanent() && may_do_without {
            self.fall_back(reply);
            out.extend_from_slice(format!("HELO {}\r\n", self.terms.hostname).as_bytes());
            self.state = State::Helo;
        } else {
            self.refuse(SessionRefusal::Reply(reply));
        }
    }

    fn on_helo_reply(&mut self, reply: RemoteReply) {
        if reply.is_positive() {
            self.extensions = Extensions::default();
            self.ready();
        } else {
            self.refuse(SessionRefusal::Reply(reply));
        }
    }

    fn on_starttls_reply(&mut self, reply: RemoteReply, last: bool, out: &mut Vec<u8>) {
        match (reply.code, self.tls) {
            (220, _) if last => {
                self.state = State::Handshake;
                self.requests.push_back(ClientRequest::StartTls);
            }
            (220, _) => self.refuse(SessionRefusal::Injection),
            (_, TlsPolicy::Opportunistic) if is_farewell(&reply) => {
                self.refuse(SessionRefusal::Reply(reply))
            }
            (_, TlsPolicy::Opportunistic) => {
                self.fall_back(reply);
                self.after_tls(out);
            }
            _ => self.refuse(SessionRefusal::NoTls(Some(reply))),
        }
    }

    /// Handles a reply during the body, where RFC 5321 section 4.5.4.2 has none. It is a refusal, and the connection
    /// can no longer be used, because the server does not wait for the final dot.
    fn on_reply_amid_body(&mut self, mut sending: Box<Sending>, reply: &RemoteReply) {
        let refusal = self.refused_with(reply);
        sending.refused = Some(refusal.clone());
        self.give_results(*sending, refusal);
        self.requests.push_back(ClientRequest::Close);
    }

    /// Continues after a refusal, without a feature that the server offered.
    fn fall_back(&mut self, reply: RemoteReply) {
        self.footing = SessionMode::Fallback;
        self.unheeded = Some(reply);
    }

    fn on_malformed(&mut self, error: ReplyError) {
        let said = self.reader.said();
        if matches!(
            self.state,
            State::Envelope(_) | State::Body(..) | State::Dot(_)
        ) {
            let what = match said.is_empty() {
                true => NO_REPLY.to_owned(),
                false => format!("{NO_REPLY}: {said}"),
            };
            self.on_lost(&what);
            self.requests.push_back(ClientRequest::Close);
        } else {
            self.state = State::Over;
            self.refuse(SessionRefusal::Protocol(error, said.into()));
        }
    }

    fn refuse(&mut self, refusal: SessionRefusal) {
        self.state = State::Over;
        self.requests.push_back(ClientRequest::Refused(refusal));
    }

    /// Whether the banner has our own hostname, which no other host can have.
    /// Decides RFC 5321 section 6.3.
    fn is_ourselves(&self, banner: &RemoteReply) -> bool {
        if self.terms.protocol == ClientProtocol::Lmtp {
            return false;
        }
        let name = banner.lines.first().and_then(|line| line.split(' ').next());
        name.is_some_and(|name| name.eq_ignore_ascii_case(&self.terms.hostname))
    }

    fn say_ehlo(&mut self, out: &mut Vec<u8>) {
        let verb = match self.terms.protocol {
            ClientProtocol::Smtp => "EHLO",
            ClientProtocol::Lmtp => "LHLO",
        };
        out.extend_from_slice(format!("{verb} {}\r\n", self.terms.hostname).as_bytes());
        self.state = State::Ehlo;
    }

    /// Continues once the extensions are known: with STARTTLS, if it is wanted.
    /// Decides RFC 3207 section 4.
    fn after_ehlo(&mut self, out: &mut Vec<u8>) {
        match self.tls {
            TlsPolicy::Opportunistic | TlsPolicy::Required if self.extensions.starttls => {
                out.extend_from_slice(b"STARTTLS\r\n");
                self.state = State::StartTls;
            }
            TlsPolicy::Required => self.refuse(SessionRefusal::NoTls(None)),
            _ => self.after_tls(out),
        }
    }

    /// The delivery result for a negative reply in this session.
    fn refused_with(&self, reply: &RemoteReply) -> RecipientResult {
        RecipientResult::refusal(reply, self.footing)
    }

    fn ready(&mut self) {
        self.ready_again(Readiness::Fresh);
    }

    fn ready_again(&mut self, readiness: Readiness) {
        self.state = State::Ready(readiness);
        self.requests.push_back(ClientRequest::Ready);
    }
}

/// Text for a server whose replies are malformed.
pub const NO_REPLY: &str = "the server sent something that is not an SMTP reply";

#[cfg(test)]
mod tests;
