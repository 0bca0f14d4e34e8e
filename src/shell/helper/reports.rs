//! Delivery of reports: the content of a report is counted in `reports/DOMAIN.json` of the state folder; a message that
//! is not a report goes to `admin`.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `DOMAIN.json` | [`Ledger`]: counts, and the ids of the reports that are in them |
//! | `tally.json` | [`Tally`]: what became of all that came |
//! | `summary.json` | [`Page`]: what the status page shows |
//! | `lock` | nothing; whoever writes holds it |
//!
//! A ledger that cannot be read is set aside as `DOMAIN.json.damaged`. Invariants: one thread of one process reads a
//! report at a time; when a delivery is done, its counts are on the disk; a report that arrives again after a crash is
//! recognized by its id, which is in the same file as its counts. A refused report is finished: its sender is not
//! notified.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::content::Content;
use super::shared::Shared;
use crate::address::{Domain, Mailbox, ReversePath};
use crate::auth::results::{claims_id, says_dmarc_passed};
use crate::config::Config;
use crate::date::Timestamp;
use crate::engine::event::StateFile;
use crate::engine::log::{Level, Line};
use crate::escape::one_line;
use crate::limits::{
    HEADER_BYTES_MAX, REPORT_FILE_BYTES_MAX, REPORT_MESSAGE_BYTES_MAX, REPORT_SUMMARY_DAYS,
    REPORT_SUMMARY_DOMAINS_MAX,
};
use crate::mail::authors::authors;
use crate::mail::header::{Header, split};
use crate::report::{
    self, DomainSummary, KnownAddress, Ledger, LedgerAddition, Page, ReceivedReport, ReportReading,
    ReportRefusal, Reporter, Tally,
};
use crate::shell::files::loading;
use crate::shell::files::replace::replace;
use crate::shell::process::log;
use crate::shell::process::time::wall;
use crate::shell::spool::drop_folder::Draft;

/// Why a message was neither counted nor passed on.
#[derive(Debug)]
pub(super) enum ReportError {
    /// A file could not be read or written.
    Io(PathBuf, io::Error),
    /// The configuration cannot be read now.
    Config(String),
    /// This host forwarded it to `admin` before, and it has returned.
    Loop,
    /// It is not a report, and `admin` is not set.
    NoAdmin,
}

/// Counts a report, or forwards any other message to `admin`.
pub(super) fn deliver(
    sender: Option<&ReversePath>,
    mailbox: &Mailbox,
    content: &Content,
    shared: &Shared,
) -> Result<&'static str, ReportError> {
    // Nothing is kept under the lock but the turn itself.
    let _turn = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
    let config = loading::read(&shared.directory.folder)
        .map_err(|errors| ReportError::Config(errors.into_iter().next().unwrap_or_default()))?;
    let folder = Place::open(&config)?;
    let bytes = front(content).map_err(|error| ReportError::Io(folder.path.clone(), error))?;
    let header = header(&bytes);
    match report::read(&bytes, content.len()) {
        ReportReading::Other => {
            pass_on(&config, sender, mailbox, &header, content)?;
            folder.tally(&config, &[], |tally| {
                tally.passed_on = tally.passed_on.saturating_add(1);
            })?;
            Ok("no report; passed on to admin")
        }
        ReportReading::Refused(refusal) => folder.refuse(&config, &header, refusal),
        ReportReading::Report(report) => {
            let reporter = reporter(&config, &header);
            folder.count(&config, &header, &report, &reporter)
        }
    }
}

/// The part of a message that is read.
fn front(content: &Content) -> io::Result<Vec<u8>> {
    let most = match content.len() > REPORT_MESSAGE_BYTES_MAX as u64 {
        true => HEADER_BYTES_MAX,
        false => REPORT_MESSAGE_BYTES_MAX,
    };
    let mut bytes = vec![0; most.min(usize::try_from(content.len()).unwrap_or(most))];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let len = content.read_at(at as u64, rest)?;
        if len == 0 {
            break;
        }
        at += len;
    }
    bytes.truncate(at);
    Ok(bytes)
}

/// The header of a message whose lines end with LF.
fn header(bytes: &[u8]) -> Header {
    let head = bytes.get(..HEADER_BYTES_MAX).unwrap_or(bytes);
    let end = head.windows(2).position(|pair| pair == b"\n\n");
    let head = head
        .get(..end.map_or(head.len(), |end| end + 1))
        .unwrap_or_default();
    let mut lines = with_crlf(head);
    lines.truncate(split(&lines).0.len());
    Header::parse(lines).unwrap_or_default()
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    for byte in text {
        if *byte == b'\n' {
            lines.push(b'\r');
        }
        lines.push(*byte);
    }
    lines
}

/// The author's domain, if this host found that DMARC passes. A forged result in our name was removed on receipt.
fn reporter(config: &Config, header: &Header) -> Reporter {
    let authors = authors(header).unwrap_or_default();
    let [author] = authors.as_slice() else {
        return Reporter::Unverified;
    };
    let id = config.hostname.as_str();
    let mut ours = header
        .named("Authentication-Results")
        .filter(|field| claims_id(field.value(), id));
    match ours.any(|field| says_dmarc_passed(&String::from_utf8_lossy(field.value()), author)) {
        true => Reporter::Verified(author.clone()),
        false => Reporter::Unverified,
    }
}

