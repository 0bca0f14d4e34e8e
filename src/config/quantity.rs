//! Sizes and durations as people write them: `50 MiB`, `4d`, `1h30m`.

use std::time::Duration;

/// Bytes of a size: a number and one of B, KiB, MiB, GiB (or kB, MB, GB).
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_rest(text.trim())?;
    let factor = match unit.trim_start() {
        "B" => 1,
        "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A size as the whole program writes it for people: rounded down, with one decimal below ten.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "every unit is shifted by at least 10, and the rest of a division by 1,024 times 10 fits"
)]
pub fn size_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let mut units = units.into_iter();
    let Some((shift, unit)) = units.find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let whole = bytes >> shift;
    let tenths = ((bytes >> (shift - 10)) % 1_024) * 10 / 1_024;
    match whole {
        0..10 if tenths > 0 => format!("{whole}.{tenths} {unit}"),
        _ => format!("{whole} {unit}"),
    }
}

/// A duration: numbers with s, m, h, d or w, added up.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut seconds: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, behind) = number_and_rest(rest)?;
        let mut chars = behind.trim_start().chars();
        let factor = match chars.next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(factor)?)?;
        rest = chars.as_str().trim_start();
    }
    Some(Duration::from_secs(seconds))
}

fn number_and_rest(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people_are_short_and_never_too_large() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (64 << 20, "64 MiB"),
            (3_145_728_000, "2.9 GiB"),
            (10_737_418_239, "9.9 GiB"),
            (10 << 30, "10 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }

    #[test]
    fn reads_sizes() {
        assert_eq!(size("50 MiB"), Some(50 * 1024 * 1024));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("1 GB"), Some(1_000_000_000));
        for bad in [
            "",
            "MiB",
            "50",
            "50 mib",
            "-1 MiB",
            "1.5 MiB",
            "99999999999999999999 B",
            "99999999999 GiB",
        ] {
            assert_eq!(size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn reads_durations() {
        assert_eq!(duration("4d"), Some(Duration::from_secs(345_600)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(duration(" 2 w "), Some(Duration::from_secs(1_209_600)));
        for bad in ["", "4", "d", "4x", "4d 3", "9999999999999999999w"] {
            assert_eq!(duration(bad), None, "{bad:?}");
        }
    }
}
