//! Sockets: connections, listening sockets, datagrams, and TLS handshakes as a client.

pub mod handshake;
pub mod link;
pub mod listen;
pub mod passed;
pub(super) mod slab;
pub(super) mod stream;
pub(super) mod streams;
pub mod timed;
pub(super) mod udp;
