//! The stub resolver (RFC 1034 section 5.3.1; TCP RFC 7766, EDNS0 RFC 6891, negative answers RFC 2308).
//!
//! ```text
//!   ask ──> datagram to a server ──answer──> Answered
//!              │ truncated: stream to the same server
//!              │ silence, failure: the next server, two rounds
//!              └ alias that leaves the answer: ask on
//! ```
//!
//! Each query uses a new socket (the shell gives it a random port), a random id and random letter case. A datagram that
//! differs in one of them is ignored, and a later one that matches is still accepted. A server that does not preserve
//! the letter case is asked again over TCP, where off-path attackers cannot guess.
//!
//! Not supported: DNSSEC validation (the resolver uses the AD bit of a trusted server instead, RFC 6840 section 5.7),
//! search lists, mDNS. Invariant: every question is answered within [`DNS_QUESTION_TIMEOUT`], and no table exceeds its
//! limit in `limits`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, NoRecords, Question, RecordKind, Records};
use super::cache::Cache;
use super::message::{self, Edns, Match, Reply};
use super::servers::Servers;
use crate::address::Domain;
use crate::clock::Instant;
use crate::entropy::Entropy;
use crate::limits::{
    CNAME_LINKS_MAX, DNS_FAILURE_TTL_MAX, DNS_NEGATIVE_TTL_MAX, DNS_QUESTION_TIMEOUT,
    DNS_QUESTIONS_MAX, DNS_SERVER_PENALTY, DNS_TEXT_BYTES_MAX, DNS_TTL_MAX,
};

/// Identifies a question in progress. All callers with the same question get the same id, and one
/// [`DnsAction::Answered`] answers all of them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QuestionId(u64);

/// Identifies a socket or stream that the resolver requested; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SocketId(pub u64);

/// The result of [`Resolver::ask`].
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Asked {
    /// The answer is known.
    Ready(Answer),
    /// [`DnsAction::Answered`] will follow with this id.
    Pending(QuestionId),
}

/// A request of the resolver.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum DnsAction {
    /// Open a datagram socket with a random port, connect it to the server, and send; answered by
    /// [`Resolver::on_datagram`] or [`Resolver::on_failed`].
    SendDatagram {
        /// The id that the socket will have.
        socket: SocketId,
        to: SocketAddr,
        /// The query.
        bytes: Vec<u8>,
    },
    /// Connect to the server and send; answered by [`Resolver::on_stream_bytes`] or [`Resolver::on_failed`].
    ConnectStream {
        /// The id that the stream will have.
        socket: SocketId,
        to: SocketAddr,
        /// The query, after its length.
        bytes: Vec<u8>,
    },
    /// Close a socket or stream; no event with its id may follow.
    CloseSocket { socket: SocketId },
    /// A question has been answered.
    Answered {
        id: QuestionId,
        question: Question,
        answer: Answer,
    },
}

/// Asks name servers, and caches their answers.
#[derive(Debug, Default)]
pub struct Resolver {
    servers: Servers,
    cache: Cache,
    lookups: BTreeMap<QuestionId, (Lookup, Attempt)>,
    by_question: HashMap<Question, QuestionId>,
    by_socket: HashMap<SocketId, QuestionId>,
    /// Servers that recently did not answer, and the time until which they are asked last.
    ailing: HashMap<SocketAddr, Instant>,
    actions: VecDeque<DnsAction>,
    questions_asked: u64,
    sockets_opened: u64,
}

/// A question in progress.
#[derive(Debug)]
struct Lookup {
    question: Question,
    give_up: Instant,
    /// The name that is queried: that of the question, or the last of its aliases so far.
    name: Domain,
    links: usize,
    /// Lowest TTL of the aliases followed so far, in seconds.
    ttl: Option<u32>,
    authentic: bool,
    /// Servers that have not been asked, in order.
    plan: VecDeque<SocketAddr>,
    /// The result when all servers have failed.
    failure: NoRecords,
}

/// One query to one server.
#[derive(Debug)]
struct Attempt {
    socket: SocketId,
    server: SocketAddr,
    deadline: Instant,
    query: Vec<u8>,
    edns: Edns,
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Datagram {
        /// A reply came that matches except for the letter case of the name.
        other_case: bool,
    },
    Stream {
        /// The bytes received so far.
        received: Vec<u8>,
    },
}

