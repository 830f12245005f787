//! A desk where chats wait: one record per chat, the index of those that wait, and views on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tidings_core::{
    BoxFuture, Command, Decision, Draft, Partition, RecordKey, RecordKind, State, Topic, Trigger,
    ViewValue,
};
use tidings_engine::{Depends, Hub, HubOptions, Ownership, Rules, View, ViewError};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};

/// Long enough for a busy machine; nothing waits for it to pass.
pub(crate) const SOON: Duration = Duration::from_secs(20);

struct Chats;

pub(crate) fn queue() -> Topic {
    Topic::parse("queue").expect("valid")
}

pub(crate) fn command(chat: &str, body: &str) -> Command {
    Command {
        kind: "desk.chat".into(),
        placement_key: chat.into(),
        records: vec![RecordKey::new("desk.chat", chat)],
        body: body.to_owned().into(),
    }
}

impl RecordKind for Chats {
    fn name(&self) -> &'static str {
        "desk.chat"
    }

    fn indexes(&self) -> &'static [&'static str] {
        &["waiting", "active"]
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, _now_ms: u64) -> Decision {
        let (Some((chat, _)), Trigger::Command(body)) = (state.first(), trigger) else {
            return Decision::default();
        };
        let body = String::from_utf8_lossy(body);
        let (verb, rank) = body.split_once(' ').unwrap_or((&body, ""));
        let rank = rank.parse().unwrap_or(0);
        let mut decision = Decision::default();
        match verb {
            "wait" => {
                decision.put(chat.clone(), "waits", None);
                decision.index(chat.clone(), "waiting", rank);
            }
            "go" => decision.unindex(chat.clone(), "waiting"),
            "end" => decision.remove(chat.clone()),
            "stray" => decision.index(chat.clone(), "nowhere", rank),
            _ => {}
        }
        // The queue's topic stands in a partition of its own, but for the chats that stand there.
        let said = || Draft::new(queue(), "changed", "0");
        if chat.id.starts_with("chat-") {
            decision.publish_elsewhere(said());
        } else {
            decision.flash_elsewhere(said());
        }
        decision
    }
}

/// The ids of who waits, without what all of them begin with.
struct Queue {
    computed: Arc<AtomicUsize>,
    failing: Arc<AtomicBool>,
    panicking: Arc<AtomicBool>,
}

impl View for Queue {
    fn name(&self) -> &'static str {
        "desk.queue"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(queue())
    }

    fn compute<'a>(
        &'a self,
        hub: &'a Hub,
        _key: &'a str,
        _inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        Box::pin(async move {
            self.computed.fetch_add(1, Ordering::SeqCst);
            if self.failing.load(Ordering::SeqCst) {
                return Err(ViewError::Failed("as the test wants it".into()));
            }
            assert!(
                !self.panicking.load(Ordering::SeqCst),
                "as the test wants it"
            );
            let listed = hub.list("desk.chat", "waiting", 1000).await?;
            let ids = listed.entries.iter();
            let ids: Vec<String> = ids.map(|one| one.key.id.to_string()).collect();
            let short: Vec<&str> = ids
                .iter()
                .map(|id| id.trim_start_matches("chat-"))
                .collect();
            let printed = short.join(" ");
            Ok(ViewValue::new(ids, printed))
        })
    }
}

/// A chat's place in the queue, from 1.
struct Place;

impl View for Place {
    fn name(&self) -> &'static str {
        "desk.place"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on_view("desk.queue", "")
    }

    fn compute<'a>(
        &'a self,
        _hub: &'a Hub,
        key: &'a str,
        inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        let waiting = inputs.first().and_then(|queue| queue.get::<Vec<String>>());
        let before = waiting.and_then(|ids| ids.iter().position(|id| id == key));
        let place = before.map_or(0, |before| before + 1);
        Box::pin(std::future::ready(Ok(ViewValue::new(
            place,
            place.to_string(),
        ))))
    }

    fn recheck(&self) -> Option<Duration> {
        None
    }
}

/// Stands on itself.
struct Circle;

