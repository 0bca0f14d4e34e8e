//! Delivery sessions: one client session each, from the look-up of a next hop to QUIT.
//!
//! ```text
//!   Searching --address--> Connecting --> Talking --it is ready--> Reading --> Talking --results--> Recording
//!       ^                      |          ^  |                        ^           |                     |
//!       |        TLS at once   '-> Handshake <- STARTTLS              |           |                     |
//!       |                                                             '- the next -- nothing is left ---'
//!       '---- the next host, with what is left of the message --------------------'---------------------'
//!
//!   Talking, Recording --nothing is due--> Idle --a message is due--> Reading
//!   each of them --QUIT, stop, no host is left--> Gone
//! ```
//!
//! A delivery session sets out without a message and takes the oldest that is due once it got through. Its outcome is
//! committed before it takes the next, so that a kill can repeat at most one message of each session.
//!
//! One attempt walks all hosts and addresses (RFC 5321 section 5.1): what a host refuses for now, or leaves open by
//! going away, is carried to the next one, and is deferred only when none is left, or no time. Each address is tried
//! once in an attempt, so that hosts which all say "later" end it. What a host has refused for good of a recipient or
//! of the message no other is asked; what it lacks, another may have.

mod carry;
mod dispatch;
mod hops;
mod host;
mod leaving;
mod load;
mod meaning;
pub(super) mod outcome;
mod queue;
mod search;
mod session;
mod talk;
mod untried;
mod waiting;

pub(super) use session::Delivery;
