//! The state of the relay, for Prometheus, the status page and `chopar top`.
//!
//! All three are made from one [`RelayStatus`], so that a figure is the same wherever it is read. The status page
//! cannot change anything and names nobody, because every user of this machine may read it.

mod figures;
pub(super) mod observed;
mod page;
mod redaction;
mod report;
mod visits;

pub use observed::{CertificateLeft, DeferralReason, Outcomes, Version};
pub use redaction::redacted;
pub use report::{
    Age, Happened, NextHopReport, ProviderReport, RelayStatus, Stuck, TimedHistogram,
};
pub(super) use report::{observe_history, status};
pub(super) use visits::{Door, Visits};
