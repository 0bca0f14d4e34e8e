//! The listening sockets that systemd passes (sd_listen_fds(3)). The name that FileDescriptorName= of the socket unit
//! gives a socket is a key of `[listen]`, or `acme-http` or `acme-tls` for the challenges of ACME.
//!
//! A passed socket is used instead of binding the address of its key: systemd has that port, and keeps it. A key that
//! is turned off stays off. Invariant: each passed socket is used, or named in the log.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use listenfd::ListenFd;
use mio::net::TcpListener;

use crate::engine::log::{Level, Line};
use crate::shell::process::log;

/// The sockets that systemd passed, by name.
pub(in crate::shell) struct Passed {
    sockets: ListenFd,
    names: Vec<Option<String>>,
}

/// Sockets that were passed for the challenges of ACME, under the names `acme-http` and `acme-tls`.
#[derive(Debug, Default)]
pub struct ChallengeSockets {
    /// For HTTP-01.
    pub http: Vec<std::net::TcpListener>,
    /// For TLS-ALPN-01.
    pub tls: Vec<std::net::TcpListener>,
}

impl Passed {
    /// Takes the sockets; a second call finds none.
    pub(in crate::shell) fn take() -> Self {
        // Names first: listenfd removes the variables that it reads.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        let names = names.split(':').map(|name| Some(name.to_owned()));
        // Without sockets, the variable belongs to another process.
        let names = names.take(sockets.len()).collect();
        Self { sockets, names }
    }

    /// The sockets of a key that takes no others; `None` if none was passed.
    pub(in crate::shell) fn listeners(&mut self, key: &'static str) -> Option<Vec<TcpListener>> {
        let found = self.of_name(key);
        let is_any = !found.is_empty();
        is_any.then(|| found.into_iter().map(TcpListener::from_std).collect())
    }

    /// The sockets that replace the addresses of a key; `None` if none was passed.
    pub(in crate::shell) fn instead_of(
        &mut self,
        key: &'static str,
        addresses: &[SocketAddr],
    ) -> Option<Vec<TcpListener>> {
        let found = self.of_name(key);
        if found.is_empty() {
            return None;
        }
        if addresses.is_empty() {
            let cause = format!("listen.{key} is [], so chopar does not listen there");
            let cure = format!(
                "systemctl disable --now {0} && systemctl mask {0}",
                unit(key)
            );
            say_unused(key, &cause, &cure);
            return Some(Vec::new());
        }
        let passed: BTreeSet<SocketAddr> = found
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect();
        if passed != addresses.iter().copied().collect() {
            let line = Line::new(Level::Warning, "socket-differs").with("key", key);
            let line = line
                .with("passed", list(&passed))
                .with("configured", list(&addresses.iter().copied().collect()));
            let cure = format!("set ListenStream= of {}, or mask it", unit(key));
            log::write(&line.with("cure", cure));
        }
        Some(found.into_iter().map(TcpListener::from_std).collect())
    }

    /// Checks the remaining sockets: those for challenges stay; others have an unknown name.
    pub(in crate::shell) fn challenges(mut self) -> ChallengeSockets {
        let sockets = ChallengeSockets {
            http: self.of_name("acme-http"),
            tls: self.of_name("acme-tls"),
        };
        for (index, name) in self.names.into_iter().enumerate() {
            let Some(name) = name else {
                continue;
            };
            // Any other socket is closed, because otherwise each program that the helper starts would inherit it.
            drop(self.sockets.take_tcp_listener(index));
            drop(self.sockets.take_unix_listener(index));
            drop(self.sockets.take_udp_socket(index));
            drop(self.sockets.take_unix_datagram(index));
            let cure = "set FileDescriptorName= of its socket unit to a key of [listen], acme-http or acme-tls";
            say_unused(&name, "nothing here has this name", cure);
        }
        sockets
    }

    /// The sockets of a name, set to non-blocking; one that does not listen is named in the log.
    fn of_name(&mut self, key: &str) -> Vec<std::net::TcpListener> {
        let Self { sockets, names } = self;
        let named = names.iter_mut().enumerate();
        let named = named.filter(|(_, name)| name.as_deref() == Some(key));
        let taken = named.filter_map(|(index, name)| {
            *name = None;
            let socket = sockets.take_tcp_listener(index).ok().flatten();
            let socket = socket.filter(|socket| socket.set_nonblocking(true).is_ok());
            if socket.is_none() {
                say_unused(
                    key,
                    "not a TCP socket that listens",
                    "set ListenStream= to a port",
                );
            }
            socket
        });
        taken.collect()
    }
}

/// The socket unit of a key, as it is installed.
pub(in crate::shell) fn unit(key: &str) -> String {
    format!("chopar-{key}.socket")
}

fn say_unused(name: &str, cause: &str, cure: &str) {
    let line = Line::new(Level::Warning, "socket-unused").with("name", name);
    log::write(&line.with("cause", cause).with("cure", cure));
}

fn list(addresses: &BTreeSet<SocketAddr>) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.join(",")
}
