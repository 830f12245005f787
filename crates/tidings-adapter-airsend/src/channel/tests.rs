//! Decisions over records that are kept in a map, and what they say of unread messages.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use serde_json::json;
use tidings_adapter::bytes::Bytes;

use super::*;
use crate::answer::Answer;
use crate::objects::Body;

const CHANNEL: u64 = 11;

/// Records, changed as a hub would.
#[derive(Default)]
struct Shelf(HashMap<RecordKey, Bytes>);

impl Shelf {
    fn ask(&mut self, ask: &Ask) -> (Answer, Decision) {
        let rules = Channels {
            typing: Duration::from_secs(2),
            messages: Duration::from_secs(3600),
            remembered: Duration::from_secs(3600),
        };
        let mut keys = vec![keys::channel(CHANNEL)];
        let body = to_json(ask);
        loop {
            let records: Vec<_> = keys
                .iter()
                .map(|key| (key.clone(), self.0.get(key).cloned()))
                .collect();
            let trigger = Trigger::Command(&body);
            let decision = rules.decide(&State::new(&records), trigger, 1_767_225_600_000);
            if decision.loads.is_empty() {
                for put in &decision.puts {
                    self.0.insert(put.key.clone(), put.document.clone());
                }
                for key in &decision.removes {
                    self.0.remove(key);
                }
                return (
                    Answer::parse(&decision.answer).expect("an answer"),
                    decision,
                );
            }
            keys.extend(decision.loads);
            assert!(keys.len() <= 64);
        }
    }

    fn with_members(count: u64) -> Self {
        let mut shelf = Self::default();
        let nonce = "n".to_owned();
        shelf.ask(&Ask::Create {
            fields: Map::new(),
            nonce: nonce.clone(),
            op: None,
        });
        for users in (1..=count).collect::<Vec<_>>().chunks(ENROL_MAX) {
            let seats = users.iter().map(|user| seat(*user)).collect();
            shelf.ask(&Ask::Enrol {
                nonce: nonce.clone(),
                seats,
            });
        }
        shelf.ask(&Ask::Open { nonce, op: None });
        shelf
    }
}

fn seat(user: u64) -> Seat {
    Seat {
        profile: Profile {
            id: user,
            email: format!("u{user}@example.com"),
            display_name: format!("User {user}"),
            has_avatar: false,
            version: 1,
        },
        online: false,
        version: 0,
        active: 0,
    }
}

fn post(id: u64, author: u64, kind: u64) -> Ask {
    let body = Body {
        content: json!("x"),
        attachments: Vec::new(),
        parent_message: Vec::new(),
    };
    let bot = (kind == crate::BOT).then(|| "AirBot".to_owned());
    Ask::Post {
        new: New {
            id,
            author,
            bot,
            kind,
            body,
            created: None,
        },
        op: None,
    }
}

/// A post costs the same, whatever the size of the channel.
#[test]
fn a_post_costs_a_constant() {
    let cost = |members| {
        let mut shelf = Shelf::with_members(members);
        let (_, decision) = shelf.ask(&post(1, 1, 1));
        (
            decision.puts.len(),
            decision.drafts.len(),
            decision.outbox.len(),
            decision.flash.len(),
        )
    };
    assert_eq!(cost(2), (5, 1, 0, 0));
    assert_eq!(cost(10_000), cost(2));
}

/// No record above its bound, with ten thousand members.
#[test]
fn ten_thousand_members() {
    let mut shelf = Shelf::with_members(10_000);
    let longest = shelf.0.values().map(Bytes::len).max();
    assert!(longest < Some(16 * 1024), "{longest:?}");
    let (answer, decision) = shelf.ask(&Ask::Add {
        seat: seat(10_001),
        nonce: "m".into(),
        op: None,
    });
    assert!(matches!(answer, Answer::Done(_)));
    let update: Value = serde_json::from_slice(&decision.drafts[1].data).expect("JSON");
    assert_eq!(
        update["channel"]["members"].as_array().map(Vec::len),
        Some(1_000)
    );
    assert_eq!(update["channel"]["members_total"], 10_001);
}

#[derive(Debug, Clone)]
enum Step {
    Post { author: u64, kind: u64 },
    Read { user: u64, nth: usize },
    ReadAll { user: u64 },
    Delete { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u64, prop::sample::select(vec![1, 3, 5])).prop_map(|(author, kind)| Step::Post { author, kind }),
        3 => (1..4_u64, 0..30_usize).prop_map(|(user, nth)| Step::Read { user, nth }),
        1 => (1..4_u64).prop_map(|user| Step::ReadAll { user }),
        1 => (0..30_usize).prop_map(|nth| Step::Delete { nth }),
    ]
}

proptest! {
    /// Unread as the contract says it: a set per member, of messages that others posted.
    #[test]
    fn unread_arithmetic(steps in prop::collection::vec(step(), 0..60)) {
        let mut shelf = Shelf::with_members(3);
        let mut unread: BTreeMap<u64, BTreeSet<u64>> = (1..4).map(|user| (user, BTreeSet::new())).collect();
        let mut posted: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Post { author, kind } => {
                    let id = 100 + posted.len() as u64;
                    posted.push(id);
                    shelf.ask(&post(id, author, kind));
                    for (user, set) in &mut unread {
                        if *user != author && kind != crate::BOT {
                            set.insert(id);
                        }
                    }
                }
                Step::Read { user, nth } => {
                    let Some(message) = posted.get(nth).copied() else { continue };
                    let (answer, _) = shelf.ask(&Ask::Read { user, message });
                    let set = unread.get_mut(&user).expect("a member");
                    if let Answer::Done(reading) = answer {
                        set.remove(&message);
                        prop_assert_eq!(&reading["unread"], &json!(set.len()));
                        prop_assert_eq!(&reading["oldest"], &json!(set.first().copied().unwrap_or(0)));
                    }
                }
                Step::ReadAll { user } => {
                    shelf.ask(&Ask::ReadAll { user });
                    unread.get_mut(&user).expect("a member").clear();
                }
                Step::Delete { nth } => {
                    let Some(message) = posted.get(nth).copied() else { continue };
                    shelf.ask(&Ask::Delete { message, op: None });
                    for set in unread.values_mut() {
                        set.remove(&message);
                    }
                }
            }
            for (user, set) in &unread {
                let (answer, _) = shelf.ask(&Ask::Unread { user: *user, channels: vec![CHANNEL] });
                prop_assert_eq!(answer, Answer::Done(json!({ "unread": set.len() })));
            }
        }
    }
}
