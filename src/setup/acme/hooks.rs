//! Examples of `hooks/dns-01`, which the binary contains.

/// Their names and texts.
pub const EXAMPLES: [(&str, &str); 2] = [
    ("acme-sh", include_str!("../hooks/dns-01.acme-sh")),
    ("nsupdate", include_str!("../hooks/dns-01.nsupdate")),
];
