//! The stage: a hub with a dialect on an address of its own, its Redis, and what both say of
//! themselves between two moments.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cli::Dialects;
use crate::http::{Exchange, get};
use crate::process::Processes;
use crate::redis::Calls;
use crate::report::Report;
use crate::servers::{Plan, Servers, free_port};

/// How long nothing is done to see what the servers do by themselves: several turns of everything
/// that an instance does every few seconds.
const QUIET: Duration = Duration::from_secs(6);

/// What is done by itself is no less than so much of what it was before.
const STILL_LESS: f64 = 0.8;

/// And after so many turns nobody waits any more, whatever goes on.
const QUIETS_MAX: u32 = 20;

/// A hub and its Redis, ready to be loaded.
#[derive(Debug)]
pub(super) struct Stage {
    servers: Servers,
    /// Where the dialect listens.
    pub(super) dialect: SocketAddr,
    pub(super) hub: Processes,
    redis: Processes,
}

/// A moment's readings.
#[derive(Debug)]
pub(super) struct Mark {
    at: Instant,
    hub: f64,
    redis: f64,
    own: f64,
    calls: Calls,
    log_reads: f64,
}

/// What lies between two moments.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) seconds: f64,
    /// Processor seconds.
    pub(super) hub: f64,
    pub(super) redis: f64,
    own: f64,
    pub(super) calls: Calls,
    pub(super) log_reads: f64,
}

impl Stage {
    /// Starts them. `config` is the hub's configuration, made for where the dialect is to listen.
    ///
    /// # Errors
    /// When one of them does not come up; its output is part of the error.
    pub(super) async fn set(
        args: &Dialects,
        open_topics: &str,
        config: impl FnOnce(SocketAddr) -> String,
    ) -> Result<Self> {
        let dialect = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        let servers = Servers::start(&Plan {
            tidings: &args.tidings,
            redis_server: Some(&args.redis_server),
            core: args.server_core,
            config: Some(&config(dialect)),
            open_topics,
        })
        .await?;
        let hub = Processes::new(vec![servers.hub.pid()])?;
        let redis = servers.redis.as_ref().context("Redis was asked for")?;
        let redis = Processes::new(vec![redis.pid()])?;
        Ok(Self {
            servers,
            dialect,
            hub,
            redis,
        })
    }

    /// Where the native API listens.
    pub(super) fn native(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.servers.hub.port)
    }

    /// Reads everything.
    ///
    /// # Errors
    /// When one of them is gone.
    pub(super) async fn mark(&self) -> Result<Mark> {
        let redis = self.servers.redis.as_ref().context("Redis was asked for")?;
        Ok(Mark {
            calls: Calls::of(redis.port).await?,
            log_reads: self.metric("tidings_log_reads_total", "").await?,
            at: Instant::now(),
            hub: self.hub.cpu_seconds()?,
            redis: self.redis.cpu_seconds()?,
            own: Processes::own().cpu_seconds()?,
        })
    }

    /// What happened since.
    ///
    /// # Errors
    /// When one of them is gone.
    pub(super) async fn since(&self, mark: &Mark) -> Result<Span> {
        let now = self.mark().await?;
        Ok(Span {
            seconds: (now.at - mark.at).as_secs_f64(),
            hub: now.hub - mark.hub,
            redis: now.redis - mark.redis,
            own: now.own - mark.own,
            calls: now.calls.since(&mark.calls),
            log_reads: now.log_reads - mark.log_reads,
        })
    }

    /// What the servers do while nobody asks for anything: waits until that does not become less any
    /// more, since what was made is still told to everybody when it is answered.
    ///
    /// # Errors
    /// When one of them is gone.
    pub(super) async fn quiet(&self) -> Result<Span> {
        let mut before = f64::INFINITY;
        for _ in 1..QUIETS_MAX {
            let span = self.pause().await?;
            let now = span.calls_per_second();
            if now > before * STILL_LESS {
                return Ok(span);
            }
            before = now;
        }
        self.pause().await
    }

    async fn pause(&self) -> Result<Span> {
        let mark = self.mark().await?;
        tokio::time::sleep(QUIET).await;
        self.since(&mark).await
    }

    /// A number of the hub's metrics, over all labels in which this text stands.
    ///
    /// # Errors
    /// When the hub does not answer.
    pub(super) async fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let mut exchange = Exchange::open(self.native()).await?;
        let answer = exchange.ask(&get("/metrics", &[])).await?;
        Ok(sum(std::str::from_utf8(answer.body)?, name, label))
    }
}

