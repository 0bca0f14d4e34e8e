//! Exit codes that callers of mail programs know (sysexits.h of BSD).

/// Wrong use: a flag or an argument.
pub const USAGE: u8 = 64;
/// The input is wrong.
pub const DATA: u8 = 65;
/// An input file cannot be read.
pub const NO_INPUT: u8 = 66;
/// No such user or address.
pub const NO_USER: u8 = 67;
/// The daemon is not there, or refuses.
pub const UNAVAILABLE: u8 = 69;
/// The system failed.
pub const OS_ERROR: u8 = 71;
/// A file or socket cannot be made.
pub const CANNOT_CREATE: u8 = 73;
/// Reading or writing failed.
pub const IO_ERROR: u8 = 74;
/// Not now: the caller may try again.
pub const TRY_AGAIN: u8 = 75;
/// Not allowed.
pub const NOT_PERMITTED: u8 = 77;
/// The configuration is wrong.
pub const CONFIGURATION: u8 = 78;
