//! Topic patterns: which topics a key may publish to or read.

use std::fmt;

use crate::topic::{self, Topic, TopicError};

/// A pattern over topics: `*` stands for one segment, a last `**` for one or more.
///
/// `demo/*` matches `demo/a` but not `demo/a/b`; `demo/**` matches both; `**` matches every topic.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// [`TopicError`] when a segment is neither a topic's segment nor `*`, nor a last `**`.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let (fixed, open) = match text.strip_suffix("**") {
            Some("") => return Ok(Self(text.to_owned())),
            Some(rest) => (
                rest.strip_suffix('/').ok_or(TopicError::Character('*'))?,
                true,
            ),
            None => (text, false),
        };
        let plain: Vec<&str> = fixed
            .split('/')
            .map(|s| if s == "*" { "x" } else { s })
            .collect();
        topic::check(&plain.join("/"))?;
        debug_assert!(open || !text.ends_with("**"));
        Ok(Self(text.to_owned()))
    }

    /// Whether the pattern covers this topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut segments = topic.as_str().split('/');
        for part in self.0.split('/') {
            let segment = segments.next();
            match (part, segment) {
                ("**", segment) => return segment.is_some(),
                ("*", Some(_)) => {}
                (part, Some(segment)) if part == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_segment() {
        let table = [
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("demo/*", "demo/a", true),
            ("demo/*", "demo/a/b", false),
            ("demo/*", "demo", false),
            ("demo/**", "demo/a/b", true),
            ("demo/**", "demo", false),
            ("demo/**", "demonstration/a", false),
            ("*/user/*", "airsend/user/1", true),
            ("airsend/user/1", "airsend/user/1", true),
            ("airsend/user/1", "airsend/user/10", false),
        ];
        for (pattern, topic, expected) in table {
            let pattern = TopicPattern::parse(pattern).expect(pattern);
            let topic = Topic::parse(topic).expect(topic);
            assert_eq!(pattern.matches(&topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a**", "a/**/b", "a//b", "a/*x", "a b", "***", "/**"] {
            assert!(TopicPattern::parse(text).is_err(), "{text:?}");
        }
    }
}
