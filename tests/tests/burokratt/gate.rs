//! A way to an instance that breaks off in the middle of a frame, as networks do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the next connection to break has last, if one is to.
type Breaks = Arc<Mutex<Option<Vec<u8>>>>;

/// What came from clients, one text for each time that they said something; in small letters but for its first line.
type Asked = Arc<Mutex<Vec<String>>>;

/// Forwards connections; ends when it is dropped.
pub(crate) struct Gate {
    address: SocketAddr,
    /// The next bytes like these are the last ones of their connection.
    breaks_at: Breaks,
    asked: Asked,
    task: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn start(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let breaks_at: Breaks = Arc::default();
        let asked: Asked = Arc::default();
        let shared = (breaks_at.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (breaks_at, asked) = shared.clone();
                tokio::spawn(forward(client, upstream, breaks_at, asked));
            }
        });
        Ok(Self {
            address,
            breaks_at,
            asked,
            task,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Breaks the connection that brings this text, right behind it.
    pub(crate) fn break_behind(&self, text: &str) {
        *lock(&self.breaks_at) = Some(text.as_bytes().to_vec());
    }

    /// The requests that came through, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    /// Whether it has broken.
    pub(crate) fn has_broken(&self) -> bool {
        lock(&self.breaks_at).is_none()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Either side ending ends both.
async fn forward(client: TcpStream, upstream: SocketAddr, breaks_at: Breaks, asked: Asked) {
    let Ok(instance) = TcpStream::connect(upstream).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_instance, to_instance) = instance.into_split();
    tokio::select! {
        () = up(from_client, to_instance, &asked) => {}
        () = down(from_instance, to_client, &breaks_at) => {}
    }
}

/// Requests without a body are short: each comes in one piece.
async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: &Asked) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let text = String::from_utf8_lossy(&bytes[..count]);
        let (line, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
        let request = format!("{line}\r\n{}", headers.to_ascii_lowercase());
        lock(asked).push(request);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, breaks_at: &Breaks) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let chunk = &bytes[..count];
        let end = {
            let mut breaks_at = lock(breaks_at);
            let found = breaks_at.as_ref().and_then(|text| {
                let at = chunk.windows(text.len()).position(|part| part == text)?;
                Some(at + text.len())
            });
            if found.is_some() {
                *breaks_at = None;
            }
            found
        };
        let written = to.write_all(&chunk[..end.unwrap_or(count)]).await;
        if end.is_some() || written.is_err() {
            return;
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
