//! Decisions as tables: what a command or a deadline makes of a chat.

use serde_json::{Value, json};
use tidings_adapter::bytes::Bytes;
use tidings_adapter::{Draft, OutboxItem};

use super::*;
use crate::keys::kind;
use crate::objects::print_time;

const T: u64 = 1_700_000_000_000;
const OPEN: Duration = Duration::from_secs(86_400);
const OVER: Duration = Duration::from_secs(3_600);

fn channel() -> Channel {
    Channel::parse("c1").expect("an id")
}

/// What stands in the log: a chat, a place in the queue.
#[derive(Debug, Clone, Default)]
struct Stands {
    chat: Option<Bytes>,
    place: Option<Bytes>,
}

impl Stands {
    fn decide(&self, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let chats = Chats {
            open: OPEN,
            ended: OVER,
        };
        let state = [
            (keys::chat(&channel()), self.chat.clone()),
            (keys::waiting(&channel()), self.place.clone()),
        ];
        chats.decide(&State::new(&state), trigger, now_ms)
    }

    fn ask(&self, ask: &Ask, now_ms: u64) -> Decision {
        let command = command(&channel(), ask);
        self.decide(Trigger::Command(&command.body), now_ms)
    }

    /// After a decision.
    fn after(&self, decision: &Decision) -> Self {
        let mut next = self.clone();
        for put in &decision.puts {
            let place = put.key == keys::waiting(&channel());
            let slot = if place {
                &mut next.place
            } else {
                &mut next.chat
            };
            *slot = Some(put.document.clone());
        }
        for key in &decision.removes {
            assert_eq!(*key, keys::waiting(&channel()), "only places are removed");
            next.place = None;
        }
        next
    }

    fn record(&self) -> Record {
        Record::parse(self.chat.as_deref().expect("a chat")).expect("a record")
    }
}

fn said(content: &str, event: &str) -> Said {
    Said {
        message: Message {
            id: "m1".into(),
            chat_id: "c1".into(),
            content: content.into(),
            event: event.into(),
            rating: "".into(),
            ..Message::default()
        },
        ..Said::default()
    }
}

fn post(content: &str, event: &str, change: Change) -> Ask {
    let said = said(content, event);
    Ask::Post { said, change }
}

fn begun() -> Stands {
    let ask = Ask::Init {
        chat: Box::default(),
        said: said("hello", ""),
    };
    let nothing = Stands::default();
    nothing.after(&nothing.ask(&ask, T))
}

fn owner(id: &str) -> Owner {
    Owner {
        id: Some(id.into()),
        ..Owner::default()
    }
}

/// The row of the trigger table that a decision keeps: per-chat log (`m`: a message, `!` if it ends
/// the chat; `c`: only the record), chat-list (`l`), active chats (`a`), queue (`q`), waits (`w`).
fn told(decision: &Decision) -> String {
    let mut row = String::new();
    for draft in &decision.drafts {
        assert_eq!(draft.topic, channel().topic());
        assert_eq!(&*draft.kind, kind::MESSAGE);
        let attributes = draft.attributes.as_deref();
        let ended = attributes.is_some_and(|all| all.subject.as_deref() == Some("ended"));
        row.push_str(if ended { "m!" } else { "m" });
    }
    for draft in &decision.flash {
        assert_eq!(
            (&draft.topic, &*draft.kind),
            (&channel().topic(), kind::CHAT)
        );
        row.push('c');
    }
    for item in &decision.outbox {
        row.push(match item {
            OutboxItem::Draft(draft) => {
                let nudge = r#"{"status":"Chat Status Changed","chatId":"c1"}"#;
                assert_eq!(draft.topic, Channel::chat_list().topic());
                assert_eq!(
                    (&*draft.kind, &draft.data),
                    (kind::NUDGE, &Bytes::from(nudge))
                );
                'l'
            }
            OutboxItem::Flash(draft) if draft.topic.as_str() == keys::ACTIVE => 'a',
            OutboxItem::Flash(draft) if draft.topic.as_str() == keys::QUEUE => 'q',
            OutboxItem::Command(command) if &*command.kind == keys::record::WAITS => 'w',
            OutboxItem::Command(command) if &*command.kind == keys::record::MESSAGE => 'i',
            other => panic!("{other:?}"),
        });
    }
    row
}

