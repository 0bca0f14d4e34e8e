//! Requests to an ACME server: HTTP/1.1 over TLS, one connection each, within bounds of time and size.
//!
//! Our own resolver looks up the names, because a static binary has no other; of /etc/hosts only `localhost` is known.
//! Not supported: proxies, redirects (RFC 8555 has none), persistent connections.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::acme::http::{self, AcmeResponse, BodyWanted, Rest};
use crate::acme::{AcmeMethod, AcmeRequest};
use crate::address::Domain;
use crate::config::{Config, DnsSource};
use crate::dns::resolv_conf;
use crate::limits::{ACME_HEAD_BYTES_MAX, ACME_REQUEST_TIMEOUT, ACME_RESPONSE_BYTES_MAX};
use crate::setup::dns_client::DnsClient;
use crate::shell::files::folder::system_defaults;
use crate::shell::net::timed::{DeadlineStream, is_late};
use crate::shell::tls::https_client;

/// An HTTPS client for a CA: it follows no redirect and bounds what it reads.
pub struct Https {
    tls: Arc<ClientConfig>,
    resolvers: Vec<SocketAddr>,
}

impl Https {
    /// With the roots of the system and of `acme.ca_file`.
    pub fn new(config: &Config, folder: &Path) -> Result<Self, String> {
        let more = config.acme.ca_file.as_ref().map(|file| {
            let path = folder.join(file);
            fs::read(&path).map_err(|error| {
                format!("{}: {}; correct acme.ca_file", path.display(), why(&error))
            })
        });
        let more = more.transpose()?;
        Ok(Self {
            tls: https_client(more.as_deref()).map_err(|error| format!("acme.ca_file: {error}"))?,
            resolvers: resolvers(config),
        })
    }

    /// Sends a request and reads the whole response.
    pub fn ask(&self, request: &AcmeRequest) -> Result<AcmeResponse, String> {
        let target = Target::parse(&request.url).ok_or("the URL cannot be asked")?;
        let until = Instant::now() + ACME_REQUEST_TIMEOUT;
        let stream = self.connect(&target)?;
        let name = ServerName::try_from(target.host.to_owned())
            .map_err(|_| format!("{} is not the name of a server", target.host))?;
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)
            .map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, DeadlineStream::new(stream, until));
        exchange(&mut stream, request, &target).map_err(|error| said(&error))
    }

    fn connect(&self, target: &Target<'_>) -> Result<TcpStream, String> {
        let addresses = self.addresses(target.host)?;
        let mut cause = format!("{} has no address", target.host);
        for address in addresses.into_iter().take(ADDRESSES_TRIED) {
            let address = SocketAddr::new(address, target.port);
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    drop(stream.set_nodelay(true));
                    return Ok(stream);
                }
                Err(error) => cause = format!("{address}: {error}"),
            }
        }
        Err(cause)
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let name = Domain::parse(host).map_err(|_| format!("{host} is not the name of a host"))?;
        Ok(DnsClient::new(self.resolvers.clone(), 53).addresses(&name))
    }
}

/// Why a file of the configuration cannot be read: one outside of its folder is closed to a daemon that started without
/// it.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "{error}; where it was added after the start, and lies outside of the configuration folder, restart chopar"
        ),
        _ => error.to_string(),
    }
}

/// The resolvers as they are now.
pub fn resolvers(config: &Config) -> Vec<SocketAddr> {
    match config.dns.source {
        DnsSource::Configuration => config.dns.servers.addresses.clone(),
        DnsSource::System => resolv_conf::parse(&system_defaults().resolv_conf).addresses,
    }
}

/// The parts of a URL.
#[derive(Debug, Eq, PartialEq)]
struct Target<'a> {
    host: &'a str,
    port: u16,
    authority: &'a str,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let path = path.split('#').next()?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']')?;
                (
                    host,
                    behind
                        .strip_prefix(':')
                        .or(behind.is_empty().then_some("443"))?,
                )
            }
            None => authority.split_once(':').unwrap_or((authority, "443")),
        };
        let is_plain = !host.is_empty() && !authority.contains('@');
        // A query without a path has the root before it.
        let is_path = path.is_empty() || path.starts_with('/');
        (is_plain && is_path).then_some(Self {
            host,
            port: port.parse().ok()?,
            authority,
            path: if path.is_empty() { "/" } else { path },
        })
    }
}

type Stream = StreamOwned<ClientConnection, DeadlineStream<TcpStream>>;

fn exchange(
    stream: &mut Stream,
    request: &AcmeRequest,
    target: &Target<'_>,
) -> io::Result<AcmeResponse> {
    let (method, expected) = match request.method {
        AcmeMethod::Get => ("GET", BodyWanted::Expected),
        AcmeMethod::Head => ("HEAD", BodyWanted::None),
        AcmeMethod::Post => ("POST", BodyWanted::Expected),
    };
    let body = request.body.as_deref().unwrap_or_default();
    let mut text = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n",
        target.path, target.authority
    );
    if request.method == AcmeMethod::Post {
        text.push_str(&format!(
            "Content-Type: application/jose+json\r\nContent-Length: {}\r\n",
            body.len()
        ));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut block = [0; 8 * 1024];
    loop {
        let rest = match stream.read(&mut block) {
            Ok(0) => Rest::Closed,
            Ok(len) => {
                bytes.extend_from_slice(block.get(..len).unwrap_or_default());
                Rest::MayFollow
            }
            // Some servers close without the TLS alert; a truncated response is recognized by its length.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Rest::Closed,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.len() > ACME_HEAD_BYTES_MAX + 2 * ACME_RESPONSE_BYTES_MAX {
            return Err(io::Error::other("the response is too long"));
        }
        let found = http::response(&bytes, expected, rest);
        if let Some(response) = found.map_err(|error| io::Error::other(error.to_string()))? {
            return Ok(response);
        }
    }
}

/// An error in words for a person.
fn said(error: &io::Error) -> String {
    match error.kind() {
        _ if is_late(error) => {
            format!("no answer within {} seconds", ACME_REQUEST_TIMEOUT.as_secs())
        }
        _ if error.to_string().contains("UnknownIssuer") => {
            "this host does not trust the issuer of its certificate; set acme.ca_file to the root of a private CA".to_owned()
        }
        _ => error.to_string(),
    }
}

const USER_AGENT: &str = concat!("chopar/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ADDRESSES_TRIED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| Target::parse(url).map(|target| (target.host, target.port, target.path));
        assert_eq!(
            parts("https://ca.test/dir?x=1#y"),
            Some(("ca.test", 443, "/dir?x=1"))
        );
        assert_eq!(
            parts("https://ca.test:14000"),
            Some(("ca.test", 14_000, "/"))
        );
        assert_eq!(
            parts("https://[::1]:14000/dir"),
            Some(("::1", 14_000, "/dir"))
        );
        assert_eq!(parts("https://[::1]/dir"), Some(("::1", 443, "/dir")));
        for url in [
            "http://ca.test/",
            "https://a@ca.test/",
            "https://ca.test:x/",
            "https://",
            "https://[::1]x/",
            "https://ca.test?x",
        ] {
            assert_eq!(parts(url), None, "{url}");
        }
    }
}
