//! `chopar doctor`: whether mail goes out and comes in as it should, and what mends it where it does not.

use std::io::{IsTerminal as _, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;
use serde_json::{Value, json};

use super::echo;
use super::failure::Failure;
use super::output;
use super::served::meant;
use super::sysexits::{TRY_AGAIN, UNAVAILABLE, USAGE};
use crate::address::Domain;
use crate::config::quantity;
use crate::engine::event::StateFile;
use crate::engine::status::redacted;
use crate::limits::DOCTOR_DOMAINS_MAX;
use crate::setup::doctor::checks::CheckSubject;
use crate::setup::doctor::finding::{CheckState, Finding, first};
use crate::setup::doctor::{DoctorScope, Probe, SUBJECTS, examine, unreadable};
use crate::shell::files::loading;
use crate::shell::files::replace::replace;
use crate::shell::process::time::wall;

/// Check whether mail is sent and received correctly, and say how to correct what is not.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "doctor")]
pub struct Doctor {
    /// the domain (default: every served domain)
    #[argh(positional)]
    domain: Option<String>,
    /// print JSON
    #[argh(switch)]
    json: bool,
    /// repeat the red checks until none is red
    #[argh(switch)]
    watch: bool,
    /// how long to watch, such as 30m (default: 1d)
    #[argh(option, from_str_fn(duration))]
    within: Option<Duration>,
    /// send a message to this address, which answers, and wait for the answer (for --within, or 2m)
    #[argh(option)]
    echo: Option<String>,
    /// test outgoing connections with this host, HOST:PORT; may be given several times (default: large providers)
    #[argh(option, from_str_fn(probe))]
    probe: Vec<Probe>,
    /// an address of this host, if it is behind the address of another machine; may be given twice
    #[argh(option)]
    address: Vec<IpAddr>,
    /// ask this resolver, ADDRESS:PORT (default: the servers of the relay)
    #[argh(option)]
    dns: Option<SocketAddr>,
    /// the port of the servers of zones (default: 53)
    #[argh(option, default = "DNS_PORT")]
    zone_port: u16,
}

const WATCH_DEFAULT: Duration = Duration::from_secs(86_400);
const ECHO_DEFAULT: Duration = Duration::from_secs(120);
const WATCH_INTERVAL: Duration = Duration::from_secs(10);
const DNS_PORT: u16 = 53;

fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).ok_or_else(|| format!("{text} is not a duration such as 30m"))
}

fn probe(text: &str) -> Result<Probe, String> {
    let wrong = || format!("{text} is not HOST:PORT, such as mx.example.net:25");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Probe {
        host: host.to_owned(),
        port: port.parse().map_err(|_| wrong())?,
    })
}

impl Doctor {
    /// Runs the checks and prints the findings.
    pub fn run(&self, folder: &Path, output: &mut dyn Write) -> Result<(), Failure> {
        if self.json && (self.watch || self.echo.is_some()) {
            return Err(Failure::new(
                USAGE,
                "--watch and --echo are for people; leave out --json",
            ));
        }
        let Ok(config) = loading::read(folder) else {
            let found = unreadable(folder);
            self.show(&[], &found, output)?;
            return verdict(&found);
        };
        let domains = meant(folder, self.domain.as_deref())?;
        if domains.len() > DOCTOR_DOMAINS_MAX {
            return Err(Failure::new(
                USAGE,
                format!("more than {DOCTOR_DOMAINS_MAX} domains are served: name one of them"),
            ));
        }
        if let (Some(echo), Some(domain)) = (&self.echo, domains.first()) {
            let within = self.within.unwrap_or(ECHO_DEFAULT);
            return echo::run(&config, domain, echo, within, output);
        }
        let resolvers = match self.dns {
            Some(server) => vec![server],
            None => config.dns.servers.addresses.clone(),
        };
        let examination = |config| {
            let resolvers = resolvers.clone();
            let fresh =
                DoctorScope::new(folder, config, domains.clone(), resolvers, self.zone_port);
            let mut fresh = fresh.at(self.address.clone());
            fresh.probes.clone_from(&self.probe);
            Arc::new(fresh)
        };
        let (started, within) = (Instant::now(), self.within.unwrap_or(WATCH_DEFAULT));
        let state_dir = config.state_dir.clone();
        let mut found = examine(&examination(config), &SUBJECTS, &mut progress());
        keep(&state_dir, &domains, &found);
        self.show(&domains, &found, output)?;
        while self.watch && found.iter().any(Finding::is_red) {
            if started.elapsed() >= within {
                return Err(Failure::new(TRY_AGAIN, "not everything is green yet"));
            }
            thread::sleep(WATCH_INTERVAL.min(within.saturating_sub(started.elapsed())));
            // Whoever mends it may have changed the configuration.
            let Ok(config) = loading::read(folder) else {
                continue;
            };
            let subjects = red_subjects(&found);
            let again = examine(&examination(config), &subjects, &mut progress());
            let text = changes(&found, &again);
            found.retain(|finding| !subjects.contains(&finding.check.subject));
            found.extend(again);
            keep(&state_dir, &domains, &found);
            output::print(output, &text)?;
        }
        verdict(&found)
    }

