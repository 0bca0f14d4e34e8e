//! Block lists, resolvers, the machine, and the rules of large receivers.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    let answers = |last: [u8; 4]| reputation::ListAnswer::Answers(vec![last.into()]);
    let why = || "no answer".to_owned();
    vec![
        (
            "dnsbl",
            CheckState::Bad,
            "listed (127.0.0.4)",
            "check.spamhaus.org",
            in_list(|asked| asked.word = answers([127, 0, 0, 4])),
        ),
        (
            "dnsbl",
            CheckState::Warning,
            "large public resolvers",
            "apt install unbound",
            in_list(|asked| asked.word = answers([127, 255, 255, 254])),
        ),
        (
            "dnsbl",
            CheckState::Warning,
            "asked too much",
            "apt install unbound",
            in_list(|asked| asked.word = answers([127, 255, 255, 255])),
        ),
        (
            "dnsbl",
            CheckState::Warning,
            "forges answers",
            "apt install unbound",
            in_list(|asked| asked.word = answers([192, 0, 2, 1])),
        ),
        (
            "dnsbl",
            CheckState::Warning,
            "test entry",
            "apt install unbound",
            in_list(|asked| asked.of_test = reputation::ListAnswer::Answers(Vec::new())),
        ),
        (
            "dnsbl",
            CheckState::Unknown,
            "no answer",
            "again",
            in_list(|asked| asked.word = reputation::ListAnswer::Nothing(why())),
        ),
        (
            "resolver",
            CheckState::Bad,
            "no answer",
            "resolv.conf",
            in_resolver(|asked| asked.answers = Err(why())),
        ),
        (
            "resolver",
            CheckState::Bad,
            "",
            "ip route show default",
            in_resolver(|asked| {
                asked.answers = Err(why());
                asked.has_route = false;
            }),
        ),
        (
            "resolver",
            CheckState::Bad,
            "none is named",
            "resolv.conf",
            resolver::judge(&[]),
        ),
        (
            "resolver-dnssec",
            CheckState::Warning,
            "does not say",
            "apt install unbound",
            in_resolver(|asked| asked.validates = Ok(false)),
        ),
        (
            "resolver-dnssec",
            CheckState::Unknown,
            "no answer",
            "apt install unbound",
            in_resolver(|asked| asked.validates = Err(why())),
        ),
        (
            "resolver-place",
            CheckState::Warning,
            "large public",
            "apt install unbound",
            in_resolver(|asked| {
                asked.server = "8.8.8.8:53".parse().expect("an address");
            }),
        ),
        (
            "clock",
            CheckState::Warning,
            "-90.0 s",
            "timedatectl",
            in_machine(|facts| facts.clock = machine::ClockState::Server(-90.0)),
        ),
        (
            "clock",
            CheckState::Unknown,
            "no answer",
            "date -u",
            in_machine(|facts| facts.clock = machine::ClockState::Nothing(why())),
        ),
        (
            "clock",
            CheckState::Unknown,
            "pool.example could not be looked up",
            "once the resolver answers",
            in_machine(|facts| {
                facts.clock = machine::ClockState::NoName("pool.example".to_owned())
            }),
        ),
        (
            "disk-space",
            CheckState::Bad,
            "9 MiB of 10 GiB free",
            "df -h",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").free = 9 << 20),
        ),
        (
            "disk-space",
            CheckState::Warning,
            "500 MiB",
            "df -h",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").free = 500 << 20),
        ),
        (
            "disk-space",
            CheckState::Unknown,
            "no answer",
            "spool",
            in_machine(|facts| facts.disk = Err(why())),
        ),
        (
            "disk-inodes",
            CheckState::Bad,
            "9 of 100000",
            "df -i",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").inodes_free = 9),
        ),
        (
            "disk-inodes",
            CheckState::Warning,
            "4000 of",
            "df -i",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").inodes_free = 4_000),
        ),
        (
            "spool",
            CheckState::Bad,
            "nothing can be written: no answer",
            "ls -ld",
            in_machine(|facts| facts.sync = Err(why())),
        ),
        (
            "spool",
            CheckState::Bad,
            "belongs to root",
            "chown",
            in_machine(|facts| facts.foreign_owner = Some("root".to_owned())),
        ),
        (
            "disk-sync",
            CheckState::Warning,
            "300 ms",
            "faster disk",
            in_machine(|facts| facts.sync = Ok(Duration::from_millis(300))),
        ),
        (
            "memory",
            CheckState::Bad,
            "is 64 MiB",
            "max_memory = \"8MiB\"",
            in_machine(|facts| facts.memory = Some((64 << 20, "the limit"))),
        ),
        (
            "memory",
            CheckState::Warning,
            "128 MiB",
            "max_memory = \"32MiB\"",
            in_machine(|facts| facts.memory = Some((128 << 20, "the limit"))),
        ),
        (
            "memory",
            CheckState::Unknown,
            "could not be read",
            "max_memory",
            in_machine(|facts| facts.memory = None),
        ),
        (
            "rules-gmail",
            CheckState::Warning,
            "not met: see \"DMARC record of the domain\"",
            "publish: _dmarc",
            rules::judge(&missing(zone::Purpose::Dmarc)),
        ),
        (
            "rules-yahoo",
            CheckState::Unknown,
            "cannot be determined: see \"SPF for mail of the domain\"",
            "",
            rules::judge(&[]),
        ),
        (
            "rules-gmail",
            CheckState::Unknown,
            "cannot be determined: see \"address records of the host\" and \"reverse name of the address\"",
            "--address",
            rules::judge(&in_dns(|facts| {
                facts.zone.addresses.clear();
                facts.rows.retain(|row| {
                    !matches!(row.purpose, zone::Purpose::Address | zone::Purpose::Pointer)
                });
            })),
        ),
        (
            "rules-yahoo",
            CheckState::Unknown,
            "cannot be determined: see \"reverse name of the address\"",
            "",
            rules::judge(&in_dns(|facts| {
                facts
                    .rows
                    .retain(|row| row.purpose != zone::Purpose::Pointer);
            })),
        ),
        (
            "rules-outlook",
            CheckState::Warning,
            "not met: see \"MX record of the domain\"",
            "publish: example.com. MX",
            rules::judge(&missing(zone::Purpose::Mx)),
        ),
    ]
}
