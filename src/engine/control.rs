//! The control socket: requests of the queue tools, and the responses.
//!
//! Both directions carry one JSON object per line. The engine answers a request with any number of
//! [`ControlResponse::Message`] lines and one [`ControlResponse::End`]. If a line is not a request, the engine answers
//! with an `End` that has the error, and closes the connection.
//!
//! Every user of this machine may connect; the kernel reports the uid. Root and the account of the relay may make every
//! request. Other users see only the messages that were submitted under their uid, may make one request per connection,
//! and get [`ControlResponse::Denied`] for a request that would change anything.

mod listing;
mod requests;
mod tools;
mod wire;

pub use super::stats::Stats;
pub(super) use tools::Control;
pub use wire::{ControlRequest, ControlResponse, ListedMessage, ListedRecipient, Selection};
