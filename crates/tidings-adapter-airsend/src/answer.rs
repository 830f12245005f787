//! What a decision says to the one who asked: a result, or a refusal with its status.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings_adapter::Decision;

/// A decision's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It is done (or was already).
    Done(Value),
    /// It is refused; nothing was changed.
    Refused(Refusal),
}

/// Why something is refused. What each says is for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    Invalid,
    NotMember,
    NoUser,
    NoChannel,
    NoMessage,
    Exists,
    Throttled,
    Full,
    Sweeping,
    /// Not known to be done.
    Away,
    Revoked,
}

impl Refusal {
    /// The HTTP status of an operation.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::Exists | Self::Full => 400,
            Self::Revoked => 401,
            Self::NotMember => 403,
            Self::NoUser | Self::NoChannel | Self::NoMessage => 404,
            Self::Throttled => 429,
            Self::Sweeping | Self::Away => 503,
        }
    }

    /// The code of an acknowledgement.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotMember | Self::NoChannel => "not_member",
            Self::NoUser | Self::NoMessage => "not_found",
            Self::Throttled => "throttled",
            Self::Exists | Self::Full | Self::Sweeping | Self::Away | Self::Revoked => "internal",
        }
    }

    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Invalid => "invalid field",
            Self::NotMember => "not a member of the channel",
            Self::NoUser => "unknown user",
            Self::NoChannel => "unknown channel",
            Self::NoMessage => "unknown message",
            Self::Exists => "the id is taken",
            Self::Throttled => "too often",
            Self::Full => "a bound is reached",
            Self::Sweeping => "the channel is being removed, try again",
            Self::Away => "not known to be done, try again",
            Self::Revoked => "revoked",
        }
    }
}

pub(crate) type Decided<T> = Result<T, Refusal>;

impl Answer {
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// A decision that changes nothing but answers.
pub(crate) fn refused(refusal: Refusal) -> Decision {
    Decision::answer(to_json(&Answer::Refused(refusal)))
}

/// A decision's answer that it is done.
pub(crate) fn done(decision: &mut Decision, result: Value) {
    decision.answer = to_json(&Answer::Done(result)).into();
}

/// Our own structures as JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with text keys, numbers and texts are JSON")
}
