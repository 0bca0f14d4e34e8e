//! What the domain publishes over HTTPS: the names that lead there, and the record that says which MTA-STS policy there is.

use std::net::IpAddr;

use super::{Facts, Need, Purpose, Row, Seen, State, below};
use crate::address::Domain;
use crate::dns::ZoneKind;
use crate::setup::record::Value;

/// What is asked for the domain.
pub(super) fn questions(facts: &Facts) -> Vec<(Domain, ZoneKind)> {
    let policy = policy_name(facts).map(|name| (name, ZoneKind::Txt));
    let names = facts
        .web
        .iter()
        .flat_map(|name| [ZoneKind::A, ZoneKind::Aaaa].map(|kind| (name.clone(), kind)));
    names.chain(policy).collect()
}

/// The rows of the names and of the policy.
pub(super) fn rows(facts: &Facts, seen: &Seen) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in &facts.web {
        for address in &facts.addresses {
            rows.push(address_row(facts, name, *address, seen));
        }
    }
    if let (Some(name), Some(record)) = (policy_name(facts), &facts.policy_record) {
        let mut row = Row::new(
            Purpose::MtaSts,
            Need::Advised,
            &name,
            Value::Text(record.clone()),
        );
        let is_one = |text: &str| {
            text.trim_start()
                .to_ascii_lowercase()
                .starts_with("v=stsv1")
        };
        row.judge_texts(seen.texts(&name, is_one), |text| text == record);
        if row.state == State::Differs {
            row.note("the policy has changed: senders go on with the one that they know until the id is this one");
        }
        rows.push(row);
    }
    rows
}

fn policy_name(facts: &Facts) -> Option<Domain> {
    facts.policy_record.as_ref()?;
    below("_mta-sts", &facts.domain)
}

fn address_row(facts: &Facts, name: &Domain, address: IpAddr, seen: &Seen) -> Row {
    let mut row = Row::new(Purpose::Web, Need::Advised, name, Value::Address(address));
    row.judge(seen.get(name, row.record.value.kind()));
    let is_ours =
        |value: &Value| matches!(value, Value::Address(other) if facts.addresses.contains(other));
    row.found.retain(|value| !is_ours(value));
    if row.state == State::Differs && row.found.is_empty() {
        row.state = State::Missing;
    }
    row
}
