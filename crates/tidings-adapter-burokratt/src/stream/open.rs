//! From a request to its stream: who may, which chat, from where.
//!
//! Any status but 200 ends an `EventSource` for good, so one is answered only where the client is to
//! stop: 400, 401, 403, 404. What will pass by itself (the log or TIM away) is a stream that tells
//! the client when to come back, and ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::axum::body::Body;
use tidings_adapter::axum::extract::Path;
use tidings_adapter::axum::extract::rejection::PathRejection;
use tidings_adapter::axum::response::Response;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::HeaderValue;
use tidings_adapter::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use tidings_adapter::http::request::Parts;
use tidings_adapter::{DriverLimits, From, LogError, PageLimit, Session, Topic, sse};

use super::log::{LogStream, Progress, Since};
use super::pace::{CACHE_CONTROL as NO_CACHE, Guard, Pace};
use super::place::Came;
use super::print::{self, Around};
use super::several::{self, Entries, Several, Value};
use super::state::StateStream;
use super::views;
use crate::Shared;
use crate::answer::{NO_CHAT, Refusal};
use crate::auth::{Need, Who, authorize};
use crate::chat;
use crate::keys::Channel;
use crate::objects::{list_nudge, message_nudge, parse_time};
use crate::params::{CHAT_OR_ID, Params};

/// For how long a stream's beginning waits for the log before it tells its client to come back:
/// restarts and failovers are mostly over by then, and a browser shows nothing meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// One request for a stream. Cookies stand in it: it is never printed.
pub(super) struct Asked {
    shared: Arc<Shared>,
    parts: Parts,
    params: Params,
    /// Under `/ruuter`.
    enveloped: bool,
}

impl Asked {
    pub(super) fn new(shared: Arc<Shared>, parts: Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self {
            params: Params::of_query(query),
            enveloped: parts.uri.path().starts_with("/ruuter/"),
            shared,
            parts,
        }
    }

    /// The chat that is asked for.
    fn chat(&self) -> Result<Option<Channel>, Refusal> {
        self.params.maybe_channel(CHAT_OR_ID)
    }

    fn came(&self) -> Option<Came> {
        let header = self.parts.headers.get("last-event-id");
        let parameter = self.params.all("lastEventId").next();
        Came::of(header.map(HeaderValue::as_bytes), parameter)
    }

    async fn may(&self, need: Need) -> Result<Who, Refusal> {
        authorize(&self.shared, &self.parts.headers, need).await
    }

    /// Asks TIM again about whoever came, if there is anything to ask.
    fn guard(&self, who: Who) -> Option<Guard> {
        let pass = who.pass?;
        Some(Guard {
            question: pass.question(),
            judge: Box::new(move |answer| pass.judge(&answer.cloned().map_err(Clone::clone))),
            every: self.shared.settings.options.recheck.0,
        })
    }

    async fn serve(&self, session: impl Session + 'static) -> Response {
        let limits = DriverLimits {
            write_stall: self.shared.settings.options.write_stall.0,
            ..DriverLimits::default()
        };
        sse::serve(&self.shared.hub, session, limits).await
    }

    /// A chat as it is.
    async fn find(&self, channel: &Channel) -> Result<Option<chat::Record>, Refusal> {
        patiently(|| chat::load(&self.shared.hub, channel)).await
    }
}

