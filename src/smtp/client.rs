//! The client's end of an SMTP session (RFC 5321 sections 3 and 4.5.4; PIPELINING RFC 2920, STARTTLS RFC 3207,
//! AUTH RFC 4954, DSN RFC 3461, SIZE RFC 1870, SMTPUTF8 RFC 6531, LIMITS RFC 9422), or of an LMTP session (RFC 2033).
//!
//! ```text
//!   Banner -> Ehlo -> [StartTls -> Handshake -> Ehlo] -> [Auth] -> Ready
//!   Ready --begin--> Envelope (MAIL, RCPT…, DATA) -> Body -> Dot -> Ready
//!     '--quit--> Quit -> over
//! ```
//!
//! Not supported: CHUNKING (DATA reaches every server), conversion of 8-bit bodies to 7 bits (they are sent as they
//! are, as Exim and qmail do). Invariants: a recipient is delivered only if the final dot was answered by 2xx (LMTP: for
//! that recipient) and its own RCPT was; nothing learned before TLS is used after; bytes behind the reply to STARTTLS
//! end the session.

mod envelope;

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::data::Encoder;
use super::reply::{RemoteReply, ReplyError, ReplyReader};
use crate::address::{Mailbox, ReversePath};
use crate::cause::Words;
use crate::envelope::{BodyKind, DsnReturn, Notify};
use crate::limits::{
    DATA_END_TIMEOUT, DATA_SEND_TIMEOUT, DATA_START_TIMEOUT, HANDSHAKE_TIMEOUT, REPLY_TIMEOUT,
};
use crate::status::EnhancedCode;

/// Which TLS is owed to the next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tls {
    /// STARTTLS when it is offered; clear text when it is not.
    Opportunistic,
    /// STARTTLS, or nothing is sent.
    Required,
    /// Never: an earlier handshake with this host failed, and clear text is what we fall back to.
    Avoided,
    /// Never: the other end is a program of this machine.
    Unneeded,
    /// The connection began with TLS.
    Active,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// SMTP.
    Smtp,
    /// LMTP: LHLO, and a reply for each recipient behind the dot. Its server may have our name: it is of this host.
    Lmtp,
}

/// Login and password for a next hop.
#[derive(Clone)]
pub struct Login {
    /// The login.
    pub user: zeroize::Zeroizing<String>,
    /// The password.
    pub password: zeroize::Zeroizing<String>,
}

/// One message as the session has to know it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// Who gets it; the fates come in this order.
    pub recipients: Vec<Rcpt>,
    /// Bytes of the message.
    pub size: u64,
    /// BODY.
    pub body: BodyKind,
    /// Whether the message itself needs SMTPUTF8, whoever gets it; what its addresses need is seen from them.
    pub smtputf8: bool,
    /// RET.
    pub dsn_return: Option<DsnReturn>,
    /// ENVID.
    pub envelope_id: Option<Box<str>>,
}

/// One forward-path.
#[derive(Clone, Debug)]
pub struct Rcpt {
    /// The mailbox.
    pub mailbox: Mailbox,
    /// NOTIFY.
    pub notify: Notify,
    /// ORCPT.
    pub original: Option<Box<str>>,
}

/// What came of one recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The server has it.
    Delivered {
        /// Its reply.
        text: String,
        /// Whether the server will send the notification of success itself (it knows DSN).
        dsn: bool,
    },
    /// Another attempt may succeed.
    Deferred {
        /// Whom it belongs to.
        about: About,
        /// The status.
        status: EnhancedCode,
        /// The reply, or what happened.
        words: Words,
    },
    /// The server refused for good.
    Failed {
        /// Whom it belongs to.
        about: About,
        /// The status.
        status: EnhancedCode,
        /// The reply, or what the server lacks.
        words: Words,
    },
    /// The link broke between the final dot and its reply: another attempt may make a duplicate (RFC 1047).
    Unknown {
        /// What happened.
        words: Words,
    },
    /// The server takes no more recipients in this transaction (452 4.5.3): again at once, in another.
    Again,
}

/// Whom a refusal belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About {
    /// The recipient or the message: every other host of the next hop would say the same, if it is for good.
    Recipient,
    /// The host: it leaves, says nothing that makes sense, or lacks what another may have.
    Host,
    /// What we did instead of what the host asked for: we went on in clear, or without EHLO. Never for good.
    Fallback,
}

impl Fate {
    /// Whether no other host is to be asked (RFC 5321 section 5.1).
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Delivered { .. }
                | Self::Failed {
                    about: About::Recipient,
                    ..
                }
        )
    }
}

