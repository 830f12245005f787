//! A websocket by hand (RFC 6455): for clients that break its rules, or that keep them to the letter.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_testkit::adapter_exam::wire::{Request, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::SOON;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
const CLOSE: u8 = 0x8;

/// An open websocket.
pub(crate) struct Raw(TcpStream);

/// What comes over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Frame(u8, Vec<u8>),
    Close(u16),
    Gone,
}

impl Raw {
    pub(crate) async fn open(at: SocketAddr) -> Result<Self> {
        let request = Request::get("/")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let mut stream = connect(at).await?;
        stream.write_all(&request.bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.context("no answer")?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
        Ok(Self(stream))
    }

    /// Connects with a token and waits for the hello.
    pub(crate) async fn with(at: SocketAddr, token: &str) -> Result<Self> {
        let mut raw = Self::open(at).await?;
        raw.say(&json!({"command": "ws_auth", "auth_token": token, "ack": true}))
            .await?;
        let hello = raw.json().await?;
        ensure!(hello["event"] == "system.hello", "{hello}");
        Ok(raw)
    }

    pub(crate) async fn say(&mut self, command: &Value) -> Result<()> {
        self.send(TEXT, command.to_string().as_bytes()).await
    }

    /// A whole message.
    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        self.part(true, opcode, payload).await
    }

    /// One frame; its mask is zero, which is one, too.
    pub(crate) async fn part(&mut self, last: bool, opcode: u8, payload: &[u8]) -> Result<()> {
        let mut frame = vec![opcode | if last { 0x80 } else { 0 }];
        match u16::try_from(payload.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | u8::try_from(length)?),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend(length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        Ok(self.0.write_all(&frame).await?)
    }

    /// The next frame, whatever it is.
    pub(crate) async fn next(&mut self) -> Result<Got> {
        let next = tokio::time::timeout(SOON, self.read()).await;
        Ok(next.context("a client waits in vain")?.unwrap_or(Got::Gone))
    }

    async fn read(&mut self) -> Result<Got> {
        let (first, second) = (self.0.read_u8().await?, self.0.read_u8().await?);
        let length = match second & 0x7f {
            126 => u64::from(self.0.read_u16().await?),
            127 => self.0.read_u64().await?,
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length)?];
        self.0.read_exact(&mut payload).await?;
        Ok(match first & 0xf {
            CLOSE => Got::Close(match payload[..] {
                [a, b, ..] => u16::from_be_bytes([a, b]),
                _ => 1005,
            }),
            opcode => Got::Frame(opcode, payload),
        })
    }

    /// The next message; pings go by.
    pub(crate) async fn json(&mut self) -> Result<Value> {
        loop {
            match self.next().await? {
                Got::Frame(TEXT, text) => return Ok(serde_json::from_slice(&text)?),
                Got::Frame(..) => {}
                other => bail!("instead of a message a client hears {other:?}"),
            }
        }
    }

    /// How it is closed; what comes before goes by.
    pub(crate) async fn closed(&mut self) -> Result<Got> {
        loop {
            match self.next().await? {
                Got::Frame(..) => {}
                other => return Ok(other),
            }
        }
    }

    /// Breaks the connection off, without a word.
    pub(crate) fn reset(self) -> Result<()> {
        Ok(self.0.set_zero_linger()?)
    }
}
