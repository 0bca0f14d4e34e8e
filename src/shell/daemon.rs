//! From a configuration to a relay that runs: sockets, account, spool, sandbox, threads, loop, in this order.
//!
//! Ports are bound and folders made as root; then the account is changed, the helper started and the sandbox closed,
//! before the first thread is started and before anything is read that a peer has written. Of root's rights one is kept
//! for a while: the thread that renews certificates is begun with that to bind low ports, all others without.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::Poll;

use super::certificate_files::Places;
use super::drop_runs::DropRuns;
use super::event_loop::{EventLoop, Source, State, waker};
use super::file_disk::{FileDisk, FileReader, SpoolError};
use super::helper::Helper;
use super::journal_writer::JournalWriter;
use super::listen::{self, Binder, ListenError, Port, Reserve};
use super::loading::{self, LoadError, Loaded};
use super::own_folder::{self, OwnFolderError};
use super::passed::ChallengeSockets;
use super::privilege::{self, Account, PrivilegeError};
use super::published::Names;
use super::renewals::{Door, Place, Renewals};
use super::sandbox::{Enforced, Rules};
use super::signals::Signals;
use super::time::{Clock, SystemEntropy};
use super::tls::{Read, Tls, TlsError};
use super::workers::Workers;
use super::{
    certificate_files, drop_folder, greylist_file, log, sandbox, secret, system_calls, systemd,
};
use crate::clock::Now;
use crate::config::{Config, Renewal};
use crate::engine::damage::describe_missing;
use crate::engine::event::Event;
use crate::engine::log::{Level, Line};
use crate::engine::{Engine, Start};
use crate::policy::advice::{Advice, advice};
use crate::policy::published::names;
use crate::queue::{IdSource, Journal, OpenError, OpenReport, TipState};
use crate::queue_id::QueueId;

/// Why the relay does not run.
#[derive(Debug)]
pub enum RunError {
    /// The configuration has errors, each a sentence.
    Config(Vec<String>),
    /// A folder cannot be made, or is not what it should be.
    Folder(OwnFolderError),
    /// A socket cannot be bound.
    Listen(ListenError),
    /// The account cannot be taken on.
    Privilege(PrivilegeError),
    /// The spool cannot be opened.
    Spool(PathBuf, SpoolError),
    /// The journal cannot be read.
    Journal(PathBuf, OpenError),
    /// The secret of rewritten senders cannot be read, or made.
    Secret(PathBuf, io::Error),
    /// TLS cannot be set up.
    Tls(TlsError),
    /// The system does not give what every process gets.
    System(&'static str, io::Error),
    /// The journal's thread has ended.
    Writer,
    /// The helper has ended.
    Helper,
}

impl RunError {
    /// The exit code of sysexits.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Folder(..) | Self::Listen(_) | Self::Spool(..) => 73,
            Self::Privilege(_) => 77,
            Self::Journal(..) | Self::Secret(..) => 74,
            Self::Tls(_) | Self::System(..) => 71,
            Self::Writer | Self::Helper => 70,
        }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => {
                for error in errors {
                    writeln!(out, "{error}")?;
                }
                write!(
                    out,
                    "the configuration cannot be used; chopar check says when it can"
                )
            }
            Self::Folder(error) => write!(out, "{error}"),
            Self::Listen(error) => write!(out, "{error}"),
            Self::Privilege(error) => write!(out, "{error}"),
            Self::Spool(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Journal(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Secret(path, error) => write!(
                out,
                "{}: {error}; the file holds a secret of 16 bytes or more on each line, and a new one is made where \
                 there is none",
                path.display()
            ),
            Self::Tls(error) => write!(out, "{error}"),
            Self::System(what, error) => write!(out, "the system gives no {what}: {error}"),
            Self::Helper => out.write_str(
                "the helper has ended, without which no hook, program or maildir is reached; start chopar again",
            ),
            Self::Writer => {
                out.write_str("the journal's thread has ended; what it took is on the disk")
            }
        }
    }
}

impl std::error::Error for RunError {}

impl From<LoadError> for RunError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Config(errors) => Self::Config(errors),
            LoadError::Privilege(error) => Self::Privilege(error),
        }
    }
}

