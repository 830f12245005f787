//! `GET /v1/events`: a plain event stream over one or several topics, for `EventSource`.

use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use tidings_adapter::{Hub, sse};
use tidings_core::{
    Action, Actions, Batch, Cursor, Frame, Input, Now, Session, Start, SubId, TimerId, Topic,
};

use super::parameters::Parameters;
use super::{ReadSettings, View, left, reload};
use crate::problem::{Cause, Problem};

/// Answers a plain event stream.
///
/// # Errors
/// A [`Problem`] when a parameter or the cursor is not understood; once the answer is 200, whatever
/// happens is said in band, because any other status ends a browser's `EventSource` for good.
pub async fn events(
    hub: &Hub,
    settings: &ReadSettings,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query)?;
    let topics = parameters.topics()?;
    let set = hub
        .topic_set(topics.clone())
        .map_err(|error| Problem::new(Cause::TooManyTopics, error.to_string()).field("topic"))?;
    let last_event_id = headers
        .get("last-event-id")
        .map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let start = parameters.start(last_event_id)?;
    if let Start::Cursor(text) = &start {
        Cursor::parse(&set, text).map_err(cursor_problem)?;
    }
    let session = Stream {
        several: set.topics().len() > 1,
        topics,
        start,
        view: parameters.view()?,
        heartbeat: settings.heartbeat,
        retry: settings.retry,
        until_unix_ms: settings.until_unix_ms,
    };
    Ok(sse::serve(hub, session, settings.driver.clone()).await)
}

fn cursor_problem(error: tidings_core::CursorError) -> Problem {
    let cause = match error {
        tidings_core::CursorError::Garbage => Cause::InvalidCursor,
        tidings_core::CursorError::OtherTopics => Cause::CursorOfOtherTopics,
    };
    Problem::new(cause, error.to_string()).field("lastEventId")
}

/// One `EventSource`.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) topics: Vec<Topic>,
    pub(super) several: bool,
    pub(super) start: Start,
    pub(super) view: View,
    pub(super) heartbeat: Duration,
    pub(super) retry: Duration,
    pub(super) until_unix_ms: Option<u64>,
}

const SUB: SubId = SubId(0);
const HEARTBEAT: TimerId = TimerId(0);
const END: TimerId = TimerId(1);

impl Session for Stream {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => {
                actions.send_text(format!("retry: {}\n\n", self.retry.as_millis()));
                let (topics, from) = (self.topics.clone(), self.start.clone());
                actions.push(Action::Subscribe {
                    sub: SUB,
                    topics,
                    from,
                });
                actions.set_timer(HEARTBEAT, self.heartbeat);
                self.watch_the_token(now, actions);
            }
            // An id without data dispatches nothing, but is what `EventSource` comes back with: a
            // client that has seen no event yet still resumes from here (WHATWG HTML §9.2.6).
            Input::Subscribed { at, .. } => actions.send_text(format!("id: {}\n\n", at.print())),
            Input::Events { batch, .. } => self.send_events(batch, actions),
            Input::Verdict { topic, verdict, .. } => {
                let data = serde_json::json!({
                    "topic": topic.as_str(),
                    "verdict": verdict.as_str(),
                    "reload": reload(topic),
                });
                actions.send_text(format!("event: reset\ndata: {data}\n\n"));
            }
            Input::Timer(HEARTBEAT) => {
                actions.send_text(sse::HEARTBEAT);
                actions.set_timer(HEARTBEAT, self.heartbeat);
            }
            Input::Timer(END) => self.watch_the_token(now, actions),
            Input::Draining => actions.close(1001, "come back"),
            _ => {}
        }
    }
}

impl Stream {
    /// Ends when the token does: the client comes back, and is refused or has a new one.
    fn watch_the_token(&self, now: Now, actions: &mut Actions) {
        match self.until_unix_ms {
            Some(until) if now.unix_ms >= until => actions.close(1000, "the token is expired"),
            Some(until) => actions.set_timer(END, left(until, now)),
            None => {}
        }
    }

    fn send_events(&self, batch: &Batch, actions: &mut Actions) {
        if !self.several {
            for printed in &batch.events {
                actions.send_text(printed.printed(self.view.block()));
            }
            return;
        }
        for (printed, cursor) in batch.with_cursors() {
            let mut frame = Frame::text(printed.printed(self.view.body()));
            frame.head = Bytes::from(format!("id: {cursor}\n"));
            actions.send(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::From;
    use tidings_testkit::transcript;

    use super::*;

    fn stream(topics: &[&str], start: Start) -> Stream {
        Stream {
            several: topics.len() > 1,
            topics: topics
                .iter()
                .map(|topic| Topic::parse(topic).expect("valid"))
                .collect(),
            start,
            view: View::Data,
            heartbeat: sse::HEARTBEAT_EVERY,
            retry: Duration::from_secs(2),
            until_unix_ms: None,
        }
    }

    #[test]
    fn transcripts() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
        let newest = Start::From(From::Newest);
        transcript::check(
            format!("{folder}/stream-one.txt"),
            stream(&["demo/a"], newest.clone()),
        );
        transcript::check(
            format!("{folder}/stream-several.txt"),
            stream(&["demo/a", "demo/b"], newest),
        );
        let cursor = Start::Cursor("0000000000005-0000".to_owned());
        transcript::check(
            format!("{folder}/stream-lost.txt"),
            stream(&["demo/a"], cursor),
        );
    }
}
