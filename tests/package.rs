//! The Debian package and the tarball, built from a binary. The package is installed, used, upgraded, removed and
//! purged on a temporary machine.

#[path = "machine/debian.rs"]
mod debian;
mod machine;
#[path = "machine/script.rs"]
mod script;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use debian::{build, folder};
use script::{end, ok, on_a_machine, place};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A target folder, and the package built from it.
struct Target {
    folder: PathBuf,
    /// Whether it has the release binary; otherwise it has that of the tests, stripped.
    is_release: bool,
    package: PathBuf,
}

/// One for all tests, since packing takes seconds.
fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let folder = folder("package");
        Target {
            is_release: std::env::var_os("CHOPAR_BINARY").is_some(),
            package: build("debian", &folder, "022"),
            folder,
        }
    })
}

#[test]
fn lintian_reports_only_explained_findings() {
    let target = target();
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--fail-on", "none", "--allow-root"])
        .arg(&target.package);
    let (_, output, errors) = end(&mut lintian, "");
    // The binary of the tests is not static.
    let tags: Vec<&str> = output
        .lines()
        .filter(|tag| target.is_release || !tag.contains("missing-dependency-on-libc"))
        .collect();
    assert_eq!(tags, Vec::<&str>::new(), "{errors}");
}

#[test]
fn packing_again_with_another_umask_gives_the_same_bytes() {
    let target = target();
    let again = place();
    let mut copy = Command::new("cp");
    copy.args(["-r", "chopar", "completions"])
        .current_dir(&target.folder);
    ok(end(copy.arg(again.path()), ""));
    let packages = [&target.package, &build("debian", again.path(), "077")].map(fs::read);
    let [Ok(first), Ok(second)] = packages else {
        panic!("a package cannot be read");
    };
    assert!(first == second, "the packages differ");
    let [first, second] = ["022", "077"].map(|umask| {
        let path = build("dist", again.path(), umask);
        fs::read(path).expect("a file")
    });
    assert!(first == second, "the tarballs differ");
}

#[test]
fn the_tarball_installs_without_a_compiler_and_its_checksums_and_list_of_crates_are_right() {
    let target = target();
    let tarball = build("dist", &target.folder, "022");
    let place = place();
    let mut tar = Command::new("tar");
    ok(end(
        tar.arg("-xzf").arg(&tarball).arg("-C").arg(place.path()),
        "",
    ));
    let mut entries = fs::read_dir(place.path()).expect("a folder");
    let folder = entries.next().expect("one").expect("an entry").path();
    let sum = |folder: &Path, file: &str| {
        let mut command = Command::new("sha256sum");
        ok(end(
            command.args(["--quiet", "-c", file]).current_dir(folder),
            "",
        ))
    };
    sum(&folder, "SHA256SUMS");
    let name = tarball.file_name().expect("a name").to_string_lossy();
    sum(&target.folder, &format!("{name}.sha256"));

    let root = place.path().join("root");
    let mut make = Command::new("make");
    make.arg("install")
        .current_dir(&folder)
        .env("DESTDIR", &root);
    make.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env_remove("MAKEFLAGS");
    ok(end(&mut make, ""));
    for path in [
        "usr/sbin/sendmail",
        "usr/share/man/man8/chopar.8",
        "usr/share/zsh/site-functions/_chopar",
        "usr/lib/systemd/system/chopar.service",
        "etc/fail2ban/filter.d/chopar.conf",
    ] {
        assert!(root.join(path).exists(), "{path}");
    }

    let text = fs::read_to_string(folder.join("SBOM.json")).expect("a file");
    let sbom: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&sbom["bomFormat"], &sbom["specVersion"]),
        (&"CycloneDX".into(), &"1.5".into())
    );
    let lock = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).expect("a file");
    let components = sbom["components"].as_array().expect("a list");
    let mut references: BTreeSet<&str> = BTreeSet::new();
    for component in components {
        let text = |key: &str| component[key].as_str().expect("a text");
        let (name, version) = (text("name"), text("version"));
        assert_eq!(text("purl"), format!("pkg:cargo/{name}@{version}"));
        assert!(references.insert(text("bom-ref")), "{name} twice");
        let hash = component["hashes"][0]["content"].as_str().expect("a hash");
        let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let (_, rest) = lock.split_once(&locked).expect("a locked crate");
        assert!(
            rest.lines().nth(1).is_some_and(|line| line.contains(hash)),
            "{name}"
        );
        let license = &component["licenses"][0]["expression"];
        // SPDX expressions have no slash.
        let is_expression = |text: &str| !text.is_empty() && !text.contains('/');
        assert!(license.as_str().is_some_and(is_expression), "{name}");
    }
    assert!(
        references
            .iter()
            .any(|name| name.starts_with("pkg:cargo/rustls@"))
    );
    assert!(
        !references
            .iter()
            .any(|name| name.starts_with("pkg:cargo/proptest@"))
    );
    references.insert(
        sbom["metadata"]["component"]["bom-ref"]
            .as_str()
            .expect("a text"),
    );
    for dependency in sbom["dependencies"].as_array().expect("a list") {
        for needed in dependency["dependsOn"].as_array().expect("a list") {
            assert!(
                references.contains(needed.as_str().expect("a text")),
                "{needed}"
            );
        }
    }
}

