//! One subscription: a place in each of its topics, and how it moves.
//!
//! A step looks at the window under the partition's read lock and never waits. When the window
//! cannot answer (the place is unverified, or behind it), the step names an [`Ask`] for the log,
//! and [`Subscription::answer`] takes what came back. Topics of one partition are merged in the
//! order of their ids, so that one place per partition is enough for the cursor.

use std::collections::VecDeque;
use std::sync::Arc;

use tidings_core::{
    At, Batch, EventId, From, Page, Partition, Placed, Prev, Printed, SubId, TopicSet, Verdict,
};

use crate::delivered::Delivered;
use crate::limits::Limits;
use crate::window::{Look, Part, Window};

/// One subscription or fetch of a connection.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: SubId,
    at: At,
    legs: Vec<Leg>,
    /// Per topic, in the set's order.
    topics: Vec<TopicLeg>,
    mode: Mode,
    announced: bool,
    level_told: bool,
    /// Whether it has been level, and not behind the window since: it is given flash events.
    live: bool,
}

/// Events with their topics' positions in the set.
type Found = Vec<(usize, Arc<Delivered>)>;

/// How far a subscription goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// On and on.
    Live,
    /// Up to and including this place, or to the first moment at which it is level.
    Fetch(Option<EventId>),
    /// A fetch that has come to its end.
    Done,
}

/// The topics of one partition.
#[derive(Debug)]
struct Leg {
    partition: Partition,
    range: std::ops::Range<usize>,
    /// The window's generation at the last look; `None` before the first.
    generation: Option<u64>,
    /// Whether everything in the window was handed out: there is nothing to look for until the
    /// window rings.
    level: bool,
    /// The number of the first flash event that was not looked at.
    flash: u64,
    /// Whether there is one that was not.
    flashed: bool,
}

#[derive(Debug)]
struct TopicLeg {
    state: TopicState,
    /// From the log, oldest first, all after the topic's place.
    page: VecDeque<Arc<Delivered>>,
    /// With the page, everything up to here is known.
    known_to: EventId,
}

/// Whether a topic's place is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TopicState {
    /// A start that nobody has looked at yet.
    Start(From),
    /// A client's place that only the log can judge.
    Unverified(EventId),
    /// Nothing was missed up to the place in the cursor.
    Good,
}

/// What a step has come to.
#[derive(Debug)]
pub(crate) enum Step {
    /// All topics have a good place for the first time.
    Subscribed(At),
    /// Events to hand out.
    Events(Batch),
    /// Flash events to hand out.
    Flash(Vec<Arc<dyn Printed>>),
    /// Nothing newer; told once.
    CaughtUp(At),
    /// A fetch is at its end.
    Fetched(Verdict),
    /// The log must be asked first.
    Ask(Ask),
    /// Nothing to do.
    Idle,
}

/// A question for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Whose question it is, in the set's order.
    pub(crate) position: usize,
    /// The window's generation when it was asked: an answer from before a rewind is void.
    generation: u64,
    /// Which topic.
    pub(crate) topic: Placed,
    /// The question.
    pub(crate) question: Question,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// A page, with the verdict on its start. `level` was the window's level when it was asked.
    Read { from: From, level: EventId },
    /// A verdict only: the place lies within or beyond the window.
    Judge(EventId),
}

/// The log's answer.
#[derive(Debug)]
pub(crate) enum Answer {
    Page(Page),
    Verdict(Verdict),
}

impl Subscription {
    pub(crate) fn new(id: SubId, set: TopicSet, start: impl Fn(usize) -> From, mode: Mode) -> Self {
        let set = Arc::new(set);
        let legs = set
            .partitions()
            .map(|(partition, range)| Leg {
                partition,
                range,
                generation: None,
                level: false,
                flash: 0,
                flashed: false,
            })
            .collect();
        let topic = |position| TopicLeg {
            state: TopicState::Start(start(position)),
            page: VecDeque::new(),
            known_to: EventId::ORIGIN,
        };
        let cursor = tidings_core::Cursor::everywhere(&set, EventId::ORIGIN);
        let topics = (0..set.topics().len()).map(topic).collect();
        Self {
            id,
            at: At { set, cursor },
            legs,
            topics,
            mode,
            announced: false,
            level_told: false,
            live: false,
        }
    }

