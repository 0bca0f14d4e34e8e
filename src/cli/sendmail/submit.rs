//! Submits a message to the daemon over `submit.sock`, or leaves it in the drop folder.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::super::control::not_there;
use super::super::failure::Failure;
use super::super::sysexits::{DATA, IO_ERROR, NO_USER, TRY_AGAIN};
use super::message::Message;
use super::place::Place;
use crate::address::Mailbox;
use crate::limits::RECIPIENTS_MAX;
use crate::shell::process::interruption::uninterrupted;
use crate::shell::spool::drop_folder::{Draft, Incomplete};
use crate::smtp::data::Encoder;
use crate::smtp::reply::{RemoteReply, ReplyReader};

/// The envelope as commands, without line ends.
pub(super) struct Envelope {
    pub(super) mail: String,
    /// One RCPT a recipient.
    pub(super) rcpt: Vec<String>,
}

/// The place of the message.
pub(super) enum Submission {
    /// In the queue; the rest is in the drop folder.
    Queued {
        /// The daemon's replies, one per transaction.
        replies: Vec<String>,
        /// Recipients that it refused, a sentence each.
        refused: Vec<String>,
    },
    /// In the drop folder.
    Dropped,
}

/// Submits a message, in as many transactions as its recipients need. When this succeeds, each recipient is in the
/// queue, in the drop folder, or reported as refused. A failure after the first transaction is never reported for the
/// whole: a caller that tries again would send the accepted part twice.
pub(super) fn submit(
    place: &Place,
    envelope: &Envelope,
    message: &Message,
) -> Result<Submission, Failure> {
    let Some(mut session) = Dialogue::ready(place) else {
        leave(place, &envelope.mail, &envelope.rcpt, message)?;
        return Ok(Submission::Dropped);
    };
    let (mut replies, mut refused) = (Vec::new(), Vec::new());
    let mut rest = envelope.rcpt.as_slice();
    while !rest.is_empty() {
        let most = session.recipients_max.clamp(1, rest.len());
        let (part, behind) = rest.split_at_checked(most).unwrap_or((rest, &[]));
        match session.transact(&envelope.mail, part, message) {
            Ok(taken) => {
                replies.extend(taken.reply);
                refused.extend(taken.refused);
            }
            Err(failure) if replies.is_empty() => return Err(failure),
            Err(_) => {
                leave(place, &envelope.mail, rest, message)?;
                break;
            }
        }
        rest = behind;
    }
    if refused.len() == envelope.rcpt.len() {
        return Err(Failure::new(NO_USER, refused.join("\n")));
    }
    Ok(Submission::Queued { replies, refused })
}

/// The result of one transaction.
struct Transaction {
    /// The daemon's reply to the message; `None` if it accepted no recipient.
    reply: Option<String>,
    /// Recipients that it refused, a sentence each.
    refused: Vec<String>,
}

/// The daemon's limit for a message in bytes, if it runs and announces one.
pub(super) fn size_limit(place: &Place) -> Option<u64> {
    Dialogue::ready(place)?.size_max
}

/// The daemon's verdict on a recipient.
pub(super) fn verify(place: &Place, mailbox: &Mailbox) -> Result<RemoteReply, Failure> {
    let mut session = Dialogue::open(place).map_err(|error| not_there(&socket(place), &error))?;
    session_result(&session.greet(place)?)?;
    session_result(&session.say("MAIL FROM:<>")?)?;
    session.say(&format!("RCPT TO:<{mailbox}>"))
}

