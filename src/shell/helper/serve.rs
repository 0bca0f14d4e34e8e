//! The main loop of the helper: it receives connections from the control socket, each with its purpose, until the
//! socket closes.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::directory::Directory;
use super::shared::Shared;
use super::{dns_hook, lmtp, question};
use crate::hook::{HOOK, write_failed};
use crate::limits::{
    HELPER_DELIVERIES_MAX, HELPER_HOOKS_MAX, HELPER_IO_TIMEOUT, STOP_TIMEOUT, TARGET_BYTES_MAX,
};
use crate::shell::process::log;

/// Serves this configuration folder until the control socket on standard input closes.
pub fn serve(folder: &Path) -> io::Result<()> {
    log::start();
    let ignored = Arc::new(AtomicBool::new(false));
    // The relay ends the helper by closing the socket after its own end. Signals get a handler, because programs would
    // inherit an ignored signal.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ignored))?;
    }
    restrict();
    let shared = Arc::new(Shared::new(Directory::new(folder)));
    while let Some((target, stream)) = receive()? {
        if let (Ok(target), Some(stream)) = (String::from_utf8(target), stream) {
            begin(&shared, target, UnixStream::from(stream));
        }
    }
    // A delivery with a complete message may finish; otherwise the next relay would repeat it.
    let by = Instant::now() + STOP_TIMEOUT;
    while shared.at_work() > 0 && Instant::now() < by {
        thread::sleep(LOOK_INTERVAL);
    }
    shared.running.end_all();
    Ok(())
}

/// Lower limits than those of the service's account; programs inherit them.
fn restrict() {
    // Another process of the account, above all the relay, must not read or write this one's memory. (Landlock forbids
    // that to the relay too, if the kernel has it.)
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // If the system refuses, the existing limit stays: the service manager has set it.
    for (resource, most) in [(Resource::Core, 0), (Resource::Nofile, 1_024)] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        let _ = setrlimit(resource, limit);
    }
}

/// The next connection and its purpose; `None` at the end.
fn receive() -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut target = vec![0; TARGET_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut target)];
    let len = loop {
        match recvmsg(io::stdin(), &mut into, &mut rights, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            result => break result?.bytes,
        }
    };
    let mut passed = rights.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut passed) => passed.next(),
        _ => None,
    });
    let stream = passed.next();
    drop(passed);
    target.truncate(len);
    Ok((len > 0).then_some((target, stream)))
}

/// Starts a thread for a connection, or replies that there are too many.
fn begin(shared: &Arc<Shared>, target: String, stream: UnixStream) {
    let is_dns = target == dns_hook::TARGET;
    let is_hook = target == HOOK || is_dns;
    let (at_work, most) = if is_hook {
        (&shared.hooks, HELPER_HOOKS_MAX)
    } else {
        (&shared.deliveries, HELPER_DELIVERIES_MAX)
    };
    // The connection of a peer that does not read its reply in time is closed.
    if stream.set_read_timeout(Some(HELPER_IO_TIMEOUT)).is_err()
        || stream.set_write_timeout(Some(HELPER_IO_TIMEOUT)).is_err()
    {
        return;
    }
    if at_work.fetch_add(1, Ordering::Relaxed) >= most {
        at_work.fetch_sub(1, Ordering::Relaxed);
        let answer = if is_dns {
            b"too many hooks run".to_vec()
        } else if is_hook {
            write_failed("too many hooks run")
        } else {
            b"421 4.3.2 too many deliveries are at work\r\n".to_vec()
        };
        drop(io::Write::write_all(&mut &stream, &answer));
        return;
    }
    let theirs = Arc::clone(shared);
    let work = move || {
        // A peer that has disconnected needs no reply.
        drop(if is_dns {
            dns_hook::serve(&stream, &theirs)
        } else if is_hook {
            question::serve(&stream, &theirs)
        } else {
            lmtp::serve(&stream, &target, &theirs)
        });
        let at_work = if is_hook {
            &theirs.hooks
        } else {
            &theirs.deliveries
        };
        at_work.fetch_sub(1, Ordering::Relaxed);
    };
    let begun = thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    if begun.is_err() {
        at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const STACK_BYTES: usize = 512 * 1024;
