//! The state of the relay in one document: what the page, the figures and `chopar top` are made of.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observed::{CertificateLeft, DMARC_NAMES, DeferralReason, Observed, Outcomes, Version};
use super::redaction::{public_cause, public_event, redacted};
use crate::destination::Destination;
use crate::engine::delivery::Delivery;
use crate::engine::effects::Effects;
use crate::engine::stats::{Stats, stats};
use crate::limits::{STATUS_EVENT_BYTES_MAX, STATUS_ROWS_MAX};
use crate::metrics::{Histogram, Provider, Totals};
use crate::policy::route::NextHop;
use crate::policy::shares::Resource;
use crate::queue::{HopId, Phase, Queued};
use crate::queue_id::QueueId;

/// The state of the relay.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RelayStatus {
    /// The version of the program.
    pub version: String,
    /// The name in the banner.
    pub hostname: String,
    /// When this was said, in seconds since 1970.
    pub now: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// Whether outcomes reach the disk: while they do not, nothing is sent.
    pub disk_takes_records: bool,
    /// Bytes free on the disk of the spool, where that is known.
    pub disk_free: Option<u64>,
    /// Bytes that all buffers may take together.
    pub memory_max: u64,
    /// Sessions that may come in at a time.
    pub sessions_max: u64,
    /// The numbers of `queue stats`.
    pub stats: Stats,
    /// What is counted by its kind, and what is timed.
    #[serde(flatten)]
    pub measured: Measured,
    /// The last 60 minutes, the oldest first.
    pub hour: Vec<Totals>,
    /// The last 96 quarters of an hour, the oldest first.
    pub day: Vec<Totals>,
    /// What became of mail by who runs the receiving hosts; those to whom there was none are left out.
    pub providers: Vec<ProviderReport>,
    /// Next hops with mail that waits, those with most of it first.
    pub hops: Vec<NextHopReport>,
    /// The oldest messages.
    pub stuck: Vec<Stuck>,
    /// Certificates that are served.
    pub certificates: Vec<CertificateLeft>,
    /// The newest events, the last one last.
    pub events: Vec<Happened>,
}

/// What is counted by its kind, and what is timed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Measured {
    /// Messages in the queue by their age.
    pub ages: Vec<Age>,
    /// Attempts deferred by reason.
    pub deferred: BTreeMap<String, u64>,
    /// Attempts to reach a next hop that have failed, by reason; those of one pause count once.
    pub unreached: BTreeMap<String, u64>,
    /// Messages that came in over the network, by what they came in with.
    pub received_with: BTreeMap<String, u64>,
    /// Recipients delivered to other hosts, likewise.
    pub sent_with: BTreeMap<String, u64>,
    /// Messages by what DMARC said of them.
    pub dmarc: BTreeMap<String, u64>,
    /// From the end of a message to its being on the disk.
    pub commit: TimedHistogram,
    pub delivery: TimedHistogram,
    /// A batch of the journal, written and synced.
    pub sync: TimedHistogram,
}

/// Messages of an age.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Age {
    /// They are younger than this, in seconds, and older than the bound before; `None`: the oldest.
    pub below: Option<u64>,
    pub messages: u64,
}

/// A histogram in three numbers, each in microseconds; `None` where nothing was counted or it lies above all bounds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TimedHistogram {
    /// How many there were.
    pub count: u64,
    /// Half of them took at most this.
    pub p50: Option<u64>,
    /// 95 of a hundred.
    pub p95: Option<u64>,
    /// 99 of a hundred.
    pub p99: Option<u64>,
}

/// What became of mail to a receiver.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProviderReport {
    /// Who it is.
    pub name: String,
    #[serde(flatten)]
    pub outcomes: Outcomes,
}

/// A next hop with mail that waits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NextHopReport {
    /// A domain, a route, or what kind of target of this machine it is.
    pub name: String,
    /// Recipients that wait for it.
    pub waiting: u64,
    pub sessions: u64,
    /// Seconds to the next attempt, where it is paused.
    pub next: Option<u64>,
    pub why: Option<String>,
}

