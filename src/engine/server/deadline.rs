//! The deadline of a session, which follows from its state and from the time since which it waits.

use std::time::Duration;

use super::guard::Held;
use super::login::Exchange;
use super::session::{Opening, Pace, ServerSession};
use crate::clock::Instant;
use crate::engine::event::Listener;
use crate::limits::{
    BANNER_DELAY, HANDSHAKE_TIMEOUT, PROXY_TIMEOUT, SESSION_TIMEOUT,
    UNAUTHENTICATED_SESSION_TIMEOUT,
};

impl ServerSession {
    /// When something must have happened: the client has gone on, or a reply is sent that was delayed. `None` while
    /// the session waits for the disk, the DNS, a worker or the hook.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.pace.since;
        match self.opening {
            Opening::Proxy(_) => Some(since.after(PROXY_TIMEOUT)),
            Opening::Silent => Some(since.after(BANNER_DELAY)),
            Opening::Over if self.is_in_handshake() => Some(since.after(HANDSHAKE_TIMEOUT)),
            Opening::Over => match self.session.timeout() {
                Some(timeout) => Some(self.client_deadline(timeout)),
                None => self.delayed_until(),
            },
        }
    }

    /// The end of the time that a client may be silent. The time of a whole session ends none inside of a message.
    fn client_deadline(&self, timeout: Duration) -> Instant {
        let Pace { opened, since, .. } = self.pace;
        let whole = match self.listener {
            Listener::Submission | Listener::Submissions if self.login.is_none() => {
                UNAUTHENTICATED_SESSION_TIMEOUT
            }
            _ => SESSION_TIMEOUT,
        };
        let silent = since.after(timeout);
        match self.session.is_busy() {
            true => silent,
            false => silent.min(opened.after(whole).max(since.after(LAST_COMMAND_TIME))),
        }
    }

    /// When a delayed reply is sent.
    fn delayed_until(&self) -> Option<Instant> {
        let held = self.guard.as_ref().and_then(|guard| guard.held.as_ref());
        match (held, &self.exchange) {
            (Some(Held::Verdict { until, .. }), _) => Some(*until),
            (_, Some(Exchange::Delayed { until, .. })) => Some(*until),
            _ => None,
        }
    }
}

/// Time that a session has left after each reply, however long it has lasted.
const LAST_COMMAND_TIME: Duration = Duration::from_secs(1);
