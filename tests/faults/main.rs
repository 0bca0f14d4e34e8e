//! Faults at every system call: kill -9, EIO, ENOSPC and others at the Nth call of a kind, in the binary that users
//! run.
//!
//! A scene is run once under strace, which counts the calls of each thread; then once for each call and fault, which
//! strace injects there. strace follows one thread, so that the Nth call is that thread's Nth. Then a separate reader
//! reads the disk, the relay is started again, and the result for each message is judged. A fault that did not occur is
//! reported and not counted.
//!
//! `cargo test` runs every kill and every disk error at the calls that change the spool or talk to a peer;
//! `CHOPAR_FAULTS=long`, which `make faults` sets, runs them at all system calls, except those that only wait;
//! `CHOPAR_FAULTS=relay/journal/fdatasync/kill/1` runs that case alone, `CHOPAR_TIMES` sets how often, and
//! `CHOPAR_FAULTS=drop/` runs all cases of a scene.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use case::{Case, Fault, Scene};
use judge::Finding;
use scene::{Outcome, Stage};

#[path = "../e2e/client.rs"]
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
mod client;
#[path = "../e2e/process.rs"]
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
mod process;
#[path = "../e2e/world.rs"]
#[allow(
    dead_code,
    reason = "shared with the end-to-end tests, which use more of it"
)]
mod world;

mod bed;
mod case;
mod judge;
mod mail;
mod plan;
mod scene;
mod sink;
mod spool;

#[test]
fn a_fault_at_any_call_loses_no_mail_and_duplicates_none_without_excuse() {
    if let Some(reason) = cannot_attach() {
        eprintln!("no faults are injected: {reason}");
        return;
    }
    let stage = Stage::set_up();
    let wanted = std::env::var("CHOPAR_FAULTS").unwrap_or_default();
    let cases = match wanted.as_str() {
        "" => plan::cases(&stage, plan::Form::Short),
        "long" => plan::cases(&stage, plan::Form::Long),
        front if front.ends_with('/') => {
            let mut cases = plan::cases(&stage, plan::Form::Long);
            cases.retain(|case| case.to_string().starts_with(front));
            cases
        }
        name => {
            let case: Case = name.parse().expect("the name of a case");
            vec![case; times()]
        }
    };
    let start = Instant::now();
    let results = run_all(&stage, cases);
    print_table(&results);
    println!(
        "{} cases in {:.1} s",
        results.len(),
        start.elapsed().as_secs_f64()
    );
    let mut failures = String::new();
    for (case, outcome) in &results {
        for finding in &outcome.findings {
            failures.push_str(&format!("\n{case}: {finding}\n    {}", case.replay()));
        }
    }
    assert!(failures.is_empty(), "{failures}");
    // The number of calls differs a little between runs, so the last fault of a kind may not occur; most do.
    let came = results.iter().filter(|(_, outcome)| outcome.fired).count();
    assert!(
        came * 10 >= results.len() * 8,
        "only {came} of {} came",
        results.len()
    );
}

/// The number of runs of one case. A failure that needs load may show in one run of many.
fn times() -> usize {
    let times = std::env::var("CHOPAR_TIMES").ok();
    times.map_or(1, |times| times.parse().expect("a number"))
}

/// Why strace may not attach to another process; `None` if it may.
fn cannot_attach() -> Option<String> {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let is_closed = !matches!(scope.trim(), "" | "0") && !rustix::process::geteuid().is_root();
    is_closed.then(|| {
        "kernel.yama.ptrace_scope lets only root attach to a process; run this as root, or set it to 0".to_owned()
    })
}

fn run_all(stage: &Stage, cases: Vec<Case>) -> Vec<(Case, Outcome)> {
    let (queue, results) = (Mutex::new(VecDeque::from(cases)), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().expect("a lock").pop_front() else {
                        return;
                    };
                    let outcome = catch_unwind(AssertUnwindSafe(|| stage.run(&case)));
                    let outcome = outcome.unwrap_or_else(|_| Outcome {
                        fired: false,
                        findings: vec![Finding::Other("it came to the panic above".to_owned())],
                    });
                    results.lock().expect("a lock").push((case, outcome));
                }
            });
        }
    });
    results.into_inner().expect("a lock")
}

/// Prints one row for each scene, thread and fault.
fn print_table(results: &[(Case, Outcome)]) {
    let mut rows: BTreeMap<(Scene, &str, Fault), [usize; 3]> = BTreeMap::new();
    for (case, outcome) in results {
        let row = rows
            .entry((case.scene, &case.thread, case.fault))
            .or_default();
        row[0] += 1;
        row[1] += usize::from(outcome.fired);
        row[2] += outcome.findings.len();
    }
    println!(
        "{:<8} {:<9} {:<14} {:>6} {:>6} {:>9}",
        "scene", "thread", "fault", "tried", "came", "findings"
    );
    for ((scene, thread, fault), [tried, came, findings]) in rows {
        let (scene, fault) = (scene.to_string(), fault.to_string());
        println!("{scene:<8} {thread:<9} {fault:<14} {tried:>6} {came:>6} {findings:>9}");
    }
    for (case, _) in results.iter().filter(|(_, outcome)| !outcome.fired) {
        println!("did not come: {case}");
    }
}

/// Cases that run at the same time; most of a case is waiting.
const SIDE_BY_SIDE: usize = 6;
