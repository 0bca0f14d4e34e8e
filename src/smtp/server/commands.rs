//! Commands on the server side: the state in which each is allowed, and its effect.

use std::mem;

use super::state::{Chunk, ChunkSize, Incoming, Opening, State, Waiting};
use super::{
    Asks, Encryption, PortRole, RefusalSubject, ServerRequest, ServerSettings, Session, Transaction,
};
use crate::address::ReversePath;
use crate::envelope::{Notify, Recipient};
use crate::limits::SESSION_IDLE_COMMANDS_MAX;
use crate::smtp::command::{Command, CommandError, ForwardPath, Greeting, MailParameters};
use crate::smtp::reply::Reply;

impl Session {
    /// Takes one line: a response of AUTH, or a command.
    pub(super) fn on_line(
        &mut self,
        line: &[u8],
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        let mark = self.refusals.mark();
        let request = if matches!(self.state, State::Auth) {
            self.subject = RefusalSubject::Auth;
            self.on_auth_line(line, out)
        } else {
            self.subject = RefusalSubject::of(line);
            match Command::parse(line, self.grammar()) {
                Ok(command) => self.on_command(command, settings, out),
                Err(error) => self.on_bad_line(line, error, out),
            }
        };
        self.refusals.answered(mark, self.subject, line);
        request
    }

    /// Handles one command; counts those without effect.
    fn on_command(
        &mut self,
        command: Command,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        if is_idle(&command) {
            self.counts.idle_commands = self.counts.idle_commands.saturating_add(1);
            if self.counts.idle_commands > SESSION_IDLE_COMMANDS_MAX {
                self.end(&Reply::TOO_MANY_COMMANDS, out);
                return Some(ServerRequest::Close);
            }
        }
        // Any early exit below leaves the session closed, never half-open.
        let state = mem::replace(&mut self.state, State::Closed);
        self.take_command(state, command, settings, out)
    }

    /// The table of commands allowed in each state.
    /// Decides RFC 5321 section 3.5.3, RFC 5321 section 4.1.4.
    fn take_command(
        &mut self,
        state: State,
        command: Command,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        match (state, command) {
            (_, Command::Quit) => self.bye(out),
            (state, Command::Hello { extended, name }) => {
                self.hello(state, extended, name, settings, out)
            }
            (state, Command::Noop) => self.stay(state, &Reply::OK, out),
            (state, Command::Help) => self.stay(state, &Reply::HELP, out),
            (state, Command::Vrfy) => self.stay(state, &Reply::CANNOT_VERIFY, out),
            (state, Command::Rset) => self.rset(state, out),
            (state @ (State::Connected | State::Greeted), Command::StartTls) => {
                self.starttls(state, out)
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
            ) => self.rcpt(transaction, (to, notify, original), settings, out),
            (State::Mail(transaction), Command::Data) => {
                self.begin_body(transaction, Opening::Data, out)
            }
            (State::Mail(transaction), Command::Bdat { len, last }) => {
                self.begin_body(transaction, Opening::Bdat(ChunkSize { len, last }), out)
            }
            (State::Bdat(incoming), Command::Bdat { len, last }) => {
                self.take_chunk(incoming, ChunkSize { len, last })
            }
            (_, Command::Bdat { len, .. }) => self.swallow_chunk(len, Reply::BAD_SEQUENCE),
            (state @ State::Bdat(_), Command::Data) => self.stay(state, &Reply::MIXED_BODY, out),
            (state, _) => self.stay(state, &Reply::BAD_SEQUENCE, out),
        }
    }

    /// Replies to a malformed command.
    fn on_bad_line(
        &mut self,
        line: &[u8],
        error: CommandError,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        let reply = match error {
            CommandError::Address(_) if self.subject == RefusalSubject::Sender => Reply::BAD_SENDER,
            error => Reply::from(error),
        };
        // Another protocol: no command of this connection is executed. Only an unmistakable beginning of another
        // protocol (TLS, SSH) counts.
        let foreign = error == CommandError::ForeignProtocol
            || (self.greeting.is_none() && (line.contains(&0) || line.starts_with(b"SSH-")));
        if foreign {
            self.end(&Reply::FOREIGN_PROTOCOL, out);
            return Some(ServerRequest::Close);
        }
        self.reply(&reply, out);
        None
    }

    /// QUIT: the session stays closed.
    fn bye(&mut self, out: &mut Vec<u8>) -> Option<ServerRequest> {
        Reply::BYE.write(out);
        Some(ServerRequest::Close)
    }

    /// EHLO and HELO. The owner may have asked to judge them.
    fn hello(
        &mut self,
        state: State,
        greeting: Greeting,
        name: Box<str>,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        match self.asks {
            Asks::Hello => {
                self.state = State::Waiting(Waiting::Hello {
                    before: Box::new(state),
                    greeting,
                    name: name.clone(),
                });
                Some(ServerRequest::Hello { name })
            }
            Asks::Nothing => {
                self.greet(greeting, name, settings, out);
                state.has_transaction().then_some(ServerRequest::Forget)
            }
        }
    }

    /// Answers [`ServerRequest::Hello`]. After a success the owner may drop any stored part of a body.
    pub fn on_ehlo(
        &mut self,
        verdict: Result<(), Reply>,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) {
        let State::Waiting(Waiting::Hello {
            before,
            greeting,
            name,
        }) = mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        match verdict {
            Ok(()) => self.greet(greeting, name, settings, out),
            Err(reply) => {
                self.stay(*before, &reply, out);
            }
        }
    }

