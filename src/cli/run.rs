//! `chopar run`: the relay, in the foreground.

use std::path::Path;

use argh::FromArgs;

use crate::setup::acme::renewal;
use crate::shell::daemon::{self, RunError};

/// Run the relay in the foreground, for systemd or another supervisor.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "run")]
pub struct Run {}

impl Run {
    /// Runs until SIGTERM; SIGHUP reads the configuration in `folder` again.
    pub fn run(&self, folder: &Path) -> Result<(), RunError> {
        daemon::run(folder, renewal::run)
    }
}
