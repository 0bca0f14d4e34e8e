//! Lists, resolvers, the machine, and the rules of large receivers.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    let answers = |last: [u8; 4]| reputation::Word::Answers(vec![last.into()]);
    let why = || "no answer".to_owned();
    vec![
        (
            "dnsbl",
            State::Bad,
            "listed (127.0.0.4)",
            "check.spamhaus.org",
            in_list(|asked| asked.word = answers([127, 0, 0, 4])),
        ),
        (
            "dnsbl",
            State::Warning,
            "large public resolvers",
            "apt install unbound",
            in_list(|asked| asked.word = answers([127, 255, 255, 254])),
        ),
        (
            "dnsbl",
            State::Warning,
            "asked too much",
            "apt install unbound",
            in_list(|asked| asked.word = answers([127, 255, 255, 255])),
        ),
        (
            "dnsbl",
            State::Warning,
            "makes up answers",
            "apt install unbound",
            in_list(|asked| asked.word = answers([192, 0, 2, 1])),
        ),
        (
            "dnsbl",
            State::Warning,
            "test entry",
            "apt install unbound",
            in_list(|asked| asked.of_test = reputation::Word::Answers(Vec::new())),
        ),
        (
            "dnsbl",
            State::Unknown,
            "no answer",
            "again",
            in_list(|asked| asked.word = reputation::Word::Nothing(why())),
        ),
        (
            "resolver",
            State::Bad,
            "no answer",
            "resolv.conf",
            in_resolver(|asked| asked.answers = Err(why())),
        ),
        (
            "resolver",
            State::Bad,
            "",
            "ip route show default",
            in_resolver(|asked| {
                asked.answers = Err(why());
                asked.has_route = false;
            }),
        ),
        (
            "resolver",
            State::Bad,
            "none is named",
            "resolv.conf",
            resolver::judge(&[]),
        ),
        (
            "resolver-dnssec",
            State::Warning,
            "does not say",
            "apt install unbound",
            in_resolver(|asked| asked.validates = Ok(false)),
        ),
        (
            "resolver-dnssec",
            State::Unknown,
            "no answer",
            "apt install unbound",
            in_resolver(|asked| asked.validates = Err(why())),
        ),
        (
            "resolver-place",
            State::Warning,
            "large public",
            "apt install unbound",
            in_resolver(|asked| {
                asked.server = "8.8.8.8:53".parse().expect("an address");
            }),
        ),
        (
            "clock",
            State::Warning,
            "-90.0 s",
            "timedatectl",
            in_machine(|facts| facts.clock = machine::Clock::Server(-90.0)),
        ),
        (
            "clock",
            State::Unknown,
            "no answer",
            "date -u",
            in_machine(|facts| facts.clock = machine::Clock::Nothing(why())),
        ),
        (
            "clock",
            State::Unknown,
            "pool.example could not be looked up",
            "once the resolver answers",
            in_machine(|facts| facts.clock = machine::Clock::NoName("pool.example".to_owned())),
        ),
        (
            "disk-space",
            State::Bad,
            "9 MiB of 10 GiB free",
            "df -h",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").free = 9 << 20),
        ),
        (
            "disk-space",
            State::Warning,
            "500 MiB",
            "df -h",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").free = 500 << 20),
        ),
        (
            "disk-space",
            State::Unknown,
            "no answer",
            "spool",
            in_machine(|facts| facts.disk = Err(why())),
        ),
        (
            "disk-inodes",
            State::Bad,
            "9 of 100000",
            "df -i",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").inodes_free = 9),
        ),
        (
            "disk-inodes",
            State::Warning,
            "4000 of",
            "df -i",
            in_machine(|facts| facts.disk.as_mut().expect("a disk").inodes_free = 4_000),
        ),
        (
            "spool",
            State::Bad,
            "nothing can be written: no answer",
            "ls -ld",
            in_machine(|facts| facts.sync = Err(why())),
        ),
        (
            "spool",
            State::Bad,
            "belongs to root",
            "chown",
            in_machine(|facts| facts.foreign_owner = Some("root".to_owned())),
        ),
        (
            "disk-sync",
            State::Warning,
            "300 ms",
            "faster disk",
            in_machine(|facts| facts.sync = Ok(Duration::from_millis(300))),
        ),
        (
            "memory",
            State::Bad,
            "is 64 MiB",
            "max_memory = \"8MiB\"",
            in_machine(|facts| facts.memory = Some((64 << 20, "the limit"))),
        ),
        (
            "memory",
            State::Warning,
            "128 MiB",
            "max_memory = \"32MiB\"",
            in_machine(|facts| facts.memory = Some((128 << 20, "the limit"))),
        ),
        (
            "memory",
            State::Unknown,
            "could not be read",
            "max_memory",
            in_machine(|facts| facts.memory = None),
        ),
        (
            "rules-gmail",
            State::Warning,
            "not met: see \"DMARC record of the domain\"",
            "publish: _dmarc",
            rules::judge(&missing(zone::Purpose::Dmarc)),
        ),
        (
            "rules-yahoo",
            State::Unknown,
            "cannot be told: see \"SPF for mail of the domain\"",
            "",
            rules::judge(&[]),
        ),
        (
            "rules-gmail",
            State::Unknown,
            "cannot be told: see \"address records of the host\" and \"reverse name of the address\"",
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
            State::Unknown,
            "cannot be told: see \"reverse name of the address\"",
            "",
            rules::judge(&in_dns(|facts| {
                facts
                    .rows
                    .retain(|row| row.purpose != zone::Purpose::Pointer);
            })),
        ),
        (
            "rules-outlook",
            State::Warning,
            "not met: see \"MX record of the domain\"",
            "publish: example.com. MX",
            rules::judge(&missing(zone::Purpose::Mx)),
        ),
    ]
}
