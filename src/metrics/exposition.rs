//! The Prometheus text format, version 0.0.4: metric families, their help texts and samples.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use super::Histogram;

/// The type of a metric family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// A count since the start.
    Counter,
    /// A current value.
    Gauge,
}

/// The text, as it grows.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins the figures of one name.
    pub fn family(&mut self, family: Family, name: &str, help: &str) -> &mut Self {
        let kind = match family {
            Family::Counter => "counter",
            Family::Gauge => "gauge",
        };
        self.head(name, kind, help)
    }

    /// A figure without labels, which is all of its name.
    pub fn single(
        &mut self,
        family: Family,
        name: &str,
        help: &str,
        value: impl Display,
    ) -> &mut Self {
        self.family(family, name, help).sample(name, &[], value)
    }

    /// A figure of the name that was begun.
    pub fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> &mut Self {
        self.text.push_str(name);
        self.labels(labels);
        self.write(format_args!(" {value}\n"))
    }

    /// The figures of a histogram, in seconds.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> &mut Self {
        self.head(name, "histogram", help);
        for (bound, upto) in histogram.cumulative() {
            let bound = seconds(Duration::from_micros(bound));
            self.write(format_args!("{name}_bucket{{le=\"{bound}\"}} {upto}\n"));
        }
        let (count, sum) = (histogram.count(), seconds(histogram.sum()));
        self.write(format_args!(
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"
        ))
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"))
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (at, (name, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) -> &mut Self {
        let written = self.text.write_fmt(text);
        debug_assert_eq!(written, Ok(()), "a String takes everything");
        self
    }
}

/// Seconds with as many digits as there are.
pub(super) fn seconds(span: Duration) -> String {
    let text = format!("{}.{:06}", span.as_secs(), span.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Timing;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let mut page = Exposition::default();
        page.single(Family::Gauge, "queue_messages", "What waits.", 3)
            .family(Family::Counter, "seen_total", "All.\nReally all.")
            .sample("seen_total", &[("who", "a\"b\\c"), ("how", "x")], 7);
        assert_eq!(
            page.into_text(),
            "# HELP queue_messages What waits.\n# TYPE queue_messages gauge\nqueue_messages 3\n\
             # HELP seen_total All.\\nReally all.\n# TYPE seen_total counter\nseen_total{who=\"a\\\"b\\\\c\",how=\"x\"} 7\n"
        );
    }

    #[test]
    fn a_histogram_ends_with_all() {
        let mut histogram = Histogram::new(Timing::Disk);
        histogram.observe(Duration::from_micros(150));
        histogram.observe(Duration::from_secs(20));
        let mut page = Exposition::default();
        page.histogram("sync_seconds", "Disk.", &histogram);
        let text = page.into_text();
        for line in [
            "sync_seconds_bucket{le=\"0.0001\"} 0",
            "sync_seconds_bucket{le=\"0.0002\"} 1",
            "sync_seconds_bucket{le=\"10\"} 1",
            "sync_seconds_bucket{le=\"+Inf\"} 2",
            "sync_seconds_sum 20.00015",
            "sync_seconds_count 2",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}: {text}");
        }
    }
}
