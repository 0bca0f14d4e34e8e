//! Certificates and their keys as files: what is there, what can be served, what was served last, and the roots.

pub mod certificate;
pub mod last_good;
pub(super) mod log;
pub mod pairs;
pub mod roots;
