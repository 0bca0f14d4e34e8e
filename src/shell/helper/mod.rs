//! The helper: the only process outside the sandbox, which does what the relay may not do.
//!
//! ```text
//!   relay (sandbox) ── control socket: target + one end of a socket pair ──> helper ── a thread for each
//!         └────────────── LMTP, or a question to the hook ──────────────────────┘        |
//!                                                             maildir:/path · | program · reports: · hooks/post-data
//! ```
//!
//! It is this binary, started under the service's account before the sandbox closes, and has only the control socket.
//! Relay and helper end together. When the socket closes, the helper waits briefly for running work, kills the rest,
//! and ends. When the helper ends, the relay stops with a failure: its sandbox does not let it start a process, so the
//! service manager must start both.
//!
//! Invariant: the helper does not trust the relay, which talks to the network and may be under an attacker's control.
//! The helper accepts a target only if the configuration, which it reads itself, contains it; no part of a command, no
//! path and no name of a variable comes from the relay; and every wait, buffer and number of threads is limited.

mod client;
mod content;
mod directory;
pub mod dns_hook;
mod lmtp;
mod maildir;
mod program;
mod question;
pub mod reports;
mod serve;
mod shared;

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use mio::{Interest, Registry, Token};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::engine::log::{Level, Line};
use crate::shell::process::log;
use client::connect;

pub use client::HelperClient;
pub use serve::serve;

/// The argument that makes this binary the helper.
pub const WORD: &str = "helper";

/// The relay's end of the helper.
#[derive(Debug)]
pub(super) struct Helper(Option<mio::net::UnixStream>);

impl Helper {
    /// Starts the helper. Without one, the relay continues and defers everything that needs it.
    pub(super) fn start(folder: &Path) -> Self {
        match begin(folder) {
            Ok(control) => Self(Some(control)),
            Err(error) => {
                let cause = format!("{OWN_PROGRAM}: {error}");
                log::write(&Line::new(Level::Error, "helper").with("cause", cause));
                Self(None)
            }
        }
    }

    /// Opens a connection to this target.
    pub(super) fn connect(&mut self, target: &str) -> io::Result<mio::net::UnixStream> {
        let control = self.0.as_ref().ok_or(ErrorKind::NotFound)?;
        let ours = connect(control.as_fd(), target)?;
        ours.set_nonblocking(true)?;
        Ok(mio::net::UnixStream::from_std(ours))
    }

    /// Access for a thread other than the event loop.
    pub(super) fn client(&self) -> HelperClient {
        let control = self.0.as_ref();
        HelperClient(control.and_then(|control| control.as_fd().try_clone_to_owned().ok()))
    }

    /// Registers it with the poll, which reports its end.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.0 {
            Some(control) => registry.register(control, token, Interest::READABLE),
            None => Ok(()),
        }
    }
}

/// The path of this binary, valid for as long as it runs.
const OWN_PROGRAM: &str = "/proc/self/exe";

fn begin(folder: &Path) -> io::Result<mio::net::UnixStream> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Command::new(OWN_PROGRAM)
        .arg0("chopar")
        .arg(WORD)
        .arg(folder)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    // This type preserves the boundaries of messages.
    let ours = UnixStream::from(ours);
    ours.set_nonblocking(true)?;
    Ok(mio::net::UnixStream::from_std(ours))
}
