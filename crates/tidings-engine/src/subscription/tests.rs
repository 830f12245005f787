//! A subscription by itself, against a window in hand: what it asks, hands out and forgets.

use super::*;
use crate::window::tests::{P, at, event, filled, topic, window};
use tidings_core::Topic;

const ROOM: usize = 1 << 20;

fn set(names: &[&str]) -> TopicSet {
    TopicSet::new(
        names
            .iter()
            .map(|name| Placed {
                partition: P,
                topic: topic(name),
            })
            .collect(),
    )
    .expect("a set")
}

fn live(names: &[&str], from: From) -> Subscription {
    Subscription::new(SubId(1), set(names), |_| from, Mode::Live)
}

/// Steps until there is nothing more to do; what was handed out as text.
fn run(one: &mut Subscription, window: &Window) -> Vec<String> {
    let mut told = Vec::new();
    one.look_again();
    for _ in 0..100 {
        match one.step(window, &Limits::default(), 0) {
            Step::Idle => return told,
            Step::Ask(ask) => {
                told.push(format!("ask {:?}", ask.question));
                return told;
            }
            Step::Subscribed(at) => told.push(format!("subscribed {}", at.cursor.places()[0].ms())),
            Step::Events(batch) => {
                let ids: Vec<String> = batch
                    .events
                    .iter()
                    .map(|one| one.event().id.ms().to_string())
                    .collect();
                told.push(format!("events {}", ids.join(" ")));
            }
            Step::CaughtUp(at) => told.push(format!("level {}", at.cursor.places()[0].ms())),
            Step::Flash(events) => {
                let ids = events.iter().map(|one| one.event().id.ms().to_string());
                told.push(format!("flash {}", ids.collect::<Vec<_>>().join(" ")));
            }
            Step::Fetched(verdict) => {
                told.push(format!("fetched {verdict}"));
                return told;
            }
        }
    }
    panic!("never idle: {told:?}");
}

fn page(events: Vec<tidings_core::Event>, next: u64, at_end: bool) -> Answer {
    Answer::Page(Page {
        verdict: Verdict::Ok,
        events,
        next: at(next),
        head: Some(at(next)),
        at_end,
    })
}

fn ask(one: &mut Subscription, window: &Window) -> Ask {
    one.look_again();
    match one.step(window, &Limits::default(), 0) {
        Step::Ask(ask) => ask,
        other => panic!("asks nothing: {other:?}"),
    }
}

#[test]
fn inside_the_window_it_never_asks() {
    let window = window(
        ROOM,
        filled(
            10,
            vec![event("a", 11, 5), event("b", 12, 1), event("a", 13, 11)],
        ),
    );
    let mut one = live(&["a"], From::After(at(11)));
    assert_eq!(
        run(&mut one, &window),
        ["subscribed 11", "events 13", "level 13"]
    );
    window.extend(
        P,
        vec![event("a", 14, 13), event("b", 15, 12), event("a", 16, 14)],
    );
    assert_eq!(run(&mut one, &window), ["events 14 16", "level 16"]);
    assert_eq!(run(&mut one, &window), [] as [&str; 0]);
}

#[test]
fn newest_begins_at_the_level_and_oldest_at_the_start_of_a_whole_window() {
    let window = window(ROOM, filled(0, vec![event("a", 11, 5), event("b", 12, 1)]));
    assert_eq!(
        run(&mut live(&["a"], From::Newest), &window),
        ["subscribed 12", "level 12"]
    );
    assert_eq!(
        run(&mut live(&["a"], From::Oldest), &window),
        ["subscribed 0", "events 11", "level 12"]
    );
    assert_eq!(
        run(&mut live(&["b"], From::Since(12)), &window),
        ["subscribed 11", "events 12", "level 12"]
    );
}

#[test]
fn behind_the_window_it_reads_the_log_and_joins_without_a_gap() {
    let window = window(ROOM, filled(10, vec![event("b", 11, 1), event("a", 12, 9)]));
    let mut one = live(&["a"], From::After(at(3)));
    let first = ask(&mut one, &window);
    assert_eq!(
        first.question,
        Question::Read {
            from: From::After(at(3)),
            level: at(12)
        }
    );
    let answer = page(vec![event("a", 5, 3), event("a", 9, 5)], 9, false);
    assert_eq!(one.answer(&first, answer, &window), None);
    // After 9 the window proves by `prev` that 12 is next: no second question.
    assert_eq!(
        run(&mut one, &window),
        ["subscribed 3", "events 5 9", "events 12", "level 12"]
    );
}

