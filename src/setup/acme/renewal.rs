//! The thread of the daemon that obtains and renews certificates.
//!
//! It compares the wanted with the existing certificates, handles those that are due one after the other, and sleeps
//! until the next is due or the configuration is read again. In a turn, orders go first. A check of foreign DNS comes
//! last, so that slow servers delay a renewal by no more than the time limit of that check.
//! [`schedule`](crate::acme::schedule) decides when a certificate is due. A failure is logged once with its cause, and
//! again each day that it lasts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::managed::Managed;
use super::obtain::{self, Failed, Means, Obtained};
use super::pauses;
use super::reachability::look;
use super::record::HookRunner;
use super::store::{Locked, Store};
use super::wanted::Wanted;
use crate::acme::Name;
use crate::acme::reachability::{self, ArrivalChange, CertificateArrival, is_by_address};
use crate::acme::schedule::{Lifetime, RenewalPlan, RenewalStep};
use crate::config::Config;
use crate::date::Timestamp;
use crate::engine::log::{Level, Line};
use crate::limits::{ACME_BUSY_PAUSE, ACME_LOOK_PAUSE_MAX, CERTIFICATE_WARNING_INTERVAL};
use crate::shell::certificates::certificate::CertificateSummary;
use crate::shell::process::time::{SystemEntropy, wall};
use crate::shell::renewals::{RenewalContext, Waited};

/// The life of the thread; ends with the daemon.
pub fn run(mut context: RenewalContext) {
    let mut plans = Plans::resumed(&context.config);
    loop {
        let pause = plans.turn(&context);
        let before = Arc::clone(&context.config);
        match context.wait(pause) {
            Waited::Enough => {}
            // The obstacle may be gone, if it was in this part: a reload for another user does not matter here.
            Waited::Reloaded => {
                let now = &context.config;
                if before.acme != now.acme || before.hostname != now.hostname {
                    plans.forget_failures();
                }
            }
            Waited::Ended => return,
        }
    }
}

/// Its name, and the directory of its CA: the pauses of one CA do not concern another.
type Key = (Name, String);

fn key(wanted: &Wanted) -> Key {
    (wanted.name.clone(), wanted.directory.as_str().to_owned())
}

/// The same, as it is stored.
fn kept_key(wanted: &Wanted) -> (String, String) {
    let (name, directory) = key(wanted);
    (name.to_string(), directory)
}

/// The plan of each certificate for each CA, and the lines logged about it.
#[derive(Default)]
struct Plans {
    plans: BTreeMap<Key, RenewalPlan>,
    /// Of certificates that are not there yet.
    arrivals: BTreeMap<Key, CertificateArrival>,
    /// The stored pauses.
    pauses: pauses::KeptPauses,
    said: Said,
}

impl Plans {
    fn resumed(config: &Config) -> Self {
        Self {
            pauses: pauses::read(&config.state_dir),
            ..Self::default()
        }
    }

    /// Performs everything that is due; returns how long there is nothing to do.
    fn turn(&mut self, context: &RenewalContext) -> Duration {
        let config = &context.config;
        let store = Store::new(&config.state_dir);
        let managed = match Managed::read(config, &store) {
            Ok(managed) => managed,
            Err(cause) => {
                if self.said.is_news("", &cause, wall()) {
                    context
                        .log(Line::new(Level::Warning, "certificate-renewal").with("cause", cause));
                }
                return ACME_LOOK_PAUSE_MAX;
            }
        };
        if let Some(shortage) = managed.shortage()
            && self.said.is_news("left out", &shortage, wall())
        {
            let line = Line::new(Level::Warning, "certificate-renewal");
            context.log(line.with("cause", shortage));
        }
        self.forget_unwanted(&managed);
        let mut next = ACME_LOOK_PAUSE_MAX;
        let mut looks = Vec::new();
        for one in &managed.wanted {
            let now = wall();
            let there = managed.summary(one);
            let plan = self.plan(one, there, now);
            let step = plan.step(now);
            let pause = match step {
                _ if there.is_none() && is_by_address(one.kind) => {
                    match self.arrival(one, now).step(step, now) {
                        reachability::ArrivalStep::Wait(until) => until.since(now),
                        reachability::ArrivalStep::Obtain => {
                            self.obtain(one, None, &store, context)
                        }
                        reachability::ArrivalStep::LookUp => {
                            looks.push(one);
                            continue;
                        }
                    }
                }
                RenewalStep::Wait(until) => until.since(now),
                RenewalStep::AskWindow => {
                    self.ask(one, there, context);
                    Duration::ZERO
                }
                RenewalStep::Obtain => self.obtain(one, there, &store, context),
            };
            next = next.min(pause);
        }
        // The other checks follow in the next turns, at once.
        if let Some(one) = self.longest_due(&looks) {
            self.look(one, context);
            next = Duration::ZERO;
        }
        next.max(Duration::from_secs(1))
    }

