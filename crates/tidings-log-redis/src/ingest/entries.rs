//! The entries of an `XREADGROUP`, as they were written.

use bytes::Bytes;
use redis::Value;

use crate::entry::bytes_of;

/// One entry as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// Its id in the ingest stream, `<ms>-<seq>`: rises, and serves as the dedup key.
    pub id: String,
    /// Names and values in their order.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// Entries, and the ids of pending ones that somebody has deleted; `None` when the answer has
/// another shape.
pub(crate) fn raw_entries(answer: Value) -> Option<(Vec<RawEntry>, Vec<String>)> {
    let (mut entries, mut gone) = (Vec::new(), Vec::new());
    let Value::Array(streams) = answer else {
        return (answer == Value::Nil).then_some((entries, gone));
    };
    for stream in streams {
        let Value::Array(parts) = stream else {
            return None;
        };
        let [_, read] = <[Value; 2]>::try_from(parts).ok()?;
        let Value::Array(read) = read else {
            return None;
        };
        for entry in read {
            let Value::Array(parts) = entry else {
                return None;
            };
            let [id, fields] = <[Value; 2]>::try_from(parts).ok()?;
            let id = String::from_utf8(bytes_of(id)?).ok()?;
            let Value::Array(fields) = fields else {
                gone.push(id);
                continue;
            };
            let fields: Option<Vec<Bytes>> = fields
                .into_iter()
                .map(|f| bytes_of(f).map(Bytes::from))
                .collect();
            let fields = fields?
                .as_chunks::<2>()
                .0
                .iter()
                .map(|[n, v]| (n.clone(), v.clone()))
                .collect();
            entries.push(RawEntry { id, fields });
        }
    }
    Some((entries, gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_deleted_ones_are_read() {
        let text = |s: &str| Value::BulkString(s.into());
        let entry = |id: &str, fields| Value::Array(vec![text(id), fields]);
        let answer = Value::Array(vec![Value::Array(vec![
            text("tidings:ingest"),
            Value::Array(vec![
                entry("5-0", Value::Array(vec![text("topic"), text("a")])),
                entry("5-1", Value::Nil),
            ]),
        ])]);
        let (entries, gone) = raw_entries(answer).expect("well formed");
        assert_eq!(
            entries[0].fields,
            [(Bytes::from("topic"), Bytes::from("a"))]
        );
        assert_eq!(gone, ["5-1"]);
        assert_eq!(raw_entries(Value::Nil), Some((vec![], vec![])));
        assert_eq!(raw_entries(Value::Int(1)), None);
    }
}
