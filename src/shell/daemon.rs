//! From a configuration to a running relay: sockets, account, spool, sandbox, threads, event loop, in this order.
//!
//! Root binds the ports and makes the folders. Then the account is changed, the helper is started and the sandbox is
//! closed, before the first thread starts and before anything is read that a peer has written. One right of root is
//! kept for a while: the thread that renews certificates starts with the right to bind low ports, all other threads
//! without it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mio::Poll;

use crate::clock::Now;
use crate::config::{Config, Renewal};
use crate::engine::damage::describe_missing;
use crate::engine::event::Event;
use crate::engine::log::{Level, Line};
use crate::engine::{Engine, EngineStart};
use crate::policy::published::names;
use crate::queue::{IdSource, Journal, OpenReport, TipState};
use crate::queue_id::QueueId;
use crate::shell::certificates::log::keep_certificates;
use crate::shell::certificates::pairs;
use crate::shell::certificates::pairs::PairPlaces;
use crate::shell::event_loop::{EventLoop, LoopPaths, LoopState, TokenSource, waker};
use crate::shell::files::loading::{self, Loaded, say_advice, say_all};
use crate::shell::files::own_folder::{self, OwnFolderError};
use crate::shell::files::published::PublishedNames;
use crate::shell::files::secret;
use crate::shell::helper::Helper;
use crate::shell::net::listen::{self, Binder, ListeningPort, Reserve};
use crate::shell::net::passed::ChallengeSockets;
use crate::shell::process::log;
use crate::shell::process::privilege::{self, SystemAccount};
use crate::shell::process::sandbox;
use crate::shell::process::sandbox::{Enforced, SandboxRules};
use crate::shell::process::signals::Signals;
use crate::shell::process::system_calls;
use crate::shell::process::systemd;
use crate::shell::process::time::{Clock, SystemEntropy};
use crate::shell::renewals::{RenewalContext, RenewalPlace, Renewals};
pub use crate::shell::run_error::RunError;
use crate::shell::spool::drop_folder;
use crate::shell::spool::drop_runs::DropRuns;
use crate::shell::spool::file_disk::{FileDisk, FileReader};
use crate::shell::spool::greylist_file;
use crate::shell::spool::journal_writer::JournalWriter;
use crate::shell::tls::{Read, Tls};
use crate::shell::workers::Workers;

/// Runs the relay of this configuration folder until it is asked to end. `renew` is the life of the thread that renews
/// certificates: it belongs to the floor above, as all of set-up does.
pub fn run(
    path: &Path,
    renew: impl FnOnce(RenewalContext) + Send + 'static,
) -> Result<(), RunError> {
    let clock = Clock::start();
    log::start();
    let prepared = prepare(path, clock)?;
    let config = prepared.config;

    let system = |what| move |error| RunError::System(what, error);
    let poll = Poll::new().map_err(system("poll"))?;
    let waker = waker(&poll).map_err(system("poll"))?;
    let place = RenewalPlace {
        folder: path.to_owned(),
        config: Arc::clone(&config),
        sockets: prepared.sockets,
        hook: prepared.helper.client(),
    };
    let renewals = Renewals::start(place, &waker, renew).map_err(system("threads"))?;
    drop_last_right(prepared.account.as_ref())?;
    let wake = Arc::clone(&waker);
    let wake = Box::new(move || drop(wake.wake()));
    let places = PairPlaces {
        config: path,
        state: &config.state_dir,
    };
    let damaged = prepared.spool.join("damaged");
    EventLoop {
        engine: prepared.engine,
        clock,
        now: clock.read(),
        paths: LoopPaths {
            folder: path.to_owned(),
            greylist: prepared.greylist,
        },
        ports: prepared.ports,
        reserve: Reserve::new(),
        signals: Signals::register(poll.registry(), TokenSource::Signals.token(0))
            .map_err(system("signals"))?,
        workers: Workers::start(&waker).map_err(system("threads"))?,
        journal: JournalWriter::start(prepared.journal, wake).map_err(system("threads"))?,
        reader: prepared.reader,
        tls: prepared.tls,
        helper: prepared.helper,
        drops: DropRuns::start(prepared.drops, damaged, clock, waker, &config)
            .map_err(system("threads"))?,
        renewals,
        supervisor: systemd::Systemd::new(),
        state: LoopState::new(pairs::fingerprint(places), &config, prepared.rules),
        poll,
        config,
    }
    .run()
}

