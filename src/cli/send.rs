//! `chopar send`: sends a test message, and follows it to the reply of the receiving server.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use argh::FromArgs;
use zeroize::Zeroizing;

use super::control::not_there;
use super::failure::Failure;
use super::output;
use super::submission::{self, Submission};
use super::sysexits::{DATA, IO_ERROR, NO_USER, TRY_AGAIN, UNAVAILABLE, USAGE};
use super::user::read_password;
use crate::address::{Domain, Mailbox};
use crate::config::{Config, Listen, quantity};
use crate::engine::control::{ControlRequest, ControlResponse};
use crate::entropy::Entropy as _;
use crate::policy::relay::own_domain;
use crate::setup::trace::{End, Trace};
use crate::shell::net::timed::is_late;
use crate::shell::process::time::{SystemEntropy, wall};

/// Send a test message through the running daemon, and follow it to the reply of the receiving server.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "send")]
pub struct Send {
    /// the recipient
    #[argh(positional)]
    to: String,
    /// the address in From (default: the user, otherwise postmaster of the first domain)
    #[argh(option)]
    from: Option<String>,
    /// submit as this user, with a password, over the submission port
    #[argh(option)]
    user: Option<String>,
    /// how long to follow it, such as 30s (default: 2m)
    #[argh(option, from_str_fn(duration), default = "WITHIN_DEFAULT")]
    within: Duration,
}

const WITHIN_DEFAULT: Duration = Duration::from_secs(120);

fn duration(text: &str) -> Result<Duration, String> {
    quantity::duration(text).ok_or_else(|| format!("{text} is not a duration such as 30s"))
}

impl Send {
    /// From an address, through the door of programs of this machine.
    pub(super) const fn new(to: String, from: String, within: Duration) -> Self {
        Self {
            to,
            from: Some(from),
            user: None,
            within,
        }
    }

    /// Sends the message, and prints what happens to it.
    pub fn run(&self, config: &Config, output: &mut dyn Write) -> Result<(), Failure> {
        let started = Instant::now();
        let mut say = |text: &str| {
            let elapsed = started.elapsed();
            let line = format!(
                "{:>3}.{} s  {text}\n",
                elapsed.as_secs(),
                elapsed.subsec_millis() / 100
            );
            (output
                .write_all(output::text(&line).as_bytes())
                .and_then(|()| output.flush()))
            .map_err(|error| Failure::new(IO_ERROR, format!("cannot write: {error}")))
        };
        let to = address(&self.to)?;
        let user = self.user.as_deref().map(address).transpose()?;
        let from = match (&self.from, &user) {
            (Some(from), _) => address(from)?,
            (None, Some(user)) => user.clone(),
            (None, None) => default_sender(config)?,
        };
        let message = message(config, &from, &to);
        let submission = Submission {
            client: "localhost",
            sender: &from,
            recipient: &to,
            message: message.as_bytes(),
        };
        say(&format!("a test message from {from} to {to}"))?;
        let accepted = match &user {
            None => submission::over_socket(&submission, &config.runtime_dir.join("submit.sock"))
                .map_err(|error| refused(config, &error))?,
            Some(user) => {
                let port = submission_port(config)?;
                let password = read_password(
                    &format!("Password of {user}: "),
                    &format!("send --user {user} {to}"),
                )?;
                let password =
                    Zeroizing::new(String::from_utf8_lossy(password.as_bytes()).into_owned());
                say(&format!(
                    "submitting to {port} with STARTTLS and the login {user}"
                ))?;
                submission::over_network(&submission, &config.hostname, port, (user, &password))
                    .map_err(|error| Failure::new(UNAVAILABLE, format!("{port}: {error}")))?
            }
        };
        if let Some(tls) = &accepted.tls {
            say(&format!("TLS {} ({})", tls.version, tls.cipher))?;
        }
        say(&format!("the daemon replied: {}", accepted.reply))?;
        let Some(id) = accepted.reply.rsplit(' ').next().map(str::to_owned) else {
            return Err(Failure::new(DATA, "the daemon's reply names no id"));
        };
        self.follow(config, &id, started, &mut say)
    }

    /// Prints the events of the message, until it has left or the time is over.
    fn follow(
        &self,
        config: &Config,
        id: &str,
        started: Instant,
        say: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = config.runtime_dir.join("control.sock");
        let mut events = Events::open(&path, id)?;
        let mut trace = Trace::default();
        while trace.end().is_none() {
            let left = self.within.saturating_sub(started.elapsed());
            match events.next(left)? {
                Some(ControlResponse::Event { text }) => {
                    for told in trace.tell(&text) {
                        say(&told)?;
                    }
                }
                Some(ControlResponse::Denied { .. }) => {
                    return say(&format!(
                        "only root may follow it further; `chopar queue show {id}` shows it while it is queued"
                    ));
                }
                Some(ControlResponse::End { errors, .. }) => {
                    return Err(Failure::new(UNAVAILABLE, errors.join("; ")));
                }
                Some(_) => {}
                None => {
                    let text = format!(
                        "it has not left yet; it stays in the queue and chopar retries it; `chopar queue show {id}` shows \
                         more"
                    );
                    return Err(Failure::new(TRY_AGAIN, text));
                }
            }
        }
        match trace.end() {
            Some(End::Failed) => {
                let text = "the message was rejected; chopar sends a DSN to the address in From";
                Err(Failure::new(UNAVAILABLE, text))
            }
            _ if trace.is_signed() => say(LOOK),
            _ => say(UNSIGNED),
        }
    }
}

