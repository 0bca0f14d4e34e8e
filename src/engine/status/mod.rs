//! What the relay says of itself: to Prometheus, to the status page, to `chopar top`.
//!
//! All three are made of one [`RelayStatus`], so that a figure is the same wherever it is read. Nothing can be changed here, and
//! nobody is named: whoever is on this machine may read the page.

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
