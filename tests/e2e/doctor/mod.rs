//! `chopar doctor` on a machine of its own beside a small Internet.
//!
//! Nothing here knows more than what `doctor` prints: the machine is set up by doing what it says.

mod broken;
mod operator;
mod stage;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::broken::{BREAKS, WARNINGS, back, without};
use self::operator::follow;
use self::stage::{Stage, bare, may_stage, text};
use crate::process::{Guard, PATIENCE, run, run_within, wait_for};

#[test]
fn whoever_does_what_the_doctor_says_gets_a_machine_that_is_well() {
    if !may_stage() {
        return;
    }
    let started = Instant::now();
    let mut stage = bare();
    let first = stage.doctor();
    assert_ne!(first.code, 0);
    for id in [
        "hostname",
        "daemon",
        "port-25",
        "admin",
        "dkim-key",
        "dns-ptr",
        "dns-mx",
        "dns-spf",
        "dns-dmarc",
    ] {
        assert!(first.red().contains(id), "{id}: {:?}", first.red());
    }
    let rounds = follow(&mut stage);
    eprintln!(
        "from all red to all green in {rounds} rounds and {:?}",
        started.elapsed()
    );
    let dns = run_within(stage.chopar().args(["dns", "--json"]), b"", PATIENCE).ok();
    let rows: Value = serde_json::from_str(&dns).expect("JSON");
    for row in rows.as_array().expect("a list") {
        assert!(row["state"] == "there" || row["need"] == "advised", "{row}");
    }
    let well = stage.doctor();
    let mut wrong = Vec::new();
    for one in BREAKS {
        (one.harm)(&mut stage);
        let said = stage.doctor();
        let expected: BTreeSet<&str> = one.red.iter().copied().collect();
        let red = said.red();
        if red != expected || said.code == 0 {
            let seen: Vec<String> = said
                .findings
                .iter()
                .filter(|finding| {
                    red.contains(text(finding, "id")) && text(finding, "state") != "good"
                })
                .map(|finding| {
                    format!(
                        "{} {}: {}",
                        text(finding, "id"),
                        text(finding, "about"),
                        text(finding, "seen")
                    )
                })
                .collect();
            wrong.push(format!("{}: {red:?} {seen:#?}", one.name));
        }
        (one.heal)(&mut stage);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for one in WARNINGS {
        (one.harm)(&mut stage);
        let said = stage.doctor();
        let red: BTreeSet<&str> = said
            .of("warning")
            .difference(&well.of("warning"))
            .copied()
            .filter(|id| !id.starts_with("rules"))
            .collect();
        let before = well.of("warning");
        for id in one.red {
            assert!(
                said.of("warning").contains(id),
                "{}: {:#?}",
                one.name,
                said.findings
            );
            assert!(
                before.contains(id) || red.contains(id),
                "{}: {red:?}",
                one.name
            );
        }
        assert_eq!(said.code, 0, "{}: {:?}", one.name, said.red());
        (one.heal)(&mut stage);
    }
    let healed = stage.doctor();
    assert_eq!(healed.code, 0, "{:?}", healed.red());
    assert!(!stage.path("mail").exists(), "mail was sent");
    watch(&mut stage);
    let mut command = stage.chopar();
    let told = run(
        command.args(["doctor", "--echo", "echo@far.test", "--within", "15s"]),
        b"",
    )
    .ok();
    assert!(told.contains("mx.far.test"), "{told}");
    assert!(
        told.contains("from <echo@far.test>: mail goes out and comes in"),
        "{told}"
    );
    let mut command = stage.chopar();
    let silent = run(
        command.args(["doctor", "--echo", "ann@far.test", "--within", "3s"]),
        b"",
    );
    assert_eq!(silent.code, 75, "{}", silent.stderr);
    assert!(
        silent.stderr.contains("no answer to postmaster+echo"),
        "{}",
        silent.stderr
    );
}

/// Whoever watches is told once it is mended.
fn watch(stage: &mut Stage) {
    without(stage, "example.test", "example.test. 60 IN MX ");
    let log = stage.path("watched");
    let mut command = stage.chopar();
    let command = command.args([
        "doctor",
        "--watch",
        "--within",
        "60s",
        "--probe",
        "mx.far.test:25",
    ]);
    let file = File::create(&log).expect("a file");
    let mut watching = Guard::spawn(command.stdin(Stdio::null()).stdout(file));
    let told = |what: &str| {
        let told = fs::read_to_string(&log).unwrap_or_default();
        told.contains(what).then_some(told)
    };
    let told_first = wait_for("the first look", PATIENCE, || {
        told("What large receivers ask")
    });
    assert!(
        told_first.starts_with("bad     MX record of the domain (example.test): it is missing"),
        "{told_first}"
    );
    assert!(
        told_first.contains("mx.far.test:25 greets 203.0.113.7"),
        "{told_first}"
    );
    back(stage);
    assert_eq!(watching.wait(Duration::from_secs(60)), 0);
    let told = told("good    MX record").unwrap_or_default();
    assert!(
        told.contains("good    MX record of the domain (example.test): 10 mail.example.test"),
        "{told}"
    );
}

#[test]
fn where_nobody_answers_nothing_is_good_and_it_takes_less_than_15_seconds() {
    if !may_stage() {
        return;
    }
    let stage = bare();
    let text = stage
        .configuration()
        .replace("\"mail\"", "\"mail.example.test\"");
    stage.configure(&text);
    fs::write(
        stage.path("resolv.conf"),
        "nameserver 203.0.113.99\nnameserver 203.0.113.98\n",
    )
    .expect("a file");
    let said = stage.doctor();
    assert!(said.took < Duration::from_secs(15), "{:?}", said.took);
    assert_ne!(said.code, 0);
    let good = said.of("good");
    for id in [
        "dns-address",
        "dns-ptr",
        "dns-mx",
        "dns-spf",
        "spf",
        "dkim-signature",
        "dmarc",
        "dnsbl",
        "resolver",
        "outbound-v4",
        "ptr-name",
    ] {
        assert!(!good.contains(id), "{id}");
    }
    assert!(
        said.red().contains("resolver") && said.red().contains("dns-mx"),
        "{:?}",
        said.red()
    );
}
