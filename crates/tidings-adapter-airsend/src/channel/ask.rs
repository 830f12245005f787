//! What is asked of a channel.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidings_adapter::{Command, RecordKey};

use super::{New, Seat};
use crate::answer::to_json;
use crate::keys;
use crate::objects::Profile;

/// What is asked of a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Create {
        fields: Map<String, Value>,
        nonce: String,
        op: Option<String>,
    },
    Enrol {
        nonce: String,
        seats: Vec<Seat>,
    },
    Open {
        nonce: String,
        op: Option<String>,
    },
    Update {
        set: Map<String, Value>,
        op: Option<String>,
    },
    End {
        op: Option<String>,
    },
    Sweep {
        page: usize,
    },
    Add {
        seat: Seat,
        nonce: String,
        op: Option<String>,
    },
    Remove {
        user: u64,
        nonce: String,
        by: u64,
    },
    Profile {
        profile: Profile,
        told: bool,
    },
    Presence {
        user: u64,
        online: bool,
        version: u64,
        active: u64,
    },
    Post {
        new: New,
        op: Option<String>,
    },
    Edit {
        message: u64,
        content: Option<Value>,
        attachments: Option<Vec<Value>>,
        op: Option<String>,
    },
    Delete {
        message: u64,
        op: Option<String>,
    },
    /// An event that only passes through, with the data that is its payload.
    Tell {
        event: String,
        payload: Value,
        result: Value,
        except: Option<u64>,
        retained: bool,
        actor: Option<u64>,
        op: Option<String>,
    },
    Read {
        user: u64,
        message: u64,
    },
    ReadAll {
        user: u64,
    },
    React {
        user: u64,
        message: u64,
        emoji: String,
    },
    Unreact {
        user: u64,
        message: u64,
        emoji: String,
    },
    Typing {
        user: u64,
    },
    /// Sums what a user has not read in these channels, which stand in one partition.
    Unread {
        user: u64,
        channels: Vec<u64>,
    },
}

impl Ask {
    /// What the decision will want to see beside the channel: one round trip instead of two. What
    /// clients ask for most often is here; the rest is asked for when it is missing.
    fn records(&self, channel: u64) -> Vec<RecordKey> {
        match self {
            Self::Post { new, .. } => vec![
                keys::count(channel),
                keys::member(channel, new.author),
                keys::message(channel, new.id),
            ],
            Self::Read { user, message } => vec![
                keys::count(channel),
                keys::member(channel, *user),
                keys::message(channel, *message),
                keys::body(channel, *message, 0),
                keys::receipt(channel, *message, *user),
            ],
            Self::ReadAll { user } => {
                vec![keys::count(channel), keys::member(channel, *user)]
            }
            Self::React { user, message, .. } | Self::Unreact { user, message, .. } => vec![
                keys::member(channel, *user),
                keys::message(channel, *message),
                keys::body(channel, *message, 0),
            ],
            Self::Typing { user } => {
                vec![keys::member(channel, *user), keys::typing(channel, *user)]
            }
            Self::Unread { user, channels } => channels
                .iter()
                .flat_map(|id| [keys::member(*id, *user), keys::count(*id)])
                .collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn op(&self) -> Option<String> {
        match self {
            Self::Create { op, .. }
            | Self::Open { op, .. }
            | Self::Update { op, .. }
            | Self::End { op }
            | Self::Add { op, .. }
            | Self::Post { op, .. }
            | Self::Edit { op, .. }
            | Self::Delete { op, .. }
            | Self::Tell { op, .. } => op.clone(),
            _ => None,
        }
    }
}

/// A command to a channel's records.
pub(crate) fn command(channel: u64, ask: &Ask) -> Command {
    let mut records = vec![keys::channel(channel)];
    records.extend(ask.records(channel));
    Command {
        kind: keys::CHANNEL.into(),
        placement_key: keys::channel_key(channel).into(),
        records,
        body: to_json(ask).into(),
    }
}
