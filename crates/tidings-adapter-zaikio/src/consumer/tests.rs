//! What is decided of consumers, as tables; and that acks are exact, whatever their order.

use proptest::prelude::*;

use super::*;

/// What the hub takes for one record.
const RECORD_BYTES: usize = 64 * 1024;

const NOW_MS: u64 = 1_767_225_600_000;

/// An offset so many places after the test's beginning.
fn at(number: u64) -> u64 {
    NOW_MS * 4096 + number
}

fn decide(document: Option<&State>, ask: &Ask, now_ms: u64) -> (Option<State>, Decision) {
    let topic = Topic::parse("zaikio/org/a").expect("valid");
    let command = command(&topic, "my_app", "default", ask);
    let text = document.map(|state| serde_json::to_vec(state).expect("JSON").into());
    let records = [(command.records[0].clone(), text)];
    let kind = Consumers {
        lifetime: Duration::from_secs(1),
    };
    let decision = kind.decide(
        &Records::new(&records),
        Trigger::Command(&command.body),
        now_ms,
    );
    let written = decision
        .puts
        .first()
        .and_then(|put| State::parse(&put.document));
    (written, decision)
}

fn enrol(names: &[&str], head: u64) -> Ask {
    Ask::Enrol {
        names: names.iter().map(|name| (*name).into()).collect(),
        head,
    }
}

fn ack(name: &str, offset: u64, after: u64) -> Ask {
    let name = name.into();
    Ask::Ack {
        events: vec![Ack {
            name,
            offset,
            after,
        }],
        up_to: Vec::new(),
    }
}

fn settled(state: &State, name: &str, offset: u64) -> bool {
    state.is_settled(name, EventId::from_integer(offset).expect("in range"))
}

#[test]
fn a_name_starts_at_the_head_when_it_is_first_wanted() {
    let (first, decision) = decide(None, &enrol(&["a.x"], at(10)), NOW_MS);
    let first = first.expect("written");
    assert_eq!(State::parse(&decision.answer), Some(first.clone()));
    assert!(settled(&first, "a.x", at(10)) && !settled(&first, "a.x", at(11)));
    // Again, later: nothing changes, and nothing is written.
    let (again, decision) = decide(Some(&first), &enrol(&["a.x"], at(50)), NOW_MS + 1);
    assert_eq!(
        (again, State::parse(&decision.answer)),
        (None, Some(first.clone()))
    );
    // Another name starts where it is wanted first.
    let (second, _) = decide(Some(&first), &enrol(&["a.x", "a.y"], at(50)), NOW_MS + 1);
    let second = second.expect("written");
    assert!(!settled(&second, "a.x", at(11)) && settled(&second, "a.y", at(50)));
    // A day later it is written again, so that it lives on.
    let day = 25 * 3_600_000;
    assert!(
        decide(Some(&first), &enrol(&["a.x"], at(50)), NOW_MS + day)
            .0
            .is_some()
    );
}

