//! `chopar arc`: verifies the chain of a message from standard input, and adds a set to it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use argh::FromArgs;

use super::dkim::{DkimError, Sign, read_message, split, verify_signatures};
use super::failure::Failure;
use super::sysexits::{DATA, IO_ERROR, TRY_AGAIN};
use crate::auth::arc::{ArcResult, ArcVerdict, ArcVerification, SealedSet, prepare};
use crate::auth::dkim::canonical::{BodyHasher, Canonicalization};
use crate::auth::dkim::key::{Algorithm, SigningKey};
use crate::auth::dkim::sign::Signer;
use crate::auth::dkim::verdict::DkimFailure as SignatureFailure;
use crate::auth::results::{AuthenticationResults, MethodResult, claims_id};
use crate::date::Timestamp;
use crate::dns::{Answer, Question, verdict};
use crate::mail::header::Header;

/// Verify or extend the ARC chain of a message (RFC 8617).
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "arc")]
pub struct Arc {
    /// what to do
    #[argh(subcommand)]
    pub command: ArcCommand,
}

/// What `chopar arc` does.
#[derive(Debug, FromArgs)]
#[argh(subcommand)]
pub enum ArcCommand {
    /// `chopar arc seal`.
    Seal(Seal),
    /// `chopar arc verify`.
    Verify(Verify),
}

/// Verify the ARC chain of a message: one line for each set and one for the chain; exit 0 if it passes, 75 if the DNS
/// does not answer, 65 otherwise.
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

/// Verify a message, add Authentication-Results and a sealed ARC set, and write it to standard output.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "seal")]
pub struct Seal {
    /// the message (default: standard input)
    #[argh(positional)]
    pub file: Option<PathBuf>,
    /// the domain that seals (default: the domain of From)
    #[argh(option)]
    pub domain: Option<String>,
    /// the selector of the key (default: the first RSA key of the domain)
    #[argh(option)]
    pub selector: Option<String>,
    /// another key file (its name is the selector, unless --selector is given)
    #[argh(option)]
    pub key: Option<PathBuf>,
    /// ask this DNS server for keys, ADDRESS:PORT (default: the servers of the relay)
    #[argh(option)]
    pub dns: Option<SocketAddr>,
}

impl Verify {
    /// Reads a message from the file or `input` and prints the verdict on its chain, with the keys from `lookup`.
    pub fn run(
        &self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        at: Timestamp,
        lookup: &mut dyn FnMut(&Question) -> Answer,
    ) -> Result<(), Failure> {
        let message = read_message(self.file.as_deref(), input).map_err(failure)?;
        let (header, body) = split(&message).map_err(failure)?;
        let mut is_unanswered = false;
        let mut ask = |question: &Question| {
            let answer = lookup(question);
            let failed = answer.records.as_ref().err();
            is_unanswered |= failed.is_some_and(|error| error.is_temporary());
            answer
        };
        let verdict = verify_chain(&header, body, at, &mut ask);
        let mut text: String = verdict.sets.iter().map(set_line).collect();
        text.push_str(&verdict_line(&verdict));
        write(output, text.as_bytes())?;
        match verdict.outcome {
            ArcResult::Pass { .. } => Ok(()),
            ArcResult::None => Err(Failure::new(DATA, "the message has no chain")),
            ArcResult::Fail(_) if is_unanswered => Err(Failure::new(
                TRY_AGAIN,
                "a key cannot be looked up for now; try again",
            )),
            ArcResult::Fail(_) => Err(Failure::new(DATA, "the chain does not pass")),
        }
    }
}

