//! Where the values of streams come from: computed once per change and instance, however many watch.
//!
//! Each prints what the REST endpoint of its name answers, by the same function; only who shares a
//! reading differs (`fresh.rs`). Who waits at which place is listed once for all; a chat's own place
//! and estimate look into that.

use std::sync::Arc;
use std::time::Duration;

use tidings_adapter::bytes::Bytes;
use tidings_adapter::{BoxFuture, Depends, Hub, View, ViewError, ViewValue};

use crate::chat;
use crate::health;
use crate::keys::{self, Channel};
use crate::messages;
use crate::objects::order;
use crate::options::Settings;
use crate::queue::{self, Line, Terms};

/// A chat's messages, by its id.
pub(crate) const MESSAGES: &str = "burokratt.messages";
/// A chat, by its id.
pub(crate) const CHAT: &str = "burokratt.chat";
/// All chats that have not ended.
pub(crate) const ACTIVE: &str = "burokratt.active";
/// Who waits, and the last waits; not printed.
const QUEUE: &str = "burokratt.queue";
/// The place of an id in the queue.
pub(crate) const ORDER: &str = "burokratt.order";
/// The estimate for an id, or for whoever comes now.
pub(crate) const ESTIMATE: &str = "burokratt.estimate";
/// The components.
pub(crate) const HEALTH: &str = "burokratt.health";

/// The messages of a chat change by themselves only when one is an hour old, and are read whole each
/// time: seldom is soon enough.
const MESSAGES_RECHECK: Duration = Duration::from_secs(60);

/// All views.
pub(crate) fn views(settings: &Arc<Settings>) -> Vec<Arc<dyn View>> {
    vec![
        Arc::new(Messages),
        Arc::new(Chat),
        Arc::new(Active),
        Arc::new(Queue),
        Arc::new(Order),
        Arc::new(Estimate(Terms::of(settings))),
        Arc::new(Health(settings.clone())),
    ]
}

type Computed<'a> = BoxFuture<'a, Result<ViewValue, ViewError>>;

/// A value that is nothing but its print.
fn printed(text: String) -> ViewValue {
    ViewValue::new((), Bytes::from(text))
}

/// Keys were parsed before they came here.
fn channel(key: &str) -> Result<Channel, ViewError> {
    Channel::parse(key).ok_or_else(|| ViewError::Failed("the key is no channel".to_owned()))
}

fn on_channel(key: &str) -> Depends {
    Channel::parse(key).map_or_else(Depends::default, |channel| Depends::on(channel.topic()))
}

struct Messages;

impl View for Messages {
    fn name(&self) -> &'static str {
        MESSAGES
    }

    fn depends(&self, key: &str) -> Depends {
        on_channel(key)
    }

    fn compute<'a>(&'a self, hub: &'a Hub, key: &'a str, _: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move {
            let messages = messages::of_chat(hub, &channel(key)?).await?;
            Ok(printed(messages.answer()))
        })
    }

    fn recheck(&self) -> Option<Duration> {
        Some(MESSAGES_RECHECK)
    }
}

struct Chat;

impl View for Chat {
    fn name(&self) -> &'static str {
        CHAT
    }

    fn depends(&self, key: &str) -> Depends {
        on_channel(key)
    }

    fn compute<'a>(&'a self, hub: &'a Hub, key: &'a str, _: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move {
            match chat::load(hub, &channel(key)?).await? {
                Some(record) => Ok(printed(record.answer())),
                // Forgotten while it was watched: what was said last stays.
                None => Err(ViewError::Failed("there is no such chat".to_owned())),
            }
        })
    }
}

struct Active;

impl View for Active {
    fn name(&self) -> &'static str {
        ACTIVE
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(keys::topic(keys::ACTIVE))
    }

    fn compute<'a>(&'a self, hub: &'a Hub, _: &'a str, _: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move { Ok(printed(chat::active(hub).await?)) })
    }
}

struct Queue;

impl View for Queue {
    fn name(&self) -> &'static str {
        QUEUE
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(keys::topic(keys::QUEUE))
    }

    fn compute<'a>(&'a self, hub: &'a Hub, _: &'a str, _: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move { Ok(ViewValue::new(queue::load(hub).await?, Bytes::new())) })
    }
}

/// The queue's value, among a view's inputs.
fn line(inputs: &[ViewValue]) -> Result<&Line, ViewError> {
    let line = inputs.first().and_then(ViewValue::get);
    line.ok_or_else(|| ViewError::Failed("the queue is not there".to_owned()))
}

struct Order;

impl View for Order {
    fn name(&self) -> &'static str {
        ORDER
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on_view(QUEUE, "")
    }

    fn compute<'a>(&'a self, _: &'a Hub, key: &'a str, inputs: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move { Ok(printed(order(line(inputs)?.place(key)))) })
    }

    fn recheck(&self) -> Option<Duration> {
        None // it is what the queue says
    }
}

struct Estimate(Terms);

impl View for Estimate {
    fn name(&self) -> &'static str {
        ESTIMATE
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on_view(QUEUE, "")
    }

    /// Also with time: waits of long ago do not count.
    fn compute<'a>(&'a self, hub: &'a Hub, key: &'a str, inputs: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move {
            let now_ms = hub.now().unix_ms;
            Ok(printed(line(inputs)?.answer(key, &self.0, now_ms)))
        })
    }
}

struct Health(Arc<Settings>);

impl View for Health {
    fn name(&self) -> &'static str {
        HEALTH
    }

    fn depends(&self, _key: &str) -> Depends {
        Depends::on(keys::topic(keys::HEALTH))
    }

    fn compute<'a>(&'a self, hub: &'a Hub, _: &'a str, _: &'a [ViewValue]) -> Computed<'a> {
        Box::pin(async move { Ok(printed(health::load(hub).await?.answer(&self.0))) })
    }
}