    pub(crate) fn topics(&self) -> &[Placed] {
        self.at.set.topics()
    }

    /// Fixes what "newest" means at the moment of subscribing, not of the first look.
    pub(crate) fn begin(&mut self, window: &Window) {
        for index in 0..self.legs.len() {
            let (partition, range) = (self.legs[index].partition, self.legs[index].range.clone());
            window.with(partition, |part| {
                if !part.is_filled() {
                    return;
                }
                self.notice_rewinds(index, part);
                for position in range {
                    if self.topics[position].state == TopicState::Start(From::Newest) {
                        self.settle(position, part.newest());
                    }
                }
            });
        }
    }

    pub(crate) fn is_fetch(&self) -> bool {
        self.mode != Mode::Live
    }

    /// The window has rung.
    pub(crate) fn look_again(&mut self) {
        for leg in &mut self.legs {
            leg.level = false;
        }
    }

    /// Whether a step will look at the window.
    pub(crate) fn has_to_look(&self) -> bool {
        self.legs.iter().any(|leg| !leg.level)
    }

    /// Goes as far as the window allows.
    pub(crate) fn step(&mut self, window: &Window, limits: &Limits, floor_ms: u64) -> Step {
        if self.mode == Mode::Done {
            return Step::Fetched(Verdict::Ok);
        }
        for index in 0..self.legs.len() {
            let Leg {
                partition, level, ..
            } = self.legs[index];
            if level {
                continue;
            }
            let step = window.with(partition, |part| {
                self.step_leg(index, part, limits, floor_ms)
            });
            match step {
                Step::Idle => {}
                step => return step,
            }
        }
        if self
            .topics
            .iter()
            .any(|topic| topic.state != TopicState::Good)
        {
            return Step::Idle; // a partition is not filled yet
        }
        if !self.announced {
            self.announced = true;
            return Step::Subscribed(self.at.clone());
        }
        if let Mode::Fetch(until) = self.mode {
            let place = self
                .at
                .cursor
                .places()
                .iter()
                .min()
                .copied()
                .unwrap_or_default();
            return if until.is_none_or(|until| until <= place) {
                Step::Fetched(Verdict::Ok)
            } else {
                Step::Idle
            };
        }
        if !self.level_told {
            self.level_told = true;
            self.live |= self.is_level();
            return Step::CaughtUp(self.at.clone());
        }
        if self.live {
            return self.flash(window);
        }
        self.live = self.is_level();
        Step::Idle
    }

    fn is_level(&self) -> bool {
        self.legs.iter().all(|leg| leg.level)
    }

    /// What was flashed since this was level, or since it last looked.
    fn flash(&mut self, window: &Window) -> Step {
        for leg in self.legs.iter_mut().filter(|leg| leg.flashed) {
            let set = &self.at.set;
            let own = |one: &&Arc<Delivered>| set.position(&one.event().topic).is_some();
            let events: Vec<Arc<dyn Printed>> = window.with(leg.partition, |part| {
                let since = std::mem::replace(&mut leg.flash, part.flash_end());
                let found = part.flash_since(since).filter(own);
                found.map(|one| one.clone() as Arc<dyn Printed>).collect()
            });
            leg.flashed = false;
            if !events.is_empty() {
                return Step::Flash(events);
            }
        }
        Step::Idle
    }

