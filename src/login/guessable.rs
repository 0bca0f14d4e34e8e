//! Passwords that attackers try first.
//!
//! An attacker with a guessed password sends in the name of the domain until someone notices. Such passwords are
//! therefore refused when a person chooses one. The check covers the most frequent entries of published password lists;
//! it does not estimate the strength of other passwords.

use std::fmt;

use crate::address::Mailbox;
use crate::limits::PASSWORD_CHARS_MIN;

/// Why others would guess a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guessable {
    /// It has this many characters, under [`PASSWORD_CHARS_MIN`].
    Short(usize),
    /// It consists of the user's own address.
    Address,
    /// It is a common password, perhaps followed by digits.
    Common,
    /// It repeats one character, or follows a row of the keyboard or the alphabet.
    Row,
}

impl fmt::Display for Guessable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(found) => write!(
                out,
                "the password has {found} characters, and needs {PASSWORD_CHARS_MIN} or more"
            ),
            Self::Address => {
                out.write_str("the password is the user's own address, or a part of it")
            }
            Self::Common => out.write_str("the password is one that many have"),
            Self::Row => out.write_str("the password is a row of characters"),
        }
    }
}

/// The reason for which attackers would guess the password of this user. Digits and signs around its letters do not
/// help, because attackers try those too.
pub fn guessable(password: &str, user: &Mailbox) -> Option<Guessable> {
    let chars = password.chars().count();
    if chars < PASSWORD_CHARS_MIN {
        return Some(Guessable::Short(chars));
    }
    let lower = password.to_lowercase();
    let is_no_letter = |c: char| !c.is_alphabetic();
    let words = [
        lower.as_str(),
        lower.trim_end_matches(is_no_letter),
        lower.trim_matches(is_no_letter),
    ];
    let domain = user.domain().as_str();
    let mut own = vec![user.to_string(), user.local_key(), domain.to_owned()];
    own.extend(domain.split('.').map(str::to_owned));
    if words.iter().any(|word| own.iter().any(|own| own == word)) {
        return Some(Guessable::Address);
    }
    if words.iter().any(|word| COMMON.contains(word)) {
        return Some(Guessable::Common);
    }
    is_row(&lower).then_some(Guessable::Row)
}

/// Whether each character repeats the previous one, or is its neighbour in one of the rows.
fn is_row(text: &str) -> bool {
    let is_next = |(a, b): (char, char)| {
        let pair: String = [a, b].into_iter().collect();
        let back: String = [b, a].into_iter().collect();
        a == b
            || ROWS
                .iter()
                .any(|row| row.contains(&pair) || row.contains(&back))
    };
    text.chars().zip(text.chars().skip(1)).all(is_next)
}

const ROWS: [&str; 5] = [
    "01234567890",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
];
/// The most frequent words of the lists that attackers try, which also try them with digits and signs around them.
const COMMON: &[&str] = &[
    "abc",
    "access",
    "admin",
    "administrator",
    "app",
    "baseball",
    "batman",
    "changeit",
    "changeme",
    "charlie",
    "chopar",
    "computer",
    "correcthorsebatterystaple",
    "daniel",
    "default",
    "dragon",
    "flower",
    "football",
    "freedom",
    "google",
    "guest",
    "hello",
    "helloworld",
    "hunter",
    "iloveyou",
    "internet",
    "jordan",
    "letmein",
    "login",
    "love",
    "lovely",
    "mail",
    "mailer",
    "mailserver",
    "master",
    "michael",
    "michelle",
    "monkey",
    "mynoob",
    "mypassword",
    "mysql",
    "newpass",
    "ninja",
    "noreply",
    "office",
    "p@ssw0rd",
    "p@ssword",
    "pass",
    "passw0rd",
    "passwd",
    "password",
    "pencil",
    "pokemon",
    "postfix",
    "postgres",
    "princess",
    "private",
    "public",
    "qazwsx",
    "qwe",
    "qwerty",
    "qwertyuiop",
    "root",
    "samsung",
    "secret",
    "sendmail",
    "server",
    "service",
    "shadow",
    "smtp",
    "smtpuser",
    "starwars",
    "sunshine",
    "superman",
    "support",
    "system",
    "temp",
    "temporary",
    "test",
    "testing",
    "thomas",
    "trustno",
    "user",
    "webmaster",
    "welcome",
    "whatever",
    "zaq1zaq1",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1qaz2wsx",
    "q1w2e3r4",
    "qwer1234",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SeededEntropy;

    fn found(password: &str) -> Option<Guessable> {
        guessable(
            password,
            &Mailbox::parse("ann.lee@shop.example").expect("a mailbox"),
        )
    }

    #[test]
    fn what_is_guessed_first_is_told_from_what_is_not() {
        for (password, expected) in [
            ("hunter2", Some(Guessable::Short(7))),
            ("éééééé", Some(Guessable::Short(6))),
            ("Ann.Lee1", Some(Guessable::Address)),
            ("shop.example", Some(Guessable::Address)),
            ("ann.lee@shop.example", Some(Guessable::Address)),
            ("example2026!", Some(Guessable::Address)),
            ("Password1!", Some(Guessable::Common)),
            ("P@ssw0rd", Some(Guessable::Common)),
            ("123welcome", Some(Guessable::Common)),
            ("12345678", Some(Guessable::Row)),
            ("9876543210", Some(Guessable::Row)),
            ("aaaaaaaa", Some(Guessable::Row)),
            ("qwertyui", Some(Guessable::Row)),
            ("correct horse", None),
            ("the right password", None),
            ("12345679x", None),
            ("t7#pQ2vM", None),
        ] {
            assert_eq!(found(password), expected, "{password}");
        }
    }

    #[test]
    fn a_password_of_chance_is_taken() {
        use crate::entropy::Entropy as _;
        let mut chance = SeededEntropy::new(7);
        for _ in 0..2_000 {
            let mut bytes = [0; 10];
            chance.fill(&mut bytes);
            let text: String = bytes
                .iter()
                .map(|byte| char::from(b'a' + byte % 26))
                .collect();
            assert_eq!(found(&text), None, "{text}");
        }
    }

    #[test]
    fn the_words_are_as_they_are_compared() {
        for word in COMMON {
            assert_eq!(*word, word.to_lowercase());
            let long = format!("{word}12345678");
            assert_eq!(
                found(&long).is_some(),
                word.ends_with(char::is_alphabetic),
                "{word}"
            );
        }
    }
}
