//! `chopar demo`: a complete delivery on loopback, without root, network or set-up.
//!
//! ```text
//!   sendmail ──────────┐                                          receiving host
//!                      ├──> chopar run ── MX by the demo's DNS ──> (SMTP, TLS) ──> both signatures verified
//!   AUTH over TLS ─────┘    (a process of its own)
//! ```
//!
//! Everything is in one temporary folder. The exit code is 0 only if both messages arrived over TLS and both of their
//! signatures verify against the keys that the demo's name server returned.

mod names;
mod receiver;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::dkim::{KeyType, Keygen};
use super::failure::Failure;
use super::lookup::Lookup;
use super::sendmail;
use super::submission::{self, Submission};
use super::sysexits::{CANNOT_CREATE, DATA, OS_ERROR, UNAVAILABLE};
use crate::address::{Domain, Mailbox};
use crate::auth::dkim::record::record_name;
use crate::auth::dkim::verdict::DkimResult;
use crate::auth::dkim::verify::DkimVerification;
use crate::dns::Servers;
use crate::dns::verdict;
use crate::entropy::Entropy;
use crate::login::credential::{Credential, Password, SALT_BYTES};
use crate::mail::header::header_and_body;
use crate::shell::process::time::{SystemEntropy, wall};

use names::Zone;
use receiver::Arrived;

/// Show a complete delivery on loopback: submit, sign, queue, deliver, verify.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "demo")]
pub struct Demo {}

const SENDER_DOMAIN: &str = "demo.example";
const HOSTNAME: &str = "mail.demo.example";
const LOGIN: &str = "ann@demo.example";
const PASSWORD: &str = "correct horse battery staple";
const RECEIVER_DOMAIN: &str = "receiver.example";
const RECEIVER_HOST: &str = "mx.receiver.example";
const RECIPIENT: &str = "bob@receiver.example";

/// How long one step may take on a slow machine.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

impl Demo {
    /// Plays it.
    pub fn run(&self, output: &mut dyn Write) -> Result<(), Failure> {
        let scene = Scene::set(output)?;
        let result = scene.play(output);
        if result.is_err() {
            scene.show_log(output);
        }
        result
    }
}

/// The stage: a folder, the two helpers, and the relay.
struct Scene {
    folder: Folder,
    submission: SocketAddr,
    names: SocketAddr,
    arrivals: Receiver<Arrived>,
    relay: Relay,
}

impl Scene {
    fn set(output: &mut dyn Write) -> Result<Self, Failure> {
        let folder = Folder::make()?;
        say(
            output,
            "set-up",
            &format!("everything lives in {}", folder.0.display()),
        )?;
        let hostname = name(HOSTNAME)?;
        let config = folder.0.join("etc");
        write(
            &config.join("domains").join(SENDER_DOMAIN).join("users"),
            &users_line()?,
        )?;
        let mut texts = Vec::new();
        for (selector, algorithm) in [("rsa", KeyType::Rsa), ("ed", KeyType::Ed25519)] {
            texts.push(keygen(&config, selector, algorithm)?);
        }
        say(
            output,
            "set-up",
            "two DKIM keys for demo.example, RSA-2048 and Ed25519, with their records in the demo's own name server",
        )?;
        let (receiver, arrivals) = receiver::serve(&name(RECEIVER_HOST)?).map_err(system)?;
        let zone = Zone {
            receiver: (RECEIVER_DOMAIN.into(), RECEIVER_HOST.into()),
            texts,
        };
        let names = names::serve(zone).map_err(system)?;
        let [smtp, submission] = free_ports()?;
        // Run by root, there is no account to change to: nothing of the demo outlives it.
        let user = if rustix::process::geteuid().is_root() {
            "user = \"root\"\n"
        } else {
            ""
        };
        let toml = format!(
            "{user}hostname = \"{hostname}\"\nstate_dir = \"{0}/state\"\nruntime_dir = \"{0}/run\"\n\n\
             [listen]\nsmtp = [\"{smtp}\"]\nsubmission = [\"{submission}\"]\nsubmissions = []\nstatus = []\n\n\
             [dns]\nservers = [\"{names}\"]\n\n[delivery]\nport = {1}\nloopback = true\n",
            folder.0.display(),
            receiver.port()
        );
        write(&config.join("chopar.toml"), &toml)?;
        let relay = Relay::start(&config)?;
        say(
            output,
            "set-up",
            &format!(
                "the relay runs (process {}), submission on {submission}",
                relay.child.id()
            ),
        )?;
        Ok(Self {
            folder,
            submission,
            names,
            arrivals,
            relay,
        })
    }

