//! The helper's side of a delivery: an LMTP server (RFC 2033) whose recipients all lead to one target.
//!
//! The peer is the relay's own client, which is not trusted: lines, recipients and the message are limited, and a
//! syntax error ends the connection. The server receives the complete message before its first delivery; each recipient
//! then has its own delivery and reply.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;

use super::content::{BLOCK_BYTES, Content};
use super::directory::{Destination, Found, Unknown};
use super::maildir;
use super::program::{self, Ended, Program};
use super::reports::{self, ReportError};
use super::shared::Shared;
use crate::address::{Mailbox, ReversePath};
use crate::engine::log::{Level, Line};
use crate::escape::one_line;
use crate::hook::last_line;
use crate::limits::{COMMAND_LINE_BYTES_MAX, PROGRAM_TIMEOUT, RECIPIENTS_MAX};
use crate::shell::process::interruption::uninterrupted;
use crate::shell::process::log;
use crate::shell::process::systemd;
use crate::smtp::command::{Command, ForwardPath, Grammar};
use crate::smtp::data::{Decoder, Framing, LongLines};
use crate::status::EnhancedCode;

/// Serves one connection until its peer ends it.
pub(super) fn serve(stream: &UnixStream, target: &str, shared: &Shared) -> io::Result<()> {
    let mut wire = Wire {
        stream,
        input: Vec::new(),
    };
    let found = match shared.directory.find(target) {
        Ok(found) => found,
        Err(Unknown::Target) => {
            return wire.say("554 5.7.1 no alias of the configuration leads there");
        }
        Err(Unknown::Config(error)) => {
            let error = one_line(&error);
            return wire.say(&format!("421 4.3.5 the configuration: {error}"));
        }
    };
    wire.say("220 helper LMTP")?;
    Session {
        wire,
        found,
        shared,
        from: None,
        recipients: Vec::new(),
    }
    .run()
}

struct Wire<'a> {
    stream: &'a UnixStream,
    input: Vec<u8>,
}

impl Wire<'_> {
    fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream.write_all(format!("{reply}\r\n").as_bytes())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut block = vec![0; BLOCK_BYTES];
        match uninterrupted(|| self.stream.read(&mut block))? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            len => {
                self.input
                    .extend_from_slice(block.get(..len).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The next command without its line end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.input.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(line);
            }
            if self.input.len() > COMMAND_LINE_BYTES_MAX {
                return Err(ErrorKind::InvalidData.into());
            }
            self.read()?;
        }
    }
}

/// A session whose target was found.
struct Session<'a> {
    wire: Wire<'a>,
    found: Found,
    shared: &'a Shared,
    from: Option<ReversePath>,
    recipients: Vec<Recipient>,
}

struct Recipient {
    mailbox: Mailbox,
    original: Option<Box<str>>,
}

