//! The records of a domain: the judgement of `chopar dns`, and its consequences.

use std::net::IpAddr;

use crate::address::Domain;
use crate::auth::dkim::tag::TagList;
use crate::auth::spf;
use crate::setup::doctor::checks::{
    DMARC_RUA, DNS_ADDRESS, DNS_DKIM, DNS_DMARC, DNS_DMARC_REPORTS, DNS_MX, DNS_PTR, DNS_SPF,
    DNS_SPF_HELO, DNS_SUBMISSION, DNS_TLS_REPORTS, DNS_TLSA, DNS_WEB, DoctorCheck, Need,
    OUTBOUND_V4, RESOLVER, SPF, SPF_HELO,
};
use crate::setup::doctor::finding::{CheckState as Outcome, Finding};
use crate::setup::record::RecordValue;
use crate::setup::zone::{self, Purpose, RecordState, WantedRecord};

/// The MTA-STS policy that a receiver finds at one address.
#[derive(Clone, Debug)]
pub struct StsView {
    pub address: IpAddr,
    /// For mail of the domain.
    pub of_domain: (spf::SpfResult, Option<String>),
    /// For the name of the host.
    pub of_host: (spf::SpfResult, Option<String>),
}

/// Whether mail to an address arrives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MailboxReach {
    /// Here, at an existing address.
    Here,
    /// Elsewhere, at a domain that has a host for mail.
    Elsewhere,
    /// It does not, for this reason.
    Refused(String),
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    pub zone: zone::ZoneFacts,
    pub rows: Vec<WantedRecord>,
    /// The policies that receivers find.
    pub policies: Vec<StsView>,
    /// The hosts that receive the domain's mail, if that is elsewhere.
    pub elsewhere: Result<Vec<Domain>, String>,
    /// Addresses that get reports about the domain, and the result of mail to them.
    pub reports: Vec<(String, MailboxReach)>,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.rows.iter().map(|row| record(facts, row)).collect();
    if facts.zone.addresses.is_empty() {
        let seen = "this machine has no address that leads to the Internet";
        let mend = "name the address by which the host is reached: chopar doctor --address ADDRESS";
        // Without a route there is no address; with an unused one, others may still reach the host.
        let unknown = DNS_ADDRESS.unknown(&facts.zone.host, seen, mend);
        found.push(unknown.for_want_of(&OUTBOUND_V4));
    }
    found.extend(facts.policies.iter().flat_map(|policy| spf(facts, policy)));
    if !facts.zone.receives {
        found.push(elsewhere(facts));
    }
    found.extend(
        facts
            .reports
            .iter()
            .map(|(to, delivery)| reports(facts, to, delivery)),
    );
    found
}

const fn check_of(purpose: Purpose) -> &'static DoctorCheck {
    match purpose {
        Purpose::Address => &DNS_ADDRESS,
        Purpose::Pointer => &DNS_PTR,
        Purpose::Mx => &DNS_MX,
        Purpose::Spf => &DNS_SPF,
        Purpose::SpfHelo => &DNS_SPF_HELO,
        Purpose::Dkim => &DNS_DKIM,
        Purpose::Dmarc => &DNS_DMARC,
        Purpose::DmarcReports => &DNS_DMARC_REPORTS,
        Purpose::TlsReports => &DNS_TLS_REPORTS,
        Purpose::Submission => &DNS_SUBMISSION,
        Purpose::Association => &DNS_TLSA,
        Purpose::MtaSts | Purpose::Web => &DNS_WEB,
    }
}

fn record(facts: &Facts, row: &WantedRecord) -> Finding {
    let check = check_of(row.purpose);
    let name = &row.record.name;
    let about = match (&row.purpose, &row.record.value) {
        (Purpose::Address, RecordValue::Address(address)) => format!("{name} {address}"),
        _ => name.to_string(),
    };
    let line = row.record.value.line();
    // The right text, which leads to a record that is not.
    let leads_astray = row.state == RecordState::Differs && row.found == [row.record.value.clone()];
    let mut seen = match row.state {
        RecordState::There => line,
        RecordState::Differs if leads_astray => {
            format!("{line} exists, and a record that it leads to does not name this host")
        }
        RecordState::Differs => {
            let found: Vec<String> = row.found.iter().map(RecordValue::line).collect();
            format!("something else is there: {}", found.join(" | "))
        }
        RecordState::Missing => "it is missing".to_owned(),
        RecordState::OnItsWay => "it is on its way".to_owned(),
        RecordState::Unknown => "it could not be looked up".to_owned(),
    };
    for note in &row.notes {
        seen.push_str("; ");
        seen.push_str(note);
    }
    let need = match row.need {
        zone::ZoneNeed::Required => Need::Required,
        zone::ZoneNeed::Advised => Need::Advised,
    };
    let finding = match row.state {
        RecordState::There => check.good(about, seen),
        RecordState::Differs if leads_astray => {
            check.bad(about, seen, "correct the address records of the host first")
        }
        RecordState::Differs | RecordState::Missing => check.bad(about, seen, publish(facts, row)),
        RecordState::OnItsWay => check.bad(
            about,
            seen,
            "wait: chopar doctor --watch says when it is there",
        ),
        RecordState::Unknown => check
            .unknown(
                about,
                seen,
                "run chopar doctor again once the servers of the zone answer",
            )
            .for_want_of(&RESOLVER),
    };
    // This record may have stricter requirements than others of its kind.
    let finding = Finding {
        state: match (finding.state, need) {
            (Outcome::Warning, Need::Required) => Outcome::Bad,
            (state, _) => state,
        },
        ..finding
    };
    finding.with_need(need)
}

