//! `chopar report`: which hosts send in the name of a domain, as other hosts have reported.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Instant;

use argh::FromArgs;

use super::failure::Failure;
use super::output;
use super::sysexits::{IO_ERROR, NOT_PERMITTED};
use crate::address::Domain;
use crate::auth::spf::{Sender, SpfResult, check};
use crate::config::Config;
use crate::date::Timestamp;
use crate::dns::{self, Answer, Question};
use crate::limits::{REPORT_NAMES_TIMEOUT, REPORT_SUMMARY_DAYS};
use crate::report::{
    DomainSummary, KnownAddress, Ledger, ResultCounts, SenderKind, SourceSum, Tally,
};
use crate::setup::dns_client::DnsClient;
use crate::setup::machine::source_addresses;
use crate::shell::helper::reports::{ledger_of, tally_of};

/// Show who sends in the name of a domain, what passes, what fails and why, from DMARC and TLS reports.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "report")]
pub struct Report {
    /// the domain (default: every served domain)
    #[argh(positional)]
    pub domain: Option<String>,
    /// the number of days (default: 30)
    #[argh(option, default = "REPORT_SUMMARY_DAYS as u64")]
    days: u64,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// ask this DNS server, ADDRESS:PORT (default: the servers of the relay)
    #[argh(option)]
    pub dns: Option<SocketAddr>,
}

impl Report {
    /// Prints the stored counts about these domains.
    pub fn run(
        &self,
        config: &Config,
        domains: &[Domain],
        output: &mut dyn Write,
        now: Timestamp,
        ask: &mut dyn FnMut(&Question) -> Answer,
    ) -> Result<(), Failure> {
        let folder = config.state_dir.join("reports");
        let own = source_addresses(config);
        let resolvers = self
            .dns
            .map_or_else(|| config.dns.servers.addresses.clone(), |named| vec![named]);
        let asker =
            DnsClient::new(resolvers, DNS_PORT).until(Instant::now() + REPORT_NAMES_TIMEOUT);
        // If no server answers, none is asked again.
        let mut is_silent = false;
        let mut summaries = Vec::new();
        for domain in domains {
            let ledger = kept(&folder, domain)?;
            let about = (now, self.days);
            let mut shown = Vec::new();
            drop(DomainSummary::new(domain, &ledger, about, &mut |address| {
                shown.push(address);
                KnownAddress::default()
            }));
            shown.retain(|address| !own.contains(address));
            let names = asker.host_names(&shown);
            let mut know = |address: IpAddr| {
                let mut spf = None;
                if !is_silent {
                    spf = spf_allows(config, domain, address, now, ask);
                    is_silent = spf.is_none();
                }
                KnownAddress {
                    is_own: own.contains(&address),
                    spf,
                    name: names.get(&address).map(Domain::to_string),
                }
            };
            summaries.push(DomainSummary::new(domain, &ledger, about, &mut know));
        }
        let text = match self.json {
            true => {
                let json = serde_json::to_string_pretty(&summaries);
                json.map_err(|error| Failure::new(IO_ERROR, error))?
            }
            false => {
                let tally = tally_of(&folder);
                let parts: Vec<String> = summaries.iter().map(told).collect();
                format!("{}{}", parts.join("\n"), refused(&tally))
            }
        };
        writeln!(output, "{}", output::text(text.trim_end()))
            .map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
    }
}

/// The stored counts about a domain.
fn kept(folder: &Path, domain: &Domain) -> Result<Ledger, Failure> {
    let ledger = ledger_of(folder, domain).map_err(|error| {
        let text = format!("{}: {error}", folder.display());
        match error.kind() {
            ErrorKind::PermissionDenied => {
                Failure::new(NOT_PERMITTED, format!("{text}; run it as root, with sudo"))
            }
            _ => Failure::new(IO_ERROR, text),
        }
    })?;
    ledger.ok_or_else(|| {
        let text = format!(
            "{}/{domain}.json is damaged; the next report sets it aside and begins another",
            folder.display()
        );
        Failure::new(IO_ERROR, text)
    })
}

/// Whether the SPF record of a domain allows an address; `None` if the DNS does not answer.
fn spf_allows(
    config: &Config,
    domain: &Domain,
    address: IpAddr,
    now: Timestamp,
    ask: &mut dyn FnMut(&Question) -> Answer,
) -> Option<bool> {
    let path = format!("postmaster@{domain}");
    let receiver = config.hostname.as_str();
    let sender = Sender::new(address, domain.as_str(), &path, receiver, now);
    match dns::verdict(ask, |answers| check(&sender, answers)).outcome {
        SpfResult::TempError => None,
        outcome => Some(outcome == SpfResult::Pass),
    }
}

/// A summary as text.
fn told(summary: &DomainSummary) -> String {
    let counts = &summary.messages;
    let mut text = format!(
        "{}, last {} days: {} messages, {} passed, {} failed",
        summary.domain,
        summary.days_asked,
        counts.messages(),
        counts.passed(),
        counts.neither
    );
    if counts.quarantined + counts.rejected > 0 {
        text.push_str(&format!(
            " ({} put aside, {} refused by receivers)",
            counts.quarantined, counts.rejected
        ));
    }
    text.push('\n');
    if !summary.reporters.is_empty() {
        text.push_str(&format!("said by {}\n", listed(&summary.reporters)));
    }
    if summary.unverified > 0 {
        text.push_str(&format!(
            "not counted: {} messages in reports whose sender cannot be shown\n",
            summary.unverified
        ));
    }
    for source in &summary.sources {
        text.push_str(&line(source));
    }
    if summary.others.messages() > 0 {
        text.push_str(&format!("  {}  others\n", sums(&summary.others)));
    }
    for tls in &summary.tls {
        text.push_str(&format!(
            "  TLS: {}: {} sessions with TLS, {} failed; {}\n",
            tls.reporter, tls.successes, tls.failures, tls.words
        ));
    }
    text.push_str(&format!("Next: {}\n", summary.advice));
    text
}

fn line(source: &SourceSum) -> String {
    let mark = match source.kind {
        SenderKind::Unknown => '?',
        _ if source.messages.neither > 0 => '!',
        _ => ' ',
    };
    let mut shown = source.addresses.iter().filter(|one| **one != source.who);
    let first = shown
        .next()
        .map_or_else(String::new, |first| match shown.next() {
            Some(_) => format!(" ({first} and others)"),
            None => format!(" ({first})"),
        });
    format!(
        "{mark} {}  {}{first}\n{:24}{}\n",
        sums(&source.messages),
        source.who,
        "",
        source.words
    )
}

fn sums(counts: &ResultCounts) -> String {
    format!("{:>8} ok {:>8} failed", counts.passed(), counts.neither)
}

/// A few names, and how many more.
fn listed(names: &[String]) -> String {
    let shown = names.get(..NAMES_SHOWN).unwrap_or(names);
    let rest = names.len().saturating_sub(shown.len());
    match rest {
        0 => shown.join(", "),
        rest => format!("{} and {rest} more", shown.join(", ")),
    }
}

fn refused(tally: &Tally) -> String {
    let total: u64 = tally.refused.values().sum();
    if total == 0 {
        return String::new();
    }
    let causes = tally.refused.iter();
    let causes: Vec<String> = causes
        .map(|(cause, count)| format!("{cause} {count}"))
        .collect();
    format!("\n{total} reports were not taken: {}\n", causes.join(", "))
}

/// The port of the zones' name servers, of which none is asked here.
const DNS_PORT: u16 = 53;
const NAMES_SHOWN: usize = 8;
