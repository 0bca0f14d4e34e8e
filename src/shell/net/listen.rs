//! Listening sockets: bound here, or passed by systemd; TCP for other hosts, Unix for programs of this machine.
//!
//! An existing Unix socket at the same path is replaced only if no process answers on it. Invariant: when the process
//! has no descriptor left, a new client gets 421 through a reserve descriptor, and the loop does not spin.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, Protocol, Type};

use crate::config::{Listen, Listeners};
use crate::engine::event::{Listener, Peer};
use crate::engine::log::{Level, Line};
use crate::limits::LISTEN_BACKLOG;
use crate::shell::net::passed::{self, ChallengeSockets, Passed};
use crate::shell::net::stream::Socket;
use crate::shell::process::log;

/// One listening socket.
#[derive(Debug)]
pub(in crate::shell) struct ListeningPort {
    pub(in crate::shell) listener: Listener,
    /// Whether a client may be waiting.
    pub(in crate::shell) ready: bool,
    /// Who bound the socket.
    pub(in crate::shell) binder: Binder,
    socket: Bound,
}

/// Who bound a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum Binder {
    Daemon,
    /// systemd, which passed it.
    Systemd,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// The result of one attempt to accept.
#[derive(Debug)]
pub(in crate::shell) enum Accepted {
    /// A client.
    Connection(Socket, Peer),
    /// A client that has disconnected already, or that may not connect.
    Nobody,
    /// No client waits.
    Empty,
    /// The system has no descriptor or no memory left.
    Exhausted,
}

/// Why no socket listens.
#[derive(Debug)]
pub enum ListenError {
    /// An address cannot be bound.
    Address {
        /// The key under `[listen]`.
        key: &'static str,
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// A Unix socket cannot be bound.
    Path(PathBuf, io::Error),
    /// Another process answers on it.
    Taken(PathBuf),
    /// systemd did not pass what the configuration expects.
    NotPassed(&'static str),
}

impl fmt::Display for ListenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address {
                key,
                address,
                error,
            } => {
                write!(
                    out,
                    "cannot listen on {address} ({key}): {error}: {}",
                    cure(key, error)
                )
            }
            Self::Path(path, error) => write!(
                out,
                "cannot listen on {}: {error}: see to its folder, or set runtime_dir",
                path.display()
            ),
            Self::Taken(path) => write!(
                out,
                "another chopar answers on {}: stop it, or set another runtime_dir",
                path.display()
            ),
            Self::NotPassed(key) => write!(
                out,
                "listen.{key} is \"systemd\", but no socket named {key} was passed: start {unit}, or add \
                 FileDescriptorName={key} to the socket unit that you have for it",
                unit = passed::unit(key)
            ),
        }
    }
}

impl std::error::Error for ListenError {}

fn cure(key: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("stop the program that has the port, or set another address under listen.{key}")
        }
        ErrorKind::PermissionDenied => format!(
            "start as root, grant CAP_NET_BIND_SERVICE, or have systemd pass the socket ({})",
            passed::unit(key)
        ),
        ErrorKind::AddrNotAvailable => {
            format!("this machine does not have the address: correct listen.{key}")
        }
        _ => format!("correct listen.{key}"),
    }
}

/// What would prevent a start from binding the addresses. The check does not listen, so no client connects to it. If
/// the relay runs already, its own ports are in use. Only the daemon can tell whether it may bind low ports.
pub(in crate::shell) fn obstacles(listen: &Listeners, is_running: bool) -> Vec<ListenError> {
    let keys = [
        ("smtp", &listen.smtp),
        ("proxy", &listen.proxy),
        ("submission", &listen.submission),
        ("submissions", &listen.submissions),
        ("https", &listen.https),
    ];
    let mut found = Vec::new();
    for (key, listen) in keys {
        let Listen::Addresses(addresses) = listen else {
            continue;
        };
        for &address in addresses {
            let error = match bound(address) {
                Err(error) => error,
                Ok(_) => continue,
            };
            let is_known = match error.kind() {
                ErrorKind::AddrInUse => is_running || is_held_for_us(key),
                ErrorKind::PermissionDenied => !rustix::process::geteuid().is_root(),
                _ => false,
            };
            if !is_known {
                found.push(ListenError::Address {
                    key,
                    address,
                    error,
                });
            }
        }
    }
    found
}

