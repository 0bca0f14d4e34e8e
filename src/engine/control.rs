//! The control socket: what the queue tools ask, and what they are told.
//!
//! One JSON object a line in both directions. A request is answered by any number of [`ControlResponse::Message`] lines and
//! one [`ControlResponse::End`]. A line that is no request gets an `End` with the error, and its sender is dropped.
//!
//! Every user of this machine may connect; who that is, the kernel says. Root and the account of the relay may ask for
//! everything. Another user sees the messages that were submitted under that uid and nothing else, may ask once a
//! connection, and gets [`ControlResponse::Denied`] for what changes anything.

mod listing;
mod requests;
mod tools;
mod wire;

pub use super::stats::Stats;
pub(super) use tools::Control;
pub use wire::{ControlRequest, ControlResponse, ListedMessage, ListedRecipient, Selection};
