//! Listing: a page of an index, in one short script that may be asked twice without harm.

use std::sync::Arc;

use redis::Value;
use tidings_core::limits::PAGE_BYTES_MAX;
use tidings_core::record::RANK_MAX;
use tidings_core::{Listed, Listing, LogError, Partition, Rank, Record, RecordKey, Version};

use super::number;
use crate::entry::bytes_of;
use crate::log::RedisLog;
use crate::reading::unknown_answer;
use crate::scripts::LIST;

/// A rank as it sorts as text: 2^53 has sixteen digits.
pub(super) fn rank(rank: u64) -> String {
    format!("{rank:016}")
}

impl RedisLog {
    pub(super) async fn page_of(
        &self,
        partition: Partition,
        kind: &Arc<str>,
        index: &str,
        after: Option<Rank>,
        limit: usize,
    ) -> Result<Listing, LogError> {
        if after.as_ref().is_some_and(|place| place.rank > RANK_MAX) {
            // Nothing stands there, and it would not sort as text.
            let (entries, next) = (Vec::new(), None);
            return Ok(Listing { entries, next });
        }
        let keys = &self.recording.keys;
        let mut call = LIST.call(&[keys.state(partition), keys.indexes(partition, kind)]);
        call.arg(keys.records(partition, kind)).arg(index);
        match after {
            Some(place) => call.arg(format!("{}:{}", rank(place.rank), place.id)),
            None => call.arg(""),
        };
        call.arg(limit).arg(PAGE_BYTES_MAX);
        let answers = self.reading.ask_script(partition, &LIST, vec![call]);
        let answer = answers.await?.into_iter().next();
        let listing = answer.and_then(|answer| parse_listing(answer, kind));
        listing.ok_or_else(unknown_answer)
    }
}

fn parse_listing(answer: Value, kind: &Arc<str>) -> Option<Listing> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let next = match String::from_utf8(bytes_of(parts.next()?)?).ok()?.as_str() {
        "" => None,
        place => {
            let (rank, id) = place.split_once(':')?;
            Some(Rank {
                rank: rank.parse().ok()?,
                id: id.into(),
            })
        }
    };
    let mut entries = Vec::with_capacity(parts.len() / 4);
    while let Some(rank) = parts.next() {
        let rank = number(&bytes_of(rank)?)?;
        let id = String::from_utf8(bytes_of(parts.next()?)?).ok()?;
        let version = Version(number(&bytes_of(parts.next()?)?)?);
        let document = bytes_of(parts.next()?)?.into();
        entries.push(Listed {
            rank,
            key: RecordKey::new(Arc::clone(kind), id),
            record: Record { version, document },
        });
    }
    Some(Listing { entries, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read() {
        let text = |text: &str| Value::BulkString(text.into());
        let parse = |parts: Vec<Value>| parse_listing(Value::Array(parts), &"kind".into());
        let one = || {
            [
                text("0000000000000017"),
                text("id: 1"),
                text("9"),
                text("{}"),
            ]
        };
        let place = |rank, id: &str| Rank {
            rank,
            id: id.into(),
        };
        let mut whole = vec![text("0000000000000017:id: 1")];
        whole.extend(one());
        let listing = parse(whole).expect("well formed");
        assert_eq!(listing.next, Some(place(17, "id: 1")));
        assert_eq!(listing.entries[0].place(), place(17, "id: 1"));
        assert_eq!(listing.entries[0].record.version, Version(9));
        let nothing = parse(vec![text("")]).expect("well formed");
        assert_eq!((nothing.entries.len(), nothing.next), (0, None));
        assert_eq!(parse(Vec::new()), None);
        assert_eq!(parse(vec![text("x")]), None);
        assert_eq!(
            parse(vec![text(""), text("1"), text("id"), text("9")]),
            None
        );
        assert_eq!(parse_listing(Value::Nil, &"kind".into()), None);
    }

    #[test]
    fn ranks_sort_as_text() {
        let ranks = [0, 9, 10, 1_732_161_600_000, RANK_MAX];
        let texts = ranks.map(rank);
        assert!(texts.is_sorted() && texts.iter().all(|text| text.len() == 16));
    }
}
