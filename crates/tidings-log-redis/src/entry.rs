//! An event as a stream entry: five fields in a constant order, so that Redis stores their names
//! once per node of the stream.
//!
//! `t` topic, `k` kind, `p` prev, `a` attributes (compact JSON, or empty), `d` data. `prev` is the
//! integer form of the topic's previous id; zero or negative, it means "none since" the id without
//! its sign.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};
use tidings_core::{Attributes, Event, EventId, Prev, Topic};

/// Attributes in print: absent ones cost nothing, names are short.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(rename = "i", skip_serializing_if = "Option::is_none")]
    publisher_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    source: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "u", skip_serializing_if = "Option::is_none")]
    subject: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    time: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "c", skip_serializing_if = "Option::is_none")]
    content_type: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "d", skip_serializing_if = "Option::is_none")]
    schema: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    trace_parent: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "q", skip_serializing_if = "Option::is_none")]
    trace_state: Option<std::borrow::Cow<'a, str>>,
}

/// The `a` field.
pub(crate) fn print_attributes(attributes: Option<&Attributes>) -> String {
    let Some(a) = attributes else {
        return String::new();
    };
    let text = |value: &'_ Option<Arc<str>>| value.as_deref().map(|v| v.to_owned().into());
    let stored = Stored {
        publisher_id: text(&a.publisher_id),
        source: text(&a.source),
        subject: text(&a.subject),
        time: text(&a.time),
        content_type: text(&a.content_type),
        schema: text(&a.schema),
        trace_parent: text(&a.trace_parent),
        trace_state: text(&a.trace_state),
    };
    serde_json::to_string(&stored).expect("strings always print as JSON")
}

pub(crate) fn parse_attributes(text: &[u8]) -> Option<Option<Box<Attributes>>> {
    if text.is_empty() {
        return Some(None);
    }
    let stored: Stored<'_> = serde_json::from_slice(text).ok()?;
    let arc = |value: Option<std::borrow::Cow<'_, str>>| value.map(|v| Arc::from(&*v));
    Some(Some(Box::new(Attributes {
        publisher_id: arc(stored.publisher_id),
        source: arc(stored.source),
        subject: arc(stored.subject),
        time: arc(stored.time),
        content_type: arc(stored.content_type),
        schema: arc(stored.schema),
        trace_parent: arc(stored.trace_parent),
        trace_state: arc(stored.trace_state),
    })))
}

/// One entry of a log's stream.
#[derive(Debug)]
pub(crate) enum Entry {
    /// An event.
    Event(Event),
    /// Something at this place that no hub wrote.
    Strange(EventId),
}

impl Entry {
    pub(crate) const fn id(&self) -> EventId {
        match self {
            Self::Event(event) => event.id,
            Self::Strange(id) => *id,
        }
    }
}

/// The entries of an `XRANGE`, `XREVRANGE` or of one stream of an `XREAD`; `None` when the answer
/// has another shape.
pub(crate) fn entries(value: Value) -> Option<Vec<Entry>> {
    match value {
        Value::Array(entries) => entries.into_iter().map(entry).collect(),
        Value::Nil => Some(Vec::new()),
        _ => None,
    }
}

fn entry(value: Value) -> Option<Entry> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
    let id = stream_id(&id)?;
    Some(event(id, fields).map_or(Entry::Strange(id), Entry::Event))
}

/// A place in a stream of flash events: Redis made its ids, whose parts know no bounds.
pub(crate) type FlashPlace = (u64, u64);

/// The entries of a stream of flash events, each with its place; what no hub wrote is `None`.
pub(crate) fn flash_entries(value: Value) -> Option<Vec<(FlashPlace, Option<Event>)>> {
    let flash_entry = |entry: Value| {
        let Value::Array(parts) = entry else {
            return None;
        };
        let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
        let text = String::from_utf8(bytes_of(id)?).ok()?;
        let (ms, seq) = text.split_once('-')?;
        let place: FlashPlace = (ms.parse().ok()?, seq.parse().ok()?);
        // It tells flash events apart, and is no place of an event.
        let seq = u16::try_from(place.1 % u64::from(EventId::SEQ_END)).ok()?;
        let id = EventId::new(place.0, seq)?;
        Some((place, event(id, fields)))
    };
    match value {
        Value::Array(entries) => entries.into_iter().map(flash_entry).collect(),
        Value::Nil => Some(Vec::new()),
        _ => None,
    }
}

