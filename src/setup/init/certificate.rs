//! The certificate of a new machine: what `init` does about it.
//!
//! On a machine the daemon obtains and renews it: `[acme]` is part of the chopar.toml that is written. Where one folder is
//! set up, its ports are not those that a CA comes to, and where a chopar.toml is there it is not changed.

use super::machine::{Existing, ExistingCertificate, Place};
use super::step::Entry;
use super::wishes::Certificate;
use crate::address::Domain;

/// Whether a chopar.toml that is written has the daemon obtain certificates.
pub fn is_automatic(wanted: Certificate, place: Place) -> bool {
    wanted == Certificate::Wanted && place == Place::Machine
}

/// What there is to say of the certificate of this host, for a chopar called by this command.
pub fn entry(
    wanted: Certificate,
    place: Place,
    existing: &Existing,
    hostname: &Domain,
    command: &str,
) -> Option<Entry> {
    match existing.certificate {
        ExistingCertificate::Automatic => {
            let text =
                format!("certificates, {hostname}'s too: the daemon obtains and renews them");
            return Some(Entry::Kept(text));
        }
        ExistingCertificate::Coming => {
            let text = format!(
                "[acme] in chopar.toml: the daemon obtains the certificate for {hostname}, which is not there yet, by itself \
                 as soon as the name leads here; {command} doctor says what it waits for"
            );
            return Some(Entry::Kept(text));
        }
        ExistingCertificate::There => {
            return Some(Entry::Kept(format!("the certificate for {hostname}")));
        }
        ExistingCertificate::None => {}
    }
    let is_written = existing.settings.is_none() && is_automatic(wanted, place);
    if is_written || wanted == Certificate::Unwanted {
        return None;
    }
    Some(Entry::Left(format!(
        "a certificate for {hostname}: until there is one, chopar shows one that it signed itself; {command} cert obtain \
         --agree gets one from Let's Encrypt"
    )))
}
