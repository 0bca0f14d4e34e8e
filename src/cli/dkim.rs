//! `chopar dkim`: makes keys and their records, and signs or verifies a message from standard input.
//!
//! The bodies take their inputs as arguments (the configuration folder, streams, the time, a look-up), so they can be
//! tested without a process. Exit codes follow sysexits.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use argh::FromArgs;
use zeroize::Zeroizing;

use super::failure::cure;
use super::output::say;
use crate::address::{AddressError, Domain};
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::auth::dkim::key::{KeyError, SignError, SigningKey};
use crate::auth::dkim::record::{record_name, record_text, zone_lines};
use crate::auth::dkim::sign::{Signer, prepare};
use crate::auth::dkim::verdict::{DkimResult, SignatureVerdict};
use crate::auth::dkim::verify::DkimVerification;
use crate::date::Timestamp;
use crate::dns::{Answer, Question, verdict};
use crate::limits::{COMMAND_MESSAGE_BYTES_MAX, DKIM_KEY_FILE_BYTES_MAX, DKIM_KEYS_PER_DOMAIN_MAX};
use crate::mail::address_list::{FromError, from_mailboxes};
use crate::mail::header::{Header, HeaderError, header_and_body};
use crate::setup::dkim_key::{self, KeyKind};

/// Create DKIM keys, print their DNS records, sign and verify messages.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "dkim")]
pub struct Dkim {
    /// what to do
    #[argh(subcommand)]
    pub command: DkimCommand,
}

/// What `chopar dkim` does.
#[derive(Debug, FromArgs)]
#[argh(subcommand)]
pub enum DkimCommand {
    /// `chopar dkim keygen`.
    Keygen(Keygen),
    /// `chopar dkim record`.
    Record(Record),
    /// `chopar dkim sign`.
    Sign(Sign),
    /// `chopar dkim verify`.
    Verify(Verify),
}

/// Create a key for a domain and print its DNS record.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "keygen")]
pub struct Keygen {
    /// the domain that signs
    #[argh(positional)]
    pub domain: String,
    /// the selector, which names the key in the DNS, such as s2026
    #[argh(option)]
    pub selector: String,
    /// rsa or ed25519 (default: rsa, which every receiver supports)
    #[argh(option, default = "KeyType::Rsa")]
    pub algorithm: KeyType,
    /// bits of an RSA key: 2048, 3072 or 4096 (default: 2048)
    #[argh(option, default = "2048")]
    pub bits: usize,
}

/// Print the DNS records of all keys of a domain.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "record")]
pub struct Record {
    /// the domain that signs
    #[argh(positional)]
    pub domain: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Sign a message and write it to standard output.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "sign")]
pub struct Sign {
    /// the message (default: standard input)
    #[argh(positional)]
    pub file: Option<PathBuf>,
    /// the domain that signs (default: the domain of From)
    #[argh(option)]
    pub domain: Option<String>,
    /// the selector of the key (default: all keys of the domain)
    #[argh(option)]
    pub selector: Option<String>,
    /// another key file (its name is the selector, unless --selector is given)
    #[argh(option)]
    pub key: Option<PathBuf>,
}

/// Verify the signatures of a message: one line for each; exit 0 if one passes, 75 if one may pass once the DNS
/// answers, 65 otherwise.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "verify")]
pub struct Verify {
    /// the message (default: standard input)
    #[argh(positional)]
    pub file: Option<PathBuf>,
    /// ask this DNS server for keys, ADDRESS:PORT (default: the servers of the relay)
    #[argh(option)]
    pub dns: Option<SocketAddr>,
}

/// The kind of a new key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyType {
    Rsa,
    /// Ed25519 (RFC 8463).
    Ed25519,
}

/// The word is not a [`KeyType`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadKeyType;

/// Why a command failed.
#[derive(Debug)]
pub enum DkimError {
    /// The domain is none.
    Domain(AddressError),
    /// The selector is not a valid DNS name.
    Selector,
    /// RSA keys of this size are not made.
    Bits(usize),
    NotServed(Domain),
    /// The domain has no keys, or none of that selector.
    NoKeys(Domain),
    /// The key is there already.
    Exists(PathBuf),
    /// A file cannot be used as a key.
    Key(PathBuf, KeyError),
    /// A file or folder cannot be read.
    Read(PathBuf, io::Error),
    /// A file cannot be created.
    Create(PathBuf, io::Error),
    /// Standard input or output failed.
    Stream(io::Error),
    /// The message is over [`COMMAND_MESSAGE_BYTES_MAX`].
    TooLong,
    /// The message has no header that could be signed or verified.
    Header(HeaderError),
    /// No author can be determined.
    From(FromError),
    /// A key could not be made or used.
    Fault,
    /// No signature passed; it has been said which and why.
    NotVerified,
    /// No signature passed, and one may, once the DNS answers.
    NoAnswer,
}

