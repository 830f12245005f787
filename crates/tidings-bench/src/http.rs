//! As much of an HTTP/1.1 client as the load needs: requests printed once, answers read in place.
//!
//! A general client would allocate for every header of every answer. This one keeps one buffer per
//! connection and looks at what it asked for.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::chunked::Chunked;

/// An answer's head longer than this is not a hub's.
pub(crate) const HEAD_MAX: usize = 64 * 1024;
/// A body longer than this is not a hub's: a page is at most a megabyte.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// Connects. Nagle's algorithm would add its own wait to every latency.
pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    let stream = socket
        .connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Prints a request without a body, up to and including the empty line.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    out.into_bytes()
}

/// Prints a request with a JSON body.
pub(crate) fn post(path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut out = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    out.push_str(&format!(
        "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    out.into_bytes()
}

/// An answer's head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) status: u16,
    lines: &'a [u8],
}

impl<'a> Head<'a> {
    /// Parses what stands before the empty line; `None` while that has not arrived. Answers with
    /// the length of all of it as well.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            if bytes.len() > HEAD_MAX {
                bail!("the head of an answer is longer than {HEAD_MAX} bytes");
            }
            return Ok(None);
        };
        let status = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok())
            .context("the answer is not HTTP/1.1")?;
        let lines = &bytes[..end];
        Ok(Some((Self { status, lines }, end + 4)))
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines.split(|byte| *byte == b'\n').find_map(|line| {
            let (key, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            key.eq_ignore_ascii_case(name.as_bytes())
                .then(|| value.trim_ascii())
        })
    }

    /// Whether the body comes in the chunked coding.
    pub(crate) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
    }

    /// How long the body is, where that is said.
    pub(crate) fn length(&self) -> Result<usize> {
        // RFC 9110 §15.3.5 and §15.4.5: these have none.
        if matches!(self.status, 204 | 304) {
            return Ok(0);
        }
        let value = self
            .header("content-length")
            .context("the answer says no length")?;
        Ok(std::str::from_utf8(value)?.parse()?)
    }
}

/// A keep-alive connection that asks one thing at a time.
#[derive(Debug)]
pub(crate) struct Exchange {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The last answer's bytes at the buffer's beginning: given back when the next is asked for.
    used: usize,
    /// A body that came in chunks.
    decoded: Vec<u8>,
    /// Bytes received in all.
    pub(crate) received: u64,
}

/// An answer, valid until the next question.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) body: &'a [u8],
}

impl Exchange {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self {
            stream: connect(address).await?,
            buffer: Vec::with_capacity(4096),
            used: 0,
            decoded: Vec::new(),
            received: 0,
        })
    }

    /// Sends a request and waits for its answer. Not cancel-safe: a connection that was given up in
    /// between is at no known place.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.decoded.clear();
        self.stream.write_all(request).await?;
        let (start, length, chunked) = loop {
            if let Some((head, start)) = Head::parse(&self.buffer)? {
                let chunked = head.is_chunked();
                let length = if chunked { 0 } else { head.length()? };
                break (start, length, chunked);
            }
            self.read().await?;
        };
        if chunked {
            self.used = self.read_chunks(start).await?;
        } else {
            if length > BODY_MAX {
                bail!("an answer is longer than {BODY_MAX} bytes");
            }
            while self.buffer.len() < start + length {
                self.read().await?;
            }
            self.used = start + length;
        }
        let (head, _) = Head::parse(&self.buffer)?.context("the head was there before")?;
        let body = if chunked {
            &self.decoded[..]
        } else {
            &self.buffer[start..self.used]
        };
        Ok(Answer { head, body })
    }

    async fn read_chunks(&mut self, start: usize) -> Result<usize> {
        let (mut chunked, mut at) = (Chunked::default(), start);
        loop {
            let decoded = &mut self.decoded;
            at += chunked
                .feed(&self.buffer[at..], |data| decoded.extend(data))
                .ok()
                .context("the chunked coding is malformed")?;
            if chunked.is_over() {
                return Ok(at);
            }
            if self.decoded.len() > BODY_MAX {
                bail!("an answer is longer than {BODY_MAX} bytes");
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        self.buffer.reserve(4096);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => bail!("the hub closed the connection"),
            count => {
                self.received += count as u64;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answers(texts: &[&'static str]) -> Result<Vec<(u16, Vec<u8>)>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut exchange = Exchange::open(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        let mut all = Vec::new();
        for text in texts {
            server.write_all(text.as_bytes()).await?;
        }
        drop(server);
        for _ in texts {
            let answer = exchange.ask(b"").await?;
            all.push((answer.head.status, answer.body.to_vec()));
        }
        Ok(all)
    }

    #[tokio::test]
    async fn answers_follow_each_other_on_one_connection() -> Result<()> {
        let all = answers(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nc\r\n2\r\nde\r\n0\r\n\r\n",
            "HTTP/1.1 503 No\r\ncontent-length: 1\r\n\r\nf",
        ])
        .await?;
        let expected = [(200, "ab"), (204, ""), (200, "cde"), (503, "f")];
        let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
        assert_eq!(all, expected);
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_that_ends_early_is_an_error() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx",
            "HTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0\r\n\r\n",
        ] {
            assert!(answers(&[text]).await.is_err(), "{text}");
        }
    }

    #[test]
    fn headers_are_found_whichever_way_they_are_written() -> Result<()> {
        let text = b"HTTP/1.1 200 OK\r\nStream-Next-Offset:  7\r\nx: y\r\n\r\nbody";
        let (head, length) = Head::parse(text)?.context("whole")?;
        assert_eq!(head.header("stream-next-offset"), Some(&b"7"[..]));
        assert_eq!(head.header("stream-next"), None);
        assert_eq!(&text[length..], b"body");
        Ok(())
    }
}
