//! An instance leaves: who is told when, by a clock that the tests hold.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::*;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tokio::time::Instant;

/// A session that says nothing until it is told to come back.
struct Quiet;

impl Session for Quiet {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        if matches!(input, Input::Draining) {
            actions.close(1001, "come back");
        }
    }
}

fn hub() -> Hub {
    let clock = Arc::new(SystemClock);
    let log = Arc::new(MemoryLog::new(MemoryOptions::default(), clock.clone(), 7));
    Hub::start(
        log,
        HubOptions::default(),
        clock,
        &prometheus::Registry::new(),
    )
    .expect("a fresh registry")
}

/// Follows an event stream to its end; answers with how long that took from `since`.
fn until_told(hub: &Hub, since: Instant) -> tokio::task::JoinHandle<Duration> {
    let hub = hub.clone();
    tokio::spawn(async move {
        let response = sse::serve(&hub, Quiet, DriverLimits::default()).await;
        let rest = axum::body::to_bytes(response.into_body(), 1024).await;
        assert_eq!(rest.expect("it ends well"), "");
        since.elapsed()
    })
}

/// Waits until so many connections stand.
async fn standing(hub: &Hub, count: usize) {
    while hub.connections().len() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_one_after_the_other_and_waiting_polls_first() {
    const SPREAD: Duration = Duration::from_secs(10);
    let hub = hub();
    let started = Instant::now();
    let streams: Vec<_> = (0..20).map(|_| until_told(&hub, started)).collect();
    let polls: Vec<_> = (0..5)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move {
                let answer = longpoll::serve(&hub, Quiet, DriverLimits::default()).await;
                assert_eq!(answer.status(), 200);
                started.elapsed()
            })
        })
        .collect();
    standing(&hub, 25).await;
    assert!(hub.drain(SPREAD).await, "all have gone");
    for poll in polls {
        assert_eq!(poll.await.expect("no panic"), Duration::ZERO);
    }
    let mut told = vec![Duration::ZERO];
    for stream in streams {
        told.push(stream.await.expect("no panic"));
    }
    told.push(SPREAD);
    told.sort_unstable();
    // Even shares would be half a second apart; theirs are off by the golden ratio at most.
    for pair in told.windows(2) {
        assert!(pair[1] - pair[0] < Duration::from_millis(1_500), "{told:?}");
    }
    // Whoever comes after that is told at once.
    let late = Instant::now();
    let took = until_told(&hub, late).await.expect("no panic");
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_about_to_leave_is_not_ready_and_goes_on() {
    let hub = hub();
    hub.ready().await;
    let started = Instant::now();
    let stream = until_told(&hub, started);
    standing(&hub, 1).await;
    hub.retire();
    assert!(hub.health().draining && !hub.health().is_ready());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!stream.is_finished(), "nobody was told anything yet");
    let topic = Topic::parse("demo/a").expect("valid");
    let stored = hub.publish(vec![Draft::new(topic, "k", "1")]).await;
    assert!(stored[0].is_ok(), "{stored:?}");
    assert!(hub.drain(Duration::ZERO).await, "all have gone");
    let took = stream.await.expect("no panic");
    assert_eq!(took, Duration::from_secs(60));
}
