//! Queries of reads, with what `EventSource` sends when it comes back.

use tidings_core::{Cursor, Partitions, Placed, Start, TopicSet};

/// The first line is the query, the rest `Last-Event-ID`.
pub fn parameters(input: &[u8]) {
    let (query, last) = crate::first_line(input);
    let (query, last) = (
        String::from_utf8_lossy(query),
        String::from_utf8_lossy(last),
    );
    let last = (!last.is_empty()).then_some(&*last);
    match tidings_server::fuzz::parameters(&query, last) {
        Ok((topics, start)) => {
            if let Some(last) = last {
                assert_eq!(start, Start::Cursor(last.to_owned()), "the header wins");
            }
            let placed = topics.into_iter().map(|topic| Placed {
                partition: Partitions::DEFAULT.of(topic.as_str()),
                topic,
            });
            if let (Ok(set), Start::Cursor(text)) = (TopicSet::new(placed.collect()), start)
                && let Ok(cursor) = Cursor::parse(&set, &text)
            {
                assert_eq!(Cursor::parse(&set, &cursor.print(&set)), Ok(cursor));
            }
        }
        Err(problem) => assert!((400..500).contains(&problem.cause.status())),
    }
}
