//! A DNS client for commands: sends many questions to name servers at a time, and waits for the answers.
//!
//! Questions about a zone go to all of its own name servers, which show a recent change first and without a cache. If
//! none of them can be reached, the resolver is asked instead.

mod host_names;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::record::RecordValue;
use super::zone::PublishedRecords;
use crate::address::Domain;
use crate::dns::{
    Answer, NoRecords, Question, RecordKind, Records, Recursion, Step, ZoneData, ZoneKind,
    ZoneRecord, ZoneReply, verdict, zone_query, zone_reply,
};
use crate::limits::{ZONE_QUESTIONS_AT_ONCE, ZONE_SERVER_TIMEOUT, ZONE_SERVERS_MAX, ZONE_TRIES};
use crate::shell::net::timed::{DeadlineStream, is_late};
use crate::shell::process::time::SystemEntropy;

/// A zone and its name servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Zone {
    pub apex: Domain,
    /// Its servers, by name and address; at most [`ZONE_SERVERS_MAX`].
    pub servers: Vec<(Domain, IpAddr)>,
}

/// A blocking DNS client for commands: one question at a time, to resolvers or to name servers.
#[derive(Debug)]
pub struct DnsClient {
    resolvers: Vec<SocketAddr>,
    /// The error if there is no server to ask.
    without: String,
    /// Why no server is asked any more.
    mute: OnceLock<String>,
    port: u16,
    /// The time at which all questions end.
    until: Option<Instant>,
    zones: Mutex<BTreeMap<Domain, Result<Arc<Zone>, String>>>,
}

impl DnsClient {
    /// A client that uses these resolvers; the servers of zones answer on `port`, which is 53 except in tests.
    pub fn new(resolvers: Vec<SocketAddr>, port: u16) -> Self {
        Self {
            resolvers,
            without: "no DNS server is named in /etc/resolv.conf or [dns]".to_owned(),
            mute: OnceLock::new(),
            port,
            until: None,
            zones: Mutex::new(BTreeMap::new()),
        }
    }

    /// A client that sends no question, for this reason.
    pub fn silent(without: String) -> Self {
        Self {
            without,
            ..Self::new(Vec::new(), 0)
        }
    }

    /// Sets a common deadline for all questions: answers that are missing by then are unknown.
    pub fn until(self, until: Instant) -> Self {
        Self {
            until: Some(until),
            ..self
        }
    }

    fn ask(
        &self,
        server: SocketAddr,
        name: &Domain,
        kind: ZoneKind,
        recursion: Recursion,
    ) -> Result<ZoneReply, String> {
        exchange_until(server, name, kind, recursion, self.until)
    }

    /// Asks all resolvers at the same time. If none replies, none is asked from then on, because each question would
    /// wait in vain.
    pub fn hear(&self, name: &Domain) -> Vec<(SocketAddr, Result<ZoneReply, String>)> {
        let ask = |server| self.ask(server, name, ZoneKind::A, Recursion::Desired);
        let heard: Vec<_> = thread::scope(|scope| {
            let servers = self.resolvers.iter().copied();
            let asked: Vec<_> = servers
                .map(|server| (server, scope.spawn(move || ask(server))))
                .collect();
            let joined = asked.into_iter().map(|(server, thread)| {
                let nothing = |_| Err("no answer".to_owned());
                (server, thread.join().unwrap_or_else(nothing))
            });
            joined.collect()
        });
        let is_mute = heard.iter().all(|(_, reply)| reply.is_err());
        if let (true, Some((server, Err(error)))) = (is_mute, heard.last()) {
            // Set once: the first cause stays.
            drop(self.mute.set(format!("the resolver {server}: {error}")));
        }
        heard
    }

    /// The answer of the first resolver that does not fail, or the reason of the failure.
    pub fn resolve(&self, name: &Domain, kind: ZoneKind) -> Result<ZoneReply, String> {
        if let Some(cause) = self.mute.get() {
            return Err(cause.clone());
        }
        let mut cause = self.without.clone();
        for server in &self.resolvers {
            match self.ask(*server, name, kind, Recursion::Desired) {
                Ok(reply) if matches!(reply.code, NOERROR | NXDOMAIN) => return Ok(reply),
                Ok(reply) => cause = format!("the resolver {server} {}", failure(reply.code)),
                Err(error) => cause = format!("the resolver {server}: {error}"),
            }
        }
        Err(cause)
    }

