//! Timestamps: RFC 3339, or nanoseconds since the Unix epoch.
//!
//! Promises: exact to the nanosecond from 1970 to 2554, the range of 64 bits; anything outside is
//! refused with the reason. `t` or a space may stand for `T`, and `z` for `Z`. A leap second
//! (`:60`) counts as the second before it, as Unix time has none.

use super::number::{self, NotUnsigned};

/// Why a text is not the time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampFault {
    /// Neither RFC 3339 nor an integer.
    #[error("is neither RFC 3339 such as 2013-01-01T05:59:00Z nor an integer of nanoseconds")]
    Unreadable,
    /// Before the Unix epoch.
    #[error("is before 1970; times count from the Unix epoch")]
    BeforeEpoch,
    /// After the last nanosecond that 64 bits hold.
    #[error("is after 2554-07-21T23:34:33.709551615Z, the last nanosecond of 64 bits")]
    TooLate,
    /// More than nine digits of a second.
    #[error("has a fraction finer than a nanosecond; give at most nine digits")]
    TooFine,
}

/// Reads a timestamp as nanoseconds since the Unix epoch.
///
/// ```
/// use ebbtide_bench::trace::parse_timestamp;
///
/// assert_eq!(parse_timestamp("1970-01-01T01:00:00.5+01:00"), Ok(500_000_000));
/// assert_eq!(parse_timestamp("17"), Ok(17));
/// ```
///
/// # Errors
///
/// When the text is no timestamp, or out of range.
pub fn parse_timestamp(text: &str) -> Result<u64, TimestampFault> {
    Calendar::default().parse(text.as_bytes())
}

/// Reads timestamps, remembering the last date: neighbours in a trace mostly share it.
#[derive(Debug)]
pub(crate) struct Calendar {
    date: [u8; 10],
    /// Seconds from the Unix epoch to the midnight that begins `date`.
    midnight_s: i64,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { date: *b"1970-01-01", midnight_s: 0 }
    }
}

const NS_PER_S: u64 = 1_000_000_000;
const DAY_S: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

impl Calendar {
    /// Reads a timestamp of either form.
    #[inline]
    pub(crate) fn parse(&mut self, text: &[u8]) -> Result<u64, TimestampFault> {
        if let Some((head, rest)) = text.split_first_chunk::<19>()
            && head[4] == b'-'
        {
            return self.rfc3339(*head, rest);
        }
        match number::unsigned(text) {
            Ok(time_ns) => Ok(time_ns),
            Err(NotUnsigned::TooLarge) => Err(TimestampFault::TooLate),
            Err(NotUnsigned::OtherThanDigits) => Err(not_an_integer(text)),
        }
    }

    /// `head` is `2013-01-01T05:59:00`, `rest` the fraction and the zone.
    #[inline]
    fn rfc3339(&mut self, head: [u8; 19], rest: &[u8]) -> Result<u64, TimestampFault> {
        let unreadable = TimestampFault::Unreadable;
        let [date @ .., b'T' | b't' | b' ', h1, h0, b':', m1, m0, b':', s1, s0] = head else {
            return Err(unreadable);
        };
        let hours = two_digits(h1, h0).filter(|&hours| hours < 24).ok_or(unreadable)?;
        let minutes = two_digits(m1, m0).filter(|&minutes| minutes < 60).ok_or(unreadable)?;
        let seconds = two_digits(s1, s0).filter(|&seconds| seconds <= 60).ok_or(unreadable)?;
        let clock_s = hour_minute_s(hours, minutes) + i64::from(seconds.min(59));

        let (fraction_ns, zone) = match rest.strip_prefix(b".") {
            None => (0, rest),
            Some(rest) => fraction(rest)?,
        };
        let offset_s = match zone {
            b"Z" | b"z" => 0,
            _ => offset(zone).ok_or(unreadable)?,
        };
        let since_epoch_s = self.midnight(date)? + clock_s - offset_s;
        let whole_s = u64::try_from(since_epoch_s).map_err(|_| TimestampFault::BeforeEpoch)?;
        let time_ns = whole_s.checked_mul(NS_PER_S).ok_or(TimestampFault::TooLate)?;
        time_ns.checked_add(fraction_ns).ok_or(TimestampFault::TooLate)
    }

    #[inline]
    fn midnight(&mut self, date: [u8; 10]) -> Result<i64, TimestampFault> {
        if date != self.date {
            let days = days_since_epoch(date).ok_or(TimestampFault::Unreadable)?;
            *self = Self { date, midnight_s: days * DAY_S };
        }
        Ok(self.midnight_s)
    }
}

#[cold]
fn not_an_integer(text: &[u8]) -> TimestampFault {
    match text.strip_prefix(b"-") {
        Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            TimestampFault::BeforeEpoch
        }
        _ => TimestampFault::Unreadable,
    }
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Option<u8> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens <= 9 && ones <= 9).then(|| tens * 10 + ones)
}

