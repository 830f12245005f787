//! Cursors: a place in one or several topics, as clients hold it.
//!
//! A cursor over one topic prints as an event id, so that it sorts as text and can be compared by
//! hand. One over several topics is opaque: one place per partition, a fence for every topic that
//! is behind its partition (still replaying, or rewound), and a fingerprint of the topic set, so
//! that a cursor is never applied to other topics than it was made for (LOG.md §5). Both are safe
//! in an SSE `id:` line, a URL and a JSON string.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use twox_hash::XxHash64;

use crate::id::EventId;
use crate::limits::TOPICS_PER_SUBSCRIPTION_MAX;
use crate::placement::{Partition, Placed};
use crate::topic::Topic;

/// The topics of one subscription in a canonical order: by partition, then by name, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSet {
    topics: Vec<Placed>,
    /// Stands in every cursor over several topics; made once, printed per event.
    fingerprint: [u8; 4],
}

/// A place for each topic of a set, in the set's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Places);

/// Most subscriptions have one topic; their cursors need no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Places {
    One([EventId; 1]),
    Many(Vec<EventId>),
}

/// A cursor together with the topics it is over: what a connection needs to print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// The topics.
    pub set: Arc<TopicSet>,
    /// The place.
    pub cursor: Cursor,
}

impl At {
    /// The cursor as text.
    #[must_use]
    pub fn print(&self) -> String {
        self.cursor.print(&self.set)
    }

    /// Moves past an event: every topic of its partition is then at least there, since the events
    /// of one partition are delivered in the order of their ids.
    pub fn pass(&mut self, position: usize, id: EventId) {
        let Some(partition) = self.set.topics.get(position).map(|placed| placed.partition) else {
            return;
        };
        for (place, placed) in self.cursor.places_mut().iter_mut().zip(&self.set.topics) {
            if placed.partition == partition {
                *place = (*place).max(id);
            }
        }
    }
}

/// Why a text is not a cursor for these topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Not printed by any hub.
    #[error("this is not a cursor")]
    Garbage,
    /// A cursor, but over other topics (or of a hub with another partition count).
    #[error("this cursor was made for other topics")]
    OtherTopics,
}

/// Why topics do not make a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicSetError {
    /// None at all.
    #[error("name at least one topic")]
    Empty,
    /// More than [`TOPICS_PER_SUBSCRIPTION_MAX`].
    #[error("at most {TOPICS_PER_SUBSCRIPTION_MAX} topics are taken, {0} were named")]
    TooMany(usize),
}

impl TopicSet {
    /// Sorts the topics and drops repetitions.
    ///
    /// # Errors
    /// [`TopicSetError`] when there are none or too many.
    pub fn new(mut topics: Vec<Placed>) -> Result<Self, TopicSetError> {
        topics.sort();
        topics.dedup();
        match topics.len() {
            0 => Err(TopicSetError::Empty),
            n if n > TOPICS_PER_SUBSCRIPTION_MAX => Err(TopicSetError::TooMany(n)),
            _ => Ok(Self::sorted(topics)),
        }
    }

    /// A set of one.
    #[must_use]
    pub fn one(topic: Placed) -> Self {
        Self::sorted(vec![topic])
    }

    fn sorted(topics: Vec<Placed>) -> Self {
        let mut text = String::new();
        for placed in &topics {
            text.push_str(&format!("{}:{}\n", placed.partition.0, placed.topic));
        }
        let [a, b, c, d, ..] = XxHash64::oneshot(0, text.as_bytes()).to_be_bytes();
        Self {
            topics,
            fingerprint: [a, b, c, d],
        }
    }

    /// The topics in the set's order.
    #[must_use]
    pub fn topics(&self) -> &[Placed] {
        &self.topics
    }

    /// Where a topic stands in the set's order.
    #[must_use]
    pub fn position(&self, topic: &Topic) -> Option<usize> {
        self.topics.iter().position(|placed| placed.topic == *topic)
    }

    /// The partitions the set touches, each with its range in the set's order.
    pub fn partitions(&self) -> impl Iterator<Item = (Partition, std::ops::Range<usize>)> {
        let mut start = 0;
        self.topics
            .chunk_by(|a, b| a.partition == b.partition)
            .map(move |chunk| {
                let range = start..start + chunk.len();
                start = range.end;
                (chunk[0].partition, range)
            })
    }
}

/// The first byte of the opaque form.
const VERSION: u8 = 1;
/// An id's integer form is below 2^53: seven bytes hold it.
const PLACE_BYTES: usize = 7;

impl Cursor {
    /// One place for every topic of the set.
    #[must_use]
    pub fn everywhere(set: &TopicSet, place: EventId) -> Self {
        match set.topics.len() {
            1 => Self(Places::One([place])),
            many => Self(Places::Many(vec![place; many])),
        }
    }

    /// The places, in the set's order.
    #[must_use]
    pub fn places(&self) -> &[EventId] {
        match &self.0 {
            Places::One(place) => place,
            Places::Many(places) => places,
        }
    }

    /// The places, to be moved.
    pub fn places_mut(&mut self) -> &mut [EventId] {
        match &mut self.0 {
            Places::One(place) => place,
            Places::Many(places) => places,
        }
    }

