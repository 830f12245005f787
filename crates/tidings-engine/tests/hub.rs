//! Hubs over one log: what readers get through window and log on one path.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{Draft, EventId, From, PageLimit, Start, SubId, Topic, Verdict};
use tidings_engine::{Delivery, Hub, HubOptions, Limits, Reader};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};

/// Long enough for a busy machine; nothing waits for it to pass.
const SOON: Duration = Duration::from_secs(20);

fn log() -> Arc<MemoryLog> {
    Arc::new(MemoryLog::new(
        MemoryOptions::default(),
        Arc::new(SystemClock),
        7,
    ))
}

async fn hub_with(log: Arc<MemoryLog>, limits: Limits) -> (Hub, prometheus::Registry) {
    let registry = prometheus::Registry::new();
    let options = HubOptions {
        limits,
        ..HubOptions::default()
    };
    let hub = Hub::start(log, options, Arc::new(SystemClock), &registry).expect("a fresh registry");
    tokio::time::timeout(SOON, hub.ready())
        .await
        .expect("ready");
    (hub, registry)
}

async fn hub(log: &Arc<MemoryLog>) -> Hub {
    hub_with(log.clone(), Limits::default()).await.0
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("valid")
}

fn draft(name: &str, n: usize) -> Draft {
    Draft::new(topic(name), "count", n.to_string())
}

async fn publish(hub: &Hub, drafts: Vec<Draft>) -> Vec<EventId> {
    hub.publish(drafts)
        .await
        .into_iter()
        .map(|one| one.expect("stored").id)
        .collect()
}

async fn next(reader: &mut Reader) -> Delivery {
    tokio::time::timeout(SOON, reader.next())
        .await
        .expect("a delivery in time")
}

/// Reads until so many events have come; asserts that no verdict but `ok` interrupts.
async fn take(reader: &mut Reader, count: usize) -> (Vec<(String, String)>, String) {
    let (mut taken, mut cursor) = (Vec::new(), String::new());
    while taken.len() < count {
        match next(reader).await {
            Delivery::Events(_, batch) => {
                cursor = batch.after().print();
                taken.extend(batch.events.iter().map(|one| {
                    let event = one.event();
                    (
                        event.topic.to_string(),
                        String::from_utf8_lossy(&event.data).into_owned(),
                    )
                }));
            }
            Delivery::Verdict(_, topic, verdict) => panic!("{topic}: {verdict}"),
            Delivery::Subscribed(_, at) | Delivery::CaughtUp(_, at) => cursor = at.print(),
            Delivery::Fetched(..) => panic!("nothing was fetched"),
            Delivery::Flash(..) => panic!("nothing was flashed"),
            Delivery::View(..) => panic!("nothing is watched"),
        }
    }
    (taken, cursor)
}

fn metric(registry: &prometheus::Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|one| one.name() == name).expect(name);
    family
        .get_metric()
        .iter()
        .map(|one| one.get_counter().get_value() + one.get_gauge().get_value())
        .sum()
}

#[tokio::test]
async fn what_is_published_on_one_instance_is_read_on_the_other_at_once() {
    let log = log();
    let (a, b) = (hub(&log).await, hub(&log).await);
    let mut place = From::Oldest;
    for n in 0..200 {
        let id = publish(&a, vec![draft("demo/a", n)]).await[0];
        let page = b
            .read(&topic("demo/a"), place, PageLimit::default())
            .await
            .expect("the log is there");
        assert_eq!(page.events.len(), 1, "{n}");
        assert_eq!(page.next, id);
        assert!(page.at_end);
        place = From::After(page.next);
    }
}

#[tokio::test]
async fn a_reader_resumes_on_the_other_instance_without_loss_or_repetition() {
    let log = log();
    let hubs = [hub(&log).await, hub(&log).await];
    let topics = vec![topic("demo/a"), topic("demo/b"), topic("demo/c")];
    let publisher = tokio::spawn({
        let hub = hubs[0].clone();
        async move {
            for n in 0..1500 {
                publish(&hub, vec![draft(["demo/a", "demo/b", "demo/c"][n % 3], n)]).await;
            }
        }
    });
    let mut all: HashMap<String, Vec<usize>> = HashMap::new();
    let mut start = Start::From(From::Oldest);
    let mut turn = 0;
    while all.values().map(Vec::len).sum::<usize>() < 1500 {
        let mut reader = hubs[turn % 2].reader();
        turn += 1;
        reader
            .subscribe(SubId(0), topics.clone(), &start)
            .expect("a good cursor");
        let (taken, cursor) = take(&mut reader, 1).await;
        for (topic, data) in taken {
            all.entry(topic)
                .or_default()
                .push(data.parse().expect("a number"));
        }
        start = Start::Cursor(cursor);
    }
    publisher.await.expect("published");
    assert!(turn > 3, "resumed {turn} times");
    for (offset, name) in ["demo/a", "demo/b", "demo/c"].iter().enumerate() {
        let expected: Vec<usize> = (0..1500).filter(|n| n % 3 == offset).collect();
        assert_eq!(all[*name], expected, "{name}");
    }
}

