//! Drafts, and what becomes of them.

use serde_json::json;
use tidings_adapter::Attributes;

use super::*;
use crate::channel::Seat;
use crate::objects::Profile;
use crate::options::AirsendOptions;
use crate::shelf::Shelf;

fn rules() -> Rules {
    let options = AirsendOptions {
        secret: Some("a secret of the tests: 32 bytes and more".into()),
        ..AirsendOptions::default()
    };
    Rules {
        settings: Arc::new(Settings::of(options).expect("good")),
        ids: Arc::default(),
    }
}

fn draft(topic: &str, kind: &str, data: Value, id: Option<&str>) -> Draft {
    let topic = Topic::parse(topic).expect("a topic");
    let mut draft = Draft::new(topic.clone(), kind, data.to_string());
    draft.dedup = id.map(|id| Dedup::by_source(&topic, Some("/backend"), id));
    draft.attributes = Some(Box::new(Attributes::default()));
    draft
}

/// A channel of users 1 and 2.
fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    for id in 1..=3 {
        let upsert = UserAsk::Upsert {
            email: format!("u{id}@example.com"),
            display_name: format!("User {id}"),
            has_avatar: None,
            password: None,
            op: None,
        };
        shelf.ask(&user::command(id, &upsert));
    }
    let nonce = "n".to_owned();
    let seat = |id: u64| Seat {
        profile: Profile {
            id,
            email: format!("u{id}@example.com"),
            display_name: format!("User {id}"),
            has_avatar: false,
            version: 1,
        },
        online: false,
        version: 0,
        active: 0,
    };
    for ask in [
        Ask::Create {
            fields: Default::default(),
            nonce: nonce.clone(),
            op: None,
        },
        Ask::Enrol {
            nonce: nonce.clone(),
            seats: vec![seat(1), seat(2)],
        },
        Ask::Open { nonce, op: None },
    ] {
        shelf.ask(&channel::command(11, &ask));
    }
    shelf.relay();
    shelf
}

/// What a draft comes to: the kinds of its events, or why it is refused.
fn perform(shelf: &mut Shelf, rules: &Rules, draft: Draft) -> Result<Vec<String>, String> {
    let command = match rules.ingest(draft, shelf.now_ms, 7) {
        Ingested::Command(command) => command,
        Ingested::Refused(why) => return Err(why),
        Ingested::Publish(draft) => panic!("{draft:?}"),
    };
    match shelf.told(&command) {
        Err(known) => Ok(vec![format!("as {known}")]),
        Ok(decision) if decision.drafts.is_empty() => {
            Err(String::from_utf8_lossy(&decision.answer).into_owned())
        }
        Ok(decision) => Ok(decision
            .drafts
            .iter()
            .map(|draft| draft.kind.to_string())
            .collect()),
    }
}

fn message(content: &str) -> Value {
    json!({"message": {"user_id": 1, "id": 100, "content": content}})
}

