//! Errors in names of hosts, domains and mailboxes.

use std::fmt;

use crate::address::AddressError;

/// An error of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NameProblem {
    /// No host name.
    Hostname {
        text: String,
        error: AddressError,
    },
    /// `hostname` is not set, and the system's is of no use.
    SystemHostname {
        /// The system's.
        text: String,
    },
    /// The hostname has no dot (a warning).
    HostnameWithoutDot {
        /// The hostname.
        text: String,
    },
    /// An IP address for a host name.
    HostnameAddress {
        text: String,
    },
    /// No mail address.
    Mailbox {
        text: String,
        error: AddressError,
    },
    Domain {
        text: String,
        error: AddressError,
    },
    /// A domain without a dot (a warning).
    DomainWithoutDot {
        text: String,
    },
    /// Two folders name the same domain.
    DomainTwice {
        /// The other folder.
        other: String,
    },
    /// A section for a domain that has no folder.
    DomainWithoutFolder {
        domain: String,
    },
}

impl fmt::Display for NameProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hostname { text, error } => write!(
                out,
                "{text:?} is not a host name ({error}); write the name that the PTR record of the address has"
            ),
            Self::SystemHostname { text } => write!(
                out,
                "the system's name {text:?} is not a host name; set hostname = \"mail.example.com\""
            ),
            Self::HostnameWithoutDot { text } => write!(
                out,
                "the hostname {text:?} has no domain, and other servers will distrust it; set hostname = \
                 \"mail.example.com\""
            ),
            Self::HostnameAddress { text } => write!(
                out,
                "{text:?} is an address, and other servers refuse it in EHLO; write the name that the PTR record of the \
                 address has"
            ),
            Self::Mailbox { text, error } => {
                write!(
                    out,
                    "{text:?} is not a mail address ({error}); write name@example.com"
                )
            }
            Self::Domain { text, error } => {
                write!(
                    out,
                    "{text:?} is not a domain ({error}); write it like example.com"
                )
            }
            Self::DomainWithoutDot { text } => write!(
                out,
                "no other server can send mail to {text:?}, which has no dot; write the whole name, like {text}.example.com"
            ),
            Self::DomainTwice { other } => write!(
                out,
                "the folder {other:?} names the same domain; put both into one"
            ),
            Self::DomainWithoutFolder { domain } => write!(
                out,
                "there is no folder domains/{domain}; make it (chopar domain add {domain}) or remove the section"
            ),
        }
    }
}
