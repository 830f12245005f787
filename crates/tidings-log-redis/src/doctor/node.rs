//! One server, looked at from one connection.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tidings_core::{Clock, EventId, Partition};
use tokio::time::{Instant, sleep};

use super::collect::{number, pairs, text};
use super::facts::{
    Clients, Memory, NodeFacts, OutputLimit, Persistence, Replica, Replication, Traffic, Version,
};
use super::rights;
use crate::entry::stream_id;
use crate::failure::Failure;
use crate::keys::Keys;
use crate::link::Linking;
use crate::reading::time_ms;
use crate::scripts::{self, HEADS};
use crate::target::Address;

/// Round trips of each kind; their median leaves out the first, which warms caches.
const ROUND_TRIPS: usize = 21;
/// How long publishes are counted for.
const COUNTING: Duration = Duration::from_secs(1);
/// Newest events per partition whose size is looked at.
const SAMPLE: usize = 20;
/// Asked for one by one, because before 7.0 one call takes one name.
const SETTINGS: [&str; 10] = [
    "appendonly",
    "appendfsync",
    "save",
    "min-replicas-to-write",
    "stream-node-max-bytes",
    "stream-node-max-entries",
    "timeout",
    "tcp-keepalive",
    "client-output-buffer-limit",
    "maxclients",
];

/// Whom to look at, and what the hub has there.
pub(super) struct Visit<'a> {
    pub(super) linking: &'a Linking,
    pub(super) keys: &'a Keys,
    pub(super) clock: &'a dyn Clock,
    pub(super) address: &'a Address,
    pub(super) partitions: &'a [Partition],
    pub(super) retention_ms: u64,
    pub(super) in_cluster: bool,
}

/// `INFO`, or a part of it.
struct Info(HashMap<String, String>);

impl Info {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn is(&self, name: &str) -> bool {
        self.text(name) == "1"
    }

    /// What is not said to have failed.
    fn went_well(&self, name: &str) -> bool {
        matches!(self.text(name), "" | "ok")
    }

    /// Calls of `XADD` since the server was started; scripts' calls count as well.
    fn additions(&self) -> Option<u64> {
        let calls = self.text("cmdstat_xadd").strip_prefix("calls=")?;
        calls.split(',').next()?.parse().ok()
    }
}

impl Visit<'_> {
    pub(super) async fn make(&self) -> Result<NodeFacts, Failure> {
        let response = self.linking.patience.response;
        let info = self.linking.dial.server(self.address);
        let mut link = self.linking.connect(info, "doctor", response).await?;
        let rights = rights::look(self, &mut link).await?;
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO");
        pipeline.cmd("COMMAND").arg("INFO").arg("waitaof");
        for name in SETTINGS {
            pipeline.cmd("CONFIG").arg("GET").arg(name);
        }
        let mut answers = scripts::raw_answers(&mut link, &pipeline, response)
            .await?
            .into_iter();
        let info = info_of(answers.next());
        let waitaof = match answers.next() {
            Some(Value::Array(known)) => Some(known.iter().any(|one| *one != Value::Nil)),
            _ => None,
        };
        let settings: HashMap<String, String> = answers
            .filter_map(|answer| match answer {
                Value::Array(list) => Some(pairs(list)),
                _ => None,
            })
            .flatten()
            .collect();
        let clock_skew_ms = self.clock_skew(&mut link).await;
        let ping_us = median(&mut link, response, &redis::cmd("PING")).await;
        let script_us = self.script_time(&mut link).await;
        let traffic = self.traffic(&mut link).await?;
        let setting = |name: &str| settings.get(name).and_then(|value| value.parse().ok());
        let limits = settings.get("client-output-buffer-limit");
        let limit = |class| limits.and_then(|limits| output_limit(limits, class));
        Ok(NodeFacts {
            address: self.address.to_string(),
            version: version(&info),
            cluster_mode: info.text("redis_mode") == "cluster" || info.is("cluster_enabled"),
            is_primary: info.text("role") == "master",
            memory: Memory {
                used: info.number("used_memory"),
                dataset: info.number("used_memory_dataset"),
                max: info.number("maxmemory"),
                policy: info.text("maxmemory_policy").to_owned(),
                fragmentation: info.text("mem_fragmentation_ratio").parse().unwrap_or(1.0),
                machine: info.number("total_system_memory"),
            },
            persistence: Persistence {
                append_only: info.is("aof_enabled"),
                append_sync: settings.get("appendfsync").cloned(),
                save: settings.get("save").cloned(),
                append_ok: info.went_well("aof_last_write_status"),
                rewrite_ok: info.went_well("aof_last_bgrewrite_status"),
                save_ok: info.went_well("rdb_last_bgsave_status"),
                writing: info.is("rdb_bgsave_in_progress") || info.is("aof_rewrite_in_progress"),
                loading: info.is("loading"),
            },
            replication: Replication {
                replicas: replicas(&info),
                min_to_write: setting("min-replicas-to-write"),
            },
            clients: Clients {
                connected: info.number("connected_clients"),
                max: setting("maxclients"),
                timeout_s: setting("timeout"),
                keepalive_s: setting("tcp-keepalive"),
                normal: limit("normal"),
                replica: limit("slave").or(limit("replica")),
            },
            stream_node_bytes: setting("stream-node-max-bytes"),
            stream_node_entries: setting("stream-node-max-entries"),
            waitaof,
            clock_skew_ms,
            ping_us,
            script_us,
            rights,
            traffic,
        })
    }

    async fn clock_skew(&self, link: &mut MultiplexedConnection) -> Option<i64> {
        let response = self.linking.patience.response;
        let before = self.clock.unix_ms();
        let time = scripts::ask(link, &redis::cmd("TIME"), response)
            .await
            .ok()?;
        let ours = before.midpoint(self.clock.unix_ms());
        let theirs = time_ms(&time)?;
        Some(i64::try_from(theirs).ok()? - i64::try_from(ours).ok()?)
    }

    /// A read of the hub's own; not to be had from a replica.
    async fn script_time(&self, link: &mut MultiplexedConnection) -> Option<u64> {
        let (response, metrics) = (self.linking.patience.response, &self.linking.metrics);
        let state = self.keys.state(*self.partitions.first()?);
        HEADS.load(link, response, metrics).await.ok()?;
        median(link, response, &HEADS.call(&[state])).await
    }

    /// What is retained, and what comes while we count.
    async fn traffic(&self, link: &mut MultiplexedConnection) -> Result<Traffic, Failure> {
        let response = self.linking.patience.response;
        let mut traffic = Traffic {
            partitions: u16::try_from(self.partitions.len()).unwrap_or(u16::MAX),
            ..Traffic::default()
        };
        let now_ms = self.clock.unix_ms();
        let (mut bytes, mut seen) = (0, 0);
        for partition in self.partitions {
            let log = self.keys.log(*partition);
            let mut pipeline = Pipeline::with_capacity(3);
            pipeline.cmd("XLEN").arg(&log);
            pipeline.cmd("XRANGE").arg(&log).arg("-").arg("+");
            pipeline.arg("COUNT").arg(1);
            pipeline.cmd("XREVRANGE").arg(&log).arg("+").arg("-");
            pipeline.arg("COUNT").arg(SAMPLE);
            let answers = scripts::raw_answers(link, &pipeline, response).await?;
            let Ok([length, oldest, newest]) = <[Value; 3]>::try_from(answers) else {
                continue;
            };
            traffic.events += number(length).unwrap_or(0);
            if let Some((first, _)) = first_and_count(&oldest) {
                let span = now_ms.saturating_sub(first.ms()).min(self.retention_ms);
                traffic.span_ms = traffic.span_ms.max(span);
            }
            seen += first_and_count(&newest).map_or(0, |(_, count)| count);
            bytes += bytes_in(&newest);
        }
        traffic.event_bytes = bytes.checked_div(seen).unwrap_or(0);
        let before = (self.additions(link).await, Instant::now());
        sleep(COUNTING).await;
        if let (Some(before), at, Some(after)) = (before.0, before.1, self.additions(link).await) {
            traffic.per_second = after.saturating_sub(before) as f64 / at.elapsed().as_secs_f64();
        }
        Ok(traffic)
    }

    async fn additions(&self, link: &mut MultiplexedConnection) -> Option<u64> {
        let mut ask = redis::cmd("INFO");
        ask.arg("commandstats");
        let answer = scripts::ask(link, &ask, self.linking.patience.response).await;
        info_of(answer.ok()).additions().or(Some(0))
    }
}