/// Runs the relay of this configuration folder until it is asked to end. `renew` is the life of the thread that renews
/// certificates: it belongs to the floor above, as all of set-up does.
pub fn run(path: &Path, renew: impl FnOnce(Door) + Send + 'static) -> Result<(), RunError> {
    let clock = Clock::start();
    log::start();
    let loaded = loading::load(path)?;
    let dead_targets = loaded.dead_targets();
    let Loaded {
        account,
        config,
        certificates,
        kept,
        authorities,
    } = loaded;
    let config = Arc::new(config);
    say_advice(&config);
    say_all(dead_targets);
    let spool = config.state_dir.join("spool");
    let (ports, sockets) = become_service(&config, &spool, account.as_ref())?;
    let helper = Helper::start(path);
    let (disk, reader) = open_spool(&spool)?;
    let drops = drop_folder::make_folder(&spool)
        .map_err(|error| RunError::Folder(OwnFolderError::Io(spool.join("drop"), error)))?;
    let (mut engine, journal) = recover(&config, disk, &spool, clock.read())?;

    Names::of(&config, path).publish(&config.state_dir);
    let greylist = greylist_file::path(&config.state_dir);
    if let Some(image) = greylist_file::read(&greylist) {
        engine.handle(Event::Greylist(image), clock.read());
    }
    let read = Read {
        found: &certificates,
        authorities: &authorities,
        names: &names(&config),
    };
    let tls =
        Tls::start(read, &kept, &config.hostname, clock.read().wall).map_err(RunError::Tls)?;
    drop((certificates, kept, authorities));
    keep_certificates(&config.state_dir, &tls);
    let rules = Rules::new(&config, path, &spool);
    let enforced = rules.enforce();
    log::write(&sandbox::line(&enforced, system_calls::narrow()));
    let rules = (!matches!(enforced, Ok(Enforced::None) | Err(_))).then_some(rules);
    for port in &ports {
        let line = Line::new(Level::Info, "listening").with("on", port.name());
        let line = line.with("as", format!("{:?}", port.listener).to_lowercase());
        let passed = (port.binder == Binder::Systemd).then_some("systemd");
        log::write(&line.with_some("from", passed));
    }

    let system = |what| move |error| RunError::System(what, error);
    let poll = Poll::new().map_err(system("poll"))?;
    let waker = waker(&poll).map_err(system("poll"))?;
    let place = Place {
        folder: path.to_owned(),
        config: Arc::clone(&config),
        sockets,
        hook: helper.door(),
    };
    let renewals = Renewals::start(place, &waker, renew).map_err(system("threads"))?;
    // That thread alone may bind the ports that challenges come to, whoever gave the right: root, or the unit.
    // Root that is to stay root keeps what it has.
    if account.is_some() || !rustix::process::geteuid().is_root() {
        privilege::drop_capabilities().map_err(RunError::Privilege)?;
    }
    let wake = Arc::clone(&waker);
    let wake = Box::new(move || drop(wake.wake()));
    let places = Places {
        config: path,
        state: &config.state_dir,
    };
    EventLoop {
        engine,
        clock,
        now: clock.read(),
        folder: path.to_owned(),
        ports,
        reserve: Reserve::new(),
        signals: Signals::register(poll.registry(), Source::Signals.token(0))
            .map_err(system("signals"))?,
        workers: Workers::start(&waker).map_err(system("threads"))?,
        journal: JournalWriter::start(journal, wake).map_err(system("threads"))?,
        reader,
        tls,
        helper,
        drops: DropRuns::start(drops, spool.join("damaged"), clock, waker, &config)
            .map_err(system("threads"))?,
        renewals,
        supervisor: systemd::Supervisor::new(),
        state: State::new(certificate_files::fingerprint(places), &config, rules),
        greylist,
        poll,
        config,
    }
    .run()
}

/// Keeps the certificates that are served for the next start. Without that the relay goes on; the log says so.
pub(super) fn keep_certificates(state_dir: &Path, tls: &Tls) {
    if let Err(error) = tls.keep(state_dir) {
        let line = Line::new(Level::Warning, "certificate");
        log::write(&line.with(
            "cause",
            format!("it is not kept for the next start: {error}"),
        ));
    }
}

/// Logs what the configuration should have otherwise.
pub(super) fn say_advice(config: &Config) {
    say_all(advice(config));
}

fn say_all(found: Vec<Advice>) {
    for advice in found {
        log::write(&Line::new(Level::Warning, "config").with("cause", advice));
    }
}

