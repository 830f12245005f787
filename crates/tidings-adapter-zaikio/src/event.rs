//! The event object: how it is stored, and how it is printed.
//!
//! Stored is everything that its publisher said, as one compact JSON object with its members in a
//! fixed order; `received_at` and the offset come from the id that the log gave it, so they cannot
//! disagree with its place. What is printed for websockets is the stored text with a tail.

use std::fmt::Write as _;
use std::sync::Arc;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Event, EventId, Topic, Variant};
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};
use uuid::Uuid;

/// The first part of all topics here.
pub(crate) const ROOT: &str = "zaikio";

/// Whom an event is about: `Org/<uuid>` or `Per/<uuid>`. Each has a topic of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Subject {
    pub(crate) kind: SubjectKind,
    /// Lower case.
    id: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SubjectKind {
    Organisation,
    /// Its events are kept for the pull API; no websocket delivers them.
    Person,
}

/// Bytes of an organisation's id in a token, which need not be a UUID there; topics have room for
/// more.
const ID_BYTES_MAX: usize = 100;

impl Subject {
    /// `Org/<uuid>` or `Per/<uuid>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, id) = text.split_once('/')?;
        let kind = match kind {
            "Org" => SubjectKind::Organisation,
            "Per" => SubjectKind::Person,
            _ => return None,
        };
        uuid(id)?;
        Some(Self {
            kind,
            id: id.to_ascii_lowercase().into(),
        })
    }

    /// The organisation of a token, by its id there.
    pub(crate) fn organisation(id: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let good = !id.is_empty() && id.len() <= ID_BYTES_MAX && id.chars().all(plain);
        good.then(|| Self {
            kind: SubjectKind::Organisation,
            id: id.to_ascii_lowercase().into(),
        })
    }

    /// The subject whose topic this is.
    pub(crate) fn of_topic(topic: &Topic) -> Option<Self> {
        let (kind, id) = topic.as_str().strip_prefix("zaikio/")?.split_once('/')?;
        let kind = match kind {
            "org" => "Org",
            "per" => "Per",
            _ => return None,
        };
        Self::parse(&format!("{kind}/{id}")).filter(|subject| &*subject.id == id)
    }

    /// Its topic.
    pub(crate) fn topic(&self) -> Topic {
        let kind = match self.kind {
            SubjectKind::Organisation => "org",
            SubjectKind::Person => "per",
        };
        Topic::parse(&format!("{ROOT}/{kind}/{}", self.id))
            .expect("an id has letters, digits, _ and -, and fits")
    }
}

impl std::fmt::Display for Subject {
    /// As it stands in events; also the `stream_id` of the extended protocol.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            SubjectKind::Organisation => "Org",
            SubjectKind::Person => "Per",
        };
        write!(f, "{kind}/{}", self.id)
    }
}

/// A UUID with its hyphens, in either case.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

/// A time in ISO 8601 with any offset, in milliseconds since 1970. Without an offset it is UTC.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    if text.len() > 64 {
        return None; // no format that is taken is longer
    }
    let with_offset = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(text, &Iso8601::PARSING));
    let time = with_offset.ok().or_else(|| {
        PrimitiveDateTime::parse(text, &Iso8601::PARSING)
            .ok()
            .map(PrimitiveDateTime::assume_utc)
    })?;
    let ms = time.unix_timestamp_nanos().div_euclid(1_000_000);
    let time = time.checked_to_offset(UtcOffset::UTC)?;
    // What is printed has four digits for the year.
    (0..=9999)
        .contains(&time.year())
        .then(|| i64::try_from(ms).ok())
        .flatten()
}

/// `2023-07-23T22:04:46.474Z`: UTC, three decimals, always.
pub(crate) fn print_time(ms: i64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    let time =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// What a publisher said, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) id: String,
    pub(crate) timestamp_ms: i64,
    pub(crate) name: String,
    pub(crate) version: String,
    /// A compact JSON object.
    pub(crate) payload: String,
    pub(crate) link: Option<String>,
    pub(crate) subject: String,
}

impl Said {
    /// As it is stored. The id stands first, where [`id_of`] finds it.
    pub(crate) fn stored(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let link = self.link.as_deref().map_or("null".to_owned(), text);
        format!(
            r#"{{"id":{},"timestamp":"{}","name":{},"version":{},"payload":{},"link":{link},"subject":{}}}"#,
            text(&self.id),
            print_time(self.timestamp_ms),
            text(&self.name),
            text(&self.version),
            self.payload,
            text(&self.subject),
        )
    }
}

