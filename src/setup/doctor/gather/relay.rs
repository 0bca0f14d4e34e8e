//! Attempts to relay through our own server, each variant of an address in a session of its own, as far as RCPT.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::smtp::{command, connect, own_port, reply, sentence};
use crate::limits::DOCTOR_TIMEOUT;
use crate::setup::doctor::DoctorScope;
use crate::setup::doctor::judge::ports::CheckedRole;
use crate::setup::doctor::judge::relay::{AttemptReply, Disguise, Facts, PLAIN, disguises};

/// Gathers the facts of this subject; unknown facts are kept as unknown.
pub fn gather(examination: &DoctorScope) -> Facts {
    let config = &examination.config;
    let mut facts = Facts {
        from: None,
        is_trusted: false,
        tried: Vec::new(),
        is_open: false,
    };
    let Some(at) = own_port(config, CheckedRole::Smtp) else {
        return facts;
    };
    facts.is_open = true;
    facts.from = connect(at).and_then(source).ok();
    let Some(from) = facts.from else {
        return facts;
    };
    facts.is_trusted = config.trust.relay.contains(from);
    if facts.is_trusted {
        return facts;
    }
    let domain = examination.domains.first().unwrap_or(&config.hostname);
    let is_ours = |name: &str| config.domains.keys().any(|domain| domain.as_str() == name);
    let outside = match is_ours("example.com") {
        true => "example.net",
        false => "example.com",
    };
    let all = disguises(&config.hostname, domain, at.ip(), outside);
    facts.tried = thread::scope(|scope| {
        let tried: Vec<_> = all
            .into_iter()
            .map(|disguise| {
                let asked = disguise.clone();
                let thread = scope.spawn(move || attempt(at, &asked));
                (disguise, thread)
            })
            .collect();
        let joined = tried.into_iter().map(|(disguise, thread)| {
            let reply = thread.join();
            let nothing = |_| AttemptReply::Nothing("no answer".to_owned());
            (disguise, reply.unwrap_or_else(nothing))
        });
        joined.collect()
    });
    facts
}

fn source(stream: TcpStream) -> std::io::Result<IpAddr> {
    Ok(stream.local_addr()?.ip())
}

fn attempt(at: SocketAddr, disguise: &Disguise) -> AttemptReply {
    let talk = || -> std::io::Result<AttemptReply> {
        let mut stream = connect(at)?;
        // Clients with many refusals get delayed replies.
        stream.set_read_timeout(Some(DOCTOR_TIMEOUT.saturating_sub(MARGIN)))?;
        let banner = reply(&mut stream)?;
        // An attempt without a reply has shown nothing.
        let unheard = |what: &str, code: u16, text: String| {
            Ok(AttemptReply::Nothing(format!(
                "{what} was answered {code} {text}"
            )))
        };
        if banner.code != 220 {
            return unheard("the connection", banner.code, banner.text());
        }
        let name = match at.ip() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let hello = command(&mut stream, &format!("EHLO {name}"))?;
        if hello.code != 250 {
            return unheard("EHLO", hello.code, hello.text());
        }
        let sender = command(&mut stream, &format!("MAIL FROM:<{}>", disguise.sender))?;
        let decided = match sender.code {
            250 => command(&mut stream, &format!("RCPT TO:<{}>", disguise.recipient))?,
            // Without a reply to the plain RCPT, the reply to this one proves nothing.
            code if disguise.name == PLAIN => return unheard("MAIL", code, sender.text()),
            _ => sender,
        };
        drop(command(&mut stream, "QUIT"));
        Ok(AttemptReply::Said(decided.code, decided.text()))
    };
    talk().unwrap_or_else(|error| AttemptReply::Nothing(sentence(&error)))
}

const MARGIN: Duration = Duration::from_secs(1);
