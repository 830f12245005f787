//! What a request says of a message and of a chat, within bounds.

use serde_json::Value;
use tidings_adapter::http::HeaderMap;
use uuid::Uuid;

use crate::answer::Refusal;
use crate::chat::{Owner, Said};
use crate::keys::Channel;
use crate::objects::{Chat, Message, parse_time, print_time};
use crate::params::{Params, trace_parent};

/// Bytes of names, roles, ids: what stands in a chat's record is bounded, and no honest one is near.
const TEXT_BYTES_MAX: usize = 1_024;

/// Bytes of an event's name.
const EVENT_BYTES_MAX: usize = 256;

/// Bytes of the address of the page that a chat began on.
const URL_BYTES_MAX: usize = 4_096;

/// Bytes of a message's id.
const ID_BYTES_MAX: usize = 64;

/// A text of at most so many bytes.
pub(crate) fn text(params: &Params, name: &str, max: usize) -> Result<Option<String>, Refusal> {
    let text = params.text(name)?;
    if text.as_ref().is_some_and(|text| text.len() > max) {
        let words = format!("`{name}` is longer than {max} bytes");
        return Err(Refusal::Malformed(words));
    }
    Ok(text)
}

fn short(params: &Params, name: &str) -> Result<String, Refusal> {
    Ok(text(params, name, TEXT_BYTES_MAX)?.unwrap_or_default())
}

/// The same; an empty text is none.
fn filled(params: &Params, name: &str) -> Result<Option<String>, Refusal> {
    Ok(text(params, name, TEXT_BYTES_MAX)?.filter(|text| !text.is_empty()))
}

/// A message's id, if the client gave one.
pub(crate) fn message_id(params: &Params) -> Result<Option<String>, Refusal> {
    let Some(id) = params.text("id")?.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if id.len() > ID_BYTES_MAX || !id.chars().all(plain) {
        return Err(Refusal::Malformed("`id` is no id".into()));
    }
    Ok(Some(id))
}

/// An author's time as it is printed; one that cannot be read, as it was sent.
pub(crate) fn author_timestamp(params: &Params) -> Result<Option<String>, Refusal> {
    let text = text(params, "authorTimestamp", 64)?.filter(|text| !text.is_empty());
    Ok(text.map(|text| parse_time(&text).map_or(text, print_time)))
}

/// The event's name.
pub(crate) fn event(params: &Params) -> Result<Option<String>, Refusal> {
    text(params, "event", EVENT_BYTES_MAX)
}

/// A message as a request says it, without an id and times of the hub.
pub(crate) fn message(params: &Params, channel: &Channel) -> Result<Message, Refusal> {
    Ok(Message {
        id: String::new(),
        chat_id: channel.to_string(),
        content: params.text("content")?.unwrap_or_default(),
        event: event(params)?.unwrap_or_default(),
        author_id: short(params, "authorId")?,
        author_timestamp: author_timestamp(params)?.unwrap_or_default(),
        author_first_name: short(params, "authorFirstName")?,
        author_last_name: short(params, "authorLastName")?,
        author_role: short(params, "authorRole")?,
        forwarded_by_user: filled(params, "forwardedByUser")?,
        forwarded_from_csa: filled(params, "forwardedFromCsa")?,
        forwarded_to_csa: filled(params, "forwardedToCsa")?,
        rating: rating(params)?,
        created: String::new(),
        updated: String::new(),
        buttons: params.value("buttons").cloned(),
        options: params.value("options").cloned(),
        preview: params.value("preview").cloned(),
        csa_title: params.value("csaTitle").cloned(),
        original_base_id: params.value("originalBaseId").cloned(),
    })
}

/// A rating as it was sent, a text or a number.
fn rating(params: &Params) -> Result<Value, Refusal> {
    match params.value("rating") {
        Some(Value::Number(number)) => Ok(Value::Number(number.clone())),
        _ => Ok(Value::from(short(params, "rating")?)),
    }
}

/// A message that is new, under the client's id or one of its own.
pub(crate) fn said(
    params: &Params,
    headers: &HeaderMap,
    channel: &Channel,
) -> Result<Said, Refusal> {
    let given = message_id(params)?;
    let mut said = said_as(message(params, channel)?, headers);
    if let Some(id) = given {
        said.message.id = id;
        said.given = true;
    }
    Ok(said)
}

/// A message that is new, under an id of its own.
pub(crate) fn said_as(message: Message, headers: &HeaderMap) -> Said {
    let id = Uuid::new_v4().to_string();
    Said {
        message: Message { id, ..message },
        trace: trace_parent(headers),
        ..Said::default()
    }
}

/// What a new chat says of its end user: nested, as the widget sends it, or flat.
pub(crate) fn chat(params: &Params) -> Result<Chat, Refusal> {
    let technical = params.nested("endUserTechnicalData");
    Ok(Chat {
        end_user_id: short(params, "endUserId")?,
        end_user_first_name: short(params, "endUserFirstName")?,
        end_user_last_name: short(params, "endUserLastName")?,
        end_user_os: short(&technical, "endUserOs")?,
        end_user_url: text(&technical, "endUserUrl", URL_BYTES_MAX)?.unwrap_or_default(),
        ..Chat::default()
    })
}

/// Whose a chat becomes.
pub(crate) fn owner(params: &Params) -> Result<Owner, Refusal> {
    let maybe = |name| text(params, name, TEXT_BYTES_MAX);
    Ok(Owner {
        id: maybe("customerSupportId")?,
        name: maybe("customerSupportDisplayName")?,
        title: maybe("csaTitle")?,
        forwarded_by_user: filled(params, "forwardedByUser")?,
        forwarded_from_csa: filled(params, "forwardedFromCsa")?,
        forwarded_to_csa: filled(params, "forwardedToCsa")?,
    })
}