impl Session<'_> {
    fn run(mut self) -> io::Result<()> {
        loop {
            let line = self.wire.line()?;
            if line
                .get(..5)
                .is_some_and(|verb| verb.eq_ignore_ascii_case(b"LHLO "))
            {
                self.wire.say(
                    "250-helper\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES",
                )?;
                continue;
            }
            let reply = match Command::parse(&line, Grammar::Strict) {
                Ok(Command::Mail { from, .. }) if self.from.is_none() => {
                    self.from = Some(from);
                    "250 2.1.0 ok"
                }
                Ok(Command::Rcpt { to, original, .. }) => self.recipient(to, original),
                Ok(Command::Data) if !self.recipients.is_empty() => {
                    self.wire.say("354 go on")?;
                    self.message()?;
                    self.reset();
                    continue;
                }
                Ok(Command::Rset) => {
                    self.reset();
                    "250 2.0.0 ok"
                }
                Ok(Command::Noop) => "250 2.0.0 ok",
                Ok(Command::Quit) => return self.wire.say("221 2.0.0 bye"),
                Ok(_) => "503 5.5.1 not now",
                Err(_) => "500 5.5.2 not understood",
            };
            self.wire.say(reply)?;
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.recipients.clear();
    }

    fn recipient(&mut self, to: ForwardPath, original: Option<Box<str>>) -> &'static str {
        match to {
            _ if self.from.is_none() => "503 5.5.1 MAIL first",
            _ if self.recipients.len() >= RECIPIENTS_MAX => "452 4.5.3 too many recipients",
            ForwardPath::Mailbox(mailbox) => {
                self.recipients.push(Recipient { mailbox, original });
                "250 2.1.5 ok"
            }
            ForwardPath::SourceRoute(_) | ForwardPath::Bare(_) => "550 5.1.3 no mailbox",
        }
    }

    /// Receives a message, delivers it to each recipient, and replies for each.
    fn message(&mut self) -> io::Result<()> {
        let mut decoder = Decoder::new(Framing::Dot, LongLines::Take);
        let mut content = Content::default();
        // If a message cannot be stored, its input is still read to the end.
        let mut kept = Ok(());
        loop {
            let mut piece = Vec::new();
            let input = std::mem::take(&mut self.wire.input);
            let mut rest = input.as_slice();
            let whole = decoder.decode(&mut rest, &mut piece);
            self.wire.input = rest.to_vec();
            if kept.is_ok() {
                kept = content.push(&piece, &self.found.state_dir);
            }
            if whole {
                break;
            }
            self.wire.read()?;
        }
        let kept = kept.and_then(|()| content.finish());
        for recipient in &self.recipients {
            let outcome = match (decoder.fault(), &kept) {
                (Some(_), _) => Outcome::new(
                    554,
                    (5, 6, 0),
                    "the message has a line that SMTP does not allow",
                ),
                (None, Err(error)) => Outcome::of_error(error),
                (None, Ok(())) => self.deliver(recipient, &content),
            };
            let reply = format!("{} {} {}", outcome.code, outcome.status, outcome.text);
            self.wire.stream.write_all(reply.as_bytes())?;
            self.wire.stream.write_all(b"\r\n")?;
        }
        Ok(())
    }

    fn deliver(&self, recipient: &Recipient, content: &Content) -> Outcome {
        let sender = self.from.as_ref().map_or("", ReversePath::as_str);
        let mailbox = recipient.mailbox.as_str();
        let head = format!("Return-Path: <{sender}>\nDelivered-To: {mailbox}\n");
        match &self.found.destination {
            Destination::Maildir(path) => match maildir::deliver(path, head.as_bytes(), content) {
                Ok(()) => Outcome::new(250, (2, 0, 0), "in the maildir"),
                Err(error) => {
                    log_failure(Path::new(&**path), &error);
                    Outcome::of_error(&error)
                }
            },
            Destination::Reports => {
                let sender = self.from.as_ref();
                let taken = reports::deliver(sender, &recipient.mailbox, content, self.shared);
                taken.map_or_else(
                    |untaken| self.untaken(&untaken),
                    |text| Outcome::new(250, (2, 0, 0), text),
                )
            }
            Destination::Program(words) => {
                let program = Program {
                    words,
                    folder: &self.found.state_dir,
                    environment: &self.environment(sender, recipient),
                    timeout: PROGRAM_TIMEOUT,
                };
                let running = &self.shared.running;
                let (ended, output) = program::run(&program, head.as_bytes(), content, running);
                if let (Ended::NotRun(error), Some(path)) = (&ended, program.words.first()) {
                    log_failure(Path::new(path), error);
                }
                let said = last_line(&output.stderr).or_else(|| last_line(&output.stdout));
                Outcome::of_program(&ended, said.as_deref())
            }
        }
    }

    /// The reply for a message that was neither counted nor passed on.
    fn untaken(&self, untaken: &ReportError) -> Outcome {
        match untaken {
            ReportError::Io(path, error) => {
                log_failure(path, error);
                Outcome::of_error(error)
            }
            ReportError::Config(error) => {
                Outcome::new(451, (4, 3, 5), &format!("the configuration: {error}"))
            }
            ReportError::Loop => Outcome::new(554, (5, 4, 6), "the message has been here before"),
            ReportError::NoAdmin => Outcome::new(
                550,
                (5, 7, 1),
                "this address takes DMARC and TLS reports, and this message is neither",
            ),
        }
    }

    /// The environment variables that delivery programs expect (Postfix's local(8); procmail and maildrop need no
    /// more).
    fn environment(&self, sender: &str, recipient: &Recipient) -> Vec<(&'static str, String)> {
        let mailbox = &recipient.mailbox;
        let local = mailbox.local_part();
        let extension = local
            .split_once(|c| self.found.separators.contains(c))
            .map_or("", |(_, extension)| extension);
        let original = recipient
            .original
            .as_deref()
            .and_then(|original| original.split_once(';'))
            .map_or(mailbox.as_str(), |(_, address)| address);
        let account = &self.shared.directory.account;
        let mut environment = account.environment();
        environment.extend(
            [
                ("SENDER", sender),
                ("RECIPIENT", mailbox.as_str()),
                ("ORIGINAL_RECIPIENT", original),
                ("LOCAL", local),
                ("EXTENSION", extension),
                ("DOMAIN", mailbox.domain().as_str()),
            ]
            .map(|(name, value)| (name, value.replace('\0', ""))),
        );
        environment
    }
}

