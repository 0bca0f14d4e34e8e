//! A plain SMTP client that sends exactly what the test says, valid or not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

/// The one socket of a session, shared by its reader, its writer and the session.
#[derive(Clone)]
struct Shared(Arc<TcpStream>);

impl Read for Shared {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        (&*self.0).read(into)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        (&*self.0).flush()
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// An SMTP session.
pub(crate) struct Client {
    stream: Option<Box<dyn Stream>>,
    socket: Arc<TcpStream>,
    unread: Vec<u8>,
    /// The beginning of the last input, for error messages.
    sent: String,
    /// The error that ended the connection.
    end: Option<String>,
}

/// A reply; code 0 means that the connection ended instead.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Client {
    /// Connects over IPv4 and reads the banner.
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        let mut client = Self::open(port).expect("a connection");
        let banner = client.reply();
        assert_eq!(banner.code, 220, "{banner:?}");
        client
    }

    /// Connects over IPv4.
    pub(crate) fn open(port: u16) -> std::io::Result<Self> {
        Self::open_to((Ipv4Addr::LOCALHOST, port).into())
    }

    pub(crate) fn open_to(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    /// Uses an existing connection.
    pub(crate) fn over(socket: TcpStream) -> std::io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
        socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let socket = Arc::new(socket);
        let stream: Box<dyn Stream> = Box::new(Shared(Arc::clone(&socket)));
        Ok(Self {
            stream: Some(stream),
            socket,
            unread: Vec::new(),
            sent: String::new(),
            end: None,
        })
    }

    /// Connects, starts TLS at once and reads the banner.
    #[track_caller]
    pub(crate) fn connect_tls(port: u16) -> Self {
        let mut client = Self::open(port).expect("a connection");
        client.start_tls();
        let banner = client.reply();
        assert_eq!(banner.code, 220, "{banner:?}");
        client
    }

    /// Starts TLS on the connection, without verification.
    pub(crate) fn start_tls(&mut self) {
        let stream = self.stream.take().expect("a stream");
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let name = ServerName::try_from("mail.relay.test").expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("TLS");
        self.stream = Some(Box::new(StreamOwned::new(connection, stream)));
    }

    /// Sends a line and reads the reply.
    pub(crate) fn say(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends bytes. A failure shows when the reply is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.sent = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let stream = self.stream.as_mut().expect("a stream");
        drop(stream.write_all(bytes).and_then(|()| stream.flush()));
    }

    pub(crate) fn reply(&mut self) -> Reply {
        let mut text = String::new();
        loop {
            let Some(line) = self.line() else {
                // A test that expects a reply needs to know why there is none.
                let why = self
                    .end
                    .as_deref()
                    .unwrap_or("the peer closed the connection");
                eprintln!("no reply to {:?} after {text:?}: {why}", self.sent);
                return Reply { code: 0, text };
            };
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            text.push_str(&line);
            text.push('\n');
            if is_last {
                let code = line.get(..3).and_then(|digits| digits.parse().ok());
                return Reply {
                    code: code.unwrap_or_else(|| panic!("no reply: {text:?}")),
                    text,
                };
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.stream.as_mut().expect("a stream").read(&mut buffer) {
                Ok(0) => return None,
                Ok(len) => self.unread.extend_from_slice(&buffer[..len]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    panic!(
                        "{:?} to {:?}: no reply to {:?} within {REPLY_TIMEOUT:?}; so far {:?}",
                        self.socket.local_addr(),
                        self.socket.peer_addr(),
                        self.sent,
                        String::from_utf8_lossy(&self.unread)
                    );
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end = Some(error.to_string());
                    return None;
                }
            }
        }
    }

    /// All output until the connection ends.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = String::new();
        while let Some(line) = self.line() {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    /// Whether output arrives within `limit`.
    pub(crate) fn hears_within(&self, limit: Duration) -> bool {
        self.socket
            .set_read_timeout(Some(limit))
            .expect("a timeout");
        let heard = loop {
            match self.socket.peek(&mut [0]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.is_ok_and(|len| len > 0),
            }
        };
        self.socket
            .set_read_timeout(Some(REPLY_TIMEOUT))
            .expect("a timeout");
        heard
    }

    /// Resets the connection (RFC 9293 section 3.5): sent data may be lost.
    pub(crate) fn abort(self) {
        let socket = socket2::SockRef::from(&*self.socket);
        socket.set_linger(Some(Duration::ZERO)).expect("an option");
    }

    pub(crate) fn auth_plain(&mut self, login: &str, password: &str) -> Reply {
        let response = STANDARD.encode(format!("\0{login}\0{password}"));
        self.say(&format!("AUTH PLAIN {response}"))
    }

    /// Sends a message in one transaction; returns the first negative reply, or the last.
    pub(crate) fn transaction(&mut self, from: &str, to: &[&str], message: &[u8]) -> Reply {
        let reply = self.say(&format!("MAIL FROM:<{from}>"));
        if reply.code != 250 {
            return reply;
        }
        for to in to {
            let reply = self.say(&format!("RCPT TO:<{to}>"));
            if reply.code != 250 {
                return reply;
            }
        }
        let reply = self.say("DATA");
        if reply.code != 354 {
            return reply;
        }
        self.body(message)
    }

    /// Sends a body, dot-stuffed and with its final dot; returns the reply.
    pub(crate) fn body(&mut self, message: &[u8]) -> Reply {
        self.send(&stuffed(message));
        self.reply()
    }
}

/// A body in its dot-stuffed form, with its final dot.
pub(crate) fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// Accepts every certificate: these tests are not about the identity of the relay.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
