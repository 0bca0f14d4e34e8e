//! The whole relay as one state machine: events in, actions out.
