//! When a certificate is renewed: at the time that the CA recommends (RFC 9773), otherwise when a third of its lifetime
//! is left; after failures at growing intervals.
//!
//! ```text
//!   not before ───────────────────────── due ─── a third left ─────── not after
//!                                         ^ jitter: up to a tenth of the lifetime earlier
//! ```
//!
//! The time is chosen once per certificate, and again for each new window, so that many restarted daemons do not renew
//! at the same moment and repeated queries do not postpone the renewal. Short-lived certificates (under ten days) are
//! renewed when half of their lifetime is left, and retried sooner.

use std::time::Duration;

use super::error::AcmeError;
use super::wire::RenewalInfo;
use crate::date::Timestamp;
use crate::entropy::Entropy;
use crate::limits::{
    ACME_RETRY_PAUSE_MAX, ACME_RETRY_PAUSE_MIN, ACME_WINDOW_PAUSE_MAX, ACME_WINDOW_PAUSE_MIN,
};

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime {
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
}

impl Lifetime {
    fn len(self) -> Duration {
        self.to.since(self.from)
    }

    /// The pause after a certificate was obtained.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what it is divided by is written here, and not zero"
    )]
    fn rest(self) -> Duration {
        let len = self.len();
        let rest = ACME_RETRY_PAUSE_MIN.max(len / 24).min(len / 3);
        rest.max(Duration::from_secs(1))
    }
}

/// The next step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RenewalStep {
    /// Obtain a certificate.
    Obtain,
    /// Ask the CA for its renewal window.
    AskWindow,
    /// Do nothing until then.
    Wait(Timestamp),
}

/// The pauses of a plan that protect the CA, and the account's limits there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pauses {
    /// Failed orders in a row.
    pub failures: u32,
    /// When the last of them failed.
    pub failed_at: Timestamp,
    /// No order is made before this time.
    pub not_before: Timestamp,
    /// The CA's Retry-After: no order before this time.
    pub asked: Timestamp,
    /// No order before this time, because a certificate existed a moment ago.
    pub rest: Timestamp,
}

/// The plan for one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenewalPlan {
    lifetime: Option<Lifetime>,
    due: Timestamp,
    window: Option<RenewalInfo>,
    /// When to ask the CA for a renewal window; `None`: it offers none.
    ask_at: Option<Timestamp>,
    failures: u32,
    failed_at: Timestamp,
    not_before: Timestamp,
    /// Retry-After of the CA.
    asked: Timestamp,
    /// No order before this time after a success, whatever the clock, the CA and the certificate say.
    rest: Timestamp,
}

impl RenewalPlan {
    /// For a certificate that exists, or for one that does not exist yet.
    pub fn new(lifetime: Option<Lifetime>, now: Timestamp, entropy: &mut dyn Entropy) -> Self {
        Self {
            lifetime,
            due: lifetime.map_or(now, |lifetime| due(lifetime, entropy)),
            window: None,
            ask_at: lifetime.map(|_| now),
            failures: 0,
            failed_at: Timestamp::default(),
            not_before: Timestamp::default(),
            asked: Timestamp::default(),
            rest: Timestamp::default(),
        }
    }

    /// For a certificate that was obtained just now: before the next there is a rest of an hour or of a 24th of its
    /// lifetime, for certificates of hours a third of that.
    pub fn renewed(lifetime: Lifetime, now: Timestamp, entropy: &mut dyn Entropy) -> Self {
        Self {
            rest: now.after(lifetime.rest()),
            ..Self::new(Some(lifetime), now, entropy)
        }
    }

