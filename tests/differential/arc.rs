//! Chains of up to four sets, some sealed by chopar and some by mail-auth.

use std::fmt;

use chopar::address::Domain;
use chopar::auth::arc::{ArcFailure, ArcResult, ArcVerdict, ArcVerification, prepare};
use chopar::auth::dkim::canonical::{BodyHasher, Canonicalization};
use chopar::auth::dkim::sign::Signer;
use chopar::auth::results::{AuthenticationResults, MethodResult};
use chopar::mail::header::Header;
use mail_auth::arc::ArcError;
use mail_auth::dkim::DkimError;
use mail_auth::{DkimResult, Error};

use crate::chance::Chance;
use crate::dkim::{self, AT, alter_key, word};
use crate::message::{Arrived, ClientMessage, name_of};
use crate::peer::{Judged, Peer, SEALER};
use crate::referee;
use crate::signer::{Key, KeyKind};
use crate::tally::{Rule, Tally};
use crate::zone::Zone;

const CHAINS: usize = 500;
const VARIANTS: usize = 9;
const CASES_MIN: usize = 4_000;

/// A message with a chain, and both results.
struct Case {
    fields: Vec<Vec<u8>>,
    body: Vec<u8>,
    zone: Zone,
    ours: ArcResult,
    theirs: DkimResult,
}

impl fmt::Debug for Case {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:?} / {:?}", self.ours, self.theirs)?;
        for (name, texts) in &self.zone.texts {
            match texts {
                Ok(texts) => writeln!(out, "  {name} {}", texts.concat().escape_ascii())?,
                Err(why) => writeln!(out, "  {name} {why:?}")?,
            }
        }
        for field in &self.fields {
            writeln!(out, "  {}", field.escape_ascii())?;
        }
        write!(out, "  {}", self.body.escape_ascii())
    }
}

#[test]
fn chains() {
    let peer = Peer::new();
    let keys = [Key::rsa(), Key::ed25519()];
    let mut chance = Chance::new(8617);
    let mut tally = Tally::new("ARC", RULES);
    let mut plain = Zone::default();
    for key in &keys {
        for domain in [OURS, SEALER] {
            let name = format!("{}._domainkey.{domain}", selector(key));
            plain
                .texts
                .insert(name, Ok(vec![key.record.clone().into_bytes()]));
        }
    }
    for _ in 0..CHAINS {
        let mut message = ClientMessage::new(&mut chance);
        // A seal of mail-auth contains the current time, so no change may depend on its bytes.
        let mixed = chance.once_in(3);
        for _ in 0..chance.below(5) {
            let key = chance.of(&keys);
            if mixed && chance.once_in(2) {
                if let Some(sealed) = peer.sealed(&message.bytes(), &plain, key) {
                    message = parts(&sealed);
                }
            } else {
                seal(&mut message, key, &plain);
            }
            if chance.once_in(4) {
                message
                    .fields
                    .insert(0, b"Received: from b by c\r\n".to_vec());
            }
        }
        for _ in 0..VARIANTS {
            let (mut message, mut zone) = (message.clone(), plain.clone());
            match chance.below(4) {
                0 => rearrange(&mut message, &mut chance),
                1 if !mixed => message.alter(&mut chance),
                2 if !mixed => message.alter_tags(NAMES, &mut chance),
                3 => alter_key(&mut zone, &keys, &mut chance),
                _ => rearrange(&mut message, &mut chance),
            }
            judge(&message, &zone, &peer, &mut tally);
        }
    }
    tally.finish(CASES_MIN);
}

fn judge(message: &ClientMessage, zone: &Zone, peer: &Peer, tally: &mut Tally<Case>) {
    let Some(arrived) = message.arrived() else {
        return tally.skip();
    };
    tally.case();
    let ours = verdict(&arrived, zone);
    let fields = arrived.header.fields();
    let case = Case {
        fields: fields.map(|field| field.raw().to_vec()).collect(),
        ours: ours.outcome,
        theirs: peer.arc(&arrived.bytes, zone),
        body: arrived.body,
        zone: zone.clone(),
    };
    let theirs = word(&Judged::Result(case.theirs.clone()));
    tally.compare(&ours.status().as_str(), &theirs, &case);
}

fn verdict(arrived: &Arrived, zone: &Zone) -> ArcVerdict {
    let mut verification = ArcVerification::new(&arrived.header, AT);
    verification.on_body(&arrived.body);
    zone.drive(|answers| verification.resume(&arrived.header, answers))
}

