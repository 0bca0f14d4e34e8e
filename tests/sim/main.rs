//! Complete deliveries in a world generated from a seed: the real engine and the real journal over an in-memory
//! network, disk, DNS and clock.
//!
//! Clients send; remote servers accept, refuse, stall, send nonsense and disconnect; name servers lie; the relay is
//! killed, loses power, starts with the wrong time or with damaged data in its spool; an operator works on the queue
//! and on the configuration, and the helper dies; programs of this machine leave messages in the drop folder;
//! unauthenticated clients write to forwarded addresses, with arbitrary DNS records. The invariants are checked at each
//! event:
//!
//! | invariant | checked by | when |
//! | --- | --- | --- |
//! | I1 an acknowledged message is delivered, bounced or queued | `Ledger::said`, `heard`, `done`, `restarted`, `settled` | at each reply, record, start, and at the end |
//! | I2 the relay delivers nothing else, under no other name, and neither invents nor alters a message | `Ledger::stored`, `attempted`, `sent_as`, `taken` | at each record, RCPT and dot |
//! | I3 the relay does not retry a recipient with a durable result; each second copy is explained | `Ledger::attempted`, `taken`, `restarted` | at each RCPT, dot and start |
//! | I4 a DSN is durable before the recipient that it reports is closed | `Ledger::recorded` | at each commit |
//! | I5 the relay does not touch a file again after its sync failed | the disk's warden | at each write and sync |
//! | I6 damaged data in the spool is set aside and logged, and the rest goes on | `World::look_at_rot` | at each start |
//! | I7 data that the relay relies on is synced, with its directory entry | the disk's warden | at each commit |
//! | a message that `sendmail` left with exit 0 is delivered or returned | `Ledger::settled`, `World::judge_drop` | at the end |
//! | tables and buffers stay within their limits | `bounds` | after each turn |
//! | after a clock jump, the relay tries a message before it gives it up | `Ledger::heard` | at each outcome |
//! | a tool gets a true answer in time | `World::operator_expects`, `Ledger::listed` | at each answer |
//! | the configuration in force is the last one without an error | `World::judge_probe` | at each reply to a probe |
//!
//! A run that fails prints its seed: `make sim SEEDS=FIRST..LAST` runs just those.

mod attack;
mod bounds;
mod client;
mod disk;
mod dns;
mod driven;
mod hook;
mod ledger;
mod local;
mod messages;
mod million;
mod network;
mod operator;
mod power;
mod reloads;
mod remote;
mod rot;
mod rule;
mod scenarios;
mod spool;
mod tally;
mod unauthenticated_clients;
mod walk;
mod world;

use std::ops::RangeInclusive;

use disk::Sabotage;
use tally::Tally;
use world::{Faults, World};

/// Seeds of each kind of world in an ordinary run.
const SEEDS: RangeInclusive<u64> = 0..=499;

/// Minimum number of occurrences of each fault in an ordinary run; with fewer, the run proves nothing about it.
const OCCURRENCES_MIN: u64 = 20;

fn named_seeds() -> Option<RangeInclusive<u64>> {
    let text = std::env::var("CHOPAR_SEEDS").ok()?;
    let (first, last) = text.split_once("..").expect("CHOPAR_SEEDS=FIRST..LAST");
    let number = |text: &str| text.parse().expect("CHOPAR_SEEDS=FIRST..LAST");
    Some(number(first)..=number(last))
}

/// Runs one world; returns its counts and the hash of its history, or the violated invariant.
fn run(seed: u64, faults: Faults, sabotage: Sabotage) -> Result<(Tally, u64), String> {
    std::panic::catch_unwind(|| World::new(seed, faults, sabotage).run()).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

/// Runs all seeds; each of the expected faults must occur often enough.
fn all_hold(faults: Faults, expected: &[(&'static str, &[&'static str])]) {
    let began = std::time::Instant::now();
    let mut tally = Tally::default();
    for seed in named_seeds().unwrap_or(SEEDS) {
        match run(seed, faults, Sabotage::None) {
            Ok((one, _)) => tally.add(one),
            Err(text) => {
                panic!("seed {seed}, {faults:?}: {text}\nreplay: make sim SEEDS={seed}..{seed}")
            }
        }
    }
    println!(
        "{faults:?}: {tally}\n  {:.1} s",
        began.elapsed().as_secs_f64()
    );
    if named_seeds().is_some() {
        return;
    }
    for (place, kinds) in expected {
        for kind in *kinds {
            let times = tally.faults.get(&(*place, *kind)).copied().unwrap_or(0);
            assert!(
                times >= OCCURRENCES_MIN,
                "{faults:?}: {kind} at {place} happened {times} times, which proves nothing"
            );
        }
    }
}

