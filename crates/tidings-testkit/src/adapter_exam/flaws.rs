//! The exam itself is examined: a plain dialect passes, and with one thing wrong with its adapter
//! it fails where it should.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tidings_adapter::axum::extract::{Path, Query, State};
use tidings_adapter::axum::response::{IntoResponse, Response};
use tidings_adapter::axum::{Router, routing::get};
use tidings_adapter::http::StatusCode;
use tidings_adapter::{
    Action, Actions, Adapter, Batch, Cursor, DriverLimits, From, Hub, Input, Now, Session, Start,
    SubId, sse,
};
use tidings_core::{BoxFuture, Draft, Topic, Verdict};

use super::wire::{Line, Request, Stream, send};
use super::{Bad, CASES, Client, Dialect, Features, Heard, Logs, Mark, Place, Published, refused};

/// What is wrong with the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// It answers before the event is stored.
    AnswersEarly,
    /// Its refusals do not say when to come back.
    NoHint,
    /// It takes a bad topic for its own mistake.
    BlamesItself,
    /// It panics at an empty cursor.
    Panics,
    /// What is no cursor starts at the newest event.
    ForgivesCursors,
    /// It goes on after a verdict without a word.
    KeepsLossToItself,
    /// It forgets the first event after every cursor.
    SkipsOne,
    /// It hands out every batch from its end.
    TurnsAround,
    /// It prints quotes as they come.
    NoEscapes,
    /// It hands out all topics under the first one's name.
    MixesNames,
    /// It ends without a word when the instance leaves.
    NoFarewell,
    /// It gives every event the cursor of its batch's end.
    RoundsUp,
}

/// Lines of text: `open <cursor>`, `event <cursor> <name> <json>`, `lost <verdict>`, `bye`.
#[derive(Debug, Clone, Copy)]
struct Plain(Flaw);

impl Adapter for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn router(self: Box<Self>, hub: Hub) -> Router {
        let routes = get(follow).post(publish);
        Router::new()
            .route("/{names}", routes)
            .with_state((hub, self.0))
    }
}

type Room = State<(Hub, Flaw)>;

