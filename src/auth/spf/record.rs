//! The text of a record (RFC 7208 section 12).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::workload::{Unit, count};

/// A record that was read whole.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The mechanisms in order, each with its text.
    pub(super) directives: Vec<(Qualifier, Mechanism, String)>,
    /// `redirect=`.
    pub(super) redirect: Option<DomainSpec>,
    /// `exp=`.
    pub(super) explanation: Option<DomainSpec>,
}

/// The result of a match.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

/// A mechanism with its argument (RFC 7208 section 5).
#[derive(Debug)]
pub(super) enum Mechanism {
    All,
    Include(DomainSpec),
    A(Option<DomainSpec>, DualCidr),
    Mx(Option<DomainSpec>, DualCidr),
    Ptr(Option<DomainSpec>),
    Network(Network),
    Exists(DomainSpec),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

/// How much of an address counts, by its family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct DualCidr {
    v4: u8,
    v6: u8,
}

/// Text with macros, in pieces.
#[derive(Debug)]
pub(super) struct DomainSpec(pub(super) Vec<Piece>);

/// A piece of a text with macros.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Macro(Macro),
}

/// A macro (section 7).
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Macro {
    /// In lower case.
    pub(super) letter: char,
    /// The letter was in upper case: the value is written as in a URL.
    pub(super) escaped: bool,
    /// How many parts from the right stay; 0 is all.
    pub(super) parts: usize,
    /// The parts are turned round.
    pub(super) reversed: bool,
    /// The characters that separate the parts.
    pub(super) delimiters: String,
}

/// Why a record is a permerror.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SpfRecordError {
    /// A byte that is not printable ASCII.
    NotAscii,
    /// A term that is neither a mechanism nor a modifier.
    Term(String),
    /// A mechanism with an argument that it does not take, without one that it needs, or with a malformed one.
    Argument(String),
    /// `redirect` or `exp` more than once.
    Twice(&'static str),
}

impl fmt::Display for SpfRecordError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAscii => out.write_str("it holds bytes that are not ASCII"),
            Self::Term(term) => write!(
                out,
                "{} is not a term",
                crate::escape::Escaped(term.as_bytes())
            ),
            Self::Argument(term) => write!(
                out,
                "{} is malformed",
                crate::escape::Escaped(term.as_bytes())
            ),
            Self::Twice(name) => write!(out, "{name}= stands in it twice"),
        }
    }
}

impl std::error::Error for SpfRecordError {}

impl Record {
    /// Whether a text is an SPF record at all (section 4.5).
    /// Decides RFC 7208 section 4.5.
    pub(super) fn is_one(text: &[u8]) -> bool {
        text.split_at_checked(VERSION.len())
            .is_some_and(|(version, rest)| {
                version.eq_ignore_ascii_case(VERSION.as_bytes())
                    && matches!(rest.first(), None | Some(b' '))
            })
    }

    /// Reads a record.
    pub(super) fn parse(text: &[u8]) -> Result<Self, SpfRecordError> {
        count(Unit::Byte, text.len());
        let text = std::str::from_utf8(text)
            .ok()
            .filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~')))
            .ok_or(SpfRecordError::NotAscii)?;
        let mut record = Self::default();
        let terms = text.split(' ').skip(1).filter(|term| !term.is_empty());
        for term in terms {
            match modifier(term) {
                Some((name, value)) => record.add_modifier(term, name, value)?,
                None => record.directives.push(directive(term)?),
            }
        }
        Ok(record)
    }

    fn add_modifier(&mut self, term: &str, name: &str, value: &str) -> Result<(), SpfRecordError> {
        let malformed = || SpfRecordError::Argument(term.to_owned());
        let slot = if name.eq_ignore_ascii_case("redirect") {
            (&mut self.redirect, "redirect")
        } else if name.eq_ignore_ascii_case("exp") {
            (&mut self.explanation, "exp")
        } else {
            // Section 6: unknown ones are ignored, malformed ones are not.
            return match pieces(value, Letters::Lookup) {
                Some(_) => Ok(()),
                None => Err(malformed()),
            };
        };
        let (slot, name) = slot;
        if slot.is_some() {
            return Err(SpfRecordError::Twice(name));
        }
        *slot = Some(DomainSpec::parse(value).ok_or_else(malformed)?);
        Ok(())
    }
}

/// `name=value`, if the name is valid.
fn modifier(term: &str) -> Option<(&str, &str)> {
    let (name, value) = term.split_once('=')?;
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    let goes_on = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    (starts && goes_on).then_some((name, value))
}