    /// The addresses of a host, by a resolver.
    pub fn addresses(&self, host: &Domain) -> Vec<IpAddr> {
        [ZoneKind::A, ZoneKind::Aaaa]
            .into_iter()
            .filter_map(|kind| self.resolve(host, kind).ok())
            .flat_map(|reply| reply.answers)
            .filter_map(|record| match record.data {
                ZoneData::Address(address) => Some(address),
                _ => None,
            })
            .collect()
    }

    /// The zone that a name is in.
    pub fn zone(&self, name: &Domain) -> Result<Arc<Zone>, String> {
        if let Some(known) = self.known_zone(name) {
            return known;
        }
        let found = self.find_zone(name);
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.insert(name.clone(), found.clone());
        found
    }

    fn known_zone(&self, name: &Domain) -> Option<Result<Arc<Zone>, String>> {
        let zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.get(name).cloned()
    }

    fn find_zone(&self, name: &Domain) -> Result<Arc<Zone>, String> {
        let mut here = Some(name.clone());
        while let Some(apex) = here {
            let reply = self.resolve(&apex, ZoneKind::Ns)?;
            let hosts: Vec<Domain> = reply
                .answers
                .into_iter()
                .filter(|record| {
                    record.owner.as_ref() == Some(&apex) && record.code == ZoneKind::Ns.code()
                })
                .filter_map(|record| match record.data {
                    ZoneData::Name(host) => host,
                    _ => None,
                })
                .collect();
            if !hosts.is_empty() {
                let servers: Vec<(Domain, IpAddr)> = hosts
                    .into_iter()
                    // A server without an address costs a timeout.
                    .take(ZONE_SERVERS_MAX)
                    .flat_map(|host| {
                        let addresses = self.addresses(&host);
                        addresses
                            .into_iter()
                            .map(move |address| (host.clone(), address))
                    })
                    .take(ZONE_SERVERS_MAX)
                    .collect();
                if servers.is_empty() {
                    return Err(format!("the name servers of {apex} have no addresses"));
                }
                return Ok(Arc::new(Zone { apex, servers }));
            }
            here = apex.parent();
        }
        Err(format!("no zone above {name} has name servers"))
    }

    /// The records under a name at the servers of the zone.
    pub fn published(&self, name: &Domain, kind: ZoneKind) -> PublishedRecords {
        let zone = match self.zone(name) {
            Ok(zone) => zone,
            Err(cause) => return PublishedRecords::Unknown(cause),
        };
        let mut said: Vec<(String, PublishedRecords)> = Vec::new();
        let mut cause = String::new();
        for (host, address) in &zone.servers {
            let server = SocketAddr::new(*address, self.port);
            match self.ask(server, name, kind, Recursion::No) {
                Ok(reply) if reply.authoritative && matches!(reply.code, NOERROR | NXDOMAIN) => {
                    match self.read(name, kind, &reply) {
                        PublishedRecords::Unknown(why) => cause = why,
                        read => said.push((format!("{host} ({address})"), read)),
                    }
                }
                Ok(reply) if matches!(reply.code, NOERROR | NXDOMAIN) => {
                    cause = format!("{host} ({address}) does not answer for {}", zone.apex);
                }
                Ok(reply) => cause = format!("{host} ({address}) {}", failure(reply.code)),
                Err(error) => cause = format!("{host} ({address}): {error}"),
            }
        }
        match said.first().cloned() {
            Some((_, first)) if said.iter().all(|(_, other)| is_same(other, &first)) => first,
            Some(_) => PublishedRecords::Divided(
                said.into_iter()
                    .map(|(server, published)| (server, values_of(published)))
                    .collect(),
            ),
            None => match self.resolved(name, kind) {
                PublishedRecords::Unknown(_) => PublishedRecords::Unknown(cause),
                resolved => resolved,
            },
        }
    }

    /// The records under a name, by a resolver.
    pub fn resolved(&self, name: &Domain, kind: ZoneKind) -> PublishedRecords {
        match self.resolve(name, kind) {
            Ok(reply) => self.read(name, kind, &reply),
            Err(cause) => PublishedRecords::Unknown(cause),
        }
    }