    /// Changes the plan to a new certificate, or to none. The pause also applies if a certificate disappears as soon as
    /// it exists.
    pub fn changed(
        &self,
        lifetime: Option<Lifetime>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Self {
        Self {
            rest: self.rest.min(now.after(ACME_RETRY_PAUSE_MIN)),
            asked: self.asked,
            ..Self::new(lifetime, now, entropy)
        }
    }

    /// Whether the certificate would be renewed now, were it not for the pause after a renewal: the clock is wrong, or
    /// the CA revokes what it issues.
    pub fn is_held_back(&self, now: Timestamp) -> bool {
        self.due <= now && now < self.rest
    }

    /// The certificate that it is for.
    pub fn lifetime(&self) -> Option<Lifetime> {
        self.lifetime
    }

    /// When it is renewed, as far as is known.
    pub fn due(&self) -> Timestamp {
        self.due.max(self.not_before).max(self.asked).max(self.rest)
    }

    /// The next step.
    pub fn step(&self, now: Timestamp) -> RenewalStep {
        let ask = self.ask_at.filter(|at| *at < self.due());
        match (self.due() <= now, ask) {
            (true, _) => RenewalStep::Obtain,
            (false, Some(at)) if at <= now => RenewalStep::AskWindow,
            (false, ask) => RenewalStep::Wait(ask.unwrap_or(self.due()).min(self.due())),
        }
    }

    /// Takes the CA's renewal window.
    pub fn on_window(
        &mut self,
        info: RenewalInfo,
        again: Duration,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) {
        self.ask_at = Some(now.after(again.clamp(ACME_WINDOW_PAUSE_MIN, ACME_WINDOW_PAUSE_MAX)));
        if self.window.as_ref() != Some(&info) {
            let len = info.end.since(info.start).as_secs();
            self.due = info.start.after(Duration::from_secs(entropy.below(len)));
            // A window beyond the end would leave a relay without a certificate.
            if let Some(lifetime) = self.lifetime {
                self.due = self.due.min(half(lifetime.from, lifetime.to, 8));
            }
            self.window = Some(info);
        }
    }

    /// The CA offers no renewal information.
    pub fn on_no_window(&mut self) {
        self.ask_at = None;
    }

    /// The CA could not be asked.
    pub fn on_window_failed(&mut self, error: &AcmeError, now: Timestamp) {
        let least = now.after(ACME_WINDOW_PAUSE_MIN);
        self.ask_at = Some(error.retry_at().map_or(least, |at| at.max(least)));
    }

    /// Records a failure; returns the time of the next attempt.
    pub fn on_failure(
        &mut self,
        error: Option<&AcmeError>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Timestamp {
        let pause = self.retry_pause(now);
        self.failures = self.failures.saturating_add(1);
        // Up to a quarter more, so that clients that failed together do not return together.
        let more = Duration::from_secs(entropy.below(pause.as_secs() / 4));
        let next = now.after(pause.saturating_add(more));
        let asked = error.and_then(AcmeError::retry_at).unwrap_or_default();
        // A Retry-After of a year is not plausible.
        let asked = asked.min(now.after(RETRY_ASKED_MAX));
        self.failed_at = now;
        self.not_before = next;
        self.asked = asked;
        next.max(asked)
    }

    /// The probable obstacle is gone. The next order still waits an hour after the last failure, however often this is
    /// called, because CAs count failures by the hour.
    pub fn on_mended(&mut self) {
        let hour_later = self.failed_at.after(ACME_RETRY_PAUSE_MIN);
        self.not_before = self.not_before.min(hour_later);
        self.failures = 0;
    }

    /// The pauses that must survive a restart, so that a daemon that restarts again and again does not send more
    /// orders.
    pub fn pauses(&self) -> Pauses {
        Pauses {
            failures: self.failures,
            failed_at: self.failed_at,
            not_before: self.not_before,
            asked: self.asked,
            rest: self.rest,
        }
    }

    /// Restores the pauses of an earlier run. The clock may have been set since: none is longer than it would be today.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what it is divided by is written here, and not zero"
    )]
    pub fn resume(&mut self, pauses: &Pauses, now: Timestamp) {
        let at_most = |at: Timestamp, span: Duration| at.min(now.after(span));
        self.failures = pauses.failures;
        self.failed_at = pauses.failed_at.min(now);
        let longest = ACME_RETRY_PAUSE_MAX.saturating_add(ACME_RETRY_PAUSE_MAX / 4);
        self.not_before = at_most(pauses.not_before, longest);
        self.asked = at_most(pauses.asked, RETRY_ASKED_MAX);
        let whole = self.lifetime.map_or(ACME_RETRY_PAUSE_MIN, Lifetime::rest);
        self.rest = match pauses.rest <= now.after(whole) {
            true => pauses.rest,
            // The clock was ahead when it was obtained.
            false => now.after(ACME_RETRY_PAUSE_MIN),
        };
    }

    /// An operator has changed a possible cause of the failures. A pause that the CA requested stays.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
        self.not_before = Timestamp::default();
    }

    /// An hour, doubled up to a day or an eighth of the time that is left; for certificates of less than a day a 24th
    /// of the lifetime at first.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "what it is divided by is written here, and not zero"
    )]
    fn retry_pause(&self, now: Timestamp) -> Duration {
        let (len, left) = match self.lifetime {
            Some(lifetime) => (lifetime.len(), lifetime.to.since(now)),
            None => (Duration::MAX, Duration::MAX),
        };
        let first = ACME_RETRY_PAUSE_MIN
            .min(len / 24)
            .max(Duration::from_secs(1));
        let most = ACME_RETRY_PAUSE_MAX.min(left / 8).max(first);
        first.saturating_mul(1 << self.failures.min(16)).min(most)
    }
}

/// When a certificate is due by itself.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "what it is divided by is written here, and not zero"
)]
fn due(lifetime: Lifetime, entropy: &mut dyn Entropy) -> Timestamp {
    let len = lifetime.len();
    let left = if len < SHORT_LIVED { len / 2 } else { len / 3 };
    let jitter = Duration::from_secs(entropy.below(len.as_secs() / 10));
    let at = lifetime.to.seconds();
    let early = left.as_secs().saturating_add(jitter.as_secs());
    Timestamp::from_seconds(at.saturating_sub(early)).max(lifetime.from)
}

/// The point at which a part of the lifetime is left.
fn half(from: Timestamp, to: Timestamp, part: u32) -> Timestamp {
    let left = to.since(from).checked_div(part).unwrap_or_default();
    Timestamp::from_seconds(to.seconds().saturating_sub(left.as_secs()))
}

/// Certificates that are renewed at half of their lifetime (Let's Encrypt's advice for its profiles).
const SHORT_LIVED: Duration = Duration::from_secs(10 * 86_400);
/// A longer Retry-After is cut to this.
const RETRY_ASKED_MAX: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests;
