//! Speaks a message to our own relay, and says of each recipient what became of it.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::checked::Checked;
use crate::limits::{DROP_REPLY_TIMEOUT, RECIPIENTS_MAX};
use crate::smtp::data::Encoder;
use crate::smtp::reply::{RemoteReply, ReplyReader};
use crate::status::EnhancedCode;

/// What became of a recipient.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Submitted {
    /// The relay has taken the message for it.
    Taken,
    /// It refuses it for good.
    Refused(Reason),
    /// Later.
    Deferred(Reason),
}

/// Why: a status and the words for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Reason {
    /// The status.
    pub(super) status: EnhancedCode,
    /// The reply on one line, or what went wrong.
    pub(super) text: String,
}

impl Reason {
    fn of(reply: &RemoteReply) -> Self {
        Self {
            status: reply.status(),
            text: reply.to_text(),
        }
    }

    fn io(error: &io::Error) -> Self {
        Self {
            status: EnhancedCode::new(4, 3, 0),
            text: error.to_string(),
        }
    }
}

/// Something, or what becomes of all recipients that it was for.
type Result<T> = std::result::Result<T, Submitted>;

impl Submitted {
    /// What a reply that is not positive means.
    fn of(reply: &RemoteReply) -> Self {
        if reply.is_permanent() {
            Self::Refused(Reason::of(reply))
        } else {
            Self::Deferred(Reason::of(reply))
        }
    }
}

/// Hands a message over, in as many transactions as the relay wants; as many results as the envelope has recipients.
pub(super) fn play(checked: &Checked, stream: UnixStream) -> Vec<Submitted> {
    let count = checked.envelope.rcpt.len();
    let mut results = Vec::with_capacity(count);
    let rest = match Session::open(stream) {
        Err(rest) => rest,
        Ok(session) => session.play(checked, &mut results),
    };
    results.resize(count, rest);
    results
}

/// Hands over a message of our own.
pub(super) fn send(mail: &str, rcpt: &str, message: &[u8], stream: UnixStream) -> Result<()> {
    let mut session = Session::open(stream)?;
    for line in [mail, rcpt] {
        session.expect_positive(line)?;
    }
    session.begin_data()?;
    let mut encoder = Encoder::default();
    session.send_piece(&mut encoder, message)?;
    session.end_data(encoder)
}

/// A session with our own relay.
struct Session {
    stream: UnixStream,
    reader: ReplyReader,
    unread: Vec<u8>,
    /// RCPTMAX of LIMITS (RFC 9422).
    recipients_max: usize,
    /// SIZE (RFC 1870).
    size_max: u64,
}

