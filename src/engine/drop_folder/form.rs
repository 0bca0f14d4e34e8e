//! Checks that a file has the form of the drop folder before any part of it is used.

use std::io::{self, BufRead, Read as _, Seek, SeekFrom};

use super::FORMAT;
use crate::address::ReversePath;
use crate::date::Timestamp;
use crate::envelope::Recipient;
use crate::limits::{COMMAND_LINE_BYTES_MAX, DSN_READ_BYTES, RECIPIENTS_MAX};
use crate::mail::header::{HeaderEnd, header_end};
use crate::smtp::command::{Command, ForwardPath, Grammar, MailParameters};
use crate::smtp::data::{BodyFault, Decoder, Framing, LongLines};

/// Why a file is not taken.
#[derive(Debug)]
pub enum Rejected {
    /// It is not in the form of a message in this folder, and never will be.
    Form(&'static str),
    /// It could not be read this time.
    Io(io::Error),
}

impl From<io::Error> for Rejected {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The metadata of a file.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its owner.
    pub uid: u32,
    /// Bytes of it.
    pub len: u64,
    /// When it was written.
    pub written: Timestamp,
}

/// A file in the right form.
#[derive(Debug)]
pub struct DroppedFile {
    pub uid: u32,
    /// Since when it waits.
    pub since: Timestamp,
    pub envelope: Lines,
    /// Bytes of the message.
    pub size: u64,
    /// Offset of the message.
    pub message_at: u64,
    /// The header for a DSN.
    pub header: Vec<u8>,
}

/// The lines of an envelope, and their meaning.
#[derive(Debug)]
pub struct Lines {
    pub mail: String,
    pub from: ReversePath,
    pub parameters: MailParameters,
    pub rcpt: Vec<(String, Recipient)>,
    owner: Option<(u32, Timestamp)>,
}

impl DroppedFile {
    /// Reads a file; a message longer than the relay accepts, `size_max`, is not read to its end. `own` is the relay's
    /// uid: only its files may name another owner.
    pub fn read(
        input: &mut (impl BufRead + Seek),
        about: &About,
        own: u32,
        size_max: u64,
    ) -> Result<Self, Rejected> {
        let envelope = read_envelope(input)?;
        let message_at = input.stream_position()?;
        let (uid, since) = match envelope.owner {
            Some(owner) if about.uid == own => owner,
            Some(_) => return Err(Rejected::Form("an owner that is not its own")),
            None => (about.uid, about.written),
        };
        let size = about.len.saturating_sub(message_at);
        let mut start = Vec::new();
        let mut front = (&mut *input).take(size.min(HEADER_READ_BYTES));
        front.read_to_end(&mut start)?;
        if size <= size_max {
            input.seek(SeekFrom::Start(message_at))?;
            check_message(&mut (&mut *input).take(size))?;
        }
        Ok(Self {
            uid,
            since,
            envelope,
            size,
            message_at,
            header: header_of(start),
        })
    }
}

/// Whether the message can be sent to the relay: only then does the relay find its end.
fn check_message(message: &mut impl BufRead) -> Result<(), Rejected> {
    let mut decoder = Decoder::new(Framing::Counted, LongLines::Take);
    let mut out = Vec::new();
    loop {
        let mut piece = message.fill_buf()?;
        let len = piece.len();
        if len == 0 {
            break;
        }
        decoder.decode(&mut piece, &mut out);
        out.clear();
        message.consume(len);
    }
    decoder.finish(&mut out);
    match decoder.fault() {
        None => Ok(()),
        Some(BodyFault::BareNewline) => Err(Rejected::Form("line ends other than CRLF")),
        Some(BodyFault::Nul) => Err(Rejected::Form("a NUL in the message")),
        Some(BodyFault::LongLine) => Err(Rejected::Form("a line that is too long")),
    }
}

/// Reads up to the empty line.
pub(super) fn read_envelope(input: &mut impl BufRead) -> Result<Lines, Rejected> {
    if read_line(input)? != FORMAT {
        return Err(Rejected::Form("no first line that says chopar-drop 1"));
    }
    let mut line = read_line(input)?;
    let owner = match line.strip_prefix("OWNER ") {
        Some(text) => {
            let owner = owner(text).ok_or(Rejected::Form("no owner"))?;
            line = read_line(input)?;
            Some(owner)
        }
        None => None,
    };
    let Ok(Command::Mail { from, parameters }) = Command::parse(line.as_bytes(), Grammar::Strict)
    else {
        return Err(Rejected::Form("no sender"));
    };
    let mut lines = Lines {
        mail: line,
        from,
        parameters,
        rcpt: Vec::new(),
        owner,
    };
    loop {
        let line = read_line(input)?;
        if line.is_empty() {
            break;
        }
        if lines.rcpt.len() >= RECIPIENTS_MAX {
            return Err(Rejected::Form("too many recipients"));
        }
        let Ok(Command::Rcpt {
            to: ForwardPath::Mailbox(to),
            notify,
            original,
        }) = Command::parse(line.as_bytes(), Grammar::Strict)
        else {
            return Err(Rejected::Form("no recipient where one should be"));
        };
        lines
            .rcpt
            .push((line, Recipient::new(to, notify, original)));
    }
    if lines.rcpt.is_empty() {
        return Err(Rejected::Form("no recipients"));
    }
    Ok(lines)
}

fn owner(text: &str) -> Option<(u32, Timestamp)> {
    let (uid, since) = text.split_once(' ')?;
    Some((
        uid.parse().ok()?,
        Timestamp::from_seconds(since.parse().ok()?),
    ))
}

fn read_line(input: &mut impl BufRead) -> Result<String, Rejected> {
    let mut line = Vec::new();
    let most = u64::try_from(COMMAND_LINE_BYTES_MAX).unwrap_or(u64::MAX);
    input.take(most).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(Rejected::Form("a line of the envelope without an end"));
    }
    String::from_utf8(line).map_err(|_| Rejected::Form("an envelope that is not UTF-8"))
}
/// Bytes at the start of a message in which its header is looked for.
const HEADER_READ_BYTES: u64 = DSN_READ_BYTES as u64;

/// The header of a message that begins with these bytes.
fn header_of(mut start: Vec<u8>) -> Vec<u8> {
    let end = match header_end(&start) {
        HeaderEnd::EmptyLine { at, .. } | HeaderEnd::NotAField { at } => at,
        HeaderEnd::Open => start.len(),
    };
    start.truncate(end);
    start
}