impl KeyType {
    /// As the command line names them.
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("rsa", Self::Rsa), ("ed25519", Self::Ed25519)];
}

impl FromStr for KeyType {
    type Err = BadKeyType;

    fn from_str(word: &str) -> Result<Self, BadKeyType> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, kind)| *kind).ok_or(BadKeyType)
    }
}

impl fmt::Display for BadKeyType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("expected rsa or ed25519")
    }
}

/// A key that was created, and its record.
pub struct CreatedKey {
    pub path: PathBuf,
    pub selector: String,
    pub domain: Domain,
    /// The text of the record.
    pub text: String,
}

impl Keygen {
    /// Writes the key and prints its record.
    pub fn run(&self, folder: &Path, output: &mut dyn Write) -> Result<(), DkimError> {
        let created = self.create(folder)?;
        let lines = zone_lines(&created.selector, &created.domain, &created.text);
        output
            .write_all(lines.as_bytes())
            .map_err(DkimError::Stream)?;
        say(format_args!(
            "created {}; publish this record, then run `sudo chopar reload`, so that the daemon signs with the key",
            created.path.display()
        ));
        Ok(())
    }

    /// Writes the key to `domains/DOMAIN/dkim/SELECTOR.pem` below `folder`.
    pub fn create(&self, folder: &Path) -> Result<CreatedKey, DkimError> {
        let domain = parse_domain(&self.domain)?;
        let selector = parse_selector(&self.selector, &domain)?;
        let kind = match self.algorithm {
            KeyType::Ed25519 => KeyKind::Ed25519,
            KeyType::Rsa => KeyKind::Rsa { bits: self.bits },
        };
        let pem = dkim_key::generate(kind)?;
        let home = domain_folder(folder, &domain);
        if !home.is_dir() {
            return Err(DkimError::NotServed(domain));
        }
        let keys = home.join("dkim");
        let path = keys.join(format!("{selector}.pem"));
        let key =
            SigningKey::from_pem(&pem).map_err(|error| DkimError::Key(path.clone(), error))?;
        dkim_key::create(folder, &path, pem.as_bytes())?;
        Ok(CreatedKey {
            path,
            selector,
            domain,
            text: record_text(&key),
        })
    }
}

impl Record {
    /// Prints the records of all keys of the domain.
    pub fn run(&self, folder: &Path, output: &mut dyn Write) -> Result<(), DkimError> {
        let domain = parse_domain(&self.domain)?;
        let keys = domain_keys(folder, &domain, None)?;
        let text = if self.json {
            let records: Vec<serde_json::Value> = keys
                .iter()
                .map(|(selector, key)| {
                    serde_json::json!({
                        "name": record_name(selector, &domain),
                        "type": "TXT",
                        "value": record_text(key),
                        "selector": selector,
                        "algorithm": key.algorithm().as_str(),
                        "bits": key.bits(),
                    })
                })
                .collect();
            format!("{:#}\n", serde_json::Value::Array(records))
        } else {
            keys.iter()
                .map(|(selector, key)| zone_lines(selector, &domain, &record_text(key)))
                .collect()
        };
        output.write_all(text.as_bytes()).map_err(DkimError::Stream)
    }
}

impl Sign {
    /// Reads a message from the file or `input`, and writes it with its signatures, lines ending in CRLF.
    pub fn run(
        &self,
        folder: &Path,
        input: &mut dyn Read,
        output: &mut dyn Write,
        at: Timestamp,
    ) -> Result<(), DkimError> {
        let message = read_message(self.file.as_deref(), input)?;
        let (header, body) = split(&message)?;
        let domain = self.domain(&header)?;
        let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
        hasher.update(body);
        let body_hash = hasher.finish().hash;
        let mut signed = Vec::new();
        for (selector, key) in self.keys(folder, &domain)? {
            let signer = Signer {
                domain: &domain,
                selector: &selector,
                algorithm: key.algorithm(),
                at,
            };
            let prepared = prepare(&header, b"", &body_hash, &signer);
            let signature = key
                .sign(prepared.data())
                .map_err(|SignError::Fault| DkimError::Fault)?;
            signed.extend(prepared.finish(&signature));
        }
        signed.extend_from_slice(&message);
        output.write_all(&signed).map_err(DkimError::Stream)
    }

    /// The domain that signs.
    pub(super) fn domain(&self, header: &Header) -> Result<Domain, DkimError> {
        match &self.domain {
            Some(domain) => parse_domain(domain),
            None => from_mailboxes(header)
                .map_err(DkimError::From)?
                .first()
                .map(|mailbox| mailbox.domain().clone())
                .ok_or(DkimError::From(FromError::Empty)),
        }
    }

