//! `make install` on a machine without a compiler, and the installed files against README.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

struct Place {
    folder: TempDir,
}

impl Place {
    /// A place with a cargo and a rustc that record their calls.
    fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        fs::create_dir(place.at("tools")).expect("a folder");
        for tool in ["cargo", "rustc"] {
            let script = format!(
                "#!/bin/sh\n: > {}\nexit 127\n",
                place.at("called").display()
            );
            write_executable(&place.at("tools").join(tool), &script);
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn install(&self) -> Output {
        self.make("install")
    }

    fn make(&self, target: &str) -> Output {
        let path = format!(
            "{}:/usr/sbin:/usr/bin:/sbin:/bin",
            self.at("tools").display()
        );
        Command::new("make")
            .args(["-C", env!("CARGO_MANIFEST_DIR"), target])
            .env("PATH", path)
            .env("CARGO_TARGET_DIR", self.at("target"))
            .env("DESTDIR", self.at("root"))
            .output()
            .expect("make runs")
    }
}

fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn built_files_are_installed_without_a_compiler() {
    let place = Place::new();
    let output = place.install();
    assert!(!output.status.success());
    assert!(said(&output).contains("run make first"), "{output:?}");
    assert!(!place.at("root").exists());

    fs::create_dir(place.at("target")).expect("a folder");
    write_executable(&place.at("target/chopar"), "#!/bin/sh\necho built\n");
    let output = place.install();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said(&output), "");
    for link in [
        "sbin/sendmail",
        "lib/sendmail",
        "bin/mailq",
        "bin/newaliases",
        "bin/chopar",
    ] {
        let output = Command::new(place.at("root/usr").join(link)).output();
        assert_eq!(output.expect("it runs").stdout, b"built\n", "{link}");
    }
    let unit = place.at("root/usr/lib/systemd/system/chopar.service");
    assert!(unit.exists());
    // Once more, over the existing installation.
    let output = place.install();
    assert!(
        output.status.success() && said(&output).is_empty(),
        "{output:?}"
    );
    assert!(!place.at("called").exists(), "a compiler was asked");
}

#[test]
fn files_of_another_mail_system_stay_and_the_output_says_which_gets_the_mail() {
    let place = Place::new();
    fs::create_dir(place.at("target")).expect("a folder");
    write_executable(&place.at("target/chopar"), "#!/bin/sh\n");
    fs::create_dir_all(place.at("root/usr/sbin")).expect("a folder");
    fs::create_dir_all(place.at("root/usr/bin")).expect("a folder");
    fs::write(place.at("root/usr/sbin/sendmail"), "of another").expect("a file");
    symlink("/usr/sbin/exim4", place.at("root/usr/bin/mailq")).expect("a link");
    let output = place.install();
    assert!(output.status.success(), "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("usr/sbin/sendmail") && said.contains("usr/bin/mailq"),
        "{said}"
    );
    assert!(
        said.contains("still reach that system and not chopar"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let kept = fs::read(place.at("root/usr/sbin/sendmail")).expect("a file");
    assert_eq!(kept, b"of another");
    let link = fs::read_link(place.at("root/usr/bin/mailq")).expect("a link");
    assert_eq!(link, Path::new("/usr/sbin/exim4"));
    assert!(fs::read_link(place.at("root/usr/bin/newaliases")).is_ok());
}

#[test]
fn manual_pages_of_another_mail_system_stay_when_ours_are_installed_and_removed() {
    let place = Place::new();
    fs::create_dir(place.at("target")).expect("a folder");
    write_executable(&place.at("target/chopar"), "#!/bin/sh\n");
    let pages = place.at("root/usr/share/man/man1");
    fs::create_dir_all(&pages).expect("a folder");
    fs::write(pages.join("sendmail.1"), "of another").expect("a file");
    symlink("sendmail.1", pages.join("mailq.1")).expect("a link");
    let output = place.install();
    assert!(output.status.success(), "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("man1/sendmail.1") && said.contains("chopar man sendmail"),
        "{said}"
    );
    assert!(place.at("root/usr/share/man/man8/chopar.8").exists());
    let output = place.make("uninstall");
    assert!(output.status.success(), "{output:?}");
    let kept = fs::read(pages.join("sendmail.1")).expect("a file");
    assert_eq!(kept, b"of another");
    assert_eq!(
        fs::read_link(pages.join("mailq.1")).expect("a link"),
        Path::new("sendmail.1")
    );
    assert!(!place.at("root/usr/share/man/man8/chopar.8").exists());
}

/// Every file and link below a folder.
fn all_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.symlink_metadata().expect("it is there").is_dir() {
            true => found.extend(all_below(&path)),
            false => drop(found.insert(path)),
        }
    }
    found
}

