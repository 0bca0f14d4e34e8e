//! The helper: the one process that stays outside of the sandbox, and does there what the relay may not.
//!
//! ```text
//!   relay (sandbox) ── control socket: target + one end of a socket pair ──> helper ── a thread for each
//!         └────────────── LMTP, or a question to the hook ──────────────────────┘        |
//!                                                             maildir:/path · | program · hooks/post-data
//! ```
//!
//! It is this binary, started as the service's account before the sandbox closes, and has nothing but the control socket.
//! Relay and helper end together: when the socket closes, the helper waits a little for what runs, ends that, and ends.
//!
//! Invariant: the helper believes nothing. The relay talks to the network and may have fallen into other hands; so a
//! target counts only if the configuration, which the helper reads by itself, names it; no word of a command, no path
//! and no name of a variable comes from the relay; and every wait, buffer and number of threads has its bound.

mod content;
mod directory;
mod lmtp;
mod maildir;
mod program;
mod question;
mod serve;

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};

use super::log;
use crate::engine::log::{Level, Line};
use crate::limits::TARGET_BYTES_MAX;

pub use serve::serve;

/// The word that makes this binary the helper.
pub const WORD: &str = "helper";

/// The relay's end of the helper.
#[derive(Debug)]
pub(super) struct Helper(Option<OwnedFd>);

impl Helper {
    /// Starts it. A relay without one goes on, and puts off what needs it.
    pub(super) fn start(folder: &Path) -> Self {
        match begin(folder) {
            Ok(control) => Self(Some(control)),
            Err(error) => {
                log::write(&Line::new(Level::Error, "helper").with("cause", error));
                Self(None)
            }
        }
    }

    /// A connection to this target.
    pub(super) fn connect(&mut self, target: &str) -> io::Result<mio::net::UnixStream> {
        let control = self.0.as_ref().ok_or(ErrorKind::NotFound)?;
        if target.len() > TARGET_BYTES_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let passed = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(&passed));
        let data = [IoSlice::new(target.as_bytes())];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(control, &data, &mut rights, flags) {
            Ok(_) => Ok(mio::net::UnixStream::from_std(ours)),
            Err(rustix::io::Errno::AGAIN) => Err(ErrorKind::WouldBlock.into()),
            Err(error) => {
                // It is gone, and nothing can be started from here any more.
                self.0 = None;
                let line = Line::new(Level::Error, "helper");
                log::write(&line.with("cause", error).with("cure", "restart the relay"));
                Err(error.into())
            }
        }
    }
}

fn begin(folder: &Path) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Command::new("/proc/self/exe")
        .arg0("chopar")
        .arg(WORD)
        .arg(folder)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    Ok(ours)
}