/// The daemon's events about one message, as they happen.
struct Events<'a> {
    path: &'a Path,
    id: &'a str,
    reader: BufReader<UnixStream>,
}

impl<'a> Events<'a> {
    /// Asks the daemon that listens at `path`.
    fn open(path: &'a Path, id: &'a str) -> Result<Self, Failure> {
        let mut stream = UnixStream::connect(path).map_err(|error| not_there(path, &error))?;
        let request = ControlRequest::Follow { id: id.to_owned() };
        let mut line =
            serde_json::to_vec(&request).map_err(|error| Failure::new(IO_ERROR, error))?;
        line.push(b'\n');
        (stream.write_all(&line)).map_err(|error| Failure::of_file(IO_ERROR, path, &error))?;
        let reader = BufReader::new(stream);
        Ok(Self { path, id, reader })
    }

    /// The next event; `None` if there is none for this long.
    fn next(&mut self, left: Duration) -> Result<Option<ControlResponse>, Failure> {
        if left.is_zero() {
            return Ok(None);
        }
        let broken = |error: std::io::Error| Failure::of_file(IO_ERROR, self.path, &error);
        (self.reader.get_ref().set_read_timeout(Some(left))).map_err(broken)?;
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => {
                let text = format!(
                    "the daemon has ended; once it is up again `chopar queue show {}` tells more",
                    self.id
                );
                return Err(Failure::new(UNAVAILABLE, text));
            }
            Ok(_) => {}
            Err(error) if is_late(&error) => return Ok(None),
            Err(error) => return Err(broken(error)),
        }
        serde_json::from_str(&line).map(Some).map_err(|error| {
            let text = format!("the daemon's answer is not understood: {error}");
            Failure::new(IO_ERROR, text)
        })
    }
}

/// The same without a signature.
const UNSIGNED: &str = "delivered, but not signed: no key here is for the domain in From, so that DKIM and DMARC will not pass. Send from an                         address of a domain that chopar domain list shows, or make a key with chopar dkim keygen";

/// What shows whether it was a success.
const LOOK: &str = "delivered. In the mailbox, \"Show original\" (Gmail) or the source of the message should say \
                    PASS for SPF, DKIM and DMARC; if it is in the spam folder, mark it there as not spam, and run \
                    `chopar doctor`";

fn address(text: &str) -> Result<Mailbox, Failure> {
    Mailbox::parse(text).map_err(|error| {
        let shown = crate::escape::Escaped(text.as_bytes());
        Failure::new(USAGE, format!("{shown} is not an address: {error}"))
    })
}

/// An address of ours that a reply can reach.
fn default_sender(config: &Config) -> Result<Mailbox, Failure> {
    let domain = own_domain(config).unwrap_or(&config.hostname);
    Mailbox::new("postmaster", domain).map_err(|error| {
        Failure::new(
            NO_USER,
            format!("postmaster@{domain}: {error}; say --from ADDRESS"),
        )
    })
}

/// The submission port of this machine.
fn submission_port(config: &Config) -> Result<SocketAddr, Failure> {
    let address = match &config.listen.submission {
        Listen::Addresses(list) => list.first().copied(),
        Listen::Systemd => Some((Ipv4Addr::LOCALHOST, 587).into()),
    };
    let mut address = address.ok_or_else(|| {
        Failure::new(
            UNAVAILABLE,
            "no port for users is open: submission in [listen] of chopar.toml is empty",
        )
    })?;
    if address.ip().is_unspecified() {
        let loopback = match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        };
        address.set_ip(loopback);
    }
    Ok(address)
}

fn refused(config: &Config, error: &std::io::Error) -> Failure {
    let path = config.runtime_dir.join("submit.sock");
    match error.kind() {
        std::io::ErrorKind::Other => Failure::new(UNAVAILABLE, error),
        _ => not_there(&path, error),
    }
}

/// A message as a person would write one, so that nothing takes it for spam but for good reasons.
fn message(config: &Config, from: &Mailbox, to: &Mailbox) -> String {
    let host: &Domain = &config.hostname;
    let mut random = [0; 9];
    SystemEntropy::default().fill(&mut random);
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let now = wall();
    format!(
        "Date: {}\r\nFrom: {from}\r\nTo: {to}\r\nMessage-ID: <{id}@{host}>\r\n\
         Subject: Hello from {host}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         Hello,\r\n\r\nthis is a test message from the mail server {host}. If you can read it, mail from\r\n\
         {from} arrives. To see how well, look at the original of the message: it\r\nshould say PASS for SPF, DKIM and DMARC.\r\n\r\n\
         You can answer this message, to see whether mail finds the way back.\r\n\r\n-- \r\n{host}\r\n",
        now.rfc5322()
    )
}
