//! The notification-server's endpoints, so that what calls it today may call the hub: raw payloads for
//! channels, the queue, chats and sessions that end when their page went.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tidings_adapter::axum::Router;
use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::extract::rejection::PathRejection;
use tidings_adapter::axum::extract::{Path, Request, State};
use tidings_adapter::axum::handler::Handler;
use tidings_adapter::axum::response::Response;
use tidings_adapter::axum::routing::post;
use tidings_adapter::http::header::CONTENT_TYPE;
use tidings_adapter::http::{HeaderMap, HeaderValue, StatusCode};
use tidings_adapter::{Attributes, Draft};

use crate::answer::{Refusal, json_text, ok};
use crate::auth::{Need, authorize, cookie, cookies};
use crate::chat::Ask;
use crate::keys::{Channel, DATA_BYTES_MAX, kind};
use crate::objects::response;
use crate::options::millis;
use crate::params::{CHAT_ID, Params, Takes, read, trace_parent};
use crate::rest::{answered, change};
use crate::{Shared, logout};

/// Notifications of one request. Each is an append of about 10 µs in Redis.
const OPERATIONS_MAX: usize = 1_000;

/// Bytes of a session's cookies; a record has room for them.
const COOKIES_BYTES_MAX: usize = 8 * 1024;

/// Every path of the table, bare and under `/ruuter`. What changes nothing by GET or POST is refused
/// with 403 there, by a check against forged requests: so here.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let mut table = Table(Router::new());
    table.add("/bulk-notifications", bulk);
    for opensearch in ["", "/opensearch"] {
        table.add(&format!("{opensearch}/notifications/_doc"), document);
        let path = format!("{opensearch}/notifications/_delete_by_query");
        table.add(&path, delete_by_query);
    }
    table.add("/enqueue", enqueue);
    table.add("/dequeue", dequeue);
    table.add("/add-chat-to-termination-queue", terminate);
    table.add("/remove-chat-from-termination-queue", spare);
    table.add("/add-to-logout-queue", add_logout);
    table.add("/remove-from-logout-queue", remove_logout);
    table.add("/channels/{id}/stream", stream);
    table.add("/channels/{id}/llm-stream", llm_stream);
    table.add("/channels/{id}/stream/stop", stop_stream);
    table.0
}

struct Table(Router<Arc<Shared>>);

impl Table {
    fn add<T: 'static>(&mut self, path: &str, handler: impl Handler<T, Arc<Shared>>) {
        for prefix in ["", "/ruuter"] {
            let method = post(handler.clone())
                .put(forbidden)
                .patch(forbidden)
                .delete(forbidden);
            let router = std::mem::take(&mut self.0);
            self.0 = router.route(&format!("{prefix}{path}"), method);
        }
    }
}

type Asked = State<Arc<Shared>>;

async fn forbidden() -> Response {
    Refusal::Forbidden("not with this method").response()
}

async fn bulk(State(shared): Asked, request: Request) -> Response {
    answered(accept_bulk(&shared, request).await)
}