impl Session {
    fn open(stream: UnixStream) -> Result<Self> {
        let set = stream
            .set_read_timeout(Some(DROP_REPLY_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)));
        set.map_err(|error| Submitted::Deferred(Reason::io(&error)))?;
        let mut session = Self {
            stream,
            reader: ReplyReader::default(),
            unread: Vec::new(),
            recipients_max: RECIPIENTS_MAX,
            size_max: u64::MAX,
        };
        let later = |reply: &RemoteReply| Submitted::Deferred(Reason::of(reply));
        let banner = session.reply()?;
        if !banner.is_positive() {
            return Err(later(&banner));
        }
        let greeting = session.say("EHLO localhost")?;
        if !greeting.is_positive() {
            return Err(later(&greeting));
        }
        for line in &greeting.lines {
            let number = |text: &str| text.parse().ok();
            if let Some(most) = line.strip_prefix("LIMITS RCPTMAX=").and_then(number) {
                session.recipients_max = usize::try_from(most).unwrap_or(usize::MAX).max(1);
            } else if let Some(most @ 1..) = line.strip_prefix("SIZE ").and_then(number) {
                session.size_max = most;
            }
        }
        Ok(session)
    }

    /// Adds a result for each recipient that it comes to; gives the one of all others.
    fn play(mut self, checked: &Checked, results: &mut Vec<Submitted>) -> Submitted {
        if checked.size() > self.size_max {
            let (size, most) = (checked.size(), self.size_max);
            return Submitted::Refused(Reason {
                status: EnhancedCode::new(5, 3, 4),
                text: format!("the message has {size} bytes, and {most} is the limit"),
            });
        }
        while results.len() < checked.envelope.rcpt.len() {
            let before = results.len();
            match self.transact(checked, results) {
                Ok(()) if results.len() > before => {}
                Ok(()) => {
                    return Submitted::Deferred(Reason {
                        status: EnhancedCode::new(4, 5, 3),
                        text: "the relay takes no recipient at all".to_owned(),
                    });
                }
                Err(rest) => return rest,
            }
        }
        // It is over, whatever becomes of the farewell.
        drop(self.stream.write_all(b"QUIT\r\n"));
        Submitted::Taken
    }

    /// One transaction, for the recipients that have no result yet, as many as the relay takes.
    fn transact(&mut self, checked: &Checked, results: &mut Vec<Submitted>) -> Result<()> {
        self.expect_positive(&checked.envelope.mail)?;
        let waiting = checked.envelope.rcpt.iter().skip(results.len());
        // `None` is for who gets the message.
        let mut named: Vec<Option<Submitted>> = Vec::new();
        for (line, _) in waiting.take(self.recipients_max) {
            let reply = self.say(line)?;
            let taken = named.iter().any(Option::is_none);
            if reply.code == 452 && reply.status() == EnhancedCode::new(4, 5, 3) && taken {
                break; // the rest in another transaction (RFC 5321 section 4.5.3.1.10)
            }
            named.push((!reply.is_positive()).then(|| Submitted::of(&reply)));
        }
        let result = if named.iter().any(Option::is_none) {
            self.hand_over(checked)
        } else {
            self.expect_positive("RSET").map(|()| Submitted::Taken)
        };
        let (for_named, end) = match result {
            Ok(taken) => (taken, Ok(())),
            // A reply that refuses one message says nothing of the next.
            Err(cause @ Submitted::Refused(_)) => (cause, Ok(())),
            Err(cause) => (cause.clone(), Err(cause)),
        };
        results.extend(
            named
                .into_iter()
                .map(|result| result.unwrap_or_else(|| for_named.clone())),
        );
        end
    }

    fn hand_over(&mut self, checked: &Checked) -> Result<Submitted> {
        let io = |error: io::Error| Submitted::Deferred(Reason::io(&error));
        self.begin_data()?;
        let mut message = checked.message().map_err(io)?;
        let mut encoder = Encoder::default();
        let mut left = checked.size();
        loop {
            let piece = message.fill_buf().map_err(io)?;
            let len = piece.len();
            if len == 0 {
                break;
            }
            let piece = piece.to_vec();
            message.consume(len);
            left = left.saturating_sub(len as u64);
            self.send_piece(&mut encoder, &piece)?;
        }
        if left > 0 || !checked.is_unchanged().map_err(io)? {
            // Closed without the final dot: nothing was handed over.
            return Err(io(io::Error::other("the file changes while it is read")));
        }
        self.end_data(encoder)?;
        Ok(Submitted::Taken)
    }

    fn begin_data(&mut self) -> Result<()> {
        let reply = self.say("DATA")?;
        if reply.code == 354 {
            Ok(())
        } else {
            Err(Submitted::of(&reply))
        }
    }

    fn send_piece(&mut self, encoder: &mut Encoder, piece: &[u8]) -> Result<()> {
        let mut wire = Vec::new();
        encoder.encode(piece, &mut wire);
        self.send(&wire)
    }

    fn end_data(&mut self, encoder: Encoder) -> Result<()> {
        let mut wire = Vec::new();
        encoder.finish(&mut wire);
        self.send(&wire)?;
        let reply = self.reply()?;
        if reply.is_positive() {
            Ok(())
        } else {
            Err(Submitted::of(&reply))
        }
    }

    fn expect_positive(&mut self, line: &str) -> Result<()> {
        let reply = self.say(line)?;
        if reply.is_positive() {
            Ok(())
        } else {
            Err(Submitted::of(&reply))
        }
    }

    fn say(&mut self, line: &str) -> Result<RemoteReply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|error| Submitted::Deferred(Reason::io(&error)))
    }

    fn reply(&mut self) -> Result<RemoteReply> {
        let later = |error: io::Error| Submitted::Deferred(Reason::io(&error));
        let mut buffer = [0; 4096];
        loop {
            let unread = std::mem::take(&mut self.unread);
            let mut input = unread.as_slice();
            let reply = self.reader.read(&mut input);
            self.unread = input.to_vec();
            match reply {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(later(io::Error::other(format!("{error:?}")))),
            }
            match self.stream.read(&mut buffer).map_err(later)? {
                0 => return Err(later(io::ErrorKind::UnexpectedEof.into())),
                len => self
                    .unread
                    .extend_from_slice(buffer.get(..len).unwrap_or_default()),
            }
        }
    }
}

/// Wait for the relay to take a piece: it reads on unless it is stopped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