impl Seal {
    /// Reads a message from the file or `input`, and writes it with a set of this host, whose authserv-id is `id`, with
    /// CRLF line ends. Existing results in the name of this host are removed.
    pub fn run(
        &self,
        folder: &Path,
        id: &str,
        input: &mut dyn Read,
        output: &mut dyn Write,
        at: Timestamp,
        lookup: &mut dyn FnMut(&Question) -> Answer,
    ) -> Result<(), Failure> {
        let message = read_message(self.file.as_deref(), input).map_err(failure)?;
        let (header, body) = split(&message).map_err(failure)?;
        let signing = Sign {
            file: None,
            domain: self.domain.clone(),
            selector: self.selector.clone(),
            key: self.key.clone(),
        };
        let domain = signing.domain(&header).map_err(failure)?;
        let keys = signing.keys(folder, &domain).map_err(failure)?;
        let (selector, key) =
            sealing_key(&keys).ok_or_else(|| failure(DkimError::NoKeys(domain.clone())))?;
        let verdict = verify_chain(&header, body, at, lookup);
        let signatures = verify_signatures(&header, body, at, lookup);
        let results = signatures
            .iter()
            .map(MethodResult::dkim)
            .fold(AuthenticationResults::new(id), AuthenticationResults::with)
            .with(MethodResult::arc(&verdict));
        let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
        hasher.update(body);
        let signer = Signer {
            domain: &domain,
            selector,
            algorithm: key.algorithm(),
            at,
        };
        let body_hash = hasher.finish().hash;
        let sealing = prepare(&header, b"", &body_hash, &results, &verdict, &signer)
            .map_err(|refusal| Failure::new(DATA, format!("no set is added: {refusal}")))?;
        let set = sealing.seal(key).map_err(|_| failure(DkimError::Fault))?;
        let mut sealed = set;
        sealed.extend_from_slice(results.field().as_bytes());
        for field in header.fields() {
            if !(field.is("Authentication-Results") && claims_id(field.value(), id)) {
                sealed.extend_from_slice(field.raw());
            }
        }
        let rest = header.as_bytes().len();
        sealed.extend_from_slice(message.get(rest..).unwrap_or_default());
        write(output, &sealed)
    }
}

/// RSA if there is a choice, because not every verifier supports Ed25519.
fn sealing_key(keys: &[(String, SigningKey)]) -> Option<(&str, &SigningKey)> {
    keys.iter()
        .find(|(_, key)| key.algorithm() == Algorithm::RsaSha256)
        .or_else(|| keys.first())
        .map(|(selector, key)| (selector.as_str(), key))
}

fn verify_chain(
    header: &Header,
    body: &[u8],
    at: Timestamp,
    lookup: &mut dyn FnMut(&Question) -> Answer,
) -> ArcVerdict {
    let mut verification = ArcVerification::new(header, at);
    verification.on_body(body);
    verdict(lookup, |answers| verification.resume(header, answers))
}

fn set_line(set: &SealedSet) -> String {
    let mut line = format!("i={}", set.instance);
    if let Some(domain) = &set.sealer {
        line.push_str(&format!(" d={domain}"));
    }
    if let Some(selector) = &set.selector {
        line.push_str(&format!(
            " s={}",
            crate::escape::Escaped(selector.as_bytes())
        ));
    }
    line.push_str(&format!(" seal={}", word(set.seal)));
    line.push_str(&format!(" message={}\n", word(set.message)));
    line
}

fn word(result: Option<Result<(), SignatureFailure>>) -> String {
    match result {
        Some(Ok(())) => "pass".to_owned(),
        Some(Err(failure)) => format!("fail ({failure})"),
        None => "unknown".to_owned(),
    }
}

fn verdict_line(verdict: &ArcVerdict) -> String {
    let status = verdict.status();
    match verdict.outcome {
        ArcResult::None => format!("{status}\n"),
        ArcResult::Pass { oldest_pass } => format!("{status} oldest-pass={oldest_pass}\n"),
        ArcResult::Fail(failure) => format!("{status} ({failure})\n"),
    }
}

fn write(output: &mut dyn Write, bytes: &[u8]) -> Result<(), Failure> {
    output
        .write_all(bytes)
        .map_err(|error| Failure::new(IO_ERROR, format!("standard output failed: {error}")))
}

fn failure(error: DkimError) -> Failure {
    Failure::new(error.exit_code(), error)
}
