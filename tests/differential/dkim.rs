//! DKIM-Signature fields: one verdict for each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::auth::dkim::canonical::Form;
use chopar::auth::dkim::record::{KeyRecord, RecordError};
use chopar::auth::dkim::tag::TagListError;
use chopar::auth::dkim::verdict::{Failure, SignatureVerdict};
use chopar::auth::dkim::verify::Verification;
use chopar::date::Timestamp;
use chopar::dns::NoRecords;
use mail_auth::DkimResult;
use mail_auth::dkim::DkimError;
use mail_auth::{Error, common::crypto::CryptoError};
use ring::digest::{SHA256, digest};

use crate::chance::Chance;
use crate::letter::{Arrived, Letter, name_of};
use crate::peer::{Judged, Peer};
use crate::referee;
use crate::signer::{Key, sign};
use crate::tally::{Rule, Tally};
use crate::zone::{Texts, Zone};

/// When chopar verifies: later than any clock that mail-auth reads will show.
pub(crate) const AT: Timestamp = Timestamp::from_seconds(3_000_000_000);
const LETTERS: usize = 700;
const VARIANTS: usize = 8;
const CASES_MIN: usize = 5_000;

/// What a SubjectPublicKeyInfo of an RSA key of 2,048 bits has behind its own length: the algorithm, the string of bits,
/// the sequence of two integers, the length of the first, and a zero, which says that it is positive.
const KEY: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\
    \x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00";

/// One signature and what was said of it.
pub(crate) struct Case {
    pub(crate) value: Vec<u8>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) texts: Texts,
    pub(crate) ours: Result<(), Failure>,
    pub(crate) theirs: Judged,
    /// All fields of the message, of which this is about the one at `own`.
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
    for _ in 0..LETTERS {
        let mut letter = Letter::new(&mut chance);
        let mut zone = Zone::default();
        for nth in 0..1 + chance.below(3) {
            let key = chance.of(&keys);
            let selector = format!("s{nth}");
            sign(&mut letter, key, &selector, &mut chance);
            let name = format!("{selector}._domainkey.src.test");
            zone.texts
                .insert(name, Ok(vec![key.record.clone().into_bytes()]));
        }
        judge(&letter, &zone, &peer, &mut tally);
        for _ in 0..VARIANTS {
            let (mut letter, mut zone) = (letter.clone(), zone.clone());
            if chance.once_in(4) {
                alter_key(&mut zone, &keys, &mut chance);
            }
            for _ in 0..chance.below(3) {
                match chance.below(2) {
                    0 => letter.alter(&mut chance),
                    _ => letter.alter_tags(&["dkim-signature"], &mut chance),
                }
            }
            judge(&letter, &zone, &peer, &mut tally);
        }
    }
    tally.finish(CASES_MIN);
}

fn judge(letter: &Letter, zone: &Zone, peer: &Peer, tally: &mut Tally<Case>) {
    let Some(arrived) = letter.arrived() else {
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
    let mut verification = Verification::new(&arrived.header, AT);
    verification.on_body(&arrived.body);
    zone.drive(|answers| verification.resume(&arrived.header, answers))
}

/// RFC 8601 section 2.7.1 has neutral for what cannot be read, which mail-auth leaves out.
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

/// Publishes a key in another way.
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

    /// Whether the referee finds the hash of the body right.
    fn body_holds(&self) -> bool {
        let form = match self.tag("c").and_then(|c| c.split_once('/')) {
            Some((_, "relaxed")) => Form::Relaxed,
            _ => Form::Simple,
        };
        let body = referee::body(&self.body, form);
        let limit = self.tag("l").and_then(|l| l.parse().ok());
        let signed = body.get(..limit.unwrap_or(body.len()));
        let hash = self.tag("bh").unwrap_or_default();
        let hash: String = hash.split_ascii_whitespace().collect();
        signed.is_some_and(|signed| STANDARD.encode(digest(&SHA256, signed)) == hash)
    }
}

