//! Chooses the user whose file is next.
//!
//! Users take turns, and the files of each user go oldest first. A fixed number of files is in progress at a time. A
//! user may start another file only while fewer of that user's files are in progress than half of the free places. A
//! user who leaves ten thousand files, or a message that a hook takes a minute for, therefore delays no other user. A
//! deferred file is tried again after an interval that doubles each time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::{Settlement, is_complete};
use crate::clock::Instant;
use crate::limits::{
    DROP_FILES_PER_USER_MAX, DROP_RETRY_MAX, DROP_RETRY_MIN, DROP_STUCK_MAX, DROP_TRIES_MAX,
    DROP_USERS_MAX, DROP_VISITS_MAX,
};

/// A name in the folder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DropEntry {
    pub name: OsString,
    /// The owner of the file.
    pub uid: u32,
    /// When it was written, in seconds since 1970.
    pub written: i64,
}

/// The next task for a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Task {
    /// Submit it; answer with [`DropTurns::defer`] or [`DropTurns::close`].
    Visit(OsString),
    /// It was submitted, but its settlement failed: try that again; answer with [`DropTurns::close`].
    Settle(OsString, Settlement),
}

/// The files of the folder.
#[derive(Debug)]
pub struct DropTurns {
    /// The relay's uid.
    own: u32,
    tries: BTreeMap<OsString, Try>,
    /// Submitted files that are still there, with their settlement.
    stuck: BTreeMap<OsString, Settlement>,
    /// The ones that were not tried again since the last look.
    to_settle: BTreeSet<OsString>,
    /// Users of the files that are under way.
    under_way: BTreeMap<OsString, u32>,
    /// The files of the last look, oldest first.
    waiting: BTreeMap<u32, BTreeSet<(i64, OsString)>>,
    /// The user that had the last turn.
    last: Option<u32>,
}

/// When a file is looked at again.
#[derive(Clone, Copy, Debug)]
struct Try {
    wait: Duration,
    at: Instant,
}

impl DropTurns {
    /// Of a folder that has not been looked at. `own` is the relay's uid.
    pub const fn new(own: u32) -> Self {
        Self {
            own,
            tries: BTreeMap::new(),
            stuck: BTreeMap::new(),
            to_settle: BTreeSet::new(),
            under_way: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last: None,
        }
    }

    /// The folder holds these, in any order.
    pub fn look(&mut self, entries: impl IntoIterator<Item = DropEntry>, now: Instant) {
        // Files that are gone are forgotten.
        let (mut tries, mut stuck) = (BTreeMap::new(), BTreeMap::new());
        self.waiting.clear();
        for entry in entries {
            if !is_complete(entry.name.as_encoded_bytes()) {
                continue;
            }
            if let Some((name, settlement)) = self.stuck.remove_entry(&entry.name) {
                stuck.insert(name, settlement);
                continue;
            }
            let last = self.tries.remove_entry(&entry.name);
            let is_due = last.as_ref().is_none_or(|(_, last)| last.at <= now);
            tries.extend(last);
            if is_due && !self.under_way.contains_key(&entry.name) {
                self.wait_in_line(entry);
            }
        }
        self.to_settle = stuck.keys().cloned().collect();
        (self.tries, self.stuck) = (tries, stuck);
    }

    fn wait_in_line(&mut self, entry: DropEntry) {
        let user = self.user_of(&entry);
        if self.waiting.len() >= DROP_USERS_MAX && !self.waiting.contains_key(&user) {
            return;
        }
        let files = self.waiting.entry(user).or_default();
        files.insert((entry.written, entry.name));
        if files.len() > DROP_FILES_PER_USER_MAX {
            files.pop_last();
        }
    }

    /// The user whose turn a file takes: its owner, or for a file that the relay wrote for deferred recipients the user
    /// in its name.
    fn user_of(&self, entry: &DropEntry) -> u32 {
        let named = (entry.uid == self.own).then(|| named_user(&entry.name));
        named.flatten().unwrap_or(entry.uid)
    }

