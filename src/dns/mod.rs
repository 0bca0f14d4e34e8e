//! The stub resolver (RFC 1034, 1035) and the vocabulary of its answers.

mod answer;

pub use answer::{Answer, Mx, NoRecords, Question, RecordKind, Records, Step, Tlsa};
