//! The thin shell around the engine: sockets, TLS, files, threads, time.

pub mod file_disk;
pub mod journal_writer;