/// Why a session ended before it was ready.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The banner, or EHLO and HELO, were refused with this reply.
    Reply(RemoteReply),
    /// The login was refused with this reply: for the operator to mend, whatever its code.
    Login(RemoteReply),
    /// TLS is owed and not to be had: it is not offered, or STARTTLS was refused with this reply.
    NoTls(Option<RemoteReply>),
    /// A reply that is none, or too long; and what was said.
    Protocol(ReplyError, Box<str>),
    /// Bytes behind the reply to STARTTLS: somebody injects.
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

/// What the session wants.
#[must_use]
#[derive(Debug)]
pub enum Request {
    /// Start TLS; answer with [`Session::on_tls`].
    StartTls,
    /// It is ready for a message: answer with [`Session::begin`], or [`Session::quit`].
    Ready,
    /// It wants bytes of the body; answer with [`Session::on_body`] or [`Session::on_body_end`].
    Body,
    /// The transaction is over: a fate for each recipient. [`Request::Ready`] or [`Request::Close`] follows.
    Done(Vec<Fate>),
    /// The next hop cannot be used; close the connection.
    Refused(Refusal),
    /// The server has said this without being asked, which ends the session; close the connection.
    Parted(RemoteReply),
    /// The session is over; close the connection.
    Close,
}

/// What the server said that it can do.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one flag for each extension that a server may announce"
)]
struct Extensions {
    pipelining: bool,
    starttls: bool,
    eight_bit: bool,
    smtputf8: bool,
    dsn: bool,
    size: Option<u64>,
    recipients_max: Option<usize>,
    auth_plain: bool,
    auth_login: bool,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// AUTH PLAIN with an initial response.
    PlainAtOnce,
    /// The same, with the response when it is asked for.
    Plain,
    /// AUTH LOGIN.
    Login,
}

/// One session.
pub struct Session {
    protocol: Protocol,
    state: State,
    hostname: Box<str>,
    tls: Tls,
    login: Option<Login>,
    /// Ways to log in that have not been tried.
    ways: VecDeque<Way>,
    /// Whether nobody can listen on the way: the other end is on this machine.
    private: bool,
    extensions: Extensions,
    reader: ReplyReader,
    requests: VecDeque<Request>,
    messages: u32,
    reset_needed: bool,
    /// Whether this session is less than what the server offered: see [`About::Fallback`].
    fell_back: bool,
    /// The last reply, where it was a refusal that we went on behind. If the server only closes then, it was its reason.
    unheeded: Option<RemoteReply>,
    /// Counts what moved the session on: a whole reply, or something of ours.
    progress: u64,
}

enum State {
    Banner,
    Ehlo,
    Helo,
    StartTls,
    Handshake,
    Auth(AuthAt),
    Ready,
    Envelope(Box<Sending>),
    Body(Box<Sending>, Encoder),
    Dot(Box<Sending>),
    Quit,
    Over,
}

#[derive(Clone, Copy)]
enum AuthAt {
    Plain,
    LoginUser,
    LoginPassword,
    End,
}

/// A transaction under way.
struct Sending {
    mail: Mail,
    /// Commands whose replies have not come, oldest first.
    awaited: VecDeque<Sent>,
    /// Commands not sent yet (without PIPELINING).
    waiting: VecDeque<Sent>,
    fates: Vec<Option<Fate>>,
    accepted: usize,
    /// The refusal of MAIL or DATA, for everybody.
    refused: Option<Fate>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
}

impl Session {
    /// A session over a new connection. With [`Tls::Active`] the handshake is done before.
    pub fn new(hostname: &str, tls: Tls, login: Option<Login>) -> Self {
        Self {
            protocol: Protocol::Smtp,
            state: State::Banner,
            hostname: hostname.into(),
            tls,
            login,
            ways: VecDeque::new(),
            private: false,
            extensions: Extensions::default(),
            reader: ReplyReader::default(),
            requests: VecDeque::new(),
            messages: 0,
            reset_needed: false,
            fell_back: tls == Tls::Avoided,
            unheeded: None,
            progress: 0,
        }
    }

