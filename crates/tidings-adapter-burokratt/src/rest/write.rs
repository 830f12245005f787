//! What is said and done in a chat. A reply goes out only when the log has it.

use std::sync::Arc;

use serde_json::Value;
use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::SET_COOKIE;
use tidings_adapter::{CommandError, Draft};
use uuid::Uuid;

use super::{answered, any_chat, fields, own_chat};
use crate::Shared;
use crate::answer::{NO_CHAT, Refusal, ok};
use crate::auth::{Need, authorize};
use crate::chat::{self, Ask, Change, Done, Said};
use crate::keys::{Channel, kind};
use crate::objects::{Chat, Message, PREVIEW_NUDGE, data, print_time, response};
use crate::params::{CHAT_ID, CHAT_OR_ID, Params, Takes};
use crate::{message_index, messages};

/// The message id of a retry was used for other words.
const USED: Refusal = Refusal::Conflict("the message id was used for something else");

/// No message of this id is retained.
const NO_MESSAGE: Refusal = Refusal::NotFound("no such message");

/// Not in a chat that is over.
const ENDED: Refusal = Refusal::Conflict("the chat has ended");

type Asked = State<Arc<Shared>>;

pub(super) async fn init(State(shared): Asked, request: Request) -> Response {
    answered(accept_init(&shared, request).await)
}

async fn accept_init(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = Channel::parse(&Uuid::new_v4().to_string()).ok_or(Refusal::Away)?;
    let chat = Box::new(fields::chat(&params)?);
    let mut said = fields::said(&params.nested("message"), &headers, &channel)?;
    // A new chat has not heard of any message.
    said.given = false;
    said.message.event = String::new();
    // Before anything is stored: without his cookie the end user could not read his own chat.
    let cookies = shared.tim.new_chat(channel.as_str()).await?;
    note(shared, &said.message.id, &channel).await?;
    let ask = Ask::Init { chat, said };
    let done = change(shared, &channel, &ask).await?;
    // The original mails the agents who are online; chat-list and the active chats stand for that.
    tracing::info!(chat = channel.as_str(), "a chat begins");
    let mut answer = ok(data("get_inserted_chat", &printed(done.chat)));
    for cookie in cookies {
        answer.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(answer)
}

pub(super) async fn post(State(shared): Asked, request: Request) -> Response {
    answered(accept_post(&shared, request, false).await)
}

pub(super) async fn cs_post(State(shared): Asked, request: Request) -> Response {
    answered(accept_post(&shared, request, true).await)
}

async fn accept_post(shared: &Shared, request: Request, agent: bool) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = if agent {
        any_chat(shared, &headers, &params, CHAT_ID).await?
    } else {
        own_chat(shared, &headers, &params, CHAT_ID).await?
    };
    let said = fields::said(&params, &headers, &channel)?;
    let (message, _) = say(shared, &channel, said, Change::Nothing).await?;
    Ok(ok(data("post_message", &message.json())))
}

pub(super) async fn end(State(shared): Asked, request: Request) -> Response {
    answered(accept_end(&shared, request, false).await)
}

pub(super) async fn cs_end(State(shared): Asked, request: Request) -> Response {
    answered(accept_end(&shared, request, true).await)
}

async fn accept_end(shared: &Shared, request: Request, agent: bool) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let (channel, event) = if agent {
        (
            any_chat(shared, &headers, &params, CHAT_ID).await?,
            "ACCEPTED",
        )
    } else {
        (
            own_chat(shared, &headers, &params, CHAT_ID).await?,
            "client-left",
        )
    };
    let mut said = fields::said(&params, &headers, &channel)?;
    if said.message.event.is_empty() {
        // Its readers know by the event that the chat is over.
        said.message.event = event.to_owned();
    }
    let (message, chat) = say(shared, &channel, said, Change::End).await?;
    Ok(ok(if agent {
        data("get_chat_by_id", &printed(chat))
    } else {
        data("end_chat", &message.json())
    }))
}

pub(super) async fn redirect(State(shared): Asked, request: Request) -> Response {
    answered(accept_redirect(&shared, request).await)
}

async fn accept_redirect(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = any_chat(shared, &headers, &params, CHAT_OR_ID).await?;
    let mut owner = fields::owner(&params)?;
    let message = Message {
        chat_id: channel.to_string(),
        event: "redirected".to_owned(),
        author_role: "buerokratt".to_owned(),
        author_timestamp: fields::author_timestamp(&params)?.unwrap_or_default(),
        forwarded_by_user: owner.forwarded_by_user.clone(),
        forwarded_from_csa: owner.forwarded_from_csa.clone(),
        forwarded_to_csa: owner.forwarded_to_csa.clone(),
        rating: Value::from(""),
        ..Message::default()
    };
    // The page names the old agent as `customerSupportId` and the new one here.
    if owner.forwarded_to_csa.is_some() {
        owner.id.clone_from(&owner.forwarded_to_csa);
    }
    let said = fields::said_as(message, &headers);
    let (_, chat) = say(shared, &channel, said, Change::Redirect(owner)).await?;
    Ok(ok(data("get_claimed_chat", &printed(chat))))
}

