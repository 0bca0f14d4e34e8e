//! The thread that runs the drop folder, and sleeps while the folder is empty.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mio::Waker;

use crate::clock::Instant;
use crate::config::Config;
use crate::engine::drop_folder::DropRules;
use crate::engine::log::Line;
use crate::limits::{SET_ASIDE_INTERVAL, SET_ASIDE_LINES_MAX};
use crate::shell::process::time::Clock;
use crate::shell::spool::drop_folder::{Relay, Runner, is_anything_there};

/// The event loop's side.
pub(in crate::shell) struct DropRuns {
    folder: PathBuf,
    /// Wakes the thread.
    wake: SyncSender<()>,
    rules: Arc<Mutex<Arc<DropRules>>>,
    said: Receiver<FromRun>,
    /// Reports to `admin` that have not been sent yet.
    untold: Vec<String>,
    /// Earliest time of the next report to `admin`.
    tell_at: Instant,
}

/// A message from the thread.
pub(in crate::shell) enum FromRun {
    /// Treat this as a submission by the user.
    Connect(UnixStream, u32),
    /// The result of a file.
    Log(Line),
    /// A file that was set aside, to be reported to `admin`.
    SetAside(String),
}

/// The thread's side.
struct Side {
    say: Sender<FromRun>,
    waker: Arc<Waker>,
    rules: Arc<Mutex<Arc<DropRules>>>,
}

impl DropRuns {
    /// Starts the thread for `folder`; files that are not messages go to `damaged`.
    pub(in crate::shell) fn start(
        folder: PathBuf,
        damaged: PathBuf,
        clock: Clock,
        waker: Arc<Waker>,
        config: &Config,
    ) -> io::Result<Self> {
        let (say, said) = mpsc::channel();
        let (wake, woken) = mpsc::sync_channel(1);
        let rules = Arc::new(Mutex::new(Arc::new(DropRules::of(config))));
        let mut side = Side {
            say,
            waker,
            rules: Arc::clone(&rules),
        };
        let mut runner = Runner::new(folder.clone(), damaged, clock);
        // The loop is gone when nothing can wake it any more.
        let run = move || {
            while woken.recv().is_ok() {
                runner.run(&mut side);
            }
        };
        thread::Builder::new().name("drop".into()).spawn(run)?;
        Ok(Self {
            folder,
            wake,
            rules,
            said,
            untold: Vec::new(),
            tell_at: Instant::START,
        })
    }

    /// Has the folder gone through if there is something in it.
    pub(in crate::shell) fn look(&self, config: &Config) {
        let rules = Arc::new(DropRules::of(config));
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        if is_anything_there(&self.folder) {
            match self.wake.try_send(()) {
                // It looks again by itself as long as it is at work.
                Ok(()) | Err(TrySendError::Full(())) | Err(TrySendError::Disconnected(())) => {}
            }
        }
    }

    /// A file was set aside. Past the ceiling one line represents all others.
    pub(in crate::shell) fn note(&mut self, what: String) {
        if self.untold.len() <= SET_ASIDE_LINES_MAX {
            self.untold.push(what);
        }
    }

    /// The report that is due for `admin`: a user who leaves such files by the thousand causes one message per hour.
    pub(in crate::shell) fn take_untold(&mut self, now: Instant) -> Vec<String> {
        if self.untold.is_empty() || now < self.tell_at {
            return Vec::new();
        }
        self.tell_at = now.after(SET_ASIDE_INTERVAL);
        std::mem::take(&mut self.untold)
    }

    /// The next thing that the thread said.
    pub(in crate::shell) fn next(&self) -> Option<FromRun> {
        self.said.try_recv().ok()
    }
}

impl Side {
    fn say(&self, what: FromRun) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.say.send(what).map_err(gone)?;
        self.waker.wake()
    }
}

impl Relay for Side {
    fn connect(&mut self, uid: u32) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.say(FromRun::Connect(theirs, uid))?;
        Ok(ours)
    }

    fn log(&mut self, line: Line) {
        // The receiver is gone while the process ends.
        drop(self.say(FromRun::Log(line)));
    }

    fn tell(&mut self, what: String) {
        drop(self.say(FromRun::SetAside(what)));
    }

    fn rules(&mut self) -> Arc<DropRules> {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&rules)
    }
}
