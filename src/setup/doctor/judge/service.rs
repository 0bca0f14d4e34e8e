//! The configuration, the daemon and its environment.

use std::time::Duration;

use super::dns::MailboxReach;
use crate::setup::doctor::checks::{
    ADMIN, ADVICE, BOUNCES, CONFIGURATION, DAEMON, HOOKS, QUEUE_AGE, RESOLVER, SANDBOX, UNIT,
};
use crate::setup::doctor::finding::Finding;

/// The state of the daemon.
#[derive(Clone, Debug)]
pub enum Daemon {
    /// It answers; with the oldest message of its queue and the reason of its wait, if the caller may know.
    Runs(Option<QueueState>),
    /// It does not, for this reason.
    Gone(String),
}

/// The waiting messages.
#[derive(Clone, Debug, Default)]
pub struct QueueState {
    /// How many messages.
    pub messages: usize,
    /// The oldest that is not held: its id, its age, and why it waits.
    pub oldest: Option<(String, Duration, String)>,
}

/// The state that systemd reports.
#[derive(Clone, Debug)]
pub struct SystemdUnit {
    /// The word of `systemctl is-enabled`, if any.
    pub enabled: Option<String>,
    /// The word of `systemctl is-active`, if any.
    pub active: Option<String>,
    /// The exposure from the last line of `systemd-analyze security`, from 0 to 10.
    pub exposure: Option<f64>,
}

/// Where mail for the administrator goes.
#[derive(Clone, Debug)]
pub struct Admin {
    pub address: String,
    /// Each address that it leads to in the end, and whether mail arrives there.
    pub ends: Vec<(String, MailboxReach)>,
}

/// The facts of this subject.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The errors of `chopar check`.
    pub errors: Vec<String>,
    /// And a warning.
    pub warnings: Vec<String>,
    pub daemon: Daemon,
    /// The state from systemd; `None` if the system does not run it.
    pub unit: Option<SystemdUnit>,
    /// Whether there is a hook, and why it could not be run.
    pub hook: Option<Result<(), String>>,
    /// The administrator; `None` if none is configured.
    pub admin: Option<Admin>,
    /// Accounts whose bounces are lost, each with the reason.
    pub lost_bounces: Vec<(String, String)>,
    /// How many accounts were looked at.
    pub accounts: usize,
}

/// Judges the facts. Pure, so that each finding has a test without a network.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut found = configuration(&facts.errors, &facts.warnings);
    found.extend([daemon(&facts.daemon), queue(&facts.daemon)]);
    found.extend(unit(facts.unit.as_ref()));
    found.push(match &facts.hook {
        None => HOOKS.skipped("", "there is none"),
        Some(Ok(())) => HOOKS.good("", "hooks/post-data can be run"),
        Some(Err(why)) => HOOKS.bad(
            "",
            why,
            "chmod 755 hooks/post-data; the program in its first line (#!) must exist",
        ),
    });
    found.push(admin(facts.admin.as_ref()));
    found.push(bounces(facts));
    found
}

/// The finding about `chopar check`.
pub fn configuration(errors: &[String], warnings: &[String]) -> Vec<Finding> {
    let say = |list: &[String]| match list {
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
        [] => String::new(),
    };
    vec![
        match errors.is_empty() {
            true => CONFIGURATION.good("", "it has no error"),
            false => CONFIGURATION.bad(
                "",
                say(errors),
                "chopar check shows all; correct it, then chopar reload",
            ),
        },
        match warnings.is_empty() {
            true => ADVICE.good("", "nothing to say"),
            false => ADVICE.warning("", say(warnings), "chopar check shows all"),
        },
    ]
}

fn daemon(daemon: &Daemon) -> Finding {
    match daemon {
        Daemon::Runs(_) => DAEMON.good("", "it answers"),
        Daemon::Gone(why) => DAEMON.bad("", why, "systemctl start chopar"),
    }
}

