//! The rules for an event that is published: all that is wrong is said at once, by field.
//!
//! One set of rules for both ways in: `POST /api/v1/events`, and drafts that come over the hub's own
//! API or `XADD` under this adapter's topics.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tidings_adapter::{Dedup, Draft};

use crate::apps::App;
use crate::compact::compact;
use crate::event::{Said, Subject, parse_time, uuid};
use crate::options::NAME_BYTES_MAX;

/// What is wrong, by field, in the words that Zaikio's answers have.
pub(crate) type Mistakes = BTreeMap<&'static str, Vec<&'static str>>;

/// The members of a JSON object as they were sent; of two with one name, the last.
pub(crate) type Members = BTreeMap<String, Box<RawValue>>;

/// Compact bytes of a payload from which on it is too large.
const PAYLOAD_BYTES_END: usize = 256;

/// Bytes of a version such as `1.1.beta`: it is a label, not a document.
const VERSION_BYTES_MAX: usize = 64;

/// Bytes of a link: the longest address that browsers and proxies agree on.
const LINK_BYTES_MAX: usize = 2048;

/// How long the log remembers an event's id: as long as the event, and a little more, so that an
/// event is never there while its id is forgotten.
const UNIQUE_MS: u64 = Dedup::LIFETIME_MS + 5 * 60 * 1000;

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// An event of `app` by its members, or all that is wrong with it.
pub(crate) fn check(members: &Members, app: &App) -> Result<(Said, Subject), Mistakes> {
    let mut mistakes = Mistakes::new();
    let mut wrong = |field, what| mistakes.entry(field).or_default().push(what);
    let id = text(members, "id").and_then(|id| uuid(&id).map(|_| id).ok_or(INVALID));
    let timestamp = text(members, "timestamp").and_then(|time| parse_time(&time).ok_or(INVALID));
    let name = text(members, "name").and_then(|name| {
        let good = app.provides.contains(name.as_str()) && name.len() <= NAME_BYTES_MAX;
        good.then_some(name).ok_or("excludes a valid event name")
    });
    let subject = text(members, "subject").and_then(|text| {
        let subject = Subject::parse(&text).ok_or(INVALID)?;
        match app.is_connected(&subject) {
            true => Ok((text, subject)),
            false => Err("is not connected to the app"),
        }
    });
    let version = text(members, "version").and_then(|version| {
        let good = version.len() <= VERSION_BYTES_MAX && !version.contains(char::is_control);
        good.then_some(version).ok_or(INVALID)
    });
    let payload = payload(members);
    let link = link(members);
    // Each is looked at before anything is given up: all that is wrong is said at once.
    for (field, error) in [
        ("id", id.as_ref().err()),
        ("timestamp", timestamp.as_ref().err()),
        ("name", name.as_ref().err()),
        ("subject", subject.as_ref().err()),
        ("version", version.as_ref().err()),
        ("payload", payload.as_ref().err()),
        ("link", link.as_ref().err()),
    ] {
        if let Some(error) = error {
            wrong(field, *error);
        }
    }
    match (id, timestamp, name, subject, version, payload, link) {
        (
            Ok(id),
            Ok(timestamp_ms),
            Ok(name),
            Ok((subject, parsed)),
            Ok(version),
            Ok(payload),
            Ok(link),
        ) => Ok((
            Said {
                id,
                timestamp_ms,
                name,
                version,
                payload,
                link,
                subject,
            },
            parsed,
        )),
        _ => Err(mistakes),
    }
}

/// The draft of an event that was found good. Its id is unique among its subject's events.
pub(crate) fn draft(said: &Said, subject: &Subject) -> Draft {
    let topic = subject.topic();
    let dedup = Dedup {
        scope: topic.as_str().into(),
        key: said.id.to_ascii_lowercase().into(),
        lifetime_ms: UNIQUE_MS,
    };
    Draft {
        dedup: Some(dedup),
        ..Draft::new(topic, said.name.as_str(), said.stored())
    }
}

/// A member, unless it is absent or null.
fn member<'a>(members: &'a Members, field: &str) -> Option<&'a str> {
    let raw = members.get(field)?.get();
    (raw != "null").then_some(raw)
}

/// A text that is needed.
fn text(members: &Members, field: &str) -> Result<String, &'static str> {
    let raw = member(members, field).ok_or(BLANK)?;
    let text: String = serde_json::from_str(raw).map_err(|_| "must be a string")?;
    if text.trim().is_empty() {
        return Err(BLANK);
    }
    Ok(text)
}

fn payload(members: &Members) -> Result<String, &'static str> {
    let Some(raw) = member(members, "payload") else {
        return Ok("{}".to_owned());
    };
    if !raw.starts_with('{') {
        return Err("must be an object");
    }
    let compact = compact(raw);
    if compact.text.len() >= PAYLOAD_BYTES_END {
        return Err("must be smaller than 256 bytes");
    }
    if !compact.keys.iter().all(|key| is_snake_case(key)) {
        return Err("must have keys in lowercase snake_case");
    }
    Ok(compact.text)
}

