//! What an outbox entry is, as bytes: a version, a word for what follows, and its parts with their
//! lengths before them.
//!
//! Binary, because data and bodies come back byte for byte and most of an entry is one of them. An
//! entry may wait through a deploy: an older instance leaves what a later version wrote alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use tidings_core::{Call, Command, Dedup, Draft, OutboxItem, RecordKey, Topic};

use crate::entry::{parse_attributes, print_attributes};

/// The version of everything in this file.
const VERSION: u8 = 1;

const DRAFT: u8 = b'd';
const FLASH: u8 = b'f';
const COMMAND: u8 = b'c';
const CALL: u8 = b'h';

pub(super) fn print(item: &OutboxItem) -> Vec<u8> {
    /// The parts' lengths, for all but the longest lists of headers.
    const LENGTHS: usize = 64;
    let mut out = Vec::with_capacity(item.weight() + LENGTHS);
    out.put_u8(VERSION);
    match item {
        OutboxItem::Draft(draft) => {
            out.put_u8(DRAFT);
            print_draft(&mut out, draft);
        }
        OutboxItem::Flash(draft) => {
            out.put_u8(FLASH);
            print_draft(&mut out, draft);
        }
        OutboxItem::Command(command) => {
            out.put_u8(COMMAND);
            part(&mut out, command.kind.as_bytes());
            part(&mut out, command.placement_key.as_bytes());
            count(&mut out, command.records.len());
            for key in &command.records {
                part(&mut out, key.kind.as_bytes());
                part(&mut out, key.id.as_bytes());
            }
            part(&mut out, &command.body);
        }
        OutboxItem::Call(call) => {
            out.put_u8(CALL);
            part(&mut out, call.method.as_bytes());
            part(&mut out, call.url.as_bytes());
            count(&mut out, call.headers.len());
            for (name, value) in &call.headers {
                part(&mut out, name.as_bytes());
                part(&mut out, value.as_bytes());
            }
            part(&mut out, &call.body);
            out.put_u64(u64::try_from(call.patience.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    out
}

/// `None` when these bytes are no item of this version.
pub(super) fn parse(bytes: Bytes) -> Option<OutboxItem> {
    let mut rest = Rest(bytes);
    if rest.byte()? != VERSION {
        return None;
    }
    let item = match rest.byte()? {
        DRAFT => OutboxItem::Draft(rest.draft()?),
        FLASH => OutboxItem::Flash(rest.draft()?),
        COMMAND => OutboxItem::Command(Command {
            kind: rest.text()?,
            placement_key: rest.text()?,
            records: rest.list(|rest| Some(RecordKey::new(rest.text()?, rest.text()?)))?,
            body: rest.part()?,
        }),
        CALL => OutboxItem::Call(Call {
            method: rest.text()?,
            url: rest.text()?,
            headers: rest.list(|rest| Some((rest.text()?, rest.text()?)))?,
            body: rest.part()?,
            patience: Duration::from_nanos(rest.number()?),
        }),
        _ => return None,
    };
    rest.0.is_empty().then_some(item)
}

fn print_draft(out: &mut Vec<u8>, draft: &Draft) {
    part(out, draft.topic.as_str().as_bytes());
    part(out, draft.kind.as_bytes());
    let attributes = print_attributes(draft.attributes.as_deref());
    part(out, attributes.as_bytes());
    out.put_u8(draft.dedup.is_some().into());
    if let Some(dedup) = &draft.dedup {
        part(out, dedup.scope.as_bytes());
        part(out, dedup.key.as_bytes());
        out.put_u64(dedup.lifetime_ms);
    }
    part(out, &draft.data);
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    count(out, bytes.len());
    out.put_slice(bytes);
}

fn count(out: &mut Vec<u8>, count: usize) {
    // Whatever is in an item is bounded by a few mebibytes.
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

/// What has not been read yet.
struct Rest(Bytes);

impl Rest {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.0.len()).then(|| self.0.split_to(count))
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn count(&mut self) -> Option<usize> {
        let bytes: [u8; 4] = self.take(4)?[..].try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let bytes: [u8; 8] = self.take(8)?[..].try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    fn part(&mut self) -> Option<Bytes> {
        let count = self.count()?;
        self.take(count)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        Some(Arc::from(std::str::from_utf8(&self.part()?).ok()?))
    }

    fn draft(&mut self) -> Option<Draft> {
        Some(Draft {
            topic: Topic::parse(&self.text()?).ok()?,
            kind: self.text()?,
            attributes: parse_attributes(&self.part()?)?,
            dedup: match self.byte()? {
                0 => None,
                _ => Some(Dedup {
                    scope: self.text()?,
                    key: self.text()?,
                    lifetime_ms: self.number()?,
                }),
            },
            data: self.part()?,
        })
    }

    /// Stops where the bytes do, whatever the count says.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::Attributes;

    fn items() -> Vec<OutboxItem> {
        let topic = Topic::parse("demo/a").expect("valid");
        let plain = Draft::new(topic, "greeting", &b"{ \"a\":1 }\r\n"[..]);
        let full = Draft {
            attributes: Some(Box::new(Attributes {
                subject: Some("ü\"".into()),
                ..Attributes::default()
            })),
            dedup: Some(Dedup {
                scope: "s".into(),
                key: "".into(),
                lifetime_ms: u64::MAX,
            }),
            ..plain.clone()
        };
        let command = Command {
            kind: "exam.kind".into(),
            placement_key: "p".into(),
            records: vec![RecordKey::new("k", ""), RecordKey::new("k", "a\0b")],
            body: vec![0, 255].into(),
        };
        let call = Call {
            method: "POST".into(),
            url: "https://example.org".into(),
            headers: vec![("a".into(), "b".into()), ("".into(), "".into())],
            body: Bytes::new(),
            patience: Duration::from_nanos(5_000_000_001),
        };
        vec![
            OutboxItem::Draft(plain.clone()),
            OutboxItem::Draft(full),
            OutboxItem::Flash(plain),
            OutboxItem::Command(command),
            OutboxItem::Call(call),
        ]
    }

    #[test]
    fn items_go_there_and_back() {
        for item in items() {
            assert_eq!(parse(print(&item).into()), Some(item));
        }
    }

    #[test]
    fn what_is_no_item_is_none() {
        for item in items() {
            let printed = Bytes::from(print(&item));
            for end in 0..printed.len() {
                assert_eq!(parse(printed.slice(..end)), None, "{end} bytes of {item:?}");
            }
            let mut longer = printed.to_vec();
            longer.push(0);
            assert_eq!(parse(longer.into()), None);
            // Any byte may be any other: it is read or not, and nothing panics.
            for place in 0..printed.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut other = printed.to_vec();
                    other[place] = byte;
                    let _ = parse(other.into());
                }
            }
        }
        // Counts that would fill the memory.
        let huge = [&[VERSION, COMMAND][..], &[0; 8], &[0xff; 4]].concat();
        assert_eq!(parse(huge.into()), None);
        let later = [&[VERSION + 1][..], &print(&items()[0])[1..]].concat();
        assert_eq!(parse(later.into()), None);
    }
}