impl View for Circle {
    fn name(&self) -> &'static str {
        "desk.circle"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(queue()).and_view("desk.circle", "")
    }

    fn compute<'a>(
        &'a self,
        _hub: &'a Hub,
        _key: &'a str,
        _inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        Box::pin(std::future::pending())
    }
}

/// Counts how often it was computed.
#[derive(Default)]
struct Ticking(AtomicUsize);

impl View for Ticking {
    fn name(&self) -> &'static str {
        "desk.clock"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::default()
    }

    fn compute<'a>(
        &'a self,
        _hub: &'a Hub,
        _key: &'a str,
        _inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Box::pin(std::future::ready(Ok(ViewValue::new(count, ""))))
    }

    fn recheck(&self) -> Option<Duration> {
        Some(Duration::from_millis(80))
    }
}

/// Its key.
struct Echo;

impl View for Echo {
    fn name(&self) -> &'static str {
        "desk.echo"
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::default()
    }

    fn compute<'a>(
        &'a self,
        _hub: &'a Hub,
        key: &'a str,
        _inputs: &'a [ViewValue],
    ) -> BoxFuture<'a, Result<ViewValue, ViewError>> {
        Box::pin(std::future::ready(Ok(ViewValue::new((), key.to_owned()))))
    }
}

/// One instance with a desk.
pub(crate) struct Desk {
    pub(crate) hub: Hub,
    pub(crate) registry: prometheus::Registry,
    /// How often the queue was computed here.
    pub(crate) computed: Arc<AtomicUsize>,
    pub(crate) failing: Arc<AtomicBool>,
    pub(crate) panicking: Arc<AtomicBool>,
}

impl Desk {
    pub(crate) async fn open(log: &Arc<MemoryLog>) -> Self {
        let (computed, failing) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let panicking = Arc::<AtomicBool>::default();
        let queue = Queue {
            computed: computed.clone(),
            failing: failing.clone(),
            panicking: panicking.clone(),
        };
        let options = HubOptions {
            ownership: vec![Ownership {
                root: "desk",
                placement_key: |topic| &topic.as_str()["desk/".len()..],
            }],
            rules: Rules {
                kinds: vec![Arc::new(Chats)],
                views: vec![
                    Arc::new(queue),
                    Arc::new(Place),
                    Arc::new(Circle),
                    Arc::new(Ticking::default()),
                    Arc::new(Echo),
                ],
                ..Rules::default()
            },
            ..HubOptions::default()
        };
        let registry = prometheus::Registry::new();
        let clock = Arc::new(SystemClock);
        let hub = Hub::start(log.clone(), options, clock, &registry).expect("fresh");
        let ready = tokio::time::timeout(SOON, hub.ready()).await;
        ready.expect("ready");
        Self {
            hub,
            registry,
            computed,
            failing,
            panicking,
        }
    }
}

pub(crate) fn log() -> Arc<MemoryLog> {
    let options = MemoryOptions::default();
    Arc::new(MemoryLog::new(options, Arc::new(SystemClock), 7))
}

pub(crate) async fn asked(hub: &Hub, chat: &str, body: &str) {
    let decided = hub.command(command(chat, body)).await;
    decided.expect("decided");
}

/// Where a chat stands.
pub(crate) fn partition(hub: &Hub, chat: &str) -> Partition {
    let topic = Topic::parse(&format!("desk/{chat}"));
    hub.placed(topic.expect("valid")).partition
}

pub(crate) fn printed(value: Option<ViewValue>) -> String {
    let value = value.map(|value| value.printed().to_vec());
    String::from_utf8(value.unwrap_or_else(|| b"(none)".to_vec())).expect("text")
}

/// Waits for a state.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut state: impl FnMut() -> F) {
    let wait = async {
        while !state().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, wait).await;
    waited.unwrap_or_else(|_| panic!("in vain: {what}"));
}

/// A metric's row of one view.
pub(crate) fn metric(registry: &prometheus::Registry, name: &str, view: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let rows = family.map_or(&[][..], |family| family.get_metric());
    let row = rows
        .iter()
        .find(|row| row.get_label().iter().any(|one| one.value() == view));
    let row = row.unwrap_or_else(|| panic!("no {name} of {view}"));
    row.get_counter()
        .get_value()
        .max(row.get_gauge().get_value())
}
