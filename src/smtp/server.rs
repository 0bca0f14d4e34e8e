//! The server's end of an SMTP session (RFC 5321 sections 3 and 4.1; STARTTLS RFC 3207, AUTH RFC 4954, submission
//! RFC 6409, CHUNKING RFC 3030, PIPELINING RFC 2920, LIMITS RFC 9422).
//!
//! ```text
//!   Connected --EHLO--> Greeted --MAIL--> Mail --DATA/BDAT--> Body --end--> Storing
//!                         ^  |  '--AUTH--> Auth <--line--'                     |
//!                         |  '------------- RSET, failures ------------------- |
//!                         '------------------------ on_stored -----------------'
//! ```
//!
//! Not supported: EXPN, ETRN, BINARYMIME, BURL. Invariants: no 250 behind the end of a body before
//! [`Session::on_stored`]; bytes behind STARTTLS are dropped with all that was said before; a body with a lone CR or
//! LF or a NUL ends the session after one 5xx, except for a lone LF of a client whose line ends are mended.
//!
//! The session asks its owner for every decision: [`Request`] says which `on_*` answers it, and until then
//! [`Session::advance`] takes no input.

mod auth;
mod body;

use std::mem;
use std::time::Duration;

use super::command::{Command, CommandError, ForwardPath, Grammar, Greeting, MailParameters};
use super::data::{Decoder, Framing, LineEnd, LongLines};
use super::reply::Reply;
use crate::address::ReversePath;
use crate::envelope::{Notify, Recipient};
use crate::limits::{
    AUTH_LINE_BYTES_MAX, COMMAND_LINE_BYTES_MAX, COMMAND_TIMEOUT, DATA_BLOCK_TIMEOUT,
    REFUSALS_KEPT_MAX, SAID_CHARS_MAX, SESSION_ERRORS_MAX, SESSION_IDLE_COMMANDS_MAX,
    SWALLOW_BYTES_MAX, UNAUTHENTICATED_TIMEOUT,
};

/// What a port is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Port 25: anybody, without AUTH.
    Relay,
    /// Ports 587 and 465: users, after AUTH under TLS.
    Submission,
    /// A Unix socket: programs of this machine, known by their uid.
    Local,
}

/// Whether a session is, or can become, encrypted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encryption {
    /// There is no certificate, or the socket needs none.
    Unavailable,
    /// STARTTLS is offered.
    Offered,
    /// TLS is on.
    Active,
}

/// What the session must know of the server's configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our name in the banner and in the reply to EHLO.
    pub hostname: Box<str>,
    /// Bytes of a message (SIZE).
    pub message_bytes_max: u64,
    /// Recipients of a transaction (LIMITS RCPTMAX).
    pub recipients_max: usize,
    /// What is done about long lines of text.
    pub long_lines: LongLines,
}

/// What a client may get wrong. Users and programs of this machine may get the form of commands wrong anyway.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tolerance {
    /// Nothing.
    #[default]
    None,
    /// The form of commands.
    Form,
    /// That, and it may end lines with a LF alone.
    LineEnds,
}

/// A transaction that is being built: it lives from MAIL to the end of the body, or to RSET.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// Who gets the message, as the owner resolved the forward-paths.
    pub recipients: Vec<Recipient>,
    /// How many forward-paths were accepted.
    pub accepted: usize,
}

