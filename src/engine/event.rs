//! The seam between the world and the engine: events in, actions out.
//!
//! A world (the shell or the simulator) hands in [`Event`]s one at a time. After each event, `driver` takes the actions
//! and has the world perform them in order; no other module names an action. Only two other functions change the
//! engine: `Engine::accept`, which returns an answer, and `Engine::expire`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Domain;
use crate::auth::arc::Sealing;
use crate::auth::dkim::key::{SignError, SigningKey};
use crate::auth::dkim::sign::SigningInput;
use crate::config::Config;
use crate::dns::{Servers, SocketId};
use crate::login::credential::{Credential, Password};
use crate::policy::authenticity::{Verified, Verifying};
use crate::queue::{
    Aside, HopId, IdSource, JournalCommand, JournalCompletion, Location, Part, ReadContent,
    ReadError, Recovered,
};
use crate::queue_id::QueueId;

use super::status::observed::CertificateLeft;

/// Names one connection, in or out, for as long as it lives; a slot that is used again has another generation.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId {
    /// Index into the tables of connections; small, and used again.
    pub slot: u32,
    /// How often the slot has been used.
    pub generation: u32,
}

/// Names one piece of work that a worker was given.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JobId(pub u64);

/// The reader of a queued message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MessageReader {
    /// A session that sends the message, or a queue tool that shows it.
    Conn {
        conn: ConnId,
        /// The message that was asked for; a session that has moved on drops the answer.
        id: QueueId,
    },
    /// The maker of DSNs, for this DSN of its.
    Dsn(u64),
    /// The table of next hops, because routes have changed.
    Reroute(QueueId),
    /// The log, which gives the reason why recipients of a next hop wait.
    Untried {
        id: QueueId,
        /// The next hop.
        hop: HopId,
    },
}

/// The listener that accepted a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Listener {
    /// Port 25: mail for the served domains.
    Smtp,
    /// Port 25 behind a proxy, which sends the client's address before everything else.
    Proxy,
    /// Port 587: users, after STARTTLS.
    Submission,
    /// Port 465: users, TLS from the first byte (RFC 8314).
    Submissions,
    /// `submit.sock`: programs of this machine.
    Submit,
    /// `control.sock`: the queue tools.
    Control,
    /// The status page and `/metrics`, over HTTP.
    Status,
    /// Policies and settings of domains, over HTTPS.
    Https,
}

/// The peer of an accepted connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    Network {
        remote: SocketAddr,
        /// Ours.
        local: SocketAddr,
    },
    /// A process of this machine, by its credentials on a Unix socket.
    Process { uid: u32 },
}

/// The destination of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    /// A socket of this machine.
    Unix(PathBuf),
    /// The helper, which runs outside the sandbox: the target of an alias as the configuration writes it
    /// (`maildir:/path`, `| /path/to/program`; the protocol is LMTP), or [`HOOK`](crate::hook::HOOK).
    Helper(Box<str>),
}

impl Endpoint {
    /// The address of a host.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(to) => Some(to.ip()),
            Self::Unix(_) | Self::Helper(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(to) => to.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
            Self::Helper(target) => target.fmt(out),
        }
    }
}

