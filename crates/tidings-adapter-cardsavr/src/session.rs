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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::PasswordKey;

    fn user(id: u64, role: Role, parent: Option<u64>) -> Arc<User> {
        Arc::new(User {
            id,
            username: format!("u{id}").into(),
            role,
            parent,
            password_key: PasswordKey::NOBODY,
        })
    }

    fn session(user: &Arc<User>, grants: Vec<u64>) -> Session {
        Session {
            id: "s".into(),
            user: user.clone(),
            app: "acme-app".into(),
            key: None,
            sealing: Sealing::Cbc,
            grants,
        }
    }

    #[test]
    fn who_sees_whose_jobs() {
        let agent = user(1, Role::CardholderAgent, None);
        let other = user(2, Role::CardholderAgent, None);
        let child = user(3, Role::CardholderAgent, Some(10));
        let boss = user(10, Role::CustomerAgent, None);
        let stranger = user(11, Role::CustomerAgent, None);
        let admin = user(20, Role::Admin, None);
        let browser = user(30, Role::VirtualBrowser, None);
        for (who, owner, sees) in [
            (&agent, &agent, true),
            (&agent, &other, false),
            (&agent, &boss, false),
            (&boss, &agent, true),
            (&boss, &child, true),
            (&stranger, &child, false),
            (&stranger, &agent, true),
            (&boss, &stranger, false),
            (&boss, &admin, false),
            (&boss, &boss, true),
            (&admin, &child, true),
            (&admin, &boss, true),
            (&browser, &child, true),
        ] {
            let session = session(who, vec![]);
            let seen = session.may_see(owner.id, Some(owner));
            assert_eq!(seen, sees, "{} {}", who.id, owner.id);
            assert_eq!(session.owns(owner.id), who.id == owner.id);
            // The virtual browser drives jobs; cardholders are none of its business.
            let queries = session.may_query(7, owner.id, Some(owner));
            assert_eq!(queries, sees && who.id != 30);
        }
        // Of somebody whom the configuration does not know any more.
        for (who, sees) in [(&agent, false), (&boss, false), (&admin, true)] {
            assert_eq!(session(who, vec![]).may_see(99, None), sees);
        }
        assert!(session(&agent, vec![7]).may_query(7, 2, Some(&other)));
        assert!(!session(&agent, vec![8]).may_query(7, 2, Some(&other)));
    }

    #[test]
    fn who_makes_and_who_drives() {
        for (role, makes) in [
            (Role::Admin, true),
            (Role::CustomerAgent, true),
            (Role::CardholderAgent, true),
            (Role::VirtualBrowser, false),
        ] {
            let session = session(&user(1, role, None), vec![]);
            assert_eq!(session.may_create(), makes);
            assert_eq!(session.may_drive(), !makes);
        }
    }
}
