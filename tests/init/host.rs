//! `chopar init` as root, on a whole system: with systemd, runit or OpenRC, and next to another mail server.

use std::path::{Path, PathBuf};

use super::CHOPAR;
use super::script::{self, Ended, ok};

/// Runs a script on a machine that has only the binary of chopar.
fn on_a_machine(script: &str) -> Ended {
    script::on_a_machine(script, &[(Path::new(CHOPAR), "chopar")])
}

/// A machine without a mail server or an account, on which systemd seems to run: its systemctl records its arguments.
const BARE: &str = "
    set -e
    umask 077
    rm -rf /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases /etc/chopar /usr/bin/chopar
    sed -i '/^chopar:/d' /etc/passwd /etc/group
    mkdir -p /run/systemd/system /usr/local/sbin
    printf '#!/bin/sh\\necho \"$@\" >> /root/systemctl.log\\n' > /usr/local/sbin/systemctl
    chmod 755 /usr/local/sbin/systemctl /run /run/systemd /run/systemd/system
    ";

#[test]
fn root_sets_up_a_machine_that_relays_and_a_second_run_changes_nothing() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{BARE}
        /root/chopar init example.com --forward-to you@gmail.example > /root/first
        cat /root/first
        modes() {{
            stat -c '%a %U:%G %n' /etc/chopar /etc/chopar/chopar.toml /etc/chopar/domains/example.com \
                /etc/chopar/domains/example.com/users /etc/chopar/domains/example.com/dkim/*e.pem \
                /etc/systemd/system/chopar.service /usr/local/bin/chopar
        }}
        echo == modes
        modes
        echo == links
        readlink -f /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases
        echo == account
        id chopar
        echo == systemctl
        cat /root/systemctl.log
        echo == check
        chopar check 2>&1
        echo == run
        chopar run 2>/root/log & pid=$!
        n=0; until chopar queue stats >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ] || {{ cat /root/log; exit 1; }}; sleep 0.1; done
        stat -c '%U' /proc/$pid
        chopar queue hold --all >/dev/null 2>&1 || true
        printf 'To: x@example.net\\nSubject: hello\\n\\nhi\\n' | sendmail -t -f app@example.com
        mailq
        chown -R chopar /etc/chopar
        chmod 600 /etc/chopar/domains/example.com/users
        /usr/local/bin/chopar init example.com | grep -c '^done   give /etc/chopar to root'
        echo == taken back
        modes
        echo == again
        find /etc /usr/local /usr/sbin /usr/bin /usr/lib/sendmail -printf '%p %m %U %G %s %C@\\n' | sort > /root/before
        /usr/local/bin/chopar init example.com --forward-to you@gmail.example
        find /etc /usr/local /usr/sbin /usr/bin /usr/lib/sendmail -printf '%p %m %U %G %s %C@\\n' | sort > /root/after
        cmp /root/before /root/after && echo nothing has changed
        kill $pid
        "
    );
    let output = ok(on_a_machine(&script));
    let part = |name: &str| {
        let (_, rest) = output.split_once(&format!("== {name}\n")).expect("a part");
        rest.split("== ").next().unwrap_or_default().to_owned()
    };
    assert!(output.contains("done   start the service"), "{output}");
    let expected = "2755 root:chopar /etc/chopar\n644 root:chopar /etc/chopar/chopar.toml\n";
    assert!(part("modes").starts_with(expected), "{}", part("modes"));
    for expected in [
        "755 root:chopar /etc/chopar/domains/example.com\n",
        "640 root:chopar /etc/chopar/domains/example.com/users\n",
        "640 root:chopar /etc/chopar/domains/example.com/dkim/20",
        "644 root:root /etc/systemd/system/chopar.service\n",
        "755 root:root /usr/local/bin/chopar\n",
    ] {
        assert!(
            part("modes").contains(expected),
            "{expected}: {}",
            part("modes")
        );
    }
    assert_eq!(part("taken back"), part("modes"));
    assert_eq!(part("links"), "/usr/local/bin/chopar\n".repeat(4));
    assert!(part("account").contains("(chopar)"), "{output}");
    assert_eq!(part("systemctl"), "enable --now chopar\n");
    assert!(
        part("check").starts_with("ok: mail.example.com serves example.com"),
        "{output}"
    );
    let run = part("run");
    assert!(run.starts_with("chopar\n"), "{output}");
    assert!(
        run.contains("app@example.com") && run.contains("x@example.net"),
        "{run}"
    );
    let again = part("again");
    assert!(again.contains("nothing has changed"), "{again}");
    assert!(!again.contains("done "), "{again}");
}

#[test]
fn a_machine_with_another_mail_server_migrates_with_the_printed_commands() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    // The machine keeps its mail server, Postfix.
    let restore = BARE.replace(
        "rm -rf /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases",
        "rm -rf",
    );
    let script = format!(
        "{restore}
        dpkg-query -S /usr/sbin/sendmail > /root/owner
        mkdir -p /usr/share/man/man1
        echo of another > /usr/share/man/man1/sendmail.1.gz
        echo of chopar > /usr/share/man/man1/sendmail.1
        /root/chopar init example.com --forward-to you@gmail.example > /root/first
        cat /root/first
        echo == kept
        dpkg-query -S \"$(readlink -f /usr/sbin/sendmail)\"
        echo == moved
        sed -n 's/^to do .* as root: //p' /root/first > /root/commands
        PATH=/root:$PATH sh -e /root/commands
        readlink -f /usr/sbin/sendmail /usr/lib/sendmail /usr/bin/mailq /usr/bin/newaliases
        cat /root/systemctl.log
        echo == pages
        cat /usr/share/man/man1/sendmail*
        ls /usr/share/man/man1/ | grep sendmail
        \"$(command -v chopar)\" init example.com | grep 'man sendmail' || echo nothing more about pages
        "
    );
    let (code, output, errors) = on_a_machine(&script);
    assert_eq!(code, 0, "{output}{errors}");
    let (_, pages) = output.split_once("== pages\n").expect("a part");
    assert!(
        pages.contains("sendmail.1\nsendmail.other.1.gz\n"),
        "{pages}"
    );
    assert!(pages.contains("nothing more about pages"), "{pages}");
    let (first, rest) = output.split_once("== kept\n").expect("a part");
    assert!(
        first.contains("to do  /usr/sbin/sendmail, ")
            && first.contains("belong to the package postfix"),
        "{first}"
    );
    assert!(rest.starts_with("postfix: "), "{rest}");
    assert!(
        rest.contains(&"/usr/local/bin/chopar\n".repeat(4)),
        "{rest}"
    );
    assert!(rest.contains("disable --now postfix\n"), "{rest}");
}

/// An unpacked package beside the tests, put there by `make packages`.
fn unpacked(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("far-ends");
    let folder = beside.join(name);
    assert!(folder.is_dir(), "{}: run make packages", folder.display());
    folder
}

/// Copies the files of packages to the machine, where /sbin, /bin and /lib may be links.
fn with_packages(names: &[&str]) -> String {
    let copy = |name: &&str| {
        let folder = unpacked(name).display().to_string();
        format!(
            "for part in bin sbin lib etc usr; do \
             [ ! -d {folder}/$part ] || cp -a {folder}/$part/. /$part/; done\n"
        )
    };
    names.iter().map(copy).collect()
}

/// A bare machine whose services are not started by systemd.
fn without_systemd() -> String {
    let bare = BARE.replace(
        "mkdir -p /run/systemd/system /usr/local/sbin",
        "mkdir -p /usr/local/sbin",
    );
    let bare = bare.replace(
        "chmod 755 /usr/local/sbin/systemctl /run /run/systemd /run/systemd/system",
        "chmod 755 /run",
    );
    format!("{bare}\nrm -rf /run/systemd /var/lib/chopar /run/chopar\n")
}

/// Waits until the daemon answers, for 30 seconds.
const ANSWERS: &str = "n=0; until chopar queue stats >/dev/null 2>&1; do n=$((n+1)); \
                       [ $n -lt 300 ] || { cat /root/log >&2; exit 1; }; sleep 0.1; done\n";

/// The process of the daemon on this machine, which has a network of its own.
const PID: &str = "for p in /proc/[0-9]*; do \
                   if [ \"$({ tr '\\0' ' ' < $p/cmdline; } 2>/dev/null)\" = '/usr/local/bin/chopar run ' ] \
                   && [ \"$(readlink $p/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; then echo ${p#/proc/}; break; fi; done";

#[test]
fn runit_starts_the_daemon_and_restarts_it_after_a_kill() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{}{}
        mkdir -p /etc/runit/runsvdir/current
        /root/chopar init example.com --forward-to you@gmail.example --no-certificate
        runsvdir -P /etc/service > /root/log 2>&1 & dir=$!
        trap 'sv force-stop /etc/service/chopar >/dev/null 2>&1; kill -HUP $dir' EXIT
        {ANSWERS}
        first=$({PID})
        stat -c 'runs as %U' /proc/$first
        kill -9 $first
        n=0; until [ \"$({PID})\" != \"$first\" ] && [ -n \"$({PID})\" ]; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done
        {ANSWERS}
        echo it runs again
        /usr/local/bin/chopar init example.com --forward-to you@gmail.example --no-certificate
        sv stop /etc/service/chopar
        [ -z \"$({PID})\" ] && echo it has stopped
        ",
        without_systemd(),
        with_packages(&["runit"])
    );
    let output = ok(on_a_machine(&script));
    for expected in [
        "done   write /etc/sv/chopar/run",
        "ln -s /etc/sv/chopar /etc/service/chopar",
        "runs as chopar\n",
        "it runs again\n",
        "kept   /etc/sv/chopar/run",
        "kept   the daemon, which runs",
        "it has stopped\n",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[test]
fn openrc_starts_reloads_and_stops_the_daemon() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{}{}
        # As a start of the machine leaves it.
        for name in starting started stopping inactive failed daemons options exclusive scheduled tmp; do
            mkdir -p /run/openrc/$name
        done
        mkdir -p /etc/runlevels/default
        echo default > /run/openrc/softlevel; : > /etc/insserv.conf; ldconfig
        /root/chopar init example.com --forward-to you@gmail.example --no-certificate 2>&1
        trap 'rc-service chopar stop >/dev/null 2>&1' EXIT
        {ANSWERS}
        first=$({PID})
        stat -c 'runs as %U' /proc/$first
        sh -n /etc/init.d/chopar
        readlink /etc/runlevels/default/chopar
        rc-service chopar status 2>&1
        rc-service chopar reload 2>&1 && echo it was reloaded
        kill -9 $first
        n=0; until [ \"$({PID})\" != \"$first\" ] && [ -n \"$({PID})\" ]; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done
        {ANSWERS}
        echo it runs again
        /usr/local/bin/chopar init example.com --forward-to you@gmail.example --no-certificate
        rc-service chopar stop 2>&1
        [ -z \"$({PID})\" ] && echo it has stopped
        ",
        without_systemd(),
        with_packages(&["libeinfo1", "librc1", "openrc"])
    );
    let output = ok(on_a_machine(&script));
    for expected in [
        "done   write /etc/init.d/chopar",
        "rc-update add chopar default && rc-service chopar start",
        "runs as chopar\n",
        "/etc/init.d/chopar\n",
        "started",
        "it was reloaded\n",
        "it runs again\n",
        "kept   /etc/init.d/chopar",
        "kept   the daemon, which runs",
        "it has stopped\n",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

#[test]
fn a_read_only_system_is_reported_in_one_sentence() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can set up a machine
    }
    let script = format!(
        "{BARE}
        mount --bind /etc /etc; mount -o remount,bind,ro /etc
        set +e
        /root/chopar init example.com --forward-to you@gmail.example
        echo code=$?
        "
    );
    let (_, output, errors) = on_a_machine(&script);
    assert!(output.ends_with("code=73\n"), "{output}{errors}");
    assert!(errors.contains("Read-only file system"), "{errors}");
    assert!(errors.contains("run the same command again"), "{errors}");
}
