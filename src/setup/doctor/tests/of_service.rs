//! The configuration and the service.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    let why = || "it is gone".to_owned();
    vec![
        (
            "configuration",
            CheckState::Bad,
            "it is gone; and 1 more",
            "chopar check",
            in_service(|facts| facts.errors = vec![why(), why()]),
        ),
        (
            "configuration-advice",
            CheckState::Warning,
            "it is gone",
            "chopar check",
            in_service(|facts| facts.warnings = vec![why()]),
        ),
        (
            "daemon",
            CheckState::Bad,
            "it is gone",
            "systemctl start",
            in_service(|facts| facts.daemon = service::Daemon::Gone(why())),
        ),
        (
            "queue-age",
            CheckState::Unknown,
            "does not answer",
            "systemctl start",
            in_service(|facts| facts.daemon = service::Daemon::Gone(why())),
        ),
        (
            "queue-age",
            CheckState::Unknown,
            "to root only",
            "run chopar doctor as root",
            in_service(|facts| facts.daemon = service::Daemon::Runs(None)),
        ),
        (
            "queue-age",
            CheckState::Warning,
            "has waited 9 hours: no answer",
            "chopar queue show AB",
            in_service(|facts| {
                let oldest = Some((
                    "AB".to_owned(),
                    Duration::from_secs(9 * 3_600),
                    "no answer".to_owned(),
                ));
                facts.daemon = service::Daemon::Runs(Some(service::QueueState {
                    messages: 1,
                    oldest,
                }));
            }),
        ),
        (
            "unit",
            CheckState::Warning,
            "disabled, active",
            "systemctl enable --now",
            in_service(|facts| {
                facts.unit.as_mut().expect("a unit").enabled = Some("disabled".to_owned());
            }),
        ),
        (
            "unit",
            CheckState::Unknown,
            "systemctl does not say",
            "systemctl status chopar",
            in_service(|facts| facts.unit.as_mut().expect("a unit").active = None),
        ),
        (
            "sandbox",
            CheckState::Warning,
            "9.6 of 10",
            "replace your unit with the one of chopar",
            in_service(|facts| {
                facts.unit.as_mut().expect("a unit").exposure = Some(9.6);
            }),
        ),
        (
            "unit",
            CheckState::Skipped,
            "systemd does not run",
            "",
            in_service(|facts| facts.unit = None),
        ),
        (
            "hooks",
            CheckState::Bad,
            "it is gone",
            "chmod 755",
            in_service(|facts| facts.hook = Some(Err(why()))),
        ),
        (
            "hooks",
            CheckState::Skipped,
            "there is none",
            "",
            in_service(|facts| facts.hook = None),
        ),
        (
            "admin",
            CheckState::Bad,
            "none is named",
            "set admin",
            in_service(|facts| facts.admin = None),
        ),
        (
            "admin",
            CheckState::Bad,
            "does not arrive: it is gone",
            "set admin",
            in_service(|facts| {
                facts.admin.as_mut().expect("a person").ends[0].1 =
                    dns::MailboxReach::Refused(why());
            }),
        ),
        (
            "admin",
            CheckState::Unknown,
            "is not known: it is gone",
            "again",
            in_service(|facts| {
                facts.admin.as_mut().expect("a person").ends[0].1 =
                    dns::MailboxReach::Unknown(why());
            }),
        ),
        (
            "bounces",
            CheckState::Bad,
            "what root@example.com cannot deliver is lost",
            "set admin",
            in_service(|facts| {
                facts.lost_bounces = vec![("root@example.com".to_owned(), why())];
            }),
        ),
    ]
}
