//! The meter: processor time and counts between two moments, and the figures that follow.

use std::time::Instant;

use anyhow::Result;

use crate::board::{Board, Counts};
use crate::process::Processes;
use crate::report::Report;
use crate::site::Site;

/// A moment's readings.
#[derive(Debug)]
pub(crate) struct Mark {
    at: Instant,
    hub: f64,
    redis: f64,
    own: f64,
    counts: Counts,
}

/// What lies between two marks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) seconds: f64,
    pub(crate) hub: f64,
    /// `None` when nobody said where it is.
    pub(crate) redis: Option<f64>,
    own: f64,
    pub(crate) counts: Counts,
}

/// Bytes that each of some connections holds, by what a process holds before and after, in KiB.
pub(crate) fn per_connection(before: f64, after: f64, connections: f64) -> f64 {
    (after - before) * 1024.0 / connections
}

impl Mark {
    /// Reads everything.
    ///
    /// # Errors
    /// When a process is gone.
    pub(crate) fn now(site: &Site, board: &Board) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            hub: site.hub.cpu_seconds()?,
            redis: site.redis.cpu_seconds()?,
            own: Processes::own().cpu_seconds()?,
            counts: board.counts(),
        })
    }

    /// From this mark to now.
    ///
    /// # Errors
    /// When a process is gone.
    pub(crate) fn until_now(&self, site: &Site, board: &Board) -> Result<Span> {
        let now = Self::now(site, board)?;
        let (from, to) = (&self.counts, &now.counts);
        Ok(Span {
            seconds: (now.at - self.at).as_secs_f64(),
            hub: now.hub - self.hub,
            redis: (!site.redis.is_empty()).then_some(now.redis - self.redis),
            own: now.own - self.own,
            counts: Counts {
                published: to.published - from.published,
                delivered: to.delivered - from.delivered,
                reads: to.reads - from.reads,
                bytes: to.bytes - from.bytes,
                answered: to.answered - from.answered,
            },
        })
    }
}

impl Span {
    /// Hub and Redis together, as far as they are known.
    pub(crate) fn servers(&self) -> f64 {
        self.hub + self.redis.unwrap_or(0.0)
    }

    /// What a run with deliveries is about.
    pub(crate) fn deliveries(&self, report: &mut Report) {
        let delivered = self.counts.delivered as f64;
        report.figure("seconds", self.seconds, "s");
        report.figure("events", self.counts.published as f64, "");
        report.figure("deliveries", delivered, "");
        report.figure("deliveries_per_second", delivered / self.seconds, "/s");
        report.figure(
            "deliveries_per_server_cpu_second",
            delivered / self.servers(),
            "/s",
        );
        report.figure(
            "server_cpu_seconds_per_million_deliveries",
            self.servers() / delivered * 1e6,
            "s",
        );
        report.figure(
            "deliveries_per_read",
            delivered / self.counts.reads as f64,
            "",
        );
        report.figure(
            "bytes_per_delivery",
            self.counts.bytes as f64 / delivered,
            "B",
        );
        self.load(report);
    }

    /// Who was busy: a client near 100 % has measured itself.
    pub(crate) fn load(&self, report: &mut Report) {
        report.figure("hub_cpu", self.hub / self.seconds * 100.0, "%");
        if let Some(redis) = self.redis {
            report.figure("redis_cpu", redis / self.seconds * 100.0, "%");
        }
        report.figure("client_cpu", self.own / self.seconds * 100.0, "%");
    }
}