/// Speaks SMTP between standard input and output and the daemon.
pub(super) fn pass_through(place: &Place, output: &mut dyn Write) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::new(IO_ERROR, format!("the session broke: {error}"));
    let socket = match UnixStream::connect(socket(place)) {
        Ok(socket) => socket,
        Err(error) => {
            let host = &place.hostname;
            write!(output, "421 4.3.2 {host} the daemon is not running\r\n").map_err(broken)?;
            let failure = not_there(&self::socket(place), &error);
            return Err(Failure::new(TRY_AGAIN, failure));
        }
    };
    let mut to_daemon = socket.try_clone().map_err(broken)?;
    // The thread ends with the process: it may wait for a line that never comes.
    std::thread::spawn(move || {
        let mut line_ends = LineEnds::default();
        let mut buffer = [0; 16 * 1024];
        let mut stdin = io::stdin().lock();
        while let Ok(len @ 1..) = stdin.read(&mut buffer) {
            let bytes = line_ends.complete(buffer.get(..len).unwrap_or_default());
            if to_daemon.write_all(&bytes).is_err() {
                return;
            }
        }
        drop(to_daemon.shutdown(Shutdown::Write));
    });
    let mut from_daemon = socket;
    let mut buffer = [0; 16 * 1024];
    loop {
        match uninterrupted(|| from_daemon.read(&mut buffer)).map_err(broken)? {
            0 => return Ok(()),
            len => {
                output
                    .write_all(buffer.get(..len).unwrap_or_default())
                    .map_err(broken)?;
                output.flush().map_err(broken)?;
            }
        }
    }
}

/// Makes CRLF of the LF that callers of -bs write, in any pieces.
#[derive(Default)]
struct LineEnds {
    after_cr: bool,
}

impl LineEnds {
    fn complete(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len().saturating_add(8));
        for &byte in bytes {
            if byte == b'\n' && !self.after_cr {
                out.push(b'\r');
            }
            self.after_cr = byte == b'\r';
            out.push(byte);
        }
        out
    }
}

/// Leaves a message in the drop folder for these recipients, in as many files as they need: in all of them or in none.
/// If some files can neither be joined by the others nor be removed, the failure says for how many recipients.
fn leave(place: &Place, mail: &str, rcpt: &[String], message: &Message) -> Result<(), Failure> {
    let write = || -> Result<(), Incomplete> {
        let mut drafts = Vec::new();
        for part in rcpt.chunks(RECIPIENTS_MAX) {
            let mut lines = vec![mail.to_owned()];
            lines.extend_from_slice(part);
            let draft = Draft::write(&place.drop_folder, &lines, &mut message.reader())?;
            drafts.push(draft);
        }
        Draft::complete_all(drafts)
    };
    write().map_err(|incomplete| {
        let (error, folder) = (&incomplete.error, place.drop_folder.display());
        let is_bare = error.kind() == io::ErrorKind::NotFound && !place.drop_folder.exists();
        let cure = match is_bare {
            true => "set chopar up: sudo chopar init DOMAIN",
            false => "try again",
        };
        let mut text = format!(
            "the daemon does not accept the message now, and the message cannot be left in {folder} ({error}); {cure}"
        );
        if incomplete.left > 0 {
            text.push_str(&format!(
                "; {} of its {} parts, of up to {RECIPIENTS_MAX} recipients each, could not be taken back and go out: \
                 another try sends to their recipients twice",
                incomplete.left, incomplete.of
            ));
        }
        Failure::new(TRY_AGAIN, text)
    })
}

fn socket(place: &Place) -> PathBuf {
    place.runtime_dir.join("submit.sock")
}

fn session_result(reply: &RemoteReply) -> Result<(), Failure> {
    if reply.is_positive() {
        Ok(())
    } else {
        Err(failure(reply))
    }
}

fn failure(reply: &RemoteReply) -> Failure {
    let code = if reply.is_permanent() {
        DATA
    } else {
        TRY_AGAIN
    };
    Failure::new(
        code,
        format!("the daemon rejects the message: {}", reply.to_text()),
    )
}

/// A session with the daemon, one command at a time.
struct Dialogue {
    socket: UnixStream,
    reader: ReplyReader,
    unread: Vec<u8>,
    /// SIZE (RFC 1870), if it has a limit.
    size_max: Option<u64>,
    /// RCPTMAX of LIMITS (RFC 9422).
    recipients_max: usize,
}

