//! What is asked about chats, the queue and the components. Every answer has what was written, on any
//! instance, before it was asked.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_adapter::Listed;
use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::HeaderValue;

use super::{answered, any_chat, own_chat};
use crate::Shared;
use crate::answer::{NO_CHAT, Refusal, ok};
use crate::auth::{Need, authorize};
use crate::keys::{self, Channel};
use crate::objects::{self, data, parse_time, with_small_chatid};
use crate::params::{CHAT_ID, CHAT_OR_ID, Params, Takes};
use crate::{chat, health, messages, queue};

/// Chats of one list.
const ACTIVE_MAX: usize = 10_000;

type Asked = State<Arc<Shared>>;

pub(super) async fn messages(State(shared): Asked, request: Request) -> Response {
    answered(accept_messages(&shared, request, false).await)
}

pub(super) async fn cs_messages(State(shared): Asked, request: Request) -> Response {
    answered(accept_messages(&shared, request, true).await)
}

async fn accept_messages(
    shared: &Shared,
    request: Request,
    agent: bool,
) -> Result<Response, Refusal> {
    let (channel, _) = asked_chat(shared, request, agent).await?;
    let found = all_messages(shared, &channel).await?;
    let mut answer = ok(data("cs_get_messages_by_chat_id", &found.print()));
    // Whoever opens a stream from here misses nothing.
    if let Ok(end) = HeaderValue::from_str(&found.end.to_string()) {
        answer.headers_mut().insert("x-last-event-id", end);
    }
    Ok(answer)
}

pub(super) async fn new_messages(State(shared): Asked, request: Request) -> Response {
    answered(accept_new_messages(&shared, request, false).await)
}

pub(super) async fn cs_new_messages(State(shared): Asked, request: Request) -> Response {
    answered(accept_new_messages(&shared, request, true).await)
}

async fn accept_new_messages(
    shared: &Shared,
    request: Request,
    agent: bool,
) -> Result<Response, Refusal> {
    let (channel, params) = asked_chat(shared, request, agent).await?;
    let since_ms = since(&params)?;
    let found = all_messages(shared, &channel).await?;
    let new = found.newest.iter();
    let new = new.filter(|one| since_ms.is_none_or(|since_ms| one.updated_ms > since_ms));
    let list = messages::list(new.map(|one| with_small_chatid(&one.data)));
    Ok(ok(data("cs_get_new_messages", &list)))
}

/// From when on messages are new, milliseconds since 1970: later than this. What is no time is
/// nothing.
pub(crate) fn since(params: &Params) -> Result<Option<u64>, Refusal> {
    let text = params.first(&["lastRead", "timeRangeBegin"])?;
    Ok(text.and_then(|text| parse_time(&text)))
}

async fn asked_chat(
    shared: &Shared,
    request: Request,
    agent: bool,
) -> Result<(Channel, Params), Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = if agent {
        any_chat(shared, &headers, &params, CHAT_OR_ID).await?
    } else {
        own_chat(shared, &headers, &params, CHAT_OR_ID).await?
    };
    Ok((channel, params))
}

async fn all_messages(shared: &Shared, channel: &Channel) -> Result<messages::Messages, Refusal> {
    let (chat, found) = tokio::join!(
        chat::load(&shared.hub, channel),
        messages::of_chat(&shared.hub, channel)
    );
    chat?.ok_or(NO_CHAT)?;
    Ok(found?)
}

pub(super) async fn chat(State(shared): Asked, request: Request) -> Response {
    answered(accept_chat(&shared, request).await)
}

async fn accept_chat(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = own_chat(shared, &headers, &params, &["id", "chatId", "chatid"]).await?;
    let record = chat::load(&shared.hub, &channel).await?.ok_or(NO_CHAT)?;
    Ok(ok(data("get_chat_by_id", &record.print())))
}

pub(super) async fn active(State(shared): Asked, request: Request) -> Response {
    answered(accept_active(&shared, request).await)
}

async fn accept_active(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, _) = Params::read(request, Takes::Json).await?;
    authorize(shared, &headers, Need::Agent).await?;
    let hub = &shared.hub;
    let read = async || {
        let listed = hub
            .list(keys::record::CHAT, keys::index::ACTIVE, ACTIVE_MAX)
            .await;
        listed
            .map(|listed| Bytes::from(data("get_all_active_chats", &print_chats(&listed.entries))))
            .map_err(Arc::new)
    };
    match shared.active.get(read).await {
        Ok(list) => Ok(ok(list)),
        Err(error) => {
            tracing::debug!(%error, "the active chats were not read");
            Err(Refusal::Away)
        }
    }
}

/// The chats of index entries as a JSON list.
fn print_chats(entries: &[Listed]) -> String {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        chat: &'a RawValue,
    }
    messages::list(entries.iter().filter_map(|one| {
        let document: Document<'_> = serde_json::from_slice(&one.record.document).ok()?;
        Some(document.chat.get())
    }))
}

pub(super) async fn health(State(shared): Asked, request: Request) -> Response {
    answered(accept_health(&shared, request).await)
}

async fn accept_health(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    Params::read(request, Takes::Json).await?;
    let board = health::load(&shared.hub).await?;
    let names = shared.settings.components.iter();
    let printed = board.print(names.map(|(name, _)| name.as_str()));
    Ok(ok(data("set_healthz_response", &printed)))
}

pub(super) async fn estimate(State(shared): Asked, request: Request) -> Response {
    answered(accept_estimate(&shared, request).await)
}

async fn accept_estimate(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = params.maybe_channel(CHAT_ID)?;
    let hub = &shared.hub;
    let position = match channel {
        None => 0,
        Some(channel) => {
            authorize(shared, &headers, Need::Either(channel.clone())).await?;
            let read = async || queue::load(hub).await.map(Arc::new).map_err(Arc::new);
            let queue = shared.queue.get(read).await.map_err(|error| {
                tracing::debug!(%error, "the queue was not read");
                Refusal::Away
            })?;
            let position = queue.position(channel.as_str());
            if position == 0 && !queue::is_known(hub, &channel).await? {
                return Err(NO_CHAT);
            }
            position
        }
    };
    let terms = queue::Terms::of(&shared.settings);
    let waits = queue::waits(hub).await?;
    let seconds = waits.estimate(position, &terms, hub.now().unix_ms);
    Ok(ok(objects::response(&objects::estimate(seconds, position))))
}
