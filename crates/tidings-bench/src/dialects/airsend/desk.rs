//! The desk of a backend, which says whose a bearer is (`bearer_url`): `u17` is user 17's.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http::HEAD_MAX;

/// Open until it is dropped.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Desk {
    pub(super) async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn_local(async move {
            let mut visits = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever is not answered here is told by the hub, which is what is looked at.
                visits.spawn_local(async move { drop(visit(stream).await) });
                while visits.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }
}

async fn visit(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut asked = Vec::new();
    loop {
        let Some(end) = memchr::memmem::find(&asked, b"\r\n\r\n") else {
            if asked.len() > HEAD_MAX {
                bail!("a question without an end");
            }
            if stream.read_buf(&mut asked).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head = std::str::from_utf8(&asked[..end])?.to_ascii_lowercase();
        let (_, bearer) = head
            .split_once("authorization: bearer u")
            .context("no bearer")?;
        let user: u32 = bearer.lines().next().unwrap_or_default().trim().parse()?;
        let body = format!("{{\"user\":{{\"id\":{user}}}}}");
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        asked.drain(..end + 4);
    }
}
