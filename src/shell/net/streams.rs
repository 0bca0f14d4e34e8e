//! The connections of the event loop: all of them, those with work to do, and those that wait for their close.
//!
//! Invariant: output that was queued before a close is offered to the kernel before the connection is dropped, whatever
//! the number of closing connections. If more than [`LINGERING_MAX`] linger, connections without a session are dropped
//! first, and of these the one with the earliest deadline.

use std::collections::{BTreeSet, VecDeque};

use crate::clock::Instant;
use crate::engine::event::ConnId;
use crate::limits::{LINGERING_MAX, SESSIONS_MAX_DEFAULT};
use crate::shell::net::slab::Slab;
use crate::shell::net::stream::Stream;

/// All connections, by the index that is in their token.
pub(in crate::shell) struct Streams {
    /// Boxed, so that the table is small when many clients have disconnected.
    streams: Slab<Box<Entry>>,
    /// The index of each connection, by the slot of the engine's id.
    slots: Vec<Option<(ConnId, usize)>>,
    ready: VecDeque<usize>,
    stalled: Vec<usize>,
    unwritten: Vec<usize>,
    /// Closing connections that have been written to since: the time at which each is dropped, in the order of
    /// dropping.
    closing: [BTreeSet<(Instant, usize)>; 2],
}

/// The purpose of a connection, in the order in which closing connections are dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::shell) enum Use {
    /// A short exchange without a session: a refusal, or a page.
    Brief,
    /// A session, of the server or a client.
    Session,
}

struct Entry {
    stream: Stream,
    purpose: Use,
    /// Its position in `closing`.
    drop_at: Option<Instant>,
    listed: Listed,
    unwritten: bool,
}

/// The lists that contain an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Listed {
    Nowhere,
    Ready,
    Stalled,
}

impl Streams {
    /// Tables with room for the maximum number of sessions. Unused pages cost nothing.
    pub(in crate::shell) fn new() -> Self {
        Self {
            streams: Slab::with_capacity(SESSIONS_MAX_DEFAULT),
            slots: Vec::with_capacity(SESSIONS_MAX_DEFAULT),
            ready: VecDeque::with_capacity(SESSIONS_MAX_DEFAULT),
            stalled: Vec::with_capacity(SESSIONS_MAX_DEFAULT),
            unwritten: Vec::with_capacity(SESSIONS_MAX_DEFAULT),
            closing: [BTreeSet::new(), BTreeSet::new()],
        }
    }

    /// The index of the next connection.
    pub(in crate::shell) fn next_key(&self) -> usize {
        self.streams.next_key()
    }

