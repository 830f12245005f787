//! Events in print: the CloudEvents JSON object that readers get, plain and as an event stream.
//!
//! A body is printed once per event and variant and shared by every connection, so nothing here
//! depends on who reads. `data` is copied as it stands. In an event stream a line break ends a
//! field, so line breaks inside data (JSON allows them between tokens only, never in a string)
//! begin a new `data:` line and arrive as LF; every other byte arrives as it was.

use bytes::Bytes;
use tidings_core::{Event, Variant};
use time::OffsetDateTime;

/// The event as a CloudEvents JSON object.
pub const EVENT_JSON: Variant = Variant {
    name: "native-json",
    print: event_json,
};

/// The event's data alone.
pub const DATA_JSON: Variant = Variant {
    name: "native-data",
    print: data_json,
};

/// A whole block of an event stream over one topic: its `id:` is the event's id, which is the
/// cursor after it.
pub const EVENT_SSE: Variant = Variant {
    name: "native-sse",
    print: event_sse,
};

/// A block of an event stream without its `id:` line, which is each connection's own when it reads
/// several topics.
pub const EVENT_SSE_BODY: Variant = Variant {
    name: "native-sse-body",
    print: event_sse_body,
};

/// Like [`EVENT_SSE`], with the data alone.
pub const DATA_SSE: Variant = Variant {
    name: "native-data-sse",
    print: data_sse,
};

/// Like [`EVENT_SSE_BODY`], with the data alone.
pub const DATA_SSE_BODY: Variant = Variant {
    name: "native-data-sse-body",
    print: data_sse_body,
};

/// Kinds that name no event of their own in an event stream and arrive as `message`: the first is
/// what an event without a name is called anyway, the next two are what `EventSource` calls its own
/// ups and downs, the last is how this hub says that a cursor was not `ok`.
const UNNAMED: [&str; 4] = ["message", "open", "error", "reset"];

fn event_json(event: &Event) -> Bytes {
    json(event).into()
}

fn data_json(event: &Event) -> Bytes {
    event.data.clone()
}

fn event_sse(event: &Event) -> Bytes {
    block(event, true, &json(event))
}

fn event_sse_body(event: &Event) -> Bytes {
    block(event, false, &json(event))
}

fn data_sse(event: &Event) -> Bytes {
    block(event, true, &event.data)
}

fn data_sse_body(event: &Event) -> Bytes {
    block(event, false, &event.data)
}

fn block(event: &Event, with_id: bool, data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + event.kind.len() + 64);
    if with_id {
        out.extend(b"id: ");
        out.extend(event.id.to_string().as_bytes());
        out.push(b'\n');
    }
    if !UNNAMED.contains(&&*event.kind) {
        // A kind is a line: drafts with control characters are refused.
        out.extend(b"event: ");
        out.extend(event.kind.as_bytes());
        out.push(b'\n');
    }
    data_lines(&mut out, data);
    out.push(b'\n');
    out.into()
}

/// Writes `data:` lines: one for every line of the text, whichever way its lines end.
pub fn data_lines(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    loop {
        let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
        out.extend(b"data: ");
        out.extend(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { return };
        let both = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + if both { 2 } else { 1 }..];
    }
}

fn json(event: &Event) -> Vec<u8> {
    let attributes = event.attributes.as_deref();
    let of = |pick: fn(&tidings_core::Attributes) -> &Option<std::sync::Arc<str>>| {
        attributes.and_then(|a| pick(a).as_deref())
    };
    let mut out = Vec::with_capacity(event.data.len() + 320);
    out.extend(b"{\"specversion\":\"1.0\"");
    member(&mut out, "id", &event.id.to_string());
    match of(|a| &a.source) {
        Some(source) => member(&mut out, "source", source),
        None => member(&mut out, "source", &format!("/v1/topics/{}", event.topic)),
    }
    member(&mut out, "type", &event.kind);
    member(&mut out, "topic", event.topic.as_str());
    if let Some(subject) = of(|a| &a.subject) {
        member(&mut out, "subject", subject);
    }
    match of(|a| &a.time) {
        Some(time) => member(&mut out, "time", time),
        None => member(&mut out, "time", &rfc3339_ms(event.id.ms())),
    }
    member(
        &mut out,
        "datacontenttype",
        of(|a| &a.content_type).unwrap_or("application/json"),
    );
    let optional = [
        ("dataschema", of(|a| &a.schema)),
        ("traceparent", of(|a| &a.trace_parent)),
        ("tracestate", of(|a| &a.trace_state)),
        ("publisherid", of(|a| &a.publisher_id)),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            member(&mut out, name, value);
        }
    }
    member(&mut out, "prev", &event.prev.to_string());
    out.extend(b",\"data\":");
    out.extend(&event.data[..]);
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend(b",\"");
    out.extend(name.as_bytes());
    out.extend(b"\":");
    string(out, value);
}

