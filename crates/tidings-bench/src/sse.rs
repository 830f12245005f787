//! An event stream as it arrives (WHATWG HTML §9.2.6), down to what a check needs of it.
//!
//! An event counts when the blank line that dispatches it has come, as in a browser. Lines that
//! arrive whole are looked at where they lie; only one that is cut by a read is copied.

use anyhow::{Result, bail};

use crate::stamp::Stamp;

/// A line longer than this is not ours: payloads are at most 64 KiB.
const LINE_MAX: usize = 1024 * 1024;

/// One dispatched block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Data with a stamp in it.
    Stamped(Stamp),
    /// The hub says that a cursor was not good any more.
    Reset,
    /// A block with an id and nothing else: where the subscription stands.
    Placed,
    /// Another event.
    Other,
}

/// The parser of one stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The beginning of a line whose end has not arrived.
    cut: Vec<u8>,
    /// The last `id:`, which a client comes back with.
    id: Vec<u8>,
    block: Block,
}

#[derive(Debug, Default, Clone, Copy)]
struct Block {
    stamp: Option<Stamp>,
    data: bool,
    id: bool,
    reset: bool,
}

impl Stream {
    /// Takes what has arrived and reports every block that is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut see: impl FnMut(Seen)) -> Result<()> {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.cut.is_empty() {
                self.block.line(line, &mut self.id, &mut see);
            } else {
                self.cut.extend(line);
                self.block.line(&self.cut, &mut self.id, &mut see);
                self.cut.clear();
            }
        }
        if self.cut.len() + rest.len() > LINE_MAX {
            bail!("a line of the event stream is longer than {LINE_MAX} bytes");
        }
        self.cut.extend(rest);
        Ok(())
    }

    /// The last id: the cursor to come back with.
    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }
}

impl Block {
    fn line(&mut self, line: &[u8], id: &mut Vec<u8>, see: &mut impl FnMut(Seen)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return self.dispatch(see);
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            self.data = true;
            if self.stamp.is_none() {
                self.stamp = Stamp::find(data).map(|(stamp, _)| stamp);
            }
        } else if let Some(value) = line.strip_prefix(b"id:") {
            self.id = true;
            id.clear();
            id.extend(value.strip_prefix(b" ").unwrap_or(value));
        } else if let Some(name) = line.strip_prefix(b"event:") {
            self.reset = name.trim_ascii() == b"reset";
        }
    }

    fn dispatch(&mut self, see: &mut impl FnMut(Seen)) {
        match std::mem::take(self) {
            Self { reset: true, .. } => see(Seen::Reset),
            Self {
                stamp: Some(stamp), ..
            } => see(Seen::Stamped(stamp)),
            Self { data: true, .. } => see(Seen::Other),
            Self { id: true, .. } => see(Seen::Placed),
            _ => {} // a comment, or `retry:`
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::payload;

    fn stamp(number: u32) -> Stamp {
        Stamp {
            run: 1,
            lane: 2,
            number,
            at: 3,
        }
    }

    fn stream_of(count: u32) -> Vec<u8> {
        let mut out = b"retry: 2000\n\nid: 0\n\n:\n\n".to_vec();
        for number in 0..count {
            let (mut data, at) = payload(120);
            stamp(number).print(&mut data[at..]);
            out.extend(format!("id: {}\nevent: bench\ndata: ", number + 1).as_bytes());
            out.extend(data);
            out.extend(b"\n\n");
        }
        out.extend(b"event: reset\ndata: {}\n\ndata: other\r\n\r\nid: 9\ndata: cut off");
        out
    }

    fn seen(pieces: &[&[u8]]) -> (Vec<Seen>, Vec<u8>) {
        let (mut stream, mut seen) = (Stream::default(), Vec::new());
        for piece in pieces {
            stream.feed(piece, |one| seen.push(one)).expect("in bounds");
        }
        (seen, stream.id().to_vec())
    }

    #[test]
    fn wherever_a_read_cuts_the_stream_the_same_is_seen() {
        let text = stream_of(3);
        let expected = vec![
            Seen::Placed,
            Seen::Stamped(stamp(0)),
            Seen::Stamped(stamp(1)),
            Seen::Stamped(stamp(2)),
            Seen::Reset,
            Seen::Other,
        ];
        assert_eq!(seen(&[&text]), (expected.clone(), b"9".to_vec()));
        for cut in 0..text.len() {
            assert_eq!(
                seen(&[&text[..cut], &text[cut..]]).0,
                expected,
                "cut at {cut}"
            );
        }
        for size in [1, 2, 7, 64] {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(seen(&pieces).0, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_its_blank_line_does_not_count() {
        let text = stream_of(1);
        let end = text
            .windows(2)
            .rposition(|two| two == b"\n\n")
            .expect("there is one");
        assert_eq!(seen(&[b"data: 1\n"]).0, []);
        assert!(seen(&[&text[..end + 2]]).0.len() < 5);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut stream = Stream::default();
        let piece = vec![b'x'; LINE_MAX / 2 + 1];
        assert!(stream.feed(&piece, |_| {}).is_ok());
        assert!(stream.feed(&piece, |_| {}).is_err());
    }
}
