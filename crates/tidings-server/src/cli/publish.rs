//! `tidings publish`: one event from the arguments, or one a line from standard input.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use futures_util::stream;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::PublishArgs;
use super::client::{Body, Client, ClientError, whole};
use crate::app::AppError;

/// Bytes read from standard input at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces read ahead of the connection.
const PIECES: usize = 4;

#[derive(Serialize)]
struct Event<'a> {
    topic: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// What of the answer is said beside it.
#[derive(Deserialize)]
struct Answer {
    warning: Option<String>,
}

/// Publishes, and prints what the server says is stored.
///
/// # Errors
/// [`AppError`].
pub async fn run(args: &PublishArgs) -> Result<(), AppError> {
    let client = Client::new(&args.server)?;
    let request = Request::post("/");
    let (request, body) = if args.ndjson {
        (
            request.header(CONTENT_TYPE, "application/x-ndjson"),
            standard_input()?,
        )
    } else {
        (
            request.header(CONTENT_TYPE, "application/json"),
            whole(event(args)?),
        )
    };
    let path = match &args.durability {
        // One of three words: nothing to escape.
        Some(durability) => format!("/v1/events?durability={durability}"),
        None => "/v1/events".to_owned(),
    };
    let response = client.send(request, &path, body).await?;
    let text = client.text(response).await?;
    writeln!(std::io::stdout(), "{text}")?;
    if let Ok(Answer { warning: Some(why) }) = serde_json::from_str(&text) {
        writeln!(std::io::stderr(), "tidings: {why}")?;
    }
    Ok(())
}

fn event(args: &PublishArgs) -> Result<Vec<u8>, AppError> {
    let text = match args.data.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Some(text)
        }
        other => other.map(str::to_owned),
    };
    let data = text
        .map(RawValue::from_string)
        .transpose()
        .map_err(|error| {
            let hint = "a text needs its quotes: '\"like this\"'";
            ClientError::Usage(format!("DATA is not JSON: {error} ({hint})"))
        })?;
    let event = Event {
        topic: args.topic.as_deref().unwrap_or_default(),
        kind: args.kind.as_deref().unwrap_or_default(),
        id: args.id.as_deref(),
        source: args.source.as_deref(),
        data: data.as_deref(),
    };
    serde_json::to_vec(&event).map_err(|error| ClientError::Usage(error.to_string()).into())
}

/// Standard input as a body, read on a thread of its own and no faster than the server takes it.
fn standard_input() -> Result<Body, AppError> {
    let (send, mut receive) = mpsc::channel::<std::io::Result<Bytes>>(PIECES);
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let read = input.read(&mut piece).map(|length| {
                    piece.truncate(length);
                    Bytes::from(piece)
                });
                let last = !matches!(&read, Ok(bytes) if !bytes.is_empty());
                let end = matches!(&read, Ok(bytes) if bytes.is_empty());
                if end || send.blocking_send(read).is_err() || last {
                    return;
                }
            }
        })?;
    let pieces = stream::poll_fn(move |cx| {
        receive
            .poll_recv(cx)
            .map(|piece| piece.map(|p| p.map(Frame::data)))
    });
    Ok(StreamBody::new(pieces).boxed_unsync())
}
