//! The `Date` of an answer: what time it is where PVE runs.

use http::HeaderMap;
use time::{Date, Month, OffsetDateTime, Time};

/// In the form that RFC 9110 (5.6.7) wants of senders.
pub fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    parsed(headers.get(http::header::DATE)?.to_str().ok()?)
}

fn parsed(text: &str) -> Option<OffsetDateTime> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day = parts.next()?.parse().ok()?;
    let month = MONTHS.find(parts.next().filter(|it| it.len() == 3)?).filter(|at| at % 3 == 0)?;
    let month = u8::try_from(month / 3 + 1).ok()?;
    let year = parts.next()?.parse().ok()?;
    let mut clock = parts.next()?.split(':').map(|it| it.parse().ok());
    let time = Time::from_hms(clock.next()??, clock.next()??, clock.next()??).ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    (parts.next() == Some("GMT")).then(|| date.with_time(time).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_answers() {
        let seconds = |text| parsed(text).map(OffsetDateTime::unix_timestamp);
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for wrong in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
