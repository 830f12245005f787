//! A reader of event streams, as the WHATWG's HTML standard §9.2.6 has it: what is printed is read
//! by somebody else's rules.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// A JSON object, its values as they stand in the text: a number may be larger than any type that
/// holds one (RFC 8259 §6).
pub(crate) type Object = BTreeMap<String, Box<RawValue>>;

/// A member that is a text.
pub(crate) fn text(object: &Object, name: &str) -> String {
    let raw = object.get(name).unwrap_or_else(|| panic!("no {name:?}"));
    serde_json::from_str(raw.get()).unwrap_or_else(|_| panic!("{name:?} is no text: {raw}"))
}

/// One event as an `EventSource` dispatches it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dispatched {
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) id: String,
}

/// Everything that a stream dispatches. It must end at the end of a block: what is sent is whole.
pub(crate) fn dispatched(stream: &[u8]) -> Vec<Dispatched> {
    let text = std::str::from_utf8(stream).expect("an event stream is UTF-8");
    let mut events = Vec::new();
    let (mut kind, mut data, mut id) = (String::new(), None::<String>, String::new());
    let mut open = false;
    for line in lines(text) {
        open = !line.is_empty();
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, value.strip_prefix(' ').unwrap_or(value)),
            None => (line, ""),
        };
        match name {
            _ if line.is_empty() => {
                let kind = std::mem::take(&mut kind);
                if let Some(data) = data.take() {
                    let kind = if kind.is_empty() { "message" } else { &kind };
                    events.push(Dispatched {
                        kind: kind.to_owned(),
                        data,
                        id: id.clone(),
                    });
                }
            }
            "event" => value.clone_into(&mut kind),
            "data" => match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "" | "retry" => {}
            other => panic!("{other:?} is no field of an event stream"),
        }
    }
    assert!(!open, "a block is cut off in {text:?}");
    events
}

/// Lines end with CR, LF or both.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(['\r', '\n']) {
        lines.push(&rest[..end]);
        let both = rest[end..].starts_with("\r\n");
        rest = &rest[end + if both { 2 } else { 1 }..];
    }
    assert!(rest.is_empty(), "a line is cut off: {rest:?}");
    lines
}

/// A text with its line ends as a stream hands them out.
pub(crate) fn with_line_feeds(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
