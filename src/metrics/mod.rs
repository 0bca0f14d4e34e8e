//! Metrics: histograms, recent history, the mail provider behind a host, and the Prometheus text format.

mod exposition;
mod histogram;
mod history;
mod provider;

pub use exposition::{Exposition, Family};
pub use histogram::{Histogram, Timing};
pub use history::{History, Totals};
pub use provider::Provider;
