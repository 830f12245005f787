//! Publishers: keep-alive connections that hand events to the hub, each lane's in order.
//!
//! A lane's next event is sent when the one before it was answered, so that its order is the
//! publisher's and nobody else's. A request is printed once; only its stamps change.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::board::{Board, nanoseconds};
use crate::http::Exchange;
use crate::site::Site;
use crate::stamp::{HEAD, payload};
use crate::target::Target;

/// Connections of all publishers together: above this they measure the accept loop.
const CONNECTIONS_MAX: u32 = 256;

/// Events of one run: 5 million of 256 bytes are the window of a large hub many times over, and more
/// than a suite's run can publish.
const EVENTS_MAX: u64 = 5_000_000;

/// When a lane's next event is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// When fewer than so many of the lane's events are on their way to a reader.
    Closed { depth: u32 },
    /// So many a second over all lanes, whatever the hub does.
    Fixed { per_second: f64 },
    /// When the one before it was answered, at most so many per lane.
    Free { each: u32 },
}

/// Publishers at work. Dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Publishers(JoinSet<()>);

/// One lane's request.
#[derive(Debug)]
struct Draft {
    lane: u32,
    request: Vec<u8>,
    /// Where its stamps are.
    stamps: Vec<usize>,
}

impl Publishers {
    /// Lets them publish until the board is stopped, `batch` events per request.
    pub(crate) fn start(
        site: &Rc<Site>,
        board: &Rc<Board>,
        connections: u32,
        pace: Pace,
        batch: u32,
    ) -> Self {
        let lanes = board.lanes().end;
        let connections = connections.min(lanes).min(CONNECTIONS_MAX);
        let begun = board.now();
        let mut tasks = JoinSet::new();
        for connection in 0..connections {
            let own = (connection..lanes).step_by(connections as usize);
            let target = site.publishers[connection as usize % site.publishers.len()].clone();
            let drafts: Vec<Draft> = own
                .map(|lane| Draft::new(site, board, &target, lane, batch))
                .collect();
            let board = board.clone();
            tasks.spawn_local(async move {
                if let Err(why) = publish(&board, &target, drafts, pace, begun).await {
                    board.fail(&why.context("a publisher failed"));
                }
            });
        }
        Self(tasks)
    }

    /// Waits until the last answers have come.
    pub(crate) async fn ended(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

async fn publish(
    board: &Board,
    target: &Target,
    mut drafts: Vec<Draft>,
    pace: Pace,
    begun: u64,
) -> Result<()> {
    let mut exchange = Exchange::open(target.address).await?;
    for round in 0.. {
        for draft in &mut drafts {
            let at = match pace {
                Pace::Closed { depth } => {
                    board.room(draft.lane, depth).await;
                    board.now()
                }
                Pace::Fixed { per_second } => {
                    let turn = f64::from(round) * f64::from(board.lanes().end);
                    let seconds = (turn + f64::from(draft.lane)) / per_second;
                    due(board, begun + nanoseconds(Duration::from_secs_f64(seconds))).await
                }
                Pace::Free { each } if board.published(draft.lane) >= each => return Ok(()),
                Pace::Free { .. } => board.now(),
            };
            if board.is_stopped() || board.counts().published >= EVENTS_MAX {
                return Ok(());
            }
            draft.stamp(board, at);
            let since = board.now();
            let answer = exchange.ask(&draft.request).await?;
            if !matches!(answer.head.status, 200..=204) {
                let body = String::from_utf8_lossy(answer.body);
                bail!("the hub answered {}: {}", answer.head.status, body.trim());
            }
            board.answered(since);
        }
    }
    Ok(())
}

/// Waits until an event is due, and answers with the time that it is to bear.
///
/// That is when it was sent, unless the connection was still busy with the event before: then it is
/// when it was due, or a hub that answers slowly would shorten the latencies that it causes. That a
/// timer rings up to a millisecond late is not the hub's doing.
async fn due(board: &Board, due: u64) -> u64 {
    if board.now() >= due {
        return due;
    }
    tokio::time::sleep_until(Instant::from_std(board.moment(due))).await;
    board.now()
}

impl Draft {
    fn new(site: &Site, board: &Board, target: &Target, lane: u32, batch: u32) -> Self {
        let topic = site.topic(board.run, board.topic_of(lane));
        let (data, _) = payload(site.payload);
        let one = site.body(&topic, &String::from_utf8_lossy(&data));
        let body = match batch {
            1 => one,
            _ => format!("[{}]", vec![one; batch as usize].join(",")),
        };
        let mut head = format!("POST {}{} HTTP/1.1\r\n", target.path, site.publish_path);
        head.push_str("host: localhost\r\ncontent-type: application/json\r\n");
        for (name, value) in site.headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes();
        let stamps = memchr::memmem::find_iter(&request, HEAD)
            .map(|at| at + HEAD.len())
            .collect();
        Self {
            lane,
            request,
            stamps,
        }
    }

    fn stamp(&mut self, board: &Board, at: u64) {
        for place in &self.stamps {
            board
                .publish(self.lane, at)
                .print(&mut self.request[*place..]);
        }
    }
}