#[inline]
fn hour_minute_s(hours: u8, minutes: u8) -> i64 {
    i64::from(hours) * 3600 + i64::from(minutes) * 60
}

/// Reads the digits after the point as nanoseconds; gives back what follows them.
fn fraction(text: &[u8]) -> Result<(u64, &[u8]), TimestampFault> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = text.split_at(length);
    match length {
        0 => Err(TimestampFault::Unreadable),
        1..=9 => {
            let value = digits.iter().fold(0, |sum, byte| sum * 10 + u64::from(byte - b'0'));
            let missing = digits.len()..9;
            Ok((missing.fold(value, |value, _| value * 10), zone))
        }
        _ => Err(TimestampFault::TooFine),
    }
}

/// Reads `+05:30` as seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    let &[sign @ (b'+' | b'-'), h1, h0, b':', m1, m0] = zone else { return None };
    let hours = two_digits(h1, h0).filter(|&hours| hours < 24)?;
    let minutes = two_digits(m1, m0).filter(|&minutes| minutes < 60)?;
    let east_s = hour_minute_s(hours, minutes);
    Some(if sign == b'-' { -east_s } else { east_s })
}

/// Days from 1970-01-01 to `2013-01-01` in the Gregorian calendar.
#[cold]
fn days_since_epoch(date: [u8; 10]) -> Option<i64> {
    let [y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0] = date else { return None };
    let year = i64::from(two_digits(y3, y2)?) * 100 + i64::from(two_digits(y1, y0)?);
    let month = two_digits(m1, m0)?;
    let day = two_digits(d1, d0)?;
    if day < 1 || day > days_of_month(year, month)? {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * i64::from(month) + 2) / 5 + i64::from(day) - 1;
    Some(365 * year + leap_days + day_of_year - EPOCH_DAYS)
}

fn days_of_month(year: i64, month: u8) -> Option<u8> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if is_leap => Some(29),
        2 => Some(28),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_64_bits_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..=2554 {
            for month in 1..=12 {
                for day in 1..=days_of_month(year, month).unwrap() {
                    let date = format!("{year:04}-{month:02}-{day:02}");
                    let days = days_since_epoch(date.as_bytes().try_into().unwrap());
                    assert_eq!(days, Some(expected), "{date}");
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn the_last_nanosecond_is_in_and_the_next_is_out() {
        assert_eq!(parse_timestamp("2554-07-21T23:34:33.709551615Z"), Ok(u64::MAX));
        let beyond = Err(TimestampFault::TooLate);
        assert_eq!(parse_timestamp("2554-07-21T23:34:33.709551616Z"), beyond);
        assert_eq!(parse_timestamp("9999-12-31T23:59:59Z"), beyond);
        assert_eq!(parse_timestamp("18446744073709551616"), beyond);
    }

    #[test]
    fn before_the_epoch_is_refused_by_the_instant_and_not_by_the_date() {
        assert_eq!(parse_timestamp("1969-12-31T23:30:00-01:00"), Ok(1800 * NS_PER_S));
        let before = Err(TimestampFault::BeforeEpoch);
        assert_eq!(parse_timestamp("1970-01-01T00:30:00+01:00"), before);
        assert_eq!(parse_timestamp("0000-01-01T00:00:00Z"), before);
        assert_eq!(parse_timestamp("-1"), before);
    }

    #[test]
    fn both_cases_and_a_space_are_read_alike() {
        let expected = parse_timestamp("2013-02-28T23:59:59.120Z").unwrap();
        for text in ["2013-02-28t23:59:59.12z", "2013-02-28 23:59:60.12Z"] {
            assert_eq!(parse_timestamp(text), Ok(expected), "{text}");
        }
        assert_eq!(parse_timestamp("2013-03-01T05:29:59.12+05:30"), Ok(expected));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "1.5",
            "+5",
            "2013-02-29T00:00:00Z",
            "2013-13-01T00:00:00Z",
            "2013-01-00T00:00:00Z",
            "2013-01-01T24:00:00Z",
            "2013-01-01T00:60:00Z",
            "2013-01-01T00:00:61Z",
            "2013-01-01T00:00:00",
            "2013-01-01T00:00:00.Z",
            "2013-01-01T00:00:00+5:30",
            "2013-01-01T00:00:00+24:00",
            "2013-01-01T00:00:00Zz",
            "2013-01-01",
        ] {
            assert_eq!(parse_timestamp(text), Err(TimestampFault::Unreadable), "{text}");
        }
        let fine = "2013-01-01T00:00:00.0000000001Z";
        assert_eq!(parse_timestamp(fine), Err(TimestampFault::TooFine));
    }
}
