//! Hands a message to the daemon over `submit.sock`, or leaves it in the drop folder.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::failure::Failure;
use super::super::sysexits::{DATA, IO_ERROR, TRY_AGAIN, UNAVAILABLE};
use super::place::Place;
use crate::address::Mailbox;
use crate::shell::drop_folder::write_drop;
use crate::smtp::data::Encoder;
use crate::smtp::reply::{RemoteReply, ReplyReader};

/// The envelope as commands, without line ends.
pub(super) struct Envelope {
    /// MAIL.
    pub(super) mail: String,
    /// One RCPT a recipient.
    pub(super) rcpt: Vec<String>,
}

/// Where the message is now.
pub(super) enum Submission {
    /// In the queue.
    Queued {
        /// What the daemon said.
        reply: String,
        /// Recipients that it refused, a sentence each.
        refused: Vec<String>,
    },
    /// In the drop folder.
    Dropped,
}

/// Submits a message.
pub(super) fn submit(
    place: &Place,
    envelope: &Envelope,
    message: &[u8],
) -> Result<Submission, Failure> {
    let mut session = match Dialogue::open(place) {
        Ok(session) => session,
        Err(_) => return leave(place, envelope, message),
    };
    match session.greet(place) {
        Ok(reply) if reply.is_positive() => {}
        // It is there and takes nothing now (it stops, or is full): the folder takes it.
        Ok(_) | Err(_) => return leave(place, envelope, message),
    }
    let reply = session.say(&envelope.mail)?;
    session_result(&reply)?;
    let mut refused = Vec::new();
    for rcpt in &envelope.rcpt {
        let reply = session.say(rcpt)?;
        if reply.is_permanent() {
            refused.push(format!(
                "{}: {}",
                rcpt.trim_start_matches("RCPT TO:"),
                reply.to_text()
            ));
        } else {
            session_result(&reply)?;
        }
    }
    if refused.len() == envelope.rcpt.len() {
        return Err(Failure::new(super::NO_USER, refused.join("\n")));
    }
    let reply = session.say("DATA")?;
    if reply.code != 354 {
        return Err(failure(&reply));
    }
    let mut body = Vec::with_capacity(message.len().saturating_add(64));
    let mut encoder = Encoder::default();
    encoder.encode(message, &mut body);
    encoder.finish(&mut body);
    session.send(&body)?;
    let reply = session.reply()?;
    if !reply.is_positive() {
        return Err(failure(&reply));
    }
    drop(session.send(b"QUIT\r\n"));
    Ok(Submission::Queued {
        reply: reply.to_text(),
        refused,
    })
}

/// What the daemon says of a recipient.
pub(super) fn verify(place: &Place, mailbox: &Mailbox) -> Result<RemoteReply, Failure> {
    let mut session = Dialogue::open(place).map_err(|error| {
        let text = format!("the daemon does not answer ({error}); start it with `chopar run`");
        Failure::new(UNAVAILABLE, text)
    })?;
    session_result(&session.greet(place)?)?;
    session_result(&session.say("MAIL FROM:<>")?)?;
    session.say(&format!("RCPT TO:<{mailbox}>"))
}

/// Speaks SMTP between standard input and output and the daemon.
pub(super) fn pass_through(place: &Place) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::new(IO_ERROR, format!("the session broke: {error}"));
    let socket = match UnixStream::connect(place.runtime_dir.join("submit.sock")) {
        Ok(socket) => socket,
        Err(error) => {
            println!("421 4.3.2 {} the daemon is not running", place.hostname);
            let text = format!("the daemon does not answer ({error}); start it with `chopar run`");
            return Err(Failure::new(TRY_AGAIN, text));
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
    let mut stdout = io::stdout().lock();
    let mut buffer = [0; 16 * 1024];
    loop {
        match from_daemon.read(&mut buffer).map_err(broken)? {
            0 => return Ok(()),
            len => {
                stdout
                    .write_all(buffer.get(..len).unwrap_or_default())
                    .map_err(broken)?;
                stdout.flush().map_err(broken)?;
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

fn leave(place: &Place, envelope: &Envelope, message: &[u8]) -> Result<Submission, Failure> {
    let mut lines = vec![envelope.mail.clone()];
    lines.extend(envelope.rcpt.iter().cloned());
    match write_drop(&place.drop_folder, &lines, message) {
        Ok(()) => Ok(Submission::Dropped),
        Err(error) => Err(Failure::new(
            TRY_AGAIN,
            format!(
                "the daemon is not running, and the message cannot be left in {} ({error}); try again",
                place.drop_folder.display()
            ),
        )),
    }
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
        format!("the daemon refuses the message: {}", reply.to_text()),
    )
}

/// A session with the daemon, one command at a time.
struct Dialogue {
    socket: UnixStream,
    reader: ReplyReader,
    unread: Vec<u8>,
}

impl Dialogue {
    fn open(place: &Place) -> io::Result<Self> {
        let socket = UnixStream::connect(place.runtime_dir.join("submit.sock"))?;
        socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
        socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self {
            socket,
            reader: ReplyReader::default(),
            unread: Vec::new(),
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
                        format!("the daemon speaks no SMTP: {error:?}"),
                    ));
                }
            }
            match self.socket.read(&mut buffer) {
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
