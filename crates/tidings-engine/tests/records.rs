//! Records through the hub: commands, deadlines and outboxes of two instances over one log.
//!
//! The kind is an account: its document is a balance, every change is an event of its own topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_core::record::RELAY_LEASE;
use tidings_core::{
    BoxFuture, Call, CallAnswer, CallError, Command, CommandError, Decision, Dedup, Draft, EventId,
    From, Ingest, Ingested, Outcome, Outside, PageLimit, RecordKey, RecordKind, Start, State,
    SubId, Topic, Trigger,
};
use tidings_engine::{Delivery, Hub, HubOptions, Ownership, PublishError, Rules};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

/// `<verb> <amount> [<argument>]`.
struct Account;

fn topic(name: &str) -> Topic {
    Topic::parse(&format!("bank/{name}")).expect("valid")
}

fn key(name: &str) -> RecordKey {
    RecordKey::new("bank.account", name)
}

fn command(name: &str, body: impl Into<Bytes>) -> Command {
    Command {
        kind: "bank.account".into(),
        placement_key: name.into(),
        records: vec![key(name)],
        body: body.into(),
    }
}

impl RecordKind for Account {
    fn name(&self) -> &'static str {
        "bank.account"
    }

    fn decide(&self, state: &State<'_>, trigger: Trigger<'_>, now_ms: u64) -> Decision {
        let Some((account, document)) = state.first() else {
            return Decision::answer("no account");
        };
        let balance: i64 = document.map_or(0, |text| {
            std::str::from_utf8(text)
                .unwrap_or("0")
                .parse()
                .unwrap_or(0)
        });
        let mut decision = Decision::default();
        let change = |decision: &mut Decision, by: i64| {
            let after = balance + by;
            decision.put(account.clone(), after.to_string(), None);
            decision.publish(Draft::new(topic(&account.id), "changed", by.to_string()));
            decision.answer = after.to_string().into();
        };
        let body = match trigger {
            Trigger::Deadline { name, .. } => {
                change(&mut decision, if name == "interest" { 1 } else { 0 });
                return decision;
            }
            Trigger::OwnerLost { .. } => return decision,
            Trigger::Command(body) => std::str::from_utf8(body).unwrap_or_default(),
        };
        let words: Vec<&str> = body.split(' ').collect();
        let amount: i64 = words.get(1).map_or(0, |word| word.parse().unwrap_or(0));
        match (words[0], words.get(2)) {
            ("deposit", None) => change(&mut decision, amount),
            ("once", Some(id)) => {
                change(&mut decision, amount);
                let dedup = Dedup::by_source(&topic(&account.id), None, id);
                decision.drafts[0].dedup = Some(dedup);
            }
            ("transfer", Some(to)) => {
                change(&mut decision, -amount);
                decision.command(command(to, format!("deposit {amount}")));
            }
            ("interest", None) => {
                decision.set_deadline(account.clone(), "interest", now_ms);
                decision.set_deadline(account.clone(), "never", now_ms + 3_600_000);
            }
            ("tell", Some(to)) => {
                for n in 0..amount {
                    let told = Draft::new(topic(to), "told", n.to_string());
                    decision.publish_elsewhere(told);
                }
            }
            ("hum", Some(to)) => {
                decision.flash(Draft::new(topic(&account.id), "hum", "0"));
                decision.flash_elsewhere(Draft::new(topic(to), "hum", "1"));
            }
            ("ring", Some(url)) => decision.call(Call {
                method: "POST".into(),
                url: (*url).into(),
                headers: Vec::new(),
                body: Bytes::new(),
                patience: SOON,
            }),
            ("stray", Some(to)) => decision.publish(Draft::new(topic(to), "stray", "0")),
            ("compare", Some(other)) => match state.get(&key(other)) {
                None => return Decision::load(key(other)),
                Some(None) => return Decision::answer("no other"),
                Some(Some(text)) => return Decision::answer(text.clone()),
            },
            _ => return Decision::answer("unknown"),
        }
        decision
    }
}

impl Ingest for Account {
    fn ingest(&self, draft: Draft, _now_ms: u64, _random: u128) -> Ingested {
        let name = &draft.topic.as_str()["bank/".len()..];
        match &*draft.kind {
            "deposit" => {
                let amount = String::from_utf8_lossy(&draft.data).into_owned();
                Ingested::Command(command(name, format!("deposit {amount}")))
            }
            "note" => Ingested::Publish(draft),
            kind => Ingested::Refused(format!("no `{kind}` here")),
        }
    }
}

/// Answers 503 twice, then 204.
#[derive(Debug, Default)]
struct Doorbell(AtomicUsize);

impl Outside for Doorbell {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<CallAnswer, CallError>> {
        assert!(
            call.patience <= Duration::from_secs(3),
            "{:?}",
            call.patience
        );
        let rung = self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            Ok(CallAnswer {
                status: if rung < 2 { 503 } else { 204 },
                body: Bytes::new(),
            })
        })
    }
}

