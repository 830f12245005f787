//! The body of the fuzz target: bytes, as a request's query and body, through everything that reads
//! them and everything that is decided by them.

use std::sync::OnceLock;

use serde_json::Value;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::HeaderMap;
use tidings_adapter::{Decision, Draft, Ingest as _, Ingested, RecordKind as _, State, Trigger};

use crate::auth::cookie;
use crate::chat::{self, Ask, Change, Chats, Done};
use crate::ingest::Rules;
use crate::keys::{self, Channel, kind};
use crate::objects::{Message, parse_time, print_time, with_small_chatid};
use crate::params::{CHAT_ID, CHAT_OR_ID, Params};
use crate::rest::{fields, since};
use crate::stream::Came;
use crate::{message_index, notify};

/// Takes the first line for a query, ids and places, the rest for a body.
///
/// # Panics
/// When what is made of them is no JSON, has two lines, or could not be stored; that is what it is
/// for.
pub fn fuzz_ids_and_bodies(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, body) = match end {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[][..]),
    };
    let query = String::from_utf8_lossy(line);
    let _ = Came::of(Some(line), None);
    let _ = cookie(&query, "chatJwt");
    if let Some(ms) = parse_time(&query) {
        // Beyond the year 9999 nothing is printed that could be read.
        assert!(ms > 253_402_300_799_999 || parse_time(&print_time(ms)) == Some(ms));
    }
    let channel = Channel::parse(&query);
    if let Some(channel) = &channel {
        assert_eq!(Channel::of_topic(&channel.topic()).as_ref(), Some(channel));
    }
    if let Ok(params) = Params::of(&query, body) {
        let _ = since(&params);
        let _ = params.maybe_channel(CHAT_OR_ID);
        let named = params.maybe_channel(CHAT_ID).ok().flatten();
        say(
            &params,
            &named.or(channel).unwrap_or_else(Channel::chat_list),
        );
    }
    let text = String::from_utf8_lossy(body);
    if let Ok(Some(draft)) = notify::notification(&text) {
        one_line(&draft);
    }
    for kind in [kind::MESSAGE, kind::RAW] {
        if serde_json::from_str::<Value>(&text).is_err() {
            break; // whoever hands in a draft has checked that it is JSON
        }
        let topic = Channel::parse("c1").expect("an id").topic();
        let draft = Draft::new(topic, kind, text.clone().into_owned());
        if draft.check().is_err() {
            break; // and that it keeps its bounds
        }
        match Rules.ingest(draft, 0, 0) {
            Ingested::Publish(draft) => one_line(&draft),
            Ingested::Command(command) => {
                let ask: Ask = serde_json::from_slice(&command.body).expect("an ask");
                decided(&Channel::parse("c1").expect("an id"), &ask);
            }
            Ingested::Refused(why) => assert!(!why.is_empty()),
        }
    }
}

/// What a request says, said in a chat.
fn say(params: &Params, channel: &Channel) {
    let headers = HeaderMap::new();
    let (Ok(said), Ok(owner)) = (
        fields::said(&params.nested("message"), &headers, channel),
        fields::owner(params),
    ) else {
        return;
    };
    let id = said.message.id.clone();
    assert!(
        message_index::command(&id, channel).records[0]
            .check()
            .is_ok()
    );
    let Ok(chat) = fields::chat(params) else {
        return;
    };
    // One of them for each input: the others come with its mutations.
    let ask = match said.message.content.len() % 5 {
        0 => Ask::Init {
            chat: Box::new(chat),
            said,
        },
        1 => Ask::Claim { owner },
        other => Ask::Post {
            change: match other {
                2 => Change::Redirect(owner),
                3 => Change::End,
                _ => Change::Nothing,
            },
            said,
        },
    };
    decided(channel, &ask);
}

/// A decision about a chat that is there, or begins.
fn decided(channel: &Channel, ask: &Ask) {
    let chats = Chats {
        open: std::time::Duration::from_secs(1),
        ended: std::time::Duration::from_secs(1),
    };
    let decide = |document: Option<Bytes>, ask: &Ask| {
        let state = [
            (keys::chat(channel), document),
            (keys::waiting(channel), None),
        ];
        let body = chat::command(channel, ask).body;
        chats.decide(
            &State::new(&state),
            Trigger::Command(&body),
            1_700_000_000_000,
        )
    };
    static BEGUN: OnceLock<Bytes> = OnceLock::new();
    let begun = || {
        let (chat, said) = Default::default();
        let decision = decide(None, &Ask::Init { chat, said });
        let key = keys::chat(channel);
        let put = decision.puts.into_iter().find(|put| put.key == key);
        put.expect("a chat").document
    };
    let begins = matches!(ask, Ask::Init { .. });
    let begun = (!begins).then(|| BEGUN.get_or_init(begun).clone());
    stored(&decide(begun, ask));
}

/// What can be stored and sent.
fn stored(decision: &Decision) {
    assert!(Done::parse(&decision.answer).is_ok() || decision.changes_nothing());
    assert!(decision.answer.len() <= 64 * 1024);
    for put in &decision.puts {
        assert!(put.document.len() <= 64 * 1024 && put.key.check().is_ok());
    }
    for draft in &decision.drafts {
        one_line(draft);
        let message = Message::parse(&draft.data).expect("a message");
        assert_eq!(message.json().as_bytes(), &draft.data[..]);
        let small = with_small_chatid(&draft.data);
        let value: Value = serde_json::from_slice(&small).expect("JSON");
        assert_eq!(value["chatid"], message.chat_id);
        assert_eq!(value.get("chatId"), None);
    }
}

fn one_line(draft: &Draft) {
    draft.check().expect("within bounds");
    assert!(!draft.data.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    let value: Result<Value, _> = serde_json::from_slice(&draft.data);
    assert!(value.is_ok(), "{:?}", draft.data);
}

#[cfg(test)]
mod tests {
    use super::fuzz_ids_and_bodies;

    #[test]
    fn what_is_odd_breaks_nothing() {
        for input in [
            "",
            "\n",
            "chatId=c1&lastRead=2023-01-18T12:56:52.895 00:00\n{\"content\":\"a\\u0000\\nid: 7\"}",
            "1700000000000-0001\n{\"channelId\":\"c\",\"payload\":{\"a\":\r\n1}}",
            "2023-01-18T12:56:52.895Z\n{\"rating\":5,\"buttons\":[{}],\"event\":\"\\u2028\"}",
            "99999-01-01T00:00:00Z\n{\"operations\":[]}",
            "..\n{\"message\":{\"content\":\"x\"},\"endUserTechnicalData\":{\"endUserOs\":\"y\"}}",
        ] {
            fuzz_ids_and_bodies(input.as_bytes());
        }
        let long = format!("c1\n{{\"content\":\"{}\"}}", "\\u0001".repeat(200_000));
        fuzz_ids_and_bodies(long.as_bytes());
    }
}