/// Adds a set of ours on top.
fn seal(message: &mut ClientMessage, key: &Key, zone: &Zone) {
    let arrived = message.arrived().expect("a message");
    let verdict = verdict(&arrived, zone);
    let mut hasher = BodyHasher::new(Canonicalization::Relaxed);
    hasher.update(&arrived.body);
    let domain = Domain::parse(OURS).expect("a domain");
    let signer = Signer {
        domain: &domain,
        selector: selector(key),
        algorithm: key.signing.algorithm(),
        at: AT,
    };
    let results = AuthenticationResults::new("mx.ours.test").with(MethodResult::arc(&verdict));
    let hash = hasher.finish().hash;
    let Ok(sealing) = prepare(&arrived.header, b"", &hash, &results, &verdict, &signer) else {
        return;
    };
    let set = sealing.seal(&key.signing).expect("signatures");
    let set = Header::parse(set).expect("fields");
    let fields: Vec<Vec<u8>> = set.fields().map(|field| field.raw().to_vec()).collect();
    message.fields.splice(0..0, fields);
}

fn parts(message: &[u8]) -> ClientMessage {
    let arrived = ClientMessage::split(message).expect("a message");
    let fields = arrived.header.fields();
    ClientMessage {
        fields: fields.map(|field| field.raw().to_vec()).collect(),
        body: arrived.body,
    }
}

/// Changes whose meaning does not depend on the bytes of the signatures.
fn rearrange(message: &mut ClientMessage, chance: &mut Chance) {
    let places = message.places(NAMES);
    if places.is_empty() {
        return;
    }
    let place = *chance.of(&places);
    let role = *chance.of(NAMES);
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    match chance.below(11) {
        0 => drop(message.fields.remove(place)),
        1 => message.fields.insert(0, message.fields[place].clone()),
        2 => message.fields.swap(place, *chance.of(&places)),
        3 => message.body.extend_from_slice(b"More.\r\n"),
        4 => message.fields.insert(0, b"From: eve@dst.test\r\n".to_vec()),
        5 => message.fields.push(b"Subject: another\r\n".to_vec()),
        6 => message
            .fields
            .retain(|field| !name_of(field).eq_ignore_ascii_case(role)),
        7 => {
            let field = text(&message.fields[place]);
            let by = chance.word(&[
                "i=1", "i=2", "i=3", "i=9", "i=0", "i=51", "i=", "i=02", "x=1",
            ]);
            let at = field.find("i=").unwrap_or(0);
            message.fields[place] =
                format!("{}{by}{}", &field[..at], &field[at + 3..]).into_bytes();
        }
        8 => {
            let by = chance.word(&["cv=none", "cv=pass", "cv=fail", "cv=PASS", "cv=", "cv=x"]);
            for place in message.places(&["arc-seal"]) {
                let field = text(&message.fields[place]);
                let field = field.replace("cv=none", by).replace("cv=pass", by);
                message.fields[place] = field.into_bytes();
            }
        }
        9 => {
            let field = text(&message.fields[place]);
            let (space, by) = *chance.of(&[(": ", ":\r\n\t "), ("; ", ";\x0c ")]);
            message.fields[place] = field.replacen(space, by, 1).into_bytes();
        }
        _ => {
            let field = text(&message.fields[place]);
            let by = chance.word(&["(c) i=", "h=from; i=", "; i=", "I="]);
            message.fields[place] = field.replacen("i=", by, 1).into_bytes();
        }
    }
}

const fn selector(key: &Key) -> &'static str {
    match key.kind {
        KeyKind::Rsa => "rsa",
        KeyKind::Ed25519 => "ed",
    }
}

impl Case {
    fn message(&self) -> Vec<u8> {
        [&self.fields.concat(), b"\r\n".as_slice(), &self.body].concat()
    }