/// The sum of a metric's lines with such a label.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let fits = labels.is_empty() || labels.starts_with('{');
        (fits && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    });
    values.sum()
}

impl Span {
    /// The hub's processor seconds per `count` things that were done, without what it spends anyway.
    pub(super) fn hub_per(&self, count: f64, quiet: &Self) -> f64 {
        let anyway = quiet.hub / quiet.seconds * self.seconds;
        (self.hub - anyway).max(0.0) / count
    }

    /// Calls to Redis, per `count` things that were done, without what it is asked anyway.
    pub(super) fn calls_per(&self, count: f64, quiet: &Self) -> f64 {
        let anyway = quiet.calls.total() as f64 / quiet.seconds * self.seconds;
        (self.calls.total() as f64 - anyway).max(0.0) / count
    }

    /// The same for scripts: their calls, and their time in microseconds.
    pub(super) fn scripts_per(&self, count: f64, quiet: &Self) -> (f64, f64) {
        let (now, anyway) = (self.calls.get("evalsha"), quiet.calls.get("evalsha"));
        let per = |now: u64, anyway: u64| {
            let anyway = anyway as f64 / quiet.seconds * self.seconds;
            (now as f64 - anyway).max(0.0) / count
        };
        (
            per(now.calls, anyway.calls),
            per(now.microseconds, anyway.microseconds),
        )
    }

    /// Calls to Redis.
    pub(super) fn calls_per_second(&self) -> f64 {
        self.calls.total() as f64 / self.seconds
    }

    /// Who was busy: a client near 100 % has measured itself.
    pub(super) fn load(&self, report: &mut Report) {
        report.figure("seconds", self.seconds, "s");
        report.figure("hub_cpu", self.hub / self.seconds * 100.0, "%");
        report.figure("redis_cpu", self.redis / self.seconds * 100.0, "%");
        report.figure("client_cpu", self.own / self.seconds * 100.0, "%");
        report.figure("redis_calls_per_second", self.calls_per_second(), "/s");
    }

    /// Which commands Redis was given, most first, per `count` things that were done.
    pub(super) fn commands(&self, count: f64) -> String {
        let mut called: Vec<_> = self.calls.called().collect();
        called.sort_by_key(|(_, calls)| std::cmp::Reverse(*calls));
        let words = called
            .iter()
            .map(|(name, calls)| format!("{name} {:.2}", *calls as f64 / count));
        words.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels() {
        let text = "# HELP a_total x\na_total{view=\"b.c\",x=\"1\"} 2\na_total{view=\"b.d\"} 3\n\
                    a_total_more 9\nb_total 4\n";
        assert_eq!(sum(text, "a_total", ""), 5.0);
        assert_eq!(sum(text, "a_total", "\"b.d\""), 3.0);
        assert_eq!(sum(text, "b_total", ""), 4.0);
        assert_eq!(sum(text, "c_total", ""), 0.0);
    }

    #[test]
    fn what_redis_is_asked_anyway_is_left_out() {
        let span = |seconds: f64, calls: Calls| Span {
            seconds,
            hub: 0.0,
            redis: 0.0,
            own: 0.0,
            calls,
            log_reads: 0.0,
        };
        let calls = |text: &str| Calls::parse(text);
        let quiet = span(2.0, calls("cmdstat_evalsha:calls=2,usec=20\r\n"));
        let busy = span(
            10.0,
            calls("cmdstat_evalsha:calls=30,usec=300\r\ncmdstat_xadd:calls=20,usec=5\r\n"),
        );
        assert_eq!(busy.calls_per(10.0, &quiet), 4.0);
        assert_eq!(busy.scripts_per(10.0, &quiet), (2.0, 20.0));
        assert_eq!(busy.commands(10.0), "evalsha 3.00, xadd 2.00");
    }
}
