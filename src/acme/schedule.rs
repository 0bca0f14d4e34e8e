//! When a certificate is renewed: when the CA says (RFC 9773), else with a third of its lifetime left; after a failure
//! later and later.
//!
//! ```text
//!   not before ───────────────────────── due ─── a third left ─────── not after
//!                                         ^ jitter: up to a tenth of the lifetime earlier
//! ```
//!
//! The point is chosen once for a certificate and once more for each other window, so that restarts of many daemons do not
//! come together, and asking again does not put it off. Short-lived certificates (less than ten days) are renewed with half
//! of their lifetime left, and are tried again sooner.

use std::time::Duration;

use super::error::Error;
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
}

/// What to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Obtain a certificate.
    Obtain,
    /// Ask the CA when to renew.
    AskWindow,
    /// Nothing until then.
    Wait(Timestamp),
}

/// The plan for one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    lifetime: Option<Lifetime>,
    due: Timestamp,
    window: Option<RenewalInfo>,
    /// When the CA is asked for a window next; `None`: it has none.
    ask_at: Option<Timestamp>,
    failures: u32,
    not_before: Timestamp,
    /// As long the CA wants to be left alone.
    asked: Timestamp,
    /// As long it rests after a success, whatever the certificate, the CA and the clock say.
    rest: Timestamp,
}

impl Plan {
    /// For a certificate that is there, or for one that is not there yet.
    pub fn new(lifetime: Option<Lifetime>, now: Timestamp, entropy: &mut dyn Entropy) -> Self {
        Self {
            lifetime,
            due: lifetime.map_or(now, |lifetime| due(lifetime, entropy)),
            window: None,
            ask_at: lifetime.map(|_| now),
            failures: 0,
            not_before: Timestamp::default(),
            asked: Timestamp::default(),
            rest: Timestamp::default(),
        }
    }

    /// For a certificate that was obtained just now: before the next there is a rest of an hour or of a 24th of its
    /// lifetime, for certificates of hours a third of that.
    pub fn renewed(lifetime: Lifetime, now: Timestamp, entropy: &mut dyn Entropy) -> Self {
        let len = lifetime.len();
        let rest = ACME_RETRY_PAUSE_MIN.max(len / 24).min(len / 3);
        Self {
            rest: now.after(rest.max(Duration::from_secs(1))),
            ..Self::new(Some(lifetime), now, entropy)
        }
    }

    /// For another certificate than before, or for none any more. A certificate that goes again as soon as it is there
    /// is no reason not to rest.
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

    /// Whether it would be renewed now, had it not been a moment ago: the clock is wrong, or the CA takes back what it
    /// gives.
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

    /// What to do now.
    pub fn step(&self, now: Timestamp) -> Step {
        let ask = self.ask_at.filter(|at| *at < self.due());
        match (self.due() <= now, ask) {
            (true, _) => Step::Obtain,
            (false, Some(at)) if at <= now => Step::AskWindow,
            (false, ask) => Step::Wait(ask.unwrap_or(self.due()).min(self.due())),
        }
    }

    /// The CA has said when.
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

    /// The CA does not say when.
    pub fn on_no_window(&mut self) {
        self.ask_at = None;
    }

    /// The CA could not be asked.
    pub fn on_window_failed(&mut self, error: &Error, now: Timestamp) {
        let least = now.after(ACME_WINDOW_PAUSE_MIN);
        self.ask_at = Some(error.retry_at().map_or(least, |at| at.max(least)));
    }

    /// It failed; gives when it is tried again.
    pub fn on_failure(
        &mut self,
        error: Option<&Error>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Timestamp {
        let pause = self.retry_pause(now);
        self.failures = self.failures.saturating_add(1);
        // Up to a quarter more: not all who failed together come again together.
        let more = Duration::from_secs(entropy.below(pause.as_secs() / 4));
        let next = now.after(pause.saturating_add(more));
        let asked = error.and_then(Error::retry_at).unwrap_or_default();
        // A CA that wants to be left alone for a year has said something else.
        let asked = asked.min(now.after(RETRY_ASKED_MAX));
        self.not_before = next;
        self.asked = asked;
        next.max(asked)
    }

    /// An operator has changed what may have been in the way. What the CA has asked for stays.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
        self.not_before = Timestamp::default();
    }

    /// An hour, doubled up to a day or an eighth of the time that is left; for certificates of less than a day a 24th of the
    /// lifetime at first.
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
    let left = to.since(from) / part;
    Timestamp::from_seconds(to.seconds().saturating_sub(left.as_secs()))
}

