//! DKIM-Signature fields: one verdict for each.

mod rules;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::auth::dkim::canonical::Canonicalization;
use chopar::auth::dkim::record::KeyRecord;
use chopar::auth::dkim::verdict::{DkimFailure, SignatureVerdict};
use chopar::auth::dkim::verify::DkimVerification;
use chopar::date::Timestamp;
use chopar::dns::NoRecords;
use mail_auth::dkim::DkimError;
use mail_auth::{DkimResult, Error};
use ring::digest::{SHA256, digest};

use crate::chance::Chance;
use crate::message::{Arrived, ClientMessage};
use crate::peer::{Judged, Peer};
use crate::referee;
use crate::signer::{Key, sign};
use crate::tally::Tally;
use crate::zone::{Texts, Zone};
pub(crate) use rules::RULES;

/// The time of verification: later than any clock that mail-auth reads.
pub(crate) const AT: Timestamp = Timestamp::from_seconds(3_000_000_000);
const MESSAGES: usize = 700;
const VARIANTS: usize = 8;
const CASES_MIN: usize = 5_000;

/// One signature and both verdicts.
pub(crate) struct Case {
    pub(crate) value: Vec<u8>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) texts: Texts,
    pub(crate) ours: Result<(), DkimFailure>,
    pub(crate) theirs: Judged,
    /// All fields of the message; the case is about the one at `own`.
    pub(crate) fields: Vec<Vec<u8>>,
    pub(crate) own: usize,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "{:?} / {:?}", self.ours, self.theirs)?;
        writeln!(out, "{}", self.value.escape_ascii())?;
        for text in self.texts.iter().flatten() {
            writeln!(out, "TXT {}", text.escape_ascii())?;
        }
        for field in &self.fields {
            writeln!(out, "  {}", field.escape_ascii())?;
        }
        write!(out, "  {}", self.body.escape_ascii())
    }
}

