//! The records of a domain, and how receivers interpret them.

use std::net::IpAddr;

use crate::address::{Domain, Mailbox};
use crate::auth::spf::{self, Sender};
use crate::dns::{ZoneData, ZoneKind};
use crate::policy::relay;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::dns::{Facts, MailboxReach, StsView, report_addresses};
use crate::setup::record::RecordValue;
use crate::setup::zone::{Purpose, compare};
use crate::setup::{survey, zone};
use crate::shell::process::time::wall;

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope, domain: &Domain) -> Facts {
    let config = &examination.config;
    let mut facts = survey::facts_of(config, domain, examination.addresses().to_vec());
    facts.key_digest.clone_from(&examination.key_digest);
    let seen = survey::look(&facts, &examination.asker);
    let rows = compare(&facts, &seen);
    let policies = facts
        .addresses
        .iter()
        .map(|address| policy(examination, &facts, *address))
        .collect();
    let published = rows
        .iter()
        .find(|row| row.purpose == Purpose::Dmarc && row.state == zone::RecordState::There);
    let reports = match published.map(|row| &row.record.value) {
        Some(RecordValue::Text(text)) => report_addresses(text),
        _ => Vec::new(),
    };
    let reports = reports
        .into_iter()
        .map(|to| {
            let delivery = delivery_to(examination, &to);
            (to, delivery)
        })
        .collect();
    let elsewhere = match facts.receives {
        true => Ok(Vec::new()),
        false => exchangers(examination, domain),
    };
    Facts {
        zone: facts,
        rows,
        policies,
        elsewhere,
        reports,
    }
}

fn policy(examination: &DoctorScope, facts: &zone::ZoneFacts, address: IpAddr) -> StsView {
    let host = facts.host.as_str();
    let judge = |path: &str| {
        let sender = Sender::new(address, host, path, host, wall());
        let verdict = examination
            .asker
            .verdict(|answers| spf::check(&sender, answers));
        let detail = match (&verdict.cause, &verdict.mechanism) {
            (Some(cause), _) => Some(cause.to_string()),
            (None, mechanism) => mechanism.clone(),
        };
        (verdict.outcome, detail)
    };
    StsView {
        address,
        of_domain: judge(&format!("postmaster@{}", facts.domain)),
        of_host: judge(""),
    }
}

fn exchangers(examination: &DoctorScope, domain: &Domain) -> Result<Vec<Domain>, String> {
    let reply = examination.asker.resolve(domain, ZoneKind::Mx)?;
    let hosts = reply
        .answers
        .into_iter()
        .filter_map(|record| match record.data {
            ZoneData::Mx(mx) => mx.host,
            _ => None,
        });
    Ok(hosts.collect())
}

/// Whether mail for an address arrives, as far as that can be known without sending any.
pub(super) fn delivery_to(examination: &DoctorScope, address: &str) -> MailboxReach {
    let Ok(mailbox) = Mailbox::parse(address) else {
        return MailboxReach::Refused("it is not a mail address".to_owned());
    };
    let config = &examination.config;
    if config.receiving(mailbox.domain()).is_some() {
        return match relay::expand(config, &mailbox) {
            Ok(_) => MailboxReach::Here,
            Err(refusal) => MailboxReach::Refused(refusal.to_string()),
        };
    }
    domain_takes_mail(examination, mailbox.domain())
}

/// Whether a domain has a host for mail (RFC 5321 section 5.1, RFC 7505).
pub(super) fn domain_takes_mail(examination: &DoctorScope, domain: &Domain) -> MailboxReach {
    let asker = &examination.asker;
    let reply = match asker.resolve(domain, ZoneKind::Mx) {
        Ok(reply) => reply,
        Err(cause) => return MailboxReach::Unknown(cause),
    };
    let exchangers: Vec<Option<Domain>> = reply
        .answers
        .into_iter()
        .filter_map(|record| match record.data {
            ZoneData::Mx(mx) => Some(mx.host),
            _ => None,
        })
        .collect();
    match exchangers.as_slice() {
        [None] => MailboxReach::Refused(format!("{domain} takes no mail, as its MX record says")),
        [_, ..] => MailboxReach::Elsewhere,
        [] => {
            let kinds = [ZoneKind::A, ZoneKind::Aaaa];
            let replies: Result<Vec<_>, String> = kinds
                .into_iter()
                .map(|kind| asker.resolve(domain, kind))
                .collect();
            match replies {
                Err(cause) => MailboxReach::Unknown(cause),
                Ok(replies) if replies.iter().any(|reply| !reply.answers.is_empty()) => {
                    MailboxReach::Elsewhere
                }
                Ok(_) => MailboxReach::Refused(format!("{domain} has no host for mail")),
            }
        }
    }
}
