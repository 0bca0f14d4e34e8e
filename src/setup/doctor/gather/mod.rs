//! Gathers the facts that the judges need, one file per subject. Each gatherer asks and waits by itself, none longer
//! than the common deadline, and reports what it could not find out.

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
