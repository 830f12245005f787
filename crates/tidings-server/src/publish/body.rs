//! What a publish's body is, and the drafts in it. Pure: bytes in, drafts or a problem out.

use std::fmt;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::Deserializer as _;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tidings_core::Draft;

use crate::problem::{Cause, Problem};
use crate::publish::binary;
use crate::wire::{Fields, Form, is_json_type, media_type, not_json};

/// How the events of a publish are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `application/json`: one event or an array of them.
    Json,
    /// `application/x-ndjson`: one event a line.
    Lines,
    /// `application/cloudevents+json`: one CloudEvent.
    Cloud,
    /// `application/cloudevents-batch+json`: an array of CloudEvents.
    CloudBatch,
    /// CloudEvents binary mode: attributes in `ce-*` headers, the body is the data.
    CloudBinary,
}

/// The content types of [`Kind`], for the problem that says what is read here.
const READ_HERE: [&str; 4] = [
    "application/json",
    "application/x-ndjson",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
];

impl Kind {
    /// What the headers say of the body.
    ///
    /// # Errors
    /// [`Cause::UnsupportedMediaType`].
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let encoded = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity"));
        if encoded {
            return Err(unsupported("a compressed body is not read here"));
        }
        let text = match headers.get(CONTENT_TYPE).map(|v| v.to_str()) {
            Some(Ok(text)) => text,
            Some(Err(_)) => return Err(unsupported("the content type is not ASCII")),
            None if binary::is_binary(headers) => return Ok(Self::CloudBinary),
            None => return Err(unsupported("the request has no content type")),
        };
        let (essence, utf8) = media_type(text);
        if !utf8 {
            return Err(unsupported("JSON is UTF-8 and has no other charset"));
        }
        // CloudEvents HTTP binding §3: the content type decides first, then the headers.
        match essence.as_str() {
            "application/cloudevents+json" => Ok(Self::Cloud),
            "application/cloudevents-batch+json" => Ok(Self::CloudBatch),
            "application/x-ndjson" | "application/ndjson" => Ok(Self::Lines),
            _ if binary::is_binary(headers) && is_json_type(&essence) => Ok(Self::CloudBinary),
            "application/json" => Ok(Self::Json),
            "application/x-www-form-urlencoded" => Err(unsupported(
                "a form is not read here (curl sends one by default: use `--json`)",
            )),
            _ => Err(unsupported("this content type is not read here")),
        }
    }
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(Cause::UnsupportedMediaType, detail).with("allowed", READ_HERE.to_vec())
}

/// The drafts in a whole body of any kind but [`Kind::Lines`], in order, at least one.
///
/// # Errors
/// A [`Problem`]; in an array it names the element by `index`, counted from 0.
pub fn drafts(
    kind: Kind,
    headers: &HeaderMap,
    body: &[u8],
    events_max: usize,
) -> Result<Vec<Draft>, Problem> {
    let array = body.trim_ascii_start().first() == Some(&b'[');
    match kind {
        Kind::Json if array => batch(body, Form::Native, events_max),
        Kind::CloudBatch => batch(body, Form::CloudEvents, events_max),
        Kind::Json | Kind::Lines => Ok(vec![one(body, Form::Native)?]),
        Kind::Cloud => Ok(vec![one(body, Form::CloudEvents)?]),
        Kind::CloudBinary => Ok(vec![binary::draft(headers, body)?]),
    }
}

/// One event.
///
/// # Errors
/// A [`Problem`].
pub fn one(text: &[u8], form: Form) -> Result<Draft, Problem> {
    Fields::from_json(text)?.into_draft(form)
}

fn batch(body: &[u8], form: Form, events_max: usize) -> Result<Vec<Draft>, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let elements = json
        .deserialize_any(Elements { events_max })
        .and_then(|elements| json.end().map(|()| elements))
        .map_err(|error| {
            if error.is_data() {
                Problem::new(Cause::InvalidBody, "a batch is a JSON array of events")
            } else {
                not_json(&error)
            }
        })?;
    let elements = elements.ok_or_else(|| {
        let detail = format!("a batch has at most {events_max} events");
        Problem::new(Cause::TooManyEvents, detail).with("allowed", events_max)
    })?;
    if elements.is_empty() {
        return Err(Problem::new(Cause::InvalidBody, "the batch has no event"));
    }
    let parse = |(index, raw): (usize, &RawValue)| {
        one(raw.get().as_bytes(), form).map_err(|problem| problem.with("index", index))
    };
    elements.into_iter().enumerate().map(parse).collect()
}

