//! A line of the log for those who may not read the log: without whom it names.

/// The text with every local part of an address as `…`, cut to so many bytes.
pub fn redacted(text: &str, bytes_max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(bytes_max));
    // What could be a local part, up to the sign that says whether it was one.
    let mut word = String::new();
    for c in text.chars() {
        if c == '@' {
            // The key of a line of the log is no part of the address; a sign of equality alone may be.
            let key = KEYS.iter().find(|key| word.starts_with(**key));
            shown.push_str(key.copied().unwrap_or_default());
            word.clear();
            shown.push_str("…@");
        } else if is_boundary(c) {
            shown.push_str(&word);
            word.clear();
            shown.push(c);
        } else {
            word.push(c);
        }
    }
    shown.push_str(&word);
    if shown.len() > bytes_max {
        let room = bytes_max.saturating_sub("…".len());
        let end = (0..=room).rev().find(|at| shown.is_char_boundary(*at));
        shown.truncate(end.unwrap_or_default());
        shown.push('…');
    }
    shown
}

const KEYS: [&str; 6] = ["to=", "from=", "orig_to=", "user=", "login=", "rcpt="];

/// Whether a local part cannot go on here. A quoted one may, so that quotes belong to it.
const fn is_boundary(c: char) -> bool {
    matches!(c, ' ' | '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_named() {
        for (text, shown) in [
            (
                "event=queued id=1 from=<ann@a.test> to=bob+x@b.test,carl@c.test rcpts=2",
                "event=queued id=1 from=<…@a.test> to=…@b.test,…@c.test rcpts=2",
            ),
            (
                "event=failed reply=\"550 5.1.1 <bob@b.test>: unknown\"",
                "event=failed reply=\"550 5.1.1 <…@b.test>: unknown\"",
            ),
            (
                "event=listening on=127.0.0.1:25",
                "event=listening on=127.0.0.1:25",
            ),
        ] {
            assert_eq!(redacted(text, 1_000), shown);
        }
        assert_eq!(redacted("a long line", 8), "a lon…");
    }

    proptest! {
        #[test]
        fn no_local_part_is_left(local in "[a-z0-9.+=-]{3,20}", front in "[ -~&&[^@]]{0,20}", behind in "[ -~]{0,20}") {
            let text = format!("{front} <{local}@x.test> {behind}");
            let shown = redacted(&text, 1_000);
            let (front, _) = shown.split_once("@x.test").expect("the domain");
            prop_assert!(front.ends_with("<…"), "{}", shown);
        }

        #[test]
        fn it_is_never_longer(text in "\\PC{0,200}", max in 8_usize..100) {
            prop_assert!(redacted(&text, max).len() <= max.max(8));
        }
    }
}
