//! Who is at the other end: `ws_auth`, its refresh, and its expiry (contract §1.3).

use super::*;

/// Refreshes under way: a client has one token at a time.
const REFRESHES_MAX: usize = 8;

impl Connection {
    /// Takes one from the bucket of this connection's commands.
    pub(super) fn has_token(&mut self, now: Now) -> bool {
        let settings = &self.origin.settings;
        let passed = now.uptime.saturating_sub(self.counted).as_secs_f64();
        self.counted = now.uptime;
        let full = self.tokens_left + passed * f64::from(settings.refill);
        self.tokens_left = full.min(f64::from(settings.burst)) - 1.0;
        self.tokens_left >= 0.0
    }

    pub(super) fn verified(&self, auth: &Auth, now: Now) -> Result<Grant, WsRefusal> {
        let token = auth.token.as_deref().ok_or(WsRefusal::Bad)?;
        self.origin.tokens.ws(token, now.unix_ms)
    }

    pub(super) fn authenticate(
        &mut self,
        auth: Auth,
        cid: Option<Value>,
        now: Now,
        actions: &mut Actions,
    ) {
        let Ok(grant) = self.verified(&auth, now) else {
            return self.close(code::AUTH_FAILED, "authentication failed", actions);
        };
        actions.push(Action::ClearTimer(AUTH));
        self.grant = Some(grant);
        self.watch_expiry(now, actions);
        let resumes = auth.resume.is_some();
        self.stage = Stage::Opening(Opening {
            auth,
            cid,
            step: Step::Own,
            gap: false,
            pending: BTreeSet::new(),
            first: None,
            answers: Vec::new(),
        });
        match resumes {
            true => self.arrive(ARRIVE, actions),
            false => self.begin(actions),
        }
    }

    /// A second `ws_auth`: another token of the same user.
    pub(super) fn authenticate_again(
        &mut self,
        auth: Auth,
        cid: Option<Value>,
        now: Now,
        actions: &mut Actions,
    ) {
        let user = self.grant.as_ref().map(|grant| grant.user);
        match self.verified(&auth, now) {
            Ok(_) if self.refresh.len() >= REFRESHES_MAX => {
                self.close(code::FLOOD, "too many commands", actions);
            }
            Ok(grant) if Some(grant.user) == user => {
                let command = user::command(grant.user, &UserAsk::Arrive(self.arrival(&grant)));
                let hello = auth.ack;
                self.refresh.push_back(Refresh { grant, hello, cid });
                actions.push(Action::Commit {
                    tag: REARRIVE,
                    command,
                });
            }
            _ => self.close(code::AUTH_FAILED, "authentication failed", actions),
        }
    }

    /// A second `ws_auth` is good: the connection goes on under another token.
    pub(super) fn refreshed(&mut self, refresh: Refresh, now: Now, actions: &mut Actions) {
        self.grant = Some(refresh.grant);
        self.watch_expiry(now, actions);
        // Until it is live the first hello is still to come.
        if refresh.hello && matches!(self.stage, Stage::Live) {
            self.hello(false, false, actions);
        }
        self.answer(acked(refresh.cid.as_ref(), Ok(())), actions);
    }

    /// Says who this is, and from where on it will hear what comes (contract §1.7).
    pub(super) fn hello(&self, resumed: bool, gap: bool, actions: &mut Actions) {
        let (Some(follow), Some(grant)) = (&self.follow, &self.grant) else {
            return;
        };
        let settings = &self.origin.settings;
        let hello = json!({
            "user_id": grant.user,
            "connection_id": self.origin.connection,
            "resumed": resumed,
            "gap": gap,
            "last_event_id": follow.cursor().print(&self.origin.tokens.seal),
            "ping_interval_s": settings.ping.as_secs(),
            "retention_s": settings.retention_s,
        });
        actions.send_text(frames::own("system.hello", &hello));
    }

    pub(super) fn arrival(&self, grant: &Grant) -> Arrival {
        Arrival {
            connection: self.origin.connection.clone(),
            finger_print: grant.finger_print.clone(),
            generation: grant.generation,
            incarnation: self.origin.incarnation.clone(),
            again: matches!(self.stage, Stage::Live),
        }
    }

    pub(super) fn watch_expiry(&mut self, now: Now, actions: &mut Actions) {
        let Some(grant) = &self.grant else { return };
        let left = Duration::from_millis((grant.expires * 1000).saturating_sub(now.unix_ms));
        if left.is_zero() {
            return self.close(code::EXPIRED, "the token is expired", actions);
        }
        actions.set_timer(EXPIRY, left.min(TIMER_MAX));
    }
}
