//! A server before a server: it answers one command as it is told and hands on all others, over
//! real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// It runs until it is dropped.
pub(crate) struct Intercept {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    answer: Mutex<Vec<u8>>,
    asked: Mutex<Vec<Vec<String>>>,
}

impl Intercept {
    pub(crate) async fn start(server: SocketAddr, command: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, shared) = (listener.local_addr()?, Arc::<Shared>::default());
        let mut tasks = JoinSet::new();
        let for_clients = shared.clone();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let shared = for_clients.clone();
                // A connection that breaks off is the test's to notice.
                clients.spawn(async move { drop(serve(client, server, command, &shared).await) });
            }
        });
        Ok(Self {
            address,
            shared,
            _tasks: tasks,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From here on the command is answered so.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        *self.shared.answer.lock() = bytes.to_vec();
    }

    /// Every call of the command, its words.
    pub(crate) fn asked(&self) -> Vec<Vec<String>> {
        self.shared.asked.lock().clone()
    }
}

async fn serve(
    client: TcpStream,
    server: SocketAddr,
    command: &str,
    shared: &Shared,
) -> Result<()> {
    let (from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let (mut from_client, mut from_server) =
        (BufReader::new(from_client), BufReader::new(from_server));
    loop {
        let mut request = Vec::new();
        let words = value(&mut from_client, &mut request).await?;
        if words.first().is_some_and(|word| word == command) {
            shared.asked.lock().push(words);
            let answer = shared.answer.lock().clone();
            to_client.write_all(&answer).await?;
            continue;
        }
        to_server.write_all(&request).await?;
        let mut answer = Vec::new();
        value(&mut from_server, &mut answer).await?;
        to_client.write_all(&answer).await?;
    }
}

/// Reads one value of the protocol; its bytes as they are, and the texts in it.
async fn value(
    from: &mut BufReader<impl tokio::io::AsyncRead + Unpin>,
    bytes: &mut Vec<u8>,
) -> Result<Vec<String>> {
    let (mut left, mut texts) = (1_u64, Vec::new());
    while left > 0 {
        left -= 1;
        let start = bytes.len();
        ensure!(from.read_until(b'\n', bytes).await? > 0, "the end");
        let kind = bytes[start];
        let number = std::str::from_utf8(&bytes[start + 1..])?.trim_end();
        match kind {
            b'$' | b'=' | b'!' if number != "-1" => {
                let length: usize = number.parse()?;
                let mut text = vec![0; length + 2];
                from.read_exact(&mut text).await?;
                texts.push(String::from_utf8_lossy(&text[..length]).into_owned());
                bytes.extend(text);
            }
            b'*' | b'~' | b'>' if number != "-1" => left += number.parse::<u64>()?,
            b'%' => left += 2 * number.parse::<u64>()?,
            _ => {}
        }
    }
    Ok(texts)
}
