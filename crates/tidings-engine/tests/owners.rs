//! Records with owners, over two instances and one log: what an instance that is gone owned is
//! handled once by the other, and one that was frozen finds out.
//!
//! The kind is a seat: it is taken for an incarnation, and emptied when that is lost. Every change is
//! an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{
    Appended, Beat, BoxFuture, Command, CommandError, Commit, CommitOutcome, Decision, Draft, Due,
    EventId, EventLog, Filled, From, Head, IncarnationId, Listing, LogError, Orphan, OutboxId,
    Page, PageLimit, Partition, Partitions, Placed, Rank, Record, RecordKey, RecordKind, Records,
    Relay, RelayId, State, Tail, Topic, Trigger, Verdict,
};
use tidings_engine::{Hub, HubOptions, Limits, Ownership, Rules};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

struct Seat;

fn topic(name: &str) -> Topic {
    Topic::parse(&format!("seat/{name}")).expect("valid")
}

fn key(name: &str) -> RecordKey {
    RecordKey::new("seat", name)
}

impl RecordKind for Seat {
    fn name(&self) -> &'static str {
        "seat"
    }

    fn has_owners(&self) -> bool {
        true
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, _now_ms: u64) -> Decision {
        let mut decision = Decision::default();
        let Some((seat, _)) = state.first() else {
            return decision;
        };
        let told = match trigger {
            Trigger::Command(body) => {
                let text = std::str::from_utf8(body).unwrap_or_default();
                match IncarnationId::parse(text) {
                    Some(owner) => {
                        decision.put_owned(seat.clone(), "taken", owner);
                        "taken".to_owned()
                    }
                    None => {
                        decision.remove(seat.clone());
                        "left".to_owned()
                    }
                }
            }
            Trigger::OwnerLost { incarnation } => {
                decision.remove(seat.clone());
                format!("lost {incarnation}")
            }
            Trigger::Deadline { .. } => return decision,
        };
        decision.flash(Draft::new(topic(&seat.id), "changed", "1"));
        decision.publish(Draft::new(topic(&seat.id), "changed", told));
        decision
    }
}

/// A log that stops to answer one instance.
#[derive(Debug)]
struct Cut {
    log: Arc<MemoryLog>,
    away: AtomicBool,
}

impl Cut {
    fn new(log: &Arc<MemoryLog>) -> Arc<Self> {
        let away = AtomicBool::new(false);
        Arc::new(Self {
            log: log.clone(),
            away,
        })
    }

    fn cut(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    fn reach(&self) -> Result<&MemoryLog, LogError> {
        if self.away.load(Ordering::SeqCst) {
            Err(LogError::Unavailable("cut off".into()))
        } else {
            Ok(&self.log)
        }
    }
}

/// A call that is handed on while the log can be reached.
macro_rules! handed_on {
    ($self:ident.$name:ident($($argument:expr),*)) => {
        Box::pin(async move { $self.reach()?.$name($($argument),*).await })
    };
}

impl EventLog for Cut {
    fn partitions(&self) -> Partitions {
        self.log.partitions()
    }

    fn retention(&self) -> Duration {
        self.log.retention()
    }

    fn append(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        handed_on!(self.append(partition, drafts))
    }

    fn flash(
        &self,
        partition: Partition,
        drafts: Vec<Draft>,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        handed_on!(self.flash(partition, drafts))
    }

    fn read(
        &self,
        topic: &Placed,
        from: From,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        self.log.read(topic, from, limit)
    }

    fn judge(
        &self,
        places: Vec<(Placed, EventId)>,
    ) -> BoxFuture<'_, Result<Vec<Verdict>, LogError>> {
        handed_on!(self.judge(places))
    }

    fn heads(&self, topics: Vec<Placed>) -> BoxFuture<'_, Result<Vec<Head>, LogError>> {
        handed_on!(self.heads(topics))
    }

    fn fill(
        &self,
        partition: Partition,
        limit: PageLimit,
    ) -> BoxFuture<'_, Result<Filled, LogError>> {
        handed_on!(self.fill(partition, limit))
    }

    fn tail(&self, from: Vec<EventId>) -> Box<dyn Tail> {
        self.log.tail(from)
    }

    fn trim(&self, partition: Partition) -> BoxFuture<'_, Result<(), LogError>> {
        handed_on!(self.trim(partition))
    }

    fn time_ms(&self) -> BoxFuture<'_, Result<u64, LogError>> {
        handed_on!(self.time_ms())
    }

    fn records(&self) -> &dyn Records {
        self
    }
}

