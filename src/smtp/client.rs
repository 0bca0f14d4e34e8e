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
//! unchanged, as Exim and qmail do). Invariants: a recipient is delivered only if its RCPT and the final dot (in LMTP:
//! the final dot for that recipient) were answered by 2xx; nothing learned before TLS is used after it; bytes behind
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
use result::{Footing, is_farewell};
pub use result::{RecipientResult, RefusalScope};
pub use transaction::{ClientMail, Rcpt};
use transaction::{Sending, Sent};

/// Which TLS is owed to the next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsPolicy {
    /// STARTTLS when it is offered; clear text when it is not.
    Opportunistic,
    /// STARTTLS, or nothing is sent.
    Required,
    /// Never: an earlier handshake with this host failed, and the fallback is clear text.
    Avoided,
    /// Never: the other end is a program of this machine.
    Unneeded,
    /// The connection began with TLS.
    Active,
}

/// SMTP or LMTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientProtocol {
    Smtp,
    /// LMTP: LHLO, and a reply for each recipient behind the dot. Its server may have our name: it is of this host.
    Lmtp,
}

/// Why a session ended before it was ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SessionRefusal {
    /// The banner, or EHLO and HELO, were refused with this reply.
    Reply(RemoteReply),
    /// The login was refused with this reply: the operator must correct it, whatever its code.
    Login(RemoteReply),
    /// TLS is owed and not to be had: it is not offered, or STARTTLS was refused with this reply.
    NoTls(Option<RemoteReply>),
    /// A malformed or too long reply; with its text.
    Protocol(ReplyError, Box<str>),
    /// Bytes behind the reply to STARTTLS: an injection.
    Injection,
    /// AUTH is owed and not offered.
    NoAuth,
    /// The session was closed behind this reply to something that we can do without, when we went on without it.
    Fallback(RemoteReply),
    /// The server has said this without being asked.
    Parted(RemoteReply),
    /// The banner has our own name: the mail would come back to us (RFC 5321 section 6.3).
    Ourselves,
}

/// A request of the session.
#[must_use]
#[derive(Debug)]
pub enum ClientRequest {
    /// Start TLS; answer with [`Session::on_tls`].
    StartTls,
    /// It is ready for a message: answer with [`Session::begin`], or [`Session::quit`].
    Ready,
    /// It wants bytes of the body; answer with [`Session::on_body`] or [`Session::on_body_end`].
    Body,
    /// The transaction is over: a delivery result for each recipient. [`ClientRequest::Ready`] or
    /// [`ClientRequest::Close`] follows.
    Done(Vec<RecipientResult>),
    /// The next hop cannot be used; close the connection.
    Refused(SessionRefusal),
    /// The server has said this without being asked, which ends the session; close the connection.
    Parted(RemoteReply),
    /// The session is over; close the connection.
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
    footing: Footing,
    /// The last reply, if it was a refusal after which the session continued. If the server then only closes, it was
    /// the reason.
    unheeded: Option<RemoteReply>,
    /// Counts progress of the session: a complete reply, or output of ours.
    progress: u64,
}

/// Requirements of the owner on a session, whatever the server offers.
struct Terms {
    protocol: ClientProtocol,
    /// Our name in EHLO.
    hostname: Box<str>,
    login: Option<ClientLogin>,
    /// Whether the connection cannot be overheard: the peer is on this machine.
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

/// The prerequisites of the next transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Readiness {
    /// MAIL.
    Fresh,
    /// RSET: the last one was not carried through.
    AfterFailure,
}

impl Session {
    /// A session over a new connection. With [`TlsPolicy::Active`] the handshake is done before.
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
                TlsPolicy::Avoided => Footing::Fallback,
                _ => Footing::Full,
            },
            unheeded: None,
            progress: 0,
        }
    }

    /// The same in this protocol.
    pub fn speaking(mut self, protocol: ClientProtocol) -> Self {
        self.terms.protocol = protocol;
        self
    }

    /// The same with a peer on this machine, which may get a password in clear.
    pub fn on_this_machine(mut self) -> Self {
        self.terms.private = true;
        self
    }

    /// Messages that were sent in this session.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Grows with each whole reply, and with each thing that we do. A server that trickles bytes gets no more time:
    /// [`Session::timeout`] runs from the last time that this moved.
    pub fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether it can take another message.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Whether a message was sent whole, and its reply has not come.
    pub fn is_past_dot(&self) -> bool {
        matches!(self.state, State::Dot(_))
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.tls == TlsPolicy::Active
    }

    /// The next thing that the session wants.
    pub fn next_request(&mut self) -> Option<ClientRequest> {
        self.requests.pop_front()
    }

    /// How long to wait for the server now; `None` while it is our turn.
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

    /// The connection is gone, or a deadline passed. Input before that counts: a refusal whose last line has no end is
    /// the reply to the current command, and a refusal after which the session continued was the server's reason to
    /// leave. Returns whether the session as a whole was refused; otherwise [`Session::on_lost`] follows.
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

    /// The connection is gone, or a deadline passed: everything in progress gets its result. No request follows.
    pub fn on_lost(&mut self, what: &str) {
        // A truncated reply may have ended a transaction, and made the session ready for another one that is now
        // impossible.
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
        // A refusal for all recipients stands.
        let result = sending.refused.clone().unwrap_or(result);
        self.give_results(*sending, result);
    }

    /// Answers [`ClientRequest::StartTls`]: TLS is on. All that was learned before is forgotten.
    pub fn on_tls(&mut self, out: &mut Vec<u8>) {
        self.moves();
        self.tls = TlsPolicy::Active;
        self.extensions = Extensions::default();
        self.reader = ReplyReader::default();
        self.say_ehlo(out);
    }

    /// Answers [`ClientRequest::Ready`] with a farewell.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        self.moves();
        out.extend_from_slice(b"QUIT\r\n");
        self.state = State::Quit;
    }

    /// Answers [`ClientRequest::Body`] with the next bytes. Ask for more with [`Session::wants_body`] once they are
    /// out.
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

    /// Answers [`ClientRequest::Body`]: that was all.
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

    /// Handles a reply: one method for each state. `last` is set if no byte followed it.
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
            // Talk out of turn: 421 before a close, or a server that is confused.
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

    /// Handles the reply to EHLO or LHLO. After a refusal HELO is tried, if nothing that is owed needs an extension.
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

    /// RFC 5321 section 4.5.4.2 has no reply here. A reply is a refusal, and the connection can no longer be used: the
    /// server does not wait for the dot.
    fn on_reply_amid_body(&mut self, mut sending: Box<Sending>, reply: &RemoteReply) {
        let refusal = self.refused_with(reply);
        sending.refused = Some(refusal.clone());
        self.give_results(*sending, refusal);
        self.requests.push_back(ClientRequest::Close);
    }

    /// Continues after a refusal, with less than the server offered.
    fn fall_back(&mut self, reply: RemoteReply) {
        self.footing = Footing::Fallback;
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

    /// Whether a banner is of a host with our name, which cannot be another's.
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

    /// The extensions are known: continues with STARTTLS, if it is wanted.
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

/// Text about a server whose replies are malformed.
pub const NO_REPLY: &str = "the server sent something that is not an SMTP reply";

#[cfg(test)]
mod tests;