    /// The cursor as text.
    #[must_use]
    pub fn print(&self, set: &TopicSet) -> String {
        debug_assert_eq!(
            self.places().len(),
            set.topics.len(),
            "a cursor has a place for each topic of its set"
        );
        if let [place] = self.places() {
            return place.to_string();
        }
        let mut bytes = vec![VERSION];
        bytes.extend(set.fingerprint);
        let mut fences = Vec::new();
        for (_, range) in set.partitions() {
            let places = &self.places()[range.clone()];
            let level = places.iter().copied().max().unwrap_or_default();
            push_place(&mut bytes, level);
            for (position, place) in range.zip(places) {
                if *place < level {
                    // The position is below TOPICS_PER_SUBSCRIPTION_MAX, which fits a byte.
                    fences.push(position as u8);
                    push_place(&mut fences, *place);
                }
            }
        }
        bytes.extend(fences);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::print`] wrote for the same set.
    ///
    /// # Errors
    /// [`CursorError`] when the text is no cursor, or one over other topics.
    pub fn parse(set: &TopicSet, text: &str) -> Result<Self, CursorError> {
        if set.topics.len() == 1 {
            let opaque = URL_SAFE_NO_PAD
                .decode(text)
                .is_ok_and(|b| b.first() == Some(&VERSION));
            let other = if opaque {
                CursorError::OtherTopics
            } else {
                CursorError::Garbage
            };
            return EventId::parse(text)
                .map(|place| Self(Places::One([place])))
                .ok_or(other);
        }
        if EventId::parse(text).is_some() {
            return Err(CursorError::OtherTopics);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| CursorError::Garbage)?;
        let Some((&[VERSION, a, b, c, d], mut rest)) = bytes.split_first_chunk::<5>() else {
            return Err(CursorError::Garbage);
        };
        if [a, b, c, d] != set.fingerprint {
            return Err(CursorError::OtherTopics);
        }
        let mut places = vec![EventId::ORIGIN; set.topics.len()];
        for (_, range) in set.partitions() {
            places[range].fill(pull_place(&mut rest)?);
        }
        while let Some((position, tail)) = rest.split_first() {
            rest = tail;
            let place = pull_place(&mut rest)?;
            *places
                .get_mut(usize::from(*position))
                .ok_or(CursorError::Garbage)? = place;
        }
        Ok(Self(Places::Many(places)))
    }
}

fn push_place(bytes: &mut Vec<u8>, place: EventId) {
    bytes.extend(&place.as_integer().to_be_bytes()[8 - PLACE_BYTES..]);
}

fn pull_place(rest: &mut &[u8]) -> Result<EventId, CursorError> {
    let (head, tail) = rest
        .split_first_chunk::<PLACE_BYTES>()
        .ok_or(CursorError::Garbage)?;
    *rest = tail;
    let mut wide = [0; 8];
    wide[8 - PLACE_BYTES..].copy_from_slice(head);
    EventId::from_integer(u64::from_be_bytes(wide)).ok_or(CursorError::Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Partitions;

    fn set(names: &[&str]) -> TopicSet {
        let place = |name: &&str| Placed {
            partition: Partitions::DEFAULT.of(name),
            topic: Topic::parse(name).expect("valid"),
        };
        TopicSet::new(names.iter().map(place).collect()).expect("neither empty nor too many")
    }

    fn at(ms: u64) -> EventId {
        EventId::new(ms, 3).expect("in range")
    }

    #[test]
    fn a_cursor_over_one_topic_is_an_event_id() {
        let one = set(&["demo/a"]);
        let cursor = Cursor::everywhere(&one, at(1_732_161_600_000));
        assert_eq!(cursor.print(&one), "1732161600000-0003");
        assert_eq!(Cursor::parse(&one, "1732161600000-0003"), Ok(cursor));
    }

    #[test]
    fn several_topics_go_there_and_back_with_their_fences() {
        let names: Vec<String> = (0..40).map(|n| format!("demo/{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let many = set(&names);
        let mut cursor = Cursor::everywhere(&many, at(1_732_161_600_000));
        let level = cursor.print(&many);
        assert_eq!(Cursor::parse(&many, &level), Ok(cursor.clone()));
        cursor.places_mut()[7] = at(5);
        cursor.places_mut()[9] = EventId::ORIGIN;
        let fenced = cursor.print(&many);
        assert!(fenced.len() > level.len());
        assert_eq!(Cursor::parse(&many, &fenced), Ok(cursor));
        assert!(
            fenced
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
    }

    #[test]
    fn a_cursor_of_other_topics_is_refused() {
        let (one, two, three) = (set(&["a"]), set(&["a", "b"]), set(&["a", "c"]));
        let text = Cursor::everywhere(&two, at(9)).print(&two);
        assert_eq!(Cursor::parse(&three, &text), Err(CursorError::OtherTopics));
        assert_eq!(Cursor::parse(&one, &text), Err(CursorError::OtherTopics));
        assert_eq!(
            Cursor::parse(&two, "1732161600000-0003"),
            Err(CursorError::OtherTopics)
        );
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let (one, two) = (set(&["a"]), set(&["a", "b"]));
        let good = Cursor::everywhere(&two, at(9)).print(&two);
        for text in [
            "",
            "-1",
            "x",
            "AQ",
            "AAAA",
            "....",
            "\u{0}",
            "ä",
            &good[..good.len() - 1],
            &format!("{good}AAAA"),
        ] {
            assert!(Cursor::parse(&one, text).is_err(), "{text:?}");
            assert!(Cursor::parse(&two, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sets_are_canonical_and_bounded() {
        assert_eq!(set(&["a", "b", "a"]), set(&["b", "a"]));
        assert_eq!(TopicSet::new(Vec::new()), Err(TopicSetError::Empty));
        let covered: usize = set(&["a", "b", "c", "d", "e"])
            .partitions()
            .map(|(_, r)| r.len())
            .sum();
        assert_eq!(covered, 5);
    }
}
