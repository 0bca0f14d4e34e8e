//! Cached answers, positive and negative (RFC 1035 section 7.4, RFC 2308).
//!
//! Invariant: never more than [`DNS_CACHE_ENTRIES_MAX`] entries and [`DNS_CACHE_BYTES_MAX`] bytes. Entries are charged
//! to their zone, because its owner decides how many records the cache gets. When the cache is full, the zone with the
//! most bytes loses its entry that expires first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::answer::{Answer, Question};
use crate::clock::Instant;
use crate::limits::{DNS_CACHE_BYTES_MAX, DNS_CACHE_ENTRIES_MAX};

#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Question, (Instant, Answer)>,
    zones: BTreeMap<u64, Zone>,
    by_bytes: BTreeSet<(usize, u64)>,
    bytes: usize,
}

/// The entries of one zone.
#[derive(Debug, Default)]
struct Zone {
    bytes: usize,
    by_expiry: BTreeSet<(Instant, Question)>,
}

impl Cache {
    /// The cached answer, with its remaining TTL.
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

    /// Whether there is an answer.
    pub(super) fn has(&self, question: &Question, now: Instant) -> bool {
        let entry = self.entries.get(question);
        entry.is_some_and(|(until, _)| *until > now)
    }

    /// Stores an answer for its TTL; an answer without a TTL is not stored.
    pub(super) fn keep(&mut self, question: &Question, answer: &Answer, now: Instant) {
        self.forget(question);
        if answer.ttl == Duration::ZERO {
            return;
        }
        let size = size_of_entry(question, answer);
        while !self.entries.is_empty()
            && (self.entries.len() >= DNS_CACHE_ENTRIES_MAX
                || self.bytes.saturating_add(size) > DNS_CACHE_BYTES_MAX)
        {
            let largest = self.by_bytes.last().map(|(_, zone)| *zone);
            let zone = largest.and_then(|zone| self.zones.get(&zone));
            let Some((_, oldest)) = zone.and_then(|zone| zone.by_expiry.first().cloned()) else {
                break;
            };
            self.forget(&oldest);
        }
        let until = now.after(answer.ttl);
        self.entries
            .insert(question.clone(), (until, answer.clone()));
        let key = zone_of(question);
        let zone = self.zones.entry(key).or_default();
        self.by_bytes.remove(&(zone.bytes, key));
        zone.bytes = zone.bytes.saturating_add(size);
        zone.by_expiry.insert((until, question.clone()));
        self.by_bytes.insert((zone.bytes, key));
        self.bytes = self.bytes.saturating_add(size);
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all answers.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn forget(&mut self, question: &Question) {
        let Some((until, answer)) = self.entries.remove(question) else {
            return;
        };
        let size = size_of_entry(question, &answer);
        self.bytes = self.bytes.saturating_sub(size);
        let key = zone_of(question);
        let Some(zone) = self.zones.get_mut(&key) else {
            return;
        };
        self.by_bytes.remove(&(zone.bytes, key));
        zone.bytes = zone.bytes.saturating_sub(size);
        zone.by_expiry.remove(&(until, question.clone()));
        if zone.by_expiry.is_empty() {
            self.zones.remove(&key);
        } else {
            self.by_bytes.insert((zone.bytes, key));
        }
    }
}

/// A hash of the question's zone.
fn zone_of(question: &Question) -> u64 {
    let mut hasher = DefaultHasher::new();
    question.zone().hash(&mut hasher);
    hasher.finish()
}

/// Bytes of an entry, which contains its name twice.
fn size_of_entry(question: &Question, answer: &Answer) -> usize {
    let name = question.name.as_str().len();
    let names = name.saturating_mul(2);
    answer
        .bytes()
        .saturating_add(names)
        .saturating_add(ENTRY_BYTES)
}

/// Bytes of an entry besides its name and its records.
const ENTRY_BYTES: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Domain;
    use crate::dns::{NoRecords, RecordKind, Records};
    use std::sync::Arc;

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
        let kept: usize = cache.zones.values().map(|zone| zone.by_expiry.len()).sum();
        assert_eq!(kept, DNS_CACHE_ENTRIES_MAX);
        assert_eq!(cache.by_bytes.len(), cache.zones.len());
    }

    #[test]
    fn one_zone_cannot_make_others_be_forgotten_and_bytes_have_a_ceiling() {
        let mut cache = Cache::default();
        let honest = question(0);
        cache.keep(&honest, &negative(1), Instant::START);
        let text = Answer {
            records: Ok(Arc::new(Records::Txt(vec![vec![b'v'; 16_000]]))),
            authentic: false,
            ttl: Duration::from_secs(86_400),
        };
        for number in 0..5_000 {
            let name = format!("n{number}.evil.test");
            let question = Question {
                name: Domain::parse(&name).expect("a domain"),
                kind: RecordKind::Txt,
            };
            cache.keep(&question, &text, Instant::START);
            assert!(cache.bytes() <= DNS_CACHE_BYTES_MAX);
        }
        assert!(cache.find(&honest, Instant::START).is_some());
        cache.clear();
        assert_eq!((cache.bytes(), cache.len()), (0, 0));
    }
}
