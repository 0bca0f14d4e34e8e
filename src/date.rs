//! Wall-clock dates: seconds since 1970 and the date-time of RFC 5322 section 3.3.

use std::fmt;
use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z. Never negative; saturates instead of wrapping.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The point `seconds` after the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// This point moved later by `span`.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()))
    }

    /// How long after `earlier` this point is; zero if it is not after it (a clock that was set back).
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// The date-time of RFC 5322, in UTC: `Tue, 24 Nov 2026 13:32:11 +0000`.
    pub fn rfc5322(self) -> impl fmt::Display {
        Rfc5322(self)
    }

    /// The date-time of RFC 3339, in UTC: `2026-11-24T13:32:11Z`.
    pub fn rfc3339(self) -> impl fmt::Display {
        Rfc3339(self)
    }
}

struct Rfc5322(Timestamp);
struct Rfc3339(Timestamp);

/// A day of the proleptic Gregorian calendar.
struct Civil {
    year: u64,
    month: usize, // 0 to 11
    day: u64,     // 1 to 31
}

/// Days since the epoch to a date; the era arithmetic is Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> Civil {
    let shifted = days.saturating_add(719_468); // days since 0000-03-01
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 2
    } else {
        month_from_march - 10
    };
    let year = year_of_era + era * 400 + u64::from(month < 2);
    Civil {
        year,
        month: month as usize,
        day,
    }
}

impl fmt::Display for Rfc5322 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.0 / 86_400, self.0.0 % 86_400);
        let date = civil(days);
        write!(
            out,
            "{}, {} {} {:04} {:02}:{:02}:{:02} +0000",
            WEEKDAYS.get((days % 7) as usize).unwrap_or(&"Thu"),
            date.day,
            MONTHS.get(date.month).unwrap_or(&"Jan"),
            date.year,
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.0 / 86_400, self.0.0 % 86_400);
        let date = civil(days);
        write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            date.year,
            date.month + 1,
            date.day,
            second / 3_600,
            second / 60 % 60,
            second % 60
        )
    }
}

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970-01-01 was a Thursday
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_known_dates() {
        // Reference values from `date -u -R -d @N`.
        let cases = [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_527_131, "Tue, 24 Nov 2026 13:32:11 +0000"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Timestamp::from_seconds(seconds).rfc5322().to_string(), text);
        }
        assert_eq!(
            Timestamp::from_seconds(1_795_527_131).rfc3339().to_string(),
            "2026-11-24T13:32:11Z"
        );
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_age() {
        assert_eq!(
            Timestamp::from_seconds(5).since(Timestamp::from_seconds(9)),
            Duration::ZERO
        );
    }
}
