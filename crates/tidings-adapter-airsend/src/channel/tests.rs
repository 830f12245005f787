//! What channels decide, and what they say of unread messages.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::Answer;
use crate::objects::Body;
use crate::shelf::Shelf;

const CHANNEL: u64 = 11;

fn ask(shelf: &mut Shelf, ask: &Ask) -> (Answer, Decision) {
    let decision = shelf.told(&command(CHANNEL, ask)).expect("no draft's key");
    let answer = Answer::parse(&decision.answer).expect("an answer");
    (answer, decision)
}

fn with_members(count: u64) -> Shelf {
    let mut shelf = Shelf::default();
    let nonce = "n".to_owned();
    let create = Ask::Create {
        fields: Map::new(),
        nonce: nonce.clone(),
        op: None,
    };
    ask(&mut shelf, &create);
    for users in (1..=count).collect::<Vec<_>>().chunks(ENROL_MAX) {
        let seats = users.iter().map(|user| seat(*user)).collect();
        let nonce = nonce.clone();
        ask(&mut shelf, &Ask::Enrol { nonce, seats });
    }
    ask(&mut shelf, &Ask::Open { nonce, op: None });
    shelf
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
        let mut shelf = with_members(members);
        let (_, decision) = ask(&mut shelf, &post(1, 1, 1));
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
    let mut shelf = with_members(10_000);
    let longest = shelf
        .records
        .values()
        .map(tidings_adapter::bytes::Bytes::len)
        .max();
    assert!(longest < Some(16 * 1024), "{longest:?}");
    let (answer, decision) = ask(
        &mut shelf,
        &Ask::Add {
            seat: seat(10_001),
            nonce: "m".into(),
            op: None,
        },
    );
    assert!(matches!(answer, Answer::Done(_)));
    let update: Value = serde_json::from_slice(&decision.drafts[1].data).expect("JSON");
    assert_eq!(
        update["channel"]["members"].as_array().map(Vec::len),
        Some(1_000)
    );
    assert_eq!(update["channel"]["members_total"], 10_001);
}

/// What clients ask for most often is loaded in one round trip; a reader of a hundred channels costs
/// one for each partition that has some of them.
#[test]
fn one_round_trip() {
    let mut shelf = with_members(2);
    let (user, message) = (2, 1);
    let emoji = "x".to_owned();
    for one in [
        post(1, 1, 1),
        Ask::Read { user, message },
        Ask::React {
            user,
            message,
            emoji,
        },
        Ask::ReadAll { user },
        Ask::Typing { user },
    ] {
        let (answer, _) = ask(&mut shelf, &one);
        assert!(matches!(answer, Answer::Done(_)), "{one:?}: {answer:?}");
        assert_eq!(shelf.loads, 1, "{one:?}");
    }
    let channels = (CHANNEL..CHANNEL + 30).collect();
    ask(&mut shelf, &Ask::Unread { user, channels });
    assert_eq!(shelf.loads, 1);
}

/// A member who could not be one after all is undone, also before anybody has heard of the channel.
#[test]
fn undone_while_it_is_made() {
    let mut shelf = Shelf::default();
    let nonce = "n".to_owned();
    let create = Ask::Create {
        fields: Map::new(),
        nonce: nonce.clone(),
        op: None,
    };
    ask(&mut shelf, &create);
    let seats = vec![seat(1), seat(2)];
    ask(
        &mut shelf,
        &Ask::Enrol {
            nonce: nonce.clone(),
            seats,
        },
    );
    let undo = Ask::Remove {
        user: 2,
        nonce: nonce.clone(),
        by: 2,
    };
    let (_, decision) = ask(&mut shelf, &undo);
    assert!(decision.drafts.is_empty());
    let (_, decision) = ask(&mut shelf, &Ask::Open { nonce, op: None });
    let created: Value = serde_json::from_slice(&decision.drafts[0].data).expect("JSON");
    let members = created["channel"]["members"].as_array().map(Vec::len);
    assert_eq!(members, Some(1));
    let (answer, _) = ask(&mut shelf, &post(1, 2, 1));
    assert_eq!(answer, Answer::Refused(Refusal::NotMember));
}

/// The latest message stands in a Channel object unless it is long: the event has a bound.
#[test]
fn a_long_latest_message() {
    let mut shelf = with_members(1);
    for (id, bytes, stands) in [(1, 60_000, true), (2, 200_000, false)] {
        let Ask::Post { mut new, op } = post(id, 1, 1) else {
            panic!("a post")
        };
        new.body.content = "x".repeat(bytes).into();
        ask(&mut shelf, &Ask::Post { new, op });
        let set = Map::new();
        let (_, decision) = ask(&mut shelf, &Ask::Update { set, op: None });
        let update: Value = serde_json::from_slice(&decision.drafts[0].data).expect("JSON");
        assert_eq!(
            update["channel"]["latest_message"]["id"] == json!(id),
            stands
        );
    }
}

