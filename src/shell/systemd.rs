//! What systemd is told (sd_notify(3)); without it nothing happens. And what it has to be told by its operator.

use std::path::Path;

use sd_notify::NotifyState;

/// The relay takes mail.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub(super) fn reloading() {
    let since = NotifyState::monotonic_usec_now();
    match since {
        Ok(since) => tell(&[NotifyState::Reloading, since]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The relay ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    // A supervisor that does not listen is no reason to stop.
    drop(sd_notify::notify(state));
}

/// What lets a service write to a path that systemd has closed to it (`ProtectSystem=strict` of the unit).
pub(super) fn read_write_paths(path: &Path) -> String {
    format!(
        "under systemd write two lines, [Service] and ReadWritePaths={}, into {DROP_IN} and run systemctl daemon-reload && \
         systemctl restart chopar",
        path.display()
    )
}

const DROP_IN: &str = "/etc/systemd/system/chopar.service.d/paths.conf";
