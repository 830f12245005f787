//! Presence against a model: connections that come, go and are lost with their instances, in any
//! order, with every message between records at any moment.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::answer::Answer;
use crate::channel::{self, Ask as ChannelAsk, Seat};
use crate::objects::Profile;
use crate::shelf::Shelf;
use crate::user::Ask;

const USER: u64 = 7;
const CHANNELS: [u64; 2] = [11, 12];

fn incarnation(number: u8) -> IncarnationId {
    IncarnationId::parse(&format!("{:032x}", u128::from(number) + 1)).expect("32 digits")
}

fn ask(shelf: &mut Shelf, ask: &Ask) -> Answer {
    shelf.ask(&user::command(USER, ask))
}

fn arrive(connection: u8, finger_print: u8, instance: u8) -> Ask {
    Ask::Arrive(Arrival {
        connection: format!("c{connection}"),
        finger_print: format!("f{finger_print}"),
        generation: 0,
        incarnation: incarnation(instance).to_string(),
        again: false,
    })
}

/// A connection comes with another token while it is there; or what was asked of it arrives late.
#[test]
fn a_refresh_brings_nobody_back() {
    let mut shelf = shelf(Duration::ZERO);
    let refresh = || match arrive(1, 2, 0) {
        Ask::Arrive(arrival) => Ask::Arrive(Arrival {
            again: true,
            ..arrival
        }),
        other => other,
    };
    ask(&mut shelf, &arrive(1, 1, 0));
    assert!(matches!(ask(&mut shelf, &refresh()), Answer::Done(_)));
    assert_eq!(presence(&shelf).connections[0].finger_print, "f2");
    ask(&mut shelf, &depart(1));
    assert_eq!(
        ask(&mut shelf, &refresh()),
        Answer::Refused(Refusal::Revoked)
    );
    let left = presence(&shelf);
    assert!(!left.online && left.connections.is_empty(), "{left:?}");
}

fn depart(connection: u8) -> Ask {
    Ask::Depart {
        connection: format!("c{connection}"),
    }
}

fn presence(shelf: &Shelf) -> Presence {
    Presence::of(shelf.records.get(&keys::presence(USER)))
}

/// A user who is a member of two channels.
fn shelf(grace: Duration) -> Shelf {
    let mut shelf = Shelf::new(grace);
    let upsert = Ask::Upsert {
        email: "u7@example.com".into(),
        display_name: "User 7".into(),
        has_avatar: None,
        password: None,
        op: None,
    };
    ask(&mut shelf, &upsert);
    for channel in CHANNELS {
        let nonce = "n".to_owned();
        let create = ChannelAsk::Create {
            fields: Default::default(),
            nonce: nonce.clone(),
            op: None,
        };
        shelf.ask(&channel::command(channel, &create));
        let seat = Seat {
            profile: Profile {
                id: USER,
                email: "u7@example.com".into(),
                display_name: "User 7".into(),
                has_avatar: false,
                version: 1,
            },
            online: false,
            version: 0,
            active: 0,
        };
        let seats = vec![seat];
        let enrol = ChannelAsk::Enrol {
            nonce: nonce.clone(),
            seats,
        };
        shelf.ask(&channel::command(channel, &enrol));
        shelf.ask(&channel::command(
            channel,
            &ChannelAsk::Open { nonce, op: None },
        ));
    }
    shelf.relay();
    shelf
}

/// What each channel was told, in its order.
fn transitions(shelf: &Shelf) -> BTreeMap<u64, Vec<bool>> {
    let mut told: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
    for draft in &shelf.flashes {
        let payload: Value = serde_json::from_slice(&draft.data).expect("JSON");
        let online = payload["user"]["online_status"] == json!(true);
        assert_eq!(&*draft.kind == "user.online", online);
        told.entry(payload["channel_id"].as_u64().expect("an id"))
            .or_default()
            .push(online);
    }
    told
}

