//! Certificates and their keys as files: which exist, which can be served, which were served last, and the trusted
//! roots.

pub mod certificate;
pub mod last_good;
pub(super) mod log;
pub mod pairs;
pub mod roots;
