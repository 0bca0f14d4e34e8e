//! Carries questions to the DNS and answers to who asked.

use std::collections::HashMap;
use std::time::Duration;

use super::event::{Action, ConnId};
use super::{Conn, Engine};
use crate::clock::Now;
use crate::dns::{Answer, Asked, DnsAction, NoRecords, Question, QuestionId};
use crate::policy::shares::{Holder, Kind, Resource, hash_of_text};

/// Who waits for which answer.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: HashMap<QuestionId, Vec<ConnId>>,
    /// On whose account a question is asked: that of who asked first.
    holders: HashMap<QuestionId, Holder>,
}

impl Engine {
    /// Asks; the answer is there at once or comes by `courier_answer` or `inbound_answer`.
    pub(super) fn ask(
        &mut self,
        conn: ConnId,
        holder: Holder,
        question: Question,
        now: Now,
    ) -> Option<Answer> {
        // A zone has a share too, whoever asks for its names: it may be slow to answer. Lists are asked for every client.
        let holder = match self.config.abuse.lists.holds(&question.name) {
            true => holder,
            false => holder.and(Kind::Zone, hash_of_text(question.zone())),
        };
        let is_free = self.resolver.is_free(&question, now.instant);
        let pool = self.shares.of_mut(Resource::Questions);
        if !is_free && pool.take(holder, 1).is_err() {
            self.counters.unasked += 1;
            return Some(Answer {
                records: Err(NoRecords::NoRoom),
                authentic: false,
                ttl: Duration::ZERO,
            });
        }
        match self.resolver.ask(question, now.instant, &mut *self.entropy) {
            Asked::Ready(answer) => {
                if !is_free {
                    self.shares.of_mut(Resource::Questions).give(holder, 1);
                }
                Some(answer)
            }
            Asked::Pending(id) => {
                if !is_free {
                    self.questions.holders.insert(id, holder);
                }
                self.questions.waiting.entry(id).or_default().push(conn);
                None
            }
        }
    }

    /// Does what the resolver wants and hands out the answers that it has; says whether there were any.
    pub(super) fn hand_out_answers(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(action) = self.resolver.next_action() {
            let action = match action {
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
                    any = true;
                    if let Some(holder) = self.questions.holders.remove(&id) {
                        self.shares.of_mut(Resource::Questions).give(holder, 1);
                    }
                    for conn in self.questions.waiting.remove(&id).unwrap_or_default() {
                        self.hand_out(conn, &question, &answer, now);
                    }
                    continue;
                }
            };
            self.actions.push_back(action);
        }
        any
    }

    fn hand_out(&mut self, conn: ConnId, question: &Question, answer: &Answer, now: Now) {
        match self.conns.take(conn) {
            Some(Conn::Courier(courier)) => {
                self.courier_answer(conn, courier, question, answer, now)
            }
            Some(Conn::Inbound(inbound)) => {
                self.inbound_answer(conn, inbound, question, answer, now)
            }
            Some(other) => self.conns.put(conn, other),
            None => {}
        }
    }
}
