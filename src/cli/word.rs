//! A command or an option, as the help lists it and a shell completes it.

/// A command or an option that a help lists.
pub(super) struct Word {
    /// The command, or the option with its dashes.
    pub(super) name: String,
    /// The equivalent option of one letter.
    pub(super) short: Option<String>,
    pub(super) about: String,
    /// Whether a value comes behind the option.
    pub(super) takes_value: bool,
}

/// The words that the help of a command lists.
pub(super) type Listing = fn(&[&str]) -> Vec<Word>;