/// H7, C19, M05: the newest of a token wins, on whichever instance, and nobody hears of it.
#[test]
fn the_newest_of_a_token_wins() {
    let mut shelf = shelf(Duration::ZERO);
    ask(&mut shelf, &arrive(1, 1, 0));
    ask(&mut shelf, &arrive(2, 1, 1));
    shelf.relay();
    let notice: Notice =
        serde_json::from_slice(&shelf.events.last().expect("one").data).expect("a notice");
    assert_eq!(
        notice,
        Notice::Replaced {
            connection: "c1".into()
        }
    );
    // The older one goes: it took nothing with it.
    ask(&mut shelf, &depart(1));
    shelf.relay();
    assert_eq!(presence(&shelf).connections.len(), 1);
    assert_eq!(transitions(&shelf)[&11], [true]);
    ask(&mut shelf, &depart(2));
    shelf.relay();
    assert_eq!(transitions(&shelf)[&11], [true, false]);
}

/// The bound of connections: the oldest goes.
#[test]
fn the_oldest_of_too_many_goes() {
    let mut shelf = shelf(Duration::ZERO);
    for n in 0..6 {
        ask(&mut shelf, &arrive(n, n, n % 2));
    }
    let left: Vec<String> = presence(&shelf)
        .connections
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(left, ["c2", "c3", "c4", "c5"]);
}

/// A connection that is gone before it arrived never was.
#[test]
fn gone_before_it_arrived() {
    let mut shelf = shelf(Duration::ZERO);
    ask(&mut shelf, &depart(1));
    assert_eq!(
        ask(&mut shelf, &arrive(1, 1, 0)),
        Answer::Refused(Refusal::Revoked)
    );
    shelf.relay();
    assert!(shelf.flashes.is_empty() && presence(&shelf).connections.is_empty());
}

/// The grace: who comes back in time was never away; who does not is offline when it is over.
#[test]
fn the_grace() {
    let grace = Duration::from_secs(3);
    let mut shelf = shelf(grace);
    ask(&mut shelf, &arrive(1, 1, 0));
    ask(&mut shelf, &depart(1));
    shelf.pass(grace - Duration::from_millis(1));
    ask(&mut shelf, &arrive(2, 2, 1));
    shelf.pass(grace);
    shelf.relay();
    assert_eq!(transitions(&shelf)[&11], [true]);
    ask(&mut shelf, &depart(2));
    shelf.relay();
    assert_eq!(transitions(&shelf)[&11], [true]);
    shelf.pass(grace);
    shelf.relay();
    assert_eq!(transitions(&shelf)[&11], [true, false]);
    // A crash has the same grace.
    ask(&mut shelf, &arrive(3, 3, 0));
    shelf.lose(incarnation(0));
    shelf.relay();
    assert_eq!(transitions(&shelf)[&11], [true, false, true]);
    shelf.pass(grace);
    shelf.relay();
    assert_eq!(transitions(&shelf)[&11], [true, false, true, false]);
}

/// `system.ping` reaches the one connection of the finger print.
#[test]
fn pinged_by_finger_print() {
    let mut shelf = shelf(Duration::ZERO);
    ask(&mut shelf, &arrive(1, 1, 0));
    let ping = |print: &str| Ask::Ping {
        finger_print: print.into(),
        token: json!("t"),
    };
    assert_eq!(
        ask(&mut shelf, &ping("f2")),
        Answer::Refused(Refusal::NoUser)
    );
    assert!(matches!(ask(&mut shelf, &ping("f1")), Answer::Done(_)));
    let flash = shelf.flashes.last().expect("a flash event");
    let subject = flash
        .attributes
        .as_ref()
        .and_then(|all| all.subject.clone());
    assert_eq!(
        (&*flash.kind, subject.as_deref()),
        ("system.ping", Some("only:c1"))
    );
}