/// `^[a-z_][a-z0-9_]*$`.
fn is_snake_case(key: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c == '_';
    key.starts_with(letter) && key.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn link(members: &Members) -> Result<Option<String>, &'static str> {
    let Some(raw) = member(members, "link") else {
        return Ok(None);
    };
    let text: String = serde_json::from_str(raw).map_err(|_| "must be a string")?;
    if text.is_empty() {
        return Ok(None);
    }
    let scheme = ["https://", "http://"];
    let rest = scheme.iter().find_map(|one| text.strip_prefix(one));
    let bad = |c: char| c.is_whitespace() || c.is_control();
    match rest {
        Some(rest)
            if !rest.is_empty()
                && !rest.starts_with('/')
                && text.len() <= LINK_BYTES_MAX
                && !text.contains(bad) =>
        {
            Ok(Some(text))
        }
        _ => Err(INVALID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> App {
        App {
            name: "mission_control".into(),
            password: None,
            provides: ["mission_control.job_added".into()].into(),
            subscriptions: Default::default(),
            subjects: Some(
                [
                    Subject::parse("Org/837ebb91-2d4b-4818-a19b-04fea7be8cde").expect("good"),
                    Subject::parse("Per/837ebb91-2d4b-4818-a19b-04fea7be8cde").expect("good"),
                ]
                .into(),
            ),
        }
    }

    /// A good event with some members set otherwise; `null` members are taken out.
    fn event(changes: &str) -> Members {
        let good = r#"{"id":"bd6b9b7f-5ea2-4015-a07a-e3ba15d083cd","timestamp":"2023-07-23T22:04:46Z",
            "name":"mission_control.job_added","subject":"Org/837ebb91-2d4b-4818-a19b-04fea7be8cde","version":"1.0"}"#;
        let mut members: Members = serde_json::from_str(good).expect("JSON");
        let changes: Members = serde_json::from_str(changes).expect("JSON");
        members.extend(changes);
        members
    }

    fn payload_of(bytes: usize) -> String {
        let filler = "x".repeat(bytes - r#"{"a":""}"#.len());
        format!(r#"{{"payload":{{ "a" : "{filler}" }}}}"#)
    }

    #[test]
    fn good_events() {
        for (changes, stored) in [
            ("{}", r#""payload":{},"link":null"#),
            (
                r#"{"payload":null,"link":null}"#,
                r#""payload":{},"link":null"#,
            ),
            (
                r#"{"payload":{ "_meta" : {"a1":[{"b":1.0}]} },"link":"https://a.b/c?d"}"#,
                r#""payload":{"_meta":{"a1":[{"b":1.0}]}},"link":"https://a.b/c?d""#,
            ),
            (
                r#"{"version":"1.1.beta","receiver":"x","more":[1]}"#,
                r#""version":"1.1.beta""#,
            ),
            (
                r#"{"timestamp":"2023-07-24T00:04:46+02:00"}"#,
                r#""timestamp":"2023-07-23T22:04:46.000Z""#,
            ),
            (
                r#"{"subject":"Per/837ebb91-2d4b-4818-a19b-04fea7be8cde"}"#,
                r#""subject":"Per/837"#,
            ),
            (&payload_of(255), "xxx"),
        ] {
            let (said, subject) = check(&event(changes), &app()).expect(changes);
            let draft = draft(&said, &subject);
            let text = String::from_utf8_lossy(&draft.data).into_owned();
            assert!(text.contains(stored), "{changes}: {text}");
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            assert_eq!(draft.check(), Ok(()));
        }
    }

    #[test]
    fn bad_events_and_their_fields() {
        for (changes, fields) in [
            (r#"{"id":null}"#, "id"),
            (r#"{"id":""}"#, "id"),
            (r#"{"id":7}"#, "id"),
            (r#"{"id":"bd6b9b7f5ea24015a07ae3ba15d083cd"}"#, "id"),
            (r#"{"timestamp":"yesterday"}"#, "timestamp"),
            (r#"{"timestamp":1690149886}"#, "timestamp"),
            (r#"{"name":"mission_control.other"}"#, "name"),
            (r#"{"name":"other.job_added"}"#, "name"),
            (r#"{"name":"job_added"}"#, "name"),
            (r#"{"subject":"Org/1"}"#, "subject"),
            (
                r#"{"subject":"Org/00000000-2d4b-4818-a19b-04fea7be8cde"}"#,
                "subject",
            ),
            (r#"{"version":null}"#, "version"),
            (r#"{"version":1.0}"#, "version"),
            (r#"{"payload":[]}"#, "payload"),
            (r#"{"payload":"{}"}"#, "payload"),
            (r#"{"payload":{"camelCase":1}}"#, "payload"),
            (r#"{"payload":{"a":[{"1b":1}]}}"#, "payload"),
            (r#"{"payload":{"":1}}"#, "payload"),
            (&payload_of(256), "payload"),
            (r#"{"link":"not a link"}"#, "link"),
            (r#"{"link":"https:///"}"#, "link"),
            (r#"{"link":{}}"#, "link"),
            (
                r#"{"id":null,"timestamp":null,"name":null,"subject":null,"version":null,"payload":1,"link":1}"#,
                "id link name payload subject timestamp version",
            ),
        ] {
            let mistakes = check(&event(changes), &app()).expect_err(changes);
            let found: Vec<_> = mistakes.keys().copied().collect();
            assert_eq!(found.join(" "), fields, "{changes}");
            assert!(mistakes.values().all(|words| !words.is_empty()));
        }
    }
}
