//! The capacities of the scarce resources; [`crate::policy::shares`] hands them out.

use crate::config::Config;
use crate::limits::{
    DERIVATIONS_AT_ONCE, DERIVATIONS_WAITING_MAX, DNS_QUESTIONS_MAX, HOOKS_MAX, HOOKS_WAITING_MAX,
    SPOOL_RESERVE_BYTES,
};
use crate::policy::shares::Resource;

/// Units of a resource, from the configuration and the `free` space of the disk, if that is known.
pub(super) fn capacity(config: &Config, free: Option<u64>, resource: Resource) -> u64 {
    let units = match resource {
        Resource::Memory => return config.limits.memory_bytes,
        Resource::Spool => {
            return free.map_or(UNKNOWN_SPACE_BYTES, |free| {
                free.saturating_sub(SPOOL_RESERVE_BYTES)
            });
        }
        Resource::Sessions => config.limits.sessions,
        Resource::Questions => DNS_QUESTIONS_MAX,
        Resource::Derivations => DERIVATIONS_AT_ONCE.saturating_add(DERIVATIONS_WAITING_MAX),
        Resource::Hooks => HOOKS_MAX.saturating_add(HOOKS_WAITING_MAX),
        Resource::Deliveries => config.delivery.sessions,
    };
    units as u64
}

/// Bytes that are taken to be free on the disk until it has said so.
const UNKNOWN_SPACE_BYTES: u64 = 1 << 40;
