//! The thin shell around the engine: sockets, TLS, files, threads, time.

pub mod folder;
