//! The two hooks for DNS-01 that chopar ships, each run by a command and by the daemon, with a name server (knot) that
//! accepts only updates signed with a key (TSIG, RFC 8945).
//!
//! Debian has no acme.sh. A script replaces it and does what acme.sh's guide for DNS scripts promises: it provides the
//! functions, and runs them without `set -u` and with a writable home. CHOPAR_ACME_SH= names the folder of a real one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::pebble::{LONG, Pebble, cert, shown};
use crate::process::{program, run, wait_for};
use crate::relay::{CHOPAR, Relay};
use crate::zones::Zones;

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0IGZvciB1cGRhdGVzLi4=";

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Writes the hook that chopar prints, and its settings file.
fn write_hook(config: &Path, name: &str, file: &str, settings: &str) {
    let hook = run(Command::new(CHOPAR).args(["cert", "hook", name]), b"").ok();
    write(&config.join("hooks/dns-01"), &hook, 0o755);
    write(&config.join("secrets").join(file), settings, 0o640);
}

/// Writes a chopar.toml with this table, which uses only these zones for DNS.
fn configure(relay: &Relay, zones: &Zones, table: &str) {
    relay.write_config();
    let path = relay.config().join("chopar.toml");
    let text = fs::read_to_string(&path).expect("a file");
    let dns = format!("servers = [\"127.0.0.1:{}\"]", relay.dns.port);
    let text = text.replace(&dns, &format!("servers = [\"127.0.0.1:{}\"]", zones.port));
    fs::write(path, format!("{text}{table}")).expect("a file");
}

/// Obtains a wildcard by the command, then another name by the daemon, whose helper runs the hook.
fn prove(zones: &Zones, relay: &mut Relay, pebble: &Pebble) {
    let more = format!("challenge = \"dns-01\"\nzone_port = {}\n", zones.port);
    configure(relay, zones, &pebble.table(&more));
    let said = cert(relay, &["obtain", "--agree", "*.zone.test", "zone.test"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", pebble.log());
    assert!(shown(relay, "any.zone.test").contains("Pebble"));
    let folder = relay.folder().join("state/acme/certificates/_.zone.test");
    assert!(folder.join("fullchain.pem").exists());
    assert_eq!(txt(zones, "_acme-challenge.zone.test"), "");

    let daemon = format!("{more}enabled = true\nnames = [\"own.zone.test\"]\n");
    configure(relay, zones, &pebble.table(&daemon));
    relay.stop();
    relay.run();
    wait_for("the daemon to obtain one", LONG, || {
        let log = relay.log();
        let line = "event=certificate-renewal name=own.zone.test until=";
        log.contains(line).then_some(())
    });
    wait_for("it to be served", LONG, || {
        let shown = shown(relay, "own.zone.test");
        shown.contains("Pebble").then_some(())
    });
    assert_eq!(txt(zones, "_acme-challenge.own.zone.test"), "");
}

/// The TXT records of a name on the name server.
fn txt(zones: &Zones, name: &str) -> String {
    let mut command = Command::new(program("dig"));
    command.args(["@127.0.0.1", "-p", &zones.port.to_string()]);
    run(command.args(["+short", "TXT", name]), b"").ok()
}

#[test]
fn the_shipped_nsupdate_hook_obtains_a_wildcard_with_a_key() {
    let zones = Zones::start_with_key(&[("zone.test", "")], "chopar", SECRET);
    let mut relay = Relay::start();
    let pebble = Pebble::start(zones.port, &[]);
    let settings = |key: &str| format!("SERVER=127.0.0.1\nPORT={}\nKEY={key}\n", zones.port);
    // Without the key the server refuses the update, and the error says so.
    write_hook(&relay.config(), "nsupdate", "nsupdate.conf", &settings(""));
    let more = format!("challenge = \"dns-01\"\nzone_port = {}\n", zones.port);
    configure(&relay, &zones, &pebble.table(&more));
    let refused = cert(&relay, &["obtain", "--agree", "zone.test"]);
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("hooks/dns-01 add _acme-challenge.zone.test: it ended with exit code")
            && refused.stderr.contains("update failed:"),
        "{refused:?}"
    );
    let key = format!("hmac-sha256:chopar:{SECRET}");
    write_hook(
        &relay.config(),
        "nsupdate",
        "nsupdate.conf",
        &settings(&key),
    );
    prove(&zones, &mut relay, &pebble);
}

#[test]
fn the_shipped_hook_for_acme_sh_scripts_obtains_a_wildcard() {
    let zones = Zones::start_with_key(&[("zone.test", "")], "chopar", SECRET);
    let mut relay = Relay::start();
    let pebble = Pebble::start(zones.port, &[]);
    let place = std::env::var_os("CHOPAR_ACME_SH").map_or_else(
        || {
            let place = relay.folder().join("acme.sh");
            write(&place.join("acme.sh"), ACME_SH, 0o755);
            write(&place.join("dnsapi/dns_nsupdate.sh"), PROVIDER, 0o755);
            place
        },
        PathBuf::from,
    );
    let key = relay.folder().join("update.key");
    let text = format!("key \"chopar\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n");
    write(&key, &text, 0o600);
    let settings = format!(
        "ACME_SH={}\nPROVIDER=dns_nsupdate\nexport NSUPDATE_SERVER=127.0.0.1\nexport NSUPDATE_SERVER_PORT={}\n\
         export NSUPDATE_KEY={}\n",
        place.display(),
        zones.port,
        key.display()
    );
    write_hook(&relay.config(), "acme-sh", "acme-sh.conf", &settings);
    prove(&zones, &mut relay, &pebble);
}

/// The environment that a provider's script may rely on: it reads unset variables, and saves settings to the account's
/// file.
const ACME_SH: &str = r#"#!/usr/bin/env sh
_info() { echo "$1"; }
_err() { echo "$1" >&2; }
_debug() { :; }
_saveaccountconf_mutable() {
  echo "SAVED_$1='$2'" >> "$ACCOUNT_CONF_PATH"
  eval "SAVED_$1=\$2"
  test -z "$3"
}
_readaccountconf_mutable() { eval "echo \"\$SAVED_$1\""; }
main() {
  test -n "$LE_WORKING_DIR" && test -w "$HOME" || return 1
  test "$1" = --version && echo v0
}
main "$@"
"#;

/// A provider's script in its usual form: `dns_NAME_add` and `dns_NAME_rm`, which return 0 or 1.
const PROVIDER: &str = r#"#!/usr/bin/env sh
dns_nsupdate_add() {
  NSUPDATE_SERVER="${NSUPDATE_SERVER:-$(_readaccountconf_mutable NSUPDATE_SERVER)}"
  NSUPDATE_ZONE="${NSUPDATE_ZONE:-$(_readaccountconf_mutable NSUPDATE_ZONE)}"
  _saveaccountconf_mutable NSUPDATE_SERVER "$NSUPDATE_SERVER"
  _info "adding $1"
  _change "update add $1. 60 in txt \"$2\""
}
dns_nsupdate_rm() {
  _info "removing $1"
  _change "update delete $1. txt"
}
_change() {
  if ! printf 'server %s %s\n%s\nsend\n' "$NSUPDATE_SERVER" "$NSUPDATE_SERVER_PORT" "$1" | nsupdate -k "$NSUPDATE_KEY"; then
    _err "error updating domain"
    return 1
  fi
  return 0
}
"#;
