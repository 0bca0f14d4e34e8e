//! The invariants of a message after any faults: I1 to I4 of a durable relay.
//!
//! - After a 250: it arrives (I1), and so does the DSN about each refused recipient.
//! - Without a 250: nothing arrives (I2), unless the message was on the disk and only the reply was lost; then once.
//! - A second copy needs a reason of its own (I3): a fault between the final dot and the record of the delivery result.
//! - A second DSN needs one too (I4); nothing excuses a missing one.
//! - The received message is the sent one, byte for byte, after the fields that a relay adds.

use std::fmt;

/// The final state of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Its name in findings.
    pub(crate) name: String,
    /// Whether its sender got an acknowledgement.
    pub(crate) told: bool,
    /// Whether it was in the spool when a fault ended its sender's session.
    pub(crate) written: bool,
    /// What the relay owes for it.
    pub(crate) due: Due,
    /// Copies that its recipient got.
    pub(crate) copies: usize,
    /// Copies that differ from the sent message.
    pub(crate) altered: usize,
    /// DSNs that its sender got.
    pub(crate) dsns: usize,
    /// Faults that excuse a second copy.
    pub(crate) excused_copies: usize,
    /// Faults that excuse a second DSN.
    pub(crate) excused_dsns: usize,
}

/// What the relay owes for an accepted message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Due {
    /// Delivery.
    #[default]
    Copy,
    /// Delivery, and a DSN about a refused recipient.
    CopyAndDsn,
    /// No delivery, and a DSN: the message is refused as a whole.
    Dsn,
}

impl Due {
    /// Whether its sender must get a DSN.
    pub(crate) fn has_dsn(self) -> bool {
        self != Self::Copy
    }

    /// Whether it must be delivered.
    pub(crate) fn has_copy(self) -> bool {
        self != Self::Dsn
    }
}

/// A violated invariant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Finding {
    /// It was accepted and did not arrive.
    Lost(String),
    /// It was neither acknowledged nor on the disk, and it arrived.
    Invented(String),
    /// More copies than faults excuse.
    Copies {
        name: String,
        got: usize,
        most: usize,
    },
    /// It was accepted, a recipient was refused, and the sender got no DSN.
    DsnMissing(String),
    /// More DSNs than faults excuse.
    Dsns {
        name: String,
        got: usize,
        most: usize,
    },
    /// It arrived altered.
    Altered(String),
    /// Another error, in words: the relay exited with an error, or the queue does not become empty.
    Other(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(name) => write!(out, "message {name} was accepted and is lost"),
            Self::Invented(name) => {
                write!(
                    out,
                    "message {name} was not accepted and arrived all the same"
                )
            }
            Self::Copies { name, got, most } => {
                write!(
                    out,
                    "message {name} arrived {got} times; at most {most} is excused"
                )
            }
            Self::DsnMissing(name) => {
                write!(
                    out,
                    "the sender of message {name} was not told of the refusal"
                )
            }
            Self::Dsns { name, got, most } => {
                write!(
                    out,
                    "message {name} was notified {got} times; at most {most} is excused"
                )
            }
            Self::Altered(name) => write!(out, "message {name} arrived changed"),
            Self::Other(text) => out.write_str(text),
        }
    }
}

/// All violations in a history.
pub(crate) fn judge(history: &History) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = || history.name.clone();
    let is_owed = history.told || history.written;
    if history.told && history.copies == 0 && history.due.has_copy() {
        findings.push(Finding::Lost(name()));
    }
    let is_invented = !is_owed && history.copies + history.dsns > 0;
    if is_invented || !history.due.has_copy() && history.copies > 0 {
        findings.push(Finding::Invented(name()));
    }
    let most = 1 + history.excused_copies;
    if history.copies > most {
        let got = history.copies;
        findings.push(Finding::Copies {
            name: name(),
            got,
            most,
        });
    }
    if history.told && history.due.has_dsn() && history.dsns == 0 {
        findings.push(Finding::DsnMissing(name()));
    }
    let most = usize::from(history.due.has_dsn()) + history.excused_dsns;
    if is_owed && history.dsns > most {
        let got = history.dsns;
        findings.push(Finding::Dsns {
            name: name(),
            got,
            most,
        });
    }
    if history.altered > 0 {
        findings.push(Finding::Altered(name()));
    }
    findings
}

mod tests {
    use super::*;

    /// A message that was accepted, arrived once, and caused one DSN.
    fn good() -> History {
        History {
            name: "B".to_owned(),
            told: true,
            written: true,
            due: Due::CopyAndDsn,
            copies: 1,
            dsns: 1,
            ..History::default()
        }
    }

    fn copies(got: usize, most: usize) -> Vec<Finding> {
        let name = "B".to_owned();
        vec![Finding::Copies { name, got, most }]
    }

    #[test]
    fn a_good_history_passes() {
        assert_eq!(judge(&good()), []);
    }

    #[test]
    fn lost_mail_is_found() {
        let forged = History {
            copies: 0,
            ..good()
        };
        assert_eq!(judge(&forged), [Finding::Lost("B".to_owned())]);
    }

    #[test]
    fn an_extra_copy_is_found_unless_a_fault_excuses_it() {
        let forged = History {
            copies: 2,
            ..good()
        };
        assert_eq!(judge(&forged), copies(2, 1));
        let excused = History {
            excused_copies: 1,
            ..forged
        };
        assert_eq!(judge(&excused), []);
        let forged = History {
            copies: 3,
            ..excused
        };
        assert_eq!(judge(&forged), copies(3, 2));
    }

    #[test]
    fn an_invented_message_is_found_and_a_lost_reply_is_excused() {
        let forged = History {
            told: false,
            written: false,
            ..good()
        };
        assert_eq!(judge(&forged), [Finding::Invented("B".to_owned())]);
        let answer_lost = History {
            told: false,
            ..good()
        };
        assert_eq!(judge(&answer_lost), []);
        assert_eq!(
            judge(&History {
                copies: 2,
                ..answer_lost
            }),
            copies(2, 1)
        );
        let refused = History {
            told: false,
            written: false,
            copies: 0,
            dsns: 0,
            ..good()
        };
        assert_eq!(judge(&refused), []);
    }

    #[test]
    fn a_missing_dsn_and_an_extra_one_are_found() {
        let forged = History { dsns: 0, ..good() };
        assert_eq!(judge(&forged), [Finding::DsnMissing("B".to_owned())]);
        let forged = History { dsns: 2, ..good() };
        let (name, got, most) = ("B".to_owned(), 2, 1);
        assert_eq!(judge(&forged), [Finding::Dsns { name, got, most }]);
        let unasked = History {
            due: Due::Copy,
            ..good()
        };
        let (name, got, most) = ("B".to_owned(), 1, 0);
        assert_eq!(judge(&unasked), [Finding::Dsns { name, got, most }]);
    }

    #[test]
    fn a_delivered_message_that_should_be_returned_is_found() {
        let returned = History {
            due: Due::Dsn,
            copies: 0,
            ..good()
        };
        assert_eq!(judge(&returned), []);
        let forged = History {
            copies: 1,
            ..returned
        };
        assert_eq!(judge(&forged), [Finding::Invented("B".to_owned())]);
    }

    #[test]
    fn an_altered_message_is_found() {
        let forged = History {
            altered: 1,
            ..good()
        };
        assert_eq!(judge(&forged), [Finding::Altered("B".to_owned())]);
    }
}
