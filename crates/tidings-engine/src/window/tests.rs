//! The window by itself: what it holds, vouches for, gives up and takes back.

use prometheus::Registry;
use tidings_core::{Prev, Printed as _, Topic};

use super::*;
use crate::delivered::Delivered;

pub(crate) const P: Partition = Partition(0);

pub(crate) fn at(ms: u64) -> EventId {
    EventId::new(ms, 0).expect("in range")
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("valid")
}

pub(crate) fn event(name: &str, ms: u64, prev: u64) -> Event {
    Event {
        id: at(ms),
        prev: Prev::Event(at(prev)),
        topic: topic(name),
        kind: "k".into(),
        data: "{}".into(),
        attributes: None,
    }
}

pub(crate) fn window(bytes_max: usize, filled: Filled) -> Window {
    let metrics = Metrics::register(&Registry::new()).expect("a fresh registry");
    let window = Window::new(Partitions::new(1).expect("not zero"), bytes_max, metrics);
    window.fill(P, filled);
    window
}

pub(crate) fn filled(start: u64, events: Vec<Event>) -> Filled {
    let level = events.last().map_or(at(start), |last| last.id);
    Filled {
        events,
        start: at(start),
        level,
    }
}

const ROOM: usize = 1 << 20;

/// The ids of what the window has after a place, or `None` when it is behind.
fn ids(window: &Window, name: &str, place: u64, floor_ms: u64) -> Option<Vec<u64>> {
    window.with(P, |part| {
        match part.look(&topic(name), at(place), 100, floor_ms) {
            Look::Complete(events) => Some(events.map(|one| one.event().id.ms()).collect()),
            Look::Behind => None,
        }
    })
}

#[test]
fn it_holds_everything_after_its_start() {
    let window = window(
        ROOM,
        filled(
            10,
            vec![event("a", 11, 5), event("b", 12, 1), event("a", 13, 11)],
        ),
    );
    window.extend(P, vec![event("a", 14, 13)]);
    assert_eq!(ids(&window, "a", 10, 0), Some(vec![11, 13, 14]));
    assert_eq!(ids(&window, "a", 13, 0), Some(vec![14]));
    assert_eq!(ids(&window, "a", 14, 0), Some(vec![]));
    assert_eq!(ids(&window, "b", 12, 0), Some(vec![]));
    assert_eq!(ids(&window, "unknown", 10, 0), Some(vec![]));
    assert_eq!(window.level(P), Some(at(14)));
}

#[test]
fn before_its_start_it_answers_only_what_prev_proves() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5), event("b", 12, 9)]));
    assert_eq!(
        ids(&window, "a", 5, 0),
        Some(vec![11]),
        "nothing of the topic lies between 5 and 11"
    );
    assert_eq!(ids(&window, "a", 4, 0), None);
    assert_eq!(ids(&window, "b", 9, 0), Some(vec![12]));
    assert_eq!(ids(&window, "unknown", 9, 0), None);
}

#[test]
fn it_vouches_only_for_events_it_holds_and_its_start() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5), event("b", 13, 9)]));
    for (place, expected) in [
        (10, true),
        (11, true),
        (13, true),
        (9, false),
        (12, false),
        (14, false),
    ] {
        assert_eq!(
            window.with(P, |part| part.vouches_for(at(place), 0)),
            expected,
            "{place}"
        );
    }
}

#[test]
fn it_does_not_vouch_for_what_has_expired() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5), event("b", 13, 9)]));
    assert!(!window.with(P, |part| part.vouches_for(at(11), 12)));
    assert!(window.with(P, |part| part.vouches_for(at(13), 12)));
    // Nothing lies behind its last event.
    assert!(window.with(P, |part| part.vouches_for(at(13), 99)));
    assert!(!window.with(P, |part| part.vouches_for(at(10), 99)));
    // Nor in a partition that never had one; a log may say that it begins an hour ago.
    let filled = Filled {
        level: EventId::ORIGIN,
        ..filled(10, vec![])
    };
    let window = super::tests::window(ROOM, filled);
    assert!(window.with(P, |part| part.vouches_for(EventId::ORIGIN, 12)));
    assert_eq!(ids(&window, "a", 0, 12), Some(vec![]));
}

