//! The names of everything the log keeps in Redis (LOG.md §3).
//!
//! All keys of a partition share a hash tag, so that one script may touch them in a Cluster. Tags
//! are not the bare partition numbers, whose slots fall unevenly on the nodes: partition `i` of P
//! has the shortest text whose slot is in the middle of the `i`-th of P equal parts of all slots,
//! so that nodes that own equal runs of slots own equally many partitions, give or take one.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tidings_core::{CommitId, Dedup, Partition, Partitions, RecordKey, Topic};

/// Slots of a Redis Cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// The version of everything in this file and of the entries' fields; stored and checked at start.
pub(crate) const LAYOUT: u32 = 1;

/// Builds key names for one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    /// `<prefix>:{<tag>}:` of each partition.
    stems: Vec<String>,
    slots: Vec<u16>,
}

impl Keys {
    pub(crate) fn new(prefix: &str, partitions: Partitions) -> Self {
        let tags = tags(partitions.count());
        Self {
            prefix: prefix.to_owned(),
            slots: tags.iter().map(|tag| slot(tag.as_bytes())).collect(),
            stems: tags
                .iter()
                .map(|tag| format!("{prefix}:{{{tag}}}:"))
                .collect(),
        }
    }

    /// The stream of the partition's retained events.
    pub(crate) fn log(&self, partition: Partition) -> String {
        format!("{}log", self.stem(partition))
    }

    /// Hash: `last` id, `born` (ms), `first` id, `ver` the last version of a record, and each
    /// writer's last batch under `w:<writer>`.
    pub(crate) fn state(&self, partition: Partition) -> String {
        format!("{}state", self.stem(partition))
    }

    /// The topic's last id, kept for 24 retentions.
    pub(crate) fn head(&self, partition: Partition, topic: &Topic) -> String {
        format!("{}head:{topic}", self.stem(partition))
    }

    /// List of the topic's retained ids.
    pub(crate) fn index(&self, partition: Partition, topic: &Topic) -> String {
        format!("{}ix:{topic}", self.stem(partition))
    }

    /// The id that a publisher's key was first stored under. Hashed, because scope and key may have
    /// a kilobyte each; cryptographically, because publishers choose them.
    pub(crate) fn dedup(&self, partition: Partition, dedup: &Dedup) -> String {
        let mut hash = Sha256::new();
        hash.update((dedup.scope.len() as u64).to_be_bytes());
        hash.update(dedup.scope.as_bytes());
        hash.update(dedup.key.as_bytes());
        let digest = hash.finalize();
        let short = URL_SAFE_NO_PAD.encode(&digest[..16]);
        format!("{}dd:{short}", self.stem(partition))
    }

    /// Hash: a record's version and document, and under `i:<index>` where it stands in an index; its
    /// lifetime is the key's.
    pub(crate) fn record(&self, partition: Partition, key: &RecordKey) -> String {
        let mut name = self.records(partition, &key.kind);
        name.push_str(&key.id);
        name
    }

    /// What the names of all records of a kind begin with.
    pub(crate) fn records(&self, partition: Partition, kind: &str) -> String {
        format!("{}rec:{kind}:", self.stem(partition))
    }

    /// Sorted set, all of one score: `<index>:<rank>:<id>` of every record of a kind that stands in
    /// an index, so that one index stands together and in order.
    pub(crate) fn indexes(&self, partition: Partition, kind: &str) -> String {
        format!("{}idx:{kind}", self.stem(partition))
    }

    /// Hash: the names and times of a record's deadlines. Beside the record, because they stand
    /// whether it is there or not.
    pub(crate) fn deadlines(&self, partition: Partition, key: &RecordKey) -> String {
        let RecordKey { kind, id } = key;
        format!("{}dl:{kind}:{id}", self.stem(partition))
    }

    /// Sorted set: the same deadlines of all records of a kind, by time.
    pub(crate) fn due(&self, partition: Partition, kind: &str) -> String {
        format!("{}due:{kind}", self.stem(partition))
    }

    /// What a commit came to.
    pub(crate) fn committed(&self, partition: Partition, commit: CommitId) -> String {
        format!("{}cm:{commit}", self.stem(partition))
    }

    /// The stream of what goes elsewhere.
    pub(crate) fn outbox(&self, partition: Partition) -> String {
        format!("{}out", self.stem(partition))
    }

    /// Who relays [`Keys::outbox`].
    pub(crate) fn relay(&self, partition: Partition) -> String {
        format!("{}relay", self.stem(partition))
    }

    /// The short stream of flash events.
    pub(crate) fn flash(&self, partition: Partition) -> String {
        format!("{}flash", self.stem(partition))
    }

    /// Sorted set: incarnations by the end of their lease.
    pub(crate) fn leases(&self, partition: Partition) -> String {
        format!("{}inst", self.stem(partition))
    }

    /// Sorted set: incarnations that were reaped or have left, by the time at which that is
    /// forgotten.
    pub(crate) fn tombs(&self, partition: Partition) -> String {
        format!("{}tomb", self.stem(partition))
    }

    /// Sorted set, all of one score: incarnations that may have left orphans.
    pub(crate) fn lost(&self, partition: Partition) -> String {
        format!("{}lost", self.stem(partition))
    }

    /// Sorted set, all of one score: `<incarnation>:<kind>:<id>` of every record with an owner, so
    /// that one owner's stand together.
    pub(crate) fn owned(&self, partition: Partition) -> String {
        format!("{}own", self.stem(partition))
    }