    /// The same in this protocol.
    pub fn speaking(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The same with somebody on this machine, whom a password may be told in clear.
    pub fn on_this_machine(self) -> Self {
        Self {
            private: true,
            ..self
        }
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
        matches!(self.state, State::Ready)
    }

    /// Whether a message was sent whole, and its reply has not come.
    pub fn is_past_dot(&self) -> bool {
        matches!(self.state, State::Dot(_))
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.tls == Tls::Active
    }

    /// The next thing that the session wants.
    pub fn next_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    /// How long to wait for the server now; `None` while it is our turn.
    /// Decides RFC 5321 section 4.5.3.2.
    pub fn timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Ready | State::Over => None,
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

    /// Bytes came from the server. What is to be sent is appended to `out`.
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

    /// The connection is gone, or a deadline passed. What came before counts: a refusal whose last line has no end is the
    /// reply to the command under way, and one that we went on behind was why the server left. Says whether the session as
    /// a whole was refused with it; [`Session::on_lost`] follows where it was not.
    pub fn on_end(&mut self) -> Option<Refusal> {
        // What is cut off proves no success.
        if let Some(reply) = self.reader.cut_off().filter(|reply| reply.code >= 400) {
            self.unheeded = None;
            self.on_reply(reply, true, &mut Vec::new());
        }
        let refused = (self.requests.iter())
            .position(|request| matches!(request, Request::Refused(_) | Request::Parted(_)))
            .and_then(|at| self.requests.remove(at));
        match refused {
            Some(Request::Refused(refusal)) => return Some(refusal),
            Some(Request::Parted(reply)) => return Some(Refusal::Parted(reply)),
            _ => {}
        }
        let refusal = match self.state {
            State::Helo => Refusal::Fallback,
            State::Auth(_) => Refusal::Login,
            State::Ready => Refusal::Parted,
            _ => return None,
        };
        self.unheeded.take().map(refusal)
    }

    /// The connection is gone, or a deadline passed: everything under way gets its fate. Nothing is wanted after.
    pub fn on_lost(&mut self, what: &str) {
        // A reply that was cut off may have ended a transaction, and left the session ready for one that cannot be.
        self.requests
            .retain(|request| matches!(request, Request::Done(_)));
        let (status, words) = match self.unheeded.take() {
            Some(reply) => (
                reply.status().as_transient(),
                Words::Reply(reply.to_text().into()),
            ),
            None => (EnhancedCode::new(4, 4, 2), Words::ours(what)),
        };
        let (sending, fate) = match mem::replace(&mut self.state, State::Over) {
            State::Envelope(sending) | State::Body(sending, _) => {
                (sending, deferred(status, words))
            }
            State::Dot(sending) => (sending, Fate::Unknown { words }),
            _ => return,
        };
        // What was refused for everybody stays refused.
        let fate = sending.refused.clone().unwrap_or(fate);
        self.give_fates(*sending, fate);
    }

    /// Answers [`Request::StartTls`]: TLS is on. All that was learned before is forgotten.
    pub fn on_tls(&mut self, out: &mut Vec<u8>) {
        self.moves();
        self.tls = Tls::Active;
        self.extensions = Extensions::default();
        self.reader = ReplyReader::default();
        self.say_ehlo(out);
    }

    /// Answers [`Request::Ready`] with a message.
    pub fn begin(&mut self, mail: Mail, out: &mut Vec<u8>) {
        self.moves();
        let mut sending = Box::new(Sending {
            awaited: VecDeque::new(),
            waiting: VecDeque::new(),
            fates: mail
                .recipients
                .iter()
                .map(|rcpt| self.unsendable(&mail, rcpt))
                .collect(),
            accepted: 0,
            refused: None,
            mail,
        });
        self.messages = self.messages.saturating_add(1);
        let open: Vec<usize> = (0..)
            .zip(&sending.fates)
            .filter_map(|(index, fate)| fate.is_none().then_some(index))
            .collect();
        if open.is_empty() {
            return self.end_transaction(*sending, Fate::Again);
        }
        if mem::take(&mut self.reset_needed) {
            sending.waiting.push_back(Sent::Rset);
        }
        sending.waiting.push_back(Sent::Mail);
        let max = self
            .extensions
            .recipients_max
            .unwrap_or(RECIPIENTS_PER_TRANSACTION);
        let max = max.clamp(1, RECIPIENTS_PER_TRANSACTION);
        let (now, later) = open.split_at(max.min(open.len()));
        // RFC 6531 section 3.4: the extension is asked for where something in the transaction needs it. A header that would
        // be better off with it goes without where it is not offered, as it does where its client has not asked for it.
        sending.mail.smtputf8 |= !sending.mail.reverse_path.as_str().is_ascii();
        for index in now {
            let rcpt = sending.mail.recipients.get(*index);
            sending.mail.smtputf8 |= rcpt.is_some_and(|rcpt| rcpt.mailbox.needs_smtputf8());
            sending.waiting.push_back(Sent::Rcpt(*index));
        }
        sending.mail.smtputf8 &= self.extensions.smtputf8;
        for index in later {
            if let Some(fate) = sending.fates.get_mut(*index) {
                *fate = Some(Fate::Again);
            }
        }
        sending.waiting.push_back(Sent::Data);
        self.send_waiting(&mut sending, out);
        self.state = State::Envelope(sending);
    }

    /// Why this server cannot take the message for a recipient, where that is known before it is offered. Another host
    /// may be able to.
    fn unsendable(&self, mail: &Mail, rcpt: &Rcpt) -> Option<Fate> {
        if self
            .extensions
            .size
            .is_some_and(|max| max > 0 && mail.size > max)
        {
            let text = format!("the message has {} bytes, the server takes less", mail.size);
            return Some(Fate::Failed {
                about: About::Host,
                status: EnhancedCode::new(5, 3, 4),
                words: Words::ours(text),
            });
        }
        // A domain can be written in A-labels, a header has no other form: only a local part needs the extension.
        let mut addresses = [Some(&rcpt.mailbox), mail.reverse_path.mailbox()]
            .into_iter()
            .flatten();
        let needed = addresses.any(Mailbox::needs_smtputf8);
        if needed && !self.extensions.smtputf8 {
            let text = "the address needs SMTPUTF8, which the server does not offer";
            return Some(Fate::Failed {
                about: About::Host,
                status: EnhancedCode::new(5, 6, 7),
                words: Words::ours(text),
            });
        }
        None
    }

    /// Answers [`Request::Ready`] with a farewell.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        self.moves();
        out.extend_from_slice(b"QUIT\r\n");
        self.state = State::Quit;
    }