fn topic(name: &str) -> Result<Topic, (StatusCode, String)> {
    let topic = Topic::parse(&format!("plain/{name}"));
    topic.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

async fn publish(
    State((hub, flaw)): Room,
    Path(name): Path<String>,
    text: String,
) -> Result<Response, Response> {
    let topic = topic(&name).map_err(|(status, words)| match flaw {
        Flaw::BlamesItself => (StatusCode::INTERNAL_SERVER_ERROR, words).into_response(),
        _ => (status, words).into_response(),
    })?;
    let draft = Draft::new(topic, "text", serde_json::json!(text).to_string());
    let publish = async move { hub.publish(vec![draft]).await.pop() };
    if flaw == Flaw::AnswersEarly {
        tokio::spawn(publish);
        return Ok(StatusCode::CREATED.into_response());
    }
    let hint = (flaw != Flaw::NoHint).then_some([("retry-after", "1")]);
    match publish.await {
        Some(Ok(_)) => Ok(StatusCode::CREATED.into_response()),
        _ => Err((StatusCode::SERVICE_UNAVAILABLE, hint, "come back").into_response()),
    }
}

async fn follow(
    State((hub, flaw)): Room,
    Path(names): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Response> {
    let topics: Result<Vec<_>, _> = names.split(',').map(topic).collect();
    let topics = topics.map_err(IntoResponse::into_response)?;
    let from = query.iter().find(|(name, _)| name == "from");
    let start = match from.map_or("newest", |(_, value)| value) {
        "oldest" => Start::From(From::Oldest),
        "newest" => Start::From(From::Newest),
        cursor => Start::Cursor(cursor.to_owned()),
    };
    let bad = |error: &dyn std::fmt::Display| {
        (StatusCode::BAD_REQUEST, error.to_string()).into_response()
    };
    let set = hub.topic_set(topics.clone()).map_err(|error| bad(&error))?;
    let mut session = Lines {
        topics,
        resumes: matches!(start, Start::Cursor(_)),
        start,
        flaw,
    };
    if let Start::Cursor(text) = &session.start {
        assert!(flaw != Flaw::Panics || !text.is_empty(), "no cursor");
        match Cursor::parse(&set, text) {
            Ok(_) => {}
            Err(_) if flaw == Flaw::ForgivesCursors => session.start = Start::From(From::Newest),
            Err(error) => return Err(bad(&error)),
        }
    }
    Ok(sse::serve(&hub, session, DriverLimits::default()).await)
}

struct Lines {
    topics: Vec<Topic>,
    start: Start,
    resumes: bool,
    flaw: Flaw,
}

impl Session for Lines {
    fn handle(&mut self, _now: Now, input: Input<'_>, actions: &mut Actions) {
        match input {
            Input::Opened => actions.push(Action::Subscribe {
                sub: SubId(0),
                topics: self.topics.clone(),
                from: self.start.clone(),
            }),
            Input::Subscribed { at, .. } => actions.send_text(format!("open {}\n", at.print())),
            Input::Verdict { verdict, .. } if self.flaw != Flaw::KeepsLossToItself => {
                actions.send_text(format!("lost {verdict}\n"));
            }
            Input::Events { batch, .. } => self.print(batch, actions),
            Input::Draining => {
                if self.flaw != Flaw::NoFarewell {
                    actions.send_text("bye\n");
                }
                actions.close(1001, "bye");
            }
            _ => {}
        }
    }
}

impl Lines {
    fn print(&mut self, batch: &Batch, actions: &mut Actions) {
        let skip = self.flaw == Flaw::SkipsOne && std::mem::take(&mut self.resumes);
        let mut lines = Vec::new();
        for (printed, cursor) in batch.with_cursors().skip(usize::from(skip)) {
            let event = printed.event();
            let topic = match self.flaw {
                Flaw::MixesNames => &self.topics[0],
                _ => &event.topic,
            };
            let cursor = match self.flaw {
                Flaw::RoundsUp => batch.after().print(),
                _ => cursor,
            };
            let text = String::from_utf8_lossy(&event.data).into_owned();
            let text = match self.flaw {
                Flaw::NoEscapes => text.replace('\\', ""),
                _ => text,
            };
            let name = topic.as_str().replacen("plain/", "", 1);
            lines.push(format!("event {cursor} {name} {text}\n"));
        }
        if self.flaw == Flaw::TurnsAround {
            lines.reverse();
        }
        for line in lines {
            actions.send_text(line);
        }
    }
}

impl Dialect for Plain {
    fn features(&self) -> Features {
        Features {
            publishes: true,
            greets: true,
            history: true,
            resumes: true,
            several: true,
            frames: false,
            farewell: true,
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(*self)
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::parse(&format!("plain/{name}")).expect("a topic")
    }

    fn draft(&self, name: &str, text: &str) -> Draft {
        Draft::new(
            self.topic(name),
            "text",
            serde_json::json!(text).to_string(),
        )
    }

    fn publish<'a>(
        &'a self,
        at: SocketAddr,
        name: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<Published>> {
        Box::pin(async move {
            let answer = send(at, &Request::post(format!("/{name}"), text.to_owned())).await?;
            Ok(match answer.status {
                201 => Published::Stored,
                _ => Published::Refused {
                    retry: !answer.header("retry-after").is_empty(),
                    words: answer.text(),
                },
            })
        })
    }

    fn follow<'a>(
        &'a self,
        at: SocketAddr,
        names: &'a [&'a str],
        from: &'a Place,
    ) -> BoxFuture<'a, Result<Box<dyn Client>>> {
        Box::pin(async move {
            let from = match from {
                Place::Oldest => "oldest",
                Place::Newest => "newest",
                Place::After(cursor) => cursor,
            };
            let request = Request::get(format!("/{}?from={from}", names.join(",")));
            let stream = Stream::open(at, &request).await?;
            if stream.status != 200 {
                return Ok(refused(stream.status.to_string()));
            }
            Ok(Box::new(Reader(stream)) as Box<dyn Client>)
        })
    }

    fn bad(&self) -> Vec<Bad> {
        let post = |target: &str| Request::post(target, "text");
        vec![
            Bad::request(
                "a bad topic",
                post("/a%20b"),
                400,
                "cannot stand in a topic",
            ),
            Bad::request("no cursor", Request::get("/a?from=x"), 400, "not a cursor"),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        vec![
            Request::post("/a", "text"),
            Request::get("/a,b?from=oldest"),
            Request::get("/a?from="),
        ]
    }

    fn logs(&self) -> Logs {
        Logs::Memory
    }
}

struct Reader(Stream);

impl Client for Reader {
    fn next(&mut self) -> BoxFuture<'_, Result<Heard>> {
        Box::pin(async move {
            let line = match self.0.line().await {
                Line::Text(line) => line,
                Line::Ended { clean } => return Ok(Heard::Ended { clean }),
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            Ok(match word {
                "open" => Heard::Open(Some(rest.to_owned())),
                "lost" => Heard::Lost(
                    [Verdict::Expired, Verdict::Diverged, Verdict::Ahead]
                        .into_iter()
                        .find(|verdict| verdict.as_str() == rest),
                ),
                "bye" => Heard::ComeBack,
                "event" => {
                    let mut parts = rest.splitn(3, ' ').map(str::to_owned);
                    let mut next = || parts.next().context("four words");
                    Heard::Event {
                        cursor: next()?,
                        name: next()?,
                        text: serde_json::from_str(&next()?)?,
                    }
                }
                _ => Heard::Nothing,
            })
        })
    }
}

async fn mark(flaw: Flaw, name: &str) -> Mark {
    let case = CASES.iter().find(|case| case.name == name);
    case.expect("a case of this name").sit(&Plain(flaw)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_dialect_passes() {
    for case in CASES {
        let mark = case.sit(&Plain(Flaw::None)).await;
        let frames = case.name.contains("frames");
        assert_eq!(mark == Mark::Passed, !frames, "{}: {mark:?}", case.name);
        assert_eq!(matches!(mark, Mark::Skipped(_)), frames, "{}", case.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flaw_is_found() {
    let table = [
        (
            Flaw::AnswersEarly,
            "what_was_not_stored_is_not_called_stored",
        ),
        (
            Flaw::NoHint,
            "while_the_log_is_away_publishers_are_told_when",
        ),
        (
            Flaw::BlamesItself,
            "bad_requests_are_refused_and_disturb_nobody",
        ),
        (Flaw::BlamesItself, "garbled_requests_are_survived"),
        (Flaw::Panics, "garbled_requests_are_survived"),
        (Flaw::ForgivesCursors, "a_garbled_cursor_is_no_silent_start"),
        (Flaw::KeepsLossToItself, "an_expired_cursor_is_told"),
        (Flaw::KeepsLossToItself, "a_diverged_cursor_is_told"),
        (Flaw::KeepsLossToItself, "a_cursor_ahead_is_told"),
        (
            Flaw::KeepsLossToItself,
            "a_live_reader_is_told_what_was_lost",
        ),
        (Flaw::SkipsOne, "a_client_resumes_on_the_other_instance"),
        (Flaw::SkipsOne, "a_crash_costs_no_event"),
        (Flaw::TurnsAround, "from_the_oldest_history_and_then_live"),
        (Flaw::NoEscapes, "what_is_published_comes_back"),
        (Flaw::MixesNames, "several_topics_each_in_order"),
        (
            Flaw::NoFarewell,
            "clients_are_told_to_come_back_and_then_it_is_gone",
        ),
        (Flaw::RoundsUp, "every_cursor_is_a_place_to_resume_from"),
    ];
    let sittings = table.map(|(flaw, name)| async move {
        let mark = mark(flaw, name).await;
        assert!(
            matches!(mark, Mark::Failed(_)),
            "{flaw:?} goes through {name}: {mark:?}"
        );
    });
    futures_util::future::join_all(sittings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_found_although_the_runtime_hides_it() {
    let mark = mark(Flaw::Panics, "garbled_requests_are_survived").await;
    let Mark::Failed(reason) = mark else {
        panic!("{mark:?}");
    };
    assert!(reason.contains("no cursor"), "{reason}");
}
