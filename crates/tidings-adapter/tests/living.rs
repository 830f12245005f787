//! What is live only, over the drivers: flash events between sessions, and the end of an incarnation.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::*;
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

/// A kind whose only purpose is that it may have owners.
struct Owned;

impl RecordKind for Owned {
    fn name(&self) -> &'static str {
        "owned"
    }

    fn decide(&self, _: &State<'_>, _: Trigger<'_>, _: u64) -> Decision {
        Decision::default()
    }

    fn has_owners(&self) -> bool {
        true
    }
}

/// Flashes once it is level, and closes when it has heard so many flash events, or is fenced.
struct Live {
    flashes: usize,
    hears: usize,
}

impl Session for Live {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => actions.subscribe(SubId(3), topic(), From::Newest),
            Input::CaughtUp { .. } => {
                actions.send_text("level ");
                for n in 0..self.flashes {
                    let draft = Draft::new(topic(), "typing", n.to_string());
                    actions.push(Action::Flash { draft });
                }
            }
            Input::Flash { sub, events } => {
                assert_eq!(sub, SubId(3));
                for printed in events {
                    actions.send_text(printed.event().data.clone());
                }
                self.hears -= events.len();
                if self.hears == 0 {
                    actions.close(1000, "heard");
                }
            }
            Input::Fenced => {
                actions.send_text("fenced");
                actions.close(1012, "begin anew");
            }
            _ => {}
        }
    }
}

fn topic() -> Topic {
    Topic::parse("demo/a").expect("valid")
}

fn log() -> Arc<MemoryLog> {
    let options = MemoryOptions::default();
    Arc::new(MemoryLog::new(options, Arc::new(SystemClock), 7))
}

fn hub(log: &Arc<MemoryLog>, kinds: Vec<Arc<dyn RecordKind>>) -> Hub {
    let options = HubOptions {
        rules: Rules {
            kinds,
            ..Rules::default()
        },
        ..HubOptions::default()
    };
    let registry = prometheus::Registry::new();
    Hub::start(log.clone(), options, Arc::new(SystemClock), &registry).expect("fresh")
}

/// Serves the session as an event stream, to its end.
async fn said(hub: &Hub, session: Live) -> String {
    let response = sse::serve(hub, session, DriverLimits::default()).await;
    let body = axum::body::to_bytes(response.into_body(), 1 << 20);
    let body = tokio::time::timeout(SOON, body).await.expect("it ends");
    String::from_utf8(body.expect("it ends well").to_vec()).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_flash_to_whoever_is_live() {
    let log = log();
    let (a, b) = (hub(&log, Vec::new()), hub(&log, Vec::new()));
    assert!(a.fenced().is_none(), "no kind has owners");
    a.ready().await;
    b.ready().await;
    let listening = {
        let b = b.clone();
        let session = Live {
            flashes: 0,
            hears: 5,
        };
        tokio::spawn(async move { said(&b, session).await })
    };
    // Nobody knows when it is level; so it is flashed to until it has heard enough.
    while !listening.is_finished() {
        let session = Live {
            flashes: 1,
            hears: 1,
        };
        assert_eq!(said(&a, session).await, "level 0");
    }
    assert_eq!(listening.await.expect("no panic"), "level 00000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_hears_that_its_instance_was_fenced() {
    let log = log();
    let hub = hub(&log, vec![Arc::new(Owned)]);
    hub.ready().await;
    let before = hub.incarnation();
    let sessions: Vec<_> = (0..3)
        .map(|_| {
            let hub = hub.clone();
            let session = Live {
                flashes: 0,
                hears: 1,
            };
            tokio::spawn(async move { said(&hub, session).await })
        })
        .collect();
    while hub.connections().len() < 3 {
        tokio::task::yield_now().await;
    }
    // As another instance does that has not heard of it for longer than its lease.
    let partition = log.partitions().of("anything");
    log.leave(partition, before).await.expect("reaped");
    let beat = log.beat(partition, before, SOON).await.expect("asked");
    assert_eq!(beat, Beat::Reaped);
    for session in sessions {
        let said = session.await.expect("no panic");
        assert!(said.ends_with("fenced"), "{said:?}");
    }
    assert_ne!(hub.incarnation(), before);
    hub.stop().await;
}
