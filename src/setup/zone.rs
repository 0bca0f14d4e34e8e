//! The DNS records that a domain needs if this host sends and receives its mail, and how the published ones differ.
//!
//! [`questions`] returns the questions that must be answered, [`compare`] judges the answers.

mod dkim;
mod dmarc;
#[cfg(test)]
mod tests;
mod wanted;
mod web;

use std::net::IpAddr;

use super::record::RecordValue;
use super::spf_record;
use crate::address::Domain;
use crate::dns::{Mx, Tlsa, ZoneKind, reverse_name};
use wanted::below;
pub use wanted::{
    PublishedKey, PublishedRecords, Purpose, RecordState, WantedRecord, ZoneFacts, ZoneNeed,
    ZoneView,
};

/// The questions to ask.
pub fn questions(facts: &ZoneFacts) -> Vec<(Domain, ZoneKind)> {
    let mut all = vec![
        (facts.host.clone(), ZoneKind::A),
        (facts.host.clone(), ZoneKind::Aaaa),
        (facts.host.clone(), ZoneKind::Txt),
        (facts.domain.clone(), ZoneKind::Mx),
        (facts.domain.clone(), ZoneKind::Txt),
    ];
    let texts = [
        facts.dmarc_name(),
        facts.reports_name(),
        below("_smtp._tls", &facts.domain),
    ];
    let selectors = facts.keys.iter().map(|key| key.name(&facts.domain));
    all.extend(
        texts
            .into_iter()
            .chain(selectors)
            .flatten()
            .map(|name| (name, ZoneKind::Txt)),
    );
    all.extend(
        facts
            .addresses
            .iter()
            .map(|address| (reverse_name(*address), ZoneKind::Ptr)),
    );
    all.extend(
        facts
            .services()
            .into_iter()
            .map(|(name, _)| (name, ZoneKind::Srv)),
    );
    if let Some(name) = below("_25._tcp", &facts.host) {
        all.push((name, ZoneKind::Tlsa));
    }
    all.extend(web::questions(facts));
    all.sort();
    all.dedup();
    all
}

/// The records that should exist, and the state of each in the DNS.
pub fn compare(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = addresses(facts, seen);
    rows.extend(pointers(facts, seen));
    rows.extend(exchanger(facts, seen));
    rows.push(spf(facts, seen));
    rows.push(spf_of_helo(facts, seen));
    rows.extend(
        facts
            .keys
            .iter()
            .filter_map(|key| dkim::row(facts, key, seen)),
    );
    rows.extend(dmarc::row(facts, seen));
    rows.extend(dmarc::reports(facts, seen));
    rows.extend(tls_reports(facts, seen));
    rows.extend(services(facts, seen));
    rows.extend(association(facts, seen));
    rows.extend(web::rows(facts, seen));
    for row in &mut rows {
        obstacles(row, seen);
    }
    rows
}

/// Whether no record needs a change.
pub fn is_complete(rows: &[WantedRecord]) -> bool {
    rows.iter()
        .all(|row| row.need != ZoneNeed::Required || row.state == RecordState::There)
}

fn addresses(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows: Vec<WantedRecord> = Vec::new();
    for address in &facts.addresses {
        let value = RecordValue::Address(*address);
        let mut row = WantedRecord::new(Purpose::Address, ZoneNeed::Required, &facts.host, value);
        row.judge(seen.get(&facts.host, row.record.value.kind()));
        let is_ours = |value: &RecordValue| matches!(value, RecordValue::Address(other) if facts.addresses.contains(other));
        row.found.retain(|value| !is_ours(value));
        if row.state == RecordState::Differs && row.found.is_empty() {
            row.state = RecordState::Missing;
        }
        if row.state == RecordState::There && !row.found.is_empty() {
            let others: Vec<String> = row.found.iter().map(RecordValue::line).collect();
            row.note(format!(
                "{} leads to {} too, which this machine does not send from: take it out, or name all addresses",
                facts.host,
                others.join(" and ")
            ));
        }
        rows.push(row);
    }
    let families = [
        (ZoneKind::A, facts.addresses.iter().any(IpAddr::is_ipv4)),
        (ZoneKind::Aaaa, facts.addresses.iter().any(IpAddr::is_ipv6)),
    ];
    for (kind, is_ours) in families {
        let published = seen.get(&facts.host, kind);
        if let (false, PublishedRecords::Records(values), Some(row)) =
            (is_ours, published, rows.first_mut())
        {
            let lines: Vec<String> = values.iter().map(RecordValue::line).collect();
            row.note(format!(
                "{} has {kind} {} as well, but this machine has no such address that leads to the Internet: mail that is \
                 sent there is delayed; take the record out",
                facts.host,
                lines.join(" and ")
            ));
        }
    }
    rows
}