/// All events that the world reports to the engine. An answer carries the id of its question.
#[derive(Debug)]
pub enum Event<'a> {
    /// Answers [`World::connect`](super::driver::World::connect).
    Connected { conn: ConnId },
    /// Bytes arrived (under TLS: of the inner stream). Only while `Engine::wants_input` returns true.
    Bytes {
        conn: ConnId,
        /// The bytes; never empty.
        bytes: &'a [u8],
    },
    /// Everything that was to be sent is with the kernel.
    Drained { conn: ConnId },
    /// The connection is gone; nothing that was not `Drained` can be counted on. Its id is dead after this.
    Closed { conn: ConnId, cause: Lost },
    /// Answers [`World::start_tls`](super::driver::World::start_tls).
    TlsReady {
        conn: ConnId,
        /// The negotiated parameters.
        session: TlsSession,
    },
    /// Answers [`World::store`](super::driver::World::store), as often as the documentation of the queue says.
    Stored(JournalCompletion),
    /// Answers [`World::read`](super::driver::World::read).
    Read {
        reader: MessageReader,
        result: Result<ReadContent, ReadError>,
    },
    /// A datagram came back on a DNS socket.
    DnsDatagram {
        socket: SocketId,
        /// The sender of the datagram.
        from: SocketAddr,
        /// The datagram.
        bytes: &'a [u8],
    },
    /// Bytes came on a DNS stream.
    DnsBytes {
        /// The stream.
        socket: SocketId,
        bytes: &'a [u8],
    },
    /// A DNS socket or stream failed or was closed by its peer.
    DnsFailed { socket: SocketId },
    /// Answers [`World::work`](super::driver::World::work).
    Worked { job: JobId, result: WorkResult },
    /// Answers [`World::read_kept`](super::driver::World::read_kept).
    Kept {
        conn: ConnId,
        /// The whole file; `None` if it does not exist or cannot be read.
        bytes: Option<Vec<u8>>,
    },
    /// Answers [`World::reload`](super::driver::World::reload), or a signal: this configuration applies from now on.
    /// Sessions and deliveries in progress are not interrupted.
    Reloaded(Reloaded),
    /// Answers [`World::reload`](super::driver::World::reload) if the folder could not be read or parsed: the old
    /// configuration stays.
    ReloadFailed {
        /// The tool that asked over the control socket, if any.
        conn: Option<ConnId>,
        /// Each error as a sentence.
        errors: Vec<String>,
    },
    /// Recovery has found a message that is still owed. Nothing is sent before [`Event::RecoveryOver`].
    Recovered(Box<Recovered>),
    RecoveryOver {
        /// Hands out ids above all that it saw.
        ids: IdSource,
        /// Damaged data that was set aside and not yet reported to `admin`.
        untold: Vec<Aside>,
    },
    /// Files of the drop folder that are not messages, for a report to `admin`, one sentence each.
    SetAside(Vec<String>),
    /// Greylist of an earlier run; ignored if it is damaged.
    Greylist(Vec<u8>),
    /// Name servers to use from now on.
    DnsServers(Servers),
    /// The journal has written and synced a batch, which took so long.
    Synced(Duration),
    /// Certificates that are served from now on.
    Certificates(Vec<CertificateLeft>),
    /// A turn of the event loop took so long by the wall clock; it began with the time of this event.
    TurnOver(Duration),
    /// The daemon stops: sessions between messages end, those inside a message may finish.
    Stop,
}

/// A configuration that applies from now on.
pub struct Reloaded {
    /// All of it.
    pub config: Arc<Config>,
    /// The tool that asked over the control socket, if any.
    pub conn: Option<ConnId>,
    /// Keys that stay as they were until a restart.
    pub unchanged: Vec<&'static str>,
}

impl fmt::Debug for Reloaded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = out.debug_struct("Reloaded");
        let shown = shown.field("conn", &self.conn);
        shown
            .field("unchanged", &self.unchanged)
            .finish_non_exhaustive()
    }
}

/// Why a connection is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Lost {
    /// The peer closed it in order.
    Eof,
    /// The connection was refused.
    Refused,
    /// No way to the host, or the host does not answer.
    Unreachable,
    /// It broke.
    Reset,
    /// The TLS handshake, or the TLS stream, failed; the text gives the reason.
    Tls(String),
}

/// The parameters that the TLS handshake negotiated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSession {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher: String,
    /// Whether the peer's certificate was verified for the name it was asked for (client side only).
    pub verified: bool,
}

/// Which side of a TLS handshake is ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TlsSide {
    /// We have the certificate; it is chosen by SNI.
    Server,
    /// The same, for HTTP (RFC 7301: if a client names protocols, ours must be among them).
    HttpsServer,
    /// We ask for this name.
    Client {
        /// The expected host name of the certificate.
        name: Domain,
        /// Whether the certificate must be right.
        trust: CertificateTrust,
    },
}

/// What a delivery session does with a certificate that cannot be verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateTrust {
    /// Continues, and reports it (opportunistic TLS, RFC 7435).
    Any,
    /// Ends the connection.
    Verified,
}

/// A file of the state that other parts of chopar write, for the status page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StateFile {
    /// The latest findings of `chopar doctor`.
    Checklist,
    /// Reports of other hosts about mail in the name of our domains.
    Reports,
}

impl StateFile {
    /// Its name in the folder of the state.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Checklist => "doctor.json",
            Self::Reports => "reports/summary.json",
        }
    }
}