#[test]
fn uninstall_removes_only_installed_files() {
    let place = Place::new();
    fs::create_dir(place.at("target")).expect("a folder");
    write_executable(&place.at("target/chopar"), "#!/bin/sh\n");
    // Files that must stay: of another mail system, of the operator, of init.
    let theirs = [
        "root/usr/bin/mailq",
        "root/usr/share/man/man1/sendmail.1.gz",
        "root/usr/share/man/man8/postfix.8",
        "root/etc/chopar/chopar.toml",
        "root/var/lib/chopar/spool/journal/00000001.seg",
        "root/etc/passwd",
    ];
    for name in theirs {
        let path = place.at(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "chopar:x:990:990:::\n").expect("a file");
    }
    let before = all_below(&place.at("root"));
    assert!(place.install().status.success());
    assert!(all_below(&place.at("root")).len() > before.len() + 10);

    // Not while the service is enabled.
    let wants = place.at("root/etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("a folder");
    let enabled = wants.join("chopar.service");
    symlink("/usr/lib/systemd/system/chopar.service", &enabled).expect("a link");
    let output = place.make("uninstall");
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("systemctl disable --now chopar"), "{text}");
    assert!(place.at("root/usr/bin/chopar").exists());
    fs::remove_file(&enabled).expect("removed");

    let output = place.make("uninstall");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said(&output), "");
    assert_eq!(all_below(&place.at("root")), before);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for stays in ["/etc/chopar", "/var/lib/chopar", "the account chopar"] {
        assert!(text.contains(stays), "{stays}: {text}");
    }
    // A second run has nothing to do, and no compiler was called.
    assert!(place.make("uninstall").status.success());
    assert_eq!(all_below(&place.at("root")), before);
    assert!(!place.at("called").exists(), "a compiler was asked");
}

#[test]
fn a_changed_unit_and_a_link_of_init_stay_and_are_named() {
    let place = Place::new();
    fs::create_dir(place.at("target")).expect("a folder");
    write_executable(&place.at("target/chopar"), "#!/bin/sh\n");
    assert!(place.install().status.success());
    let unit = place.at("root/usr/lib/systemd/system/chopar.service");
    fs::write(&unit, "[Service]\n").expect("a file");
    let link = place.at("root/usr/sbin/sendmail");
    fs::remove_file(&link).expect("removed");
    symlink("/usr/local/bin/chopar", &link).expect("a link");
    let output = place.make("uninstall");
    assert!(output.status.success(), "{output:?}");
    assert!(unit.exists() && fs::read_link(&link).is_ok());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("chopar.service (it was changed)"), "{text}");
    assert!(text.contains("usr/sbin/sendmail"), "{text}");
}

