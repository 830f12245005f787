//! What users decide: memberships and their bounds, profiles, tokens, what drafts may ask.

use serde_json::json;

use super::*;
use crate::answer::{Answer, Refusal};
use crate::shelf::Shelf;

const USER: u64 = 7;

fn ask(shelf: &mut Shelf, ask: &Ask) -> Answer {
    shelf.ask(&command(USER, ask))
}

fn upsert(user: u64) -> Ask {
    Ask::Upsert {
        email: format!("u{user}@example.com"),
        display_name: format!("User {user}"),
        has_avatar: None,
        password: None,
        op: None,
    }
}

fn joined(channel: u64, nonce: &str) -> Ask {
    Ask::Joined {
        channel,
        nonce: nonce.to_owned(),
        since_ms: 1,
        profile: 1,
    }
}

fn leave(channel: u64, nonce: &str) -> Ask {
    Ask::Leave {
        channel,
        nonce: nonce.to_owned(),
        by: 1,
        op: None,
    }
}

fn record(shelf: &Shelf) -> User {
    User::parse(&shelf.records[&keys::user(USER)]).expect("a user")
}

fn shelf() -> Shelf {
    let mut shelf = Shelf::default();
    ask(&mut shelf, &upsert(USER));
    shelf
}

fn notices(shelf: &Shelf) -> Vec<Notice> {
    let own = shelf.events.iter().filter(|draft| &*draft.kind == NOTICE);
    own.map(|draft| serde_json::from_slice(&draft.data).expect("a notice"))
        .collect()
}

fn outbox(shelf: &mut Shelf) -> Vec<ChannelAsk> {
    let mut asked = Vec::new();
    for queue in shelf.outbox.values_mut() {
        for item in queue.drain(..) {
            if let tidings_adapter::OutboxItem::Command(command) = item {
                asked.extend(serde_json::from_slice::<ChannelAsk>(&command.body));
            }
        }
    }
    asked
}

#[test]
fn nobody_is_asked_for_anything() {
    let mut shelf = Shelf::default();
    for one in [
        joined(11, "n"),
        leave(11, "n"),
        Ask::Look,
        Ask::Revoke { op: None },
        Ask::Depart {
            connection: "c".into(),
        },
        Ask::Gone {
            channel: 11,
            nonce: "n".into(),
        },
        Ask::Spread {
            what: Spread::Profile { told: true },
            from: 0,
        },
    ] {
        assert_eq!(
            ask(&mut shelf, &one),
            Answer::Refused(Refusal::NoUser),
            "{one:?}"
        );
    }
    assert!(shelf.records.is_empty() && shelf.events.is_empty());
}