    /// Answers [`Request::Body`] with the next bytes. Ask for more with [`Session::wants_body`] once they are out.
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

    /// Answers [`Request::Body`]: that was all.
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

    fn on_reply(&mut self, reply: RemoteReply, last: bool, out: &mut Vec<u8>) {
        match mem::replace(&mut self.state, State::Over) {
            State::Banner if reply.code == 220 && self.is_ourselves(&reply) => {
                self.refuse(Refusal::Ourselves)
            }
            State::Banner if reply.code == 220 => self.say_ehlo(out),
            State::Banner => self.refuse(Refusal::Reply(reply)),
            State::Ehlo if reply.is_positive() => {
                self.extensions = Extensions::parse(&reply);
                self.after_ehlo(out);
            }
            State::Ehlo
                if self.protocol == Protocol::Smtp
                    && reply.is_permanent()
                    && self.tls != Tls::Required
                    && self.login.is_none() =>
            {
                self.fell_back = true;
                self.unheeded = Some(reply);
                out.extend_from_slice(format!("HELO {}\r\n", self.hostname).as_bytes());
                self.state = State::Helo;
            }
            State::Helo if reply.is_positive() => {
                self.extensions = Extensions::default();
                self.ready();
            }
            State::Ehlo | State::Helo => self.refuse(Refusal::Reply(reply)),
            State::StartTls if reply.code == 220 && last => {
                self.state = State::Handshake;
                self.requests.push_back(Request::StartTls);
            }
            State::StartTls if reply.code == 220 => self.refuse(Refusal::Injection),
            State::StartTls if self.tls == Tls::Opportunistic && !is_farewell(&reply) => {
                self.fell_back = true;
                self.unheeded = Some(reply);
                self.after_tls(out);
            }
            State::StartTls if self.tls == Tls::Opportunistic => self.refuse(Refusal::Reply(reply)),
            State::StartTls => self.refuse(Refusal::NoTls(Some(reply))),
            State::Auth(at) => self.on_auth_reply(at, reply, out),
            State::Envelope(sending) => self.on_envelope_reply(sending, reply, out),
            State::Body(mut sending, _) => {
                // RFC 5321 section 4.5.4.2 knows no reply here. One that comes is a refusal, and the link is of no
                // more use: the server does not wait for the dot.
                let refusal = self.refusal(&reply);
                sending.refused = Some(refusal.clone());
                self.give_fates(*sending, refusal);
                self.requests.push_back(Request::Close);
            }
            State::Dot(sending) => self.on_dot_reply(sending, &reply),
            State::Quit | State::Over => self.requests.push_back(Request::Close),
            State::Ready => {
                // Talk out of turn: 421 before a close, or a server that is confused.
                self.requests.push_back(Request::Parted(reply));
            }
            State::Handshake => self.refuse(Refusal::Injection),
        }
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
            self.requests.push_back(Request::Close);
        } else {
            self.state = State::Over;
            self.refuse(Refusal::Protocol(error, said.into()));
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Over;
        self.requests.push_back(Request::Refused(refusal));
    }

