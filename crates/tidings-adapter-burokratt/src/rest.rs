//! The REST endpoints, bare and under `/ruuter`.
//!
//! Reading ones take GET and POST, and every parameter in the query or the body: the one generation
//! of clients does this, the other that.

pub(crate) mod fields;
mod login;
mod read;
mod write;

use std::sync::Arc;

use tidings_adapter::axum::Router;
use tidings_adapter::axum::handler::Handler;
use tidings_adapter::axum::response::Response;
use tidings_adapter::axum::routing::{get, post};
use tidings_adapter::http::HeaderMap;

pub(crate) use read::since;
pub(crate) use write::change;

use crate::Shared;
use crate::answer::Refusal;
use crate::auth::{Need, authorize};
use crate::chat::Said;
use crate::keys::Channel;
use crate::params::Params;

/// Every path of the table, twice.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let mut table = Table(Router::new());
    table.write("/init-chat", write::init);
    table.write("/post-message", write::post);
    table.write("/cs-post-message", write::cs_post);
    table.write("/cs-post-event-message", write::cs_post);
    table.write("/post-message-with-new-event", write::replace);
    table.write("/cs-post-message-with-new-event", write::cs_replace);
    table.write("/post-message-preview", write::preview);
    table.write("/end-chat", write::end);
    table.write("/cs-end-chat", write::cs_end);
    table.write("/cs-redirect-chat", write::redirect);
    table.write("/cs-admin-redirect-chat", write::redirect);
    table.write("/cs-claim-chat", write::claim);
    table.write("/login-with-tara-jwt", login::login);
    table.read("/estimated-waiting-time", read::estimate);
    table.read("/cs-get-messages-by-chat-id", read::cs_messages);
    table.read("/get-messages-by-chat-id", read::messages);
    table.read("/cs-get-new-messages", read::cs_new_messages);
    table.read("/get-new-messages", read::new_messages);
    table.read("/get-chat-by-id", read::chat);
    table.read("/cs-get-all-active-chats", read::active);
    table.read("/cs-get-components-healthz-status", read::health);
    table.0
}

struct Table(Router<Arc<Shared>>);

impl Table {
    fn read<T: 'static>(&mut self, path: &str, handler: impl Handler<T, Arc<Shared>>) {
        self.add(path, |_| get(handler.clone()).post(handler.clone()));
    }

    fn write<T: 'static>(&mut self, path: &str, handler: impl Handler<T, Arc<Shared>>) {
        self.add(path, |_| post(handler.clone()));
    }

    fn add(
        &mut self,
        path: &str,
        method: impl Fn(()) -> tidings_adapter::axum::routing::MethodRouter<Arc<Shared>>,
    ) {
        for prefix in ["", "/ruuter"] {
            let router = std::mem::take(&mut self.0);
            self.0 = router.route(&format!("{prefix}{path}"), method(()));
        }
    }
}

/// A message that comes another way than over REST, without an id unless it names one.
pub(crate) fn said_elsewhere(params: &Params, channel: &Channel) -> Result<Said, Refusal> {
    let given = fields::message_id(params)?;
    let mut message = fields::message(params, channel)?;
    let is_given = given.is_some();
    message.id = given.unwrap_or_default();
    Ok(Said {
        message,
        given: is_given,
        unnoted: true,
        trace: None,
    })
}

/// An answer, whichever it is.
pub(crate) fn answered(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| refusal.response())
}

/// The chat that an end user's request is about: the one it names, which must be his, or his.
pub(crate) async fn own_chat(
    shared: &Shared,
    headers: &HeaderMap,
    params: &Params,
    names: &[&str],
) -> Result<Channel, Refusal> {
    let named = params.maybe_channel(names)?;
    let who = authorize(shared, headers, Need::Chat(named.clone())).await?;
    let missing = || Refusal::missing(names.first().copied().unwrap_or("chatId"));
    named.or(who.chat).ok_or_else(missing)
}

/// The chat that an agent's request is about.
pub(crate) async fn any_chat(
    shared: &Shared,
    headers: &HeaderMap,
    params: &Params,
    names: &[&str],
) -> Result<Channel, Refusal> {
    authorize(shared, headers, Need::Agent).await?;
    params.channel(names)
}
