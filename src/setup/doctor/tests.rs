//! Every check is good with good facts, and fails by one changed fact alone; the texts are checked here too.

mod facts;
mod of_dns;
mod of_names;
mod of_outbound;
mod of_service;
mod of_tls;
mod of_world;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::checks::{ALL, Need};
use super::finding::{CheckState, Finding};
use super::judge::{
    dns, machine, names, outbound, ports, relay, reputation, resolver, rules, service, signing, tls,
};
use crate::address::Domain;
use crate::auth::dkim::verdict::{DkimFailure, DkimResult};
use crate::auth::{dmarc, spf};
use crate::date::Timestamp;
use crate::dns::Mx;
use crate::setup::record::{DnsRecord, RecordValue};
use crate::setup::zone;
use crate::shell::net::handshake::HandshakeResult;
use facts::{
    NOW, address, all_good, good_signing, good_tls, handshake, in_dns, in_list, in_machine,
    in_names, in_outbound, in_ports, in_relay, in_resolver, in_service, missing, name, said, with,
};

/// One thing that is wrong: the check that says so, how urgent it is, a part of what was seen and of what mends it.
type Case = (
    &'static str,
    CheckState,
    &'static str,
    &'static str,
    Vec<Finding>,
);

fn cases() -> Vec<Case> {
    let mut all = of_service::cases();
    all.extend(of_names::cases());
    all.extend(of_outbound::cases());
    all.extend(of_dns::cases());
    all.extend(of_tls::cases());
    all.extend(of_world::cases());
    all
}

#[test]
fn where_all_is_well_nothing_is_red_and_every_check_has_its_word() {
    let found = all_good();
    let ids: BTreeSet<&str> = found.iter().map(|finding| finding.check.id).collect();
    for check in ALL {
        assert!(ids.contains(check.id), "{} is not made", check.id);
    }
    for finding in &found {
        let expected = matches!(finding.state, CheckState::Good | CheckState::Skipped);
        assert!(expected, "{}", finding.text());
        assert!(finding.mend.is_empty(), "{}", finding.text());
        assert!(!finding.is_red());
    }
}

#[test]
fn one_thing_that_is_wrong_is_seen_and_mended_by_its_check_alone() {
    let good = all_good();
    for (id, state, seen, mend, found) in cases() {
        let of_check = |finding: &&Finding| {
            finding.check.id == id && finding.state == state && finding.seen.contains(seen)
        };
        let finding = found.iter().find(of_check).unwrap_or_else(|| {
            let all: Vec<String> = found.iter().map(Finding::text).collect();
            panic!("no {id} {state:?} with {seen:?}:\n{}", all.concat())
        });
        assert!(finding.mend.contains(mend), "{}", finding.text());
        // Nothing else turns red along with it, but for what follows from it.
        let is_new = |other: &&Finding| {
            other.is_red()
                && !good
                    .iter()
                    .any(|was| was.check == other.check && was.is_red())
                && other.check.subject == finding.check.subject
                && other.check.id != id
        };
        let others: Vec<&str> = found
            .iter()
            .filter(is_new)
            .map(|other| other.check.id)
            .collect();
        assert!(
            others.is_empty() || FOLLOWS.contains(&id),
            "{id} {seen:?}: {others:?}"
        );
    }
}

/// Where one fact makes more than one finding red.
const FOLLOWS: [&str; 5] = [
    "disk-space",
    "queue-age",
    "disk-sync",
    "dkim-key",
    "dns-address",
];

#[test]
fn every_check_is_seen_otherwise_than_good() {
    let cases = cases();
    for check in ALL {
        let is_red = |(id, state, ..): &&Case| {
            *id == check.id
                && match check.need {
                    Need::Required => *state == CheckState::Bad,
                    Need::Advised => *state == CheckState::Warning,
                }
        };
        let ways = cases.iter().filter(|case| case.0 == check.id);
        assert!(ways.count() > 0, "{} is never seen red", check.id);
        let is_rule = check.id.starts_with("rules-");
        assert!(
            is_rule || cases.iter().any(|case| is_red(&case)),
            "{} is never seen bad",
            check.id
        );
    }
}

#[test]
fn all_words_are_of_one_voice() {
    let mut all = all_good();
    all.extend(cases().into_iter().flat_map(|case| case.4));
    for finding in &all {
        let check = finding.check;
        for text in [check.title, check.why, &finding.seen, &finding.mend] {
            assert!(
                !text.ends_with('.') || text.ends_with("com.") || text.ends_with("arpa."),
                "{text:?} ends with a period"
            );
            assert!(!text.contains('\n') && !text.contains("  "), "{text:?}");
        }
        assert!(
            !finding.seen.is_empty() && !check.why.is_empty(),
            "{}",
            check.id
        );
        let is_open = matches!(
            finding.state,
            CheckState::Bad | CheckState::Warning | CheckState::Unknown
        );
        let is_rule = check.id.starts_with("rules-");
        assert!(
            is_rule || is_open != finding.mend.is_empty(),
            "{}",
            finding.text()
        );
        // One shape.
        let json = finding.json();
        let mut keys: Vec<&str> = json
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "about", "id", "mend", "required", "seen", "state", "title", "why"
            ]
        );
    }
    let ids: BTreeSet<&str> = ALL.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), ALL.len());
}

#[test]
fn what_is_late_is_unknown_and_red() {
    for subject in super::SUBJECTS {
        let found = super::late(&(subject, Some(name("example.com"))));
        assert!(!found.is_empty());
        for finding in found {
            assert_eq!(finding.state, CheckState::Unknown);
            assert_eq!(finding.is_red(), finding.check.need == Need::Required);
        }
    }
}

/// What the doctor would say where no resolver answers, of two domains on one host.
#[test]
fn a_cause_is_told_once_and_what_depends_on_it_points_there() {
    let why = "no answer";
    let resolver = in_resolver(|asked| asked.answers = Err(why.to_owned()));
    let of_domain = |domain: &str| {
        let policy = spf::SpfResult::TempError;
        let mut found = in_dns(|facts| {
            facts.zone.domain = name(domain);
            for row in &mut facts.rows {
                row.state = zone::RecordState::Unknown;
            }
            for of_address in &mut facts.policies {
                of_address.of_domain = (policy, None);
                of_address.of_host = (policy, None);
            }
        });
        found.retain(|finding| finding.state == CheckState::Unknown);
        found
    };
    let mut found = [of_domain("example.com"), of_domain("example.com"), resolver].concat();
    let before = found.len();
    super::finding::told_once(&mut found);
    assert!(found.len() < before);
    let mut told = BTreeSet::new();
    for finding in &found {
        assert!(
            told.insert((finding.check.id, &finding.about)),
            "{}",
            finding.text()
        );
        if finding.state != CheckState::Unknown {
            continue;
        }
        assert_eq!(finding.seen, "not known: see \"resolver answers\"");
        assert_eq!(finding.text().lines().count(), 1, "{}", finding.text());
        assert_eq!(finding.is_red(), finding.need == Need::Required);
    }
    let causes = found.iter().filter(|finding| finding.seen == why);
    assert_eq!(causes.count(), 1);
    // Where the resolver answers it is the zone's servers that do not, and each finding says so itself.
    let mut found = [of_domain("example.com"), in_resolver(|_| {})].concat();
    super::finding::told_once(&mut found);
    assert!(
        found
            .iter()
            .all(|finding| !finding.seen.contains("see \"resolver"))
    );
}
