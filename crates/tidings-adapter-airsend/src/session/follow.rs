//! What a session hears: its user's own topic, and the channels in which he is a member.
//!
//! Topics are followed on *lines*, each a subscription of the hub's. A partition has one common line;
//! a channel that somebody has just joined has one of its own, until it is level and joins the common
//! one. Within a channel a span begins and ends at events of its log: what lies outside is passed over.

mod hearing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use tidings_adapter::{
    Action, Actions, Cursor as Places, Event, EventId, From, Partition, Placed, Start, SubId,
    Topic, TopicSet,
};

use crate::cursor::{Cursor, Exception};
use crate::keys;
use crate::user::{Span, View};

/// The user's own topic.
pub(crate) const OWN: SubId = SubId(0);

/// Topics of a common line; a subscription has 100 at most.
const COMMON_MAX: usize = 90;

/// Lines of single channels at a time; a connection has 100 subscriptions at most. More wait.
const SINGLE_MAX: usize = 40;

/// A span began about then, by a clock that may differ from the log's by half of this.
const AROUND_MS: u64 = 10_000;

/// In which partition a topic stands.
#[derive(Clone)]
pub(crate) struct Placing(pub(crate) Arc<dyn Fn(&Topic) -> Partition + Send + Sync>);

impl fmt::Debug for Placing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placing")
    }
}

/// Everything that one session follows.
#[derive(Debug)]
pub(crate) struct Follow {
    user: u64,
    placing: Placing,
    /// The last change that is in it.
    changes: u64,
    pub(crate) own: EventId,
    spans: BTreeMap<u64, Heard>,
    lines: BTreeMap<SubId, Line>,
    waiting: VecDeque<u64>,
    next_sub: u32,
    /// Nothing is followed yet.
    held: bool,
}

/// One span, as far as it was heard.
#[derive(Debug)]
struct Heard {
    channel: u64,
    nonce: String,
    since_ms: u64,
    state: Hearing,
    /// Its end is known.
    left: bool,
    line: Option<SubId>,
    /// Everything of it up to here was heard, whatever its line says.
    floor: EventId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// Its beginning was not heard yet.
    Before,
    Within,
    Over,
}

#[derive(Debug)]
struct Line {
    partition: Partition,
    common: bool,
    place: EventId,
}

impl Follow {
    pub(crate) fn new(user: u64, placing: Placing) -> Self {
        Self {
            user,
            placing,
            changes: 0,
            own: EventId::ORIGIN,
            spans: BTreeMap::new(),
            lines: BTreeMap::new(),
            waiting: VecDeque::new(),
            next_sub: 1,
            held: true,
        }
    }

    fn partition(&self, channel: u64) -> Partition {
        (self.placing.0)(&keys::channel_topic(channel))
    }

    /// Everything that stands now, from places that are still to be found.
    pub(crate) fn begin(&mut self, view: &View) {
        self.changes = view.changes;
        for span in view.spans.iter().filter(|span| span.left.is_none()) {
            self.include(span, EventId::ORIGIN, None);
        }
    }

    /// Everything as a cursor has it; `false` when that cannot be known any more.
    pub(crate) fn resume(&mut self, cursor: &Cursor, view: &View, actions: &mut Actions) -> bool {
        if cursor.user != self.user
            || cursor.changes > view.changes
            || cursor.changes < view.forgotten
        {
            return false;
        }
        (self.changes, self.own) = (cursor.changes, cursor.own);
        let places: BTreeMap<u16, EventId> = cursor.places.iter().copied().collect();
        let exceptions: BTreeMap<u64, Exception> = cursor.exceptions.iter().copied().collect();
        for span in &view.spans {
            let known_end = span.left.is_some_and(|(left, _)| left <= cursor.changes);
            let partition = self.partition(span.channel);
            let common = places.get(&partition.0).copied();
            match (exceptions.get(&span.joined), common) {
                (Some(Exception::Over), _) => {
                    let mut heard = Heard::of(span, Hearing::Over);
                    heard.left = known_end;
                    if !heard.left {
                        self.spans.insert(span.joined, heard);
                    }
                    continue;
                }
                (Some(Exception::Fresh), _) => self.join(span, actions),
                (Some(Exception::At(at)), common) => self.include(span, *at, common),
                (None, _) if span.joined > cursor.changes || known_end => continue,
                (None, Some(place)) => self.include(span, place, Some(place)),
                (None, None) => return false, // no cursor of ours
            }
            if let Some(heard) = self.spans.get_mut(&span.joined) {
                heard.left = known_end;
            }
        }
        true
    }

