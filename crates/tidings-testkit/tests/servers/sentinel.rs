//! The Sentinel set: a failover loses what was written behind a cut link.

use anyhow::{Result, ensure};
use redis::{Client, Value};
use tidings_testkit::servers::Sentinel;

use crate::{bounded, get};

#[tokio::test]
async fn a_write_after_the_cut_is_lost_in_the_failover() -> Result<()> {
    bounded(async {
        let set = Sentinel::builder().append_only().start().await?;
        ensure!(
            set.url().starts_with("redis+sentinel://127.0.0.1:")
                && set.url().ends_with("/mymaster")
        );
        let old = set.primary().address();
        set.primary().command(&["SET", "kept", "v"]).await?;
        set.wait_for_replication().await?;

        set.cut_replication().await?;
        // Through the address that the sentinels hand out: clients notice nothing of the cut.
        let mut client = Client::open(set.primary().url())?
            .get_multiplexed_async_connection()
            .await?;
        let answer: Value = redis::cmd("SET")
            .arg("lost")
            .arg("v")
            .query_async(&mut client)
            .await?;
        ensure!(answer == Value::Okay);
        set.kill_primary().await?;
        set.wait_for_failover().await?;

        ensure!(set.primary().address() != old && set.replica().address() == old);
        ensure!(get(set.primary(), "kept").await?.as_deref() == Some("v"));
        ensure!(get(set.primary(), "lost").await?.is_none());
        set.primary().command(&["SET", "new", "v"]).await?;
        // The old primary has it on disk, and serves it until it gets the new one's data instead.
        set.restart_old_primary().await?;
        ensure!(get(set.replica(), "lost").await?.as_deref() == Some("v"));
        set.heal().await?;
        set.wait_for_rejoin().await?;
        ensure!(get(set.replica(), "lost").await?.is_none());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_isolated_primary_goes_on_and_is_put_right_when_healed() -> Result<()> {
    bounded(async {
        let set = Sentinel::start().await?;
        let mut client = Client::open(set.primary().url())?
            .get_multiplexed_async_connection()
            .await?;
        set.isolate_primary().await?;
        set.wait_for_failover().await?;
        redis::cmd("SET")
            .arg("k")
            .arg("old")
            .exec_async(&mut client)
            .await?;
        ensure!(set.replica().role().await? == "master");
        set.primary().command(&["SET", "k", "new"]).await?;
        set.heal().await?;
        set.wait_for_rejoin().await?;
        ensure!(get(set.replica(), "k").await?.as_deref() == Some("new"));
        Ok(())
    })
    .await
}