    fn play(&self, output: &mut dyn Write) -> Result<(), Failure> {
        self.relay.wait_for(self.submission)?;
        blank(output)?;
        let text = format!(
            "To: {RECIPIENT}\nFrom: {LOGIN}\nSubject: by sendmail\n\nHello from a script.\n"
        );
        let arguments: Vec<String> = ["-i", "-t", "-f", LOGIN].map(String::from).to_vec();
        sendmail::run(
            &arguments,
            &self.folder.0.join("etc"),
            &mut text.as_bytes(),
            output,
        )?;
        say(
            output,
            "submit",
            "sendmail -t accepted a message on its standard input",
        )?;
        self.follow(output, "by sendmail")?;

        let text = format!(
            "From: {LOGIN}\r\nTo: {RECIPIENT}\r\nSubject: by AUTH over TLS\r\n\r\nHello from an application.\r\n"
        );
        let login = mailbox(LOGIN)?;
        let submission = Submission {
            client: "app.demo.example",
            sender: &login,
            recipient: &mailbox(RECIPIENT)?,
            message: text.as_bytes(),
        };
        let accepted = submission::over_network(
            &submission,
            &name(HOSTNAME)?,
            self.submission,
            (&login, PASSWORD),
        )
        .map_err(|error| Failure::new(UNAVAILABLE, format!("the submission failed: {error}")))?;
        say(
            output,
            "submit",
            &format!(
                "STARTTLS, AUTH PLAIN as {LOGIN}, answered: {}",
                accepted.reply
            ),
        )?;
        self.follow(output, "by AUTH over TLS")?;
        say(
            output,
            "done",
            "both messages arrived over TLS, and all four signatures verify",
        )?;
        say(
            output,
            "next",
            "nothing of this stays; chopar init DOMAIN sets up a real one, and chopar init DOMAIN --dry-run shows the steps",
        )
    }

    /// Shows what the relay does with a message until it is delivered, then judges the received messages.
    fn follow(&self, output: &mut dyn Write, subject: &str) -> Result<(), Failure> {
        let arrived = self.arrivals.recv_timeout(STEP_TIMEOUT).map_err(|_| {
            Failure::new(
                UNAVAILABLE,
                "the message did not arrive; the relay's log above says why",
            )
        })?;
        self.relay.show_until_done(output)?;
        self.judge(output, &arrived, subject)
    }

    fn judge(
        &self,
        output: &mut dyn Write,
        arrived: &Arrived,
        subject: &str,
    ) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&arrived.bytes).into_owned();
        if !text.contains(&format!("\r\nSubject: {subject}\r\n")) || arrived.from != LOGIN {
            return Err(Failure::new(
                DATA,
                format!("another message arrived than the one {subject}"),
            ));
        }
        let Some(tls) = &arrived.tls else {
            return Err(Failure::new(DATA, "the message arrived without TLS"));
        };
        say(
            output,
            "arrived",
            &format!("at {RECEIVER_HOST}, over {tls}"),
        )?;
        self.verify(output, &arrived.bytes)?;
        blank(output)?;
        for line in text.lines() {
            writeln!(output, "    | {line}").map_err(system)?;
        }
        blank(output)
    }

    fn verify(&self, output: &mut dyn Write, message: &[u8]) -> Result<(), Failure> {
        let (header, body) = header_and_body(message).map_err(|error| Failure::new(DATA, error))?;
        let mut verification = DkimVerification::new(&header, wall());
        verification.on_body(body);
        let mut entropy = SystemEntropy::default();
        let mut lookup = Lookup::new(Servers::new(vec![self.names]), &mut entropy);
        let verdicts = verdict(&mut |question| lookup.ask(question), |answers| {
            verification.resume(&header, answers)
        });
        for verdict in &verdicts {
            say(
                output,
                "verify",
                super::dkim::verdict_line(verdict).trim_end(),
            )?;
        }
        let passed = verdicts
            .iter()
            .filter(|verdict| verdict.verdict() == DkimResult::Pass)
            .count();
        if verdicts.len() == 2 && passed == 2 {
            return Ok(());
        }
        Err(Failure::new(
            DATA,
            format!(
                "{passed} of {} signatures verify, and there should be two",
                verdicts.len()
            ),
        ))
    }

    fn show_log(&self, output: &mut dyn Write) {
        while let Ok(line) = self.relay.log.try_recv() {
            drop(writeln!(output, "    {line}"));
        }
    }
}

