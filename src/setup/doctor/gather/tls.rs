//! Connects to our own ports as a client would.

use std::net::{SocketAddr, TcpStream};
use std::thread;

use super::smtp::{SmtpReply, command, connect, own_port, reply, sentence};
use crate::entropy::Entropy as _;
use crate::setup::acme::reachability::lead_to_missing;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::ports::CheckedRole;
use crate::setup::doctor::judge::tls::{AutomaticCertificate, Facts, PortAnswer};
use crate::shell::net::handshake::{Offer, Old, shake, speaks};
use crate::shell::process::time::{SystemEntropy, wall};

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let roles = [
        CheckedRole::Smtp,
        CheckedRole::Submission,
        CheckedRole::Submissions,
    ];
    let open = roles
        .into_iter()
        .filter_map(|role| Some((role, own_port(&examination.config, role)?)));
    let ports: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = open
            .map(|(role, at)| (role, at, scope.spawn(move || said(examination, role, at))))
            .collect();
        let joined = asked.into_iter().map(|(role, at, thread)| {
            let said = thread
                .join()
                .unwrap_or_else(|_| Err("no answer".to_owned()));
            (role, said.map_err(|why| format!("{at}: {why}")))
        });
        joined.collect()
    });
    Facts {
        host: examination.config.hostname.clone(),
        now: wall(),
        coming: coming(examination, &ports),
        ports,
    }
}

/// The daemon's automatic action for a certificate; checked if a port presents a self-signed one.
fn coming(
    examination: &DoctorScope,
    ports: &[(CheckedRole, Result<PortAnswer, String>)],
) -> AutomaticCertificate {
    let mut shown = ports.iter().filter_map(|(_, said)| said.as_ref().ok());
    let is_missing = shown.any(|said| {
        let shown = said.handshake.as_ref();
        shown.is_ok_and(|shown| shown.is_self_signed)
    });
    let config = &examination.config;
    match is_missing {
        true => lead_to_missing(config).map_or(AutomaticCertificate::Nothing, |lead| {
            match lead.is_arrived() {
                true => AutomaticCertificate::Soon,
                false => AutomaticCertificate::Waits(lead.to_string()),
            }
        }),
        false => AutomaticCertificate::Nothing,
    }
}

fn said(
    examination: &DoctorScope,
    role: CheckedRole,
    at: SocketAddr,
) -> Result<PortAnswer, String> {
    thread::scope(|scope| {
        let tried = [
            (
                "TLSv1.0",
                scope.spawn(move || old(examination, role, at, Old::Tls10)),
            ),
            (
                "TLSv1.1",
                scope.spawn(move || old(examination, role, at, Old::Tls11)),
            ),
            (
                "TLSv1.2",
                scope.spawn(move || new(examination, role, at, Offer::Tls12)),
            ),
            (
                "TLSv1.3",
                scope.spawn(move || new(examination, role, at, Offer::Tls13)),
            ),
        ];
        let host = &examination.config.hostname;
        let (stream, in_clear) = before_tls(examination, role, at)?;
        let offers_tls = in_clear.as_ref().is_none_or(|offers| {
            offers
                .iter()
                .any(|offer| offer.eq_ignore_ascii_case("STARTTLS"))
        });
        let mut said = PortAnswer {
            in_clear,
            handshake: Err("STARTTLS is not offered".to_owned()),
            under_tls: Vec::new(),
            versions: tried
                .into_iter()
                .map(|(name, thread)| (name, thread.join().unwrap_or_default()))
                .collect(),
        };
        if !offers_tls {
            return Ok(said);
        }
        said.handshake =
            shake(stream, host, Offer::Both, wall()).and_then(|(mut secured, shown)| {
                let failed = |error: std::io::Error| sentence(&error);
                if role == CheckedRole::Submissions {
                    reply(&mut secured).map_err(failed)?;
                }
                let offers = command(&mut secured, &hello(examination)).map_err(failed)?;
                drop(command(&mut secured, "QUIT"));
                said.under_tls = extensions(offers);
                Ok(shown)
            });
        Ok(said)
    })
}

/// The name in EHLO: that of this host, as other programs on it use.
fn hello(examination: &DoctorScope) -> String {
    format!("EHLO {}", examination.config.hostname)
}

fn extensions(reply: SmtpReply) -> Vec<String> {
    reply.lines.into_iter().skip(1).collect()
}

/// Runs the session up to the handshake; returns the extensions offered in clear, if TLS does not come first.
fn before_tls(
    examination: &DoctorScope,
    role: CheckedRole,
    at: SocketAddr,
) -> Result<(TcpStream, Option<Vec<String>>), String> {
    let failed = |error: std::io::Error| sentence(&error);
    let mut stream = connect(at).map_err(failed)?;
    if role == CheckedRole::Submissions {
        return Ok((stream, None));
    }
    let banner = reply(&mut stream).map_err(failed)?;
    if banner.code != 220 {
        return Err(format!("it greets with {} {}", banner.code, banner.text()));
    }
    let offers = extensions(command(&mut stream, &hello(examination)).map_err(failed)?);
    if offers
        .iter()
        .any(|offer| offer.eq_ignore_ascii_case("STARTTLS"))
    {
        let begun = command(&mut stream, "STARTTLS").map_err(failed)?;
        if begun.code != 220 {
            return Err(format!(
                "STARTTLS was answered {} {}",
                begun.code,
                begun.text()
            ));
        }
    }
    Ok((stream, Some(offers)))
}

fn old(examination: &DoctorScope, role: CheckedRole, at: SocketAddr, old: Old) -> Option<bool> {
    let (mut stream, _) = before_tls(examination, role, at).ok()?;
    let mut random = [0; 32];
    SystemEntropy::default().fill(&mut random);
    speaks(&mut stream, old, &random).ok()
}

fn new(examination: &DoctorScope, role: CheckedRole, at: SocketAddr, offer: Offer) -> Option<bool> {
    let (stream, _) = before_tls(examination, role, at).ok()?;
    Some(shake(stream, &examination.config.hostname, offer, wall()).is_ok())
}
