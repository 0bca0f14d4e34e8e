//! HTTP/1.1 (RFC 9112), as much as pages need that are only read: a request without a body, a response, then the end.
//!
//! One request a connection: every response says `Connection: close`. Only GET and HEAD are answered. Not supported, and
//! refused with the status that says so: bodies, other methods, other versions, absolute and authority forms of the target.

mod request;
mod response;

pub use request::{Method, Refusal, Request, RequestReader};
pub use response::{Kind, Response};
