//! A draft: what a publisher hands in.

use std::sync::Arc;

use bytes::Bytes;

use crate::limits::{ATTRIBUTE_BYTES_MAX, DATA_BYTES_MAX, KIND_BYTES_MAX};
use crate::topic::Topic;

/// What a publisher hands in. On the wire its names are those of CloudEvents 1.0; `kind` is
/// `type` there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes.
    pub topic: Topic,
    /// What happened, e.g. `chat.postMessage`.
    pub kind: Arc<str>,
    /// JSON, kept byte for byte. Whoever makes a draft has checked that it is JSON.
    pub data: Bytes,
    /// Everything that is seldom there; `None` costs nothing.
    pub attributes: Option<Box<Attributes>>,
    /// The publisher's key: a second draft under the same key is not stored again.
    pub dedup: Option<Dedup>,
}

/// The optional attributes of a draft and of its event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The publisher's own id (CloudEvents `id`).
    pub publisher_id: Option<Arc<str>>,
    /// Who published it (CloudEvents `source`).
    pub source: Option<Arc<str>>,
    /// What it is about (CloudEvents `subject`).
    pub subject: Option<Arc<str>>,
    /// When it happened by the publisher's word (CloudEvents `time`, RFC 3339), as it was sent.
    pub time: Option<Arc<str>>,
    /// CloudEvents `datacontenttype`; `application/json` when absent.
    pub content_type: Option<Arc<str>>,
    /// CloudEvents `dataschema`.
    pub schema: Option<Arc<str>>,
    /// W3C trace context, `traceparent` (CloudEvents distributed tracing extension).
    pub trace_parent: Option<Arc<str>>,
    /// W3C trace context, `tracestate`.
    pub trace_state: Option<Arc<str>>,
}

/// A publisher's key and how far it reaches (LOG.md §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedup {
    /// What the key is unique in, e.g. the topic and the source, or an organisation. Drafts that
    /// share a scope must share a partition.
    pub scope: Arc<str>,
    /// The key within the scope.
    pub key: Arc<str>,
    /// How long the log remembers it, in milliseconds.
    pub lifetime_ms: u64,
}

impl Dedup {
    /// One hour, like the events themselves.
    pub const LIFETIME_MS: u64 = 60 * 60 * 1000;

    /// The default scope: topic and source, for one hour.
    #[must_use]
    pub fn by_source(topic: &Topic, source: Option<&str>, id: &str) -> Self {
        // A line feed stands in neither: the two cannot run into each other.
        let scope = format!("{topic}\n{}", source.unwrap_or_default());
        Self {
            scope: scope.into(),
            key: id.into(),
            lifetime_ms: Self::LIFETIME_MS,
        }
    }
}

/// Why a draft is refused before it reaches the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// No kind.
    #[error("`type` is empty")]
    KindEmpty,
    /// A part is larger than its bound.
    #[error("`{field}` has {bytes} bytes, at most {max} are taken")]
    TooLarge {
        /// The name on the wire.
        field: &'static str,
        /// What was sent.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A control character where a line of text is expected.
    #[error("`{0}` holds a control character")]
    ControlCharacter(&'static str),
}

impl Draft {
    /// A draft with nothing but the necessary.
    #[must_use]
    pub fn new(topic: Topic, kind: impl Into<Arc<str>>, data: impl Into<Bytes>) -> Self {
        Self {
            topic,
            kind: kind.into(),
            data: data.into(),
            attributes: None,
            dedup: None,
        }
    }

    /// Checks every bound of [`crate::limits`].
    ///
    /// # Errors
    /// The first [`DraftError`] found.
    pub fn check(&self) -> Result<(), DraftError> {
        if self.kind.is_empty() {
            return Err(DraftError::KindEmpty);
        }
        line("type", &self.kind, KIND_BYTES_MAX)?;
        bounded("data", self.data.len(), DATA_BYTES_MAX)?;
        if let Some(attributes) = &self.attributes {
            attributes.check()?;
        }
        if let Some(dedup) = &self.dedup {
            line("id", &dedup.key, ATTRIBUTE_BYTES_MAX)?;
        }
        Ok(())
    }
}

impl Attributes {
    fn check(&self) -> Result<(), DraftError> {
        let lines = [
            ("id", &self.publisher_id),
            ("source", &self.source),
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.content_type),
            ("dataschema", &self.schema),
            ("traceparent", &self.trace_parent),
            ("tracestate", &self.trace_state),
        ];
        for (field, value) in lines {
            if let Some(value) = value {
                line(field, value, ATTRIBUTE_BYTES_MAX)?;
            }
        }
        Ok(())
    }
}

fn line(field: &'static str, text: &str, max: usize) -> Result<(), DraftError> {
    bounded(field, text.len(), max)?;
    if text.chars().any(char::is_control) {
        return Err(DraftError::ControlCharacter(field));
    }
    Ok(())
}

fn bounded(field: &'static str, bytes: usize, max: usize) -> Result<(), DraftError> {
    if bytes > max {
        Err(DraftError::TooLarge { field, bytes, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Draft {
        Draft::new(
            Topic::parse("demo/a").expect("valid"),
            "greeting",
            &b"{}"[..],
        )
    }

    #[test]
    fn every_bound_is_checked() {
        assert_eq!(draft().check(), Ok(()));
        let long_kind = Draft {
            kind: "k".repeat(129).into(),
            ..draft()
        };
        assert!(matches!(
            long_kind.check(),
            Err(DraftError::TooLarge { field: "type", .. })
        ));
        let empty = Draft {
            kind: "".into(),
            ..draft()
        };
        assert_eq!(empty.check(), Err(DraftError::KindEmpty));
        let injected = Draft {
            kind: "a\nid: 1".into(),
            ..draft()
        };
        assert_eq!(injected.check(), Err(DraftError::ControlCharacter("type")));
        let large = Draft {
            data: vec![b' '; DATA_BYTES_MAX + 1].into(),
            ..draft()
        };
        assert!(matches!(
            large.check(),
            Err(DraftError::TooLarge { field: "data", .. })
        ));
    }
}
