//! What a session hears, over channels' logs as they may stand.

mod transcripts;

use tidings_adapter::{Attributes, Event, Partition};

use super::follow::Follow;
use super::*;
use crate::user::Span;

fn at(ms: u64) -> EventId {
    EventId::new(ms, 0).expect("in range")
}

fn event(channel: u64, ms: u64, subject: Option<&str>) -> Event {
    Event {
        id: at(ms),
        prev: tidings_adapter::Prev::Unknown,
        topic: keys::channel_topic(channel),
        kind: "x".into(),
        data: "{}".into(),
        attributes: subject.map(|subject| {
            Box::new(Attributes {
                subject: Some(subject.into()),
                ..Attributes::default()
            })
        }),
    }
}

fn span(joined: u64, channel: u64, nonce: &str) -> Span {
    Span {
        channel,
        joined,
        nonce: nonce.into(),
        since_ms: 50_000,
        left: None,
    }
}

fn follow() -> Follow {
    Follow::new(
        7,
        Placing(Arc::new(|_: &tidings_adapter::Topic| Partition(3))),
    )
}

fn view(changes: u64, spans: Vec<Span>) -> View {
    View {
        user: 7,
        changes,
        forgotten: 0,
        spans,
    }
}

/// S07, M06: nothing after the removal, also of a channel that shares its nonce with others.
#[test]
fn a_removal_ends_it() {
    let (mut follow, mut actions) = (follow(), Actions::default());
    follow.begin(&view(1, vec![span(1, 11, "n")]));
    follow.follow(&mut actions);
    let sub = SubId(1);
    for (ms, subject, heard) in [
        (1, None, true),
        (2, Some("leave:8:n"), true),
        (3, Some("except:7"), false),
        (4, Some("except:8"), true),
        (5, Some("leave:7:n"), true),
        (6, None, false),
        (7, Some("join:n"), false),
    ] {
        assert_eq!(
            follow.hear(sub, &event(11, ms, subject), &mut actions),
            heard,
            "{ms}"
        );
    }
}

/// A channel is heard from its join on, and its place is an exception until it is level.
#[test]
fn a_join_begins_it() {
    let (mut follow, mut actions) = (follow(), Actions::default());
    follow.begin(&view(1, vec![span(1, 11, "n")]));
    follow.found(SubId(1), at(60_000));
    follow.follow(&mut actions);
    follow.joined(2, &span(2, 12, "m"), &mut actions);
    let single = SubId(2);
    assert!(!follow.hear(single, &event(12, 45_000, None), &mut actions));
    assert!(!follow.hear(single, &event(12, 45_001, Some("join:other")), &mut actions));
    assert_eq!(
        follow.cursor().exceptions,
        [(2, crate::cursor::Exception::Fresh)]
    );
    assert!(follow.hear(single, &event(12, 50_000, Some("join:m")), &mut actions));
    assert_eq!(
        follow.cursor().exceptions,
        [(2, crate::cursor::Exception::At(at(50_000)))]
    );
    follow.level(single, at(61_000), &mut actions);
    // Level, but ahead of its partition's line until that has caught up.
    let cursor = follow.cursor();
    assert_eq!(cursor.places, [(3, at(60_000))]);
    assert_eq!(
        cursor.exceptions,
        [(2, crate::cursor::Exception::At(at(61_000)))]
    );
    assert!(!follow.hear(SubId(1), &event(12, 60_500, None), &mut actions));
    assert!(follow.hear(SubId(1), &event(11, 61_500, None), &mut actions));
    assert!(follow.cursor().exceptions.is_empty());
}

/// A cursor from before a removal and a return hears both ends.
#[test]
fn resuming_over_a_removal() {
    let (mut follow, mut actions) = (follow(), Actions::default());
    let cursor = Cursor {
        user: 7,
        changes: 1,
        own: at(9),
        places: vec![(3, at(60_000))],
        exceptions: Vec::new(),
    };
    let mut old = span(1, 11, "n");
    old.left = Some((2, 70_000));
    let now = view(3, vec![old.clone(), span(3, 11, "m")]);
    assert!(follow.resume(&cursor, &now, &mut actions));
    follow.follow(&mut actions);
    // What happened since is in the user's own topic.
    follow.left(2, 1, &mut actions);
    follow.joined(3, &span(3, 11, "m"), &mut actions);
    for (ms, subject, heard) in [
        (61_000, None, true),
        (62_000, Some("leave:7:n"), true),
        (63_000, None, false),
        (64_000, Some("join:m"), true),
        (65_000, None, true),
    ] {
        assert_eq!(
            follow.hear(SubId(1), &event(11, ms, subject), &mut actions),
            heard,
            "{ms}"
        );
    }
    let stranger = Cursor {
        user: 8,
        ..cursor.clone()
    };
    let future = Cursor {
        changes: 4,
        ..cursor.clone()
    };
    let nowhere = Cursor {
        places: Vec::new(),
        ..cursor
    };
    for bad in [stranger, future, nowhere] {
        let placing = Placing(Arc::new(|_: &tidings_adapter::Topic| Partition(3)));
        assert!(!Follow::new(7, placing).resume(&bad, &now, &mut actions));
    }
}
