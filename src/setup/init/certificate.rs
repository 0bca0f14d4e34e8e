//! The certificate of a new machine: what `init` plans for it.
//!
//! On a machine the daemon obtains and renews the certificate: `[acme]` is part of the new chopar.toml. If only one
//! folder is set up, the daemon does not obtain one, because a CA does not connect to the ports of such a set-up. An
//! existing chopar.toml is not changed.

use super::machine::{Existing, ExistingCertificate, InstallPlace};
use super::options::CertificateWish;
use super::step::PlanLine;
use crate::address::Domain;

/// Whether a new chopar.toml lets the daemon obtain certificates.
pub fn is_automatic(wanted: CertificateWish, place: InstallPlace) -> bool {
    wanted == CertificateWish::Wanted && place == InstallPlace::Machine
}

/// The entry about the certificate of this host, for a chopar called by this command.
pub fn entry(
    wanted: CertificateWish,
    place: InstallPlace,
    existing: &Existing,
    hostname: &Domain,
    command: &str,
) -> Option<PlanLine> {
    match existing.certificate {
        ExistingCertificate::Automatic => {
            let text =
                format!("certificates, {hostname}'s too: the daemon obtains and renews them");
            return Some(PlanLine::Kept(text));
        }
        ExistingCertificate::AutomaticCertificate => {
            let text = format!(
                "[acme] in chopar.toml: the daemon obtains the certificate for {hostname} as soon as the name leads \
                 here; {command} doctor shows what it waits for"
            );
            return Some(PlanLine::Kept(text));
        }
        ExistingCertificate::There => {
            return Some(PlanLine::Kept(format!("the certificate for {hostname}")));
        }
        ExistingCertificate::None => {}
    }
    let is_written = existing.settings.is_none() && is_automatic(wanted, place);
    if is_written || wanted == CertificateWish::Unwanted {
        return None;
    }
    Some(PlanLine::Left(format!(
        "a certificate for {hostname}: until then chopar uses a self-signed one; {command} cert obtain --agree gets \
         one from Let's Encrypt"
    )))
}