/// The members of the tests of unread messages.
const MEMBERS: std::ops::Range<u64> = 1..4;

#[derive(Debug, Clone)]
enum Step {
    Post { author: u64, kind: u64 },
    Read { user: u64, nth: usize },
    ReadAll { user: u64 },
    Delete { nth: usize },
    Leave { user: u64 },
    Return { user: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![1, 3, 4, 5, 6]);
    prop_oneof![
        6 => (MEMBERS, kind).prop_map(|(author, kind)| Step::Post { author, kind }),
        4 => (MEMBERS, 0..30_usize).prop_map(|(user, nth)| Step::Read { user, nth }),
        1 => MEMBERS.prop_map(|user| Step::ReadAll { user }),
        2 => (0..30_usize).prop_map(|nth| Step::Delete { nth }),
        1 => MEMBERS.prop_map(|user| Step::Leave { user }),
        1 => MEMBERS.prop_map(|user| Step::Return { user }),
    ]
}

proptest! {
    /// Unread as the contract says it: a set per member, of messages that others posted while he
    /// was one.
    #[test]
    fn unread_arithmetic(steps in prop::collection::vec(step(), 0..80)) {
        let mut shelf = with_members(MEMBERS.end - 1);
        // Who is a member, by the nonce of his span.
        let mut nonces: BTreeMap<u64, String> = MEMBERS.map(|user| (user, "n".to_owned())).collect();
        let mut unread: BTreeMap<u64, BTreeSet<u64>> = MEMBERS.map(|user| (user, BTreeSet::new())).collect();
        let mut posted: Vec<u64> = Vec::new();
        let mut deleted = BTreeSet::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Post { author, kind } => {
                    let id = 100 + at as u64;
                    let (answer, _) = ask(&mut shelf, &post(id, author, kind));
                    if kind != crate::BOT && !nonces.contains_key(&author) {
                        prop_assert_eq!(answer, Answer::Refused(Refusal::NotMember));
                        continue;
                    }
                    posted.push(id);
                    for (user, set) in &mut unread {
                        if *user != author && kind <= 4 {
                            set.insert(id);
                        }
                    }
                }
                Step::Read { user, nth } => {
                    let Some(message) = posted.get(nth).copied() else { continue };
                    let (answer, _) = ask(&mut shelf, &Ask::Read { user, message });
                    match (unread.get_mut(&user), deleted.contains(&message)) {
                        (None, _) => prop_assert_eq!(answer, Answer::Refused(Refusal::NotMember)),
                        (_, true) => prop_assert_eq!(answer, Answer::Refused(Refusal::NoMessage)),
                        (Some(set), false) => {
                            set.remove(&message);
                            let oldest = set.first().copied().unwrap_or(0);
                            let reading = json!({ "unread": set.len(), "oldest": oldest });
                            prop_assert_eq!(answer, Answer::Done(reading));
                        }
                    }
                }
                Step::ReadAll { user } => {
                    ask(&mut shelf, &Ask::ReadAll { user });
                    if let Some(set) = unread.get_mut(&user) {
                        set.clear();
                    }
                }
                Step::Delete { nth } => {
                    let Some(message) = posted.get(nth).copied() else { continue };
                    ask(&mut shelf, &Ask::Delete { message, op: None });
                    deleted.insert(message);
                    for set in unread.values_mut() {
                        set.remove(&message);
                    }
                }
                Step::Leave { user } => {
                    let Some(nonce) = nonces.remove(&user) else { continue };
                    ask(&mut shelf, &Ask::Remove { user, nonce, by: user });
                    unread.remove(&user);
                }
                Step::Return { user } => {
                    if nonces.contains_key(&user) {
                        continue;
                    }
                    let nonce = format!("n{at}");
                    let seat = seat(user);
                    ask(&mut shelf, &Ask::Add { seat, nonce: nonce.clone(), op: None });
                    nonces.insert(user, nonce);
                    unread.insert(user, BTreeSet::new());
                }
            }
            for user in MEMBERS {
                let unread = unread.get(&user).map_or(0, BTreeSet::len);
                let (answer, _) = ask(&mut shelf, &Ask::Unread { user, channels: vec![CHANNEL] });
                prop_assert_eq!(answer, Answer::Done(json!({ "unread": unread })));
            }
        }
    }
}
