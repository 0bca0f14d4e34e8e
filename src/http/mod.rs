//! HTTP/1.1 (RFC 9112), as much as pages need that are only read: a request without a body, a response, then the end.
//!
//! One request a connection: every response says `Connection: close`. GET and HEAD are answered, and for Outlook, which asks
//! for its settings so, POST with a short body that nobody reads. Not supported, and refused with the status that says so:
//! other bodies, other methods, other versions, absolute and authority forms of the target.

mod request;
mod response;

pub use request::{Method, Reads, Refusal, Request, RequestReader};
pub use response::{Kind, Response};
