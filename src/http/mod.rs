//! HTTP/1.1 (RFC 9112) for read-only pages: a request without a body, a response, then the end.
//!
//! One request per connection: every response says `Connection: close`. GET and HEAD are answered, and also POST with a
//! short body that is discarded, because Outlook requests its settings that way. Not supported, and refused with the
//! matching status: other bodies, other methods, other versions, and the absolute and authority forms of the target.

mod request;
mod response;

pub use request::{HttpMethod, HttpRefusal, HttpRequest, Reads, RequestReader};
pub use response::{ContentKind, HttpResponse};
