//! Why chopar judges signatures as it does if mail-auth differs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chopar::auth::dkim::record::{KeyRecord, KeyRecordError};
use chopar::auth::dkim::tag::TagListError;
use chopar::auth::dkim::verdict::DkimFailure;
use mail_auth::common::crypto::CryptoError;
use mail_auth::dkim::DkimError;
use mail_auth::{DkimResult, Error};

use super::{AT, Case};
use crate::message::name_of;
use crate::referee;
use crate::tally::Rule;

pub(crate) const RULES: &[Rule<Case>] = &[
    Rule {
        name: "a form feed is not white space",
        text: "RFC 6376 section 3.4.2: convert all sequences of one or more WSP characters to a single SP character; \
            section 2.8: WSP is what RFC 5234 says, which is SP / HTAB",
        applies: |case| {
            let listed = |name: &str| {
                let mut names = case.tag("h").unwrap_or_default().split(':');
                names.any(|listed| listed.trim().eq_ignore_ascii_case(name.trim()))
            };
            case.tag("c").is_some_and(|c| c.starts_with("relaxed"))
                && case
                    .fields
                    .iter()
                    .any(|field| field.contains(&b'\x0c') && listed(&name_of(field)))
                && case.is_right_about_the_header()
        },
    },
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
            case.ours == Err(DkimFailure::Tags(TagListError::Duplicate))
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
                Err(DkimFailure::Tags(
                    TagListError::Syntax | TagListError::Encoding
                ))
            ) && !referee::is_tag_list(&case.value)
        },
    },
    Rule {
        name: "required tag",
        text: "RFC 6376 section 6.1.1: if any tag listed as required is omitted, the Verifier MUST ignore the field",
        applies: |case| {
            matches!(case.ours, Err(DkimFailure::Tag { name })
                if ["v", "b", "bh", "d", "h", "s", "a"].contains(&name) && case.tag(name).is_none())
        },
    },
    Rule {
        name: "tag value",
        text: "RFC 6376 section 6.1.1: implementers MUST meticulously validate the format and values; section 3.2: \
            values MUST be processed as case sensitive unless the description says otherwise",
        applies: |case| {
            matches!(case.ours, Err(DkimFailure::Tag { name })
                if case.tag(name).is_some_and(|value| !is_value(name, value)))
        },
    },
    Rule {
        name: "algorithm",
        text: "RFC 6376 section 3.2: values MUST be processed as case sensitive; section 3.5: a= has no default",
        applies: |case| {
            case.ours == Err(DkimFailure::UnknownAlgorithm)
                && case
                    .tag("a")
                    .is_some_and(|a| !["rsa-sha256", "ed25519-sha256", "rsa-sha1"].contains(&a))
        },
    },
    Rule {
        name: "rsa-sha1",
        text: "RFC 8301 section 3.1: rsa-sha1 MUST NOT be used for signing or verifying",
        applies: |case| {
            case.ours == Err(DkimFailure::RetiredAlgorithm) && case.tag("a") == Some("rsa-sha1")
        },
    },
    Rule {
        name: "query method",
        text: "RFC 6376 section 3.5: q= lists the query methods used to retrieve the public key; dns/txt is the only \
            one that is defined",
        applies: |case| {
            case.ours == Err(DkimFailure::QueryMethod)
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
            case.ours == Err(DkimFailure::FromNotSigned)
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
            case.ours == Err(DkimFailure::Identity) && (!under || (strict && identity != d))
        },
    },
    Rule {
        name: "from the future",
        text: "RFC 6376 section 3.5: implementations MAY ignore signatures that have a timestamp in the future",
        applies: |case| {
            let t: Option<u64> = case.tag("t").and_then(|t| t.parse().ok());
            case.ours == Err(DkimFailure::Future) && t.is_some_and(|t| t > AT.seconds() + 300)
        },
    },
    Rule {
        name: "expired is policy",
        text: "RFC 8601 section 2.7.1: policy is for a signature of which some aspect was not acceptable; RFC 6376 \
            section 3.5: signatures MAY be considered invalid if the verification time is past x=",
        applies: |case| {
            let x: Option<u64> = case.tag("x").and_then(|x| x.parse().ok());
            let zero = x == Some(0);
            case.ours == Err(DkimFailure::Expired)
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
            is not an exception",
        applies: |case| {
            let number = |name| case.tag(name).and_then(|value| value.parse::<u64>().ok());
            case.ours == Err(DkimFailure::Tag { name: "x" })
                && number("x").zip(number("t")).is_some_and(|(x, t)| x <= t)
        },
    },
    Rule {
        name: "a wrong body hash is fail",
        text: "RFC 8601 section 2.7.1: fail is for signatures that were acceptable but failed the verification test; \
            RFC 6376 section 6.1.3: where the hashes do not match, PERMFAIL (body hash did not verify)",
        applies: |case| {
            case.ours == Err(DkimFailure::BodyHash)
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
            case.ours == Err(DkimFailure::BodyTooShort)
                && case.tag("l").is_some()
                && !case.body_holds()
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
            case.ours == Err(DkimFailure::KeyType)
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
            case.ours == Err(DkimFailure::Key(KeyRecordError::KeyType))
                && case.has_record_with("k", |k| !["rsa", "ed25519"].contains(&k))
        },
    },
    Rule {
        name: "a key that is none",
        text: "RFC 6376 section 3.6.1: p= is base64 of a SubjectPublicKeyInfo (RFC 5280 section 4.1) of an RSA key, whose \
            algorithm is rsaEncryption (RFC 3279 section 2.3.1) and whose numbers are positive (RFC 8017 appendix A.1.1)",
        applies: |case| {
            case.ours == Err(DkimFailure::Key(KeyRecordError::Key))
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
            case.ours == Err(DkimFailure::Key(KeyRecordError::Hash))
                && case.has_record_with("h", |h| h.split(':').all(|hash| hash.trim() != "sha256"))
        },
    },
    Rule {
        name: "service that the key is not for",
        text: "RFC 6376 section 3.6.1: verifiers MUST ignore this record if the appropriate type is not listed in s=",
        applies: |case| {
            case.ours == Err(DkimFailure::Key(KeyRecordError::Service))
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
            case.ours == Err(DkimFailure::Key(KeyRecordError::Syntax))
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
        name: "record that is not a tag list",
        text: "RFC 6376 section 6.1.2 step 5: if the result is not parsable, PERMFAIL (key syntax error); section 3.2 \
            for duplicates and for the case of names",
        applies: |case| {
            case.ours == Err(DkimFailure::Key(KeyRecordError::Syntax))
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
            case.ours == Err(DkimFailure::Signature)
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

/// Whether a tag of a signature has a valid value (RFC 6376 section 3.5).
fn is_value(name: &str, value: &str) -> bool {
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
        "i" => value.rsplit_once('@').is_some_and(|(local_part, domain)| {
            is_domain(domain) && (!local_part.contains('@') || local_part.starts_with('"'))
        }),
        "l" | "t" | "x" => digits(),
        _ => true,
    }
}

/// The bytes of a SubjectPublicKeyInfo with an RSA key of 2,048 bits after its own length: the algorithm, the bit
/// string, the sequence of two integers, the length of the first, and a zero that makes it positive.
const KEY: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\
    \x03\x82\x01\x0f\x00\x30\x82\x01\x0a\x02\x82\x01\x01\x00";