/// The id that a stored event's publisher gave it.
pub(crate) fn id_of(data: &[u8]) -> Option<Uuid> {
    let id = data.strip_prefix(br#"{"id":""#)?.get(..36)?;
    uuid(std::str::from_utf8(id).ok()?)
}

/// The event object as it is delivered: what is stored, and when it was received.
pub(crate) fn object(id: EventId, data: &[u8]) -> String {
    let received_at = print_time(i64::try_from(id.ms()).unwrap_or_default());
    let text = String::from_utf8_lossy(data);
    let open = text.trim_end().strip_suffix('}').unwrap_or("{");
    let comma = if open.len() > 1 { "," } else { "" };
    format!(r#"{open}{comma}"received_at":"{received_at}"}}"#)
}

/// An event for the base protocol: the value of `message`.
pub(crate) const BASE: Variant = Variant {
    name: "zaikio",
    print: |event| Bytes::from(object(event.id, &event.data)),
};

/// An event for the extended protocol: the value of `message`, and its place in its stream.
pub(crate) const EXTENDED: Variant = Variant {
    name: "zaikio-extended",
    print: extended,
};

fn extended(event: &Event) -> Bytes {
    let mut text = object(event.id, &event.data);
    let stream = Subject::of_topic(&event.topic).map_or_else(
        // An organisation without a UUID; nothing is published for it over HTTP.
        || event.topic.as_str().replacen("zaikio/org/", "Org/", 1),
        |subject| subject.to_string(),
    );
    let _ = write!(
        text,
        r#","stream_id":"{stream}","offset":{}"#,
        event.id.as_integer()
    );
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_topics() {
        let org = "Org/837EBB91-2d4b-4818-a19b-04fea7be8cde";
        let subject = Subject::parse(org).expect("good");
        let topic = subject.topic();
        assert_eq!(
            topic.as_str(),
            "zaikio/org/837ebb91-2d4b-4818-a19b-04fea7be8cde"
        );
        assert_eq!(Subject::of_topic(&topic), Some(subject.clone()));
        assert_eq!(subject.to_string(), org.replace("EBB", "ebb"));
        for bad in [
            "Org",
            "Org/",
            "Org/1",
            "App/837ebb91-2d4b-4818-a19b-04fea7be8cde",
            "Org/837ebb912d4b4818a19b04fea7be8cde",
            "Org/{837ebb91-2d4b-4818-a19b-04fea7be8cd}",
        ] {
            assert_eq!(Subject::parse(bad), None, "{bad}");
        }
        assert!(Subject::organisation("a b").is_none());
        assert!(Subject::organisation("abc_1").is_some());
    }

    #[test]
    fn times_are_normalised() {
        for (given, printed) in [
            ("2023-07-23T22:04:46Z", "2023-07-23T22:04:46.000Z"),
            ("2023-07-23T22:04:46.474999Z", "2023-07-23T22:04:46.474Z"),
            ("2023-07-24T00:04:46.5+02:00", "2023-07-23T22:04:46.500Z"),
            ("2023-07-23T17:34:46-0430", "2023-07-23T22:04:46.000Z"),
            ("20230723T220446Z", "2023-07-23T22:04:46.000Z"),
            ("2023-07-23T22:04:46", "2023-07-23T22:04:46.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(
                parse_time(given).map(print_time).as_deref(),
                Some(printed),
                "{given}"
            );
        }
        for bad in [
            "",
            "yesterday",
            "2023-13-45T00:00:00Z",
            "1690149886",
            "2023-07-23",
            "22:04:46Z",
        ] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_event_is_stored_and_printed() {
        let said = Said {
            id: "bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd".into(),
            timestamp_ms: 1_690_149_886_000,
            name: "mission_control.job_added".into(),
            version: "1.0".into(),
            payload: r#"{"n":1.50}"#.into(),
            link: None,
            subject: "Org/837ebb91-2d4b-4818-a19b-04fea7be8cde".into(),
        };
        let stored = said.stored();
        assert_eq!(id_of(stored.as_bytes()), uuid(&said.id));
        let id = EventId::new(1_690_149_886_474, 7).expect("in range");
        assert_eq!(
            object(id, stored.as_bytes()),
            r#"{"id":"bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd","timestamp":"2023-07-23T22:04:46.000Z","name":"mission_control.job_added","version":"1.0","payload":{"n":1.50},"link":null,"subject":"Org/837ebb91-2d4b-4818-a19b-04fea7be8cde","received_at":"2023-07-23T22:04:46.474Z"}"#
        );
        assert_eq!(
            object(id, b"3"),
            r#"{"received_at":"2023-07-23T22:04:46.474Z"}"#
        );
        assert_eq!(
            object(id, b"{}"),
            r#"{"received_at":"2023-07-23T22:04:46.474Z"}"#
        );
    }
}
