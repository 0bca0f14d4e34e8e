//! The stub resolver (RFC 1034, 1035) and the types of its answers.
//!
//! [`Resolver`] turns a [`Question`] into an [`Answer`] without touching a socket; [`mail_hosts`] orders the hosts of
//! an MX answer; [`resolv_conf`] reads the addresses of the name servers.

mod answer;
mod cache;
mod message;
mod mx;
mod name;
mod resolver;
mod servers;
mod zone_reply;

pub mod resolv_conf;

pub use answer::{
    Answer, Mx, NoRecords, Question, RecordKind, Records, Step, Tlsa, verdict, zone_of,
};
pub use mx::{MailHost, MailHosts, NoMailHosts, mail_hosts};
pub use name::reverse_name;
pub use resolver::{Asked, DnsAction, QuestionId, Resolver, SocketId};
pub use servers::Servers;
pub use zone_reply::{
    Recursion, Srv, ZoneData, ZoneKind, ZoneRecord, ZoneReply, zone_query, zone_reply,
};
