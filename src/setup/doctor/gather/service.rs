//! The configuration, the daemon and its environment.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::dns::{delivery_to, domain_takes_mail};
use crate::address::Mailbox;
use crate::config::{Config, HOOKS};
use crate::engine::control::{ControlRequest, ControlResponse};
use crate::limits::{DOCTOR_REPLY_BYTES_MAX, DOCTOR_REPLY_TIMEOUT};
use crate::policy::advice::{Severity, advice};
use crate::policy::relay;
use crate::setup::acme::managed;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::dns::MailboxReach;
use crate::setup::doctor::judge::service::{
    Admin, Daemon, Facts, QueueState, SystemdUnit, exposure,
};
use crate::shell::files::loading::{self, LoadError};
use crate::shell::process::time::wall;

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let config = &examination.config;
    let (errors, warnings) = configuration(&examination.folder);
    let accounts = ACCOUNTS.iter().filter_map(|account| {
        let host = relay::own_domain(config).unwrap_or(&config.hostname);
        Mailbox::new(account, host).ok()
    });
    let accounts: Vec<Mailbox> = accounts.collect();
    let lost = accounts.iter().filter_map(|account| {
        let refusal = relay::notification(config, account).err()?;
        Some((account.to_string(), refusal.to_string()))
    });
    Facts {
        errors,
        warnings,
        daemon: daemon(&config.runtime_dir),
        unit: unit(),
        hook: config.content.hook.then(|| hook(&examination.folder)),
        admin: config.admin.as_ref().map(|admin| Admin {
            address: admin.to_string(),
            ends: ends(examination, admin),
        }),
        lost_bounces: lost.collect(),
        accounts: accounts.len(),
    }
}

/// The errors and the warnings of `chopar check`.
pub fn configuration(folder: &Path) -> (Vec<String>, Vec<String>) {
    let loaded = match loading::load(folder) {
        Ok(loaded) => loaded,
        Err(LoadError::Config(errors)) => return (errors, Vec::new()),
        Err(error) => return (vec![error.to_string()], Vec::new()),
    };
    let config: &Config = &loaded.config;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut sort = |severity: Severity, text: String| match severity {
        Severity::Fault => errors.push(text),
        Severity::Advice => warnings.push(text),
    };
    for advice in advice(config) {
        sort(advice.severity, advice.text);
    }
    let now = wall();
    match loaded.tls(now) {
        Ok(tls) => {
            for finding in tls.findings(&config.hostname, now) {
                sort(finding.severity(), finding.to_string());
            }
        }
        Err(error) => sort(Severity::Fault, error.to_string()),
    }
    warnings.extend(managed::shortage(config));
    errors.extend(loaded.obstacles());
    (errors, warnings)
}

fn daemon(runtime_dir: &Path) -> Daemon {
    let socket = runtime_dir.join("control.sock");
    let gone = |why: String| Daemon::Gone(format!("{}: {why}", socket.display()));
    match ask(&socket) {
        Ok(queue) => Daemon::Runs(queue),
        Err(error) => gone(error.to_string()),
    }
}

/// Asks for the queue; `None` if the caller may not see all of it.
fn ask(socket: &Path) -> std::io::Result<Option<QueueState>> {
    let started = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DOCTOR_REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(DOCTOR_REPLY_TIMEOUT))?;
    let mut line = serde_json::to_vec(&ControlRequest::List {}).map_err(std::io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let now = wall().seconds();
    let mut queue = QueueState::default();
    for line in BufReader::new(stream).lines() {
        if started.elapsed() > QUEUE_TIMEOUT {
            break; // the oldest come first
        }
        match serde_json::from_str(&line?).map_err(std::io::Error::other)? {
            ControlResponse::Message(listed) => {
                queue.messages = queue.messages.saturating_add(1);
                if queue.oldest.is_none() && !listed.held {
                    let age = Duration::from_secs(now.saturating_sub(listed.arrived));
                    let why = listed
                        .recipients
                        .iter()
                        .map(|recipient| recipient.why.clone())
                        .find(|why| !why.is_empty());
                    queue.oldest = Some((listed.id, age, why.unwrap_or_default()));
                }
            }
            ControlResponse::Denied { .. } => return Ok(None),
            ControlResponse::End { .. } => {
                // Others than root are shown their own messages only.
                let sees_all = rustix::process::geteuid().is_root();
                return Ok(sees_all.then_some(queue));
            }
            _ => {}
        }
    }
    Ok(Some(queue))
}

fn unit() -> Option<SystemdUnit> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let word = |verb: &str| {
        let said = output("systemctl", &[verb, "chopar.service"])?;
        let said = said.lines().next().unwrap_or_default().to_owned();
        (!said.is_empty()).then_some(said)
    };
    let security = output(
        "systemd-analyze",
        &["security", "--no-pager", "chopar.service"],
    );
    Some(SystemdUnit {
        enabled: word("is-enabled"),
        active: word("is-active"),
        exposure: security.and_then(|text| exposure(&text)),
    })
}

/// The output of a program; `None` if it does not exist.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let mut text = Vec::new();
    let limit = u64::try_from(DOCTOR_REPLY_BYTES_MAX).unwrap_or(u64::MAX);
    let read = child.stdout.take()?.take(limit).read_to_end(&mut text);
    drop(child.wait());
    read.ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn hook(folder: &Path) -> Result<(), String> {
    let path = folder.join(HOOKS).join("post-data");
    let may_run = |path: &Path| {
        let mode = rustix::fs::access(path, rustix::fs::Access::EXEC_OK);
        mode.map_err(|error| format!("{}: {error}", path.display()))
    };
    may_run(&path)?;
    match interpreter(&path) {
        Some(program) => {
            may_run(&program).map_err(|error| format!("{} is run by {error}", path.display()))
        }
        None => Ok(()),
    }
}

/// The program in the first line of a script; `None` if it is not a script, or may not be read.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut front = Vec::new();
    let file = std::fs::File::open(script).ok()?;
    file.take(FIRST_LINE_BYTES_MAX)
        .read_to_end(&mut front)
        .ok()?;
    let line = front
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line);
    Some(PathBuf::from(line.split_ascii_whitespace().next()?))
}

/// The final destination of mail for an address.
fn ends(examination: &DoctorScope, admin: &Mailbox) -> Vec<(String, MailboxReach)> {
    let config = &examination.config;
    if config.receiving(admin.domain()).is_none() {
        return vec![(admin.to_string(), delivery_to(examination, admin.as_str()))];
    }
    match relay::expand(config, admin) {
        Err(refusal) => vec![(
            admin.to_string(),
            MailboxReach::Refused(refusal.to_string()),
        )],
        Ok(goals) => goals
            .into_iter()
            .map(|goal| {
                let delivery = match goal.destination {
                    Some(_) => MailboxReach::Here,
                    None if config.receiving(goal.mailbox.domain()).is_some() => MailboxReach::Here,
                    None => domain_takes_mail(examination, goal.mailbox.domain()),
                };
                (goal.mailbox.to_string(), delivery)
            })
            .collect(),
    }
}

/// Accounts that programs send from on most machines.
const ACCOUNTS: [&str; 4] = ["root", "postmaster", "www-data", "nobody"];
/// Bytes of a script's first line that Linux reads (execve(2)).
const FIRST_LINE_BYTES_MAX: u64 = 256;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(4);
