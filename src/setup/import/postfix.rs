//! Postfix: main.cf with the tables that it names, /etc/aliases, and OpenDKIM's keys beside it.
//!
//! Mailboxes of local accounts, virtual mailboxes and filters have no counterpart and are left out. Paths are those of
//! the source; the caller that reads them knows where they lie.

mod accounts;
mod domains;
mod host;
mod relay_host;
mod signing;
mod source;
mod unknown;

use std::collections::BTreeSet;

use super::main_cf::parse;
use super::{ImportResult, SourcePlace};
use source::{MAIN, Postfix, defaults};

pub use source::SourceReader;

/// Understands main.cf. `hostname` is the machine's.
pub fn import(text: &str, hostname: &str, read: &mut SourceReader<'_>) -> ImportResult {
    let main = parse(text);
    let mut import = ImportResult::default();
    for (line, text, why) in &main.others {
        import.leave(&SourcePlace::new(MAIN, *line), text, why);
    }
    let mut postfix = Postfix {
        defaults: defaults(&main, hostname),
        main,
        import,
        read,
        used: BTreeSet::new(),
        origin: None,
    };
    postfix.host();
    postfix.sizes();
    postfix.networks();
    postfix.listeners();
    postfix.relayhost();
    postfix.origin();
    let local = postfix.local_domains();
    postfix.virtual_domains(&local);
    postfix.local_aliases(&local);
    postfix.certificate();
    postfix.keys();
    postfix.rest();
    postfix.import
}