/// Runs `make binary` with tools of these versions (`None`: not installed), for this target.
fn build(versions: Option<&str>, target: Option<&str>) -> (Output, bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("tools")).expect("a folder");
    for tool in [
        "sed", "sort", "head", "cut", "printf", "sh", "make", "dirname",
    ] {
        let from = ["/usr/bin", "/bin"].map(|bin| Path::new(bin).join(tool));
        if let Some(from) = from.iter().find(|from| from.exists()) {
            symlink(from, at("tools").join(tool)).expect("a link");
        }
    }
    if let Some(version) = versions {
        let rustc = format!(
            "#!/bin/sh\n[ $1 = -vV ] && echo host: some-triple || echo rustc {version} '(0 2026-01-01)'\n"
        );
        write_executable(&at("tools/rustc"), &rustc);
        let cargo = format!("#!/bin/sh\n: > {}\n", at("called").display());
        write_executable(&at("tools/cargo"), &cargo);
    }
    let output = Command::new("/usr/bin/make")
        .args(["-s", "-C", env!("CARGO_MANIFEST_DIR"), "binary"])
        .args(target.map(|target| format!("TARGET={target}")))
        .env("PATH", at("tools"))
        .env("CARGO_TARGET_DIR", at("target"))
        .env_remove("CARGO")
        .env_remove("MAKEFLAGS")
        .output()
        .expect("make runs");
    (output, at("called").exists())
}

#[test]
fn a_missing_or_old_toolchain_is_reported_with_a_remedy_before_the_build() {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    for (version, expected) in [
        (None, "cargo or rustc is missing"),
        (Some("1.63.0"), "rustc 1.63.0 is too old"),
        (Some("1.9.0"), "rustc 1.9.0 is too old"),
        (Some("1.94.1-nightly"), "rustc 1.94.1-nightly is too old"),
    ] {
        let (output, built) = build(version, None);
        let said = said(&output);
        assert!(!output.status.success() && !built, "{version:?}: {said}");
        assert!(said.starts_with(expected), "{version:?}: {said}");
        let needed = format!("Rust {wanted} or later");
        assert!(
            said.contains(&needed) && said.contains("https://sh.rustup.rs"),
            "{said}"
        );
    }
    for version in [wanted, "1.95.0", "1.100.0", "2.0.0"] {
        let (output, built) = build(Some(version), None);
        assert!(built, "{version}: {}", said(&output));
    }
}

#[test]
fn missing_tools_for_another_target_are_reported_in_one_sentence() {
    let (output, built) = build(
        Some(env!("CARGO_PKG_RUST_VERSION")),
        Some("armv7-unknown-linux-gnueabihf"),
    );
    assert!(!output.status.success() && !built, "{output:?}");
    let said = said(&output);
    assert!(
        said.starts_with(
            "to build for armv7-unknown-linux-gnueabihf, this machine lacks the standard library: rustup target add \
             armv7-unknown-linux-gnueabihf; the linker arm-linux-gnueabihf-gcc, in Debian: apt install \
             gcc-arm-linux-gnueabihf\n"
        ),
        "{said}"
    );
}

#[test]
fn systemd_reloads_with_the_command_that_waits_for_the_answer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = fs::read_to_string(root.join("src/setup/chopar.service")).expect("a file");
    let reload = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecReload="));
    // tests/e2e checks with a relay that it fails if the configuration is broken.
    assert_eq!(reload, Some("/usr/bin/chopar reload"));
}

#[test]
fn the_unit_has_the_mode_that_init_gives_the_configuration_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("a file");
    let unit = read("src/setup/chopar.service");
    let mode = unit
        .lines()
        .find_map(|line| line.strip_prefix("ConfigurationDirectoryMode="));
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("config");
    let init = Command::new(env!("CARGO_BIN_EXE_chopar"))
        .arg("-C")
        .arg(&config)
        .args(["init", "example.com", "--hostname", "mail.example.com"])
        .output()
        .expect("chopar");
    assert!(
        init.status.success(),
        "{}",
        String::from_utf8_lossy(&init.stderr)
    );
    let made = fs::metadata(&config)
        .expect("a folder")
        .permissions()
        .mode();
    // systemd warns at each start if they differ.
    assert_eq!(Some(format!("{:o}", made & 0o7777).as_str()), mode);
}