/// What the process has opened and read before its first thread starts.
struct Prepared {
    config: Arc<Config>,
    account: Option<SystemAccount>,
    ports: Vec<ListeningPort>,
    sockets: ChallengeSockets,
    helper: Helper,
    spool: PathBuf,
    reader: FileReader,
    /// The drop folder.
    drops: PathBuf,
    engine: Engine,
    journal: Journal<FileDisk>,
    /// The file of the greylist.
    greylist: PathBuf,
    tls: Tls,
    /// The rules of the sandbox, if they are enforced.
    rules: Option<SandboxRules>,
}

/// Goes from the configuration to the closed sandbox; the process still has one thread.
fn prepare(path: &Path, clock: Clock) -> Result<Prepared, RunError> {
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

    PublishedNames::of(&config, path).publish(&config.state_dir);
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
    keep_certificates(&config.state_dir, &tls);
    let rules = close_sandbox(&config, path, &spool);
    ports.iter().for_each(log_port);
    Ok(Prepared {
        config,
        account,
        ports,
        sockets,
        helper,
        spool,
        reader,
        drops,
        engine,
        journal,
        greylist,
        tls,
        rules,
    })
}

/// Closes the sandbox; returns its rules if they are enforced.
fn close_sandbox(config: &Config, folder: &Path, spool: &Path) -> Option<SandboxRules> {
    let rules = SandboxRules::new(config, folder, spool);
    let enforced = rules.enforce();
    log::write(&sandbox::line(&enforced, system_calls::narrow()));
    (!matches!(enforced, Ok(Enforced::None) | Err(_))).then_some(rules)
}

fn log_port(port: &ListeningPort) {
    let line = Line::new(Level::Info, "listening").with("on", port.name());
    let line = line.with("as", format!("{:?}", port.listener).to_lowercase());
    let passed = (port.binder == Binder::Systemd).then_some("systemd");
    log::write(&line.with_some("from", passed));
}

/// Only the thread that renews certificates may bind the ports of challenges, whether root or the unit gave the right.
/// If root stays root, it keeps its rights.
fn drop_last_right(account: Option<&SystemAccount>) -> Result<(), RunError> {
    if account.is_some() || !rustix::process::geteuid().is_root() {
        privilege::drop_capabilities().map_err(RunError::Privilege)?;
    }
    Ok(())
}

/// Makes the folders, binds the sockets, and drops root. The sockets for programs of this machine come last: files in a
/// folder of the account's are the account's responsibility.
fn become_service(
    config: &Config,
    spool: &Path,
    account: Option<&SystemAccount>,
) -> Result<(Vec<ListeningPort>, ChallengeSockets), RunError> {
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

/// Opens the journal and gives the queued messages to the engine.
fn recover(
    config: &Arc<Config>,
    disk: FileDisk,
    spool: &Path,
    now: Now,
) -> Result<(Engine, Journal<FileDisk>), RunError> {
    let start = EngineStart {
        config: Arc::clone(config),
        ids: IdSource::above(QueueId::new(0)),
        entropy: Box::new(SystemEntropy::default()),
        rewriter: secret::rewriter(&config.state_dir, now.wall)
            .map_err(|error| RunError::Secret(config.state_dir.join(secret::FILE), error))?,
    };
    let mut engine = Engine::new(start, now);
    engine.set_log_level(log::shown());
    engine.set_operator(rustix::process::getuid().as_raw());
    // Each message goes to the engine when it is found: a long queue is never in memory twice.
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
