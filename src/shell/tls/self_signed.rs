//! The certificate that is presented if there is no other.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Made;
use crate::address::Domain;
use crate::date::Timestamp;
use crate::limits::SELF_SIGNED_LIFETIME;
use crate::shell::certificates::certificate::ServableCertificate;
use crate::shell::certificates::last_good;
use crate::shell::certificates::pairs::PairFiles;

/// Makes a certificate for the hostname, of the hostname.
pub(super) fn self_signed(
    hostname: &Domain,
    now: Timestamp,
    provider: &CryptoProvider,
) -> Result<Made, String> {
    let made = made(hostname, now).map_err(|error| error.to_string())?;
    let (certificate, key) = made;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let pem = last_good::pem(&key, &[certificate.der().clone()]);
    let pair = PairFiles {
        chain: certificate.pem().into_bytes(),
        key: pem,
        bare_key: None,
    };
    let certificate =
        ServableCertificate::judge(&pair, provider).map_err(|fault| fault.to_string())?;
    Ok(Made::new(&pair, certificate))
}

fn made(hostname: &Domain, now: Timestamp) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![hostname.as_str().to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    if hostname.as_str().len() <= COMMON_NAME_BYTES_MAX {
        let name = hostname.as_str();
        params.distinguished_name.push(DnType::CommonName, name);
    }
    // Clocks of clients may be late.
    let yesterday = now.seconds().saturating_sub(86_400);
    for (at, date) in [
        (Timestamp::from_seconds(yesterday), &mut params.not_before),
        (now.after(SELF_SIGNED_LIFETIME), &mut params.not_after),
    ] {
        let text = at.rfc3339().to_string();
        let mut numbers = text.split(['-', 'T']).map(|text| text.parse::<u16>().ok());
        let mut number = || numbers.next().flatten();
        if let (Some(year), Some(month), Some(day)) = (number(), number(), number())
            && let (Ok(month), Ok(day)) = (u8::try_from(month), u8::try_from(day))
        {
            *date = rcgen::date_time_ymd(i32::from(year), month, day);
        }
    }
    let certificate = params.self_signed(&key)?;
    Ok((certificate, key))
}

/// The longest common name (RFC 5280 appendix A.1, ub-common-name).
const COMMON_NAME_BYTES_MAX: usize = 64;