#[test]
fn the_end_of_the_log_is_the_windows_level_when_it_was_asked() {
    let window = window(
        ROOM,
        filled(10, vec![event("b", 11, 1), event("b", 12, 11)]),
    );
    let mut one = live(&["a"], From::After(at(3)));
    let first = ask(&mut one, &window);
    assert_eq!(one.answer(&first, page(vec![], 3, true), &window), None);
    assert_eq!(run(&mut one, &window), ["subscribed 12", "level 12"]);
}

#[test]
fn topics_of_one_partition_are_merged_by_id_though_one_comes_from_the_log() {
    let window = window(
        ROOM,
        filled(
            10,
            vec![event("a", 12, 8), event("b", 13, 11), event("a", 14, 12)],
        ),
    );
    let mut one = live(&["a", "b"], From::After(at(4)));
    let first = ask(&mut one, &window);
    one.answer(
        &first,
        page(vec![event("a", 6, 4), event("a", 8, 6)], 8, false),
        &window,
    );
    let second = ask(&mut one, &window);
    assert_eq!(second.topic.topic, Topic::parse("b").expect("valid"));
    one.answer(
        &second,
        page(
            vec![event("b", 5, 4), event("b", 7, 5), event("b", 11, 7)],
            11,
            false,
        ),
        &window,
    );
    let told = run(&mut one, &window);
    assert_eq!(
        told,
        [
            "subscribed 4",
            "events 5 6 7 8",
            "events 11",
            "events 12 13 14",
            "level 14"
        ]
    );
}

#[test]
fn a_place_the_window_cannot_judge_goes_to_the_log() {
    let window = window(
        ROOM,
        filled(10, vec![event("a", 11, 5), event("a", 13, 11)]),
    );
    for (place, question) in [
        (12, Question::Judge(at(12))),
        (99, Question::Judge(at(99))),
        (
            9,
            Question::Read {
                from: From::After(at(9)),
                level: at(13),
            },
        ),
    ] {
        assert_eq!(
            ask(&mut live(&["a"], From::After(at(place))), &window).question,
            question
        );
    }
}

#[test]
fn a_bad_verdict_is_told_once_and_then_all_that_is_retained_follows() {
    let window = window(ROOM, filled(0, vec![event("a", 11, 5), event("a", 13, 11)]));
    let mut one = live(&["a"], From::After(at(12)));
    let question = ask(&mut one, &window);
    let verdict = one.answer(&question, Answer::Verdict(Verdict::Diverged), &window);
    assert_eq!(verdict, Some(Verdict::Diverged));
    assert_eq!(
        run(&mut one, &window),
        ["subscribed 0", "events 11 13", "level 13"]
    );
}

#[test]
fn after_a_rewind_whoever_was_past_it_asks_again_and_nobody_else() {
    let window = window(
        ROOM,
        filled(10, vec![event("a", 11, 5), event("a", 13, 11)]),
    );
    let mut past = live(&["a"], From::After(at(11)));
    assert_eq!(
        run(&mut past, &window),
        ["subscribed 11", "events 13", "level 13"]
    );
    let mut not_past = live(&["b"], From::After(at(11)));
    window.rewind(P, at(11));
    window.extend(P, vec![event("a", 20, 11)]);
    assert_eq!(ask(&mut past, &window).question, Question::Judge(at(13)));
    assert_eq!(run(&mut not_past, &window), ["subscribed 11", "level 20"]);
}

#[test]
fn an_answer_from_before_a_rewind_is_void() {
    let window = window(
        ROOM,
        filled(10, vec![event("a", 11, 5), event("a", 13, 11)]),
    );
    let mut one = live(&["a"], From::After(at(12)));
    let question = ask(&mut one, &window);
    window.rewind(P, at(11));
    assert_eq!(
        one.answer(&question, Answer::Verdict(Verdict::Ok), &window),
        None
    );
    assert_eq!(
        ask(&mut one, &window).question,
        Question::Judge(at(12)),
        "asked anew"
    );
}

#[test]
fn a_fetch_ends_at_its_end_and_hands_out_nothing_beyond() {
    let window = window(
        ROOM,
        filled(
            10,
            vec![event("a", 11, 5), event("a", 13, 11), event("a", 15, 13)],
        ),
    );
    let fetch = |until| {
        Subscription::new(
            SubId(1),
            set(&["a"]),
            |_| From::After(at(10)),
            Mode::Fetch(until),
        )
    };
    assert_eq!(
        run(&mut fetch(Some(at(13))), &window),
        ["subscribed 10", "events 11 13", "fetched ok"]
    );
    assert_eq!(
        run(&mut fetch(None), &window),
        ["subscribed 10", "events 11 13 15", "fetched ok"]
    );
}

