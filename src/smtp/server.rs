//! The server side of an SMTP session (RFC 5321 sections 3 and 4.1; STARTTLS RFC 3207, AUTH RFC 4954, submission RFC
//! 6409, CHUNKING RFC 3030, PIPELINING RFC 2920, LIMITS RFC 9422).
//!
//! ```text
//!   Connected --EHLO--> Greeted --MAIL--> Mail --DATA/BDAT--> Body --end--> Storing
//!                         ^  |  '--AUTH--> Auth <--line--'                     |
//!                         |  '------------- RSET, failures ------------------- |
//!                         '------------------------ on_stored -----------------'
//! ```
//!
//! Not supported: EXPN, ETRN, BINARYMIME, BURL. Invariants: no 250 after the end of a body before
//! [`Session::on_stored`]; STARTTLS discards the following bytes and everything learned before; a body with a bare CR,
//! a bare LF or a NUL ends the session after one 5xx, unless the client's bare LF is tolerated.
//!
//! The owner makes every decision: [`ServerRequest`] names the `on_*` method that answers it. Until then
//! [`Session::advance`] takes no input.

mod auth;
mod body;
mod commands;
mod lines;
mod refusals;
mod request;
mod settings;
mod state;

use std::time::Duration;

use super::command::{Grammar, Greeting};
use super::reply::Reply;
use crate::address::ReversePath;
use crate::limits::{
    AUTH_LINE_BYTES_MAX, COMMAND_LINE_BYTES_MAX, COMMAND_TIMEOUT, DATA_BLOCK_TIMEOUT,
    SESSION_ERRORS_MAX, SWALLOW_BYTES_MAX, UNAUTHENTICATED_TIMEOUT,
};

use lines::{Front, Lines};
use refusals::Refusals;
pub use refusals::{RefusalSubject, SentRefusal};
pub use request::{AuthStep, ServerRequest, Transaction};
pub use settings::{Encryption, PortRole, ServerSettings, Tolerance};
use state::{State, Waiting};

/// The server's end of one connection (RFC 5321 section 4.1.4): lines in, replies and questions out.
#[derive(Debug)]
pub struct Session {
    state: State,
    role: PortRole,
    encryption: Encryption,
    authenticated: bool,
    greeting: Option<(Greeting, Box<str>)>,
    asks: Asks,
    tolerance: Tolerance,
    counts: Counts,
    lines: Lines,
    /// What the current command concerns.
    subject: RefusalSubject,
    refusals: Refusals,
}

/// Optional questions to the owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asks {
    Nothing,
    Hello,
}

/// Counts with a limit per session.
#[derive(Debug, Default)]
struct Counts {
    /// Permanent refusals.
    errors: u32,
    auth_failures: u32,
    /// Commands without effect since the last accepted message.
    idle_commands: u32,
    /// Bytes that were read and discarded.
    swallowed: u64,
}

impl Session {
    /// A session on a port with this role; call [`Session::start`] when the banner may be sent.
    pub fn new(role: PortRole, encryption: Encryption) -> Self {
        Self {
            state: State::Silent,
            role,
            encryption,
            authenticated: role == PortRole::Local,
            greeting: None,
            asks: Asks::Nothing,
            tolerance: Tolerance::None,
            counts: Counts::default(),
            lines: Lines::new(),
            subject: RefusalSubject::Session,
            refusals: Refusals::default(),
        }
    }

    /// Sends the banner.
    pub fn start(&mut self, settings: &ServerSettings, out: &mut Vec<u8>) {
        self.state = State::Connected;
        Reply::banner(&settings.hostname).write(out);
    }

    /// Asks the owner about each EHLO or HELO from now on.
    pub fn ask_about_ehlo(&mut self) {
        self.asks = Asks::Hello;
    }

    /// Sets the deviations that are tolerated.
    pub fn tolerate(&mut self, tolerance: Tolerance) {
        self.tolerance = tolerance;
    }

    /// How strictly a command must follow the grammar.
    fn grammar(&self) -> Grammar {
        if self.authenticated || self.tolerance != Tolerance::None {
            return Grammar::Lenient;
        }
        // On a port for users, the client may still log in.
        match self.role {
            PortRole::Submission => Grammar::LenientGreeting,
            PortRole::Relay | PortRole::Local => Grammar::Strict,
        }
    }

    /// The name of the client, and its greeting command.
    pub fn greeting(&self) -> Option<(Greeting, &str)> {
        self.greeting
            .as_ref()
            .map(|(greeting, name)| (*greeting, name.as_ref()))
    }

    /// The reverse-path of the transaction.
    pub fn reverse_path(&self) -> Option<&ReversePath> {
        self.state
            .transaction()
            .map(|transaction| &transaction.reverse_path)
    }

    /// The number of recipients in the transaction so far.
    pub fn recipients(&self) -> usize {
        self.state
            .transaction()
            .map_or(0, |transaction| transaction.recipients.len())
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.encryption == Encryption::Active
    }

    /// Whether [`Session::advance`] takes input: no request is open and the session has not ended.
    pub fn wants_input(&self) -> bool {
        !matches!(
            self.state,
            State::Silent | State::Waiting(_) | State::Closed
        )
    }

    /// Whether a body arrives.
    pub fn is_in_body(&self) -> bool {
        self.state.is_in_body()
    }

