//! Transcripts: a session's test as a text file.
//!
//! A transcript is a conversation, one line per input (`>`) and per action (`<`):
//!
//! ```text
//! # Comments and blank lines are kept.
//! > opened
//! < subscribe 0 demo/a from newest
//! @ 1.5s
//! > events 0 demo/a=10 | demo/a 11 greeting {"n":1}
//! < send "{\"n\":1}"
//! ```
//!
//! [`check`] plays the inputs to a fresh session and compares the actions. With `UPDATE_EXPECT=1` it
//! writes what the session did into the file instead. `@` moves the clock; places are written
//! `topic=ms`, events `topic ms kind data`, and everything stands in partition 0. A view's value,
//! `view 3 {"n":1}`, is its print; whoever looks into it finds the same `Bytes`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tidings_core::{
    Action, Actions, Appended, At, Batch, Cursor, CursorError, Event, EventId, Frame, FrameKind,
    From, Input, Now, Outcome, Partition, Placed, Prev, Printed, Received, Refusal, Session, Start,
    SubId, TimerId, Topic, TopicSet, Verdict, ViewRefusal, ViewValue, WatchId,
};
use tidings_engine::delivered::Delivered;

/// When every transcript begins: 2026-01-01T00:00:00Z, so that times in print are the same each run.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// Plays a transcript to a fresh session and compares, or updates the file.
///
/// # Panics
/// When the session does something else than the file says; a test is what calls this.
pub fn check(path: impl AsRef<Path>, session: impl Session) {
    let path = path.as_ref();
    let expected =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let played =
        play(&expected, session).unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
    if expected == played {
        return;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, played).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let first = expected
        .lines()
        .zip(played.lines())
        .position(|(one, other)| one != other);
    let line = first.unwrap_or_else(|| expected.lines().count().min(played.lines().count()));
    panic!(
        "{}:{}: the session does otherwise (UPDATE_EXPECT=1 takes it over):\n{played}",
        path.display(),
        line + 1
    );
}

/// The transcript as this session makes it: the inputs of `script`, and the session's actions.
///
/// # Errors
/// When a line is not understood.
pub fn play(script: &str, mut session: impl Session) -> Result<String> {
    let mut now = Now {
        uptime: Duration::ZERO,
        unix_ms: EPOCH_MS,
    };
    let mut out = String::new();
    for line in script.lines() {
        if line.starts_with("< ") {
            continue;
        }
        writeln!(out, "{line}")?;
        let mut actions = Actions::default();
        if let Some(time) = line.strip_prefix("@ ") {
            let seconds: f64 = time.trim_end_matches('s').parse().context("`@ 1.5s`")?;
            now.uptime += Duration::from_secs_f64(seconds);
            now.unix_ms += (seconds * 1000.0) as u64;
        } else if let Some(input) = line.strip_prefix("> ") {
            feed(&mut session, now, input, &mut actions).with_context(|| line.to_owned())?;
        }
        for action in actions.drain() {
            writeln!(out, "< {}", print(&action))?;
        }
    }
    Ok(out)
}

