//! What publishers send over HTTP: a JSON object or array, CloudEvents in three modes, lines.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidings_core::limits::KIND_BYTES_MAX;
use tidings_core::{Draft, Event, EventId, Prev};
use tidings_server::print;
use tidings_server::publish::body::{self, Kind};

use crate::stream::{Object, dispatched, text, with_line_feeds};

/// Headers, one a line; an empty line; the body.
pub fn publish(input: &[u8]) {
    const EVENTS_MAX: usize = 10;
    let mut headers = HeaderMap::new();
    let mut rest = input;
    loop {
        let (line, after) = crate::first_line(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let kinds = [Kind::of(&headers).ok(), Some(Kind::Json)];
    for kind in kinds.into_iter().flatten() {
        match body::drafts(kind, &headers, rest, EVENTS_MAX) {
            Ok(drafts) => {
                assert!((1..=EVENTS_MAX).contains(&drafts.len()));
                drafts.iter().for_each(printed);
            }
            Err(problem) => {
                // It says what is wrong, and not at any length.
                assert!((400..500).contains(&problem.cause.status()));
                assert!(problem.document().to_string().len() < 4096 + rest.len());
            }
        }
    }
}

/// What was taken comes back as it was, and nothing else with it.
pub(crate) fn printed(draft: &Draft) {
    if draft.check().is_err() {
        return; // the hub refuses it
    }
    assert!(draft.kind.len() <= KIND_BYTES_MAX);
    let event = event(draft);
    let json = (print::EVENT_JSON.print)(&event);
    let object: Object = serde_json::from_slice(&json).expect("an event in print is JSON");
    assert_eq!(text(&object, "topic"), draft.topic.as_str());
    assert_eq!(text(&object, "type"), &*draft.kind);
    assert_eq!(object["data"].get().as_bytes(), &draft.data[..]);
    for (variant, expected) in [
        (print::EVENT_SSE, &json),
        (print::EVENT_SSE_BODY, &json),
        (print::DATA_SSE, &draft.data),
        (print::DATA_SSE_BODY, &draft.data),
    ] {
        let events = dispatched(&(variant.print)(&event));
        assert_eq!(events.len(), 1, "{events:?}");
        let expected = std::str::from_utf8(expected).expect("JSON is UTF-8");
        assert_eq!(events[0].data, with_line_feeds(expected));
        let unnamed = ["message", "open", "error", "reset"].contains(&&*draft.kind);
        let kind = if unnamed { "message" } else { &*draft.kind };
        assert_eq!(events[0].kind, kind);
    }
}

pub(crate) fn event(draft: &Draft) -> Event {
    Event {
        id: EventId::new(1_732_161_600_000, 7).expect("in range"),
        prev: Prev::Unknown,
        topic: draft.topic.clone(),
        kind: draft.kind.clone(),
        data: draft.data.clone(),
        attributes: draft.attributes.clone(),
    }
}

/// A byte for how much comes at a time, one for how long a line may be, and the lines.
pub fn lines(input: &[u8]) {
    let [piece, line_max, text @ ..] = input else {
        return;
    };
    let (piece, line_max) = (usize::from(*piece % 64) + 1, usize::from(*line_max));
    let found = |pieces: &[&[u8]]| -> Vec<(u64, Option<Bytes>)> {
        let lines = tidings_server::fuzz::lines(pieces, line_max);
        lines
            .into_iter()
            .map(|(number, line)| (number, line.ok()))
            .collect()
    };
    let cut = found(&text.chunks(piece).collect::<Vec<_>>());
    assert_eq!(cut, found(&[text]), "lines depend on how they are cut");
    // A plain rendering of the rule: every line that is not blank, up to one that is too long.
    let mut expected = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        if line.len() > line_max {
            expected.push((number, None));
            break;
        }
        if !line.trim_ascii().is_empty() {
            expected.push((number, Some(Bytes::copy_from_slice(line))));
        }
    }
    assert_eq!(cut, expected);
}
