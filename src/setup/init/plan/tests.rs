//! Tables from facts about a machine to the steps that are planned for it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::account::SYSUSERS;
use super::super::links::LINKS;
use super::super::machine::{
    Existing, ExistingCertificate, Held, ServiceState, Supervisor, USUAL_BINARY,
};
use super::super::options::CertificateWish;
use super::super::service::UNIT;
use super::super::step::FileKind;
use super::*;

fn domain(name: &str) -> Domain {
    Domain::parse(name).expect("a domain")
}

fn mailbox(address: &str) -> Mailbox {
    Mailbox::parse(address).expect("a mailbox")
}

fn options() -> InitOptions {
    InitOptions {
        domain: domain("example.com"),
        hostname: None,
        admin: None,
        forward_to: Some(mailbox("you@gmail.example")),
        user: None,
        git: Git::None,
        certificate: CertificateWish::Unwanted,
    }
}

/// A bare Debian, with the program unpacked somewhere.
fn machine() -> Machine {
    Machine {
        place: InstallPlace::Machine,
        folder: "/etc/chopar".into(),
        caller: InitCaller::Root,
        service: ServiceState {
            supervisor: Supervisor::Systemd,
            unit: None,
            runit_services: Some("/etc/service".into()),
            is_enabled: false,
            is_running: false,
        },
        has_account: false,
        tools: [
            SystemTool::Sysusers,
            SystemTool::Useradd,
            SystemTool::Alternatives,
            SystemTool::Divert,
        ]
        .into(),
        binary: "/root/chopar".into(),
        installed: None,
        sysusers: None,
        hostname: "vps1.provider.example".to_owned(),
        taken_ports: BTreeSet::new(),
        links: LINKS
            .iter()
            .map(|path| (PathBuf::from(path), Held::Free))
            .collect(),
        other_pages: Vec::new(),
        missing: Vec::new(),
        existing: Existing::default(),
        now: Timestamp::from_seconds(1_795_000_000),
    }
}

/// The machine after the plan.
fn ready() -> Machine {
    Machine {
        has_account: true,
        binary: LOCAL_BINARY.into(),
        installed: Some(LOCAL_BINARY.into()),
        service: ServiceState {
            unit: Some(UNIT.into()),
            is_enabled: true,
            is_running: true,
            ..machine().service
        },
        sysusers: Some(SYSUSERS.into()),
        links: LINKS
            .iter()
            .map(|path| (PathBuf::from(path), Held::Ours))
            .collect(),
        existing: Existing {
            folder: true,
            is_services: false,
            settings: Some("hostname = \"mail.example.com\"\n".to_owned()),
            hostname: Some(domain("mail.example.com")),
            admin: Some(mailbox("you@gmail.example")),
            domain: Some(ExistingDomain {
                selectors: ["202611r".to_owned(), "202611e".to_owned()].into(),
                has_rsa: true,
                has_ed25519: true,
                users: vec!["app".to_owned()],
                aliases: BTreeSet::new(),
                catch_all: Some("you@gmail.example".to_owned()),
            }),
            certificate: ExistingCertificate::There,
            other_users: Vec::new(),
            repository: false,
            ignore: String::new(),
        },
        ..machine()
    }
}

fn planned(options: &InitOptions, machine: &Machine) -> InitPlan {
    plan(options, machine).expect("a plan")
}

/// The lines of a plan, as `--dry-run` shows them.
fn lines(plan: &InitPlan) -> Vec<String> {
    let entries = plan.entries.iter();
    let lines = entries.map(|entry| match entry {
        PlanLine::Do(step) => format!("do {step}"),
        PlanLine::Kept(text) => format!("kept {text}"),
        PlanLine::Left(text) => format!("left {text}"),
    });
    lines.collect()
}

