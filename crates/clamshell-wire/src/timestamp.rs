//! Times as AWS bodies carry them: RFC 3339 in UTC with milliseconds. Nothing here reads a clock.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A point in time, to the millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// From milliseconds since 1970; the nearest time there is when it is out of range.
    pub fn from_ms(ms: u64) -> Self {
        let known = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        Self(known.unwrap_or(jiff::Timestamp::MAX))
    }

    /// Milliseconds since 1970; 0 for what is before.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millisecond()).unwrap_or(0)
    }

    /// Reads RFC 3339, with any offset and any number of digits.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let time = Timestamp::from_ms(1_767_323_045_789);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-01-02T03:04:05.789Z\"");
        assert_eq!(Timestamp::from_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(serde_json::from_str::<Timestamp>("\"2026-01-02T04:04:05.789+01:00\"").unwrap(), time);
        assert_eq!(time.as_ms(), 1_767_323_045_789);
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Timestamp>("5").is_err());
        assert_eq!(Timestamp::from_ms(u64::MAX), Timestamp(jiff::Timestamp::MAX));
    }
}
