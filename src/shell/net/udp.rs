//! Sockets to DNS servers: a new connected socket for each query, so that the kernel drops datagrams of other hosts.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};

use crate::dns::SocketId;
use crate::limits::DNS_SOCKETS_MAX;
use crate::shell::net::slab::Slab;
use crate::shell::process::interruption::uninterrupted;

/// The result of a ready socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum Arrival {
    /// This number of bytes of a datagram, and its sender.
    Datagram(SocketId, SocketAddr, usize),
    /// This number of bytes of a stream.
    Bytes(SocketId, usize),
    /// It failed or was closed.
    Failed(SocketId),
    /// Nothing more for now.
    Nothing,
}

#[derive(Debug, Default)]
pub(in crate::shell) struct DnsSockets {
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
    /// Sends a datagram from the socket, which is opened if it is new. `token` makes a token from an index.
    pub(in crate::shell) fn send(
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
    pub(in crate::shell) fn connect(
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
    pub(in crate::shell) fn close(&mut self, id: SocketId) {
        if let Some(key) = self.keys.remove(&id) {
            self.sockets.remove(key);
        }
    }

    /// The socket at this index may be readable: call it until it returns [`Arrival::Nothing`].
    pub(in crate::shell) fn receive(&mut self, key: usize, into: &mut [u8]) -> Arrival {
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
            Self::Udp { socket, .. } => uninterrupted(|| socket.recv(into)),
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
                uninterrupted(|| stream.read(into))
            }
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;
    use crate::address::Domain;
    use crate::clock::Instant;
    use crate::dns::{Asked, DnsAction, Question, RecordKind, Records, Resolver, Servers};
    use crate::entropy::SeededEntropy;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Answers one query over UDP, cut off, and the next over TCP, whole: one TXT record.
    fn serve(udp: &UdpSocket, tcp: &TcpListener) {
        let mut query = [0; 512];
        let (len, from) = udp.recv_from(&mut query).expect("a query");
        let mut cut = query[..len].to_vec();
        cut[2] |= 0x82; // QR, TC
        udp.send_to(&cut, from).expect("sent");

        let (mut stream, _) = tcp.accept().expect("a connection");
        let mut len = [0; 2];
        stream.read_exact(&mut len).expect("a length");
        let mut whole = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut whole).expect("a query");
        let end = 12
            + whole[12..]
                .iter()
                .position(|&byte| byte == 0)
                .expect("a name")
            + 5;
        whole.truncate(end);
        whole[2] |= 0x80; // QR
        whole[7] = 1; // one answer
        whole[8..12].fill(0); // and nothing else
        whole.extend([
            0xC0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 4, 3, b'v', b'=', b'x',
        ]);
        let len = u16::try_from(whole.len()).expect("short").to_be_bytes();
        // In two pieces, so that the answer has to be reassembled.
        stream.write_all(&len).expect("sent");
        stream.write_all(&whole).expect("sent");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_asked_for_again_over_tcp() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("an address");
        let udp = UdpSocket::bind(address).expect("the same port");
        udp.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let server = std::thread::spawn(move || serve(&udp, &tcp));

        let mut poll = Poll::new().expect("a poll");
        let mut events = Events::with_capacity(8);
        let mut sockets = DnsSockets::default();
        let mut entropy = SeededEntropy::new(1);
        let mut resolver = Resolver::new(Servers {
            addresses: vec![address],
            trust_ad: false,
            timeout: PATIENCE,
            rounds: 1,
        });
        let (now, mut bytes) = (Instant::START, [0; 4_096]);
        let question = Question {
            name: Domain::parse("example.com").expect("a name"),
            kind: RecordKind::Txt,
        };
        let asked = resolver.ask(question, now, &mut entropy);
        assert!(matches!(asked, Asked::Pending(_)), "{asked:?}");
        let mut answered = None;
        while answered.is_none() {
            while let Some(action) = resolver.next_action() {
                let registry = poll.registry();
                match action {
                    DnsAction::SendDatagram { socket, to, bytes } => {
                        sockets
                            .send(socket, to, &bytes, registry, Token)
                            .expect("sent");
                    }
                    DnsAction::ConnectStream { socket, to, bytes } => {
                        sockets
                            .connect(socket, to, bytes, registry, Token)
                            .expect("begun");
                    }
                    DnsAction::CloseSocket { socket } => sockets.close(socket),
                    DnsAction::Answered { answer, .. } => answered = Some(answer),
                }
            }
            if answered.is_some() {
                break;
            }
            poll.poll(&mut events, Some(PATIENCE)).expect("events");
            assert!(!events.is_empty(), "nothing came");
            for event in &events {
                loop {
                    match sockets.receive(event.token().0, &mut bytes) {
                        Arrival::Nothing => break,
                        Arrival::Datagram(socket, from, len) => {
                            resolver.on_datagram(socket, from, &bytes[..len], now, &mut entropy);
                        }
                        Arrival::Bytes(socket, len) => {
                            resolver.on_stream_bytes(socket, &bytes[..len], now, &mut entropy);
                        }
                        Arrival::Failed(socket) => resolver.on_failed(socket, now, &mut entropy),
                    }
                }
            }
        }
        server.join().expect("it was asked twice");
        let records = answered.and_then(|answer| answer.records.ok());
        assert_eq!(
            records.as_deref(),
            Some(&Records::Txt(vec![b"v=x".to_vec()]))
        );
    }
}