/// What the session asks of its owner.
#[must_use]
#[derive(Debug)]
pub enum Request {
    /// Decide on a hello; answer with [`Session::on_hello`]. Only where [`Session::ask_about_hello`] was called.
    Hello {
        /// What the client calls itself.
        name: Box<str>,
    },
    /// Decide on a reverse-path; answer with [`Session::on_sender`].
    Sender {
        /// The reverse-path.
        from: ReversePath,
        /// SIZE, where it was given.
        size: Option<u64>,
    },
    /// Decide on a forward-path; answer with [`Session::on_recipient`].
    Recipient {
        /// The forward-path.
        to: ForwardPath,
        /// NOTIFY.
        notify: Notify,
        /// ORCPT.
        original: Option<Box<str>>,
    },
    /// Begin an exchange of AUTH; answer with [`Session::on_auth`].
    Authenticate {
        /// The mechanism, in capitals.
        mechanism: Box<str>,
        /// The initial response, decoded.
        initial: Option<Vec<u8>>,
    },
    /// A response of the exchange, decoded; answer with [`Session::on_auth`].
    Respond(Vec<u8>),
    /// Send what is pending, then start TLS; answer with [`Session::on_tls`]. Input behind it is to be dropped.
    StartTls,
    /// A body begins; its bytes follow in the `body` argument of [`Session::advance`]. Answer with
    /// [`Session::on_body_ready`].
    BeginBody,
    /// The body is whole; answer with [`Session::on_stored`].
    Store(Box<Transaction>),
    /// The transaction is given up; whatever was kept of its body can go. Needs no answer.
    Forget,
    /// The message is refused for its bytes or its size, and the client was told so with this reply; whatever was kept of
    /// its body can go. Needs no answer.
    Refuse(Reply),
    /// The same, and the session is over: send what is pending, then close.
    RefuseAndClose(Reply),
    /// Send what is pending, then close. Needs no answer.
    Close,
}

/// How an exchange of AUTH goes on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AuthStep {
    /// Send this challenge.
    Challenge(Vec<u8>),
    /// The client is who it says.
    Success,
    /// It is not; the reply says why. Counts towards the session's end.
    Failure(Reply),
    /// Not now; the reply is temporary and no failure is counted.
    Refusal(Reply),
    /// Not in this session, which ends with the reply.
    End(Reply),
}

/// One session.
#[derive(Debug)]
pub struct Session {
    state: State,
    role: Role,
    encryption: Encryption,
    authenticated: bool,
    greeting: Option<(Greeting, Box<str>)>,
    errors: u32,
    auth_failures: u32,
    idle_commands: u32,
    swallowed: u64,
    swallowing_line: bool,
    started: bool,
    asks: Asks,
    tolerance: Tolerance,
    last_line_end: LineEnd,
    /// What the command under way is about.
    subject: Subject,
    /// Refusals that the owner has not taken note of.
    refusals: Vec<Refused>,
}

/// A refusal that the session has sent: every reply of 4xx and 5xx, whoever decided on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// What was sent.
    pub reply: Reply,
    /// What it was the answer to.
    pub what: Subject,
    /// What the client had said, where no secret can be in that.
    pub said: Option<Box<str>>,
    /// How often it was sent in a row.
    pub times: u32,
}

/// What a refusal is the answer to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// EHLO and HELO.
    Hello,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA, BDAT and what follows them.
    Message,
    /// AUTH and what follows it.
    Auth,
    /// STARTTLS.
    Tls,
    /// Anything else.
    Command,
    /// The session as a whole.
    Session,
}

/// What is asked of the owner beyond what always is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asks {
    Nothing,
    Hello,
}

#[derive(Debug)]
enum State {
    /// Before EHLO.
    Connected,
    /// Between transactions.
    Greeted,
    /// A challenge was sent.
    Auth,
    /// A question is with the owner.
    Waiting(Waiting),
    /// MAIL was accepted.
    Mail(Box<Transaction>),
    /// Inside DATA.
    Data {
        transaction: Box<Transaction>,
        decoder: Decoder,
        size: u64,
    },
    /// Between or inside chunks.
    Bdat(Box<Chunks>),
    /// Nothing more is read.
    Closed,
}

#[derive(Debug)]
enum Waiting {
    Hello {
        /// Where a refusal leads back to.
        before: Box<State>,
        greeting: Greeting,
        name: Box<str>,
    },
    Sender(Box<Transaction>),
    Recipient(Box<Transaction>),
    Auth,
    Tls,
    Body {
        transaction: Box<Transaction>,
        chunk: Option<(u64, bool)>,
    },
    Store,
}