#[test]
fn operations_come_as_drafts() {
    let (mut shelf, rules) = (shelf(), rules());
    let (channel, user) = ("airsend/channel/11", "airsend/user/1");
    let emit = json!({"event": "fs.add", "payload": {}});
    for (topic, kind, data, event) in [
        (channel, "message.post", message("x"), "chat.postMessage"),
        (
            channel,
            "message.update",
            json!({"message_id": 100, "content": "y"}),
            "chat.updateMessage",
        ),
        (
            channel,
            "message.post_bot",
            json!({"type": 1, "bot_message": "z"}),
            "chat.postMessage",
        ),
        (
            channel,
            "message.delete",
            json!({"message_id": "100", "channel_id": "11"}),
            "chat.deleteMessage",
        ),
        (
            channel,
            "channel.update",
            json!({"set": {"channel_name": "N"}}),
            "channel.update",
        ),
        (
            channel,
            "action.create",
            json!({"action": {"action_name": "a"}}),
            "action.create",
        ),
        (
            channel,
            "lock.acquire",
            json!({"lock_id": 1, "user_id": 2, "path": "/"}),
            "lock.acquire",
        ),
        (channel, "event.emit", emit.clone(), "fs.add"),
        (
            channel,
            "event.emit",
            json!({"event": "fs.add", "payload": {}, "audience": {"channel_id": 11}}),
            "fs.add",
        ),
        (user, "event.emit", emit.clone(), "fs.add"),
        (
            user,
            "event.emit",
            json!({"event": "fs.add", "payload": {}, "audience": {"user_ids": [1]}}),
            "fs.add",
        ),
        (
            user,
            "alert.notify",
            json!({"from": [{"id": 2}], "alert_text": "@", "channel_id": 11}),
            "alert.notification",
        ),
        (
            user,
            "user.profile_update",
            json!({"display_name": "One"}),
            "tidings.notice",
        ),
        (user, "session.revoke", json!({}), "tidings.notice"),
        (channel, "channel.remove", json!({}), "channel.remove"),
    ] {
        let told = perform(&mut shelf, &rules, draft(topic, kind, data.clone(), None));
        assert_eq!(told, Ok(vec![event.to_owned()]), "{kind} {data}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let (mut shelf, rules) = (shelf(), rules());
    let (channel, user) = ("airsend/channel/11", "airsend/user/1");
    let long = "x".repeat(300_000);
    let emit = |more: Value| {
        let mut data = json!({"event": "fs.add", "payload": {}});
        data.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        data
    };
    for (topic, kind, data, word) in [
        ("airsend/out", "receipt", json!({}), "topic"),
        ("airsend/commands", "ws_ping", json!({}), "topic"),
        ("airsend/channel/011", "message.post", message("x"), "topic"),
        ("airsend/channel/x", "message.post", message("x"), "topic"),
        ("airsend/channel/0", "message.post", message("x"), "topic"),
        (
            "airsend/channel/11/x",
            "message.post",
            message("x"),
            "topic",
        ),
        ("airsend", "message.post", message("x"), "topic"),
        (channel, "message.post", json!([]), "object"),
        (channel, "message.post", json!({}), "`message` is missing"),
        (
            channel,
            "message.post",
            json!({"message": {"user_id": 1, "channel_id": 12, "content": "x"}}),
            "topic's",
        ),
        (
            channel,
            "message.post",
            json!({"message": {"user_id": 3, "content": "x"}}),
            "not a member",
        ),
        (
            "airsend/channel/12",
            "message.post",
            message("x"),
            "unknown channel",
        ),
        (channel, "message.post", message(&long), "bytes"),
        (
            channel,
            "message.update",
            json!({"message_id": 99}),
            "unknown message",
        ),
        (
            channel,
            "lock.acquire",
            json!({"lock_id": 1, "user_id": 3, "path": "/"}),
            "not a member",
        ),
        (
            channel,
            "user.profile_update",
            json!({}),
            "no operation on this topic",
        ),
        (channel, "what", json!({}), "no operation on this topic"),
        (
            user,
            "message.post",
            message("x"),
            "no operation on this topic",
        ),
        (
            "airsend/user/99",
            "session.revoke",
            json!({}),
            "unknown user",
        ),
        (user, "session.revoke", json!({"user_id": 2}), "topic's"),
        (user, "user.upsert", json!({}), "more than one step"),
        (channel, "channel.create", json!({}), "more than one step"),
        (channel, "channel.add_user", json!({}), "more than one step"),
        (
            channel,
            "channel.remove_user",
            json!({}),
            "more than one step",
        ),
        (
            channel,
            "event.emit",
            emit(json!({"audience": {"user_ids": [1]}})),
            "more than one step",
        ),
        (
            channel,
            "event.emit",
            emit(json!({"retained": false})),
            "not retained",
        ),
        (
            user,
            "event.emit",
            emit(json!({"retained": false})),
            "not retained",
        ),
        (
            user,
            "event.emit",
            emit(json!({"audience": {"user_ids": [1, 2]}})),
            "topic's",
        ),
        (
            channel,
            "event.emit",
            emit(json!({"event": "tidings.notice"})),
            "not yours",
        ),
        (
            user,
            "alert.notify",
            json!({"from": [2], "alert_text": "@", "channel_id": 11}),
            "not their ids",
        ),
    ] {
        let told = perform(
            &mut shelf,
            &rules,
            draft(topic, kind, data.clone(), Some("i")),
        );
        let why = told.expect_err(kind);
        assert!(why.contains(word), "{topic} {kind}: {why}");
    }
    assert_eq!(
        shelf
            .events
            .iter()
            .filter(|one| one.topic.as_str() == channel)
            .count(),
        1
    );
}

/// A draft that comes again under its key is the first one: nothing is done twice, whatever it is.
#[test]
fn a_key_counts_once() {
    let (mut shelf, rules) = (shelf(), rules());
    let (channel, user) = ("airsend/channel/11", "airsend/user/1");
    for (topic, kind, data) in [
        (
            channel,
            "message.post",
            json!({"message": {"user_id": 1, "content": "x"}}),
        ),
        (channel, "message.post", message("x")),
        (channel, "message.delete", json!({"message_id": 100})),
        (channel, "action.create", json!({"action": {}})),
        (user, "user.profile_update", json!({"display_name": "One"})),
        (user, "session.revoke", json!({})),
        (channel, "channel.remove", json!({})),
    ] {
        let key = format!("{kind}{data}");
        let one = draft(topic, kind, data, Some(&key));
        let at = shelf.events.len();
        perform(&mut shelf, &rules, one.clone()).expect(kind);
        let records = shelf.records.clone();
        for _ in 0..2 {
            let again = perform(&mut shelf, &rules, one.clone());
            assert_eq!(again, Ok(vec![format!("as {at}")]), "{kind}");
        }
        assert_eq!(shelf.records, records, "{kind}");
    }
}

/// Whoever hears of a message that came as a draft can react to it.
#[test]
fn a_message_is_found_by_its_id() {
    let (mut shelf, rules) = (shelf(), rules());
    perform(
        &mut shelf,
        &rules,
        draft(
            "airsend/channel/11",
            "message.post",
            message("x"),
            Some("1"),
        ),
    )
    .expect("posted");
    shelf.relay();
    let look = index::command(&keys::message_index(100), &index::Ask::Look);
    assert_eq!(shelf.ask(&look), Answer::Done(json!(11)));
}
