//! Adds this host to a published SPF record (RFC 7208), and keeps the other terms.

use crate::address::Domain;

/// A fault of a published record, or a remark on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// There is more than one record, which makes all of them void (section 4.5).
    Several(usize),
    /// `+all`: every host may send.
    AllPass,
    /// `?all`, or no `all` and no `redirect`: no host is excluded.
    Open,
    /// `ptr` is slow, and should not be used (section 5.5).
    Ptr,
    /// Terms after `all` are ignored (section 5.1).
    BehindAll(Vec<String>),
    /// More than ten terms that need a look-up (section 4.6.4).
    Lookups(usize),
    /// Over 450 bytes, which may not fit in a datagram (section 3.4).
    Long(usize),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Several(count) => write!(
                out,
                "there are {count} SPF records, and receivers then use none of them (RFC 7208 section 4.5): keep only the one above"
            ),
            Self::AllPass => out.write_str(
                "+all lets everyone send in the name of this domain; the record above has ~all instead",
            ),
            Self::Open => out.write_str(
                "it does not end with ~all or -all, so it stops nobody from sending in this name",
            ),
            Self::Ptr => out.write_str("ptr is slow and many receivers ignore it (RFC 7208 section 5.5)"),
            Self::BehindAll(terms) => write!(
                out,
                "receivers ignore terms after all: {}",
                terms.join(" ")
            ),
            Self::Lookups(count) => write!(
                out,
                "its terms ask the DNS {count} times; with more than 10 receivers consider it broken (RFC 7208 section 4.6.4): write the \
                 addresses of what you no longer use includes for as ip4: and ip6:, or remove them"
            ),
            Self::Long(bytes) => write!(
                out,
                "it has {bytes} bytes; over 450 an answer may not fit in a datagram (RFC 7208 section 3.4)"
            ),
        }
    }
}

/// Whether a text is an SPF record (section 4.5).
pub fn is_one(text: &str) -> bool {
    let mut words = text.splitn(2, ' ');
    words
        .next()
        .is_some_and(|version| version.eq_ignore_ascii_case("v=spf1"))
}

/// The record for a domain without one: this host, by its name, so that its addresses are in one place only.
pub fn new(host: &Domain) -> String {
    format!("v=spf1 a:{host} ~all")
}

/// The record for the EHLO name, which sends mail only from its own addresses.
pub fn of_helo() -> String {
    "v=spf1 a -all".to_owned()
}

/// One record that replaces the published ones and includes this host. If a term includes the host already, the text
/// stays unchanged, unless it has another fault.
pub fn merged(published: &[String], host: &Domain, passes: bool) -> String {
    let terms: Vec<&str> = published
        .iter()
        .flat_map(|text| text.split(' ').skip(1))
        .filter(|term| !term.is_empty())
        .collect();
    let ours = format!("a:{host}");
    let is_there = passes && published.len() == 1
        || terms.iter().any(|term| {
            let term = term.strip_prefix('+').unwrap_or(term);
            term.eq_ignore_ascii_case(&ours)
        });
    let mut kept: Vec<&str> = Vec::new();
    let mut redirect = None;
    let mut end: Option<&str> = None;

    for text in published {
        let mut behind_all = false;
        for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
            if let Some(all) = all(term) {
                // Of several records, the one with the weaker `all` keeps everything that each of them allowed.
                end = Some(end.map_or(all, |end| if rank(all) < rank(end) { all } else { end }));
                behind_all = true;
            } else if term.to_ascii_lowercase().starts_with("redirect=") {
                redirect = redirect.or(Some(term));
            } else if (!behind_all || is_modifier(term)) && !kept.contains(&term) {
                kept.push(term);
            }
        }
    }
    let mut out = "v=spf1".to_owned();
    if !is_there {
        // At the front: it is evaluated first, and no failing term comes before it.
        out.push(' ');
        out.push_str(&ours);
    }
    for term in kept {
        out.push(' ');
        out.push_str(term);
    }
    match (redirect, end) {
        // `all` would make the redirect void (section 6.1).
        (Some(redirect), None) => {
            out.push(' ');
            out.push_str(redirect);
        }
        (_, Some("-all")) => out.push_str(" -all"),
        (_, _) => out.push_str(" ~all"),
    }
    out
}

/// The faults of a domain's records; `lookups` is the cost of their terms, if known.
pub fn flaws(published: &[String], lookups: Option<usize>) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if published.len() > 1 {
        flaws.push(Flaw::Several(published.len()));
    }
    for text in published {
        let terms: Vec<&str> = text
            .split(' ')
            .skip(1)
            .filter(|term| !term.is_empty())
            .collect();
        let at = terms.iter().position(|term| all(term).is_some());
        let has_redirect = terms
            .iter()
            .any(|term| term.to_ascii_lowercase().starts_with("redirect="));
        match at.and_then(|at| terms.get(at)).and_then(|term| all(term)) {
            Some("+all") => flaws.push(Flaw::AllPass),
            Some("?all") => flaws.push(Flaw::Open),
            Some(_) => {}
            None if has_redirect => {}
            None => flaws.push(Flaw::Open),
        }
        if terms.iter().any(|term| mechanism(term) == "ptr") {
            flaws.push(Flaw::Ptr);
        }
        let behind: Vec<String> = at
            .and_then(|at| terms.get(at.saturating_add(1)..))
            .unwrap_or_default()
            .iter()
            .filter(|term| !is_modifier(term))
            .map(|term| (*term).to_owned())
            .collect();
        if !behind.is_empty() {
            flaws.push(Flaw::BehindAll(behind));
        }
        if text.len() > LONG_BYTES {
            flaws.push(Flaw::Long(text.len()));
        }
    }
    if let Some(count) = lookups.filter(|count| *count > crate::limits::SPF_TERMS_MAX) {
        flaws.push(Flaw::Lookups(count));
    }
    flaws
}

