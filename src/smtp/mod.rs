//! SMTP (RFC 5321): the grammar, the replies, and both ends of a session.
