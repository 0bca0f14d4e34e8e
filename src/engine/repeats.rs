//! Suppresses equal log lines about clients: the first is written, later ones are counted and reported in one line.

use std::collections::BTreeMap;

use super::log::{Level, Line};
use crate::limits::LOG_LINES_COUNTED_MAX;

/// Log lines that clients cause: a line that equals an earlier one is counted instead of written.
///
/// If too many different lines arrive to count, lines are written directly: nothing is lost but their order.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Each line that was written lately, and how often it came since.
    lines: BTreeMap<String, u32>,
    /// Whether the end of the current interval is planned.
    planned: bool,
}

impl Repeats {
    /// Whether to write a line. If it was already written in this interval, it is counted instead.
    pub(super) fn is_new(&mut self, line: &Line) -> bool {
        if let Some(count) = self.lines.get_mut(&line.text) {
            *count = count.saturating_add(1);
            return false;
        }
        if self.lines.len() < LOG_LINES_COUNTED_MAX {
            self.lines.insert(line.text.clone(), 0);
        }
        true
    }

    /// Whether to schedule the end of the interval now.
    pub(super) fn plan(&mut self) -> bool {
        !self.lines.is_empty() && !std::mem::replace(&mut self.planned, true)
    }

    /// Ends an interval: returns the repeated lines with their counts.
    pub(super) fn end(&mut self) -> Vec<Line> {
        self.planned = false;
        let lines = std::mem::take(&mut self.lines).into_iter();
        lines
            .filter(|(_, times)| *times > 0)
            .map(|(text, times)| {
                let line = Line::new(Level::Warning, "repeated").with("times", times);
                line.with("line", text)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_line_is_counted_and_another_is_written() {
        let mut repeats = Repeats::default();
        let line = |peer| Line::new(Level::Warning, "auth").with("peer", peer);
        let new: Vec<bool> = [1, 1, 2, 1]
            .map(|peer| repeats.is_new(&line(peer)))
            .to_vec();
        assert_eq!(new, [true, false, true, false]);
        assert!(repeats.plan() && !repeats.plan(), "planned once");
        let said: Vec<String> = repeats.end().into_iter().map(|line| line.text).collect();
        assert_eq!(said, ["event=repeated times=2 line=\"event=auth peer=1\""]);
        assert!(!repeats.plan(), "nothing is left to be told");
        assert!(repeats.is_new(&line(1)), "the next interval begins anew");
    }

    #[test]
    fn more_different_lines_than_are_counted_are_written() {
        let mut repeats = Repeats::default();
        let line = |n: usize| Line::new(Level::Warning, "auth").with("n", n);
        let lines = 2 * LOG_LINES_COUNTED_MAX;
        assert!((0..lines).all(|n| repeats.is_new(&line(n))));
        assert!(repeats.is_new(&line(lines - 1)) && !repeats.is_new(&line(0)));
        assert_eq!(repeats.lines.len(), LOG_LINES_COUNTED_MAX);
    }
}
