//! Events as publishers write them: the fields of CloudEvents 1.0 and one more, `topic`.
//!
//! One set of rules for every way in: a JSON object, `ce-*` headers, an entry of the ingest stream.
//! Each way fills [`Fields`] by name; [`Fields::into_draft`] checks them all and is the only place
//! that makes drafts from outside input. `data` is taken from the text as it stands and never
//! parsed into values, so it comes back byte for byte.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tidings_core::limits::ATTRIBUTE_BYTES_MAX;
use tidings_core::{Attributes, Dedup, Draft, Topic};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::problem::{Cause, Problem};

/// The fields an event may have besides `data`.
pub const NAMES: [&str; 11] = [
    "topic",
    "type",
    "id",
    "source",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "traceparent",
    "tracestate",
    "specversion",
];

/// How deeply an event's data may nest. Many JSON readers give up at 128 (`serde_json` is one);
/// what is left is for the event, the array and the envelope that data is handed out in.
pub const DATA_DEPTH_MAX: usize = 120;

/// Which fields must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `topic` and `type`.
    Native,
    /// What CloudEvents 1.0 requires, too: `specversion`, `id`, `source`.
    CloudEvents,
}

/// The fields of one event, by name, as they came in.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    values: [Option<Cow<'a, str>>; NAMES.len()],
    data: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Takes one field.
    ///
    /// # Errors
    /// A [`Problem`] when the name is unknown or was there before.
    pub fn set(&mut self, name: &str, value: Cow<'a, str>) -> Result<(), Problem> {
        let slot = match NAMES.iter().position(|known| *known == name) {
            Some(at) => &mut self.values[at],
            None => return Err(unknown(name)),
        };
        if slot.is_some() {
            return Err(twice(name));
        }
        *slot = Some(value);
        Ok(())
    }

    /// Takes the data, which must be one well-formed JSON value.
    ///
    /// # Errors
    /// A [`Problem`] when it is not, or nests too deeply.
    pub fn set_data_text(&mut self, text: &'a str) -> Result<(), Problem> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|e| {
            Problem::new(Cause::MalformedJson, format!("`data` is not JSON: {e}")).field("data")
        })?;
        self.set_data(raw)
    }

    fn set_data(&mut self, raw: &'a RawValue) -> Result<(), Problem> {
        if self.data.is_some() {
            return Err(twice("data"));
        }
        if depth(raw.get()) > DATA_DEPTH_MAX {
            let detail = format!("`data` nests deeper than {DATA_DEPTH_MAX} levels");
            return Err(Problem::new(Cause::MalformedJson, detail).field("data"));
        }
        self.data = Some(raw.get());
        Ok(())
    }

    /// Reads the members of one JSON object.
    ///
    /// # Errors
    /// A [`Problem`] naming the first thing that is wrong.
    pub fn from_json(text: &'a [u8]) -> Result<Self, Problem> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let fields = de::Deserializer::deserialize_any(&mut json, Members)
            .and_then(|fields| json.end().map(|()| fields));
        fields.map_err(|error| not_json(&error))?
    }

    fn member(&mut self, name: &str, raw: &'a RawValue) -> Result<(), Problem> {
        match name {
            "data" => self.set_data(raw),
            "data_base64" => Err(Problem::new(
                Cause::UnknownField,
                "`data_base64` is not taken: events carry JSON in `data`",
            )
            .field(name)),
            _ if !NAMES.contains(&name) => Err(unknown(name)),
            // CloudEvents JSON format §2.2: an attribute that is null is not there.
            _ if raw.get() == "null" => Ok(()),
            _ => {
                let Text(text) = serde_json::from_str(raw.get()).map_err(|_| {
                    Problem::new(Cause::InvalidField, format!("`{name}` is not a string"))
                        .field(name)
                })?;
                self.set(name, text)
            }
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Cow<'a, str>> {
        let at = NAMES.iter().position(|known| *known == name)?;
        self.values[at].take()
    }

    /// Takes a field that may be absent but not empty; CloudEvents says so of every attribute.
    fn optional(&mut self, name: &'static str) -> Result<Option<Cow<'a, str>>, Problem> {
        match self.take(name) {
            Some(text) if text.is_empty() => Err(invalid(name, "is empty")),
            other => Ok(other),
        }
    }

    fn required(&mut self, name: &'static str, why: &str) -> Result<Cow<'a, str>, Problem> {
        let missing = || Problem::new(Cause::MissingField, format!("{why} a `{name}`")).field(name);
        self.optional(name)?.ok_or_else(missing)
    }

    /// Checks everything and makes the draft.
    ///
    /// Absent data is stored as `null`. An `id` makes the draft's dedup key, together with topic
    /// and source.
    ///
    /// # Errors
    /// A [`Problem`] naming the first field that is wrong.
    pub fn into_draft(mut self, form: Form) -> Result<Draft, Problem> {
        let cloud = "a CloudEvent has";
        match self.optional("specversion")? {
            Some(version) if version != "1.0" => {
                return Err(invalid("specversion", "is not \"1.0\""));
            }
            None if form == Form::CloudEvents => {
                return Err(missing("specversion", cloud));
            }
            _ => {}
        }
        let topic = Topic::parse(&self.required("topic", "an event needs")?)?;
        let kind = self.required("type", "an event needs")?;
        let id = self.optional("id")?;
        let source = self.optional("source")?;
        if form == Form::CloudEvents {
            for (name, value) in [("id", &id), ("source", &source)] {
                if value.is_none() {
                    return Err(missing(name, cloud));
                }
            }
        }
        let dedup = id
            .as_deref()
            .map(|id| Dedup::by_source(&topic, source.as_deref(), id));
        let attributes = Attributes {
            publisher_id: shared(id),
            source: shared(source),
            subject: shared(self.optional("subject")?),
            time: shared(self.checked("time", "is not an RFC 3339 time", is_rfc3339)?),
            content_type: shared(self.checked(
                "datacontenttype",
                "is not a JSON type: events carry JSON",
                is_json_type,
            )?),
            schema: shared(self.optional("dataschema")?),
            trace_parent: shared(self.checked(
                "traceparent",
                "is not a W3C trace context",
                is_trace_parent,
            )?),
            trace_state: shared(self.optional("tracestate")?),
        };
        let draft = Draft {
            topic,
            kind: Arc::from(kind.as_ref()),
            // A copy: a slice would hold the whole request body for as long as the event lives.
            data: Bytes::copy_from_slice(self.data.unwrap_or("null").as_bytes()),
            attributes: (attributes != Attributes::default()).then(|| Box::new(attributes)),
            dedup,
        };
        draft.check()?;
        Ok(draft)
    }

    fn checked(
        &mut self,
        name: &'static str,
        wrong: &str,
        check: fn(&str) -> bool,
    ) -> Result<Option<Cow<'a, str>>, Problem> {
        match self.optional(name)? {
            // Past its bound a value is refused as too large, whatever it looks like.
            Some(text) if text.len() <= ATTRIBUTE_BYTES_MAX && !check(&text) => {
                Err(invalid(name, wrong))
            }
            other => Ok(other),
        }
    }
}

fn shared(text: Option<Cow<'_, str>>) -> Option<Arc<str>> {
    text.map(|text| Arc::from(text.as_ref()))
}

fn unknown(name: &str) -> Problem {
    // What a stranger wrote is repeated, but not at any length.
    let shown: String = name.chars().take(64).collect();
    Problem::new(
        Cause::UnknownField,
        format!("`{shown}` is not a field of an event"),
    )
    .field(&shown)
    .with("allowed", allowed())
}

fn allowed() -> Vec<&'static str> {
    NAMES.iter().copied().chain(["data"]).collect()
}

