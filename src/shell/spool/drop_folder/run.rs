//! Runs the drop folder: opens files and sessions as [`DropTurns`] and [`Visit`] request, many at a time, in one
//! thread.
//!
//! ```text
//!   look --> begin what may be begun --> poll the sessions --> read, write, settle --.
//!     ^                ^------------------------------------------------------------'
//!     '-- after an interval, as long as anything is under way or waits
//! ```

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, RenameFlags};

use super::draft::{Draft, random_name, sync_folder};
use super::opened::Opened;
use crate::clock::Instant;
use crate::engine::drop_folder::{
    DropEntry, DropRules, DropTurns, Rejected, Settlement, Task, Visit, VisitStep, is_complete,
};
use crate::engine::log::{Level, Line};
use crate::escape::Escaped;
use crate::limits::{DROP_FOLDER_INTERVAL, DROP_REPLY_TIMEOUT};
use crate::shell::process::time::{Clock, SystemEntropy};
use crate::smtp::data::Encoder;

/// What a run needs from the relay.
pub(in crate::shell) trait Relay {
    /// A connection, as a process of this user.
    fn connect(&mut self, uid: u32) -> io::Result<UnixStream>;
    /// Writes a line to the log.
    fn log(&mut self, line: Line);
    /// Reports to `admin` that a file was set aside.
    fn tell(&mut self, what: String);
    /// The current settings.
    fn rules(&mut self) -> Arc<DropRules>;
}

/// The folder, and the state of its files.
pub(in crate::shell) struct Runner {
    folder: PathBuf,
    damaged: PathBuf,
    clock: Clock,
    turns: DropTurns,
    ongoing: Vec<Ongoing>,
}

/// A file that is being sent.
struct Ongoing {
    name: OsString,
    visit: Visit,
    opened: Opened,
    link: Option<Link>,
}

/// A session with the relay.
struct Link {
    stream: UnixStream,
    /// Output.
    out: Vec<u8>,
    /// The message, while it is sent: its bytes that were read so far.
    body: Option<(Encoder, u64)>,
    deadline: Instant,
}

impl Runner {
    /// A runner for `folder`; files that are not messages go to `damaged`.
    pub(in crate::shell) fn new(folder: PathBuf, damaged: PathBuf, clock: Clock) -> Self {
        Self {
            folder,
            damaged,
            clock,
            turns: DropTurns::new(own_uid()),
            ongoing: Vec::new(),
        }
    }

    /// Runs until nothing is in progress and nothing may be started.
    pub(in crate::shell) fn run(&mut self, relay: &mut dyn Relay) {
        let mut look_at = Instant::START;
        loop {
            let now = self.clock.read();
            if look_at <= now.instant {
                look_at = now.instant.after(DROP_FOLDER_INTERVAL);
                let entries = entries(&self.folder);
                self.turns.look(entries, now.instant);
            }
            while let Some(task) = self.turns.begin_next() {
                match task {
                    Task::Visit(name) => self.begin(name, relay),
                    Task::Settle(name, settlement) => self.settle_again(&name, settlement, relay),
                }
            }
            if self.ongoing.is_empty() {
                return;
            }
            self.wait(look_at);
            for mut one in std::mem::take(&mut self.ongoing) {
                let step = one.serve(self.clock.read().instant);
                self.go_on(one, step, relay);
            }
        }
    }

