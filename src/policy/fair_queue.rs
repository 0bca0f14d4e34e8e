//! A queue in which networks, users and hosts take turns: items of one that adds many wait behind each other, and items
//! of the rest do not wait behind them. In each round each [`Lane`] has one turn.

use std::collections::BTreeMap;

use super::shares::Lane;

/// The waiting items.
#[derive(Debug)]
pub struct FairQueue<T> {
    waiting: BTreeMap<Turn, (Lane, T)>,
    /// The last round in which a lane has a turn, and how many of it wait.
    rounds: BTreeMap<Lane, (u64, usize)>,
    /// The round that is being gone through.
    round: u64,
    next: u64,
}

/// A place in the queue: the round, and the order in it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Turn(u64, u64);

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            rounds: BTreeMap::new(),
            round: 0,
            next: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds one of a lane.
    pub fn put(&mut self, lane: Lane, value: T) -> Turn {
        let (last, count) = self.rounds.entry(lane).or_insert((self.round, 0));
        *last = last.saturating_add(1).max(self.round);
        *count = count.saturating_add(1);
        let turn = Turn(*last, self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(turn, (lane, value));
        turn
    }

    /// Takes the next one.
    pub fn take(&mut self) -> Option<T> {
        let (Turn(round, _), (lane, value)) = self.waiting.pop_first()?;
        self.round = self.round.max(round);
        self.leave(lane);
        Some(value)
    }

    /// Takes one out of the line.
    pub fn forget(&mut self, turn: Turn) -> Option<T> {
        let (lane, value) = self.waiting.remove(&turn)?;
        self.leave(lane);
        Some(value)
    }

    /// The place of the first item that satisfies the predicate.
    pub fn find(&self, mut is_it: impl FnMut(&T) -> bool) -> Option<Turn> {
        let mut waiting = self.waiting.iter();
        let found = waiting.find(|(_, (_, value))| is_it(value));
        found.map(|(turn, _)| *turn)
    }

    /// The one at a place.
    pub fn get_mut(&mut self, turn: Turn) -> Option<&mut T> {
        self.waiting.get_mut(&turn).map(|(_, value)| value)
    }

    /// One of a lane does not wait any more.
    fn leave(&mut self, lane: Lane) {
        if let Some((_, count)) = self.rounds.get_mut(&lane) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.rounds.remove(&lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::shares::{Holder, ShareKind, TrustLevel};

    fn lane(name: u64) -> Lane {
        Holder::named(TrustLevel::Trusted, ShareKind::Login, name).lane()
    }

    #[test]
    fn whoever_brings_much_waits_behind_their_own() {
        let mut line = FairQueue::default();
        for number in 0..5 {
            line.put(lane(1), (1, number));
        }
        line.put(lane(2), (2, 0));
        line.put(lane(3), (3, 0));
        line.put(lane(3), (3, 1));
        let order: Vec<(u8, u8)> = std::iter::from_fn(|| line.take()).collect();
        let expected = [
            (1, 0),
            (2, 0),
            (3, 0),
            (1, 1),
            (3, 1),
            (1, 2),
            (1, 3),
            (1, 4),
        ];
        assert_eq!(order, expected);
        assert!(line.is_empty() && line.rounds.is_empty());
    }

    #[test]
    fn whoever_comes_after_many_rounds_has_the_next_turn() {
        let mut line = FairQueue::default();
        for number in 0..9 {
            line.put(lane(1), number);
        }
        for _ in 0..5 {
            line.take();
        }
        line.put(lane(2), 100);
        assert_eq!((line.take(), line.take()), (Some(5), Some(100)));
    }

    #[test]
    fn whoever_leaves_takes_nobody_else_along() {
        let mut line = FairQueue::default();
        let first = line.put(lane(1), 1);
        line.put(lane(1), 2);
        assert_eq!((line.forget(first), line.forget(first)), (Some(1), None));
        assert_eq!(
            line.find(|value| *value == 2)
                .and_then(|turn| line.forget(turn)),
            Some(2)
        );
        assert!(line.is_empty() && line.rounds.is_empty());
    }
}
