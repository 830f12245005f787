//! What is sent: printed once per event and shared, with this connection's own head.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Event, Frame, Printed, Variant};

/// The body of an event: all but `meta`.
pub(crate) const BODY: Variant = Variant {
    name: "airsend",
    print: body,
};

/// The answer to `ws_ping`.
pub(crate) const PONG: &str = r#"{"event":"pong"}"#;

fn body(event: &Event) -> Bytes {
    let name = Value::from(&*event.kind).to_string();
    let payload = String::from_utf8_lossy(&event.data);
    format!("\"event\":{name},\"payload\":{payload}}}").into()
}

/// An event for one connection.
pub(crate) fn event(printed: &dyn Printed, event_id: Option<&str>) -> Frame {
    let ms = printed.event().id.ms();
    let mut head = String::with_capacity(80 + event_id.map_or(0, str::len));
    // A number with three digits after the point, whatever they are.
    let _ = write!(
        head,
        r#"{{"meta":{{"api":"v1","emitted_on":{}.{:03}"#,
        ms / 1000,
        ms % 1000
    );
    if let Some(id) = event_id {
        // Letters, digits, `-` and `_`.
        let _ = write!(head, r#","event_id":"{id}""#);
    }
    head.push_str("},");
    let mut frame = Frame::text(printed.printed(BODY));
    frame.head = head.into();
    frame
}

/// An event that is this connection's alone.
pub(crate) fn own(name: &str, payload: &Value) -> String {
    json!({"meta": {"api": "v1"}, "event": name, "payload": payload}).to_string()
}
