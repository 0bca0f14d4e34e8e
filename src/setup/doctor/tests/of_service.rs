//! The configuration and the service.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    let why = || "it is gone".to_owned();
    vec![
        (
            "configuration",
            State::Bad,
            "it is gone; and 1 more",
            "chopar check",
            in_service(|facts| facts.errors = vec![why(), why()]),
        ),
        (
            "configuration-advice",
            State::Warning,
            "it is gone",
            "chopar check",
            in_service(|facts| facts.warnings = vec![why()]),
        ),
        (
            "daemon",
            State::Bad,
            "it is gone",
            "systemctl start",
            in_service(|facts| facts.daemon = service::Daemon::Gone(why())),
        ),
        (
            "queue-age",
            State::Unknown,
            "does not answer",
            "systemctl start",
            in_service(|facts| facts.daemon = service::Daemon::Gone(why())),
        ),
        (
            "queue-age",
            State::Unknown,
            "to root only",
            "run chopar doctor as root",
            in_service(|facts| facts.daemon = service::Daemon::Runs(None)),
        ),
        (
            "queue-age",
            State::Warning,
            "has waited 9 hours: no answer",
            "chopar queue show AB",
            in_service(|facts| {
                let oldest = Some((
                    "AB".to_owned(),
                    Duration::from_secs(9 * 3_600),
                    "no answer".to_owned(),
                ));
                facts.daemon = service::Daemon::Runs(Some(service::Queue {
                    messages: 1,
                    oldest,
                }));
            }),
        ),
        (
            "unit",
            State::Warning,
            "disabled, active",
            "systemctl enable --now",
            in_service(|facts| {
                facts.unit.as_mut().expect("a unit").enabled = Some("disabled".to_owned());
            }),
        ),
        (
            "unit",
            State::Unknown,
            "systemctl does not say",
            "systemctl status chopar",
            in_service(|facts| facts.unit.as_mut().expect("a unit").active = None),
        ),
        (
            "sandbox",
            State::Warning,
            "9.6 of 10",
            "replace your unit with the one of chopar",
            in_service(|facts| {
                facts.unit.as_mut().expect("a unit").exposure = Some(9.6);
            }),
        ),
        (
            "unit",
            State::Skipped,
            "systemd does not run",
            "",
            in_service(|facts| facts.unit = None),
        ),
        (
            "hooks",
            State::Bad,
            "it is gone",
            "chmod 755",
            in_service(|facts| facts.hook = Some(Err(why()))),
        ),
        (
            "hooks",
            State::Skipped,
            "there is none",
            "",
            in_service(|facts| facts.hook = None),
        ),
        (
            "admin",
            State::Bad,
            "none is named",
            "set admin",
            in_service(|facts| facts.admin = None),
        ),
        (
            "admin",
            State::Bad,
            "does not arrive: it is gone",
            "set admin",
            in_service(|facts| {
                facts.admin.as_mut().expect("a person").ends[0].1 = dns::Delivery::Refused(why());
            }),
        ),
        (
            "admin",
            State::Unknown,
            "is not known: it is gone",
            "again",
            in_service(|facts| {
                facts.admin.as_mut().expect("a person").ends[0].1 = dns::Delivery::Unknown(why());
            }),
        ),
        (
            "bounces",
            State::Bad,
            "what root@example.com cannot deliver is lost",
            "set admin",
            in_service(|facts| {
                facts.lost_bounces = vec![("root@example.com".to_owned(), why())];
            }),
        ),
    ]
}