#[derive(Debug)]
struct Chunks {
    transaction: Box<Transaction>,
    decoder: Decoder,
    size: u64,
    /// Bytes of the current chunk that have not come yet; `None` between chunks.
    remaining: Option<u64>,
    last: bool,
    failed: Option<Reply>,
}

impl Session {
    /// A session on a port with this role; call [`Session::start`] when the banner may be sent.
    pub fn new(role: Role, encryption: Encryption) -> Self {
        Self {
            state: State::Connected,
            role,
            encryption,
            authenticated: role == Role::Local,
            greeting: None,
            errors: 0,
            auth_failures: 0,
            idle_commands: 0,
            swallowed: 0,
            swallowing_line: false,
            started: false,
            asks: Asks::Nothing,
            tolerance: Tolerance::None,
            last_line_end: LineEnd::CrLf,
            subject: Subject::Session,
            refusals: Vec::new(),
        }
    }

    /// Sends the banner.
    pub fn start(&mut self, settings: &Settings, out: &mut Vec<u8>) {
        self.started = true;
        Reply::banner(&settings.hostname).write(out);
    }

    /// From now on asks its owner about each hello.
    pub fn ask_about_hello(&mut self) {
        self.asks = Asks::Hello;
    }

    /// From now on the client may get this wrong.
    pub fn tolerate(&mut self, tolerance: Tolerance) {
        self.tolerance = tolerance;
    }

    /// How closely its commands have to follow the grammar.
    fn grammar(&self) -> Grammar {
        if self.authenticated || self.tolerance != Tolerance::None {
            return Grammar::Lenient;
        }
        // On a port for users the client may yet show to be one.
        match self.role {
            Role::Submission => Grammar::LenientGreeting,
            Role::Relay | Role::Local => Grammar::Strict,
        }
    }

    /// What the client calls itself, and how it greeted.
    pub fn greeting(&self) -> Option<(Greeting, &str)> {
        self.greeting
            .as_ref()
            .map(|(greeting, name)| (*greeting, name.as_ref()))
    }

    /// The transaction, once its reverse-path was accepted and until its body is whole.
    fn transaction(&self) -> Option<&Transaction> {
        match &self.state {
            State::Mail(transaction)
            | State::Data { transaction, .. }
            | State::Waiting(Waiting::Recipient(transaction) | Waiting::Body { transaction, .. }) => {
                Some(transaction)
            }
            State::Bdat(chunks) => Some(&chunks.transaction),
            _ => None,
        }
    }

    /// The reverse-path of the transaction.
    pub fn reverse_path(&self) -> Option<&ReversePath> {
        self.transaction()
            .map(|transaction| &transaction.reverse_path)
    }

    /// How many mailboxes get the message of the transaction so far.
    pub fn recipients(&self) -> usize {
        self.transaction()
            .map_or(0, |transaction| transaction.recipients.len())
    }

    /// Whether TLS is on.
    pub fn is_encrypted(&self) -> bool {
        self.encryption == Encryption::Active
    }

    /// Whether [`Session::advance`] would take input: no question is open and the session is not over.
    pub fn wants_input(&self) -> bool {
        self.started && !matches!(self.state, State::Waiting(_) | State::Closed)
    }