    /// Whether the handshake after STARTTLS is awaited: no reply can be sent in clear any more.
    pub fn is_awaiting_tls(&self) -> bool {
        matches!(self.state, State::Waiting(Waiting::Tls))
    }

    /// Whether a message arrives, which would be wasted if the connection were closed now.
    pub fn is_busy(&self) -> bool {
        self.is_in_body()
            || matches!(
                self.state,
                State::Waiting(Waiting::Body(..) | Waiting::Store)
            )
    }

    /// How long the client may be silent (RFC 5321 section 4.5.3.2); `None` while the owner must answer.
    /// Decides RFC 5321 section 4.5.3.2.7.
    pub fn timeout(&self) -> Option<Duration> {
        match self.state {
            State::Waiting(_) | State::Closed => None,
            _ if self.is_in_body() => Some(DATA_BLOCK_TIMEOUT),
            _ if self.role == PortRole::Submission && !self.authenticated => {
                Some(UNAUTHENTICATED_TIMEOUT)
            }
            _ => Some(COMMAND_TIMEOUT),
        }
    }

    /// Ends the session with a reply of the owner, such as a timeout or a shutdown.
    pub fn end(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Closed) {
            self.say(reply, RefusalSubject::Session, out);
            self.state = State::Closed;
        }
    }

    /// The refusals that were sent since they were last taken.
    pub fn take_refusals(&mut self) -> Vec<SentRefusal> {
        self.refusals.take()
    }

    /// Sends a reply. Every refusal passes through here, so that each is logged.
    fn say(&mut self, reply: &Reply, what: RefusalSubject, out: &mut Vec<u8>) {
        reply.write(out);
        self.refusals.keep(reply, what);
    }

    /// Consumes input until there is a request or no more input (`None`). Replies are appended to `out`, bytes of a
    /// body to `body`.
    pub fn advance(
        &mut self,
        input: &mut &[u8],
        settings: &ServerSettings,
        out: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        while self.wants_input() {
            let request = match &self.state {
                State::Data(_) if input.is_empty() => return None,
                State::Data(_) => self.data(input, settings, out, body),
                State::Chunk(chunk) if input.is_empty() && chunk.left > 0 => return None,
                State::Chunk(_) => self.chunk(input, settings, out, body),
                _ => match self.line(input, out) {
                    Some(line) => self.on_line(line, settings, out),
                    None => break, // for more input, or for good
                },
            };
            if request.is_some() {
                return request;
            }
        }
        matches!(self.state, State::Closed).then_some(ServerRequest::Close)
    }

    /// Takes one complete line off the input; replies itself to one that is too long.
    /// Decides RFC 5321 section 4.5.3.1.4.
    fn line<'a>(&mut self, input: &mut &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (max, subject, reply) = match self.state {
            State::Auth => (
                AUTH_LINE_BYTES_MAX,
                RefusalSubject::Auth,
                Reply::AUTH_TOO_LONG,
            ),
            _ => (
                COMMAND_LINE_BYTES_MAX,
                RefusalSubject::Command,
                Reply::LINE_TOO_LONG,
            ),
        };
        loop {
            if self.begins_as_another_protocol(input) {
                self.end(&Reply::FOREIGN_PROTOCOL, out);
                return None;
            }
            match self.lines.take(input, max, self.tolerance) {
                Front::Line(line) => return Some(line),
                Front::TooLong => {
                    if matches!(self.state, State::Auth) {
                        self.state = State::Greeted;
                    }
                    self.subject = subject;
                    self.reply(&reply, out);
                    if matches!(self.state, State::Closed) {
                        return None;
                    }
                }
                Front::Dropped(len) => {
                    self.swallow(len, out);
                    return None;
                }
                Front::Part => return None,
            }
        }
    }

    /// Whether the first bytes of a session are not SMTP: a TLS or SSLv2 hello, a SOCKS request, NUL.
    fn begins_as_another_protocol(&self, input: &[u8]) -> bool {
        let is_foreign =
            |byte: u8| byte >= 0x80 || byte < b' ' && !matches!(byte, b'\r' | b'\n' | b'\t');
        self.greeting.is_none()
            && !self.lines.is_dropping
            && input.first().is_some_and(|byte| is_foreign(*byte))
    }

    /// Counts discarded bytes, and ends a session that has sent too many of them.
    fn swallow(&mut self, len: usize, out: &mut Vec<u8>) {
        self.counts.swallowed = self.counts.swallowed.saturating_add(len as u64);
        if self.counts.swallowed > SWALLOW_BYTES_MAX {
            self.end(&Reply::TOO_MUCH_GARBAGE, out);
        }
    }

    /// Sends a reply, and counts it if it is a permanent refusal; a temporary one is not the client's fault.
    fn reply(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        self.say(reply, self.subject, out);
        if reply.is_permanent() {
            self.counts.errors = self.counts.errors.saturating_add(1);
            if self.counts.errors > SESSION_ERRORS_MAX {
                self.end(&Reply::TOO_MANY_ERRORS, out);
            }
        }
    }

    /// Returns to a state after a reply that changed nothing.
    fn stay(&mut self, state: State, reply: &Reply, out: &mut Vec<u8>) -> Option<ServerRequest> {
        self.state = state;
        self.reply(reply, out);
        None
    }
}

#[cfg(test)]
mod tests;