fn data(draft: &Draft) -> Value {
    serde_json::from_slice(&draft.data).expect("JSON")
}

#[test]
fn everything_tells_whom_the_table_names() {
    let waiting = begun();
    let free = waiting.after(&waiting.ask(&Ask::Dequeue, T));
    let redirect = || Change::Redirect(owner("b"));
    let login = || Change::Login(Some("EE1".into()), None, None);
    let rows = [
        (&waiting, post("a", "", Change::Nothing), "mla"),
        (&free, post("a", "message-read", Change::Nothing), "mla"),
        (&waiting, Ask::Claim { owner: owner("a") }, "cwlaq"),
        (&free, Ask::Claim { owner: owner("a") }, "cla"),
        (&waiting, post("", "redirected", redirect()), "mlaq"),
        (&free, post("", "redirected", redirect()), "mla"),
        (
            &waiting,
            post("", "authentication_successful", login()),
            "mla",
        ),
        (&waiting, post("", "ACCEPTED", Change::End), "m!laq"),
        (&free, post("", "client-left", Change::End), "m!la"),
        (&waiting, Ask::Enqueue, ""),
        (&free, Ask::Enqueue, "q"),
        (&waiting, Ask::Dequeue, "q"),
        (&free, Ask::Dequeue, ""),
        (&waiting, Ask::Terminate { after_ms: 10 }, ""),
        (&waiting, Ask::Spare, ""),
    ];
    for (stands, ask, row) in rows {
        let decision = stands.ask(&ask, T + 50_000);
        assert_eq!(told(&decision), row, "{ask:?}");
        assert!(Done::parse(&decision.answer).is_ok(), "{ask:?}");
    }
    let init = Ask::Init {
        chat: Box::default(),
        said: said("hello", ""),
    };
    let decision = Stands::default().ask(&init, T);
    assert_eq!(told(&decision), "mlaq");
    let ranks: Vec<_> = decision
        .ranks
        .iter()
        .map(|set| (&*set.index, set.rank))
        .collect();
    assert_eq!(ranks, [("waiting", Some(T)), ("active", Some(T))]);
}

#[test]
fn a_chat_goes_from_its_beginning_to_its_end() {
    let mut stands = begun();
    let record = stands.record();
    assert_eq!(record.chat.status, Status::Open);
    assert_eq!(record.chat.created, print_time(T));
    assert_eq!(record.chat.last_message, "hello");
    assert_eq!(record.chat.customer_support_id, "");

    let claim = Ask::Claim {
        owner: Owner {
            name: Some("Mary".into()),
            title: Some("Adviser".into()),
            ..owner("EE1")
        },
    };
    stands = stands.after(&stands.ask(&claim, T + 30_000));
    let record = stands.record();
    assert_eq!(record.chat.customer_support_id, "EE1");
    assert_eq!(record.chat.customer_support_display_name, "Mary");
    assert_eq!(record.chat.csa_title, "Adviser");
    assert_eq!(record.chat.last_message, "hello");
    assert!(stands.place.is_none());

    let redirect = post(
        "",
        "redirected",
        Change::Redirect(Owner {
            forwarded_by_user: Some("admin".into()),
            forwarded_from_csa: Some("EE1".into()),
            forwarded_to_csa: Some("EE2".into()),
            ..owner("EE2")
        }),
    );
    stands = stands.after(&stands.ask(&redirect, T + 31_000));
    let record = stands.record();
    assert_eq!(record.chat.status, Status::Redirected);
    assert_eq!(record.chat.customer_support_id, "EE2");
    assert_eq!(record.chat.customer_support_display_name, "Mary");
    assert_eq!(record.chat.event, "redirected");
    assert_eq!(record.chat.last_message_event, "redirected");
    assert_eq!(record.chat.last_message, "hello");
    assert_eq!(record.chat.forwarded_to_csa.as_deref(), Some("EE2"));

    let rated = stands.ask(&post("5", "rating", Change::Nothing), T + 32_000);
    stands = stands.after(&rated);
    assert_eq!(stands.record().chat.event, "redirected");
    assert_eq!(stands.record().chat.updated, print_time(T + 32_000));

    let end = stands.ask(&post("", "ACCEPTED", Change::End), T + 33_000);
    let put = &end.puts[0];
    assert_eq!(put.lifetime, Some(OVER));
    assert_eq!(end.ranks[0].rank, None);
    stands = stands.after(&end);
    let record = stands.record();
    assert_eq!(record.chat.status, Status::Ended);
    assert_eq!(record.chat.ended, Some(print_time(T + 33_000)));

    for ask in [
        post("a", "", Change::Nothing),
        post("", "ACCEPTED", Change::End),
        Ask::Claim { owner: owner("a") },
        Ask::Enqueue,
        Ask::Replace {
            message: Message::default(),
        },
    ] {
        let decision = stands.ask(&ask, T + 40_000);
        assert!(decision.changes_nothing(), "{ask:?}");
        let refusal = Done::parse(&decision.answer).expect_err("it has ended");
        assert_eq!(refusal.status().as_u16(), 409, "{ask:?}");
    }
    // Pages say that they go after the end, too.
    for ask in [Ask::Terminate { after_ms: 1 }, Ask::Spare, Ask::Dequeue] {
        let decision = stands.ask(&ask, T + 40_000);
        assert!(decision.changes_nothing() && Done::parse(&decision.answer).is_ok());
    }
}

