//! Sockets to DNS servers: a fresh one for each query, connected, so that the kernel drops what others send.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use super::slab::Slab;
use crate::dns::SocketId;
use crate::limits::DNS_SOCKETS_MAX;

/// What came of the readiness of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Arrival {
    /// So many bytes of a datagram, and who sent it.
    Datagram(SocketId, SocketAddr, usize),
    /// So many bytes of a stream.
    Bytes(SocketId, usize),
    /// It failed or was closed.
    Failed(SocketId),
    /// Nothing more for now.
    Nothing,
}

/// The sockets.
#[derive(Debug, Default)]
pub(super) struct DnsSockets {
    sockets: Slab<Socket>,
    keys: HashMap<SocketId, usize>,
}

#[derive(Debug)]
struct Socket {
    id: SocketId,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Udp {
        socket: UdpSocket,
        server: SocketAddr,
    },
    Tcp {
        stream: TcpStream,
        output: Vec<u8>,
    },
}

impl DnsSockets {
    /// Sends a datagram from the socket, which is opened if it is new. `token` makes a token of an index.
    pub(super) fn send(
        &mut self,
        id: SocketId,
        server: SocketAddr,
        bytes: &[u8],
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<()> {
        if !self.keys.contains_key(&id) {
            let mut socket = UdpSocket::bind(unspecified(server))?;
            socket.connect(server)?;
            let key = self.room()?;
            registry.register(&mut socket, token(key), Interest::READABLE)?;
            self.insert(id, Transport::Udp { socket, server });
        }
        let key = self.keys.get(&id).copied().unwrap_or_default();
        match self.sockets.get(key).map(|socket| &socket.transport) {
            Some(Transport::Udp { socket, .. }) => socket.send(bytes).map(drop),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Connects to a server and sends these bytes.
    pub(super) fn connect(
        &mut self,
        id: SocketId,
        server: SocketAddr,
        bytes: Vec<u8>,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
    ) -> io::Result<()> {
        let mut stream = TcpStream::connect(server)?;
        let key = self.room()?;
        registry.register(
            &mut stream,
            token(key),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.insert(
            id,
            Transport::Tcp {
                stream,
                output: bytes,
            },
        );
        Ok(())
    }

    /// Closes a socket.
    pub(super) fn close(&mut self, id: SocketId) {
        if let Some(key) = self.keys.remove(&id) {
            self.sockets.remove(key);
        }
    }

    /// The socket at this index may have something: call it until it says [`Arrival::Nothing`].
    pub(super) fn receive(&mut self, key: usize, into: &mut [u8]) -> Arrival {
        let Some(socket) = self.sockets.get_mut(key) else {
            return Arrival::Nothing;
        };
        let id = socket.id;
        match socket.transport.receive(into) {
            Ok(0) => match socket.transport {
                Transport::Udp { .. } => Arrival::Nothing,
                Transport::Tcp { .. } => self.failed(id),
            },
            Ok(len) => match socket.transport {
                Transport::Udp { server, .. } => Arrival::Datagram(id, server, len),
                Transport::Tcp { .. } => Arrival::Bytes(id, len),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => Arrival::Nothing,
            Err(_) => self.failed(id),
        }
    }

    fn failed(&mut self, id: SocketId) -> Arrival {
        self.close(id);
        Arrival::Failed(id)
    }

    fn room(&self) -> io::Result<usize> {
        if self.sockets.len() >= DNS_SOCKETS_MAX {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        Ok(self.sockets.next_key())
    }

    fn insert(&mut self, id: SocketId, transport: Transport) {
        let key = self.sockets.insert(Socket { id, transport });
        self.keys.insert(id, key);
    }
}

impl Transport {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp { socket, .. } => retry(|| socket.recv(into)),
            Self::Tcp { stream, output } => {
                while !output.is_empty() {
                    match stream.write(output) {
                        Ok(len) => drop(output.drain(..len)),
                        // Still connecting, or full.
                        Err(error) if error.kind() == ErrorKind::NotConnected => {
                            return Err(ErrorKind::WouldBlock.into());
                        }
                        Err(error) => return Err(error),
                    }
                }
                retry(|| stream.read(into))
            }
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Any address of the server's family and a port that the kernel chooses at random.
fn unspecified(server: SocketAddr) -> SocketAddr {
    let ip = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}