    /// Asks all questions, many at a time.
    pub fn all(
        &self,
        questions: &[(Domain, ZoneKind)],
    ) -> BTreeMap<(Domain, ZoneKind), PublishedRecords> {
        // Zones first: otherwise each question would look up its own zone.
        let names: std::collections::BTreeSet<&Domain> =
            questions.iter().map(|(name, _)| name).collect();
        each(names, |name| drop(self.zone(name)));
        let found = Mutex::new(BTreeMap::new());
        each(questions, |(name, kind)| {
            let published = self.published(name, *kind);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.insert((name.clone(), *kind), published);
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verdict of a check that needs the DNS, with answers from the servers of the zones.
    pub fn verdict<Verdict>(
        &self,
        check: impl FnMut(&[(Question, Answer)]) -> Step<Verdict>,
    ) -> Verdict {
        verdict(&mut |question| self.answer(question), check)
    }

    /// The answer to one of the relay's questions.
    pub fn answer(&self, question: &Question) -> Answer {
        self.answer_by(question, |name, kind| self.published(name, kind))
    }

    fn answer_by(
        &self,
        question: &Question,
        ask: impl Fn(&Domain, ZoneKind) -> PublishedRecords,
    ) -> Answer {
        let kind = match question.kind {
            RecordKind::A => ZoneKind::A,
            RecordKind::Aaaa => ZoneKind::Aaaa,
            RecordKind::Mx => ZoneKind::Mx,
            RecordKind::Txt => ZoneKind::Txt,
            RecordKind::Ptr => ZoneKind::Ptr,
            RecordKind::Tlsa => ZoneKind::Tlsa,
        };
        let published = ask(&question.name, kind);
        let records = match published {
            PublishedRecords::Unknown(_) => Err(NoRecords::ServerFailure),
            other => collect(question.kind, values_of(other))
                .map(Arc::new)
                .ok_or(NoRecords::NoData),
        };
        Answer {
            records,
            authentic: false,
            ttl: Duration::ZERO,
        }
    }

    fn read(&self, name: &Domain, kind: ZoneKind, reply: &ZoneReply) -> PublishedRecords {
        let alias = reply.answers.iter().find(|record| {
            record.code == ZoneKind::Cname.code() && record.owner.as_ref() == Some(name)
        });
        let values = |records: &[ZoneRecord]| -> Vec<RecordValue> {
            let mut values: Vec<RecordValue> = records
                .iter()
                .filter(|record| record.code == kind.code())
                .filter_map(RecordValue::of)
                .collect();
            values.sort_by_key(RecordValue::line);
            values
        };
        if let Some(ZoneRecord {
            data: ZoneData::Name(Some(to)),
            ..
        }) = alias
            && kind != ZoneKind::Cname
        {
            // The target may be in another zone.
            let found = values(&reply.answers);
            if !found.is_empty() {
                return PublishedRecords::Alias(to.clone(), found);
            }
            // A failure says nothing about the records of the target.
            return match self.resolve(to, kind) {
                Ok(reply) => PublishedRecords::Alias(to.clone(), values(&reply.answers)),
                Err(cause) => {
                    PublishedRecords::Unknown(format!("{name} is an alias of {to}, and {cause}"))
                }
            };
        }
        match values(&reply.answers) {
            found if found.is_empty() => PublishedRecords::Nothing,
            found => PublishedRecords::Records(found),
        }
    }
}

/// Calls a function for each item, several at a time.
fn each<T: Send>(items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let items = Mutex::new(items.into_iter().collect::<Vec<T>>());
    thread::scope(|scope| {
        for _ in 0..ZONE_QUESTIONS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let item = items.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    match item {
                        Some(item) => work(item),
                        None => return,
                    }
                }
            });
        }
    });
}

fn is_same(one: &PublishedRecords, other: &PublishedRecords) -> bool {
    one == other
}

fn values_of(published: PublishedRecords) -> Vec<RecordValue> {
    match published {
        PublishedRecords::Records(values) | PublishedRecords::Alias(_, values) => values,
        PublishedRecords::Divided(servers) => servers
            .into_iter()
            .next()
            .map(|(_, values)| values)
            .unwrap_or_default(),
        PublishedRecords::Nothing | PublishedRecords::Unknown(_) => Vec::new(),
    }
}

