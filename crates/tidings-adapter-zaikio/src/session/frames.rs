//! Every frame that a client is sent, but events and pings.

use serde_json::{Map, Value, json};
use tidings_adapter::bytes::Bytes;

/// Why a connection is ended by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The token is no good.
    Unauthorized,
    /// The token is good no longer; `@anycable/core` gets itself a new one on exactly this.
    TokenExpired,
    /// The instance leaves, or cannot tell a good token from a bad one for the moment.
    ServerRestart,
    /// Its place in the log is lost: it may have missed something, and asks when it is back.
    Remote,
    /// It does not take what it is sent.
    TooSlow,
    /// It asks for more than a connection is given.
    InvalidRequest,
}

pub(crate) const WELCOME: &str = r#"{"type":"welcome"}"#;

pub(crate) fn disconnect(reason: Reason) -> String {
    let (reason, reconnect) = match reason {
        Reason::Unauthorized => ("unauthorized", false),
        Reason::TokenExpired => ("token_expired", false),
        Reason::ServerRestart => ("server_restart", true),
        Reason::Remote => ("remote", true),
        Reason::TooSlow => ("too_slow", true),
        Reason::InvalidRequest => ("invalid_request", true),
    };
    format!(r#"{{"type":"disconnect","reason":"{reason}","reconnect":{reconnect}}}"#)
}

pub(crate) fn ping(unix_ms: u64) -> String {
    format!(r#"{{"type":"ping","message":{}}}"#, unix_ms / 1000)
}

/// A frame about a subscription.
pub(crate) fn typed(identifier: &str, kind: &'static str) -> String {
    json!({ "identifier": identifier, "type": kind }).to_string()
}

pub(crate) fn reject_history(identifier: &str, reason: &'static str) -> String {
    json!({ "identifier": identifier, "type": "reject_history", "reason": reason }).to_string()
}

pub(crate) fn confirm_ack(identifier: &str, ack: &Value) -> String {
    json!({ "identifier": identifier, "type": "confirm_ack", "ack": ack }).to_string()
}

pub(crate) fn reject_ack(identifier: &str, ack: &Value, reason: &'static str) -> String {
    json!({ "identifier": identifier, "type": "reject_ack", "ack": ack, "reason": reason })
        .to_string()
}

/// `{"ids":[…]}`.
pub(crate) fn ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Value {
    json!({ "ids": ids.into_iter().collect::<Vec<_>>() })
}

/// `{"streams":{…}}`.
pub(crate) fn streams(streams: &Map<String, Value>) -> Value {
    json!({ "streams": streams })
}

/// What stands before an event of a subscription.
pub(crate) fn head(identifier: &str) -> Bytes {
    format!(r#"{{"identifier":{},"message":"#, Value::from(identifier)).into()
}

/// What stands behind an event.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    pub(crate) first: Bytes,
    /// When it comes again because it was not acked.
    pub(crate) again: Bytes,
}

impl Tail {
    /// Base protocol: nothing but the end.
    pub(crate) const BASE: Self = Self {
        first: Bytes::from_static(b"}"),
        again: Bytes::from_static(b"}"),
    };

    /// Extended protocol; stream and offset are printed with the event.
    pub(crate) fn extended(epoch: &str) -> Self {
        Self {
            first: format!(r#","epoch":"{epoch}"}}"#).into(),
            again: format!(r#","epoch":"{epoch}","redelivered":true}}"#).into(),
        }
    }
}
