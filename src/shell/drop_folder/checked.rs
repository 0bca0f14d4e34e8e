//! Opens a file of the drop folder and says whether it is in the form of one, before anything of it is used.
//!
//! Links are not followed, and nothing that could make a reader wait is opened for reading. What is checked is as long as
//! the file was then; a file that is written to meanwhile is left for later.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom, Take};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{FORMAT, returned};
use crate::address::ReversePath;
use crate::date::Timestamp;
use crate::envelope::Recipient;
use crate::limits::{COMMAND_LINE_BYTES_MAX, RECIPIENTS_MAX};
use crate::smtp::command::{Command, ForwardPath, MailParameters};
use crate::smtp::data::{BodyFault, Decoder, Framing};

/// Why a file is not taken.
#[derive(Debug)]
pub(super) enum Rejected {
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

/// A file in the right form.
#[derive(Debug)]
pub(super) struct Checked {
    /// Who sends it.
    pub(super) uid: u32,
    /// Since when it waits.
    pub(super) since: Timestamp,
    /// Its envelope.
    pub(super) envelope: Lines,
    file: File,
    /// As it was when it was opened.
    about: Metadata,
    /// Where the message begins.
    message_at: u64,
}

/// The lines of an envelope, and what they mean.
#[derive(Debug)]
pub(super) struct Lines {
    /// MAIL.
    pub(super) mail: String,
    /// The reverse-path.
    pub(super) from: ReversePath,
    /// Its parameters.
    pub(super) parameters: MailParameters,
    /// RCPT, and who that is.
    pub(super) rcpt: Vec<(String, Recipient)>,
    owner: Option<(u32, Timestamp)>,
}

impl Checked {
    /// Opens a file; what is longer than the relay takes, `size_max`, is not read to its end. `own` is the relay's uid.
    pub(super) fn open(path: &Path, own: u32, size_max: u64) -> Result<Self, Rejected> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or(0))
            .open(path)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::LOOP) => Rejected::Form("a symbolic link"),
                // A socket, or a device without a driver.
                Some(Errno::NXIO | Errno::NODEV) => Rejected::Form("not a regular file"),
                // Whoever wrote it did not mean the relay to read it.
                Some(Errno::ACCESS | Errno::PERM) => Rejected::Form("not readable"),
                _ => Rejected::Io(error),
            })?;
        let about = file.metadata()?;
        let kind = about.file_type();
        if !about.is_file() || kind.is_fifo() {
            return Err(Rejected::Form("not a regular file"));
        }
        if about.nlink() != 1 {
            return Err(Rejected::Form("several links"));
        }
        let mut input = BufReader::new(&file);
        let envelope = read_envelope(&mut input)?;
        let message_at = input.stream_position()?;
        let written = Timestamp::from_seconds(u64::try_from(about.mtime()).unwrap_or(0));
        let (uid, since) = match envelope.owner {
            Some(owner) if about.uid() == own => owner,
            Some(_) => return Err(Rejected::Form("an owner that is not its own")),
            None => (about.uid(), written),
        };
        let checked = Self {
            uid,
            since,
            envelope,
            file,
            about,
            message_at,
        };
        if checked.size() <= size_max {
            checked.check_message()?;
        }
        Ok(checked)
    }

    /// Bytes of the message.
    pub(super) fn size(&self) -> u64 {
        self.about.len().saturating_sub(self.message_at)
    }

    /// The message, as long as it was when the file was opened.
    pub(super) fn message(&self) -> io::Result<Take<BufReader<&File>>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.message_at))?;
        Ok(BufReader::with_capacity(PIECE_BYTES, file).take(self.size()))
    }

    /// Whether nobody has written to it since it was opened.
    pub(super) fn is_unchanged(&self) -> io::Result<bool> {
        let now = self.file.metadata()?;
        let then = &self.about;
        let times = |about: &Metadata| (about.mtime(), about.mtime_nsec());
        Ok(now.len() == then.len() && times(&now) == times(then))
    }

    /// Whether the relay can be told the message: only then does it see where that ends.
    fn check_message(&self) -> Result<(), Rejected> {
        let mut decoder = Decoder::new(Framing::Counted);
        let mut message = self.message()?;
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

    /// What a DSN shows of the message.
    pub(super) fn header(&self) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        self.message()?
            .take(returned::HEADER_READ_BYTES)
            .read_to_end(&mut start)?;
        Ok(returned::header(start))
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
    let Ok(Command::Mail { from, parameters }) = Command::parse(line.as_bytes()) else {
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
        }) = Command::parse(line.as_bytes())
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

/// What is read at a time.
const PIECE_BYTES: usize = 64 * 1024;
