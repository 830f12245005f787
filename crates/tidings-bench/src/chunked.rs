//! The chunked transfer coding (RFC 9112 §7.1), read as it arrives.
//!
//! Hands out slices of what it is given and copies nothing: at hundreds of thousands of events a
//! second the load generator would else measure itself.

/// Where in the coding we are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chunked(State);

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the size, or in the extension after it.
    Size {
        value: usize,
        extension: bool,
    },
    Data(usize),
    /// Before the line break after a chunk's data.
    Break,
    /// In the trailer section: whether the present line has anything in it.
    Trailer {
        line: bool,
    },
    End,
}

impl Default for State {
    fn default() -> Self {
        Self::Size {
            value: 0,
            extension: false,
        }
    }
}

/// Bytes that are not the coding.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Chunked {
    /// Decodes, and answers how many bytes were used: fewer than all only at the end.
    pub(crate) fn feed<'a>(
        &mut self,
        bytes: &'a [u8],
        mut take: impl FnMut(&'a [u8]),
    ) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            self.0 = match self.0 {
                State::Data(left) => {
                    let (data, after) = rest.split_at(left.min(rest.len()));
                    take(data);
                    rest = after;
                    self.0 = match left - data.len() {
                        0 => State::Break,
                        left => State::Data(left),
                    };
                    continue;
                }
                State::Size { value, extension } => match byte {
                    b'\n' if value == 0 => State::Trailer { line: false },
                    b'\n' => State::Data(value),
                    b'\r' => self.0,
                    b';' => State::Size {
                        value,
                        extension: true,
                    },
                    _ if extension => self.0,
                    _ => {
                        let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                        let value = value.checked_mul(16).ok_or(Malformed)?;
                        State::Size {
                            value: value | digit as usize,
                            extension,
                        }
                    }
                },
                State::Break => match byte {
                    b'\n' => State::default(),
                    b'\r' => State::Break,
                    _ => return Err(Malformed),
                },
                State::Trailer { line } => match byte {
                    b'\n' if !line => State::End,
                    b'\n' => State::Trailer { line: false },
                    b'\r' => self.0,
                    _ => State::Trailer { line: true },
                },
                State::End => break,
            };
            rest = after;
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the body is complete.
    pub(crate) fn is_over(self) -> bool {
        matches!(self.0, State::End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> (Vec<u8>, bool, Vec<usize>) {
        let (mut chunked, mut out) = (Chunked::default(), Vec::new());
        let used = pieces
            .iter()
            .map(|piece| {
                chunked
                    .feed(piece, |data| out.extend(data))
                    .expect("well-formed")
            })
            .collect();
        (out, chunked.is_over(), used)
    }

    const CODED: &[u8] = b"5\r\nhello\r\n1;a=\"b\"\r\n \r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";

    #[test]
    fn wherever_it_is_cut_it_decodes_to_the_same() {
        let (whole, over, used) = decode(&[CODED]);
        assert_eq!(whole, b"hello 0123456789");
        assert!(over);
        assert_eq!(used, [CODED.len()]);
        for cut in 0..CODED.len() {
            let (out, over, _) = decode(&[&CODED[..cut], &CODED[cut..]]);
            assert_eq!((out, over), (whole.clone(), true), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = CODED.chunks(1).collect();
        assert_eq!(decode(&bytes).0, whole);
    }

    #[test]
    fn what_follows_the_end_is_left() {
        let (_, over, used) = decode(&[b"0\r\n\r\nHTTP/1.1"]);
        assert!(over);
        assert_eq!(used, [5]);
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [&b"x\r\n"[..], b"1\r\nab", b"fffffffffffffffffff\r\n"] {
            assert_eq!(
                Chunked::default().feed(nonsense, |_| {}),
                Err(Malformed),
                "{nonsense:?}"
            );
        }
    }
}
