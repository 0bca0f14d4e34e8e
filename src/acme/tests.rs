//! The machine against a simulated CA with state, which refuses, limits and fails on command.

mod failures;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

use super::http::AcmeResponse;
use super::jws::ExternalAccount;
use super::wire::Url;
use super::work::{CertificateOrder, Terms};
use super::*;
use crate::date::Timestamp;
use crate::entropy::{Entropy as _, SeededEntropy};
use crate::limits::{ACME_NONCE_TRIES, ACME_TRIES};

/// What the server does.
struct Ca {
    /// Of a hundred signed requests, so many have their nonce refused.
    bad_nonces: u64,
    /// So many requests fail with 503, the next ones.
    failing: u32,
    /// The account is known.
    has_account: bool,
    asks: Asks,
    /// Authorizations that are valid already, from the first on.
    authorized: usize,
    /// What comes of a validation.
    validation: &'static str,
    /// How often an order or an authorization is looked at before it moves.
    slowness: u32,
    retry_after: Option<&'static str>,
    /// The answer to an order, in its stead.
    order: Option<(u16, Value, Option<&'static str>)>,
    /// How often that is given.
    order_times: u32,
    renewal_info: bool,
    /// What a request for the certificate changes.
    finalize: Finalize,
    chance: SeededEntropy,
    state: Progress,
}

/// What comes of a request for the certificate.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Finalize {
    Heard,
    /// The order stays ready.
    StaysReady,
    /// It is refused although the order is ready.
    NotReady,
}

/// What it asks of those who have no account.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Asks {
    Nothing,
    Terms,
    ExternalAccount,
}

#[derive(Default)]
struct Progress {
    answered: usize,
    validated: usize,
    looked: u32,
    finalized: bool,
    /// Everything that was asked for, by the last part of its URL.
    log: Vec<String>,
    replaces: Vec<Option<String>>,
    nonces: u32,
}

impl Default for Ca {
    fn default() -> Self {
        Self {
            bad_nonces: 0,
            failing: 0,
            has_account: true,
            asks: Asks::Nothing,
            authorized: 0,
            validation: "valid",
            slowness: 1,
            retry_after: None,
            order: None,
            order_times: u32::MAX,
            renewal_info: false,
            finalize: Finalize::Heard,
            chance: SeededEntropy::new(1),
            state: Progress::default(),
        }
    }
}

fn problem(kind: &str, detail: &str) -> Value {
    json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail})
}

