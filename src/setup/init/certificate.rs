//! The certificate of a new machine: what `init` does about it.

use std::path::Path;

use super::plan::Entry;
use crate::address::Domain;

/// What is to be done so that clients see a certificate that they trust, where there is none for the host yet.
pub fn entry(hostname: &Domain, command: &str, tls: &Path) -> Entry {
    Entry::Left(format!(
        "a certificate for {hostname}: until there is one, chopar shows one that it signed itself; obtain one with an ACME \
         client and link its folder, like ln -s /etc/letsencrypt/live/{hostname} {}/, then run {command} check",
        tls.display()
    ))
}