/// Reads the log, waiting a while for one that is away.
async fn patiently<T, F>(read: impl Fn() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, LogError>>,
{
    let read = tokio::time::timeout(PATIENCE, async {
        loop {
            match read().await {
                Ok(read) => return read,
                Err(error) => tracing::debug!(%error, "a stream waits for the log"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    read.await.map_err(|_| Refusal::Away)
}

/// The answer, whatever came of it.
pub(super) fn answer(shared: &Shared, result: Result<Response, Refusal>) -> Response {
    match result {
        Ok(response) => response,
        Err(Refusal::Away) => come_back(pace(shared)),
        Err(refusal) => refusal.response(),
    }
}

fn pace(shared: &Shared) -> Pace {
    let options = &shared.settings.options;
    Pace {
        retry: options.retry.0,
        share: rand::random(),
        heartbeat: options.heartbeat.0,
        ended_grace: options.ended_grace.0,
    }
}

/// A stream that ends at once, after it has said when to come back.
fn come_back(pace: Pace) -> Response {
    let ms = u64::try_from(pace.retry.as_millis()).unwrap_or(u64::MAX);
    let frame = Bytes::from(print::retry(ms, pace.share));
    // Not a body of known length: nothing here has one.
    let frames = futures_util::stream::iter([Ok::<_, Infallible>(frame)]);
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(NO_CACHE));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Whose path it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    EndUser,
    Agent,
}

impl Side {
    /// Who came, and for which chat.
    async fn chat(self, asked: &Asked) -> Result<(Who, Channel), Refusal> {
        let given = asked.chat();
        match self {
            Self::EndUser => {
                let who = asked.may(Need::Chat(given.clone().ok().flatten())).await?;
                let chat = given?.or_else(|| who.chat.clone());
                let chat = chat.ok_or_else(|| Refusal::missing("chatId"))?;
                Ok((who, chat))
            }
            Self::Agent => {
                let who = asked.may(Need::Agent).await?;
                let chat = given?.ok_or_else(|| Refusal::missing("chatId"))?;
                Ok((who, chat))
            }
        }
    }
}

/// The time since which a client wants to hear what changed, unless it has a place; what is no time
/// is none.
async fn since(asked: &Asked, channel: &Channel) -> Result<Option<Since>, Refusal> {
    let text = asked.params.first(&["timeRangeBegin", "lastRead"])?;
    let Some(ms) = text.as_deref().and_then(parse_time) else {
        return Ok(None);
    };
    if asked.came().is_some() {
        return Ok(None);
    }
    let (hub, topic) = (&asked.shared.hub, channel.topic());
    let limit = PageLimit {
        events: 1,
        bytes: 1,
    };
    let page = patiently(|| hub.read(&topic, From::Newest, limit)).await?;
    Ok(Some(Since { ms, end: page.next }))
}

/// `/sse/get-new-messages`, `/sse/cs-get-new-messages`.
pub(super) async fn new_messages(asked: Asked, side: Side) -> Result<Response, Refusal> {
    let (who, chat) = side.chat(&asked).await?;
    let found = asked.find(&chat).await?.ok_or(NO_CHAT)?;
    let since = since(&asked, &chat).await?;
    let frames = match (asked.enveloped, side) {
        (false, _) => print::NEW_MESSAGES,
        (true, Side::EndUser) => print::RUUTER_NEW_MESSAGES,
        (true, Side::Agent) => print::RUUTER_CS_NEW_MESSAGES,
    };
    let stream = LogStream {
        topic: chat.topic(),
        frames,
        refetch: None,
        came: asked.came(),
        since,
        ended: found.ended(),
        pace: pace(&asked.shared),
        guard: asked.guard(who),
        progress: Progress::default(),
    };
    Ok(asked.serve(stream).await)
}

/// `/sse/notifications/<channelId>`.
pub(super) async fn notifications(
    asked: Asked,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let channel = path_channel(channel)?;
    let who = asked.may(Need::Either(channel.clone())).await?;
    let list = channel.is_chat_list();
    // A channel needs no chat.
    let found = match list {
        true => None,
        false => asked.find(&channel).await?,
    };
    let frames = match asked.enveloped {
        false => print::NOTIFICATIONS,
        true => print::RUUTER_NOTIFICATIONS,
    };
    let since = since(&asked, &channel).await?;
    let nudge = if list {
        list_nudge("")
    } else {
        message_nudge("")
    };
    let (open, close) = frames.around;
    let stream = LogStream {
        topic: channel.topic(),
        frames,
        refetch: Some(format!("{open}{nudge}{close}")),
        came: asked.came(),
        since,
        ended: found.is_some_and(|chat| chat.ended()),
        pace: pace(&asked.shared),
        guard: asked.guard(who),
        progress: Progress::default(),
    };
    Ok(asked.serve(stream).await)
}

/// The channel of a path.
fn path_channel(path: Result<Path<String>, PathRejection>) -> Result<Channel, Refusal> {
    let bad = || Refusal::Malformed("this is no channel's id".to_owned());
    let Path(text) = path.map_err(|_| bad())?;
    Channel::parse(&text).ok_or_else(bad)
}

async fn state(
    asked: &Asked,
    who: Who,
    view: &'static str,
    key: &str,
    around: Around,
) -> Result<Response, Refusal> {
    let stream = StateStream {
        view,
        key: key.into(),
        around,
        pace: pace(&asked.shared),
        guard: asked.guard(who),
        sent: None,
    };
    Ok(asked.serve(stream).await)
}

impl Asked {
    /// What stands around a whole answer.
    fn around(&self) -> Around {
        if self.enveloped {
            print::RUUTER
        } else {
            print::BARE
        }
    }
}

/// `/sse/get-messages-by-chat-id`, `/sse/cs-get-messages-by-chat-id`.
pub(super) async fn messages(asked: Asked, side: Side) -> Result<Response, Refusal> {
    let (who, chat) = side.chat(&asked).await?;
    asked.find(&chat).await?.ok_or(NO_CHAT)?;
    state(&asked, who, views::MESSAGES, chat.as_str(), asked.around()).await
}

/// `/sse/get-chat-by-id`.
pub(super) async fn chat_by_id(asked: Asked) -> Result<Response, Refusal> {
    let (who, chat) = Side::EndUser.chat(&asked).await?;
    asked.find(&chat).await?.ok_or(NO_CHAT)?;
    state(&asked, who, views::CHAT, chat.as_str(), asked.around()).await
}

/// `/sse/cs-get-all-active-chats`.
pub(super) async fn active_chats(asked: Asked) -> Result<Response, Refusal> {
    let who = asked.may(Need::Agent).await?;
    state(&asked, who, views::ACTIVE, "", asked.around()).await
}

/// `/sse/estimated-waiting-time`, of all or of one chat.
pub(super) async fn estimate(asked: Asked) -> Result<Response, Refusal> {
    let Some(chat) = asked.chat()? else {
        let who = asked.may(Need::Anyone).await?;
        return state(&asked, who, views::ESTIMATE, "", asked.around()).await;
    };
    let who = asked.may(Need::Either(chat.clone())).await?;
    asked.find(&chat).await?.ok_or(NO_CHAT)?;
    state(&asked, who, views::ESTIMATE, chat.as_str(), asked.around()).await
}

/// `/sse/cs-get-components-healthz-status`.
pub(super) async fn health(asked: Asked) -> Result<Response, Refusal> {
    let who = asked.may(Need::Anyone).await?;
    state(&asked, who, views::HEALTH, "", asked.around()).await
}

/// `/sse/queue/<id>`; of an unknown id it is 0.
pub(super) async fn queue(
    asked: Asked,
    channel: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let channel = path_channel(channel)?;
    let who = asked.may(Need::Either(channel.clone())).await?;
    let around = if asked.enveloped {
        print::RUUTER_QUEUE
    } else {
        print::BARE
    };
    state(&asked, who, views::ORDER, channel.as_str(), around).await
}

/// Chats of one stream over several: a page shows a few; an agent's, some dozens.
const CHATS_MAX: usize = 50;

/// `/sse/events?chatId=…&chatId=…&list=1&queue=1&active=1&health=1`.
pub(super) async fn events(asked: Asked) -> Result<Response, Refusal> {
    let mut chats = Vec::new();
    let given = CHAT_OR_ID.iter().flat_map(|name| asked.params.all(name));
    for text in given.filter(|text| !text.is_empty()) {
        let chat = Channel::parse(text)
            .filter(|one| !one.is_chat_list())
            .ok_or(NO_CHAT)?;
        if !chats.contains(&chat) {
            chats.push(chat);
        }
    }
    if chats.len() > CHATS_MAX {
        return Err(Refusal::Malformed(format!("at most {CHATS_MAX} chats")));
    }
    let no = |value: &str| matches!(value, "" | "0" | "false");
    let wants = |name| {
        asked
            .params
            .all(name)
            .next()
            .is_some_and(|value| !no(value))
    };
    let (list, queue, active) = (wants("list"), wants("queue"), wants("active"));
    if chats.is_empty() && !list && !active && !wants("health") {
        let words = "`chatId`, `list`, `active` or `health` is required";
        return Err(Refusal::Malformed(words.to_owned()));
    }
    let need = match (&chats[..], active) {
        ([], false) if list => Need::Either(Channel::chat_list()),
        ([], false) => Need::Anyone,
        ([chat], false) => Need::Either(chat.clone()),
        // An end user has one chat, and no list of those of others.
        _ => Need::Agent,
    };
    let who = asked.may(need).await?;
    for chat in &chats {
        asked.find(chat).await?.ok_or(NO_CHAT)?;
    }
    let around = asked.around();
    let mut values = Vec::new();
    if queue {
        values.extend(
            chats
                .iter()
                .map(|chat| Value::order(chat, views::ORDER, around)),
        );
    }
    if active {
        values.push(Value::named("active-chats", views::ACTIVE, "", around));
    }
    if wants("health") {
        values.push(Value::named("health", views::HEALTH, "", around));
    }
    let mut topics: Vec<Topic> = chats.iter().map(Channel::topic).collect();
    topics.extend(list.then(|| Channel::chat_list().topic()));
    let entries = match asked.enveloped {
        false => Entries {
            message: print::SEVERAL_MESSAGE,
            chat_list: print::SEVERAL_CHAT_LIST,
        },
        true => Entries {
            message: print::RUUTER_SEVERAL_MESSAGE,
            chat_list: print::RUUTER_SEVERAL_CHAT_LIST,
        },
    };
    let stream = Several {
        topics,
        entries,
        came: asked.came().map(|came| came.sent),
        values,
        pace: pace(&asked.shared),
        guard: asked.guard(who),
        progress: several::Progress::default(),
    };
    Ok(asked.serve(stream).await)
}
