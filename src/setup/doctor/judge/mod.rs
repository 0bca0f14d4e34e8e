//! Judges the facts, one file per subject. Nothing here touches the world.

pub mod dns;
pub mod machine;
pub mod names;
pub mod outbound;
pub mod ports;
pub mod relay;
pub mod reputation;
pub mod resolver;
pub mod rules;
pub mod service;
pub mod signing;
pub mod tls;
