//! Of two pairs of a name, the server prefers the one that a client can verify.

use std::sync::OnceLock;

use proptest::prelude::*;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use zeroize::Zeroizing;

use super::*;
use crate::shell::certificates::pairs::PairFiles;

/// 2026-06-15T00:00:00Z
const JUNE: Timestamp = Timestamp::from_seconds(1_781_481_600);
const NAME: &str = "mail.example.com";

/// An authority that chopar.toml names, and one that it does not name.
fn authorities() -> &'static [CertifiedIssuer<'static, KeyPair>; 2] {
    static MADE: OnceLock<[CertifiedIssuer<'static, KeyPair>; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        ["known", "unknown"].map(|name| {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            CertifiedIssuer::self_signed(params, key).unwrap()
        })
    })
}

/// How a pair is made.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    by: By,
    months: [u8; 2],
    is_ed25519: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Known,
    Unknown,
    Itself,
}

impl Recipe {
    fn is_verified(self) -> bool {
        self.by == By::Known && self.is_valid()
    }

    fn is_valid(self) -> bool {
        let [from, to] = self.months;
        from <= 6 && 6 < to
    }

    fn make(self, folder: &str) -> FoundPair {
        let key = match self.is_ed25519 {
            true => KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            false => KeyPair::generate().unwrap(),
        };
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let [from, to] = self
            .months
            .map(|month| rcgen::date_time_ymd(2026, month, 1));
        (params.not_before, params.not_after) = (from, to);
        let [known, unknown] = authorities();
        let made = match self.by {
            By::Known => params.signed_by(&key, known),
            By::Unknown => params.signed_by(&key, unknown),
            By::Itself => params.self_signed(&key),
        };
        FoundPair {
            name: folder.into(),
            pair: Some(PairFiles {
                chain: made.unwrap().pem().into_bytes(),
                key: Zeroizing::new(key.serialize_pem().into_bytes()),
                bare_key: None,
            }),
            error: None,
        }
    }
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let by = prop_oneof![Just(By::Known), Just(By::Unknown), Just(By::Itself)];
    let months = prop_oneof![
        Just([1, 3]),
        Just([5, 8]),
        Just([5, 10]),
        Just([8, 11]),
        Just([6, 7])
    ];
    (by, months, any::<bool>()).prop_map(|(by, months, is_ed25519)| Recipe {
        by,
        months,
        is_ed25519,
    })
}

/// The certificate that a client is shown which can verify everything.
fn shown(tls: &Tls) -> CertificateDer<'static> {
    let certificates = Certificates {
        all: tls
            .served
            .iter()
            .map(|served| Arc::clone(&served.certificate))
            .collect(),
        hostname: None,
    };
    let schemes = tls
        .provider
        .signature_verification_algorithms
        .supported_schemes();
    let chosen = certificates.choose(Some(NAME), &schemes, JUNE).unwrap();
    chosen.cert[0].clone()
}

/// Whether a client that knows the authority accepts it, by rustls's own verification in a handshake.
fn is_taken(certificate: &CertificateDer<'_>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(authorities()[0].der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(JUNE.seconds()));
    let name = ServerName::try_from(NAME).unwrap();
    let verified = verifier.build().unwrap();
    verified
        .verify_server_cert(certificate, &[], &name, &[], at)
        .is_ok()
}

fn host() -> Domain {
    Domain::parse(NAME).unwrap()
}

fn known_root() -> Vec<u8> {
    authorities()[0].pem().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn of_pairs_of_a_name_one_that_a_client_verifies_is_shown(
        recipes in proptest::collection::vec(recipe(), 1..5),
    ) {
        let made = recipes.iter().enumerate();
        let found: Vec<FoundPair> = made.map(|(at, one)| one.make(&format!("p{at}"))).collect();
        let root = known_root();
        let read = Read { found: &found, authorities: &root, names: &[] };
        let tls = Tls::start(read, &LastGood::default(), &host(), JUNE).unwrap();
        prop_assert_eq!(is_taken(&shown(&tls)), recipes.iter().any(|one| one.is_verified()));
        // Without an authority nothing can be verified, and a valid one goes first.
        let tls = Tls::start(&found, &LastGood::default(), &host(), JUNE).unwrap();
        let chosen = shown(&tls);
        let valid = crate::shell::certificates::certificate::seen(&chosen).unwrap().validity.unwrap();
        let is_valid = valid.from <= JUNE && JUNE < valid.to;
        prop_assert_eq!(is_valid, recipes.iter().any(|one| one.is_valid()));
    }

    #[test]
    fn a_pair_never_takes_the_place_of_one_that_clients_take_sooner_not_across_a_restart_either(
        recipes in proptest::collection::vec((recipe(), any::<bool>()), 1..6),
    ) {
        let root = known_root();
        let state = tempfile::tempdir().unwrap();
        let mut tls = Tls::start(&[][..], &LastGood::default(), &host(), JUNE).unwrap();
        let (mut verified, mut valid) = (false, false);
        for (recipe, restarts) in recipes {
            let found = [recipe.make("same")];
            let read = Read { found: &found, authorities: &root, names: &[] };
            if restarts {
                tls.keep(state.path()).unwrap();
                tls = Tls::start(read, &last_good::read(state.path()), &host(), JUNE).unwrap();
            } else {
                tls.take(read, &host(), Gone::Kept, JUNE).unwrap();
            }
            verified |= recipe.is_verified();
            valid |= recipe.is_valid();
            prop_assert_eq!(is_taken(&shown(&tls)), verified);
            let chosen = crate::shell::certificates::certificate::seen(&shown(&tls)).unwrap().validity.unwrap();
            prop_assert_eq!(chosen.from <= JUNE && JUNE < chosen.to, valid);
            prop_assert_eq!(tls.served(), 1);
        }
    }
}

#[test]
fn a_pair_of_an_unknown_authority_is_said_and_shown_once_the_good_one_has_ended() {
    let of = |by, months| Recipe {
        by,
        months,
        is_ed25519: false,
    };
    let root = known_root();
    let (good, bad) = (
        [of(By::Known, [5, 8]).make("a")],
        [of(By::Unknown, [5, 10]).make("a")],
    );
    let read = |found| Read {
        found,
        authorities: &root,
        names: &[],
    };
    let mut tls = Tls::start(read(&good), &LastGood::default(), &host(), JUNE).unwrap();
    tls.take(read(&bad), &host(), Gone::Dropped, JUNE).unwrap();
    assert!(is_taken(&shown(&tls)));
    let untrusted = |tls: &Tls, now| {
        let mut findings = tls.findings(&host(), now).into_iter();
        findings.find(|finding| finding.cause == CertificateCause::Untrusted)
    };
    let text = untrusted(&tls, JUNE).expect("it is said").to_string();
    assert!(
        text.contains("the pair that was read before stays in force as long as it is valid"),
        "{text}"
    );
    // In September the good one has ended: by itself the other is shown, and nothing is said of trust.
    let september = Timestamp::from_seconds(1_789_000_000);
    assert_eq!(untrusted(&tls, september), None);
    tls.take(read(&bad), &host(), Gone::Kept, september)
        .unwrap();
    assert_eq!(tls.served.len(), 1);
    // If there was none before, it is served.
    let tls = Tls::start(read(&bad), &LastGood::default(), &host(), JUNE).unwrap();
    assert!(!is_taken(&shown(&tls)) && !tls.is_self_signed());
    assert_eq!(untrusted(&tls, JUNE), None);
}
