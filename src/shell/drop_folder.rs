//! `spool/drop/`: messages that `sendmail` left as files while the relay was down.
//!
//! ```text
//! chopar-drop 1
//! MAIL FROM:<a@example.com> SIZE=42
//! RCPT TO:<b@example.org>
//!                                     an empty line, then the message, lines ending in CRLF, dots not stuffed
//! ```
//!
//! The folder is 1733: everybody may add to it and nobody but the relay may list it. A file is written under a name
//! that begins with a dot, synced, and renamed to `RANDOM.msg`; it is readable, since the relay is not its owner, but
//! its name cannot be guessed. Who owns the file is who sends it: each is spoken to the relay's own submission as its
//! owner would have. Taken are regular files with one link only. A file is removed after the 250 and set aside in
//! `spool/damaged/` after a 5xx or when it cannot be read; after a 4xx it waits.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use super::time::SystemEntropy;
use crate::engine::log::{Level, Line};
use crate::entropy::Entropy as _;
use crate::limits::{COMMAND_LINE_BYTES_MAX, RECIPIENTS_MAX};

/// The first line of a file.
const FORMAT: &[u8] = b"chopar-drop 1";
/// The end of the name of a file that is complete.
const COMPLETE: &[u8] = b".msg";
/// Wait for one reply of our own relay.
const DROP_REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes the folder below the spool if it is not there.
pub fn make_folder(spool: &Path) -> io::Result<PathBuf> {
    let path = spool.join("drop");
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(&path, Permissions::from_mode(0o1733))?;
    Ok(path)
}

/// A message in the folder that is not complete yet; it is removed when it is dropped before.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    complete: PathBuf,
}

impl Draft {
    /// Writes a message under a name that the relay does not look at. `envelope` is one MAIL line and one RCPT line a
    /// recipient, without line ends. When this returns the message is on the disk.
    pub fn write(
        folder: &Path,
        envelope: &[String],
        message: &mut dyn io::Read,
    ) -> io::Result<Self> {
        let mut random = [0; 16];
        SystemEntropy::default().fill(&mut random);
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Half a file is worth nothing to anybody; its sender is told.
        let draft = Self {
            path: folder.join(format!(".{name}")),
            complete: folder.join(format!("{name}.msg")),
        };
        write_file(&draft.path, envelope, message)?;
        Ok(draft)
    }

    /// Gives it the name under which the relay takes it.
    pub fn complete(self) -> io::Result<()> {
        fs::rename(&self.path, &self.complete)?;
        sync_folder(self.complete.parent().unwrap_or(Path::new(".")))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is complete there is nothing of this name.
        drop(fs::remove_file(&self.path));
    }
}

fn write_file(path: &Path, envelope: &[String], message: &mut dyn io::Read) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut out = BufWriter::new(&file);
    out.write_all(FORMAT)?;
    out.write_all(b"\n")?;
    for line in envelope {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.write_all(b"\n")?;
    io::copy(message, &mut out)?;
    out.flush()?;
    drop(out);
    // Whatever the umask is: the relay has another user.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

/// Who cannot list the folder may not open it to sync it either; the file itself is synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why a file was not taken.
#[derive(Debug)]
pub enum DropError {
    /// It is no regular file, or has several links.
    NotAFile,
    /// It is not in the form above.
    Form,
    /// It could not be read, or the relay went away.
    Io(io::Error),
    /// The relay refused it for good; its reply.
    Refused(String),
    /// The relay puts it off; its reply.
    PutOff(String),
}

/// The files that are complete.
pub(super) fn waiting(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter(|name| is_complete(name))
        .map(|name| folder.join(name))
        .collect()
}

fn is_complete(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && name.ends_with(COMPLETE)
}

/// Sends these files; `connect` makes a connection to the relay for this user. Says what became of each.
pub(super) fn send_all(
    files: &[PathBuf],
    damaged: &Path,
    connect: &dyn Fn(u32) -> io::Result<UnixStream>,
) -> Vec<Line> {
    files
        .iter()
        .map(|path| settle(path, damaged, send_file(path, connect)))
        .collect()
}

/// Removes, keeps or sets aside the file.
fn settle(path: &Path, damaged: &Path, result: Result<(), DropError>) -> Line {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let line = |level, event: &'static str| Line::new(level, event).with("file", &name);
    let (cause, keep) = match result {
        Ok(()) => {
            let removed = fs::remove_file(path)
                .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new("."))));
            return line(Level::Info, "drop-taken").with_some("error", removed.err());
        }
        Err(DropError::PutOff(reply)) => (reply, true),
        Err(DropError::Io(error)) => (error.to_string(), true),
        Err(DropError::Refused(reply)) => (reply, false),
        Err(DropError::Form) => ("not in the form of a dropped message".to_owned(), false),
        Err(DropError::NotAFile) => ("no regular file with one link".to_owned(), false),
    };
    if keep {
        return line(Level::Warning, "drop-waits").with("cause", cause);
    }
    let moved = fs::rename(path, damaged.join(&name));
    line(Level::Error, "drop-refused")
        .with("cause", cause)
        .with_some("error", moved.err())
}