/// Every change has the next number, and is told in the same commit.
#[test]
fn spans_begin_and_end_in_order() {
    let mut shelf = shelf();
    ask(&mut shelf, &joined(11, "a"));
    ask(&mut shelf, &joined(12, "a"));
    ask(&mut shelf, &leave(11, "a"));
    // Told twice: done once.
    assert_eq!(
        ask(&mut shelf, &joined(12, "a")),
        Answer::Refused(Refusal::Exists)
    );
    ask(&mut shelf, &leave(11, "a"));
    ask(&mut shelf, &joined(11, "b"));
    let user = record(&shelf);
    let all = user.spans.iter();
    let all: Vec<_> = all
        .map(|span| (span.channel, span.joined, span.left.map(|left| left.0)))
        .collect();
    assert_eq!(all, [(11, 1, Some(3)), (12, 2, None), (11, 4, None)]);
    assert_eq!(user.changes, 4);
    let told: Vec<u64> = notices(&shelf)
        .into_iter()
        .map(|notice| match notice {
            Notice::Joined { change, .. } | Notice::Left { change, .. } => change,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [1, 2, 3, 4]);
}

/// The end of a span whose beginning is still on its way.
#[test]
fn an_end_before_the_beginning() {
    let mut shelf = shelf();
    ask(&mut shelf, &leave(11, "a"));
    assert_eq!(
        ask(&mut shelf, &joined(11, "a")),
        Answer::Refused(Refusal::Exists)
    );
    assert_eq!(record(&shelf).standing().count(), 0);
    assert_eq!(
        notices(&shelf),
        [Notice::Left {
            change: 1,
            joined: 1
        }]
    );
}

/// Spans that ended are kept as long as a cursor may speak of them, and no longer.
#[test]
fn ended_spans_are_forgotten() {
    let mut shelf = shelf();
    ask(&mut shelf, &joined(11, "a"));
    ask(&mut shelf, &leave(11, "a"));
    shelf.now_ms += ENDED_KEPT_MS - 1;
    ask(&mut shelf, &joined(12, "b"));
    assert_eq!(
        (record(&shelf).forgotten, record(&shelf).spans.len()),
        (0, 2)
    );
    shelf.now_ms += 2;
    ask(&mut shelf, &joined(13, "c"));
    assert_eq!(
        (record(&shelf).forgotten, record(&shelf).spans.len()),
        (2, 2)
    );
}

/// The record stays below its bound with as many spans as there may be, and as many ended ones;
/// the shelf looks at every record's size.
#[test]
fn five_hundred_spans() {
    let mut shelf = shelf();
    let channel = |n: usize| 9_000_000_000_000_000_000 + n as u64;
    let nonce = |n: usize| format!("{:x}", (1_u64 << 53) - 1 - n as u64);
    for n in 0..SPANS_MAX {
        ask(&mut shelf, &joined(channel(n), &nonce(n)));
        ask(&mut shelf, &leave(channel(n), &nonce(n)));
    }
    for n in SPANS_MAX..2 * SPANS_MAX {
        assert!(record(&shelf).has_room(channel(n)));
        ask(&mut shelf, &joined(channel(n), &nonce(n)));
    }
    let user = record(&shelf);
    assert_eq!(user.standing().count(), SPANS_MAX);
    assert!(!user.has_room(1) && user.has_room(channel(SPANS_MAX)));
    outbox(&mut shelf);
    // Those who came at the same time: a few pass, the rest is undone in the channel.
    for n in 2 * SPANS_MAX..2 * SPANS_MAX + SPANS_SPARE + 2 {
        ask(&mut shelf, &joined(channel(n), &nonce(n)));
    }
    assert_eq!(record(&shelf).standing().count(), SPANS_MAX + SPANS_SPARE);
    let undone = |n: usize| ChannelAsk::Remove {
        user: USER,
        nonce: nonce(n),
        by: USER,
    };
    let first = 2 * SPANS_MAX + SPANS_SPARE;
    assert_eq!(outbox(&mut shelf), [undone(first), undone(first + 1)]);
}

/// A change of profile reaches all channels, a hundred in a commit.
#[test]
fn a_profile_is_spread() {
    let mut shelf = shelf();
    for channel in 1..=250 {
        ask(&mut shelf, &joined(channel, "n"));
    }
    outbox(&mut shelf);
    let profile = Ask::Profile {
        display_name: Some("Other".into()),
        has_avatar: Some(true),
        op: Some("k".into()),
    };
    let first = ask(&mut shelf, &profile);
    assert_eq!(
        ask(&mut shelf, &profile),
        first,
        "the same key: the same answer, once"
    );
    shelf.relay();
    let user = record(&shelf);
    assert_eq!(
        (&*user.profile.display_name, user.profile.version),
        ("Other", 2)
    );
    // The channels do not exist here: what was sent to them is counted by what is left of it.
    let mut shelf = self::shelf();
    for channel in 1..=250 {
        ask(&mut shelf, &joined(channel, "n"));
    }
    outbox(&mut shelf);
    ask(&mut shelf, &profile);
    assert_eq!(outbox(&mut shelf).len(), SPREAD);
    ask(
        &mut shelf,
        &Ask::Spread {
            what: Spread::Profile { told: true },
            from: 200,
        },
    );
    assert_eq!(outbox(&mut shelf).len(), 50);
}

/// What changed while a membership was on its way follows it.
#[test]
fn a_late_member_hears_what_he_missed() {
    let mut shelf = shelf();
    ask(
        &mut shelf,
        &Ask::Profile {
            display_name: None,
            has_avatar: Some(true),
            op: None,
        },
    );
    let arrival = presence::Arrival {
        connection: "c".into(),
        finger_print: "f".into(),
        generation: 0,
        incarnation: format!("{:032x}", 1),
        again: false,
    };
    ask(&mut shelf, &Ask::Arrive(arrival));
    ask(&mut shelf, &joined(11, "n"));
    let asked = outbox(&mut shelf);
    assert!(
        matches!(
            &asked[..],
            [
                ChannelAsk::Profile { told: false, .. },
                ChannelAsk::Presence {
                    online: true,
                    version: 1,
                    ..
                }
            ]
        ),
        "{asked:?}"
    );
}

#[test]
fn revoked_tokens_are_of_an_earlier_generation() {
    let mut shelf = shelf();
    let arrive = |generation| {
        Ask::Arrive(presence::Arrival {
            connection: format!("c{generation}"),
            finger_print: format!("f{generation}"),
            generation,
            incarnation: format!("{:032x}", 1),
            again: false,
        })
    };
    assert!(matches!(ask(&mut shelf, &arrive(0)), Answer::Done(_)));
    for _ in 0..2 {
        ask(
            &mut shelf,
            &Ask::Revoke {
                op: Some("once".into()),
            },
        );
    }
    assert_eq!(record(&shelf).generation, 1);
    assert_eq!(notices(&shelf), [Notice::Revoked { generation: 1 }]);
    assert_eq!(
        ask(&mut shelf, &arrive(0)),
        Answer::Refused(Refusal::Revoked)
    );
    assert!(matches!(ask(&mut shelf, &arrive(1)), Answer::Done(_)));
}

/// An event of his own, once for each key, retained or not.
#[test]
fn he_is_told_once() {
    for retained in [true, false] {
        let mut shelf = shelf();
        let tell = Ask::Tell {
            event: "x".into(),
            payload: json!({"n": 1}),
            retained,
            result: json!({"alert_id": 5}),
            op: Some("k".into()),
        };
        for _ in 0..2 {
            assert_eq!(ask(&mut shelf, &tell), Answer::Done(json!({"alert_id": 5})));
        }
        let (kept, flashed) = (shelf.events.len(), shelf.flashes.len());
        assert_eq!(
            (kept, flashed),
            (usize::from(retained), usize::from(!retained))
        );
    }
}