/// Actions for the world, in order. Only `driver` interprets them; [`World`](super::driver::World) describes each.
#[must_use]
#[derive(Debug)]
pub(super) enum Action {
    /// Send these bytes; answered by [`Event::Drained`] once all output is out.
    Send { conn: ConnId, bytes: Vec<u8> },
    /// Send the pending output, then close in order. The id is dead: no event follows.
    Close { conn: ConnId },
    /// Close now. The id is dead: no event follows.
    Abort { conn: ConnId },
    /// Send the pending output in clear, then start TLS; answered by [`Event::TlsReady`] or [`Event::Closed`].
    StartTls {
        conn: ConnId,
        /// Our side.
        side: TlsSide,
    },
    /// Connect; answered by [`Event::Connected`] or [`Event::Closed`].
    Connect {
        /// The id that the connection will have.
        conn: ConnId,
        /// The destination.
        to: Endpoint,
        /// The source address, if it is chosen.
        from: Option<IpAddr>,
    },
    /// Hand this to the journal writer; answered by [`Event::Stored`].
    Store(JournalCommand),
    /// Read a part of a queued message; answered by [`Event::Read`].
    Read {
        reader: MessageReader,
        id: QueueId,
        location: Location,
        part: Part,
    },
    /// Read a piece of a large message that is streamed to the disk and is not in the queue yet; answered by
    /// [`Event::Read`].
    ReadBody {
        conn: ConnId,
        id: QueueId,
        /// Offset of the piece.
        offset: u64,
        len: u32,
    },
    /// Send a DNS query from a fresh socket with a random port, connected to the server.
    DnsSend {
        /// The id that the socket will have; opened if it is new.
        socket: SocketId,
        to: SocketAddr,
        /// The query.
        bytes: Vec<u8>,
    },
    /// Connect to a DNS server and send these bytes.
    DnsConnect {
        /// The id that the stream will have.
        socket: SocketId,
        to: SocketAddr,
        /// The query with its length in front.
        bytes: Vec<u8>,
    },
    /// Close a DNS socket or stream.
    DnsClose { socket: SocketId },
    /// Give this to a worker; answered by [`Event::Worked`].
    Work { job: JobId, work: Work },
    /// Read the configuration folder again; answered by [`Event::Reloaded`] or [`Event::ReloadFailed`].
    Reload {
        /// The tool that asked over the control socket, if any.
        conn: Option<ConnId>,
    },
    /// Read a file of the state; answered by [`Event::Kept`].
    ReadKept { conn: ConnId, kept: StateFile },
    /// Write this line to the log.
    Log(super::log::Line),
}

/// Work that takes a processor for long.
pub enum Work {
    /// Sign a message: the input of each key, and of the ARC seal if the message is forwarded.
    Sign(
        Vec<(Arc<SigningKey>, SigningInput)>,
        Option<(Arc<SigningKey>, Box<Sealing>)>,
    ),
    /// Verify the signatures of a message that came in.
    Verify(Box<Verifying>),
    /// See whether a password is right.
    VerifyPassword {
        /// The stored credential.
        credential: Arc<Credential>,
        /// The password that was sent.
        password: Password,
    },
}

impl fmt::Debug for Work {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Sign(..) => "Sign",
            Self::Verify(_) => "Verify",
            Self::VerifyPassword { .. } => "VerifyPassword",
        })
    }
}

impl Work {
    /// Performs the work. It takes from a millisecond (a signature) to half a second (a password); the part that a peer
    /// controls has a bound ([`crate::limits::SIGNATURE_CHECKS_MAX`]).
    pub fn perform(self) -> WorkResult {
        match self {
            Self::Sign(inputs, seal) => {
                let signatures = inputs
                    .into_iter()
                    .map(|(key, input)| input.sign(&key))
                    .chain(seal.map(|(key, sealing)| sealing.seal(&key)));
                WorkResult::Signed(
                    signatures
                        .collect::<Result<Vec<_>, _>>()
                        .map(|fields| fields.concat()),
                )
            }
            Self::Verify(verifying) => WorkResult::Verified(Box::new(verifying.perform())),
            Self::VerifyPassword {
                credential,
                password,
            } => WorkResult::Password(credential.verify_password(&password)),
        }
    }
}

/// The result of a piece of [`Work`].
#[derive(Debug)]
pub enum WorkResult {
    /// The DKIM-Signature fields, or the ARC set, each with its line end.
    Signed(Result<Vec<u8>, SignError>),
    /// Results of the signatures.
    Verified(Box<Verified>),
    /// Whether the password was right.
    Password(bool),
}