#[test]
fn signatures() {
    let peer = Peer::new();
    let keys = [Key::rsa(), Key::ed25519()];
    let mut chance = Chance::new(6376);
    let mut tally = Tally::new("DKIM", RULES);
    for _ in 0..MESSAGES {
        let mut message = ClientMessage::new(&mut chance);
        let mut zone = Zone::default();
        for nth in 0..1 + chance.below(3) {
            let key = chance.of(&keys);
            let selector = format!("s{nth}");
            sign(&mut message, key, &selector, &mut chance);
            let name = format!("{selector}._domainkey.src.test");
            zone.texts
                .insert(name, Ok(vec![key.record.clone().into_bytes()]));
        }
        judge(&message, &zone, &peer, &mut tally);
        for _ in 0..VARIANTS {
            let (mut message, mut zone) = (message.clone(), zone.clone());
            if chance.once_in(4) {
                alter_key(&mut zone, &keys, &mut chance);
            }
            for _ in 0..chance.below(3) {
                match chance.below(2) {
                    0 => message.alter(&mut chance),
                    _ => message.alter_tags(&["dkim-signature"], &mut chance),
                }
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
    let ours = verdicts(&arrived, zone);
    let theirs = peer.dkim(&arrived.bytes, zone);
    assert_eq!(ours.len(), theirs.len());
    let fields: Vec<Vec<u8>> = arrived
        .header
        .fields()
        .map(|field| field.raw().to_vec())
        .collect();
    let own = arrived.header.fields().enumerate();
    let own = own.filter(|(_, field)| field.is("DKIM-Signature"));
    for (((own, field), ours), theirs) in own.zip(ours).zip(theirs) {
        let name = ours.domain.as_ref().zip(ours.selector.as_ref());
        let name = name.map(|(domain, selector)| format!("{selector}._domainkey.{domain}"));
        let texts = name.and_then(|name| zone.texts.get(&name.to_ascii_lowercase()).cloned());
        let case = Case {
            value: field.value().to_vec(),
            tags: referee::tags(field.value()),
            body: arrived.body.clone(),
            texts: texts.unwrap_or(Err(NoRecords::NoDomain)),
            ours: ours.outcome,
            theirs,
            fields: fields.clone(),
            own,
        };
        tally.compare(&ours.verdict().as_str(), &word(&case.theirs), &case);
    }
}

fn verdicts(arrived: &Arrived, zone: &Zone) -> Vec<SignatureVerdict> {
    let mut verification = DkimVerification::new(&arrived.header, AT);
    verification.on_body(&arrived.body);
    zone.drive(|answers| verification.resume(&arrived.header, answers))
}

/// RFC 8601 section 2.7.1 says neutral for a signature that cannot be parsed, which mail-auth omits.
pub(crate) fn word(judged: &Judged) -> &'static str {
    match judged {
        Judged::Unread => "neutral",
        Judged::Result(result) => match result {
            DkimResult::Pass => "pass",
            DkimResult::Fail(_) => "fail",
            DkimResult::Neutral(_) => "neutral",
            DkimResult::PermError(_) => "permerror",
            DkimResult::TempError(_) => "temperror",
            DkimResult::None => "none",
        },
    }
}

/// Publishes a key in another form.
pub(crate) fn alter_key(zone: &mut Zone, keys: &[Key], chance: &mut Chance) {
    let names: Vec<String> = zone.texts.keys().cloned().collect();
    let name = chance.of(&names).clone();
    let plain = match &zone.texts[&name] {
        Ok(texts) => String::from_utf8_lossy(&texts.concat()).into_owned(),
        Err(_) => return,
    };
    let bare = plain.replace("v=DKIM1; ", "");
    let other = chance.of(keys).record.clone();
    let key = plain.rsplit("p=").next().unwrap_or_default();
    let one = |text: String| Ok(vec![text.into_bytes()]);
    let texts: Texts = match chance.below(22) {
        0 => Err(NoRecords::NoDomain),
        1 => Err(NoRecords::NoData),
        2 => Err(NoRecords::ServerFailure),
        3 => Err(NoRecords::Timeout),
        4 => one(bare),
        5 => one(plain.replace(key, "")),
        6 => one(format!("{plain}; t=s")),
        7 => one(format!("{plain}; t=y:s;")),
        8 => one(format!(
            "{plain}; h={}",
            chance.word(&["sha1", "sha256", "sha1:sha256", "x"])
        )),
        9 => one(format!(
            "{plain}; s={}",
            chance.word(&["*", "email", "x:email", "tlsrpt"])
        )),
        10 => one(format!("{bare}; v=DKIM1")),
        11 => one(plain.replace(
            "DKIM1",
            chance.word(&["DKIM2", "dkim1", "DK IM1", "DKIM1 "]),
        )),
        12 => one(plain.replace("k=rsa", "k=ed25519")),
        13 => one(match chance.below(2) {
            0 => plain.replace("k=", chance.word(&["k= ", "k=x", "K="])),
            _ => plain.replace("=ed", "=Ed").replace("=rsa", "=RSA"),
        }),
        14 => one(format!(
            "{}\r\n {}",
            &plain[..plain.len() / 2],
            &plain[plain.len() / 2..]
        )),
        15 => one(other),
        16 => Ok(vec![b"v=spf1 -all".to_vec(), plain.into_bytes()]),
        17 => Ok(vec![other.into_bytes(), plain.into_bytes()]),
        18 => Ok(vec![plain.into_bytes(), b"junk".to_vec()]),
        19 => Ok(vec![b"v=DKIM1; p=".to_vec(), plain.into_bytes()]),
        20 => one(plain + chance.word(&["; junk", "; n=1; n=2", ";;", "; n=\u{e9}; p="])),
        _ => {
            let mut text = plain.into_bytes();
            let at = chance.below(text.len());
            text[at] ^= 1 << chance.below(7);
            Ok(vec![text])
        }
    };
    zone.texts.insert(name, texts);
}

impl Case {
    pub(crate) fn tag(&self, name: &str) -> Option<&str> {
        let tag = self.tags.iter().find(|(other, _)| other == name);
        tag.map(|(_, value)| value.as_str())
    }

    fn theirs(&self) -> Option<&DkimResult> {
        match &self.theirs {
            Judged::Unread => None,
            Judged::Result(result) => Some(result),
        }
    }

    /// Whether the referee accepts the body hash.
    fn body_holds(&self) -> bool {
        let form = match self.tag("c").and_then(|c| c.split_once('/')) {
            Some((_, "relaxed")) => Canonicalization::Relaxed,
            _ => Canonicalization::Simple,
        };
        let body = referee::body(&self.body, form);
        let limit = self.tag("l").and_then(|l| l.parse().ok());
        let signed = body.get(..limit.unwrap_or(body.len()));
        let hash = self.tag("bh").unwrap_or_default();
        let hash: String = hash.split_ascii_whitespace().collect();
        signed.is_some_and(|signed| STANDARD.encode(digest(&SHA256, signed)) == hash)
    }
}

impl Case {
    /// Whether the referee finds a key for which the signature is valid.
    fn signature_holds(&self) -> bool {
        let keys = self.texts.iter().flatten();
        let keys = keys.filter_map(|text| KeyRecord::parse(text).ok());
        let mut keys = keys.filter(|key| self.tag("a") == Some(key.key.algorithm().as_str()));
        keys.any(|key| referee::signature_holds(&self.fields, self.own, &key))
    }

    /// Whether only one side accepts the signature, and the referee agrees with ours.
    fn is_right_about_the_header(&self) -> bool {
        let theirs_holds = match self.theirs() {
            Some(DkimResult::Pass) => true,
            Some(DkimResult::Fail(Error::Crypto(_))) => false,
            _ => return false,
        };
        let ours_holds = match self.ours {
            Ok(()) => true,
            Err(DkimFailure::Signature) => false,
            Err(_) => return false,
        };
        theirs_holds != ours_holds && ours_holds == self.signature_holds()
    }

    /// Whether only one side accepts the body hash, and the referee agrees with ours.
    fn is_right_about_the_body(&self) -> bool {
        let theirs_holds = match self.theirs() {
            Some(DkimResult::Neutral(Error::Dkim(DkimError::FailedBodyHashMatch))) => false,
            None | Some(DkimResult::Neutral(_)) => return false,
            Some(_) => true,
        };
        let ours_holds = match self.ours {
            Err(DkimFailure::BodyHash) => false,
            Ok(())
            | Err(
                DkimFailure::Signature
                | DkimFailure::Key(_)
                | DkimFailure::KeyUnavailable
                | DkimFailure::NoKey
                | DkimFailure::KeyType,
            ) => true,
            Err(_) => return false,
        };
        theirs_holds != ours_holds && ours_holds == self.body_holds()
    }

    fn has_record_with(&self, name: &str, wrong: impl Fn(&str) -> bool) -> bool {
        self.texts.iter().flatten().any(|text| {
            let tags = referee::tags(text);
            tags.iter()
                .any(|(other, value)| other == name && wrong(value))
        })
    }
}