impl Ca {
    fn answer(&mut self, request: &AcmeRequest, names: usize) -> AcmeResponse {
        let path = request
            .url
            .strip_prefix("https://ca.test/")
            .expect("our URL");
        self.state.log.push(path.to_owned());
        self.state.nonces += 1;
        let has_nonce = path != "directory" && !path.starts_with("window");
        let nonce = has_nonce.then(|| format!("n{}", self.state.nonces));
        let reply = |status, body: Value, location: Option<&str>| AcmeResponse {
            status,
            nonce: nonce.clone(),
            location: location.map(|path| format!("https://ca.test/{path}")),
            retry_after: self.retry_after.map(str::to_owned),
            body: body.to_string().into_bytes(),
        };
        if self.failing > 0 {
            self.failing -= 1;
            return AcmeResponse {
                status: 503,
                ..AcmeResponse::default()
            };
        }
        let payload = request.body.as_deref().map(|body| {
            let jws: Value = serde_json::from_str(body).expect("a JWS");
            let text = jws["payload"].as_str().expect("text").to_owned();
            let bytes =
                base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
            serde_json::from_slice::<Value>(&bytes.expect("base64url")).unwrap_or(Value::Null)
        });
        if payload.is_some() && self.chance.below(100) < self.bad_nonces {
            return reply(400, problem("badNonce", "old"), None);
        }
        let order = |status: &str| {
            let authorizations: Vec<String> = (0..names)
                .map(|at| format!("https://ca.test/authz/{at}"))
                .collect();
            json!({"status": status, "authorizations": authorizations, "finalize": "https://ca.test/finalize",
                   "certificate": "https://ca.test/chain", "expires": "2030-01-01T00:00:00Z"})
        };
        let (front, at) = path.split_once('/').unwrap_or((path, ""));
        match front {
            "directory" => {
                let mut directory = json!({
                    "newNonce": "https://ca.test/nonce", "newAccount": "https://ca.test/account",
                    "newOrder": "https://ca.test/order", "revokeCert": "https://ca.test/revoke",
                    "meta": {"externalAccountRequired": self.asks == Asks::ExternalAccount}});
                if self.asks == Asks::Terms {
                    directory["meta"]["termsOfService"] = "https://ca.test/terms".into();
                }
                if self.renewal_info {
                    directory["renewalInfo"] = "https://ca.test/window".into();
                }
                reply(200, directory, None)
            }
            "nonce" => reply(200, Value::Null, None),
            "account" => {
                let payload = payload.expect("a payload");
                if payload["onlyReturnExisting"] == true && !self.has_account {
                    return reply(400, problem("accountDoesNotExist", "no"), None);
                }
                if payload["onlyReturnExisting"] != true {
                    assert_eq!(payload["termsOfServiceAgreed"], true);
                    assert_eq!(
                        self.asks == Asks::ExternalAccount,
                        !payload["externalAccountBinding"].is_null()
                    );
                }
                self.has_account = true;
                reply(201, json!({"status": "valid"}), Some("acct/1"))
            }
            "order" => {
                let payload = payload.expect("a payload");
                let replaces = payload["replaces"].as_str().map(str::to_owned);
                self.state.replaces.push(replaces);
                if let Some((status, body, retry)) = &self.order
                    && self.order_times > 0
                {
                    self.order_times -= 1;
                    let mut response = reply(*status, body.clone(), None);
                    response.retry_after = retry.map(str::to_owned);
                    return response;
                }
                let status = if self.authorized >= names {
                    "ready"
                } else {
                    "pending"
                };
                reply(201, order(status), Some("theorder"))
            }
            "authz" => {
                let at: usize = at.parse().expect("a number");
                let value = ["a.test", "b.test", "c.test"][at];
                if at < self.authorized || at < self.state.validated {
                    return reply(
                        200,
                        json!({"status": "valid", "identifier": {"value": value}}),
                        None,
                    );
                }
                let mut status = "pending";
                if at < self.state.answered {
                    self.state.looked += 1;
                    if self.state.looked > self.slowness {
                        self.state.looked = 0;
                        status = self.validation;
                        if status == "valid" {
                            self.state.validated = at + 1;
                        }
                    }
                }
                let kinds = ["http-01", "dns-01", "tls-alpn-01"];
                let challenges: Vec<Value> = kinds
                    .into_iter()
                    .map(|kind| {
                        let mut challenge = json!({"type": kind, "url": format!("https://ca.test/answer/{at}"),
                            "token": "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA", "status": status});
                        if status == "invalid" && kind == "http-01" {
                            challenge["error"] = problem("connection", "refused");
                        }
                        challenge
                    })
                    .collect();
                reply(
                    200,
                    json!({"status": status, "identifier": {"type": "dns", "value": value}, "challenges": challenges}),
                    None,
                )
            }
            "answer" => {
                assert_eq!(payload, Some(json!({})));
                self.state.answered = at.parse::<usize>().expect("a number") + 1;
                reply(200, json!({"status": "processing"}), None)
            }
            "finalize" | "theorder" => {
                if front == "finalize" && self.finalize == Finalize::NotReady {
                    return reply(403, problem("orderNotReady", "not yet"), None);
                }
                if front == "finalize" && self.finalize == Finalize::Heard {
                    self.state.finalized = true;
                    self.state.looked = 0;
                }
                self.state.looked += 1;
                let status = match (self.state.finalized, self.state.looked > self.slowness) {
                    (false, _) => "ready",
                    (true, false) => "processing",
                    (true, true) => "valid",
                };
                reply(200, order(status), None)
            }
            "chain" => AcmeResponse {
                body: b"-----BEGIN CERTIFICATE-----\n".to_vec(),
                ..reply(200, Value::Null, None)
            },
            "revoke" => reply(200, Value::Null, None),
            "window" => reply(
                200,
                json!({"suggestedWindow": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}}),
                None,
            ),
            other => panic!("{other} was asked for"),
        }
    }
}

fn key() -> AccountKey {
    let chance = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &chance);
    AccountKey::from_pkcs8(der.expect("a key").as_ref(), &chance).expect("a key")
}

fn names(texts: &[&str]) -> Vec<Name> {
    texts
        .iter()
        .map(|text| Name::parse(text).expect("a name"))
        .collect()
}

fn order(texts: &[&str]) -> CertificateOrder {
    CertificateOrder {
        names: names(texts),
        kind: ChallengeKind::Http01,
        request: b"csr".to_vec(),
        email: Some("ann@a.test".into()),
        terms: Terms::Agreed,
        external: None,
        replaces: None,
    }
}

