//! The state of the relay for Prometheus: `/metrics`.

use std::collections::BTreeMap;

use super::observed::Observed;
use super::report::{Measured, RelayStatus};
use crate::address::Domain;
use crate::engine::counters::Counters;
use crate::metrics::{Exposition, Family, Provider};
use crate::report::{Figures, SessionFigures};

/// The figures of a state, with the histograms that it was made of.
pub(super) fn figures(status: &RelayStatus, observed: &Observed) -> String {
    let mut page = Exposition::default();
    let info = &mut page;
    info.family(Family::Gauge, "chopar_info", "The version that runs.")
        .sample("chopar_info", &[("version", &status.version)], 1);
    now(info, status);
    counters(info, status);
    for (name, help, key, counts) in TALLIES {
        page.family(Family::Counter, name, help);
        for (value, count) in counts(&status.measured) {
            page.sample(name, &[(key, value)], count);
        }
    }
    providers(&mut page, observed);
    page.histogram(
        "chopar_commit_seconds",
        "From the end of a message to its being on the disk.",
        &observed.commit,
    )
    .histogram(
        "chopar_delivery_seconds",
        "From a message's being on the disk to its delivery, for each recipient.",
        &observed.delivery,
    )
    .histogram(
        "chopar_sync_seconds",
        "Batches of the journal, written and synced.",
        &observed.sync,
    );
    certificates(&mut page, status);
    page.into_text()
}

/// The figures of stored reports about domains that are served.
pub(super) fn reported<'a>(
    kept: Option<&[u8]>,
    served: impl Iterator<Item = &'a Domain>,
) -> String {
    let mut reports = kept.map(Figures::parse).unwrap_or_default();
    reports.complete(served);
    let tally = &reports.tally;
    let mut page = Exposition::default();
    let name = "chopar_reports_total";
    let help = "Messages that came for reports:, by what became of them.";
    page.family(Family::Counter, name, help);
    for (result, count) in [
        ("counted", tally.counted),
        ("known", tally.known),
        ("passed-on", tally.passed_on),
    ] {
        page.sample(name, &[("result", result)], count);
    }
    let name = "chopar_reports_refused_total";
    page.family(Family::Counter, name, "Reports not taken, by cause.");
    for (cause, count) in tally.refusals() {
        page.sample(name, &[("cause", cause)], count);
    }
    let name = "chopar_reported_messages";
    let help = "Messages in the name of a domain that others have reported for the last 30 days.";
    page.family(Family::Gauge, name, help);
    for domain in &reports.domains {
        let counts = &domain.messages;
        for (result, count) in [("passed", counts.passed()), ("failed", counts.neither)] {
            page.sample(
                name,
                &[("domain", &domain.domain), ("result", result)],
                count,
            );
        }
    }
    let name = "chopar_reported_sessions";
    let help = "Sessions to hosts of a domain that others have reported for the last 30 days, with TLS or without.";
    page.family(Family::Gauge, name, help);
    for domain in &reports.domains {
        let sum = |of: fn(&SessionFigures) -> u64| {
            let counts = domain.tls.iter().map(of);
            counts.fold(0, u64::saturating_add)
        };
        for (tls, count) in [
            ("yes", sum(|one| one.successes)),
            ("no", sum(|one| one.failures)),
        ] {
            page.sample(name, &[("domain", &domain.domain), ("tls", tls)], count);
        }
    }
    page.into_text()
}

fn now(page: &mut Exposition, status: &RelayStatus) {
    for (name, help, value) in NOW {
        let value = value(status);
        page.single(Family::Gauge, name, help, value);
    }
    if let Some(free) = status.disk_free {
        let help = "Bytes free on the disk of the spool.";
        page.single(Family::Gauge, "chopar_disk_free_bytes", help, free);
    }
    let name = "chopar_queue_age_messages";
    page.family(Family::Gauge, name, "Messages in the queue that are younger than so many seconds and not than the bound before.");
    for age in &status.measured.ages {
        let below = age
            .below
            .map_or_else(|| "+Inf".to_owned(), |below| below.to_string());
        page.sample(name, &[("below", &below)], age.messages);
    }
}

/// Counters since the start.
fn counters(page: &mut Exposition, status: &RelayStatus) {
    let total = &status.stats.total;
    for (name, help, value) in COUNTED {
        let value = value(total);
        page.single(Family::Counter, name, help, value);
    }
    let longest = std::time::Duration::from_micros(status.stats.longest_turn_us);
    let help = "The longest turn of the event loop since the start.";
    page.single(
        Family::Gauge,
        "chopar_longest_turn_seconds",
        help,
        longest.as_secs_f64(),
    );
}

fn providers(page: &mut Exposition, observed: &Observed) {
    let name = "chopar_provider_recipients_total";
    page.family(
        Family::Counter,
        name,
        "Recipients by the operator of the receiving hosts, and by result.",
    );
    for (provider, outcomes) in Provider::all().zip(observed.providers) {
        for (outcome, count) in [
            ("delivered", outcomes.delivered),
            ("deferred", outcomes.deferred),
            ("failed", outcomes.failed),
        ] {
            page.sample(
                name,
                &[("provider", provider.name()), ("outcome", outcome)],
                count,
            );
        }
    }
}

