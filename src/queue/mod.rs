//! The durable queue: a journal of records with group commit.
