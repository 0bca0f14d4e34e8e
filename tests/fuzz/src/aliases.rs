use chopar::address::Mailbox;
use chopar::config::{Config, Folder, SystemDefaults};
use chopar::destination::Destination;
use chopar::limits::ALIAS_TARGETS_MAX;
use chopar::policy::relay::{RecipientRefusal, expand};

/// The aliases of two domains that refer to each other, with a line `--` between the two. Resolving any address ends,
/// with the same result each time: a bounded number of final addresses, or a refusal.
pub fn aliases(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once("\n--\n").unwrap_or((&text, ""));
    let mut folder = Folder::default();
    folder.insert_file("domains/example.com/aliases", first.as_bytes().to_vec());
    folder.insert_file("domains/example.org/aliases", second.as_bytes().to_vec());
    let defaults = SystemDefaults {
        hostname: "mail.example.net".to_owned(),
        resolv_conf: String::new(),
    };
    let Ok(config) = Config::parse(&folder, &defaults) else {
        return;
    };
    for (domain, served) in &config.domains {
        let names = served.aliases.keys().map(String::as_str);
        for name in names.chain(["nobody", "postmaster", "a+b"]) {
            if let Ok(address) = Mailbox::new(name, domain) {
                holds(&config, &address);
            }
        }
    }
}

fn holds(config: &Config, address: &Mailbox) {
    let found = expand(config, address);
    assert_eq!(found, expand(config, address));
    match found {
        Ok(targets) => {
            assert!((1..=ALIAS_TARGETS_MAX).contains(&targets.len()));
            for (at, wanted) in targets.iter().enumerate() {
                let mailbox = &wanted.mailbox;
                assert!(Mailbox::parse(&mailbox.to_string()).as_ref() == Ok(mailbox));
                // A destination reads back from the form that the queue stores.
                if let Some(destination) = &wanted.destination {
                    let read = Destination::parse(&destination.to_string());
                    assert!(read.as_ref() == Some(destination));
                }
                let mut others = targets.iter().skip(at + 1);
                assert!(!others.any(|other| {
                    other.mailbox.is_equal(mailbox) && other.destination == wanted.destination
                }));
            }
        }
        Err(refusal) => assert!(matches!(
            refusal,
            RecipientRefusal::Unknown | RecipientRefusal::Loop | RecipientRefusal::TooWide
        )),
    }
}
