//! The invariants of a world, and the error that names the one that did not hold.

use std::fmt;

/// An invariant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// An acknowledged message is delivered, bounced or queued, whatever happens.
    I1,
    /// The relay delivers only accepted messages, under the right names, and neither invents nor alters one.
    I2,
    /// The relay does not retry a recipient whose result is durable. A kill or a lost reply explains each second copy.
    I3,
    /// A DSN is durable before the recipient that it reports is closed.
    I4,
    /// The relay does not write or sync a file again after its sync failed.
    I5,
    /// Whatever bytes are in the spool, the relay sets damaged data aside, logs it, and goes on with the rest.
    I6,
    /// Data that the relay relies on is synced, and so is the directory entry of its file.
    I7,
    /// Tables and buffers stay below their ceilings.
    Bounds,
    /// After the clock jumps, the relay gives up no message before it has tried it again.
    Clock,
    /// A tool gets an answer, and the answer is true.
    Told,
    /// The configuration in force is the last one without an error.
    InForce,
}

/// A violation of an invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Broken {
    pub(crate) rule: Rule,
    pub(crate) text: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.rule, self.text)
    }
}

/// Returns `Broken` with `rule` and `text` unless `holds` is true.
pub(crate) fn check(holds: bool, rule: Rule, text: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds {
        return Ok(());
    }
    Err(Broken { rule, text: text() })
}