impl Records for Cut {
    fn load(
        &self,
        partition: Partition,
        keys: Vec<RecordKey>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, LogError>> {
        handed_on!(self.load(partition, keys))
    }

    fn commit(
        &self,
        partition: Partition,
        commit: Commit,
    ) -> BoxFuture<'_, Result<CommitOutcome, LogError>> {
        handed_on!(self.commit(partition, commit))
    }

    fn list(
        &self,
        partition: Partition,
        kind: Arc<str>,
        index: Arc<str>,
        after: Option<Rank>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listing, LogError>> {
        handed_on!(self.list(partition, kind, index, after, limit))
    }

    fn due(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Due, LogError>> {
        handed_on!(self.due(partition, kinds, limit))
    }

    fn relay(
        &self,
        partition: Partition,
        relay: RelayId,
        delivered: Vec<OutboxId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Relay, LogError>> {
        handed_on!(self.relay(partition, relay, delivered, limit))
    }

    fn outbox_depth(&self, partition: Partition) -> BoxFuture<'_, Result<u64, LogError>> {
        handed_on!(self.outbox_depth(partition))
    }

    fn beat(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
        lease: Duration,
    ) -> BoxFuture<'_, Result<Beat, LogError>> {
        handed_on!(self.beat(partition, incarnation, lease))
    }

    fn leave(
        &self,
        partition: Partition,
        incarnation: IncarnationId,
    ) -> BoxFuture<'_, Result<(), LogError>> {
        handed_on!(self.leave(partition, incarnation))
    }

