//! `chopar spf` with a real name server.

use std::process::Command;

use crate::process::run;
use crate::relay::CHOPAR;
use crate::world::Dns;

/// Policies, including one longer than a character-string, a chain of includes, and macros.
const ZONE: &str = r#"
plain.test. TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 mx -all"
plain.test. MX 10 mx.four.test.
outer.test. TXT "v=spf1 include:plain.test ~all"
macro.test. TXT "v=spf1 exists:%{ir}.%{l}.allowed.test -all exp=why.macro.test"
why.macro.test. TXT "%{i} is not one of %{d}"
5.2.0.192.ann.allowed.test. A 127.0.0.2
twice.test. TXT "v=spf1 -all"
twice.test. TXT "v=spf1 +all"
long.test. TXT "v=spf1 ip4:198.51.100.1 ip4:198.51.100.2 ip4:198.51.100.3 ip4:198.51.100.4 ip4:198.51.100.5 ip4:198.51.100.6 ip4:198.51.100.7 ip4:198.51.100.8 ip4:198.51.100.9 ip4:198.51.100.10" " -all"
"#;

#[test]
fn a_sender_is_checked_with_dns_lookups() {
    let dns = Dns::start(ZONE);
    let server = format!("127.0.0.1:{}", dns.port);
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        (
            "192.0.2.7",
            "a@plain.test",
            0,
            "pass domain=plain.test mechanism=ip4:192.0.2.0/24\n",
        ),
        (
            "2001:db8::1",
            "a@plain.test",
            0,
            "pass domain=plain.test mechanism=ip6:2001:db8::/32\n",
        ),
        (
            "127.0.0.1",
            "a@plain.test",
            0,
            "pass domain=plain.test mechanism=mx\n",
        ),
        (
            "203.0.113.1",
            "a@plain.test",
            65,
            "fail domain=plain.test mechanism=-all\n",
        ),
        (
            "192.0.2.7",
            "a@outer.test",
            0,
            "pass domain=outer.test mechanism=include:plain.test\n",
        ),
        (
            "203.0.113.1",
            "a@outer.test",
            65,
            "softfail domain=outer.test mechanism=~all\n",
        ),
        (
            "192.0.2.5",
            "ann@macro.test",
            0,
            "pass domain=macro.test mechanism=exists:%{ir}.%{l}.allowed.test\n",
        ),
        (
            "192.0.2.6",
            "ann@macro.test",
            65,
            "fail domain=macro.test mechanism=-all\nexplanation: 192.0.2.6 is not one of macro.test\n",
        ),
        (
            "192.0.2.6",
            "a@twice.test",
            65,
            "permerror domain=twice.test (twice.test has more than one record)\n",
        ),
        (
            "198.51.100.10",
            "a@long.test",
            0,
            "pass domain=long.test mechanism=ip4:198.51.100.10\n",
        ),
        (
            "192.0.2.6",
            "a@missing.test",
            65,
            "none domain=missing.test\n",
        ),
        (
            "192.0.2.6",
            "",
            0,
            "pass domain=plain.test mechanism=ip4:192.0.2.0/24\n",
        ),
    ];
    for (address, from, code, expected) in cases {
        let mut command = Command::new(CHOPAR);
        command
            .arg("-C")
            .arg(folder.path())
            .args(["spf", "--dns", &server, "--ip", address]);
        command.args(["--helo", "plain.test", "--from", from]);
        let output = run(&mut command, b"");
        assert_eq!(
            (output.code, output.stdout.as_str()),
            (code, expected),
            "{address} {from}"
        );
    }
}