fn pointers(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = Vec::new();
    for address in &facts.addresses {
        let name = reverse_name(*address);
        let value = RecordValue::Pointer(facts.host.clone());
        let mut row = WantedRecord::new(Purpose::Pointer, ZoneNeed::Required, &name, value);
        row.judge(seen.get(&name, ZoneKind::Ptr));
        if row.state == RecordState::There && !row.found.is_empty() {
            let names: Vec<String> = row.found.iter().map(RecordValue::line).collect();
            row.note(format!(
                "the address has other names too ({}); one is best",
                names.join(", ")
            ));
        }
        rows.push(row);
    }
    rows
}

fn exchanger(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    if !facts.receives {
        return None;
    }
    let wanted = Mx {
        preference: 10,
        host: Some(facts.host.clone()),
    };
    let mut row = WantedRecord::new(
        Purpose::Mx,
        ZoneNeed::Required,
        &facts.domain,
        RecordValue::Mx(wanted),
    );
    let published = seen.get(&facts.domain, ZoneKind::Mx);
    if let PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) = &published {
        let exchangers: Vec<&Mx> = values
            .iter()
            .filter_map(|value| match value {
                RecordValue::Mx(mx) => Some(mx),
                _ => None,
            })
            .collect();
        let ours = exchangers
            .iter()
            .find(|mx| mx.host.as_ref() == Some(&facts.host));
        if let Some(ours) = ours {
            row.record.value = RecordValue::Mx((*ours).clone());
            row.state = RecordState::There;
            let before: Vec<String> = exchangers
                .iter()
                .filter(|mx| mx.preference < ours.preference)
                .filter_map(|mx| mx.host.as_ref().map(Domain::to_string))
                .collect();
            if !before.is_empty() {
                row.note(format!(
                    "{} come first, so that mail reaches this host only while they are down",
                    before.join(", ")
                ));
            }
            return Some(row);
        }
    }
    row.judge(published);
    if row.state == RecordState::Differs {
        row.note(format!(
            "mail for {} goes elsewhere today. If that is meant, set receive = false in [domain.\"{}\"] of chopar.toml; \
             else put this record in place of the others",
            facts.domain, facts.domain
        ));
    }
    Some(row)
}

fn spf(facts: &ZoneFacts, seen: &ZoneView) -> WantedRecord {
    let fresh = RecordValue::Text(spf_record::new(&facts.host));
    let mut row = WantedRecord::new(Purpose::Spf, ZoneNeed::Required, &facts.domain, fresh);
    let passes = seen.spf_passes == Some(true);
    let texts = seen.texts(&facts.domain, spf_record::is_one);
    let flawed = |text: &str| {
        spf_record::flaws(&[text.to_owned()], None).contains(&spf_record::Flaw::AllPass)
    };
    let published = row.judge_texts(texts, |text| passes && !flawed(text));
    if !published.is_empty() {
        row.record.value = RecordValue::Text(spf_record::merged(&published, &facts.host, passes));
    }
    for flaw in spf_record::flaws(&published, seen.spf_lookups) {
        row.note(flaw.to_string());
    }
    if row.state == RecordState::Differs && published.len() == 1 && seen.spf_passes.is_none() {
        row.note("whether this host passes by it could not be found out: a record that it leads to has no answer");
    }
    row
}

