//! Finds out what the judges need, one file a subject. Each gatherer asks and waits by itself, none longer than the deadline
//! of all, and what it does not find out it says so.

pub mod announce;
pub mod dns;
pub mod machine;
pub mod names;
pub mod outbound;
pub mod ports;
pub mod relay;
pub mod reputation;
pub mod resolver;
pub mod service;
pub mod signing;
pub mod smtp;
pub mod tls;