fn directive(term: &str) -> Result<(Qualifier, Mechanism, String), SpfRecordError> {
    let (qualifier, rest) = match term.split_at_checked(1) {
        Some(("+", rest)) => (Qualifier::Pass, rest),
        Some(("-", rest)) => (Qualifier::Fail, rest),
        Some(("~", rest)) => (Qualifier::SoftFail, rest),
        Some(("?", rest)) => (Qualifier::Neutral, rest),
        _ => (Qualifier::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, argument) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let malformed = || SpfRecordError::Argument(term.to_owned());
    let mechanism = match name.to_ascii_lowercase().as_str() {
        "all" if argument.is_empty() => Some(Mechanism::All),
        "include" => spec(argument).map(Mechanism::Include),
        "exists" => spec(argument).map(Mechanism::Exists),
        "ptr" if argument.is_empty() => Some(Mechanism::Ptr(None)),
        "ptr" => spec(argument).map(|spec| Mechanism::Ptr(Some(spec))),
        "a" => target(argument).map(|(spec, cidr)| Mechanism::A(spec, cidr)),
        "mx" => target(argument).map(|(spec, cidr)| Mechanism::Mx(spec, cidr)),
        "ip4" => network(argument, |text| {
            text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }),
        "ip6" => network(argument, |text| {
            text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }),
        "all" => None,
        _ => return Err(SpfRecordError::Term(term.to_owned())),
    };
    mechanism
        .map(|mechanism| (qualifier, mechanism, term.to_owned()))
        .ok_or_else(malformed)
}

/// `:domain-spec`.
fn spec(argument: &str) -> Option<DomainSpec> {
    DomainSpec::parse(argument.strip_prefix(':')?)
}

/// `[:domain-spec][/bits][//bits]`.
fn target(argument: &str) -> Option<(Option<DomainSpec>, DualCidr)> {
    let mut rest = argument;
    let mut cidr = DualCidr { v4: 32, v6: 128 };
    if let Some((front, bits)) = rest.rsplit_once("//")
        && is_number(bits)
    {
        cidr.v6 = prefix(bits, 128)?;
        rest = front;
    }
    if let Some((front, bits)) = rest.rsplit_once('/')
        && is_number(bits)
    {
        cidr.v4 = prefix(bits, 32)?;
        rest = front;
    }
    let spec = match rest {
        "" => None,
        rest => Some(spec(rest)?),
    };
    Some((spec, cidr))
}

fn network(argument: &str, parse: impl Fn(&str) -> Option<IpAddr>) -> Option<Mechanism> {
    let text = argument.strip_prefix(':')?;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (parse(address)?, Some(bits)),
        None => (parse(text)?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => prefix(bits, most)?,
        None => most,
    };
    Some(Mechanism::Network(Network { address, bits }))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A prefix length: no sign, no leading zero.
fn prefix(text: &str, most: u8) -> Option<u8> {
    let zero_led = text.len() > 1 && text.starts_with('0');
    let bits: u8 = text.parse().ok().filter(|_| is_number(text) && !zero_led)?;
    (bits <= most).then_some(bits)
}

impl Network {
    /// Whether the network contains the address; an address of the other family never matches.
    pub(super) fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX
                    .checked_shl(32_u32.saturating_sub(self.bits.into()))
                    .unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX
                    .checked_shl(128_u32.saturating_sub(self.bits.into()))
                    .unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl DualCidr {
    /// The network of this size around an address.
    pub(super) fn around(self, address: IpAddr) -> Network {
        let bits = match address {
            IpAddr::V4(_) => self.v4,
            IpAddr::V6(_) => self.v6,
        };
        Network { address, bits }
    }
}

impl DomainSpec {
    /// Reads a domain-spec: a text with macros that ends with a macro or a top-level label.
    fn parse(text: &str) -> Option<Self> {
        let pieces = pieces(text, Letters::Lookup)?;
        let ends = match pieces.last()? {
            Piece::Macro(_) => true,
            Piece::Text(_)
                if text.ends_with("%%") || text.ends_with("%_") || text.ends_with("%-") =>
            {
                return None;
            }
            Piece::Text(end) => {
                let end = end.strip_suffix('.').unwrap_or(end);
                end.rsplit_once('.').is_some_and(|(_, label)| is_top(label))
            }
        };
        ends.then_some(Self(pieces))
    }

    /// Reads the text that explains a fail.
    pub(super) fn explanation(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        pieces(text, Letters::Explanation).map(Self)
    }

    /// Whether the names of the client are needed.
    pub(super) fn wants_validated_name(&self) -> bool {
        self.0
            .iter()
            .any(|piece| matches!(piece, Piece::Macro(found) if found.letter == 'p'))
    }
}

fn is_top(label: &str) -> bool {
    !label.is_empty()
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.bytes().all(|byte| byte.is_ascii_digit())
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Which macros a text may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Letters {
    Lookup,
    /// `c`, `r` and `t` too, and spaces.
    Explanation,
}

/// Divides a macro-string.
fn pieces(text: &str, letters: Letters) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '%' => {
                let kind = rest.chars().next()?;
                rest = rest.get(kind.len_utf8()..)?;
                match kind {
                    '%' => plain.push('%'),
                    '_' => plain.push(' '),
                    '-' => plain.push_str("%20"),
                    '{' => {
                        let (inside, behind) = rest.split_once('}')?;
                        rest = behind;
                        if !plain.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut plain)));
                        }
                        pieces.push(Piece::Macro(read_macro(inside, letters)?));
                    }
                    _ => return None,
                }
            }
            ' ' if letters == Letters::Explanation => plain.push(c),
            '!'..='~' => plain.push(c),
            _ => return None,
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Some(pieces)
}

/// Reads the text between `%{` and `}`.
fn read_macro(inside: &str, letters: Letters) -> Option<Macro> {
    let letter = inside.chars().next()?;
    let lower = letter.to_ascii_lowercase();
    let known = match lower {
        's' | 'l' | 'o' | 'd' | 'i' | 'p' | 'h' | 'v' => true,
        'c' | 'r' | 't' => letters == Letters::Explanation,
        _ => false,
    };
    if !known {
        return None;
    }
    let rest = inside.get(1..)?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    let parts = match number {
        "" => 0,
        // Section 7.1: DIGIT is not zero. More parts than there are is all of them.
        number => match number.trim_start_matches('0') {
            "" => return None,
            digits => digits.parse().unwrap_or(usize::MAX),
        },
    };
    let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let valid = delimiters
        .chars()
        .all(|c| matches!(c, '.' | '-' | '+' | ',' | '/' | '_' | '='));
    valid.then(|| Macro {
        letter: lower,
        escaped: letter.is_ascii_uppercase(),
        parts,
        reversed,
        delimiters: delimiters.to_owned(),
    })
}

const VERSION: &str = "v=spf1";
