//! A CA that fails, refuses, limits or is slow.

use super::*;

#[test]
fn refused_nonces_are_replaced_and_not_for_ever() {
    for seed in 0..20 {
        let mut ca = Ca {
            bad_nonces: 50,
            chance: SeededEntropy::new(seed),
            ..Ca::default()
        };
        assert_chain(&run(&mut ca, &["a.test"]));
    }
    let mut ca = Ca {
        bad_nonces: 100,
        ..Ca::default()
    };
    assert_eq!(run(&mut ca, &["a.test"]).result, Err(AcmeError::Nonces));
    let tries = ca
        .state
        .log
        .iter()
        .filter(|path| *path == "account")
        .count();
    assert_eq!(tries, ACME_NONCE_TRIES as usize);
}

#[test]
fn a_server_that_fails_for_a_moment_is_asked_again_and_not_for_ever() {
    let mut ca = Ca {
        failing: ACME_TRIES - 1,
        ..Ca::default()
    };
    assert_chain(&run(&mut ca, &["a.test"]));
    let mut ca = Ca {
        failing: u32::MAX,
        ..Ca::default()
    };
    let ran = run(&mut ca, &["a.test"]);
    assert!(
        matches!(ran.result, Err(AcmeError::Server { status: 503, .. })),
        "{:?}",
        ran.result
    );
    assert_eq!(ca.state.log.len(), ACME_TRIES as usize);
}

#[test]
fn a_rate_limit_ends_the_attempt_and_says_until_when() {
    let limited = |retry| Ca {
        order: Some((429, problem("rateLimited", "too many certificates"), retry)),
        ..Ca::default()
    };
    let mut ca = limited(Some("3600"));
    let ran = run(&mut ca, &["a.test"]);
    let error = ran.result.expect_err("a limit");
    let at = error.retry_at().expect("a time").seconds();
    assert!((1_000_003_600..1_000_003_700).contains(&at), "{at}");
    assert!(
        error
            .to_string()
            .contains("too many certificates; try again after 2001-"),
        "{error}"
    );
    assert_eq!(
        ca.state.log.iter().filter(|path| *path == "order").count(),
        1
    );
    let mut ca = limited(Some("Sun, 09 Sep 2001 03:46:40 GMT"));
    let error = run(&mut ca, &["a.test"]).result.expect_err("a limit");
    assert_eq!(
        error.retry_at(),
        Some(Timestamp::from_seconds(1_000_007_200))
    );
    let error = run(&mut limited(None), &["a.test"])
        .result
        .expect_err("a limit");
    assert_eq!(error.retry_at(), None);
}

#[test]
fn an_order_that_is_invalid_says_why() {
    let order = json!({"status": "invalid", "finalize": "https://ca.test/finalize", "error": problem("caa", "forbidden")});
    let mut ca = Ca {
        order: Some((201, order, None)),
        ..Ca::default()
    };
    // It has no Location here, which is the server's fault, too.
    let error = run(&mut ca, &["a.test"]).result.expect_err("invalid");
    assert!(matches!(error, AcmeError::Malformed { .. }), "{error:?}");
    let mut ca = Ca {
        order: Some((403, problem("caa", "forbidden"), None)),
        ..Ca::default()
    };
    let error = run(&mut ca, &["a.test"]).result.expect_err("refused");
    assert!(
        error
            .to_string()
            .contains("caa: forbidden; add a CAA record"),
        "{error}"
    );
}

#[test]
fn a_failed_validation_names_the_name_the_way_and_what_the_ca_saw() {
    let mut ca = Ca {
        validation: "invalid",
        ..Ca::default()
    };
    let error = run(&mut ca, &["a.test"]).result.expect_err("invalid");
    let text = error.to_string();
    assert!(
        text.contains("a.test by http-01: connection: refused") && text.contains("port 80"),
        "{text}"
    );
}

#[test]
fn a_ca_whose_order_stays_ready_is_asked_for_the_certificate_a_few_times_alone() {
    for finalize in [Finalize::StaysReady, Finalize::NotReady] {
        let mut ca = Ca {
            finalize,
            ..Ca::default()
        };
        let ran = run(&mut ca, &["a.test"]);
        let is_late = matches!(ran.result, Err(AcmeError::TooSlow { .. }));
        assert!(is_late, "{:?}", ran.result);
        let asked = ca.state.log.iter().filter(|path| *path == "finalize");
        assert_eq!(asked.count(), 3);
        assert!(ran.waited.iter().sum::<u64>() < 700, "{:?}", ran.waited);
    }
}

#[test]
fn what_takes_long_is_looked_at_with_growing_pauses_up_to_a_bound() {
    let mut ca = Ca {
        slowness: 6,
        ..Ca::default()
    };
    let ran = run(&mut ca, &["a.test"]);
    assert_chain(&ran);
    assert_eq!(ran.waited[..7], [1, 2, 4, 8, 16, 30, 30]);
    let mut ca = Ca {
        slowness: u32::MAX,
        ..Ca::default()
    };
    let ran = run(&mut ca, &["a.test"]);
    assert_eq!(
        ran.result,
        Err(AcmeError::TooSlow {
            what: "the authorization"
        })
    );
    let mut ca = Ca {
        slowness: 2,
        retry_after: Some("7"),
        ..Ca::default()
    };
    assert!(
        run(&mut ca, &["a.test"])
            .waited
            .iter()
            .all(|pause| *pause == 7)
    );
    let mut ca = Ca {
        slowness: 2,
        retry_after: Some("99999999"),
        ..Ca::default()
    };
    assert!(
        run(&mut ca, &["a.test"])
            .waited
            .iter()
            .all(|pause| *pause == 30)
    );
}
