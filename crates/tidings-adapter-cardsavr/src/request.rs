//! A request as the routes see it: who asks is known, the body is in clear.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use tidings_adapter::http::{HeaderMap, Method};

use crate::session::Session;

/// One request that passed the front: its signature was right and its session is alive.
#[derive(Clone)]
pub(crate) struct Asked {
    /// Who asks.
    pub(crate) session: Arc<Session>,
    pub(crate) method: Method,
    /// Without a `/` at its end.
    pub(crate) path: String,
    /// The number that stands for `:id` in the row's path; `None` where the row has none.
    pub(crate) id: Option<u64>,
    /// Without its `?`; empty if there is none. See [`Asked::query`].
    pub(crate) raw_query: String,
    /// See [`Asked::header`].
    pub(crate) headers: HeaderMap,
    /// The body in clear; [`Value::Null`] without one.
    pub(crate) body: Value,
}

impl fmt::Debug for Asked {
    /// Its headers and its body have tokens, keys, cards and credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Asked");
        shown.field("method", &self.method);
        shown.field("path", &self.path).finish_non_exhaustive()
    }
}

impl Asked {
    /// A header, under its own name or with `x-cardsavr-` before it (contract section 2.3), if it
    /// is visible ASCII. The longer name wins.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The access key that a poller shows, under any of the three names that clients use.
    pub(crate) fn access_key(&self) -> Option<&str> {
        self.header("cardsavr-messaging-access-key")
            .or_else(|| self.header("messaging-access-key"))
    }

    /// The envelope that a PUT answers; one client writes the header with `_`.
    pub(crate) fn envelope_id(&self) -> Option<&str> {
        self.header("envelope-id")
            .or_else(|| self.header("envelope_id"))
    }

    /// Names of what the reply is to be hydrated with (a JSON array of strings); unknown names and
    /// what is no such array are ignored.
    pub(crate) fn hydration(&self) -> Vec<String> {
        let parsed = self.header("hydration").map(serde_json::from_str);
        let Some(Ok(Value::Array(names))) = parsed else {
            return Vec::new();
        };
        let text = |name: Value| match name {
            Value::String(text) => Some(text),
            _ => None,
        };
        names.into_iter().filter_map(text).collect()
    }

    /// The query's pairs, decoded, in their order; keys may come several times.
    pub(crate) fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.raw_query.as_bytes())
    }
}

/// A header under `x-cardsavr-<name>` or `<name>`. The first of several.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    // An allocation per look-up, of a few bytes: a table of static names would have to know every
    // header of every row.
    let value = headers
        .get(format!("x-cardsavr-{name}"))
        .or_else(|| headers.get(name))?;
    value.to_str().ok().filter(|text| !text.is_empty())
}
