//! The samples of the page that the dialect comes from, byte for byte.

use super::*;

fn message() -> Message {
    Message {
        id: "f25ea8f0-ed23-4abf-9f76-d99b21094d69".into(),
        chat_id: "8cecdc84-57fb-4f18-845e-5ca0be3d6223".into(),
        content: "hello".into(),
        author_timestamp: "2023-01-18T12:56:52.159+00:00".into(),
        author_role: "end-user".into(),
        rating: "".into(),
        created: "2023-01-18T12:56:52.895+00:00".into(),
        updated: "2023-01-18T12:56:52.909+00:00".into(),
        ..Message::default()
    }
}

const PLAIN: &str = r#"{"id":"f25ea8f0-ed23-4abf-9f76-d99b21094d69","chatId":"8cecdc84-57fb-4f18-845e-5ca0be3d6223","content":"hello","event":"","authorId":"","authorTimestamp":"2023-01-18T12:56:52.159+00:00","authorFirstName":"","authorLastName":"","authorRole":"end-user","forwardedByUser":null,"forwardedFromCsa":null,"forwardedToCsa":null,"rating":"","created":"2023-01-18T12:56:52.895+00:00","updated":"2023-01-18T12:56:52.909+00:00"}"#;

#[test]
fn a_message_has_its_members_in_their_order() {
    assert_eq!(message().json(), PLAIN);
    assert_eq!(Message::parse(PLAIN.as_bytes()), Some(message()));
    let forwarded = Message {
        forwarded_by_user: Some("someAdminUser".into()),
        forwarded_from_csa: Some("csa1".into()),
        forwarded_to_csa: Some("csa2".into()),
        ..message()
    };
    assert!(forwarded.json().contains(
        r#""forwardedByUser":"someAdminUser","forwardedFromCsa":"csa1","forwardedToCsa":"csa2","rating":"""#
    ));
    let more = Message {
        buttons: Some(serde_json::json!([{"title": "a"}])),
        original_base_id: Some("x".into()),
        ..message()
    };
    assert!(
        more.json()
            .ends_with(r#","buttons":[{"title":"a"}],"originalBaseId":"x"}"#)
    );
    assert_eq!(Message::parse(more.json().as_bytes()), Some(more));
}

#[test]
fn the_other_key_stands_in_its_place() {
    let small = String::from_utf8(with_small_chatid(PLAIN.as_bytes())).expect("text");
    assert_eq!(small, PLAIN.replace(r#""chatId""#, r#""chatid""#));
    // A text that imitates the member is left alone.
    let hostile = Message {
        id: r#"x","chatId":"y"#.into(),
        content: r#","chatId":"#.into(),
        ..message()
    };
    let small = String::from_utf8(with_small_chatid(hostile.json().as_bytes())).expect("text");
    let value: Value = serde_json::from_str(&small).expect("JSON");
    assert_eq!(value["chatid"], hostile.chat_id);
    assert_eq!(value["id"], hostile.id);
    assert_eq!(value["content"], hostile.content);
    assert_eq!(with_small_chatid(b"{}"), b"{}");
}

#[test]
fn a_chat_has_both_names_of_its_last_event() {
    let chat = Chat {
        id: "c".into(),
        status: Status::Redirected,
        event: "redirected".into(),
        last_message_event: "redirected".into(),
        ..Chat::default()
    };
    assert_eq!(
        serde_json::to_string(&chat).expect("JSON"),
        r#"{"id":"c","customerSupportId":"","customerSupportDisplayName":"","csaTitle":"","endUserId":"","endUserFirstName":"","endUserLastName":"","endUserOs":"","endUserUrl":"","status":"REDIRECTED","created":"","updated":"","ended":null,"lastMessage":"","lastMessageTimestamp":"","lastMessageEvent":"redirected","event":"redirected","forwardedByUser":null,"forwardedFromCsa":null,"forwardedToCsa":null}"#
    );
}

#[test]
fn wrappings_are_those_of_the_samples() {
    assert_eq!(
        response(&estimate(100, 0)),
        r#"{"response":{"durationInSeconds":"100","positionInUnassignedChats":"0"}}"#
    );
    assert_eq!(
        data("get_new_messages", "[]"),
        r#"{"data":{"get_new_messages":[]},"error":null}"#
    );
    assert_eq!(message_nudge("m"), r#"{"type":"message","messageId":"m"}"#);
    assert_eq!(
        list_nudge("c"),
        r#"{"status":"Chat Status Changed","chatId":"c"}"#
    );
    assert_eq!(order(0), r#"{"order":0}"#);
}