    fn orphans(
        &self,
        partition: Partition,
        kinds: Vec<Arc<str>>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Orphan>, LogError>> {
        handed_on!(self.orphans(partition, kinds, limit))
    }
}

fn log() -> Arc<MemoryLog> {
    let options = MemoryOptions::default();
    Arc::new(MemoryLog::new(options, Arc::new(SystemClock), 7))
}

/// An instance whose leases are short; the proportions are those of the default.
async fn hub(log: Arc<dyn EventLog>) -> Hub {
    let options = HubOptions {
        limits: Limits {
            beat_every: Duration::from_millis(300),
            lease: Duration::from_millis(1000),
            sweep_every: Duration::from_millis(100),
            ..Limits::default()
        },
        ownership: vec![Ownership {
            root: "seat",
            placement_key: |topic| &topic.as_str()["seat/".len()..],
        }],
        rules: Rules {
            kinds: vec![Arc::new(Seat)],
            ..Rules::default()
        },
    };
    let registry = prometheus::Registry::new();
    let hub = Hub::start(log, options, Arc::new(SystemClock), &registry).expect("fresh");
    tokio::time::timeout(SOON, hub.ready())
        .await
        .expect("ready");
    hub
}

async fn command(hub: &Hub, name: &str, body: String) -> Result<(), CommandError> {
    let command = Command {
        kind: "seat".into(),
        placement_key: name.into(),
        records: vec![key(name)],
        body: body.into(),
    };
    hub.command(command).await.map(drop)
}

async fn take(hub: &Hub, name: &str, owner: IncarnationId) -> Result<(), CommandError> {
    command(hub, name, owner.to_string()).await
}

/// What was told of a seat.
async fn told(hub: &Hub, name: &str) -> Vec<Bytes> {
    let (topic, limit) = (topic(name), PageLimit::default());
    let page = hub.read(&topic, From::Oldest, limit).await;
    let events = page.expect("read").events;
    events.iter().map(|one| one.event().data.clone()).collect()
}

/// Waits until it is so.
async fn until<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let waited = tokio::time::timeout(SOON, async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn names() -> Vec<String> {
    (0..20).map(|n| format!("seat-{n}")).collect()
}

fn lost(incarnation: IncarnationId) -> Vec<Bytes> {
    vec!["taken".into(), format!("lost {incarnation}").into()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_instance_owned_is_handled_once() {
    let log = log();
    let dying = Cut::new(&log);
    let (a, b, c) = (
        hub(dying.clone()).await,
        hub(log.clone()).await,
        hub(log.clone()).await,
    );
    let dead = a.incarnation();
    assert_ne!(dead, b.incarnation());
    for name in names() {
        take(&a, &name, dead).await.expect("taken");
    }
    take(&b, "other", b.incarnation()).await.expect("taken");
    dying.cut(true);
    for name in &names() {
        until("it was lost", || async { told(&b, name).await.len() > 1 }).await;
    }
    // More looks of both would have shown a second handling.
    let again = Cut::new(&log);
    let d = hub(again.clone()).await;
    take(&d, "late", d.incarnation()).await.expect("taken");
    again.cut(true);
    until("the late one", || async {
        told(&c, "late").await.len() > 1
    })
    .await;
    for name in &names() {
        assert_eq!(told(&c, name).await, lost(dead), "{name}");
    }
    assert_eq!(told(&b, "other").await, ["taken"], "who beats keeps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_instance_finds_out_and_begins_anew() {
    let log = log();
    let freezing = Cut::new(&log);
    let (a, b) = (hub(freezing.clone()).await, hub(log.clone()).await);
    let before = a.incarnation();
    let over = a.fenced().expect("a kind has owners");
    take(&a, "one", before).await.expect("taken");
    freezing.cut(true);
    until("it was lost", || async { told(&b, "one").await.len() > 1 }).await;
    assert!(!over.is_cancelled(), "the log is away: nobody can tell");
    freezing.cut(false);
    tokio::time::timeout(SOON, over.cancelled())
        .await
        .expect("it finds out");
    let next = a.incarnation();
    assert_ne!(next, before);
    let late = take(&a, "one", before).await;
    assert!(matches!(late, Err(CommandError::Fenced)), "{late:?}");
    assert_eq!(a.incarnation(), next, "that was an old life's");
    take(&a, "one", next).await.expect("taken");
    assert_eq!(told(&b, "one").await.len(), 3);
    assert!(!a.fenced().expect("still").is_cancelled());
}

/// Nobody could beat, so nobody is reaped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lives_outlives_an_absence_of_the_log() {
    let log = log();
    let cuts = [Cut::new(&log), Cut::new(&log)];
    let (a, b) = (hub(cuts[0].clone()).await, hub(cuts[1].clone()).await);
    let lives = [a.incarnation(), b.incarnation()];
    take(&a, "a", lives[0]).await.expect("taken");
    take(&b, "b", lives[1]).await.expect("taken");
    // They sweep by now: what another one loses is handled.
    let dying = Cut::new(&log);
    let c = hub(dying.clone()).await;
    take(&c, "c", c.incarnation()).await.expect("taken");
    dying.cut(true);
    until("they sweep", || async { told(&b, "c").await.len() > 1 }).await;
    for cut in &cuts {
        cut.cut(true);
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for cut in &cuts {
        cut.cut(false);
    }
    // They sweep again, and have not lost each other.
    let dying = Cut::new(&log);
    let d = hub(dying.clone()).await;
    take(&d, "d", d.incarnation()).await.expect("taken");
    dying.cut(true);
    until("they sweep again", || async {
        told(&b, "d").await.len() > 1
    })
    .await;
    assert_eq!([a.incarnation(), b.incarnation()], lives);
    assert_eq!(told(&a, "a").await, ["taken"]);
    assert_eq!(told(&a, "b").await, ["taken"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_gives_up_at_once_what_was_not_given_up() {
    let log = log();
    let (a, b) = (hub(log.clone()).await, hub(log.clone()).await);
    let gone = a.incarnation();
    take(&a, "kept", gone).await.expect("taken");
    take(&a, "given", gone).await.expect("taken");
    assert!(a.drain(Duration::ZERO).await, "nobody is connected");
    command(&a, "given", "leave".into()).await.expect("still");
    a.stop().await;
    // Nobody waits for the lease to end.
    for partition in log.partitions().all() {
        let beat = log.beat(partition, gone, SOON).await.expect("asked");
        assert_eq!(beat, Beat::Reaped);
    }
    until("it was lost", || async { told(&b, "kept").await.len() > 1 }).await;
    assert_eq!(told(&b, "kept").await, lost(gone));
    assert_eq!(told(&b, "given").await, ["taken", "left"]);
}