    fn show(
        &self,
        domains: &[Domain],
        found: &[Finding],
        output: &mut dyn Write,
    ) -> Result<(), Failure> {
        let text = match self.json {
            true => format!("{:#}\n", json_of(domains, found)),
            false => report(found),
        };
        output::print(output, &text)
    }
}

/// Says how far it is, where somebody looks.
fn progress() -> impl FnMut(usize, usize) {
    let is_seen = std::io::stderr().is_terminal();
    move |done, all| {
        if is_seen {
            let mut errors = std::io::stderr();
            let text = match done < all {
                true => format!("\rchecking: {done} of {all} "),
                false => format!("\r{:24}\r", ""),
            };
            drop(errors.write_all(text.as_bytes()));
        }
    }
}

fn red_subjects(found: &[Finding]) -> Vec<CheckSubject> {
    let red = found.iter().filter(|finding| finding.is_red());
    let mut subjects: Vec<CheckSubject> = red.map(|finding| finding.check.subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    subjects
}

/// All that was found, what is red first; for people.
pub fn report(found: &[Finding]) -> String {
    let mut text = String::new();
    let mut before = None;
    let own = together(found);
    for finding in &own {
        // What is to be done stands apart from what is not.
        let is_done = finding.state >= CheckState::Skipped;
        if before == Some(false) && is_done {
            text.push('\n');
        }
        before = Some(is_done);
        match finding.is_told_elsewhere() {
            true if is_first(&own, finding) => text.push_str(&told_elsewhere(&own, finding)),
            true => {}
            false => text.push_str(&finding.text()),
        }
    }
    text.push_str(&rules(found));
    text.push_str(&format!("\n{}\n", summary(&own)));
    if let Some((finding, waiting)) = first(&own) {
        let title = finding.check.title;
        let others = match waiting {
            0 => String::new(),
            1 => ", for which another check waits".to_owned(),
            count => format!(", for which {count} other checks wait"),
        };
        text.push_str(&format!(
            "do this first: {} (\"{title}\"{others})\n",
            finding.mend
        ));
    }
    text
}

/// Without the rules, and what was found in the same words at several places, such as ports, only once.
fn together(found: &[Finding]) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    let own = |finding: &&Finding| finding.check.subject != CheckSubject::Rules;
    for finding in found.iter().filter(own) {
        let is_same = |other: &&mut Finding| {
            // Less may depend on it at one place than at another: the worst comes first, and stays.
            let is_open = |of: &Finding| of.state < CheckState::Skipped;
            other.check == finding.check
                && (other.state == finding.state || is_open(other) && is_open(finding))
                && other.seen == finding.seen
                && other.mend == finding.mend
        };
        match all.iter_mut().find(is_same) {
            Some(known) => known.about = format!("{}, {}", known.about, finding.about),
            None => all.push(finding.clone()),
        }
    }
    all
}

fn is_first(own: &[Finding], finding: &Finding) -> bool {
    let with_cause = own
        .iter()
        .find(|other| other.is_told_elsewhere() && other.seen == finding.seen);
    with_cause == Some(finding)
}

/// What could not be found out for the same cause.
fn told_elsewhere(own: &[Finding], finding: &Finding) -> String {
    let of_cause = own
        .iter()
        .filter(|other| other.is_told_elsewhere() && other.seen == finding.seen);
    let lines: String = of_cause
        .map(|other| match other.about.as_str() {
            "" => format!("        {}\n", other.check.title),
            about => format!("        {} ({about})\n", other.check.title),
        })
        .collect();
    format!(
        "{:<8}{}:\n{lines}",
        finding.state.as_str(),
        finding.seen.trim_start_matches("not known: ")
    )
}

