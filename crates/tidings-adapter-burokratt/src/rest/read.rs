//! What is asked about chats, the queue and the components. Every answer has what was written, on any
//! instance, before it was asked.

use std::sync::Arc;

use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::HeaderValue;

use super::{answered, any_chat, own_chat};
use crate::Shared;
use crate::answer::{NO_CHAT, Refusal, ok};
use crate::auth::{Need, authorize};
use crate::keys::Channel;
use crate::objects::{data, parse_time, with_small_chatid};
use crate::params::{CHAT_ID, CHAT_OR_ID, Params, Takes};
use crate::{chat, health, messages, queue};

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
    let mut answer = ok(found.answer());
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
    Ok(ok(record.answer()))
}

pub(super) async fn active(State(shared): Asked, request: Request) -> Response {
    answered(accept_active(&shared, request).await)
}

async fn accept_active(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, _) = Params::read(request, Takes::Json).await?;
    authorize(shared, &headers, Need::Agent).await?;
    let list = shared.lists.active(&shared.hub).await?;
    Ok(ok(list))
}

pub(super) async fn health(State(shared): Asked, request: Request) -> Response {
    answered(accept_health(&shared, request).await)
}

async fn accept_health(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    Params::read(request, Takes::Json).await?;
    let board = health::load(&shared.hub).await?;
    Ok(ok(board.answer(&shared.settings)))
}

pub(super) async fn estimate(State(shared): Asked, request: Request) -> Response {
    answered(accept_estimate(&shared, request).await)
}

async fn accept_estimate(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = params.maybe_channel(CHAT_ID)?;
    let hub = &shared.hub;
    if let Some(channel) = &channel {
        authorize(shared, &headers, Need::Either(channel.clone())).await?;
    }
    let line = shared.lists.line(hub).await?;
    let id = channel.as_ref().map_or("", Channel::as_str);
    if let Some(channel) = &channel
        && line.place(id) == 0
        && !queue::is_known(hub, channel).await?
    {
        return Err(NO_CHAT);
    }
    let terms = queue::Terms::of(&shared.settings);
    Ok(ok(line.answer(id, &terms, hub.now().unix_ms)))
}
