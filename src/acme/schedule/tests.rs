//! When a certificate is renewed, and how long a failure delays it, with a clock that the tests set.

use proptest::prelude::*;

use super::*;
use crate::acme::wire::AcmeProblem;
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

fn limited(until: u64) -> AcmeError {
    AcmeError::RateLimited {
        problem: AcmeProblem::default(),
        retry_at: Some(at(until)),
    }
}

#[test]
fn without_a_window_a_third_or_half_of_the_lifetime_is_left() {
    for seed in 0..200 {
        let entropy = &mut SeededEntropy::new(seed);
        let long = RenewalPlan::new(Some(lifetime(0, 90)), at(0), entropy)
            .due()
            .seconds();
        assert!((51 * DAY..=60 * DAY).contains(&long), "{long}");
        let short = RenewalPlan::new(Some(lifetime(0, 6)), at(0), entropy)
            .due()
            .seconds();
        assert!((2 * DAY..=3 * DAY).contains(&short), "{short}");
    }
}

#[test]
fn the_window_of_the_ca_counts_and_asking_again_does_not_move_the_point() {
    let entropy = &mut SeededEntropy::new(1);
    let mut plan = RenewalPlan::new(Some(lifetime(0, 90)), at(0), entropy);
    assert_eq!(plan.step(at(0)), RenewalStep::AskWindow);
    let window = |start: u64, end: u64| RenewalInfo {
        start: at(start * DAY),
        end: at(end * DAY),
        explanation: None,
    };
    let again = Duration::from_secs(6 * 3_600);
    plan.on_window(window(70, 72), again, at(0), entropy);
    let due = plan.due();
    assert!((70 * DAY..72 * DAY).contains(&due.seconds()));
    assert_eq!(plan.step(at(1)), RenewalStep::Wait(at(6 * 3_600)));
    plan.on_window(window(70, 72), again, at(6 * 3_600), entropy);
    assert_eq!(plan.due(), due);
    // Revoked in masses: the window is past.
    plan.on_window(window(1, 2), again, at(12 * 3_600), entropy);
    assert_eq!(plan.step(at(3 * DAY)), RenewalStep::Obtain);
    // Beyond the end of the certificate.
    plan.on_window(window(400, 500), again, at(3 * DAY), entropy);
    assert!(plan.due() < at(80 * DAY));
}

#[test]
fn failures_are_an_hour_apart_then_longer_and_a_rate_limit_is_respected() {
    let entropy = &mut SeededEntropy::new(2);
    let mut plan = RenewalPlan::new(Some(lifetime(0, 90)), at(0), entropy);
    plan.on_no_window();
    let mut now = plan.due();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(plan.step(now), RenewalStep::Obtain);
        let next = plan.on_failure(None, now, entropy);
        pauses.push(next.since(now).as_secs() / 3_600);
        now = next;
    }
    let hours: Vec<u64> = vec![1, 2, 4, 8, 16, 24, 24, 24];
    for (pause, least) in pauses.iter().zip(hours) {
        assert!((least..=least * 5 / 4).contains(pause), "{pauses:?}");
    }
    plan.forget_failures();
    assert_eq!(plan.step(now), RenewalStep::Obtain);
    let until = now.seconds() + 3 * DAY;
    assert_eq!(
        plan.on_failure(Some(&limited(until)), now, entropy),
        at(until)
    );
    plan.forget_failures();
    assert_eq!(plan.step(at(until - 1)), RenewalStep::Wait(at(until)));
    assert_eq!(plan.step(at(until)), RenewalStep::Obtain);
}

#[test]
fn after_a_success_there_is_a_rest_whatever_the_certificate_and_the_ca_say() {
    let entropy = &mut SeededEntropy::new(3);
    // The clock is far ahead: what was obtained has ended.
    let now = 400 * DAY;
    let held = lifetime(0, 90);
    let plan = RenewalPlan::renewed(held, at(now), entropy);
    assert!(plan.is_held_back(at(now)));
    let rest = 90 * DAY / 24;
    let least = at(now + rest);
    assert_eq!(plan.due(), least);
    assert_ne!(plan.step(at(now + rest - 1)), RenewalStep::Obtain);
    assert_eq!(plan.step(least), RenewalStep::Obtain);
    // It is gone again: an hour all the same.
    let plan = plan.changed(None, at(now), entropy);
    assert_eq!(plan.step(at(now)), RenewalStep::Wait(at(now + 3_600)));
    // The window is past already.
    let mut plan = RenewalPlan::renewed(lifetime(400, 90), at(now), entropy);
    let past = RenewalInfo {
        start: at(DAY),
        end: at(2 * DAY),
        explanation: None,
    };
    plan.on_window(past, Duration::ZERO, at(now), entropy);
    assert!(plan.is_held_back(at(now)));
    plan.forget_failures();
    assert_ne!(plan.step(at(now)), RenewalStep::Obtain);
    // One of seconds is renewed in time.
    let held = Lifetime {
        from: at(now),
        to: at(now + 16),
    };
    let plan = RenewalPlan::renewed(held, at(now), entropy);
    assert!(!plan.is_held_back(at(now)));
    assert!(plan.due() <= at(now + 8), "{:?}", plan.due());
}

