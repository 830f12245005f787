//! Who may: cookies that TIM vouches for, or everybody in development.
//!
//! `EventSource` cannot send headers, so cookies are the only carrier. TIM is asked about each; it
//! answers an unknown, expired or blacklisted one with 200 and nothing. What it said stays good for
//! a few seconds, so that the streams and requests of one page ask once.

mod pass;
mod tim;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tidings_adapter::http::HeaderMap;
use tidings_adapter::http::header::AUTHORIZATION;

use crate::Shared;
use crate::answer::Refusal;
use crate::keys::Channel;

pub(crate) use pass::{Pass, Standing};
pub(crate) use tim::{Tim, cookie, cookies};

use pass::Wants;

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

/// Who asks, as far as it was needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who {
    /// The chat that the end user's cookie names; `None` with `auth = "off"`.
    pub(crate) chat: Option<Channel>,
    /// What a long stream's right rests on; `None` where it rests on nothing that can end.
    pub(crate) pass: Option<Pass>,
}

/// May not: somebody else's chat.
const NOT_YOURS: Refusal = Refusal::Forbidden("not your chat");

/// May not: no agent.
const NO_AGENT: Refusal = Refusal::Forbidden("not with your role");

/// Whether a request may.
///
/// # Errors
/// [`Refusal::Unauthorized`], [`Refusal::Forbidden`]; [`Refusal::Away`] when TIM does not answer.
pub(crate) async fn authorize(
    shared: &Shared,
    headers: &HeaderMap,
    need: Need,
) -> Result<Who, Refusal> {
    let tim = &shared.tim;
    if need == Need::Anyone || !tim.asks() {
        return Ok(Who::default());
    }
    let options = &shared.settings.options;
    let (chat_cookie, agent_cookie) = (&*options.chat_cookie, &*options.agent_cookie);
    let wants = match need {
        Need::Anyone => return Ok(Who::default()),
        Need::Backend => {
            if options.backend_open || shows_key(shared, headers) {
                return Ok(Who::default());
            }
            Wants::Agent
        }
        Need::Agent => Wants::Agent,
        Need::Chat(None) => Wants::AnyChat,
        Need::Chat(Some(chat)) => Wants::Chat(chat),
        Need::Either(channel) => {
            let agent = tim.claims(agent_cookie, headers).await?;
            if agent.as_deref().is_some_and(|one| Wants::Agent.met_by(one)) {
                let pass = tim.pass(agent_cookie, headers, Wants::Agent);
                return Ok(Who { chat: None, pass });
            }
            let wants = if channel.is_chat_list() {
                Wants::AnyChat
            } else {
                Wants::Chat(channel)
            };
            return match tim.claims(chat_cookie, headers).await? {
                Some(claims) if wants.met_by(&claims) => Ok(Who {
                    chat: claims.chat.clone(),
                    pass: tim.pass(chat_cookie, headers, wants),
                }),
                Some(_) => Err(NOT_YOURS),
                None if agent.is_some() => Err(NO_AGENT),
                None => Err(Refusal::Unauthorized),
            };
        }
    };
    let (name, other, not) = match wants {
        Wants::Agent => (agent_cookie, chat_cookie, NO_AGENT),
        Wants::Chat(_) | Wants::AnyChat => (chat_cookie, agent_cookie, NOT_YOURS),
    };
    match tim.claims(name, headers).await? {
        Some(claims) if wants.met_by(&claims) => Ok(Who {
            chat: claims.chat.clone(),
            pass: tim.pass(name, headers, wants),
        }),
        Some(_) => Err(not),
        // Known, but in another role: asking again with the same cookie is of no use.
        None if tim.claims(other, headers).await?.is_some() => Err(not),
        None => Err(Refusal::Unauthorized),
    }
}

fn shows_key(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(key) = &shared.settings.backend_key else {
        return false;
    };
    let given = headers
        .get(AUTHORIZATION)
        .and_then(|text| text.to_str().ok());
    let Some((scheme, given)) = given.and_then(|text| text.split_once(' ')) else {
        return false;
    };
    // Hashes have one length, so the time says nothing of the key's either.
    let (key, given) = (Sha256::digest(key), Sha256::digest(given.trim()));
    scheme.eq_ignore_ascii_case("bearer") && key.as_slice().ct_eq(given.as_slice()).into()
}
