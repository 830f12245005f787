//! The rules for drafts that come another way (`POST /v1/events`, `XADD`): under
//! `burokratt/channel/<id>` a `message` passes through the same change as `/post-message`, a `raw`
//! payload goes to that channel. Nothing else is taken.

use serde_json::value::RawValue;
use tidings_adapter::{Draft, Ingest, Ingested};
use uuid::Builder;

use crate::chat::{self, Ask, Change, Said};
use crate::keys::{Channel, kind};
use crate::notify;
use crate::objects::derived_id;
use crate::params::Params;
use crate::rest::said_elsewhere;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rules;

impl Ingest for Rules {
    fn ingest(&self, draft: Draft, _now_ms: u64, random: u128) -> Ingested {
        match judge(draft, random) {
            Ok(taken) => taken,
            Err(why) => Ingested::Refused(why),
        }
    }
}

fn judge(draft: Draft, random: u128) -> Result<Ingested, String> {
    let channel =
        Channel::of_topic(&draft.topic).ok_or("the topic is not burokratt/channel/<id>")?;
    match &*draft.kind {
        kind::RAW => {
            // Pages parse whatever they hear; what is no JSON would throw in all of them.
            let payload: &RawValue =
                serde_json::from_slice(&draft.data).map_err(|_| "`data` is not JSON")?;
            let mut raw = notify::raw(&channel, payload.get());
            raw.attributes = draft.attributes;
            raw.dedup = draft.dedup;
            Ok(Ingested::Publish(raw))
        }
        kind::MESSAGE if !channel.is_chat_list() => {
            let said = message(&draft, &channel, random)?;
            let change = Change::Nothing;
            let ask = Ask::Post { said, change };
            Ok(Ingested::Command(chat::command(&channel, &ask)))
        }
        kind => Err(format!("`{kind}` is neither `message` nor `raw`")),
    }
}

fn message(draft: &Draft, channel: &Channel, random: u128) -> Result<Said, String> {
    let params = Params::of("", &draft.data).map_err(|why| why.words().to_owned())?;
    let mut said = said_elsewhere(&params, channel).map_err(|why| why.words().to_owned())?;
    if said.message.id.is_empty() {
        said.message.id = match &draft.dedup {
            // The publisher's own id: sent again, it is the same message.
            Some(dedup) => {
                said.given = true;
                derived_id(&[&dedup.scope, &dedup.key])
            }
            None => Builder::from_random_bytes(random.to_be_bytes())
                .into_uuid()
                .to_string(),
        };
    }
    let attributes = draft.attributes.as_deref();
    said.trace = attributes
        .and_then(|all| all.trace_parent.as_deref())
        .map(str::to_owned);
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_adapter::{Dedup, Topic};

    fn draft(topic: &str, kind: &str, data: &str) -> Draft {
        Draft::new(Topic::parse(topic).expect("valid"), kind, data.to_owned())
    }

    #[test]
    fn messages_become_commands_and_raw_payloads_events() {
        let topic = "burokratt/channel/c1";
        let text = r#"{"content":"a","event":"greeting","authorRole":"backoffice-user","x":1}"#;
        let Ingested::Command(command) = Rules.ingest(draft(topic, "message", text), 0, 7) else {
            panic!("not taken")
        };
        assert_eq!(&*command.placement_key, topic);
        let Ok(Ask::Post { said, change }) = serde_json::from_slice(&command.body) else {
            panic!("not a post")
        };
        assert_eq!(change, Change::Nothing);
        assert!(said.unnoted && !said.given);
        assert_eq!(said.message.chat_id, "c1");
        assert_eq!(said.message.event, "greeting");
        let raw = Rules.ingest(draft(topic, "raw", "{\"a\":\n1}"), 0, 7);
        assert_eq!(raw, Ingested::Publish(draft(topic, "raw", r#"{"a":1}"#)));
        let list = "burokratt/channel/chat-list";
        assert!(matches!(
            Rules.ingest(draft(list, "raw", "1"), 0, 7),
            Ingested::Publish(_)
        ));
        for (topic, kind, data) in [
            ("burokratt/queue", "changed", "{}"),
            ("burokratt/channel/a/b", "raw", "{}"),
            (list, "message", "{}"),
            (topic, "nudge", "{}"),
            (topic, "preview", "{}"),
            (topic, "raw", "{\"a\":1"),
            (topic, "raw", "x\n\nid: 9-9\ndata: y"),
            (topic, "raw", ""),
            (topic, "message", "3"),
            (topic, "message", r#"{"event":[]}"#),
            (topic, "message", r#"{"id":"a b"}"#),
        ] {
            let refused = Rules.ingest(draft(topic, kind, data), 0, 7);
            assert!(
                matches!(refused, Ingested::Refused(_)),
                "{topic} {kind} {data}"
            );
        }
    }

    #[test]
    fn a_publishers_id_makes_the_messages() {
        let mut one = draft("burokratt/channel/c1", "message", r#"{"content":"a"}"#);
        one.dedup = Some(Dedup::by_source(&one.topic, Some("bot"), "7"));
        let id = |draft: Draft, random| match Rules.ingest(draft, 0, random) {
            Ingested::Command(command) => match serde_json::from_slice(&command.body) {
                Ok(Ask::Post { said, .. }) => (said.message.id, said.given),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let first = id(one.clone(), 1);
        assert!(first.1);
        assert_eq!(first, id(one.clone(), 2));
        one.dedup = None;
        assert_ne!(id(one.clone(), 1).0, id(one, 2).0);
    }
}
