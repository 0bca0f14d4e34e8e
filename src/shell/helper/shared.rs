//! Data that all connections of the helper share.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::directory::Directory;
use super::program::Running;

/// Data that all connections share.
pub(super) struct Shared {
    /// The targets of the configuration.
    pub(super) directory: Directory,
    /// The programs that run.
    pub(super) running: Running,
    /// Deliveries at work.
    pub(super) deliveries: AtomicUsize,
    /// Hooks that run.
    pub(super) hooks: AtomicUsize,
    /// Held by the one thread that reads a report.
    pub(super) report: Mutex<()>,
}

impl Shared {
    /// Nothing is at work yet.
    pub(super) fn new(directory: Directory) -> Self {
        Self {
            directory,
            running: Running::default(),
            deliveries: AtomicUsize::new(0),
            hooks: AtomicUsize::new(0),
            report: Mutex::new(()),
        }
    }

    /// How many connections are served.
    pub(super) fn at_work(&self) -> usize {
        self.deliveries.load(Ordering::Relaxed) + self.hooks.load(Ordering::Relaxed)
    }
}
