//! The `Date` of an answer, which tells PVE's clock.

use std::time::SystemTime;

use http::{HeaderMap, header::DATE};
use time::OffsetDateTime;

/// Reads the `Date` of an answer.
pub fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    let date: SystemTime = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(date.into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn seconds(text: &'static str) -> Option<i64> {
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(text))]);
        date(&headers).map(OffsetDateTime::unix_timestamp)
    }

    /// Recipients read the two obsolete forms too (RFC 9110, 5.6.7).
    #[test]
    fn dates_of_answers() {
        for right in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(seconds(right), Some(784_111_777), "{right}");
        }
        for wrong in [
            "",
            "Sun, 06 Nov 1994 08:49:37 +0100",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