#[test]
fn what_is_no_chat_is_not_found_but_may_wait() {
    let nothing = Stands::default();
    for ask in [
        post("a", "", Change::Nothing),
        Ask::Claim { owner: owner("a") },
        Ask::Terminate { after_ms: 1 },
        Ask::Spare,
    ] {
        let decision = nothing.ask(&ask, T);
        assert!(decision.changes_nothing(), "{ask:?}");
        assert_eq!(Done::parse(&decision.answer), Err(change::UNKNOWN));
    }
    let decision = nothing.ask(&Ask::Enqueue, T);
    assert_eq!(told(&decision), "q");
    assert_eq!(decision.ranks[0].rank, Some(T));
    let waits = nothing.after(&decision);
    assert!(waits.chat.is_none() && waits.place.is_some());
    // A second time keeps the place.
    let again = waits.ask(&Ask::Enqueue, T + 5);
    assert!(again.ranks.is_empty());
    assert_eq!(
        again.puts[0].document,
        waits.place.clone().expect("it waits")
    );
}

#[test]
fn times_rise_whatever_the_clock_does() {
    let mut stands = begun();
    let mut last = 0;
    for now_ms in [T, T, T - 5_000, T + 1, T + 1] {
        let decision = stands.ask(&post("a", "", Change::Nothing), now_ms);
        let message = data(&decision.drafts[0]);
        let done = Done::parse(&decision.answer).expect("said");
        assert_eq!(message["created"], print_time(done.at_ms));
        assert_eq!(message["authorTimestamp"], message["created"]);
        assert!(done.at_ms > last);
        last = done.at_ms;
        stands = stands.after(&decision);
    }
}

#[test]
fn new_words_keep_the_message() {
    let stands = begun();
    let message = Message {
        event: "ask-permission-accepted".into(),
        created: print_time(T),
        ..said("may I?", "").message
    };
    let decision = stands.ask(&Ask::Replace { message }, T + 1_000);
    let heard = data(&decision.drafts[0]);
    assert_eq!(heard["id"], "m1");
    assert_eq!(heard["created"], print_time(T));
    assert_eq!(heard["updated"], print_time(T + 1_000));
    assert_eq!(heard["event"], "ask-permission-accepted");
    assert!(decision.drafts[0].dedup.is_none(), "it is said again");
    assert_eq!(told(&decision), "mla");
}