    /// Adds a connection that the engine knows, and marks it to be served.
    pub(in crate::shell) fn insert(&mut self, conn: ConnId, stream: Stream, purpose: Use) -> usize {
        let key = self.add(stream, purpose);
        let slot = conn.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot.saturating_add(1), None);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some((conn, key));
        }
        key
    }

    /// Adds a connection that the engine does not know.
    pub(in crate::shell) fn insert_nameless(&mut self, stream: Stream) -> usize {
        self.add(stream, Use::Brief)
    }

    fn add(&mut self, stream: Stream, purpose: Use) -> usize {
        let key = self.streams.insert(Box::new(Entry {
            stream,
            purpose,
            drop_at: None,
            listed: Listed::Nowhere,
            unwritten: false,
        }));
        self.make_ready(key);
        key
    }

    /// The index of a connection that the engine has not closed.
    pub(in crate::shell) fn key(&self, conn: ConnId) -> Option<usize> {
        let (named, key) = (*self.slots.get(conn.slot as usize)?)?;
        (named == conn).then_some(key)
    }

    pub(in crate::shell) fn get_mut(&mut self, key: usize) -> Option<&mut Stream> {
        Some(&mut self.streams.get_mut(key)?.stream)
    }

    /// Forgets the engine's id; the connection may remain until its orderly close.
    pub(in crate::shell) fn forget(&mut self, conn: ConnId) -> Option<usize> {
        let key = self.key(conn)?;
        *self.slots.get_mut(conn.slot as usize)? = None;
        Some(key)
    }

    /// Closes in order once the output is written.
    pub(in crate::shell) fn close(&mut self, key: usize) {
        if let Some(entry) = self.streams.get_mut(key)
            && !entry.stream.is_closing()
        {
            entry.stream.close();
            self.make_unwritten(key);
        }
    }

    /// Drops a connection.
    pub(in crate::shell) fn remove(&mut self, key: usize) {
        if let Some(entry) = self.streams.remove(key)
            && let Some(at) = entry.drop_at
        {
            self.closing_as(entry.purpose).remove(&(at, key));
        }
    }

    fn closing_as(&mut self, purpose: Use) -> &mut BTreeSet<(Instant, usize)> {
        let [brief, sessions] = &mut self.closing;
        match purpose {
            Use::Brief => brief,
            Use::Session => sessions,
        }
    }

    /// Marks a connection to be served.
    pub(in crate::shell) fn make_ready(&mut self, key: usize) {
        if let Some(entry) = self.streams.get_mut(key)
            && entry.listed != Listed::Ready
        {
            entry.listed = Listed::Ready;
            self.ready.push_back(key);
        }
    }

    /// Marks a connection with input that the engine does not want yet.
    pub(in crate::shell) fn stall(&mut self, key: usize) {
        if let Some(entry) = self.streams.get_mut(key)
            && entry.listed == Listed::Nowhere
        {
            entry.listed = Listed::Stalled;
            self.stalled.push(key);
        }
    }

    /// Marks a connection with output.
    pub(in crate::shell) fn make_unwritten(&mut self, key: usize) {
        if let Some(entry) = self.streams.get_mut(key)
            && !entry.unwritten
        {
            entry.unwritten = true;
            self.unwritten.push(key);
        }
    }

    /// Whether output of a connection is still in its buffer.
    pub(in crate::shell) fn has_output(&self, conn: ConnId) -> bool {
        let entry = self.key(conn).and_then(|key| self.streams.get(key));
        entry.is_some_and(|entry| entry.stream.has_output())
    }

    /// Whether any has output to write.
    pub(in crate::shell) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// The next one with output to write.
    pub(in crate::shell) fn next_unwritten(&mut self) -> Option<usize> {
        let key = self.unwritten.pop()?;
        if let Some(entry) = self.streams.get_mut(key) {
            entry.unwritten = false;
        }
        Some(key)
    }

    /// The number of connections to be served.
    pub(in crate::shell) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// The next connection to be served.
    pub(in crate::shell) fn next_ready(&mut self) -> Option<usize> {
        let key = self.ready.pop_front()?;
        if let Some(entry) = self.streams.get_mut(key) {
            entry.listed = Listed::Nowhere;
        }
        Some(key)
    }

    /// Marks stalled connections whose input the engine wants now.
    pub(in crate::shell) fn wake_stalled(&mut self, wanted: impl Fn(ConnId) -> bool) {
        let mut stalled = std::mem::take(&mut self.stalled);
        stalled.retain(|&key| {
            let Some(entry) = self.streams.get_mut(key) else {
                return false;
            };
            if entry.listed != Listed::Stalled {
                return false;
            }
            if !entry.stream.may_read(wanted(entry.stream.conn)) {
                return true;
            }
            entry.listed = Listed::Ready;
            self.ready.push_back(key);
            false
        });
        self.stalled = stalled;
    }

    /// Sets the time at which a closing connection is dropped, unless an earlier one is set.
    pub(in crate::shell) fn drop_at(&mut self, key: usize, at: Instant) {
        let Some(entry) = self.streams.get_mut(key) else {
            return;
        };
        let (purpose, before) = (entry.purpose, entry.drop_at);
        let at = before.map_or(at, |before| before.min(at));
        entry.drop_at = Some(at);
        let closing = self.closing_as(purpose);
        if let Some(before) = before {
            closing.remove(&(before, key));
        }
        closing.insert((at, key));
    }

    /// The next time at which a connection is dropped.
    pub(in crate::shell) fn deadline(&self) -> Option<Instant> {
        let firsts = self.closing.iter().filter_map(BTreeSet::first);
        firsts.map(|(at, _)| *at).min()
    }

    /// Drops connections whose time has come.
    pub(in crate::shell) fn expire(&mut self, now: Instant) {
        while let Some(&(_, key)) = self
            .closing
            .iter()
            .filter_map(BTreeSet::first)
            .find(|(at, _)| *at <= now)
        {
            self.remove(key);
        }
    }

    /// Drops connections beyond the number that may linger. Their output has been offered before.
    pub(in crate::shell) fn make_room(&mut self) {
        self.make_room_beyond(LINGERING_MAX);
    }

    fn make_room_beyond(&mut self, most: usize) {
        let waiting = self.closing.iter().map(BTreeSet::len).sum::<usize>();
        for _ in most..waiting {
            let first = self.closing.iter().find_map(BTreeSet::first);
            if let Some(&(_, key)) = first {
                self.remove(key);
            }
        }
    }

    pub(in crate::shell) fn len(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
mod tests;
