//! What every publish and every event costs in text: reading a draft, printing an event.
//! `cargo bench -p tidings-server`.

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use tidings_core::{Event, EventId, Prev, Topic};
use tidings_server::print::{DATA_SSE, EVENT_JSON, EVENT_SSE};
use tidings_server::wire::{Fields, Form};

fn wire(criterion: &mut Criterion) {
    let data = format!("\"{}\"", "x".repeat(254));
    let body = format!(r#"{{"topic":"bench/wire","type":"bench","data":{data}}}"#);
    criterion.bench_function("read a draft", |bencher| {
        bencher.iter(|| {
            let fields = Fields::from_json(body.as_bytes()).expect("JSON");
            fields.into_draft(Form::Native).expect("a draft")
        });
    });
    let event = Event {
        id: EventId::new(1_732_161_600_000, 7).expect("in range"),
        prev: Prev::NoneSince(EventId::ORIGIN),
        topic: Topic::parse("bench/wire").expect("valid"),
        kind: "bench".into(),
        data: Bytes::from(data),
        attributes: None,
    };
    for variant in [EVENT_JSON, EVENT_SSE, DATA_SSE] {
        criterion.bench_function(&format!("print {}", variant.name), |bencher| {
            bencher.iter(|| (variant.print)(&event));
        });
    }
}

criterion_group!(benches, wire);
criterion_main!(benches);
