//! Users of several domains that have the same name.

use crate::address::Mailbox;

/// The effect of a new user on users of the same name at other domains: a program that logs in by the bare name
/// succeeds only while one user has it.
pub fn shared_name<'a>(
    new: &Mailbox,
    others: impl IntoIterator<Item = &'a Mailbox>,
) -> Option<String> {
    let same: Vec<String> = others
        .into_iter()
        .filter(|other| other.domain() != new.domain() && other.local_key() == new.local_key())
        .map(ToString::to_string)
        .collect();
    (!same.is_empty()).then(|| {
        format!(
            "programs that log in as {} alone are refused from now on, for {} has that name too: have them log in with the \
             whole address",
            new.local_part(),
            same.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_name_at_another_domain_counts() {
        let mailbox = |text: &str| Mailbox::parse(text).expect("a mailbox");
        let others = ["app@a.example", "App@b.example", "bob@c.example"].map(mailbox);
        assert_eq!(shared_name(&mailbox("eve@d.example"), &others), None);
        assert_eq!(shared_name(&mailbox("bob@c.example"), &others), None);
        let said = shared_name(&mailbox("app@a.example"), &others).expect("a sentence");
        assert!(said.contains("for App@b.example has"), "{said}");
    }
}