    /// Answers HELO, or EHLO with the extensions that are in force.
    /// Decides RFC 3207 section 4.
    fn greet(
        &mut self,
        greeting: Greeting,
        name: Box<str>,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) {
        self.greeting = Some((greeting, name));
        self.state = State::Greeted;
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
        if self.role == PortRole::Submission && self.encryption == Encryption::Active {
            lines.push_str("250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n");
        }
        lines.push_str("250 HELP\r\n");
        out.extend_from_slice(lines.as_bytes());
    }

    /// RSET: ends the transaction and keeps the greeting.
    /// Decides RFC 5321 section 4.1.1.5.
    fn rset(&mut self, state: State, out: &mut Vec<u8>) -> Option<ServerRequest> {
        let forget = state.has_transaction().then_some(ServerRequest::Forget);
        let next = match state {
            State::Connected => State::Connected,
            _ => State::Greeted,
        };
        self.stay(next, &Reply::OK, out);
        forget
    }

    /// STARTTLS between transactions.
    fn starttls(&mut self, state: State, out: &mut Vec<u8>) -> Option<ServerRequest> {
        match self.encryption {
            Encryption::Offered => {
                Reply::START_TLS.write(out);
                self.state = State::Waiting(Waiting::Tls);
                Some(ServerRequest::StartTls)
            }
            Encryption::Active => self.stay(state, &Reply::TLS_NOT_NOW, out),
            Encryption::Unavailable => self.stay(state, &Reply::TLS_UNAVAILABLE, out),
        }
    }

    /// Answers [`ServerRequest::StartTls`]: the handshake is complete. The session forgets everything it learned
    /// before.
    /// Decides RFC 3207 section 4.2.
    pub fn on_tls(&mut self) {
        let mut forgetful = Self::new(self.role, Encryption::Active);
        forgetful.state = State::Connected;
        forgetful.counts.errors = self.counts.errors;
        forgetful.asks = self.asks;
        forgetful.tolerance = self.tolerance;
        forgetful.refusals = mem::take(&mut self.refusals);
        *self = forgetful;
    }

    /// Begins a transaction; the owner judges its reverse-path.
    /// Decides RFC 6409 section 4.3.
    fn mail(
        &mut self,
        from: ReversePath,
        parameters: MailParameters,
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        if self.role == PortRole::Submission && !self.authenticated {
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
        Some(ServerRequest::Sender { from, size })
    }

    /// Answers [`ServerRequest::Sender`].
    pub fn on_sender(&mut self, verdict: Result<(), Reply>, out: &mut Vec<u8>) {
        let State::Waiting(Waiting::Sender(transaction)) =
            mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        match verdict {
            Ok(()) => self.stay(State::Mail(transaction), &Reply::SENDER_OK, out),
            Err(reply) => self.stay(State::Greeted, &reply, out),
        };
    }

    /// Takes a forward-path with NOTIFY and ORCPT; the owner judges it.
    /// Decides RFC 5321 section 4.5.3.1.8, RFC 5321 section 4.5.3.1.10.
    fn rcpt(
        &mut self,
        transaction: Box<Transaction>,
        (to, notify, original): (ForwardPath, Notify, Option<Box<str>>),
        settings: &ServerSettings,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        if transaction.recipients.len() >= settings.recipients_max {
            return self.stay(State::Mail(transaction), &Reply::TOO_MANY_RECIPIENTS, out);
        }
        if !transaction.parameters.smtputf8 && !to.is_ascii() {
            return self.stay(State::Mail(transaction), &Reply::NEEDS_SMTPUTF8, out);
        }
        self.state = State::Waiting(Waiting::Recipient(transaction));
        Some(ServerRequest::Recipient {
            to,
            notify,
            original,
        })
    }

    /// Answers [`ServerRequest::Recipient`]: the mailboxes that the forward-path leads to, or the refusal.
    pub fn on_recipient(&mut self, verdict: Result<Vec<Recipient>, Reply>, out: &mut Vec<u8>) {
        let State::Waiting(Waiting::Recipient(mut transaction)) =
            mem::replace(&mut self.state, State::Closed)
        else {
            return;
        };
        let reply = match verdict {
            Ok(recipients) => {
                transaction.add(recipients);
                Reply::RECIPIENT_OK
            }
            Err(reply) => reply,
        };
        self.stay(State::Mail(transaction), &reply, out);
    }

    /// DATA, or the first BDAT: the owner decides whether there is room for a body.
    fn begin_body(
        &mut self,
        transaction: Box<Transaction>,
        opening: Opening,
        out: &mut Vec<u8>,
    ) -> Option<ServerRequest> {
        match opening {
            _ if transaction.accepted > 0 => {
                self.state = State::Waiting(Waiting::Body(transaction, opening));
                Some(ServerRequest::BeginBody)
            }
            Opening::Data => self.stay(State::Mail(transaction), &Reply::NO_RECIPIENTS, out),
            Opening::Bdat(chunk) => self.swallow_chunk(chunk.len, Reply::NO_RECIPIENTS),
        }
    }

    /// Takes a chunk of a message.
    fn take_chunk(&mut self, message: Box<Incoming>, chunk: ChunkSize) -> Option<ServerRequest> {
        self.state = State::Chunk(Box::new(Chunk {
            message: Ok(message),
            left: chunk.len,
            last: chunk.last,
        }));
        None
    }

    /// Discards a chunk that belongs to no message. Its bytes arrive whatever the reply is, and must not be read as
    /// commands (RFC 3030 section 2).
    fn swallow_chunk(&mut self, len: u64, reply: Reply) -> Option<ServerRequest> {
        self.state = State::Chunk(Box::new(Chunk {
            message: Err(reply),
            left: len,
            last: true,
        }));
        None
    }
}

/// Whether a command has no effect by itself. After too many of these in a row the session is closed.
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