    /// Whether a banner is of a host with our name, which cannot be another's.
    /// Decides RFC 5321 section 6.3.
    fn is_ourselves(&self, banner: &RemoteReply) -> bool {
        if self.protocol == Protocol::Lmtp {
            return false;
        }
        let name = banner.lines.first().and_then(|line| line.split(' ').next());
        name.is_some_and(|name| name.eq_ignore_ascii_case(&self.hostname))
    }

    fn say_ehlo(&mut self, out: &mut Vec<u8>) {
        let verb = match self.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        out.extend_from_slice(format!("{verb} {}\r\n", self.hostname).as_bytes());
        self.state = State::Ehlo;
    }

    /// The extensions are known: on to STARTTLS, where it is wanted.
    /// Decides RFC 3207 section 4.
    fn after_ehlo(&mut self, out: &mut Vec<u8>) {
        match self.tls {
            Tls::Opportunistic | Tls::Required if self.extensions.starttls => {
                out.extend_from_slice(b"STARTTLS\r\n");
                self.state = State::StartTls;
            }
            Tls::Required => self.refuse(Refusal::NoTls(None)),
            _ => self.after_tls(out),
        }
    }

    fn after_tls(&mut self, out: &mut Vec<u8>) {
        if self.login.is_none() {
            return self.ready();
        }
        // A password goes over TLS, or to this machine, or not at all.
        if self.tls != Tls::Active && !self.private {
            return self.refuse(Refusal::NoTls(None));
        }
        let plain = self.extensions.auth_plain;
        let ways = [
            (plain, Way::PlainAtOnce),
            (plain, Way::Plain),
            (self.extensions.auth_login, Way::Login),
        ];
        let ways = ways.into_iter().filter_map(|(is, way)| is.then_some(way));
        self.ways = ways.collect();
        match self.ways.pop_front() {
            Some(way) => self.log_in(way, out),
            None => self.refuse(Refusal::NoAuth),
        }
    }

    /// Begins to log in.
    fn log_in(&mut self, way: Way, out: &mut Vec<u8>) {
        let (command, next) = match way {
            Way::PlainAtOnce => ("AUTH PLAIN ", AuthAt::End),
            Way::Plain => ("AUTH PLAIN\r\n", AuthAt::Plain),
            Way::Login => ("AUTH LOGIN\r\n", AuthAt::LoginUser),
        };
        out.extend_from_slice(command.as_bytes());
        if way == Way::PlainAtOnce {
            self.say_plain(out);
        }
        self.state = State::Auth(next);
    }

    /// The response of PLAIN (RFC 4616).
    fn say_plain(&self, out: &mut Vec<u8>) {
        if let Some(login) = &self.login {
            let (user, password) = (login.user.as_str(), login.password.as_str());
            let response = zeroize::Zeroizing::new(format!("\0{user}\0{password}"));
            say_base64(&response, out);
        }
    }

    fn on_auth_reply(&mut self, at: AuthAt, reply: RemoteReply, out: &mut Vec<u8>) {
        match (at, reply.code, &self.login) {
            (AuthAt::End, 235, _) => self.ready(),
            (AuthAt::Plain, 334, _) => {
                self.say_plain(out);
                self.state = State::Auth(AuthAt::End);
            }
            (AuthAt::LoginUser, 334, Some(login)) => {
                say_base64(&login.user, out);
                self.state = State::Auth(AuthAt::LoginPassword);
            }
            (AuthAt::LoginPassword, 334, Some(login)) => {
                say_base64(&login.password, out);
                self.state = State::Auth(AuthAt::End);
            }
            _ => match self.ways.pop_front() {
                Some(way) if is_of_the_way(&reply) => {
                    self.unheeded = Some(reply);
                    self.log_in(way, out);
                }
                _ => self.refuse(Refusal::Login(reply)),
            },
        }
    }