fn twice(name: &str) -> Problem {
    Problem::new(Cause::InvalidField, format!("`{name}` is there twice")).field(name)
}

fn invalid(name: &str, wrong: &str) -> Problem {
    Problem::new(Cause::InvalidField, format!("`{name}` {wrong}")).field(name)
}

fn missing(name: &str, why: &str) -> Problem {
    Problem::new(Cause::MissingField, format!("{why} a `{name}`")).field(name)
}

/// The problem for text that is not JSON; the words are the reader's own, with line and column.
#[must_use]
pub fn not_json(error: &serde_json::Error) -> Problem {
    if error.is_data() {
        return Problem::new(Cause::InvalidBody, "an event is a JSON object");
    }
    Problem::new(Cause::MalformedJson, error.to_string())
}

/// Whether `text` is a time as RFC 3339 writes it.
#[must_use]
pub fn is_rfc3339(text: &str) -> bool {
    OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

/// Whether a media type is JSON: `…/json` or `…+json`, in UTF-8.
#[must_use]
pub fn is_json_type(text: &str) -> bool {
    let (essence, utf8) = media_type(text);
    let is_json = match essence.split_once('/') {
        Some((kind, sub)) => !kind.is_empty() && (sub == "json" || sub.ends_with("+json")),
        None => false,
    };
    is_json && utf8
}

/// A media type without its parameters, in lower case, and whether its charset (if it has one) is
/// UTF-8: JSON has no other (RFC 8259 §8.1).
#[must_use]
pub fn media_type(text: &str) -> (String, bool) {
    let mut parts = text.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    (essence, utf8)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, neither id all zero (W3C Trace Context §3.2); later versions may
/// append more.
fn is_trace_parent(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let id = |part: &str, digits| hex(part, digits) && part.bytes().any(|b| b != b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, span, flags, rest @ ..] = parts.as_slice() else {
        return false;
    };
    hex(version, 2)
        && *version != "ff"
        && id(trace, 32)
        && id(span, 16)
        && hex(flags, 2)
        && (rest.is_empty() || *version != "00")
}

/// How deeply well-formed JSON nests. Counted over the text, since raw values are skipped without
/// recursion and so without a bound.
fn depth(json: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0_usize);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' => level = level.saturating_sub(1),
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Fills [`Fields`] from a map. What is wrong with the event is the visitor's value, not its error,
/// so that malformed JSON further on is still found first.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Result<Fields<'de>, Problem>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Text(name)) = map.next_key()? {
            let raw: &RawValue = map.next_value()?;
            if let Err(problem) = fields.member(&name, raw) {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Err(problem));
            }
        }
        Ok(Ok(fields))
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
