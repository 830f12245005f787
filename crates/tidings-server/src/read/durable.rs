//! `GET` and `HEAD /v1/topics/<topic>`: the read half of the Durable Streams protocol 1.0, in JSON
//! mode. Offsets are event ids, which sort as text. Topics need no creation: one that never had an
//! event is empty.

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidings_adapter::{Hub, ReadPage, longpoll, sse};
use tidings_core::{EventId, From, PageLimit, Printed, Topic, Variant};

use super::live::{Poll, Tail};
use super::parameters::{Live, Parameters};
use super::{ReadSettings, lost};
use crate::problem::{Cause, Problem};

/// Answers a read of one topic.
///
/// # Errors
/// A [`Problem`]: a parameter that is not understood, a cursor that is not `ok` (410, with the place
/// to reload from), or a log out of reach.
pub async fn topic(
    hub: &Hub,
    settings: &ReadSettings,
    topic: Topic,
    query: Option<&str>,
    headers: &HeaderMap,
    head_only: bool,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query)?;
    if head_only {
        return metadata(hub, &topic).await;
    }
    let (offset, live, view) = (parameters.offset()?, parameters.live()?, parameters.view()?);
    let collapse = Collapse {
        unix_ms: hub.now().unix_ms,
        client: parameters.collapse(),
    };
    match live {
        Live::CatchUp => {
            let from = offset.unwrap_or(From::Oldest);
            let page = read(hub, &topic, from, settings.page).await?;
            Ok(catch_up(&topic, from, &page, view.json(), headers))
        }
        Live::LongPoll => {
            let from = offset.ok_or_else(no_offset)?;
            let page = read(hub, &topic, from, settings.page).await?;
            if !page.events.is_empty() {
                let mut response = catch_up(&topic, from, &page, view.json(), &HeaderMap::new());
                set(&mut response, STREAM_CURSOR, &collapse.print());
                response
                    .headers_mut()
                    .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                return Ok(response);
            }
            let session = Poll::new(topic, page.next, view, settings, collapse);
            let mut response = longpoll::serve(hub, session, settings.driver.clone()).await;
            secure(&mut response);
            Ok(response)
        }
        Live::Stream => {
            let (from, end) = bounds(hub, &topic, offset.ok_or_else(no_offset)?).await?;
            let session = Tail::new(topic, from, end, view, settings, collapse);
            let mut response = sse::serve(hub, session, settings.driver.clone()).await;
            secure(&mut response);
            Ok(response)
        }
    }
}

fn no_offset() -> Problem {
    Problem::new(
        Cause::InvalidParameter,
        "`live` needs an `offset`: `-1`, `now`, or what `Stream-Next-Offset` said",
    )
    .field("offset")
}

async fn read(hub: &Hub, topic: &Topic, from: From, limit: PageLimit) -> Result<ReadPage, Problem> {
    let page = hub
        .read(topic, from, limit)
        .await
        .map_err(|error| Problem::of_log(&error))?;
    match lost(topic, page.verdict) {
        Some(problem) => Err(problem),
        None => Ok(page),
    }
}

/// Where a stream starts, and the last event that it must bring before its reader is level. Both are
/// the log's word, not that of this instance's window: the tail may not have seen yet what another
/// request was just answered with, and `upToDate` (§5.8) would then hide it.
async fn bounds(hub: &Hub, topic: &Topic, from: From) -> Result<(From, EventId), Problem> {
    let page = read(hub, topic, from, ONE_EVENT).await?;
    if from == From::Newest {
        return Ok((From::After(page.next), EventId::ORIGIN));
    }
    let end = if page.events.is_empty() {
        EventId::ORIGIN
    } else if page.at_end {
        page.next
    } else {
        // A topic that has events has a head: this is an event of it, and will come.
        read(hub, topic, From::Newest, ONE_EVENT).await?.next
    };
    Ok((from, end))
}

/// As little as a page can be.
const ONE_EVENT: PageLimit = PageLimit {
    events: 1,
    bytes: 1,
};

async fn metadata(hub: &Hub, topic: &Topic) -> Result<Response, Problem> {
    let page = read(hub, topic, From::Newest, ONE_EVENT).await?;
    let mut response = json(Body::empty());
    set(&mut response, STREAM_NEXT_OFFSET, &page.next.to_string());
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    secure(&mut response);
    Ok(response)
}

