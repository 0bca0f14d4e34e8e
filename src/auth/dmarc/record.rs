//! Parser for policy records (RFC 9989 section 4.7; RFC 7489 section 6.3, whose tags are a subset or ignored).
//!
//! Tags that cannot be parsed are ignored; the others are used. The exception is a tag that occurs twice, with any
//! values: it makes a tag list invalid (RFC 6376 section 3.2).

/// The domain owner's policy for a message that fails.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum DmarcPolicy {
    None,
    /// Treat it as suspicious.
    Quarantine,
    /// Refuse it.
    Reject,
}

/// The alignment mode.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Alignment {
    /// Relaxed: the same organization.
    #[default]
    Relaxed,
    /// Strict: the same domain.
    Strict,
}

/// Whether the domain registers names for others (`psd=`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum PublicSuffix {
    Yes,
    No,
    #[default]
    Unknown,
}

/// A policy record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Record {
    /// `p=`.
    pub(super) policy: DmarcPolicy,
    /// `sp=`: for subdomains.
    pub(super) subdomains: Option<DmarcPolicy>,
    /// `np=`: for subdomains that do not exist.
    pub(super) nonexistent: Option<DmarcPolicy>,
    /// `adkim=`.
    pub(super) dkim: Alignment,
    /// `aspf=`.
    pub(super) spf: Alignment,
    /// `psd=`.
    pub(super) suffix: PublicSuffix,
    /// `t=y`, or the older `pct=0`: the next weaker policy applies.
    pub(super) testing: bool,
    /// Whether the policy can be applied. If not, DMARC gives no result for the message, whatever records exist further
    /// up (section 4.10.1).
    pub(super) applies: bool,
}

impl DmarcPolicy {
    /// The word of the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Quarantine, Self::Reject]
            .into_iter()
            .find(|policy| policy.as_str().eq_ignore_ascii_case(word))
    }

    /// The next weaker policy (`t=y`).
    pub(super) const fn milder(self) -> Self {
        match self {
            Self::Reject => Self::Quarantine,
            Self::Quarantine | Self::None => Self::None,
        }
    }
}

impl Record {
    /// Reads a record; `None` if the text is not one.
    /// Decides RFC 9989 section 4.7.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let tags = Tags::parse(text)?;
        let read = |name: &str| tags.value(name).map(DmarcPolicy::parse);
        let (policy, subdomains, nonexistent) = (read("p"), read("sp"), read("np"));
        // A wrong or missing policy counts as `none` if the record requests reports, otherwise as no policy.
        let invalid =
            !matches!(policy, Some(Some(_))) || [subdomains, nonexistent].contains(&Some(None));
        let valid = |found: Option<Option<DmarcPolicy>>| found.flatten().filter(|_| !invalid);
        let alignment = |name: &str| match tags.value(name) {
            Some(word) if word.eq_ignore_ascii_case("s") => Alignment::Strict,
            _ => Alignment::Relaxed,
        };
        let testing = match tags.value("t") {
            Some(word) if word.eq_ignore_ascii_case("y") => true,
            Some(word) if word.eq_ignore_ascii_case("n") => false,
            _ => tags.value("pct") == Some("0"),
        };
        Some(Self {
            policy: valid(policy).unwrap_or(DmarcPolicy::None),
            subdomains: valid(subdomains),
            nonexistent: valid(nonexistent),
            dkim: alignment("adkim"),
            spf: alignment("aspf"),
            suffix: match tags.value("psd") {
                Some(word) if word.eq_ignore_ascii_case("y") => PublicSuffix::Yes,
                Some(word) if word.eq_ignore_ascii_case("n") => PublicSuffix::No,
                _ => PublicSuffix::Unknown,
            },
            testing,
            applies: !invalid || tags.value("rua").is_some_and(has_address),
        })
    }
}

/// The readable tags, all with different names.
struct Tags<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Tags<'a> {
    /// `None` if the text does not begin with the version, or has a name twice.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut elements = text.split(|byte| *byte == b';').map(tag);
        let version = elements.next().flatten()?;
        if version != ("v", "DMARC1") {
            return None;
        }
        let mut tags = vec![version];
        for (name, value) in elements.flatten() {
            if tags.iter().any(|(other, _)| *other == name) || tags.len() >= TAGS_MAX {
                return None;
            }
            tags.push((name, value));
        }
        Some(Self(tags))
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    }
}

/// A `dmarc-tag` of section 4.8. `None` if the element has no name. An unreadable value becomes an empty one, which no
/// tag accepts: the tag still exists, so its default applies and it counts as a duplicate.
/// Decides RFC 9989 section 4.8.
fn tag(element: &[u8]) -> Option<(&str, &str)> {
    let equals = element.iter().position(|byte| *byte == b'=')?;
    let (name, value) = element.split_at_checked(equals)?;
    let name = std::str::from_utf8(name).ok()?.trim_matches(SPACE);
    let value = value.strip_prefix(b"=").map(std::str::from_utf8)?;
    let value = value.unwrap_or_default().trim_matches(SPACE);
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let readable = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    named.then_some((name, if readable { value } else { "" }))
}

/// Whether a list of URIs contains a mailto URI.
fn has_address(list: &str) -> bool {
    list.split(',').any(|uri| {
        let (scheme, rest) = uri.trim().split_once(':').unwrap_or_default();
        !scheme.is_empty() && !rest.is_empty()
    })
}

const SPACE: [char; 2] = [' ', '\t'];
/// Far more than the defined tags.
const TAGS_MAX: usize = 64;