/// The relay's process; it ends with this.
struct Relay {
    child: Child,
    log: Receiver<String>,
}

impl Relay {
    fn start(config: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(system)?;
        let mut child = Command::new(program)
            .arg("-C")
            .arg(config)
            .arg("run")
            .env("CHOPAR_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(system)?;
        let (sender, log) = channel();
        if let Some(stderr) = child.stderr.take() {
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { child, log })
    }

    /// Waits until the relay listens.
    fn wait_for(&self, address: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        while Instant::now() < deadline {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::new(UNAVAILABLE, "the relay did not start"))
    }

    /// Shows the relay's own account of a message, step by step.
    fn show_until_done(&self, output: &mut dyn Write) -> Result<(), Failure> {
        loop {
            match self.log.recv_timeout(STEP_TIMEOUT) {
                Ok(line) => {
                    let event = line.split("event=").nth(1).unwrap_or_default();
                    let step = event.split(' ').next().unwrap_or_default();
                    if SHOWN.contains(&step) {
                        say(
                            output,
                            step,
                            event.split_once(' ').map_or("", |(_, rest)| rest),
                        )?;
                    }
                    if step == "done" {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(
                        UNAVAILABLE,
                        "the relay's log ended before the message was done",
                    ));
                }
            }
        }
    }
}

/// Log events of the relay that are shown.
const SHOWN: [&str; 8] = [
    "auth",
    "accepted",
    "signed",
    "queued",
    "mx",
    "connected",
    "delivered",
    "done",
];

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, Failure> {
        let mut random = [0; 8];
        SystemEntropy::default().fill(&mut random);
        let path =
            std::env::temp_dir().join(format!("chopar-demo-{:016x}", u64::from_ne_bytes(random)));
        fs::create_dir(&path)
            .map_err(|error| Failure::new(CANNOT_CREATE, format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn users_line() -> Result<String, Failure> {
    let mut salt = [0; SALT_BYTES];
    SystemEntropy::default().fill(&mut salt);
    let password = Password::new(PASSWORD.to_owned()).map_err(|error| Failure::new(DATA, error))?;
    let iterations = NonZeroU32::new(crate::limits::SCRAM_ITERATIONS).unwrap_or(NonZeroU32::MIN);
    let login = mailbox(LOGIN)?;
    Ok(format!(
        "{}:{}\n",
        login.local_part(),
        Credential::derive(&password, &salt, iterations)
    ))
}

/// Makes a key as `chopar dkim keygen` does; returns the name and the text of its record.
fn keygen(config: &Path, selector: &str, algorithm: KeyType) -> Result<(String, String), Failure> {
    let keygen = Keygen {
        domain: SENDER_DOMAIN.to_owned(),
        selector: selector.to_owned(),
        algorithm,
        bits: 2048,
    };
    let created = keygen
        .create(config)
        .map_err(|error| Failure::new(error.exit_code(), error))?;
    let name = record_name(&created.selector, &created.domain);
    Ok((name.trim_end_matches('.').to_owned(), created.text))
}

fn free_ports() -> Result<[SocketAddr; 2], Failure> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(system);
    let (one, other) = (bind()?, bind()?);
    Ok([
        one.local_addr().map_err(system)?,
        other.local_addr().map_err(system)?,
    ])
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let result = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    result.map_err(|error| Failure::new(CANNOT_CREATE, format!("{}: {error}", path.display())))
}

fn system(error: io::Error) -> Failure {
    Failure::new(
        OS_ERROR,
        format!("the system refused something that the demo needs: {error}"),
    )
}

fn name(text: &str) -> Result<Domain, Failure> {
    Domain::parse(text).map_err(|error| Failure::new(DATA, error))
}

fn mailbox(text: &str) -> Result<Mailbox, Failure> {
    Mailbox::parse(text).map_err(|error| Failure::new(DATA, error))
}

fn say(output: &mut dyn Write, step: &str, text: &str) -> Result<(), Failure> {
    writeln!(output, "{step:>10}  {text}").map_err(system)
}

fn blank(output: &mut dyn Write) -> Result<(), Failure> {
    writeln!(output).map_err(system)
}