#[test]
fn it_runs_in_an_empty_image_with_a_uid_without_an_account() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can change the root of a process
    }
    let Some(binary) = std::env::var_os("CHOPAR_BINARY") else {
        return; // the binary of the tests needs the libraries of the machine
    };
    let image = place();
    let at = |name: &str| image.path().join(name);
    for folder in ["usr/bin", "etc/chopar", "run/chopar", "var/lib/chopar"] {
        fs::create_dir_all(at(folder)).expect("a folder");
    }
    fs::copy(binary, at("usr/bin/chopar")).expect("a copy");
    for own in ["run/chopar", "var/lib/chopar"] {
        std::os::unix::fs::chown(at(own), Some(65_532), Some(65_532)).expect("an owner");
    }
    let toml = "hostname = \"mail.example.com\"\nadmin = \"you@example.org\"\nuser = \"65532:65532\"\n\
                [listen]\nsmtp = [\"127.0.0.1:2525\"]\nsubmission = []\nsubmissions = []\n";
    fs::write(at("etc/chopar/chopar.toml"), toml).expect("a file");
    fs::set_permissions(at("etc/chopar"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let script = "ip link set lo up\n\
        inside() { chroot --userspec=65532:65532 --groups= \"$0\" /usr/bin/chopar \"$@\"; }\n\
        chroot --userspec=65532:65532 --groups= \"$0\" /usr/bin/chopar run >\"$0/log\" 2>&1 & pid=$!\n\
        n=0; until inside queue stats >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 300 ] || { cat \"$0/log\" >&2; exit 1; }; sleep 0.1; done\n\
        inside check; inside man chopar | head -n 2; kill $pid; wait $pid; echo ended $?";
    let mut command = Command::new("unshare");
    command
        .args(["--net", "bash", "-c", script])
        .arg(image.path());
    let output = ok(end(&mut command, ""));
    assert!(output.contains("ok: mail.example.com"), "{output}");
    assert!(output.contains(".Dt CHOPAR 8"), "{output}");
    assert!(output.ends_with("ended 0\n"), "{output}");
}

/// The same package with a later version.
fn later(package: &Path, folder: &Path) -> PathBuf {
    let later = folder.join("later.deb");
    let script = "set -e; dpkg-deb -R \"$0\" \"$1/later\"; sed -i 's/^Version: .*/Version: 9-1/' \"$1/later/DEBIAN/control\"; \
                  dpkg-deb --root-owner-group -Zgzip -z1 --build \"$1/later\" \"$2\" >/dev/null";
    let mut command = Command::new("sh");
    ok(end(
        command
            .args(["-c", script])
            .arg(package)
            .arg(folder)
            .arg(&later),
        "",
    ));
    later
}

/// The output of one part of a script.
fn part(output: &str, name: &str) -> String {
    let (_, rest) = output
        .split_once(&format!("== {name}\n"))
        .unwrap_or_else(|| panic!("no {name}: {output}"));
    format!("{}\n", rest.split("\n== ").next().unwrap_or_default())
}

#[track_caller]
fn contains(output: &str, name: &str, all: &[&str]) {
    let part = part(output, name);
    for expected in all {
        assert!(part.contains(expected), "{name}, {expected}: {part}");
    }
}

#[test]
fn the_package_is_installed_used_upgraded_removed_and_purged() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can install a package
    }
    let package = &target().package;
    let own = place();
    let later = later(package, own.path());
    let script = include_str!("package/life.sh");
    let files = [
        (package.as_path(), "chopar.deb"),
        (later.as_path(), "later.deb"),
    ];
    let output = ok(on_a_machine(script, &files));
    let part = |name: &str| part(&output, name);
    let contains = |name: &str, all: &[&str]| contains(&output, name, all);
    // The other mail server is removed, and nothing is started before the setup.
    contains(
        "installed",
        &[
            "sudo chopar init DOMAIN",
            "/usr/bin/chopar\n/usr/bin/chopar\n/usr/bin/chopar\n/usr/bin/chopar\n",
            "(chopar)",
            "no start\n",
        ],
    );
    contains(
        "set up",
        &[
            "kept   /usr/bin/chopar\n",
            "kept   the account chopar\n",
            "kept   /usr/lib/systemd/system/chopar.service\n",
            "enable --now chopar",
            "the message is there\n",
        ],
    );
    assert!(!part("set up").contains("/usr/local"), "{output}");
    contains(
        "upgraded",
        &["it was restarted\n", " are all in the queue\n"],
    );
    let brings_no_other = |name: &str| {
        contains(name, &["Inst bsd-mailx", "Inst logwatch"]);
        for not_wanted in ["exim", "default-mta", "Remv", "postfix"] {
            assert!(!part(name).contains(not_wanted), "{name}: {}", part(name));
        }
    };
    brings_no_other("callers");
    contains("callers without it", &["Inst exim4-daemon-light"]);
    let real = "callers by the real archive";
    match part(real).contains("Inst ") {
        true => brings_no_other(real),
        false => eprintln!("apt has no lists of Debian here: {}", part(real)),
    }
    contains("configured twice", &["all are in the queue\n"]);
    contains(
        "removed",
        &[
            "configuration and keys stay in /etc/chopar, certificates and queue in /var/lib/chopar",
            "they are counted\n",
            "it was stopped\n",
            "configuration and queue are there\n",
        ],
    );
    contains("installed again", &["it was started\n"]);
    let stays = [
        "/etc/chopar stays",
        "/var/lib/chopar stays",
        "keys and queue are there\n",
        "the system account chopar stays, since what stays belongs to it",
    ];
    contains("purged", &stays);
    // At that time no daemon answered.
    contains(
        "purged",
        &["How many messages wait in the queue is not known"],
    );
    contains(
        "purged and told no",
        &["Remove configuration, keys and queue of chopar?"],
    );
    contains("purged and told no", &stays);
    contains(
        "purged and told yes",
        &[
            "Remove configuration, keys and queue of chopar?",
            "nothing is there\nchopar:x:",
            "sudo userdel chopar",
        ],
    );
    contains(
        "purged with a yes",
        &["it is not started\n", "nothing is there\n"],
    );
}

