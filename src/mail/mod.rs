//! The message itself (RFC 5322): header fields, trace, repairs at submission, notifications.