/// The elements of an array as they stand in the text; `None` when there are more than a batch may
/// have.
struct Elements {
    events_max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(raw) = seq.next_element()? {
            if elements.len() == self.events_max {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(None);
            }
            elements.push(raw);
        }
        Ok(Some(elements))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                http::HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_headers_say_what_the_body_is() {
        type Case<'a> = (&'a [(&'static str, &'static str)], Option<Kind>);
        let table: &[Case<'_>] = &[
            (&[("content-type", "application/json")], Some(Kind::Json)),
            (
                &[("content-type", "Application/JSON;charset=utf-8")],
                Some(Kind::Json),
            ),
            (
                &[("content-type", "application/x-ndjson")],
                Some(Kind::Lines),
            ),
            (
                &[(
                    "content-type",
                    "application/cloudevents+json; charset=UTF-8",
                )],
                Some(Kind::Cloud),
            ),
            (
                &[("content-type", "application/cloudevents-batch+json")],
                Some(Kind::CloudBatch),
            ),
            (
                &[("content-type", "application/json"), ("ce-id", "1")],
                Some(Kind::CloudBinary),
            ),
            (
                &[("content-type", "application/x+json"), ("ce-id", "1")],
                Some(Kind::CloudBinary),
            ),
            (
                &[
                    ("content-type", "application/cloudevents+json"),
                    ("ce-id", "1"),
                ],
                Some(Kind::Cloud),
            ),
            (&[("ce-id", "1")], Some(Kind::CloudBinary)),
            (&[("content-type", "text/plain"), ("ce-id", "1")], None),
            (&[("content-type", "application/x+json")], None),
            (&[("content-type", "application/cloudevents+avro")], None),
            (
                &[("content-type", "application/json; charset=latin1")],
                None,
            ),
            (
                &[("content-type", "application/x-www-form-urlencoded")],
                None,
            ),
            (
                &[
                    ("content-type", "application/json"),
                    ("content-encoding", "gzip"),
                ],
                None,
            ),
            (&[], None),
        ];
        for (pairs, kind) in table {
            let found = Kind::of(&headers(pairs));
            match kind {
                Some(kind) => assert_eq!(found.as_ref(), Ok(kind), "{pairs:?}"),
                None => assert_eq!(
                    found.expect_err("refused").cause,
                    Cause::UnsupportedMediaType,
                    "{pairs:?}"
                ),
            }
        }
    }

    fn parse(kind: Kind, body: &str) -> Result<Vec<Draft>, Problem> {
        drafts(kind, &HeaderMap::new(), body.as_bytes(), 3)
    }

    #[test]
    fn one_or_many_in_order() {
        let event = r#"{"topic":"a","type":"t","data":1}"#;
        assert_eq!(parse(Kind::Json, event).map(|d| d.len()), Ok(1));
        let two = format!(" [{event},\n {}]", event.replace('1', "2"));
        let drafts = parse(Kind::Json, &two).expect("good");
        let data: Vec<&[u8]> = drafts.iter().map(|d| &d.data[..]).collect();
        assert_eq!(data, [b"1", b"2"]);
    }

    #[test]
    fn a_batch_is_refused_whole_and_names_the_element() {
        let event = r#"{"topic":"a","type":"t"}"#;
        let four = format!("[{event},{event},{event},{event}]");
        let second = format!(r#"[{event},{{"topic":"a"}}]"#);
        let table: &[(Kind, &str, Cause, Option<u64>)] = &[
            (Kind::Json, "", Cause::MalformedJson, None),
            (Kind::Json, "[", Cause::MalformedJson, None),
            (Kind::Json, "[]", Cause::InvalidBody, None),
            (Kind::Json, "[[]]", Cause::InvalidBody, Some(0)),
            (Kind::Json, &four, Cause::TooManyEvents, None),
            (Kind::Json, &second, Cause::MissingField, Some(1)),
            (Kind::CloudBatch, event, Cause::InvalidBody, None),
            (Kind::CloudBatch, &second, Cause::MissingField, Some(0)),
            (Kind::Cloud, "[]", Cause::InvalidBody, None),
            (Kind::Cloud, event, Cause::MissingField, None),
        ];
        for (kind, body, cause, index) in table {
            let problem = parse(*kind, body).expect_err(body);
            assert_eq!(problem.cause, *cause, "{body}: {}", problem.detail);
            assert_eq!(
                problem.more.get("index").and_then(|i| i.as_u64()),
                *index,
                "{body}"
            );
        }
    }
}
