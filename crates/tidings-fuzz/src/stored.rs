//! What is read from Redis: entries of the logs' streams, and of the ingest stream, where anybody
//! writes who can.

use redis::Value;
use tidings_core::Event;
use tidings_log_redis::fuzz;

use crate::publishing;

/// Values, one a line, an entry's behind each other: its id, then names and values in turn. An
/// empty line ends an entry.
fn values(input: &[u8]) -> Vec<Value> {
    let mut entries = Vec::new();
    let (mut rest, mut entry) = (input, Vec::new());
    while !rest.is_empty() {
        let (line, after) = crate::first_line(rest);
        rest = after;
        if line.is_empty() || rest.is_empty() {
            let mut entry = std::mem::take(&mut entry).into_iter();
            if let Some(id) = entry.next() {
                entries.push(Value::Array(vec![id, Value::Array(entry.collect())]));
            }
        }
        entry.push(match line {
            b"nil" => Value::Nil,
            line => match line.strip_prefix(b"+") {
                Some(simple) => Value::SimpleString(String::from_utf8_lossy(simple).into_owned()),
                None => Value::BulkString(line.to_vec()),
            },
        });
        if line.is_empty() {
            entry.clear();
        }
    }
    entries
}

/// See [`values`].
pub fn entries(input: &[u8]) {
    let answer = values(input);
    let count = answer.len();
    let Some(read) = fuzz::entries(Value::Array(answer)) else {
        return;
    };
    assert_eq!(read.len(), count, "an entry is missing");
    read.iter().flatten().for_each(stored_again);
}

/// What was read is written as it was.
fn stored_again(event: &Event) {
    let attributes = fuzz::attributes(event.attributes.as_deref());
    let prev = match event.prev {
        tidings_core::Prev::Event(id) => id.as_integer().to_string(),
        tidings_core::Prev::NoneSince(id) => format!("-{}", id.as_integer()),
        tidings_core::Prev::Unknown => "unknown".to_owned(),
    };
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    let fields = vec![
        text("t"),
        text(event.topic.as_str()),
        text("k"),
        text(&event.kind),
        text("p"),
        text(&prev),
        text("a"),
        text(&attributes),
        text("d"),
        Value::BulkString(event.data.to_vec()),
    ];
    let entry = Value::Array(vec![text(&event.id.to_string()), Value::Array(fields)]);
    let again = fuzz::entries(Value::Array(vec![entry])).expect("well formed");
    assert_eq!(again, [Ok(event.clone())]);
}

/// See [`values`].
pub fn ingest(input: &[u8]) {
    let read = Value::Array(values(input));
    let answer = Value::Array(vec![Value::Array(vec![
        Value::BulkString(b"tidings:ingest".to_vec()),
        read,
    ])]);
    let Some((entries, _gone)) = fuzz::ingest(answer) else {
        return;
    };
    for entry in entries {
        match tidings_server::fuzz::ingest(&entry) {
            Ok(draft) => {
                assert!(draft.dedup.is_some(), "an entry would be stored twice");
                publishing::printed(&draft);
            }
            Err(problem) => assert!((400..500).contains(&problem.cause.status())),
        }
    }
}