    fn has(&self, name: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|field| name_of(field).trim().eq_ignore_ascii_case(name))
    }

    /// The message with spaces instead of form feeds, which mail-auth treats as white space.
    fn without_form_feeds(&self) -> Option<Self> {
        let spaced = self.message().into_iter().map(|byte| match byte {
            b'\x0c' => b' ',
            byte => byte,
        });
        let arrived = ClientMessage::split(&spaced.collect::<Vec<u8>>())?;
        let fields = arrived.header.fields();
        Some(Self {
            fields: fields.map(|field| field.raw().to_vec()).collect(),
            ours: verdict(&arrived, &self.zone).outcome,
            theirs: self.theirs.clone(),
            body: arrived.body,
            zone: self.zone.clone(),
        })
    }

    /// Whether a rule for DKIM signatures applies to the one that decided.
    fn is_as_in_dkim(&self) -> bool {
        let rules = |signature| dkim::RULES.iter().any(|rule| (rule.applies)(&signature));
        self.signature().is_some_and(rules)
    }

    /// The signature that decided our result, as a DKIM case.
    fn signature(&self) -> Option<dkim::Case> {
        let (name, instance, why) = match self.ours {
            ArcResult::Fail(ArcFailure::Message { instance, why }) => {
                ("arc-message-signature", Some(instance), Err(why))
            }
            ArcResult::Fail(ArcFailure::Seal { instance, why }) => {
                ("arc-seal", Some(instance), Err(why))
            }
            ArcResult::Pass { .. } => ("arc-message-signature", None, Ok(())),
            _ => return None,
        };
        let number = |place: &usize| {
            let field = &self.fields[*place];
            let tags = referee::tags(&field[name_of(field).len() + 1..]);
            let tag = tags.into_iter().find(|(name, _)| name == "i");
            tag.and_then(|(_, value)| value.parse::<u8>().ok())
        };
        let mut places = (0..self.fields.len()).filter(|place| {
            name_of(&self.fields[*place])
                .trim()
                .eq_ignore_ascii_case(name)
        });
        let own = match instance {
            Some(instance) => places.rfind(|place| number(place) == Some(instance)),
            None => places.max_by_key(number),
        }?;
        let field = &self.fields[own];
        let value = field[name_of(field).len() + 1..].to_vec();
        let tags = referee::tags(&value);
        let tag = |wanted: &str| {
            let tag = tags.iter().find(|(name, _)| name == wanted);
            tag.map(|(_, value)| value.to_ascii_lowercase())
                .unwrap_or_default()
        };
        let name = format!("{}._domainkey.{}", tag("s"), tag("d"));
        let texts = self.zone.texts.get(&name).cloned();
        let theirs = match &self.theirs {
            DkimResult::Neutral(Error::Arc(ArcError::FailedBodyHashMatch)) => {
                DkimResult::Neutral(Error::Dkim(DkimError::FailedBodyHashMatch))
            }
            other => other.clone(),
        };
        Some(dkim::Case {
            texts: texts.unwrap_or(Err(chopar::dns::NoRecords::NoDomain)),
            tags,
            value,
            body: self.body.clone(),
            ours: why,
            theirs: Judged::Result(theirs),
            fields: self.fields.clone(),
            own,
        })
    }
}

const RULES: &[Rule<Case>] = &[
    Rule {
        name: "three values",
        text: "RFC 8617 section 4.4: the Chain Validation Status is none, fail or pass; section 5.2.1: all errors, \
            including DNS failures, are considered permanent",
        applies: |case| {
            matches!(case.ours, ArcResult::Fail(_))
                && matches!(
                    case.theirs,
                    DkimResult::Neutral(_) | DkimResult::PermError(_) | DkimResult::TempError(_)
                )
        },
    },
    Rule {
        name: "sets without a message signature",
        text: "RFC 8617 section 5.2 step 3: each ARC Set has exactly one each of the three fields; otherwise the status \
            is fail, and none only where there are no sets",
        applies: |case| {
            matches!(case.ours, ArcResult::Fail(_))
                && case.theirs == DkimResult::None
                && !case.has("arc-message-signature")
                && (case.has("arc-seal") || case.has("arc-authentication-results"))
        },
    },
    Rule {
        name: "several records",
        text: "RFC 6376 section 6.1.2 step 4: where several key records are returned, the Verifier may cycle through \
            them, performing the remaining steps on each",
        applies: |case| {
            let several = case.zone.texts.iter().filter_map(|(name, texts)| {
                let texts = texts.as_ref().ok().filter(|texts| texts.len() > 1)?;
                Some(texts.iter().map(move |text| (name, text)))
            });
            let mut single = several.flatten().map(|(name, text)| {
                let mut zone = case.zone.clone();
                zone.texts.insert(name.clone(), Ok(vec![text.clone()]));
                zone
            });
            matches!(case.ours, ArcResult::Pass { .. })
                && single.any(|zone| Peer::new().arc(&case.message(), &zone) == DkimResult::Pass)
        },
    },
    Rule {
        name: "a form feed is not white space",
        text: "RFC 8617 section 4.1.3: the ARC-Seal is over the fields of the sets in the relaxed form of RFC 6376 \
            section 3.4.2, to which white space is SP / HTAB (section 2.8)",
        applies: |case| {
            let in_set = |field: &Vec<u8>| {
                NAMES.contains(&name_of(field).trim().to_ascii_lowercase().as_str())
                    && field.contains(&b'\x0c')
            };
            matches!(case.ours, ArcResult::Fail(_))
                && case.theirs == DkimResult::Pass
                && case.fields.iter().any(in_set)
                && case.without_form_feeds().is_some_and(|case| {
                    matches!(case.ours, ArcResult::Pass { .. }) || case.is_as_in_dkim()
                })
        },
    },
    Rule {
        name: "as in DKIM",
        text: "RFC 8617 section 4.1.2: the ARC-Message-Signature has the syntax and semantics of DKIM-Signature; \
            section 4.1.3: the tags of the ARC-Seal are defined as there",
        applies: Case::is_as_in_dkim,
    },
];

const OURS: &str = "ours.test";
const NAMES: &[&str] = &[
    "arc-seal",
    "arc-message-signature",
    "arc-authentication-results",
];
