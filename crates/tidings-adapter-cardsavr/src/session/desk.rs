//! The sessions that an instance remembers, for seconds: so a poll costs no look at a record.
//!
//! What was remembered must not outlive the session. Every end (and every grant) is an event on one
//! topic, stored through the outbox with the change itself, and every instance follows that topic by
//! the same tail that brings all its events: it forgets within the milliseconds that an event takes.
//! A version check in every request would be exact, but cost a read of a record for each poll, which
//! is what remembering saves. An instance that is cut off from the log hears nothing; therefore
//! nothing is remembered longer than [`REMEMBERED`]. The instance that ends a session answers only
//! when it has heard of it itself, and gives the others a moment more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidings_adapter::{Delivery, From, Hub, Start, SubId, Verdict};
use tokio::sync::Notify;

use super::Session;
use super::record::{Ask, Changed, RENEWED, Stored, THERE, command, millis};
use crate::crypto::{self, Key};
use crate::errors::Refused;
use crate::keys;
use crate::options::Settings;

/// How long a session is remembered without a look at its record: three polls of 5 s.
const REMEMBERED: Duration = Duration::from_secs(15);

/// Sessions remembered at once, of about half a KiB each. More are looked up each time.
const REMEMBERED_MAX: usize = 16_384;

/// How long an end waits to be heard of by the instance itself. It is stored by then; the reply need
/// not wait for a tail that is cut off.
const HEARD: Duration = Duration::from_millis(500);

/// How much longer an end waits for the others to hear of it. Their tails are woken by the same write
/// as this instance's, and then have to get their turn: without it one call in fifteen that came to
/// another instance within the same millisecond was still let in.
const OTHERS_HEAR: Duration = Duration::from_millis(50);

/// Why there is no session: one text, whatever was wrong.
pub(crate) const NO_SESSION: &str = "no session";

/// The sessions of an instance.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    known: Mutex<HashMap<Arc<str>, Known>>,
    /// Counts changes that were heard of. A session that was looked up before one and would be
    /// remembered after it is not: it may be the one.
    heard: AtomicU64,
    progress: Notify,
}

#[derive(Debug, Clone)]
struct Known {
    session: Arc<Session>,
    seen_ms: u64,
    /// Uptime.
    until: Duration,
}

impl Desk {
    /// The session of a token.
    ///
    /// # Errors
    /// 401 when there is none, 503 when nobody can tell.
    pub(crate) async fn session(
        &self,
        hub: &Hub,
        settings: &Settings,
        token: &str,
    ) -> Result<Arc<Session>, Refused> {
        let id = crypto::fingerprint(token);
        let now = hub.now();
        let known = self.known.lock().get(&*id).cloned();
        let lasts = millis(settings.session_idle + RENEWED);
        let is_good = |known: &Known| {
            known.until > now.uptime && now.unix_ms.saturating_sub(known.seen_ms) < lasts
        };
        let known = match known.filter(is_good) {
            Some(known) => known,
            None => self.look_up(hub, settings, &id).await?,
        };
        if now.unix_ms.saturating_sub(known.seen_ms) >= millis(RENEWED) {
            self.touch_later(hub, &known.session.id);
        }
        Ok(known.session)
    }

    /// The session as its record is now.
    pub(crate) async fn fresh(
        &self,
        hub: &Hub,
        settings: &Settings,
        id: &str,
    ) -> Result<Arc<Session>, Refused> {
        Ok(self.look_up(hub, settings, id).await?.session)
    }

    async fn look_up(&self, hub: &Hub, settings: &Settings, id: &str) -> Result<Known, Refused> {
        let heard = self.heard.load(Ordering::Acquire);
        let place = keys::session_key(id);
        let mut found = hub.load(&place, vec![keys::session(id)]).await?;
        let record = found.pop().flatten();
        let now = hub.now();
        let stored = record.and_then(|one| serde_json::from_slice::<Stored>(&one.document).ok());
        let stored = stored.filter(|one| !one.is_over(settings.session_idle, now.unix_ms));
        let none = || Refused::unauthorized(NO_SESSION);
        let stored = stored.ok_or_else(none)?;
        let known = Known {
            seen_ms: stored.seen_ms,
            until: now.uptime + REMEMBERED,
            session: Arc::new(session(settings, id, stored).ok_or_else(none)?),
        };
        self.remember(known.clone(), heard);
        Ok(known)
    }