/// Whether a tag of a signature has a value that it can have (RFC 6376 section 3.5).
pub(crate) fn is_value(name: &str, value: &str) -> bool {
    let digits = || !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = || {
        let text: String = value.split_ascii_whitespace().collect();
        STANDARD.decode(text).ok()
    };
    let is_domain = |text: &str| {
        text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
    };
    match name {
        "v" => value == "1",
        "b" => bytes().is_some_and(|bytes| !bytes.is_empty()),
        "bh" => bytes().is_some_and(|bytes| bytes.len() == 32),
        "c" => {
            let (header, body) = value.split_once('/').unwrap_or((value, "simple"));
            [header, body]
                .iter()
                .all(|form| ["simple", "relaxed"].contains(form))
        }
        "d" | "s" => is_domain(value),
        "h" => value.split(':').all(|name| {
            let name = name.trim();
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
        }),
        "i" => value
            .rsplit_once('@')
            .is_some_and(|(_, domain)| is_domain(domain)),
        "l" | "t" | "x" => digits(),
        _ => true,
    }
}

pub(crate) const RULES: &[Rule<Case>] = &[
    Rule {
        name: "white space before the colon",
        text: "RFC 5322 section 4.5.8: a field name may have white space before its colon; RFC 6376 section 3.4.2: \
            delete any WSP characters remaining before the colon",
        applies: |case| {
            let named = |field: &Vec<u8>| {
                let name = name_of(field);
                let listed = case.tag("h").unwrap_or_default().split(':');
                name.ends_with([' ', '\t'])
                    && listed
                        .map(str::trim)
                        .any(|listed| listed.eq_ignore_ascii_case(name.trim()))
            };
            case.fields.iter().any(named) && case.is_right_about_the_header()
        },
    },
    Rule {
        name: "duplicate tag",
        text: "RFC 6376 section 3.2: if a tag name does occur more than once, the entire tag-list is invalid",
        applies: |case| {
            let names = case.tags.iter().map(|(name, _)| name);
            let mut names: Vec<&String> = names.collect();
            names.sort_unstable();
            case.ours == Err(Failure::Tags(TagListError::Duplicate))
                && names.windows(2).any(|pair| pair[0] == pair[1])
        },
    },
    Rule {
        name: "no tag list",
        text: "RFC 6376 section 6.1.1: any inconsistency or unexpected values MUST cause the header field to be \
            completely ignored; section 3.2: a tag-list is tag-spec *( \";\" tag-spec ) [ \";\" ]",
        applies: |case| {
            matches!(
                case.ours,
                Err(Failure::Tags(TagListError::Syntax | TagListError::Encoding))
            ) && !referee::is_tag_list(&case.value)
        },
    },
    Rule {
        name: "required tag",
        text: "RFC 6376 section 6.1.1: if any tag listed as required is omitted, the Verifier MUST ignore the field",
        applies: |case| {
            matches!(case.ours, Err(Failure::Tag { name })
                if ["v", "b", "bh", "d", "h", "s", "a"].contains(&name) && case.tag(name).is_none())
        },
    },
    Rule {
        name: "tag value",
        text: "RFC 6376 section 6.1.1: implementers MUST meticulously validate the format and values; section 3.2: \
            values MUST be processed as case sensitive unless the description says otherwise",
        applies: |case| {
            matches!(case.ours, Err(Failure::Tag { name })
                if case.tag(name).is_some_and(|value| !is_value(name, value)))
        },
    },
    Rule {
        name: "algorithm",
        text: "RFC 6376 section 3.2: values MUST be processed as case sensitive; section 3.5: a= has no default",
        applies: |case| {
            case.ours == Err(Failure::UnknownAlgorithm)
                && case
                    .tag("a")
                    .is_some_and(|a| !["rsa-sha256", "ed25519-sha256", "rsa-sha1"].contains(&a))
        },
    },
    Rule {
        name: "rsa-sha1",
        text: "RFC 8301 section 3.1: rsa-sha1 MUST NOT be used for signing or verifying",
        applies: |case| {
            case.ours == Err(Failure::RetiredAlgorithm) && case.tag("a") == Some("rsa-sha1")
        },
    },
    Rule {
        name: "query method",
        text: "RFC 6376 section 3.5: q= lists the query methods used to retrieve the public key; dns/txt is the only \
            one that is defined",
        applies: |case| {
            case.ours == Err(Failure::QueryMethod)
                && case
                    .tag("q")
                    .is_some_and(|q| q.split(':').all(|method| method.trim() != "dns/txt"))
        },
    },
    Rule {
        name: "From is not signed",
        text: "RFC 6376 section 6.1.1: if h= does not include From, the Verifier MUST ignore the field and return \
            PERMFAIL (From field not signed)",
        applies: |case| {
            case.ours == Err(Failure::FromNotSigned)
                && case.tag("h").is_some_and(|h| {
                    h.split(':')
                        .all(|name| !name.trim().eq_ignore_ascii_case("from"))
                })
        },
    },
    Rule {
        name: "domain mismatch",
        text: "RFC 6376 section 6.1.1: where d= is not the same as or a parent domain of the domain of i=, the \
            Verifier MUST ignore the field and return PERMFAIL (domain mismatch); section 3.6.1: so with t=s where \
            they differ",
        applies: |case| {
            let d = case.tag("d").unwrap_or_default().to_ascii_lowercase();
            let i = case.tag("i").unwrap_or_default().to_ascii_lowercase();
            let (_, identity) = i.rsplit_once('@').unwrap_or_default();
            let under = identity == d || identity.ends_with(&format!(".{d}"));
            let strict = case
                .texts
                .iter()
                .flatten()
                .any(|text| KeyRecord::parse(text).is_ok_and(|key| key.strict));
            case.ours == Err(Failure::Identity) && (!under || (strict && identity != d))
        },
    },
    Rule {
        name: "from the future",
        text: "RFC 6376 section 3.5: implementations MAY ignore signatures that have a timestamp in the future",
        applies: |case| {
            let t: Option<u64> = case.tag("t").and_then(|t| t.parse().ok());
            case.ours == Err(Failure::Future) && t.is_some_and(|t| t > AT.seconds() + 300)
        },
    },
    Rule {
        name: "expired is policy",
        text: "RFC 8601 section 2.7.1: policy is for a signature of which some aspect was not acceptable; RFC 6376 \
            section 3.5: signatures MAY be considered invalid if the verification time is past x=",
        applies: |case| {
            let x: Option<u64> = case.tag("x").and_then(|x| x.parse().ok());
            let zero = x == Some(0);
            case.ours == Err(Failure::Expired)
                && x.is_some_and(|x| x < AT.seconds())
                && (zero
                    || matches!(
                        case.theirs(),
                        Some(DkimResult::Neutral(Error::Dkim(
                            DkimError::SignatureExpired
                        )))
                    ))
        },
    },
    Rule {
        name: "x= before t=",
        text: "RFC 6376 section 3.5: the value of x= MUST be greater than the value of t= if both are present; that of 0 \
            is no exception",
        applies: |case| {
            let number = |name| case.tag(name).and_then(|value| value.parse::<u64>().ok());
            case.ours == Err(Failure::Tag { name: "x" })
                && number("x").zip(number("t")).is_some_and(|(x, t)| x <= t)
        },
    },
    Rule {
        name: "a wrong body hash is fail",
        text: "RFC 8601 section 2.7.1: fail is for signatures that were acceptable but failed the verification test; \
            RFC 6376 section 6.1.3: where the hashes do not match, PERMFAIL (body hash did not verify)",
        applies: |case| {
            case.ours == Err(Failure::BodyHash)
                && !case.body_holds()
                && matches!(
                    case.theirs(),
                    Some(DkimResult::Neutral(Error::Dkim(
                        DkimError::FailedBodyHashMatch
                    )))
                )
        },
    },
    Rule {
        name: "l= is more than the body",
        text: "RFC 6376 section 3.5: l= MUST NOT be larger than the actual number of octets in the canonicalized body",
        applies: |case| {
            case.ours == Err(Failure::BodyTooShort) && case.tag("l").is_some() && !case.body_holds()
        },
    },
    Rule {
        name: "l= counts the canonical body",
        text: "RFC 6376 section 3.5: l= is the number of octets in the body after canonicalization, from 0",
        applies: |case| case.tag("l").is_some() && case.is_right_about_the_body(),
    },
    Rule {
        name: "white space at the end",
        text: "RFC 6376 section 3.4.4: ignore all whitespace at the end of lines; ignore all empty lines at the end of \
            the message body",
        applies: |case| {
            let text = case.body.trim_ascii_end().len();
            let spaces = case.body[text..]
                .iter()
                .any(|byte| matches!(byte, b' ' | b'\t'));
            case.tag("c").is_some_and(|c| c.ends_with("/relaxed"))
                && spaces
                && case.is_right_about_the_body()
        },
    },
    Rule {
        name: "key of another type",
        text: "RFC 6376 section 6.1.2 step 7: where the key is not suitable for the algorithm of a=, PERMFAIL \
            (inappropriate key algorithm)",
        applies: |case| {
            case.ours == Err(Failure::KeyType)
                && matches!(
                    case.theirs(),
                    Some(DkimResult::Fail(Error::Crypto(
                        CryptoError::IncompatibleAlgorithms
                    )))
                )
        },
    },
    Rule {
        name: "key type of the record",
        text: "RFC 6376 section 3.2: values MUST be processed as case sensitive; section 3.6.1: unrecognized key types \
            MUST be ignored",
        applies: |case| {
            case.ours == Err(Failure::Key(RecordError::KeyType))
                && case.has_record_with("k", |k| !["rsa", "ed25519"].contains(&k))
        },
    },
    Rule {
        name: "a key that is none",
        text: "RFC 6376 section 3.6.1: p= is base64 of a SubjectPublicKeyInfo (RFC 5280 section 4.1) of an RSA key, whose \
            algorithm is rsaEncryption (RFC 3279 section 2.3.1) and whose numbers are positive (RFC 8017 appendix A.1.1)",
        applies: |case| {
            case.ours == Err(Failure::Key(RecordError::Key))
                && case.has_record_with("p", |p| {
                    let key = STANDARD.decode(p.split_ascii_whitespace().collect::<String>());
                    key.map_or(true, |key| key.get(4..KEY.len() + 4) != Some(KEY))
                })
        },
    },
    Rule {
        name: "hash that the key is not for",
        text: "RFC 6376 section 6.1.2 step 6: if the hash algorithm implied by a= is not in h= of the record, PERMFAIL",
        applies: |case| {
            case.ours == Err(Failure::Key(RecordError::Hash))
                && case.has_record_with("h", |h| h.split(':').all(|hash| hash.trim() != "sha256"))
        },
    },
    Rule {
        name: "service that the key is not for",
        text: "RFC 6376 section 3.6.1: verifiers MUST ignore this record if the appropriate type is not listed in s=",
        applies: |case| {
            case.ours == Err(Failure::Key(RecordError::Service))
                && case.has_record_with("s", |s| {
                    s.split(':')
                        .all(|kind| !["*", "email"].contains(&kind.trim()))
                })
        },
    },
    Rule {
        name: "version of the record",
        text: "RFC 6376 section 3.6.1: v= MUST be the first tag in the record; records beginning with a v= tag with \
            any other value MUST be discarded",
        applies: |case| {
            case.ours == Err(Failure::Key(RecordError::Syntax))
                && (case.has_record_with("v", |v| v != "DKIM1")
                    || case.texts.iter().flatten().any(|text| {
                        referee::tags(text)
                            .iter()
                            .skip(1)
                            .any(|(name, _)| name == "v")
                    }))
        },
    },
    Rule {
        name: "record that is no tag list",
        text: "RFC 6376 section 6.1.2 step 5: if the result is not parsable, PERMFAIL (key syntax error); section 3.2 \
            for duplicates and for the case of names",
        applies: |case| {
            case.ours == Err(Failure::Key(RecordError::Syntax))
                && case.texts.iter().flatten().any(|text| {
                    let tags = referee::tags(text);
                    let mut names: Vec<&String> = tags.iter().map(|(name, _)| name).collect();
                    names.sort_unstable();
                    !referee::is_tag_list(text)
                        || names.windows(2).any(|pair| pair[0] == pair[1])
                        || tags.iter().all(|(name, _)| name != "p")
                })
        },
    },
    Rule {
        name: "a key that fits nothing",
        text: "RFC 8601 section 2.7.1: fail is for what failed the verification test, which is where a key of the right \
            form is found to be no point (RFC 8032 section 5.1.7: the signature is invalid) or to have an even modulus",
        applies: |case| {
            case.ours == Err(Failure::Signature)
                && matches!(
                    case.theirs(),
                    Some(DkimResult::PermError(Error::Crypto(CryptoError::Library(
                        _
                    ))))
                )
        },
    },
    Rule {
        name: "case of tag names",
        text: "RFC 6376 section 3.2: tags MUST be interpreted in a case-sensitive manner",
        applies: |case| {
            let upper = |value: &[u8]| {
                referee::tags(value).iter().any(|(name, _)| {
                    let lower = name.to_ascii_lowercase();
                    lower != *name
                        && [
                            "a", "b", "bh", "c", "d", "h", "i", "k", "l", "p", "s", "t", "v", "x",
                        ]
                        .contains(&lower.as_str())
                })
            };
            upper(&case.value) || case.texts.iter().flatten().any(|text| upper(text))
        },
    },
    Rule {
        name: "several records",
        text: "RFC 6376 section 6.1.2 step 4: where several key records are returned, the Verifier may cycle through \
            them, performing the remaining steps on each",
        applies: |case| {
            case.texts.iter().flatten().count() > 1
                && case.theirs() != Some(&DkimResult::Pass)
                && (case.ours.is_err() || case.signature_holds())
        },
    },
];

