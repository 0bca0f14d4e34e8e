//! Tests whether port 25 of other hosts can be reached. No mail is sent.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use socket2::{Domain as SocketDomain, Protocol, Socket, Type};

use super::smtp;
use crate::address::Domain;
use crate::config::AddressFamily;
use crate::dns::{ZoneData, ZoneKind};
use crate::limits::{DOCTOR_REPLY_TIMEOUT, DOCTOR_TIMEOUT};
use crate::setup::dns_client::DnsClient;
use crate::setup::doctor::judge::outbound::{ConnectAttempt, Facts, FamilyReach};
use crate::setup::doctor::{DoctorScope, Probe};
use crate::setup::machine;

/// Large providers, whose mail exchangers answer every host that can reach port 25.
const PROVIDERS: [&str; 3] = ["gmail.com", "yahoo.com", "outlook.com"];

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let started = Instant::now();
    let targets = targets(examination);
    let config = &examination.config.delivery;
    let (send, received) = mpsc::channel();
    let mut ways = Vec::new();
    for is_v4 in [true, false] {
        let bound = match is_v4 {
            true => config.bind4.map(IpAddr::V4),
            false => config.bind6.map(IpAddr::V6),
        };
        let unused = match is_v4 {
            true => AddressFamily::Ipv6,
            false => AddressFamily::Ipv4,
        };
        let way = FamilyReach {
            is_v4,
            is_used: config.ip != unused,
            has_route: bound.or_else(|| machine::routed(is_v4)).is_some(),
            attempts: Vec::new(),
        };
        for (name, address) in &targets {
            if way.is_used && way.has_route && address.is_ipv4() == is_v4 {
                begin_attempt(name.clone(), *address, bound, send.clone());
            }
        }
        ways.push(way);
    }
    drop(send);
    add_attempts(&mut ways, &received, started);
    Facts {
        ways,
        addresses: examination.addresses().to_vec(),
    }
}

/// An attempt, and whether it was made over IPv4.
type Attempt = (bool, ConnectAttempt);

/// Starts an attempt in a thread of its own.
fn begin_attempt(
    target: String,
    address: SocketAddr,
    bound: Option<IpAddr>,
    send: mpsc::Sender<Attempt>,
) {
    thread::spawn(move || {
        let result = greeting(address, bound).map_err(|error| smtp::sentence(&error));
        let attempt = ConnectAttempt { target, result };
        // The receiver no longer waits for a late result.
        drop(send.send((address.is_ipv4(), attempt)));
    });
}

/// Adds attempts to their families until one host of each family has answered, or the time is over.
fn add_attempts(ways: &mut [FamilyReach], received: &mpsc::Receiver<Attempt>, started: Instant) {
    let is_known = |way: &FamilyReach| way.attempts.iter().any(|attempt| attempt.result.is_ok());
    while !ways.iter().all(is_known) {
        let left = DOCTOR_TIMEOUT.saturating_sub(started.elapsed() + MARGIN);
        let Ok((is_v4, attempt)) = received.recv_timeout(left) else {
            return;
        };
        let way = ways.iter_mut().find(|way| way.is_v4 == is_v4);
        if let Some(way) = way {
            way.attempts.push(attempt);
        }
    }
}

/// The targets: one host of each provider, with an address of each family.
fn targets(examination: &DoctorScope) -> Vec<(String, SocketAddr)> {
    let asker = &examination.asker;
    let port = examination.config.delivery.port;
    let (send, received) = mpsc::channel();
    thread::scope(|scope| {
        if examination.probes.is_empty() {
            for provider in PROVIDERS {
                let send = send.clone();
                scope.spawn(move || drop(send.send(of_provider(asker, provider, port))));
            }
        }
        for probe in &examination.probes {
            let send = send.clone();
            scope.spawn(move || drop(send.send(of_probe(asker, probe))));
        }
    });
    drop(send);
    received.into_iter().flatten().collect()
}

fn of_probe(asker: &DnsClient, probe: &Probe) -> Vec<(String, SocketAddr)> {
    let name = format!("{}:{}", probe.host, probe.port);
    if let Ok(address) = probe.host.parse::<IpAddr>() {
        return vec![(name, SocketAddr::new(address, probe.port))];
    }
    let Ok(host) = Domain::parse(&probe.host) else {
        return Vec::new();
    };
    one_of_each(asker.addresses(&host))
        .map(|address| (name.clone(), SocketAddr::new(address, probe.port)))
        .collect()
}

fn of_provider(asker: &DnsClient, provider: &str, port: u16) -> Vec<(String, SocketAddr)> {
    let Ok(domain) = Domain::parse(provider) else {
        return Vec::new();
    };
    let Ok(reply) = asker.resolve(&domain, ZoneKind::Mx) else {
        return Vec::new();
    };
    let mut exchangers: Vec<_> = reply
        .answers
        .into_iter()
        .filter_map(|record| match record.data {
            ZoneData::Mx(mx) => Some((mx.preference, mx.host?)),
            _ => None,
        })
        .collect();
    exchangers.sort_by_key(|(preference, _)| *preference);
    let Some((_, host)) = exchangers.into_iter().next() else {
        return Vec::new();
    };
    one_of_each(asker.addresses(&host))
        .map(|address| (host.to_string(), SocketAddr::new(address, port)))
        .collect()
}

fn one_of_each(addresses: Vec<IpAddr>) -> impl Iterator<Item = IpAddr> {
    let four = addresses.iter().copied().find(IpAddr::is_ipv4);
    let six = addresses.iter().copied().find(IpAddr::is_ipv6);
    four.into_iter().chain(six)
}

/// The first line of a host, and the address that it was reached from.
fn greeting(to: SocketAddr, bound: Option<IpAddr>) -> std::io::Result<(String, IpAddr)> {
    let socket = Socket::new(
        SocketDomain::for_address(to),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if let Some(address) = bound {
        socket.bind(&SocketAddr::new(address, 0).into())?;
    }
    socket.connect_timeout(&to.into(), DOCTOR_REPLY_TIMEOUT)?;
    socket.set_read_timeout(Some(DOCTOR_REPLY_TIMEOUT))?;
    socket.set_write_timeout(Some(DOCTOR_REPLY_TIMEOUT))?;
    let mut stream: std::net::TcpStream = socket.into();
    let from = stream.local_addr()?.ip();
    let reply = smtp::reply(&mut stream)?;
    drop(stream.write_all(b"QUIT\r\n")); // a courtesy
    Ok((format!("{} {}", reply.code, reply.text()), from))
}

/// Time reserved for the judgement.
const MARGIN: std::time::Duration = std::time::Duration::from_millis(500);
