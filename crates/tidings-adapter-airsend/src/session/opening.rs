//! From `ws_auth` to live: the places of everything that is followed, and the hello.

use super::*;

impl Connection {
    /// Finds the places of a client that has none: first of his own topic.
    pub(super) fn begin(&mut self, actions: &mut Actions) {
        let (Stage::Opening(opening), Some(grant)) = (&mut self.stage, &self.grant) else {
            return;
        };
        opening.step = Step::Own;
        opening.pending = BTreeSet::from([OWN]);
        self.follow = Some(Follow::new(grant.user, self.origin.placing.clone()));
        actions.subscribe(OWN, keys::user_topic(grant.user), From::Newest);
    }

    pub(super) fn look(&mut self, actions: &mut Actions) {
        if let (Stage::Opening(opening), Some(grant)) = (&mut self.stage, &self.grant) {
            opening.step = Step::Look;
            let command = user::command(grant.user, &UserAsk::Look);
            actions.push(Action::Commit { tag: LOOK, command });
        }
    }

    pub(super) fn arrive(&mut self, tag: u32, actions: &mut Actions) {
        let Some(grant) = &self.grant else { return };
        let ask = UserAsk::Arrive(self.arrival(grant));
        let command = user::command(grant.user, &ask);
        if let Stage::Opening(opening) = &mut self.stage {
            opening.step = Step::Arrive;
        }
        actions.push(Action::Commit { tag, command });
    }

    /// A subscription stands while places are being found.
    pub(super) fn found(&mut self, sub: SubId, at: EventId, actions: &mut Actions) {
        let Stage::Opening(opening) = &mut self.stage else {
            return;
        };
        let Some(follow) = &mut self.follow else {
            return;
        };
        // That a subscription stands at a cursor's place says that there is such a place, not that
        // everything after it is still there: see `good`.
        if opening.step == Step::Places || !opening.pending.remove(&sub) {
            return;
        }
        actions.push(Action::Unsubscribe(sub));
        match (opening.step, sub) {
            (Step::Own, OWN) => follow.own = at,
            (Step::Newest, sub) => follow.found(sub, at),
            _ => {}
        }
        if !opening.pending.is_empty() {
            return;
        }
        match opening.step {
            Step::Own => self.look(actions),
            Step::Newest => self.arrive(ARRIVE, actions),
            Step::Look | Step::Arrive | Step::Places => {}
        }
    }

    /// Everything after a place of the cursor is there: the first of it came, or there is nothing.
    pub(super) fn good(&mut self, sub: SubId, actions: &mut Actions) {
        let Stage::Opening(opening) = &mut self.stage else {
            return;
        };
        if opening.step == Step::Places && opening.pending.remove(&sub) {
            // Handed out again when all places are known to be good.
            actions.push(Action::Unsubscribe(sub));
            if opening.pending.is_empty() {
                self.live(true, actions);
            }
        }
    }

    /// A place of the cursor is no good any more: the client is told, and begins anew.
    pub(super) fn lost(&mut self, actions: &mut Actions) {
        match &mut self.stage {
            Stage::Opening(opening) => {
                opening.gap = true;
                for sub in std::mem::take(&mut opening.pending) {
                    actions.push(Action::Unsubscribe(sub));
                }
                self.begin(actions);
            }
            // The log lost what this client was sent: it comes back and hears what became of it.
            _ => self.close(code::RESTART, "come back", actions),
        }
    }

    pub(super) fn looked(&mut self, view: View, actions: &mut Actions) {
        let (Stage::Opening(opening), Some(follow)) = (&mut self.stage, &mut self.follow) else {
            return;
        };
        follow.begin(&view);
        opening.first = Some(view);
        opening.step = Step::Newest;
        opening.pending = follow.subs();
        follow.probe_newest(actions);
        if opening.pending.is_empty() {
            self.arrive(ARRIVE, actions);
        }
    }

    pub(super) fn arrived(&mut self, view: View, actions: &mut Actions) {
        let (Stage::Opening(opening), Some(grant)) = (&mut self.stage, &self.grant) else {
            return;
        };
        if opening.first.take().is_some() {
            if let Some(follow) = &mut self.follow {
                follow.drop_ended(&view, actions);
            }
            return self.live(false, actions);
        }
        let mut follow = Follow::new(grant.user, self.origin.placing.clone());
        let seal = &self.origin.tokens.seal;
        let cursor = opening
            .auth
            .resume
            .as_deref()
            .and_then(|text| Cursor::parse(text, seal));
        let good = cursor.is_some_and(|cursor| follow.resume(&cursor, &view, actions));
        if !good {
            opening.gap = true;
            return self.begin(actions);
        }
        opening.step = Step::Places;
        opening.pending = follow.subs();
        opening.pending.insert(OWN);
        follow.probe_places(actions);
        self.follow = Some(follow);
    }

    /// Everything is found: hello, then the events.
    pub(super) fn live(&mut self, resumed: bool, actions: &mut Actions) {
        let Stage::Opening(opening) = std::mem::replace(&mut self.stage, Stage::Live) else {
            return;
        };
        if opening.auth.ack {
            self.hello(resumed, opening.gap, actions);
        }
        self.answer(acked(opening.cid.as_ref(), Ok(())), actions);
        for answer in opening.answers {
            actions.send_text(answer);
        }
        if let Some(follow) = &mut self.follow {
            follow.follow(actions);
        }
    }
}
