//! Decisions: who may relay, where a recipient goes, when to try again.