fn feed(session: &mut impl Session, now: Now, line: &str, actions: &mut Actions) -> Result<()> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut give = |input: Input<'_>| session.handle(now, input, actions);
    match word {
        "opened" => give(Input::Opened),
        "text" => give(Input::Frame(Received::Text(rest))),
        "pong" => give(Input::Frame(Received::Pong(rest.as_bytes()))),
        "binary" => give(Input::Frame(Received::Binary(rest.as_bytes()))),
        "draining" => give(Input::Draining),
        "too-slow" => give(Input::TooSlow),
        "view" => {
            let (watch, printed) = rest.split_once(' ').context("watch and value")?;
            let printed = Bytes::from(printed.to_owned());
            give(Input::View {
                watch: WatchId(watch.parse()?),
                value: &ViewValue::new(printed.clone(), printed),
            });
        }
        "unwatched" => give(Input::Unwatched {
            watch: WatchId(rest.parse()?),
            refusal: ViewRefusal::Unknown,
        }),
        "closed" => give(Input::Closed),
        "timer" => give(Input::Timer(TimerId(rest.parse()?))),
        "subscribed" | "level" => {
            let (sub, places) = sub(rest)?;
            let at = &at(places)?;
            give(if word == "level" {
                Input::CaughtUp { sub, at }
            } else {
                Input::Subscribed { sub, at }
            });
        }
        "refused" => {
            let (sub, why) = sub(rest)?;
            let refusal = match why {
                "garbage" => Refusal::Cursor(CursorError::Garbage),
                "other-topics" => Refusal::Cursor(CursorError::OtherTopics),
                "too-many" => Refusal::TooMany,
                _ => bail!("refused garbage | other-topics | too-many"),
            };
            give(Input::Refused { sub, refusal });
        }
        "verdict" => {
            let (sub, rest) = sub(rest)?;
            let (topic, verdict) = rest.split_once(' ').context("topic and verdict")?;
            give(Input::Verdict {
                sub,
                topic: &Topic::parse(topic)?,
                verdict: parse_verdict(verdict)?,
            });
        }
        "fetched" => {
            let (sub, verdict) = sub(rest)?;
            give(Input::Fetched {
                sub,
                verdict: parse_verdict(verdict)?,
            });
        }
        "events" => {
            let (sub, rest) = sub(rest)?;
            let mut parts = rest.split(" | ");
            let before = at(parts.next().unwrap_or_default())?;
            let events: Vec<Arc<dyn Printed>> = parts.map(event).collect::<Result<_>>()?;
            ensure!(!events.is_empty(), "at least one event");
            give(Input::Events {
                sub,
                batch: &Batch { events, before },
            });
        }
        "published" => {
            let (tag, ms) = rest.split_once(' ').context("tag and id")?;
            let result = Ok(Appended {
                id: id(ms)?,
                outcome: Outcome::New,
            });
            give(Input::Published {
                tag: tag.parse()?,
                result,
            });
        }
        _ => bail!("no such input"),
    }
    Ok(())
}

fn sub(rest: &str) -> Result<(SubId, &str)> {
    let (number, rest) = rest
        .split_once(' ')
        .context("a subscription's number first")?;
    Ok((SubId(number.parse()?), rest))
}

fn id(ms: &str) -> Result<EventId> {
    EventId::new(ms.parse()?, 0).context("out of range")
}

/// `demo/a=10 demo/b=11`.
fn at(places: &str) -> Result<At> {
    let mut pairs = Vec::new();
    for place in places.split_whitespace() {
        let (topic, ms) = place.rsplit_once('=').context("topic=ms")?;
        pairs.push((
            Placed {
                partition: Partition(0),
                topic: Topic::parse(topic)?,
            },
            id(ms)?,
        ));
    }
    let set = TopicSet::new(pairs.iter().map(|(placed, _)| placed.clone()).collect())?;
    let mut cursor = Cursor::everywhere(&set, EventId::ORIGIN);
    for (placed, place) in pairs {
        let position = set.position(&placed.topic).context("it is in the set")?;
        cursor.places_mut()[position] = place;
    }
    Ok(At {
        set: Arc::new(set),
        cursor,
    })
}

/// `demo/a 11 greeting {"n":1}`.
fn event(text: &str) -> Result<Arc<dyn Printed>> {
    let [topic, ms, kind, data] = text.splitn(4, ' ').collect::<Vec<_>>()[..] else {
        bail!("topic ms kind data")
    };
    Ok(Arc::new(Delivered::new(Event {
        id: id(ms)?,
        prev: Prev::Unknown,
        topic: Topic::parse(topic)?,
        kind: kind.into(),
        data: data.to_owned().into(),
        attributes: None,
    })))
}

fn parse_verdict(word: &str) -> Result<Verdict> {
    let all = [
        Verdict::Ok,
        Verdict::Expired,
        Verdict::Diverged,
        Verdict::Ahead,
    ];
    all.into_iter()
        .find(|one| one.as_str() == word)
        .context("ok | expired | diverged | ahead")
}