#[derive(Debug, Clone)]
enum Step {
    Arrive {
        connection: u8,
        finger_print: u8,
        instance: u8,
    },
    Depart {
        connection: u8,
    },
    Lose {
        instance: u8,
    },
    /// One message between records.
    Relay {
        nth: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8, 0..6_u8, 0..3_u8).prop_map(|(connection, finger_print, instance)| Step::Arrive { connection, finger_print, instance }),
        4 => (0..12_u8).prop_map(|connection| Step::Depart { connection }),
        1 => (0..3_u8).prop_map(|instance| Step::Lose { instance }),
        4 => (0..8_usize).prop_map(|nth| Step::Relay { nth }),
    ]
}

proptest! {
    /// H3, H4, H5, R05: online is who has a connection somewhere; versions rise; in each channel
    /// transitions alternate, and the last one is the truth.
    #[test]
    fn as_a_set_of_connections(steps in prop::collection::vec(step(), 0..80)) {
        let mut shelf = shelf(Duration::ZERO);
        // By connection: its finger print and its instance, the oldest first.
        let mut model: Vec<(u8, u8, u8)> = Vec::new();
        let mut early: Vec<u8> = Vec::new();
        // An incarnation that is lost is another one when its instance goes on.
        let mut lives = [0_u8; 3];
        let mut version = 0;
        for step in steps {
            match step {
                Step::Arrive { connection, finger_print, instance } => {
                    let life = instance + 3 * lives[usize::from(instance)];
                    // A connection has one instance for as long as it is there.
                    if model.iter().any(|one| one.0 == connection && one.2 != life) {
                        continue;
                    }
                    let answer = ask(&mut shelf, &arrive(connection, finger_print, life));
                    if early.contains(&connection) {
                        prop_assert_eq!(answer, Answer::Refused(Refusal::Revoked));
                        continue;
                    }
                    model.retain(|one| one.0 == connection || one.1 != finger_print);
                    match model.iter_mut().find(|one| one.0 == connection) {
                        Some(one) => one.1 = finger_print,
                        None => model.push((connection, finger_print, life)),
                    }
                    let crowd = model.len().saturating_sub(4);
                    model.drain(..crowd);
                }
                Step::Depart { connection } => {
                    ask(&mut shelf, &depart(connection));
                    let before = model.len();
                    model.retain(|one| one.0 != connection);
                    if model.len() == before {
                        early.push(connection);
                    }
                }
                Step::Lose { instance } => {
                    let life = instance + 3 * lives[usize::from(instance)];
                    shelf.lose(incarnation(life));
                    model.retain(|one| one.2 != life);
                    lives[usize::from(instance)] += 1;
                }
                Step::Relay { nth } => {
                    let places: Vec<_> = shelf.outbox.keys().cloned().collect();
                    if let Some(from) = places.get(nth % places.len().max(1)) {
                        shelf.relay_one(from);
                    }
                }
            }
            let now = presence(&shelf);
            let mut there: Vec<String> = now.connections.iter().map(|one| one.id.clone()).collect();
            let mut expected: Vec<String> = model.iter().map(|one| format!("c{}", one.0)).collect();
            there.sort();
            expected.sort();
            prop_assert_eq!(there, expected);
            prop_assert_eq!(now.online, !model.is_empty());
            prop_assert!(now.version >= version);
            version = now.version;
            // What an incarnation owns is what it holds.
            for life in 0..12 {
                let owned = shelf.records.contains_key(&keys::here(USER, &incarnation(life).to_string()));
                prop_assert_eq!(owned, model.iter().any(|one| one.2 == life), "{}", life);
            }
        }
        shelf.relay();
        let online = presence(&shelf).online;
        for channel in CHANNELS {
            let told = transitions(&shelf).remove(&channel).unwrap_or_default();
            prop_assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", told);
            prop_assert_eq!(told.last().copied().unwrap_or(false), online);
            prop_assert_eq!(told.first().copied().unwrap_or(true), true);
            let member: channel::Member = serde_json::from_slice(&shelf.records[&keys::member(channel, USER)]).expect("a member");
            prop_assert_eq!(member.online, online);
        }
    }
}