/// The simulator proves something only if it finds deliberate bugs.
fn is_found(faults: Faults, sabotage: Sabotage, rules: &[rule::Rule]) {
    let mut seeds = SEEDS;
    let found = seeds.find_map(|seed| run(seed, faults, sabotage).err().map(|text| (seed, text)));
    let Some((seed, text)) = found else {
        panic!("{sabotage:?} was not found within {SEEDS:?}");
    };
    println!("{sabotage:?} was found by seed {seed}: {text}");
    let named = rules
        .iter()
        .any(|rule| text.starts_with(&format!("{rule:?}:")));
    assert!(named, "{sabotage:?} was found by chance: {text}");
}

/// All faults that a server can have at any stage.
const ANY: &[&str] = &[
    "4xx", "5xx", "421", "garbage", "reset", "hang-up", "silence", "delay",
];

const NETWORK: &[(&str, &[&str])] = &[
    ("banner", ANY),
    ("ehlo", ANY),
    ("mail", ANY),
    ("rcpt", ANY),
    ("rcpt", &["mixed replies"]),
    ("data", ANY),
    ("data", &["354 for nobody"]),
    ("body", &["reset"]),
    ("dot", ANY),
    ("quit", &["421", "reset", "garbage"]),
    ("tls", &["refused", "handshake fails"]),
    ("hook", &hook::KINDS),
    (
        "connect",
        &["refused", "unreachable", "timeout", "IPv6 unreachable"],
    ),
    (
        "link",
        &[
            "split line",
            "reset",
            "window zero",
            "lost behind a client's dot",
        ],
    ),
    (
        "dns",
        &[
            "timeout",
            "servfail",
            "refused",
            "truncated",
            "wrong id",
            "garbage",
            "forged",
            "null MX",
            "NXDOMAIN",
            "no MX",
            "asked by stream",
            "stream fails",
        ],
    ),
];

#[test]
fn in_a_calm_world_everything_arrives_once() {
    all_hold(Faults::Calm, &[]);
}

#[test]
fn in_a_rough_network_nothing_is_lost() {
    all_hold(Faults::Network, NETWORK);
}

#[test]
fn when_the_relay_is_killed_or_loses_power_nothing_that_was_acknowledged_is_lost() {
    all_hold(
        Faults::Power,
        &[("relay", &["killed", "power cut", "power cut at a start"])],
    );
}

#[test]
fn mail_of_unauthenticated_clients_is_verified_and_forwarded_or_refused() {
    let expected: [(&str, &[&str]); 7] = [
        (
            "alias",
            &[
                "one",
                "two",
                "several forwarders",
                "via",
                "discard",
                "discard and more",
                "chain",
                "catch-all",
                "rewritten sender",
            ],
        ),
        ("forward", &["rewritten sender", "null path", "marked"]),
        (
            "return",
            &["reached the first sender", "forged and refused"],
        ),
        (
            "unauthenticated",
            &[
                "refused behind its dot",
                "put off behind its dot",
                "gone behind its dot",
                "gone while the DNS was asked",
            ],
        ),
        ("texts", &["missing", "malformed", "servfail", "timeout"]),
        ("dns", &["slow", "timeout", "servfail", "garbage", "forged"]),
        ("relay", &["killed", "power cut", "power cut at a start"]),
    ];
    all_hold(Faults::UnauthenticatedClients, &expected);
}

#[test]
fn when_the_disk_fails_nothing_that_was_acknowledged_is_lost() {
    let kinds = &[
        "full",
        "creation failed",
        "write failed",
        "preallocation failed",
        "sync failed",
        "folder sync failed",
    ];
    all_hold(Faults::Disk, &[("disk", kinds)]);
}

#[test]
fn damaged_data_in_the_spool_does_not_stop_the_rest() {
    let kinds = &["bit flip", "random bytes", "truncation", "foreign name"];
    all_hold(Faults::Rot, &[("rot", kinds)]);
}

