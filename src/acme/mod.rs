//! Certificates by ACME (RFC 8555), as a state machine that does no I/O.
//!
//! ```text
//!   Start ─> directory ─> account ─> order ─> authorization ─> challenge presented ─> answered ─> polled ─┐
//!                                               ^──────────── the next name ────────── withdrawn <────────┘
//!                                                                    finalize ─> polled ─> chain ─> Done
//! ```
//!
//! [`AcmeClient`] returns its next request ([`AcmeAction`]) and takes the result; [`schedule`] decides when a
//! certificate is renewed (with RFC 9773, ARI), and [`reachability`] makes the first order wait until the name leads here;
//! [`http`] reads responses; [`jws`] signs (RFC 7515, ES256). Challenges: HTTP-01 and DNS-01 (RFC 8555 section 8),
//! TLS-ALPN-01 (RFC 8737). Errors are problem documents (RFC 7807) or say whose fault they are.
//!
//! Not supported: pre-authorization, account key rollover, alternate chains, names other than those of the DNS, URLs
//! that are not https. Invariants: a challenge that was presented is withdrawn before the machine ends; every loop has
//! its bound in [`crate::limits`]; no text of a server is passed on unescaped.

pub mod challenge;
pub mod client;
pub mod error;
pub mod http;
pub mod jws;
pub mod name;
pub mod reachability;
pub mod schedule;
pub mod wire;
pub mod work;

pub use challenge::ChallengeKind;
pub use client::AcmeClient;
pub use error::AcmeError;
pub use jws::AccountKey;
pub use name::Name;
pub use work::{AcmeAction, AcmeMethod, AcmeOutcome, AcmeRequest, AcmeWork, ChallengeProof};

#[cfg(test)]
mod tests;
