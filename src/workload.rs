//! Counts of work whose size a peer can influence.
//!
//! One turn of the event loop serves all connections, so the work that one peer can cause is limited
//! ([`TURN_BYTES_MAX`](crate::limits::TURN_BYTES_MAX) and others beside it), and tests check the limits. Counts, unlike
//! times, are the same on every machine. They are per thread and affect no decision: a test runs code in [`during`] to
//! read them.

use std::cell::Cell;
use std::ops::{Add, Sub};

/// A unit of work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Bytes that are hashed, canonicalized, or parsed.
    Byte,
    /// Header fields and list elements that are examined.
    Field,
    /// DNS names, addresses and answers that are searched, and terms of policies.
    Name,
}

/// Counts of work.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Workload {
    /// Of [`Unit::Byte`].
    pub bytes: u64,
    /// Of [`Unit::Field`].
    pub fields: u64,
    /// Of [`Unit::Name`].
    pub names: u64,
}

impl Workload {
    /// The greater count of each unit.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            fields: self.fields.max(other.fields),
            names: self.names.max(other.names),
        }
    }

    /// Whether no count is greater than that of `limit`.
    pub fn is_within(self, limit: Self) -> bool {
        self.max(limit) == limit
    }
}

impl Add for Workload {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            fields: self.fields.saturating_add(other.fields),
            names: self.names.saturating_add(other.names),
        }
    }
}

impl Sub for Workload {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            fields: self.fields.saturating_sub(other.fields),
            names: self.names.saturating_sub(other.names),
        }
    }
}

/// Counts work of this thread.
pub fn count(unit: Unit, amount: usize) {
    DONE.with(|done| {
        let mut counts = done.get();
        let place = match unit {
            Unit::Byte => &mut counts.bytes,
            Unit::Field => &mut counts.fields,
            Unit::Name => &mut counts.names,
        };
        *place = place.saturating_add(amount as u64);
        done.set(counts);
    });
}

/// The result of `work`, and the counts during it.
pub fn during<T>(work: impl FnOnce() -> T) -> (T, Workload) {
    let before = DONE.get();
    let result = work();
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "the difference of two saturates"
    )]
    let done = DONE.get() - before;
    (result, done)
}

thread_local! {
    static DONE: Cell<Workload> = const {
        Cell::new(Workload { bytes: 0, fields: 0, names: 0 })
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_done_meanwhile_and_on_this_thread() {
        count(Unit::Byte, 1_000);
        let (inner, outer) = during(|| {
            count(Unit::Field, 2);
            let other = std::thread::spawn(|| count(Unit::Name, 50));
            other.join().expect("a thread");
            during(|| count(Unit::Byte, 7)).1
        });
        let (bytes, fields, names) = (7, 2, 0);
        assert_eq!(
            inner,
            Workload {
                bytes,
                fields: 0,
                names
            }
        );
        assert_eq!(
            outer,
            Workload {
                bytes,
                fields,
                names
            }
        );
        assert!(inner.is_within(outer) && !outer.is_within(inner));
        assert_eq!(inner + outer - inner, outer);
    }
}
