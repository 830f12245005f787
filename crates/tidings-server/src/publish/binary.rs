//! CloudEvents in binary mode: attributes in `ce-*` headers, the body is the data.
//!
//! Header values are percent-encoded UTF-8, optionally in double quotes with backslash escapes
//! (CloudEvents HTTP protocol binding 1.0.2 §3.1.3.2).

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use tidings_core::Draft;

use crate::problem::{Cause, Problem};
use crate::wire::{Fields, Form};

const PREFIX: &str = "ce-";

/// Whether the headers carry an event: any of them begins with `ce-`.
#[must_use]
pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

/// The draft of one event.
///
/// # Errors
/// A [`Problem`] naming the attribute.
pub fn draft(headers: &HeaderMap, body: &[u8]) -> Result<Draft, Problem> {
    let mut fields = Fields::default();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        let text = decode(value.as_bytes()).ok_or_else(|| {
            let detail = format!("the header `{name}` is not percent-encoded UTF-8");
            Problem::new(Cause::InvalidField, detail).field(attribute)
        })?;
        fields.set(attribute, Cow::Owned(text))?;
    }
    if let Some(kind) = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()) {
        // The binding maps the content type to `datacontenttype`; the plain one is the default and
        // is not kept. A `ce-datacontenttype` beside it is "there twice".
        let kind = kind.trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            fields.set("datacontenttype", Cow::Borrowed(kind))?;
        }
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::new(Cause::MalformedJson, "the body is not UTF-8").field("data"))?;
    if !text.is_empty() {
        fields.set_data_text(text)?;
    }
    fields.into_draft(Form::CloudEvents)
}

/// Unquotes and percent-decodes a header value; `None` when the result is not UTF-8 or an escape
/// is cut short.
fn decode(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let unquoted = match value {
        [b'"', inside @ .., b'"'] => unescape(inside)?,
        plain => Cow::Borrowed(plain),
    };
    let mut decoded = Vec::with_capacity(unquoted.len());
    let mut rest = unquoted.as_ref();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (hex, tail) = rest.split_first_chunk::<2>()?;
        let digit = |b: u8| char::from(b).to_digit(16);
        decoded.push(u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()?);
        rest = tail;
    }
    String::from_utf8(decoded).ok()
}

fn unescape(inside: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut plain = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { *bytes.next()? } else { byte });
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn header_values_are_decoded() {
        let table: &[(&[u8], Option<&str>)] = &[
            (b"plain", Some("plain")),
            (
                b"Euro%20%E2%82%AC%20%F0%9F%98%80",
                Some("Euro \u{20ac} \u{1f600}"),
            ),
            (b"\"a b\"", Some("a b")),
            (b"\"a\\\"b%41\"", Some("a\"bA")),
            (b"a+b", Some("a+b")),
            ("ä".as_bytes(), Some("ä")),
            (b"%E2%82", None),
            (b"%4", None),
            (b"%", None),
            (b"%zz", None),
            (b"\"a\\\"", None),
            (b"\xff", None),
            (b"\"", Some("\"")),
            (b"", Some("")),
        ];
        for (value, expected) in table {
            assert_eq!(decode(value).as_deref(), *expected, "{value:?}");
        }
    }

    fn headers(more: &[(&'static str, &'static str)]) -> HeaderMap {
        let whole = [
            ("ce-specversion", "1.0"),
            ("ce-id", "7"),
            ("ce-source", "/s%20x"),
            ("ce-type", "greeting"),
            ("ce-topic", "demo/a"),
            ("content-type", "application/json"),
            ("x-other", "ignored"),
        ];
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let mut map = HeaderMap::new();
        for (name, value) in whole.iter().chain(more).map(pair) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn headers_and_body_make_an_event() {
        let draft = draft(&headers(&[]), b" {\"a\": 1}\n").expect("a good event");
        assert_eq!(&draft.data[..], b"{\"a\": 1}");
        let attributes = draft.attributes.expect("there are some");
        assert_eq!(attributes.source.as_deref(), Some("/s x"));
        assert_eq!(attributes.content_type, None);
        assert_eq!(&draft.dedup.expect("an id makes a key").key[..], "7");
    }

    #[test]
    fn no_body_is_no_data() {
        let draft = draft(&headers(&[]), b"").expect("a good event");
        assert_eq!(&draft.data[..], b"null");
    }

    #[test]
    fn each_mistake_has_its_cause() {
        type Case<'a> = (&'a [(&'static str, &'static str)], &'a [u8], Cause, &'a str);
        let table: &[Case<'_>] = &[
            (&[("ce-colour", "red")], b"", Cause::UnknownField, "colour"),
            (&[("ce-id", "8")], b"", Cause::InvalidField, "id"),
            (&[("ce-subject", "%f")], b"", Cause::InvalidField, "subject"),
            (&[("ce-time", "x")], b"", Cause::InvalidField, "time"),
            (&[], b"{", Cause::MalformedJson, "data"),
            (&[], b"\xff", Cause::MalformedJson, "data"),
            (&[], b"1 2", Cause::MalformedJson, "data"),
        ];
        for (more, body, cause, field) in table {
            let problem = draft(&headers(more), body).expect_err("refused");
            assert_eq!(problem.cause, *cause, "{more:?} {}", problem.detail);
            assert_eq!(problem.more["field"], *field, "{more:?}");
        }
    }
}
