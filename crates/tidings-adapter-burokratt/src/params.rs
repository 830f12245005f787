//! A request's parameters, wherever they stand: in the query or in a JSON body.

use serde_json::{Map, Value};
use tidings_adapter::axum::extract::{FromRequest as _, Request};
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::header::CONTENT_TYPE;
use tidings_adapter::http::{HeaderMap, StatusCode};

use crate::answer::Refusal;
use crate::keys::Channel;

/// Parameters of a query that are looked at: no endpoint has more than a few, and the multiplexed
/// stream names a chat with each.
const QUERY_MAX: usize = 100;

/// Bytes of a trace context, which is one line.
const TRACE_BYTES_MAX: usize = 512;

/// The names of a chat's id, in the order in which they count.
pub(crate) const CHAT_ID: &[&str] = &["chatId", "chatid"];

/// The same where a body's own `id` is the chat's.
pub(crate) const CHAT_OR_ID: &[&str] = &["chatId", "chatid", "id"];

/// What content types are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Json,
    /// Also `text/plain`, as beacons send JSON.
    Beacon,
}

/// What a request says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params {
    query: Vec<(String, String)>,
    body: Map<String, Value>,
}

impl Params {
    /// Of a query alone.
    pub(crate) fn of_query(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).take(QUERY_MAX);
        Self {
            query: pairs
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
            body: Map::new(),
        }
    }

    /// Of a query and a body, which is a JSON object or empty.
    pub(crate) fn of(query: &str, body: &[u8]) -> Result<Self, Refusal> {
        let mut params = Self::of_query(query);
        if !body.iter().all(u8::is_ascii_whitespace) {
            params.body = serde_json::from_slice(body)
                .map_err(|_| Refusal::Malformed("the body is not a JSON object".into()))?;
        }
        Ok(params)
    }

    /// Of a request.
    pub(crate) async fn read(request: Request, takes: Takes) -> Result<(HeaderMap, Self), Refusal> {
        let (headers, query, body) = read(request, takes).await?;
        let params = Self::of(&query, &body)?;
        Ok((headers, params))
    }

    /// As it was sent; the body counts before the query. `null` is nothing.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// A text; numbers and booleans are taken for theirs.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]: a list or an object.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.value(name) {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(_) => Err(Refusal::Malformed(format!("`{name}` is not a text"))),
            None => {
                let mut pairs = self.query.iter();
                let found = pairs.find(|(key, _)| key == name);
                Ok(found.map(|(_, text)| text.clone()))
            }
        }
    }

    /// The first of these that is there and not empty.
    pub(crate) fn first(&self, names: &[&str]) -> Result<Option<String>, Refusal> {
        for name in names {
            if let Some(text) = self.text(name)?.filter(|text| !text.is_empty()) {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Every value of a name in the query, in its order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let pairs = self.query.iter();
        pairs
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A channel's id under the first of these names that is there.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]: it cannot be one.
    pub(crate) fn maybe_channel(&self, names: &[&str]) -> Result<Option<Channel>, Refusal> {
        let Some(text) = self.first(names)? else {
            return Ok(None);
        };
        match Channel::parse(&text) {
            Some(channel) => Ok(Some(channel)),
            None => Err(Refusal::Malformed(format!("`{}` is no id", names[0]))),
        }
    }

    /// The same where it must be there.
    pub(crate) fn channel(&self, names: &[&str]) -> Result<Channel, Refusal> {
        self.maybe_channel(names)?
            .ok_or_else(|| Refusal::missing(names.last().copied().unwrap_or_default()))
    }

    /// The object under a name, with the members beside it where it has none: what real clients nest
    /// may stand flat.
    pub(crate) fn nested(&self, name: &str) -> Self {
        let mut inner = self.clone();
        if let Some(Value::Object(object)) = self.value(name) {
            for (key, value) in object {
                inner.body.insert(key.clone(), value.clone());
            }
        }
        inner
    }
}

/// A request's headers, query and whole body, whose content type is one that is taken.
pub(crate) async fn read(
    request: Request,
    takes: Takes,
) -> Result<(HeaderMap, String, Bytes), Refusal> {
    let headers = request.headers().clone();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = Bytes::from_request(request, &()).await.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Refusal::TooLarge
        } else {
            Refusal::Malformed("the body breaks off".into())
        }
    })?;
    if !body.is_empty() && !is_taken(&headers, takes) {
        return Err(Refusal::NotJson);
    }
    Ok((headers, query, body))
}

/// The W3C trace context of a request.
pub(crate) fn trace_parent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    (!text.is_empty() && text.len() <= TRACE_BYTES_MAX).then(|| text.to_owned())
}

/// Whether a body's content type is taken. One that says none is: scripts do not.
fn is_taken(headers: &HeaderMap, takes: Takes) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let json = kind.is_empty() || kind == "application/json" || kind.ends_with("+json");
    json || (takes == Takes::Beacon && kind == "text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_adapter::http::HeaderValue;

    #[test]
    fn parameters_stand_anywhere() {
        let params = Params::of(
            "chatid=q&x=1+2&x=3",
            br#"{"id":"b","n":5,"t":true,"o":{},"z":null}"#,
        )
        .expect("good");
        let channel = |names| {
            params
                .maybe_channel(names)
                .map(|c| c.map(|c| c.to_string()))
        };
        assert_eq!(channel(CHAT_ID), Ok(Some("q".into())));
        assert_eq!(channel(&["id", "chatid"]), Ok(Some("b".into())));
        assert_eq!(channel(&["none"]), Ok(None));
        assert_eq!(params.text("x"), Ok(Some("1 2".into())));
        assert_eq!(params.all("x").collect::<Vec<_>>(), ["1 2", "3"]);
        assert_eq!(params.text("n"), Ok(Some("5".into())));
        assert_eq!(params.text("t"), Ok(Some("true".into())));
        assert_eq!(params.text("z"), Ok(None));
        assert!(params.text("o").is_err());
        assert!(Params::of("", b" \n").expect("good").body.is_empty());
        for bad in [
            "{",
            "[]",
            "3",
            "\"x\"",
            "{\"a\":1,}",
            "{\"a\":1 \"b\":2}",
            "\u{feff}{}",
        ] {
            assert!(Params::of("", bad.as_bytes()).is_err(), "{bad}");
        }
        let slash = Params::of_query("chatId=a%2Fb");
        assert!(slash.channel(CHAT_ID).is_err());
        assert_eq!(
            Params::default().channel(CHAT_OR_ID),
            Err(Refusal::missing("id"))
        );
    }

    #[test]
    fn what_is_nested_may_stand_flat() {
        let text = br#"{"message":{"content":"a"},"content":"b","event":"c"}"#;
        let message = Params::of("", text).expect("good").nested("message");
        assert_eq!(message.text("content"), Ok(Some("a".into())));
        assert_eq!(message.text("event"), Ok(Some("c".into())));
    }

    #[test]
    fn content_types_are_told_apart() {
        for (kind, json, beacon) in [
            ("application/json", true, true),
            ("Application/JSON; charset=utf-8", true, true),
            ("application/vnd.api+json", true, true),
            ("text/plain;charset=UTF-8", false, true),
            ("text/html", false, false),
            ("application/x-www-form-urlencoded", false, false),
            ("multipart/form-data; boundary=x", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(is_taken(&headers, Takes::Json), json, "{kind}");
            assert_eq!(is_taken(&headers, Takes::Beacon), beacon, "{kind}");
        }
        assert!(is_taken(&HeaderMap::new(), Takes::Json));
    }
}