    /// The keys that sign, with their selectors.
    pub(super) fn keys(
        &self,
        folder: &Path,
        domain: &Domain,
    ) -> Result<Vec<(String, SigningKey)>, DkimError> {
        let Some(path) = &self.key else {
            return domain_keys(folder, domain, self.selector.as_deref());
        };
        let stem = || path.file_stem().and_then(|stem| stem.to_str());
        let selector = self.selector.as_deref().or_else(stem);
        let selector = parse_selector(selector.unwrap_or_default(), domain)?;
        Ok(vec![(selector, read_key(path)?)])
    }
}

impl Verify {
    /// Reads a message from the file or `input` and prints the verdicts on its signatures, with the keys from `lookup`.
    pub fn run(
        &self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        at: Timestamp,
        lookup: &mut dyn FnMut(&Question) -> Answer,
    ) -> Result<(), DkimError> {
        let message = read_message(self.file.as_deref(), input)?;
        let (header, body) = split(&message)?;
        let verdicts = verify_signatures(&header, body, at, lookup);
        let mut text: String = verdicts.iter().map(verdict_line).collect();
        if verdicts.is_empty() {
            text.push_str("none the message has no signature\n");
        }
        output
            .write_all(text.as_bytes())
            .map_err(DkimError::Stream)?;
        let is_there = |wanted| verdicts.iter().any(|one| one.verdict() == wanted);
        match (is_there(DkimResult::Pass), is_there(DkimResult::TempError)) {
            (true, _) => Ok(()),
            (false, true) => Err(DkimError::NoAnswer),
            (false, false) => Err(DkimError::NotVerified),
        }
    }
}

/// The verdicts on all signatures of a message.
pub(super) fn verify_signatures(
    header: &Header,
    body: &[u8],
    at: Timestamp,
    lookup: &mut dyn FnMut(&Question) -> Answer,
) -> Vec<SignatureVerdict> {
    let mut verification = DkimVerification::new(header, at);
    verification.on_body(body);
    verdict(lookup, |answers| verification.resume(header, answers))
}

impl DkimError {
    /// The exit code of sysexits.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Domain(_) | Self::Selector | Self::Bits(_) => 64,
            Self::TooLong | Self::Header(_) | Self::From(_) | Self::NotVerified => 65,
            Self::NoAnswer => 75,
            Self::Read(..) => 66,
            Self::Fault => 70,
            Self::Exists(_) | Self::Create(..) => 73,
            Self::Stream(_) => 74,
            Self::NotServed(_) | Self::NoKeys(_) | Self::Key(..) => 78,
        }
    }
}

impl fmt::Display for DkimError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(error) => write!(out, "the domain cannot be used: {error}"),
            Self::Selector => out.write_str(
                "the selector cannot be used: expected labels of letters, digits and hyphens, such as s2026",
            ),
            Self::Bits(bits) => write!(
                out,
                "RSA keys of {bits} bits are not supported: choose 2048, 3072 or 4096"
            ),
            Self::NotServed(domain) => write!(
                out,
                "{domain} is not served here: add it with `chopar domain add {domain}` first"
            ),
            Self::NoKeys(domain) => write!(
                out,
                "{domain} has no such key: create one with `chopar dkim keygen {domain} --selector NAME`"
            ),
            Self::Exists(path) => write!(
                out,
                "{} exists and is kept: choose another selector",
                path.display()
            ),
            Self::Key(path, error) => write!(out, "{}: {error}", path.display()),
            Self::Read(path, error) => {
                let path = path.display();
                write!(out, "{path} cannot be read: {error}{}", cure(error))
            }
            Self::Create(path, error) => {
                let path = path.display();
                write!(out, "{path} cannot be created: {error}{}", cure(error))
            }
            Self::Stream(error) => write!(out, "standard input or output failed: {error}"),
            Self::TooLong => write!(
                out,
                "the message is longer than {COMMAND_MESSAGE_BYTES_MAX} bytes"
            ),
            Self::Header(error) => write!(out, "this is not a message: {error}"),
            Self::From(error) => write!(out, "the signing domain is not clear; add --domain: {error}"),
            Self::Fault => out.write_str("the system gave no randomness; try again"),
            Self::NotVerified => out.write_str("no signature passed"),
            Self::NoAnswer => {
                out.write_str("a key cannot be looked up for now, and no other signature passed; try again")
            }
        }
    }
}

impl std::error::Error for DkimError {}

