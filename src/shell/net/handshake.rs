//! A TLS handshake in the role of a client, to see what the server presents. For `chopar doctor`, never for the relay.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, ClientConnection, ProtocolVersion, StreamOwned};

use crate::address::Domain;
use crate::date::Timestamp;
use crate::shell::certificates::certificate;
use crate::shell::certificates::roots::root_store;
use crate::shell::net::timed::DeadlineStream;
use crate::shell::tls::{Unverified, server_name};

/// The versions to offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// TLS 1.2 and 1.3.
    Both,
    /// TLS 1.2 alone.
    Tls12,
    /// TLS 1.3 alone.
    Tls13,
}

/// Obsolete versions (RFC 8996).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Old {
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
}

/// The data that the server has presented.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HandshakeResult {
    /// The negotiated version.
    pub version: &'static str,
    /// Whether the chain leads to a root of the system, ignoring validity; otherwise the reason.
    pub chain: Result<(), String>,
    /// Whether the certificate is for the requested name.
    pub has_name: bool,
    pub names: Vec<Box<str>>,
    /// The validity, if it can be read.
    pub validity: Option<(Timestamp, Timestamp)>,
    /// Whether the certificate is self-signed.
    pub is_self_signed: bool,
}

/// A connection under TLS.
pub type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Performs a handshake for a name, and accepts every certificate; returns the connection and the server's data, or the
/// error.
pub fn shake(
    stream: TcpStream,
    name: &Domain,
    offer: Offer,
    now: Timestamp,
) -> Result<(Secured, HandshakeResult), String> {
    let asked = server_name(name).ok_or_else(|| format!("{name} cannot be asked for"))?;
    let config = taking_every_certificate(offer).map_err(|error| error.to_string())?;
    let connection =
        ClientConnection::new(config, asked.clone()).map_err(|error| error.to_string())?;
    let mut secured = StreamOwned::new(connection, stream);
    finish(&mut secured).map_err(|error| error.to_string())?;
    let version = match secured.conn.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "TLSv1.2",
    };
    let chain = secured.conn.peer_certificates().unwrap_or_default();
    let (end, rest) = chain
        .split_first()
        .ok_or("the server has shown no certificate")?;
    let seen = certificate::seen(end);
    let validity = seen.as_ref().and_then(|seen| seen.validity);
    let validity = validity.map(|validity| (validity.from, validity.to));
    let shown = HandshakeResult {
        version,
        has_name: has_name(end, &asked),
        chain: judged(end, rest, &asked, while_valid(validity, now))?,
        names: seen
            .as_ref()
            .map(|seen| seen.names.clone())
            .unwrap_or_default(),
        validity,
        is_self_signed: seen.is_some_and(|seen| seen.is_self_issued),
    };
    Ok((secured, shown))
}

/// A client that accepts every certificate.
fn taking_every_certificate(offer: Offer) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[_] = match offer {
        Offer::Both => &[&TLS12, &TLS13],
        Offer::Tls12 => &[&TLS12],
        Offer::Tls13 => &[&TLS13],
    };
    let unverified = Unverified(provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(unverified))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The time at which the chain is verified. Expiry is checked separately.
fn while_valid(validity: Option<(Timestamp, Timestamp)>, now: Timestamp) -> Timestamp {
    match validity {
        Some((from, to)) => now
            .max(from)
            .min(Timestamp::from_seconds(to.seconds().saturating_sub(1))),
        None => now,
    }
}

/// Whether a chain leads to a root of the system, whatever its name; otherwise why not.
fn judged(
    end: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    asked: &ServerName<'_>,
    at: Timestamp,
) -> Result<Result<(), String>, String> {
    let provider = Arc::new(ring::default_provider());
    let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(root_store()), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.seconds()));
    Ok(match roots.verify_server_cert(end, rest, asked, &[], at) {
        Ok(_)
        | Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
}

/// The timeout of the socket applies to the whole handshake.
fn finish(secured: &mut Secured) -> io::Result<()> {
    let timeout = secured.sock.read_timeout()?;
    let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let writes = secured.sock.write_timeout()?;
    while secured.conn.is_handshaking() {
        match until {
            Some(until) => secured
                .conn
                .complete_io(&mut DeadlineStream::new(&secured.sock, until))?,
            None => secured.conn.complete_io(&mut secured.sock)?,
        };
    }
    secured.sock.set_read_timeout(timeout)?;
    secured.sock.set_write_timeout(writes)
}

fn has_name(end: &CertificateDer<'_>, asked: &rustls::pki_types::ServerName<'_>) -> bool {
    rustls::server::ParsedCertificate::try_from(end)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, asked).is_ok())
}

/// Whether a server accepts an obsolete version, as its first response to a ClientHello of that version shows.
pub fn speaks(stream: &mut TcpStream, old: Old, random: &[u8; 32]) -> io::Result<bool> {
    stream.write_all(&greeting(old, random))?;
    let mut front = [0; 6];
    match stream.read_exact(&mut front) {
        // A handshake record that begins with ServerHello: it accepts. An alert: it does not.
        Ok(()) => Ok(front.first() == Some(&HANDSHAKE) && front.last() == Some(&SERVER_HELLO)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error),
    }
}

/// ClientHello of an old version in a record of its own (RFC 2246 and RFC 4346 section 7.4.1.2), with the cipher suites
/// of servers of that time, and the curves and point formats that they need.
fn greeting(old: Old, random: &[u8; 32]) -> Vec<u8> {
    let minor = match old {
        Old::Tls10 => 1,
        Old::Tls11 => 2,
    };
    // ECDHE-RSA, ECDHE-ECDSA and RSA with AES-CBC and SHA-1.
    const SUITES: [u8; 12] = [
        0xc0, 0x13, 0xc0, 0x14, 0xc0, 0x09, 0xc0, 0x0a, 0, 0x2f, 0, 0x35,
    ];
    const EXTENSIONS: [u8; 16] = [
        0, 10, 0, 6, 0, 4, 0, 23, 0, 29, // supported_groups: P-256, X25519
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
    ];
    let mut body = vec![3, minor];
    body.extend_from_slice(random);
    body.extend_from_slice(&[0, 0, SUITES.len() as u8]);
    body.extend_from_slice(&SUITES);
    body.extend_from_slice(&[1, 0, 0, EXTENSIONS.len() as u8]);
    body.extend_from_slice(&EXTENSIONS);
    let mut message = vec![CLIENT_HELLO, 0, 0, body.len() as u8]; // all of it is shorter than 256 bytes
    message.extend_from_slice(&body);
    let mut record = vec![HANDSHAKE, 3, 1, 0, message.len() as u8];
    record.extend_from_slice(&message);
    record
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_in_a_greeting_fit() {
        for (old, minor) in [(Old::Tls10, 1), (Old::Tls11, 2)] {
            let greeting = greeting(old, &[7; 32]);
            assert_eq!(usize::from(greeting[4]), greeting.len() - 5);
            assert_eq!(usize::from(greeting[8]), greeting.len() - 9);
            assert_eq!(&greeting[9..11], &[3, minor]);
        }
    }
}