/// Takes its time, and then takes it.
#[derive(Debug, Default)]
struct SlowDoor {
    rung: AtomicUsize,
    opens: tokio::sync::Notify,
}

impl Outside for SlowDoor {
    fn call(&self, _: Call) -> BoxFuture<'_, Result<CallAnswer, CallError>> {
        self.rung.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            self.opens.notified().await;
            Ok(CallAnswer {
                status: 204,
                body: Bytes::new(),
            })
        })
    }
}

fn log() -> Arc<MemoryLog> {
    let options = MemoryOptions::default();
    Arc::new(MemoryLog::new(options, Arc::new(SystemClock), 7))
}

async fn hub(log: &Arc<MemoryLog>, outside: Option<Arc<dyn Outside>>) -> Hub {
    let account = Arc::new(Account);
    let options = HubOptions {
        ownership: vec![Ownership {
            root: "bank",
            placement_key: |topic| &topic.as_str()["bank/".len()..],
        }],
        rules: Rules {
            kinds: vec![account.clone()],
            ingest: vec![("bank", account)],
            outside,
            ..Rules::default()
        },
        ..HubOptions::default()
    };
    let registry = prometheus::Registry::new();
    let hub = Hub::start(log.clone(), options, Arc::new(SystemClock), &registry).expect("fresh");
    tokio::time::timeout(SOON, hub.ready())
        .await
        .expect("ready");
    hub
}

async fn asked(hub: &Hub, name: &str, body: impl Into<Bytes>) -> String {
    let decided = hub.command(command(name, body)).await.expect("decided");
    String::from_utf8(decided.answer.to_vec()).expect("text")
}

async fn balance(hub: &Hub, name: &str) -> i64 {
    let records = hub.load(name, vec![key(name)]).await.expect("loaded");
    records[0].as_ref().map_or(0, |record| {
        std::str::from_utf8(&record.document)
            .expect("text")
            .parse()
            .expect("a number")
    })
}

