//! Blocking DNS look-ups for commands: the resolver of the daemon, driven by a loop of its own.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant as SystemInstant};

use crate::clock::Instant;
use crate::dns::{Answer, Asked, DnsAction, NoRecords, Question, Resolver, Servers, SocketId};
use crate::entropy::Entropy;
use crate::shell::net::timed::is_late;
use crate::shell::process::interruption::uninterrupted;

/// A resolver that waits for its answers.
pub struct Lookup<'a> {
    resolver: Resolver,
    entropy: &'a mut dyn Entropy,
    started: SystemInstant,
}

impl<'a> Lookup<'a> {
    /// Over these servers.
    pub fn new(servers: Servers, entropy: &'a mut dyn Entropy) -> Self {
        Self {
            resolver: Resolver::new(servers),
            entropy,
            started: SystemInstant::now(),
        }
    }

    fn now(&self) -> Instant {
        Instant::START.after(self.started.elapsed())
    }

    /// The answer, within the time that the resolver takes at most.
    pub fn ask(&mut self, question: &Question) -> Answer {
        let now = self.now();
        if let Asked::Ready(answer) = self.resolver.ask(question.clone(), now, self.entropy) {
            return answer;
        }
        let mut sockets: HashMap<SocketId, UdpSocket> = HashMap::new();
        loop {
            while let Some(action) = self.resolver.next_action() {
                match action {
                    DnsAction::SendDatagram { socket, to, bytes } => match open(to, &bytes) {
                        Ok(udp) => drop(sockets.insert(socket, udp)),
                        Err(_) => self.resolver.on_failed(socket, self.now(), self.entropy),
                    },
                    DnsAction::ConnectStream { socket, to, bytes } => match exchange(to, &bytes) {
                        Ok(reply) => {
                            let now = self.now();
                            self.resolver
                                .on_stream_bytes(socket, &reply, now, self.entropy);
                        }
                        Err(_) => self.resolver.on_failed(socket, self.now(), self.entropy),
                    },
                    DnsAction::CloseSocket { socket } => drop(sockets.remove(&socket)),
                    DnsAction::Answered {
                        question: answered,
                        answer,
                        ..
                    } if answered == *question => return answer,
                    DnsAction::Answered { .. } => {}
                }
            }
            if self.resolver.deadline().is_none() {
                let (records, ttl) = (Err(NoRecords::ServerFailure), Duration::ZERO);
                return Answer {
                    records,
                    authentic: false,
                    ttl,
                };
            }
            self.receive(&sockets);
            let now = self.now();
            self.resolver.expire(now, self.entropy);
        }
    }

    fn receive(&mut self, sockets: &HashMap<SocketId, UdpSocket>) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for (id, udp) in sockets {
            match uninterrupted(|| udp.recv_from(&mut buffer)) {
                Ok((len, from)) => {
                    let (bytes, now) = (buffer.get(..len).unwrap_or_default(), self.now());
                    self.resolver
                        .on_datagram(*id, from, bytes, now, self.entropy);
                }
                Err(error) if is_late(&error) => {}
                Err(_) => self.resolver.on_failed(*id, self.now(), self.entropy),
            }
        }
    }
}

fn open(to: SocketAddr, bytes: &[u8]) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let udp = UdpSocket::bind(any)?;
    udp.connect(to)?;
    udp.set_read_timeout(Some(Duration::from_millis(100)))?;
    udp.send(bytes)?;
    Ok(udp)
}

/// One query over TCP, its length in front, and the reply with its own.
fn exchange(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let timeout = crate::limits::DNS_SERVER_TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(bytes)?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut reply = len.to_vec();
    stream
        .take(u16::from_be_bytes(len).into())
        .read_to_end(&mut reply)?;
    Ok(reply)
}

/// More than any server sends to a client that announced 1232.
const DATAGRAM_BYTES_MAX: usize = 4_096;
