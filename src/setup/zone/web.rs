//! The records for what a domain publishes over HTTPS: the names that lead there, and the record that announces the
//! MTA-STS policy.

use std::net::IpAddr;

use super::wanted::{Purpose, RecordState, WantedRecord, ZoneFacts, ZoneNeed, ZoneView, below};
use crate::address::Domain;
use crate::dns::ZoneKind;
use crate::setup::record::RecordValue;

/// The questions about the domain.
pub(super) fn questions(facts: &ZoneFacts) -> Vec<(Domain, ZoneKind)> {
    let policy = policy_name(facts).map(|name| (name, ZoneKind::Txt));
    let names = facts
        .web
        .iter()
        .flat_map(|name| [ZoneKind::A, ZoneKind::Aaaa].map(|kind| (name.clone(), kind)));
    names.chain(policy).collect()
}

/// The rows of the names and of the policy.
pub(super) fn rows(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = Vec::new();
    for name in &facts.web {
        for address in &facts.addresses {
            rows.push(address_row(facts, name, *address, seen));
        }
    }
    if let (Some(name), Some(record)) = (policy_name(facts), &facts.policy_record) {
        let mut row = WantedRecord::new(
            Purpose::MtaSts,
            ZoneNeed::Advised,
            &name,
            RecordValue::Text(record.clone()),
        );
        let is_one = |text: &str| {
            text.trim_start()
                .to_ascii_lowercase()
                .starts_with("v=stsv1")
        };
        row.judge_texts(seen.texts(&name, is_one), |text| text == record);
        if row.state == RecordState::Differs {
            row.note("the policy has changed: senders go on with the one that they know until the id is this one");
        }
        rows.push(row);
    }
    rows
}

fn policy_name(facts: &ZoneFacts) -> Option<Domain> {
    facts.policy_record.as_ref()?;
    below("_mta-sts", &facts.domain)
}

fn address_row(facts: &ZoneFacts, name: &Domain, address: IpAddr, seen: &ZoneView) -> WantedRecord {
    let mut row = WantedRecord::new(
        Purpose::Web,
        ZoneNeed::Advised,
        name,
        RecordValue::Address(address),
    );
    row.judge(seen.get(name, row.record.value.kind()));
    let is_ours = |value: &RecordValue| matches!(value, RecordValue::Address(other) if facts.addresses.contains(other));
    row.found.retain(|value| !is_ours(value));
    if row.state == RecordState::Differs && row.found.is_empty() {
        row.state = RecordState::Missing;
    }
    row
}