#[tokio::test]
async fn a_slow_reader_falls_out_of_the_window_and_still_gets_everything() {
    let limits = Limits {
        window_bytes: 20_000,
        ..Limits::default()
    };
    let (hub, registry) = hub_with(log(), limits).await;
    let mut reader = hub.reader();
    reader
        .subscribe(SubId(0), vec![topic("demo/a")], &Start::From(From::Newest))
        .expect("subscribed");
    assert!(matches!(next(&mut reader).await, Delivery::Subscribed(..)));
    for chunk in (0..5000).collect::<Vec<_>>().chunks(100) {
        publish(&hub, chunk.iter().map(|n| draft("demo/a", *n)).collect()).await;
    }
    let (taken, _) = take(&mut reader, 5000).await;
    let numbers: Vec<usize> = taken
        .iter()
        .map(|(_, data)| data.parse().expect("a number"))
        .collect();
    assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
    assert!(
        metric(&registry, "tidings_log_reads_total") > 0.0,
        "it read from the log"
    );
    assert!(metric(&registry, "tidings_window_bytes") <= 20_000.0);
}

#[tokio::test]
async fn a_storm_of_cursors_inside_the_window_reads_nothing_from_the_log() {
    let (hub, registry) = hub_with(log(), Limits::default()).await;
    let ids = publish(&hub, (0..200).map(|n| draft("demo/a", n)).collect()).await;
    let mut watcher = hub.reader();
    watcher
        .subscribe(
            SubId(0),
            vec![topic("demo/a")],
            &Start::From(From::After(ids[199])),
        )
        .expect("subscribed");
    while !matches!(next(&mut watcher).await, Delivery::CaughtUp(..)) {}
    let before = metric(&registry, "tidings_log_reads_total");
    for n in 0..10_000 {
        let from = n % 199;
        let mut reader = hub.reader();
        reader
            .subscribe(
                SubId(0),
                vec![topic("demo/a")],
                &Start::From(From::After(ids[from])),
            )
            .expect("subscribed");
        let (taken, _) = take(&mut reader, 1).await;
        assert_eq!(taken[0].1, (from + 1).to_string());
    }
    assert_eq!(metric(&registry, "tidings_log_reads_total"), before);
}

