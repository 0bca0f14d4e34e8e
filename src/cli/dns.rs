//! `chopar dns`: the records that a domain needs, and how the published records differ.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::failure::Failure;
use super::output;
use super::served::meant;
use super::sysexits::{TRY_AGAIN, UNAVAILABLE, USAGE};
use crate::address::Domain;
use crate::config::{Config, quantity};
use crate::escape::one_line;
use crate::setup::dns_client::DnsClient;
use crate::setup::record::{RecordValue, label};
use crate::setup::record_format::{Format, format, row_json};
use crate::setup::surveys::{self, Survey};
use crate::setup::zone::{Purpose, RecordState, WantedRecord, ZoneFacts, ZoneNeed, is_complete};
use crate::setup::{machine, survey};

/// Show the DNS records that a domain needs, and which of them exist.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "dns")]
pub struct Dns {
    /// the domain (default: every served domain)
    #[argh(positional)]
    domain: Option<String>,
    /// print records for another program: zone, json, terraform, cloudflare or nsupdate
    #[argh(option)]
    format: Option<Format>,
    /// print JSON; the same as --format json
    #[argh(switch)]
    json: bool,
    /// an address of this host, if it is behind the address of another machine; may be given twice
    #[argh(option)]
    address: Vec<IpAddr>,
    /// ask again until all required records exist
    #[argh(switch)]
    watch: bool,
    /// how long to watch, such as 30m (default: 1d)
    #[argh(option, from_str_fn(duration), default = "WATCH_DEFAULT")]
    within: Duration,
    /// ask this resolver, ADDRESS:PORT (default: the servers of the relay)
    #[argh(option)]
    dns: Option<SocketAddr>,
    /// the port of the servers of zones (default: 53)
    #[argh(option, default = "DNS_PORT")]
    zone_port: u16,
}

const WATCH_DEFAULT: Duration = Duration::from_secs(86_400);
const WATCH_INTERVAL: Duration = Duration::from_secs(10);
const DNS_PORT: u16 = 53;

fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).ok_or_else(|| format!("{text} is not a duration such as 30m"))
}

impl Dns {
    /// Prints the required records.
    pub fn run(
        &self,
        folder: &Path,
        config: &Config,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        let domains = meant(folder, self.domain.as_deref())?;
        let resolvers = match self.dns {
            Some(server) => vec![server],
            None => config.dns.servers.addresses.clone(),
        };
        let form = self.format.or(self.json.then_some(Format::Json));
        if self.watch && form.is_some() {
            return Err(Failure::new(
                USAGE,
                "--watch shows a table; leave out --format and --json",
            ));
        }
        let started = Instant::now();
        let key_digest = survey::key_digest(folder);
        let look = || {
            let asker = Arc::new(DnsClient::new(resolvers.clone(), self.zone_port));
            asker.hear(&config.hostname);
            surveys::look(config, &domains, &self.address, key_digest.as_ref(), &asker)
        };
        let looked = look();
        let shown = by_domain(&looked);
        output::print(output, &text(form, &looked, &shown))?;
        let is_unknown = |(_, row): &(Domain, WantedRecord)| row.state == RecordState::Unknown;
        match self.watch {
            true => self.watch(shown, started, || by_domain(&look()), output),
            false if shown.iter().all(is_unknown) => Err(Failure::new(
                UNAVAILABLE,
                "nothing could be found out: no name server answers; --dns ADDRESS:PORT asks another",
            )),
            false => Ok(()),
        }
    }

    /// Looks again until all required records exist, and prints each change to what was shown.
    fn watch(
        &self,
        mut shown: Vec<(Domain, WantedRecord)>,
        started: Instant,
        look: impl Fn() -> Vec<(Domain, WantedRecord)>,
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        loop {
            let rows: Vec<WantedRecord> = shown.iter().map(|(_, row)| row.clone()).collect();
            if is_complete(&rows) {
                let text = format!(
                    "all required records are there after {}\n",
                    ago(started.elapsed())
                );
                return output::print(output, &text);
            }
            if started.elapsed() >= self.within {
                return Err(Failure::new(
                    TRY_AGAIN,
                    "not all required records are there yet",
                ));
            }
            thread::sleep(WATCH_INTERVAL.min(self.within.saturating_sub(started.elapsed())));
            let now = look();
            output::print(output, &changes(&shown, &now, started.elapsed()))?;
            shown = now;
        }
    }
}

/// The rows of all domains, each with its domain.
fn by_domain(looked: &[Survey]) -> Vec<(Domain, WantedRecord)> {
    let with_domain = |survey: &Survey| {
        let domain = survey.facts.domain.clone();
        let rows = survey.rows.clone().into_iter();
        rows.map(move |row| (domain.clone(), row))
    };
    looked.iter().flat_map(with_domain).collect()
}

fn text(form: Option<Format>, looked: &[Survey], shown: &[(Domain, WantedRecord)]) -> String {
    match form {
        Some(Format::Json) => json(shown),
        Some(form) => looked
            .iter()
            .map(|survey| format(form, &survey.zone, &survey.rows))
            .collect(),
        None => looked
            .iter()
            .map(|survey| table(&survey.facts, &survey.zone, &survey.rows))
            .collect(),
    }
}