    /// Hash: the owner of each record that has one, by `<kind>:<id>`.
    pub(crate) fn owners(&self, partition: Partition) -> String {
        format!("{}owner", self.stem(partition))
    }

    /// Hash: layout version, P, retention.
    pub(crate) fn meta(&self) -> String {
        format!("{}:meta", self.prefix)
    }

    /// The stream that backends write to directly.
    pub(crate) fn ingest(&self) -> String {
        format!("{}:ingest", self.prefix)
    }

    /// Who drains [`Keys::ingest`]; the tag puts it into the same slot.
    pub(crate) fn ingest_lease(&self) -> String {
        format!("{{{}:ingest}}:lease", self.prefix)
    }

    /// What could not be taken from [`Keys::ingest`].
    pub(crate) fn ingest_refused(&self) -> String {
        format!("{}:ingest:refused", self.prefix)
    }

    /// A key that nobody uses, on the node of this partition if there is one.
    pub(crate) fn probe(&self, partition: Option<Partition>, number: u64) -> String {
        match partition {
            Some(partition) => format!("{}doctor:{number:016x}", self.stem(partition)),
            None => format!("{}:doctor:{number:016x}", self.prefix),
        }
    }

    /// The Cluster slot of a partition.
    pub(crate) fn slot_of(&self, partition: Partition) -> u16 {
        self.slots.get(partition.index()).copied().unwrap_or(0)
    }

    fn stem(&self, partition: Partition) -> &str {
        // A partition that is not one of P is refused before a key is asked for.
        self.stems.get(partition.index()).map_or("", String::as_str)
    }
}

/// The Cluster slot of a key (Redis Cluster specification, "Hash tags").
pub(crate) fn slot_of_key(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag)
        .filter(|tag| !tag.is_empty());
    slot(tag.unwrap_or(key).as_bytes())
}

/// One tag for each of `count` partitions: the first text, counting in base 36, with the slot wanted.
fn tags(count: u16) -> Vec<String> {
    let wanted = |partition: u16| {
        let part = u32::from(SLOTS) * (2 * u32::from(partition) + 1) / (2 * u32::from(count));
        // Below SLOTS, because the partition is below the count.
        part as u16
    };
    let mut found: HashMap<u16, Option<String>> = (0..count)
        .map(|partition| (wanted(partition), None))
        .collect();
    let mut missing = found.len();
    for number in 0_u64.. {
        if missing == 0 {
            break;
        }
        let text = base36(number);
        if let Some(tag @ None) = found.get_mut(&slot(text.as_bytes())) {
            *tag = Some(text);
            missing -= 1;
        }
    }
    (0..count)
        .map(|partition| found[&wanted(partition)].clone().unwrap_or_default())
        .collect()
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits
        .iter()
        .rev()
        .map(|digit| char::from(*digit))
        .collect()
}

fn slot(key: &[u8]) -> u16 {
    // CRC-16/XMODEM, as in the Redis Cluster specification, appendix A.
    let mut crc = 0_u16;
    for byte in key {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // From `CLUSTER KEYSLOT` of Redis 7.0.15.
        assert_eq!(slot_of_key("123456789"), 12739);
        assert_eq!(slot_of_key("foo{bar}baz"), slot_of_key("bar"));
        assert_eq!(slot_of_key("foo{}{bar}"), slot(b"foo{}{bar}"));
        let keys = Keys::new("tidings", Partitions::DEFAULT);
        assert_eq!(
            slot_of_key(&keys.ingest()),
            slot_of_key(&keys.ingest_lease())
        );
        for partition in Partitions::DEFAULT.all() {
            assert_eq!(slot_of_key(&keys.log(partition)), keys.slot_of(partition));
        }
    }

    #[test]
    fn tags_never_change() {
        // A change here would lose every event of a running deployment: it needs a new LAYOUT.
        assert_eq!(tags(16), FROZEN);
    }

    const FROZEN: [&str; 16] = [
        "8yc", "mws", "pt6", "4x6", "8ha", "eoi", "4mt", "4i4", "265", "22u", "c0h", "6zp", "gio",
        "5f", "6o2", "6kr",
    ];

    #[test]
    fn partitions_fall_evenly_on_nodes() {
        for count in [16_u16, 64, 256] {
            let tags = tags(count);
            for nodes in [3_u16, 6, 16] {
                let mut held = vec![0_u16; usize::from(nodes)];
                for tag in &tags {
                    // As `redis-cli --cluster create` deals slots out: equal runs.
                    let node =
                        u32::from(slot(tag.as_bytes())) * u32::from(nodes) / u32::from(SLOTS);
                    held[node as usize] += 1;
                }
                let (least, most) = (held.iter().min(), held.iter().max());
                assert!(
                    most.unwrap_or(&0) - least.unwrap_or(&0) <= 1,
                    "{count} on {nodes}: {held:?}"
                );
            }
        }
    }

    #[test]
    fn dedup_keys_keep_scope_and_key_apart() {
        let keys = Keys::new("tidings", Partitions::DEFAULT);
        let dedup = |scope: &str, key: &str| Dedup {
            scope: scope.into(),
            key: key.into(),
            lifetime_ms: 1,
        };
        let name = |d: Dedup| keys.dedup(Partition(0), &d);
        assert_ne!(name(dedup("ab", "c")), name(dedup("a", "bc")));
        assert!(name(dedup("a", &"k".repeat(1024))).len() < 50);
    }
}
