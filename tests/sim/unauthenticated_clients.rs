//! Unauthenticated clients on port 25: the addresses that they write to, the senders that they claim, their DNS
//! records, and returned mail.
//!
//! The table of destinations is written by hand; the ledger checks the relay against it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use chopar::address::{Domain, Mailbox};
use chopar::auth::dkim::canonical::{BodyHasher, Canonicalization};
use chopar::auth::dkim::key::{Algorithm, SigningKey, ed25519_pem};
use chopar::auth::dkim::sign::{Signer, prepare};
use chopar::config::Folder;
use chopar::date::Timestamp;
use chopar::engine::event::{ConnId, Lost};
use chopar::entropy::{Entropy, SeededEntropy};
use chopar::mail::header::Header;

use crate::dns::Lie;
use crate::messages::ClientMessage;
use crate::world::{Happening, World, rewriter};

/// One delivery that mail for an address leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ExpectedDelivery {
    pub(crate) address: String,
    /// The domain of the rewritten reverse-path; `None` if the sender stays.
    pub(crate) forwarder: Option<&'static str>,
}

const HOME: &str = "ann: r0@d0.example\nteam: ann, bob@second.example, r1@d2.example\n\
                    far: v@d1.example via mx3.example\ngone: discard:\nboth: gone, ann\n";
const SECOND: &str =
    "bob: r1@d1.example, r0@d0.example\nup: ann+x@home.example\n*: rest@d3.example\n";

/// An address, what it tests, and its deliveries.
type Name = (&'static str, &'static str, &'static [Way]);
/// The final recipient and the forwarding domain, which is empty for `discard:`.
type Way = (&'static str, &'static str);

/// The addresses that unauthenticated clients write to, what each tests, and its deliveries.
const NAMES: [Name; 8] = [
    (
        "ann@home.example",
        "one",
        &[("r0@d0.example", "home.example")],
    ),
    (
        "Team+x@home.example",
        "several forwarders",
        &[
            ("r0@d0.example", "home.example"),
            ("r1@d1.example", "second.example"),
            ("r1@d2.example", "home.example"),
        ],
    ),
    (
        "far@home.example",
        "via",
        &[("v@d1.example", "home.example")],
    ),
    ("gone@home.example", "discard", &[("gone@home.example", "")]),
    (
        "both@home.example",
        "discard and more",
        &[("gone@home.example", ""), ("r0@d0.example", "home.example")],
    ),
    (
        "bob@second.example",
        "two",
        &[
            ("r1@d1.example", "second.example"),
            ("r0@d0.example", "second.example"),
        ],
    ),
    (
        "up@second.example",
        "chain",
        &[("r0@d0.example", "home.example")],
    ),
    (
        "whoever@second.example",
        "catch-all",
        &[("rest@d3.example", "second.example")],
    ),
];

/// Domains of unauthenticated clients. [`crate::dns::OUTSIDE_HOST`] accepts mail for all of them.
pub(crate) const DOMAINS: [&str; 8] = [
    "outside",
    "reject",
    "quarantine",
    "none",
    "missing",
    "malformed",
    "tempfail",
    "slow",
];

/// A field that claims to be a result of the relay.
pub(crate) const FORGED: &str = "Authentication-Results: Relay.Sender.example (c) 1;\r\n dmarc=pass header.from=bank.example\r\n";

const KEY: [u8; 32] = [9; 32];
const RSA: &str = include_str!("../data/dkim/rsa-2048-pkcs8.pem");

/// Adds the domains that unauthenticated clients write to.
pub(crate) fn serve(folder: &mut Folder) {
    for (domain, aliases) in [("home.example", HOME), ("second.example", SECOND)] {
        folder.insert_file(&format!("domains/{domain}/aliases"), aliases.into());
        folder.insert_file(&format!("domains/{domain}/dkim/rsa.pem"), RSA.into());
    }
}

/// The deliveries for these recipients, each once; `None` if the relay must refuse one of the recipients.
pub(crate) fn expected(named: &[String], at: Timestamp) -> Option<Vec<ExpectedDelivery>> {
    let mut expected: Vec<ExpectedDelivery> = Vec::new();
    for name in named {
        let mut found = Vec::new();
        if let Some((_, _, ways)) = NAMES.iter().find(|(address, ..)| address == name) {
            found.extend(ways.iter().map(|(address, forwarder)| ExpectedDelivery {
                address: (*address).to_owned(),
                forwarder: Some(*forwarder).filter(|name| !name.is_empty()),
            }));
        } else {
            let path = Mailbox::parse(name).ok()?;
            let sender = rewriter().reverse(&path, at).ok()?;
            found.push(ExpectedDelivery {
                address: sender.to_string(),
                forwarder: None,
            });
        }
        for wanted in found {
            if !expected.iter().any(|known| known.address == wanted.address) {
                expected.push(wanted);
            }
        }
    }
    Some(expected)
}

/// Whether `path` is the right reverse-path when `forwarder` forwards mail of `sender`.
pub(crate) fn stands_for(path: &str, sender: &str, forwarder: Option<&str>, at: Timestamp) -> bool {
    let Some(forwarder) = forwarder.filter(|_| !sender.is_empty()) else {
        return path == sender;
    };
    let Ok(path) = Mailbox::parse(path) else {
        return false;
    };
    let first = rewriter().reverse(&path, at).map(|first| first.to_string());
    path.domain().as_str() == forwarder && first.as_deref() == Ok(sender)
}

/// What an address tests.
pub(crate) fn kind_of(named: &str) -> &'static str {
    let known = NAMES.iter().find(|(address, ..)| *address == named);
    known.map_or("rewritten sender", |(_, kind, _)| kind)
}

