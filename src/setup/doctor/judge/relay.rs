//! Attempts to relay through our own server.

use std::net::IpAddr;

use crate::address::Domain;
use crate::setup::doctor::checks::{PORT_SMTP, RELAY};
use crate::setup::doctor::finding::Finding;

/// An address that looks local and is not, as used to find open relays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disguise {
    pub name: &'static str,
    /// The text between the brackets of MAIL FROM.
    pub sender: String,
    /// And of RCPT TO.
    pub recipient: String,
}

/// The relay's reply to one attempt to relay.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AttemptReply {
    /// The reply that decided: to MAIL or RCPT.
    Said(u16, String),
    /// There was none.
    Nothing(String),
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The source address of the attempts.
    pub from: Option<IpAddr>,
    /// Whether that address may relay by `[relay] networks`: then the attempts prove nothing.
    pub is_trusted: bool,
    /// Each disguise and the reply to it.
    pub tried: Vec<(Disguise, AttemptReply)>,
    /// Whether port 25 is open at all.
    pub is_open: bool,
}

/// Ways in which an address in another domain is written so that a careless host passes it on. `outside` is never sent
/// anything: each attempt ends behind RCPT.
pub fn disguises(host: &Domain, domain: &Domain, at: IpAddr, outside: &str) -> Vec<Disguise> {
    let victim = format!("relay-test@{outside}");
    let sender = format!(
        "relay-test@{}",
        if outside == "example.net" {
            "example.org"
        } else {
            "example.net"
        }
    );
    let percent = format!("relay-test%{outside}");
    let literal = match at {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    };
    let with = |name, recipient: String| Disguise {
        name,
        sender: sender.clone(),
        recipient,
    };
    let from = |name, sender: String| Disguise {
        name,
        sender,
        recipient: victim.clone(),
    };
    vec![
        with(PLAIN, victim.clone()),
        from("null sender", String::new()),
        from("our domain as sender", format!("postmaster@{domain}")),
        from("our host as sender", format!("postmaster@{host}")),
        with("percent hack", format!("{percent}@{domain}")),
        with("percent hack at the host", format!("{percent}@{host}")),
        with(
            "percent hack at the address",
            format!("{percent}@{literal}"),
        ),
        with("percent hack alone", percent.clone()),
        with("bang path", format!("{outside}!relay-test@{domain}")),
        with("quoted local part", format!("\"{victim}\"@{domain}")),
        with("quoted percent hack", format!("\"{percent}\"@{domain}")),
        with("source route", format!("@{domain}:{victim}")),
    ]
}

/// The name of the attempt without a disguise.
pub const PLAIN: &str = "plain";

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    vec![one(facts)]
}

fn one(facts: &Facts) -> Finding {
    if !facts.is_open {
        return RELAY.skipped("", "no port 25 is open");
    }
    let Some(from) = facts.from else {
        return RELAY
            .unknown(
                "",
                "port 25 could not be reached from this machine",
                "systemctl start chopar, and run chopar doctor again",
            )
            .for_want_of(&PORT_SMTP);
    };
    if facts.is_trusted {
        return RELAY.unknown(
            "",
            format!("{from}, from which this machine reaches itself, may relay as [relay] networks says, so that nothing can be tried from it"),
            format!("take the network of {from} out of networks in [relay] of chopar.toml; programs of this machine use sendmail"),
        );
    }
    let passed =
        |(_, reply): &&(Disguise, AttemptReply)| matches!(reply, AttemptReply::Said(200..300, _));
    if let Some((disguise, AttemptReply::Said(code, text))) = facts.tried.iter().find(passed) {
        return RELAY.bad(
            "",
            format!(
                "{}: MAIL FROM:<{}> RCPT TO:<{}> from {from} was answered {code} {text}",
                disguise.name, disguise.sender, disguise.recipient
            ),
            "make sure that it is chopar that answers (ss -ltnp), and that [relay] networks names only your own hosts",
        );
    }
    let unclear: Vec<String> = facts
        .tried
        .iter()
        .filter_map(|(disguise, reply)| match reply {
            AttemptReply::Said(500.., _) => None,
            AttemptReply::Said(code, text) => Some(format!("{}: {code} {text}", disguise.name)),
            AttemptReply::Nothing(why) => Some(format!("{}: {why}", disguise.name)),
        })
        .collect();
    match unclear.first() {
        None if facts.tried.is_empty() => {
            RELAY.unknown("", "nothing was tried", "run chopar doctor again")
        }
        None => RELAY.good(
            "",
            format!("{} disguises were refused from {from}", facts.tried.len()),
        ),
        Some(first) => RELAY.unknown(
            "",
            format!(
                "{} of {} attempts had no clear answer; {first}",
                unclear.len(),
                facts.tried.len()
            ),
            "run chopar doctor again in a minute",
        ),
    }
}
