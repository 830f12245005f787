//! What is checked at start, and who may come in.

use std::time::Duration;

use anyhow::Result;
use tidings_core::{EventLog as _, From, LogError, PageLimit, Partitions};
use tidings_log_redis::RedisOptions;
use tidings_testkit::servers::{Cluster, RedisServer};

use crate::common::{self, draft, placed};

async fn refusal(options: RedisOptions) -> String {
    match common::connect(options).await {
        Err(LogError::Misconfigured(text)) => text,
        other => panic!("not misconfigured: {other:?}"),
    }
}

async fn works(options: RedisOptions) -> Result<()> {
    let log = common::connect(options).await?;
    let topic = placed(2, "test/works");
    let appended = log
        .append(topic.partition, vec![draft("test/works", "1")])
        .await?;
    let page = log.read(&topic, From::Oldest, PageLimit::default()).await?;
    assert_eq!(
        page.events.last().map(|event| event.id),
        Some(appended[0].id)
    );
    log.trim(topic.partition).await?;
    log.fill(topic.partition, PageLimit::default()).await?;
    let mut tail = log.tail(vec![tidings_core::EventId::ORIGIN; 4]);
    let step = tokio::time::timeout(Duration::from_secs(20), tail.next()).await?;
    assert!(
        matches!(step, tidings_core::TailStep::Events(..)),
        "{step:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mismatch_says_what_to_do() -> Result<()> {
    let server = RedisServer::start().await?;
    let options = || common::options(server.url());
    common::connect(options()).await?;
    let other = RedisOptions {
        partitions: Partitions::new(8).expect("allowed"),
        ..options()
    };
    let text = refusal(other).await;
    assert!(
        text.contains("4 partitions") && text.contains("set the partitions to 4"),
        "{text}"
    );
    let other = RedisOptions {
        retention: Duration::from_secs(60),
        ..options()
    };
    let text = refusal(other).await;
    assert!(text.contains("set the retention to 3600000 ms"), "{text}");
    server
        .command(&["HSET", "tidings:meta", "layout", "99"])
        .await?;
    let text = refusal(options()).await;
    assert!(text.contains("layout 99"), "{text}");
    // Another prefix is another log.
    works(RedisOptions {
        prefix: "other".into(),
        partitions: Partitions::new(8).expect("allowed"),
        ..options()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_instances_start_at_once() -> Result<()> {
    let server = RedisServer::start().await?;
    let starts: Vec<_> = (0..8)
        .map(|_| tokio::spawn(common::connect(common::options(server.url()))))
        .collect();
    for start in starts {
        start.await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_will_not_do_are_refused() -> Result<()> {
    let server = RedisServer::builder()
        .config("maxmemory 100mb\nmaxmemory-policy allkeys-lru")
        .start()
        .await?;
    let text = refusal(common::options(server.url())).await;
    assert!(text.contains("noeviction"), "{text}");
    let text = refusal(common::options(format!(
        "redis+cluster://{}",
        server.address()
    )))
    .await;
    assert!(text.contains("cluster support disabled"), "{text}");

    let cluster = Cluster::start().await?;
    let node = &cluster.nodes()[0];
    let text = refusal(common::options(node.url())).await;
    assert!(text.contains("redis+cluster://"), "{text}");

    server.kill().await?;
    let away = common::connect(common::options(server.url())).await;
    assert!(matches!(away, Err(LogError::Unavailable(_))), "{away:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hubs_on_one_redis_do_not_meet() -> Result<()> {
    let server = RedisServer::start().await?;
    let log = |prefix: &str| {
        common::connect(RedisOptions {
            prefix: prefix.to_owned(),
            ..common::options(server.url())
        })
    };
    let (one, two) = (log("one").await?, log("two").await?);
    let topic = placed(0, "test/shared");
    let mut tail = two.tail(vec![tidings_core::EventId::ORIGIN; 4]);
    let id = one
        .append(topic.partition, vec![draft("test/shared", "1")])
        .await?[0]
        .id;
    assert_eq!(
        two.read(&topic, From::Oldest, PageLimit::default())
            .await?
            .events,
        []
    );
    assert_eq!(two.heads(vec![topic.clone()]).await?[0].topic, None);
    assert_eq!(
        two.judge(vec![(topic.clone(), id)]).await?,
        [tidings_core::Verdict::Ahead]
    );
    let own = two
        .append(topic.partition, vec![draft("test/shared", "2")])
        .await?[0]
        .id;
    loop {
        match tokio::time::timeout(Duration::from_secs(20), tail.next()).await? {
            tidings_core::TailStep::Events(_, events) => {
                assert_eq!(
                    events.iter().map(|event| event.id).collect::<Vec<_>>(),
                    [own]
                );
                return Ok(());
            }
            tidings_core::TailStep::Level => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_asked_for() -> Result<()> {
    let server = RedisServer::builder()
        .password("open:sesame/")
        .start()
        .await?;
    works(common::options(server.url())).await?;
    let bare = format!("redis://{}", server.address());
    let with = |password: &str| RedisOptions {
        password: Some(password.to_owned()),
        ..common::options(&bare)
    };
    works(with("open:sesame/")).await?;
    let text = refusal(with("s3cret")).await;
    assert!(!text.contains("s3cret"), "{text}");
    refusal(common::options(&bare)).await;
    Ok(())
}

/// A user with no right but those that the log needs, on no keys but its own; as documented.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acl_user_needs_only_what_is_documented() -> Result<()> {
    let documented = include_str!("../../README.md");
    let line = documented
        .lines()
        .find_map(|line| line.strip_prefix("ACL SETUSER hub "))
        .expect("the README shows the rule");
    let server = RedisServer::builder().password("admin").start().await?;
    let rule = line.replace(">…", ">pass");
    let mut words = vec!["ACL", "SETUSER", "hub"];
    words.extend(rule.split(' '));
    server.command(&words).await?;
    let url = format!("redis://hub:pass@{}", server.address());
    works(common::options(&url)).await?;
    crate::ingest::drains(&common::options(&url), &server).await?;
    crate::records::works(common::options(&url)).await?;
    let foreign = RedisOptions {
        prefix: "foreign".into(),
        ..common::options(&url)
    };
    refusal(foreign).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_an_authority_of_ones_own() -> Result<()> {
    let server = RedisServer::builder().tls().password("p").start().await?;
    let ca = server.dir().join("ca.pem");
    works(RedisOptions {
        tls_ca_file: Some(ca.clone()),
        ..common::options(server.url())
    })
    .await?;
    // Not trusted without it, and files that are not there are named.
    let stranger = common::connect(common::options(server.url())).await;
    assert!(stranger.is_err());
    let text = refusal(RedisOptions {
        tls_ca_file: Some("/nowhere/ca.pem".into()),
        ..common::options(server.url())
    })
    .await;
    assert!(text.contains("/nowhere/ca.pem"), "{text}");
    let plain = server.url().replace("rediss://", "redis://");
    let text = refusal(RedisOptions {
        tls_ca_file: Some(ca),
        ..common::options(plain)
    })
    .await;
    assert!(text.contains("rediss"), "{text}");
    Ok(())
}
