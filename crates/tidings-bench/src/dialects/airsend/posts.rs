//! Posts: one at a time, each when everybody has the one before, and what each took.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::time::timeout;

use super::operation;
use crate::board::{Board, histogram, nanoseconds};
use crate::dialects::requests::ask;
use crate::dialects::stage::{Span, Stage};
use crate::http::Exchange;
use crate::stamp::{LENGTH, Stamp};

/// What stands where the stamp is printed.
const PLACE: &str = "@stamp@";

/// A post that has not come to everybody by then does not come: far more than a debug build needs for
/// a thousand readers of 30 KB.
const DELIVERED_WITHIN: Duration = Duration::from_secs(60);

/// What a run of posts came to.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) span: Span,
    /// From just before a post until everybody had it, in nanoseconds.
    pub(super) complete: Histogram<u64>,
}

/// What is posted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posts {
    pub(super) channel: u32,
    /// One of its members.
    pub(super) author: u32,
    /// Bytes of a message's text.
    pub(super) text: usize,
}

/// Posts so often. What the board's readers get is booked there.
pub(super) async fn post_in_turn(
    stage: &Stage,
    board: &Rc<Board>,
    posts: Posts,
    count: u32,
) -> Result<Posted> {
    let mut exchange = Exchange::open(stage.dialect).await?;
    let place = PLACE.repeat(LENGTH.div_ceil(PLACE.len()));
    let content = format!(
        "{place}{}",
        ".".repeat(posts.text.saturating_sub(place.len()))
    );
    let message = json!({"channel_id": posts.channel, "user_id": posts.author, "content": content});
    let mut request = operation("message.post", &json!({ "message": message }));
    let at = memchr::memmem::find(&request, place.as_bytes()).context("the place of the stamp")?;
    let mut complete = histogram();
    let mark = stage.mark().await?;
    for _ in 0..count {
        let begun = Instant::now();
        let stamp: Stamp = board.publish(0, board.now());
        stamp.print(&mut request[at..]);
        ask(&mut exchange, &request).await?;
        timeout(DELIVERED_WITHIN, board.room(0, 1))
            .await
            .with_context(|| format!("a post is not everywhere; {}", failures(board)))?;
        complete.saturating_record(nanoseconds(begun.elapsed()));
    }
    let span = stage.since(&mark).await?;
    Ok(Posted { span, complete })
}

/// What went wrong so far.
fn failures(board: &Board) -> String {
    let (failed, words) = board.failures();
    format!("{failed} failed: {}", words.join("; "))
}
