//! What goes on side by side on one HTTP/2 connection.
//!
//! hyper runs each request of a connection as a task of its own. Here every such task is watched: one
//! whose client takes nothing of the answer is ended, as a whole connection is with HTTP/1.1, where
//! the socket itself stalls. An answer is handed out in small pieces, so that what hyper and h2 hold
//! of it is bounded, whatever size the body's own pieces have.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::places::Place;

tokio::task_local! {
    /// The watch over the task that answers the present request.
    static WATCH: Arc<Watch>;
}

/// Bytes of one piece of an answer: the largest frame that a client must take (RFC 9113 §4.2).
const PIECE_BYTES: usize = 16 * 1024;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    active: AtomicUsize,
    begun: AtomicU64,
    /// Requests that their client took back before there was an answer, since the last look.
    taken_back: AtomicUsize,
    too_many: Notify,
}

/// Requests that a client may take back unanswered in one `header_timeout`. Browsers do so when a page
/// is left, by the dozen; a "rapid reset" (CVE-2023-44487) by the ten thousand.
const TAKEN_BACK_MAX: usize = 500;

impl Streams {
    /// One more request.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let beside = self.active.fetch_add(1, Ordering::Relaxed);
        Running {
            streams: self.clone(),
            beside,
            answered: false,
            place: None,
        }
    }

    /// Whether nothing went on since the last look.
    pub(super) fn idle(&self, begun_before: &mut u64) -> bool {
        self.taken_back.store(0, Ordering::Relaxed);
        let begun = self.begun.load(Ordering::Relaxed);
        let same = std::mem::replace(begun_before, begun) == begun;
        same && self.active.load(Ordering::Relaxed) == 0
    }

    /// Waits until the client takes back more than anybody in earnest does.
    pub(super) async fn abused(&self) {
        self.too_many.notified().await;
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Running {
    streams: Arc<Streams>,
    /// How many there were beside it when it came.
    pub(super) beside: usize,
    answered: bool,
    /// Its place, if it needs one.
    pub(super) place: Option<Place>,
}

impl Running {
    /// The answer's body, which keeps the place until it is sent.
    pub(super) fn answer(mut self, body: Body) -> Body {
        self.answered = true;
        if body.is_end_stream() {
            return body;
        }
        let watch = WATCH.try_with(Arc::clone).unwrap_or_default();
        Body::new(Watched {
            body,
            left: Bytes::new(),
            watch,
            _running: self,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.streams.active.fetch_sub(1, Ordering::Relaxed);
        if !self.answered
            && self.streams.taken_back.fetch_add(1, Ordering::Relaxed) == TAKEN_BACK_MAX
        {
            self.streams.too_many.notify_one();
        }
    }
}

/// What a task and the body that it sends know of each other.
#[derive(Debug, Default)]
struct Watch {
    /// A piece was handed out, and no other one was asked for since.
    waiting: AtomicBool,
    asked: AtomicU64,
}

/// A body whose sending is watched.
struct Watched {
    body: Body,
    /// Of the body's last piece.
    left: Bytes,
    watch: Arc<Watch>,
    _running: Running,
}

impl Watched {
    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.left.len().min(PIECE_BYTES);
        Frame::data(self.left.split_to(length))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.watch.asked.fetch_add(1, Ordering::Relaxed);
        self.watch.waiting.store(false, Ordering::Relaxed);
        let polled = if self.left.is_empty() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_data() {
                    Ok(data) => {
                        self.left = data;
                        self.piece()
                    }
                    Err(frame) => frame,
                }))),
                other => other,
            }
        } else {
            Poll::Ready(Some(Ok(self.piece())))
        };
        if polled.is_ready() {
            self.watch.waiting.store(true, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, left) = (self.body.size_hint(), self.left.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(left));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(left));
        }
        hint
    }
}

/// Runs hyper's tasks, and ends those whose client takes nothing for `stall`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tasks {
    pub(super) stall: Duration,
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let watch = Arc::new(Watch::default());
        tokio::spawn(Patiently {
            task: Box::pin(WATCH.scope(watch.clone(), task)),
            watch,
            stall: self.stall,
            since: None,
        });
    }
}

/// A task until it is done, or until its client has taken nothing for too long.
struct Patiently<F> {
    task: Pin<Box<F>>,
    watch: Arc<Watch>,
    stall: Duration,
    /// Since when it waits, and how often it had been asked for more by then.
    since: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<F: Future<Output = ()>> Future for Patiently<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.watch.waiting.load(Ordering::Relaxed) {
            self.since = None;
            return Poll::Pending;
        }
        let (asked, stall) = (self.watch.asked.load(Ordering::Relaxed), self.stall);
        if self
            .since
            .as_ref()
            .is_none_or(|(before, _)| *before != asked)
        {
            let until = Instant::now() + stall;
            self.since = Some((asked, Box::pin(tokio::time::sleep_until(until))));
        }
        match &mut self.since {
            // Dropping the task resets the stream.
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_large_piece_is_handed_out_in_small_ones() {
        let streams = Arc::new(Streams::default());
        let mut body = streams
            .begin()
            .answer(Body::from(vec![7; PIECE_BYTES * 2 + 1]));
        assert_eq!(body.size_hint().exact(), Some(PIECE_BYTES as u64 * 2 + 1));
        for left in [PIECE_BYTES + 1, 1, 0] {
            let frame = body.frame().await.expect("more").expect("good");
            assert!(frame.into_data().expect("data").len() <= PIECE_BYTES);
            assert_eq!(body.size_hint().exact(), Some(left as u64));
            assert_eq!(body.is_end_stream(), left == 0);
        }
        assert_eq!(streams.active.load(Ordering::Relaxed), 1);
        drop(body);
        assert!(streams.idle(&mut 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_whose_piece_is_not_taken_is_ended() {
        let streams = Arc::new(Streams::default());
        let started = Instant::now();
        let watch = Arc::new(Watch::default());
        let task = {
            let streams = streams.clone();
            async move {
                let mut body = streams.begin().answer(Body::from("piece"));
                // It waits for an event for as long as it takes, and then for its client.
                tokio::time::sleep(Duration::from_secs(100)).await;
                let _ = body.frame().await;
                std::future::pending::<()>().await;
            }
        };
        Patiently {
            task: Box::pin(WATCH.scope(watch.clone(), task)),
            watch,
            stall: Duration::from_secs(30),
            since: None,
        }
        .await;
        assert_eq!(started.elapsed().as_secs(), 130);
        assert_eq!(streams.active.load(Ordering::Relaxed), 0);
    }
}
