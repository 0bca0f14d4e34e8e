//! Answers that are still to be believed, positive and negative (RFC 1035 section 7.4, RFC 2308).
//!
//! Invariant: never more than [`DNS_CACHE_ENTRIES_MAX`] entries; the one that would expire first makes room.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::answer::{Answer, Question};
use crate::clock::Instant;
use crate::limits::DNS_CACHE_ENTRIES_MAX;

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Question, (Instant, Answer)>,
    by_expiry: BTreeSet<(Instant, Question)>,
}

impl Cache {
    /// The answer with what is left of its time.
    pub(super) fn find(&mut self, question: &Question, now: Instant) -> Option<Answer> {
        let (until, answer) = self.entries.get(question)?;
        let left = until.since(now);
        if left == Duration::ZERO {
            self.forget(question);
            return None;
        }
        Some(Answer {
            ttl: left,
            ..answer.clone()
        })
    }

    /// Keeps an answer for its TTL; one without a TTL is not kept.
    pub(super) fn keep(&mut self, question: &Question, answer: &Answer, now: Instant) {
        self.forget(question);
        if answer.ttl == Duration::ZERO {
            return;
        }
        while self.entries.len() >= DNS_CACHE_ENTRIES_MAX {
            let Some((_, oldest)) = self.by_expiry.pop_first() else {
                break;
            };
            self.entries.remove(&oldest);
        }
        let until = now.after(answer.ttl);
        self.entries
            .insert(question.clone(), (until, answer.clone()));
        self.by_expiry.insert((until, question.clone()));
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Moves to where there is room, if it is small.
    pub(super) fn rest(&mut self) {
        if self.entries.len() > MOVED_MAX {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        self.by_expiry = BTreeSet::new();
        for (question, (until, answer)) in entries {
            self.by_expiry.insert((until, question.clone()));
            self.entries.insert(question, (until, answer));
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.by_expiry.clear();
    }

    fn forget(&mut self, question: &Question) {
        if let Some((until, _)) = self.entries.remove(question) {
            self.by_expiry.remove(&(until, question.clone()));
        }
    }
}

/// Answers that are few enough to be moved.
const MOVED_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Domain;
    use crate::dns::{NoRecords, RecordKind};

    fn question(number: usize) -> Question {
        Question {
            name: Domain::parse(&format!("h{number}.example")).expect("a domain"),
            kind: RecordKind::A,
        }
    }

    fn negative(seconds: u64) -> Answer {
        Answer {
            records: Err(NoRecords::NoData),
            authentic: false,
            ttl: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn believes_an_answer_for_its_ttl_only() {
        let mut cache = Cache::default();
        cache.keep(&question(1), &negative(10), Instant::START);
        let later = Instant::from_millis(4_000);
        let found = cache.find(&question(1), later).expect("still there");
        assert_eq!(found.ttl, Duration::from_secs(6));
        assert_eq!(cache.find(&question(1), Instant::from_millis(10_000)), None);
        assert_eq!(cache.len(), 0);
        cache.keep(&question(1), &negative(0), Instant::START);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn what_expires_first_makes_room() {
        let mut cache = Cache::default();
        for number in 0..DNS_CACHE_ENTRIES_MAX + 100 {
            let ttl = 1_000 + u64::try_from(number).expect("small");
            cache.keep(&question(number), &negative(ttl), Instant::START);
        }
        assert_eq!(cache.len(), DNS_CACHE_ENTRIES_MAX);
        assert_eq!(cache.by_expiry.len(), DNS_CACHE_ENTRIES_MAX);
        assert_eq!(cache.find(&question(99), Instant::START), None);
        assert!(cache.find(&question(100), Instant::START).is_some());
    }
}