#[test]
fn an_authors_own_id_is_its_key() {
    let stands = begun();
    let mut own = said("a", "");
    own.given = true;
    own.trace = Some("00-1-2-01".into());
    own.unnoted = true;
    let ask = Ask::Post {
        said: own,
        change: Change::Nothing,
    };
    let decision = stands.ask(&ask, T + 1);
    let draft = &decision.drafts[0];
    assert_eq!(draft.dedup.as_ref().map(|one| &*one.key), Some("m1"));
    let attributes = draft.attributes.as_deref().expect("attributes");
    assert_eq!(attributes.trace_parent.as_deref(), Some("00-1-2-01"));
    assert_eq!(told(&decision), "mila");
}

#[test]
fn a_chat_ends_when_its_page_stays_away() {
    let stands = begun();
    let set = stands.ask(&Ask::Terminate { after_ms: 5_000 }, T);
    assert_eq!(set.deadlines[0].at_ms, Some(T + 5_000));
    let due = |stands: &Stands, now_ms| {
        let at_ms = T + 5_000;
        stands.decide(
            Trigger::Deadline {
                name: TERMINATE,
                at_ms,
            },
            now_ms,
        )
    };
    let ended = due(&stands, T + 5_100);
    assert_eq!(told(&ended), "m!ilaq");
    let message = data(&ended.drafts[0]);
    assert_eq!(message["event"], "CLIENT_LEFT_FOR_UNKNOWN_REASONS");
    assert_eq!(message["authorRole"], "end-user");
    assert_eq!(
        data(&due(&stands, T + 5_100).drafts[0]),
        message,
        "it is decided again"
    );
    assert!(due(&stands.after(&ended), T + 6_000).changes_nothing());
    assert!(due(&Stands::default(), T + 6_000).changes_nothing());

    let spared = stands.ask(&Ask::Spare, T + 1_000);
    assert_eq!(spared.deadlines[0].at_ms, None);
    let spared = stands.after(&spared);
    assert!(due(&spared, T + 10_900).changes_nothing());
    assert_eq!(told(&due(&spared, T + 11_000)), "m!ilaq");
}

#[test]
fn what_does_not_fit_is_refused() {
    let stands = begun();
    let fits = "a".repeat(1024 * 1024 - 1_000);
    let large = "a".repeat(1024 * 1024);
    let decision = stands.ask(&post(&fits, "", Change::Nothing), T);
    assert_eq!(told(&decision), "mla");
    assert!(
        decision.puts[0].document.len() < 10_000,
        "a chat holds the beginning"
    );
    let decision = stands.ask(&post(&large, "", Change::Nothing), T);
    assert!(decision.changes_nothing());
    assert_eq!(Done::parse(&decision.answer), Err(change::TOO_LARGE));
    let long = Owner {
        name: Some("\0".repeat(20_000)),
        ..owner("a")
    };
    let decision = stands.ask(&Ask::Claim { owner: long }, T);
    assert!(decision.changes_nothing());
    assert_eq!(Done::parse(&decision.answer), Err(change::TOO_LARGE));
}

#[test]
fn the_place_is_asked_for_when_it_is_not_there() {
    let state = [(keys::chat(&channel()), None)];
    let chats = Chats {
        open: OPEN,
        ended: OVER,
    };
    let due = Trigger::Deadline {
        name: TERMINATE,
        at_ms: T,
    };
    let decision = chats.decide(&State::new(&state), due, T);
    assert_eq!(decision.loads, [keys::waiting(&channel())]);
    let garbage = chats.decide(
        &State::new(&[state[0].clone(), (keys::waiting(&channel()), None)]),
        Trigger::Command(b"{}"),
        T,
    );
    assert!(garbage.changes_nothing());
    assert_eq!(Done::parse(&garbage.answer), Err(Refusal::Away));
}

#[test]
fn records_are_read_as_they_were_written() {
    let record = begun().record();
    assert_eq!(
        Record::parse(record.json().as_bytes()),
        Some(record.clone())
    );
    assert_eq!(Record::parse(b"{}"), None);
    assert!(record.answer().contains(&json_of(&record.chat)));
}

fn json_of(chat: &Chat) -> String {
    let value = json!(chat);
    assert_eq!(value["status"], "OPEN");
    serde_json::to_string(chat).expect("JSON")
}
