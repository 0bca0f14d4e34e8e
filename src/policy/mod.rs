//! Decisions: who may relay, which sender addresses a user may use, where a recipient goes, when to retry, and which
//! client is over its limit.
//!
//! Pure functions over the configuration, and small tables with ceilings. Nothing here knows a connection.

pub mod advice;
pub mod authenticity;
pub mod authority;
pub mod client_dns;
pub mod client_rates;
pub mod eviction;
pub mod fair_queue;
pub mod greylist;
pub mod password_memory;
pub mod published;
pub mod rates;
pub mod relay;
pub mod retry;
pub mod returns;
pub mod route;
pub mod sender;
pub mod shares;
mod ttl_map;