fn json(shown: &[(Domain, WantedRecord)]) -> String {
    let rows: Vec<serde_json::Value> = shown
        .iter()
        .map(|(domain, row)| {
            let mut json = row_json(row);
            if let Some(fields) = json.as_object_mut() {
                fields.insert("domain".to_owned(), domain.as_str().into());
            }
            json
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(rows))
}

/// The records of a domain, those that need action first.
pub fn table(facts: &ZoneFacts, zone: &Domain, rows: &[WantedRecord]) -> String {
    let required = || rows.iter().filter(|row| row.need == ZoneNeed::Required);
    let of = |state: RecordState| required().filter(|row| row.state == state).count();
    let (all, there, unknown) = (
        required().count(),
        of(RecordState::There),
        of(RecordState::Unknown),
    );
    let mut out = match unknown {
        0 => format!(
            "{}: {there} of {all} required records are there\n",
            facts.domain
        ),
        _ if unknown == all => format!(
            "{}: whether the {all} required records are there is not known: no name server answers\n",
            facts.domain
        ),
        _ => format!(
            "{}: {there} of {all} required records are there, {unknown} are not known\n",
            facts.domain
        ),
    };
    if rows.iter().all(|row| row.purpose != Purpose::Dkim) {
        out.push_str(&format!(
            "No DKIM key of this machine signs for it. If {0} should be served here, chopar domain add {0} creates \
             the keys.\n",
            facts.domain
        ));
    }
    if facts.addresses.is_empty() {
        out.push_str(&format!(
            "This machine has no address that leads to the Internet, and below there are no records of {} itself (A \
             or AAAA, and PTR); name the address at which it can be reached: --address ADDRESS\n",
            facts.host
        ));
    }
    for address in facts
        .addresses
        .iter()
        .filter(|address| !machine::is_public(**address))
    {
        out.push_str(&format!(
            "{address} is an address that others do not reach; --address says by which one they do.\n"
        ));
    }
    let shared = shared_notes(rows);
    for (note, count) in &shared {
        out.push_str(&format!(
            "note for {count} of the records below: {}\n",
            one_line(note)
        ));
    }
    let mut ordered: Vec<&WantedRecord> = rows.iter().collect();
    ordered.sort_by_key(|row| (row.state == RecordState::There, row.need, row.purpose));
    for row in ordered {
        out.push('\n');
        out.push_str(&entry(row, zone, &shared));
    }
    out
}

/// Remarks on more than one record, with their number; printed once.
fn shared_notes(rows: &[WantedRecord]) -> Vec<(&str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for note in rows.iter().flat_map(|row| &row.notes) {
        match counts.iter_mut().find(|(known, _)| known == note) {
            Some((_, count)) => *count += 1,
            None => counts.push((note, 1)),
        }
    }
    counts.retain(|(_, count)| *count > 1);
    counts
}

fn entry(row: &WantedRecord, zone: &Domain, shared: &[(&str, usize)]) -> String {
    let record = &row.record;
    let need = match (row.need, &row.state) {
        (ZoneNeed::Advised, state) if *state != RecordState::There => " (advised)",
        _ => "",
    };
    let name = match record.name.is_under(zone) {
        true => format!(
            "{}   (name in the panel of {zone}: {})",
            record.name,
            label(&record.name, zone)
        ),
        false => record.name.to_string(),
    };
    let mut out = format!(
        "{}{need}  {}  {name}\n    {}\n",
        row.state,
        record.value.kind(),
        one_line(&record.value.line())
    );
    if row.state != RecordState::There {
        out.push_str(&format!("  why: {}\n", row.purpose.why()));
    }
    for found in &row.found {
        out.push_str(&format!(
            "  found: {}\n",
            one_line(&RecordValue::line(found))
        ));
    }
    let own = |note: &&String| !shared.iter().any(|(known, _)| known == note);
    for note in row.notes.iter().filter(own) {
        out.push_str(&format!("  note: {}\n", one_line(note)));
    }
    out
}

/// The changes since the last round.
fn changes(
    before: &[(Domain, WantedRecord)],
    now: &[(Domain, WantedRecord)],
    elapsed: Duration,
) -> String {
    let mut out = String::new();
    for (domain, row) in now {
        let was = before.iter().find(|(of, other)| {
            of == domain
                && (other.purpose, &other.record.name) == (row.purpose, &row.record.name)
                && other.record.value.kind() == row.record.value.kind()
        });
        if was.is_none_or(|(_, was)| was.state != row.state) {
            out.push_str(&format!(
                "{}: {} {} is {}\n",
                ago(elapsed),
                row.record.value.kind(),
                row.record.name,
                row.state
            ));
        }
    }
    out
}

fn ago(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Folder, SystemDefaults};
    use crate::setup::zone::{ZoneView, compare};

    #[test]
    fn what_is_to_be_said_of_several_records_is_said_once() {
        let mut folder = Folder::default();
        let settings = b"hostname = \"mail.example.com\"\n";
        folder.insert_file("chopar.toml", settings.to_vec());
        let config = Config::parse(&folder, &SystemDefaults::default()).expect("a configuration");
        let domain = Domain::parse("example.com").expect("a domain");
        let address = "192.0.2.1".parse().expect("an address");
        let facts = survey::facts_of(&config, &domain, vec![address]);
        let rows = compare(&facts, &ZoneView::default());
        let (note, count) = shared_notes(&rows)[0];
        assert!(count > 3, "{rows:?}");
        let shown = table(&facts, &domain, &rows);
        assert_eq!(shown.matches(note).count(), 1, "{shown}");
        let head = format!("\nnote for {count} of the records below: {note}\n");
        assert!(shown.contains(&head), "{shown}");
        // A remark on a single record stays with it.
        assert!(shown.contains("  note: "), "{shown}");
    }
}
