//! Reads event streams (WHATWG HTML §9.2.6): pieces of bytes in, events out.

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// Its name; `message` when it has none.
    pub kind: String,
    /// Its data, lines joined with LF.
    pub data: String,
}

/// A parser and what outlives an event: the cursor and the pause before coming back.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last piece ended with CR: a LF that comes first now belongs to it.
    after_cr: bool,
    kind: String,
    data: String,
    id: Option<String>,
    /// What to resume from: the last `id:` of a finished block.
    pub last_id: Option<String>,
    /// Milliseconds to wait before coming back, if the server said.
    pub retry_ms: Option<u64>,
}

impl Parser {
    /// Forgets the block that broke off.
    pub fn reconnect(&mut self) {
        *self = Self {
            last_id: self.last_id.take(),
            retry_ms: self.retry_ms,
            ..Self::default()
        };
    }

    /// Bytes of the block that is being read.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// Takes a piece; hands out the events it finishes.
    pub fn push(&mut self, piece: &[u8]) -> Vec<Received> {
        let mut events = Vec::new();
        for &byte in piece {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take(&String::from_utf8_lossy(&line)));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn take(&mut self, line: &str) -> Option<Received> {
        if line.is_empty() {
            if let Some(id) = self.id.take() {
                self.last_id = Some(id);
            }
            let (kind, data) = (
                std::mem::take(&mut self.kind),
                std::mem::take(&mut self.data),
            );
            let data = data.strip_suffix('\n')?.to_owned();
            let kind = if kind.is_empty() {
                "message".to_owned()
            } else {
                kind
            };
            return Some(Received { kind, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => self.retry_ms = value.parse().ok().or(self.retry_ms),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_however_it_is_cut() {
        let text = "retry: 5\nid: 1\n\n:\n\nid: 2\r\nevent: a\r\ndata: {\r\ndata:  }\r\n\r\ndata:x\rid: 3\r\rdata: broken";
        let expected = [("a", "{\n }"), ("message", "x")];
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut events = parser.push(&text.as_bytes()[..cut]);
            events.extend(parser.push(&text.as_bytes()[cut..]));
            let events: Vec<_> = events
                .iter()
                .map(|e| (e.kind.as_str(), e.data.as_str()))
                .collect();
            assert_eq!(events, expected, "{cut}");
            assert_eq!(parser.last_id.as_deref(), Some("3"));
            assert_eq!(parser.retry_ms, Some(5));
            parser.reconnect();
            assert_eq!(parser.push(b"\n"), []);
            assert_eq!(parser.last_id.as_deref(), Some("3"));
        }
    }
}
