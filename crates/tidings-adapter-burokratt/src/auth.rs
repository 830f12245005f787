//! Who may: cookies that TIM vouches for, or everybody in development.
//!
//! `EventSource` cannot send headers, so cookies are the only carrier. TIM is asked about each; it
//! answers an unknown, expired or blacklisted one with 200 and nothing.

use std::sync::Arc;

use tidings_adapter::http::HeaderMap;

use crate::Shared;
use crate::answer::Refusal;
use crate::keys::Channel;
use crate::options::Settings;

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Need {
    /// The end user of this chat; without one, of the chat that his cookie names ([`Who::chat`]).
    Chat(Option<Channel>),
    /// An agent: one of the configured roles.
    Agent,
    /// The end user of this channel's chat, or an agent. `chat-list`: any end user or agent.
    Either(Channel),
    /// Nobody in particular.
    Anyone,
    /// A backend: its key, or an agent.
    Backend,
}

/// Who asks, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    /// The chat that the end user's cookie names; `None` with `auth = "off"`.
    pub(crate) chat: Option<Channel>,
}

/// The way to TIM.
#[derive(Debug)]
pub(crate) struct Tim {}

impl Tim {
    pub(crate) fn new(_settings: &Arc<Settings>) -> Self {
        Self {}
    }
}

/// Whether a request may.
///
/// # Errors
/// [`Refusal::Unauthorized`], [`Refusal::Forbidden`]; [`Refusal::Away`] when TIM does not answer.
pub(crate) async fn authorize(
    _shared: &Shared,
    _headers: &HeaderMap,
    _need: Need,
) -> Result<Who, Refusal> {
    Ok(Who::default())
}