async fn accept_bulk(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    /// What precedes each notification, an action of OpenSearch, is looked at no closer.
    #[derive(Deserialize)]
    struct Bulk<'a> {
        #[serde(borrow)]
        operations: Vec<&'a RawValue>,
    }
    let (headers, _, body) = read(request, Takes::Json).await?;
    authorize(shared, &headers, Need::Backend).await?;
    let bulk: Bulk<'_> = serde_json::from_slice(&body)
        .map_err(|_| Refusal::Malformed("`operations` is not a list".into()))?;
    if bulk.operations.len() > 2 * OPERATIONS_MAX {
        return Err(Refusal::TooLarge);
    }
    let drafts = bulk.operations.iter().map(|one| notification(one.get()));
    let mut drafts: Vec<Draft> = drafts
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    if drafts.len() > OPERATIONS_MAX {
        return Err(Refusal::TooLarge); // an operation need not have an action before it
    }
    for draft in &mut drafts {
        draft.attributes = traced(&headers);
    }
    for result in shared.hub.publish(drafts).await {
        result?;
    }
    Ok(ok(response(r#""sent successfully""#)))
}

async fn document(State(shared): Asked, request: Request) -> Response {
    answered(accept_document(&shared, request).await)
}

async fn accept_document(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (headers, _, body) = read(request, Takes::Json).await?;
    authorize(shared, &headers, Need::Backend).await?;
    let body = std::str::from_utf8(&body).unwrap_or_default();
    let mut draft = notification(body)?.ok_or_else(|| Refusal::missing("channelId"))?;
    draft.attributes = traced(&headers);
    let stored = shared.hub.publish(vec![draft]).await.pop();
    let stored = stored.ok_or(Refusal::Away)??;
    let body = json!({"_id": stored.id.to_string(), "result": "created"});
    Ok(json_text(StatusCode::CREATED, body.to_string()))
}

/// The trace that a request belongs to, so that a delivery can be seen to.
fn traced(headers: &HeaderMap) -> Option<Box<Attributes>> {
    let trace_parent = trace_parent(headers)?;
    Some(Box::new(Attributes {
        trace_parent: Some(trace_parent.into()),
        ..Attributes::default()
    }))
}

/// A notification as it is stored; `None`: it names no channel.
pub(crate) fn notification(text: &str) -> Result<Option<Draft>, Refusal> {
    #[derive(Deserialize)]
    struct Notification<'a> {
        #[serde(rename = "channelId")]
        channel: Option<Value>,
        #[serde(borrow)]
        payload: Option<&'a RawValue>,
    }
    let bad = |words: &str| Refusal::Malformed(words.to_owned());
    let said: Notification<'_> =
        serde_json::from_str(text).map_err(|_| bad("a notification is no JSON object"))?;
    let channel = match said.channel {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => Channel::parse(&text),
        Some(Value::Number(number)) => Channel::parse(&number.to_string()),
        Some(_) => None,
    };
    let channel = channel.ok_or_else(|| bad("`channelId` is no id"))?;
    let payload = said.payload.map_or("null", RawValue::get);
    if payload.len() > DATA_BYTES_MAX {
        return Err(Refusal::TooLarge);
    }
    Ok(Some(raw(&channel, payload)))
}

/// A payload for a channel, verbatim but on one line: within JSON texts line ends are escaped, so that
/// these stand between its parts.
pub(crate) fn raw(channel: &Channel, payload: &str) -> Draft {
    let line: String = payload
        .chars()
        .filter(|c| !matches!(c, '\n' | '\r'))
        .collect();
    Draft::new(channel.topic(), kind::RAW, line)
}

/// Notifications are dropped by time alone: who deletes the last one before he writes the next loses
/// it for who is just away.
async fn delete_by_query(State(shared): Asked, request: Request) -> Response {
    let accept = async {
        let (headers, _, _) = read(request, Takes::Json).await?;
        authorize(&shared, &headers, Need::Backend).await?;
        Ok(ok(r#"{"deleted":0}"#))
    };
    answered(accept.await)
}

async fn enqueue(State(shared): Asked, request: Request) -> Response {
    answered(line_up(&shared, request, &Ask::Enqueue, "enqueued successfully").await)
}

async fn dequeue(State(shared): Asked, request: Request) -> Response {
    answered(line_up(&shared, request, &Ask::Dequeue, "dequeued successfully").await)
}

async fn line_up(
    shared: &Shared,
    request: Request,
    ask: &Ask,
    words: &str,
) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    authorize(shared, &headers, Need::Backend).await?;
    let channel = params.channel(&["id", "chatId", "chatid"])?;
    if channel.is_chat_list() {
        return Err(Refusal::Malformed("`id` is no chat's".into()));
    }
    change(shared, &channel, ask).await?;
    Ok(ok(response(&Value::from(words).to_string())))
}

async fn terminate(State(shared): Asked, request: Request) -> Response {
    answered(accept_terminate(&shared, request).await)
}

async fn accept_terminate(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (channel, params) = leaving(shared, request).await?;
    let after_ms = timeout_ms(shared, params.text("timeout")?);
    change(shared, &channel, &Ask::Terminate { after_ms }).await?;
    Ok(ok(response(r#""Chat will be terminated soon""#)))
}

/// Seconds as a page tells them, within bounds; what is no number of them is the usual time.
fn timeout_ms(shared: &Shared, text: Option<String>) -> u64 {
    let options = &shared.settings.options;
    let seconds: Option<f64> = text.and_then(|text| text.trim().parse().ok());
    match seconds.filter(|seconds| seconds.is_finite() && *seconds >= 0.0) {
        Some(seconds) => {
            let most = options.termination_max.0.as_secs_f64();
            let time = std::time::Duration::from_secs_f64(seconds.min(most));
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        }
        None => millis(options.termination),
    }
}

async fn spare(State(shared): Asked, request: Request) -> Response {
    answered(accept_spare(&shared, request).await)
}

async fn accept_spare(shared: &Shared, request: Request) -> Result<Response, Refusal> {
    let (channel, _) = leaving(shared, request).await?;
    change(shared, &channel, &Ask::Spare).await?;
    Ok(ok(response(r#""Chat termination will be canceled""#)))
}

async fn leaving(shared: &Shared, request: Request) -> Result<(Channel, Params), Refusal> {
    let (headers, params) = Params::read(request, Takes::Beacon).await?;
    let channel = params.channel(CHAT_ID)?;
    authorize(shared, &headers, Need::Either(channel.clone())).await?;
    Ok((channel, params))
}

async fn add_logout(State(shared): Asked, request: Request) -> Response {
    answered(line_up_logout(&shared, request, true).await)
}

async fn remove_logout(State(shared): Asked, request: Request) -> Response {
    answered(line_up_logout(&shared, request, false).await)
}

/// Anybody may: it is his own session, by the cookies that he has.
async fn line_up_logout(shared: &Shared, request: Request, add: bool) -> Result<Response, Refusal> {
    let (headers, _, _) = read(request, Takes::Beacon).await?;
    let cookies = cookies(&headers);
    if shared.settings.logout.is_some() && !cookies.is_empty() {
        if cookies.len() > COOKIES_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let agent = cookie(&cookies, &shared.settings.options.agent_cookie);
        let identity = agent.unwrap_or(&cookies).to_owned();
        let ask = if add {
            logout::Ask::Add { cookies }
        } else {
            logout::Ask::Remove
        };
        shared.hub.command(logout::command(&identity, &ask)).await?;
    }
    if !add {
        return Ok(ok(response(r#""Logout would be canceled""#)));
    }
    let mut answer = Response::new(Body::from("OK"));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, text);
    Ok(answer)
}

/// The channel that a path names, if that is a text at all.
type Named = Result<Path<String>, PathRejection>;

async fn stream(State(shared): Asked, id: Named, request: Request) -> Response {
    answered(trigger(&shared, id, request, Some("messages")).await)
}

async fn llm_stream(State(shared): Asked, id: Named, request: Request) -> Response {
    answered(trigger(&shared, id, request, Some("message")).await)
}

async fn stop_stream(State(shared): Asked, id: Named, request: Request) -> Response {
    answered(trigger(&shared, id, request, None).await)
}

/// Whoever streams an LLM's words hands them in as raw payloads; that he is asked to is answered as
/// the original does.
async fn trigger(
    shared: &Shared,
    id: Named,
    request: Request,
    needs: Option<&str>,
) -> Result<Response, Refusal> {
    let (headers, params) = Params::read(request, Takes::Json).await?;
    let channel = id.ok().and_then(|Path(id)| Channel::parse(&id));
    let channel = channel.ok_or(Refusal::NotFound("no such channel"))?;
    authorize(shared, &headers, Need::Either(channel)).await?;
    let Some(name) = needs else {
        return Ok(Response::new(Body::empty()));
    };
    if params.value(name).is_none() {
        let body = json!({"error": format!("{name} is required")});
        return Ok(json_text(StatusCode::BAD_REQUEST, body.to_string()));
    }
    let body = response(r#""stream triggered""#);
    Ok(json_text(StatusCode::ACCEPTED, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_verbatim_on_one_line() {
        let draft = |text| notification(text).map(|draft| draft.map(|draft| draft.data));
        let text = "{\"channelId\":\"c\",\"timestamp\":1,\"payload\":{\"b\": 1.50,\r\n \"a\":\"x\\ny\u{2028}\"}}";
        let data = draft(text).expect("good").expect("one");
        assert_eq!(data, "{\"b\": 1.50, \"a\":\"x\\ny\u{2028}\"}");
        assert_eq!(draft(r#"{"channelId":7}"#), Ok(Some("null".into())));
        assert_eq!(draft(r#"{"index":{"_index":"notifications"}}"#), Ok(None));
        assert!(draft(r#"{"channelId":"a b","payload":1}"#).is_err());
        assert!(draft(r#"{"channelId":["a"],"payload":1}"#).is_err());
        assert!(draft("3").is_err());
    }
}