#[test]
fn what_repeats_or_goes_back_is_not_taken_twice() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5)]));
    window.extend(P, vec![event("a", 11, 5), event("a", 12, 11)]);
    assert_eq!(ids(&window, "a", 10, 0), Some(vec![11, 12]));
}

#[test]
fn it_keeps_to_its_bytes_and_moves_its_start() {
    let one = Delivered::new(event("a", 1, 0)).weight();
    let window = window(one * 10, filled(0, vec![]));
    let mut prev = 0;
    for ms in 1..=100 {
        window.extend(P, vec![event("a", ms, prev)]);
        prev = ms;
    }
    assert!(window.bytes.load(Ordering::Relaxed) <= one * 10);
    let (start, level) = window.with(P, |part| (part.start().ms(), part.level().ms()));
    assert_eq!(level, 100);
    assert!((89..=98).contains(&start), "{start}");
    assert_eq!(
        ids(&window, "a", start, 0).map(|found| found.len() as u64),
        Some(100 - start)
    );
    assert_eq!(ids(&window, "a", start - 1, 0), None);
}

#[test]
fn what_is_too_old_is_not_served_even_before_it_is_dropped() {
    let window = window(ROOM, filled(0, vec![event("a", 11, 0), event("a", 20, 11)]));
    assert_eq!(ids(&window, "a", 0, 15), None);
    assert_eq!(ids(&window, "a", 11, 15), Some(vec![20]));
    window.expire(15);
    assert_eq!(window.with(P, |part| part.start()), at(11));
    assert_eq!(ids(&window, "a", 11, 15), Some(vec![20]));
}

#[test]
fn a_rewind_drops_what_the_log_lost_and_is_remembered() {
    let window = window(
        ROOM,
        filled(
            10,
            vec![event("a", 11, 5), event("a", 12, 11), event("b", 13, 9)],
        ),
    );
    let before = window.with(P, |part| part.generation());
    window.rewind(P, at(11));
    assert_eq!(ids(&window, "a", 10, 0), Some(vec![11]));
    assert_eq!(window.level(P), Some(at(11)));
    window.with(P, |part| {
        assert!(part.is_rewound(before, at(12)));
        assert!(!part.is_rewound(before, at(11)));
        assert!(!part.is_rewound(part.generation(), at(12)));
    });
    for _ in 0..20 {
        window.rewind(P, at(11));
    }
    window.with(P, |part| {
        assert!(
            part.is_rewound(before, at(11)),
            "too long ago to remember: ask the log"
        )
    });
    window.extend(P, vec![event("a", 14, 11)]);
    assert_eq!(ids(&window, "a", 11, 0), Some(vec![14]));
}

#[test]
fn a_subscriber_without_events_in_the_window_is_level_only_if_it_saw_the_last() {
    let one = Delivered::new(event("a", 1, 0)).weight();
    let window = window(one * 4, filled(10, vec![]));
    let placed = Placed {
        partition: P,
        topic: topic("a"),
    };
    window.register(&placed, 1, &Arc::default());
    window.extend(P, vec![event("a", 11, 5)]);
    for ms in 12..30 {
        window.extend(P, vec![event("noise", ms, ms - 1)]);
    }
    assert_eq!(
        ids(&window, "a", 11, 0),
        Some(vec![]),
        "its last event was 11, and it is there"
    );
    assert_eq!(ids(&window, "a", 10, 0), None, "11 was evicted");
    window.unregister(&placed, 1);
    assert_eq!(
        ids(&window, "a", 11, 0),
        None,
        "nobody is subscribed: nothing is known"
    );
}

#[test]
fn after_a_skip_nobody_behind_it_is_level() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5)]));
    let placed = Placed {
        partition: P,
        topic: topic("a"),
    };
    window.register(&placed, 1, &Arc::default());
    window.skip(P, at(50));
    assert_eq!(ids(&window, "a", 11, 0), None);
    assert_eq!(ids(&window, "a", 50, 0), Some(vec![]));
}
