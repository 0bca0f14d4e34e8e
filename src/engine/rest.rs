//! What a crowd has left of memory, given back once it has gone.
//!
//! A table that grew while the heap was full of other things lies behind them, and whatever lies behind keeps all of the
//! heap in front of it. So, while nobody is connected, small tables are made anew: the allocator puts them into what
//! came free in front.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;

impl Engine {
    /// Moves the tables to where there is room for them. Costs little, and nothing while anybody is connected.
    pub fn rest(&mut self) {
        if !self.conns.is_empty() || self.index.len() > MOVED_MAX {
            return;
        }
        if self.tickets.is_empty() {
            // An empty map keeps its last node.
            self.tickets = BTreeMap::new();
        }
        if self.actions.is_empty() {
            self.actions = VecDeque::new();
        }
        self.jobs.shrink_to_fit();
        self.spilling.shrink_to_fit();
        self.questions.rest();
        self.index.rest();
        self.hops.rest();
        self.notices.rest();
        self.resolver.rest();
    }
}

/// Entries of a table that are few enough to be moved.
const MOVED_MAX: usize = 1_000;