    fn step_leg(&mut self, index: usize, part: &Part, limits: &Limits, floor_ms: u64) -> Step {
        if !part.is_filled() {
            return Step::Idle;
        }
        self.notice_rewinds(index, part);
        let leg = &mut self.legs[index];
        if self.live {
            leg.flashed = leg.flash < part.flash_end();
        } else {
            leg.flash = part.flash_end();
        }
        let range = leg.range.clone();
        for position in range.clone() {
            if let Some(question) = self.verify(position, part, floor_ms) {
                return self.ask(position, question, part);
            }
        }
        if !self.announced {
            return Step::Idle; // nothing is handed out before the subscription stands
        }
        match self.gather(&range, part, limits, floor_ms) {
            Ok((events, bound)) => self.hand_out(index, events, bound, part.level(), limits),
            Err(ask) => ask,
        }
    }

    /// Puts every topic whose place was taken back before the log.
    fn notice_rewinds(&mut self, index: usize, part: &Part) {
        let leg = &mut self.legs[index];
        let Some(seen) = leg.generation.replace(part.generation()) else {
            return;
        };
        for position in leg.range.clone() {
            let place = self.at.cursor.places()[position];
            let topic = &mut self.topics[position];
            if topic.state == TopicState::Good && part.is_rewound(seen, place) {
                topic.state = TopicState::Unverified(place);
                topic.page.clear();
            }
        }
    }

    /// Finds a topic's place, if the window can; otherwise says what to ask the log.
    fn verify(&mut self, position: usize, part: &Part, floor_ms: u64) -> Option<Question> {
        let read = |from| {
            Some(Question::Read {
                from,
                level: part.level(),
            })
        };
        // Only places that exist, or lie before everything retained, are good cursors.
        let before = |ms: u64| part.last_at_or_before(EventId::before_ms(ms.max(floor_ms)));
        let place = match self.topics[position].state {
            TopicState::Good => return None,
            TopicState::Start(From::Newest) => part.newest(),
            TopicState::Start(From::Oldest) => match before(0) {
                Some(oldest) => oldest,
                None => return read(From::Oldest),
            },
            TopicState::Start(From::Since(ms)) => match before(ms) {
                Some(since) => since,
                None => return read(From::Since(ms)),
            },
            TopicState::Start(From::After(place)) | TopicState::Unverified(place) => {
                if part.vouches_for(place, floor_ms) {
                    place
                } else if place < part.start() {
                    return read(From::After(place));
                } else {
                    return Some(Question::Judge(place));
                }
            }
        };
        self.settle(position, place);
        None
    }

    fn settle(&mut self, position: usize, place: EventId) {
        self.topics[position].state = TopicState::Good;
        self.at.cursor.places_mut()[position] = place;
    }

    fn ask(&mut self, position: usize, question: Question, part: &Part) -> Step {
        self.live = false;
        let topic = self.topics()[position].clone();
        Step::Ask(Ask {
            position,
            generation: part.generation(),
            topic,
            question,
        })
    }

    /// What the topics of one partition have after their places, unmerged, and the place up to
    /// which all of it is complete.
    fn gather(
        &mut self,
        range: &std::ops::Range<usize>,
        part: &Part,
        limits: &Limits,
        floor_ms: u64,
    ) -> Result<(Found, EventId), Step> {
        let mut found = Vec::new();
        let mut bound = part.level();
        for position in range.clone() {
            let place = self.at.cursor.places()[position];
            let topic = &mut self.topics[position];
            if topic.known_to > place {
                bound = bound.min(topic.known_to);
                found.extend(
                    topic
                        .page
                        .iter()
                        .map(|delivered| (position, delivered.clone())),
                );
                continue;
            }
            let name = &self.at.set.topics()[position].topic;
            match part.look(name, place, limits.batch_events, floor_ms) {
                Look::Complete(events) => {
                    let before = found.len();
                    found.extend(events.map(|delivered| (position, delivered.clone())));
                    if let Some((_, last)) = found.last()
                        && found.len() - before == limits.batch_events
                    {
                        bound = bound.min(last.event().id);
                    }
                }
                Look::Behind => {
                    let from = From::After(place);
                    return Err(self.ask(
                        position,
                        Question::Read {
                            from,
                            level: part.level(),
                        },
                        part,
                    ));
                }
            }
        }
        found.retain(|(_, delivered)| delivered.event().id <= bound);
        if range.len() > 1 {
            found.sort_by_key(|(_, delivered)| delivered.event().id);
        }
        Ok((found, bound))
    }

