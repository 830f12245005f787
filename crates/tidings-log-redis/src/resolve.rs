//! Asking sentinels for the primary, and cluster nodes for the owners of slots.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::keys::SLOTS;
use crate::link::Linking;
use crate::scripts;
use crate::target::Address;

/// How long the other sentinels may take after the first has answered: enough on any network, and
/// little against a failover's seconds.
const OTHERS: Duration = Duration::from_millis(200);

/// The primary that the sentinels name. All are asked at once; the newest configuration counts,
/// because a sentinel that was cut off names the old primary.
pub(crate) async fn by_sentinels(
    linking: &Linking,
    sentinels: &[Address],
    service: &str,
) -> Result<Address, Failure> {
    let mut asked: FuturesUnordered<_> = sentinels
        .iter()
        .map(|sentinel| ask_sentinel(linking, sentinel, service))
        .collect();
    let mut best: Option<(u64, Address)> = None;
    let mut failure = None;
    let mut end = Instant::now() + linking.patience.connect + linking.patience.response;
    while let Ok(Some(answer)) = timeout_at(end, asked.next()).await {
        match answer {
            Ok((epoch, address)) => {
                if best.as_ref().is_none_or(|(newest, _)| epoch > *newest) {
                    best = Some((epoch, address));
                }
                end = end.min(Instant::now() + OTHERS);
            }
            Err(reason) => failure = Some(reason),
        }
    }
    match (best, failure) {
        (Some((_, address)), _) => Ok(address),
        (None, Some(Failure::Refused(reason))) => Err(Failure::Refused(format!(
            "no sentinel names the primary: {reason}"
        ))),
        (None, Some(failure)) => Err(Failure::Unreachable(format!(
            "no sentinel names the primary: {}",
            failure.reason()
        ))),
        (None, None) => Err(Failure::Unreachable("no sentinel answers".to_owned())),
    }
}

async fn ask_sentinel(
    linking: &Linking,
    sentinel: &Address,
    service: &str,
) -> Result<(u64, Address), Failure> {
    let response = linking.patience.response;
    let mut link = linking
        .connect(linking.dial.sentinel(sentinel), "sentinel", response)
        .await?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    let address = match scripts::ask(&mut link, &ask, response).await? {
        Value::Array(parts) => match parts.as_slice() {
            [Value::BulkString(host), Value::BulkString(port)] => tcp(host, port),
            _ => None,
        },
        Value::Nil => {
            return Err(Failure::Refused(format!(
                "{sentinel} does not know the service {service:?}"
            )));
        }
        _ => None,
    };
    let address =
        address.ok_or_else(|| Failure::Refused(format!("{sentinel} answers in an unknown way")))?;
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("MASTER").arg(service);
    // A sentinel whose user may not ask for more than the address has no say against the others.
    let epoch = match scripts::ask(&mut link, &ask, response).await {
        Ok(Value::Array(fields)) => field(&fields, b"config-epoch").unwrap_or(0),
        _ => 0,
    };
    Ok((epoch, address))
}

fn field(fields: &[Value], name: &[u8]) -> Option<u64> {
    fields
        .as_chunks::<2>()
        .0
        .iter()
        .find_map(|[key, value]| match (key, value) {
            (Value::BulkString(key), Value::BulkString(value)) if key == name => {
                std::str::from_utf8(value).ok()?.parse().ok()
            }
            _ => None,
        })
}

/// The owners of all slots as runs (last slot, master), rising. The first node that knows them all
/// is believed; when it was wrong the commands say so, and another is asked first.
pub(crate) async fn by_cluster(
    linking: &Linking,
    candidates: &[Address],
) -> Result<Vec<(u16, Address)>, Failure> {
    let mut failure = Failure::Unreachable("no cluster node is known".to_owned());
    for candidate in candidates {
        match ask_cluster_node(linking, candidate).await {
            Ok(runs) => return Ok(runs),
            // A server that is no cluster's node: a wrong URL, which another node must not hide.
            Err(Failure::Refused(reason)) => {
                return Err(Failure::Refused(format!("{candidate}: {reason}")));
            }
            Err(other) => failure = other,
        }
    }
    Err(failure)
}

async fn ask_cluster_node(
    linking: &Linking,
    candidate: &Address,
) -> Result<Vec<(u16, Address)>, Failure> {
    let response = linking.patience.response;
    let mut link = linking
        .connect(linking.dial.server(candidate), "topology", response)
        .await?;
    let mut ask = redis::cmd("CLUSTER");
    ask.arg("SLOTS");
    let Value::Array(runs) = scripts::ask(&mut link, &ask, response).await? else {
        return Err(Failure::Refused(
            "CLUSTER SLOTS is answered in an unknown way".to_owned(),
        ));
    };
    let mut owners = Vec::with_capacity(runs.len());
    for run in &runs {
        let run = slot_run(run, candidate).ok_or_else(|| {
            Failure::Refused("CLUSTER SLOTS is answered in an unknown way".to_owned())
        })?;
        owners.push(run);
    }
    owners.sort_by_key(|(first, ..)| *first);
    let mut next = 0;
    for (first, last, _) in &owners {
        if *first != next {
            break;
        }
        next = last + 1;
    }
    if next != SLOTS {
        return Err(Failure::Busy(format!(
            "{candidate} knows no owner of slot {next}"
        )));
    }
    Ok(owners
        .into_iter()
        .map(|(_, last, address)| (last, address))
        .collect())
}

/// One run of `CLUSTER SLOTS`: first slot, last slot, master.
pub(crate) fn slot_run(run: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let Value::Array(parts) = run else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(master),
        ..,
    ] = parts.as_slice()
    else {
        return None;
    };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    if first > last || last >= SLOTS {
        return None;
    }
    let [host, Value::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let port = u16::try_from(*port).ok()?;
    let host = match (host, asked) {
        (Value::BulkString(host), _) if !host.is_empty() && host != b"?" => {
            String::from_utf8(host.clone()).ok()?
        }
        // Without a name of its own it is where we asked.
        (_, Address::Tcp(host, _)) => host.clone(),
        (_, Address::Unix(_)) => return None,
    };
    Some((first, last, Address::Tcp(host, port)))
}

fn tcp(host: &[u8], port: &[u8]) -> Option<Address> {
    let host = String::from_utf8(host.to_vec()).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Address::Tcp(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_slots_are_read() {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), Value::Nil]);
        let run = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let asked = Address::Tcp("seed".into(), 1);
        let text = |s: &str| Value::BulkString(s.into());
        assert_eq!(
            slot_run(&run(0, 5460, node(text("10.0.0.1"), 7)), &asked),
            Some((0, 5460, Address::Tcp("10.0.0.1".into(), 7)))
        );
        assert_eq!(
            slot_run(&run(0, 1, node(Value::Nil, 7)), &asked),
            Some((0, 1, Address::Tcp("seed".into(), 7)))
        );
        assert_eq!(slot_run(&run(0, 16384, node(text("h"), 7)), &asked), None);
        assert_eq!(slot_run(&run(2, 1, node(text("h"), 7)), &asked), None);
        assert_eq!(slot_run(&Value::Nil, &asked), None);
    }
}