/// The data of a topic's events.
async fn told(hub: &Hub, name: &str) -> Vec<i64> {
    let page = hub
        .read(&topic(name), From::Oldest, PageLimit::default())
        .await
        .expect("read");
    let data = page.events.iter().map(|one| one.event().data.clone());
    data.map(|data| String::from_utf8_lossy(&data).parse().expect("a number"))
        .collect()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_race_for_one_record_and_every_command_counts_once() {
    let log = log();
    let hubs = [hub(&log, None).await, hub(&log, None).await];
    let deposits = (0..200).map(|n| {
        let hub = hubs[n % 2].clone();
        tokio::spawn(async move { asked(&hub, "a", "deposit 1").await })
    });
    let mut answers: Vec<i64> = Vec::new();
    for deposit in futures_util::future::join_all(deposits).await {
        answers.push(deposit.expect("no panic").parse().expect("a balance"));
    }
    answers.sort_unstable();
    // Each saw the one before it: no balance was answered twice.
    assert_eq!(answers, (1..=200).collect::<Vec<_>>());
    assert_eq!(balance(&hubs[0], "a").await, 200);
    assert_eq!(told(&hubs[1], "a").await, vec![1; 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_draft_changes_nothing() {
    let log = log();
    let hub = hub(&log, None).await;
    assert_eq!(asked(&hub, "a", "once 5 first").await, "5");
    let again = hub.command(command("a", "once 5 first")).await;
    assert!(
        matches!(again, Err(CommandError::Duplicate { draft: 0, id }) if id != EventId::ORIGIN),
        "{again:?}"
    );
    assert_eq!(balance(&hub, "a").await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_elsewhere_arrives_once_and_in_order() {
    let log = log();
    let hubs = [hub(&log, None).await, hub(&log, None).await];
    let names: Vec<String> = (0..8).map(|n| format!("account-{n}")).collect();
    let mut sums: HashMap<&str, i64> = HashMap::new();
    for (n, from) in names.iter().enumerate() {
        for (m, to) in names.iter().enumerate().filter(|(m, _)| *m != n) {
            let amount = i64::try_from(n * 8 + m).expect("small");
            asked(&hubs[m % 2], from, format!("transfer {amount} {to}")).await;
            *sums.entry(from).or_default() -= amount;
            *sums.entry(to).or_default() += amount;
        }
    }
    asked(&hubs[0], "a", "tell 100 listener").await;
    for name in &names {
        let (hub, sum) = (&hubs[0], sums[name.as_str()]);
        until("every transfer arrived", || async move {
            told(hub, name).await.len() == 14 && balance(hub, name).await == sum
        })
        .await;
    }
    until("everything was told", || async {
        told(&hubs[1], "listener").await == (0..100).collect::<Vec<_>>()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flash_events_of_a_decision_reach_both_partitions() {
    let log = log();
    let hubs = [hub(&log, None).await, hub(&log, None).await];
    let mut readers = Vec::new();
    for name in ["a", "b"] {
        let mut reader = hubs[1].reader();
        let start = Start::From(From::Newest);
        let topics = vec![topic(name)];
        reader.subscribe(SubId(1), topics, &start).expect("taken");
        while !matches!(reader.next().await, Delivery::CaughtUp(..)) {}
        readers.push(reader);
    }
    assert_eq!(asked(&hubs[0], "a", "hum 0 b").await, "");
    for (reader, data) in readers.iter_mut().zip(["0", "1"]) {
        let next = tokio::time::timeout(SOON, reader.next());
        let Ok(Delivery::Flash(_, events)) = next.await else {
            panic!("no flash event");
        };
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].event().data, data);
    }
    assert!(told(&hubs[0], "a").await.is_empty());
    assert!(told(&hubs[0], "b").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_fires_once_over_two_instances() {
    let log = log();
    let hubs = [hub(&log, None).await, hub(&log, None).await];
    for n in 0..20 {
        asked(&hubs[n % 2], &format!("saver-{n}"), "deposit 10").await;
        asked(&hubs[n % 2], &format!("saver-{n}"), "interest 0").await;
    }
    for n in 0..20 {
        let (hub, name) = (&hubs[0], format!("saver-{n}"));
        let name = &name;
        until("the interest came", || async move {
            balance(hub, name).await == 11
        })
        .await;
    }
    // One more round of looks would have shown a second firing.
    asked(&hubs[0], "late", "deposit 0").await;
    asked(&hubs[0], "late", "interest 0").await;
    until("the late one", || async {
        balance(&hubs[0], "late").await == 1
    })
    .await;
    for n in 0..20 {
        assert_eq!(told(&hubs[1], &format!("saver-{n}")).await, [10, 1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_outside_is_called_until_it_takes_it() {
    let (log, bell) = (log(), Arc::new(Doorbell::default()));
    let hub = hub(&log, Some(bell.clone())).await;
    asked(&hub, "a", "ring 0 http://bell.test/").await;
    until("it rang three times", || async {
        bell.0.load(Ordering::SeqCst) == 3
    })
    .await;
    // The head of the outbox is free again.
    asked(&hub, "a", "tell 1 listener").await;
    until("the next entry", || async {
        told(&hub, "listener").await == [0]
    })
    .await;
    assert_eq!(bell.0.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_takes_longer_than_the_lease_is_nobody_elses() {
    let (log, door) = (log(), Arc::new(SlowDoor::default()));
    let first = hub(&log, Some(door.clone())).await;
    let second = hub(&log, Some(door.clone())).await;
    asked(&first, "a", "ring 0 http://bell.test/").await;
    // The other instance looks meanwhile, more than once: `OUTBOX_SWEEP` is as long as the lease.
    tokio::time::sleep(RELAY_LEASE * 3).await;
    assert_eq!(door.rung.load(Ordering::SeqCst), 1);
    door.opens.notify_one();
    asked(&first, "a", "tell 1 listener").await;
    until("the next entry", || async {
        told(&second, "listener").await == [0]
    })
    .await;
    assert_eq!(door.rung.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapters_mistakes_store_nothing() {
    let log = log();
    let hub = hub(&log, None).await;
    let here = hub.placed(topic("a")).partition;
    let mut names = ["b", "c", "d", "e", "f"].into_iter();
    let far = names.find(|name| hub.placed(topic(name)).partition != here);
    let far = far.expect("sixteen partitions do not hold them all in one");
    let stray = hub.command(command("a", format!("stray 0 {far}"))).await;
    assert!(
        matches!(stray, Err(CommandError::Undecided(_))),
        "{stray:?}"
    );
    let foreign = Command {
        kind: "other".into(),
        ..command("a", "deposit 1")
    };
    let foreign = hub.command(foreign).await;
    assert!(
        matches!(foreign, Err(CommandError::Undecided(_))),
        "{foreign:?}"
    );
    assert_eq!(asked(&hub, "a", "nonsense").await, "unknown");
    assert_eq!(asked(&hub, "a", "compare 0 b").await, "no other");
    assert!(told(&hub, "a").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_drafts_pass_through_the_owners_rules() {
    let log = log();
    let hub = hub(&log, None).await;
    let draft = |kind: &str, data: &'static str| Draft::new(topic("a"), kind, data);
    let drafts = [
        draft("note", "1"),
        draft("deposit", "5"),
        draft("note", "2"),
    ];
    let judged: Vec<_> = drafts
        .into_iter()
        .map(|draft| hub.ingested(draft).expect("taken"))
        .collect();
    let results = hub.ingest(judged).await;
    let outcomes: Vec<_> = results
        .iter()
        .map(|one| one.as_ref().expect("stored").outcome)
        .collect();
    assert_eq!(outcomes, [Outcome::New; 3]);
    assert_eq!(told(&hub, "a").await, [1, 5, 2]);
    assert_eq!(balance(&hub, "a").await, 5);
    let refused = hub.ingested(draft("withdraw", "5"));
    assert!(
        matches!(refused, Err(PublishError::NotTaken(_))),
        "{refused:?}"
    );
}
