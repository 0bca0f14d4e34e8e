//! The thread that renews certificates, from the event loop's side: it gets new configurations and reports its results.
//!
//! Its work is in [`crate::setup`], which passes the thread's function to [`crate::shell::daemon::run`]. Only this
//! thread keeps the right to bind low ports, and it ends with the process.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mio::Waker;

use crate::config::Config;
use crate::engine::log::Line;
use crate::shell::helper::HelperClient;
use crate::shell::net::passed::ChallengeSockets;
use crate::shell::process::log;

/// The loop's side.
pub(super) struct Renewals {
    newest: Newest,
    reloaded: SyncSender<()>,
    said: Receiver<Said>,
}

/// The paths that the thread needs.
pub(super) struct RenewalPlace {
    /// The configuration folder.
    pub(super) folder: PathBuf,
    pub(super) config: Arc<Config>,
    /// Sockets that were passed for challenges.
    pub(super) sockets: ChallengeSockets,
    /// Access to the helper.
    pub(super) hook: HelperClient,
}

/// The latest configuration, if the thread has not taken it; it replaces an earlier one.
type Newest = Arc<Mutex<Option<Arc<Config>>>>;

enum Said {
    Log(Line),
    Renewed,
}

/// The thread's side.
pub struct RenewalContext {
    /// The configuration folder.
    pub folder: PathBuf,
    /// The latest configuration.
    pub config: Arc<Config>,
    /// Sockets that were passed for challenges.
    pub sockets: ChallengeSockets,
    /// Access to the helper.
    pub hook: HelperClient,
    newest: Newest,
    reloaded: Receiver<()>,
    say: Sender<Said>,
    waker: Arc<Waker>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waited {
    /// The time is over.
    Enough,
    /// There is another configuration.
    Reloaded,
    /// The daemon ends.
    Ended,
}

impl RenewalContext {
    /// Waits for this time, or until something happens.
    pub fn wait(&mut self, pause: Duration) -> Waited {
        match self.reloaded.recv_timeout(pause) {
            Ok(()) => {
                let newest = self
                    .newest
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(config) = newest {
                    self.config = config;
                }
                Waited::Reloaded
            }
            Err(RecvTimeoutError::Timeout) => Waited::Enough,
            Err(RecvTimeoutError::Disconnected) => Waited::Ended,
        }
    }

    /// Sends a log line to the event loop, which is the only writer.
    pub fn log(&self, line: Line) {
        self.say(Said::Log(line));
    }

    /// Reports a new certificate.
    pub fn renewed(&self) {
        self.say(Said::Renewed);
    }

    fn say(&self, what: Said) {
        // The receiver is gone while the process ends.
        drop(self.say.send(what));
        drop(self.waker.wake());
    }
}

impl Renewals {
    /// Starts the thread.
    pub(super) fn start(
        place: RenewalPlace,
        waker: &Arc<Waker>,
        life: impl FnOnce(RenewalContext) + Send + 'static,
    ) -> io::Result<Self> {
        let newest = Newest::default();
        // One wake-up suffices, whatever the number of new configurations.
        let (reload, reloaded) = mpsc::sync_channel(1);
        let (say, said) = mpsc::channel();
        let context = RenewalContext {
            folder: place.folder,
            config: place.config,
            sockets: place.sockets,
            hook: place.hook,
            newest: Arc::clone(&newest),
            reloaded,
            say,
            waker: Arc::clone(waker),
        };
        let thread = thread::Builder::new().name("renewal".into());
        thread.spawn(move || life(context))?;
        Ok(Self {
            newest,
            reloaded: reload,
            said,
        })
    }

    /// Passes on a new configuration.
    pub(super) fn reconfigure(&self, config: Arc<Config>) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(config);
        // A thread that has ended needs nothing, and one that was woken already will take the configuration.
        let _is_told: bool = self.reloaded.try_send(()).is_ok();
    }

    /// Logs the lines of the thread; returns whether there is a new certificate.
    pub(super) fn take_lines(&self) -> bool {
        let mut is_renewed = false;
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::Log(line) => log::write(&line),
                Said::Renewed => is_renewed = true,
            }
        }
        is_renewed
    }
}