    /// Forgets certificates that are no longer wanted, or that have arrived.
    fn forget_unwanted(&mut self, managed: &Managed) {
        let wanted = &managed.wanted;
        self.plans
            .retain(|planned, _| wanted.iter().any(|one| key(one) == *planned));
        self.pauses
            .retain(|paused, _| wanted.iter().any(|one| kept_key(one) == *paused));
        self.arrivals.retain(|waiting, _| {
            let mut missing = wanted.iter().filter(|one| managed.summary(one).is_none());
            missing.any(|one| key(one) == *waiting)
        });
    }

    /// Of the certificates whose names are due for a check, the one that has waited longest, so that a slow one comes
    /// after all others.
    fn longest_due<'a>(&self, looks: &[&'a Wanted]) -> Option<&'a Wanted> {
        let since = |one: &&&Wanted| self.arrivals.get(&key(one)).map(CertificateArrival::next);
        looks.iter().min_by_key(since).copied()
    }

    /// The plan of a certificate; a new one if the certificate has changed.
    fn plan(
        &mut self,
        wanted: &Wanted,
        there: Option<&CertificateSummary>,
        now: Timestamp,
    ) -> &mut RenewalPlan {
        let lifetime = there.map(lifetime);
        let entropy = &mut SystemEntropy::default();
        let plan = self.plans.entry(key(wanted)).or_insert_with(|| {
            let mut plan = RenewalPlan::new(lifetime, now, entropy);
            let kept = self.pauses.get(&kept_key(wanted));
            if let Some(kept) = kept {
                plan.resume(kept, now);
                // An operator who has repaired something restarts the daemon.
                plan.on_mended();
            }
            plan
        });
        if plan.lifetime() != lifetime {
            *plan = plan.changed(lifetime, now, entropy);
        }
        plan
    }

    /// The wait for the names of a certificate that is not there yet to lead here.
    fn arrival(&mut self, wanted: &Wanted, now: Timestamp) -> &mut CertificateArrival {
        let arrival = self.arrivals.entry(key(wanted));
        arrival.or_insert_with(|| CertificateArrival::new(now))
    }

    /// Checks where the names lead.
    fn look(&mut self, wanted: &Wanted, context: &RenewalContext) {
        let lead = look(wanted, &context.config);
        let now = wall();
        let text = (!lead.is_arrived()).then(|| lead.to_string());
        if self.arrival(wanted, now).on_look(lead, now) == ArrivalChange::Arrived
            && let Some(plan) = self.plans.get_mut(&key(wanted))
        {
            plan.on_mended();
        }
        if let Some(text) = text {
            self.tell_waiting(wanted, &text, context);
        }
    }

    /// Logs once what a certificate waits for.
    fn tell_waiting(&mut self, wanted: &Wanted, text: &str, context: &RenewalContext) {
        let name = wanted.name.to_string();
        if self.said.is_news(&format!("{name} waits"), text, wall()) {
            let line = Line::new(Level::Info, "certificate-renewal").with("name", &name);
            context.log(line.with("waiting", format!("{text}; {WAITS}")));
        }
    }

    fn ask(
        &mut self,
        wanted: &Wanted,
        there: Option<&CertificateSummary>,
        context: &RenewalContext,
    ) {
        let say = |_: &str| {};
        let asked = there.map(|there| means(context, &say).window(&wanted.directory, there));
        let (now, entropy) = (wall(), &mut SystemEntropy::default());
        let Some(plan) = self.plans.get_mut(&key(wanted)) else {
            return;
        };
        match asked {
            Some(Ok(Some((info, again)))) => plan.on_window(info, again, now, entropy),
            Some(Ok(None)) | None => plan.on_no_window(),
            // The renewal itself would report the same, and is what matters.
            Some(Err(Failed::Acme(error))) => plan.on_window_failed(&error, now),
            Some(Err(Failed::Here(_))) => plan.on_no_window(),
        }
        self.warn_of_rest(wanted, context);
    }

    /// Warns if a certificate would be renewed as soon as it exists.
    fn warn_of_rest(&mut self, wanted: &Wanted, context: &RenewalContext) {
        let now = wall();
        let plan = self.plans.get(&key(wanted));
        let Some(plan) = plan.filter(|plan| plan.is_held_back(now)) else {
            return;
        };
        let name = wanted.name.to_string();
        if self.said.is_news(&name, HELD_BACK, now) {
            let line = Line::new(Level::Warning, "certificate-renewal").with("name", &name);
            context.log(
                line.with("next", plan.due().rfc3339())
                    .with("cause", HELD_BACK),
            );
        }
    }

    fn obtain(
        &mut self,
        wanted: &Wanted,
        there: Option<&CertificateSummary>,
        store: &Store,
        context: &RenewalContext,
    ) -> Duration {
        let name = wanted.name.to_string();
        let result = match store.lock() {
            // Another process is at work: its certificate is considered next.
            Err(Locked::Busy) => return ACME_BUSY_PAUSE,
            Err(Locked::Failed(text)) => Err(Failed::Here(text)),
            Ok(_lock) => {
                let say = |text: &str| {
                    let line = Line::new(Level::Debug, "certificate-renewal");
                    context.log(line.with("name", &name).with("step", text));
                };
                means(context, &say).obtain(wanted, obtain::KeyReuse::Kept, store)
            }
        };
        let (now, entropy) = (wall(), &mut SystemEntropy::default());
        match result {
            Ok(Obtained { summary, standing }) => {
                self.said.forget(&name);
                self.said.forget(&format!("{name} waits"));
                let plan = RenewalPlan::renewed(lifetime(&summary), now, entropy);
                let line = Line::new(Level::Info, "certificate-renewal").with("name", &name);
                let line = line.with("until", summary.to.rfc3339());
                let untrusted = (!standing.is_trusted).then_some(UNTRUSTED);
                let line = line.with_some("warning", untrusted);
                context.log(line.with("next", plan.due().rfc3339()));
                self.plans.insert(key(wanted), plan);
                self.keep_pauses(context);
                self.warn_of_rest(wanted, context);
                context.renewed();
                Duration::ZERO
            }
            Err(failed) => {
                let Some(plan) = self.plans.get_mut(&key(wanted)) else {
                    return ACME_BUSY_PAUSE;
                };
                let next = plan.on_failure(failed.acme(), now, entropy);
                self.keep_pauses(context);
                let cause = failed.to_string();
                let is_news = self.said.is_news(&name, &cause, now);
                let level = if is_news {
                    Level::Warning
                } else {
                    Level::Debug
                };
                let line = Line::new(level, "certificate-renewal").with("name", &name);
                let line = line.with_some("until", there.map(|there| there.to.rfc3339()));
                context.log(line.with("next", next.rfc3339()).with("cause", cause));
                next.since(now)
            }
        }
    }

    /// Keeps the pauses of all plans for the next run.
    fn keep_pauses(&mut self, context: &RenewalContext) {
        for ((name, directory), plan) in &self.plans {
            let key = (name.to_string(), directory.clone());
            self.pauses.insert(key, plan.pauses());
        }
        if let Err(error) = pauses::write(&context.config.state_dir, &self.pauses) {
            let line = Line::new(Level::Warning, "certificate-renewal");
            context.log(line.with(
                "cause",
                format!("acme/pauses.json cannot be written: {error}"),
            ));
        }
    }

    fn forget_failures(&mut self) {
        for plan in self.plans.values_mut() {
            plan.forget_failures();
        }
    }
}

