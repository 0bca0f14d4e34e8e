//! The queue of a next hop: messages that are due, oldest first. Messages of users go before messages that
//! unauthenticated clients caused, but every fourth turn takes one of the latter, so that neither kind waits until the
//! other has ended.

use std::collections::BTreeSet;

use crate::queue_id::QueueId;

/// Messages that are due.
#[derive(Debug, Default)]
pub(super) struct Line {
    trusted: BTreeSet<QueueId>,
    clients: BTreeSet<QueueId>,
    turns: u8,
}

impl Line {
    /// Adds a message, which an unauthenticated client caused or not.
    pub(super) fn insert(&mut self, id: QueueId, by_client: bool) {
        match by_client {
            true => self.clients.insert(id),
            false => self.trusted.insert(id),
        };
    }

    /// Takes a message out.
    pub(super) fn remove(&mut self, id: QueueId) {
        self.trusted.remove(&id);
        self.clients.remove(&id);
    }

    /// Takes the next one out.
    pub(super) fn pop(&mut self) -> Option<QueueId> {
        self.turns = self.turns.wrapping_add(1);
        match self.turns % TURNS {
            0 => self
                .clients
                .pop_first()
                .or_else(|| self.trusted.pop_first()),
            _ => self
                .trusted
                .pop_first()
                .or_else(|| self.clients.pop_first()),
        }
    }

    /// At most `max` messages after the given one; past the last one it starts again at the first.
    pub(super) fn from(&self, after: Option<QueueId>, max: usize) -> Vec<QueueId> {
        let behind = |id: &QueueId| after.is_none_or(|after| *id > after);
        let all = || self.trusted.iter().chain(&self.clients).copied();
        let mut found: Vec<QueueId> = all().filter(behind).take(max).collect();
        if found.len() < max {
            let before = all().filter(|id| !behind(id));
            found.extend(before.take(max.saturating_sub(found.len())));
        }
        found
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.trusted.len().saturating_add(self.clients.len())
    }

    /// Whether none does.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one waits that no unauthenticated client caused.
    pub(super) fn has_trusted(&self) -> bool {
        !self.trusted.is_empty()
    }

    /// The waiting messages, oldest first within each kind, while the predicate holds.
    pub(super) fn while_oldest(&self, is_so: impl Fn(QueueId) -> bool) -> Vec<QueueId> {
        [&self.trusted, &self.clients]
            .into_iter()
            .flat_map(|line| line.iter().copied().take_while(|id| is_so(*id)))
            .collect()
    }
}

/// One turn in this number belongs to clients.
const TURNS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date::Timestamp;
    use crate::queue::IdSource;

    #[test]
    fn users_go_first_and_clients_are_not_kept_waiting_for_ever() {
        let mut ids = IdSource::above(QueueId::new(0));
        let mut next = || ids.next(Timestamp::from_seconds(1_790_000_000));
        let mut line = Line::default();
        let clients: Vec<QueueId> = (0..3).map(|_| next()).collect();
        let users: Vec<QueueId> = (0..6).map(|_| next()).collect();
        for id in &clients {
            line.insert(*id, true);
        }
        for id in &users {
            line.insert(*id, false);
        }
        let order: Vec<QueueId> = std::iter::from_fn(|| line.pop()).collect();
        let (c, u) = (&clients, &users);
        assert_eq!(
            order,
            [u[0], u[1], u[2], c[0], u[3], u[4], u[5], c[1], c[2]]
        );
        assert!(line.is_empty());
    }
}