#[test]
fn a_certificate_that_is_not_there_is_obtained_at_once() {
    let plan = RenewalPlan::new(None, at(5), &mut SeededEntropy::new(0));
    assert_eq!(plan.step(at(5)), RenewalStep::Obtain);
}

/// A CA that says when, is down at times and limits its clients at others; a year of it, in virtual time.
fn year(seed: u64, days: u64, down: &[(u64, u64)]) -> (u32, u64) {
    let chance = &mut SeededEntropy::new(seed);
    let mut now = 0;
    let mut held = lifetime(0, days);
    let mut plan = RenewalPlan::new(Some(held), at(now), chance);
    let (mut renewals, mut least_left, mut steps) = (0, u64::MAX, 0);
    while now < 365 * DAY {
        steps += 1;
        assert!(steps < 20_000, "it turns in a circle");
        let is_down = down
            .iter()
            .any(|(from, to)| (from * DAY..to * DAY).contains(&now));
        match plan.step(at(now)) {
            RenewalStep::Wait(until) => {
                assert!(until.seconds() > now, "a wait that is none");
                now = until.seconds();
            }
            RenewalStep::AskWindow if is_down => {
                let error = AcmeError::Unreachable {
                    url: String::new(),
                    text: String::new(),
                };
                plan.on_window_failed(&error, at(now));
            }
            RenewalStep::AskWindow if chance.below(3) == 0 => plan.on_no_window(),
            RenewalStep::AskWindow => {
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
            RenewalStep::Obtain if is_down => drop(plan.on_failure(None, at(now), chance)),
            RenewalStep::Obtain if chance.below(4) == 0 => {
                let until = now + chance.below(DAY / 4);
                plan.on_failure(Some(&limited(until)), at(now), chance);
            }
            RenewalStep::Obtain => {
                assert!(now < held.to.seconds(), "it ran out on day {}", now / DAY);
                least_left = least_left.min(held.to.seconds() - now);
                renewals += 1;
                held = lifetime(now, days);
                plan = RenewalPlan::renewed(held, at(now), chance);
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
        let mut plan = RenewalPlan::new(Some(held), at(from), entropy);
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

#[test]
fn a_restart_keeps_what_protects_the_ca_and_makes_no_pause_longer() {
    let entropy = &mut SeededEntropy::new(4);
    let mut before = RenewalPlan::new(None, at(0), entropy);
    for _ in 0..4 {
        before.on_failure(None, at(1_000), entropy);
    }
    // Eight hours; a restart makes that one, not none.
    let mut after = RenewalPlan::new(None, at(1_010), entropy);
    after.resume(&before.pauses(), at(1_010));
    assert_eq!(after.due(), before.due());
    after.on_mended();
    assert_eq!(after.step(at(1_010)), RenewalStep::Wait(at(1_000 + 3_600)));
    assert_eq!(after.step(at(4_600)), RenewalStep::Obtain);
    // What the CA has asked for stays whole.
    before.on_failure(Some(&limited(3 * DAY)), at(1_000), entropy);
    after.resume(&before.pauses(), at(1_010));
    after.on_mended();
    assert_eq!(after.due(), at(3 * DAY));
    // After a success, too; the certificate is gone again.
    let before = RenewalPlan::renewed(lifetime(0, 90), at(1_000), entropy);
    let mut after = RenewalPlan::new(None, at(1_010), entropy);
    after.resume(&before.pauses(), at(1_010));
    assert_eq!(after.due(), at(1_010 + 3_600));
    // It is there, and the CA wants it renewed already: the rest is kept to, however often it is started.
    let held = lifetime(0, 90);
    let before = RenewalPlan::renewed(held, at(1_000), entropy);
    let mut again = RenewalPlan::new(Some(held), at(50_000), entropy);
    again.resume(&before.pauses(), at(50_000));
    let past = RenewalInfo {
        start: at(0),
        end: at(1),
        explanation: None,
    };
    again.on_window(past, Duration::ZERO, at(50_000), entropy);
    assert_eq!(again.due(), at(1_000 + 90 * DAY / 24));
    assert!(again.is_held_back(at(50_000)));
    // Numbers of a clock that was wrong, or of a disk.
    let far = Pauses {
        failures: u32::MAX,
        failed_at: at(u64::MAX),
        not_before: at(u64::MAX),
        asked: at(u64::MAX),
        rest: at(u64::MAX),
    };
    after.resume(&far, at(1_010));
    assert!(after.due() <= at(1_010 + 7 * DAY));
    after.on_failure(None, at(1_010 + 7 * DAY), entropy);
}
