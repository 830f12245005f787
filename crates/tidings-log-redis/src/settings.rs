//! What a deployment is fixed to, and what a server must be: checked at start, with an error that
//! says what to do.

use std::collections::HashMap;

use redis::{Pipeline, Value};
use tidings_core::{LogError, Partitions};

use crate::entry::bytes_of;
use crate::failure::Failure;
use crate::keys::{Keys, LAYOUT, slot_of_key};
use crate::link::Node;
use crate::reading::time_ms;
use crate::scripts::META;
use crate::topology::Topology;

/// `XADD … MINID`, `SET … GET` and `LPOP` with a count came with 6.2.
const OLDEST_REDIS: (u32, u32) = (6, 2);

/// A writer's last batch is of no use after this long: retries end within a minute.
const WRITER_FORGOTTEN_S: u64 = 120;

/// What is written under the meta key.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) keys: Keys,
    pub(crate) partitions: Partitions,
    pub(crate) retention_ms: u64,
}

impl Settings {
    /// Everything that is checked when a log is opened.
    pub(crate) async fn check_all(&self, topology: &Topology) -> Result<(), LogError> {
        let routes = topology.routes();
        let mut seen: Vec<&Node> = Vec::new();
        for partition in self.partitions.all() {
            let node = routes.node(partition);
            if !seen.iter().any(|other| other.address == node.address) {
                seen.push(node);
                check_server(node, topology.is_cluster()).await?;
            }
        }
        match self.mismatch(topology).await.map_err(at_start)? {
            Some(text) => Err(LogError::Misconfigured(text)),
            None => self.prepare(topology).await,
        }
    }

