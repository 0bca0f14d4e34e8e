//! When a name is checked, and when an order is spent on it, with a clock that the tests set.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::acme::AcmeError;
use crate::acme::schedule::RenewalPlan;
use crate::acme::wire::AcmeProblem;
use crate::entropy::SeededEntropy;
use crate::limits::ACME_RETRY_PAUSE_MIN;

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn name() -> Name {
    Name::parse("mail.a.test").expect("a name")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn elsewhere() -> NameReach {
    NameReach::Elsewhere(name(), address("192.0.2.9"))
}

/// A machine whose name leads where `lead` says at each second. Gives when it looked, and when it ordered; an order
/// succeeds where the name leads here, the port is open from `open` on, and the CA asks for no rest.
fn live(
    until: u64,
    open: u64,
    retry_after: Option<u64>,
    lead: impl Fn(u64) -> NameReach,
) -> (Vec<u64>, Vec<u64>, Option<u64>) {
    let entropy = &mut SeededEntropy::new(1);
    let mut plan = RenewalPlan::new(None, at(0), entropy);
    let mut arrival = CertificateArrival::new(at(0));
    let (mut looks, mut orders, mut now) = (Vec::new(), Vec::new(), 0);
    while now < until {
        assert!(looks.len() + orders.len() < 100_000, "it turns in a circle");
        match arrival.step(plan.step(at(now)), at(now)) {
            ArrivalStep::LookUp => {
                looks.push(now);
                if arrival.on_look(lead(now), at(now)) == ArrivalChange::Arrived {
                    plan.on_mended();
                }
            }
            ArrivalStep::Obtain => {
                orders.push(now);
                if lead(now) == NameReach::Here && now >= open {
                    return (looks, orders, Some(now));
                }
                let limited = retry_after.map(|span| AcmeError::RateLimited {
                    problem: AcmeProblem::default(),
                    retry_at: Some(at(now + span)),
                });
                plan.on_failure(limited.as_ref(), at(now), entropy);
                // An order takes a while.
                now += 5;
            }
            ArrivalStep::Wait(next) => {
                assert!(next.seconds() > now, "a wait that is none");
                now = next.seconds();
            }
        }
    }
    (looks, orders, None)
}

#[test]
fn the_certificate_comes_soon_after_the_records_and_no_order_is_spent_before() {
    for arrives in [0, 40, 600, 2 * HOUR, 3 * DAY] {
        let lead = |now| match now >= arrives {
            true => NameReach::Here,
            false => NameReach::Nowhere(name()),
        };
        let (looks, orders, got) = live(10 * DAY, 0, None, lead);
        let got = got.expect("a certificate");
        assert_eq!(orders, [got], "{arrives}");
        let late = got - arrives;
        assert!(late <= (arrives / 8 + 15).min(600), "{arrives}: {late}");
        assert!(looks.len() <= 60 + got as usize / 600, "{}", looks.len());
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_tried_after_an_hour_at_the_pace_of_failures() {
    for lead in [
        elsewhere(),
        NameReach::Unknown(name(), "no answer".to_owned()),
    ] {
        let (_, orders, got) = live(10 * DAY, 0, None, |_| lead.clone());
        assert_eq!(got, None);
        assert!(orders.first().is_some_and(|first| *first >= HOUR));
        assert!((10..=20).contains(&orders.len()), "{orders:?}");
    }
    let (_, orders, _) = live(10 * DAY, 0, None, |_| NameReach::Nowhere(name()));
    assert!(orders.is_empty(), "{orders:?}");
}

#[test]
fn what_failed_while_the_name_led_elsewhere_does_not_hold_it_back_when_it_leads_here() {
    // By then the pause between failures is a day.
    let arrives = 6 * DAY;
    let lead = |now| match now >= arrives {
        true => NameReach::Here,
        false => elsewhere(),
    };
    let (_, _, got) = live(10 * DAY, 0, None, lead);
    assert!(
        got.is_some_and(|got| got <= arrives + HOUR + 600),
        "{got:?}"
    );
    // What the CA has asked for is kept to.
    let (_, orders, got) = live(20 * DAY, 0, Some(5 * DAY), lead);
    let got = got.expect("a certificate");
    assert!(
        orders.windows(2).all(|two| two[1] - two[0] >= 5 * DAY),
        "{orders:?}"
    );
    assert!(got >= arrives);
}

#[test]
fn a_port_that_is_closed_is_the_plans_to_try_again() {
    let (looks, orders, got) = live(10 * DAY, 2 * HOUR, None, |_| NameReach::Here);
    assert_eq!(orders.len(), 3, "{orders:?}");
    assert!(got.is_some());
    // One look before each order.
    assert_eq!(looks.len(), 3);
}

#[test]
fn all_addresses_have_to_be_ours() {
    let of = |whose: &[AddressOwner]| {
        let addresses = whose.iter().map(|whose| (address("192.0.2.9"), *whose));
        NameReach::of(&name(), Ok(addresses.collect()))
    };
    assert_eq!(of(&[]), NameReach::Nowhere(name()));
    assert_eq!(
        of(&[AddressOwner::Ours, AddressOwner::Ours]),
        NameReach::Here
    );
    assert_eq!(of(&[AddressOwner::Ours, AddressOwner::Theirs]), elsewhere());
    assert_eq!(
        of(&[AddressOwner::Untold, AddressOwner::Theirs]),
        elsewhere()
    );
    assert_eq!(
        of(&[AddressOwner::Ours, AddressOwner::Untold]),
        NameReach::Perhaps
    );
    let unknown = NameReach::of(&name(), Err("no answer".to_owned()));
    assert!(!unknown.is_arrived());
    assert_eq!(
        NameReach::worst([NameReach::Here, elsewhere(), NameReach::Perhaps]),
        elsewhere()
    );
    assert_eq!(NameReach::worst([]), NameReach::Here);
    assert_eq!(
        NameReach::worst([elsewhere(), unknown, NameReach::Nowhere(name())]),
        NameReach::Nowhere(name())
    );
}

proptest! {
    #[test]
    fn whatever_the_dns_does_orders_are_an_hour_apart_and_looks_a_pause(
        turns in proptest::collection::vec((1u64..40_000, 0u8..5), 1..60),
    ) {
        let lead = |now: u64| {
            let mut left = now;
            for (len, kind) in turns.iter().cycle().take(10_000) {
                if left < *len {
                    return match kind {
                        0 => NameReach::Nowhere(name()),
                        1 => elsewhere(),
                        2 => NameReach::Unknown(name(), String::new()),
                        3 => NameReach::Perhaps,
                        _ => NameReach::Here,
                    };
                }
                left -= len;
            }
            NameReach::Here
        };
        // The port is never open.
        let (looks, orders, _) = live(5 * DAY, u64::MAX, None, lead);
        for two in orders.windows(2) {
            prop_assert!(Duration::from_secs(two[1] - two[0]) >= ACME_RETRY_PAUSE_MIN);
        }
        for two in looks.windows(2) {
            prop_assert!(Duration::from_secs(two[1] - two[0]) >= ACME_ARRIVAL_PAUSE_MIN);
        }
        for order in &orders {
            let last = looks.iter().rfind(|look| *look <= order).expect("a look before each order");
            prop_assert!(!matches!(lead(*last), NameReach::Nowhere(_)));
        }
    }
}
