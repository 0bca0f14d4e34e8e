//! SIGTERM and SIGINT end the relay, SIGHUP reads its configuration again.

use std::io;

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook_mio::v1_0::Signals as Pending;

/// Ends this process like any other that writes into a pipe without a reader: by SIGPIPE, which Rust ignores by
/// default.
pub fn end_by_pipe() -> ! {
    drop(signal_hook::low_level::emulate_default_handler(SIGPIPE));
    std::process::abort()
}

/// What a signal makes the relay do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum SignalRequest {
    /// An orderly end.
    Stop,
    /// The configuration again.
    Reload,
}

/// The signals, as a source of the poll.
pub(in crate::shell) struct Signals(Pending);

impl Signals {
    /// Installs the signal handlers.
    pub(in crate::shell) fn register(registry: &Registry, token: Token) -> io::Result<Self> {
        let mut pending = Pending::new([SIGTERM, SIGINT, SIGHUP])?;
        registry.register(&mut pending, token, Interest::READABLE)?;
        Ok(Self(pending))
    }

    /// The signals since the last call.
    pub(in crate::shell) fn take(&mut self) -> Vec<SignalRequest> {
        self.0
            .pending()
            .map(|signal| {
                if signal == SIGHUP {
                    SignalRequest::Reload
                } else {
                    SignalRequest::Stop
                }
            })
            .collect()
    }
}
