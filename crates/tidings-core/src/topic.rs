//! A topic: the name of one ordered run of events. Parsed once; every `Topic` in hand is valid.

use std::fmt;
use std::sync::Arc;

use crate::limits::TOPIC_BYTES_MAX;

/// The name of one ordered run of events, e.g. `airsend/channel/11010000`.
///
/// Segments of `A-Z a-z 0-9 - . _ ~ : @ = + $`, separated by `/`, none of them empty, `.` or `..`;
/// 1 to [`TOPIC_BYTES_MAX`] bytes. So a topic stands in a URL path, a Redis key and a JSON string
/// without escapes. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a text is not a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No text at all.
    #[error("a topic is at least one character long")]
    Empty,
    /// Longer than [`TOPIC_BYTES_MAX`].
    #[error("a topic has at most {TOPIC_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A segment is empty, `.` or `..`.
    #[error("a topic's segments, separated by '/', are never empty, '.' or '..'")]
    Segment,
    /// A character outside the set.
    #[error("{0:?} cannot stand in a topic: use letters, digits and - . _ ~ : @ = + $ /")]
    Character(char),
}

impl Topic {
    /// Parses a topic.
    ///
    /// # Errors
    /// [`TopicError`] says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first segment: adapters own topics by their root.
    #[must_use]
    pub fn root(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }
}

pub(crate) fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong(text.len()));
    }
    if let Some(stranger) = text.chars().find(|c| !allowed(*c)) {
        return Err(TopicError::Character(stranger));
    }
    if text
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err(TopicError::Segment);
    }
    Ok(())
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~:@=+$/".contains(c)
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_parsed_once_and_then_valid() {
        let long = "a".repeat(TOPIC_BYTES_MAX + 1);
        let table: &[(&str, Result<(), TopicError>)] = &[
            ("demo/a", Ok(())),
            ("airsend/channel/11010000", Ok(())),
            ("zaikio/org/837ebb91-2d4b-4818-a19b-04fea7be8cde", Ok(())),
            ("", Err(TopicError::Empty)),
            (&long, Err(TopicError::TooLong(201))),
            ("a//b", Err(TopicError::Segment)),
            ("/a", Err(TopicError::Segment)),
            ("a/", Err(TopicError::Segment)),
            ("a/../b", Err(TopicError::Segment)),
            ("a b", Err(TopicError::Character(' '))),
            ("a\nb", Err(TopicError::Character('\n'))),
            ("{x}", Err(TopicError::Character('{'))),
            ("ä", Err(TopicError::Character('ä'))),
        ];
        for (text, expected) in table {
            assert_eq!(Topic::parse(text).map(|_| ()), *expected, "{text:?}");
        }
    }

    #[test]
    fn the_root_is_the_first_segment() {
        assert_eq!(
            Topic::parse("airsend/user/1").expect("valid").root(),
            "airsend"
        );
        assert_eq!(Topic::parse("alone").expect("valid").root(), "alone");
    }
}
