//! The two live modes of Durable Streams as sessions: a long-poll and an event stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::{
    Action, Actions, At, Batch, EventId, From, Input, Now, Printed, Refused, Session, SubId,
    TimerId, Topic, Verdict,
};

use super::durable::{Collapse, STREAM_CURSOR, STREAM_NEXT_OFFSET, STREAM_UP_TO_DATE, array};
use super::{ReadSettings, View, lost};
use crate::print::data_lines;
use crate::problem::{CAUSE_HEADER, PROBLEM_JSON};

const SUB: SubId = SubId(0);
const TIME_OUT: TimerId = TimerId(0);
const HEARTBEAT: TimerId = TimerId(1);

/// Waits for the next events and answers once (§5.7).
#[derive(Debug)]
pub(super) struct Poll {
    topic: Topic,
    place: EventId,
    view: View,
    time_out: Duration,
    bytes: usize,
    collapse: Collapse,
    collected: Vec<Arc<dyn Printed>>,
    collected_bytes: usize,
}

impl Poll {
    pub(super) fn new(
        topic: Topic,
        place: EventId,
        view: View,
        settings: &ReadSettings,
        collapse: Collapse,
    ) -> Self {
        let (time_out, bytes) = (settings.long_poll, settings.page.bytes);
        Self {
            topic,
            place,
            view,
            time_out,
            bytes,
            collapse,
            collected: Vec::new(),
            collected_bytes: 0,
        }
    }

    fn answer(&mut self, now: Now, up_to_date: bool, actions: &mut Actions) {
        let mut headers = vec![
            (STREAM_NEXT_OFFSET, self.place.to_string()),
            (STREAM_CURSOR, self.collapse.at(now.unix_ms).print()),
            ("cache-control", "no-store".to_owned()),
        ];
        if up_to_date {
            headers.push((STREAM_UP_TO_DATE, "true".to_owned()));
        }
        let status = if self.collected.is_empty() { 204 } else { 200 };
        if status == 200 {
            headers.push(("content-type", "application/json".to_owned()));
            headers.push(("etag", format!("\"{}:{}\"", self.topic, self.place)));
            actions.send_text(array(&self.collected, self.view.json()));
        }
        actions.push(Action::Respond { status, headers });
        actions.close(1000, "answered");
    }
}

impl Session for Poll {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => {
                actions.subscribe(SUB, self.topic.clone(), From::After(self.place));
                actions.set_timer(TIME_OUT, self.time_out);
            }
            Input::Events { batch, .. } => {
                self.place = level(&batch.after());
                self.collected_bytes += batch
                    .events
                    .iter()
                    .map(|one| one.event().data.len())
                    .sum::<usize>();
                self.collected.extend(batch.events.iter().cloned());
                if self.collected_bytes >= self.bytes {
                    self.answer(now, false, actions);
                }
            }
            Input::CaughtUp { at, .. } => {
                self.place = level(at);
                if !self.collected.is_empty() {
                    self.answer(now, true, actions);
                }
            }
            // A draining instance answers at once; the client comes back and finds another one.
            Input::Timer(TIME_OUT) | Input::Draining => {
                let up_to_date = self.collected.is_empty();
                self.answer(now, up_to_date, actions);
            }
            Input::Verdict { verdict, .. } => refuse(&self.topic, verdict, actions),
            _ => {}
        }
    }
}

/// Streams `data` and `control` events (§5.8).
#[derive(Debug)]
pub(super) struct Tail {
    topic: Topic,
    from: From,
    /// The client is not level before it has this.
    end: EventId,
    view: View,
    age: Duration,
    heartbeat: Duration,
    collapse: Collapse,
    open: bool,
    /// A data event whose control event waits to hear whether it was the last.
    pending: Option<(Vec<u8>, At)>,
}

impl Tail {
    pub(super) fn new(
        topic: Topic,
        from: From,
        end: EventId,
        view: View,
        settings: &ReadSettings,
        collapse: Collapse,
    ) -> Self {
        let (age, heartbeat) = (settings.durable_age, settings.heartbeat);
        Self {
            topic,
            from,
            end,
            view,
            age,
            heartbeat,
            collapse,
            open: false,
            pending: None,
        }
    }

    /// Holds a data event until the next input, which comes at once: its control event says whether
    /// the client is level, and both go out in one piece, because a client that gets the first
    /// without the second reads it again.
    fn hold_data(&mut self, batch: &Batch) {
        let mut out = b"event: data\ndata: [\n".to_vec();
        for (index, printed) in batch.events.iter().enumerate() {
            data_lines(&mut out, &printed.printed(self.view.json()));
            if index + 1 < batch.events.len() {
                out.pop(); // the comma belongs on the element's last line
                out.extend(b",\n");
            }
        }
        out.extend(b"data: ]\n\n");
        self.pending = Some((out, batch.after()));
    }