    /// Takes a span that was begun: on its partition's line, or, if it is behind it, on its own.
    fn include(&mut self, span: &Span, at: EventId, common: Option<EventId>) {
        let partition = self.partition(span.channel);
        let behind = common.is_some_and(|place| at < place);
        let room = self
            .common(partition)
            .filter(|sub| !behind && self.topics(*sub).len() < COMMON_MAX);
        let sub = match room {
            Some(sub) => sub,
            None => {
                let first = !behind && self.common(partition).is_none();
                self.line(
                    partition,
                    first,
                    if first { common.unwrap_or(at) } else { at },
                )
            }
        };
        let heard = Heard {
            line: Some(sub),
            floor: at,
            ..Heard::of(span, Hearing::Within)
        };
        self.spans.insert(span.joined, heard);
    }

    fn line(&mut self, partition: Partition, common: bool, place: EventId) -> SubId {
        let sub = SubId(self.next_sub);
        self.next_sub += 1;
        self.lines.insert(
            sub,
            Line {
                partition,
                common,
                place,
            },
        );
        sub
    }

    fn common(&self, partition: Partition) -> Option<SubId> {
        let fits = |(_, line): &(&SubId, &Line)| line.common && line.partition == partition;
        self.lines.iter().find(fits).map(|(sub, _)| *sub)
    }

    /// The channels of a line and the place of each.
    fn topics(&self, sub: SubId) -> BTreeMap<u64, EventId> {
        let place = self
            .lines
            .get(&sub)
            .map_or(EventId::ORIGIN, |line| line.place);
        let mut topics = BTreeMap::new();
        for heard in self.spans.values().filter(|heard| heard.line == Some(sub)) {
            if heard.state == Hearing::Over {
                continue;
            }
            let at = if heard.state == Hearing::Before {
                place
            } else {
                place.max(heard.floor)
            };
            let known = topics.entry(heard.channel).or_insert(at);
            // A span that begins where another ends goes on from there.
            *known = (*known).min(at);
        }
        topics
    }

    /// The lines, to be looked at or followed.
    pub(crate) fn subs(&self) -> BTreeSet<SubId> {
        self.lines.keys().copied().collect()
    }

    /// Subscribes everything at the newest event, to find out where that is.
    pub(crate) fn probe_newest(&self, actions: &mut Actions) {
        for sub in self.lines.keys() {
            let topics = self
                .topics(*sub)
                .into_keys()
                .map(keys::channel_topic)
                .collect();
            let from = Start::From(From::Newest);
            actions.push(Action::Subscribe {
                sub: *sub,
                topics,
                from,
            });
        }
    }

    /// Where the newest event of a line is.
    pub(crate) fn found(&mut self, sub: SubId, at: EventId) {
        if let Some(line) = self.lines.get_mut(&sub) {
            line.place = at;
        }
    }

    /// A line that began at a time stands.
    pub(crate) fn found_live(&mut self, sub: SubId, at: EventId) {
        if let Some(line) = self.lines.get_mut(&sub)
            && line.place == EventId::ORIGIN
        {
            line.place = at;
        }
    }

    /// Follows everything from where it is.
    pub(crate) fn follow(&mut self, actions: &mut Actions) {
        actions.push(self.own_subscription());
        for sub in self.subs() {
            if self.is_new(sub) {
                continue; // it is on its way
            }
            self.subscribe(sub, actions);
        }
        self.held = false;
        self.start_waiting(actions);
    }

