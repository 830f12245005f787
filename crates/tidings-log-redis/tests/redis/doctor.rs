//! What the doctor sees of real servers: good ones, bad ones, and those that let it see little.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tidings_core::{EventLog as _, LogError, Partition};
use tidings_log_redis::RedisOptions;
use tidings_log_redis::doctor::{Facts, Finding, Level, examine, visit};
use tidings_testkit::servers::{Cluster, RedisServer, Sentinel};

use crate::common::{self, MachineClock, draft};

async fn look(options: &RedisOptions) -> Result<(Facts, Vec<Finding>)> {
    let facts = visit(options, Arc::new(MachineClock)).await?;
    let findings = examine(&facts);
    Ok((facts, findings))
}

/// The level of each check; the worst where several servers have it.
fn levels(findings: &[Finding]) -> BTreeMap<&'static str, Level> {
    let mut levels = BTreeMap::new();
    for finding in findings {
        let level = levels.entry(finding.check).or_insert(Level::Ok);
        *level = finding.level.max(*level);
    }
    levels
}

/// That these checks have these levels.
fn expect(findings: &[Finding], expected: &[(&str, Level)]) -> Result<()> {
    let levels = levels(findings);
    for (check, level) in expected {
        ensure!(
            levels.get(check) == Some(level),
            "{check} is not {level}: {findings:#?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_bad_settings_hears_of_each() -> Result<()> {
    let server = RedisServer::builder()
        .config("maxmemory 100mb\nmaxmemory-policy allkeys-lru\nstream-node-max-bytes 1024")
        .config("timeout 30\ntcp-keepalive 0\nmin-replicas-to-write 3")
        .config("client-output-buffer-limit normal 1mb 1mb 10")
        .start()
        .await?;
    let (_, findings) = look(&common::options(server.url())).await?;
    expect(
        &findings,
        &[
            ("eviction", Level::Problem),
            ("append-only", Level::Problem),
            ("min-replicas", Level::Problem),
            ("replicas", Level::Note),
            ("stream-nodes", Level::Note),
            ("idle-timeout", Level::Note),
            ("keepalive", Level::Note),
            ("output-limit", Level::Warning),
            ("rights", Level::Ok),
            ("log", Level::Ok),
            ("clock", Level::Ok),
            ("role", Level::Ok),
        ],
    )?;
    // Nothing is left behind but what leaves by itself, and no log was begun.
    let keys: Vec<String> = redis::from_redis_value(server.command(&["KEYS", "*"]).await?)?;
    for key in keys {
        ensure!(key.contains(":doctor:"), "{key}");
        let left: i64 = redis::from_redis_value(server.command(&["PTTL", &key]).await?)?;
        ensure!((0..=5_000).contains(&left), "{key} lives for {left} ms");
    }
    server.kill().await?;
    let away = visit(&common::options(server.url()), Arc::new(MachineClock)).await;
    ensure!(matches!(away, Err(LogError::Unavailable(_))), "{away:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_server_is_called_good_and_its_traffic_is_counted() -> Result<()> {
    let server = RedisServer::builder()
        .append_only()
        .maxmemory(1 << 30)
        .start()
        .await?;
    let options = common::options(server.url());
    let log = common::connect(options.clone()).await?;
    for partition in 0..4 {
        let drafts = vec![draft("test/doctor", &format!("\"{}\"", "x".repeat(254))); 100];
        log.append(Partition(partition), drafts).await?;
    }
    let (facts, findings) = look(&options).await?;
    let node = &facts.nodes[0];
    ensure!(node.traffic.events == 400, "{:?}", node.traffic);
    // Data, topic, kind, and what an entry is called by.
    let bytes = node.traffic.event_bytes;
    ensure!((256..400).contains(&bytes), "{:?}", node.traffic);
    ensure!(
        node.ping_us.is_some() && node.script_us.is_some(),
        "{node:?}"
    );
    ensure!(node.waitaof == Some(false), "7.0 has none: {node:?}");
    expect(
        &findings,
        &[("append-only", Level::Ok), ("maxmemory", Level::Ok)],
    )?;
    ensure!(findings[0].level <= Level::Note, "{:#?}", findings[0]);
    // Another configuration than what is stored.
    let other = RedisOptions {
        partitions: tidings_core::Partitions::new(8).context("allowed")?,
        ..options
    };
    expect(&look(&other).await?.1, &[("log", Level::Problem)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_told_what_it_lacks_and_the_documented_one_lacks_nothing() -> Result<()> {
    let documented = include_str!("../../README.md");
    let line = documented
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER hub "))
        .context("the README shows the rule")?;
    let server = RedisServer::builder().password("admin").start().await?;
    let rule = line.replace(">…", ">pass");
    let mut words = vec!["ACL", "SETUSER", "hub"];
    words.extend(rule.split(' '));
    server.command(&words).await?;
    let url = format!("redis://hub:pass@{}", server.address());
    let (facts, findings) = look(&common::options(&url)).await?;
    expect(&findings, &[("rights", Level::Ok), ("config", Level::Note)])?;
    ensure!(facts.nodes[0].persistence.append_sync.is_none());

    let take = [
        "ACL",
        "SETUSER",
        "hub",
        "-xtrim",
        "-hset",
        "resetkeys",
        "~tidings:*",
    ];
    server.command(&take).await?;
    let (facts, findings) = look(&common::options(&url)).await?;
    let rights = &facts.nodes[0].rights;
    ensure!(rights.missing[..2] == ["xtrim", "hset"], "{rights:?}");
    ensure!(rights.missing[2].contains("{tidings:ingest}"), "{rights:?}");
    let finding = findings.iter().find(|one| one.check == "rights");
    let finding = finding.context("a finding")?;
    ensure!(
        finding.level == Level::Problem && finding.remedy == "ACL SETUSER hub +xtrim +hset",
        "{finding:?}"
    );

    // Nothing at all is a reason, not a panic.
    server
        .command(&["ACL", "SETUSER", "hub", "resetkeys", "-@all"])
        .await?;
    let none = look(&common::options(&url)).await;
    ensure!(none.is_err() || none.is_ok_and(|(_, findings)| findings[0].level == Level::Problem));
    let wrong = format!("redis://hub:wrong@{}", server.address());
    let refused = visit(&common::options(wrong), Arc::new(MachineClock)).await;
    ensure!(
        matches!(refused, Err(LogError::Misconfigured(_))),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_and_in_a_cluster_every_primary_is_looked_at() -> Result<()> {
    let group = Sentinel::start().await?;
    let (facts, findings) = look(&common::options(group.url())).await?;
    ensure!(
        facts.nodes.len() == 1 && facts.sentinels.len() == 3,
        "{facts:#?}"
    );
    ensure!(
        !facts.nodes[0].replication.replicas.is_empty(),
        "{facts:#?}"
    );
    expect(
        &findings,
        &[
            ("sentinel-quorum", Level::Ok),
            ("replicas", Level::Ok),
            ("min-replicas", Level::Warning),
            ("append-only", Level::Warning),
        ],
    )?;

    let cluster = Cluster::start().await?;
    let options = common::options(cluster.url());
    common::connect(options.clone()).await?;
    let (facts, findings) = look(&options).await?;
    ensure!(facts.nodes.len() == 3, "{facts:#?}");
    let partitions: u16 = facts.nodes.iter().map(|node| node.traffic.partitions).sum();
    ensure!(partitions == 4, "{facts:#?}");
    expect(
        &findings,
        &[
            ("cluster", Level::Ok),
            ("log", Level::Ok),
            ("rights", Level::Ok),
        ],
    )?;
    // Said of each by its name.
    let named = findings
        .iter()
        .filter(|one| one.check == "eviction" && one.node.is_some());
    ensure!(named.count() == 3, "{findings:#?}");
    // A cluster with a hole, which no instance would start on.
    let owner = &cluster.nodes()[0];
    owner.command(&["CLUSTER", "DELSLOTS", "0"]).await?;
    let seed = format!("redis+cluster://{}", owner.address());
    expect(
        &look(&common::options(seed)).await?.1,
        &[("cluster", Level::Problem)],
    )?;
    // A plain URL to one of its nodes.
    expect(
        &look(&common::options(owner.url())).await?.1,
        &[("cluster-mode", Level::Problem)],
    )
}