fn send_file(
    path: &Path,
    connect: &dyn Fn(u32) -> io::Result<UnixStream>,
) -> Result<(), DropError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| {
            // ELOOP: a link.
            match rustix::io::Errno::from_io_error(&error) {
                Some(rustix::io::Errno::LOOP) => DropError::NotAFile,
                _ => DropError::Io(error),
            }
        })?;
    let about = file.metadata().map_err(DropError::Io)?;
    if !about.is_file() || about.nlink() != 1 {
        return Err(DropError::NotAFile);
    }
    let mut file = BufReader::new(file);
    let envelope = read_envelope(&mut file)?;
    let stream = connect(about.uid()).map_err(DropError::Io)?;
    stream
        .set_read_timeout(Some(DROP_REPLY_TIMEOUT))
        .map_err(DropError::Io)?;
    stream
        .set_write_timeout(Some(DROP_REPLY_TIMEOUT))
        .map_err(DropError::Io)?;
    Submission::new(stream)?.send(&envelope, &mut file)
}

/// Reads up to the empty line.
fn read_envelope(file: &mut impl BufRead) -> Result<Vec<String>, DropError> {
    if read_line(file)?.as_bytes() != FORMAT {
        return Err(DropError::Form);
    }
    let mut envelope = Vec::new();
    loop {
        let line = read_line(file)?;
        if line.is_empty() {
            break;
        }
        let verb: &[u8] = if envelope.is_empty() {
            b"MAIL FROM:"
        } else {
            b"RCPT TO:"
        };
        let front = line.as_bytes().get(..verb.len());
        if !front.is_some_and(|front| front.eq_ignore_ascii_case(verb))
            || line.bytes().any(|byte| byte.is_ascii_control())
            || envelope.len() > RECIPIENTS_MAX
        {
            return Err(DropError::Form);
        }
        envelope.push(line);
    }
    if envelope.len() < 2 {
        Err(DropError::Form)
    } else {
        Ok(envelope)
    }
}

fn read_line(file: &mut impl BufRead) -> Result<String, DropError> {
    let mut line = Vec::new();
    let max = u64::try_from(COMMAND_LINE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(max)
        .read_until(b'\n', &mut line)
        .map_err(DropError::Io)?;
    if line.pop() != Some(b'\n') {
        return Err(DropError::Form);
    }
    String::from_utf8(line).map_err(|_| DropError::Form)
}

/// A session with our own relay.
struct Submission {
    input: BufReader<UnixStream>,
    output: BufWriter<UnixStream>,
}

impl Submission {
    fn new(stream: UnixStream) -> Result<Self, DropError> {
        let input = stream.try_clone().map_err(DropError::Io)?;
        Ok(Self {
            input: BufReader::new(input),
            output: BufWriter::new(stream),
        })
    }

    fn send(mut self, envelope: &[String], message: &mut impl BufRead) -> Result<(), DropError> {
        self.expect(b'2')?;
        self.command("EHLO localhost", b'2')?;
        for line in envelope {
            self.command(line, b'2')?;
        }
        self.command("DATA", b'3')?;
        write_stuffed(message, &mut self.output).map_err(DropError::Io)?;
        self.command(".", b'2')?;
        // It is accepted, whatever becomes of the farewell.
        drop(self.command("QUIT", b'2'));
        Ok(())
    }

    fn command(&mut self, line: &str, wanted: u8) -> Result<(), DropError> {
        write!(self.output, "{line}\r\n")
            .and_then(|()| self.output.flush())
            .map_err(DropError::Io)?;
        self.expect(wanted)
    }

    fn expect(&mut self, wanted: u8) -> Result<(), DropError> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.input.read_line(&mut line).map_err(DropError::Io)?;
            if read == 0 {
                return Err(DropError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        match line.bytes().next() {
            Some(first) if first == wanted => Ok(()),
            Some(b'5') => Err(DropError::Refused(line.trim_end().to_owned())),
            _ => Err(DropError::PutOff(line.trim_end().to_owned())),
        }
    }
}

/// Copies a message with its leading dots doubled and its end made a line's end (RFC 5321 section 4.5.2).
fn write_stuffed(message: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    let mut ends = true;
    loop {
        line.clear();
        if message
            .by_ref()
            .take(PIECE_BYTES)
            .read_until(b'\n', &mut line)?
            == 0
        {
            break;
        }
        if ends && line.first() == Some(&b'.') {
            output.write_all(b".")?;
        }
        ends = line.ends_with(b"\n");
        output.write_all(&line)?;
    }
    if ends {
        Ok(())
    } else {
        output.write_all(b"\r\n")
    }
}

/// A line may be as long as it likes; what is held of it is this much.
const PIECE_BYTES: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
