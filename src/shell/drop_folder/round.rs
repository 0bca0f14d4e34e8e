//! One round through the drop folder: which files are looked at, in which order, and what becomes of each.
//!
//! A user's files are looked at in turn with those of others, oldest first and a bounded number of them, so that whoever
//! leaves ten thousand keeps nobody waiting. What was deferred is looked at again after a while that doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags};

use super::checked::{Checked, Rejected};
use super::play::{Reason, Submitted, play, send};
use super::returned::{self, Notice};
use super::{COMPLETE, Draft, sync_folder};
use crate::address::{Domain, Mailbox, ReversePath};
use crate::date::Timestamp;
use crate::engine::log::{Level, Line};
use crate::entropy::Entropy as _;
use crate::envelope::Recipient;
use crate::limits::{
    DROP_FILES_PER_USER_MAX, DROP_RETRY_MAX, DROP_RETRY_MIN, DROP_ROUND_MAX, DROP_TRIES_MAX,
    DROP_USERS_MAX,
};
use crate::queue_id::QueueId;
use crate::shell::time::{self, SystemEntropy};

/// What the configuration says of files in the drop folder.
#[derive(Clone, Debug)]
pub(in crate::shell) struct Rules {
    /// This host.
    pub(in crate::shell) hostname: Domain,
    /// The domains that are served.
    pub(in crate::shell) served: BTreeSet<Domain>,
    /// Who gets a DSN that nobody else takes.
    pub(in crate::shell) admin: Option<Mailbox>,
    /// Bytes of a message.
    pub(in crate::shell) max_message_size: u64,
    /// How long a message is tried.
    pub(in crate::shell) give_up_after: Duration,
}

/// Makes a connection to the relay for a user.
pub(super) type Connect<'a> = &'a dyn Fn(u32) -> io::Result<UnixStream>;

/// When which file is looked at again.
#[derive(Debug, Default)]
pub(in crate::shell) struct Tries(BTreeMap<OsString, Try>);

#[derive(Debug)]
struct Try {
    wait: Duration,
    at: Timestamp,
}

impl Tries {
    fn is_due(&self, name: &OsStr, now: Timestamp) -> bool {
        self.0.get(name).is_none_or(|next| next.at <= now)
    }

    /// Notes that a file is to wait; says for how long.
    fn defer(&mut self, name: &OsStr, now: Timestamp) -> Duration {
        let last = self.0.get(name).map(|last| last.wait);
        let wait = last.map_or(DROP_RETRY_MIN, |wait| wait.saturating_mul(2));
        let wait = wait.min(DROP_RETRY_MAX);
        if last.is_some() || self.0.len() < DROP_TRIES_MAX {
            let at = now.after(wait);
            self.0.insert(name.to_owned(), Try { wait, at });
        }
        wait
    }
}

/// Whether a round may find something; looks at a few names only.
pub(in crate::shell) fn is_anything_there(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    let mut looked = names.by_ref().take(NAMES_LOOKED_AT);
    looked.any(|name| is_complete(&name)) || names.next().is_some()
}

fn is_complete(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b".") && name.ends_with(COMPLETE.as_bytes())
}

/// The files of this round: the oldest ones of each user, the users in turn.
pub(super) fn waiting(folder: &Path, tries: &mut Tries, now: Timestamp) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut users: BTreeMap<u32, BTreeSet<(i64, OsString)>> = BTreeMap::new();
    let mut known = Tries::default();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_complete(&name) {
            continue;
        }
        let due = tries.is_due(&name, now);
        if let Some((name, last)) = tries.0.remove_entry(&name) {
            known.0.insert(name, last);
        }
        // Not of what a link leads to.
        let Ok(about) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        if !due || users.len() >= DROP_USERS_MAX && !users.contains_key(&about.uid()) {
            continue;
        }
        let files = users.entry(about.uid()).or_default();
        files.insert((about.mtime(), name));
        if files.len() > DROP_FILES_PER_USER_MAX {
            files.pop_last();
        }
    }
    // What is gone is forgotten.
    *tries = known;
    let mut files = Vec::new();
    while !users.is_empty() {
        users.retain(|_, names| match names.pop_first() {
            Some((_, name)) => {
                files.push(folder.join(name));
                true
            }
            None => false,
        });
    }
    files
}

