//! When readers begin and end, by the clock.

use super::*;
use crate::job::state::Job;
use crate::options::CardsavrOptions;

const MINUTE: u64 = 60_000;

fn decide(records: &[(RecordKey, Option<Vec<u8>>)], ask: &Ask, now_ms: u64) -> Decision {
    let settings = Settings::of(&CardsavrOptions::default()).expect("good");
    let records: Vec<_> = records
        .iter()
        .map(|(key, document)| (key.clone(), document.clone().map(Into::into)))
        .collect();
    let readers = Readers(Arc::new(settings));
    readers.decide(
        &State::new(&records),
        Trigger::Command(&to_json(ask)),
        now_ms,
    )
}

fn register(over: bool) -> Ask {
    Ask::Register {
        job: 7,
        user: 1,
        app: "acme".into(),
        place: 5,
        over,
    }
}

fn words(decision: &Decision) -> Said {
    Said::parse(&decision.answer).expect("words")
}

fn written(decision: &Decision) -> (Reader, u64) {
    let put = decision.puts.first().expect("a document");
    let reader = Reader::parse(&put.document).expect("a reader");
    (reader, ms(put.lifetime.expect("a lifetime")))
}

fn job(completed: Option<u64>) -> Option<Vec<u8>> {
    let job = Job {
        id: 7,
        completed,
        ..Job::default()
    };
    Some(job.document())
}

#[test]
fn a_key_begins_with_its_job_and_dies_with_it_or_without_use() {
    let seat = Seat::of_key(7, "secret");
    let key = seat.record.clone();
    assert!(!key.id.contains("secret"));
    assert_eq!(
        decide(&[(key.clone(), None)], &register(false), 0).loads,
        [keys::job(7)]
    );
    let with = |job: Option<Vec<u8>>| [(key.clone(), None), (keys::job(7), job)];
    assert_eq!(words(&decide(&with(None), &register(false), 0)), Said::Gone);
    assert_eq!(
        words(&decide(&with(job(Some(1))), &register(false), 9)),
        Said::Over
    );
    let begun = decide(&with(job(None)), &register(false), 0);
    assert_eq!(words(&begun), Said::Begun);
    let (reader, lifetime) = written(&begun);
    assert_eq!(lifetime, 60 * MINUTE + TOUCHED_MS);
    let timers = Timers::default();
    assert!(reader.is_alive(&timers, 59 * MINUTE + 59_999));
    assert!(!reader.is_alive(&timers, 61 * MINUTE));
    // After the end: an hour from then, however often it is used.
    let (late, lifetime) = written(&decide(
        &with(job(Some(10 * MINUTE))),
        &register(true),
        30 * MINUTE,
    ));
    assert_eq!(lifetime, 40 * MINUTE);
    assert!(late.is_alive(&timers, 70 * MINUTE - 1) && !late.is_alive(&timers, 70 * MINUTE));
    // Use keeps it, and is written once in a while.
    let with = |reader: &Reader| [(key.clone(), Some(to_json(reader)))];
    assert!(
        decide(&with(&reader), &Ask::Touch, TOUCHED_MS - 1)
            .puts
            .is_empty()
    );
    let (used, _) = written(&decide(&with(&reader), &Ask::Touch, 59 * MINUTE));
    assert!(used.is_alive(&timers, 118 * MINUTE));
    assert_eq!(
        words(&decide(&with(&reader), &Ask::Touch, 61 * MINUTE)),
        Said::Gone
    );
}

#[test]
fn what_is_found_is_handed_out_to_one() {
    let seat = Seat::of_key(7, "secret");
    let with = |reader: &Reader| [(seat.record.clone(), Some(to_json(reader)))];
    let take = |ends| Ask::Take {
        user: 1,
        app: "acme".into(),
        found: Found {
            stretches: vec![super::super::places::Stretch {
                job: 7,
                after: 5,
                up_to: 8,
            }],
            heads: vec![(7, 8)],
            ..Found::default()
        },
        ends,
        jobs: None,
    };
    // A key that was never registered does not begin by being used; a session's reader does.
    assert_eq!(
        words(&decide(&[(seat.record.clone(), None)], &take(None), 0)),
        Said::Gone
    );
    let own = Seat::of_session(7, "abc").record;
    assert_eq!(
        words(&decide(&[(own, None)], &take(None), 0)),
        Said::Handed(1)
    );
    let reader = Reader::fresh(1, "acme", 0, [(7, 5)]);
    let (handed, _) = written(&decide(&with(&reader), &take(Some(20 * MINUTE)), MINUTE));
    assert!(!handed.is_alive(&Timers::default(), 20 * MINUTE));
    assert_eq!(
        words(&decide(&with(&handed), &take(None), MINUTE)),
        Said::Changed
    );
    let (confirmed, _) = written(&decide(&with(&handed), &Ask::Confirm { batch: 1 }, MINUTE));
    assert!(
        decide(&with(&confirmed), &Ask::ComeBack { batch: 1 }, MINUTE)
            .puts
            .is_empty()
    );
    let (back, _) = written(&decide(&with(&handed), &Ask::ComeBack { batch: 1 }, MINUTE));
    let plan = back.places.plan(&[7], 0, MINUTE).expect("a plan");
    assert_eq!(plan.again.len(), 1);
    assert!(
        decide(&with(&back), &Ask::Confirm { batch: 1 }, MINUTE)
            .puts
            .is_empty()
    );
}

#[test]
fn nonsense_changes_nothing() {
    let settings = Settings::of(&CardsavrOptions::default()).expect("good");
    let readers = Readers(Arc::new(settings));
    let records = [(keys::access_key(1, "a"), Some("garbage".into()))];
    for body in [&b""[..], b"{}", b"\"touch\""] {
        let decision = readers.decide(&State::new(&records), Trigger::Command(body), 0);
        assert!(decision.changes_nothing());
    }
}