/// Certificates of which half is used (Let's Encrypt's advice for its profiles).
const SHORT_LIVED: Duration = Duration::from_secs(10 * 86_400);
/// No Retry-After counts for longer.
const RETRY_ASKED_MAX: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::acme::wire::Problem;
    use crate::entropy::SeededEntropy;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn lifetime(from: u64, days: u64) -> Lifetime {
        Lifetime {
            from: at(from),
            to: at(from + days * DAY),
        }
    }

    fn limited(until: u64) -> Error {
        Error::RateLimited {
            problem: Problem::default(),
            retry_at: Some(at(until)),
        }
    }

    #[test]
    fn without_a_window_a_third_or_half_of_the_lifetime_is_left() {
        for seed in 0..200 {
            let entropy = &mut SeededEntropy::new(seed);
            let long = Plan::new(Some(lifetime(0, 90)), at(0), entropy)
                .due()
                .seconds();
            assert!((51 * DAY..=60 * DAY).contains(&long), "{long}");
            let short = Plan::new(Some(lifetime(0, 6)), at(0), entropy)
                .due()
                .seconds();
            assert!((2 * DAY..=3 * DAY).contains(&short), "{short}");
        }
    }

    #[test]
    fn the_window_of_the_ca_counts_and_asking_again_does_not_move_the_point() {
        let entropy = &mut SeededEntropy::new(1);
        let mut plan = Plan::new(Some(lifetime(0, 90)), at(0), entropy);
        assert_eq!(plan.step(at(0)), Step::AskWindow);
        let window = |start: u64, end: u64| RenewalInfo {
            start: at(start * DAY),
            end: at(end * DAY),
            explanation: None,
        };
        let again = Duration::from_secs(6 * 3_600);
        plan.on_window(window(70, 72), again, at(0), entropy);
        let due = plan.due();
        assert!((70 * DAY..72 * DAY).contains(&due.seconds()));
        assert_eq!(plan.step(at(1)), Step::Wait(at(6 * 3_600)));
        plan.on_window(window(70, 72), again, at(6 * 3_600), entropy);
        assert_eq!(plan.due(), due);
        // Revoked in masses: the window is past.
        plan.on_window(window(1, 2), again, at(12 * 3_600), entropy);
        assert_eq!(plan.step(at(3 * DAY)), Step::Obtain);
        // Beyond the end of the certificate.
        plan.on_window(window(400, 500), again, at(3 * DAY), entropy);
        assert!(plan.due() < at(80 * DAY));
    }

    #[test]
    fn failures_are_an_hour_apart_then_longer_and_a_rate_limit_is_respected() {
        let entropy = &mut SeededEntropy::new(2);
        let mut plan = Plan::new(Some(lifetime(0, 90)), at(0), entropy);
        plan.on_no_window();
        let mut now = plan.due();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(plan.step(now), Step::Obtain);
            let next = plan.on_failure(None, now, entropy);
            pauses.push(next.since(now).as_secs() / 3_600);
            now = next;
        }
        let hours: Vec<u64> = vec![1, 2, 4, 8, 16, 24, 24, 24];
        for (pause, least) in pauses.iter().zip(hours) {
            assert!((least..=least * 5 / 4).contains(pause), "{pauses:?}");
        }
        plan.forget_failures();
        assert_eq!(plan.step(now), Step::Obtain);
        let until = now.seconds() + 3 * DAY;
        assert_eq!(
            plan.on_failure(Some(&limited(until)), now, entropy),
            at(until)
        );
        plan.forget_failures();
        assert_eq!(plan.step(at(until - 1)), Step::Wait(at(until)));
        assert_eq!(plan.step(at(until)), Step::Obtain);
    }

    #[test]
    fn after_a_success_there_is_a_rest_whatever_the_certificate_and_the_ca_say() {
        let entropy = &mut SeededEntropy::new(3);
        // The clock is far ahead: what was obtained has ended.
        let now = 400 * DAY;
        let held = lifetime(0, 90);
        let plan = Plan::renewed(held, at(now), entropy);
        assert!(plan.is_held_back(at(now)));
        let rest = 90 * DAY / 24;
        let least = at(now + rest);
        assert_eq!(plan.due(), least);
        assert_ne!(plan.step(at(now + rest - 1)), Step::Obtain);
        assert_eq!(plan.step(least), Step::Obtain);
        // It is gone again: an hour all the same.
        let plan = plan.changed(None, at(now), entropy);
        assert_eq!(plan.step(at(now)), Step::Wait(at(now + 3_600)));
        // The window is past already.
        let mut plan = Plan::renewed(lifetime(400, 90), at(now), entropy);
        let past = RenewalInfo {
            start: at(DAY),
            end: at(2 * DAY),
            explanation: None,
        };
        plan.on_window(past, Duration::ZERO, at(now), entropy);
        assert!(plan.is_held_back(at(now)));
        plan.forget_failures();
        assert_ne!(plan.step(at(now)), Step::Obtain);
        // One of seconds is renewed in time.
        let held = Lifetime {
            from: at(now),
            to: at(now + 16),
        };
        let plan = Plan::renewed(held, at(now), entropy);
        assert!(!plan.is_held_back(at(now)));
        assert!(plan.due() <= at(now + 8), "{:?}", plan.due());
    }

    #[test]
    fn a_certificate_that_is_not_there_is_obtained_at_once() {
        let plan = Plan::new(None, at(5), &mut SeededEntropy::new(0));
        assert_eq!(plan.step(at(5)), Step::Obtain);
    }

    /// A CA that says when, is down at times and limits its clients at others; a year of it, in virtual time.
    fn year(seed: u64, days: u64, down: &[(u64, u64)]) -> (u32, u64) {
        let chance = &mut SeededEntropy::new(seed);
        let mut now = 0;
        let mut held = lifetime(0, days);
        let mut plan = Plan::new(Some(held), at(now), chance);
        let (mut renewals, mut least_left, mut steps) = (0, u64::MAX, 0);
        while now < 365 * DAY {
            steps += 1;
            assert!(steps < 20_000, "it turns in a circle");
            let is_down = down
                .iter()
                .any(|(from, to)| (from * DAY..to * DAY).contains(&now));
            match plan.step(at(now)) {
                Step::Wait(until) => {
                    assert!(until.seconds() > now, "a wait that is none");
                    now = until.seconds();
                }
                Step::AskWindow if is_down => {
                    let error = Error::Unreachable {
                        url: String::new(),
                        text: String::new(),
                    };
                    plan.on_window_failed(&error, at(now));
                }
                Step::AskWindow if chance.below(3) == 0 => plan.on_no_window(),
                Step::AskWindow => {
                    let start = held.to.seconds() - days * DAY / 3;
                    let info = RenewalInfo {
                        start: at(start),
                        end: at(start + DAY / 4),
                        explanation: None,
                    };
                    plan.on_window(
                        info,
                        Duration::from_secs(chance.below(2 * DAY)),
                        at(now),
                        chance,
                    );
                }
                Step::Obtain if is_down => drop(plan.on_failure(None, at(now), chance)),
                Step::Obtain if chance.below(4) == 0 => {
                    let until = now + chance.below(DAY / 4);
                    plan.on_failure(Some(&limited(until)), at(now), chance);
                }
                Step::Obtain => {
                    assert!(now < held.to.seconds(), "it ran out on day {}", now / DAY);
                    least_left = least_left.min(held.to.seconds() - now);
                    renewals += 1;
                    held = lifetime(now, days);
                    plan = Plan::renewed(held, at(now), chance);
                }
            }
        }
        (renewals, least_left / DAY)
    }

    #[test]
    fn in_a_year_of_renewals_no_certificate_runs_out() {
        for seed in 0..300 {
            let (renewals, left) = year(seed, 90, &[(20, 40), (100, 114), (200, 201)]);
            assert!((5..=9).contains(&renewals), "{seed}: {renewals}");
            assert!(left >= 10, "{seed}: {left} days were left");
            let (renewals, _) = year(seed, 6, &[(30, 31), (200, 201)]);
            assert!((80..=190).contains(&renewals), "{seed}: {renewals}");
        }
    }

    proptest! {
        #[test]
        fn a_plan_never_waits_for_ever_nor_past_the_end(
            from in 0u64..4_000_000_000,
            len in 1u64..100_000_000,
            seed: u64,
            failures in 0usize..20,
        ) {
            let entropy = &mut SeededEntropy::new(seed);
            let held = Lifetime { from: at(from), to: at(from + len) };
            let mut plan = Plan::new(Some(held), at(from), entropy);
            prop_assert!(plan.due() <= held.to);
            let mut now = at(from);
            for _ in 0..failures {
                let next = plan.on_failure(None, now, entropy);
                prop_assert!(next > now);
                prop_assert!(next.since(now) <= ACME_RETRY_PAUSE_MAX * 5 / 4);
                now = next;
            }
        }
    }
}