/// Makes the folders, binds the sockets, and leaves root behind. The sockets of programs of this machine come last: what
/// lies in a folder of the account's is the account's own affair.
fn become_service(
    config: &Config,
    spool: &Path,
    account: Option<&Account>,
) -> Result<(Vec<Port>, ChallengeSockets), RunError> {
    for (path, mode) in [
        (config.state_dir.as_path(), 0o755),
        (spool, 0o711),
        (config.runtime_dir.as_path(), 0o755),
    ] {
        let folder = own_folder::open(path, mode).map_err(RunError::Folder)?;
        if let Some(account) = account {
            privilege::hand_over(&folder, path, account).map_err(RunError::Privilege)?;
        }
    }
    let (mut ports, sockets) = listen::bind(&config.listen).map_err(RunError::Listen)?;
    if let Some(account) = account {
        match config.acme.renewal {
            Renewal::Off => privilege::become_account(account),
            Renewal::Obtained | Renewal::All => privilege::become_binding_account(account),
        }
        .map_err(RunError::Privilege)?;
    }
    privilege::renounce().map_err(RunError::Privilege)?;
    ports.extend(listen::bind_local(&config.runtime_dir).map_err(RunError::Listen)?);
    Ok((ports, sockets))
}

fn open_spool(spool: &Path) -> Result<(FileDisk, FileReader), RunError> {
    let mut disk =
        FileDisk::open(spool).map_err(|error| RunError::Spool(spool.to_owned(), error))?;
    let reader = disk.reader();
    Ok((disk, reader))
}

/// Opens the journal and gives the engine what is still owed.
fn recover(
    config: &Arc<Config>,
    disk: FileDisk,
    spool: &Path,
    now: Now,
) -> Result<(Engine, Journal<FileDisk>), RunError> {
    let start = Start {
        config: Arc::clone(config),
        ids: IdSource::above(QueueId::new(0)),
        entropy: Box::new(SystemEntropy::default()),
        rewriter: secret::rewriter(&config.state_dir, now.wall)
            .map_err(|error| RunError::Secret(config.state_dir.join(secret::FILE), error))?,
    };
    let mut engine = Engine::new(start, now);
    engine.set_log_level(log::shown());
    engine.set_operator(rustix::process::getuid().as_raw());
    // Each message goes to the engine as it is found: a long queue is never in memory twice.
    let mut sink = |recovered| engine.handle(Event::Recovered(Box::new(recovered)), now);
    let (journal, report) = Journal::open(disk, &mut sink)
        .map_err(|error| RunError::Journal(spool.to_owned(), error))?;
    say_report(&report);
    let (ids, untold) = (report.ids(), report.untold);
    engine.handle(Event::RecoveryOver { ids, untold }, now);
    Ok((engine, journal))
}

/// Logs what recovery found.
fn say_report(report: &OpenReport) {
    let line = Line::new(Level::Info, "recovered").with("messages", report.messages);
    log::write(
        &line
            .with("segments", report.segments)
            .with("torn", report.torn.len()),
    );
    for damage in &report.damage {
        let line = Line::new(Level::Error, "damaged").with_some("id", damage.id);
        log::write(
            &line
                .with("segment", damage.segment)
                .with("offset", damage.offset)
                .with("bytes", damage.len),
        );
    }
    for missing in &report.missing {
        let line = Line::new(Level::Error, "segment-missing").with("segment", missing.segment);
        log::write(&line.with("cure", describe_missing(missing)));
    }
    if report.more_damage > 0 {
        log::write(&Line::new(Level::Error, "damaged").with("more", report.more_damage));
    }
    for aside in &report.untold {
        log::write(&Line::new(Level::Error, "set-aside").with("name", aside.name()));
    }
    for segment in &report.strays {
        let line = Line::new(Level::Warning, "stray-segment").with("segment", segment);
        log::write(&line.with(
            "cause",
            "the journal does not refer to it; it is left alone",
        ));
    }
    if report.tip == TipState::Damaged {
        let line = Line::new(Level::Error, "tip-damaged");
        log::write(&line.with(
            "cause",
            "the loss of the newest segments would not be noticed",
        ));
    }
    for (folder, name) in &report.foreign {
        let line = Line::new(Level::Warning, "foreign").with("folder", folder.name());
        log::write(&line.with("name", name));
    }
}

/// When /etc/resolv.conf changed last, as far as is known.
pub(super) fn resolv_conf_changed() -> Option<std::time::SystemTime> {
    fs::metadata("/etc/resolv.conf")
        .and_then(|about| about.modified())
        .ok()
}
