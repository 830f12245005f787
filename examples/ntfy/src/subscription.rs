//! A client's subscription: one session for the streams and the websocket, printed in four formats.

use std::{sync::Arc, time::Duration};

use tidings_adapter::serde_json::{self, Value, json};
use tidings_adapter::{bytes::Bytes, *};

use crate::{Result, refusal, topic};

/// ntfy's own interval: seldom enough for a phone's battery.
const KEEPALIVE: Duration = Duration::from_secs(45);

/// A message as a line of JSON: what was stored, and what came to it by being stored.
pub(crate) fn message(id: EventId, topic: &Topic, data: &[u8]) -> String {
    let (name, time) = (topic.as_str().replacen("ntfy/", "", 1), id.ms() / 1000);
    let data = String::from_utf8_lossy(data).replacen('{', ",", 1);
    format!(r#"{{"id":"{id}","time":{time},"event":"message","topic":"{name}"{data}"#) + "\n"
}

fn json(event: &Event) -> Bytes {
    message(event.id, &event.topic, &event.data).into()
}

fn raw(event: &Event) -> Bytes {
    let data: Value = serde_json::from_slice(&event.data).unwrap_or_default();
    let text = data["message"].as_str().unwrap_or_default();
    (text.replace(['\n', '\r'], " ") + "\n").into()
}

/// A format: its name and content type, how messages are printed, what stands around them.
type Format = (
    &'static str,
    &'static str,
    fn(&Event) -> Bytes,
    [&'static str; 2],
);

const FORMATS: [Format; 4] = [
    ("ntfy-json", "application/x-ndjson", json, ["", ""]),
    ("ntfy-sse", "text/event-stream", json, ["data: ", "\n"]),
    ("ntfy-raw", "text/plain; charset=utf-8", raw, ["", ""]),
    ("ntfy-ws", "", json, ["", ""]),
];

/// One client's subscription.
#[derive(Debug)]
pub struct Subscription {
    names: String,
    pub(crate) topics: Vec<Topic>,
    pub(crate) format: Format,
    from: From,
    poll: bool,
    /// `since=latest`: the newest message of each topic so far, until the history is read.
    latest: Option<Vec<Arc<dyn Printed>>>,
    /// Where it is: what is no message has this as its id, to come back with.
    place: EventId,
}

impl Subscription {
    /// What a client asks for: topics between commas, a format, and what its parameters say.
    ///
    /// # Errors
    /// What is wrong with it, in ntfy's words.
    pub fn new(names: &str, format: &str, since: &str, poll: bool, now: Now) -> Result<Self> {
        let times = |unit: char, factor_ms: u64| {
            let count: u64 = since.strip_suffix(unit)?.parse().ok()?;
            Some(count.saturating_mul(factor_ms))
        };
        let (s, m, h) = (times('s', 1_000), times('m', 60_000), times('h', 3_600_000));
        let from = match (since, since.parse::<u64>(), s.or(m).or(h)) {
            ("", ..) if !poll => Some(From::Newest),
            ("" | "all" | "latest", ..) => Some(From::Oldest),
            (_, Ok(seconds), _) => Some(From::Since(seconds.saturating_mul(1_000))),
            (.., Some(ms)) => Some(From::Since(now.unix_ms.saturating_sub(ms))),
            (id, ..) => EventId::parse(id).map(From::After),
        };
        let format = FORMATS.into_iter().find(|(name, ..)| name[5..] == *format);
        Ok(Self {
            names: names.into(),
            topics: names.split(',').map(topic).collect::<Result<_>>()?,
            format: format.ok_or_else(|| refusal(40401, "page not found"))?,
            from: from.ok_or_else(|| refusal(40008, "invalid since parameter"))?,
            poll,
            latest: (since == "latest").then(Vec::new),
            place: EventId::ORIGIN,
        })
    }

    /// Anything but messages: `open`, `keepalive`, and `poll_request` when some were missed.
    fn say(&self, now: Now, event: &str, actions: &mut Actions) {
        let (id, time) = (self.place.to_string(), now.unix_ms / 1000);
        let line = json!({ "id": id, "time": time, "event": event, "topic": self.names });
        actions.send_text(match self.format.0 {
            "ntfy-sse" => format!("event: {event}\ndata: {line}\n\n"),
            "ntfy-raw" => "\n".into(),
            _ => format!("{line}\n"),
        });
    }

    fn tell(&self, printed: &dyn Printed, actions: &mut Actions) {
        let (name, _, print, [head, tail]) = self.format;
        let mut frame = Frame::text(printed.printed(Variant { name, print }));
        (frame.head, frame.tail) = (head.into(), tail.into());
        actions.send(frame);
    }
}

impl Session for Subscription {
    fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => {
                actions.push(Action::Subscribe {
                    sub: SubId(0),
                    topics: self.topics.clone(),
                    from: Start::From(self.from),
                });
                actions.set_timer(TimerId(0), KEEPALIVE);
            }
            Input::Subscribed { at, .. } => {
                self.place = at.cursor.places().iter().min().copied().unwrap_or_default();
                if !self.poll {
                    self.say(now, "open", actions);
                }
            }
            // Like ntfy when it does not know an id, the hub goes on with all that it has; that
            // some may be missing is said by an event that clients know and pass over.
            Input::Verdict { .. } => self.say(now, "poll_request", actions),
            Input::Events { batch, .. } => {
                for one in &batch.events {
                    self.place = one.event().id;
                    match &mut self.latest {
                        Some(all) => {
                            all.retain(|old| old.event().topic != one.event().topic);
                            all.push(one.clone());
                        }
                        None => self.tell(&**one, actions),
                    }
                }
            }
            Input::CaughtUp { .. } => {
                let latest = self.latest.take().unwrap_or_default();
                latest.iter().for_each(|one| self.tell(&**one, actions));
                if self.poll {
                    actions.close(1000, "that is all");
                }
            }
            Input::Timer(_) => {
                self.say(now, "keepalive", actions);
                actions.set_timer(TimerId(0), KEEPALIVE);
            }
            Input::Draining => actions.close(1001, "come back"),
            _ => {}
        }
    }
}
