//! `chopar spf`: evaluates SPF for a sender as a receiver would.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use argh::FromArgs;

use super::failure::Failure;
use super::sysexits::{DATA, IO_ERROR, TRY_AGAIN, USAGE};
use crate::auth::spf::{Sender, SpfResult, SpfVerdict, check};
use crate::date::Timestamp;
use crate::dns::{self, Answer, Question};

/// Check whether a host may send for a domain (RFC 7208); exit 0 for pass, 75 for temperror, 65 otherwise.
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "spf")]
pub struct Spf {
    /// the address of the sending host
    #[argh(option)]
    pub ip: IpAddr,
    /// the name in HELO or EHLO (default: the domain of --from)
    #[argh(option)]
    pub helo: Option<String>,
    /// the envelope sender (default: the null sender, for which the HELO name is checked)
    #[argh(option, default = "String::new()")]
    pub from: String,
    /// ask this DNS server, ADDRESS:PORT (default: the servers of the relay)
    #[argh(option)]
    pub dns: Option<SocketAddr>,
}

impl Spf {
    /// Prints the result from the answers of `ask`. `receiver` is the name of this host.
    pub fn run(
        &self,
        receiver: &str,
        output: &mut dyn Write,
        at: Timestamp,
        ask: &mut dyn FnMut(&Question) -> Answer,
    ) -> Result<(), Failure> {
        let path = self.from.trim_start_matches('<').trim_end_matches('>');
        let domain = path.rsplit_once('@').map_or(path, |(_, domain)| domain);
        let helo = self.helo.as_deref().unwrap_or(domain);
        if helo.is_empty() {
            return Err(Failure::new(
                USAGE,
                "name the sender: --from, --helo or both",
            ));
        }
        let sender = Sender::new(self.ip, helo, path, receiver, at);
        let verdict = dns::verdict(ask, |answers| check(&sender, answers));
        output
            .write_all(describe(&verdict).as_bytes())
            .map_err(|error| Failure::new(IO_ERROR, format!("standard output failed: {error}")))?;
        match verdict.outcome {
            SpfResult::Pass => Ok(()),
            SpfResult::TempError => Err(Failure::new(
                TRY_AGAIN,
                "the DNS gave no answer; try again later",
            )),
            _ => Err(Failure::new(DATA, "the sender does not pass")),
        }
    }
}

/// One line, and a second one for the domain's explanation of a fail.
fn describe(verdict: &SpfVerdict) -> String {
    let mut text = verdict.outcome.to_string();
    if let Some(domain) = &verdict.domain {
        text.push_str(&format!(" domain={domain}"));
    }
    if let Some(mechanism) = &verdict.mechanism {
        text.push_str(&format!(" mechanism={mechanism}"));
    }
    if let Some(cause) = &verdict.cause {
        text.push_str(&format!(" ({cause})"));
    }
    text.push('\n');
    if let Some(explanation) = &verdict.explanation {
        text.push_str(&format!("explanation: {explanation}\n"));
    }
    text
}