    /// Whether a body is coming in.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Data { .. } | State::Bdat(_))
    }

    /// Whether STARTTLS was answered and the handshake is awaited: nothing can be said in clear any more.
    pub fn is_awaiting_tls(&self) -> bool {
        matches!(self.state, State::Waiting(Waiting::Tls))
    }

    /// Whether a message is being taken: cutting the session now would waste it.
    pub fn is_busy(&self) -> bool {
        self.is_in_body()
            || matches!(
                self.state,
                State::Waiting(Waiting::Body { .. } | Waiting::Store)
            )
    }

    /// How long the peer may be silent now (RFC 5321 section 4.5.3.2); `None` while the owner has to answer.
    /// Decides RFC 5321 section 4.5.3.2.7.
    pub fn timeout(&self) -> Option<Duration> {
        match self.state {
            State::Waiting(_) | State::Closed => None,
            State::Data { .. } | State::Bdat(_) => Some(DATA_BLOCK_TIMEOUT),
            _ if self.role == Role::Submission && !self.authenticated => {
                Some(UNAUTHENTICATED_TIMEOUT)
            }
            _ => Some(COMMAND_TIMEOUT),
        }
    }

    /// Ends the session with a reply of the owner's: a timeout, a shutdown.
    pub fn end(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Closed) {
            self.say(reply, Subject::Session, out);
            self.state = State::Closed;
        }
    }

    /// The refusals that were sent since they were last taken.
    pub fn take_refusals(&mut self) -> Vec<Refused> {
        mem::take(&mut self.refusals)
    }

    /// Sends a reply. All that refuses something passes here, so that none is without a line in the log.
    fn say(&mut self, reply: &Reply, what: Subject, out: &mut Vec<u8>) {
        reply.write(out);
        if reply.code() < 400 {
            return;
        }
        let is_full = self.refusals.len() >= REFUSALS_KEPT_MAX;
        if let Some(last) = self.refusals.last_mut()
            && (is_full || last.said.is_none() && last.reply == *reply && last.what == what)
        {
            last.times = last.times.saturating_add(1);
            return;
        }
        self.refusals.push(Refused {
            reply: reply.clone(),
            what,
            said: None,
            times: 1,
        });
    }

    /// Takes input off its front until something is to be asked or the input is used up (`None`). Replies are
    /// appended to `out`, bytes of a body to `body`.
    pub fn advance(
        &mut self,
        input: &mut &[u8],
        settings: &Settings,
        out: &mut Vec<u8>,
        body: &mut Vec<u8>,
    ) -> Option<Request> {
        while self.wants_input() {
            match &mut self.state {
                State::Data { .. } => {
                    if input.is_empty() {
                        return None;
                    }
                    if let Some(request) = self.data(input, settings, out, body) {
                        return Some(request);
                    }
                }
                State::Bdat(chunks) if chunks.remaining.is_some() => {
                    if input.is_empty() && chunks.remaining != Some(0) {
                        return None;
                    }
                    if let Some(request) = self.chunk(input, settings, out, body) {
                        return Some(request);
                    }
                }
                _ => {
                    let Some(line) = self.line(input, out) else {
                        break; // for more input, or for good
                    };
                    if let Some(request) = self.on_line(line, settings, out) {
                        return Some(request);
                    }
                }
            }
        }
        matches!(self.state, State::Closed).then_some(Request::Close)
    }

    /// Takes one whole line off the input; replies itself to one that is too long.
    /// Decides RFC 5321 section 4.5.3.1.4.
    fn line<'a>(&mut self, input: &mut &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
        let (max, reply) = match self.state {
            State::Auth => (AUTH_LINE_BYTES_MAX, Reply::AUTH_TOO_LONG),
            _ => (COMMAND_LINE_BYTES_MAX, Reply::LINE_TOO_LONG),
        };
        loop {
            if self.greeting.is_none()
                && !self.swallowing_line
                && input.first().is_some_and(|&byte| is_foreign_hello(byte))
            {
                self.end(&Reply::FOREIGN_PROTOCOL, out);
                return None;
            }
            match self.line_end(input) {
                Some((len, end)) if !self.swallowing_line && len.saturating_add(2) <= max => {
                    let (line, rest) = input.split_at_checked(len)?;
                    *input = rest.get(end.bytes()..).unwrap_or_default();
                    self.last_line_end = end;
                    return Some(line);
                }
                Some((len, end)) => {
                    let gone = len.saturating_add(end.bytes());
                    *input = input.get(gone..).unwrap_or_default();
                    self.swallowing_line = false;
                    self.subject = Subject::Command;
                    if matches!(self.state, State::Auth) {
                        self.subject = Subject::Auth;
                        self.state = State::Greeted;
                    }
                    self.reply(&reply, out);
                    if matches!(self.state, State::Closed) {
                        return None;
                    }
                }
                None if input.len() > max || self.swallowing_line => {
                    // Keep a final CR, it may be half of the line end.
                    let keep = usize::from(input.last() == Some(&b'\r'));
                    let gone = input.len().saturating_sub(keep);
                    *input = input.get(gone..).unwrap_or_default();
                    self.swallowing_line = true;
                    self.swallow(gone, out);
                    return None;
                }
                None => return None,
            }
        }
    }

    /// Length of the first line, and how it ends. Only CRLF ends a line, unless the client may end it with less: one with
    /// a lone LF goes on, and is refused as a whole.
    /// Decides RFC 5321 section 2.3.8.
    fn line_end(&self, input: &[u8]) -> Option<(usize, LineEnd)> {
        if self.tolerance != Tolerance::LineEnds {
            let len = input.windows(2).position(|pair| pair == b"\r\n")?;
            return Some((len, LineEnd::CrLf));
        }
        let len = input.iter().position(|byte| *byte == b'\n')?;
        match input.get(..len)?.strip_suffix(b"\r") {
            Some(line) => Some((line.len(), LineEnd::CrLf)),
            None => Some((len, LineEnd::Lf)),
        }
    }

    fn swallow(&mut self, len: usize, out: &mut Vec<u8>) {
        self.swallowed = self.swallowed.saturating_add(len as u64);
        if self.swallowed > SWALLOW_BYTES_MAX {
            self.end(&Reply::TOO_MUCH_GARBAGE, out);
        }
    }

    /// Sends a reply and counts it if the client is at fault: what is temporary is our trouble, not its error.
    fn reply(&mut self, reply: &Reply, out: &mut Vec<u8>) {
        self.say(reply, self.subject, out);
        if reply.is_permanent() {
            self.errors = self.errors.saturating_add(1);
            if self.errors > SESSION_ERRORS_MAX {
                self.end(&Reply::TOO_MANY_ERRORS, out);
            }
        }
    }

    fn on_line(&mut self, line: &[u8], settings: &Settings, out: &mut Vec<u8>) -> Option<Request> {
        self.subject = match self.state {
            State::Auth => Subject::Auth,
            _ => Subject::of(line),
        };
        let before = self.refusals.len();
        let request = self.take_line(line, settings, out);
        if let Some(said) = self.subject.shown(line) {
            let new = self.refusals.iter_mut().skip(before);
            new.for_each(|refused| refused.said = Some(said.clone()));
        }
        request
    }

    /// Answers one line: the table of what is allowed in which state.
    /// Decides RFC 5321 section 3.5.3, RFC 5321 section 4.1.1.5, RFC 5321 section 4.1.4, RFC 5321 section 4.5.3.1.8.
    /// Decides RFC 5321 section 4.5.3.1.10.
    fn take_line(
        &mut self,
        line: &[u8],
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Option<Request> {
        if matches!(self.state, State::Auth) {
            return self.on_auth_line(line, out);
        }
        let command = match Command::parse(line, self.grammar()) {
            Ok(command) => command,
            Err(error) => return self.on_bad_line(line, error, out),
        };
        if is_idle(&command) {
            self.idle_commands = self.idle_commands.saturating_add(1);
            if self.idle_commands > SESSION_IDLE_COMMANDS_MAX {
                self.end(&Reply::TOO_MANY_COMMANDS, out);
                return Some(Request::Close);
            }
        }
        // Any early exit below leaves the session closed, never half-open.
        let state = mem::replace(&mut self.state, State::Closed);
        match (state, command) {
            (_, Command::Quit) => {
                Reply::BYE.write(out);
                Some(Request::Close)
            }
            (state, Command::Hello { extended, name }) if self.asks == Asks::Hello => {
                self.state = State::Waiting(Waiting::Hello {
                    before: Box::new(state),
                    greeting: extended,
                    name: name.clone(),
                });
                Some(Request::Hello { name })
            }
            (state, Command::Hello { extended, name }) => {
                self.greeting = Some((extended, name));
                self.state = State::Greeted;
                self.greet(settings, extended, out);
                matches!(state, State::Mail(_) | State::Bdat(_)).then_some(Request::Forget)
            }
            (state, Command::Noop) => self.stay(state, &Reply::OK, out),
            (state, Command::Help) => self.stay(state, &Reply::HELP, out),
            (state, Command::Vrfy) => self.stay(state, &Reply::CANNOT_VERIFY, out),
            (State::Connected, Command::Rset) => self.stay(State::Connected, &Reply::OK, out),
            (state, Command::Rset) => {
                self.stay(State::Greeted, &Reply::OK, out);
                matches!(state, State::Mail(_) | State::Bdat(_)).then_some(Request::Forget)
            }
            (state @ (State::Connected | State::Greeted), Command::StartTls) => {
                match self.encryption {
                    Encryption::Offered => {
                        Reply::START_TLS.write(out);
                        self.state = State::Waiting(Waiting::Tls);
                        Some(Request::StartTls)
                    }
                    Encryption::Active => self.stay(state, &Reply::TLS_NOT_NOW, out),
                    Encryption::Unavailable => self.stay(state, &Reply::TLS_UNAVAILABLE, out),
                }
            }
            (state, Command::Auth { mechanism, initial }) => {
                self.auth(state, mechanism, initial, out)
            }
            (State::Greeted, Command::Mail { from, parameters }) => {
                self.mail(from, parameters, settings, out)
            }
            (
                State::Mail(transaction),
                Command::Rcpt {
                    to,
                    notify,
                    original,
                },
            ) => {
                if transaction.recipients.len() >= settings.recipients_max {
                    return self.stay(State::Mail(transaction), &Reply::TOO_MANY_RECIPIENTS, out);
                }
                if !transaction.parameters.smtputf8 && !to.is_ascii() {
                    return self.stay(State::Mail(transaction), &Reply::NEEDS_SMTPUTF8, out);
                }
                self.state = State::Waiting(Waiting::Recipient(transaction));
                Some(Request::Recipient {
                    to,
                    notify,
                    original,
                })
            }
            (State::Mail(transaction), Command::Data) if transaction.accepted > 0 => {
                self.state = State::Waiting(Waiting::Body {
                    transaction,
                    chunk: None,
                });
                Some(Request::BeginBody)
            }
            (State::Mail(transaction), Command::Data) => {
                self.stay(State::Mail(transaction), &Reply::NO_RECIPIENTS, out)
            }
            (State::Mail(transaction), Command::Bdat { len, last }) if transaction.accepted > 0 => {
                self.state = State::Waiting(Waiting::Body {
                    transaction,
                    chunk: Some((len, last)),
                });
                Some(Request::BeginBody)
            }
            (State::Bdat(mut chunks), Command::Bdat { len, last }) => {
                chunks.remaining = Some(len);
                chunks.last = last;
                self.state = State::Bdat(chunks);
                None
            }
            (state, Command::Bdat { len, .. }) => {
                // RFC 3030 section 2: the chunk comes whatever is answered, and must not be read as commands.
                let refused = Transaction {
                    reverse_path: ReversePath::Null,
                    parameters: MailParameters::default(),
                    recipients: Vec::new(),
                    accepted: 0,
                };
                let reply = if matches!(state, State::Mail(_)) {
                    Reply::NO_RECIPIENTS
                } else {
                    Reply::BAD_SEQUENCE
                };
                self.state = State::Bdat(Box::new(Chunks {
                    transaction: Box::new(refused),
                    decoder: Decoder::new(Framing::Counted, settings.long_lines),
                    size: 0,
                    remaining: Some(len),
                    last: true,
                    failed: Some(reply),
                }));
                None
            }
            (State::Bdat(chunks), Command::Data) => {
                self.stay(State::Bdat(chunks), &Reply::MIXED_BODY, out)
            }
            (state, _) => self.stay(state, &Reply::BAD_SEQUENCE, out),
        }
    }

    fn on_bad_line(
        &mut self,
        line: &[u8],
        error: CommandError,
        out: &mut Vec<u8>,
    ) -> Option<Request> {
        let reply = match error {
            CommandError::Address(_)
                if line
                    .get(..4)
                    .is_some_and(|verb| verb.eq_ignore_ascii_case(b"MAIL")) =>
            {
                Reply::BAD_SENDER
            }
            error => Reply::from(error),
        };
        // Another protocol: nothing of this connection is run. What can only be a foreign hello (TLS, SSH) counts.
        let foreign = error == CommandError::ForeignProtocol
            || (self.greeting.is_none() && (line.contains(&0) || line.starts_with(b"SSH-")));
        if foreign {
            self.end(&Reply::FOREIGN_PROTOCOL, out);
            return Some(Request::Close);
        }
        self.reply(&reply, out);
        None
    }

    /// Goes back to a state after a reply that changed nothing.
    fn stay(&mut self, state: State, reply: &Reply, out: &mut Vec<u8>) -> Option<Request> {
        self.state = state;
        self.reply(reply, out);
        None
    }

    /// Answers HELO, or EHLO with the extensions that are in force.
    /// Decides RFC 3207 section 4.
    fn greet(&self, settings: &Settings, greeting: Greeting, out: &mut Vec<u8>) {
        if greeting == Greeting::Helo {
            out.extend_from_slice(format!("250 {}\r\n", settings.hostname).as_bytes());
            return;
        }
        let mut lines = format!(
            "250-{}\r\n250-PIPELINING\r\n250-SIZE {}\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
             250-CHUNKING\r\n250-DSN\r\n250-LIMITS RCPTMAX={}\r\n",
            settings.hostname, settings.message_bytes_max, settings.recipients_max
        );
        if self.encryption == Encryption::Offered {
            lines.push_str("250-STARTTLS\r\n");
        }
        if self.role == Role::Submission && self.encryption == Encryption::Active {
            lines.push_str("250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n");
        }
        lines.push_str("250 HELP\r\n");
        out.extend_from_slice(lines.as_bytes());
    }

    /// Begins a transaction; its reverse-path is for the owner to judge.
    /// Decides RFC 6409 section 4.3.
    fn mail(
        &mut self,
        from: ReversePath,
        parameters: MailParameters,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Option<Request> {
        if self.role == Role::Submission && !self.authenticated {
            let reply = match self.encryption {
                Encryption::Offered => Reply::STARTTLS_REQUIRED,
                _ => Reply::AUTH_REQUIRED,
            };
            return self.stay(State::Greeted, &reply, out);
        }
        if parameters
            .size
            .is_some_and(|size| size > settings.message_bytes_max)
        {
            return self.stay(State::Greeted, &Reply::TOO_BIG, out);
        }
        let size = parameters.size;
        self.state = State::Waiting(Waiting::Sender(Box::new(Transaction {
            reverse_path: from.clone(),
            parameters,
            recipients: Vec::new(),
            accepted: 0,
        })));
        Some(Request::Sender { from, size })
    }

    /// Answers [`Request::Hello`]. Where it is good, whatever was kept of a body can go.
    pub fn on_hello(&mut self, verdict: Result<(), Reply>, settings: &Settings, out: &mut Vec<u8>) {
        let State::Waiting(Waiting::Hello {
            before,
            greeting,
            name,
        }) = mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        match verdict {
            Ok(()) => {
                self.greeting = Some((greeting, name));
                self.state = State::Greeted;
                self.greet(settings, greeting, out);
            }
            Err(reply) => {
                self.stay(*before, &reply, out);
            }
        }
    }

    /// Answers [`Request::Sender`].
    pub fn on_sender(&mut self, verdict: Result<(), Reply>, out: &mut Vec<u8>) {
        let State::Waiting(Waiting::Sender(transaction)) =
            mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        match verdict {
            Ok(()) => {
                self.stay(State::Mail(transaction), &Reply::SENDER_OK, out);
            }
            Err(reply) => {
                self.stay(State::Greeted, &reply, out);
            }
        }
    }

    /// Answers [`Request::Recipient`]: the mailboxes that the forward-path leads to, or the refusal.
    pub fn on_recipient(&mut self, verdict: Result<Vec<Recipient>, Reply>, out: &mut Vec<u8>) {
        let State::Waiting(Waiting::Recipient(mut transaction)) =
            mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        match verdict {
            Ok(recipients) => {
                for recipient in recipients {
                    // The same mailbox twice in one transaction gets the message once, by each way that leads there.
                    let same = |known: &Recipient| {
                        known.mailbox == recipient.mailbox
                            && known.destination == recipient.destination
                    };
                    if !transaction.recipients.iter().any(same) {
                        transaction.recipients.push(recipient);
                    }
                }
                transaction.accepted = transaction.accepted.saturating_add(1);
                self.stay(State::Mail(transaction), &Reply::RECIPIENT_OK, out);
            }
            Err(reply) => {
                self.stay(State::Mail(transaction), &reply, out);
            }
        }
    }

    /// Answers [`Request::StartTls`]: the handshake is done. All that was said before is forgotten.
    /// Decides RFC 3207 section 4.2.
    pub fn on_tls(&mut self) {
        *self = Self {
            started: true,
            errors: self.errors,
            asks: self.asks,
            tolerance: self.tolerance,
            refusals: mem::take(&mut self.refusals),
            ..Self::new(self.role, Encryption::Active)
        };
    }
}

impl Subject {
    /// What a line is about, by its verb.
    fn of(line: &[u8]) -> Self {
        let verb = line.split(|byte| matches!(byte, b' ' | b'\t')).next();
        let verb = verb.unwrap_or_default().to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" | b"HELO" => Self::Hello,
            b"MAIL" => Self::Sender,
            b"RCPT" => Self::Recipient,
            b"DATA" | b"BDAT" => Self::Message,
            b"AUTH" => Self::Auth,
            b"STARTTLS" => Self::Tls,
            _ => Self::Command,
        }
    }

    /// As the log names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Message => "message",
            Self::Auth => "auth",
            Self::Tls => "starttls",
            Self::Command => "command",
            Self::Session => "session",
        }
    }

    /// What of a line may be shown. A password may be said in AUTH, and out of turn as a command of its own.
    fn shown(self, line: &[u8]) -> Option<Box<str>> {
        match self {
            Self::Hello | Self::Sender | Self::Recipient => {
                let text = String::from_utf8_lossy(line);
                Some(text.chars().take(SAID_CHARS_MAX).collect())
            }
            Self::Message | Self::Auth | Self::Tls | Self::Command | Self::Session => None,
        }
    }
}

/// Whether a command achieves nothing by itself: enough of them in a row, and the session is closed.
fn is_idle(command: &Command) -> bool {
    match command {
        Command::Noop
        | Command::Rset
        | Command::Vrfy
        | Command::Help
        | Command::Hello { .. }
        | Command::Auth { .. }
        | Command::Bdat {
            len: 0,
            last: false,
        } => true,
        Command::Mail { .. }
        | Command::Rcpt { .. }
        | Command::Data
        | Command::Bdat { .. }
        | Command::Quit
        | Command::StartTls => false,
    }
}

/// Whether a session that begins with this byte speaks something else: a TLS or SSLv2 hello, a SOCKS request, NUL.
/// No command begins with such a byte.
fn is_foreign_hello(byte: u8) -> bool {
    byte >= 0x80 || byte < b' ' && !matches!(byte, b'\r' | b'\n' | b'\t')
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests;