/// The result of one delivery.
#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    code: u16,
    status: EnhancedCode,
    /// One line.
    text: String,
}

/// Logs the name of the file, which the reply omits because senders should not learn it.
fn log_failure(path: &Path, error: &io::Error) {
    let cause = format!("{}: {error}", path.display());
    let folder = path.parent().unwrap_or(path);
    let cure =
        (error.kind() == ErrorKind::ReadOnlyFilesystem).then(|| systemd::read_write_paths(folder));
    let line = Line::new(Level::Error, "helper").with("cause", cause);
    log::write(&line.with_some("cure", cure));
}

impl Outcome {
    fn new(code: u16, (class, subject, detail): (u8, u16, u16), text: &str) -> Self {
        Self {
            code,
            status: EnhancedCode::new(class, subject, detail),
            text: one_line(text),
        }
    }

    /// An I/O error defers the mail.
    fn of_error(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::DQUOT) => Self::new(452, (4, 2, 2), "the mailbox is full"),
            Some(Errno::NOSPC) => Self::new(452, (4, 3, 1), "the disk is full"),
            _ => Self::new(451, (4, 3, 0), &error.to_string()),
        }
    }

    /// Interprets exit codes of sysexits.h as Postfix does; an error that the operator must correct defers the mail.
    fn of_program(ended: &Ended, said: Option<&str>) -> Self {
        let code = match ended {
            Ended::Exit(code) => *code,
            Ended::Signal(signal) => {
                let text = format!("the program was ended by signal {signal}");
                return Self::new(451, (4, 3, 0), &text);
            }
            Ended::Late => return Self::new(451, (4, 3, 0), "the program took too long"),
            Ended::NotRun(error) => {
                let text = format!("the program cannot be run: {error}");
                return Self::new(451, (4, 3, 5), &text);
            }
        };
        let (reply, status, name) = match code {
            0 => (250, (2, 0, 0), "taken by the program"),
            64 => (554, (5, 3, 0), "command line usage error"),
            65 => (554, (5, 6, 0), "data format error"),
            66 => (554, (5, 3, 0), "cannot open input"),
            67 => (550, (5, 1, 1), "user unknown"),
            68 => (550, (5, 1, 2), "host name unknown"),
            69 => (554, (5, 3, 0), "service unavailable"),
            70 => (554, (5, 3, 0), "internal software error"),
            71 => (451, (4, 3, 0), "system resource problem"),
            72 => (554, (5, 3, 0), "critical system file missing"),
            73 => (554, (5, 2, 0), "cannot create output file"),
            74 => (451, (4, 3, 0), "input/output error"),
            75 => (451, (4, 3, 0), "temporary failure"),
            76 => (554, (5, 5, 0), "remote error in protocol"),
            77 => (550, (5, 7, 1), "permission denied"),
            78 => (554, (5, 3, 5), "local configuration error"),
            // The exit codes of a shell for a command that it cannot run or find.
            126 | 127 => (451, (4, 3, 5), "a command cannot be run"),
            _ => (554, (5, 3, 0), "the program failed"),
        };
        let text = match said {
            Some(said) if code != 0 => format!("{name}: {said}"),
            _ if code > 78 => format!("{name} with exit code {code}"),
            _ => name.to_owned(),
        };
        Self {
            text,
            ..Self::new(reply, status, "")
        }
    }
}

#[cfg(test)]
mod tests;