    fn send_held(&mut self, now: Now, up_to_date: bool, actions: &mut Actions) {
        if let Some((mut out, at)) = self.pending.take() {
            out.extend(self.control(now, &at, up_to_date).as_bytes());
            actions.send_text(out);
        }
    }

    fn control(&self, now: Now, at: &At, up_to_date: bool) -> String {
        let mut control = serde_json::json!({
            "streamNextOffset": level(at).to_string(),
            "streamCursor": self.collapse.at(now.unix_ms).print(),
        });
        if up_to_date {
            control["upToDate"] = true.into();
        }
        // No space: the protocol's own examples of clients match control events without one.
        format!("event: control\ndata:{control}\n\n")
    }
}

impl Session for Tail {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => {
                actions.subscribe(SUB, self.topic.clone(), self.from);
                actions.set_timer(TIME_OUT, self.age);
                actions.set_timer(HEARTBEAT, self.heartbeat);
            }
            // Nothing is said before the cursor was judged: a lost one is still a status.
            Input::Subscribed { .. } => self.open = true,
            Input::Events { batch, .. } => {
                self.send_held(now, false, actions);
                self.hold_data(batch);
            }
            // The window has no more, but the log does: it comes, and this input behind it.
            Input::CaughtUp { at, .. } if level(at) < self.end => {
                self.send_held(now, false, actions);
            }
            Input::CaughtUp { .. } if self.pending.is_some() => self.send_held(now, true, actions),
            Input::CaughtUp { at, .. } => actions.send_text(self.control(now, at, true)),
            Input::Verdict { verdict, .. } if !self.open => refuse(&self.topic, verdict, actions),
            // Mid-stream the protocol has no word for it: the client comes back and gets its 410.
            Input::Verdict { .. } => {
                self.send_held(now, false, actions);
                actions.close(1000, "the cursor is lost");
            }
            Input::Timer(TIME_OUT) | Input::Draining => {
                self.send_held(now, false, actions);
                actions.close(1000, "come back");
            }
            Input::Timer(HEARTBEAT) => {
                self.send_held(now, false, actions);
                actions.send_text(Bytes::from_static(tidings_adapter::sse::HEARTBEAT));
                actions.set_timer(HEARTBEAT, self.heartbeat);
            }
            _ => {}
        }
    }
}

fn refuse(topic: &Topic, verdict: Verdict, actions: &mut Actions) {
    if let Some(problem) = lost(topic, verdict) {
        let status = problem.cause.status();
        actions.push(Action::Respond {
            status,
            headers: vec![(CAUSE_HEADER, problem.cause.slug().to_owned())],
        });
        actions.push(Action::Refuse(Refused {
            status,
            content_type: PROBLEM_JSON.into(),
            body: problem.document().to_string().into(),
        }));
    }
}

/// The place of a cursor over one topic.
fn level(at: &At) -> EventId {
    at.cursor.places().first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tidings_testkit::transcript;

    use super::*;

    fn transcript(name: &str) -> String {
        format!(
            "{}/tests/transcripts/{name}.txt",
            env!("CARGO_MANIFEST_DIR")
        )
    }

    fn topic() -> Topic {
        Topic::parse("demo/a").expect("valid")
    }

    const COLLAPSE: Collapse = Collapse {
        unix_ms: 0,
        client: None,
    };

    fn poll() -> Poll {
        let place = EventId::new(10, 0).expect("in range");
        Poll::new(
            topic(),
            place,
            View::Data,
            &ReadSettings::default(),
            COLLAPSE,
        )
    }

    fn tail(end: EventId) -> Tail {
        Tail::new(
            topic(),
            From::Oldest,
            end,
            View::Data,
            &ReadSettings::default(),
            COLLAPSE,
        )
    }

    #[test]
    fn transcripts() {
        for name in [
            "poll-answers",
            "poll-times-out",
            "poll-draining",
            "poll-lost",
        ] {
            transcript::check(transcript(name), poll());
        }
        for name in ["tail-streams", "tail-lost", "tail-lost-later"] {
            transcript::check(transcript(name), tail(EventId::ORIGIN));
        }
        let end = EventId::new(12, 0).expect("in range");
        transcript::check(transcript("tail-behind-the-log"), tail(end));
    }
}
