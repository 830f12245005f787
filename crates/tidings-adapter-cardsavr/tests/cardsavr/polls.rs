//! Registrations and broadcasts: checks 10 to 14, 20, 21 and 30 of the contract, over two instances.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;
use tidings_adapter::http::Method;

use crate::common::{Caller, Turns, is_documented, now_ms, refusal, wired};
use crate::play::{both, id, messages, statuses};

both! { each_key_gets_everything the_end_and_after wrong_keys racing_pollers a_thousand_keys a_row_for_both }

mod scenes {
    use super::*;
    use tidings_testkit::adapter_exam::Cluster;
    use tidings_testkit::adapter_exam::wire::send;

    pub(super) async fn each_key_gets_everything(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let made = agent.job("c1").await?;
        let (job, own) = (id(&made)?, made["access_key"].as_str().context("a key")?);
        let (first, second) = (agent.register(job).await?, agent.register(job).await?);
        ensure!(first != second);
        for key in [own, &first, &second] {
            ensure!(agent.poll(job, key).await?.is_empty());
        }
        for (status, percent) in [("QUEUED", 1), ("AUTH", 30), ("UPDATING", 54)] {
            vbs.status(job, status, percent).await?;
        }
        // Registered later: from now on.
        let third = agent.register(job).await?;
        for key in [own, &first, &second] {
            ensure!(agent.poll(job, key).await? == ["QUEUED", "AUTH", "UPDATING"]);
            ensure!(agent.poll(job, key).await?.is_empty());
        }
        ensure!(agent.poll(job, &third).await?.is_empty());
        vbs.status(job, "LOGIN_SUBMITTED", 60).await?;
        for key in [own, &first, &second, &third] {
            ensure!(agent.poll(job, key).await? == ["LOGIN_SUBMITTED"]);
        }
        Ok(())
    }

    pub(super) async fn the_end_and_after(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let key = agent.register(job).await?;
        vbs.status(job, "AUTH", 30).await?;
        vbs.status(job, "SUCCESSFUL", 90).await?;
        let late = agent.register(job).await?;
        for (key, all) in [(&key, 2), (&late, 1)] {
            let answer = agent.raw(&agent.poll_request(job, key)).await?;
            let list = agent.read(&messages(job, "broadcasts"), &answer)?.body;
            ensure!(statuses(&list, job)?.len() == all, "{list}");
            let last = &list[all - 1]["message"];
            ensure!(last["termination_type"] == "BILLABLE" && last["percent_complete"] == 100);
            ensure!(agent.poll(job, key).await?.is_empty());
        }
        let read = agent.read_job(job).await?;
        ensure!(read["termination_type"] == "BILLABLE" && read["percent_complete"] == 100);
        ensure!(read["completed_on"].is_string() && read["status"] == "SUCCESSFUL");
        let target = format!("{}/{job}", crate::play::JOBS);
        let (status, _) = refusal(vbs.put(&target, &json!({"status": "AUTH"})).await?)?;
        ensure!(status == 409);
        Ok(())
    }

    pub(super) async fn wrong_keys(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let other = Caller::new(&turns, "agent2").await?;
        let (job, another) = (id(&agent.job("c1").await?)?, id(&agent.job("c1").await?)?);
        let (key, foreign) = (agent.register(job).await?, agent.register(another).await?);
        let target = messages(job, "broadcasts");
        let poll = |caller, name: &'static str, key: String| {
            let (caller, target): (&Caller<'_>, _) = (caller, target.clone());
            async move {
                let headers = [(name, key.as_str())];
                caller
                    .with_headers(Method::GET, &target, None, &headers)
                    .await
            }
        };
        const NAME: &str = "x-cardsavr-messaging-access-key";
        let made_up = "erz5nk219FPZNWGv3AbHdA==".to_owned();
        for refused in [
            poll(&agent, NAME, made_up).await?,
            poll(&agent, NAME, foreign).await?,
            poll(&agent, "x-other", key.clone()).await?,
            poll(&other, NAME, key.clone()).await?,
            poll(&agent, NAME, "x".to_owned()).await?,
        ] {
            let (status, body) = refusal(refused)?;
            ensure!(status == 401 && is_documented(&body));
            ensure!(body["message"] == "invalid messaging access key");
        }
        // Three names, and the session is still good.
        for name in [
            NAME,
            "x-cardsavr-cardsavr-messaging-access-key",
            "cardsavr-messaging-access-key",
        ] {
            let reply = poll(&agent, name, key.clone()).await??;
            ensure!(reply.status == 200 && reply.body == json!([]));
        }
        Ok(())
    }