/// A message that has waited for long.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stuck {
    pub id: String,
    /// Seconds since it was accepted.
    pub age: u64,
    pub size: u64,
    /// Whether an operator holds it.
    pub held: bool,
    /// Attempts for the recipient with most of them.
    pub attempts: u16,
    /// The next hop of that recipient.
    pub hop: String,
    /// What came of its last attempt.
    pub why: Option<String>,
}

/// A line of the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Happened {
    /// When, in seconds since 1970.
    pub at: u64,
    /// What happened, without whom it names.
    pub text: String,
}

impl From<&Histogram> for TimedHistogram {
    fn from(histogram: &Histogram) -> Self {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let percentile = |hundredths| histogram.percentile(hundredths).map(micros);
        Self {
            count: histogram.count(),
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
        }
    }
}

/// The state of the relay. Visits each queued message once.
pub(in crate::engine) fn status(delivery: &Delivery, fx: &mut Effects) -> RelayStatus {
    observe_history(fx);
    let (ages, stuck) = by_age(delivery, fx);
    let observed = &fx.observed;
    RelayStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: fx.config.hostname.to_string(),
        now: fx.now.wall.seconds(),
        uptime: fx.now.instant.as_millis() / 1_000,
        disk_takes_records: !fx.disk.is_stuck,
        disk_free: fx.disk.free,
        memory_max: fx.shares.of(Resource::Memory).capacity(),
        sessions_max: fx.shares.of(Resource::Sessions).capacity(),
        stats: stats(delivery, fx),
        measured: Measured {
            ages,
            deferred: named(DeferralReason::names(), &observed.deferred),
            unreached: named(DeferralReason::names(), &observed.unreached),
            received_with: named(Version::NAMES, &observed.received_with),
            sent_with: named(Version::NAMES, &observed.sent_with),
            dmarc: named(DMARC_NAMES, &observed.dmarc),
            commit: TimedHistogram::from(&observed.commit),
            delivery: TimedHistogram::from(&observed.delivery),
            sync: TimedHistogram::from(&observed.sync),
        },
        hour: observed.history.hour(),
        day: observed.history.day(),
        providers: providers(observed),
        hops: waiting_hops(delivery, fx),
        stuck,
        certificates: observed.certificates.clone(),
        events: events(observed),
    }
}

/// Has the history take in what has happened since it last did.
pub(in crate::engine) fn observe_history(fx: &mut Effects) {
    let counters = fx.counters;
    let totals = Totals {
        accepted: counters.accepted,
        delivered: counters.delivered,
        deferred: counters.deferred,
        failed: counters.failed,
        refused: counters.refused,
    };
    fx.observed.history.observe(totals, fx.now.instant);
}

/// Messages by their age, and the oldest of them.
fn by_age(delivery: &Delivery, fx: &Effects) -> (Vec<Age>, Vec<Stuck>) {
    let mut counts = [0_u64; AGE_BOUNDS.len() + 1];
    let mut oldest: Vec<(u64, QueueId)> = Vec::new();
    for (id, entry) in fx.index.entries() {
        let age = fx.now.wall.since(entry.arrived).as_secs();
        let at = AGE_BOUNDS.partition_point(|bound| *bound <= age);
        if let Some(count) = counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
        oldest.push((age, id));
        if oldest.len() >= 2 * STATUS_ROWS_MAX {
            keep_oldest(&mut oldest);
        }
    }
    keep_oldest(&mut oldest);
    let bounds = AGE_BOUNDS.iter().map(|bound| Some(*bound)).chain([None]);
    let ages = bounds.zip(counts);
    let ages = ages.map(|(below, messages)| Age { below, messages });
    let stuck = oldest.iter().filter_map(|(age, id)| {
        let entry = fx.index.get(*id)?;
        Some(stuck(delivery, *id, *age, entry))
    });
    (ages.collect(), stuck.collect())
}

