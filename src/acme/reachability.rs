//! Whether the names of a certificate already lead to this machine. A first order waits for that, because an order that
//! cannot succeed still counts against the rate limits of the CA.
//!
//! ```text
//!   look up ──> leads here ──────────────────────────> order when the plan says so
//!    ^  └────> no address ──── pause ──┐
//!    |  └────> elsewhere, unknown ─ pause, for an hour ─> order when the plan says so, and keep looking
//!    └─────────────────────────────────┘
//! ```
//!
//! A look-up asks the name servers of the zone and costs the CA nothing. A look-up without a clear answer does not
//! count as "here". A name that leads elsewhere may still reach this machine (a proxy, a forwarded port), so an order
//! is tried after an hour, at the intervals that follow failures. A name without an address is never tried, because no
//! CA could connect to it. Only orders whose challenges connect to the name's address wait (HTTP-01, TLS-ALPN-01).
//! Renewals do not wait: the name led here before. Not supported: checking from outside.

use std::fmt;
use std::net::IpAddr;

use super::schedule::RenewalStep as Due;
use super::{ChallengeKind, Name};
use crate::date::Timestamp;
use crate::limits::{ACME_ARRIVAL_PATIENCE, ACME_ARRIVAL_PAUSE_MAX, ACME_ARRIVAL_PAUSE_MIN};

/// Whether an address belongs to this machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressOwner {
    /// It does.
    Ours,
    /// It belongs to another machine.
    Theirs,
    /// Unknown: the machine has no public address of its own in that family, and may be behind NAT.
    Untold,
}

/// Where a name leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NameReach {
    /// Here, with all of its addresses.
    Here,
    /// To addresses that may be those of this machine.
    Perhaps,
    /// To another machine, by this address.
    Elsewhere(Name, IpAddr),
    /// The name has no address.
    Nowhere(Name),
    /// The look-up failed, for this reason.
    Unknown(Name, String),
}

impl NameReach {
    /// Where a name with these addresses leads. A CA may connect to any of them, so all must belong to this machine.
    pub fn of(name: &Name, found: Result<Vec<(IpAddr, AddressOwner)>, String>) -> Self {
        let addresses = match found {
            Err(cause) => return Self::Unknown(name.clone(), cause),
            Ok(addresses) if addresses.is_empty() => return Self::Nowhere(name.clone()),
            Ok(addresses) => addresses,
        };
        let theirs = addresses
            .iter()
            .find(|(_, whose)| *whose == AddressOwner::Theirs);
        if let Some((address, _)) = theirs {
            return Self::Elsewhere(name.clone(), *address);
        }
        match addresses
            .iter()
            .all(|(_, whose)| *whose == AddressOwner::Ours)
        {
            true => Self::Here,
            false => Self::Perhaps,
        }
    }

    /// The worst obstacle among several names.
    pub fn worst(leads: impl IntoIterator<Item = Self>) -> Self {
        let worst = leads.into_iter().max_by_key(Self::rank);
        worst.unwrap_or(Self::Here)
    }

    /// Whether an order can succeed.
    pub fn is_arrived(&self) -> bool {
        matches!(self, Self::Here | Self::Perhaps)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Here => 0,
            Self::Perhaps => 1,
            Self::Elsewhere(..) => 2,
            Self::Unknown(..) => 3,
            Self::Nowhere(_) => 4,
        }
    }
}

impl fmt::Display for NameReach {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => out.write_str("the name leads here"),
            Self::Perhaps => out.write_str(
                "the name leads to a public address, and this machine has no public address to compare it with",
            ),
            Self::Elsewhere(name, address) => write!(
                out,
                "{name} leads to {address}, which is not an address of this machine"
            ),
            Self::Nowhere(name) => write!(out, "{name} has no A or AAAA record"),
            Self::Unknown(name, cause) => {
                write!(out, "the addresses of {name} cannot be looked up ({cause})")
            }
        }
    }
}

/// Whether a CA connects to the addresses of the names.
pub fn is_by_address(kind: ChallengeKind) -> bool {
    match kind {
        ChallengeKind::Http01 | ChallengeKind::TlsAlpn01 => true,
        ChallengeKind::Dns01 => false,
    }
}

/// The next step for a certificate that does not exist yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArrivalStep {
    /// Check where its names lead; answer with [`CertificateArrival::on_look`].
    LookUp,
    Obtain,
    /// Do nothing until then.
    Wait(Timestamp),
}

/// The change that a check found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArrivalChange {
    /// The names lead here, but did not at the previous check: earlier failures no longer count.
    Arrived,
    Nothing,
}

/// The wait for the names of one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateArrival {
    /// Start of the wait.
    since: Timestamp,
    seen: Option<NameReach>,
    /// Time of the next check.
    next: Timestamp,
}

impl CertificateArrival {
    /// A wait that begins now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            seen: None,
            next: now,
        }
    }

    /// The next step, if the plan of the certificate says `due`.
    pub fn step(&self, due: Due, now: Timestamp) -> ArrivalStep {
        let order_at = match due {
            Due::Wait(until) => until,
            Due::Obtain | Due::AskWindow => now,
        };
        let is_patient = now < self.since.after(ACME_ARRIVAL_PATIENCE);
        let is_order = order_at <= now;
        // An old check does not justify an order.
        let is_fresh = now < self.next;
        match &self.seen {
            Some(lead) if lead.is_arrived() && !is_order => ArrivalStep::Wait(order_at),
            Some(lead) if lead.is_arrived() && is_fresh => ArrivalStep::Obtain,
            Some(NameReach::Elsewhere(..) | NameReach::Unknown(..))
                if is_fresh && is_order && !is_patient =>
            {
                ArrivalStep::Obtain
            }
            Some(_) if is_fresh => ArrivalStep::Wait(self.next),
            Some(_) | None => ArrivalStep::LookUp,
        }
    }

    /// Records where the names lead.
    pub fn on_look(&mut self, lead: NameReach, now: Timestamp) -> ArrivalChange {
        let was_away = self.seen.as_ref().is_some_and(|seen| !seen.is_arrived());
        let change = match was_away && lead.is_arrived() {
            true => ArrivalChange::Arrived,
            false => ArrivalChange::Nothing,
        };
        let waited = now.since(self.since).checked_div(8).unwrap_or_default();
        self.next = now.after(waited.clamp(ACME_ARRIVAL_PAUSE_MIN, ACME_ARRIVAL_PAUSE_MAX));
        self.seen = Some(lead);
        change
    }

    /// When the next check is due.
    pub fn next(&self) -> Timestamp {
        self.next
    }

    /// Where the names led at the last check.
    pub fn seen(&self) -> Option<&NameReach> {
        self.seen.as_ref()
    }
}

#[cfg(test)]
mod tests;