fn info_of(answer: Option<Value>) -> Info {
    let text = answer.and_then(text).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'));
    Info(
        lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

fn version(info: &Info) -> Version {
    let redis = info.text("redis_version");
    let mut parts = redis.split('.').map_while(|part| part.parse().ok());
    let redis_version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    // Valkey says which Redis it is compatible with, and its own version beside it.
    let (product, text) = match (info.text("server_name"), info.text("valkey_version")) {
        (_, own) if !own.is_empty() => ("Valkey", own),
        ("" | "redis", _) => ("Redis", redis),
        (other, _) => (other, redis),
    };
    Version {
        product: product.to_owned(),
        text: text.to_owned(),
        redis: redis_version,
    }
}

/// `slave0:ip=127.0.0.1,port=7000,state=online,offset=14,lag=1`, and so on.
fn replicas(info: &Info) -> Vec<Replica> {
    let written = info.number("master_repl_offset");
    (0..info.number("connected_slaves"))
        .filter_map(|index| {
            let line = info.text(&format!("slave{index}"));
            let field = |name: &str| {
                line.split(',')
                    .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            };
            let number = |name| field(name).and_then(|value| value.parse::<u64>().ok());
            Some(Replica {
                address: format!("{}:{}", field("ip")?, field("port")?),
                online: field("state") == Some("online"),
                lag_s: number("lag").unwrap_or(0),
                behind: written.saturating_sub(number("offset").unwrap_or(0)),
            })
        })
        .collect()
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub …`
fn output_limit(limits: &str, class: &str) -> Option<OutputLimit> {
    let mut words = limits.split_whitespace().skip_while(|word| *word != class);
    words.next()?;
    let mut next = || words.next()?.parse().ok();
    Some(OutputLimit {
        hard: next()?,
        soft: next()?,
        soft_s: next()?,
    })
}

/// The id of the first entry, and how many there are.
fn first_and_count(entries: &Value) -> Option<(EventId, u64)> {
    let Value::Array(entries) = entries else {
        return None;
    };
    let Value::Array(first) = entries.first()? else {
        return None;
    };
    Some((stream_id(first.first()?)?, entries.len() as u64))
}

/// The bytes of all texts in a value: of entries, their fields.
fn bytes_in(value: &Value) -> u64 {
    match value {
        Value::BulkString(text) => text.len() as u64,
        Value::Array(parts) => parts.iter().map(bytes_in).sum(),
        _ => 0,
    }
}

/// Microseconds.
async fn median(
    link: &mut MultiplexedConnection,
    response: Duration,
    cmd: &redis::Cmd,
) -> Option<u64> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let sent = Instant::now();
        scripts::ask(link, cmd, response).await.ok()?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    let median = times.get(ROUND_TRIPS / 2)?;
    u64::try_from(median.as_micros()).ok()
}
