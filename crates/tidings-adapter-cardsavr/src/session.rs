//! A client's session: who it is, what it may, how its replies are encrypted.

mod desk;
pub(crate) mod login;
mod record;

use std::sync::Arc;

use crate::crypto::{Key, Sealing};
use crate::options::{Role, User};

pub(crate) use desk::{Desk, NO_SESSION};
pub(crate) use record::Sessions;

/// A session that is alive.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The hash of its token, in hex: names its record, and may name what is kept per session.
    pub(crate) id: Arc<str>,
    pub(crate) user: Arc<User>,
    /// The integrator that it was begun through; empty in unsigned mode.
    pub(crate) app: Arc<str>,
    /// What signs and encrypts; `None` in unsigned mode.
    pub(crate) key: Option<Key>,
    /// How its client encrypts.
    pub(crate) sealing: Sealing,
    /// Cardholders that it was given rights on (row 17).
    pub(crate) grants: Vec<u64>,
}

impl Session {
    /// The user's id.
    pub(crate) fn user_id(&self) -> u64 {
        self.user.id
    }

    pub(crate) fn role(&self) -> Role {
        self.user.role
    }

    /// Whether it may create jobs and cardholders.
    pub(crate) fn may_create(&self) -> bool {
        self.role() != Role::VirtualBrowser
    }

    /// Whether it is the creator's: only he reads and answers what a job asks.
    pub(crate) fn owns(&self, owner: u64) -> bool {
        self.user_id() == owner
    }

    /// Whether it may drive jobs: say statuses, ask for credentials, fetch what was answered.
    pub(crate) fn may_drive(&self) -> bool {
        self.role() == Role::VirtualBrowser
    }

    /// Whether it may read a job, register for its broadcasts, and ask to cancel it: the owner and
    /// higher roles. The owner is given as he is known now, if he is.
    pub(crate) fn may_see(&self, owner: u64, known: Option<&User>) -> bool {
        if self.owns(owner) {
            return true;
        }
        match self.role() {
            Role::Admin | Role::VirtualBrowser => true,
            Role::CardholderAgent => false,
            // Of an owner that is not known any more nobody can say whose he was.
            Role::CustomerAgent => known.is_some_and(|owner| {
                owner.role == Role::CardholderAgent
                    && owner.parent.is_none_or(|parent| parent == self.user_id())
            }),
        }
    }

    /// Whether it may read a cardholder's messages: his creator, whoever was given the right, and
    /// higher roles.
    pub(crate) fn may_query(&self, cardholder: u64, creator: u64, known: Option<&User>) -> bool {
        self.grants.contains(&cardholder) || (!self.may_drive() && self.may_see(creator, known))
    }
}