fn print(action: &Action) -> String {
    match action {
        Action::Send(frame) => print_frame(frame),
        Action::SendFirst(frame) => format!("first {}", print_frame(frame)),
        Action::Subscribe { sub, topics, from } => {
            let topics: Vec<&str> = topics.iter().map(Topic::as_str).collect();
            let from = match from {
                Start::Cursor(cursor) => format!("cursor {cursor}"),
                Start::From(from) => print_from(*from),
            };
            format!("subscribe {} {} from {from}", sub.0, topics.join(" "))
        }
        Action::Unsubscribe(sub) => format!("unsubscribe {}", sub.0),
        Action::Fetch {
            sub,
            topic,
            from,
            until,
        } => {
            let until = until.map_or("the end".to_owned(), |until| until.to_string());
            format!(
                "fetch {} {topic} from {} until {until}",
                sub.0,
                print_from(*from)
            )
        }
        Action::Publish { tag, draft } => {
            format!(
                "publish {tag} {} {} {}",
                draft.topic,
                draft.kind,
                String::from_utf8_lossy(&draft.data)
            )
        }
        Action::Watch { watch, view, key } => {
            format!("watch {} {view} {key}", watch.0).trim_end().into()
        }
        Action::Unwatch(watch) => format!("unwatch {}", watch.0),
        Action::SetTimer { timer, after } => format!("timer {} after {after:?}", timer.0),
        Action::ClearTimer(timer) => format!("no timer {}", timer.0),
        Action::Respond { status, headers } => {
            let headers: Vec<String> = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            format!("respond {status} {}", headers.join(", "))
        }
        Action::Refuse(refused) => {
            format!(
                "refuse {} {} {}",
                refused.status,
                refused.content_type,
                String::from_utf8_lossy(&refused.body)
            )
        }
        Action::Close(close) => format!("close {} {}", close.code, close.reason),
        other => format!("{other:?}"),
    }
}

fn print_frame(frame: &Frame) -> String {
    let all = [&frame.head[..], &frame.body[..], &frame.tail[..]].concat();
    match frame.kind {
        FrameKind::Text => format!("send {:?}", String::from_utf8_lossy(&all)),
        FrameKind::Binary => format!("send binary {all:?}"),
        FrameKind::Ping => format!("ping {:?}", String::from_utf8_lossy(&all)),
    }
}

fn print_from(from: From) -> String {
    match from {
        From::Oldest => "oldest".to_owned(),
        From::Newest => "newest".to_owned(),
        From::After(place) => format!("after {place}"),
        From::Since(ms) => format!("since {ms}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Session for Echo {
        fn handle(&mut self, now: Now, input: Input<'_>, actions: &mut Actions) {
            match input {
                Input::Frame(Received::Text(text)) => actions.send_text(text.to_owned()),
                Input::Events { batch, .. } => actions.send_text(batch.after().print()),
                Input::Timer(_) => actions.send_text(format!("{:?}", now.uptime)),
                Input::Opened => actions.watch(WatchId(3), "a.view", "k"),
                Input::View { value, .. } => actions.send_text(value.printed().clone()),
                Input::Unwatched { watch, .. } => actions.push(Action::Unwatch(watch)),
                _ => {}
            }
        }
    }

    #[test]
    fn what_the_session_does_stands_behind_each_input() {
        let script = "# a comment\n> text hi\n< something else\n@ 1.5s\n> timer 3\n> events 0 a=1 | a 2 k {}\n";
        let played = "# a comment\n> text hi\n< send \"hi\"\n@ 1.5s\n> timer 3\n< send \"1.5s\"\n> events 0 a=1 | a 2 k {}\n< send \"0000000000002-0000\"\n";
        assert_eq!(play(script, Echo).expect("understood"), played);
        let script = "> opened\n> view 3 {}\n> unwatched 3\n";
        let played = "> opened\n< watch 3 a.view k\n> view 3 {}\n< send \"{}\"\n> unwatched 3\n< unwatch 3\n";
        assert_eq!(play(script, Echo).expect("understood"), played);
        assert!(play("> nonsense\n", Echo).is_err());
        assert!(play("> events 0 a=1\n", Echo).is_err());
    }
}