fn publish(facts: &Facts, row: &WantedRecord) -> String {
    let record = &row.record;
    if row.purpose == Purpose::Pointer {
        let of_name = |address: &&IpAddr| crate::dns::reverse_name(**address) == record.name;
        let address = facts.zone.addresses.iter().find(of_name);
        let address = address.map_or_else(|| record.name.to_string(), IpAddr::to_string);
        return format!(
            "set the reverse name (PTR) of {address} to {} in the panel of the server's provider",
            facts.zone.host
        );
    }
    let verb = match (&row.state, row.purpose) {
        (RecordState::Differs, Purpose::Address) => {
            "publish in addition to, or instead of, the existing record"
        }
        (RecordState::Differs, _) => "publish instead of the existing record",
        _ => "publish",
    };
    format!(
        "{verb}: {}. {} {}",
        record.name,
        record.value.kind(),
        record.value.zone_data()
    )
}

fn spf(facts: &Facts, policy: &StsView) -> Vec<Finding> {
    let judged = [
        (&SPF, &facts.zone.domain, &policy.of_domain, Purpose::Spf),
        (
            &SPF_HELO,
            &facts.zone.host,
            &policy.of_host,
            Purpose::SpfHelo,
        ),
    ];
    judged
        .into_iter()
        .map(|(check, domain, (outcome, detail), purpose)| {
            let about = format!("{domain} from {}", policy.address);
            let detail = detail.as_deref().unwrap_or("no record says so");
            let mend = || {
                let row = facts.rows.iter().find(|row| row.purpose == purpose);
                row.map_or_else(|| format!("chopar dns {domain}"), |row| publish(facts, row))
            };
            match outcome {
                spf::SpfResult::Pass => check.good(about, format!("pass ({detail})")),
                spf::SpfResult::TempError => check
                    .unknown(
                        about,
                        format!("a record could not be looked up: {detail}"),
                        "run chopar doctor again once the servers of the zone answer",
                    )
                    .for_want_of(&RESOLVER),
                spf::SpfResult::None => check.bad(about, "none: there is no policy", mend()),
                spf::SpfResult::Neutral => check.bad(about, format!("neutral ({detail})"), mend()),
                spf::SpfResult::Fail => check.bad(about, format!("fail ({detail})"), mend()),
                spf::SpfResult::SoftFail => {
                    check.bad(about, format!("softfail ({detail})"), mend())
                }
                spf::SpfResult::PermError => check.bad(
                    about,
                    format!("the policy cannot be understood: {detail}"),
                    mend(),
                ),
            }
        })
        .collect()
}

fn elsewhere(facts: &Facts) -> Finding {
    let domain = &facts.zone.domain;
    match &facts.elsewhere {
        Ok(hosts) if hosts.is_empty() => DNS_MX.bad(
            domain,
            "mail for it should be received elsewhere (receive = false), but no MX record names the host",
            format!("publish the MX record of the host that receives it, or take receive = false out of [domain.\"{domain}\"]"),
        ),
        Ok(hosts) if hosts.contains(&facts.zone.host) => DNS_MX.bad(
            domain,
            format!(
                "mail for it comes to this host, which does not accept it: receive = false in [domain.\"{domain}\"]"
            ),
            format!("take receive = false out of [domain.\"{domain}\"] in chopar.toml"),
        ),
        Ok(hosts) => {
            let hosts: Vec<&str> = hosts.iter().map(Domain::as_str).collect();
            DNS_MX.good(
                domain,
                format!(
                    "mail for it is received elsewhere, at {}; this host only sends for it, and bounces go there",
                    hosts.join(", ")
                ),
            )
        }
        Err(cause) => DNS_MX.unknown(
            domain,
            format!("it could not be looked up: {cause}"),
            "run chopar doctor again once the servers of the zone answer",
        ).for_want_of(&RESOLVER),
    }
}

fn reports(facts: &Facts, to: &str, delivery: &MailboxReach) -> Finding {
    let about = format!("{} to {to}", facts.zone.domain);
    match delivery {
        MailboxReach::Here => DMARC_RUA.good(about, "the address is one of this host"),
        MailboxReach::Elsewhere => DMARC_RUA.good(about, "its domain has a host for mail"),
        MailboxReach::Refused(why) => DMARC_RUA.bad(
            about,
            format!("mail to it does not arrive: {why}"),
            format!("chopar alias add {to} YOU@ELSEWHERE, or name another address in rua= of the DMARC record"),
        ),
        MailboxReach::Unknown(why) => DMARC_RUA.unknown(
            about,
            format!("it could not be found out: {why}"),
            "run chopar doctor again once the resolver answers",
        ).for_want_of(&RESOLVER),
    }
}

/// The addresses after `rua=` of a policy, at most [`REPORT_ADDRESSES_MAX`].
pub fn report_addresses(policy: &str) -> Vec<String> {
    let tags = TagList::parse(policy.as_bytes()).ok();
    let list = tags.as_ref().and_then(|tags| tags.value("rua"));
    list.unwrap_or_default()
        .split(',')
        .filter_map(|uri| uri.trim().strip_prefix("mailto:"))
        // A size may follow it (RFC 9989 section 4.7).
        .map(|uri| uri.split('!').next().unwrap_or_default().to_owned())
        .take(REPORT_ADDRESSES_MAX)
        .collect()
}

const REPORT_ADDRESSES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_reports_are_found_in_a_policy() {
        let policy = "v=DMARC1; p=none; rua=mailto:a@example.com!10m , mailto:b@example.net,https://example.org/";
        assert_eq!(report_addresses(policy), ["a@example.com", "b@example.net"]);
        assert_eq!(report_addresses("v=DMARC1; p=none"), [""; 0]);
    }
}