    fn hand_out(
        &mut self,
        index: usize,
        found: Found,
        bound: EventId,
        level: EventId,
        limits: &Limits,
    ) -> Step {
        let range = self.legs[index].range.clone();
        let before = self.at.clone();
        let mut events: Vec<Arc<dyn Printed>> =
            Vec::with_capacity(found.len().min(limits.batch_events));
        let mut bytes = 0;
        let mut cut = false;
        for (position, delivered) in found {
            let event = delivered.event();
            let past_end = matches!(self.mode, Mode::Fetch(Some(until)) if event.id > until);
            let full = events.len() == limits.batch_events
                || (bytes > 0 && bytes + event.data.len() > limits.batch_bytes);
            if past_end || full {
                cut = true;
                if past_end {
                    self.mode = Mode::Done;
                }
                break;
            }
            bytes += event.data.len();
            self.at.pass(position, event.id);
            events.push(delivered);
        }
        if !cut {
            self.legs[index].level = bound == level;
            for place in &mut self.at.cursor.places_mut()[range.clone()] {
                *place = (*place).max(bound);
            }
        }
        self.drop_passed(range);
        if events.is_empty() {
            return if self.mode == Mode::Done {
                Step::Fetched(Verdict::Ok)
            } else {
                Step::Idle
            };
        }
        self.level_told = false;
        Step::Events(Batch { events, before })
    }

    fn drop_passed(&mut self, range: std::ops::Range<usize>) {
        for position in range {
            let place = self.at.cursor.places()[position];
            let page = &mut self.topics[position].page;
            while page
                .front()
                .is_some_and(|delivered| delivered.event().id <= place)
            {
                page.pop_front();
            }
        }
    }

    /// Takes the log's answer. `Some` when the verdict is not `ok`: the subscription then starts
    /// anew with all that is retained.
    pub(crate) fn answer(&mut self, ask: &Ask, answer: Answer, window: &Window) -> Option<Verdict> {
        let position = ask.position;
        self.look_again();
        if window.with(ask.topic.partition, Part::generation) != ask.generation {
            return None; // the log has lost a suffix since: the next step asks again
        }
        let verdict = match &answer {
            Answer::Page(page) => page.verdict,
            Answer::Verdict(verdict) => *verdict,
        };
        if !verdict.is_ok() {
            self.topics[position].state = TopicState::Start(From::Oldest);
            self.topics[position].page.clear();
            self.topics[position].known_to = EventId::ORIGIN;
            return Some(verdict);
        }
        match (ask.question, answer) {
            (Question::Read { from, level }, Answer::Page(page)) => {
                self.take_page(position, from, level, page)
            }
            (Question::Judge(place), _) => self.settle(position, place),
            (Question::Read { .. }, Answer::Verdict(_)) => {}
        }
        None
    }

    fn take_page(&mut self, position: usize, from: From, level: EventId, page: Page) {
        // At the end of the topic the log knew everything that the window knew when it was asked.
        let known_to = if page.at_end {
            page.next.max(level)
        } else {
            page.next
        };
        let place = match (from, page.events.first()) {
            (From::After(place), _) => place,
            (_, None) => known_to,
            (_, Some(first)) => match first.prev {
                Prev::Event(place) | Prev::NoneSince(place) => place,
                Prev::Unknown => EventId::ORIGIN,
            },
        };
        if self.topics[position].state != TopicState::Good {
            self.settle(position, place);
        }
        let topic = &mut self.topics[position];
        topic.known_to = known_to;
        topic.page = page
            .events
            .into_iter()
            .map(|event| Arc::new(Delivered::new(event)))
            .collect();
        if topic.page.is_empty() {
            let current = &mut self.at.cursor.places_mut()[position];
            *current = (*current).max(known_to);
        }
    }
}

#[cfg(test)]
mod tests;