/// The transport of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Datagram,
    Stream,
}

/// The effect of a reply on its question.
enum Verdict {
    /// It is the answer, valid for this number of seconds.
    Answer(Result<Records, NoRecords>, u32),
    /// The chain of aliases leaves the reply.
    AskOn(Domain),
    /// The server has no answer.
    NextServer,
    /// The server does not know EDNS0.
    WithoutEdns,
    /// The reply was truncated.
    ByStream,
}

impl Resolver {
    /// A resolver with an empty cache.
    pub fn new(servers: Servers) -> Self {
        Self {
            servers,
            ..Self::default()
        }
    }

    /// Uses these servers from now on, and forgets the answers of the others.
    pub fn set_servers(&mut self, servers: Servers) {
        if self.servers != servers {
            self.servers = servers;
            self.cache.clear();
            self.ailing.clear();
        }
    }

    /// Answers from the cache, or starts a query.
    pub fn ask(&mut self, question: Question, now: Instant, entropy: &mut dyn Entropy) -> Asked {
        if let Some(answer) = local_answer(&question) {
            return Asked::Ready(answer);
        }
        if let Some(answer) = self.cache.find(&question, now) {
            return Asked::Ready(answer);
        }
        if let Some(id) = self.by_question.get(&question) {
            return Asked::Pending(*id);
        }
        if self.lookups.len() >= DNS_QUESTIONS_MAX {
            return Asked::Ready(failure(NoRecords::NoRoom, Duration::ZERO));
        }
        self.questions_asked = self.questions_asked.wrapping_add(1);
        let id = QuestionId(self.questions_asked);
        let lookup = Lookup {
            name: question.name.clone(),
            question: question.clone(),
            give_up: now.after(DNS_QUESTION_TIMEOUT),
            links: 0,
            ttl: None,
            authentic: true,
            plan: self.plan(now),
            failure: NoRecords::Timeout,
        };
        self.by_question.insert(question, id);
        self.ask_next(id, lookup, now, entropy);
        Asked::Pending(id)
    }

    /// Whether a question can be answered from the cache or is in progress: asking it causes no query.
    pub fn is_free(&self, question: &Question, now: Instant) -> bool {
        self.cache.has(question, now)
            || self.by_question.contains_key(question)
            || local_answer(question).is_some()
    }

    /// A datagram came on a socket.
    pub fn on_datagram(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let Some(attempt) = self.attempt_mut(socket) else {
            return;
        };
        let Transport::Datagram { other_case } = &mut attempt.transport else {
            return;
        };
        if attempt.server != from {
            return;
        }
        match message::match_reply(&attempt.query, bytes) {
            Match::None => {}
            Match::OtherCase => *other_case = true,
            Match::Exact | Match::NotUnderstood => self.on_reply(socket, bytes, now, entropy),
        }
    }

    /// Bytes came on a stream.
    pub fn on_stream_bytes(
        &mut self,
        socket: SocketId,
        bytes: &[u8],
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let Some(attempt) = self.attempt_mut(socket) else {
            return;
        };
        let Transport::Stream { received } = &mut attempt.transport else {
            return;
        };
        let room = STREAM_BYTES_MAX.saturating_sub(received.len());
        received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let Some((len, rest)) = received.split_first_chunk::<2>() else {
            return;
        };
        let Some(packet) = rest.get(..usize::from(u16::from_be_bytes(*len))) else {
            return;
        };
        match message::match_reply(&attempt.query, packet) {
            Match::None => self.on_useless(socket, now, entropy),
            Match::Exact | Match::OtherCase | Match::NotUnderstood => {
                let packet = packet.to_vec();
                self.on_reply(socket, &packet, now, entropy);
            }
        }
    }

    /// A socket or stream could not be opened, has failed, or was closed by the server. Its id is not used again.
    pub fn on_failed(&mut self, socket: SocketId, now: Instant, entropy: &mut dyn Entropy) {
        let Some((id, mut lookup, attempt)) = self.take(socket) else {
            return;
        };
        self.punish(attempt.server, now);
        lookup.failure = NoRecords::ServerFailure;
        self.ask_next(id, lookup, now, entropy);
    }