fn certificates(page: &mut Exposition, status: &RelayStatus) {
    let name = "chopar_certificate_expiry_timestamp_seconds";
    page.family(
        Family::Gauge,
        name,
        "When a certificate that is served ends.",
    );
    for certificate in &status.certificates {
        let self_signed = if certificate.self_signed { "yes" } else { "no" };
        let labels = [
            ("name", certificate.name.as_str()),
            ("self_signed", self_signed),
        ];
        page.sample(name, &labels, certificate.until);
    }
}

/// Current values: name, help and source of each.
const NOW: &[Figure<RelayStatus>] = &[
    (
        "chopar_uptime_seconds",
        "Seconds since the start.",
        |status| status.uptime,
    ),
    (
        "chopar_queue_messages",
        "Messages in the queue.",
        |status| status.stats.queued as u64,
    ),
    (
        "chopar_queue_held_messages",
        "Messages that an operator holds.",
        |status| status.stats.held as u64,
    ),
    (
        "chopar_next_hops",
        "Next hops that mail waits for or is sent to.",
        |status| status.stats.hops as u64,
    ),
    ("chopar_sessions", "Sessions that came in.", |status| {
        status.stats.sessions as u64
    }),
    (
        "chopar_sessions_max",
        "Upper limit for SMTP server sessions at a time.",
        |status| status.sessions_max,
    ),
    (
        "chopar_delivery_sessions",
        "Sessions that go out.",
        |status| status.stats.deliveries as u64,
    ),
    (
        "chopar_buffer_bytes",
        "Bytes in buffers whose size peers decide.",
        |status| status.stats.buffered as u64,
    ),
    (
        "chopar_buffer_bytes_max",
        "Bytes that they may take.",
        |status| status.memory_max,
    ),
    (
        "chopar_disk_takes_records",
        "Whether outcomes reach the disk: while they do not (0), nothing is sent.",
        |status| u64::from(status.disk_takes_records),
    ),
];

/// Counters since the start, likewise.
const COUNTED: &[Figure<Counters>] = &[
    ("chopar_sessions_total", "Sessions accepted.", |total| {
        total.sessions
    }),
    ("chopar_accepted_total", "Messages accepted.", |total| {
        total.accepted
    }),
    (
        "chopar_refused_total",
        "Commands, messages and recipients refused.",
        |total| total.refused,
    ),
    ("chopar_delivered_total", "Recipients delivered.", |total| {
        total.delivered
    }),
    ("chopar_deferred_total", "Attempts deferred.", |total| {
        total.deferred
    }),
    ("chopar_failed_total", "Recipients failed.", |total| {
        total.failed
    }),
    (
        "chopar_notifications_total",
        "Delivery status notifications sent.",
        |total| total.dsns,
    ),
    (
        "chopar_forwarded_total",
        "Recipients forwarded with a rewritten reverse-path.",
        |total| total.forwarded,
    ),
    (
        "chopar_dmarc_refused_total",
        "Messages refused for DMARC.",
        |total| total.dmarc_refused,
    ),
    (
        "chopar_hook_refused_total",
        "Messages that the hook refused.",
        |total| total.hook_refused,
    ),
    (
        "chopar_hook_deferred_total",
        "Messages that the hook deferred.",
        |total| total.hook_deferred,
    ),
    (
        "chopar_throttled_total",
        "Connections, messages and recipients beyond a rate.",
        |total| total.throttled,
    ),
    (
        "chopar_listed_total",
        "Recipients refused because a list has the client.",
        |total| total.listed,
    ),
    (
        "chopar_greylisted_total",
        "Recipients deferred by greylisting.",
        |total| total.greylisted,
    ),
    ("chopar_slowed_total", "Replies held back.", |total| {
        total.slowed
    }),
    (
        "chopar_dns_unasked_total",
        "DNS questions that were not asked for lack of a share.",
        |total| total.unasked,
    ),
];

/// Counters with a label: name, help, label and source of each.
const TALLIES: &[(&str, &str, &str, Counts)] = &[
    (
        "chopar_deferred_by_reason_total",
        "Attempts deferred, by reason.",
        "reason",
        |measured| &measured.deferred,
    ),
    (
        "chopar_unreached_total",
        "Attempts to reach a next hop that have failed, by reason.",
        "reason",
        |measured| &measured.unreached,
    ),
    (
        "chopar_received_total",
        "Messages received over the network, by what they came in with.",
        "tls",
        |measured| &measured.received_with,
    ),
    (
        "chopar_sent_total",
        "Recipients delivered to other hosts, by what was agreed.",
        "tls",
        |measured| &measured.sent_with,
    ),
    (
        "chopar_dmarc_total",
        "Messages by DMARC result.",
        "result",
        |measured| &measured.dmarc,
    ),
];

type Figure<T> = (&'static str, &'static str, fn(&T) -> u64);
type Counts = fn(&Measured) -> &BTreeMap<String, u64>;