fn stuck(delivery: &Delivery, id: QueueId, age: u64, entry: &Queued) -> Stuck {
    let open = entry.recipients.iter();
    let open = open.filter(|state| state.phase != Phase::Closed);
    let worst = open.max_by_key(|state| state.attempts);
    let hop = worst.and_then(|state| delivery.hop(state.hop));
    let why = worst.and_then(|state| delivery.latest_cause(state));
    Stuck {
        id: id.to_string(),
        age,
        size: entry.size,
        held: entry.held,
        attempts: worst.map_or(0, |state| state.attempts),
        hop: hop.map(|hop| shown_name(&hop.name)).unwrap_or_default(),
        why: why.map(|why| public_cause(&why, STATUS_EVENT_BYTES_MAX)),
    }
}

/// Next hops that recipients wait for, those with most of them first.
fn waiting_hops(delivery: &Delivery, fx: &Effects) -> Vec<NextHopReport> {
    let mut waiting: BTreeMap<HopId, u64> = BTreeMap::new();
    for (_, entry) in fx.index.entries() {
        for state in &entry.recipients {
            if state.phase == Phase::Waiting {
                let count = waiting.entry(state.hop).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
    let mut waiting: Vec<(HopId, u64)> = waiting.into_iter().collect();
    waiting.sort_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
    waiting.truncate(STATUS_ROWS_MAX);
    let reports = waiting.into_iter().filter_map(|(id, waiting)| {
        let hop = delivery.hop(id)?;
        let next = hop.next_attempt();
        let why = hop.trouble.as_deref().filter(|_| hop.is_in_trouble());
        Some(NextHopReport {
            name: shown_name(&hop.name),
            waiting,
            sessions: u64::try_from(hop.sessions.len()).unwrap_or(u64::MAX),
            next: next.map(|at| at.since(fx.now.instant).as_secs()),
            why: why.map(|why| public_cause(why, STATUS_EVENT_BYTES_MAX)),
        })
    });
    reports.collect()
}

fn keep_oldest(all: &mut Vec<(u64, QueueId)>) {
    all.sort_unstable_by_key(|(age, id)| (std::cmp::Reverse(*age), *id));
    all.truncate(STATUS_ROWS_MAX);
}

/// A next hop for those who may not read the configuration: a path or a program says more than they are told.
fn shown_name(name: &NextHop) -> String {
    match name {
        NextHop::Mx(_) | NextHop::Route { .. } => name.to_string(),
        NextHop::Unreadable(_) => "a destination that cannot be read".to_owned(),
        NextHop::Alias(destination) => match destination {
            Destination::Hosts(_) | Destination::Lmtp(_) => {
                redacted(&destination.to_string(), STATUS_EVENT_BYTES_MAX)
            }
            Destination::LmtpSocket(_) => "an LMTP socket".to_owned(),
            Destination::Maildir(_) => "a maildir".to_owned(),
            Destination::Pipe(_) => "a program".to_owned(),
            Destination::Reports => "the reports".to_owned(),
            Destination::Discard => "nowhere".to_owned(),
        },
    }
}

fn named<'a>(names: impl IntoIterator<Item = &'a str>, counts: &[u64]) -> BTreeMap<String, u64> {
    let named = names.into_iter().zip(counts);
    named
        .map(|(name, count)| (name.to_owned(), *count))
        .collect()
}

fn providers(observed: &Observed) -> Vec<ProviderReport> {
    let all = Provider::all().zip(observed.providers);
    let used = all.filter(|(_, outcomes)| *outcomes != Outcomes::default());
    used.map(|(provider, outcomes)| ProviderReport {
        name: provider.name().to_owned(),
        outcomes,
    })
    .collect()
}

fn events(observed: &Observed) -> Vec<Happened> {
    let events = observed.events.iter();
    events
        .map(|(at, text)| Happened {
            at: at.seconds(),
            text: public_event(text, STATUS_EVENT_BYTES_MAX),
        })
        .collect()
}

/// The upper bounds of ages of messages in the queue, in seconds.
const AGE_BOUNDS: [u64; 6] = [60, 600, 3_600, 14_400, 86_400, 345_600];
