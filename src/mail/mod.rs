//! The message itself (RFC 5322): header fields, trace fields, repairs at submission, DSNs.

pub mod address_list;
pub mod authors;
pub mod dsn;
pub mod encoded_word;
pub mod header;
pub mod received;
pub mod submission;