    /// When [`Resolver::expire`] must be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.lookups.values().map(deadline).min()
    }

    /// Ends queries that were not answered in time, and questions that took too long.
    pub fn expire(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        let due: Vec<SocketId> = self
            .lookups
            .values()
            .filter(|flight| deadline(flight) <= now)
            .map(|(_, attempt)| attempt.socket)
            .collect();
        for socket in due {
            let Some((id, lookup, attempt)) = self.take(socket) else {
                continue;
            };
            self.close(socket);
            if let Transport::Datagram { other_case: true } = attempt.transport {
                self.send(id, lookup, attempt.to(Way::Stream), now, entropy);
            } else {
                self.punish(attempt.server, now);
                self.ask_next(id, lookup, now, entropy);
            }
        }
    }

    /// The next request to the shell.
    pub fn next_action(&mut self) -> Option<DnsAction> {
        self.actions.pop_front()
    }

    /// Bytes of the answers in the cache.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Questions under way and answers in the cache, for the status page.
    pub fn counts(&self) -> (usize, usize) {
        (self.lookups.len(), self.cache.len())
    }

    /// A reply that matches the query.
    fn on_reply(
        &mut self,
        socket: SocketId,
        packet: &[u8],
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let Some((id, mut lookup, attempt)) = self.take(socket) else {
            return;
        };
        self.close(socket);
        self.ailing.remove(&attempt.server);
        let trusted = self.servers.trusts(attempt.server);
        match lookup.judge(packet, &attempt, trusted) {
            Verdict::Answer(records, seconds) => {
                let (longest, records) = match records {
                    Ok(records) => (DNS_TTL_MAX, Ok(Arc::new(records))),
                    Err(absence) => (DNS_NEGATIVE_TTL_MAX, Err(absence)),
                };
                let answer = Answer {
                    records,
                    authentic: lookup.authentic,
                    ttl: Duration::from_secs(seconds.into()).min(longest),
                };
                self.finish(id, lookup, answer, now);
            }
            Verdict::AskOn(name) => {
                lookup.name = name;
                lookup.plan = self.plan(now);
                self.ask_next(id, lookup, now, entropy);
            }
            Verdict::NextServer => {
                lookup.drop_server(attempt.server);
                self.ask_next(id, lookup, now, entropy);
            }
            Verdict::WithoutEdns => {
                let next = Next {
                    edns: Edns::Off,
                    ..attempt.to(attempt.way())
                };
                self.send(id, lookup, next, now, entropy);
            }
            Verdict::ByStream => self.send(id, lookup, attempt.to(Way::Stream), now, entropy),
        }
    }

    /// A stream carried data that answers no question.
    fn on_useless(&mut self, socket: SocketId, now: Instant, entropy: &mut dyn Entropy) {
        let Some((id, mut lookup, attempt)) = self.take(socket) else {
            return;
        };
        self.close(socket);
        lookup.drop_server(attempt.server);
        self.ask_next(id, lookup, now, entropy);
    }

    /// Asks the next server, or ends the question.
    fn ask_next(
        &mut self,
        id: QuestionId,
        mut lookup: Lookup,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let server = (now < lookup.give_up)
            .then(|| lookup.plan.pop_front())
            .flatten();
        let Some(server) = server else {
            let answer = failure(lookup.failure, DNS_FAILURE_TTL_MAX);
            return self.finish(id, lookup, answer, now);
        };
        let next = Next {
            server,
            way: Way::Datagram,
            edns: Edns::On,
        };
        self.send(id, lookup, next, now, entropy);
    }

    fn send(
        &mut self,
        id: QuestionId,
        lookup: Lookup,
        next: Next,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let kind = lookup.question.kind;
        let Some(query) = message::query(&lookup.name, kind, next.edns, entropy) else {
            // A name that cannot be encoded does not exist.
            let answer = failure(NoRecords::NoDomain, DNS_FAILURE_TTL_MAX);
            return self.finish(id, lookup, answer, now);
        };
        self.sockets_opened = self.sockets_opened.wrapping_add(1);
        let socket = SocketId(self.sockets_opened);
        let to = next.server;
        let (transport, action) = match next.way {
            Way::Datagram => {
                let bytes = query.clone();
                (
                    Transport::Datagram { other_case: false },
                    DnsAction::SendDatagram { socket, to, bytes },
                )
            }
            Way::Stream => {
                // A query has 12 bytes, a name, and an OPT record: far below 64 KiB.
                let len = u16::try_from(query.len()).unwrap_or(0).to_be_bytes();
                let bytes = [len.as_slice(), &query].concat();
                let received = Vec::new();
                (
                    Transport::Stream { received },
                    DnsAction::ConnectStream { socket, to, bytes },
                )
            }
        };
        self.actions.push_back(action);
        let attempt = Attempt {
            socket,
            server: next.server,
            deadline: now.after(self.servers.timeout),
            query,
            edns: next.edns,
            transport,
        };
        self.by_socket.insert(socket, id);
        self.lookups.insert(id, (lookup, attempt));
    }

    fn finish(&mut self, id: QuestionId, lookup: Lookup, answer: Answer, now: Instant) {
        self.by_question.remove(&lookup.question);
        self.cache.keep(&lookup.question, &answer, now);
        self.actions.push_back(DnsAction::Answered {
            id,
            question: lookup.question,
            answer,
        });
    }

    fn close(&mut self, socket: SocketId) {
        self.actions.push_back(DnsAction::CloseSocket { socket });
    }

    fn punish(&mut self, server: SocketAddr, now: Instant) {
        if self.servers.used().contains(&server) {
            self.ailing.insert(server, now.after(DNS_SERVER_PENALTY));
        }
    }

    /// All servers, once for each attempt; those that recently did not answer come last.
    fn plan(&mut self, now: Instant) -> VecDeque<SocketAddr> {
        self.ailing.retain(|_, until| now < *until);
        let (last, first): (Vec<_>, Vec<_>) = self
            .servers
            .used()
            .iter()
            .copied()
            .partition(|server| self.ailing.contains_key(server));
        let round = [first, last].concat();
        round.repeat(self.servers.rounds).into()
    }

    fn attempt_mut(&mut self, socket: SocketId) -> Option<&mut Attempt> {
        let id = self.by_socket.get(&socket)?;
        self.lookups.get_mut(id).map(|(_, attempt)| attempt)
    }

    fn take(&mut self, socket: SocketId) -> Option<(QuestionId, Lookup, Attempt)> {
        let id = self.by_socket.remove(&socket)?;
        let (lookup, attempt) = self.lookups.remove(&id)?;
        Some((id, lookup, attempt))
    }
}

