//! `chopar doctor` on a machine of its own beside a small Internet.

mod broken;
mod harm;
mod journey;
mod names;
mod operator;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use self::broken::BREAKS;
use self::journey::{set_up, to_green};
use self::stage::{Said, Stage, may_stage, text};
use crate::process::{Guard, PATIENCE, run, wait_for};

/// The worst state of each check.
fn states(said: &Said) -> BTreeMap<&str, &str> {
    let rank = |state: &str| {
        ["bad", "unknown", "warning", "skipped", "good"]
            .iter()
            .position(|known| *known == state)
    };
    let mut states: BTreeMap<&str, &str> = BTreeMap::new();
    for finding in &said.findings {
        let (id, state) = (text(finding, "id"), text(finding, "state"));
        let known = states.entry(id).or_insert(state);
        if rank(state) < rank(known) {
            *known = state;
        }
    }
    states
}

/// The checks that are open now and were not before.
fn turned(before: &Said, now: &Said) -> BTreeSet<String> {
    let was = states(before);
    let now = states(now).into_iter();
    let turned = now.filter(|(id, state)| {
        matches!(*state, "bad" | "unknown" | "warning") && was.get(id) != Some(state)
    });
    turned.map(|(id, _)| id.to_owned()).collect()
}

#[test]
fn each_fault_turns_its_own_check_red_and_no_other() {
    if !may_stage() {
        return;
    }
    let mut stage = Stage::new();
    set_up(&stage);
    to_green(&mut stage);
    // The relay is probed more often than its limits allow a client.
    let text = stage.configuration();
    stage.configure(&format!(
        "{text}\n[abuse]\ntarpit = false\nconnections_per_minute = 0\nmessages_per_minute = 0\n"
    ));
    stage.sh("systemctl restart chopar");
    let well = stage.doctor();
    assert_eq!(well.of("warning"), BTreeSet::new(), "{:#?}", well.open());
    assert_eq!(well.code, 0, "{:#?}", well.open());
    let (records, configuration) = (stage.records.clone(), stage.configuration());
    let only = std::env::var("CHOPAR_BREAK").unwrap_or_default();
    let mut wrong = Vec::new();
    for one in BREAKS.iter().filter(|one| one.id.starts_with(&only)) {
        (one.harm)(&mut stage);
        eprintln!("{}: {}", one.id, one.name);
        let said = stage.doctor();
        let turned = turned(&well, &said);
        let mut expected: BTreeSet<String> = one.also.iter().map(|id| (*id).to_owned()).collect();
        expected.insert(one.id.to_owned());
        // The requirements of receivers follow from the other checks.
        let is_rule = |id: &String| id.starts_with("rules-");
        let about_rules = one.id.starts_with("rules-");
        let seen: BTreeSet<String> = turned
            .into_iter()
            .filter(|id| about_rules || !is_rule(id))
            .collect();
        if seen != expected {
            let open = said.open();
            wrong.push(format!("{} ({}): {seen:?} {open:#?}", one.id, one.name));
        }
        stage.others.clear();
        stage.words = (Vec::new(), Vec::new());
        let is_changed = stage.configuration() != configuration;
        stage.configure(&configuration);
        (one.heal)(&mut stage);
        if stage.records != records {
            stage.records.clone_from(&records);
            stage.serve();
        }
        let made = |name: &str| stage.path("made").join(name);
        fs::copy(made("cert.pem"), stage.path("roots.pem")).expect("a file");
        stage.certify(&made("cert.pem"), &made("key.pem"));
        stage.sh(
            match is_changed
                || one.id.starts_with("tls")
                || one.id.contains("auth")
                || one.id == "starttls"
            {
                true => "systemctl restart chopar",
                false => "chopar reload",
            },
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let healed = stage.doctor();
    assert_eq!(healed.code, 0, "{:#?}", healed.open());
    // The only mail sent is the delay DSN about the old message.
    let sent = stage.judged();
    assert!(sent.iter().all(|one| one["from"] == ""), "{sent:?}");
}

#[test]
fn every_check_of_the_program_has_a_fault() {
    let broken: BTreeSet<&str> = BREAKS.iter().map(|one| one.id).collect();
    let all = chopar::setup::doctor::checks::ALL.iter();
    let all: BTreeSet<&str> = all.map(|check| check.id).collect();
    assert_eq!(broken, all);
}

/// `--watch` reports when a finding is fixed.
fn watch(stage: &mut Stage) {
    let records = stage.records.clone();
    stage.without("example.test", "example.test. 60 IN MX ");
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
    stage.records = records;
    stage.serve();
    assert_eq!(watching.wait(Duration::from_secs(60)), 0);
    let told = told("good    MX record").unwrap_or_default();
    assert!(
        told.contains("good    MX record of the domain (example.test): 10 mail.example.test"),
        "{told}"
    );
}

#[test]
fn watch_reports_each_fix_and_an_echo_shows_both_directions() {
    if !may_stage() {
        return;
    }
    let mut stage = Stage::new();
    set_up(&stage);
    to_green(&mut stage);
    watch(&mut stage);
    let mut command = stage.chopar();
    let told = run(
        command.args(["doctor", "--echo", "echo@far.test", "--within", "15s"]),
        b"",
    )
    .ok();
    assert!(told.contains("mx.far.test"), "{told}");
    assert!(
        told.contains("from <echo@far.test>: chopar sends and receives mail"),
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

#[test]
fn without_any_answer_no_check_is_good_and_the_run_takes_less_than_10_seconds() {
    if !may_stage() {
        return;
    }
    let stage = Stage::new();
    set_up(&stage);
    stage.sh("chopar domain add second.test");
    stage.ask(&["203.0.113.99", "203.0.113.98"]);
    let said = stage.doctor();
    assert!(said.took < Duration::from_secs(10), "{:?}", said.took);
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
    // Only the resolver is wrong, so only its finding says what to do.
    let mut told = BTreeSet::new();
    for finding in &said.findings {
        let (id, seen) = (text(finding, "id"), text(finding, "seen"));
        assert!(told.insert((id, text(finding, "about"))), "{finding}");
        if text(finding, "state") == "unknown" && !id.starts_with("rules-") {
            assert_eq!(seen, "not known: see \"resolver answers\"", "{finding}");
        }
    }
}