    /// Sleeps until a session is ready, or something is due.
    fn wait(&self, look_at: Instant) {
        let now = self.clock.read().instant;
        let links = || self.ongoing.iter().filter_map(|one| one.link.as_ref());
        let next = links()
            .map(|link| link.deadline)
            .fold(look_at, Instant::min);
        let wait = next.since(now).saturating_add(Duration::from_millis(1));
        let flags = |link: &Link| match link.has_output() {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        let mut fds: Vec<PollFd<'_>> = links()
            .map(|link| PollFd::new(&link.stream, flags(link)))
            .collect();
        let wait = rustix::event::Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        // If it fails, each session is examined anyway.
        if poll(&mut fds, Some(&wait)).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn begin(&mut self, name: OsString, relay: &mut dyn Relay) {
        let rules = relay.rules();
        let path = self.folder.join(&name);
        match Opened::open(&path, own_uid(), rules.max_message_size) {
            Ok((opened, form)) => {
                let shown = name.to_string_lossy().into_owned();
                let now = self.clock.read().wall;
                let (visit, step) = Visit::new(shown, form, rules, now);
                let one = Ongoing {
                    name,
                    visit,
                    opened,
                    link: None,
                };
                self.go_on(one, step, relay);
            }
            Err(Rejected::Form(cause)) => self.set_aside(&name, cause, relay),
            // Its owner has taken it back.
            Err(Rejected::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.turns.close(&name, None);
            }
            Err(Rejected::Io(error)) => self.defer(&name, &error.to_string(), relay),
        }
    }

    /// Performs the steps of a visit, until it must wait.
    fn go_on(&mut self, mut one: Ongoing, mut step: VisitStep, relay: &mut dyn Relay) {
        loop {
            let now = self.clock.read().instant;
            let done = match step {
                VisitStep::Connect(uid) => {
                    one.hang_up();
                    let link = relay.connect(uid);
                    let link = link.and_then(|stream| Link::new(stream, now));
                    link.map(|link| one.link = Some(link))
                }
                VisitStep::Send(bytes) => one.send(&bytes, now),
                VisitStep::SendMessage => one.send_message(now),
                VisitStep::Wait => Ok(()),
                VisitStep::Settle(settlement) => return self.settle(one, settlement, relay),
            };
            step = match done {
                Ok(()) => {
                    self.ongoing.push(one);
                    return;
                }
                Err(error) => one.lose(&error.to_string()),
            };
        }
    }

    fn settle(&mut self, mut one: Ongoing, settlement: Settlement, relay: &mut dyn Relay) {
        one.hang_up();
        for line in one.visit.take_lines() {
            relay.log(line);
        }
        if let Settlement::Wait { cause } = settlement {
            return self.defer(&one.name, &cause, relay);
        }
        let (left, error) = self.perform(&one.name, &one.opened, one.visit.form().uid, settlement);
        relay.log(one.visit.taken_line().with_some("error", error));
        self.turns.close(&one.name, left);
    }

    /// Retries the settlement of a file that was sent.
    fn settle_again(&mut self, name: &OsStr, settlement: Settlement, relay: &mut dyn Relay) {
        let path = self.folder.join(name);
        let most = relay.rules().max_message_size;
        let (left, error) = match Opened::open(&path, own_uid(), most) {
            Ok((opened, form)) => self.perform(name, &opened, form.uid, settlement),
            // Its owner has taken it back, or has put something else there.
            Err(Rejected::Form(_)) => (None, None),
            Err(Rejected::Io(error)) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(Rejected::Io(error)) => (Some(settlement), Some(error)),
        };
        if let Some(error) = error {
            let line = Line::new(Level::Error, "drop-stuck").with("file", name.to_string_lossy());
            relay.log(line.with("error", error));
        }
        self.turns.close(name, left);
    }

    /// Settles a file; returns the part that failed, and why.
    fn perform(
        &self,
        name: &OsStr,
        opened: &Opened,
        uid: u32,
        settlement: Settlement,
    ) -> (Option<Settlement>, Option<io::Error>) {
        if let Settlement::Replace(lines) = &settlement
            && let Err(error) = self.replace(opened, uid, lines)
        {
            return (Some(settlement), Some(error));
        }
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                (Some(Settlement::Remove), Some(error))
            }
            // It is gone for this process; after a power cut it may be there again.
            _ => (None, sync_folder(&self.folder).err()),
        }
    }

    /// Leaves a file of our own for the deferred recipients.
    fn replace(&self, opened: &Opened, uid: u32, lines: &[String]) -> io::Result<()> {
        let draft = Draft::write_for(&self.folder, Some(uid), lines, &mut opened.message()?)?;
        opened.check_unchanged()?;
        draft.complete()
    }

    fn defer(&mut self, name: &OsStr, cause: &str, relay: &mut dyn Relay) {
        let wait = self.turns.defer(name, self.clock.read().instant);
        let line = Line::new(Level::Warning, "drop-waits").with("file", name.to_string_lossy());
        relay.log(line.with("cause", cause).with("s", wait.as_secs()));
    }

    /// Moves a file that is not a message out of the way.
    fn set_aside(&mut self, name: &OsStr, cause: &str, relay: &mut dyn Relay) {
        let path = self.folder.join(name);
        let moved = move_aside(&path, &self.damaged.join(name)).or_else(|_| {
            // A folder of another user cannot be moved to another folder, and its name may be taken.
            let to = self.folder.join(format!(".{}.bad", random_name()));
            fs::rename(&path, &to).map(|()| to)
        });
        let line = Line::new(Level::Error, "drop-refused").with("file", name.to_string_lossy());
        let line = line.with("cause", cause);
        let line = line.with_some("to", moved.as_ref().ok().map(|to| to.display()));
        match moved {
            Ok(_) => {
                let shown = name.to_string_lossy();
                let shown = Escaped(shown.as_bytes());
                relay.tell(format!("{shown}: {cause}"));
                self.turns.close(name, None);
            }
            Err(_) => drop(self.turns.defer(name, self.clock.read().instant)),
        }
        relay.log(line.with_some("error", moved.err()));
    }
}