/// The next query of a lookup.
struct Next {
    server: SocketAddr,
    way: Way,
    edns: Edns,
}

impl Attempt {
    /// The same query to the same server again.
    fn to(&self, way: Way) -> Next {
        Next {
            server: self.server,
            way,
            edns: self.edns,
        }
    }

    fn way(&self) -> Way {
        match self.transport {
            Transport::Datagram { .. } => Way::Datagram,
            Transport::Stream { .. } => Way::Stream,
        }
    }
}

impl Lookup {
    /// Judges a matching reply.
    fn judge(&mut self, packet: &[u8], attempt: &Attempt, trusted: bool) -> Verdict {
        let Ok(reply) = Reply::parse(packet, self.question.kind) else {
            return Verdict::NextServer;
        };
        if reply.truncated {
            return match attempt.way() {
                Way::Datagram => Verdict::ByStream,
                Way::Stream => Verdict::NextServer,
            };
        }
        let (code, competent, negative_ttl) = (reply.code, reply.competent, reply.negative_ttl);
        match code {
            message::NOERROR | message::NXDOMAIN => {}
            message::FORMERR | message::NOTIMP | message::BADVERS if attempt.edns == Edns::On => {
                return Verdict::WithoutEdns;
            }
            _ => return Verdict::NextServer,
        }
        let authentic = reply.authentic && trusted;
        let links_left = CNAME_LINKS_MAX.saturating_sub(self.links);
        let Some(found) = reply.follow(&self.name, links_left) else {
            return Verdict::NextServer;
        };
        let nothing = found.links == 0 && found.records.is_none();
        if nothing && !competent && negative_ttl.is_none() {
            return Verdict::NextServer; // lame: it refers to others
        }
        self.authentic &= authentic;
        self.links = self.links.saturating_add(found.links);
        self.ttl = match (self.ttl, found.ttl) {
            (Some(before), Some(now)) => Some(before.min(now)),
            (before, now) => before.or(now),
        };
        if let Some(records) = found.records {
            return Verdict::Answer(self.needed(records), self.ttl.unwrap_or(0));
        }
        // The absence of records is cached for the lowest TTL of the aliases and the SOA, and without an SOA not at all
        // (RFC 2308 section 5).
        let absent = negative_ttl.map_or(0, |ttl| self.ttl.map_or(ttl, |before| before.min(ttl)));
        if code == message::NXDOMAIN {
            return Verdict::Answer(Err(NoRecords::NoDomain), absent);
        }
        if found.links == 0 || negative_ttl.is_some() {
            return Verdict::Answer(Err(NoRecords::NoData), absent);
        }
        match found.name.to_domain() {
            Some(name) if self.links < CNAME_LINKS_MAX => Verdict::AskOn(name),
            _ => Verdict::NextServer,
        }
    }