/// The served domain that contains a domain.
fn served<'a>(config: &'a Config, domain: &Domain) -> Option<&'a Domain> {
    let mut name = domain.as_str();
    loop {
        if let Some((served, _)) = config.domains.get_key_value(name) {
            return Some(served);
        }
        (_, name) = name.split_once('.')?;
    }
}

/// The folder of the reports, held by this process.
struct Place {
    path: PathBuf,
    now: Timestamp,
    _lock: File,
}

impl Place {
    fn open(config: &Config) -> Result<Self, ReportError> {
        let path = config.state_dir.join("reports");
        let open = || {
            match DirBuilder::new().mode(0o750).create(&path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            let lock = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .open(path.join("lock"))?;
            lock.lock()?;
            sweep(&path)?;
            Ok(lock)
        };
        match open() {
            Ok(lock) => Ok(Self {
                path,
                now: wall(),
                _lock: lock,
            }),
            Err(error) => Err(ReportError::Io(path, error)),
        }
    }

    fn count(
        &self,
        config: &Config,
        header: &Header,
        report: &ReceivedReport,
        reporter: &Reporter,
    ) -> Result<&'static str, ReportError> {
        let about = report::served(report, |domain| served(config, domain));
        let mut added = LedgerAddition::Refused(ReportRefusal::Foreign);
        for domain in &about {
            let mut ledger = self.ledger(domain)?;
            let is_ours = |other: &Domain| served(config, other) == Some(*domain);
            let here = ledger.add(report, reporter, self.now, &is_ours);
            if here == LedgerAddition::Counted {
                self.write(&file_of(domain), &ledger.to_json())?;
            }
            added = match (added, here) {
                (LedgerAddition::Counted, _) => LedgerAddition::Counted,
                (_, here) => here,
            };
        }
        match added {
            LedgerAddition::Counted => {
                self.tally(config, &about, |tally| {
                    tally.counted = tally.counted.saturating_add(1);
                })?;
                Ok("the report is counted")
            }
            LedgerAddition::Known => {
                self.tally(config, &about, |tally| {
                    tally.known = tally.known.saturating_add(1);
                })?;
                Ok("the report was counted before")
            }
            LedgerAddition::Refused(refusal) => self.refuse(config, header, refusal),
        }
    }

