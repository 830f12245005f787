//! The Cluster: a replica takes over, a slot moves under way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use redis::{FromRedisValue, Value};
use tidings_testkit::servers::{Cluster, wait_for};

use crate::{bounded, code, get};

#[tokio::test]
async fn a_replica_takes_over_from_a_killed_master() -> Result<()> {
    bounded(async {
        let cluster = Cluster::builder().replicas().start().await?;
        ensure!(cluster.nodes().len() == 6);
        let slot = cluster.slot_of("{t}k").await?;
        let master = cluster.node_for_slot(slot).await?;
        cluster.nodes()[master]
            .command(&["SET", "{t}k", "v"])
            .await?;
        cluster.nodes()[master]
            .wait_for_replica(&cluster.nodes()[master + 3])
            .await?;
        ensure!(cluster.kill_master_of(slot).await? == master);
        let successor = cluster.wait_for_failover(slot).await?;
        ensure!(successor == master + 3);
        ensure!(get(&cluster.nodes()[successor], "{t}k").await?.as_deref() == Some("v"));
        cluster.nodes()[master].restart().await?;
        cluster.wait_until_ok().await?;
        ensure!(cluster.node_for_slot(slot).await? == successor);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_slot_moves_with_its_keys() -> Result<()> {
    bounded(async {
        let cluster = Cluster::builder().append_only().start().await?;
        let slot = cluster.slot_of("{t}").await?;
        let from = cluster.node_for_slot(slot).await?;
        let to = (from + 1) % 3;
        let source = &cluster.nodes()[from];
        // More than two pages of keys.
        for index in 0..250 {
            source
                .command(&["XADD", &format!("{{t}}{index}"), "*", "f", "v"])
                .await?;
        }
        cluster.begin_move(slot, to).await?;
        let asked = source
            .command(&["SET", "{t}absent", "v"])
            .await
            .err()
            .context("it was taken")?;
        ensure!(code(&asked).as_deref() == Some("ASK"), "{asked:#}");
        cluster.finish_move(slot, to).await?;
        ensure!(cluster.node_for_slot(slot).await? == to);
        for index in [0, 249] {
            let length = cluster.nodes()[to]
                .command(&["XLEN", &format!("{{t}}{index}")])
                .await?;
            ensure!(length == Value::Int(1));
        }
        cluster.move_slot(slot, from).await?;
        ensure!(source.command(&["XLEN", "{t}7"]).await? == Value::Int(1));

        // Without replicas the slot is away until its master is back.
        cluster.kill_master_of(slot).await?;
        let others = &cluster.nodes()[to];
        wait_for("the others to notice", Duration::from_secs(10), || async {
            let info = String::from_redis_value(others.command(&["CLUSTER", "INFO"]).await?)?;
            ensure!(info.contains("cluster_state:fail"), "{info}");
            Ok(())
        })
        .await?;
        source.restart().await?;
        cluster.wait_until_ok().await?;
        ensure!(source.command(&["XLEN", "{t}7"]).await? == Value::Int(1));
        Ok(())
    })
    .await
}