    /// The records to keep. If there are more TXT records than the limit, only those that a relay uses.
    fn needed(&self, records: Records) -> Result<Records, NoRecords> {
        let Records::Txt(mut texts) = records else {
            return Ok(records);
        };
        let fits = |texts: &[Vec<u8>]| {
            let bytes: usize = texts.iter().map(Vec::len).sum();
            bytes <= DNS_TEXT_BYTES_MAX
        };
        if !fits(&texts) {
            let name = self.question.name.as_str();
            let is_key = name.split('.').any(|label| label == "_domainkey");
            texts.retain(|text| is_key || is_tagged(text));
            texts.shrink_to_fit();
        }
        match (texts.is_empty(), fits(&texts)) {
            (true, _) => Err(NoRecords::NoData),
            (_, true) => Ok(Records::Txt(texts)),
            (_, false) => Err(NoRecords::ServerFailure),
        }
    }

    /// The server has reported that it has no answer: it is not asked again.
    fn drop_server(&mut self, server: SocketAddr) {
        self.failure = NoRecords::ServerFailure;
        self.plan.retain(|planned| *planned != server);
    }
}

fn deadline((lookup, attempt): &(Lookup, Attempt)) -> Instant {
    lookup.give_up.min(attempt.deadline)
}

/// Whether a TXT record begins with a version, like those of SPF, DKIM, DMARC and MTA-STS.
fn is_tagged(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let Some((tag, rest)) = text.split_first() else {
        return false;
    };
    tag.eq_ignore_ascii_case(&b'v') && rest.trim_ascii_start().first() == Some(&b'=')
}

fn failure(cause: NoRecords, ttl: Duration) -> Answer {
    Answer {
        records: Err(cause),
        authentic: false,
        ttl,
    }
}

/// Names that are answered without a query: `localhost` (RFC 6761 section 6.3), and address literals, which are not
/// names.
fn local_answer(question: &Question) -> Option<Answer> {
    let name = question.name.as_str();
    let records = if question.name.is_literal() {
        Err(NoRecords::NoDomain)
    } else if name == "localhost" || name.ends_with(".localhost") {
        match question.kind {
            RecordKind::A => Ok(Arc::new(Records::A(vec![Ipv4Addr::LOCALHOST]))),
            RecordKind::Aaaa => Ok(Arc::new(Records::Aaaa(vec![Ipv6Addr::LOCALHOST]))),
            _ => Err(NoRecords::NoData),
        }
    } else {
        return None;
    };
    Some(Answer {
        records,
        authentic: false,
        ttl: DNS_NEGATIVE_TTL_MAX,
    })
}

/// A packet of the greatest length with the length in front.
const STREAM_BYTES_MAX: usize = 2 + 65_535;

#[cfg(test)]
mod tests;
