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

/// Who reads a queued message.
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
    /// The log, which is to say who waits for a next hop.
    Untried {
        id: QueueId,
        /// The next hop.
        hop: HopId,
    },
}

/// What a connection was accepted on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Listener {
    /// Port 25: mail for the served domains.
    Smtp,
    /// Port 25 behind a proxy, which says who the client is before everything else.
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

/// Who is at the other end of an accepted connection.
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

/// Where a connection leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    /// A socket of this machine.
    Unix(PathBuf),
    /// The helper, which stands outside of the sandbox: a target of an alias as the configuration writes it
    /// (`maildir:/path`, `| /path/to/program`; LMTP is spoken), or [`HOOK`](crate::hook::HOOK).
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

/// Everything that the world tells the engine; an answer carries the id of its question.
#[derive(Debug)]
pub enum Event<'a> {
    /// Answers [`World::connect`](super::driver::World::connect).
    Connected { conn: ConnId },
    /// Bytes came in (of the inner stream where there is TLS). Only while `Engine::wants_input` says so.
    Bytes {
        conn: ConnId,
        /// What came; never empty.
        bytes: &'a [u8],
    },
    /// Everything that was to be sent is with the kernel.
    Drained { conn: ConnId },
    /// The connection is gone; nothing that was not `Drained` can be counted on. Its id is dead after this.
    Closed { conn: ConnId, cause: Lost },
    /// Answers [`World::start_tls`](super::driver::World::start_tls).
    TlsReady {
        conn: ConnId,
        /// What was agreed.
        session: TlsSession,
    },
    /// Answers [`World::store`](super::driver::World::store), as often as the queue's documentation says.
    Stored(JournalCompletion),
    /// Answers [`World::read`](super::driver::World::read).
    Read {
        reader: MessageReader,
        result: Result<ReadContent, ReadError>,
    },
    /// A datagram came back on a DNS socket.
    DnsDatagram {
        socket: SocketId,
        /// Who sent it.
        from: SocketAddr,
        /// What came.
        bytes: &'a [u8],
    },
    /// Bytes came on a DNS stream.
    DnsBytes {
        /// The stream.
        socket: SocketId,
        /// What came.
        bytes: &'a [u8],
    },
    /// A DNS socket or stream failed or was closed by its peer.
    DnsFailed { socket: SocketId },
    /// Answers [`World::work`](super::driver::World::work).
    Worked {
        job: JobId,
        /// What came of it.
        result: WorkResult,
    },
    /// Answers [`World::read_kept`](super::driver::World::read_kept).
    Kept {
        conn: ConnId,
        /// All of the file; `None` where there is none that can be read.
        bytes: Option<Vec<u8>>,
    },
    /// Answers [`World::reload`](super::driver::World::reload), or a signal: this configuration is in force from now on.
    /// Nothing that goes on is interrupted.
    Reloaded(Reloaded),
    /// Answers [`World::reload`](super::driver::World::reload) when the folder could not be read or parsed: the old
    /// configuration goes on.
    ReloadFailed {
        /// Who asked for it over the control socket, if anybody.
        conn: Option<ConnId>,
        /// Each error as a sentence.
        errors: Vec<String>,
    },
    /// Recovery has found a message that is still owed. Nothing is sent before [`Event::RecoveryOver`].
    Recovered(Box<Recovered>),
    RecoveryOver {
        /// Hands out ids above all that it saw.
        ids: IdSource,
        /// What it could not read, and `admin` has not been told of.
        untold: Vec<Aside>,
    },
    /// Files of the drop folder are not in the form of a message: `admin` is told, a sentence each.
    SetAside(Vec<String>),
    /// What an earlier run remembered of clients; where it is damaged it is left alone.
    Greylist(Vec<u8>),
    /// From now on, names are looked up with these servers.
    DnsServers(Servers),
    /// The journal has written and synced a batch, which took so long.
    Synced(Duration),
    /// These certificates are served from now on.
    Certificates(Vec<CertificateLeft>),
    /// A turn of the event loop took so long by the wall clock; it began with the time of this event.
    TurnOver(Duration),
    /// No more mail is taken: sessions that are between messages end, those inside one may finish.
    Stop,
}

/// A configuration that is in force from now on.
pub struct Reloaded {
    /// All of it.
    pub config: Arc<Config>,
    /// Who asked for it over the control socket, if anybody.
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
    /// Nobody listens there.
    Refused,
    /// No way to the host, or the host does not answer.
    Unreachable,
    /// It broke.
    Reset,
    /// The TLS handshake, or the TLS stream, failed; the text says how.
    Tls(String),
}

/// What the TLS handshake agreed on.
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
    /// The same, for HTTP (RFC 7301: a client that names protocols has to find its own among ours).
    HttpsServer,
    /// We ask for this name.
    Client {
        /// The host whose certificate it should be.
        name: Domain,
        /// Whether the certificate must be right.
        trust: CertificateTrust,
    },
}

/// What a client does with a certificate that cannot be verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CertificateTrust {
    /// Goes on, and says so (opportunistic TLS, RFC 7435).
    Any,
    /// Ends the connection.
    Verified,
}

/// A file of the state that other parts of chopar write, for the status page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StateFile {
    /// What `chopar doctor` has found last.
    Checklist,
    /// What others report about mail in the name of our domains.
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

/// What is to be done, in order. Nobody but `driver` takes it apart: see there for what each of them means to a world.
#[must_use]
#[derive(Debug)]
pub(super) enum Action {
    /// Send these bytes; answered by [`Event::Drained`] once all output is out.
    Send { conn: ConnId, bytes: Vec<u8> },
    /// Send what is pending, then close in order. The id is dead: no event follows.
    Close { conn: ConnId },
    /// Close now. The id is dead: no event follows.
    Abort { conn: ConnId },
    /// Send what is pending in clear, then begin TLS; answered by [`Event::TlsReady`] or [`Event::Closed`].
    StartTls {
        conn: ConnId,
        /// Our side.
        side: TlsSide,
    },
    /// Connect; answered by [`Event::Connected`] or [`Event::Closed`].
    Connect {
        /// The id that the connection will have.
        conn: ConnId,
        /// Where to.
        to: Endpoint,
        /// The source address, where it matters.
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
        /// Where the piece starts.
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
    Work {
        job: JobId,
        /// What to do.
        work: Work,
    },
    /// Read the configuration folder again; answered by [`Event::Reloaded`] or [`Event::ReloadFailed`].
    Reload {
        /// Who asked for it over the control socket, if anybody.
        conn: Option<ConnId>,
    },
    /// Read a file of the state; answered by [`Event::Kept`].
    ReadKept { conn: ConnId, kept: StateFile },
    /// Write this line to the log.
    Log(super::log::Line),
}

/// Work that takes a processor for long.
pub enum Work {
    /// Sign a message: what each of its keys signs, and what is sealed of one that is forwarded.
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
    /// Does it. Takes from a millisecond (a signature) to half a second (a password); what a peer sends has a bound
    /// ([`crate::limits::SIGNATURE_CHECKS_MAX`]).
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

/// What came of a piece of [`Work`].
#[derive(Debug)]
pub enum WorkResult {
    /// The DKIM-Signature fields, or the ARC set, each with its line end.
    Signed(Result<Vec<u8>, SignError>),
    /// What the signatures are worth.
    Verified(Box<Verified>),
    /// Whether the password was right.
    Password(bool),
}
