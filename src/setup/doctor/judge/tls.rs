//! The certificates and handshakes that clients of our ports get.

use super::ports::CheckedRole;
use crate::address::Domain;
use crate::date::Timestamp;
use crate::setup::doctor::checks::{
    AUTH, AUTH_CLEAR, STARTTLS, TLS_CHAIN, TLS_DAYS, TLS_HANDSHAKE, TLS_NAME, TLS_VERSIONS,
};
use crate::setup::doctor::finding::Finding;
use crate::shell::net::handshake::HandshakeResult;

/// What one port has presented to a client.
#[derive(Clone, Debug)]
pub struct PortAnswer {
    /// The extensions offered in clear; `None` if TLS comes first.
    pub in_clear: Option<Vec<String>>,
    /// The result of the handshake, or its error.
    pub handshake: Result<HandshakeResult, String>,
    /// The extensions offered under TLS.
    pub under_tls: Vec<String>,
    /// Each version by name, and whether it is accepted; `None` if unknown.
    pub versions: Vec<(&'static str, Option<bool>)>,
}

/// The daemon's automatic action for a certificate of the host, while there is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AutomaticCertificate {
    /// Nothing, or nothing more.
    Nothing,
    /// It obtains it as soon as the name leads here; with a text about where the name leads now.
    Waits(String),
    /// It obtains it now.
    Soon,
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The name that clients connect to.
    pub host: Domain,
    pub now: Timestamp,
    /// The daemon's automatic action for a certificate.
    pub coming: AutomaticCertificate,
    /// Each port that is open, or why it could not be spoken to.
    pub ports: Vec<(CheckedRole, Result<PortAnswer, String>)>,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    for (role, said) in &facts.ports {
        match said {
            Ok(said) => found.extend(port(facts, *role, said)),
            Err(why) => {
                let mend = "chopar run, or systemctl start chopar, and see its log";
                let about = format!("port {}", role.port());
                found.push(
                    TLS_HANDSHAKE
                        .unknown(about, format!("it could not be spoken to: {why}"), mend)
                        .for_want_of(role.check()),
                );
            }
        }
    }
    found
}

fn port(facts: &Facts, role: CheckedRole, said: &PortAnswer) -> Vec<Finding> {
    let about = format!("port {}", role.port());
    let mut found = Vec::new();
    if let Some(offers) = &said.in_clear {
        let has = |word: &str| offers.iter().any(|offer| is(offer, word));
        found.push(match has("STARTTLS") {
            true => STARTTLS.good(&about, "EHLO names it"),
            false => STARTTLS.bad(&about, "EHLO does not name it", RESTART),
        });
        let under = said.under_tls.iter().any(|offer| is(offer, "AUTH"));
        found.push(match (has("AUTH"), role == CheckedRole::Smtp && under) {
            (true, _) => AUTH_CLEAR.bad(&about, "EHLO names AUTH before TLS", RESTART),
            (false, true) => AUTH_CLEAR.bad(&about, "EHLO names AUTH on port 25", RESTART),
            (false, false) => AUTH_CLEAR.good(&about, "there is none"),
        });
    }
    let offers_none = |offers: &Vec<String>| !offers.iter().any(|offer| is(offer, "STARTTLS"));
    if said.in_clear.as_ref().is_some_and(offers_none) {
        return found; // without it no handshake can be tried
    }
    let shown = match &said.handshake {
        Ok(shown) => shown,
        Err(why) => {
            found.push(TLS_HANDSHAKE.bad(
                &about,
                format!("it fails: {why}"),
                "chopar check says what is wrong with the certificates",
            ));
            return found;
        }
    };
    found.push(TLS_HANDSHAKE.good(&about, format!("{}, and the key matches", shown.version)));
    if role != CheckedRole::Smtp {
        found.push(match said.under_tls.iter().any(|offer| is(offer, "AUTH")) {
            true => AUTH.good(&about, "EHLO names it"),
            false => AUTH.bad(&about, "EHLO does not name it under TLS", RESTART),
        });
    }
    found.extend(certificate(facts, role, &about, shown));
    found.push(versions(&about, said));
    found
}