    /// Asks again after a link was lost: the data may have been lost with it, and another instance
    /// may have written other settings since.
    pub(crate) async fn confirm(&self, topology: &Topology) -> Result<(), Failure> {
        match self.mismatch(topology).await {
            Ok(Some(text)) => Err(Failure::Refused(text)),
            // The reader's own node is what counts for it; this one may be another.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Writes the settings if nobody has, and says how those that are written differ.
    async fn mismatch(&self, topology: &Topology) -> Result<Option<String>, Failure> {
        let meta = self.keys.meta();
        let routes = topology.routes();
        let node = routes
            .node_of_slot(slot_of_key(&meta))
            .ok_or_else(|| Failure::Busy("no node is known".to_owned()))?;
        let mut call = META.call(std::slice::from_ref(&meta));
        call.arg(LAYOUT)
            .arg(self.partitions.count())
            .arg(self.retention_ms);
        let answers = node.ask_script(&META, vec![call]).await?;
        let numbers = match answers.into_iter().next() {
            Some(Value::Array(parts)) => parts.into_iter().map(number).collect::<Vec<_>>(),
            _ => Vec::new(),
        };
        let [layout, partitions, retention_ms] = numbers[..] else {
            return Ok(Some(format!(
                "the key {meta:?} holds something else: use another prefix"
            )));
        };
        let (layout, partitions, retention_ms) = (
            layout.unwrap_or(0),
            partitions.unwrap_or(0),
            retention_ms.unwrap_or(0),
        );
        Ok(if layout != u64::from(LAYOUT) {
            Some(format!(
                "this Redis holds a log of layout {layout} under {meta:?}, this program writes layout {LAYOUT}: \
                 start it with the version that wrote it, or give it another prefix"
            ))
        } else if partitions != u64::from(self.partitions.count()) {
            Some(format!(
                "this Redis holds a log of {partitions} partitions under {meta:?}, {} are configured: \
                 set the partitions to {partitions}, or use another prefix (the partitions of a log never change)",
                self.partitions.count()
            ))
        } else if retention_ms != self.retention_ms {
            Some(format!(
                "this Redis holds a log that retains {retention_ms} ms under {meta:?}, {} ms are configured: \
                 set the retention to {retention_ms} ms, or use another prefix \
                 (what is kept of quiet topics depends on it, so it never changes)",
                self.retention_ms
            ))
        } else {
            None
        })
    }

    /// Notes each partition's birth, and forgets the batches of writers that are gone.
    async fn prepare(&self, topology: &Topology) -> Result<(), LogError> {
        let routes = topology.routes();
        for partition in self.partitions.all() {
            let node = routes.node(partition);
            let state = self.keys.state(partition);
            let mut pipeline = Pipeline::with_capacity(2);
            pipeline.cmd("TIME");
            pipeline.cmd("HGETALL").arg(&state);
            let answers = node.ask_plain(&pipeline).await.map_err(at_start)?;
            let [time, fields] = <[Value; 2]>::try_from(answers).map_err(|_| {
                LogError::Unavailable("Redis answered in an unknown way".to_owned())
            })?;
            let now = time_ms(&time).unwrap_or(0);
            let mut changes = Pipeline::with_capacity(2);
            // A full Redis refuses this; then the first append notes it.
            changes.cmd("HSETNX").arg(&state).arg("born").arg(now);
            let gone = gone_writers(fields, now / 1000);
            if !gone.is_empty() {
                changes.cmd("HDEL").arg(&state).arg(gone);
            }
            let answers = node.ask_plain(&changes).await.map_err(at_start)?;
            for answer in &answers {
                if let Value::ServerError(error) = answer {
                    match Failure::of_answer(error) {
                        Failure::Full(_) => {}
                        failure => return Err(at_start(failure)),
                    }
                }
            }
        }
        Ok(())
    }
}

/// The fields of writers that have not written for a while; see append.lua for what they hold.
fn gone_writers(fields: Value, now_s: u64) -> Vec<Vec<u8>> {
    let Value::Array(fields) = fields else {
        return Vec::new();
    };
    let mut gone = Vec::new();
    let mut fields = fields.into_iter().filter_map(bytes_of);
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let stored_s = std::str::from_utf8(&value)
            .ok()
            .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        if name.starts_with(b"w:") && stored_s.is_none_or(|at| at + WRITER_FORGOTTEN_S < now_s) {
            gone.push(name);
        }
    }
    gone
}

async fn check_server(node: &Node, cluster: bool) -> Result<(), LogError> {
    let info = match node.ask(&redis::cmd("INFO")).await {
        Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(_) => String::new(),
        Err(failure) => return Err(at_start(failure)),
    };
    let info: HashMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let misconfigured = |text: String| Err(LogError::Misconfigured(text));
    let version = info.get("redis_version").copied().unwrap_or("unknown");
    let mut parts = version
        .split('.')
        .map_while(|part| part.parse::<u32>().ok());
    let known = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if known < OLDEST_REDIS {
        let (major, minor) = OLDEST_REDIS;
        return misconfigured(format!(
            "the Redis at {} is version {version}: {major}.{minor} or newer is needed",
            node.address
        ));
    }
    let is_cluster = info
        .get("redis_mode")
        .is_some_and(|mode| *mode == "cluster");
    if is_cluster && !cluster {
        return misconfigured(format!(
            "the Redis at {} is a cluster's node: say redis+cluster:// in the URL",
            node.address
        ));
    }
    let limited = info.get("maxmemory").is_some_and(|bytes| *bytes != "0");
    let policy = info
        .get("maxmemory_policy")
        .copied()
        .unwrap_or("noeviction");
    if limited && policy != "noeviction" {
        return misconfigured(format!(
            "the Redis at {} throws keys away when memory is short (maxmemory-policy {policy}), which would lose events \
             without a word: set maxmemory-policy to noeviction",
            node.address
        ));
    }
    Ok(())
}

/// At start, what Redis refuses is a matter of configuration.
pub(crate) fn at_start(failure: Failure) -> LogError {
    match failure {
        Failure::Refused(reason) => LogError::Misconfigured(format!("Redis refuses: {reason}")),
        other => other.of_read(),
    }
}

fn number(value: Value) -> Option<u64> {
    let text = bytes_of(value)?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_forgotten_in_time() {
        let text = |s: &str| Value::BulkString(s.into());
        let fields = Value::Array(
            [
                "last",
                "5",
                "w:old",
                "0000000000000001 100 +5",
                "w:new",
                "0000000000000007 250 =5 +6",
                "w:odd",
                "x",
            ]
            .map(text)
            .to_vec(),
        );
        assert_eq!(
            gone_writers(fields, 300),
            [b"w:old".to_vec(), b"w:odd".to_vec()]
        );
    }
}
