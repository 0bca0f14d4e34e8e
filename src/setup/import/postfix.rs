//! Postfix: main.cf with the tables that it names, /etc/aliases, and OpenDKIM's keys beside it.
//!
//! What is a local account's mailbox, a virtual mailbox or a filter has no counterpart and is left. Paths are the
//! source's; whoever reads them says where they lie.

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
