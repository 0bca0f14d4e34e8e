//! Counting what happens: histograms, what happened lately, whose mail hosts those are, and Prometheus' way to write it.

mod exposition;
mod histogram;
mod history;
mod provider;

pub use exposition::{Exposition, Family};
pub use histogram::{Histogram, Timing};
pub use history::{History, Totals};
pub use provider::Provider;
