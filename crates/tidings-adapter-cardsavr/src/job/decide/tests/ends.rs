//! How jobs end: by time, by failures, by types, and how their end is posted.

use super::*;
use crate::job::ask::Hooked;
use crate::options::{IntegratorOptions, Unit};
use tidings_adapter::Span;

fn ended(world: &World) -> (String, String) {
    let last = world.last();
    assert_eq!(last["percent_complete"], 100);
    let text = |name: &str| last[name].as_str().expect("a text").to_owned();
    (text("status"), text("termination_type"))
}

fn as_texts(pair: (&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

#[test]
fn nobody_answers() {
    for (kind, status) in [
        ("tfa_request", "TIMEOUT_TFA"),
        ("security", "TIMEOUT_TFA"),
        ("credential_request", "TIMEOUT_CREDENTIALS"),
        ("initial_account_link", "TIMEOUT_CREDENTIALS"),
    ] {
        let mut world = World::new(|_| {});
        world.status("AUTH");
        world.request("e1", kind, None);
        world.pass(4 * MINUTE - 1);
        assert_eq!(world.told().len(), 1);
        world.pass(1);
        assert_eq!(ended(&world), as_texts((status, "USER_DATA_FAILURE")));
        assert_eq!(world.answer("e1", "1"), no(Refusal::Over));
        world.pass(60 * MINUTE);
        assert_eq!(world.told().len(), 2, "once");
    }
}

#[test]
fn the_creator_may_say_how_long_his_user_has() {
    let mut world =
        World::new(|options| options.timers.tfa = Span(std::time::Duration::from_secs(30)));
    world.request("e1", "tfa_request", None);
    assert_eq!(world.job().requests[0].until, world.now_ms + 30 * SECOND);
    let mut job = world.job();
    job.credential_timeout = Some(10);
    world.records.insert(keys::job(7), job.document().into());
    world.request("e2", "tfa_request", None);
    world.pass(10 * SECOND);
    assert_eq!(ended(&world).0, "TIMEOUT_TFA");
}

#[test]
fn a_job_takes_too_long_but_not_while_its_user_is_asked() {
    let mut world = World::new(|_| {});
    world.status("AUTH");
    for _ in 0..3 {
        world.pass(MINUTE);
        world.request("e", "security", None);
        world.pass(3 * MINUTE);
        world.answer("e", "Max");
    }
    assert_eq!(
        world.job().timeout_left(&world.jobs.0.timers, world.now_ms),
        2 * MINUTE
    );
    world.pass(2 * MINUTE);
    assert_eq!(ended(&world), as_texts(("VBS_TIMEOUT", "PROCESS_FAILURE")));
    assert_eq!(world.last()["job_timeout"], 0, "never negative");
}

#[test]
fn a_job_that_nobody_begins_is_abandoned() {
    let mut world = World::new(|_| {});
    world.pass(MINUTE);
    world.status("QUEUED");
    world.pass(4 * MINUTE);
    assert_eq!(ended(&world), as_texts(("ABANDONED", "NEVER_STARTED")));
    // Its user never says his credentials.
    let mut world = World::new(|_| {});
    let mut job = world.job();
    job.had_credentials = false;
    world.records.insert(keys::job(7), job.document().into());
    world.status("PENDING_CREDS");
    world.pass(4 * MINUTE);
    assert_eq!(ended(&world), as_texts(("ABANDONED", "NEVER_STARTED")));
}

#[test]
fn the_virtual_browser_may_move_the_end_in_the_configured_unit() {
    for (unit, said, left) in [(Unit::Ms, 90_000, 90_000_u64), (Unit::S, 90, 90)] {
        let mut world = World::new(|options| options.timers.job_timeout_unit = unit);
        world.says(json!({"status": "AUTH", "job_timeout": said}));
        assert_eq!(world.last()["job_timeout"], left);
        world.pass(90 * SECOND);
        assert_eq!(ended(&world).0, "VBS_TIMEOUT");
    }
}

#[test]
fn too_many_failures() {
    let mut world = World::new(|_| {});
    let ask = |world: &mut World, envelope: &str, kind: &str, status: &str| {
        let said = world.request(envelope, kind, Some(status));
        if world.job().is_over() {
            return said;
        }
        world.answer(envelope, "x");
        world.ask(&Ask::Take {
            envelope: envelope.into(),
        });
        world.ask(&Ask::Taken {
            envelope: envelope.into(),
            arrived: true,
        });
        said
    };
    ask(&mut world, "a", "credential_request", "PENDING_NEWCREDS");
    world.status("LOGIN_RESUBMITTED");
    ask(&mut world, "b", "credential_request", "PENDING_NEWCREDS");
    assert_eq!(
        ended(&world),
        as_texts(("TOO_MANY_LOGIN_FAILURES", "USER_DATA_FAILURE"))
    );
    assert!(world.job().requests.is_empty());

    let mut world = World::new(|_| {});
    ask(&mut world, "a", "tfa_request", "PENDING_TFA");
    world.status("TFA_CODE_RECEIVED");
    world.status("TFA_SUBMITTED");
    ask(&mut world, "b", "tfa_request", "PENDING_TFA");
    assert_eq!(
        ended(&world),
        as_texts(("TOO_MANY_TFA_FAILURES", "USER_DATA_FAILURE"))
    );

    // Another code for another step is no failure; and one may allow more.
    let mut world = World::new(|options| options.timers.login_failures = 3);
    for envelope in ["a", "b"] {
        ask(&mut world, envelope, "tfa_request", "PENDING_TFA");
        world.status("UPDATING");
        ask(
            &mut world,
            envelope,
            "credential_request",
            "PENDING_NEWCREDS",
        );
        world.status("AUTH");
    }
    assert!(!world.job().is_over());
}

#[test]
fn every_end_has_a_type_and_a_hundred_percent() {
    for (body, end) in [
        (
            json!({"status": "DUPLICATE_CARD"}),
            ("DUPLICATE_CARD", "USER_DATA_FAILURE"),
        ),
        (
            json!({"status": "canceled"}),
            ("CANCELLED", "NEVER_STARTED"),
        ),
        (
            json!({"termination_type": "BILLABLE"}),
            ("SUCCESSFUL", "BILLABLE"),
        ),
        (
            json!({"termination_type": "PROCESS_FAILURE", "percent_complete": 3}),
            ("VBS_ERROR", "PROCESS_FAILURE"),
        ),
        (
            json!({"status": "NEW_IN_2027", "termination_type": "NEW_TYPE"}),
            ("NEW_IN_2027", "NEW_TYPE"),
        ),
        (
            json!({"status": "UNSUCCESSFUL", "termination_type": "USER_DATA_FAILURE"}),
            ("UNSUCCESSFUL", "USER_DATA_FAILURE"),
        ),
        (
            json!({"termination_type": "NEW_TYPE"}),
            ("REQUESTED", "NEW_TYPE"),
        ),
    ] {
        let mut world = World::new(|_| {});
        world.says(body);
        assert_eq!(ended(&world), as_texts(end));
        let job = world.job();
        let shown = job.print(
            &world.jobs.0.timers,
            world.now_ms,
            super::super::super::state::Hydration::default(),
            true,
            None,
        );
        assert_eq!(
            (
                shown["percent_complete"].as_u64(),
                shown["termination_type"].as_str()
            ),
            (Some(100), Some(end.1))
        );
        assert!(shown["completed_on"].is_string());
    }
    let mut world = World::new(|_| {});
    world.says(json!({"status": "NEW_IN_2027"}));
    assert!(world.last().get("termination_type").is_none());
}

fn hooked() -> World {
    World::new(|options| {
        let integrator = IntegratorOptions {
            key: Some("YWJj".into()),
            ..IntegratorOptions::default()
        };
        options.integrators.insert("acme".into(), integrator);
        options.webhook_url = Some("https://hooks.test/ends".into());
    })
}

fn hook(world: &mut World, turn: u64, step: Hooked) -> bool {
    matches!(world.ask(&Ask::Hook { turn, step }), Said::Job(_))
}

#[test]
fn an_end_is_posted_until_it_is_taken() {
    let mut world = hooked();
    world.status("SUCCESSFUL");
    world.pass(0);
    assert!(hook(&mut world, 1, Hooked::Claim));
    assert!(!hook(&mut world, 1, Hooked::Claim), "one instance's turn");
    // 10, 20 and 40 s later; and whoever hears of a turn late does not get it.
    for (turn, pause) in [(1, 10), (3, 20), (5, 40)] {
        assert!(hook(&mut world, turn, Hooked::Failed));
        world.pass(pause * SECOND - 1);
        assert!(!hook(&mut world, turn, Hooked::Claim));
        world.pass(1);
        assert!(!hook(&mut world, turn, Hooked::Claim));
        assert!(hook(&mut world, turn + 2, Hooked::Claim));
    }
    assert!(hook(&mut world, 7, Hooked::Delivered));
    assert!(world.job().notified && world.deadlines.is_empty());
    assert_eq!(world.told().len(), 1);
}

#[test]
fn an_end_that_nobody_takes_is_given_up() {
    let mut world = hooked();
    world.status("SUCCESSFUL");
    world.pass(0);
    for (turn, pause) in [(1, 10), (3, 20), (5, 40), (7, 60)] {
        assert!(hook(&mut world, turn, Hooked::Claim));
        assert!(hook(&mut world, turn, Hooked::Failed));
        world.pass(pause * SECOND);
    }
    assert!(!world.job().notified && world.deadlines.is_empty());
    // Instances that die with their turn count as failures, and nobody waits for ever.
    let mut world = hooked();
    world.status("SUCCESSFUL");
    world.pass(0);
    for turn in 1..=4 {
        assert!(hook(&mut world, turn, Hooked::Claim));
        world.pass(30 * SECOND);
    }
    assert!(world.deadlines.is_empty() && world.job().hook.is_none());
}
