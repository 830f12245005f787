//! What a session asked for that takes time: publishes, commands, calls to servers outside.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tidings_core::{Appended, Call, CallAnswer, CallError, Command, CommandError, Decided, Draft};
use tidings_engine::{Hub, PublishError};

/// How much of one session may be under way or wait for its turn. A session that asks for more is
/// closed: it is being flooded, and its client's frames are read no faster than they are answered.
const WORKS_MAX: usize = 64;

/// What one piece of work came to; the tag is the session's own.
#[derive(Debug)]
pub(crate) enum Done {
    Published(u32, Result<Appended, PublishError>),
    Committed(u32, Result<Decided, CommandError>),
    Called(u32, Result<CallAnswer, CallError>),
    Flashed,
}

/// More was asked for than a session may have under way.
#[derive(Debug)]
pub(crate) struct Flooded;

/// The works of one session.
#[derive(Default)]
pub(crate) struct Works {
    under_way: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Commands behind the one that is under way: they happen in the order of their asking.
    commands: VecDeque<(u32, Command)>,
    deciding: bool,
}

impl Works {
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// The next piece that is done; never while there is none. Cancel-safe.
    pub(crate) async fn next(&mut self, hub: &Hub) -> Done {
        let Some(done) = self.under_way.next().await else {
            return std::future::pending().await;
        };
        if matches!(done, Done::Committed(..)) {
            self.deciding = false;
            self.decide_next(hub);
        }
        done
    }

    pub(crate) fn publish(&mut self, hub: &Hub, tag: u32, draft: Draft) -> Result<(), Flooded> {
        let hub = self.room(hub)?;
        self.under_way.push(Box::pin(async move {
            let result = hub.publish(vec![draft]).await.pop();
            Done::Published(tag, result.unwrap_or(Err(PublishError::Draining)))
        }));
        Ok(())
    }

    /// Of a flood what does not fit is not handed out, and nobody hears of either.
    pub(crate) fn flash(&mut self, hub: &Hub, draft: Draft) {
        let Ok(hub) = self.room(hub) else { return };
        self.under_way.push(Box::pin(async move {
            if let Err(error) = hub.flash(vec![draft]).await {
                tracing::debug!(%error, "a flash event was not handed out");
            }
            Done::Flashed
        }));
    }

    pub(crate) fn call(&mut self, hub: &Hub, tag: u32, call: Call) -> Result<(), Flooded> {
        let hub = self.room(hub)?;
        let called = async move { Done::Called(tag, hub.call(call).await) };
        self.under_way.push(Box::pin(called));
        Ok(())
    }

    pub(crate) fn command(&mut self, hub: &Hub, tag: u32, command: Command) -> Result<(), Flooded> {
        self.room(hub)?;
        self.commands.push_back((tag, command));
        self.decide_next(hub);
        Ok(())
    }

    /// The commands that have not begun, in their order.
    pub(crate) fn take_commands(&mut self) -> impl Iterator<Item = Command> {
        std::mem::take(&mut self.commands)
            .into_iter()
            .map(|(_, command)| command)
    }

    fn room(&self, hub: &Hub) -> Result<Hub, Flooded> {
        if self.under_way.len() + self.commands.len() >= WORKS_MAX {
            return Err(Flooded);
        }
        Ok(hub.clone())
    }

    fn decide_next(&mut self, hub: &Hub) {
        if self.deciding {
            return;
        }
        let Some((tag, command)) = self.commands.pop_front() else {
            return;
        };
        self.deciding = true;
        // On a task of its own: a client that goes does not take back what it has asked for.
        let hub = hub.clone();
        let decided = tokio::spawn(async move { hub.command(command).await });
        self.under_way.push(Box::pin(async move {
            let result = decided.await.unwrap_or(Err(CommandError::Draining));
            Done::Committed(tag, result)
        }));
    }
}
