//! Sends what lies in the drop folder: one thread at a time, and only while there is something.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use mio::Waker;

use super::drop_folder::{Rules, Tries, is_anything_there, send_all};
use crate::config::Config;
use crate::engine::log::Line;

/// The folder and the thread.
pub(super) struct DropRuns {
    folder: PathBuf,
    damaged: PathBuf,
    waker: Arc<Waker>,
    sender: Sender<FromRun>,
    receiver: Receiver<FromRun>,
    running: bool,
    tries: Tries,
}

/// What the thread says.
pub(super) enum FromRun {
    /// Treat this as a submission by the user.
    Connect(UnixStream, u32),
    /// What became of the files, and which of them wait.
    Done(Vec<Line>, Tries),
}

impl DropRuns {
    /// Watches `folder`; what is refused goes to `damaged`.
    pub(super) fn new(folder: PathBuf, damaged: PathBuf, waker: Arc<Waker>) -> Self {
        let (sender, receiver) = mpsc::channel();
        Self {
            folder,
            damaged,
            waker,
            sender,
            receiver,
            running: false,
            tries: Tries::default(),
        }
    }

    /// Starts a run if there is something and none is under way.
    pub(super) fn start(&mut self, config: &Config) {
        if self.running || !is_anything_there(&self.folder) {
            return;
        }
        let rules = Rules {
            hostname: config.hostname.clone(),
            served: config.domains.keys().cloned().collect(),
            admin: config.admin.clone(),
            max_message_size: config.max_message_size,
            give_up_after: config.delivery.give_up_after,
        };
        let mut tries = std::mem::take(&mut self.tries);
        let folder = self.folder.clone();
        let (damaged, waker, sender) = (
            self.damaged.clone(),
            Arc::clone(&self.waker),
            self.sender.clone(),
        );
        let run = move || {
            let say = |what| {
                sender
                    .send(what)
                    .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
                waker.wake()
            };
            let connect = |uid| {
                let (ours, theirs) = UnixStream::pair()?;
                say(FromRun::Connect(theirs, uid))?;
                Ok(ours)
            };
            let lines = send_all(&folder, &damaged, &rules, &mut tries, &connect);
            // Nobody listens while the process ends.
            drop(say(FromRun::Done(lines, tries)));
        };
        self.running = thread::Builder::new()
            .name("drop".into())
            .spawn(run)
            .is_ok();
    }

    /// The next thing that the thread said.
    pub(super) fn next(&mut self) -> Option<FromRun> {
        let mut said = self.receiver.try_recv().ok();
        if let Some(FromRun::Done(_, tries)) = &mut said {
            self.running = false;
            self.tries = std::mem::take(tries);
        }
        said
    }
}
