//! Notifies systemd (sd_notify(3)), and says what an operator must notify it of; without systemd nothing happens.
//!
//! Invariant: nothing here waits. A supervisor that does not read loses notifications.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::clock::Instant;
use crate::engine::Engine;
use crate::limits::SUPERVISOR_INTERVAL;

/// Notifications to the supervisor while the relay runs: that the event loop runs (WatchdogSec= of the unit), and a
/// line for `systemctl status`. Both go in one datagram, and the line only if it has changed.
#[derive(Debug)]
pub(in crate::shell) struct Systemd {
    watchdog: Option<Duration>,
    next: Option<Instant>,
    told: String,
}

impl Systemd {
    /// From the environment; without a supervisor that listens it is never due.
    pub(in crate::shell) fn new() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some();
        Self {
            watchdog: watchdog(),
            next: listens.then_some(Instant::START),
            told: String::new(),
        }
    }

    /// When it is due.
    pub(in crate::shell) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Sends the notification.
    pub(in crate::shell) fn report(&mut self, engine: &Engine, now: Instant) {
        // Thrice in the time after which the supervisor ends the relay.
        let interval = self.watchdog.map_or(SUPERVISOR_INTERVAL, |limit| {
            SUPERVISOR_INTERVAL.min(limit / 3)
        });
        self.next = Some(now.after(interval));
        let status = status(engine);
        let is_new = status != self.told;
        let mut lines = Vec::new();
        if self.watchdog.is_some() {
            lines.push("WATCHDOG=1".to_owned());
        }
        if is_new {
            lines.push(format!("STATUS={status}"));
        }
        if lines.is_empty() || tell(&lines.join("\n")).is_ok() {
            self.told = status;
        }
    }
}

/// After how long without a sign the supervisor ends the relay (sd_watchdog_enabled(3)).
fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let limit = number("WATCHDOG_USEC").filter(|limit| is_ours && *limit > 0);
    limit.map(Duration::from_micros)
}

/// The status of the relay in one line.
fn status(engine: &Engine) -> String {
    let counters = engine.counters();
    let (_, connections) = engine.load();
    format!(
        "{} queued, {connections} connections; since the start {} accepted, {} delivered, {} deferred, {} failed",
        engine.queue_len(),
        counters.accepted,
        counters.delivered,
        counters.deferred,
        counters.failed
    )
}

/// The relay takes mail.
pub(in crate::shell) fn ready() {
    drop(tell("READY=1"));
}

/// The configuration is being read again; [`ready`] follows.
pub(in crate::shell) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec.saturating_mul(1_000_000) + now.tv_nsec / 1_000;
    drop(tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}")));
}

/// The relay ends.
pub(in crate::shell) fn stopping() {
    drop(tell("STOPPING=1"));
}

fn tell(text: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = address(&name)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}

/// The setting that lets a service write to a path that systemd has closed to it (`ProtectSystem=strict` of the unit).
pub(in crate::shell) fn read_write_paths(path: &Path) -> String {
    format!(
        "under systemd write two lines, [Service] and ReadWritePaths={}, into {DROP_IN} and run systemctl daemon-reload && \
         systemctl restart chopar",
        path.display()
    )
}

const DROP_IN: &str = "/etc/systemd/system/chopar.service.d/paths.conf";
