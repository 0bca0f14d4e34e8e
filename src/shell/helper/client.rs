//! The relay's access to the helper: it sends one end of a socket pair, with its purpose.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::limits::TARGET_BYTES_MAX;

/// Access to the helper for a thread that may block.
#[derive(Debug)]
pub struct HelperClient(pub(super) Option<OwnedFd>);

impl HelperClient {
    /// Opens a connection to this target.
    pub(super) fn connect(&self, target: &str) -> io::Result<UnixStream> {
        let control = self.0.as_ref().ok_or(ErrorKind::NotFound)?;
        connect(control.as_fd(), target)
    }
}

/// Passes the helper one end of a socket pair with its purpose, and returns the other end.
pub(super) fn connect(control: BorrowedFd<'_>, target: &str) -> io::Result<UnixStream> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(ErrorKind::InvalidInput.into());
    }
    let (ours, theirs) = UnixStream::pair()?;
    let passed = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    rights.push(SendAncillaryMessage::ScmRights(&passed));
    let data = [IoSlice::new(target.as_bytes())];
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match sendmsg(control, &data, &mut rights, flags) {
        Ok(_) => Ok(ours),
        Err(rustix::io::Errno::AGAIN) => Err(ErrorKind::WouldBlock.into()),
        // The helper has ended; the poll reports that too.
        Err(error) => Err(error.into()),
    }
}
