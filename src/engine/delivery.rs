//! Delivery sessions: one SMTP client session each, from MX resolution to QUIT.
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
//! A delivery session starts without a message and takes the oldest one that is due once a server is ready. It commits
//! the delivery results of a message before it takes the next one, so a kill can repeat at most one message of each
//! session.
//!
//! One delivery attempt tries all hosts and addresses (RFC 5321 section 5.1). Recipients that a host defers, or leaves
//! open by closing the connection, are offered to the next host; they are deferred only when no host or no time is
//! left. Each address is tried once per attempt, so an attempt ends even if every host answers 4xx. Recipients and
//! messages that a host has rejected permanently are not offered to another host. A missing extension does not reject:
//! another host may offer it.

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
