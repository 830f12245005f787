//! Cursors, event ids and `prev`: what clients hold on to, and hand in again.

use std::sync::Arc;

use tidings_core::{At, Cursor, EventId, Partitions, Placed, Prev, Topic, TopicSet};

/// The first line names topics, the second is a cursor over them. The rest moves one through print:
/// a byte for the topic, seven for its place.
pub fn cursor(input: &[u8]) {
    let (names, rest) = crate::first_line(input);
    let (text, places) = crate::first_line(rest);
    let text = String::from_utf8_lossy(text);
    id(&text);
    let placed = |name: &str| {
        let topic = Topic::parse(name).ok()?;
        let partition = Partitions::DEFAULT.of(topic.as_str());
        Some(Placed { partition, topic })
    };
    let names = String::from_utf8_lossy(names);
    let topics = names.split(' ').filter_map(placed).collect();
    let Ok(set) = TopicSet::new(topics) else {
        return;
    };
    if let Ok(cursor) = Cursor::parse(&set, &text) {
        there_and_back(&set, &cursor);
    }

    let mut at = At {
        cursor: Cursor::everywhere(&set, EventId::ORIGIN),
        set: Arc::new(set),
    };
    let (moves, _) = places.as_chunks::<8>();
    for &[which, ref place @ ..] in moves {
        let position = usize::from(which) % at.set.topics().len();
        let mut wide = [0; 8];
        wide[1..].copy_from_slice(place);
        let Some(place) = EventId::from_integer(u64::from_be_bytes(wide)) else {
            continue;
        };
        if which >= 128 {
            at.cursor.places_mut()[position] = place;
        } else {
            let before = at.cursor.places().to_vec();
            at.pass(position, place);
            let places = at.cursor.places().iter().zip(&before);
            assert!(places.clone().all(|(after, before)| after >= before));
            assert!(at.cursor.places()[position] >= place);
        }
        there_and_back(&at.set, &at.cursor);
    }
}

fn there_and_back(set: &TopicSet, cursor: &Cursor) {
    let printed = cursor.print(set);
    // It stands in an `id:` line, a URL and a JSON string as it is.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    assert!(printed.bytes().all(plain), "{printed}");
    assert_eq!(Cursor::parse(set, &printed).as_ref(), Ok(cursor));
}

fn id(text: &str) {
    if let Some(id) = EventId::parse(text) {
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(EventId::from_integer(id.as_integer()), Some(id));
        assert!(id.as_integer() < 1 << 53);
        assert!(id.next() > id);
    }
    let prev = Prev::parse(text);
    assert_eq!(Prev::parse(&prev.to_string()), prev);
}
