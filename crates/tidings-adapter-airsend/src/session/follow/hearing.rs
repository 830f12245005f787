//! What is heard: memberships that begin and end, events that lie within them, lines that are level.

use tidings_adapter::{Action, Actions, Event, EventId, From, SubId};

use super::{AROUND_MS, COMMON_MAX, Follow, Heard, Hearing, SINGLE_MAX, subject};
use crate::keys;
use crate::user::{Span, View};

impl Follow {
    /// A span has begun somewhere in its channel's log.
    pub(crate) fn joined(&mut self, change: u64, span: &Span, actions: &mut Actions) {
        if change <= self.changes {
            return;
        }
        self.changes = change;
        if !self.spans.contains_key(&span.joined) {
            self.join(span, actions);
        }
    }

    pub(super) fn join(&mut self, span: &Span, actions: &mut Actions) {
        let within = |heard: &&Heard| heard.channel == span.channel && heard.state != Hearing::Over;
        let mut heard = Heard::of(span, Hearing::Before);
        // Where the one before it has not ended yet, its beginning is still to come on the same line.
        heard.line = self
            .spans
            .values()
            .find(within)
            .and_then(|heard| heard.line);
        let found = heard.line.is_some();
        self.spans.insert(span.joined, heard);
        if !found {
            self.waiting.push_back(span.joined);
            self.start_waiting(actions);
        }
    }

    pub(super) fn start_waiting(&mut self, actions: &mut Actions) {
        let singles = |follow: &Self| follow.lines.values().filter(|line| !line.common).count();
        while !self.held
            && singles(self) < SINGLE_MAX
            && let Some(joined) = self.waiting.pop_front()
        {
            let Some(heard) = self.spans.get(&joined) else {
                continue;
            };
            let (channel, since) = (heard.channel, heard.since_ms.saturating_sub(AROUND_MS));
            let partition = self.partition(channel);
            let sub = self.line(partition, false, EventId::ORIGIN);
            if let Some(heard) = self.spans.get_mut(&joined) {
                heard.line = Some(sub);
            }
            actions.subscribe(sub, keys::channel_topic(channel), From::Since(since));
        }
    }

    /// A span ends, or has ended, somewhere in its channel's log.
    pub(crate) fn left(&mut self, change: u64, joined: u64, actions: &mut Actions) {
        self.changes = self.changes.max(change);
        if let Some(heard) = self.spans.get_mut(&joined) {
            heard.left = true;
            self.forget(joined, actions);
        }
    }

    /// Drops a span that is over and known to be.
    fn forget(&mut self, joined: u64, actions: &mut Actions) {
        let over = |heard: &Heard| heard.state == Hearing::Over && heard.left;
        if !self.spans.get(&joined).is_some_and(over) {
            return;
        }
        let line = self.spans.remove(&joined).and_then(|heard| heard.line);
        let used = |sub| self.spans.values().any(|heard| heard.line == Some(sub));
        if let Some(sub) = line
            && !used(sub)
            && self.lines.get(&sub).is_some_and(|line| !line.common)
        {
            self.lines.remove(&sub);
            actions.push(Action::Unsubscribe(sub));
            self.start_waiting(actions);
        }
    }

    /// A span that ended before anything of it was sent.
    pub(crate) fn drop_ended(&mut self, view: &View, actions: &mut Actions) {
        for span in view.spans.iter().filter(|span| span.left.is_some()) {
            if let Some(heard) = self.spans.get_mut(&span.joined) {
                heard.state = Hearing::Over;
                self.forget(span.joined, actions);
            }
        }
    }

    /// An event of a channel: whether it is heard.
    pub(crate) fn hear(&mut self, sub: SubId, event: &Event, actions: &mut Actions) -> bool {
        let Some(line) = self.lines.get_mut(&sub) else {
            return false;
        };
        line.place = line.place.max(event.id);
        let Some(channel) = keys::channel_of(&event.topic) else {
            return false;
        };
        let subject = subject(event);
        let leaves = subject
            .strip_prefix("leave:")
            .and_then(|rest| rest.split_once(':'));
        let leaves = leaves.filter(|(user, _)| user.parse() == Ok(self.user));
        let leaves = leaves.map(|(_, nonce)| nonce);
        let mut heard_it = false;
        let mut over = Vec::new();
        for (joined, heard) in &mut self.spans {
            if heard.line != Some(sub) || heard.channel != channel || event.id <= heard.floor {
                continue;
            }
            match heard.state {
                Hearing::Before if subject.strip_prefix("join:") == Some(&*heard.nonce) => {
                    heard.state = Hearing::Within;
                    heard_it = true;
                }
                Hearing::Within => {
                    heard_it = true;
                    if subject == "end" || leaves == Some(&*heard.nonce) {
                        heard.state = Hearing::Over;
                        over.push(*joined);
                    }
                }
                _ => {}
            }
        }
        for joined in over {
            self.forget(joined, actions);
        }
        heard_it && !self.is_excepted(event)
    }

    /// Whether an event is for everybody but this user.
    pub(crate) fn is_excepted(&self, event: &Event) -> bool {
        let except = subject(event).strip_prefix("except:");
        except.is_some_and(|user| user.parse() == Ok(self.user))
    }

    /// Whether an event of a channel that is not retained is heard now.
    pub(crate) fn hears_now(&self, channel: u64, event: &Event) -> bool {
        let within = |heard: &Heard| heard.channel == channel && heard.state == Hearing::Within;
        self.spans.values().any(within) && !self.is_excepted(event)
    }

    /// A line is level: one of a single channel joins its partition's.
    pub(crate) fn level(&mut self, sub: SubId, at: EventId, actions: &mut Actions) {
        let Some(line) = self.lines.get_mut(&sub) else {
            return;
        };
        line.place = line.place.max(at);
        let (partition, place, common) = (line.partition, line.place, line.common);
        if common || self.is_new(sub) {
            return;
        }
        let Some(common) = self.common(partition) else {
            if let Some(line) = self.lines.get_mut(&sub) {
                line.common = true;
            }
            return self.start_waiting(actions);
        };
        let both = self.topics(common).len() + self.topics(sub).len();
        if both > COMMON_MAX {
            return;
        }
        let other = self.lines.get(&common).map_or(place, |line| line.place);
        for heard in self.spans.values_mut() {
            let at = match heard.line {
                Some(one) if one == sub => place,
                Some(one) if one == common => other,
                _ => continue,
            };
            heard.line = Some(common);
            if heard.state == Hearing::Within {
                heard.floor = heard.floor.max(at);
            }
        }
        self.lines.remove(&sub);
        if let Some(line) = self.lines.get_mut(&common) {
            line.place = other.min(place);
        }
        actions.push(Action::Unsubscribe(sub));
        actions.push(Action::Unsubscribe(common));
        self.subscribe(common, actions);
        self.start_waiting(actions);
    }
}