fn obtain(order: CertificateOrder) -> AcmeWork {
    AcmeWork::Obtain(Box::new(order))
}

/// What a run showed to the world, and how it ended.
struct Ran {
    result: Result<AcmeOutcome, AcmeError>,
    presented: Vec<String>,
    waited: Vec<u64>,
}

fn run_work(ca: &mut Ca, work: AcmeWork) -> Ran {
    let names = match &work {
        AcmeWork::Obtain(order) => order.names.len(),
        _ => 0,
    };
    let url = Url::try_from("https://ca.test/directory".to_owned()).expect("a URL");
    let (mut client, mut action) = AcmeClient::new(url, key(), work);
    let chance = SystemRandom::new();
    let mut now = 1_000_000_000;
    let (mut presented, mut shown, mut waited) = (Vec::new(), None, Vec::new());
    for _ in 0..5_000 {
        let at = Timestamp::from_seconds(now);
        action = match action {
            AcmeAction::Send(request) => {
                now += 1;
                let response = ca.answer(&request, names);
                client.on_response(&response, at, &chance)
            }
            AcmeAction::Present(challenge) => {
                assert_eq!(shown, None, "one at a time");
                presented.push(challenge.domain.clone());
                shown = Some(challenge);
                client.on_presented(&chance)
            }
            AcmeAction::Withdraw(challenge) => {
                assert_eq!(shown.take(), Some(challenge));
                client.on_withdrawn(&chance)
            }
            AcmeAction::Wait(pause) => {
                assert!(!pause.is_zero());
                waited.push(pause.as_secs());
                now += pause.as_secs();
                client.on_waited(&chance)
            }
            AcmeAction::Done(outcome) => {
                assert_eq!(shown, None, "it is still shown");
                return Ran {
                    result: Ok(outcome),
                    presented,
                    waited,
                };
            }
            AcmeAction::Failed(error) => {
                assert_eq!(shown, None, "it is still shown");
                return Ran {
                    result: Err(error),
                    presented,
                    waited,
                };
            }
        };
    }
    panic!("it does not end");
}

fn run(ca: &mut Ca, texts: &[&str]) -> Ran {
    run_work(ca, obtain(order(texts)))
}

#[track_caller]
fn assert_chain(ran: &Ran) {
    assert!(
        matches!(ran.result, Ok(AcmeOutcome::Chain(_))),
        "{:?}",
        ran.result
    );
}

#[test]
fn each_name_is_proven_in_turn_and_the_chain_comes_at_the_end() {
    let mut ca = Ca::default();
    let ran = run(&mut ca, &["a.test", "b.test"]);
    assert_chain(&ran);
    assert_eq!(ran.presented, ["a.test", "b.test"]);
    let log = ca.state.log.join(" ");
    assert!(
        log.starts_with("directory nonce account order authz/0 answer/0 authz/0"),
        "{log}"
    );
    assert!(log.ends_with("finalize theorder chain"), "{log}");
}

#[test]
fn a_name_that_is_authorized_already_is_not_proven_again() {
    let mut ca = Ca {
        authorized: 1,
        ..Ca::default()
    };
    let ran = run(&mut ca, &["a.test", "b.test"]);
    assert_chain(&ran);
    assert_eq!(ran.presented, ["b.test"]);
    let mut ca = Ca {
        authorized: 2,
        ..Ca::default()
    };
    let ran = run(&mut ca, &["a.test", "b.test"]);
    assert_chain(&ran);
    assert_eq!(ran.presented, Vec::<String>::new());
}

#[test]
fn an_account_that_is_not_known_is_made_if_the_terms_are_agreed_to() {
    let mut ca = Ca {
        has_account: false,
        asks: Asks::Terms,
        ..Ca::default()
    };
    assert_chain(&run(&mut ca, &["a.test"]));
    assert_eq!(
        ca.state
            .log
            .iter()
            .filter(|path| *path == "account")
            .count(),
        2
    );
    let open = || {
        obtain(CertificateOrder {
            terms: Terms::Open,
            ..order(&["a.test"])
        })
    };
    let mut ca = Ca {
        has_account: false,
        asks: Asks::Terms,
        ..Ca::default()
    };
    let error = run_work(&mut ca, open()).result.expect_err("not agreed");
    assert_eq!(
        error,
        AcmeError::Terms {
            url: "https://ca.test/terms".into()
        }
    );
    // Whoever has an account has agreed.
    let mut ca = Ca {
        asks: Asks::Terms,
        ..Ca::default()
    };
    assert_chain(&run_work(&mut ca, open()));
}