#[test]
fn a_batch_is_bounded_in_events_and_bytes() {
    let many: Vec<_> = (1..=300).map(|ms| event("a", ms, ms - 1)).collect();
    let window = window(ROOM, filled(0, many));
    let mut one = live(&["a"], From::Oldest);
    let told = run(&mut one, &window);
    let sizes: Vec<usize> = told
        .iter()
        .filter(|line| line.starts_with("events"))
        .map(|line| line.split(' ').count() - 1)
        .collect();
    assert_eq!(sizes, [128, 128, 44]);
    let tight = Limits {
        batch_bytes: 5,
        ..Limits::default()
    };
    let mut one = live(&["a"], From::Oldest);
    let _subscribed = one.step(&window, &tight, 0);
    match one.step(&window, &tight, 0) {
        Step::Events(batch) => assert_eq!(batch.events.len(), 2, "two bytes each"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn cursors_of_several_topics_name_only_places_that_exist() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5), event("b", 13, 9)]));
    let mut one = live(&["a", "b"], From::Since(12));
    let Step::Subscribed(at_first) = one.step(&window, &Limits::default(), 0) else {
        panic!("not subscribed")
    };
    assert_eq!(at_first.cursor.places(), [at(11), at(11)]);
}

fn registered(names: &[&str], from: From, mode: Mode, window: &Window) -> Subscription {
    let mut one = Subscription::new(SubId(1), set(names), |_| from, mode);
    for placed in one.topics() {
        window.register(placed, 1, &Arc::default());
    }
    one.begin(window);
    one
}

fn flash(window: &Window, events: &[(&str, u64)]) {
    let events = events.iter().map(|(name, ms)| event(name, *ms, 0));
    window.flash(P, events.collect());
}

#[test]
fn flash_events_are_for_who_is_level() {
    let window = window(ROOM, filled(10, vec![event("a", 11, 5), event("b", 12, 1)]));
    let mut early = registered(&["a", "c"], From::Newest, Mode::Live, &window);
    flash(&window, &[("a", 1)]);
    // It was not level yet.
    assert_eq!(run(&mut early, &window), ["subscribed 12", "level 12"]);
    flash(&window, &[("a", 2), ("b", 3), ("c", 4), ("a", 5)]);
    assert_eq!(run(&mut early, &window), ["flash 2 4 5"]);
    assert_eq!(run(&mut early, &window), [] as [&str; 0]);
    // With an event at the same moment, and whoever comes later has nothing of it.
    flash(&window, &[("a", 6)]);
    window.extend(P, vec![event("a", 13, 11)]);
    assert_eq!(
        run(&mut early, &window),
        ["events 13", "level 13", "flash 6"]
    );
    let mut late = registered(&["a"], From::After(at(11)), Mode::Live, &window);
    assert_eq!(
        run(&mut late, &window),
        ["subscribed 11", "events 13", "level 13"]
    );
    flash(&window, &[("a", 7)]);
    assert_eq!(run(&mut late, &window), ["flash 7"]);
    assert_eq!(run(&mut early, &window), ["flash 7"]);
}

#[test]
fn who_replays_or_fetches_has_no_flash_events() {
    let window = window(ROOM, filled(10, vec![event("a", 12, 9)]));
    let mut fetch = registered(&["a"], From::Newest, Mode::Fetch(Some(at(99))), &window);
    assert_eq!(run(&mut fetch, &window), ["subscribed 12"]);
    let mut one = registered(&["a"], From::After(at(3)), Mode::Live, &window);
    let first = ask(&mut one, &window);
    flash(&window, &[("a", 1)]);
    assert_eq!(run(&mut fetch, &window), [] as [&str; 0]);
    let answer = page(vec![event("a", 5, 3), event("a", 9, 5)], 9, false);
    assert_eq!(one.answer(&first, answer, &window), None);
    assert_eq!(
        run(&mut one, &window),
        ["subscribed 3", "events 5 9", "events 12", "level 12"]
    );
    flash(&window, &[("a", 2)]);
    assert_eq!(run(&mut one, &window), ["flash 2"]);
}

#[test]
fn few_flash_events_are_kept() {
    let window = window(ROOM, filled(10, Vec::new()));
    let mut one = registered(&["a"], From::Newest, Mode::Live, &window);
    run(&mut one, &window);
    let kept = crate::limits::FLASH_KEPT as u64;
    for ms in 1..=kept + 7 {
        flash(&window, &[("a", ms)]);
    }
    let told = run(&mut one, &window);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("flash 8 9 "), "{told:?}");
    assert_eq!(told[0].split(' ').count() as u64, kept + 1);
    // Of what nobody has subscribed to nothing is kept.
    let before = window.with(P, Part::flash_end);
    flash(&window, &[("b", 1)]);
    assert_eq!(window.with(P, Part::flash_end), before);
}
