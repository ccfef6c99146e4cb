//! Instants and durations for people. Chains count Unix seconds.

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `2026-11-21 14:05 UTC`, rounded up to the minute: who comes back then is not too early.
pub(crate) fn utc(unix: u64) -> String {
    let unix = unix.div_ceil(MINUTE).saturating_mul(MINUTE);
    let (year, month, day) = civil(unix / DAY);
    let (hour, minute) = (unix % DAY / HOUR, unix % HOUR / MINUTE);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// `2026-11-21 14:05 UTC (in 3 h 20 min)`, or only the instant once it is past.
pub(crate) fn due(unix: u64, now: u64) -> String {
    match unix.checked_sub(now) {
        Some(left @ 1..) => format!("{} (in {})", utc(unix), span(left)),
        _ => utc(unix),
    }
}

/// The two largest parts of a duration, the smaller rounded up: `3 h 20 min`, `45 s`.
pub(crate) fn span(seconds: u64) -> String {
    let parts = |large: u64, large_name: &str, small: u64, small_name: &str| {
        let smalls = seconds.div_ceil(small);
        let (whole, rest) = (smalls * small / large, smalls * small % large / small);
        match rest {
            0 => format!("{whole} {large_name}"),
            rest => format!("{whole} {large_name} {rest} {small_name}"),
        }
    };
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => parts(MINUTE, "min", 1, "s"),
        HOUR..DAY => parts(HOUR, "h", MINUTE, "min"),
        _ => parts(DAY, "d", HOUR, "h"),
    }
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar (the
/// algorithm of Howard Hinnant's `civil_from_days`: years begin in March, eras have 400 of them).
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    let since_march_0000 = days + 719_468;
    let (era, day) = (since_march_0000 / ERA_DAYS, since_march_0000 % ERA_DAYS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, in_next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + in_next_year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(utc(951_868_799), "2000-03-01 00:00 UTC");
        assert_eq!(utc(1_795_269_900), "2026-11-21 14:05 UTC");
        assert_eq!(utc(1_795_269_901), "2026-11-21 14:06 UTC");
        assert_eq!(utc(4_102_444_799), "2100-01-01 00:00 UTC");
    }

    #[test]
    fn spans_have_two_parts_and_round_up() {
        let shown = [0, 45, 60, 61, 3_600, 12_001, 86_399, 86_400, 604_801].map(span);
        let expected = [
            "0 s",
            "45 s",
            "1 min",
            "1 min 1 s",
            "1 h",
            "3 h 21 min",
            "24 h",
            "1 d",
            "7 d 1 h",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_past_is_not_counted_down() {
        assert_eq!(due(60, 60), "1970-01-01 00:01 UTC");
        assert_eq!(due(60, 15), "1970-01-01 00:01 UTC (in 45 s)");
    }
}