/// What large receivers ask for, a rule a line with those who ask.
fn rules(found: &[Finding]) -> String {
    let mut text = String::new();
    let rules = || {
        let rules = found.iter();
        rules.filter(|finding| finding.check.subject == CheckSubject::Rules)
    };
    let mut told: Vec<&str> = Vec::new();
    for rule in rules() {
        if told.contains(&rule.about.as_str()) {
            continue;
        }
        if told.is_empty() {
            text.push_str("\nWhat large receivers ask of senders:\n");
        }
        told.push(&rule.about);
        let of_rule = rules().filter(|other| other.about == rule.about);
        let who: Vec<&str> = of_rule
            .map(|other| other.check.id.trim_start_matches("rules-"))
            .collect();
        text.push_str(&format!(
            "  {} ({}): {}\n",
            rule.about,
            who.join(", "),
            rule.seen
        ));
    }
    text
}

fn summary(found: &[Finding]) -> String {
    let count = |state: CheckState| {
        found
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    let states = [
        CheckState::Bad,
        CheckState::Unknown,
        CheckState::Warning,
        CheckState::Skipped,
        CheckState::Good,
    ];
    let counts: Vec<String> = states
        .into_iter()
        .filter(|state| count(*state) > 0)
        .map(|state| format!("{} {}", count(state), state.as_str()))
        .collect();
    counts.join(", ")
}

fn json_of(domains: &[Domain], found: &[Finding]) -> Value {
    let domains: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    let findings: Vec<Value> = found.iter().map(Finding::json).collect();
    json!({
        "ok": !found.iter().any(Finding::is_red),
        "domains": domains,
        "findings": findings,
    })
}

/// Leaves what was found to the status page, where whoever runs this may write to the folder of the state. Local parts of
/// addresses stay out of it: everybody on this machine may read the page.
fn keep(state_dir: &Path, domains: &[Domain], found: &[Finding]) {
    let public = |text: &str| redacted(text, KEPT_TEXT_BYTES_MAX);
    let shown = found.iter().map(|finding| {
        let mend = public(&finding.mend);
        let is_whole = mend == finding.mend;
        Finding {
            about: public(&finding.about),
            seen: public(&finding.seen),
            // Half a command would be worse than none.
            mend: if is_whole {
                mend
            } else {
                "sudo chopar doctor".to_owned()
            },
            ..finding.clone()
        }
    });
    let mut json = json_of(domains, &shown.collect::<Vec<_>>());
    if let Some(fields) = json.as_object_mut() {
        fields.insert("at".to_owned(), wall().seconds().into());
    }
    let path = state_dir.join(StateFile::Checklist.file());
    // The page then shows what was found before, and when.
    drop(replace(&path, json.to_string().as_bytes(), 0o600));
}

const KEPT_TEXT_BYTES_MAX: usize = 4_096;

/// What is otherwise than it was.
fn changes(before: &[Finding], now: &[Finding]) -> String {
    let is_same = |one: &Finding, other: &Finding| {
        one.check == other.check && one.about == other.about && one.state == other.state
    };
    let changed = now
        .iter()
        .filter(|finding| !before.iter().any(|was| is_same(was, finding)));
    changed.map(Finding::text).collect()
}

fn verdict(found: &[Finding]) -> Result<(), Failure> {
    let found = together(found);
    let red = found.iter().filter(|finding| finding.is_red());
    let (bad, unknown): (Vec<&Finding>, Vec<&Finding>) =
        red.partition(|finding| finding.state == CheckState::Bad);
    match (bad.len(), unknown.len()) {
        (0, 0) => Ok(()),
        (0, unknown) => Err(Failure::new(
            TRY_AGAIN,
            format!("{unknown} required checks could not be made"),
        )),
        (1, _) => Err(Failure::new(
            UNAVAILABLE,
            "one check is bad: the text below it says how to correct it",
        )),
        (bad, _) => Err(Failure::new(
            UNAVAILABLE,
            format!("{bad} checks are bad: the text below each says how to correct it"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::doctor::checks::{
        CLOCK, DNS_MX, DNS_PTR, GMAIL, OUTLOOK, PORT_SMTP, RESOLVER, TLS_CHAIN,
    };
    use crate::setup::doctor::finding::told_once;

    fn found() -> Vec<Finding> {
        vec![
            PORT_SMTP.bad("", "no program listens", "systemctl start chopar"),
            CLOCK.warning("", "+90.0 s", "timedatectl set-ntp true"),
            DNS_MX.good("example.com", "10 mail.example.com"),
            GMAIL.good("SPF passes", "met"),
            OUTLOOK.good("SPF passes", "met"),
        ]
    }

    #[test]
    fn what_is_bad_comes_first_with_its_reason_and_what_mends_it() {
        let expected = "\
            bad     port 25: no program listens\n        why: other mail servers deliver only to this port\n        \
            do:  systemctl start chopar\n\
            warning clock: +90.0 s\n        why: a wrong clock makes signatures, certificates and Date wrong\n        \
            do:  timedatectl set-ntp true\n\n\
            good    MX record of the domain (example.com): 10 mail.example.com\n\n\
            What large receivers ask of senders:\n  SPF passes (gmail, outlook): met\n\n\
            1 bad, 1 warning, 1 good\n";
        assert_eq!(report(&found()), expected);
    }

    #[test]
    fn what_has_one_cause_or_one_mend_is_told_once() {
        let mut found = vec![
            RESOLVER.bad("192.0.2.1", "no answer", "name another"),
            DNS_MX
                .unknown("example.com", "no answer", "wait")
                .for_want_of(&RESOLVER),
            DNS_MX
                .unknown("example.net", "no answer", "wait")
                .for_want_of(&RESOLVER),
            CLOCK
                .unknown("", "no answer", "wait")
                .for_want_of(&RESOLVER),
            TLS_CHAIN.bad("port 587", "it is self-signed", "obtain one"),
            TLS_CHAIN.bad("port 465", "it is self-signed", "obtain one"),
            DNS_PTR.skipped("", "there is none"),
            TLS_CHAIN.warning("port 25", "it is self-signed", "obtain one"),
        ];
        told_once(&mut found);
        found.sort_by_key(|finding| finding.state);
        let text = report(&found);
        let expected = "\
            unknown see \"resolver answers\":\n        MX record of the domain (example.com, example.net)\n        clock\n";
        assert!(text.contains(expected), "{text}");
        let expected =
            "bad     certificate is verified (port 587, port 465, port 25): it is self-signed\n";
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("self-signed").count(), 1, "{text}");
        let end = "\n2 bad, 2 unknown, 1 skipped\n\
                   do this first: name another (\"resolver answers\", for which 2 other checks wait)\n";
        assert!(text.ends_with(end), "{text}");
        // Where nothing waits for another, what is bad is mended in the order in which it is told; one thing needs none.
        let ports = [PORT_SMTP.bad("", "closed", "open it")];
        assert!(!report(&ports).contains("first"));
        let both = [&ports[..], &found[1..2]].concat();
        assert!(
            report(&both).ends_with("do this first: open it (\"port 25\")\n"),
            "{}",
            report(&both)
        );
    }

    #[test]
    fn only_what_is_red_makes_it_fail() {
        let code = |found: &[Finding]| verdict(found).err().map(|failure| failure.exit_code());
        assert_eq!(code(&found()), Some(UNAVAILABLE));
        assert_eq!(code(&found()[1..]), None);
        let unknown = PORT_SMTP.unknown("", "no answer", "wait");
        assert_eq!(code(&[unknown]), Some(TRY_AGAIN));
        // One that is advised only.
        let unknown = CLOCK.unknown("", "no answer", "wait");
        assert_eq!(code(&[unknown]), None);
        let json = json_of(&[], &found());
        assert_eq!(
            (&json["ok"], &json["findings"][0]["id"]),
            (&false.into(), &"port-25".into())
        );
    }

    #[test]
    fn what_has_changed_is_told_and_nothing_else() {
        let mut now = found();
        now[0] = PORT_SMTP.good("", "chopar listens");
        now[1].seen = "+91.0 s".to_owned();
        assert_eq!(changes(&found(), &now), "good    port 25: chopar listens\n");
        assert_eq!(red_subjects(&found()), [CheckSubject::Ports]);
    }

    #[test]
    fn a_probe_is_a_host_and_a_port() {
        let of = |text: &str| probe(text).map(|probe| (probe.host, probe.port)).ok();
        assert_eq!(
            of("mx.example.net:25"),
            Some(("mx.example.net".to_owned(), 25))
        );
        assert_eq!(of("[2001:db8::1]:25"), Some(("2001:db8::1".to_owned(), 25)));
        for wrong in ["mx.example.net", ":25", "mx.example.net:x", ""] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
