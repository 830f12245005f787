//! What an issuer's tokens open: patterns of topics in which a claim may stand for a segment.
//!
//! `tenant/{sub}/**` opens to each subject its own topics and nobody else's. That holds because a
//! value is taken only when it is exactly one segment of a topic: one with a `/` would reach into
//! another's, one with a `*` would open all. A token whose claim is anything else gets nothing from
//! this pattern.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;
use tidings_adapter::jwt::Claims;
use tidings_core::{Topic, TopicPattern};

/// A pattern with places for claims.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Fixed(String),
    Subject,
    Claim(String),
}

impl Template {
    /// Parses a template: a pattern, in which `{sub}` or `{claim:NAME}` may stand for a segment.
    /// `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = Some(text);
        while let Some(here) = rest {
            let (part, after) = match here.strip_prefix('{') {
                // A claim's name may itself hold a slash: many are URLs.
                Some(inside) => {
                    let (name, after) = inside.split_once('}')?;
                    let part = match (name, name.strip_prefix("claim:")) {
                        ("sub", _) => Part::Subject,
                        (_, Some(claim)) if !claim.is_empty() => Part::Claim(claim.to_owned()),
                        _ => return None,
                    };
                    let after = match after {
                        "" => None,
                        after => Some(after.strip_prefix('/')?),
                    };
                    (part, after)
                }
                None => match here.split_once('/') {
                    Some((fixed, after)) => (Part::Fixed(fixed.to_owned()), Some(after)),
                    None => (Part::Fixed(here.to_owned()), None),
                },
            };
            parts.push(part);
            rest = after;
        }
        let template = Self {
            text: text.to_owned(),
            parts,
        };
        // What is wrong with the rest of it shows with any value.
        template.with(|_| Some("x".into()))?;
        Some(template)
    }

    /// The pattern for one token; `None` when a claim in it is not there, or is not one segment.
    #[must_use]
    pub fn fill(&self, claims: &Claims) -> Option<TopicPattern> {
        self.with(|part| match part {
            Part::Fixed(text) => Some(text.as_str().into()),
            Part::Subject => one_segment(claims.subject.as_deref()?.into()),
            Part::Claim(name) => one_segment(match claims.all.get(name)? {
                Value::String(text) => text.as_str().into(),
                Value::Number(number) if number.is_u64() => number.to_string().into(),
                _ => return None,
            }),
        })
    }

    fn with<'a>(
        &'a self,
        mut value: impl FnMut(&'a Part) -> Option<Cow<'a, str>>,
    ) -> Option<TopicPattern> {
        let segments: Option<Vec<_>> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Fixed(text) => Some(text.as_str().into()),
                part => value(part),
            })
            .collect();
        TopicPattern::parse(&segments?.join("/")).ok()
    }
}

/// A topic has no `*`, and a topic without `/` is one segment.
fn one_segment(value: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (!value.contains('/') && Topic::parse(&value).is_ok()).then_some(value)
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::auth) fn claims(all: Value) -> Claims {
        Claims {
            issuer: None,
            subject: all["sub"].as_str().map(str::to_owned),
            audience: Vec::new(),
            id: None,
            expires_unix_ms: None,
            issued_unix_ms: None,
            all: all.as_object().cloned().unwrap_or_default(),
        }
    }

    #[test]
    fn a_claim_is_one_segment_or_opens_nothing() {
        let table = [
            ("**", json!({}), Some("**")),
            ("tenant/{sub}/**", json!({"sub": "a"}), Some("tenant/a/**")),
            ("{sub}", json!({"sub": "a@b.example"}), Some("a@b.example")),
            ("o/{claim:org}", json!({"org": 42}), Some("o/42")),
            (
                "o/{claim:https://x/org}/*",
                json!({"https://x/org": "q"}),
                Some("o/q/*"),
            ),
            (
                "o/{claim:org}/{sub}",
                json!({"org": "q", "sub": "a"}),
                Some("o/q/a"),
            ),
            ("tenant/{sub}/**", json!({}), None),
            ("tenant/{sub}/**", json!({"sub": ""}), None),
            ("tenant/{sub}/**", json!({"sub": "*"}), None),
            ("tenant/{sub}/**", json!({"sub": "**"}), None),
            ("tenant/{sub}", json!({"sub": "**"}), None),
            ("tenant/{sub}/**", json!({"sub": "a/b"}), None),
            ("tenant/{sub}/**", json!({"sub": "/"}), None),
            ("tenant/{sub}/**", json!({"sub": ".."}), None),
            ("tenant/{sub}/**", json!({"sub": "auth0|7"}), None),
            ("tenant/{sub}/**", json!({"sub": "a\n"}), None),
            ("tenant/{sub}/**", json!({"sub": "{sub}"}), None),
            ("tenant/{sub}/**", json!({"sub": "a".repeat(300)}), None),
            ("o/{claim:org}", json!({"org": ["a"]}), None),
            ("o/{claim:org}", json!({"org": true}), None),
            ("o/{claim:org}", json!({"org": -1}), None),
            ("o/{claim:org}", json!({"org": 1.5}), None),
            ("o/{claim:org}", json!({"org": null}), None),
        ];
        for (text, all, expected) in table {
            let template = Template::parse(text).expect(text);
            let filled = template.fill(&claims(all.clone()));
            let filled = filled.map(|pattern| pattern.to_string());
            assert_eq!(filled.as_deref(), expected, "{text} {all}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            "{",
            "{}",
            "{user}",
            "{claim:}",
            "a{sub}",
            "{sub}b",
            "{sub}{sub}",
            "a//b",
            "{sub}/",
            "/{sub}",
            "**/{sub}",
            "a b",
            "{sub",
        ] {
            assert!(Template::parse(text).is_none(), "{text:?}");
        }
    }
}
