//! `tidings tail`: follows topics over an event stream, and comes back by cursor for as long as it
//! takes.

use std::io::Write as _;
use std::time::Duration;

use http::Request;
use http::header::ACCEPT;
use http_body_util::BodyExt as _;
use rand::Rng as _;

use super::client::{Client, ClientError, whole};
use super::sse::{Parser, Received};
use super::{Format, TailArgs};
use crate::app::AppError;

/// A stream that is silent for longer has died: the server says something every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Pauses before coming back: they double from the first to the last, with jitter.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Bytes of one event: data and attributes at their bounds, printed, fit twice.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Follows topics until it has what was asked for, or the process is ended or refused.
///
/// # Errors
/// [`AppError`]; what passes by itself is not one, once the first connection stood.
pub async fn run(args: &TailArgs) -> Result<(), AppError> {
    let client = Client::new(&args.server)?;
    let path = path(args);
    let mut parser = Parser::default();
    let mut pause = PAUSE_MIN;
    let mut connected = false;
    let mut left = args.count;
    loop {
        parser.reconnect();
        match follow(&client, &path, &mut parser, &mut connected, &mut left).await {
            Ok(heard) if heard => pause = PAUSE_MIN,
            Ok(_) => {}
            Err(AppError::Client(error)) if connected && error.code() == 3 => {
                writeln!(std::io::stderr(), "tidings: {error}; trying again")?;
            }
            Err(error) => return Err(error),
        }
        let said = parser.retry_ms.map_or(PAUSE_MIN, Duration::from_millis);
        if left == Some(0) {
            break;
        }
        let wait = pause.max(said).min(PAUSE_MAX);
        tokio::time::sleep(wait.mul_f64(rand::rng().random_range(0.5..1.5))).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(())
}

/// One connection, until it ends. True when anything was heard.
async fn follow(
    client: &Client,
    path: &str,
    parser: &mut Parser,
    connected: &mut bool,
    left: &mut Option<u64>,
) -> Result<bool, AppError> {
    let mut request = Request::get("/").header(ACCEPT, "text/event-stream");
    if let Some(id) = &parser.last_id {
        request = request.header("last-event-id", id);
    }
    let response = client.send(request, path, whole("")).await?;
    *connected = true;
    let mut body = response.into_body();
    let mut heard = false;
    loop {
        let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE_MAX, body.frame()).await else {
            return Ok(heard);
        };
        let Some(piece) = frame.data_ref() else {
            continue;
        };
        heard = true;
        let mut out = std::io::stdout().lock();
        for event in parser.push(piece) {
            if event.kind == "reset" {
                let reset = one_line(&event);
                writeln!(
                    std::io::stderr(),
                    "tidings: events may have been missed: {reset}"
                )?;
            } else if *left != Some(0) {
                writeln!(out, "{}", one_line(&event))?;
                *left = left.map(|left| left - 1);
            }
        }
        out.flush()?;
        if *left == Some(0) {
            return Ok(heard);
        }
        if parser.pending() > EVENT_BYTES_MAX {
            let why = "an event is larger than any that a hub sends".to_owned();
            return Err(ClientError::Usage(why).into());
        }
    }
}

/// An event's data as one line: in JSON a line break only ever stands between tokens.
fn one_line(event: &Received) -> String {
    event.data.replace('\n', " ")
}

fn path(args: &TailArgs) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for topic in &args.topics {
        query.append_pair("topic", topic);
    }
    match &args.since {
        Some(since) => query.append_pair("since", since),
        None => query.append_pair("offset", &args.from),
    };
    if args.format == Format::Data {
        query.append_pair("view", "data");
    }
    format!("/v1/events?{}", query.finish())
}
