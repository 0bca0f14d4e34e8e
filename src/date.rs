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

    /// The timestamp of a date and a time of day in UTC; `None` if the month, day or time does not exist.
    pub fn from_utc(date: (i64, i64, i64), time: (i64, i64, i64)) -> Option<Self> {
        let (year, month, day) = date;
        let (hour, minute, second) = time;
        let days = days_since_1970(year, month, day)?;
        // 60 is a leap second.
        let is_time =
            (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
        let of_day = hour
            .saturating_mul(3_600)
            .saturating_add(minute.saturating_mul(60))
            .saturating_add(second);
        let seconds = days.saturating_mul(86_400).saturating_add(of_day);
        is_time.then(|| Self(u64::try_from(seconds).unwrap_or(0)))
    }

    /// Reads a date-time of RFC 3339 with any offset; fractions of a second are left out.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', 't', ' '])?;
        let mut date = date.split('-').map(digits);
        let mut next = || date.next().flatten();
        let date = (next()?, next()?, next()?);
        let end = time.find(['Z', 'z', '+', '-'])?;
        let (time, offset) = time.split_at_checked(end)?;
        let time = time.split('.').next()?;
        let mut time = time.split(':').map(digits);
        let mut next = || time.next().flatten();
        let point = Self::from_utc(date, (next()?, next()?, next()?))?;
        let Some((hours, minutes)) = offset.get(1..)?.split_once(':') else {
            return matches!(offset, "Z" | "z").then_some(point);
        };
        let east = digits(hours)?
            .checked_mul(60)?
            .checked_add(digits(minutes)?)?;
        let east = u64::try_from(east)
            .ok()
            .filter(|minutes| *minutes < 1_440)?
            .saturating_mul(60);
        Some(match offset.starts_with('+') {
            true => Self(point.0.saturating_sub(east)),
            false => Self(point.0.saturating_add(east)),
        })
    }

    /// Reads the preferred form of a date in HTTP (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub fn parse_http(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(", ")?;
        let rest = rest.strip_suffix(" GMT")?;
        let mut parts = rest.split(' ');
        let day = digits(parts.next()?)?;
        let month = parts.next()?;
        let month = MONTHS.iter().position(|known| *known == month)?;
        let year = digits(parts.next()?)?;
        let mut time = parts.next()?.split(':').map(digits);
        let mut next = || time.next().flatten();
        let time = (next()?, next()?, next()?);
        let month = i64::try_from(month).ok()?.saturating_add(1);
        parts
            .next()
            .is_none()
            .then(|| Self::from_utc((year, month, day), time))?
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

/// A number of one to four digits.
fn digits(text: &str) -> Option<i64> {
    let is_short = (1..=4).contains(&text.len());
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_short && is_number)
}

/// Days of the Gregorian calendar, counted in years that begin in March.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a year of four digits has no more than four million days"
)]
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(0..=YEAR_MAX).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    Some(year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970)
}

/// No date that is read has more digits.
const YEAR_MAX: i64 = 9_999;
/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

struct Rfc5322(Timestamp);
struct Rfc3339(Timestamp);

/// A day of the proleptic Gregorian calendar.
struct Civil {
    year: u64,
    month: usize, // 0 to 11
    day: u64,     // 1 to 31
}

/// Days since the epoch to a date; the era arithmetic is Howard Hinnant's `civil_from_days`.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "each difference is of a whole and its parts, and a year is shorter than its days"
)]
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
            date.month.saturating_add(1),
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
    fn dates_of_the_wire_are_read() {
        let seconds = |point: Option<Timestamp>| point.map(Timestamp::seconds);
        let rfc3339 = |text| seconds(Timestamp::parse_rfc3339(text));
        assert_eq!(rfc3339("2026-11-24T13:32:11Z"), Some(1_795_527_131));
        assert_eq!(
            rfc3339("2026-11-24T14:32:11.123456+01:00"),
            Some(1_795_527_131)
        );
        assert_eq!(rfc3339("2026-11-24T08:32:11-05:00"), Some(1_795_527_131));
        for text in [
            "",
            "2026-11-24",
            "2026-13-24T13:32:11Z",
            "2026-11-24T25:32:11Z",
            "2026-11-24T13:32:11",
            "2026-11-24T13:32:11Zé",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
        let http = |text| seconds(Timestamp::parse_http(text));
        assert_eq!(http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(http(text), None, "{text}");
        }
        for at in [0, 951_782_400, 1_795_527_131, 4_107_542_400] {
            let text = Timestamp::from_seconds(at).rfc3339().to_string();
            assert_eq!(seconds(Timestamp::parse_rfc3339(&text)), Some(at));
        }
    }

    #[test]
    fn a_clock_set_back_gives_no_negative_age() {
        assert_eq!(
            Timestamp::from_seconds(5).since(Timestamp::from_seconds(9)),
            Duration::ZERO
        );
    }
}
