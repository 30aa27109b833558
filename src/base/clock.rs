//! Time as the record keeps it.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Microseconds since 1970-01-01 UTC, without leap seconds. The text form is RFC 3339 in UTC with six digits of the
/// second, `2026-11-23T05:10:34.000000Z`, so that texts sort as times do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// Years repeat after this many days: 400 of them.
const ERA_DAYS: i64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

impl Timestamp {
    /// The machine's clock. Only the edges of the house call this; the middle is handed its times.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar of all times. Years begin in March
/// here, so that the leap day is the last one (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date_of(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH_DAYS;
    let (era, day_of_era) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * march_month + 2) / 5 + 1)
}

/// The way back from [`date_of`].
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - EPOCH_DAYS
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.div_euclid(DAY_US));
        let of_day = self.0.rem_euclid(DAY_US);
        let (seconds, micros) = (of_day / SECOND_US, of_day % SECOND_US);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// The text is not a time of the form that [`Timestamp`] writes.
#[derive(Debug, PartialEq, Eq)]
pub struct NotATime;

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time of the form 2026-11-23T05:10:34.000000Z")
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        const AFTER_YEAR: usize = "-11-23T05:10:34.000000Z".len();
        let at = text.len().checked_sub(AFTER_YEAR).filter(|at| text.is_char_boundary(*at)).ok_or(NotATime)?;
        let (year, rest) = text.split_at(at);
        let number = |from: usize, to: usize| rest.get(from..to)?.parse::<u32>().ok().map(i64::from);
        let parts = || {
            let day = day_of(i64::from(year.parse::<i32>().ok()?), number(1, 3)?, number(4, 6)?);
            let seconds = number(7, 9)? * 3600 + number(10, 12)? * 60 + number(13, 15)?;
            let of_day = seconds * SECOND_US + number(16, 22)?;
            i64::try_from(i128::from(day) * i128::from(DAY_US) + i128::from(of_day)).ok()
        };
        // Whatever was read is right only if it is written the same way: no other form of a time means one.
        let time = parts().map(Timestamp).ok_or(NotATime)?;
        if time.to_string() == text { Ok(time) } else { Err(NotATime) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Timestamp)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_795_410_634_000_001, "2026-11-23T05:10:34.000001Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(micros)));
            assert_eq!(serde_json::to_string(&Timestamp(micros)).unwrap(), format!("{text:?}"));
        }
    }

    #[test]
    fn far_times_round_trip_and_no_other_form_is_a_time() {
        for micros in (-400..400).map(|step| step * (i64::MAX / 400)).chain([i64::MIN, i64::MAX]) {
            let text = Timestamp(micros).to_string();
            assert_eq!(text.parse(), Ok(Timestamp(micros)), "{text}");
        }
        for wrong in [
            "",
            "2026",
            "2026-02-29T00:00:00.000000Z",
            "2026-11-23T24:00:00.000000Z",
            "2026-11-23 05:10:34",
            "99999999999999999-11-23T05:10:34.000000Z",
            "2026-4294967295-23T05:10:34.000000Z",
        ] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(NotATime), "{wrong}");
        }
    }

    #[cfg(feature = "controller")]
    #[test]
    fn a_calendar_of_another_house_agrees() {
        for day in -800_000..800_000 {
            let micros = day * DAY_US + 12_345;
            let Ok(theirs) = jiff::Timestamp::from_microsecond(micros) else { continue };
            let theirs = theirs.to_zoned(jiff::tz::TimeZone::UTC).date();
            let ours = date_of(day);
            assert_eq!(ours, (i64::from(theirs.year()), i64::from(theirs.month()), i64::from(theirs.day())));
            assert_eq!(day_of(ours.0, ours.1, ours.2), day);
        }
    }
}