    /// The next task, if one may be started now.
    pub fn begin_next(&mut self) -> Option<Task> {
        if let Some(name) = self.to_settle.pop_first()
            && let Some(settlement) = self.stuck.get(&name)
        {
            let settlement = settlement.clone();
            return Some(Task::Settle(name, settlement));
        }
        // A submitted file that cannot be removed would be submitted again after a restart, so no more files are
        // started.
        if self.stuck.len() >= DROP_STUCK_MAX || self.under_way.len() >= DROP_VISITS_MAX {
            return None;
        }
        let room = DROP_VISITS_MAX.saturating_sub(self.under_way.len());
        let has_turn = |user: &u32| {
            let own = self.under_way.values().filter(|one| *one == user).count();
            own < room.div_ceil(2)
        };
        let behind = |user: &u32| self.last.is_none_or(|last| *user > last);
        let mut users = self.waiting.keys().filter(|user| has_turn(user));
        let first = users.clone().next().copied();
        let user = users.find(|user| behind(user)).copied().or(first)?;
        let files = self.waiting.get_mut(&user)?;
        let (_, name) = files.pop_first()?;
        if files.is_empty() {
            self.waiting.remove(&user);
        }
        self.last = Some(user);
        self.under_way.insert(name.clone(), user);
        Some(Task::Visit(name))
    }

    /// Defers a file; returns for how long.
    pub fn defer(&mut self, name: &OsStr, now: Instant) -> Duration {
        self.under_way.remove(name);
        let last = self.tries.get(name).map(|last| last.wait);
        let wait = last.map_or(DROP_RETRY_MIN, |wait| wait.saturating_mul(2));
        let wait = wait.min(DROP_RETRY_MAX);
        if last.is_some() || self.tries.len() < DROP_TRIES_MAX {
            let at = now.after(wait);
            self.tries.insert(name.to_owned(), Try { wait, at });
        }
        wait
    }

    /// A file was submitted. `left` is the part of its settlement that failed.
    pub fn close(&mut self, name: &OsStr, left: Option<Settlement>) {
        self.under_way.remove(name);
        match left {
            None => drop(self.stuck.remove(name)),
            Some(left) => drop(self.stuck.insert(name.to_owned(), left)),
        }
    }

    /// Files that are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }
}

/// The name of a file that the relay writes for deferred recipients of a user.
pub fn name_of(random: &str, user: Option<u32>) -> String {
    match user {
        Some(user) => format!("{random}-{user}{}", super::COMPLETE),
        None => format!("{random}{}", super::COMPLETE),
    }
}

