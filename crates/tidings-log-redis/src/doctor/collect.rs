//! Going to the servers: which there are, and what concerns all of them.
//!
//! The hub's own way of finding nodes is not used: it wants a deployment that works, and the doctor
//! is called to one that may not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Cmd, Value};
use tidings_core::{Clock, LogError, Partition};

use super::facts::{Cluster, Expected, Facts, Kind, SentinelFacts, StoredLog};
use super::node::Visit;
use crate::dial::Dial;
use crate::entry::bytes_of;
use crate::failure::Failure;
use crate::keys::{Keys, LAYOUT};
use crate::link::Linking;
use crate::metrics::Metrics;
use crate::options::RedisOptions;
use crate::resolve::slot_run;
use crate::scripts;
use crate::settings::at_start;
use crate::target::{Address, Place, Target};

/// Looks at every server that the options lead to; takes about two seconds.
///
/// # Errors
/// [`LogError::Misconfigured`] when the options are wrong or every server refuses;
/// [`LogError::Unavailable`] when no server is reached.
pub async fn visit(options: &RedisOptions, clock: Arc<dyn Clock>) -> Result<Facts, LogError> {
    options.check().map_err(LogError::Misconfigured)?;
    let target = Target::parse(&options.url).map_err(LogError::Misconfigured)?;
    let dial = Dial::new(&target, options).map_err(LogError::Misconfigured)?;
    let round = Round {
        linking: Linking::new(dial, options, Metrics::new()),
        keys: Keys::new(&options.prefix, options.partitions),
        options,
        clock,
    };
    let mut facts = Facts {
        kind: match target.place {
            Place::Single(_) => Kind::Single,
            Place::Sentinel { .. } => Kind::Sentinel,
            Place::Cluster { .. } => Kind::Cluster,
        },
        expected: Expected {
            layout: LAYOUT,
            partitions: options.partitions.count(),
            retention_ms: options.retention_ms(),
            replicas: options.durability_replicas,
        },
        nodes: Vec::new(),
        unreachable: Vec::new(),
        log: None,
        sentinels: Vec::new(),
        cluster: None,
    };
    let primaries = match &target.place {
        Place::Single(address) => vec![(address.clone(), options.partitions.all().collect())],
        Place::Sentinel { sentinels, service } => {
            let named = round
                .sentinels(sentinels, service, &mut facts)
                .await
                .map_err(at_start)?;
            vec![(named, options.partitions.all().collect())]
        }
        Place::Cluster { seeds } => round.cluster(seeds, &mut facts).await.map_err(at_start)?,
    };
    round.nodes(primaries, &mut facts).await?;
    Ok(facts)
}

/// One round of visits.
struct Round<'a> {
    linking: Linking,
    keys: Keys,
    options: &'a RedisOptions,
    clock: Arc<dyn Clock>,
}

/// A primary and the partitions that it has.
type Primary = (Address, Vec<Partition>);