/// Goes through the folder once. What cannot be taken goes to `damaged`; each thing that happens is a line of the log.
pub(in crate::shell) fn send_all(
    folder: &Path,
    damaged: &Path,
    rules: &Rules,
    tries: &mut Tries,
    connect: Connect<'_>,
) -> Vec<Line> {
    let begun = time::wall();
    let mut lines = Vec::new();
    for path in waiting(folder, tries, begun) {
        let now = time::wall();
        if now.since(begun) >= DROP_ROUND_MAX {
            break;
        }
        let mut visit = Visit {
            path: &path,
            damaged,
            rules,
            tries,
            connect,
            now,
            lines: &mut lines,
        };
        visit.settle();
    }
    lines
}

/// One file in one round.
struct Visit<'a> {
    path: &'a Path,
    damaged: &'a Path,
    rules: &'a Rules,
    tries: &'a mut Tries,
    connect: Connect<'a>,
    now: Timestamp,
    lines: &'a mut Vec<Line>,
}

impl Visit<'_> {
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn line(&self, level: Level, event: &'static str) -> Line {
        Line::new(level, event).with("file", self.name().to_string_lossy())
    }

    fn settle(&mut self) {
        let own = own_uid();
        let checked = match Checked::open(self.path, own, self.rules.max_message_size) {
            Ok(checked) => checked,
            Err(Rejected::Form(cause)) => return self.set_aside(cause),
            // Its owner has taken it back.
            Err(Rejected::Io(error)) if error.kind() == io::ErrorKind::NotFound => return,
            Err(Rejected::Io(error)) => return self.wait(&error.to_string()),
        };
        let results = match (self.connect)(checked.uid) {
            Ok(stream) => play(&checked, stream),
            Err(error) => return self.wait(&error.to_string()),
        };
        let results = self.give_up(&checked, results);
        self.act_on(&checked, &results);
    }

    /// What was tried for too long is refused.
    fn give_up(&self, checked: &Checked, results: Vec<Submitted>) -> Vec<Submitted> {
        if self.now.since(checked.since) < self.rules.give_up_after {
            return results;
        }
        let give_up = |result| match result {
            Submitted::Deferred(reason) => Submitted::Refused(reason),
            result => result,
        };
        results.into_iter().map(give_up).collect()
    }

    fn act_on(&mut self, checked: &Checked, results: &[Submitted]) {
        let rows = || checked.envelope.rcpt.iter().zip(results);
        let refused: Vec<(&Recipient, &Reason)> = rows()
            .filter_map(|((_, recipient), result)| match result {
                Submitted::Refused(reason) => Some((recipient, reason)),
                _ => None,
            })
            .collect();
        let told = self.tell(checked, &refused);
        let later: Vec<&str> = rows()
            .filter(|(_, result)| match result {
                Submitted::Taken => false,
                Submitted::Refused(_) => told.is_err(),
                Submitted::Deferred(_) => true,
            })
            .map(|((line, _), _)| line.as_str())
            .collect();
        let deferred = results.iter().find_map(|result| match result {
            Submitted::Deferred(reason) => Some(reason.text.as_str()),
            _ => None,
        });
        let cause = told.err().or(deferred.map(str::to_owned));
        if later.len() == results.len() {
            return self.wait(&cause.unwrap_or_default());
        }
        if !later.is_empty()
            && let Err(error) = self.replace(checked, &later)
        {
            // It stays whole: who has the message gets it again, nobody misses it.
            return self.wait(&error.to_string());
        }
        let removed = fs::remove_file(self.path).and_then(|()| sync_folder(self.folder()));
        let taken = results.iter().filter(|result| **result == Submitted::Taken);
        let line = self
            .line(Level::Info, "drop-taken")
            .with("uid", checked.uid)
            .with("rcpts", taken.count());
        let line = line.with("refused", refused.len());
        let line = line.with("later", later.len());
        self.lines.push(line.with_some("error", removed.err()));
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Leaves a file of our own for those recipients that are to wait.
    fn replace(&self, checked: &Checked, later: &[&str]) -> io::Result<()> {
        let since = checked.since.seconds();
        let mut lines = vec![
            format!("OWNER {} {since}", checked.uid),
            checked.envelope.mail.clone(),
        ];
        lines.extend(later.iter().map(|line| (*line).to_owned()));
        let mut message = checked.message()?;
        let draft = Draft::write(self.folder(), &lines, &mut message.by_ref())?;
        if !checked.is_unchanged()? {
            return Err(io::Error::other("the file changes while it is read"));
        }
        draft.complete()
    }

    /// Tells the sender of these recipients, or says why that is to be tried again.
    fn tell(&mut self, checked: &Checked, refused: &[(&Recipient, &Reason)]) -> Result<(), String> {
        let wants = |(recipient, _): &&(&Recipient, &Reason)| recipient.notify.wants_failure();
        let rows: Vec<(&Recipient, &Reason)> = refused.iter().filter(wants).copied().collect();
        if rows.is_empty() {
            return Ok(());
        }
        // What the null sender sent is not returned to anybody (RFC 5321 section 6.1), but somebody is to know of it.
        let sender = match &checked.envelope.from {
            ReversePath::Mailbox(mailbox) => Some(mailbox),
            ReversePath::Null => None,
        };
        let admin = self.rules.admin.clone();
        let mut entropy = SystemEntropy::default();
        let id = QueueId::new(entropy.next_u64());
        let notice = Notice {
            rules: self.rules,
            id,
            now: self.now,
        };
        let header = checked.header().unwrap_or_default();
        let mut last = None;
        // A hook that refuses the message for its header refuses a DSN that shows it.
        let ways = sender.into_iter().chain(admin.as_ref());
        let ways = ways.flat_map(|to| [(to, header.as_slice()), (to, &[])]);
        for (to, header) in ways {
            let message = returned::build(checked, &rows, header, to, &notice, &mut entropy);
            let mut mail = format!("MAIL FROM:<> SIZE={}", message.bytes.len());
            mail.push_str(if message.eight_bit {
                " BODY=8BITMIME"
            } else {
                ""
            });
            mail.push_str(if message.smtputf8 { " SMTPUTF8" } else { "" });
            // As the sender, so that what it may send in an hour holds for DSNs that it causes, too.
            let stream = (self.connect)(checked.uid).map_err(|error| error.to_string())?;
            let rcpt = format!("RCPT TO:<{to}> NOTIFY=NEVER");
            match send(&mail, &rcpt, &message.bytes, stream) {
                Ok(()) => {
                    let line = self.line(Level::Info, "drop-returned").with("id", id);
                    let line = line.with("to", to).with("rcpts", rows.len());
                    let cause = rows.first().map(|(_, reason)| &reason.text);
                    self.lines.push(line.with_some("cause", cause));
                    return Ok(());
                }
                Err(Submitted::Refused(reason)) => last = Some(reason.text),
                Err(Submitted::Deferred(reason)) => return Err(reason.text),
                Err(Submitted::Taken) => {}
            }
        }
        let line = self.line(Level::Error, "drop-unreturned").with("id", id);
        let line = line
            .with("rcpts", rows.len())
            .with_some("cause", last.as_deref());
        self.lines.push(line);
        // As long as nobody can be told the message is not thrown away.
        Err(last.unwrap_or_else(|| "nobody can be told; set admin in chopar.toml".to_owned()))
    }

    fn wait(&mut self, cause: &str) {
        let name = self.name().to_owned();
        let wait = self.tries.defer(&name, self.now);
        let line = self.line(Level::Warning, "drop-waits").with("cause", cause);
        self.lines.push(line.with("s", wait.as_secs()));
    }

    /// Moves what is not a message out of the way.
    fn set_aside(&mut self, cause: &str) {
        let to = self.damaged.join(self.name());
        // Whoever names the files must not replace what was set aside before.
        let aside = || {
            rustix::fs::renameat_with(CWD, self.path, CWD, &to, RenameFlags::NOREPLACE)?;
            io::Result::Ok(to.clone())
        };
        // A folder of somebody else's cannot be moved to another one, and its name may be taken.
        let rename = |_| {
            let mut random = [0; 16];
            SystemEntropy::default().fill(&mut random);
            let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let to = self.folder().join(format!(".{random}.bad"));
            fs::rename(self.path, &to).map(|()| to)
        };
        let moved = aside().or_else(rename);
        let line = self.line(Level::Error, "drop-refused").with("cause", cause);
        let line = line.with_some("to", moved.as_ref().ok().map(|to| to.display()));
        if moved.is_err() {
            let name = self.name().to_owned();
            self.tries.defer(&name, self.now);
        }
        self.lines.push(line.with_some("error", moved.err()));
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

const NAMES_LOOKED_AT: usize = 64;
