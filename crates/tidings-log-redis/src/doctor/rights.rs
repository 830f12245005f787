//! Which commands the user may use, found out by saying them.
//!
//! Redis looks at the rights before it looks at anything else, so a command that cannot do anything
//! tells: on a key that is not there, on one of another type, with a script that nobody knows. Only
//! the commands that would make a key need one of another type before them: a text that lives for
//! five seconds. `ACL DRYRUN` and `ACL GETUSER` would need rights that the hub has no use for.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};

use super::facts::Rights;
use super::node::Visit;
use crate::failure::Failure;
use crate::scripts;

/// How long the text lives that is written for this.
const LIFETIME_MS: u64 = 5_000;

/// A command's name as rules have it, and the command.
type Probe = (&'static str, Cmd);

/// A command of these words.
fn cmd(words: &[&str]) -> Cmd {
    let mut cmd = Cmd::new();
    for word in words {
        cmd.arg(*word);
    }
    cmd
}

/// What the hub needs and what can do nothing on `key`, a text or absent.
fn harmless(key: &str) -> Vec<Probe> {
    // A digest that no script has.
    const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";
    vec![
        ("evalsha", cmd(&["EVALSHA", NO_SCRIPT, "0"])),
        ("script|load", cmd(&["SCRIPT", "LOAD", "return 0"])),
        ("role", cmd(&["ROLE"])),
        ("info", cmd(&["INFO", "server"])),
        ("time", cmd(&["TIME"])),
        ("exists", cmd(&["EXISTS", key])),
        ("get", cmd(&["GET", key])),
        // On another one, which is not there: a text that does not expire would stay.
        ("persist", cmd(&["PERSIST", &format!("{key}:absent")])),
        ("pexpire", cmd(&["PEXPIRE", key, "5000"])),
        // These, too, would end the text.
        (
            "pexpireat",
            cmd(&["PEXPIREAT", &format!("{key}:absent"), "1"]),
        ),
        ("del", cmd(&["DEL", &format!("{key}:absent")])),
        ("pttl", cmd(&["PTTL", key])),
        ("hget", cmd(&["HGET", key, "f"])),
        ("hmget", cmd(&["HMGET", key, "f"])),
        ("hgetall", cmd(&["HGETALL", key])),
        ("hkeys", cmd(&["HKEYS", key])),
        ("hvals", cmd(&["HVALS", key])),
        ("hdel", cmd(&["HDEL", key, "f"])),
        ("zrem", cmd(&["ZREM", key, "m"])),
        ("zscore", cmd(&["ZSCORE", key, "m"])),
        ("zrangebyscore", cmd(&["ZRANGEBYSCORE", key, "0", "0"])),
        ("llen", cmd(&["LLEN", key])),
        ("lindex", cmd(&["LINDEX", key, "0"])),
        ("lrange", cmd(&["LRANGE", key, "0", "0"])),
        ("lpop", cmd(&["LPOP", key, "1"])),
        ("xadd", cmd(&["XADD", key, "NOMKSTREAM", "*", "f", "v"])),
        ("xlen", cmd(&["XLEN", key])),
        ("xrange", cmd(&["XRANGE", key, "-", "+", "COUNT", "1"])),
        (
            "xrevrange",
            cmd(&["XREVRANGE", key, "+", "-", "COUNT", "1"]),
        ),
        ("xread", cmd(&["XREAD", "COUNT", "1", "STREAMS", key, "0"])),
        ("xtrim", cmd(&["XTRIM", key, "MAXLEN", "0"])),
        ("xgroup|create", cmd(&["XGROUP", "CREATE", key, "g", "0"])),
        (
            "xreadgroup",
            cmd(&["XREADGROUP", "GROUP", "g", "c", "STREAMS", key, ">"]),
        ),
        ("xack", cmd(&["XACK", key, "g", "0-1"])),
        ("xdel", cmd(&["XDEL", key, "0-1"])),
        ("unwatch", cmd(&["UNWATCH"])),
    ]
}

/// What the hub needs and what would make `key` if it were not a text.
fn creating(key: &str) -> Vec<Probe> {
    vec![
        ("hset", cmd(&["HSET", key, "f", "v"])),
        ("hsetnx", cmd(&["HSETNX", key, "f", "v"])),
        ("rpush", cmd(&["RPUSH", key, "v"])),
        ("zadd", cmd(&["ZADD", key, "1", "m"])),
    ]
}

/// What the hub can do without.
fn spared() -> Vec<Probe> {
    vec![
        ("config|get", cmd(&["CONFIG", "GET", "appendfsync"])),
        ("wait", cmd(&["WAIT", "0", "1"])),
    ]
}

/// Says them all.
pub(super) async fn look(
    visit: &Visit<'_>,
    link: &mut MultiplexedConnection,
) -> Result<Rights, Failure> {
    let response = visit.linking.patience.response;
    let key = visit
        .keys
        .probe(visit.partitions.first().copied(), rand::random());
    let lifetime = LIFETIME_MS.to_string();
    let set = cmd(&["SET", &key, "doctor", "NX", "PX", &lifetime]);
    let (mut missing, mut refused) = (Vec::new(), Vec::new());
    let written = scripts::ask(link, &set, response).await;
    match &written {
        Err(failure) if is_refusal(failure.reason()) => missing.push("set".to_owned()),
        Err(failure @ (Failure::Lost(_) | Failure::Unreachable(_))) => return Err(failure.clone()),
        _ => {}
    }
    let mut probes = harmless(&key);
    if matches!(written, Ok(Value::Okay)) {
        probes.extend(creating(&key));
    }
    if visit.in_cluster {
        probes.push(("cluster|slots", cmd(&["CLUSTER", "SLOTS"])));
    }
    let optional = spared();
    let groups = [
        format!("keys like {}", visit.keys.meta()),
        format!("keys like {}", visit.keys.ingest_lease()),
    ];
    let mut pipeline = Pipeline::new();
    for (_, probe) in probes.iter().chain(&optional) {
        pipeline.add_command(probe.clone());
    }
    for group in [visit.keys.meta(), visit.keys.ingest_lease()] {
        pipeline.add_command(cmd(&["EXISTS", &group]));
    }
    let answers = scripts::raw_answers(link, &pipeline, response).await?;
    let mut answers = answers.into_iter();
    for (name, _) in probes {
        if answers.next().is_some_and(|answer| is_refused(&answer)) {
            missing.push(name.to_owned());
        }
    }
    for (name, _) in optional {
        if answers.next().is_some_and(|answer| is_refused(&answer)) {
            refused.push(name.to_owned());
        }
    }
    let may_look = !missing.iter().any(|name| name == "exists");
    for name in groups {
        if answers.next().is_some_and(|answer| is_refused(&answer)) && may_look {
            missing.push(name);
        }
    }
    Ok(Rights {
        user: visit.linking.dial.user(),
        missing,
        spared: refused,
    })
}

fn is_refused(answer: &Value) -> bool {
    matches!(answer, Value::ServerError(error) if error.code() == "NOPERM")
}

fn is_refusal(reason: &str) -> bool {
    reason.contains("NOPERM") || reason.contains("NoPerm")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the README tells an operator to grant is what is looked for.
    #[test]
    fn every_right_that_is_documented_is_looked_for() {
        let documented: BTreeSet<&str> = include_str!("../../README.md")
            .lines()
            .find(|line| line.starts_with("ACL SETUSER hub "))
            .expect("the README shows the rule")
            .split(' ')
            .filter_map(|word| word.strip_prefix('+'))
            .filter(|name| !name.starts_with('@') && *name != "config|get")
            .collect();
        let mut looked_for: BTreeSet<&str> = harmless("k")
            .into_iter()
            .chain(creating("k"))
            .map(|(name, _)| name)
            .collect();
        looked_for.extend(["set", "cluster|slots"]);
        assert_eq!(documented, looked_for);
    }
}