#[tokio::test]
async fn verdicts_reach_the_reader_and_all_that_is_retained_follows() {
    let log = log();
    let hub = hub(&log).await;
    let ids = publish(&hub, (0..5).map(|n| draft("demo/a", n)).collect()).await;
    let ahead = EventId::new(ids[4].ms() + 3_600_000, 0).expect("in range");
    let missing = EventId::new(ids[0].ms(), ids[0].seq() + 1).filter(|id| !ids.contains(id));
    let mut cases = vec![(ahead, Verdict::Ahead)];
    cases.extend(
        missing
            .filter(|id| *id < ids[4])
            .map(|id| (id, Verdict::Diverged)),
    );
    for (place, expected) in cases {
        let mut reader = hub.reader();
        reader
            .subscribe(
                SubId(9),
                vec![topic("demo/a")],
                &Start::From(From::After(place)),
            )
            .expect("subscribed");
        match next(&mut reader).await {
            Delivery::Verdict(SubId(9), name, verdict) => {
                assert_eq!((name, verdict), (topic("demo/a"), expected))
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(take(&mut reader, 5).await.0.len(), 5);
    }
}

#[tokio::test]
async fn a_lost_suffix_resets_whoever_saw_it_and_nobody_else() {
    let log = log();
    let hub = hub(&log).await;
    let ids = publish(&hub, (0..5).map(|n| draft("demo/a", n)).collect()).await;
    let (mut past, mut behind) = (hub.reader(), hub.reader());
    past.subscribe(SubId(0), vec![topic("demo/a")], &Start::From(From::Oldest))
        .expect("subscribed");
    assert_eq!(take(&mut past, 5).await.0.len(), 5);
    behind
        .subscribe(
            SubId(0),
            vec![topic("demo/a")],
            &Start::From(From::After(ids[1])),
        )
        .expect("subscribed");
    let partition = hub.placed(topic("demo/a")).partition;
    log.lose_suffix(partition, ids[2])
        .expect("the log is there");
    let new = publish(&hub, vec![draft("demo/a", 99)]).await;
    let verdict = loop {
        match next(&mut past).await {
            Delivery::Verdict(_, _, verdict) => break verdict,
            Delivery::CaughtUp(..) => {}
            other => panic!("nothing newer before the verdict: {other:?}"),
        }
    };
    // `ahead` when it was judged before the new event stood there.
    assert!(
        matches!(verdict, Verdict::Diverged | Verdict::Ahead),
        "{verdict}"
    );
    let (taken, cursor) = take(&mut past, 4).await;
    let numbers: Vec<&str> = taken.iter().map(|(_, data)| data.as_str()).collect();
    assert_eq!(numbers, ["0", "1", "2", "99"]);
    assert_eq!(cursor, new[0].to_string());
    let (taken, _) = take(&mut behind, 2).await;
    assert_eq!([taken[0].1.as_str(), taken[1].1.as_str()], ["2", "99"]);
}

#[tokio::test]
async fn a_fetch_beside_a_live_subscription_on_the_same_topic() {
    let hub = hub(&log()).await;
    let ids = publish(&hub, (0..10).map(|n| draft("demo/a", n)).collect()).await;
    let mut reader = hub.reader();
    reader
        .subscribe(SubId(1), vec![topic("demo/a")], &Start::From(From::Newest))
        .expect("subscribed");
    reader
        .fetch(SubId(2), topic("demo/a"), From::After(ids[3]), Some(ids[7]))
        .expect("room");
    let (mut fetched, mut done) = (0, false);
    publish(&hub, vec![draft("demo/a", 10)]).await;
    let mut live = 0;
    while !done || live == 0 {
        match next(&mut reader).await {
            Delivery::Events(SubId(2), batch) => fetched += batch.events.len(),
            Delivery::Events(_, batch) => live += batch.events.len(),
            Delivery::Fetched(SubId(2), verdict) => {
                assert_eq!(verdict, Verdict::Ok);
                done = true;
            }
            _ => {}
        }
    }
    assert_eq!((fetched, live), (4, 1));
}

#[tokio::test]
async fn flash_events_reach_who_is_live_on_every_instance_and_nobody_else() {
    let log = log();
    let (a, b) = (hub(&log).await, hub(&log).await);
    let mut readers = [a.reader(), b.reader()];
    for reader in &mut readers {
        let topics = vec![topic("demo/a"), topic("demo/b")];
        let start = Start::From(From::Newest);
        reader.subscribe(SubId(1), topics, &start).expect("taken");
        while !matches!(next(reader).await, Delivery::CaughtUp(..)) {}
    }
    let flashed = vec![draft("demo/a", 1), draft("demo/c", 2), draft("demo/b", 3)];
    a.flash(flashed).await.expect("handed out");
    for reader in &mut readers {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let Delivery::Flash(SubId(1), events) = next(reader).await else {
                panic!("only flash events come");
            };
            seen.extend(events.iter().map(|one| one.event().data.clone()));
        }
        seen.sort();
        assert_eq!(seen, ["1", "3"]);
    }
    let late = a
        .read(&topic("demo/a"), From::Oldest, PageLimit::default())
        .await;
    assert!(late.expect("read").events.is_empty());
    let mut late = b.reader();
    let start = Start::From(From::Oldest);
    late.subscribe(SubId(1), vec![topic("demo/a")], &start)
        .expect("taken");
    publish(&a, vec![draft("demo/a", 4)]).await;
    assert_eq!(take(&mut late, 1).await.0[0].1, "4");
    let large = Draft::new(topic("demo/a"), "k", vec![b'1'; (64 << 10) + 1]);
    assert!(a.flash(vec![large]).await.is_err());
    a.stop().await;
    assert!(a.flash(vec![draft("demo/a", 1)]).await.is_err());
}