fn collect(kind: RecordKind, values: Vec<RecordValue>) -> Option<Records> {
    if values.is_empty() {
        return None;
    }
    let values = values.into_iter();
    Some(match kind {
        RecordKind::A => Records::A(
            values
                .filter_map(|value| match value {
                    RecordValue::Address(IpAddr::V4(address)) => Some(address),
                    _ => None,
                })
                .collect(),
        ),
        RecordKind::Aaaa => Records::Aaaa(
            values
                .filter_map(|value| match value {
                    RecordValue::Address(IpAddr::V6(address)) => Some(address),
                    _ => None,
                })
                .collect(),
        ),
        RecordKind::Mx => Records::Mx(
            values
                .filter_map(|value| match value {
                    RecordValue::Mx(mx) => Some(mx),
                    _ => None,
                })
                .collect(),
        ),
        RecordKind::Txt => Records::Txt(
            values
                .filter_map(|value| match value {
                    RecordValue::Text(text) => Some(text.into_bytes()),
                    _ => None,
                })
                .collect(),
        ),
        RecordKind::Ptr => Records::Ptr(
            values
                .filter_map(|value| match value {
                    RecordValue::Pointer(name) => Some(name),
                    _ => None,
                })
                .collect(),
        ),
        RecordKind::Tlsa => Records::Tlsa(
            values
                .filter_map(|value| match value {
                    RecordValue::Association(tlsa) => Some(tlsa),
                    _ => None,
                })
                .collect(),
        ),
    })
}

/// One question to one server, over UDP and, if the answer does not fit, TCP.
pub fn exchange(
    server: SocketAddr,
    name: &Domain,
    kind: ZoneKind,
    recursion: Recursion,
) -> Result<ZoneReply, String> {
    exchange_until(server, name, kind, recursion, None)
}

/// The same, with a deadline.
fn exchange_until(
    server: SocketAddr,
    name: &Domain,
    kind: ZoneKind,
    recursion: Recursion,
    until: Option<Instant>,
) -> Result<ZoneReply, String> {
    // The total time of a query is limited, however slowly a server sends.
    let deadline = || {
        let usual = Instant::now() + ZONE_SERVER_TIMEOUT;
        until.map_or(usual, |until| until.min(usual))
    };
    let query = zone_query(name, kind, recursion, &mut SystemEntropy::default())
        .ok_or_else(|| format!("{name} is too long for the DNS"))?;
    let mut failed = "no answer".to_owned();
    for _ in 0..ZONE_TRIES {
        match datagram(server, &query, deadline()) {
            Ok(Some(reply)) if reply.truncated => {
                let reply = stream(server, &query, deadline());
                return reply.map_err(|error| format!("over TCP: {error}"));
            }
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => {}
            Err(error) => failed = error.to_string(),
        }
    }
    Err(failed)
}

/// The remaining time.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

fn datagram(
    server: SocketAddr,
    query: &[u8],
    until: Instant,
) -> std::io::Result<Option<ZoneReply>> {
    if left(until).is_none() {
        return Ok(None);
    }
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let udp = UdpSocket::bind(any)?;
    udp.connect(server)?;
    udp.send(query)?;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        let Some(left) = left(until) else {
            return Ok(None);
        };
        udp.set_read_timeout(Some(left))?;
        match udp.recv(&mut buffer) {
            Ok(len) => {
                // Any other datagram belongs to another query, or is forged.
                if let Some(reply) = zone_reply(query, buffer.get(..len).unwrap_or_default()) {
                    return Ok(Some(reply));
                }
            }
            Err(error) if is_late(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn stream(server: SocketAddr, query: &[u8], until: Instant) -> std::io::Result<ZoneReply> {
    let malformed = || std::io::Error::other("the reply cannot be read");
    let left = left(until).ok_or(std::io::ErrorKind::TimedOut)?;
    let mut stream = DeadlineStream::new(TcpStream::connect_timeout(&server, left)?, until);
    let len = u16::try_from(query.len()).map_err(|_| malformed())?;
    stream.write_all(&[&len.to_be_bytes(), query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut reply)?;
    zone_reply(query, &reply).ok_or_else(malformed)
}

fn failure(code: u16) -> String {
    match code {
        2 => "failed (SERVFAIL): the zone may be broken, or its signatures".to_owned(),
        5 => "refuses to answer (REFUSED)".to_owned(),
        code => format!("answered with code {code}"),
    }
}

const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;

/// More than any server sends to a client that announced 1232.
const DATAGRAM_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests;
