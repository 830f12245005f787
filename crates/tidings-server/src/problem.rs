//! Problems: every way in which a request is refused, in one table.
//!
//! A refusal is an RFC 9457 problem document whose `type` is stable per cause, so that a program can
//! tell causes apart without reading prose. The slugs below are that `type`'s last part, the value
//! of the metric's `cause` label, and what the OpenAPI document lists; nothing is refused under a
//! name that does not stand here.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use rand::Rng as _;
use serde_json::{Map, Value};
use tidings_core::{DraftError, LogError, TopicError, Verdict};

macro_rules! causes {
    ($($(#[doc = $doc:literal])* $name:ident $slug:literal $status:literal $title:literal;)*) => {
        /// Why a request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Cause {
            $($(#[doc = $doc])* $name,)*
        }

        impl Cause {
            /// Every cause, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable last part of the problem's `type`, and the metric's label.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// The short, constant description.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

causes! {
    /// Not JSON at all, or JSON nested too deeply.
    MalformedJson "malformed-json" 400 "The body is not well-formed JSON";
    /// JSON, but neither an event nor a batch of events.
    InvalidBody "invalid-body" 400 "The body is neither an event nor a batch of events";
    /// A text that is no topic.
    InvalidTopic "invalid-topic" 400 "This is not a topic";
    /// An attribute that this hub does not keep.
    UnknownField "unknown-field" 400 "The event has a field that is not known here";
    /// An attribute that must be there.
    MissingField "missing-field" 400 "The event lacks a field";
    /// An attribute with a value it cannot have.
    InvalidField "invalid-field" 400 "A field of the event has a value it cannot have";
    /// A query parameter with a value it cannot have.
    InvalidParameter "invalid-parameter" 400 "A query parameter has a value it cannot have";
    /// Garbage where a cursor is expected.
    InvalidCursor "invalid-cursor" 400 "This is not a cursor";
    /// A cursor over another set of topics.
    CursorOfOtherTopics "cursor-of-other-topics" 400 "The cursor was made for other topics";
    /// More topics than one subscription may have.
    TooManyTopics "too-many-topics" 400 "Too many topics, or none";
    /// No key, or a wrong one.
    Unauthenticated "unauthenticated" 401 "A valid key is needed";
    /// A token that is malformed, of a foreign issuer or key, tampered with, or not for this hub.
    InvalidToken "invalid-token" 401 "The token is not accepted";
    /// A token that was good.
    TokenExpired "token-expired" 401 "The token is expired";
    /// The key does not carry the right.
    Forbidden "forbidden" 403 "The key does not allow this";
    /// The topic belongs to an adapter which takes no foreign events.
    ForbiddenTopic "forbidden-topic" 403 "The topic belongs to an adapter that does not take this";
    /// No such route.
    NotFound "not-found" 404 "There is nothing here";
    /// The route exists, the method does not.
    MethodNotAllowed "method-not-allowed" 405 "The method is not allowed here";
    /// The client accepts none of what the route can answer.
    NotAcceptable "not-acceptable" 406 "The answer has no form that the client accepts";
    /// The body stopped coming.
    BodyTimeout "body-timeout" 408 "The body did not arrive in time";
    /// The cursor is older than what is retained.
    CursorExpired "cursor-expired" 410 "Events after this cursor are no longer retained";
    /// The log lost a suffix in a failover.
    CursorDiverged "cursor-diverged" 410 "The log no longer has the event at this cursor";
    /// The cursor is beyond the log's end.
    CursorAhead "cursor-ahead" 410 "The cursor lies beyond the end of the log";
    /// One event, or one of its fields, is over its bound.
    TooLarge "too-large" 413 "An event or one of its fields is too large";
    /// The body, or a line of it, is over the limit.
    BodyTooLarge "body-too-large" 413 "The body is too large";
    /// More events than one batch may have.
    TooManyEvents "too-many-events" 413 "Too many events in one batch";
    /// A content type or encoding that is not read here.
    UnsupportedMediaType "unsupported-media-type" 415 "The content type is not read here";
    /// More events than the key or the token's subject may publish in this time.
    RateLimited "rate-limited" 429 "Too many events in this time";
    /// A panic, or a log that refuses a well-formed call.
    Internal "internal" 500 "The server failed";
    /// The log is out of reach.
    LogUnavailable "log-unavailable" 503 "The log is out of reach";
    /// The log has no room.
    LogFull "log-full" 503 "The log is full";
    /// The answer to an append was lost.
    FateUnknown "fate-unknown" 503 "It is not known whether the event was stored";
    /// The keys of the token's issuer could not be had so far.
    IssuerUnavailable "issuer-unavailable" 503 "The keys of the token's issuer are out of reach";
    /// The instance is leaving.
    Draining "draining" 503 "This instance is leaving";
    /// The instance has as many connections as it may have.
    TooManyConnections "too-many-connections" 503 "The instance has as many connections as it may have";
}

impl Cause {
    /// The problem's `type`.
    #[must_use]
    pub fn uri(self) -> String {
        format!("urn:tidings:problem:{}", self.slug())
    }

    /// The cause for a failing log.
    #[must_use]
    pub const fn of_log(error: &LogError) -> Self {
        match error {
            LogError::Unavailable(_) => Self::LogUnavailable,
            LogError::Full(_) => Self::LogFull,
            LogError::FateUnknown(_) => Self::FateUnknown,
            LogError::Refused(_) | LogError::Misconfigured(_) => Self::Internal,
        }
    }

    /// The cause of a slug.
    #[must_use]
    pub fn of_slug(slug: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.slug() == slug)
    }

    /// The cause for a verdict; `None` for `ok`.
    #[must_use]
    pub const fn of_verdict(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Ok => None,
            Verdict::Expired => Some(Self::CursorExpired),
            Verdict::Diverged => Some(Self::CursorDiverged),
            Verdict::Ahead => Some(Self::CursorAhead),
        }
    }
}

/// One refusal, on its way to being a problem document.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Which of the table.
    pub cause: Cause,
    /// What exactly, for a person.
    pub detail: String,
    /// Extension members: `line`, `field`, `allowed`, `stored`, `reload`, …
    pub more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The media type of a problem document (RFC 9457 §3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Carries a session's cause from where it refuses to the layer that counts; it never leaves the
/// server.
pub const CAUSE_HEADER: &str = "x-tidings-cause";

/// Seconds after which to try again. Long enough for a Sentinel failover to end, short enough not
/// to be felt as an outage of its own; spread, so that not all publishers come back at once.
const RETRY_AFTER_S: std::ops::RangeInclusive<u32> = 4..=6;

impl Problem {
    /// A problem with its detail.
    #[must_use]
    pub fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
            more: Map::new(),
            headers: Vec::new(),
        }
    }

    /// Adds an extension member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Names the field it is about.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        self.with("field", name)
    }

    /// Adds a response header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 401 as RFC 6750 §3 wants it: the challenge says whether a key was given at all.
    #[must_use]
    pub fn unauthenticated(key_given: bool) -> Self {
        let (detail, challenge) = if key_given {
            (
                "the key is not known here",
                "Bearer realm=\"tidings\", error=\"invalid_token\"",
            )
        } else {
            (
                "send a key as `Authorization: Bearer <key>`",
                "Bearer realm=\"tidings\"",
            )
        };
        Self::new(Cause::Unauthenticated, detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// A token that is not good, as RFC 6750 §3.1 wants it said. The detail becomes part of a header:
    /// no quotes in it.
    #[must_use]
    pub fn token(cause: Cause, detail: &str) -> Self {
        let problem = Self::new(cause, detail);
        let challenge = format!(
            "Bearer realm=\"tidings\", error=\"invalid_token\", error_description=\"{}\"",
            detail.replace(['"', '\\'], "'")
        );
        match HeaderValue::try_from(challenge) {
            Ok(challenge) if cause.status() == 401 => problem.header(WWW_AUTHENTICATE, challenge),
            _ => problem,
        }
    }

    /// What a failing log means to the client. The log's own words may name hosts: they go to our
    /// log, not to the client.
    #[must_use]
    pub fn of_log(error: &LogError) -> Self {
        let cause = Cause::of_log(error);
        let detail = match error {
            LogError::Unavailable(_) => {
                "the log is out of reach for the moment; nothing was stored"
            }
            LogError::Full(_) => {
                "the log has no room; it frees itself as events pass the retention"
            }
            LogError::FateUnknown(_) => {
                "the log's answer was lost; publishing again with the same `id` and `source` is safe"
            }
            LogError::Refused(_) | LogError::Misconfigured(_) => "the log refuses this call",
        };
        tracing::warn!(cause = cause.slug(), %error, "the log failed a request");
        Self::new(cause, detail)
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("type".to_owned(), self.cause.uri().into());
        document.insert("title".to_owned(), self.cause.title().into());
        document.insert("status".to_owned(), self.cause.status().into());
        document.insert("detail".to_owned(), self.detail.clone().into());
        for (name, value) in &self.more {
            document.insert(name.clone(), value.clone());
        }
        Value::Object(document)
    }
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        Self::new(Cause::InvalidTopic, error.to_string()).field("topic")
    }
}

impl From<DraftError> for Problem {
    fn from(error: DraftError) -> Self {
        let (cause, field) = match &error {
            DraftError::KindEmpty => (Cause::InvalidField, "type"),
            DraftError::TooLarge { field, .. } => (Cause::TooLarge, *field),
            DraftError::ControlCharacter(field) => (Cause::InvalidField, *field),
        };
        Self::new(cause, error.to_string()).field(field)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.cause.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.document().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds: u32 = rand::rng().random_range(RETRY_AFTER_S);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        // The layer that counts refusals reads the cause from here.
        response.extensions_mut().insert(self.cause);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slugs_are_stable_names_and_statuses_are_errors() {
        let slugs: BTreeSet<_> = Cause::ALL.iter().map(|c| c.slug()).collect();
        assert_eq!(slugs.len(), Cause::ALL.len(), "two causes share a slug");
        for cause in Cause::ALL {
            assert!((400..600).contains(&cause.status()), "{cause:?}");
            assert!(
                cause
                    .slug()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{cause:?}"
            );
        }
    }

    #[test]
    fn a_problem_is_a_document_with_its_members() {
        let problem = Problem::new(Cause::UnknownField, "`colour` is not known").field("colour");
        assert_eq!(
            problem.document(),
            serde_json::json!({
                "type": "urn:tidings:problem:unknown-field",
                "title": "The event has a field that is not known here",
                "status": 400,
                "detail": "`colour` is not known",
                "field": "colour",
            })
        );
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        for cause in Cause::ALL {
            let response = Problem::new(*cause, "x").into_response();
            assert_eq!(response.status().as_u16(), cause.status());
            assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                cause.status() == 503,
                "{cause:?}"
            );
            assert_eq!(response.extensions().get::<Cause>(), Some(cause));
        }
    }

    #[test]
    fn the_log_s_own_words_stay_inside() {
        let problem = Problem::of_log(&LogError::Unavailable("redis-7.internal:6379".into()));
        assert!(!problem.document().to_string().contains("internal:6379"));
    }
}
