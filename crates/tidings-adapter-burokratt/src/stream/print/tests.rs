//! Frames as their clients read them, whatever is in them.

use proptest::prelude::*;
use serde_json::{Value, json};
use tidings_adapter::{EventId, Prev, Topic};

use super::*;

fn event(kind: &str, data: String) -> Event {
    Event {
        id: EventId::new(1_767_225_600_000, 7).expect("in range"),
        prev: Prev::Unknown,
        topic: Topic::parse("burokratt/channel/c").expect("valid"),
        kind: kind.into(),
        data: data.into(),
        attributes: None,
    }
}

fn print(variant: Variant, event: &Event) -> String {
    String::from_utf8((variant.print)(event).to_vec()).expect("text")
}

/// Reads a frame as an event stream's client does: the values of each field.
fn fields(frame: &str) -> Vec<(String, String)> {
    let lines = frame.strip_suffix("\n\n").expect("it is whole");
    // CR, LF and CR LF end lines, and nothing else (WHATWG HTML §9.2.5).
    lines
        .split(['\n', '\r'])
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a field");
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

#[test]
fn each_path_has_its_frames() {
    let message = event(
        kind::MESSAGE,
        r#"{"id":"m-1","chatId":"c","content":"hei","rating":1.50}"#.into(),
    );
    let id = "id: 1767225600000-0007\n";
    let table = [
        (
            NEW_MESSAGES.message,
            format!(
                "{id}data: {}\n\n",
                r#"{"id":"m-1","chatid":"c","content":"hei","rating":1.50}"#
            ),
        ),
        (
            RUUTER_CS_NEW_MESSAGES.message,
            format!(
                "{id}data: {}\n\n",
                r#"{"headers":{},"body":{"data":{"cs_get_new_messages":[{"id":"m-1","chatid":"c","content":"hei","rating":1.50}]},"error":null},"statusCode":"OK","statusCodeValue":200}"#
            ),
        ),
        (
            NOTIFICATIONS.message,
            format!(
                "{id}data: {}\n\n",
                r#"{"type":"message","messageId":"m-1"}"#
            ),
        ),
    ];
    for (variant, expected) in table {
        assert_eq!(print(variant, &message), expected);
    }
    let raw = event(kind::RAW, "{\"a\":\r\n [1,\n2]}".into());
    let payload = NOTIFICATIONS.of(&raw).expect("payloads are told");
    assert_eq!(
        print(payload, &raw),
        format!("{id}data: {{\"a\":   [1, 2]}}\n\n")
    );
    assert!(NEW_MESSAGES.of(&raw).is_none());
    let preview = event(kind::PREVIEW, r#"{"type":"preview","messageId":""}"#.into());
    let flash = NOTIFICATIONS.of_flash(&preview).expect("previews are told");
    assert_eq!(
        print(flash, &preview),
        "data: {\"type\":\"preview\",\"messageId\":\"\"}\n\n"
    );
}

#[test]
fn control_words() {
    assert_eq!(retry(3000, 0.0), "retry: 2400\n\n");
    assert_eq!(retry(3000, 1.0), "retry: 3600\n\n");
    assert_eq!(
        fields(&ready(Some("1-1"), true, 3)),
        [
            ("event".to_owned(), "ready".to_owned()),
            ("id".to_owned(), "1-1".to_owned()),
            (
                "data".to_owned(),
                r#"{"cursor":"1-1","replayed":3,"resumed":true}"#.to_owned()
            ),
        ]
    );
}

#[test]
fn every_variant_has_its_own_name() {
    let mut names = Vec::new();
    for frames in [
        NEW_MESSAGES,
        RUUTER_NEW_MESSAGES,
        RUUTER_CS_NEW_MESSAGES,
        NOTIFICATIONS,
        RUUTER_NOTIFICATIONS,
    ] {
        names.push(frames.message.name);
        names.extend(
            [frames.payload, frames.flash]
                .into_iter()
                .flatten()
                .map(|one| one.name),
        );
    }
    let several = [
        SEVERAL_MESSAGE,
        SEVERAL_CHAT_LIST,
        RUUTER_SEVERAL_MESSAGE,
        RUUTER_SEVERAL_CHAT_LIST,
    ];
    names.extend(several.map(|one| one.name));
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// Texts that look like the frame around them, in every spelling of a line end.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("\u{2028}\u{2029}\u{85}".to_owned()),
        Just("\0".to_owned()),
        Just("data: x".to_owned()),
        Just("id: 9-9\n".to_owned()),
        Just("event: gap".to_owned()),
        Just("\"}]".to_owned()),
        Just("\\n".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_a_message_says_its_frame_has_one_id_and_one_line_of_data(
        text in texts(), key in texts(), pretty: bool
    ) {
        let said = json!({"id": text, "chatId": text, "content": text, key: text});
        let data = if pretty {
            serde_json::to_string_pretty(&said)
        } else {
            serde_json::to_string(&said)
        };
        let data = data.expect("JSON");
        let all = [NEW_MESSAGES, RUUTER_NEW_MESSAGES, NOTIFICATIONS, RUUTER_NOTIFICATIONS];
        for frames in all {
            for kind in [kind::MESSAGE, kind::RAW] {
                let event = event(kind, data.clone());
                let Some(variant) = frames.of(&event) else { continue };
                let frame = print(variant, &event);
                let fields = fields(&frame);
                let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                prop_assert_eq!(names, ["id", "data"]);
                prop_assert_eq!(&fields[0].1, "1767225600000-0007");
                let value: Value = serde_json::from_str(&fields[1].1).expect("JSON");
                if kind == kind::RAW && frames.message.name == NOTIFICATIONS.message.name {
                    prop_assert_eq!(&value, &said);
                }
            }
        }
    }

    #[test]
    fn whatever_a_client_sends_as_its_place_a_gap_is_one_line_without_an_id(text in texts()) {
        let gap = Gap {
            reason: Reason::Invalid,
            last_event_id: Some(&text),
            oldest: None,
            newest: "0-0",
            channel: Some(&text),
        };
        let frame = gap.print();
        let fields = fields(&frame);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        prop_assert_eq!(names, ["event", "data"]);
        let value: Value = serde_json::from_str(&fields[1].1).expect("JSON");
        prop_assert_eq!(&value["lastEventId"], &json!(text));
    }
}