fn means<'a>(context: &'a RenewalContext, say: &'a dyn Fn(&str)) -> Means<'a> {
    let config: &Config = &context.config;
    Means {
        config,
        folder: &context.folder,
        hook: HookRunner::Helper(&context.hook),
        sockets: &context.sockets,
        say,
    }
}

/// From when to when.
pub fn lifetime(summary: &CertificateSummary) -> Lifetime {
    Lifetime {
        from: summary.from,
        to: summary.to,
    }
}

const HELD_BACK: &str = "the certificate that was just obtained would be due for renewal already; check the clock, \
                         and whether the CA revokes what it issues";

const UNTRUSTED: &str =
    "it chains to no root of this system or of acme.ca_file: clients that verify reject it";

const WAITS: &str = "the daemon obtains the certificate as soon as the name leads to this machine (`chopar dns` prints the \
                     records)";

/// The last line logged about a name, and when; without a name, about all of them.
#[derive(Default)]
struct Said(BTreeMap<String, (String, Timestamp)>);

impl Said {
    fn is_news(&mut self, name: &str, cause: &str, now: Timestamp) -> bool {
        let known = self.0.get(name);
        let is_known = known.is_some_and(|(said, at)| {
            said == cause && now.since(*at) < CERTIFICATE_WARNING_INTERVAL
        });
        if !is_known {
            self.0.insert(name.to_owned(), (cause.to_owned(), now));
        }
        !is_known
    }

    fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Ordered;
    use super::*;
    use crate::acme::ChallengeKind;
    use crate::acme::reachability::NameReach;
    use crate::acme::wire::Url;
    use crate::acme::work::Terms;

    #[test]
    fn a_name_whose_servers_are_slow_is_looked_at_after_all_others() {
        let of = |text: &str| {
            let name = Name::parse(text).expect("a name");
            let names = vec![name.clone()];
            Wanted {
                name,
                names: names.clone(),
                kind: ChallengeKind::Http01,
                directory: Url::try_from("https://ca.test/".to_owned()).expect("a URL"),
                terms: Terms::Agreed,
                order: Ordered {
                    names,
                    kind: None,
                    directory: None,
                    agreed: true,
                },
            }
        };
        let all = ["a.test", "b.test", "c.test"].map(of);
        let looks: Vec<&Wanted> = all.iter().collect();
        let mut plans = Plans::default();
        assert_eq!(plans.longest_due(&[]), None);
        let mut now = Timestamp::from_seconds(1_800_000_000);
        for one in &all {
            plans.arrival(one, now);
        }
        let mut seen = Vec::new();
        for _ in 0..6 {
            let one = plans.longest_due(&looks).expect("one is due");
            seen.push(one.name.to_string());
            now = now.after(Duration::from_secs(60));
            let lead = NameReach::Nowhere(one.name.clone());
            plans.arrival(one, now).on_look(lead, now);
        }
        assert_eq!(seen[..3], ["a.test", "b.test", "c.test"]);
        assert_eq!(seen[3..], seen[..3]);
    }

    #[test]
    fn a_failure_is_said_once_and_again_each_day() {
        let name = "a.test";
        let mut said = Said::default();
        let mut is_news =
            |cause, hours: u64| said.is_news(name, cause, Timestamp::from_seconds(hours * 3_600));
        assert!(is_news("down", 0));
        assert!(!is_news("down", 1));
        assert!(!is_news("down", 23));
        assert!(is_news("down", 24));
        assert!(!is_news("down", 25));
        assert!(is_news("refused", 26), "another cause");
        assert!(is_news("down", 27));
        said.forget(name);
        let at = Timestamp::from_seconds(27 * 3_600);
        assert!(said.is_news(name, "down", at), "it worked in between");
    }
}
