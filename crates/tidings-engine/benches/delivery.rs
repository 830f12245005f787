//! The inner loop of a delivery: from the tail's step through the window to every reader, without a
//! socket. `cargo bench -p tidings-engine`.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidings_core::{Draft, From, Start, SubId, Topic};
use tidings_engine::{Delivery, Hub, HubOptions, Reader};
use tidings_log_memory::{MemoryLog, MemoryOptions, SystemClock};
use tokio::runtime::Runtime;

fn topic() -> Topic {
    Topic::parse("bench/delivery").expect("valid")
}

async fn hub() -> Hub {
    let clock = Arc::new(SystemClock);
    let log = Arc::new(MemoryLog::new(MemoryOptions::default(), clock.clone(), 7));
    let registry = prometheus::Registry::new();
    let hub = Hub::start(log, HubOptions::default(), clock, &registry).expect("a fresh registry");
    hub.ready().await;
    hub
}

/// A reader that is level.
async fn level(hub: &Hub) -> Reader {
    let mut reader = hub.reader();
    let start = Start::From(From::Newest);
    reader
        .subscribe(SubId(0), vec![topic()], &start)
        .expect("within the bounds");
    until_level(&mut reader).await;
    reader
}

/// Takes what there is; how many events came.
async fn until_level(reader: &mut Reader) -> usize {
    let mut events = 0;
    loop {
        match reader.next().await {
            Delivery::Events(_, batch) => events += batch.events.len(),
            Delivery::CaughtUp(..) => return events,
            _ => {}
        }
    }
}

async fn publish(hub: &Hub, count: usize) {
    let data = format!("\"{}\"", "x".repeat(254));
    let drafts = std::iter::repeat_n(Draft::new(topic(), "bench", data), count);
    for stored in hub.publish(drafts.collect()).await {
        stored.expect("stored");
    }
}

/// Publishes and lets every reader take it all.
async fn deliver(hub: &Hub, readers: &mut [Reader], events: usize) {
    publish(hub, events).await;
    for reader in readers {
        let mut missing = events;
        while missing > 0 {
            missing -= until_level(reader).await;
        }
    }
}

fn deliveries(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("delivery");
    for (readers, events) in [(1, 1), (1000, 1), (1000, 10)] {
        let hub = runtime.block_on(hub());
        let mut crowd: Vec<Reader> = (0..readers)
            .map(|_| runtime.block_on(level(&hub)))
            .collect();
        group.throughput(Throughput::Elements((readers * events) as u64));
        let name = BenchmarkId::new(format!("{readers} readers"), format!("{events} at once"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(deliver(&hub, &mut crowd, events)));
        });
    }
    group.finish();
}

criterion_group!(benches, deliveries);
criterion_main!(benches);