    /// The fate that a negative reply means. A code that is neither 4xx nor 5xx where one is due counts as temporary.
    fn refusal(&self, reply: &RemoteReply) -> Fate {
        let words = Words::Reply(reply.to_text().into());
        let status = reply.status();
        if reply.code < 400 {
            deferred(EnhancedCode::new(4, 5, 0), words)
        } else if !reply.is_permanent() {
            let about = match is_farewell(reply) {
                true => About::Host,
                false => About::Recipient,
            };
            Fate::Deferred {
                about,
                status,
                words,
            }
        } else if self.fell_back && may_want_tls(reply) {
            Fate::Deferred {
                about: About::Fallback,
                status: status.as_transient(),
                words,
            }
        } else {
            Fate::Failed {
                about: About::Recipient,
                status,
                words,
            }
        }
    }

    fn ready(&mut self) {
        self.state = State::Ready;
        self.requests.push_back(Request::Ready);
    }
}

impl Extensions {
    fn parse(reply: &RemoteReply) -> Self {
        let mut known = Self::default();
        for line in reply.lines.iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else {
                continue;
            };
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => known.pipelining = true,
                "STARTTLS" => known.starttls = true,
                "8BITMIME" => known.eight_bit = true,
                "SMTPUTF8" => known.smtputf8 = true,
                "DSN" => known.dsn = true,
                "SIZE" => {
                    known.size = Some(words.next().and_then(|size| size.parse().ok()).unwrap_or(0))
                }
                "AUTH" => words.for_each(|word| known.add_mechanism(word)),
                // An old way to write the same, which some servers have alone.
                keyword if keyword.starts_with("AUTH=") => {
                    let first = keyword.get("AUTH=".len()..).unwrap_or_default();
                    known.add_mechanism(first);
                    words.for_each(|word| known.add_mechanism(word));
                }
                "LIMITS" => {
                    for word in words {
                        if let Some(max) = word.to_ascii_uppercase().strip_prefix("RCPTMAX=") {
                            known.recipients_max = max.parse().ok();
                        }
                    }
                }
                _ => {}
            }
        }
        known
    }

    fn add_mechanism(&mut self, name: &str) {
        self.auth_plain |= name.eq_ignore_ascii_case("PLAIN");
        self.auth_login |= name.eq_ignore_ascii_case("LOGIN");
    }
}

fn say_base64(text: &str, out: &mut Vec<u8>) {
    use base64::Engine as _;
    let coded = base64::engine::general_purpose::STANDARD.encode(text.as_bytes());
    out.extend_from_slice(coded.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether a refusal of AUTH is of how it was said, not of who said it: another way may do.
/// Decides RFC 4954 section 6.
fn is_of_the_way(reply: &RemoteReply) -> bool {
    matches!(reply.code, 500..=504 | 534)
}

/// Recipients that are offered in one transaction where the server does not name a limit: what every server must
/// take (RFC 5321 section 4.5.3.1.8).
const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// Whether a refusal of RCPT is of the number of recipients: 452, and 552 of older servers,
/// with X.5.3 or without a status.
/// Decides RFC 5321 section 4.5.3.1.10.
fn too_many_recipients(reply: &RemoteReply) -> bool {
    let may_be = matches!(reply.code, 452 | 552);
    let too_many = EnhancedCode::new(4, 5, 3);
    may_be
        && reply
            .enhanced
            .is_none_or(|status| status.as_transient() == too_many)
}

/// Whether a server closes behind a reply (RFC 5321 section 4.2.1).
fn is_farewell(reply: &RemoteReply) -> bool {
    reply.code == 421
}

/// Whether a refusal may be of clear text and not of the mail: 530 (RFC 3207 section 4), 523 and 538 (RFC 4954
/// section 6), a status about security, and a bare 554, which gives no reason.
/// Decides RFC 3463 section 3.8.
fn may_want_tls(reply: &RemoteReply) -> bool {
    matches!(reply.code, 523 | 530 | 538)
        || match reply.enhanced {
            Some(status) => status.subject() == SECURITY,
            None => reply.code == 554,
        }
}

/// The subject "security or policy" of RFC 3463.
const SECURITY: u16 = 7;

fn deferred(status: EnhancedCode, words: Words) -> Fate {
    Fate::Deferred {
        about: About::Host,
        status,
        words,
    }
}

/// What is said of a server whose replies are none.
pub const NO_REPLY: &str = "the server sent something that is not an SMTP reply";

fn wire_form(mailbox: &Mailbox, smtputf8: bool) -> String {
    if smtputf8 {
        mailbox.as_str().to_owned()
    } else {
        mailbox.to_ascii_domain()
    }
}

#[cfg(test)]
mod tests;