fn queue(daemon: &Daemon) -> Finding {
    let Daemon::Runs(queue) = daemon else {
        return QUEUE_AGE
            .unknown("", "the daemon does not answer", "systemctl start chopar")
            .for_want_of(&DAEMON);
    };
    let Some(queue) = queue else {
        let seen = "the daemon shows all of it to root only";
        return QUEUE_AGE.unknown("", seen, "run chopar doctor as root");
    };
    match &queue.oldest {
        Some((id, age, why)) if *age > AGE_MAX => QUEUE_AGE.bad(
            "",
            format!("{id} has waited {} hours: {why}", age.as_secs() / 3_600),
            format!("chopar queue show {id}"),
        ),
        Some((_, age, _)) => QUEUE_AGE.good(
            "",
            format!(
                "{} messages, the oldest {} minutes",
                queue.messages,
                age.as_secs() / 60
            ),
        ),
        None => QUEUE_AGE.good("", "nothing waits"),
    }
}

fn unit(unit: Option<&SystemdUnit>) -> Vec<Finding> {
    let Some(unit) = unit else {
        let why = "systemd does not run this system";
        return vec![UNIT.skipped("", why), SANDBOX.skipped("", why)];
    };
    vec![
        match (&unit.enabled, &unit.active) {
            (Some(enabled), Some(active)) => {
                let state = format!("{enabled}, {active}");
                match enabled.starts_with("enabled") && active == "active" {
                    true => UNIT.good("", state),
                    false => UNIT.bad("", state, "systemctl enable --now chopar"),
                }
            }
            _ => UNIT.unknown("", "systemctl does not say", "systemctl status chopar"),
        },
        match unit.exposure {
            None => SANDBOX.skipped("", "systemd-analyze does not rate it"),
            Some(exposure) if exposure < EXPOSURE_MAX => {
                SANDBOX.good("", format!("systemd-analyze security gives {exposure:.1} of 10"))
            }
            Some(exposure) => SANDBOX.bad(
                "",
                format!("systemd-analyze security gives {exposure:.1} of 10"),
                "replace your unit with the one of chopar (systemctl cat chopar shows what is in force)",
            ),
        },
    ]
}

/// The exposure in the last line of `systemd-analyze security`.
pub fn exposure(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("exposure level"))?;
    let (_, number) = line.rsplit_once(": ")?;
    number.split_ascii_whitespace().next()?.parse().ok()
}

fn admin(admin: Option<&Admin>) -> Finding {
    let Some(admin) = admin else {
        return ADMIN.bad(
            "",
            "none is named",
            "set admin = \"YOU@ELSEWHERE\" in chopar.toml to an address that someone reads",
        );
    };
    let address = &admin.address;
    let refused = admin
        .ends
        .iter()
        .find_map(|(end, delivery)| match delivery {
            MailboxReach::Refused(why) => Some(format!(
                "mail to it ends at {end}, and does not arrive: {why}"
            )),
            _ => None,
        });
    if let Some(seen) = refused {
        return ADMIN.bad(
            address,
            seen,
            "set admin in chopar.toml to an address that someone reads",
        );
    }
    let unknown = admin
        .ends
        .iter()
        .find_map(|(end, delivery)| match delivery {
            MailboxReach::Unknown(why) => {
                Some(format!("whether {end} can be reached is not known: {why}"))
            }
            _ => None,
        });
    match unknown {
        Some(seen) => ADMIN
            .unknown(
                address,
                seen,
                "run chopar doctor again once the resolver answers",
            )
            .for_want_of(&RESOLVER),
        None => {
            let ends: Vec<&str> = admin.ends.iter().map(|(end, _)| end.as_str()).collect();
            ADMIN.good(address, format!("mail to it goes to {}", ends.join(", ")))
        }
    }
}

fn bounces(facts: &Facts) -> Finding {
    match facts.lost_bounces.first() {
        Some((account, why)) => BOUNCES.bad(
            "",
            format!("what {account} cannot deliver is lost: {why}"),
            "set admin = \"YOU@ELSEWHERE\" in chopar.toml to an address that someone reads",
        ),
        None => BOUNCES.good(
            "",
            format!("those of {} accounts reach a person", facts.accounts),
        ),
    }
}

const AGE_MAX: Duration = Duration::from_secs(4 * 3_600);
/// From here on systemd calls the exposure medium.
const EXPOSURE_MAX: f64 = 5.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposure_is_found_in_what_systemd_says() {
        let text = "  NAME DESCRIPTION EXPOSURE\n✓ User= …\n\n→ Overall exposure level for chopar.service: 1.3 OK 🙂\n";
        assert_eq!(exposure(text), Some(1.3));
        assert_eq!(exposure("Failed to connect to bus"), None);
    }
}