/// The look-ups that a record itself costs, and the records it refers to: the caller follows each `include` and
/// `redirect`.
pub fn lookups(text: &str) -> (usize, Vec<String>) {
    let mut own: usize = 0;
    let mut leads = Vec::new();
    for term in text.split(' ').skip(1).filter(|term| !term.is_empty()) {
        let lower = term.to_ascii_lowercase();
        if let Some(target) = lower.strip_prefix("redirect=") {
            own = own.saturating_add(1);
            leads.push(target.to_owned());
            continue;
        }
        match mechanism(term).as_str() {
            "include" => {
                own = own.saturating_add(1);
                if let Some((_, target)) = lower.split_once(':') {
                    leads.push(target.to_owned());
                }
            }
            "a" | "mx" | "ptr" | "exists" => own = own.saturating_add(1),
            _ => {}
        }
    }
    // A target with macros differs for each message.
    leads.retain(|target| !target.contains('%'));
    (own, leads)
}

/// `all` with its qualifier written out; nothing for another term.
fn all(term: &str) -> Option<&'static str> {
    match term.to_ascii_lowercase().as_str() {
        "all" | "+all" => Some("+all"),
        "?all" => Some("?all"),
        "~all" => Some("~all"),
        "-all" => Some("-all"),
        _ => None,
    }
}

/// How much an `all` lets through: the less, the higher.
fn rank(all: &str) -> u8 {
    match all {
        "-all" => 3,
        "~all" => 2,
        "?all" => 1,
        _ => 0,
    }
}

/// The name of a term's mechanism, in lower case.
fn mechanism(term: &str) -> String {
    let term = term.strip_prefix(['+', '-', '~', '?']).unwrap_or(term);
    let end = term.find([':', '/', '=']).unwrap_or(term.len());
    term.get(..end).unwrap_or(term).to_ascii_lowercase()
}

fn is_modifier(term: &str) -> bool {
    let equals = term.find('=');
    let colon = term.find([':', '/']);
    equals.is_some_and(|equals| colon.is_none_or(|colon| equals < colon))
}

const LONG_BYTES: usize = 450;

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Domain {
        Domain::parse("mail.example.com").expect("a domain")
    }

    fn merge(published: &[&str], passes: bool) -> String {
        let published: Vec<String> = published.iter().map(|text| (*text).to_owned()).collect();
        merged(&published, &host(), passes)
    }

    #[test]
    fn what_is_published_is_kept_and_this_host_put_in_front() {
        for (published, expected) in [
            (
                "v=spf1 include:_spf.google.com ~all",
                "v=spf1 a:mail.example.com include:_spf.google.com ~all",
            ),
            (
                "v=spf1 ip4:192.0.2.0/24 -all",
                "v=spf1 a:mail.example.com ip4:192.0.2.0/24 -all",
            ),
            ("v=spf1 -all", "v=spf1 a:mail.example.com -all"),
            ("v=spf1 mx +all", "v=spf1 a:mail.example.com mx ~all"),
            ("v=spf1 mx", "v=spf1 a:mail.example.com mx ~all"),
            (
                "V=SPF1 a:MAIL.example.com ?all",
                "v=spf1 a:MAIL.example.com ~all",
            ),
            (
                "v=spf1 redirect=_spf.example.net",
                "v=spf1 a:mail.example.com redirect=_spf.example.net",
            ),
            (
                "v=spf1 -all include:lost.example exp=why.example.com",
                "v=spf1 a:mail.example.com exp=why.example.com -all",
            ),
        ] {
            assert_eq!(merge(&[published], false), expected, "{published}");
        }
    }

    #[test]
    fn a_record_by_which_this_host_passes_is_left_as_it_is() {
        assert_eq!(merge(&["v=spf1 mx -all"], true), "v=spf1 mx -all");
    }

    #[test]
    fn two_records_become_one_that_lets_through_what_each_did() {
        assert_eq!(
            merge(
                &["v=spf1 mx -all", "v=spf1 include:a.example mx ~all"],
                false
            ),
            "v=spf1 a:mail.example.com mx include:a.example ~all"
        );
    }

    #[test]
    fn flaws_are_named() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            flaws(&texts, None)
        };
        assert_eq!(of(&["v=spf1 mx -all"]), []);
        assert_eq!(of(&["v=spf1 redirect=a.example"]), []);
        assert_eq!(of(&["v=spf1 mx all"]), [Flaw::AllPass]);
        assert_eq!(of(&["v=spf1 mx"]), [Flaw::Open]);
        assert_eq!(
            of(&["v=spf1 ptr:example.com ?all"]),
            [Flaw::Open, Flaw::Ptr]
        );
        assert_eq!(
            of(&["v=spf1 -all", "v=spf1 ~all mx exp=a.example"]),
            [Flaw::Several(2), Flaw::BehindAll(vec!["mx".to_owned()])]
        );
        assert_eq!(
            flaws(&["v=spf1 -all".to_owned()], Some(11)),
            [Flaw::Lookups(11)]
        );
    }

    #[test]
    fn terms_that_look_something_up_are_counted() {
        let text = "v=spf1 a mx/24 ip4:192.0.2.1 include:A.example ?exists:%{i}.b.example ptr redirect=c.example exp=d.example";
        assert_eq!(
            lookups(text),
            (6, vec!["a.example".to_owned(), "c.example".to_owned()])
        );
    }
}
