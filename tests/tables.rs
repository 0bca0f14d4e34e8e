//! Every table of the relay is bounded, and no single peer can fill a table for all others.
//!
//! The test finds the tables in the source: each field of a map, a set or a queue under `engine`, `policy` and `dns`. A
//! new one must be listed here with the reason why it is bounded.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use chopar::policy::shares::Resource;

/// Why a table is bounded.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// Each entry takes a unit of this pool, or belongs to a holder of one.
    Share(&'static str),
    /// The holder of the most entries makes room.
    Owner,
    /// It is as large as the queue, which has shares.
    Queue,
    /// It is part of one session or message, and has this limit there.
    Each(&'static str),
    /// It has this limit, and no peer can choose its entries.
    Limit(&'static str),
    /// It is as large as the configuration.
    Configuration,
    /// It is emptied at the end of each turn.
    Turn,
}

use Bound::{Configuration, Each, Limit, Owner, Queue, Share, Turn};

/// All tables, by file and field.
const TABLES: &[(&str, &str, Bound)] = &[
    ("dns/cache.rs", "by_bytes", Owner),
    ("dns/cache.rs", "by_expiry", Owner),
    ("dns/cache.rs", "entries", Owner),
    ("dns/cache.rs", "zones", Owner),
    ("dns/resolver.rs", "actions", Turn),
    ("dns/resolver.rs", "ailing", Configuration),
    ("dns/resolver.rs", "by_question", Share("questions")),
    ("dns/resolver.rs", "by_socket", Share("questions")),
    ("dns/resolver.rs", "lookups", Share("questions")),
    ("dns/resolver.rs", "plan", Configuration),
    ("engine/server/blocks.rs", "by_message", Share("memory")),
    ("engine/control/listing.rs", "left", Queue),
    ("engine/control/tools.rs", "left", Queue),
    // They contain input of peers, but only the newest stay.
    ("engine/following.rs", "lines", Limit("FOLLOWED_LINES_MAX")),
    (
        "engine/server/derivations.rs",
        "running",
        Share("derivations"),
    ),
    (
        "engine/server/derivations.rs",
        "waiting",
        Share("derivations"),
    ),
    ("engine/drop_folder.rs", "served", Configuration),
    (
        "engine/drop_folder/turns.rs",
        "stuck",
        Limit("DROP_STUCK_MAX"),
    ),
    (
        "engine/drop_folder/turns.rs",
        "to_settle",
        Limit("DROP_STUCK_MAX"),
    ),
    (
        "engine/drop_folder/turns.rs",
        "tries",
        Limit("DROP_TRIES_MAX"),
    ),
    (
        "engine/drop_folder/turns.rs",
        "under_way",
        Limit("DROP_VISITS_MAX"),
    ),
    (
        "engine/drop_folder/turns.rs",
        "waiting",
        Limit("DROP_USERS_MAX"),
    ),
    (
        "engine/drop_folder/visit.rs",
        "ways",
        Each("RECIPIENTS_MAX"),
    ),
    ("engine/delivery/hops.rs", "by_name", Queue),
    (
        "engine/delivery/hops.rs",
        "dead",
        Each("DEAD_ADDRESSES_MAX"),
    ),
    ("engine/delivery/hops.rs", "dirty", Queue),
    ("engine/delivery/hops.rs", "arriving", Share("deliveries")),
    ("engine/delivery/hops.rs", "hops", Queue),
    ("engine/delivery/hops.rs", "away", Queue),
    ("engine/delivery/hops.rs", "through", Share("deliveries")),
    ("engine/delivery/hops.rs", "idling", Queue),
    ("engine/delivery/hops.rs", "rerouting", Queue),
    ("engine/delivery/hops.rs", "wanting", Queue),
    ("engine/delivery/hops.rs", "woken", Queue),
    ("engine/server/question.rs", "running", Share("hooks")),
    ("engine/server/question.rs", "waiting", Share("hooks")),
    ("engine/server/evictable.rs", "holding", Share("sessions")),
    ("engine/server/evictable.rs", "streaming", Share("sessions")),
    (
        "engine/server/examination.rs",
        "running",
        Limit("VERIFICATIONS_AT_ONCE_MAX"),
    ),
    ("engine/server/examination.rs", "waiting", Share("sessions")),
    ("engine/effects.rs", "actions", Turn),
    ("engine/effects.rs", "notes", Turn),
    ("engine/effects.rs", "owners", Share("sessions")),
    ("engine/server/session.rs", "spilling", Share("sessions")),
    ("engine/spool.rs", "tickets", Queue),
    ("engine/dsn.rs", "at_work", Limit("DSNS_AT_WORK_MAX")),
    ("engine/dsn.rs", "waiting", Queue),
    (
        "engine/delivery/load.rs",
        "earlier",
        Each("ENVELOPE_RECIPIENTS_MAX"),
    ),
    ("engine/delivery/host.rs", "hosts", Each("MX_HOSTS_MAX")),
    (
        "engine/delivery/load.rs",
        "names",
        Each("ENVELOPE_RECIPIENTS_MAX"),
    ),
    (
        "engine/delivery/host.rs",
        "targets",
        Each("ADDRESSES_PER_HOST_MAX"),
    ),
    ("engine/repeats.rs", "lines", Limit("LOG_LINES_COUNTED_MAX")),
    ("engine/lookups.rs", "shares", Share("questions")),
    ("engine/lookups.rs", "waiting", Share("sessions")),
    (
        "engine/status/observed.rs",
        "events",
        Limit("STATUS_EVENTS_MAX"),
    ),
    // A document with a fixed set of names, which is sent and dropped.
    ("engine/status/report.rs", "deferred", Turn),
    ("engine/status/report.rs", "dmarc", Turn),
    ("engine/status/report.rs", "received_with", Turn),
    ("engine/status/report.rs", "sent_with", Turn),
    ("engine/status/report.rs", "unreached", Turn),
    (
        "engine/status/visits.rs",
        "status",
        Limit("STATUS_VISITS_MAX"),
    ),
    ("engine/timers.rs", "heap", Share("sessions")),
    ("engine/delivery/waiting.rs", "clients", Queue),
    ("engine/delivery/waiting.rs", "trusted", Queue),
    ("policy/client_rates.rs", "counts", Owner),
    ("policy/eviction.rs", "there", Owner),
    ("policy/ttl_map.rs", "by_count", Owner),
    ("policy/ttl_map.rs", "by_owner", Owner),
    ("policy/ttl_map.rs", "entries", Owner),
    ("policy/greylist.rs", "seen", Owner),
    (
        "policy/password_memory.rs",
        "by_expiry",
        Limit("PASSWORD_MEMORY_ENTRIES_MAX"),
    ),
    (
        "policy/password_memory.rs",
        "known",
        Limit("PASSWORD_MEMORY_ENTRIES_MAX"),
    ),
    ("policy/rates.rs", "failed", Owner),
    ("policy/rates.rs", "known", Owner),
    ("policy/rates.rs", "by_login", Configuration),
    ("policy/rates.rs", "by_uid", Limit("UIDS_COUNTED_MAX")),
    ("policy/rates.rs", "all", Share("sessions")),
    ("policy/rates.rs", "sessions", Share("sessions")),
    ("policy/relay.rs", "added", Configuration),
    ("policy/relay.rs", "seen", Configuration),
    ("policy/returns.rs", "by_end", Owner),
    ("policy/returns.rs", "by_network", Owner),
    ("policy/returns.rs", "by_size", Owner),
    ("policy/returns.rs", "entries", Owner),
    ("policy/shares.rs", "held", Share("sessions")),
    ("policy/fair_queue.rs", "rounds", Share("sessions")),
    ("policy/fair_queue.rs", "waiting", Share("sessions")),
];

const CONTAINERS: [&str; 10] = [
    "HashMap<",
    "BTreeMap<",
    "HashSet<",
    "BTreeSet<",
    "VecDeque<",
    "BinaryHeap<",
    "TtlMap",
    "FairQueue<",
    "[BTreeSet<",
    "[FairQueue<",
];

#[test]
fn every_table_has_a_reason_why_it_is_bounded() {
    let known: BTreeSet<(String, String)> = TABLES
        .iter()
        .map(|(file, field, _)| ((*file).to_owned(), (*field).to_owned()))
        .collect();
    let found = tables();
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "tables without a bound: {unknown:?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "tables that are no more: {gone:?}");
}

#[test]
fn every_named_bound_exists() {
    let limits = fs::read_to_string(source().join("limits.rs")).expect("the limits");
    let manual =
        fs::read_to_string(source().with_file_name("man/chopar-limits.7")).expect("a page");
    for (file, field, bound) in TABLES {
        match bound {
            Share(pool) => {
                assert!(
                    Resource::ALL
                        .iter()
                        .any(|resource| resource.as_str() == *pool),
                    "{file}, {field}: no pool is called {pool}"
                );
            }
            Each(limit) | Limit(limit) => assert!(
                limits.contains(&format!("pub const {limit}:")),
                "{file}, {field}: no limit is called {limit}"
            ),
            Owner | Queue | Configuration | Turn => {}
        }
    }
    for resource in Resource::ALL {
        let item = format!(".It Li {}\n", resource.as_str());
        assert!(manual.contains(&item), "{resource:?} is not in the manual");
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The tables in the source.
fn tables() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for folder in ["engine", "policy", "dns"] {
        look_through(&source().join(folder), &mut found);
    }
    found
}

fn look_through(folder: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            look_through(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a file");
        let name = path.strip_prefix(source()).expect("below the source");
        if name.ends_with("tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in code.lines() {
            if let Some(field) = table(line) {
                found.insert((name.display().to_string(), field.to_owned()));
            }
        }
    }
}

/// The name of a field that is a table.
fn table(line: &str) -> Option<&str> {
    let field = line.strip_prefix("    ")?.strip_suffix(',')?;
    let (name, kind) = field.split_once(": ")?;
    let name = name.rsplit(' ').next()?;
    let is_name = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    // A table may be shared with the guards that take entries out of it.
    let kind = kind.strip_prefix("Rc<RefCell<").unwrap_or(kind);
    let is_table = CONTAINERS
        .iter()
        .any(|container| kind.starts_with(container));
    (is_name && is_table).then_some(name)
}

#[test]
fn a_table_is_found_whatever_its_visibility() {
    assert_eq!(table("    lines: BTreeMap<String, u32>,"), Some("lines"));
    assert_eq!(table("    pub(super) seen: TtlMap,"), Some("seen"));
    assert_eq!(table("    all: Rc<RefCell<HashMap<u8, u8>>>,"), Some("all"));
    assert_eq!(table("    name: String,"), None);
    assert_eq!(table("        lines: BTreeMap::new(),"), None);
}
