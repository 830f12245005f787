//! Garbage: whatever bytes come in, no instance panics, no garbage is answered as the server's
//! fault, and everybody else is served.
//!
//! The bytes come from a seed, which is printed when a case fails and can be given as
//! `TIDINGS_EXAM_SEED`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::room::Room;
use super::{Dialect, Place, Sent, wire};

/// Garbage per case, and how much of it at a time: some seconds on a busy machine.
const PIECES: usize = 400;
const AT_ONCE: usize = 16;

/// How long garbage waits for an answer. A stream that a mutation has not spoilt goes on for ever.
const PATIENCE: Duration = Duration::from_millis(500);

fn seed() -> u64 {
    let given = std::env::var("TIDINGS_EXAM_SEED").ok();
    given
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x7469_6469_6e67_7321)
}

/// Sends each piece on a connection of its own; answers with those that were the server's fault.
async fn throw(at: SocketAddr, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let one = |piece: Vec<u8>| async move {
        let status = tokio::time::timeout(PATIENCE, status(at, &piece)).await;
        match status {
            Ok(Ok(Some(status))) if status >= 500 => Some(format!(
                "{status} for {:?}",
                String::from_utf8_lossy(&piece)
            )),
            _ => None,
        }
    };
    futures_util::stream::iter(pieces)
        .map(one)
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// The status of the first answer, if there is one.
async fn status(at: SocketAddr, piece: &[u8]) -> Result<Option<u16>> {
    let mut stream = wire::connect(at).await?;
    stream.write_all(piece).await?;
    let mut head = [0; 12];
    let read = stream.read_exact(&mut head).await;
    Ok(match read {
        Ok(_) => std::str::from_utf8(&head[9..])
            .ok()
            .and_then(|status| status.parse().ok()),
        Err(_) => None,
    })
}

/// Spoils some bytes: overwrites, drops, doubles and inserts.
fn spoil(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    /// What parsers care about.
    const SPICE: &[u8] = b"\0\n\r%&=?,:;/\\\"'{}[]<>-+.0\x7f\x80\xff\xc3\xe2";
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        let any = if rng.random() {
            SPICE[rng.random_range(0..SPICE.len())]
        } else {
            rng.random()
        };
        match (rng.random_range(0..5), at < bytes.len()) {
            (0, true) => bytes[at] = any,
            (1, true) => drop(bytes.remove(at)),
            (2, true) => bytes.truncate(at),
            (3, _) => {
                let again = bytes[at / 2..at].to_vec();
                bytes.splice(at..at, again);
            }
            _ => bytes.insert(at, any),
        }
    }
}

/// Spoils one part of a request and leaves the rest as HTTP wants it, so that the garbage comes
/// through to the adapter.
fn spoil_request(rng: &mut StdRng, request: &mut wire::Request) -> Vec<u8> {
    let mut spoilt = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        spoil(rng, &mut bytes);
        // Percent-encoded, so that it stays one word of the request line.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/?&=,.-_~%".contains(&byte);
        bytes.iter().fold(String::new(), |text, byte| match byte {
            byte if plain(*byte) => text + &char::from(*byte).to_string(),
            byte => text + &format!("%{byte:02x}"),
        })
    };
    let target = spoilt(&request.target[1..]);
    match rng.random_range(0..4) {
        0 => request.target = format!("/{target}"),
        1 => {
            let mut body = request.body.to_vec();
            spoil(rng, &mut body);
            request.body = body.into();
        }
        2 if !request.headers.is_empty() => {
            let which = rng.random_range(0..request.headers.len());
            let value = &mut request.headers[which].1;
            let mut bytes = value.as_bytes().to_vec();
            spoil(rng, &mut bytes);
            bytes.retain(|byte| *byte >= b' ' && *byte != 0x7f);
            *value = String::from_utf8_lossy(&bytes).into_owned();
        }
        _ => {
            let mut bytes = request.bytes();
            spoil(rng, &mut bytes);
            return bytes;
        }
    }
    request.bytes()
}

async fn survived(room: Room<'_>, faults: Vec<String>) -> Result<()> {
    let seed = seed();
    ensure!(
        faults.is_empty(),
        "seed {seed}: garbage is answered as the server's fault: {faults:?}"
    );
    let mut reader = room
        .follow(0, &["survivor"], Place::Newest)
        .await
        .with_context(|| format!("after the garbage of seed {seed}"))?;
    room.publish(0, "survivor", "alive").await?;
    reader.expect("survivor", &["alive"]).await?;
    room.end().with_context(|| format!("seed {seed}"))
}

pub(super) async fn random_bytes_are_survived(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut witness = room.follow(0, &["witness"], Place::Newest).await?;
    let mut rng = StdRng::seed_from_u64(seed());
    let pieces = (0..PIECES / 4).map(|number| {
        let mut piece = vec![0; rng.random_range(1..2048)];
        rng.fill_bytes(&mut piece);
        let beginnings: [&[u8]; 4] = [b"", b"GET ", b"POST / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n"];
        [beginnings[number % 4], &piece].concat()
    });
    let faults = throw(room.at(0), pieces.collect()).await;
    room.publish(1, "witness", "1").await?;
    witness.expect("witness", &["1"]).await?;
    survived(room, faults).await
}

pub(super) async fn garbled_requests_are_survived(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut witness = room.follow(0, &["witness"], Place::Newest).await?;
    let mut requests = dialect.requests();
    requests.extend(dialect.bad().into_iter().filter_map(|bad| match bad.sent {
        Sent::Request(request, _) => Some(request),
        Sent::Frame(_) => None,
    }));
    ensure!(!requests.is_empty(), "the dialect names no requests");
    let mut rng = StdRng::seed_from_u64(seed());
    let pieces = (0..PIECES).map(|_| {
        let mut request = requests[rng.random_range(0..requests.len())].clone();
        spoil_request(&mut rng, &mut request)
    });
    let faults = throw(room.at(0), pieces.collect()).await;
    room.publish(1, "witness", "alone").await?;
    // Among the garbage there may be publishes that are still good.
    while witness.event().await?.1 != "alone" {}
    survived(room, faults).await
}

pub(super) async fn garbled_frames_are_survived(dialect: &dyn Dialect) -> Result<()> {
    let room = Room::new(dialect).await?;
    let mut witness = room.follow(0, &["witness"], Place::Newest).await?;
    let mut rng = StdRng::seed_from_u64(seed());
    let frames: Vec<wire::Message> = dialect
        .bad()
        .into_iter()
        .filter_map(|bad| match bad.sent {
            Sent::Frame(frame) => Some(frame),
            Sent::Request(..) => None,
        })
        .chain([wire::Message::Text("{\"type\":\"exam\"}".to_owned())])
        .collect();
    for _ in 0..PIECES / 10 {
        let mut client = room.follow(0, &["garbled"], Place::Newest).await?;
        for _ in 0..10 {
            let frame = match &frames[rng.random_range(0..frames.len())] {
                wire::Message::Text(text) => text.as_bytes().to_vec(),
                wire::Message::Binary(bytes) => bytes.to_vec(),
            };
            let mut bytes = frame;
            spoil(&mut rng, &mut bytes);
            let frame = if rng.random_ratio(3, 4) {
                wire::Message::Text(String::from_utf8_lossy(&bytes).into_owned())
            } else {
                wire::Message::Binary(bytes.into())
            };
            if client.send(frame).await.is_err() {
                break; // it has been thrown out, which is well
            }
        }
    }
    room.publish(1, "witness", "alone").await?;
    while witness.event().await?.1 != "alone" {}
    survived(room, Vec::new()).await
}
