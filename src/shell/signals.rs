//! SIGTERM and SIGINT end the relay, SIGHUP reads its configuration again.

use std::io;

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals as Pending;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// An orderly end.
    Stop,
    /// The configuration again.
    Reload,
}

/// The signals, as a source of the poll.
pub(super) struct Signals(Pending);

impl Signals {
    /// Catches the signals from now on.
    pub(super) fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let mut pending = Pending::new([SIGTERM, SIGINT, SIGHUP])?;
        registry.register(&mut pending, token, Interest::READABLE)?;
        Ok(Self(pending))
    }

    /// What came since the last call.
    pub(super) fn take(&mut self) -> Vec<Asked> {
        self.0
            .pending()
            .map(|signal| {
                if signal == SIGHUP {
                    Asked::Reload
                } else {
                    Asked::Stop
                }
            })
            .collect()
    }
}
