//! The part of ACME that touches the world: HTTPS, challenges, files, the thread that renews.
//!
//! ```text
//!   obtain ── drives ──> crate::acme::AcmeClient (pure)
//!     ├── https       asks the CA; names by our own resolver
//!     ├── responder   ports 80 and 443, for as long as a challenge is shown
//!     ├── record      hooks/dns-01, by the helper in the daemon, and the servers of the zone
//!     └── store       acme/ in state_dir: account key, pairs, what they were ordered with, a lock
//!   renewal  the daemon's thread: when, and what is logged
//!     ├── managed     which certificates, and what is there of them
//!     ├── reachability  where the names lead, before the first order
//!     └── pauses      acme/pauses.json: what protects the CA's limits across restarts
//! ```
//!
//! Ports 80 and 443 are bound when a challenge starts and closed when it is over: otherwise they belong to a web server
//! or to nothing at all, and a port that is open for weeks is scanned for weeks. The right to bind them must therefore
//! last. Under the systemd unit it is an ambient capability. A start as root keeps exactly CAP_NET_BIND_SERVICE, only
//! in the thread that renews. If systemd passes sockets named `acme-http` and `acme-tls`, these are used.
//!
//! HTTPS is implemented here: ureq 3 with rustls would add 287 KB to the binary, and would have to be kept from
//! getaddrinfo.
//!
//! A renewal keeps the key of the certificate, so that a TLSA record of it (3 1 1) stays valid.

pub mod hooks;
pub mod https;
pub mod managed;
pub mod obtain;
pub mod pauses;
pub mod reachability;
pub mod record;
pub mod renewal;
pub mod responder;
pub mod store;
pub mod wanted;