/// Whether the author's domain asks for refusal if DMARC fails.
pub(crate) fn wants_refusal(text: &[u8]) -> bool {
    let from = crate::messages::header(text, "From").unwrap_or_default();
    ["@reject.", "@tempfail.", "@slow."]
        .iter()
        .any(|domain| from.contains(domain))
}

/// The TXT record at a name.
pub(crate) fn record(name: &str) -> Option<String> {
    let text = match name {
        "outside.example" => "v=spf1 include:_spf.outside.example a mx -all",
        "_spf.outside.example" | "reject.example" | "quarantine.example" | "none.example" => {
            "v=spf1 ip4:198.18.0.0/25 -all"
        }
        "malformed.example" => "v=spf1 ip4:nonsense/99 all",
        "_dmarc.reject.example" | "_dmarc.tempfail.example" | "_dmarc.slow.example" => {
            "v=DMARC1; p=reject"
        }
        "_dmarc.quarantine.example" => "v=DMARC1; p=quarantine",
        "_dmarc.none.example" => "v=DMARC1; p=none",
        "_dmarc.malformed.example" => "v=DMARC1; p=maybe; \u{fc}=",
        "k._domainkey.malformed.example" => "v=DKIM1; k=ed25519; p=????",
        _ if name.starts_with("k._domainkey.") => {
            let key = SigningKey::from_pem(&ed25519_pem(&KEY)).expect("a key");
            return Some(format!(
                "v=DKIM1; k=ed25519; p={}",
                key.public_record_value()
            ));
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The permanent failure of the name server at a name.
pub(crate) fn own_lie(name: &str) -> Option<Lie> {
    match name {
        "tempfail.example" | "k._domainkey.tempfail.example" => Some(Lie::ServFail),
        "slow.example" | "k._domainkey.slow.example" => Some(Lie::Silence),
        _ => None,
    }
}

/// The kind of result of a TXT look-up.
pub(crate) fn kind_of_text(name: &str) -> Option<&'static str> {
    match name.rsplit('.').nth(1)? {
        "missing" => Some("missing"),
        "malformed" => Some("malformed"),
        "tempfail" => Some("servfail"),
        "slow" => Some("timeout"),
        _ => None,
    }
}

/// The address of an unauthenticated client. SPF records authorize the first half of the network.
pub(crate) fn address(client: usize) -> IpAddr {
    let half = if client.is_multiple_of(2) { 0 } else { 128 };
    Ipv4Addr::new(198, 18, 0, half + (client % 100) as u8).into()
}

impl World {
    /// Plans unauthenticated clients, in addition to the known clients.
    pub(crate) fn populate_with_unauthenticated_clients(&mut self) {
        for client in 0..2 + self.entropy.below(4) {
            let messages = (0..1 + self.entropy.below(4))
                .map(|number| self.unauthenticated_message(client, number))
                .collect();
            let at = self.entropy.below(20_000);
            self.client(messages, Duration::from_millis(at));
        }
    }

    fn unauthenticated_message(&mut self, client: u64, number: u64) -> ClientMessage {
        let mut some = |list: usize| self.entropy.below(list as u64) as usize;
        let mut recipients: Vec<String> = (0..1 + some(2))
            .map(|_| NAMES[some(NAMES.len())].0.to_owned())
            .collect();
        recipients.dedup();
        let author = DOMAINS[some(DOMAINS.len())];
        let from = match some(4) {
            0 => String::new(),
            1 => format!("W.{client}@outside.example"),
            _ => format!("W.{client}@{author}.example"),
        };
        let lines = match some(16) {
            0 => 6_000,
            1 => 0,
            _ => some(40),
        };
        let (signed, forged) = (some(3) == 0, some(4) == 0);
        let marker = format!("outside-{client}-{number}");
        let mut message =
            outside_message(marker, from, recipients, author, lines, &mut self.entropy);
        message.forged = forged;
        if signed {
            sign(&mut message.text, author);
        }
        message
    }

    /// A server accepted a message under a rewritten sender: sometimes it returns a DSN to it, or an attacker forges a
    /// similar address.
    pub(crate) fn perhaps_return(&mut self, path: &str) {
        if !path.starts_with("SRS0=") || self.returns >= 8 || self.entropy.below(3) > 0 {
            return;
        }
        self.returns += 1;
        let (number, kind) = (self.returns, self.entropy.below(3));
        let (marker, to) = match kind {
            0 => ("forged", path.replacen(".example=W", ".example=V", 1)),
            // The tag and the hash may change their case in transit.
            1 => (
                "return",
                format!("{}{}", path[..9].to_lowercase(), &path[9..]),
            ),
            _ => ("return", path.to_owned()),
        };
        let marker = format!("{marker}-{number}");
        let message = outside_message(
            marker,
            String::new(),
            vec![to],
            "outside",
            3,
            &mut self.entropy,
        );
        self.client(vec![message], Duration::from_secs(1));
    }

    /// An unauthenticated client has sent its final dot: sometimes it does not wait for the reply.
    pub(crate) fn perhaps_leave(&mut self, conn: ConnId) {
        if self.mishap(4) {
            let pause = match self.entropy.below(2) {
                0 => self.entropy.below(60),
                _ => self.entropy.below(12_000),
            };
            self.plan(
                Duration::from_millis(pause),
                Happening::UnauthenticatedLeaves(conn),
            );
        }
    }

    pub(crate) fn unauthenticated_leaves(&mut self, conn: ConnId) {
        if !self.ends.contains_key(&conn) {
            return;
        }
        let kind = match self.engine.tables().questions {
            0 => "gone behind its dot",
            _ => "gone while the DNS was asked",
        };
        self.tally.fault("unauthenticated", kind);
        self.lost(conn, Lost::Reset);
    }
}

fn outside_message(
    marker: String,
    from: String,
    recipients: Vec<String>,
    author: &str,
    lines: usize,
    dots: &mut SeededEntropy,
) -> ClientMessage {
    let mut message = ClientMessage::new(marker, recipients, lines as u64, dots);
    let text = String::from_utf8(message.text).expect("ASCII");
    // However the address is spelled, DMARC must judge its author.
    let spelling = SPELLINGS[lines % SPELLINGS.len()];
    let own = format!(
        "From: {}\r\nMessage-ID: <{}@x>",
        spelling.replace("AUTHOR", author),
        message.marker
    );
    message.text = text.replacen("From: author@sender.example", &own, 1).into();
    message.from = from;
    message.unauthenticated = true;
    message
}

/// A legitimate message for a local mailbox.
pub(crate) fn honest_message(number: u64) -> ClientMessage {
    let author = DOMAINS[0];
    let from = format!("W.{number}@{author}.example");
    let to = vec!["ann@home.example".to_owned()];
    let mut dots = SeededEntropy::new(number);
    let mut message = outside_message(format!("honest-{number}"), from, to, author, 8, &mut dots);
    sign(&mut message.text, author);
    message
}

/// Adds the author's signature.
fn sign(text: &mut Vec<u8>, author: &str) {
    let end = text.windows(4).position(|window| window == b"\r\n\r\n");
    let (head, body) = text.split_at(end.expect("a header") + 2);
    let header = Header::parse(head.to_vec()).expect("a header");
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(&body[2..]);
    let domain = Domain::parse(&format!("{author}.example")).expect("a domain");
    let signer = Signer {
        domain: &domain,
        selector: "k",
        algorithm: Algorithm::Ed25519Sha256,
        at: Timestamp::from_seconds(1_790_000_000),
    };
    let input = prepare(&header, &[], &hasher.finish().hash, &signer);
    let key = SigningKey::from_pem(&ed25519_pem(&KEY)).expect("a key");
    let mut signed = input.sign(&key).expect("a signature");
    signed.append(text);
    *text = signed;
}

/// Spellings of one author's address.
const SPELLINGS: [&str; 4] = [
    "a@AUTHOR.example",
    "A [B], C. <a..b@AUTHOR.example>",
    "\"A (B)\" <.a@AUTHOR.EXAMPLE>",
    "\"a@AUTHOR.example via\"\r\n\t<a@AUTHOR.example>",
];
