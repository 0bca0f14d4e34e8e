//! Sends questions to the DNS, and routes the answers to the connections that asked.

use std::collections::HashMap;
use std::time::Duration;

use super::counters::Counters;
use super::event::{Action, ConnId};
use crate::clock::{Instant, Now};
use crate::config::Config;
use crate::dns::{
    Answer, Asked, DnsAction, NoRecords, Question, QuestionId, Resolver, Servers, SocketId,
};
use crate::engine::counters::count_up;
use crate::entropy::Entropy;
use crate::policy::shares::{Holder, Resource, ResourceShare, ShareKind, Shares, hash_of_text};
use std::net::SocketAddr;

/// The resolver, and the connections that wait for answers.
pub(super) struct Lookups {
    resolver: Resolver,
    waiting: HashMap<QuestionId, Vec<ConnId>>,
    /// The shares of questions under way, of the holders that asked first.
    shares: HashMap<QuestionId, ResourceShare>,
}

/// An answer, and the connections that wait for it.
pub(super) struct Answered {
    pub(super) conns: Vec<ConnId>,
    pub(super) question: Question,
    pub(super) answer: Answer,
}

impl Lookups {
    pub(super) fn new(servers: Servers) -> Self {
        Self {
            resolver: Resolver::new(servers),
            waiting: HashMap::new(),
            shares: HashMap::new(),
        }
    }

    /// Uses these name servers from now on.
    pub(super) fn set_servers(&mut self, servers: Servers) {
        self.resolver.set_servers(servers);
    }

    /// Questions under way, and answers that are remembered.
    pub(super) fn counts(&self) -> (usize, usize) {
        self.resolver.counts()
    }

    /// Asks a question. The answer is returned at once, or comes by [`Lookups::next`]. If the share of the holder is
    /// used up, the answer is that there was no room.
    #[expect(
        clippy::too_many_arguments,
        reason = "all but three are what a participant is handed anyway"
    )]
    pub(super) fn ask(
        &mut self,
        conn: ConnId,
        holder: Holder,
        question: Question,
        config: &Config,
        shares: &Shares,
        counters: &mut Counters,
        entropy: &mut dyn Entropy,
        now: Now,
    ) -> Option<Answer> {
        // A zone has a share too, because its servers may be slow. Block lists are asked about every client.
        let holder = match config.abuse.lists.holds(&question.name) {
            true => holder,
            false => holder.and(ShareKind::Zone, hash_of_text(question.zone())),
        };
        let is_free = self.resolver.is_free(&question, now.instant);
        let pool = shares.of(Resource::Questions);
        let share = (!is_free).then(|| pool.take(holder, 1));
        let Ok(share) = share.transpose() else {
            count_up(&mut counters.unasked, 1);
            return Some(Answer {
                records: Err(NoRecords::NoRoom),
                authentic: false,
                ttl: Duration::ZERO,
            });
        };
        match self.resolver.ask(question, now.instant, entropy) {
            Asked::Ready(answer) => Some(answer),
            Asked::Pending(id) => {
                if let Some(share) = share {
                    self.shares.insert(id, share);
                }
                self.waiting.entry(id).or_default().push(conn);
                None
            }
        }
    }

    /// Returns the next answer, and puts the requests of the resolver among the actions; `None` if there are no more of
    /// either.
    pub(super) fn next(&mut self, act: &mut dyn FnMut(Action)) -> Option<Answered> {
        loop {
            act(match self.resolver.next_action()? {
                DnsAction::SendDatagram { socket, to, bytes } => {
                    Action::DnsSend { socket, to, bytes }
                }
                DnsAction::ConnectStream { socket, to, bytes } => {
                    Action::DnsConnect { socket, to, bytes }
                }
                DnsAction::CloseSocket { socket } => Action::DnsClose { socket },
                DnsAction::Answered {
                    id,
                    question,
                    answer,
                } => {
                    self.shares.remove(&id);
                    let conns = self.waiting.remove(&id).unwrap_or_default();
                    return Some(Answered {
                        conns,
                        question,
                        answer,
                    });
                }
            });
        }
    }

    /// A datagram came back.
    pub(super) fn on_datagram(
        &mut self,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.resolver.on_datagram(socket, from, bytes, now, entropy);
    }

    /// Bytes came on a stream.
    pub(super) fn on_stream_bytes(
        &mut self,
        socket: SocketId,
        bytes: &[u8],
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.resolver.on_stream_bytes(socket, bytes, now, entropy);
    }

    /// A socket or stream failed.
    pub(super) fn on_failed(&mut self, socket: SocketId, now: Instant, entropy: &mut dyn Entropy) {
        self.resolver.on_failed(socket, now, entropy);
    }

    /// When [`Lookups::expire`] must be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.resolver.deadline()
    }

    /// Time has passed.
    pub(super) fn expire(&mut self, now: Instant, entropy: &mut dyn Entropy) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.resolver.expire(now, entropy);
        }
    }
}
