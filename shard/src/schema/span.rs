//! Lengths of time with the spelling they came in.
//!
//! Promises: [`Span::parse`] takes what people write (`1h`, `24h`, `7d`, `5min`, `1h30m`), with a
//! day of 24 hours and a week of seven days; [`Span::of`] spells a duration in its largest whole
//! unit, hours up to two days, so that `Duration`s and text meet in the same labels.

use jiff::SpanRelativeTo;
use std::time::Duration;

/// A length of time and how to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) label: String,
    /// `None` where the text was not a length of time.
    pub(super) length: Option<Duration>,
}

impl Span {
    pub(super) fn parse(text: &str) -> Self {
        let length = text.parse::<jiff::Span>().ok().and_then(|span| {
            let days_are_24_hours = SpanRelativeTo::days_are_24_hours();
            Duration::try_from(span.to_duration(days_are_24_hours).ok()?).ok()
        });
        Self { label: text.trim().to_owned(), length }
    }

    pub(super) fn of(length: Duration) -> Self {
        const UNITS: [(u128, &str); 7] = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "min"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
            (1, "ns"),
        ];
        let ns = length.as_nanos();
        let two_days = 2 * UNITS[0].0;
        let &(unit, name) = UNITS
            .iter()
            .find(|&&(unit, name)| ns.is_multiple_of(unit) && (name != "d" || ns >= two_days))
            .unwrap_or(&UNITS[6]);
        Self { label: format!("{}{name}", ns / unit), length: Some(length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        let seconds = |text: &str| Span::parse(text).length.map(|length| length.as_secs());
        assert_eq!(seconds("1h"), Some(3600));
        assert_eq!(seconds("24h"), Some(86_400));
        assert_eq!(seconds("7d"), Some(604_800));
        assert_eq!(seconds("2w"), Some(1_209_600));
        assert_eq!(seconds("5min"), Some(300));
        assert_eq!(seconds("5m"), Some(300));
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("1h30m"), Some(5400));
        assert_eq!(Span::parse("250ms").length, Some(Duration::from_millis(250)));
        for rubbish in ["", "h", "1", "one hour", "-1h", "1 month", "1h1"] {
            assert_eq!(Span::parse(rubbish).length, None, "{rubbish}");
        }
    }

    #[test]
    fn durations_are_spelled_as_people_would() {
        for label in ["1h", "24h", "7d", "30d", "5min", "90s", "250ms", "36h", "1us", "7ns"] {
            let length = Span::parse(label).length.unwrap();
            assert_eq!(Span::of(length).label, label);
        }
    }
}