#[test]
fn changes_by_administrators_neither_break_the_package_nor_are_lost_silently() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can install a package
    }
    let package = &target().package;
    let own = place();
    let later = later(package, own.path());
    let files = [
        (package.as_path(), "chopar.deb"),
        (later.as_path(), "later.deb"),
    ];
    let output = ok(on_a_machine(include_str!("package/strange.sh"), &files));
    let contains = |name: &str, all: &[&str]| contains(&output, name, all);
    let process = |name: &str| {
        let part = part(&output, name);
        let rest = part.split_once("process ").expect("a process").1;
        rest.lines().next().expect("its number").to_owned()
    };
    contains(
        "no systemd",
        &[
            "chopar chopar 755\n",
            ":/var/lib/chopar:/usr/sbin/nologin\n",
        ],
    );
    contains(
        "diverted",
        &[
            "/usr/sbin/sendmail does not lead to chopar",
            "nothing is left\n",
        ],
    );
    contains(
        "half installed",
        &["unpacked\n", "\ninstalled\n", "\nconfig-files\n"],
    );
    let old = format!(
        "process {}, is still that of the version before",
        process("started by hand")
    );
    contains("started by hand", &[&old]);
    let runs = format!("the daemon still runs, as process {}", process("removed"));
    contains(
        "removed",
        &[
            &runs,
            "configuration and keys stay in /etc/chopar, certificates and queue in /srv/the queue;",
            "1 message waits in the queue",
        ],
    );
    contains(
        "purged",
        &[
            "led to what stays, since it may be of use elsewhere: '/srv/my config'",
            "/srv/the queue stays, with all that is in it; to remove it: sudo rm -r '/srv/the queue'",
            "/srv/my config/chopar.toml\n",
        ],
    );
    contains(
        "mounted",
        &[
            "elsewhere: '/srv/my config/chopar.toml'",
            "/var/lib/chopar stays",
            "it is empty\n",
            "no packages found matching chopar",
        ],
    );
    let hangs = format!("the daemon still runs, as process {}", process("hanging"));
    contains(
        "hanging",
        &[
            &hangs,
            "How many messages wait in the queue is not known",
            "\nconfig-files\n",
        ],
    );
}
