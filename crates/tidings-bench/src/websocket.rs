//! A websocket's frames as a client reads them (RFC 6455 §5), and the few that it writes.
//!
//! Messages that arrive whole are looked at where they lie. No extension is offered, so a frame
//! with a reserved bit set is a mistake.

use anyhow::{Result, bail};

/// A message longer than this is not ours: payloads are at most 64 KiB.
const MESSAGE_MAX: usize = 1024 * 1024;

/// What the server sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// A text or binary message.
    Data(&'a [u8]),
    /// Wants a pong with the same bytes.
    Ping(&'a [u8]),
    /// The other side closes, and says with which code.
    Close(Option<u16>),
}

/// The parser of one connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// A frame that has not arrived whole.
    cut: Vec<u8>,
    /// A message of several frames.
    fragments: Vec<u8>,
}

struct Frame {
    last: bool,
    opcode: u8,
    head: usize,
    payload: usize,
}

impl Frames {
    /// Takes what has arrived and reports every message that is complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut see: impl FnMut(Message<'_>)) -> Result<()> {
        if self.cut.is_empty() {
            let used = self.whole(bytes, &mut see)?;
            self.cut.extend(&bytes[used..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.cut);
        joined.extend(bytes);
        let used = self.whole(&joined, &mut see)?;
        joined.drain(..used);
        self.cut = joined;
        Ok(())
    }

    /// Goes through the whole frames, and answers how many bytes they take.
    fn whole(&mut self, bytes: &[u8], see: &mut impl FnMut(Message<'_>)) -> Result<usize> {
        let mut used = 0;
        while let Some(frame) = Frame::parse(&bytes[used..])? {
            let start = used + frame.head;
            let Some(payload) = bytes.get(start..start + frame.payload) else {
                break;
            };
            used = start + frame.payload;
            match frame.opcode {
                0..=2 if frame.last && self.fragments.is_empty() => see(Message::Data(payload)),
                0..=2 => {
                    if self.fragments.len() + payload.len() > MESSAGE_MAX {
                        bail!("a message is longer than {MESSAGE_MAX} bytes");
                    }
                    self.fragments.extend(payload);
                    if frame.last {
                        see(Message::Data(&self.fragments));
                        self.fragments.clear();
                    }
                }
                8 => see(Message::Close(
                    payload.first_chunk().map(|code| u16::from_be_bytes(*code)),
                )),
                9 => see(Message::Ping(payload)),
                10 => {}
                opcode => bail!("a frame has the unknown opcode {opcode}"),
            }
        }
        Ok(used)
    }
}

impl Frame {
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            bail!("a frame is masked or has a reserved bit set");
        }
        let (head, payload) = match (second, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (10, usize::try_from(length).unwrap_or(usize::MAX))
            }
            (126 | 127, _) => return Ok(None),
            (length, _) => (2, usize::from(*length)),
        };
        if payload > MESSAGE_MAX {
            bail!("a frame is longer than {MESSAGE_MAX} bytes");
        }
        Ok(Some(Self {
            last: first & 0x80 != 0,
            opcode: first & 0x0f,
            head,
            payload,
        }))
    }
}

/// A text frame from a client. Its mask is zero: a mask keeps proxies on the way from taking frames
/// for requests, and there are none on loopback.
pub(crate) fn text(payload: &[u8]) -> Vec<u8> {
    frame(0x1, payload)
}

/// The answer to a ping. Its payload is that of a control frame: at most 125 bytes.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    frame(0xa, payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => out.push(0x80 | length),
        (_, Ok(length)) => {
            out.push(0x80 | 126);
            out.extend(length.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(0, payload);
        out[0] = first;
        out[1] &= 0x7f;
        let head = out.len() - payload.len();
        out.drain(head - 4..head);
        out
    }

    fn seen(pieces: &[&[u8]]) -> Vec<String> {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for piece in pieces {
            let result = frames.feed(piece, |message| {
                seen.push(match message {
                    Message::Data(data) => format!("data {}", data.len()),
                    Message::Ping(data) => format!("ping {}", data.len()),
                    Message::Close(code) => format!("close {code:?}"),
                });
            });
            result.expect("well-formed");
        }
        seen
    }

    #[test]
    fn wherever_a_read_cuts_the_frames_the_same_is_seen() {
        let mut bytes = server(0x81, b"hello");
        bytes.extend(server(0x89, b"p"));
        bytes.extend(server(0x01, &[b'x'; 200]));
        bytes.extend(server(0x8a, b""));
        bytes.extend(server(0x80, &[b'y'; 50]));
        bytes.extend(server(0x82, &[b'z'; 70_000]));
        bytes.extend(server(0x88, b"\x0f\xaaslow"));
        bytes.extend(server(0x88, b""));
        let expected = [
            "data 5",
            "ping 1",
            "data 250",
            "data 70000",
            "close Some(4010)",
            "close None",
        ];
        assert_eq!(seen(&[&bytes]), expected);
        for cut in (0..400).chain([bytes.len() - 1]) {
            assert_eq!(seen(&[&bytes[..cut], &bytes[cut..]]), expected, "at {cut}");
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        for bytes in [
            text(b"masked"),
            server(0xc1, b"compressed"),
            server(0x83, b""),
            vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(Frames::default().feed(&bytes, |_| {}).is_err());
        }
    }

    #[test]
    fn a_clients_frame_is_masked_and_says_its_length() {
        assert_eq!(&text(b"hi")[..], b"\x81\x82\0\0\0\0hi");
        assert_eq!(&text(&[0; 126])[..4], [0x81, 0xfe, 0, 126]);
        assert_eq!(
            &text(&[0; 65_536])[..10],
            [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]
        );
        assert_eq!(pong(b"")[0], 0x8a);
    }
}