#[test]
fn an_account_is_bound_to_another_where_the_ca_asks_for_it() {
    let mut ca = Ca {
        has_account: false,
        asks: Asks::ExternalAccount,
        ..Ca::default()
    };
    assert_eq!(
        run(&mut ca, &["a.test"]).result,
        Err(AcmeError::ExternalAccount)
    );
    let bound = CertificateOrder {
        external: ExternalAccount::parse("kid", "c2VjcmV0LXNlY3JldC1zZWNyZXQ"),
        ..order(&["a.test"])
    };
    let mut ca = Ca {
        has_account: false,
        asks: Asks::ExternalAccount,
        ..Ca::default()
    };
    assert_chain(&run_work(&mut ca, obtain(bound)));
}

#[test]
fn a_wildcard_is_for_dns_01_alone() {
    let mut ca = Ca::default();
    let error = run(&mut ca, &["*.a.test"])
        .result
        .expect_err("another way is needed");
    assert!(error.to_string().contains("dns-01"), "{error}");
    assert!(ca.state.log.is_empty());
    let wildcard = CertificateOrder {
        kind: ChallengeKind::Dns01,
        ..order(&["*.a.test"])
    };
    assert_chain(&run_work(&mut ca, obtain(wildcard)));
}

#[test]
fn a_server_that_wants_another_name_proven_is_not_obeyed() {
    let mut ca = Ca::default();
    let ran = run(&mut ca, &["x.test"]);
    assert!(
        matches!(ran.result, Err(AcmeError::Malformed { .. })),
        "{:?}",
        ran.result
    );
    assert_eq!(ran.presented, Vec::<String>::new());
}

#[test]
fn the_certificate_that_is_replaced_is_named_where_the_server_knows_of_that() {
    let replacing = || {
        obtain(CertificateOrder {
            replaces: Some("aki.serial".into()),
            ..order(&["a.test"])
        })
    };
    let mut ca = Ca {
        renewal_info: true,
        ..Ca::default()
    };
    assert_chain(&run_work(&mut ca, replacing()));
    assert_eq!(ca.state.replaces, [Some("aki.serial".to_owned())]);
    let mut ca = Ca::default();
    assert_chain(&run_work(&mut ca, replacing()));
    assert_eq!(ca.state.replaces, [None]);
    // It was replaced before, or another account had it: that is no reason to do without.
    let mut ca = Ca {
        renewal_info: true,
        order: Some((409, problem("alreadyReplaced", "no"), None)),
        order_times: 1,
        ..Ca::default()
    };
    assert_chain(&run_work(&mut ca, replacing()));
    assert_eq!(ca.state.replaces, [Some("aki.serial".to_owned()), None]);
}

