//! The meaning of a large receiver's reply, or of a failure, and what to do.

/// The marks of a reply, and its meaning.
struct Explanation {
    /// Words in it, in lower case.
    words: &'static [&'static str],
    /// Subject and detail of the enhanced status code, for any class.
    detail: Option<&'static str>,
    text: &'static str,
}

/// In the order in which they are tried.
const EXPLANATIONS: [Explanation; 13] = [
    Explanation {
        words: &["greylist", "graylist"],
        detail: None,
        text: "the receiver does not know this host yet and wants a second attempt: chopar retries",
    },
    Explanation {
        words: &[
            "ptr record",
            "reverse dns",
            "5.7.25",
            "rdns",
            "reverse hostname",
            "no reverse",
        ],
        detail: None,
        text: "the address of this host has no name that leads back to it (PTR): set it in the panel of the server's provider; \
             `chopar doctor` shows it",
    },
    Explanation {
        words: &[
            "spamhaus",
            "blocklist",
            "blacklist",
            "block list",
            "black list",
            "blocked using",
            "listed",
            "barracuda",
            "s3150",
            "s3140",
            "dnsbl",
            "rbl",
        ],
        detail: None,
        text: "the address of this host is on a block list, often because of a former owner: `chopar doctor` \
             says which list, and the page of the list says how to be removed",
    },
    Explanation {
        words: &["dmarc", "5.7.40"],
        detail: None,
        text: "the policy of the domain in From (DMARC) is not met or missing: `chopar dns` shows what to publish",
    },
    Explanation {
        words: &[
            "5.7.26",
            "5.7.27",
            "5.7.30",
            "unauthenticated",
            "spf",
            "dkim",
        ],
        detail: None,
        text: "neither SPF nor DKIM passes for the domain in From: `chopar dns` shows what is missing, `chopar doctor` tries it",
    },
    Explanation {
        words: &[
            "user unknown",
            "no such user",
            "does not exist",
            "recipient rejected",
            "unknown user",
            "mailbox unavailable",
        ],
        detail: Some("1.1"),
        text: "the address does not exist there: check the spelling",
    },
    Explanation {
        words: &["mailbox full", "over quota", "quota exceeded"],
        detail: Some("2.2"),
        text: "the mailbox is full",
    },
    Explanation {
        words: &["too large", "size limit", "message size"],
        detail: Some("3.4"),
        text: "the message is larger than the receiver accepts",
    },
    Explanation {
        words: &[
            "rate limit",
            "unusual rate",
            "too many",
            "5.7.28",
            "4.7.28",
            "throttl",
            "temporarily deferred",
            "reputation",
        ],
        detail: None,
        text: "the receiver limits mail from an address that it does not know yet: send less for some days, to people who \
             want it; chopar retries deferred mail",
    },
    Explanation {
        words: &["timed out", "no answer", "timeout"],
        detail: None,
        text: "no connection was made: most providers block outgoing port 25 until they are asked; `chopar doctor` \
             tests this, and chopar-setup(7) says what to write to them",
    },
    Explanation {
        words: &["network is unreachable", "no route"],
        detail: None,
        text: "this host has no route to that address; with ip = \"ipv4\" in [delivery] of chopar.toml IPv6 is not tried",
    },
    Explanation {
        words: &["connection refused"],
        detail: None,
        text: "the receiver's host accepts no mail on that port: try again later, or ask its owner",
    },
    Explanation {
        words: &["spam", "content", "policy"],
        detail: None,
        text: "the receiver considers it spam or against its rules: `chopar doctor` checks for possible causes; a new address needs \
             some days to become known",
    },
];

/// The meaning of a reply or a failure; `None` if its text says enough.
pub fn explain(status: &str, reply: &str) -> Option<&'static str> {
    let lower = reply.to_ascii_lowercase();
    let detail = status.split_once('.').map(|(_class, rest)| rest);
    // The text goes before the code of another row, because many hosts use 5.7.1 for everything.
    EXPLANATIONS
        .iter()
        .find(|row| {
            let says = row.words.iter().any(|word| lower.contains(word));
            says || row.detail.is_some() && row.detail == detail
        })
        .map(|row| row.text)
}