fn steps(plan: &InitPlan) -> Vec<&InitStep> {
    let entries = plan.entries.iter();
    let steps = entries.filter_map(|entry| match entry {
        PlanLine::Do(step) => Some(step),
        PlanLine::Kept(_) | PlanLine::Left(_) => None,
    });
    steps.collect()
}

#[track_caller]
fn assert_says(plan: &InitPlan, expected: &str) {
    let lines = lines(plan);
    assert!(
        lines.iter().any(|line| line.contains(expected)),
        "{expected:?} is not in {lines:#?}"
    );
}

#[test]
fn a_bare_machine_gets_everything_in_an_order_that_works() {
    let plan = planned(&options(), &machine());
    let found = lines(&plan);
    let expected = [
        "do copy the program to /usr/local/bin/chopar",
        "do write /etc/sysusers.d/chopar.conf",
        "do make the account chopar: systemd-sysusers /etc/sysusers.d/chopar.conf",
        "do make the folder /etc/chopar",
        "do write chopar.toml: this host is mail.example.com",
        "do serve example.com",
        "do make an RSA key of 2048 bits that signs for example.com, 202611r",
        "do make an Ed25519 key that signs for example.com, 202611e",
        "do count the DMARC and TLS reports that come to reports@example.com",
        "do forward all addresses of example.com without an alias to you@gmail.example",
        "do add the user app@example.com",
        "do have programs that call sendmail reach chopar: update-alternatives --install /usr/sbin/sendmail mta",
        "do write /etc/systemd/system/chopar.service",
        "do write /etc/systemd/system/chopar-smtp.socket",
        "do write /etc/systemd/system/chopar-submission.socket",
        "do write /etc/systemd/system/chopar-submissions.socket",
        "do write /etc/systemd/system/chopar-acme-http.socket",
        "do write /etc/systemd/system/chopar-acme-tls.socket",
        "do write /etc/systemd/system/chopar-status.socket",
        "do start the service, now and with the machine: systemctl enable --now chopar",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
    assert_eq!(plan.next, "sudo chopar doctor example.com");
}

#[test]
fn a_machine_that_is_ready_is_left_as_it_is() {
    let plan = planned(&options(), &ready());
    assert_eq!(steps(&plan), Vec::<&InitStep>::new(), "{:#?}", lines(&plan));
    assert!(!lines(&plan).iter().any(|line| line.starts_with("left")));
    // Whatever else is asked for, nothing that is there is changed.
    let others = InitOptions {
        hostname: Some(domain("mx.example.com")),
        admin: Some(mailbox("other@gmail.example")),
        forward_to: Some(mailbox("other@gmail.example")),
        ..options()
    };
    let plan = planned(&others, &ready());
    assert_eq!(steps(&plan), Vec::<&InitStep>::new(), "{:#?}", lines(&plan));
    // And it is said, with the way to it.
    for expected in [
        "left --hostname mx.example.com changed nothing: it is mail.example.com; to change it, set hostname in \
         /etc/chopar/chopar.toml, then run sudo chopar reload",
        "left --admin other@gmail.example changed nothing: it is you@gmail.example",
        "left --forward-to other@gmail.example changed nothing: all addresses of example.com",
        "sudo chopar alias remove '*@example.com' && sudo chopar alias add '*@example.com' other@gmail.example",
    ] {
        assert_says(&plan, expected);
    }
}

#[test]
fn each_option_that_a_ready_machine_passes_over_is_named() {
    let with = |change: fn(&mut Existing), options: InitOptions| {
        let mut machine = ready();
        machine.existing.repository = true;
        change(&mut machine.existing);
        let plan = planned(&options, &machine);
        assert_eq!(steps(&plan), Vec::<&InitStep>::new(), "{:#?}", lines(&plan));
        lines(&plan).join("\n")
    };
    let git = |git: Git| InitOptions { git, ..options() };
    let public = |existing: &mut Existing| existing.ignore = ignored(Git::Public);
    let private = |existing: &mut Existing| existing.ignore = ignored(Git::Private);
    let said = with(public, git(Git::Private));
    assert!(
        said.contains("kept the git repository, which leaves secrets out"),
        "{said}"
    );
    assert!(
        said.contains("left --git=private changed nothing"),
        "{said}"
    );
    assert!(said.contains("/domains/*/users /domains/*/dkim/"), "{said}");
    let said = with(private, git(Git::Public));
    assert!(said.contains("left --git changed nothing"), "{said}");
    for (change, wish) in [
        (public as fn(&mut Existing), Git::Public),
        (private, Git::Private),
    ] {
        let said = with(change, git(wish));
        assert!(!said.contains("changed nothing"), "{said}");
    }
    let automatic = |existing: &mut Existing| {
        existing.certificate = ExistingCertificate::Automatic;
    };
    let said = with(automatic, options());
    assert!(
        said.contains("left --no-certificate changed nothing"),
        "{said}"
    );
}

#[test]
fn pages_of_another_mail_system_are_moved_aside_by_the_commands_that_are_shown() {
    let mut machine = ready();
    let page = "/usr/share/man/man1/sendmail.1.gz";
    machine.other_pages = vec![(page.into(), Some("postfix".to_owned()))];
    let aside = "/usr/share/man/man1/sendmail.other.1.gz";
    assert_says(
        &planned(&options(), &machine),
        &format!("as root: dpkg-divert --local --rename --divert {aside} --add {page}"),
    );
    machine.tools.remove(&SystemTool::Divert);
    assert_says(
        &planned(&options(), &machine),
        &format!("as root: mv {page} {aside}"),
    );
}

#[test]
fn a_folder_that_the_daemon_came_to_own_is_taken_back_before_anything_is_written_to_it() {
    let step = "do give /etc/chopar to root: it belongs to the daemon's account";
    let mut machine = ready();
    machine.existing.is_services = true;
    let plan = planned(&options(), &machine);
    assert_says(&plan, step);
    assert_eq!(steps(&plan).len(), 1, "{:#?}", lines(&plan));
    // What is made below it takes its owner from it.
    let bare = Machine {
        existing: Existing {
            folder: true,
            is_services: true,
            ..Existing::default()
        },
        ..self::machine()
    };
    let said = lines(&planned(&options(), &bare));
    let at = |front: &str| said.iter().position(|line| line.starts_with(front));
    let (account, taken) = (at("do make the account"), at(step));
    assert!(account < taken, "{said:#?}");
    assert!(taken < at("do write chopar.toml"), "{said:#?}");
    // A folder of one's own belongs to whoever runs the daemon.
    machine.place = InstallPlace::Folder;
    assert_eq!(
        steps(&planned(&options(), &machine)),
        Vec::<&InitStep>::new()
    );
}

#[test]
fn a_second_user_of_one_name_is_said_to_end_logins_by_the_name() {
    let mut machine = ready();
    machine.existing.domain = None;
    machine.existing.other_users = vec![mailbox("app@first.example"), mailbox("bob@first.example")];
    let plan = planned(&options(), &machine);
    assert_says(
        &plan,
        "left programs that log in as app alone are refused from now on, for app@first.example has",
    );
}

#[test]
fn the_unit_calls_the_program_where_it_lies_and_one_of_a_package_stays() {
    let plan = planned(&options(), &machine());
    let unit = steps(&plan).into_iter().find_map(|step| match step {
        InitStep::Machine(MachineStep::Write { path, text, .. }) if path == Path::new(UNIT) => {
            Some(text.clone())
        }
        _ => None,
    });
    let unit = unit.expect("a unit");
    assert!(
        unit.contains("ExecStart=/usr/local/bin/chopar run\n"),
        "{unit}"
    );
    assert!(
        unit.contains("ExecReload=/usr/local/bin/chopar reload\n"),
        "{unit}"
    );
    assert!(!unit.contains(USUAL_BINARY), "{unit}");
    let packaged = Machine {
        service: ServiceState {
            unit: Some("/usr/lib/systemd/system/chopar.service".into()),
            ..machine().service
        },
        binary: USUAL_BINARY.into(),
        installed: Some(USUAL_BINARY.into()),
        ..machine()
    };
    let plan = planned(&options(), &packaged);
    assert_says(&plan, "kept /usr/lib/systemd/system/chopar.service");
    assert_says(&plan, "kept /usr/bin/chopar");
}

#[test]
fn the_account_is_made_by_what_the_machine_has() {
    let with = |tools: &[SystemTool]| Machine {
        tools: tools.iter().copied().collect(),
        ..machine()
    };
    for (tools, expected) in [
        (
            &[SystemTool::Useradd][..],
            "useradd --system --user-group --home-dir /var/lib/chopar",
        ),
        (
            &[SystemTool::BusyboxAdduser],
            "addgroup -S chopar && adduser -S -D -H",
        ),
    ] {
        assert_says(&planned(&options(), &with(tools)), expected);
    }
    let error = plan(&options(), &with(&[])).expect_err("no tool");
    assert_eq!(error, PlanError::NoAccountTool);
    assert!(
        error.to_string().contains("to /etc/passwd chopar:x:"),
        "{error}"
    );
}

#[test]
fn the_name_of_the_host_is_one_of_the_domain() {
    for (system, said, expected) in [
        ("vps1.provider.example", None, "mail.example.com"),
        ("mx1.example.com", None, "mx1.example.com"),
        ("example.com", None, "example.com"),
        ("localhost", None, "mail.example.com"),
        ("not a name", None, "mail.example.com"),
        (
            "mx1.example.com",
            Some("out.other.example"),
            "out.other.example",
        ),
        ("notexample.com", None, "mail.example.com"),
    ] {
        let options = InitOptions {
            hostname: said.map(domain),
            ..options()
        };
        let machine = Machine {
            hostname: system.to_owned(),
            ..machine()
        };
        let found = planned(&options, &machine);
        assert_says(&found, &format!("this host is {expected},"));
    }
}

#[test]
fn mail_for_postmaster_and_for_the_user_reaches_somebody_or_it_is_said() {
    let with = |admin: Option<&str>, forward_to: Option<&str>| InitOptions {
        admin: admin.map(mailbox),
        forward_to: forward_to.map(mailbox),
        ..options()
    };
    let plan_of = |admin, forward_to| plan(&with(admin, forward_to), &machine());
    let led = plan_of(Some("me@home.example"), None).expect("a plan");
    assert_says(
        &led,
        "mail for postmaster and abuse goes to me@home.example",
    );
    assert_says(&led, "do lead app@example.com to me@home.example");
    let nobody = plan_of(None, None).expect("a plan");
    assert_says(
        &nobody,
        "left the address for mail to postmaster@example.com",
    );
    assert_eq!(
        nobody.next,
        "sudo chopar init example.com --forward-to YOU@ELSEWHERE"
    );
    // An address of the domain is one that something has to lead on from.
    for (admin, forward_to, refused) in [
        (None, Some("me@example.com"), true),
        (Some("me@example.com"), None, true),
        (Some("me@example.com"), Some("me@home.example"), false),
    ] {
        let result = plan_of(admin, forward_to);
        assert_eq!(
            matches!(result, Err(PlanError::LeadsBack(_))),
            refused,
            "{admin:?} {forward_to:?}"
        );
    }
}

#[test]
fn who_reads_the_mail_can_be_said_later() {
    let mut machine = ready();
    machine.existing.admin = None;
    machine.existing.settings = Some("# admin = \"x\"\nhostname = \"a.example.com\"\n".to_owned());
    if let Some(domain) = &mut machine.existing.domain {
        domain.catch_all = None;
    }
    let plan = planned(&options(), &machine);
    let said = lines(&plan);
    assert_says(&plan, "do set admin to you@gmail.example in chopar.toml");
    assert_says(&plan, "do forward all addresses of example.com");
    assert_says(
        &plan,
        "do have the running daemon read its configuration again",
    );
    assert_eq!(steps(&plan).len(), 3, "{said:#?}");
    assert!(matches!(
        steps(&plan)[0],
        InitStep::Folder(FolderStep::Admin { text, .. }) if text == "admin = \"you@gmail.example\"\nhostname = \"a.example.com\"\n"
    ));
}

#[test]
fn a_key_that_is_missing_gets_a_name_that_is_free() {
    let mut machine = ready();
    if let Some(domain) = &mut machine.existing.domain {
        domain.has_rsa = false;
    }
    let plan = planned(&options(), &machine);
    assert_says(
        &plan,
        "an RSA key of 2048 bits that signs for example.com, 202611r2",
    );
    assert_says(&plan, "kept the Ed25519 key that signs for example.com");
}

#[test]
fn the_daemon_of_a_machine_obtains_the_certificate_unless_it_is_not_wanted_or_said_otherwise() {
    let wanted = InitOptions {
        certificate: CertificateWish::Wanted,
        ..options()
    };
    let toml = |plan: &InitPlan| {
        let found = steps(plan).into_iter().find_map(|step| match step {
            InitStep::Folder(FolderStep::Settings { text, .. }) => Some(text.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    };
    let new = planned(&wanted, &machine());
    assert!(toml(&new).contains("\n[acme]\nenabled = true\n"));
    assert_says(
        &new,
        "this agrees to its terms of service (--no-certificate omits it)",
    );
    assert!(!toml(&planned(&options(), &machine())).contains("[acme]"));
    let folder = Machine {
        place: InstallPlace::Folder,
        ..machine()
    };
    let folder = planned(&wanted, &folder);
    assert!(!toml(&folder).contains("[acme]"));
    assert_says(&folder, "left a certificate for mail.example.com");
    let mut there = ready();
    there.existing.certificate = ExistingCertificate::None;
    assert_says(&planned(&wanted, &there), "sudo chopar cert obtain --agree");
    there.existing.certificate = ExistingCertificate::Automatic;
    assert_says(
        &planned(&wanted, &there),
        "kept certificates, mail.example.com's too",
    );
    there.existing.certificate = ExistingCertificate::AutomaticCertificate;
    assert_says(
        &planned(&wanted, &there),
        "the daemon obtains the certificate for mail.example.com as soon as the name leads here",
    );
}

#[test]
fn a_daemon_that_ends_with_the_next_boot_is_no_service_that_is_set_up() {
    let text = "does not start with the machine";
    let said = |machine: &Machine| {
        lines(&planned(&options(), machine))
            .join("\n")
            .contains(text)
    };
    assert!(!said(&ready()));
    let mut machine = ready();
    machine.service.is_enabled = false;
    assert_says(
        &planned(&options(), &machine),
        "left the daemon runs and does not start with the machine: run sudo systemctl enable chopar",
    );
}

#[test]
fn another_mail_system_keeps_sendmail_and_the_commands_that_move_it_are_said() {
    let other = |leads_to: &str, package: Option<&str>| Held::Other {
        leads_to: leads_to.into(),
        package: package.map(str::to_owned),
    };
    let with = |held: Held, tools: &[SystemTool]| {
        let mut machine = ready();
        machine.service.is_running = false;
        machine.tools = tools.iter().copied().collect();
        machine.links[0].1 = held;
        machine.links[1].1 = Held::Free;
        machine
    };
    let dpkg = [SystemTool::Divert, SystemTool::Alternatives];
    let exim = with(other("/usr/sbin/exim4", Some("exim4-daemon-light")), &dpkg);
    let exim = planned(&options(), &exim);
    assert_says(
        &exim,
        "left /usr/sbin/sendmail belong to the package exim4-daemon-light",
    );
    assert_says(
        &exim,
        "as root: systemctl disable --now exim4 && dpkg-divert --local --rename --divert /usr/sbin/sendmail.other --add \
         /usr/sbin/sendmail && chopar init example.com",
    );
    // What is free is linked all the same.
    assert_says(&exim, "do link /usr/lib/sendmail to /usr/local/bin/chopar");
    let by_hand = planned(&options(), &with(other("/opt/x/sendmail", None), &dpkg));
    assert_says(
        &by_hand,
        "another mail system: programs that call them do not reach chopar",
    );
    assert_says(
        &by_hand,
        "mv /usr/sbin/sendmail /usr/sbin/sendmail.other && chopar init",
    );
    let fedora = other("/etc/alternatives/mta", Some("postfix"));
    let fedora = planned(&options(), &with(fedora, &[SystemTool::Alternatives]));
    assert_says(
        &fedora,
        "--set mta /usr/local/bin/chopar && chopar init example.com",
    );
}

#[test]
fn the_service_is_not_started_on_ports_that_another_has() {
    let taken = Machine {
        taken_ports: [25, 465].into(),
        ..machine()
    };
    let plan = planned(&options(), &taken);
    assert_says(&plan, "left the start: another program has port 25, 465");
    assert!(!lines(&plan).iter().any(|line| line.starts_with("do start")));
    assert_eq!(plan.next, "sudo systemctl enable --now chopar");
}

#[test]
fn without_systemd_it_is_said_how_it_starts() {
    for (supervisor, expected) in [
        (
            Supervisor::OpenRc,
            "do start the service, now and with the machine: rc-update add chopar default && rc-service chopar start",
        ),
        (
            Supervisor::Runit,
            "do start the service, now and with the machine: ln -s /etc/sv/chopar /etc/service/chopar",
        ),
        (
            Supervisor::Unknown,
            "left the start: no supervisor that init knows runs here (systemd, OpenRC, runit): have yours run \
             /usr/local/bin/chopar run",
        ),
    ] {
        let plan = planned(
            &options(),
            &Machine {
                service: ServiceState {
                    supervisor,
                    ..machine().service
                },
                ..machine()
            },
        );
        assert_says(&plan, expected);
        assert!(!lines(&plan).iter().any(|line| line.contains("systemctl")));
        let next = match supervisor {
            Supervisor::Unknown => "sudo /usr/local/bin/chopar run",
            _ => "sudo chopar doctor example.com",
        };
        assert_eq!(plan.next, next);
        let is_script = |step: &&InitStep| {
            matches!(step, InitStep::Machine(MachineStep::Write { kind: FileKind::Script, text, .. })
                if text.contains("/usr/local/bin/chopar") && !text.contains(USUAL_BINARY))
        };
        let scripts = steps(&plan).into_iter().filter(is_script).count();
        assert_eq!(scripts, usize::from(supervisor != Supervisor::Unknown));
    }
    let asleep = Machine {
        service: ServiceState {
            supervisor: Supervisor::SystemdAsleep,
            ..machine().service
        },
        ..machine()
    };
    assert_says(
        &planned(&options(), &asleep),
        "(systemd does not run now): systemctl enable chopar",
    );
}

#[test]
fn one_folder_gets_nothing_beside_it_and_ports_that_are_free() {
    let place = Machine {
        place: InstallPlace::Folder,
        folder: "/srv/x".into(),
        caller: InitCaller::Other,
        links: Vec::new(),
        taken_ports: [2525, 12_525, 2465].into(),
        ..machine()
    };
    let plan = planned(&options(), &place);
    for step in steps(&plan) {
        let is_inside = matches!(
            step,
            InitStep::Folder(FolderStep::Make(_))
                | InitStep::Folder(FolderStep::Settings { .. })
                | InitStep::Domain(DomainStep::Serve(_))
                | InitStep::Domain(DomainStep::Key { .. })
                | InitStep::Domain(DomainStep::Alias { .. })
                | InitStep::Domain(DomainStep::Reports(_))
                | InitStep::Domain(DomainStep::User { .. })
        );
        assert!(is_inside, "{step}");
        if let InitStep::Folder(FolderStep::Settings { text, .. }) = step {
            for expected in [
                "state_dir = \"/srv/x/.state\"",
                "runtime_dir = \"/srv/x/.run\"",
                "smtp = [\"0.0.0.0:22525\", \"[::]:22525\"]",
                "submission = [\"0.0.0.0:2587\", \"[::]:2587\"]",
                "submissions = [\"0.0.0.0:12465\", \"[::]:12465\"]",
            ] {
                assert!(text.contains(expected), "{expected} is not in {text}");
            }
            assert!(!text.contains("user = "), "{text}");
        }
    }
    assert_eq!(plan.next, "chopar -C /srv/x run");
    let not_root = Machine {
        place: InstallPlace::Machine,
        ..place
    };
    let error = super::plan(&options(), &not_root).expect_err("not root");
    assert_eq!(error, PlanError::NotRoot);
}

#[test]
fn a_repository_leaves_secrets_out_unless_it_is_private() {
    let ignore = |git, existing: Existing| {
        let machine = Machine {
            tools: [SystemTool::Useradd, SystemTool::Git].into(),
            existing,
            ..machine()
        };
        let plan = planned(&InitOptions { git, ..options() }, &machine);
        let found = steps(&plan).into_iter().find_map(|step| match step {
            InitStep::Folder(FolderStep::Repository { ignore, .. }) => Some(ignore.clone()),
            _ => None,
        });
        (found, lines(&plan))
    };
    let (public, _) = ignore(Git::Public, Existing::default());
    let public = public.flatten().expect("a .gitignore");
    for secret in [
        "/domains/*/users",
        "/domains/*/dkim/",
        "/secrets/",
        "/tls/",
        "/import.*",
        "/.state/",
    ] {
        assert!(public.lines().any(|line| line == secret), "{secret}");
    }
    let (private, _) = ignore(Git::Private, Existing::default());
    assert_eq!(private.flatten().as_deref(), Some("/.state/\n/.run/\n"));
    let existing = Existing {
        repository: true,
        ..Existing::default()
    };
    let (there, said) = ignore(Git::Public, existing);
    assert_eq!(there, None, "{said:?}");
    // What a .gitignore lacks is added to it; what is taken back in it, once more.
    let with = |git, text: &str| {
        let existing = Existing {
            ignore: text.to_owned(),
            ..Existing::default()
        };
        ignore(git, existing).0.expect("a repository")
    };
    assert_eq!(with(Git::Public, &public), None);
    assert_eq!(with(Git::Public, "*.swp\n"), Some(public.clone()));
    assert_eq!(with(Git::Private, &public), None);
    let back = format!("{public}!/tls/\n");
    assert_eq!(with(Git::Public, &back), Some(public.clone()));
    let half = with(Git::Public, "/.state/\n/.run/\n").expect("lines");
    assert!(half.contains("/secrets/\n") && !half.contains("/.run/"));
}

#[test]
fn names_that_cannot_be_are_refused_with_what_to_write() {
    let undotted = InitOptions {
        domain: domain("foo"),
        ..options()
    };
    let error = plan(&undotted, &machine()).expect_err("refused");
    assert!(error.to_string().starts_with("foo has no dot"), "{error}");
    for user in ["a:b", "a b", "", "me@example.com"] {
        let options = InitOptions {
            user: Some(user.to_owned()),
            ..options()
        };
        assert!(
            matches!(plan(&options, &machine()), Err(PlanError::User(_))),
            "{user}"
        );
    }
}