#[test]
fn a_window_is_asked_for_where_there_is_one() {
    let ask = || AcmeWork::Ask {
        certificate: "aki.serial".into(),
    };
    let ran = run_work(&mut Ca::default(), ask());
    assert_eq!(ran.result, Ok(AcmeOutcome::NoWindow));
    let mut ca = Ca {
        renewal_info: true,
        retry_after: Some("21600"),
        ..Ca::default()
    };
    match run_work(&mut ca, ask()).result {
        Ok(AcmeOutcome::Window(info, again)) => {
            assert_eq!(info.start.rfc3339().to_string(), "2026-01-01T00:00:00Z");
            assert_eq!(again.as_secs(), 21_600);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ca.state.log, ["directory", "window/aki.serial"]);
}

#[test]
fn a_revocation_is_signed_by_the_key_itself() {
    let mut ca = Ca::default();
    let revoke = AcmeWork::Revoke {
        certificate: vec![1, 2, 3],
        reason: 1,
    };
    assert_eq!(run_work(&mut ca, revoke).result, Ok(AcmeOutcome::Revoked));
    assert_eq!(ca.state.log, ["directory", "nonce", "revoke"]);
}

#[test]
fn what_could_not_be_shown_ends_it_without_a_word_to_the_server() {
    let mut ca = Ca::default();
    let url = Url::try_from("https://ca.test/directory".to_owned()).expect("a URL");
    let (mut client, mut action) = AcmeClient::new(url, key(), obtain(order(&["a.test"])));
    let chance = SystemRandom::new();
    let at = Timestamp::from_seconds(1);
    loop {
        action = match action {
            AcmeAction::Send(request) => client.on_response(&ca.answer(&request, 1), at, &chance),
            AcmeAction::Present(_) => client.on_not_presented("port 80 is taken"),
            AcmeAction::Withdraw(_) => client.on_withdrawn(&chance),
            AcmeAction::Failed(error) => {
                assert!(error.to_string().contains("port 80 is taken"), "{error}");
                break;
            }
            other => panic!("{other:?}"),
        };
    }
    assert!(
        !ca.state.log.iter().any(|path| path.starts_with("answer")),
        "{:?}",
        ca.state.log
    );
}

#[test]
fn a_network_that_fails_is_said_with_the_url() {
    let url = Url::try_from("https://ca.test/directory".to_owned()).expect("a URL");
    let (mut client, mut action) = AcmeClient::new(url, key(), obtain(order(&["a.test"])));
    let chance = SystemRandom::new();
    let mut sent = 0;
    let error = loop {
        action = match action {
            AcmeAction::Send(_) => {
                sent += 1;
                client.on_failure("connection refused")
            }
            AcmeAction::Wait(_) => client.on_waited(&chance),
            AcmeAction::Failed(error) => break error,
            other => panic!("{other:?}"),
        };
    };
    assert_eq!(sent, ACME_TRIES);
    assert!(
        error
            .to_string()
            .starts_with("https://ca.test/directory: connection refused; "),
        "{error}"
    );
}

proptest! {
    /// Whatever a server says, the machine ends, and nothing stays shown.
    #[test]
    fn any_server_is_left_in_the_end(
        seed: u64,
        statuses in proptest::collection::vec(prop_oneof![Just(200u16), Just(201), Just(400), Just(429), Just(503), 100u16..600], 1..30),
        bodies in proptest::collection::vec(prop_oneof![
            Just(String::new()),
            Just("{}".to_owned()),
            Just(problem("badNonce", "x").to_string()),
            Just(json!({"newNonce": "https://ca.test/n", "newAccount": "https://ca.test/a", "newOrder": "https://ca.test/o", "revokeCert": "https://ca.test/r"}).to_string()),
            Just(json!({"status": "valid"}).to_string()),
            Just(json!({"status": "pending", "authorizations": ["https://ca.test/z"], "finalize": "https://ca.test/f"}).to_string()),
            Just(json!({"status": "ready", "authorizations": [], "finalize": "https://ca.test/f"}).to_string()),
            Just(json!({"status": "processing", "finalize": "https://ca.test/f"}).to_string()),
            Just(json!({"status": "pending", "identifier": {"value": "a.test"}, "challenges": [{"type": "http-01", "url": "https://ca.test/c", "token": "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"}]}).to_string()),
            Just(json!({"status": "valid", "identifier": {"value": "a.test"}}).to_string()),
            ".{0,40}",
        ], 1..30),
    ) {
        let chance = SystemRandom::new();
        let mut dice = SeededEntropy::new(seed);
        let url = Url::try_from("https://ca.test/directory".to_owned()).expect("a URL");
        let (mut client, mut action) = AcmeClient::new(url, key(), obtain(order(&["a.test"])));
        let mut now = 1_000_000_000;
        let mut shown = 0i32;
        let mut steps = 0;
        loop {
            steps += 1;
            prop_assert!(steps < 20_000, "it does not end");
            let at = Timestamp::from_seconds(now);
            action = match action {
                AcmeAction::Send(_) if dice.below(20) == 0 => client.on_failure("reset"),
                AcmeAction::Send(_) => {
                    now += 1;
                    let response = AcmeResponse {
                        status: statuses[dice.below(statuses.len() as u64) as usize],
                        nonce: (dice.below(3) > 0).then(|| "n".to_owned()),
                        location: (dice.below(2) > 0).then(|| "https://ca.test/x".to_owned()),
                        retry_after: (dice.below(4) == 0).then(|| "0".to_owned()),
                        body: bodies[dice.below(bodies.len() as u64) as usize].clone().into_bytes(),
                    };
                    client.on_response(&response, at, &chance)
                }
                AcmeAction::Present(_) => { shown += 1; client.on_presented(&chance) }
                AcmeAction::Withdraw(_) => { shown -= 1; client.on_withdrawn(&chance) }
                AcmeAction::Wait(pause) => { now += pause.as_secs(); client.on_waited(&chance) }
                AcmeAction::Done(_) | AcmeAction::Failed(_) => break,
            };
        }
        prop_assert_eq!(shown, 0);
    }
}