pub(super) async fn claim(State(shared): Asked, request: Request) -> Response {
    answered(accept_claim(&shared, request).await)
}

async fn accept_claim(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = any_chat(shared, &headers, &params, CHAT_OR_ID).await?;
    let owner = fields::owner(&params)?;
    if owner.id.as_ref().is_none_or(String::is_empty) {
        return Err(Refusal::missing("customerSupportId"));
    }
    let done = change(shared, &channel, &Ask::Claim { owner }).await?;
    Ok(ok(data("get_claimed_chat", &printed(done.chat))))
}

pub(super) async fn replace(State(shared): Asked, request: Request) -> Response {
    answered(accept_replace(&shared, request, false).await)
}

pub(super) async fn cs_replace(State(shared): Asked, request: Request) -> Response {
    answered(accept_replace(&shared, request, true).await)
}

/// Gives a message new words. Clients name the message alone; the chat is his own, or looked up.
async fn accept_replace(
    shared: &Shared,
    request: Request,
    agent: bool,
) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let named = params.maybe_channel(CHAT_ID)?;
    let need = if agent {
        Need::Agent
    } else {
        Need::Chat(named.clone())
    };
    let who = authorize(shared, &headers, need).await?;
    let id = fields::message_id(&params)?.ok_or_else(|| Refusal::missing("id"))?;
    let chats = match named.or(who.chat) {
        Some(chat) => vec![chat],
        None => message_index::chats_of(&shared.hub, &id).await?,
    };
    let mut found = None;
    for chat in chats {
        let versions = messages::find(&shared.hub, &chat, &id).await?;
        if let Some(message) = versions.last().and_then(messages::Version::message) {
            found = Some((chat, message));
            break;
        }
    }
    let (channel, mut message) = found.ok_or(NO_MESSAGE)?;
    if let Some(event) = fields::event(&params)? {
        message.event = event;
    }
    if let Some(content) = params.text("content")? {
        message.content = content;
    }
    if let Some(time) = fields::author_timestamp(&params)? {
        message.author_timestamp = time;
    }
    let ask = Ask::Replace {
        message: message.clone(),
    };
    let done = change(shared, &channel, &ask).await?;
    message.updated = print_time(done.at_ms);
    Ok(ok(data("post_message", &message.json())))
}

pub(super) async fn preview(State(shared): Asked, request: Request) -> Response {
    answered(accept_preview(&shared, request).await)
}

/// Somebody types: told to who listens now, and kept nowhere.
async fn accept_preview(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = own_chat(shared, &headers, &params, CHAT_ID).await?;
    let chat = chat::load(&shared.hub, &channel).await?.ok_or(NO_CHAT)?;
    if chat.ended() {
        return Err(ENDED);
    }
    let draft = Draft::new(channel.topic(), kind::PREVIEW, PREVIEW_NUDGE);
    shared.hub.flash(vec![draft]).await?;
    Ok(ok(response(r#""Message Event Sent Successfully""#)))
}

/// Says a message, and answers it as it is stored, with the chat as it is then.
pub(super) async fn say(
    shared: &Shared,
    channel: &Channel,
    said: Said,
    change: Change,
) -> Result<(Message, Option<Chat>), Refusal> {
    note(shared, &said.message.id, channel).await?;
    let (mut message, given) = (said.message.clone(), said.given);
    let ask = Ask::Post { said, change };
    let done = match shared.hub.command(chat::command(channel, &ask)).await {
        Ok(decided) => Done::parse(&decided.answer),
        Err(CommandError::Duplicate { .. }) => Err(USED),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(done) => {
            message.said_at(done.at_ms);
            Ok((message, done.chat))
        }
        // It may be a retry of one that was said before the chat ended.
        Err(refusal) if given && (refusal == USED || refusal == ENDED) => {
            again(shared, channel, message).await?.ok_or(refusal)
        }
        Err(refusal) => Err(refusal),
    }
}

/// The first answer to a message that is said again in the same words.
async fn again(
    shared: &Shared,
    channel: &Channel,
    message: Message,
) -> Result<Option<(Message, Option<Chat>)>, Refusal> {
    let versions = messages::find(&shared.hub, channel, &message.id).await?;
    let stored = versions.iter().filter_map(messages::Version::message);
    let Some(first) = stored
        .into_iter()
        .find(|first| first.is_said_again(&message))
    else {
        return Ok(None);
    };
    let chat = chat::load(&shared.hub, channel).await?;
    Ok(Some((first, chat.map(|record| record.chat))))
}

/// Notes where a message is going to be.
async fn note(shared: &Shared, message: &str, channel: &Channel) -> Result<(), Refusal> {
    let command = message_index::command(message, channel);
    shared.hub.command(command).await?;
    Ok(())
}

pub(crate) async fn change(shared: &Shared, channel: &Channel, ask: &Ask) -> Result<Done, Refusal> {
    let decided = shared.hub.command(chat::command(channel, ask)).await?;
    Done::parse(&decided.answer)
}

fn printed(chat: Option<Chat>) -> String {
    chat.map_or_else(|| "null".to_owned(), |chat| chat.json())
}