impl From<dkim_key::KeyFileError> for DkimError {
    fn from(error: dkim_key::KeyFileError) -> Self {
        match error {
            dkim_key::KeyFileError::Bits(bits) => Self::Bits(bits),
            dkim_key::KeyFileError::Chance => Self::Fault,
            dkim_key::KeyFileError::Exists(path) => Self::Exists(path),
            dkim_key::KeyFileError::Create(path, error) => Self::Create(path, error),
        }
    }
}

pub(super) fn verdict_line(verdict: &SignatureVerdict) -> String {
    let mut line = verdict.verdict().to_string();
    if let Some(domain) = &verdict.domain {
        line.push_str(&format!(" d={domain}"));
    }
    if let Some(selector) = &verdict.selector {
        line.push_str(&format!(
            " s={}",
            crate::escape::Escaped(selector.as_bytes())
        ));
    }
    if let Some(algorithm) = verdict.algorithm {
        line.push_str(&format!(" a={algorithm}"));
    }
    if let Some(partial) = verdict.partial {
        line.push_str(&format!(" l={}/{}", partial.signed, partial.total));
    }
    if verdict.testing {
        line.push_str(" (testing)");
    }
    if let Err(failure) = verdict.outcome {
        line.push_str(&format!(" ({failure})"));
    }
    line.push('\n');
    line
}

fn parse_domain(text: &str) -> Result<Domain, DkimError> {
    let domain = Domain::parse(text).map_err(DkimError::Domain)?;
    if domain.is_literal() {
        return Err(DkimError::Domain(AddressError::Domain));
    }
    Ok(domain)
}

fn parse_selector(text: &str, domain: &Domain) -> Result<String, DkimError> {
    let selector = text.to_ascii_lowercase();
    let valid = text.is_ascii() && Domain::parse(&record_name(&selector, domain)).is_ok();
    valid.then_some(selector).ok_or(DkimError::Selector)
}

fn domain_folder(folder: &Path, domain: &Domain) -> PathBuf {
    folder.join("domains").join(domain.as_str())
}

/// The keys of a domain with their selectors, in the order of their names.
fn domain_keys(
    folder: &Path,
    domain: &Domain,
    only: Option<&str>,
) -> Result<Vec<(String, SigningKey)>, DkimError> {
    let keys = domain_folder(folder, domain).join("dkim");
    let entries = match fs::read_dir(&keys) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(DkimError::NoKeys(domain.clone()));
        }
        Err(error) => return Err(DkimError::Read(keys, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry
            .map_err(|error| DkimError::Read(keys.clone(), error))?
            .file_name();
        let selector = name.to_str().and_then(|name| name.strip_suffix(".pem"));
        if let Some(selector) = selector.filter(|selector| !selector.starts_with('.'))
            && only.is_none_or(|only| only.eq_ignore_ascii_case(selector))
        {
            found.push(selector.to_owned());
        }
    }
    if found.is_empty() {
        return Err(DkimError::NoKeys(domain.clone()));
    }
    found.sort_unstable();
    found.truncate(DKIM_KEYS_PER_DOMAIN_MAX);
    found
        .into_iter()
        .map(|selector| {
            let key = read_key(&keys.join(format!("{selector}.pem")))?;
            Ok((parse_selector(&selector, domain)?, key))
        })
        .collect()
}

fn read_key(path: &Path) -> Result<SigningKey, DkimError> {
    let mut pem = Zeroizing::new(String::new());
    fs::File::open(path)
        .and_then(|file| {
            file.take(DKIM_KEY_FILE_BYTES_MAX as u64 + 1)
                .read_to_string(&mut pem)
        })
        .map_err(|error| DkimError::Read(path.to_owned(), error))?;
    SigningKey::from_pem(&pem).map_err(|error| DkimError::Key(path.to_owned(), error))
}

/// The message from the file or `input`, with CRLF for every bare LF.
pub(super) fn read_message(
    file: Option<&Path>,
    input: &mut dyn Read,
) -> Result<Vec<u8>, DkimError> {
    let mut bytes = Vec::new();
    let limit = COMMAND_MESSAGE_BYTES_MAX as u64 + 1;
    match file {
        Some(path) => fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| DkimError::Read(path.to_owned(), error))?,
        None => input
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(DkimError::Stream)?,
    };
    if bytes.len() > COMMAND_MESSAGE_BYTES_MAX {
        return Err(DkimError::TooLong);
    }
    Ok(with_crlf(&bytes))
}

fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 32);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(text) => {
                out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                out.extend_from_slice(b"\r\n");
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// The header and the body of a message.
pub(super) fn split(message: &[u8]) -> Result<(Header, &[u8]), DkimError> {
    header_and_body(message).map_err(DkimError::Header)
}

#[cfg(test)]
mod tests;