fn spf_of_helo(facts: &ZoneFacts, seen: &ZoneView) -> WantedRecord {
    let value = RecordValue::Text(spf_record::of_helo());
    let mut row = WantedRecord::new(Purpose::SpfHelo, ZoneNeed::Advised, &facts.host, value);
    if facts.host == facts.domain {
        // One record serves both.
        row.need = ZoneNeed::Required;
        row = spf(facts, seen);
        row.purpose = Purpose::SpfHelo;
        return row;
    }
    let passes = seen.helo_passes == Some(true);
    let published = row.judge_texts(seen.texts(&facts.host, spf_record::is_one), |_| passes);
    if !published.is_empty() {
        row.record.value = RecordValue::Text(spf_record::merged(&published, &facts.host, passes));
    }
    for flaw in spf_record::flaws(&published, None) {
        row.note(flaw.to_string());
    }
    row
}

fn tls_reports(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    if !facts.receives {
        return None;
    }
    let name = below("_smtp._tls", &facts.domain)?;
    let value = RecordValue::Text(format!("v=TLSRPTv1; rua=mailto:{}", facts.reports));
    let mut row = WantedRecord::new(Purpose::TlsReports, ZoneNeed::Advised, &name, value);
    let is_one = |text: &str| {
        text.trim_start()
            .to_ascii_lowercase()
            .starts_with("v=tlsrptv1")
    };
    row.judge_texts(seen.texts(&name, is_one), |text| text.contains("rua="));
    Some(row)
}

fn services(facts: &ZoneFacts, seen: &ZoneView) -> Vec<WantedRecord> {
    let mut rows = Vec::new();
    for (name, service) in facts.services() {
        let mut row = WantedRecord::new(
            Purpose::Submission,
            ZoneNeed::Advised,
            &name,
            RecordValue::Service(service),
        );
        row.judge(seen.get(&name, ZoneKind::Srv));
        let leads_here = row.found.iter().any(|value| {
            matches!((value, &row.record.value), (RecordValue::Service(found), RecordValue::Service(wanted))
                if (found.port, &found.target) == (wanted.port, &wanted.target))
        });
        if leads_here {
            row.state = RecordState::There;
        }
        rows.push(row);
    }
    rows
}

fn association(facts: &ZoneFacts, seen: &ZoneView) -> Option<WantedRecord> {
    let name = below("_25._tcp", &facts.host)?;
    let published = seen.get(&name, ZoneKind::Tlsa);
    let is_published = matches!(
        &published,
        PublishedRecords::Records(_) | PublishedRecords::Alias(..)
    );
    // If the zone is not signed, the record is ignored; but a wrong one does harm as soon as the zone is signed.
    if !seen.signed && !is_published {
        return None;
    }
    let wanted = Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: facts.key_digest.clone()?,
    };
    let need = if is_published {
        ZoneNeed::Required
    } else {
        ZoneNeed::Advised
    };
    let mut row = WantedRecord::new(
        Purpose::Association,
        need,
        &name,
        RecordValue::Association(wanted),
    );
    row.judge(published);
    if row.state == RecordState::Differs {
        row.note("senders that use DANE refuse to deliver to this host (RFC 7672)");
    }
    if !seen.signed {
        row.note("the zone is not signed with DNSSEC, so no sender uses it");
    }
    Some(row)
}

fn obstacles(row: &mut WantedRecord, seen: &ZoneView) {
    let name = row.record.name.clone();
    if let PublishedRecords::Alias(to, _) = seen.get(&name, row.record.value.kind()) {
        let text = if matches!(
            row.purpose,
            Purpose::Address | Purpose::Mx | Purpose::Spf | Purpose::SpfHelo
        ) {
            format!(
                "{name} is an alias (CNAME) to {to}: no other record can stand beside it (RFC 1034 section 3.6.2), and the name \
                 of a mail server must not be one (RFC 5321 section 5.1); take it out first"
            )
        } else if row.state == RecordState::There {
            format!("{name} is an alias (CNAME) to {to}, where it is right today")
        } else {
            format!(
                "{name} is an alias (CNAME) to {to}: take it out before you add this, or change it there"
            )
        };
        row.note(text);
    }
    let wildcard = seen
        .wildcards
        .iter()
        .find(|zone| name.is_under(zone) && name != **zone);
    if let (Some(zone), RecordState::Differs | RecordState::Missing) = (wildcard, &row.state) {
        row.note(format!(
            "*.{zone} answers for every name below {zone} that has no record of its own; once this one is added it counts \
             instead"
        ));
    }
}