    /// 20 pollers of each of three keys over both instances, some of them with the very same
    /// requests, while statuses are published: each key gets each message once, each answer in order.
    pub(super) async fn racing_pollers(cluster: Cluster) -> Result<()> {
        const STATUSES: u64 = 40;
        const POLLERS: usize = 20;
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let keys = [
            agent.register(job).await?,
            agent.register(job).await?,
            agent.register(job).await?,
        ];
        let publish = async {
            for number in 0..STATUSES {
                vbs.status(job, &format!("S{number:03}"), number).await?;
            }
            vbs.status(job, "SUCCESSFUL", 100).await
        };
        let target = messages(job, "broadcasts");
        let over = [const { AtomicBool::new(false) }; 3];
        let poller = |key: usize| {
            let (agent, target, keys, over) = (&agent, &target, &keys, &over);
            async move {
                let mut got: Vec<String> = Vec::new();
                // Until one of them has seen the end.
                while !over[key].load(Ordering::Relaxed) {
                    let answer = agent.raw(&agent.poll_request(job, &keys[key])).await?;
                    let part = statuses(&agent.read(target, &answer)?.body, job)?;
                    ensure!(part.is_sorted(), "{part:?}");
                    if part.iter().any(|status| status == "SUCCESSFUL") {
                        over[key].store(true, Ordering::Relaxed);
                    }
                    got.extend(part);
                }
                anyhow::Ok((key, got))
            }
        };
        let polls = try_join_all((0..3 * POLLERS).map(|number| poller(number % 3)));
        let ((), all) = tokio::try_join!(publish, polls)?;
        for key in &keys {
            ensure!(agent.poll(job, key).await?.is_empty());
        }
        let mut by_key: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (key, got) in all {
            by_key.entry(key).or_default().extend(got);
        }
        let mut expected: Vec<String> = (0..STATUSES)
            .map(|number| format!("S{number:03}"))
            .collect();
        expected.push("SUCCESSFUL".to_owned());
        ensure!(by_key.len() == 3);
        for (key, mut got) in by_key {
            got.sort();
            ensure!(got == expected, "key {key}: {got:?}");
        }
        Ok(())
    }

    pub(super) async fn a_thousand_keys(cluster: Cluster) -> Result<()> {
        const KEYS: usize = 1_000;
        const AT_ONCE: usize = 50;
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let mut keys = Vec::new();
        for _ in 0..KEYS / AT_ONCE {
            keys.extend(try_join_all((0..AT_ONCE).map(|_| agent.register(job))).await?);
        }
        for status in ["AUTH", "UPDATING", "SUCCESSFUL"] {
            vbs.status(job, status, 50).await?;
        }
        // Each key by one client, and every fiftieth by twenty at once.
        for (number, key) in keys
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 50 == 0)
        {
            let polls = (0..20).map(|_| agent.poll(job, key));
            let got: Vec<String> = try_join_all(polls).await?.concat();
            ensure!(
                got == ["AUTH", "UPDATING", "SUCCESSFUL"],
                "{number}: {got:?}"
            );
        }
        let others: Vec<&String> = (0..KEYS)
            .filter(|number| number % 50 != 0)
            .map(|n| &keys[n])
            .collect();
        for group in others.chunks(AT_ONCE) {
            let polls = group.iter().map(|key| agent.poll(job, key));
            for got in try_join_all(polls).await? {
                ensure!(got == ["AUTH", "UPDATING", "SUCCESSFUL"], "{got:?}");
            }
        }
        for key in keys.iter().step_by(100) {
            ensure!(agent.poll(job, key).await?.is_empty());
        }
        Ok(())
    }

    /// Registration is POST for the SDK and GET in the documents; 25 identical polls in one
    /// millisecond share what there is.
    pub(super) async fn a_row_for_both(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let reply = agent
            .get(&messages(job, "broadcasts/registrations/"))
            .await??;
        ensure!(reply.headers["cache-control"] == "no-store");
        let key = reply.body["access_key"]
            .as_str()
            .context("a key")?
            .to_owned();
        for number in 0..3 {
            vbs.status(job, &format!("S{number}"), 1).await?;
        }
        let headers = [("messaging-access-key", key.as_str())];
        let target = messages(job, "broadcasts");
        let same = agent
            .client
            .prepare(Method::GET, &target, None, &headers, now_ms())?;
        let requests: Vec<_> = (0..25).map(|_| (turns.next(), wired(&same))).collect();
        let answers = try_join_all(requests.iter().map(|(at, request)| send(*at, request))).await?;
        let mut got = Vec::new();
        for answer in answers {
            got.extend(statuses(&agent.read(&target, &answer)?.body, job)?);
        }
        ensure!(got == ["S0", "S1", "S2"], "{got:?}");
        Ok(())
    }
}
