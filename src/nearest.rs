//! The known words that a mistyped one was probably meant to be.

/// The known words that are most similar to a mistyped one, at most two; none if all are too different.
pub fn nearest<'a>(word: &str, among: &'a [String]) -> Vec<&'a str> {
    let length = word.chars().count();
    let most = length.div_ceil(3);
    let mut near: Vec<(usize, &str)> = among
        .iter()
        .filter(|other| other.starts_with('-') == word.starts_with('-'))
        .filter_map(|other| {
            let far = match other.starts_with(word) {
                true => 1,
                // A word that is much longer or shorter is not compared: the comparison takes the product of the lengths.
                false if other.chars().count().abs_diff(length) > most => return None,
                false => distance(word, other),
            };
            (far <= most).then_some((far, other.as_str()))
        })
        .collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(far, _)| *far);
    let best = near.iter().filter(|(far, _)| *far == best);
    best.take(2).map(|(_, other)| *other).collect()
}

/// The end of a sentence that suggests words; empty if there are none.
pub fn did_you_mean(near: &[&str]) -> String {
    let quoted: Vec<String> = near.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        words => format!("; did you mean {}?", words.join(" or ")),
    }
}

/// The number of letters to add, remove, change or swap with their neighbour that turns one word into the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let cell = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
    // The lines of the letter before the last one and of the last one.
    let mut earlier: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, a) in one.iter().enumerate() {
        let mut line = vec![row.saturating_add(1)];
        for (column, b) in other.iter().enumerate() {
            let changed = cell(&above, column).saturating_add(usize::from(a != b));
            let up = cell(&above, column.saturating_add(1));
            let longer = up.min(cell(&line, column)).saturating_add(1);
            let mut least = changed.min(longer);
            if let (Some(row), Some(column)) = (row.checked_sub(1), column.checked_sub(1))
                && one.get(row) == Some(b)
                && other.get(column) == Some(a)
            {
                least = least.min(cell(&earlier, column).saturating_add(1));
            }
            line.push(least);
        }
        earlier = std::mem::replace(&mut above, line);
    }
    cell(&above, other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_as_far_from_another_as_letters_are_to_be_changed() {
        for (one, other, far) in [
            ("list", "list", 0),
            ("lst", "list", 1),
            ("lits", "list", 1),
            ("", "run", 3),
            ("flush", "list", 3),
            ("hsotnaem", "hostname", 2),
        ] {
            assert_eq!(distance(one, other), far, "{one} {other}");
            assert_eq!(distance(other, one), far, "{other} {one}");
        }
    }

    #[test]
    fn only_words_that_are_similar_are_near() {
        let known = ["smtp", "status", "submission", "submissions", "--all"].map(str::to_owned);
        for (word, near) in [
            ("smpt", &["smtp"][..]),
            ("sub", &["submission", "submissions"]),
            ("submision", &["submission"]),
            ("-all", &["--all"]),
            ("all", &[]),
            ("", &[]),
            ("hostname", &[]),
        ] {
            assert_eq!(nearest(word, &known), near, "{word}");
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, &known), Vec::<&str>::new());
    }
}
