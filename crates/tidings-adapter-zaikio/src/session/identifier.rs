//! A subscription's identifier: a text that names it, and JSON that says what it wants.
//!
//! The text is kept as it came and compared as it came: clients look it up in tables of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::consumer::NAME_BYTES_MAX;

/// What a subscription wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Event names, sorted, none twice.
    pub(crate) names: Vec<Arc<str>>,
    /// The consumer that acks are recorded for.
    pub(crate) consumer: Arc<str>,
    /// Whether what it has not acked is sent to it again.
    pub(crate) acks: bool,
}

impl Wish {
    /// What an identifier says; `None` when it is to be rejected. All names must be among those that
    /// the app may receive.
    pub(crate) fn parse(identifier: &str, allowed: &BTreeSet<Arc<str>>) -> Option<Self> {
        let said: Map<String, Value> = serde_json::from_str(identifier).ok()?;
        if said.get("channel")?.as_str()? != "EventChannel" {
            return None;
        }
        let given = said.get("events")?.as_str()?.split(',').map(str::trim);
        let mut names: Vec<Arc<str>> = given
            .filter(|name| !name.is_empty())
            .map(|name| allowed.get(name).cloned())
            .collect::<Option<_>>()?;
        names.sort();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        let consumer = match said.get("consumer") {
            None | Some(Value::Null) => "default",
            Some(Value::String(name)) if name.is_empty() => "default",
            Some(Value::String(name)) if name.len() <= NAME_BYTES_MAX => name,
            // Two consumers that are taken for one would ack for each other.
            Some(_) => return None,
        };
        Some(Self {
            names,
            consumer: consumer.into(),
            acks: said.get("ack") == Some(&Value::Bool(true)),
        })
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.binary_search_by(|one| (**one).cmp(name)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        let allowed = ["a.x".into(), "a.y".into()].into();
        let names = |identifier: &str| {
            let wish = Wish::parse(identifier, &allowed)?;
            Some((wish.names.join(" "), wish.consumer.to_string(), wish.acks))
        };
        let wish =
            |names: &str, consumer: &str, acks| Some((names.to_owned(), consumer.to_owned(), acks));
        for (identifier, expected) in [
            (
                r#"{"channel":"EventChannel","events":"a.x"}"#,
                wish("a.x", "default", false),
            ),
            (
                r#"{"events": " a.y , a.x,,a.y ", "channel": "EventChannel", "z": [1]}"#,
                wish("a.x a.y", "default", false),
            ),
            (
                r#"{"channel":"EventChannel","events":"a.x","ack":true,"consumer":"c"}"#,
                wish("a.x", "c", true),
            ),
            (
                r#"{"channel":"EventChannel","events":"a.x","ack":"true","consumer":""}"#,
                wish("a.x", "default", false),
            ),
            (
                r#"{"channel":"Other","channel":"EventChannel","events":"a.x"}"#,
                wish("a.x", "default", false),
            ),
            (r#"{"channel":"EventChannel"}"#, None),
            (r#"{"channel":"EventChannel","events":""}"#, None),
            (r#"{"channel":"EventChannel","events":" , "}"#, None),
            (r#"{"channel":"EventChannel","events":["a.x"]}"#, None),
            (r#"{"channel":"EventChannel","events":"a.x,a.z"}"#, None),
            (r#"{"channel":"EventChannel","events":"a"}"#, None),
            (
                r#"{"channel":"EventChannel","events":"a.x","consumer":3}"#,
                None,
            ),
            (r#"{"channel":"OtherChannel","events":"a.x"}"#, None),
            (r#"{"events":"a.x"}"#, None),
            ("[]", None),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(names(identifier), expected, "{identifier}");
        }
    }
}