impl Ongoing {
    /// Reads and writes if ready.
    fn serve(&mut self, now: Instant) -> VisitStep {
        let Some(link) = &mut self.link else {
            return self.lose("there is no session");
        };
        if let Err(error) = link.write(&self.opened, now) {
            return self.lose(&error.to_string());
        }
        let mut buffer = [0; 4096];
        match link.stream.read(&mut buffer) {
            Ok(0) => self.lose("the relay has closed the session"),
            Ok(len) => {
                link.deadline = now.after(DROP_REPLY_TIMEOUT);
                let bytes = buffer.get(..len).unwrap_or_default();
                self.visit.on_bytes(bytes, &mut SystemEntropy::default())
            }
            Err(error) if is_passing(&error) && link.deadline > now => VisitStep::Wait,
            Err(error) if is_passing(&error) => self.lose("the relay does not answer"),
            Err(error) => self.lose(&error.to_string()),
        }
    }

    fn send(&mut self, bytes: &[u8], now: Instant) -> io::Result<()> {
        let link = self.link.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        link.out.extend_from_slice(bytes);
        link.deadline = now.after(DROP_REPLY_TIMEOUT);
        link.write(&self.opened, now)
    }

    fn send_message(&mut self, now: Instant) -> io::Result<()> {
        let link = self.link.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        link.body = Some((Encoder::default(), 0));
        link.write(&self.opened, now)
    }

    /// The session is of no use any more.
    fn lose(&mut self, cause: &str) -> VisitStep {
        self.link = None;
        self.visit.on_lost(cause, &mut SystemEntropy::default())
    }

    /// Ends the session, ignoring errors.
    fn hang_up(&mut self) {
        if let Some(mut link) = self.link.take() {
            drop(link.stream.write(b"QUIT\r\n"));
        }
    }
}

impl Link {
    fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            out: Vec::new(),
            body: None,
            deadline: now.after(DROP_REPLY_TIMEOUT),
        })
    }

    fn has_output(&self) -> bool {
        !self.out.is_empty() || self.body.is_some()
    }

    /// Writes as much as the relay takes; the message is read while it is sent.
    fn write(&mut self, opened: &Opened, now: Instant) -> io::Result<()> {
        loop {
            if self.out.is_empty() && !self.read_piece(opened)? {
                return Ok(());
            }
            match self.stream.write(&self.out) {
                Ok(len) => {
                    self.out.drain(..len.min(self.out.len()));
                    self.deadline = now.after(DROP_REPLY_TIMEOUT);
                }
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the next piece of the message; false if there is none.
    fn read_piece(&mut self, opened: &Opened) -> io::Result<bool> {
        let Some((mut encoder, at)) = self.body.take() else {
            return Ok(false);
        };
        let mut piece = vec![0; PIECE_BYTES];
        match opened.piece(at, &mut piece)? {
            0 => encoder.finish(&mut self.out),
            len => {
                encoder.encode(piece.get(..len).unwrap_or_default(), &mut self.out);
                self.body = Some((encoder, at.saturating_add(len as u64)));
            }
        }
        Ok(true)
    }
}

/// Whether a run may find something; examines only a few names.
pub(in crate::shell) fn is_anything_there(folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let mut looked = names.by_ref().take(NAMES_LOOKED_AT);
    looked.any(|name| is_complete(name.as_bytes())) || names.next().is_some()
}

fn entries(folder: &Path) -> Vec<DropEntry> {
    use std::os::unix::ffi::OsStrExt as _;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let complete = entries.filter(|entry| is_complete(entry.file_name().as_bytes()));
    complete
        .filter_map(|entry| {
            // Not of the target of a link.
            let about = fs::symlink_metadata(entry.path()).ok()?;
            Some(DropEntry {
                name: entry.file_name(),
                uid: about.uid(),
                written: about.mtime(),
            })
        })
        .collect()
}

/// Moves a file without replacing one: its name is chosen by a user, who must not overwrite what was set aside before.
fn move_aside(from: &Path, to: &Path) -> io::Result<PathBuf> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
    Ok(to.to_owned())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

const NAMES_LOOKED_AT: usize = 64;
/// Bytes of a message that are read at a time.
const PIECE_BYTES: usize = 64 * 1024;