fn event(id: EventId, fields: Value) -> Option<Event> {
    let Value::Array(fields) = fields else {
        return None;
    };
    let fields: Option<Vec<Vec<u8>>> = fields.into_iter().map(bytes_of).collect();
    let [t, topic, k, kind, p, prev, a, attributes, d, data] =
        <[Vec<u8>; 10]>::try_from(fields?).ok()?;
    if [t, k, p, a, d] != [b"t", b"k", b"p", b"a", b"d"] {
        return None;
    }
    Some(Event {
        id,
        prev: parse_prev(&prev),
        topic: Topic::parse(std::str::from_utf8(&topic).ok()?).ok()?,
        kind: Arc::from(std::str::from_utf8(&kind).ok()?),
        data: Bytes::from(data),
        attributes: parse_attributes(&attributes)?,
    })
}

fn parse_prev(text: &[u8]) -> Prev {
    let number: Option<i64> = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    let Some(number) = number else {
        return Prev::Unknown;
    };
    match EventId::from_integer(number.unsigned_abs()) {
        Some(id) if number > 0 => Prev::Event(id),
        Some(id) => Prev::NoneSince(id),
        None => Prev::Unknown,
    }
}

/// An id as Redis prints it in streams.
pub(crate) fn stream_id(value: &Value) -> Option<EventId> {
    match value {
        Value::BulkString(text) => EventId::parse(std::str::from_utf8(text).ok()?),
        Value::SimpleString(text) => EventId::parse(text),
        _ => None,
    }
}

/// An id as Redis reads it in stream commands.
pub(crate) fn stream_text(id: EventId) -> String {
    format!("{}-{}", id.ms(), id.seq())
}

/// An id in its integer form, as scripts answer it.
pub(crate) fn integer_id(value: &Value) -> Option<EventId> {
    let number = match value {
        Value::Int(number) => u64::try_from(*number).ok()?,
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        _ => return None,
    };
    EventId::from_integer(number)
}

/// The place just before an id.
pub(crate) fn before(id: EventId) -> EventId {
    EventId::from_integer(id.as_integer().saturating_sub(1)).unwrap_or(EventId::ORIGIN)
}

pub(crate) fn bytes_of(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_go_there_and_back() {
        assert_eq!(print_attributes(None), "");
        assert_eq!(parse_attributes(b""), Some(None));
        let some = Attributes {
            publisher_id: Some("1\"2".into()),
            trace_parent: Some("00-ab".into()),
            ..Attributes::default()
        };
        let text = print_attributes(Some(&some));
        assert_eq!(text, r#"{"i":"1\"2","p":"00-ab"}"#);
        assert_eq!(
            parse_attributes(text.as_bytes()),
            Some(Some(Box::new(some)))
        );
        assert_eq!(parse_attributes(b"{"), None);
    }

    #[test]
    fn prev_has_a_sign() {
        let id = EventId::new(5, 7).expect("in range");
        assert_eq!(
            parse_prev(id.as_integer().to_string().as_bytes()),
            Prev::Event(id)
        );
        assert_eq!(
            parse_prev(format!("-{}", id.as_integer()).as_bytes()),
            Prev::NoneSince(id)
        );
        assert_eq!(parse_prev(b"0"), Prev::NoneSince(EventId::ORIGIN));
        assert_eq!(parse_prev(b"x"), Prev::Unknown);
    }

    #[test]
    fn a_stranger_among_the_entries_is_told_apart() {
        let text = |s: &str| Value::BulkString(s.as_bytes().to_vec());
        let fields = |names: [&str; 10]| Value::Array(names.into_iter().map(text).collect());
        let ours = fields(["t", "demo/a", "k", "x", "p", "0", "a", "", "d", "{}"]);
        let theirs = fields(["t", "demo/a", "k", "x", "p", "0", "z", "", "d", "{}"]);
        let list = Value::Array(vec![
            Value::Array(vec![text("5-1"), ours]),
            Value::Array(vec![text("5-2"), theirs]),
        ]);
        let read = entries(list).expect("well formed");
        assert!(matches!(&read[0], Entry::Event(event) if event.data == "{}"));
        assert!(matches!(&read[1], Entry::Strange(id) if id.seq() == 2));
        assert!(entries(Value::Int(1)).is_none());
    }
}
