//! Decisions: who may relay, as whom, where a recipient goes, when to try again, and who has had enough.
//!
//! Pure functions over the configuration, and small tables with ceilings. Nothing here knows a connection.

pub mod advice;
pub mod authenticity;
pub mod authority;
pub mod conduct;
pub mod doorway;
mod expiring;
pub mod greylist;
pub mod password_memory;
pub mod published;
pub mod rates;
pub mod relay;
pub mod retry;
pub mod returns;
pub mod route;
pub mod sender;
pub mod shares;
pub mod turns;
pub mod vetting;