    fn refuse(
        &self,
        config: &Config,
        header: &Header,
        refusal: ReportRefusal,
    ) -> Result<&'static str, ReportError> {
        let author = authors(header).ok();
        let author = author.and_then(|authors| authors.into_iter().next());
        let line = Line::new(Level::Warning, "report-refused")
            .with("cause", refusal.as_str())
            .with_some("author", author);
        log::write(&line);
        self.tally(config, &[], |tally| {
            let count = tally.refused.entry(refusal.as_str().to_owned());
            let count = count.or_default();
            *count = count.saturating_add(1);
        })?;
        Ok("the report is not accepted, and its sender is not notified")
    }

    /// Counts the result of a message. Rewrites the part of the summary that `changed` names, or all of it on another
    /// day, because it covers the most recent days.
    fn tally(
        &self,
        config: &Config,
        changed: &[&Domain],
        change: impl FnOnce(&mut Tally),
    ) -> Result<(), ReportError> {
        let mut tally = tally_of(&self.path);
        change(&mut tally);
        self.write(TALLY, &serde_json::to_vec(&tally).unwrap_or_default())?;
        let path = Path::new(StateFile::Reports.file());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let before = bounded(&self.path.join(&*name)).ok();
        let before = before.and_then(|bytes| Page::parse(&bytes, self.now));
        let mut domains = Vec::new();
        for domain in config.domains.keys() {
            if domains.len() >= REPORT_SUMMARY_DOMAINS_MAX {
                break;
            }
            let kept = before.as_ref().and_then(|page| page.of(domain));
            match kept.filter(|_| !changed.contains(&domain)) {
                Some(kept) => domains.push(kept.clone()),
                None if before.is_some() && !changed.contains(&domain) => {}
                None if self.path.join(file_of(domain)).exists() => {
                    let ledger = self.ledger(domain)?;
                    let about = (self.now, REPORT_SUMMARY_DAYS as u64);
                    let summary =
                        DomainSummary::new(domain, &ledger, about, &mut |address| KnownAddress {
                            is_own: is_own(config, address),
                            ..KnownAddress::default()
                        });
                    domains.push(summary.into());
                }
                None => {}
            }
        }
        let page = Page {
            at: self.now.seconds(),
            tally,
            domains,
        };
        self.write(&name, &page.to_json())
    }

    fn ledger(&self, domain: &Domain) -> Result<Ledger, ReportError> {
        let path = self.path.join(file_of(domain));
        match ledger_of(&self.path, domain) {
            Ok(Some(ledger)) => Ok(ledger),
            Ok(None) => {
                let aside = path.with_extension("json.damaged");
                fs::rename(&path, &aside).map_err(|error| ReportError::Io(path.clone(), error))?;
                let cause = format!("{} is damaged, and set aside", path.display());
                log::write(
                    &Line::new(Level::Error, "report-ledger").with("cause", one_line(&cause)),
                );
                Ok(Ledger::default())
            }
            Err(error) => Err(ReportError::Io(path, error)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
        let path = self.path.join(name);
        replace(&path, bytes, 0o640).map_err(|error| ReportError::Io(path, error))
    }
}

/// The stored ledger of a domain; `None` if it cannot be parsed.
pub fn ledger_of(folder: &Path, domain: &Domain) -> io::Result<Option<Ledger>> {
    match bounded(&folder.join(file_of(domain))) {
        Ok(bytes) => Ok(Ledger::parse(&bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Ledger::default())),
        Err(error) => Err(error),
    }
}

/// The results of all messages.
pub fn tally_of(folder: &Path) -> Tally {
    let bytes = bounded(&folder.join(TALLY)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(REPORT_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes temporary files that a crash left. No other process writes here.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            drop(fs::remove_file(entry.path()));
        }
    }
    Ok(())
}

/// A name of one label keeps its dot, so that it differs from the other files in the folder.
fn file_of(domain: &Domain) -> String {
    match domain.as_str().contains('.') {
        true => format!("{domain}.json"),
        false => format!("{domain}..json"),
    }
}

fn is_own(config: &Config, address: IpAddr) -> bool {
    let delivery = &config.delivery;
    let bound = [
        delivery.bind4.map(IpAddr::V4),
        delivery.bind6.map(IpAddr::V6),
    ];
    bound.contains(&Some(address))
}

/// Hands a message to the relay for `admin`: when this returns, it is durable in the drop folder.
fn pass_on(
    config: &Config,
    sender: Option<&ReversePath>,
    mailbox: &Mailbox,
    header: &Header,
    content: &Content,
) -> Result<(), ReportError> {
    let admin = config.admin.as_ref().ok_or(ReportError::NoAdmin)?;
    let mark = mailbox.as_str();
    let mut before = header.named("Delivered-To");
    if before.any(|field| field.unfolded().eq_ignore_ascii_case(mark.as_bytes())) {
        return Err(ReportError::Loop);
    }
    // A DSN is never answered. For any other message the postmaster of this host is informed, because the sender's
    // domain does not allow this host to send in its name.
    let domain = mailbox.domain();
    let from = match sender.is_none_or(ReversePath::is_null) {
        true => String::new(),
        false => format!("postmaster@{domain}"),
    };
    let envelope = [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{admin}>")];
    let head = format!("Delivered-To: {mark}\r\n");
    let mut message = io::Read::chain(head.as_bytes(), Lines::new(content));
    let folder = config.state_dir.join("spool").join("drop");
    let dropped = Draft::write(&folder, &envelope, &mut message).and_then(Draft::complete);
    dropped.map_err(|error| ReportError::Io(folder, error))
}

/// A message with CRLF line ends.
struct Lines<'a> {
    content: &'a Content,
    at: u64,
    ready: Vec<u8>,
    given: usize,
}

impl<'a> Lines<'a> {
    fn new(content: &'a Content) -> Self {
        Self {
            content,
            at: 0,
            ready: Vec::new(),
            given: 0,
        }
    }
}

impl io::Read for Lines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            let mut block = vec![0; BLOCK_BYTES];
            let len = self.content.read_at(self.at, &mut block)?;
            self.at += len as u64;
            self.ready = with_crlf(block.get(..len).unwrap_or_default());
            self.given = 0;
        }
        let mut rest = self.ready.get(self.given..).unwrap_or_default();
        let len = rest.read(into)?;
        self.given += len;
        Ok(len)
    }
}

const TALLY: &str = "tally.json";
const BLOCK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_behind_is_removed_and_no_name_of_a_domain_is_that_of_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in [".example.com.json.00", "example.com.json", "lock"] {
            fs::write(folder.path().join(name), "x").expect("a file");
        }
        sweep(folder.path()).expect("swept");
        let left = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 2);
        for name in ["tally", "summary", "lock", "example.com"] {
            let file = file_of(&Domain::parse(name).expect("a domain"));
            let ours = [TALLY, "summary.json", "lock"];
            assert!(!ours.contains(&file.as_str()), "{file}");
        }
    }

    #[test]
    fn a_domain_is_of_the_closest_that_is_served() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["example.com", "sub.example.com"] {
            fs::create_dir_all(folder.path().join("domains").join(name)).expect("a folder");
        }
        fs::write(folder.path().join("chopar.toml"), "").expect("a file");
        let config = loading::read(folder.path()).expect("a configuration");
        for (name, found) in [
            ("example.com", Some("example.com")),
            ("a.b.example.com", Some("example.com")),
            ("x.sub.example.com", Some("sub.example.com")),
            ("notexample.com", None),
            ("com", None),
        ] {
            let domain = Domain::parse(name).expect("a domain");
            assert_eq!(
                served(&config, &domain).map(Domain::as_str),
                found,
                "{name}"
            );
        }
    }
}
