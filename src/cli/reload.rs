//! `chopar reload`: makes the daemon read its configuration again, or prints why it does not.

use std::path::Path;

use argh::FromArgs;

use super::control::ask;
use super::failure::Failure;
use super::output::say;
use super::sysexits::CONFIGURATION;
use crate::engine::control::{ControlRequest, ControlResponse};

/// Have the daemon read its configuration again; no connection is dropped.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "reload")]
pub struct Reload {}

impl Reload {
    /// Asks the daemon, and waits for it.
    pub fn run(&self, runtime_dir: &Path) -> Result<(), Failure> {
        let (_, errors) = ask(runtime_dir, &ControlRequest::Reload {}, &mut |response| {
            if let ControlResponse::Note { text } = response {
                say(text);
            }
            Ok(())
        })?;
        if errors.is_empty() {
            say("the daemon has read its configuration again");
            return Ok(());
        }
        let text = format!(
            "the old configuration remains in force: {}",
            errors.join("\n")
        );
        Err(Failure::new(CONFIGURATION, text))
    }
}
