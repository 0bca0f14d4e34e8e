//! The scenes, with a fault in each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bed::{Bed, Start, Threads, copy};
use crate::case::{Case, Fault, Scene};
use crate::judge::{Finding, judge};
use crate::mail::{Mail, SENDER};
use crate::process::{PATIENCE, wait_for};
use crate::spool;
use crate::world::Dns;

/// The result of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Whether the fault occurred.
    pub(crate) fired: bool,
    /// Violated invariants.
    pub(crate) findings: Vec<Finding>,
}

/// Number of calls of each kind in each thread.
pub(crate) type Counts = BTreeMap<(String, String), usize>;

/// The resources of all scenes: a name server, and two initial spools.
pub(crate) struct Stage {
    dns: Dns,
    folder: TempDir,
}

/// The final state of a relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// It died with this status.
    Died(i32),
    /// Its queue is empty.
    Empty,
    /// It neither died nor emptied its queue in time.
    Stuck,
}

impl Stage {
    /// Creates the spools. `owed`: the relay stopped normally with a message queued. `crashed`: the relay was killed,
    /// and left also a large message, one in the drop folder, and a torn tail.
    pub(crate) fn set_up() -> Self {
        let stage = Self {
            dns: Dns::start("src.test. MX 10 mx.four.test."),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let mut bed = Bed::new(&stage.dns, None);
        bed.start();
        stage.defer(&mut bed, &first());
        assert_eq!(bed.stop(), 0, "{}", bed.log());
        copy(&bed.state(), &stage.path("owed"));
        let dropped = dropped();
        let words = ["-i", "-f", SENDER, dropped.to[0].as_str()];

        let mut bed = Bed::new(&stage.dns, Some(&stage.path("owed")));
        bed.start();
        stage.defer(&mut bed, &large());
        bed.kill();
        assert_eq!(bed.sendmail(&words, &dropped.bytes), 0, "{}", bed.log());
        spool::tear(&bed.spool());
        copy(&bed.state(), &stage.path("crashed"));
        stage
    }

    /// Sends a message that the sink defers.
    fn defer(&self, bed: &mut Bed, mail: &Mail) {
        assert_eq!(submit(bed, mail), 250, "{}", bed.log());
        let line = format!("event=attempt to=<{}>", mail.to[0]);
        wait_for("an attempt", PATIENCE, || {
            let log = bed.log();
            (log.contains(&line) || log.matches("Not yet").count() > 0).then_some(())
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bed(&self, scene: Scene) -> Bed {
        let name = match scene {
            Scene::Start => "crashed",
            _ => "owed",
        };
        let bed = Bed::new(&self.dns, Some(&self.path(name)));
        if scene == Scene::Drop {
            bed.refuse_by_hook("H");
        }
        bed
    }

    /// Counts the calls of each thread in a run without a fault.
    pub(crate) fn count(&self, scene: Scene) -> Counts {
        let (mut bed, all) = (self.bed(scene), ["trace=all".to_owned()]);
        match scene {
            Scene::Start => {
                assert_eq!(
                    bed.start_traced(Threads::Main, &all),
                    Start::Up,
                    "{}",
                    bed.log()
                );
                return counts(&bed.trace());
            }
            Scene::Leave | Scene::Submit => {
                let mails = call_sendmail(&mut bed, scene, &all);
                assert!(mails.iter().all(Mail::is_accepted), "{}", bed.log());
                return counts(&bed.trace());
            }
            Scene::Relay | Scene::Large | Scene::Reload | Scene::Drop => {
                bed.start();
                bed.attach(None, &all);
            }
        }
        let mut mails = play(&mut bed, scene);
        if scene != Scene::Reload {
            assert_eq!(
                drive(&mut bed, &mut mails, PATIENCE),
                End::Empty,
                "{}",
                bed.log()
            );
        }
        counts(&bed.trace())
    }

    /// Runs a scene with a fault, starts the relay again without it, and judges the mail.
    pub(crate) fn run(&self, case: &Case) -> Outcome {
        let mut bed = self.bed(case.scene);
        let mut outcome = Outcome::default();
        let mut mails;
        let expressions = [format!("trace={}", case.call), case.inject()];
        match case.scene {
            Scene::Start => {
                mails = vec![first().accepted(), large().accepted(), dropped().accepted()];
                self.fail_at_start(&mut bed, case, &mut mails, &mut outcome);
            }
            Scene::Leave | Scene::Submit => {
                mails = call_sendmail(&mut bed, case.scene, &expressions);
                self.fail_in_sendmail(&mut bed, case, &mut mails, &mut outcome);
            }
            Scene::Relay | Scene::Large | Scene::Reload | Scene::Drop => {
                bed.start();
                bed.attach(Some(&case.thread), &expressions);
                mails = play(&mut bed, case.scene);
                self.fail_at_work(&mut bed, case, &mut mails, &mut outcome);
            }
        }
        // Whatever happened, a relay that is started again must deliver everything that it owes.
        bed.sink.open();
        bed.start();
        match drive(&mut bed, &mut mails, PATIENCE) {
            End::Empty => {}
            end => outcome
                .findings
                .push(Finding::Other(format!("started again: {end:?}"))),
        }
        let arrived = bed.sink.arrived();
        outcome
            .findings
            .extend(mails.iter().flat_map(|mail| judge(&mail.history(&arrived))));
        if !outcome.findings.is_empty() {
            eprintln!(
                "{case}: {:?}\nthe log:\n{}\nthe trace:\n{}",
                outcome.findings,
                bed.log(),
                bed.trace()
            );
        }
        outcome
    }

    /// The fault occurs during the start, twice in a row if it kills.
    fn fail_at_start(&self, bed: &mut Bed, case: &Case, mails: &mut [Mail], outcome: &mut Outcome) {
        let expressions = [format!("trace={}", case.call), case.inject()];
        let rounds = if case.fault == Fault::Kill { 2 } else { 1 };
        for _ in 0..rounds {
            let start = bed.start_traced(Threads::Main, &expressions);
            match (start, case.fault) {
                (Start::Ended(-9), Fault::Kill) => {
                    outcome.fired |= bed.trace_of_the_dead().contains("+++ killed by SIGKILL");
                }
                // The relay may refuse to run on such a system, and logs the reason.
                (Start::Ended(code), _) if code > 0 => outcome.fired |= was_injected(bed),
                (Start::Ended(code), _) => {
                    let text = format!("ended with {code} in its start");
                    outcome.findings.push(Finding::Other(text));
                }
                (Start::Up, Fault::Kill) => bed.kill(),
                (Start::Up, _) => {
                    bed.sink.open();
                    let end = drive(bed, mails, patience(case));
                    outcome.fired |= was_injected(bed);
                    self.end(bed, case, end, outcome);
                }
            }
            note(bed, case, mails);
        }
    }

    /// The fault occurs while the relay works. It runs until its queue is empty.
    fn fail_at_work(
        &self,
        bed: &mut Bed,
        case: &Case,
        mails: &mut Vec<Mail>,
        outcome: &mut Outcome,
    ) {
        let end = drive(bed, mails, patience(case));
        if case.fault == Fault::Kill {
            if end == End::Died(-9) {
                outcome.fired = bed.trace_of_the_dead().contains("+++ killed by SIGKILL");
            } else {
                self.end(bed, case, end, outcome);
            }
            return note(bed, case, mails);
        }
        outcome.fired = was_injected(bed);
        for mail in mails.iter() {
            if !matches!(mail.answer, 250 | 451 | 452) && !case.is_of_network() {
                let text = format!("answered {} to message {}", mail.answer, mail.to[0]);
                outcome.findings.push(Finding::Other(text));
            }
        }
        if !matches!(end, End::Died(_)) {
            let mut later = Mail::new("E", 100);
            later.answer = submit(bed, &later);
            let is_clean = match case.fault {
                Fault::Always(_) => matches!(later.answer, 250 | 451 | 452),
                // The number of calls differs a little between runs: the fault may occur only now.
                _ if !outcome.fired => matches!(later.answer, 250 | 451 | 452),
                _ => later.is_accepted(),
            };
            if !is_clean && !case.is_of_network() {
                let text = format!("answered {} to the next message", later.answer);
                outcome.findings.push(Finding::Other(text));
            }
            mails.push(later);
        }
        outcome.fired |= was_injected(bed);
        let end = match end {
            End::Empty => drive(bed, mails, patience(case)),
            end => end,
        };
        self.end(bed, case, end, outcome);
        note(bed, case, mails);
    }

    /// The fault occurs in `sendmail`, whose caller sees only the exit code.
    fn fail_in_sendmail(
        &self,
        bed: &mut Bed,
        case: &Case,
        mails: &mut [Mail],
        outcome: &mut Outcome,
    ) {
        let trace = bed.trace();
        outcome.fired = trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL");
        let is_dropped = |mail: &Mail| bed.has_dropped(&mail.bytes);
        for mail in mails.iter().filter(|mail| !mail.is_accepted()) {
            // The caller will retry.
            if matches!(case.fault, Fault::Once(_)) && is_dropped(mail) {
                let text = "sendmail failed, and left the message all the same".to_owned();
                outcome.findings.push(Finding::Other(text));
            }
        }
        if case.scene == Scene::Submit {
            let end = drive(bed, mails, patience(case));
            self.end(bed, case, end, outcome);
        }
        note(bed, case, mails);
    }

    /// A relay that survives its fault must empty its queue and stop on request.
    fn end(&self, bed: &mut Bed, case: &Case, end: End, outcome: &mut Outcome) {
        let other = |text: String| Finding::Other(text);
        match end {
            End::Died(code) => return outcome.findings.push(other(format!("died with {code}"))),
            End::Empty => {}
            End::Stuck if matches!(case.fault, Fault::Always(_)) => {}
            End::Stuck => outcome
                .findings
                .push(other("its queue does not empty".to_owned())),
        }
        match bed.stop() {
            0 => {}
            // The fault occurred during the stop.
            -9 if case.fault == Fault::Kill => outcome.fired = true,
            code => {
                let text = format!("ended with {code} when asked to end");
                outcome.findings.push(other(text));
            }
        }
    }
}

/// Records the state of each message on the disk and in the sink at the end of a run.
fn note(bed: &Bed, case: &Case, mails: &mut [Mail]) {
    let arrived = bed.sink.arrived();
    for mail in mails {
        mail.after_fault(&bed.spool(), &arrived);
        if bed.has_dropped(&mail.bytes) {
            mail.left_in_drop();
        }
        match case.fault {
            Fault::Kill => {}
            Fault::Always(_) => {
                mail.excuse_arrival();
                mail.excuse_another();
            }
            Fault::Once(_) if case.is_of_network() => mail.excuse_another(),
            Fault::Once(_) => {}
        }
    }
}

fn was_injected(bed: &Bed) -> bool {
    bed.trace().contains("(INJECTED)")
}

/// A message in the initial spools.
fn first() -> Mail {
    Mail::new("A", 2_000)
}

fn large() -> Mail {
    Mail::new("L", 300_000)
}

fn dropped() -> Mail {
    Mail::new("C", 100)
}

/// Other messages in the drop folder: one with a recipient that the relay refuses, one that is too large, and one that
/// the hook refuses.
fn dropped_and_refused() -> [Mail; 3] {
    [
        Mail::new("D", 100).and_to_a_refused_recipient(),
        Mail::new("T", 500_000).refused(),
        Mail::new("H", 100).refused(),
    ]
}

/// Calls `sendmail` under strace, with the relay down or up, and records its exit code.
fn call_sendmail(bed: &mut Bed, scene: Scene, expressions: &[String]) -> Vec<Mail> {
    if scene == Scene::Submit {
        bed.start();
        bed.sink.open();
    }
    let mut mail = Mail::new("S", 2_000);
    let words = ["-i", "-f", SENDER, mail.to[0].as_str()];
    let code = bed.sendmail_traced(&words, &mail.bytes, expressions);
    mail.answer = if code == 0 { 250 } else { 0 };
    vec![first().accepted(), mail]
}

/// Acts as the clients of a scene until the fault occurs or everything is delivered.
fn play(bed: &mut Bed, scene: Scene) -> Vec<Mail> {
    let mut mails = vec![first().accepted()];
    if scene == Scene::Reload {
        // The command returns when the relay has answered or is gone.
        bed.cli(&["reload"]);
        bed.sink.open();
        return mails;
    }
    bed.sink.open();
    if scene == Scene::Drop {
        mails.push(dropped());
        mails.extend(dropped_and_refused());
        for mail in &mails[1..] {
            bed.leave(SENDER, &mail.to, &mail.bytes);
        }
        // `sendmail` left them with exit 0. The relay submits them at once, and may die before it logs that.
        mails = mails.into_iter().map(Mail::accepted).collect();
        bed.cli(&["reload"]);
        return mails;
    }
    let body = if scene == Scene::Large {
        300_000
    } else {
        2_000
    };
    let mut mail = Mail::new("B", body).and_to_nobody();
    mail.answer = submit(bed, &mail);
    // The older message is sent after it, so that the calls have the same numbers in each run.
    let end = Instant::now() + Duration::from_secs(2);
    while mail.is_accepted() && Instant::now() < end && bed.ended().is_none() {
        if mail.is_complete(&bed.sink.arrived()) {
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    mails.push(mail);
    mails
}

/// Sends a message; returns the reply code, or 0 for none.
fn submit(bed: &Bed, mail: &Mail) -> u16 {
    let to: Vec<&str> = mail.to.iter().map(String::as_str).collect();
    bed.client().map_or(0, |mut client| {
        client.transaction(SENDER, &to, &mail.bytes).code
    })
}

/// Flushes the queue until it is empty.
fn drive(bed: &mut Bed, mails: &mut [Mail], limit: Duration) -> End {
    let end = Instant::now() + limit;
    let mut flush = Instant::now();
    loop {
        if let Some(code) = bed.ended() {
            return End::Died(code);
        }
        let now = Instant::now();
        if now >= end {
            return End::Stuck;
        }
        if now >= flush {
            bed.cli(&["queue", "flush"]);
            flush = now + Duration::from_millis(400);
        }
        let arrived = bed.sink.arrived();
        let is_complete = mails
            .iter()
            .filter(|mail| mail.is_accepted())
            .all(|mail| mail.is_complete(&arrived));
        if is_complete && bed.queued() == Some(0) {
            return End::Empty;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Counts the calls of a trace. With several threads, each line begins with the ID and name of one.
fn counts(trace: &str) -> Counts {
    let mut counts = Counts::new();
    for line in trace.lines() {
        let (thread, rest) = match line.split_once("> ") {
            Some((front, rest)) if front.starts_with(|first: char| first.is_ascii_digit()) => {
                (front.split_once('<').map_or("", |(_, name)| name), rest)
            }
            _ => ("main", line),
        };
        let Some((call, _)) = rest.trim_start().split_once('(') else {
            continue;
        };
        if call
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let thread = if matches!(thread, "chopar" | "strace") {
                "main"
            } else {
                thread
            };
            *counts
                .entry((thread.to_owned(), call.to_owned()))
                .or_default() += 1;
        }
    }
    counts
}

/// Time limit for a relay with a fault. It need not finish if the disk fails permanently.
fn patience(case: &Case) -> Duration {
    match case.fault {
        Fault::Always(_) => Duration::from_secs(2),
        // The relay visits a file that it could not read or send again after a while.
        Fault::Once(_) if matches!(case.scene, Scene::Drop | Scene::Submit) => {
            Duration::from_secs(40)
        }
        Fault::Kill | Fault::Once(_) => Duration::from_secs(6),
    }
}