fn named_user(name: &OsStr) -> Option<u32> {
    let name = name.to_str()?.strip_suffix(super::COMPLETE)?;
    name.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 900;

    fn entry(name: &str, uid: u32, written: i64) -> DropEntry {
        DropEntry {
            name: name.into(),
            uid,
            written,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    /// The names that are begun until no more may be.
    fn begun(turns: &mut DropTurns) -> Vec<String> {
        std::iter::from_fn(|| turns.begin_next())
            .map(|task| match task {
                Task::Visit(name) => name.into_string().unwrap(),
                Task::Settle(name, _) => format!("settle {}", name.to_str().unwrap()),
            })
            .collect()
    }

    #[test]
    fn users_are_served_in_turn_and_whoever_leaves_thousands_keeps_nobody_waiting() {
        let mut turns = DropTurns::new(OWN);
        let flood = (0..2_000).map(|number| entry(&format!("{number}.msg"), 33, number));
        let others = [entry("late.msg", 34, 9_999), entry("later.msg", 35, 9_999)];
        turns.look(flood.chain(others), at(0));
        let first = begun(&mut turns);
        assert_eq!(
            first[..5],
            ["0.msg", "late.msg", "later.msg", "1.msg", "2.msg"]
        );
        // The flood does not take the last places: a file of another user starts at once, however long these take.
        assert!(first.len() < DROP_VISITS_MAX, "{first:?}");
        turns.look([entry("new.msg", 36, 0)], at(1));
        assert_eq!(begun(&mut turns), ["new.msg"]);
    }

    #[test]
    fn one_user_has_half_of_the_room_and_the_next_half_of_the_rest() {
        let mut turns = DropTurns::new(OWN);
        let files = |uid| (0..50).map(move |number| entry(&format!("{uid}-{number}.msg"), uid, 0));
        turns.look(files(1), at(0));
        assert!(begun(&mut turns).len() <= DROP_VISITS_MAX / 2);
        for uid in 2..5 {
            turns.look(files(uid), at(0));
            assert!(!begun(&mut turns).is_empty(), "{uid}");
        }
        assert!(turns.under_way() <= DROP_VISITS_MAX);
    }

    #[test]
    fn what_the_relay_wrote_for_a_user_takes_that_users_turn() {
        let mut turns = DropTurns::new(OWN);
        let own = (0..200).map(|number| entry(&name_of(&number.to_string(), Some(33)), OWN, 0));
        let pretended = entry(&name_of("x", Some(0)), 34, 5);
        turns.look(
            own.chain([pretended, entry(&name_of("y", Some(35)), OWN, 9)]),
            at(0),
        );
        let first = begun(&mut turns);
        assert_eq!(first[1..3], ["x-0.msg", "y-35.msg"]);
    }

    #[test]
    fn what_is_deferred_waits_longer_each_time_and_what_is_gone_is_forgotten() {
        let mut turns = DropTurns::new(OWN);
        let one = || [entry("a.msg", 1, 0)];
        let mut now = 0;
        for wait in [10, 20, 40, 80] {
            turns.look(one(), at(now));
            assert_eq!(begun(&mut turns), ["a.msg"]);
            // Not begun twice.
            turns.look(one(), at(now + 1_000_000));
            assert!(begun(&mut turns).is_empty());
            assert_eq!(
                turns.defer(OsStr::new("a.msg"), at(now)),
                Duration::from_secs(wait)
            );
            turns.look(one(), at(now + wait - 1));
            assert!(begun(&mut turns).is_empty());
            now += wait;
        }
        turns.look([], at(now));
        turns.look(one(), at(now));
        assert_eq!(begun(&mut turns), ["a.msg"]);
        assert_eq!(turns.defer(OsStr::new("a.msg"), at(now)), DROP_RETRY_MIN);
    }

    #[test]
    fn what_is_done_and_cannot_be_removed_is_not_sent_again() {
        let mut turns = DropTurns::new(OWN);
        let one = || [entry("a.msg", 1, 0)];
        turns.look(one(), at(0));
        assert_eq!(begun(&mut turns), ["a.msg"]);
        turns.close(OsStr::new("a.msg"), Some(Settlement::Remove));
        for now in [10, 20] {
            turns.look(one(), at(now));
            assert_eq!(begun(&mut turns), ["settle a.msg"]);
            turns.close(OsStr::new("a.msg"), Some(Settlement::Remove));
        }
        turns.look(one(), at(30));
        assert_eq!(begun(&mut turns), ["settle a.msg"]);
        turns.close(OsStr::new("a.msg"), None);
        turns.look(one(), at(40));
        assert_eq!(begun(&mut turns), ["a.msg"]);
    }

    #[test]
    fn where_nothing_can_be_removed_little_is_sent() {
        let mut turns = DropTurns::new(OWN);
        let all = || (0..500).map(|number| entry(&format!("{number}.msg"), number, 0));
        let mut sent = 0;
        for now in 0..50 {
            turns.look(all(), at(now));
            for name in begun(&mut turns) {
                let name = match name.strip_prefix("settle ") {
                    Some(name) => name,
                    None => {
                        sent += 1;
                        &name
                    }
                };
                turns.close(OsStr::new(name), Some(Settlement::Remove));
            }
        }
        assert!(sent <= DROP_STUCK_MAX + DROP_VISITS_MAX, "{sent}");
    }

    #[test]
    fn names_of_what_is_not_complete_are_passed_over() {
        let mut turns = DropTurns::new(OWN);
        turns.look(
            [".a.msg", "a", "a.msg~", ".0.bad"].map(|name| entry(name, 1, 0)),
            at(0),
        );
        assert!(begun(&mut turns).is_empty());
    }
}