impl Dialogue {
    /// A session after EHLO; `None` if the daemon is not running, or accepts nothing now (it stops, or is full).
    fn ready(place: &Place) -> Option<Self> {
        let mut session = Self::open(place).ok()?;
        let reply = session.greet(place).ok()?;
        if !reply.is_positive() {
            return None;
        }
        for line in &reply.lines {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("SIZE") => {
                    let size = words.next().and_then(|size| size.parse().ok());
                    session.size_max = size.filter(|size| *size > 0);
                }
                Some("LIMITS") => {
                    let most = words.find_map(|word| word.strip_prefix("RCPTMAX="));
                    if let Some(most) = most.and_then(|most| most.parse().ok()) {
                        session.recipients_max = most;
                    }
                }
                _ => {}
            }
        }
        Some(session)
    }

    /// Hands the message over for some recipients.
    fn transact(
        &mut self,
        mail: &str,
        rcpt: &[String],
        message: &Message,
    ) -> Result<Transaction, Failure> {
        session_result(&self.say(mail)?)?;
        let mut refused = Vec::new();
        for rcpt in rcpt {
            let reply = self.say(rcpt)?;
            if reply.is_permanent() {
                let to = rcpt.trim_start_matches("RCPT TO:");
                refused.push(format!("{to}: {}", reply.to_text()));
            } else {
                session_result(&reply)?;
            }
        }
        if refused.len() == rcpt.len() {
            session_result(&self.say("RSET")?)?;
            let reply = None;
            return Ok(Transaction { reply, refused });
        }
        let reply = self.say("DATA")?;
        if reply.code != 354 {
            return Err(failure(&reply));
        }
        self.send_message(&mut message.reader())?;
        let reply = self.reply()?;
        session_result(&reply)?;
        let reply = Some(reply.to_text());
        Ok(Transaction { reply, refused })
    }

    fn send_message(&mut self, message: &mut dyn Read) -> Result<(), Failure> {
        let mut encoder = Encoder::default();
        let (mut piece, mut wire) = (vec![0; PIECE_BYTES], Vec::new());
        loop {
            let len = match message.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) => {
                    let text = format!("cannot read the message again: {error}");
                    return Err(Failure::new(IO_ERROR, text));
                }
            };
            encoder.encode(piece.get(..len).unwrap_or_default(), &mut wire);
            self.send(&wire)?;
            wire.clear();
        }
        encoder.finish(&mut wire);
        self.send(&wire)
    }

    fn open(place: &Place) -> io::Result<Self> {
        let socket = UnixStream::connect(socket(place))?;
        socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
        socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self {
            socket,
            reader: ReplyReader::default(),
            unread: Vec::new(),
            size_max: None,
            recipients_max: RECIPIENTS_PER_TRANSACTION,
        })
    }

    fn greet(&mut self, place: &Place) -> Result<RemoteReply, Failure> {
        let banner = self.reply()?;
        if banner.code != 220 {
            return Ok(banner);
        }
        self.say(&format!("EHLO {}", place.hostname))
    }

    fn say(&mut self, command: &str) -> Result<RemoteReply, Failure> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.socket.write_all(bytes).map_err(|error| lost(&error))
    }

    fn reply(&mut self) -> Result<RemoteReply, Failure> {
        let mut buffer = [0; 4096];
        loop {
            let unread = std::mem::take(&mut self.unread);
            let mut input = unread.as_slice();
            let reply = self.reader.read(&mut input);
            self.unread = input.to_vec();
            match reply {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => {
                    return Err(Failure::new(
                        TRY_AGAIN,
                        format!("the daemon does not speak SMTP: {error:?}"),
                    ));
                }
            }
            match uninterrupted(|| self.socket.read(&mut buffer)) {
                Ok(0) => {
                    return Err(Failure::new(
                        TRY_AGAIN,
                        "the daemon closed the session; try again",
                    ));
                }
                Ok(len) => self
                    .unread
                    .extend_from_slice(buffer.get(..len).unwrap_or_default()),
                Err(error) => return Err(lost(&error)),
            }
        }
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(
        TRY_AGAIN,
        format!("the session with the daemon broke ({error}); try again"),
    )
}

/// Longer than the daemon takes to sign and sync under any load that it accepts.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);
/// Recipients that every server accepts (RFC 5321 section 4.5.3.1.8), if the daemon announces no limit.
const RECIPIENTS_PER_TRANSACTION: usize = 100;
/// Bytes that are read and sent at a time.
const PIECE_BYTES: usize = 64 * 1024;