    /// Subscribes everything where a cursor has it, to find out whether those places are good.
    pub(crate) fn probe_places(&self, actions: &mut Actions) {
        actions.push(self.own_subscription());
        for sub in self.lines.keys() {
            self.subscribe(*sub, actions);
        }
    }

    /// Whether a line began with a span whose beginning is looked for.
    fn is_new(&self, sub: SubId) -> bool {
        let mut heard = self.spans.values().filter(|heard| heard.line == Some(sub));
        heard.all(|heard| heard.state == Hearing::Before)
    }

    pub(crate) fn own_subscription(&self) -> Action {
        Action::Subscribe {
            sub: OWN,
            topics: vec![keys::user_topic(self.user)],
            from: Start::From(From::After(self.own)),
        }
    }

    fn subscribe(&self, sub: SubId, actions: &mut Actions) {
        let topics = self.topics(sub);
        let Some(line) = self.lines.get(&sub) else {
            return;
        };
        let mut ats = topics.values();
        let first = ats.next().copied().unwrap_or(line.place);
        let from = if ats.all(|at| *at == first) {
            Start::From(From::After(first))
        } else {
            let placed = |channel: &u64| Placed {
                partition: line.partition,
                topic: keys::channel_topic(*channel),
            };
            let Ok(set) = TopicSet::new(topics.keys().map(placed).collect()) else {
                return;
            };
            let mut places = Places::everywhere(&set, first);
            for (place, placed) in places.places_mut().iter_mut().zip(set.topics()) {
                let channel = keys::channel_of(&placed.topic);
                *place = channel
                    .and_then(|id| topics.get(&id).copied())
                    .unwrap_or(first);
            }
            Start::Cursor(places.print(&set))
        };
        let topics = topics.into_keys().map(keys::channel_topic).collect();
        actions.push(Action::Subscribe { sub, topics, from });
    }

    /// Channels in which the user is a member.
    pub(crate) fn channels(&self) -> impl Iterator<Item = u64> {
        let standing = self
            .spans
            .values()
            .filter(|heard| !heard.left && heard.state != Hearing::Over);
        standing.map(|heard| heard.channel)
    }

    pub(crate) fn partition_of(&self, channel: u64) -> Partition {
        self.partition(channel)
    }

    /// Where all of it is.
    pub(crate) fn cursor(&self) -> Cursor {
        let mut cursor = Cursor {
            user: self.user,
            changes: self.changes,
            own: self.own,
            ..Cursor::default()
        };
        let commons = self.lines.values().filter(|line| line.common);
        cursor.places = commons.map(|line| (line.partition.0, line.place)).collect();
        for (joined, heard) in &self.spans {
            let line = heard.line.and_then(|sub| self.lines.get(&sub));
            let exception = match (heard.state, line) {
                (Hearing::Before, _) | (_, None) if heard.state != Hearing::Over => {
                    Exception::Fresh
                }
                (Hearing::Over, _) => Exception::Over,
                (_, Some(line)) if line.common && !heard.left && heard.floor <= line.place => {
                    continue;
                }
                (_, Some(line)) => Exception::At(line.place.max(heard.floor)),
                (_, None) => Exception::Fresh,
            };
            cursor.exceptions.push((*joined, exception));
        }
        cursor
    }
}

impl Heard {
    fn of(span: &Span, state: Hearing) -> Self {
        Self {
            channel: span.channel,
            nonce: span.nonce.clone(),
            since_ms: span.since_ms,
            state,
            left: false,
            line: None,
            floor: EventId::ORIGIN,
        }
    }
}

/// What stands beside an event's data for those who follow it.
pub(crate) fn subject(event: &Event) -> &str {
    let attributes = event.attributes.as_deref();
    attributes
        .and_then(|all| all.subject.as_deref())
        .unwrap_or_default()
}