#[test]
fn acks_are_individual_and_idempotent() {
    let (state, _) = decide(None, &enrol(&["a.x"], at(10)), NOW_MS);
    let state = state.expect("written");
    let (state, decision) = decide(Some(&state), &ack("a.x", at(30), at(20)), NOW_MS);
    assert_eq!(decision.answer, r#"{"refused":[]}"#);
    let state = state.expect("written");
    assert!(settled(&state, "a.x", at(30)) && !settled(&state, "a.x", at(20)));
    assert_eq!(
        decide(Some(&state), &ack("a.x", at(30), at(20)), NOW_MS).0,
        None
    );
    // From before its start, or of a name it never wanted: nothing is owed, nothing is written.
    assert_eq!(
        decide(Some(&state), &ack("a.x", at(5), at(4)), NOW_MS).0,
        None
    );
    assert_eq!(
        decide(Some(&state), &ack("a.z", at(5), at(4)), NOW_MS).0,
        None
    );
    assert_eq!(decide(None, &ack("a.x", at(5), at(4)), NOW_MS).0, None);
    // The hole closes, and one number is left.
    let (state, _) = decide(Some(&state), &ack("a.x", at(20), at(10)), NOW_MS);
    let state = state.expect("written");
    assert_eq!(state.runs(), 0);
    assert_eq!(
        state.settled_to("a.x").map(EventId::as_integer),
        Some(at(30))
    );
}

#[test]
fn cumulative_acks_settle_everything_before() {
    let (state, _) = decide(None, &enrol(&["a.x", "a.y"], at(10)), NOW_MS);
    let (state, _) = decide(state.as_ref(), &ack("a.x", at(40), at(30)), NOW_MS);
    let up_to = vec![("a.x".into(), at(35)), ("a.z".into(), at(35))];
    let events = Vec::new();
    let (state, _) = decide(state.as_ref(), &Ask::Ack { events, up_to }, NOW_MS);
    let state = state.expect("written");
    assert!(settled(&state, "a.x", at(40)) && !settled(&state, "a.x", at(41)));
    assert!(!settled(&state, "a.y", at(35)));
    assert_eq!(state.runs(), 0);
}

#[test]
fn one_event_that_is_never_acked_costs_one_hole() {
    let mut state = decide(None, &enrol(&["a.x"], at(0)), NOW_MS)
        .0
        .expect("written");
    // Number 1 is left out; 5,000 are acked after it.
    for number in 2..5_000 {
        let (next, _) = decide(
            Some(&state),
            &ack("a.x", at(number * 7), at((number - 1) * 7)),
            NOW_MS,
        );
        state = next.expect("written");
    }
    assert_eq!(state.runs(), 1);
    assert!(!settled(&state, "a.x", at(7)));
}

#[test]
fn at_the_bound_acks_are_refused_and_the_record_fits() {
    let names: Vec<String> = (0..NAMES_PER_APP_MAX)
        .map(|number| format!("{}{number:03}", "n".repeat(97)))
        .collect();
    let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
    let (state, _) = decide(None, &enrol(&borrowed, at(0)), NOW_MS);
    // Every second event, far apart: nothing can be joined.
    let hour = 3_600_000 * 4096 / 2_000;
    let events = (1..=RUNS_MAX as u64 + 5).map(|number| Ack {
        name: borrowed[0].into(),
        offset: at(number * 2 * hour),
        after: at((number * 2 - 1) * hour),
    });
    let up_to = Vec::new();
    let ask = Ask::Ack {
        events: events.collect(),
        up_to,
    };
    let (state, decision) = decide(state.as_ref(), &ask, NOW_MS);
    let acked: Acked = serde_json::from_slice(&decision.answer).expect("JSON");
    assert_eq!(acked.refused.len(), 5);
    let state = state.expect("written");
    assert_eq!(state.runs(), RUNS_MAX);
    assert!(
        decision.puts[0].document.len() <= RECORD_BYTES,
        "{}",
        decision.puts[0].document.len()
    );
    // Two hours later retention has taken the first holes, and there is room.
    let later = NOW_MS + 2 * 3_600_000 + 1_000_000;
    let offset = at(3_000 * hour);
    let (state, decision) = decide(Some(&state), &ack(borrowed[0], offset, offset - 1), later);
    assert_eq!(decision.answer, r#"{"refused":[]}"#);
    assert!(state.expect("written").runs() < RUNS_MAX);
}

#[test]
fn garbage_in_a_record_or_a_command_is_survived() {
    let key = RecordKey::new(KIND, "x");
    let kind = Consumers {
        lifetime: Duration::from_secs(1),
    };
    for (document, body) in [
        ("{}", "nonsense"),
        ("nonsense", r#""look""#),
        (r#"{"names":{"a":[1,2,3]}}"#, r#""look""#),
        (
            r#"{"names":{"a":[]}}"#,
            r#"{"ack":{"events":[{"name":"a","offset":0,"after":9}],"up_to":[["a",18446744073709551615]]}}"#,
        ),
    ] {
        let records = [(key.clone(), Some(document.to_owned().into()))];
        kind.decide(
            &Records::new(&records),
            Trigger::Command(body.as_bytes()),
            NOW_MS,
        );
    }
}

proptest! {
    /// Acked is what was acked: nothing else ever counts as settled, and all of it does.
    #[test]
    fn acks_are_exact(order in Just((1..60_u64).collect::<Vec<_>>()).prop_shuffle(), taken in 0..60_usize) {
        let mut state = State::default();
        state.names.insert("a.x".into(), Progress { to: at(0), runs: Vec::new() });
        let events: Vec<Ack> = order[..taken].iter().map(|number| Ack {
            name: "a.x".into(),
            offset: at(number * 10),
            // Some know the one before, some know nothing.
            after: if number % 3 == 0 { at(number * 10 - 1) } else { at((number - 1) * 10) },
        }).collect();
        let refused = take(&mut state, events, Vec::new(), NOW_MS).refused;
        prop_assert!(refused.is_empty());
        let text = serde_json::to_vec(&state).expect("JSON");
        let state = State::parse(&text).expect("its own");
        for number in &order {
            let is = settled(&state, "a.x", at(number * 10));
            prop_assert_eq!(is, order[..taken].contains(number), "number {}", number);
        }
    }
}