fn catch_up(
    topic: &Topic,
    from: From,
    page: &ReadPage,
    print: Variant,
    headers: &HeaderMap,
) -> Response {
    let etag = etag(topic, from, page);
    let unchanged = etag.as_ref().is_some_and(|etag| {
        headers.get_all(IF_NONE_MATCH).iter().any(|given| {
            given
                .as_bytes()
                .split(|b| *b == b',')
                .map(<[u8]>::trim_ascii)
                // A proxy that compresses on the way weakens the tag (RFC 9110 §13.1.2 compares weakly).
                .any(|one| one.strip_prefix(b"W/").unwrap_or(one) == etag.as_bytes())
        })
    });
    let mut response = json(if unchanged {
        Body::empty()
    } else {
        Body::from(array(&page.events, print))
    });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    set(&mut response, STREAM_NEXT_OFFSET, &page.next.to_string());
    if page.at_end {
        set(&mut response, STREAM_UP_TO_DATE, "true");
    }
    if let Some(etag) = etag {
        set(&mut response, "etag", &etag);
    }
    // A full page never changes until it expires; what reaches the end of the topic may be out of
    // date at once, and a cache that held it would hide events that were acknowledged.
    let caching = match (page.at_end, from) {
        (false, From::After(_)) => "private, max-age=60, stale-while-revalidate=300",
        _ => "no-store",
    };
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    secure(&mut response);
    response
}

/// What was read, from where to where; `now` has none, since it names no content (§10.1).
fn etag(topic: &Topic, from: From, page: &ReadPage) -> Option<String> {
    let start = match from {
        From::Newest => return None,
        From::After(place) => place.to_string(),
        From::Oldest | From::Since(_) => page
            .events
            .first()
            .map_or_else(|| "-1".to_owned(), |first| first.event().id.to_string()),
    };
    Some(format!(
        "\"{topic}:{start}:{}:{}\"",
        page.next,
        page.events.len()
    ))
}

/// A JSON array of printed events.
pub(super) fn array(events: &[std::sync::Arc<dyn Printed>], print: Variant) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(b'[');
    for (index, printed) in events.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        out.extend_from_slice(&printed.printed(print));
    }
    out.put_u8(b']');
    out.freeze()
}

pub(super) const STREAM_NEXT_OFFSET: &str = "stream-next-offset";
pub(super) const STREAM_UP_TO_DATE: &str = "stream-up-to-date";
pub(super) const STREAM_CURSOR: &str = "stream-cursor";

fn json(body: Body) -> Response {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    // All values are printed from ids, topics and numbers, which hold no byte a header may not.
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// Durable Streams §12.7.
fn secure(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
}

/// The collapsing cursor of Durable Streams §10.1: the number of the present 20-second interval,
/// but always beyond what the client has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collapse {
    pub(super) unix_ms: u64,
    pub(super) client: Option<u64>,
}

/// 2024-10-09T00:00:00Z.
const EPOCH_MS: u64 = 1_728_432_000_000;
const INTERVAL_MS: u64 = 20_000;
/// Up to an hour of jitter, in intervals.
const JITTER_INTERVALS: u64 = 180;

impl Collapse {
    pub(super) fn print(self) -> String {
        let present = self.unix_ms.saturating_sub(EPOCH_MS) / INTERVAL_MS;
        let next = match self.client {
            // The milliseconds are random enough to part clients that share a cursor.
            Some(client) if client >= present => {
                client.saturating_add(1 + self.unix_ms % JITTER_INTERVALS)
            }
            _ => present,
        };
        next.to_string()
    }

    /// The same, later.
    pub(super) fn at(self, unix_ms: u64) -> Self {
        Self { unix_ms, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collapsing_cursor_never_goes_back() {
        let at = |unix_ms, client| {
            Collapse { unix_ms, client }
                .print()
                .parse::<u64>()
                .expect("a number")
        };
        assert_eq!(at(EPOCH_MS + 40_000, None), 2);
        assert_eq!(at(EPOCH_MS + 40_000, Some(1)), 2);
        assert!(at(EPOCH_MS + 40_000, Some(2)) > 2);
        assert!(at(EPOCH_MS + 40_000, Some(900)) > 900);
    }
}