/// A JSON string (RFC 8259 §7).
fn string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0..0x20 => out.extend(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// Milliseconds since 1970 as RFC 3339 in UTC, always with three digits, so that times sort as text.
#[must_use]
pub fn rfc3339_ms(unix_ms: u64) -> String {
    let at = OffsetDateTime::UNIX_EPOCH
        + time::Duration::milliseconds(
            i64::try_from(unix_ms).unwrap_or(i64::MAX).min(YEAR_9999_MS),
        );
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// The last millisecond that four digits of a year can say (RFC 3339 has no more).
const YEAR_9999_MS: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings_core::{Attributes, EventId, Prev, Topic};

    use super::*;

    fn event(kind: &str, data: &str, attributes: Option<Attributes>) -> Event {
        Event {
            id: EventId::new(1_732_161_600_123, 7).expect("in range"),
            prev: Prev::Unknown,
            topic: Topic::parse("demo/a").expect("valid"),
            kind: kind.into(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            attributes: attributes.map(Box::new),
        }
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn the_least_event_is_a_whole_cloud_event() {
        let printed = event_json(&event("greeting", "{\"b\" : 1,\n\"a\":2}", None));
        assert_eq!(
            text(&printed),
            "{\"specversion\":\"1.0\",\"id\":\"1732161600123-0007\",\"source\":\"/v1/topics/demo/a\",\
             \"type\":\"greeting\",\"topic\":\"demo/a\",\"time\":\"2024-11-21T04:00:00.123Z\",\
             \"datacontenttype\":\"application/json\",\"prev\":\"unknown\",\"data\":{\"b\" : 1,\n\"a\":2}}"
        );
    }

    #[test]
    fn every_attribute_is_printed_and_escaped() {
        let value = |text: &str| Some(Arc::from(text));
        let attributes = Attributes {
            publisher_id: value("7\"\\"),
            source: value("/s"),
            subject: value("ä\u{2028}"),
            time: value("2020-01-01T00:00:00Z"),
            content_type: value("application/x+json"),
            schema: value("urn:x"),
            trace_parent: value("00-1"),
            trace_state: value("a=\tb"),
        };
        let printed = event_json(&event("t", "null", Some(attributes)));
        let value: serde_json::Value = serde_json::from_slice(&printed).expect("JSON");
        assert_eq!(
            value,
            serde_json::json!({
                "specversion": "1.0", "id": "1732161600123-0007", "source": "/s", "type": "t",
                "topic": "demo/a", "subject": "ä\u{2028}", "time": "2020-01-01T00:00:00Z",
                "datacontenttype": "application/x+json", "dataschema": "urn:x",
                "traceparent": "00-1", "tracestate": "a=\tb", "publisherid": "7\"\\",
                "prev": "unknown", "data": null,
            })
        );
    }

    #[test]
    fn line_breaks_in_data_stay_inside_their_block() {
        let table = [
            ("1", "data: 1\n"),
            ("[\n1]", "data: [\ndata: 1]\n"),
            ("[\r1]", "data: [\ndata: 1]\n"),
            ("[\r\n1]", "data: [\ndata: 1]\n"),
            ("[\n\r\n1]", "data: [\ndata: \ndata: 1]\n"),
            ("[\n]\n", "data: [\ndata: ]\ndata: \n"),
            ("", "data: \n"),
        ];
        for (data, expected) in table {
            let mut out = Vec::new();
            data_lines(&mut out, data.as_bytes());
            assert_eq!(text(&out.into()), expected, "{data:?}");
        }
    }

    #[test]
    fn a_block_names_its_event_unless_the_name_is_taken() {
        let one = event("greeting", "1", None);
        assert_eq!(
            text(&data_sse(&one)),
            "id: 1732161600123-0007\nevent: greeting\ndata: 1\n\n"
        );
        assert_eq!(text(&data_sse_body(&one)), "event: greeting\ndata: 1\n\n");
        for kind in UNNAMED {
            assert_eq!(text(&data_sse_body(&event(kind, "1", None))), "data: 1\n\n");
        }
        assert!(text(&event_sse(&one)).contains("data: {\"specversion\""));
        assert!(!text(&event_sse_body(&one)).contains("id: "));
        assert_eq!(data_json(&one), "1");
    }

    #[test]
    fn times_sort_as_text() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_ms(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339_ms(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
