//! Ports 80 and 443 while a challenge is presented: HTTP-01 (RFC 8555 section 8.3) and TLS-ALPN-01 (RFC 8737).
//!
//! A thread answers each client, a few at a time and each for a short while. An HTTP client gets the file of the
//! challenge, or 404. A TLS client gets the certificate of the challenge if it asks for its name with `acme-tls/1`;
//! otherwise the handshake fails. If more clients connect than are served at a time, one of the site with the most
//! connections is closed ([`EvictionQueue`]): idle connections do not keep the CA out, and many connections do not disconnect
//! it. Dropping the responder closes the ports.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

use crate::acme::{ChallengeKind, ChallengeProof};
use crate::http::{ContentKind, HttpMethod, HttpRequest, HttpResponse, RequestReader};
use crate::limits::{ACME_VISIT_TIMEOUT, ACME_VISITORS_MAX};
use crate::policy::eviction::EvictionQueue;
use crate::shell::net::listen::bound;
use crate::shell::net::timed::DeadlineStream;

/// Shows one challenge until it is dropped.
pub struct Responder {
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// How visitors are answered.
enum Show {
    /// `GET` of this path has this body.
    File { path: String, body: String },
    /// A handshake.
    Tls(Arc<ServerConfig>),
}

impl Responder {
    /// Presents a challenge on these sockets; if there are none, on all addresses of this port.
    pub fn start(
        challenge: &ChallengeProof,
        passed: &[TcpListener],
        port: u16,
    ) -> Result<Self, String> {
        let show = match challenge.kind {
            ChallengeKind::TlsAlpn01 => Show::Tls(alpn_config(challenge)?),
            ChallengeKind::Http01 | ChallengeKind::Dns01 => Show::File {
                path: format!("/.well-known/acme-challenge/{}", challenge.token),
                body: challenge.key_authorization.clone(),
            },
        };
        let listeners = match passed {
            [] => bind(port).map_err(|error| refused(challenge.kind, port, &error))?,
            passed => passed
                .iter()
                .map(TcpListener::try_clone)
                .collect::<io::Result<_>>()
                .map_err(|error| error.to_string())?,
        };
        let (stop, stopped) = UnixStream::pair().map_err(|error| error.to_string())?;
        let show = Arc::new(show);
        let thread = thread::Builder::new()
            .name("challenge".into())
            .spawn(move || serve(&listeners, &stopped, &show))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// All addresses; a machine without one of the families does with the other.
fn bind(port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut failed = None;
    for address in [
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ] {
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Why the port could not be bound, with the remedy.
fn refused(kind: ChallengeKind, port: u16, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => {
            let other = match kind {
                ChallengeKind::TlsAlpn01 => ChallengeKind::Http01,
                _ => ChallengeKind::TlsAlpn01,
            };
            format!(
                "port {port} is taken by another program, which {kind} needs for a moment; stop it meanwhile, or set \
                 acme.challenge to {other} or dns-01"
            )
        }
        ErrorKind::PermissionDenied => format!(
            "port {port} may not be bound; run it as root (sudo), or restart the daemon as root or with CAP_NET_BIND_SERVICE"
        ),
        _ => format!("port {port} cannot be bound: {error}"),
    }
}

fn serve(listeners: &[TcpListener], stopped: &UnixStream, show: &Arc<Show>) {
    let mut visitors = Visitors::default();
    loop {
        let mut watched = vec![PollFd::new(stopped, PollFlags::IN)];
        watched.extend(
            listeners
                .iter()
                .map(|one| PollFd::from_borrowed_fd(one.as_fd(), PollFlags::IN)),
        );
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        if watched.first().is_some_and(|one| !one.revents().is_empty()) {
            return;
        }
        for listener in listeners {
            match listener.accept() {
                Ok((stream, client)) => visitors.receive(stream, client.ip(), show),
                Err(error) if is_of_one(&error) => {}
                // No descriptors or no memory for a moment: waiting clients keep waiting.
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }
}

/// Whether the error concerns only one client, such as one that has disconnected: the next can be accepted at once.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}

#[derive(Default)]
struct Visitors {
    there: EvictionQueue<Weak<TcpStream>>,
    /// One more for each thread.
    threads: Arc<()>,
}

impl Visitors {
    /// Starts a thread for a client. Past the bound another client is disconnected, which ends its thread. Waits a
    /// moment for such threads to end; if there are still too many, the new client is disconnected.
    fn receive(&mut self, stream: TcpStream, client: IpAddr, show: &Arc<Show>) {
        self.there.retain(|one| one.strong_count() > 0);
        let stream = Arc::new(stream);
        self.there.enter(Arc::downgrade(&stream), Some(client));
        if self.there.len() > ACME_VISITORS_MAX
            && let Some(other) = self.there.make_room().and_then(|one| one.upgrade())
        {
            // It may be gone by itself.
            drop(other.shutdown(Shutdown::Both));
        }
        let are_too_many = || Arc::strong_count(&self.threads) > 2 * ACME_VISITORS_MAX;
        let waited_from = Instant::now();
        while are_too_many() && waited_from.elapsed() < ACCEPT_PAUSE {
            thread::sleep(THREAD_END_PAUSE);
        }
        if are_too_many() {
            return;
        }
        let (counted, show) = (Arc::clone(&self.threads), Arc::clone(show));
        let work = move || {
            // A client that has disconnected gets no answer.
            drop(match &*show {
                Show::File { path, body } => visit(&stream, path, body),
                Show::Tls(config) => shake_hands(&stream, config),
            });
            drop(counted);
        };
        // Without a thread the connection is closed.
        drop(thread::Builder::new().spawn(work));
    }
}

fn visit(stream: &TcpStream, path: &str, body: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut stream = DeadlineStream::new(stream, Instant::now() + ACME_VISIT_TIMEOUT);
    let mut reader = RequestReader::default();
    let mut block = [0; 1_024];
    let (method, response) = loop {
        let len = stream.read(&mut block)?;
        if len == 0 {
            return Ok(());
        }
        match reader.read(block.get(..len).unwrap_or_default()) {
            Ok(None) => {}
            Ok(Some(request)) => break (request.method, answer(&request, path, body)),
            Err(refusal) => break (HttpMethod::Get, HttpResponse::refused(refusal)),
        }
    };
    stream.write_all(&response.into_bytes(method))
}

/// The response to a request: the file of the challenge, or that there is nothing. It is the CA's to know by which name
/// it has come.
fn answer(request: &HttpRequest, path: &str, body: &str) -> HttpResponse {
    match request.path == path && request.query.is_none() {
        true => HttpResponse::ok(ContentKind::Bytes, body),
        false => HttpResponse::not_found(),
    }
}

fn shake_hands(stream: &TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut stream = DeadlineStream::new(stream, Instant::now() + ACME_VISIT_TIMEOUT);
    let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut stream)?;
    }
    Ok(())
}

/// TLS that presents the certificate of a challenge, and only to a client that asks for it.
fn alpn_config(challenge: &ChallengeProof) -> Result<Arc<ServerConfig>, String> {
    let text = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::new(vec![challenge.domain.clone()]).map_err(text)?;
    let digest = CustomExtension::new_acme_identifier(&challenge.digest());
    params.custom_extensions = vec![digest];
    let certificate = params.self_signed(&key).map_err(text)?;
    let provider = Arc::new(ring::default_provider());
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| error.to_string())?;
    let shown = Proof {
        domain: challenge.domain.clone(),
        certified: Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing)),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The certificate of a challenge.
#[derive(Debug)]
struct Proof {
    domain: String,
    certified: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Proof {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_asked = hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|one| one == ALPN));
        let is_named = hello
            .server_name()
            .is_some_and(|name| name.eq_ignore_ascii_case(&self.domain));
        (is_asked && is_named).then(|| Arc::clone(&self.certified))
    }
}

const ALPN: &[u8] = b"acme-tls/1";
const BACKLOG: i32 = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const THREAD_END_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_of_the_challenge_is_shown() {
        let is_shown = |target: &str| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let request = RequestReader::default().read(request.as_bytes());
            let request = request.ok().flatten().expect("a request");
            answer(&request, "/.well-known/acme-challenge/t", "t.key").status() == 200
        };
        assert!(is_shown("/.well-known/acme-challenge/t"));
        for target in [
            "/.well-known/acme-challenge/tt",
            "/.well-known/acme-challenge/t?",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/../t",
            "/",
        ] {
            assert!(!is_shown(target), "{target}");
        }
    }

    /// A proof that is shown on a passed socket, which stays open as long as it is held.
    fn shown(kind: ChallengeKind) -> (TcpListener, Responder, SocketAddr) {
        let challenge = ChallengeProof {
            kind,
            domain: "a.test".into(),
            token: "t".into(),
            key_authorization: "t.key".into(),
        };
        let passed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        passed.set_nonblocking(true).expect("set");
        let address = passed.local_addr().expect("an address");
        // A port that nobody may bind here shows that none is bound.
        let sockets = std::slice::from_ref(&passed);
        let responder = Responder::start(&challenge, sockets, 1).expect("it listens");
        (passed, responder, address)
    }

    #[test]
    fn a_passed_socket_is_used_and_stays_open() {
        let (_passed, responder, address) = shown(ChallengeKind::TlsAlpn01);
        let mut stream = TcpStream::connect(address).expect("connected");
        // No name and no protocol: no handshake.
        stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .expect("written");
        let mut said = Vec::new();
        // A reset is as good an end.
        drop(stream.read_to_end(&mut said));
        assert!(!said.starts_with(b"HTTP"), "{said:?}");
        drop(responder);
        TcpStream::connect(address).expect("the one who passed it has it");
    }

    #[test]
    fn idle_connections_do_not_keep_the_ca_out() {
        let (_passed, responder, address) = shown(ChallengeKind::Http01);
        let begun = Instant::now();
        let connect = |_| TcpStream::connect(address).expect("connected");
        let mut idle: Vec<TcpStream> = (0..ACME_VISITORS_MAX).map(connect).collect();
        let mut stream = connect(0);
        stream
            .write_all(b"GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .expect("written");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("t.key"), "{response}");
        let mut said = Vec::new();
        drop(idle[0].read_to_end(&mut said));
        assert!(begun.elapsed() < ACME_VISIT_TIMEOUT, "the oldest had to go");
        drop(responder);
    }

    #[test]
    fn a_crowd_of_another_site_does_not_send_the_ca_away() {
        let (_passed, responder, address) = shown(ChallengeKind::Http01);
        let connect = |from: [u8; 4]| {
            let kind = socket2::Type::STREAM;
            let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None).expect("a socket");
            socket
                .bind(&SocketAddr::from((from, 0)).into())
                .expect("a source");
            socket.connect(&address.into()).expect("connected");
            TcpStream::from(socket)
        };
        let mut ca = connect([127, 1, 1, 1]);
        let crowd: Vec<TcpStream> = (0..8 * ACME_VISITORS_MAX)
            .map(|number| connect([127, 0, 0, 1 + (number % 200) as u8]))
            .collect();
        // The last of them is served or gone, so all before it have been received.
        let mut last = &crowd[crowd.len() - 1];
        last.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .expect("written");
        drop(last.read_to_end(&mut Vec::new()));
        ca.write_all(b"GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .expect("written");
        let mut response = String::new();
        ca.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("t.key"), "{response}");
        drop(responder);
    }

    #[test]
    fn the_port_is_closed_when_it_is_over() {
        let challenge = ChallengeProof {
            kind: ChallengeKind::Http01,
            domain: "a.test".into(),
            token: "t".into(),
            key_authorization: "t.key".into(),
        };
        let passed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = passed.local_addr().expect("an address").port();
        drop(passed);
        let responder = Responder::start(&challenge, &[], port).expect("it listens");
        let error = Responder::start(&challenge, &[], port)
            .err()
            .expect("it is taken");
        assert!(error.contains("taken by another program"), "{error}");
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
        stream
            .write_all(b"GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .expect("written");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("a response");
        assert!(response.ends_with("t.key"), "{response}");
        drop(responder);
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("closed");
    }
}