impl Round<'_> {
    async fn nodes(&self, primaries: Vec<Primary>, facts: &mut Facts) -> Result<(), LogError> {
        let in_cluster = facts.kind == Kind::Cluster;
        let visits = primaries.iter().map(|(address, partitions)| async move {
            let visit = Visit {
                linking: &self.linking,
                keys: &self.keys,
                clock: &*self.clock,
                address,
                partitions,
                retention_ms: self.options.retention_ms(),
                in_cluster,
            };
            (address, visit.make().await)
        });
        let mut first = None;
        for (address, visited) in join_all(visits).await {
            match visited {
                Ok(node) => facts.nodes.push(node),
                Err(failure) => {
                    let reason = failure.reason().to_owned();
                    facts.unreachable.push((address.to_string(), reason));
                    first.get_or_insert(failure);
                }
            }
        }
        if let (true, Some(failure)) = (facts.nodes.is_empty(), first) {
            return Err(at_start(failure));
        }
        // A cluster's other nodes say where it is; they need not be asked, one of them has it.
        for (address, _) in &primaries {
            match self.stored_log(address).await {
                Ok(stored) => facts.log = Some(stored),
                Err(Failure::Elsewhere(_)) => continue,
                Err(failure) => {
                    tracing::debug!(%address, reason = failure.reason(), "the log's settings are not seen");
                    continue;
                }
            }
            break;
        }
        Ok(())
    }

    async fn stored_log(&self, address: &Address) -> Result<Option<StoredLog>, Failure> {
        let mut ask = redis::cmd("HMGET");
        ask.arg(self.keys.meta())
            .arg(&["layout", "partitions", "retention_ms"]);
        let Value::Array(fields) = self.ask_server(address, &ask).await? else {
            return Ok(None);
        };
        let mut numbers = fields.into_iter().map(number);
        let mut next = || numbers.next().flatten();
        Ok(match (next(), next(), next()) {
            (None, None, None) => None,
            (layout, partitions, retention_ms) => Some(StoredLog {
                layout: layout.unwrap_or(0),
                partitions: partitions.unwrap_or(0),
                retention_ms: retention_ms.unwrap_or(0),
            }),
        })
    }

    async fn ask_server(&self, address: &Address, ask: &Cmd) -> Result<Value, Failure> {
        let response = self.linking.patience.response;
        let info = self.linking.dial.server(address);
        let mut link = self.linking.connect(info, "doctor", response).await?;
        scripts::ask(&mut link, ask, response).await
    }

    /// The primary that most sentinels name.
    async fn sentinels(
        &self,
        sentinels: &[Address],
        service: &str,
        facts: &mut Facts,
    ) -> Result<Address, Failure> {
        let asked = sentinels
            .iter()
            .map(|address| self.sentinel(address, service));
        let mut votes: BTreeMap<String, (usize, Address)> = BTreeMap::new();
        let mut failure = Failure::Unreachable("no sentinel is known".to_owned());
        for (address, asked) in sentinels.iter().zip(join_all(asked).await) {
            match asked {
                Ok((named, seen)) => {
                    if let Some(named) = named {
                        votes.entry(named.to_string()).or_insert((0, named)).0 += 1;
                    }
                    facts.sentinels.push(seen);
                }
                Err(reason) => {
                    let text = reason.reason().to_owned();
                    facts.unreachable.push((address.to_string(), text));
                    failure = reason;
                }
            }
        }
        let most = votes.into_values().max_by_key(|(votes, _)| *votes);
        most.map(|(_, address)| address)
            .ok_or_else(|| match facts.sentinels.first() {
                Some(seen) => {
                    let why = seen.primary.clone().err().unwrap_or_default();
                    Failure::Refused(format!("no sentinel names a primary: {why}"))
                }
                None => failure,
            })
    }

    async fn sentinel(
        &self,
        address: &Address,
        service: &str,
    ) -> Result<(Option<Address>, SentinelFacts), Failure> {
        let response = self.linking.patience.response;
        let info = self.linking.dial.sentinel(address);
        let link = self.linking.connect(info, "doctor", response).await?;
        let ask = |words: [&str; 2]| {
            let mut ask = redis::cmd("SENTINEL");
            ask.arg(&words);
            let mut link = link.clone();
            async move { scripts::ask(&mut link, &ask, response).await }
        };
        let named = match ask(["GET-MASTER-ADDR-BY-NAME", service]).await {
            Ok(Value::Array(parts)) => match <[Value; 2]>::try_from(parts) {
                Ok([host, port]) => text(host)
                    .zip(number(port).and_then(|port| u16::try_from(port).ok()))
                    .map(|(host, port)| Address::Tcp(host, port))
                    .ok_or("it answers in an unknown way".to_owned()),
                Err(_) => Err("it answers in an unknown way".to_owned()),
            },
            Ok(_) => Err(format!("it does not know the service {service:?}")),
            Err(failure) if failure.wants_resolving() => return Err(failure),
            Err(failure) => Err(failure.reason().to_owned()),
        };
        let quorum = match ask(["CKQUORUM", service]).await {
            Ok(_) => Some(Ok(())),
            Err(Failure::Refused(reason)) if reason.contains("NOPERM") => None,
            Err(failure) => Some(Err(failure.reason().to_owned())),
        };
        let others = match ask(["MASTER", service]).await {
            Ok(Value::Array(fields)) => pairs(fields)
                .remove("num-other-sentinels")
                .and_then(|count| count.parse().ok()),
            _ => None,
        };
        let seen = SentinelFacts {
            address: address.to_string(),
            primary: named.clone().map(|named| named.to_string()),
            quorum,
            others,
        };
        Ok((named.ok(), seen))
    }

    /// The primaries that the first node which answers knows of, with their partitions.
    async fn cluster(&self, seeds: &[Address], facts: &mut Facts) -> Result<Vec<Primary>, Failure> {
        let mut failure = Failure::Unreachable("no cluster node is known".to_owned());
        for seed in seeds {
            match self.slots(seed).await {
                Ok(runs) => {
                    facts.cluster = self.cluster_facts(seed).await;
                    let mut primaries: Vec<Primary> = Vec::new();
                    for (first, last, address) in runs {
                        let here = self.options.partitions.all().filter(|partition| {
                            (first..=last).contains(&self.keys.slot_of(*partition))
                        });
                        match primaries.iter_mut().find(|(known, _)| *known == address) {
                            Some((_, partitions)) => partitions.extend(here),
                            None => primaries.push((address, here.collect())),
                        }
                    }
                    if primaries.is_empty() {
                        // Nobody owns a slot: this node is at least one that can be looked at.
                        primaries.push((seed.clone(), Vec::new()));
                    }
                    return Ok(primaries);
                }
                Err(Failure::Refused(reason)) => {
                    return Err(Failure::Refused(format!("{seed}: {reason}")));
                }
                Err(other) => {
                    let reason = other.reason().to_owned();
                    facts.unreachable.push((seed.to_string(), reason));
                    failure = other;
                }
            }
        }
        Err(failure)
    }

    async fn slots(&self, seed: &Address) -> Result<Vec<(u16, u16, Address)>, Failure> {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("SLOTS");
        match self.ask_server(seed, &ask).await? {
            Value::Array(runs) => Ok(runs.iter().filter_map(|run| slot_run(run, seed)).collect()),
            _ => Ok(Vec::new()),
        }
    }

    async fn cluster_facts(&self, seed: &Address) -> Option<Cluster> {
        let mut ask = redis::cmd("CLUSTER");
        ask.arg("INFO");
        let info = text(self.ask_server(seed, &ask).await.ok()?)?;
        let info: HashMap<&str, &str> = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'))
            .collect();
        let number = |name: &str| info.get(name).and_then(|value| value.parse().ok());
        Some(Cluster {
            ok: *info.get("cluster_state")? == "ok",
            slots_assigned: number("cluster_slots_assigned")?,
            slots_failing: number("cluster_slots_fail")? + number("cluster_slots_pfail")?,
        })
    }
}

/// Names and values that follow each other.
pub(super) fn pairs(list: Vec<Value>) -> HashMap<String, String> {
    let mut texts = list.into_iter().map(text);
    let mut found = HashMap::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        if let (Some(name), Some(value)) = (name, value) {
            found.insert(name, value);
        }
    }
    found
}

pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::VerbatimString { text, .. } => Some(text),
        other => bytes_of(other).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    }
}

pub(super) fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => text(other)?.parse().ok(),
    }
}
