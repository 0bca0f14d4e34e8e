//! The service as systemd runs it: a temporary container boots a system, and runs `make install` and `chopar init` on
//! it. If no container can be started, the test is skipped.

#[path = "../machine/mod.rs"]
mod machine;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

/// Prepares the machine, on which nothing else runs. The container may use Landlock.
const PREPARE: &str = r#"
for path in usr/sbin/sendmail usr/lib/sendmail usr/bin/mailq usr/bin/newaliases etc/chopar var/lib/chopar \
    etc/systemd/system/chopar.service; do rm -rf $root/$path; done
rm -rf $root/run/* $root/etc/systemd/system/*.wants/* $root/etc/systemd/system/chopar*
CARGO_TARGET_DIR=$place/target make -s -C $source install DESTDIR=$root
printf '[Unit]\nAfter=multi-user.target dbus.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /root/machine.sh\nStandardOutput=file:/root/said\nStandardError=inherit\nExecStopPost=/bin/systemctl --no-block poweroff\n' \
    > $root/etc/systemd/system/test.service
mkdir -p $root/etc/systemd/system/default.target.wants
ln -s ../test.service $root/etc/systemd/system/default.target.wants/test.service
umount $root/proc $root/dev
mount -t proc proc /proc
timeout 100 systemd-nspawn --quiet --link-journal=no -D $root --boot --private-network --register=no --keep-unit \
    --system-call-filter='landlock_create_ruleset landlock_add_rule landlock_restrict_self' \
    < /dev/null > $root/root/boot 2>&1 || true
"#;

#[test]
fn systemd_starts_watches_reloads_and_stops_it_and_the_daemon_is_never_root() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can start a system
    }
    if !Path::new("/usr/bin/systemd-nspawn").exists() {
        eprintln!("not tested: there is no systemd-nspawn (Debian package systemd-container)");
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).expect("a mode");
    let folder = env!("CARGO_MANIFEST_DIR");
    let prepare = format!(
        "mkdir $place/target; cp {} $place/target/chopar; source={folder}\n\
         mkdir -p $root/root; cp {folder}/tests/booted/machine.sh $root/root/machine.sh\n{PREPARE}",
        env!("CARGO_BIN_EXE_chopar"),
    );
    let script = "cat /root/said || { echo 'no system'; cat /root/boot; }";
    let mut command = machine::command(place.path(), &prepare, script);
    command.env_remove("CHOPAR_CONFIG").stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    if said.starts_with("no system") {
        eprintln!("not tested: no system can be started in a container here: {said}{errors}");
        return;
    }
    let part = |name: &str| {
        let (_, rest) = said
            .split_once(&format!("== {name}\n"))
            .unwrap_or_else(|| panic!("no {name}: {said}\n{errors}"));
        rest.split("== ").next().unwrap_or_default()
    };
    part("end");
    let has = |name: &str, lines: &[&str]| {
        for line in lines {
            let found = part(name).lines().any(|found| found.contains(line));
            assert!(found, "{name}: no {line}: {said}");
        }
    };
    // No port is open before the setup.
    has("bare", &["sudo chopar init DOMAIN"]);
    let bare = part("bare").ends_with("\ninactive\ninactive\n0\n");
    assert!(bare, "{said}");
    let start = part("start");
    has(
        "start",
        &[
            "ActiveState=active",
            "StatusText=0 queued, ",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
            "seccomp=full",
            "on=0.0.0.0:25 as=smtp from=systemd",
            "on=[::]:587 as=submission from=systemd",
            "on=0.0.0.0:465 as=submissions from=systemd",
        ],
    );
    assert!(!start.contains("Uid:\t0"), "{start}");
    // The daemon, its helper, and future children of the helper.
    let ambient = start.lines().filter(|line| line.starts_with("CapAmb:"));
    assert!(ambient.clone().count() >= 3, "{start}");
    assert!(
        ambient
            .clone()
            .all(|line| line.ends_with("\t0000000000000000")),
        "{start}"
    );
    assert_eq!(
        part("local").matches("X-Hook: was here").count(),
        2,
        "{said}"
    );
    has("local", &["CapEff:\t0000000000000000"]);
    has("reload", &["it has failed"]);
    has(
        "watchdog",
        &[
            "it is left alone while it turns",
            "NRestarts=1",
            "1 message",
        ],
    );
    // 6 is information, 4 a warning. No line has its priority or a date in its text.
    has("journal", &[" 6", "0"]);
    assert!(part("journal").ends_with("\n0\n"), "{said}");
    // systemctl may print a warning first, since the sockets are just being closed.
    let stopped = part("stop").ends_with("inactive\ninactive\ninactive\n0\n");
    assert!(stopped, "{said}");
    has(
        "error",
        &[
            "ExecMainStatus=78",
            "NRestarts=0",
            "ok: mail.example.com",
            "1 message",
        ],
    );
    has(
        "no capability",
        &["CapBnd:\t0000000000000000", "from=systemd"],
    );
    has("no capability", &["5"]);
}
