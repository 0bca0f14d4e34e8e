use chopar::acme::http::{AcmeResponse, BodyWanted, Rest, response};
use chopar::acme::wire::{RenewalInfo, Url, retry_after};
use chopar::acme::work::{CertificateOrder, Terms};
use chopar::acme::{AccountKey, AcmeAction, AcmeClient, AcmeWork, ChallengeKind, Name};
use chopar::date::Timestamp;
use chopar::limits::{ACME_NAMES_MAX, ACME_TEXT_CHARS_MAX};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

const AT: u64 = 1_800_000_000;

/// Responses of an ACME server, separated by NUL. The machine ends; afterwards it shows no challenge any more; it
/// requests only https URLs; it presents only ordered challenges; and it describes an error in one line of bounded
/// length. Read from a connection, the same text in pieces gives the same response or error as a whole.
pub fn acme(data: &[u8]) {
    let (cut, text) = super::variant(data);
    in_pieces(text, usize::from(cut));
    drop(RenewalInfo::parse(text));
    let now = Timestamp::from_seconds(AT);
    let _ = retry_after(&String::from_utf8_lossy(text), now);
    let url = Url::try_from("https://ca.test/directory".to_owned()).expect("a URL");
    let chance = SystemRandom::new();
    let order = CertificateOrder {
        names: Name::parse("a.test").into_iter().collect(),
        kind: ChallengeKind::Http01,
        request: Vec::new(),
        email: None,
        terms: Terms::Agreed,
        external: None,
        replaces: Some("a.b".to_owned()),
    };
    let (mut client, mut action) =
        AcmeClient::new(url, key(&chance), AcmeWork::Obtain(Box::new(order)));
    let mut bodies = text.split(|byte| *byte == 0);
    let mut now = AT;
    let mut shown = None;
    for _ in 0..STEPS_MAX {
        let at = Timestamp::from_seconds(now);
        action = match action {
            AcmeAction::Send(request) => {
                assert!(request.url.starts_with("https://"), "{}", request.url);
                now += 1;
                match bodies.next() {
                    Some(body) => client.on_response(&played(body), at, &chance),
                    None => client.on_failure("it is gone"),
                }
            }
            AcmeAction::Present(challenge) => {
                assert_eq!(challenge.domain, "a.test");
                assert_eq!(shown, None);
                shown = Some(challenge);
                client.on_presented(&chance)
            }
            AcmeAction::Withdraw(challenge) => {
                assert_eq!(shown.take(), Some(challenge));
                client.on_withdrawn(&chance)
            }
            AcmeAction::Wait(pause) => {
                now += pause.as_secs();
                client.on_waited(&chance)
            }
            AcmeAction::Done(_) => return assert_eq!(shown, None),
            AcmeAction::Failed(error) => {
                assert_eq!(shown, None);
                let said = error.to_string();
                assert!(!said.chars().any(char::is_control), "{said:?}");
                let most = 20 * ACME_TEXT_CHARS_MAX + ACME_NAMES_MAX;
                assert!(said.chars().count() < most, "{said}");
                return;
            }
        };
    }
    panic!("it does not end");
}

/// The first character is the status, in hundreds.
fn played(text: &[u8]) -> AcmeResponse {
    let (first, body) = super::variant(text);
    AcmeResponse {
        status: match first {
            b'4' => 400,
            b'5' => 503,
            b'9' => 429,
            _ => 201,
        },
        nonce: Some("n".to_owned()),
        location: Some("https://ca.test/x".to_owned()),
        retry_after: None,
        body: body.to_vec(),
    }
}

fn in_pieces(text: &[u8], cut: usize) {
    let whole = response(text, BodyWanted::Expected, Rest::Closed);
    let part = text.get(..cut.min(text.len())).unwrap_or_default();
    if let Ok(Some(found)) = response(part, BodyWanted::Expected, Rest::MayFollow) {
        assert_eq!(whole, Ok(Some(found)), "what follows does not change it");
    }
}

fn key(chance: &SystemRandom) -> AccountKey {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, chance);
    AccountKey::from_pkcs8(der.expect("a key").as_ref(), chance).expect("a key")
}

/// Every step takes an answer or ends; polls end by time.
const STEPS_MAX: usize = 20_000;
