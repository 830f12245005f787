//! An event: what the log hands out.

use std::sync::Arc;

use bytes::Bytes;

use crate::draft::Attributes;
use crate::id::EventId;
use crate::topic::Topic;

/// What the log hands out: the draft plus its id and the id of the previous event of its topic.
/// When it was received is in the id ([`EventId::ms`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in its partition.
    pub id: EventId,
    /// What stood before it in its topic.
    pub prev: Prev,
    /// Its topic.
    pub topic: Topic,
    /// What happened.
    pub kind: Arc<str>,
    /// JSON, byte for byte as it was published.
    pub data: Bytes,
    /// The draft's attributes.
    pub attributes: Option<Box<Attributes>>,
}

/// What the log knows of a topic's event before this one: lets any reader prove that nothing is
/// missing between two events (LOG.md §5). There is no "none": a log can forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prev {
    /// The topic's previous event.
    Event(EventId),
    /// Nothing in this topic after that place.
    NoneSince(EventId),
    /// Nothing is known.
    Unknown,
}

impl Prev {
    /// Whether a reader at `place` has missed nothing before this event.
    #[must_use]
    pub fn reaches(self, place: EventId) -> bool {
        match self {
            Self::Event(id) | Self::NoneSince(id) => id <= place,
            Self::Unknown => false,
        }
    }

    /// Parses what `Display` prints; anything else is unknown.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("none-since:") {
            Some(rest) => EventId::parse(rest).map_or(Self::Unknown, Self::NoneSince),
            None => EventId::parse(text).map_or(Self::Unknown, Self::Event),
        }
    }
}

impl std::fmt::Display for Prev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Event(id) => write!(f, "{id}"),
            Self::NoneSince(id) => write!(f, "none-since:{id}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl Event {
    /// Bytes that this event holds in memory, near enough to bound a window: its data and strings
    /// and a fixed share for the structures around them.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// The event, its `Arc`, its entries in the window's two queues.
        const FIXED: usize = 256;
        let attributes = self
            .attributes
            .as_ref()
            .map_or(0, |a| size_of::<Attributes>() + a.text_bytes());
        FIXED + self.data.len() + self.kind.len() + self.topic.as_str().len() + attributes
    }
}

impl Attributes {
    pub(crate) fn text_bytes(&self) -> usize {
        let single = [
            &self.publisher_id,
            &self.source,
            &self.subject,
            &self.time,
            &self.content_type,
            &self.schema,
            &self.trace_parent,
            &self.trace_state,
        ];
        single.into_iter().flatten().map(|text| text.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prev_prints_and_parses() {
        let id = EventId::new(5, 1).expect("in range");
        for prev in [Prev::Event(id), Prev::NoneSince(id), Prev::Unknown] {
            assert_eq!(Prev::parse(&prev.to_string()), prev);
        }
        assert_eq!(Prev::parse("none"), Prev::Unknown);
    }

    #[test]
    fn prev_proves_only_what_it_knows() {
        let at = |ms| EventId::new(ms, 0).expect("in range");
        assert!(Prev::Event(at(5)).reaches(at(5)));
        assert!(Prev::NoneSince(at(5)).reaches(at(6)));
        assert!(!Prev::Event(at(5)).reaches(at(4)));
        assert!(!Prev::Unknown.reaches(at(9)));
    }
}