    fn remember(&self, known: Known, heard: u64) {
        // Held for a moment, never across an await.
        let mut all = self.known.lock();
        if self.heard.load(Ordering::Acquire) != heard {
            return;
        }
        if all.len() >= REMEMBERED_MAX {
            let now = known.until.saturating_sub(REMEMBERED);
            all.retain(|_, one| one.until > now);
            if all.len() >= REMEMBERED_MAX {
                // Cheaper than to find the oldest each time; they come back when they are used.
                all.clear();
            }
        }
        all.insert(known.session.id.clone(), known);
    }

    /// Writes down that a session is used, beside the request that shows it.
    fn touch_later(&self, hub: &Hub, id: &Arc<str>) {
        {
            let mut all = self.known.lock();
            // One of the requests that notice it at once does it.
            match all.get_mut(id) {
                Some(known) => known.seen_ms = hub.now().unix_ms,
                None => return,
            }
        }
        let (hub, id) = (hub.clone(), id.clone());
        tokio::spawn(async move {
            if let Err(error) = hub.command(command(&id, &Ask::Touch)).await {
                // It is remembered for seconds only: the next look at the record tries again.
                tracing::debug!(%error, "a session's use was not stored");
            }
        });
    }

    /// Stores a new session under a token.
    pub(crate) async fn begin(
        &self,
        hub: &Hub,
        token: &str,
        stored: Stored,
    ) -> Result<(), Refused> {
        let id = crypto::fingerprint(token);
        hub.command(command(&id, &Ask::Begin(stored))).await?;
        Ok(())
    }

    /// Asks a session's record for something.
    ///
    /// # Errors
    /// 401 when there is no such session any more, 503 when it is not known to be stored.
    pub(crate) async fn ask(&self, hub: &Hub, id: &str, ask: &Ask) -> Result<(), Refused> {
        let before = self.remembered(id);
        let heard = self.progress.notified();
        tokio::pin!(heard);
        heard.as_mut().enable();
        let decided = hub.command(command(id, ask)).await?;
        if decided.answer != THERE {
            self.forget(id);
            return Err(Refused::unauthorized(NO_SESSION));
        }
        if matches!(ask, Ask::End | Ask::Grant(_)) {
            let told = async {
                while before.is_some() && self.remembered(id) == before {
                    heard.as_mut().await;
                    heard.set(self.progress.notified());
                    heard.as_mut().enable();
                }
            };
            // What did not come in time is forgotten here all the same.
            let _ = tokio::time::timeout(HEARD, told).await;
            self.forget(id);
        }
        if matches!(ask, Ask::End) {
            tokio::time::sleep(OTHERS_HEAR).await;
        }
        Ok(())
    }

    /// Which look at the record is remembered.
    fn remembered(&self, id: &str) -> Option<usize> {
        let all = self.known.lock();
        all.get(id).map(|known| Arc::as_ptr(&known.session).addr())
    }

    fn forget(&self, id: &str) {
        let mut all = self.known.lock();
        self.heard.fetch_add(1, Ordering::AcqRel);
        all.remove(id);
    }

    fn forget_all(&self) {
        let mut all = self.known.lock();
        self.heard.fetch_add(1, Ordering::AcqRel);
        all.clear();
    }

    /// Follows what instances say of sessions, until the hub stops.
    pub(crate) async fn follow(self: Arc<Self>, hub: Hub) {
        let mut reader = hub.reader();
        let topics = vec![keys::topic(keys::SESSIONS)];
        let start = Start::From(From::Newest);
        if let Err(error) = reader.subscribe(SubId(0), topics, &start) {
            tracing::error!(?error, "sessions cannot be followed");
            return;
        }
        loop {
            match reader.next().await {
                Delivery::Events(_, batch) => {
                    for printed in &batch.events {
                        let data = &printed.event().data;
                        if let Ok(changed) = serde_json::from_slice::<Changed>(data) {
                            self.forget(&changed.id);
                        }
                    }
                }
                // Something may have been missed.
                Delivery::Verdict(_, _, verdict) if verdict != Verdict::Ok => self.forget_all(),
                Delivery::Subscribed(..) => self.forget_all(),
                _ => continue,
            }
            self.progress.notify_waiters();
        }
    }
}

/// A session as its record says; `None` when its user, his password or its integrator is gone.
fn session(settings: &Settings, id: &str, stored: Stored) -> Option<Session> {
    let user = settings.users.get(stored.user)?;
    if user.password_key.mark() != stored.mark {
        return None;
    }
    let key = match stored.key {
        Some(text) => {
            settings.integrators.get(&stored.app)?;
            Some(Key::parse(&text)?)
        }
        // Begun in a mode that is off by now.
        None if !settings.unsigned => return None,
        None => None,
    };
    Some(Session {
        id: id.into(),
        user: user.clone(),
        app: stored.app.into(),
        key,
        sealing: stored.sealing,
        grants: stored.grants,
    })
}