fn certificate(
    facts: &Facts,
    role: CheckedRole,
    about: &str,
    shown: &HandshakeResult,
) -> Vec<Finding> {
    let obtain = format!(
        "obtain a certificate for {0}: chopar cert obtain {0} (chopar cert list shows the existing ones; \
         CERTIFICATES in chopar-setup(7))",
        facts.host
    );
    let mend = match (&facts.coming, shown.is_self_signed) {
        (AutomaticCertificate::Waits(_), true) => {
            "add the records that chopar dns prints; the daemon then obtains the certificate"
                .to_owned()
        }
        (AutomaticCertificate::Soon, true) => format!(
            "wait a minute, for the daemon obtains one itself; if that fails, journalctl -u chopar says why, and chopar \
             cert obtain {} tries at once",
            facts.host
        ),
        _ => obtain.clone(),
    };
    // Other servers take mail to port 25 under any certificate; people's programs do not.
    let chain = match (&shown.chain, role) {
        (Ok(()), _) => TLS_CHAIN.good(about, "it chains to a root of the system"),
        (Err(why), CheckedRole::Smtp) => TLS_CHAIN.warning(about, said_of(facts, shown, why), mend),
        (Err(why), _) => TLS_CHAIN.bad(about, said_of(facts, shown, why), mend),
    };
    let names = match shown.names.is_empty() {
        true => "no name".to_owned(),
        false => shown.names.join(", "),
    };
    let name = match shown.has_name {
        true => TLS_NAME.good(about, names),
        false => TLS_NAME.bad(
            about,
            format!("it is for {names}, and not for {}", facts.host),
            obtain.clone(),
        ),
    };
    vec![chain, name, days(facts, about, shown, obtain)]
}

fn said_of(facts: &Facts, shown: &HandshakeResult, why: &str) -> String {
    match (shown.is_self_signed, &facts.coming) {
        (true, AutomaticCertificate::Waits(lead)) => {
            format!(
                "it is self-signed: the certificate is waiting for the name to lead here ({lead})"
            )
        }
        (true, _) => "it is self-signed: no CA has issued it".to_owned(),
        (false, _) => format!("it is not verified: {why}"),
    }
}

fn days(facts: &Facts, about: &str, shown: &HandshakeResult, obtain: String) -> Finding {
    let Some((from, to)) = shown.validity else {
        return TLS_DAYS.unknown(about, "its times cannot be read", obtain);
    };
    if facts.now < from {
        return TLS_DAYS.bad(
            about,
            format!("it is not valid before {}", from.rfc3339()),
            "set the clock of the machine right (timedatectl)",
        );
    }
    let left = to.since(facts.now).as_secs() / DAY;
    let seen = format!("{left} days left, until {}", to.rfc3339());
    let renew = "renew it: see the log of what obtains the certificates";
    if facts.now >= to {
        return TLS_DAYS.bad(about, format!("it ended at {}", to.rfc3339()), renew);
    }
    match left {
        0..SHORT_DAYS => TLS_DAYS.warning(about, seen, renew),
        _ => TLS_DAYS.good(about, seen),
    }
}

fn versions(about: &str, said: &PortAnswer) -> Finding {
    let spoken = |wanted: Option<bool>| -> Vec<&str> {
        let of_kind = said.versions.iter().filter(|(_, speaks)| *speaks == wanted);
        of_kind.map(|(name, _)| *name).collect()
    };
    let (yes, no, unknown) = (spoken(Some(true)), spoken(Some(false)), spoken(None));
    let is_old = |name: &&&str| matches!(**name, "TLSv1.0" | "TLSv1.1");
    let mend =
        "make sure that it is chopar that answers (ss -ltnp); it speaks TLS 1.2 and 1.3 only";
    if let Some(old) = yes.iter().find(is_old) {
        return TLS_VERSIONS.bad(about, format!("{old} is spoken"), mend);
    }
    if let Some(new) = no.iter().find(|name| !is_old(name)) {
        return TLS_VERSIONS.bad(about, format!("{new} is not spoken"), mend);
    }
    match unknown.is_empty() {
        true => TLS_VERSIONS.good(
            about,
            format!(
                "{} are spoken, {} are not",
                yes.join(" and "),
                no.join(" and ")
            ),
        ),
        false => TLS_VERSIONS.unknown(
            about,
            format!("{} could not be tried", unknown.join(", ")),
            "run chopar doctor again",
        ),
    }
}

/// Whether a line of EHLO's reply offers an extension.
fn is(offer: &str, word: &str) -> bool {
    let first = offer.split([' ', '=']).next().unwrap_or_default();
    first.eq_ignore_ascii_case(word)
}

const DAY: u64 = 86_400;
/// Less than ACME clients usually leave: they renew 30 days before the end.
const SHORT_DAYS: u64 = 20;
const RESTART: &str = "make sure that it is chopar that answers (ss -ltnp), and restart it";
