//! Counts of events in the worlds: a fault that never occurs proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of one world, or of several together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) worlds: u64,
    /// Turns of the loop, each followed by the checks that hold at any time.
    pub(crate) steps: u64,
    /// Acknowledged messages.
    pub(crate) accepted: u64,
    /// Copies that servers accepted, one for each recipient.
    pub(crate) delivered: u64,
    /// Durable DSNs.
    pub(crate) dsns: u64,
    /// Delivery sessions between the final dot and a durable result at a kill of the relay.
    pub(crate) standing: u64,
    /// Messages with a damaged record.
    pub(crate) rotten: u64,
    /// Starts that set damaged data aside.
    pub(crate) set_aside: u64,
    /// Faults, by place and kind.
    pub(crate) faults: BTreeMap<(&'static str, &'static str), u64>,
}

impl Tally {
    pub(crate) fn fault(&mut self, place: &'static str, kind: &'static str) {
        *self.faults.entry((place, kind)).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.dsns += other.dsns;
        self.standing += other.standing;
        self.rotten += other.rotten;
        self.set_aside += other.set_aside;
        for (key, count) in other.faults {
            *self.faults.entry(key).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} worlds, {} steps, {} messages accepted, {} copies delivered, {} notifications, {} sessions killed between dot and record",
            self.worlds, self.steps, self.accepted, self.delivered, self.dsns, self.standing
        )?;
        if self.rotten > 0 {
            write!(
                out,
                ", {} messages hit by rot, {} starts that set something aside",
                self.rotten, self.set_aside
            )?;
        }
        let mut place = "";
        for ((at, kind), count) in &self.faults {
            let joint = if *at == place { "," } else { "\n  " };
            if *at != place {
                write!(out, "{joint}{at}:")?;
                place = at;
            } else {
                out.write_str(joint)?;
            }
            write!(out, " {kind} {count}")?;
        }
        Ok(())
    }
}
