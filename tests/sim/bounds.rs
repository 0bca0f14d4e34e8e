//! Upper limits of the engine's tables, checked after every turn.

use chopar::config::Config;
use chopar::engine::{DsnTables, Engine, Tables};
use chopar::limits::{
    ABUSE_TABLE_ENTRIES_MAX, DNS_CACHE_ENTRIES_MAX, DNS_QUESTIONS_MAX, DSNS_AT_WORK_MAX,
    GREYLIST_ENTRIES_MAX, HOOKS_MAX, HOOKS_WAITING_MAX, RETURN_TABLE_ENTRIES_MAX,
};

use chopar::limits::{TURN_BYTES_MAX, TURN_FIELDS_MAX, TURN_NAMES_MAX};
use chopar::workload::Workload;

use crate::rule::{Broken, Rule, check as rule};

/// Checks that all tables of the engine are within their limits. `clients` counts the connections so far.
pub(crate) fn check(engine: &Engine, config: &Config, clients: usize) -> Result<(), Broken> {
    let ceilings = Ceilings {
        memory: usize::try_from(config.limits.memory_bytes).expect("64 bits"),
        deliveries: config.delivery.sessions,
        clients,
        recipients: MESSAGE_RECIPIENTS_MAX,
    };
    let heaviest = engine.heaviest_turn();
    rule(heaviest.is_within(TURN), Rule::Bounds, || {
        format!("a turn did {heaviest:?}")
    })?;
    // A turn must leave no participant waiting for another.
    rule(engine.is_settled(), Rule::Bounds, || {
        "a turn is over, and one participant waits for another".to_owned()
    })?;
    ceilings.hold(&engine.tables())
}

/// Upper limit of the work of one turn.
const TURN: Workload = Workload {
    bytes: TURN_BYTES_MAX as u64,
    fields: TURN_FIELDS_MAX as u64,
    names: TURN_NAMES_MAX as u64,
};

/// Limits that follow from the configuration and from the world.
struct Ceilings {
    memory: usize,
    deliveries: usize,
    /// Client connections so far.
    clients: usize,
    /// Upper limit of recipients of a message.
    recipients: usize,
}

impl Ceilings {
    fn hold(&self, tables: &Tables) -> Result<(), Broken> {
        let Tables {
            memory,
            connections,
            deliveries,
            hops,
            timers,
            jobs,
            verifications,
            questions,
            answers,
            dsns,
            unrecorded,
            commits,
            spilling,
            blocks,
            evictable,
            hooks,
            queued,
            clients,
        } = *tables;
        let recipients = queued * self.recipients;
        // Each client may also have a question to the hook.
        let sessions = 2 * self.clients + self.deliveries;
        let owners = connections + 2 * queued;
        let ceilings = [
            ("bytes", memory, self.memory),
            ("connections", connections, sessions),
            ("deliveries", deliveries, self.deliveries),
            // The engine keeps a next hop while messages wait for it, while it has sessions, and while it is paused.
            ("hops", hops, recipients + deliveries + HOPS_PAUSED_MAX),
            ("timers", timers, 2 * owners + TIMERS_SPARE_MAX),
            ("questions", questions, DNS_QUESTIONS_MAX),
            ("answers", answers, DNS_CACHE_ENTRIES_MAX),
            ("DSNs at work", dsns.at_work, DSNS_AT_WORK_MAX),
            // Each recipient fails once, and each message is delayed once.
            ("DSNs", dsns.waiting, recipients + queued),
            ("unrecorded outcomes", unrecorded, recipients + queued),
            // A new message, its delivery results, its end, and a copy of it.
            (
                "commits",
                commits,
                connections + 2 * recipients + 2 * queued + COMMITS_SPARE_MAX,
            ),
            ("jobs", jobs, connections + DSNS_AT_WORK_MAX),
            ("verifications", verifications, self.clients),
            ("bodies", spilling, self.clients),
            // A session that has ended may have left one.
            ("blocks", blocks, 2 * self.clients),
            ("sessions that can make room", evictable, connections),
            (
                "hooks",
                hooks,
                self.clients.min(HOOKS_MAX + HOOKS_WAITING_MAX),
            ),
            (
                "counts of clients",
                clients.client_rates,
                ABUSE_TABLE_ENTRIES_MAX,
            ),
            ("greylisted", clients.greylist, GREYLIST_ENTRIES_MAX),
            (
                "return addresses",
                clients.returns,
                RETURN_TABLE_ENTRIES_MAX,
            ),
        ];
        for (name, size, ceiling) in ceilings {
            rule(size <= ceiling, Rule::Bounds, || {
                format!("{size} {name}, at most {ceiling} are allowed")
            })?;
        }
        Ok(())
    }
}

/// Recipients of a message of the world.
const MESSAGE_RECIPIENTS_MAX: usize = 6;
/// Upper limit of paused next hops without mail: all next hops of the world.
const HOPS_PAUSED_MAX: usize = 16;
/// Cancelled timers that may remain until the next cleanup.
const TIMERS_SPARE_MAX: usize = 4_096 + 64;
/// Done records of messages that have left the queue.
const COMMITS_SPARE_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_too_large_is_found() {
        let ceilings = Ceilings {
            memory: 1_000,
            deliveries: 4,
            clients: 1,
            recipients: 4,
        };
        let fine = Tables::default();
        assert_eq!(ceilings.hold(&fine), Ok(()));
        let forged = [
            Tables {
                memory: 1_001,
                ..fine
            },
            Tables {
                connections: 7,
                ..fine
            },
            Tables {
                deliveries: 5,
                ..fine
            },
            Tables {
                hops: HOPS_PAUSED_MAX + 1,
                ..fine
            },
            Tables {
                timers: TIMERS_SPARE_MAX + 1,
                ..fine
            },
            Tables {
                questions: DNS_QUESTIONS_MAX + 1,
                ..fine
            },
            Tables {
                answers: DNS_CACHE_ENTRIES_MAX + 1,
                ..fine
            },
            Tables {
                dsns: DsnTables {
                    at_work: DSNS_AT_WORK_MAX + 1,
                    waiting: 0,
                },
                ..fine
            },
            Tables {
                unrecorded: 1,
                ..fine
            },
            Tables { hooks: 2, ..fine },
            Tables {
                spilling: 2,
                ..fine
            },
        ];
        for tables in forged {
            let broken = ceilings.hold(&tables).expect_err("it is over its ceiling");
            assert_eq!(broken.rule, Rule::Bounds);
        }
    }
}
