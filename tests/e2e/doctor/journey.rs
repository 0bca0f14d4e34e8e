//! From a bare machine to a message that the other side verifies, following only the output of `init`, `dns`, `doctor`
//! and `send`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stage::{Said, Stage, may_stage, text};
use crate::process::{PATIENCE, run_within, wait_for};

/// The first step of the guide. The certificate comes from an authority that other tests cover.
pub(super) fn set_up(stage: &Stage) -> String {
    stage.sh("chopar init example.test --forward-to ann@far.test --no-certificate")
}

/// Adds the records that `dns` prints, then follows the doctor; returns the number of its runs.
pub(super) fn to_green(stage: &mut Stage) -> usize {
    stage.paste_records();
    stage.follow()
}

fn of<'a>(said: &'a Said, id: &str) -> Vec<(&'a str, &'a str)> {
    let found = said.findings.iter().filter(|one| text(one, "id") == id);
    found
        .map(|one| (text(one, "state"), text(one, "seen")))
        .collect()
}

#[test]
fn a_bare_machine_sends_verified_mail_after_the_steps_of_the_doctor() {
    if !may_stage() {
        return;
    }
    let mut stage = Stage::new();
    let started = Instant::now();
    set_up(&stage);
    let first = stage.doctor();
    for id in [
        "dns-address",
        "dns-ptr",
        "dns-mx",
        "dns-spf",
        "spf",
        "dns-dkim",
        "dkim-signature",
        "dns-dmarc",
        "dmarc",
        "tls-chain",
    ] {
        assert!(first.red().contains(id), "{id}: {:?}", first.red());
    }
    assert_ne!(first.code, 0);
    let rounds = to_green(&mut stage);
    let green = started.elapsed();

    let sent = run_within(
        stage.chopar().args(["send", "you@gmail.com"]),
        b"",
        PATIENCE,
    )
    .ok();
    assert!(sent.contains("mx.far.test"), "{sent}");
    let judged = wait_for("the judge", PATIENCE, || stage.judged().into_iter().next());
    let verified = started.elapsed();
    let verdict = judged["verdict"].as_str().expect("a text");
    for pass in ["spf=pass", "dkim=pass", "dmarc=pass"] {
        assert!(verdict.contains(pass), "{judged}");
    }
    assert!(!verdict.contains("=fail"), "{judged}");
    assert_eq!(judged["helo"], "mail.example.test", "{judged}");
    eprintln!(
        "init to green: {green:.1?}, in {rounds} rounds of doctor; init to the first verified message: {verified:.1?}"
    );
    assert!(verified < Duration::from_secs(300), "{verified:?}");

    let well = stage.doctor();
    assert_eq!(well.of("warning"), BTreeSet::new(), "{:#?}", well.open());
    assert_eq!(
        of(&well, "resolver-dnssec"),
        [("good", "it has validated the zone org")]
    );
    let [("good", association)] = of(&well, "dns-tlsa")[..] else {
        panic!("{:?}", of(&well, "dns-tlsa"));
    };
    assert!(association.starts_with("3 1 1 "), "{association}");
    let mut command = stage.chopar();
    let dns = run_within(command.args(["dns", "--json"]), b"", PATIENCE).ok();
    let rows: Value = serde_json::from_str(&dns).expect("JSON");
    let rows = rows.as_array().expect("a list");
    for row in rows {
        assert_eq!(row["state"], "there", "{row}");
    }
    assert!(rows.iter().any(|row| row["purpose"] == "tlsa"), "{dns}");
    // The doctor's own probes are not logged.
    let log = std::fs::read_to_string(stage.there("/run/chopar.log")).expect("a log");
    for line in log.lines() {
        let is_news = line.contains("event=reject") || line.contains("event=tls-failed");
        assert!(!is_news, "{line}");
    }
}