#[test]
fn no_message_is_given_up_untried_after_a_clock_jump() {
    let kinds = &["set ahead", "set back", "start in 1970"];
    all_hold(Faults::Clock, &[("clock", kinds)]);
}

#[test]
fn every_request_of_an_operator_is_answered_and_loses_no_other_message() {
    let expected: [(&str, &[&str]); 4] = [
        ("operator", &operator::KINDS),
        (
            "disk",
            &["read failed", "answer for a session that is gone"],
        ),
        (
            "helper",
            &[
                "died",
                "died in the midst of a question",
                "cannot be reached",
            ],
        ),
        ("relay", &["killed", "power cut"]),
    ];
    all_hold(Faults::Operator, &expected);
}

#[test]
fn messages_that_sendmail_left_with_exit_0_are_delivered_or_returned() {
    let expected: [(&str, &[&str]); 3] = [
        ("drop", &local::KINDS),
        ("hook", &["refuses", "defers"]),
        ("relay", &["killed", "power cut"]),
    ];
    all_hold(Faults::Local, &expected);
}

#[test]
fn a_forgotten_file_of_the_drop_folder_is_found() {
    is_found(Faults::Local, Sabotage::ForgottenDrop, &[rule::Rule::I1]);
}

/// The engine gives an answer for a closed connection to the new connection in the same slot.
#[test]
fn an_answer_to_the_wrong_connection_is_found() {
    let rules = [rule::Rule::I2];
    is_found(Faults::Operator, Sabotage::AnswerBySlot, &rules);
}

/// Late answers do no harm if each carries the whole ID of the connection that asked.
#[test]
fn a_late_answer_goes_to_no_other_connection() {
    let mut late = 0;
    for seed in 0..=99 {
        let (tally, _) = run(seed, Faults::Operator, Sabotage::SlowReads)
            .unwrap_or_else(|text| panic!("seed {seed}: {text}"));
        let gone = ("disk", "answer for a session that is gone");
        late += tally.faults.get(&gone).copied().unwrap_or(0);
    }
    assert!(late >= OCCURRENCES_MIN, "{late} answers came late");
}

/// A failed write does not lower the count of bytes on their way to the disk.
#[test]
fn a_count_that_is_not_lowered_is_found() {
    let rules = [rule::Rule::I1, rule::Rule::Bounds];
    is_found(Faults::Disk, Sabotage::CountKept, &rules);
}

/// An early return skips a step of the normal path: the engine does not look at held-back input when a turn ends.
#[test]
fn a_turn_that_ends_too_early_is_found() {
    is_found(Faults::Operator, Sabotage::EarlyExit, &[rule::Rule::Told]);
}

/// The session extends its state before the decision: a refused recipient stays in the transaction.
#[test]
fn a_recipient_that_was_entered_before_it_was_refused_is_found() {
    is_found(Faults::Local, Sabotage::FactsFirst, &[rule::Rule::I2]);
}

#[test]
fn a_seed_has_one_history() {
    for faults in [
        Faults::Network,
        Faults::UnauthenticatedClients,
        Faults::Disk,
        Faults::Rot,
        Faults::Clock,
        Faults::Operator,
        Faults::Local,
    ] {
        for seed in 0..40 {
            let sum = |_| run(seed, faults, Sabotage::None).map(|(_, sum)| sum);
            let [first, second] = [0, 1].map(sum);
            assert_eq!(first, second, "seed {seed}, {faults:?}");
        }
    }
}

#[test]
fn an_acknowledgement_before_the_commit_is_found() {
    let rules = [rule::Rule::I1, rule::Rule::I7];
    is_found(Faults::Power, Sabotage::EarlyAcknowledgement, &rules);
}

#[test]
fn a_forgotten_delivery_result_is_found() {
    is_found(Faults::Power, Sabotage::ForgottenOutcome, &[rule::Rule::I3]);
}

#[test]
fn a_retried_failed_sync_is_found() {
    is_found(Faults::Disk, Sabotage::RetriedSync, &[rule::Rule::I5]);
}

#[test]
fn a_forgotten_rewritten_sender_is_found() {
    is_found(
        Faults::UnauthenticatedClients,
        Sabotage::ForgottenSender,
        &[rule::Rule::I2],
    );
}

#[test]
fn an_unsynced_directory_entry_is_found() {
    is_found(Faults::Power, Sabotage::NamelessSegment, &[rule::Rule::I7]);
}