/// Whether systemd has bound the port and will pass it to the daemon.
pub fn is_held_for_us(key: &str) -> bool {
    let mut command = Command::new("systemctl");
    command.args(["is-active", "--quiet", &passed::unit(key)]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Path::new("/run/systemd/system").is_dir()
        && command
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Binds the addresses that the configuration names.
pub(in crate::shell) fn bind(
    listen: &Listeners,
) -> Result<(Vec<ListeningPort>, ChallengeSockets), ListenError> {
    let mut ports = Vec::new();
    let mut passed = Passed::take();
    let keys = [
        ("smtp", Listener::Smtp, &listen.smtp),
        ("proxy", Listener::Proxy, &listen.proxy),
        ("submission", Listener::Submission, &listen.submission),
        ("submissions", Listener::Submissions, &listen.submissions),
        ("https", Listener::Https, &listen.https),
    ];
    for (key, listener, listen) in keys {
        if let Some(sockets) = passed_for(key, listen, &mut passed)? {
            ports.extend(tcp_ports(listener, sockets, Binder::Systemd));
            continue;
        }
        let sockets = addresses(listen).iter().map(|&address| {
            bind_tcp(address).map_err(|error| ListenError::Address {
                key,
                address,
                error,
            })
        });
        let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
        ports.extend(tcp_ports(listener, sockets, Binder::Daemon));
    }
    ports.extend(bind_status(&listen.status, &mut passed));
    Ok((ports, passed.challenges()))
}

/// The sockets that systemd passed for a key, if it passed any or should have.
fn passed_for(
    key: &'static str,
    listen: &Listen,
    passed: &mut Passed,
) -> Result<Option<Vec<TcpListener>>, ListenError> {
    match listen {
        Listen::Systemd => match passed.listeners(key) {
            Some(sockets) => Ok(Some(sockets)),
            None => Err(ListenError::NotPassed(key)),
        },
        Listen::Addresses(addresses) => Ok(passed.instead_of(key, addresses)),
    }
}

fn addresses(listen: &Listen) -> &[SocketAddr] {
    match listen {
        Listen::Systemd => &[],
        Listen::Addresses(addresses) => addresses,
    }
}

fn tcp_ports(listener: Listener, sockets: Vec<TcpListener>, binder: Binder) -> Vec<ListeningPort> {
    let ports = sockets.into_iter();
    ports
        .map(|socket| ListeningPort::new(listener, binder, Bound::Tcp(socket)))
        .collect()
}

/// Binds the address of the status page. If that fails, mail continues.
fn bind_status(listen: &Listen, passed: &mut Passed) -> Vec<ListeningPort> {
    let key = "status";
    match passed_for(key, listen, passed) {
        Ok(Some(sockets)) => return tcp_ports(Listener::Status, sockets, Binder::Systemd),
        Ok(None) => {}
        Err(error) => note_unbound(&error),
    }
    let bound = addresses(listen).iter().filter_map(|&address| {
        let bound = bind_tcp(address).map_err(|error| ListenError::Address {
            key,
            address,
            error,
        });
        bound.inspect_err(note_unbound).ok()
    });
    tcp_ports(Listener::Status, bound.collect(), Binder::Daemon)
}

fn note_unbound(error: &ListenError) {
    let line = Line::new(Level::Warning, "no-status-page");
    log::write(&line.with("cause", error));
}

/// Binds the sockets of programs of this machine.
pub(in crate::shell) fn bind_local(runtime_dir: &Path) -> Result<Vec<ListeningPort>, ListenError> {
    let bound = UNIX_SOCKETS.iter().map(|&(name, listener, mode)| {
        let path = runtime_dir.join(name);
        let socket = bind_unix(&path, mode)?;
        Ok(ListeningPort::new(
            listener,
            Binder::Daemon,
            Bound::Unix(socket, path),
        ))
    });
    bound.collect()
}

/// The sockets for programs of this machine, with their modes. At both the kernel reports the client's uid, and the
/// engine decides what it may do.
const UNIX_SOCKETS: [(&str, Listener, u32); 2] = [
    ("submit.sock", Listener::Submit, 0o666),
    ("control.sock", Listener::Control, 0o666),
];

impl ListeningPort {
    fn new(listener: Listener, binder: Binder, socket: Bound) -> Self {
        Self {
            listener,
            ready: true,
            binder,
            socket,
        }
    }

    /// Registers it with the poll.
    pub(in crate::shell) fn register(
        &mut self,
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        match &mut self.socket {
            Bound::Tcp(socket) => registry.register(socket, token, Interest::READABLE),
            Bound::Unix(socket, _) => registry.register(socket, token, Interest::READABLE),
        }
    }

    /// The file of a Unix socket.
    pub(in crate::shell) fn path(&self) -> Option<&Path> {
        match &self.socket {
            Bound::Tcp(_) => None,
            Bound::Unix(_, path) => Some(path),
        }
    }

    /// Removes the socket file when the relay ends.
    pub(in crate::shell) fn remove_file(&self) {
        if let Some(path) = self.path() {
            // The next start replaces a file that stays.
            drop(fs::remove_file(path));
        }
    }

    /// The address of the listener.
    pub(in crate::shell) fn name(&self) -> String {
        match &self.socket {
            Bound::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            },
            Bound::Unix(_, path) => path.display().to_string(),
        }
    }

    /// Accepts the first waiting client.
    pub(in crate::shell) fn accept(&mut self) -> Accepted {
        let accepted = match &self.socket {
            Bound::Tcp(socket) => socket.accept().and_then(|(stream, remote)| {
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Socket::Tcp(stream), Peer::Network { remote, local }))
            }),
            Bound::Unix(socket, _) => socket.accept().and_then(|(stream, _)| {
                let uid = socket_peercred(&stream)?.uid.as_raw();
                Ok((Socket::Unix(stream), Peer::Process { uid }))
            }),
        };
        match accepted {
            Ok((socket, peer)) => Accepted::Connection(socket, peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.ready = false;
                Accepted::Empty
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS) => {
                    Accepted::Exhausted
                }
                _ => Accepted::Nobody,
            },
        }
    }
}

/// A reserve descriptor, for when there is no other.
#[derive(Debug)]
pub(in crate::shell) struct Reserve(Option<File>);

impl Reserve {
    /// Takes one.
    pub(in crate::shell) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Uses the descriptor to send `reply` to the first waiting client, and then closes the connection.
    pub(in crate::shell) fn refuse(&mut self, port: &mut ListeningPort, reply: &[u8]) {
        self.0 = None;
        if let Accepted::Connection(Socket::Tcp(mut stream), _) = port.accept() {
            // If the reply cannot be sent, the client sees only the close.
            drop(stream.write(reply));
            drop(stream.shutdown(std::net::Shutdown::Write));
        }
        self.0 = File::open("/dev/null").ok();
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A TCP socket that is bound to an address and does not listen yet.
pub fn bound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // 0.0.0.0 and :: are two entries of the configuration and two sockets.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, ListenError> {
    let failed = |error| ListenError::Path(path.to_owned(), error);
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(ListenError::Taken(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)?;
        }
        Err(_) => {}
    }
    // The mode is set at the bind: a later change by path could affect another file with that name.
    let mask = Mode::from_raw_mode(0o777 & !mode);
    let before = rustix::process::umask(mask);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound.map_err(failed)
}
