//! Intake: a stream's bytes, whichever transport brought them, down to stamps.

use std::rc::Rc;

use anyhow::{Result, bail};

use crate::chunked::Chunked;
use crate::sse::{Seen, Stream};
use crate::stamp::Stamp;
use crate::websocket::{Frames, Message, pong};

/// What is known of one connection's stream.
#[derive(Debug)]
pub(crate) struct Intake {
    protocol: Protocol,
    /// Answers that the protocol asks for, to be written.
    pub(crate) replies: Vec<u8>,
}

#[derive(Debug)]
enum Protocol {
    Events {
        chunked: Option<Chunked>,
        events: Stream,
        ready: bool,
    },
    Websocket {
        frames: Frames,
        /// A text in the message that confirms a subscription.
        confirmation: Option<Rc<str>>,
        /// Confirmations that have not come.
        unconfirmed: usize,
    },
}

impl Intake {
    pub(crate) fn events() -> Self {
        let protocol = Protocol::Events {
            chunked: None,
            events: Stream::default(),
            ready: false,
        };
        Self {
            protocol,
            replies: Vec::new(),
        }
    }

    /// A websocket that stands when every subscription is confirmed; at once, if nobody says what a
    /// confirmation looks like.
    pub(crate) fn websocket(confirmation: Option<Rc<str>>, subscriptions: usize) -> Self {
        let unconfirmed = if confirmation.is_some() {
            subscriptions
        } else {
            0
        };
        let protocol = Protocol::Websocket {
            frames: Frames::default(),
            confirmation,
            unconfirmed,
        };
        Self {
            protocol,
            replies: Vec::new(),
        }
    }

    /// The status that opens the stream.
    pub(crate) fn status(&self) -> u16 {
        match self.protocol {
            Protocol::Events { .. } => 200,
            Protocol::Websocket { .. } => 101,
        }
    }

    /// Whether the body comes in the chunked coding.
    pub(crate) fn decode(&mut self, is_chunked: bool) {
        if let Protocol::Events { chunked, .. } = &mut self.protocol {
            *chunked = is_chunked.then(Chunked::default);
        }
    }

    /// Whether the subscription stands.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.protocol {
            Protocol::Events { ready, .. } => *ready,
            Protocol::Websocket { unconfirmed, .. } => *unconfirmed == 0,
        }
    }

    /// The cursor that the stream last named.
    pub(crate) fn id(&self) -> &[u8] {
        match &self.protocol {
            Protocol::Events { events, .. } => events.id(),
            Protocol::Websocket { .. } => b"",
        }
    }

    /// Takes what has arrived. Reports each event's stamp, and `None` where the hub says that
    /// events may have been missed.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        mut report: impl FnMut(Option<Stamp>),
    ) -> Result<()> {
        match &mut self.protocol {
            Protocol::Events {
                chunked,
                events,
                ready,
            } => {
                let mut see = |seen| match seen {
                    Seen::Stamped(stamp) => report(Some(stamp)),
                    Seen::Reset => report(None),
                    Seen::Placed => *ready = true,
                    Seen::Other => {}
                };
                let Some(chunked) = chunked else {
                    return events.feed(bytes, see);
                };
                let mut fed = Ok(());
                let decoded = chunked.feed(bytes, |data| {
                    if fed.is_ok() {
                        fed = events.feed(data, &mut see);
                    }
                });
                fed?;
                if decoded.is_err() {
                    bail!("the chunked coding is malformed");
                }
                if chunked.is_over() {
                    bail!("the hub ended the stream");
                }
                Ok(())
            }
            Protocol::Websocket {
                frames,
                confirmation,
                unconfirmed,
            } => {
                let (replies, mut closed) = (&mut self.replies, false);
                frames.feed(bytes, |message| match message {
                    Message::Data(data) => {
                        if let Some((stamp, _)) = Stamp::find(data) {
                            report(Some(stamp));
                        } else if *unconfirmed > 0
                            && let Some(text) = confirmation
                            && memchr::memmem::find(data, text.as_bytes()).is_some()
                        {
                            *unconfirmed -= 1;
                        }
                    }
                    Message::Ping(payload) => replies.extend(pong(payload)),
                    Message::Close(_) => closed = true,
                })?;
                if closed {
                    bail!("the hub closed the websocket");
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::payload;

    const STAMP: Stamp = Stamp {
        run: 1,
        lane: 2,
        number: 3,
        at: 4,
    };

    fn stamped() -> Vec<u8> {
        let (mut data, at) = payload(0);
        STAMP.print(&mut data[at..]);
        data
    }

    /// A frame from a server, shorter than 126 bytes.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, payload.len() as u8];
        out.extend(payload);
        out
    }

    #[test]
    fn an_event_stream_in_chunks_that_cut_its_lines() {
        let mut text = b"id: 7\n\ndata: ".to_vec();
        text.extend(stamped());
        text.extend(b"\n\nevent: reset\ndata: {}\n\n");
        let mut intake = Intake::events();
        intake.decode(true);
        assert_eq!((intake.status(), intake.is_ready()), (200, false));
        let mut seen = Vec::new();
        for piece in text.chunks(11) {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend(piece);
            chunk.extend(b"\r\n");
            for half in chunk.chunks(5) {
                intake
                    .take(half, |one| seen.push(one))
                    .expect("well-formed");
            }
        }
        assert_eq!(seen, [Some(STAMP), None]);
        assert!(intake.is_ready());
        assert_eq!(intake.id(), b"7");
        assert!(intake.take(b"0\r\n\r\n", |_| {}).is_err(), "it has ended");
    }

    #[test]
    fn a_websocket_stands_when_every_subscription_is_confirmed() {
        let mut intake = Intake::websocket(Some("confirm".into()), 2);
        let mut seen = Vec::new();
        for (message, ready) in [
            ("welcome", false),
            ("confirm a", false),
            ("confirm b", true),
        ] {
            let bytes = frame(0x81, message.as_bytes());
            intake.take(&bytes, |one| seen.push(one)).expect("fine");
            assert_eq!(intake.is_ready(), ready, "{message}");
        }
        let mut bytes = frame(0x89, b"?");
        bytes.extend(frame(0x81, &stamped()));
        intake.take(&bytes, |one| seen.push(one)).expect("fine");
        assert_eq!(seen, [Some(STAMP)]);
        assert_eq!(intake.replies, pong(b"?"));
        assert!(intake.take(&frame(0x88, b""), |_| {}).is_err());
        assert!(Intake::websocket(None, 2).is_ready());
    }
}
