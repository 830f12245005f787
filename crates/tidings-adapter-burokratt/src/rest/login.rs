//! `POST /login-with-tara-jwt`: the end user showed who he is.

use std::sync::Arc;

use serde_json::Value;
use tidings_adapter::axum::extract::{Request, State};
use tidings_adapter::axum::response::Response;

use super::{answered, fields, own_chat, write};
use crate::Shared;
use crate::answer::{Refusal, ok};
use crate::chat::Change;
use crate::objects::{Message, data};
use crate::params::{CHAT_ID, Params, Takes};

/// Bytes of a name that TIM tells.
const NAME_BYTES_MAX: usize = 1_024;

pub(super) async fn login(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    answered(accept(&shared, request).await)
}

async fn accept(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = own_chat(shared, &headers, &params, CHAT_ID).await?;
    let cookie = &shared.settings.options.tara_cookie;
    let info = shared.tim.tara(cookie, &headers).await?;
    let event = match &info {
        Some(_) => "authentication_successful",
        None => "authentication_failed",
    };
    let message = Message {
        chat_id: channel.to_string(),
        event: event.to_owned(),
        author_role: "backoffice-user".to_owned(),
        author_timestamp: fields::author_timestamp(&params)?.unwrap_or_default(),
        rating: Value::from(""),
        ..Message::default()
    };
    let change = match &info {
        Some(info) => {
            let name = |key: &str| {
                let text = info.get(key).and_then(Value::as_str)?;
                (text.len() <= NAME_BYTES_MAX).then(|| text.to_owned())
            };
            Change::Login(name("personalCode"), name("firstName"), name("lastName"))
        }
        None => Change::Nothing,
    };
    let said = fields::said_as(message, &headers);
    write::say(shared, &channel, said, change).await?;
    if info.is_none() {
        return Err(Refusal::Unauthorized);
    }
    shared.tim.blacklist_tara(cookie, &headers).await;
    Ok(ok(data("blacklist_tara_jwt", r#""""#)))
}
