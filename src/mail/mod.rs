//! The message itself (RFC 5322): header fields, trace, repairs at submission, notifications.

pub mod address_list;
pub mod authors;
pub mod dsn;
pub mod encoded_word;
pub mod header;
pub mod received;
pub mod submission;