impl Case {
    /// Whether the referee finds a key that the signature fits.
    fn signature_holds(&self) -> bool {
        let keys = self.texts.iter().flatten();
        let keys = keys.filter_map(|text| KeyRecord::parse(text).ok());
        let mut keys = keys.filter(|key| self.tag("a") == Some(key.key.algorithm().as_str()));
        keys.any(|key| referee::signature_holds(&self.fields, self.own, &key))
    }

    /// Whether only one finds that the signature fits, and the referee sides with ours.
    fn is_right_about_the_header(&self) -> bool {
        let theirs_holds = match self.theirs() {
            Some(DkimResult::Pass) => true,
            Some(DkimResult::Fail(Error::Crypto(_))) => false,
            _ => return false,
        };
        let ours_holds = match self.ours {
            Ok(()) => true,
            Err(Failure::Signature) => false,
            Err(_) => return false,
        };
        theirs_holds != ours_holds && ours_holds == self.signature_holds()
    }

    /// Whether one finds the hash of the body right and the other wrong, and the referee sides with ours.
    fn is_right_about_the_body(&self) -> bool {
        let theirs_holds = match self.theirs() {
            Some(DkimResult::Neutral(Error::Dkim(DkimError::FailedBodyHashMatch))) => false,
            None | Some(DkimResult::Neutral(_)) => return false,
            Some(_) => true,
        };
        let ours_holds = match self.ours {
            Err(Failure::BodyHash) => false,
            Ok(())
            | Err(
                Failure::Signature
                | Failure::Key(_)
                | Failure::KeyUnavailable
                | Failure::NoKey
                | Failure::KeyType,
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
