//! Properties that hold for any bytes: one function for each part of chopar that parses external input.
//!
//! Each takes bytes and panics if a property is violated. `make fuzz TARGET=NAME SECONDS=60` lets libFuzzer choose the
//! bytes, starting from `corpus/NAME/`; `cargo test --test fuzz_corpus` replays that corpus and some thousand variants
//! of it. A finding becomes a file of the corpus, and a test beside the code that it broke.

mod acme;
mod aliases;
mod arc;
mod authors;
mod claims;
mod client_session;
mod configuration;
mod dkim_signature;
mod dmarc;
mod dns_answer;
mod doctor;
mod events;
mod greylist;
mod header;
mod hook;
mod http_request;
mod import;
mod journal;
mod proxy;
mod report;
mod sendmail_message;
mod server_session;
mod smtp_command;
mod spf;
mod srs;

pub use acme::acme;
pub use aliases::aliases;
pub use arc::arc;
pub use authors::authors;
pub use claims::claims;
pub use client_session::client_session;
pub use configuration::configuration;
pub use dkim_signature::dkim_signature;
pub use dmarc::dmarc;
pub use dns_answer::dns_answer;
pub use doctor::doctor;
pub use events::{counted, events};
pub use greylist::greylist;
pub use header::header;
pub use hook::hook;
pub use http_request::http_request;
pub use import::{import_chasquid, import_postfix};
pub use journal::journal;
pub use proxy::proxy;
pub use report::report;
pub use sendmail_message::sendmail_message;
pub use server_session::server_session;
pub use smtp_command::smtp_command;
pub use spf::spf;
pub use srs::srs;

/// A function that checks a property for some bytes.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("acme", acme),
    ("aliases", aliases),
    ("arc", arc),
    ("authors", authors),
    ("claims", claims),
    ("client_session", client_session),
    ("configuration", configuration),
    ("dkim_signature", dkim_signature),
    ("dmarc", dmarc),
    ("dns_answer", dns_answer),
    ("doctor", doctor),
    ("events", events),
    ("greylist", greylist),
    ("header", header),
    ("hook", hook),
    ("http_request", http_request),
    ("import_chasquid", import_chasquid),
    ("import_postfix", import_postfix),
    ("journal", journal),
    ("proxy", proxy),
    ("report", report),
    ("sendmail_message", sendmail_message),
    ("server_session", server_session),
    ("smtp_command", smtp_command),
    ("spf", spf),
    ("srs", srs),
];

/// Splits off the first byte, the variant of the target; 0 if there is none.
fn variant(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(variant, rest)| (*variant, rest))
}

/// Whether a text has only CRLF line ends and no NUL.
fn is_clean(text: &[u8]) -> bool {
    let breaks = text
        .iter()
        .filter(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let pairs = text.windows(2).filter(|pair| pair == b"\r\n").count();
    breaks == 2 * pairs && !text.contains(&0)
}
