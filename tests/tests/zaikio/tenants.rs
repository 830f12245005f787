//! Nothing of one organisation is ever seen by another, nor of an event by an app that may not have it: by no command,
//! filter or replay.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{ADDED, CHANGED, Cluster, ORG, OTHER, SECRET};
use crate::driver::Driver;

const EXTENDED: &str = "actioncable-v1-ext-json";

#[tokio::test(flavor = "multi_thread")]
async fn organisations_and_apps_see_nothing_of_each_other() -> Result<()> {
    let cluster = Cluster::start("").await?;
    let done = tokio::try_join!(organisations(&cluster), apps(&cluster), strangers(&cluster));
    done.map(drop).with_context(|| cluster.printed())
}

async fn client(cluster: &Cluster, token: &str, first: &[(&str, Value)]) -> Result<Driver> {
    let first: Vec<Value> = first
        .iter()
        .map(|(name, params)| json!({"do": "subscribe", "as": name, "params": params}))
        .collect();
    Driver::node(&json!({
        "client": "ws", "url": cluster.url(1), "token": token, "protocol": EXTENDED, "first": first,
    }))
}

/// The other organisation's client knows every id and place of this one's, and asks for them in every way.
async fn organisations(cluster: &Cluster) -> Result<()> {
    let names = format!("{ADDED},{CHANGED}");
    let params = json!({"events": names, "ack": true});
    let owner = cluster.token(ORG).await?;
    let mut owner_client = client(cluster, &owner, &[("a", params.clone())]).await?;
    owner_client.frame("confirm_subscription").await?;
    let ids = cluster.publish_all(ORG, ADDED, 1..=3).await?;
    owner_client.gets(1).await?;
    let place = owner_client.gets(2).await?;
    owner_client.gets(3).await?;
    let place = json!({"epoch": place["epoch"], "offset": 1});
    let (ours, theirs) = (format!("Org/{OTHER}"), format!("Org/{ORG}"));

    let asking = [
        ("a", params.clone()),
        (
            "org",
            json!({"events": names, "organization": ORG, "subject": theirs, "stream_id": theirs}),
        ),
        (
            "consumer",
            json!({"events": names, "ack": true, "consumer": format!("default/{ORG}")}),
        ),
    ];
    let mut other = client(cluster, &cluster.token(OTHER).await?, &asking).await?;
    for _ in &asking {
        other.frame("confirm_subscription").await?;
    }
    let history = |history: Value| json!({"do": "history", "as": "a", "history": history});
    other.tell(history(json!({"since": 1}))).await?;
    other.frame("confirm_history").await?;
    let streams = json!({theirs.clone(): place});
    other.tell(history(json!({"streams": streams}))).await?;
    other.frame("confirm_history").await?;
    other.tell(history(json!({"after": ids[0]}))).await?;
    let refused = other.frame("reject_history").await?;
    ensure!(refused["reason"] == "unknown_position", "{refused}");
    other
        .perform(
            "a",
            "rewind",
            json!({"since": "1970-01-02T00:00:00Z", "subject": theirs}),
        )
        .await?;
    other.frame("confirm_history").await?;
    let resubscribed = json!({
        "do": "subscribe", "as": "with history", "params": {"events": ADDED, "x": 1},
        "history": {"since": 1, "streams": streams},
    });
    other.tell(resubscribed).await?;
    other.frame("confirm_history").await?;
    for (ack, reason) in [
        (json!({"ids": ids}), "unknown_event"),
        (json!({"streams": streams}), "unknown_position"),
    ] {
        other
            .tell(json!({"do": "ack", "as": "a", "ack": ack}))
            .await?;
        let refused = other.frame("reject_ack").await?;
        ensure!(
            refused["reason"] == reason && refused["ack"] == ack,
            "{refused}"
        );
    }

    // Its own comes, on each subscription, and nothing else ever did.
    let id = cluster.publish(0, OTHER, ADDED, 7).await?;
    for _ in 0..4 {
        let frame = other.gets(7).await?;
        ensure!(
            frame["stream_id"] == ours && frame["message"]["id"] == id,
            "{frame}"
        );
    }
    ensure!(other.count("event") == 4);
    // What the other one tried to ack is as un-acked as it was.
    let mut again = client(cluster, &owner, &[("a", params)]).await?;
    for number in 1..=3 {
        again.gets(number).await?;
    }
    ensure!(owner_client.count("event") == 3);
    Ok(())
}

/// Two apps of one organisation: what one may not have it does not get, and each acks for itself.
async fn apps(cluster: &Cluster) -> Result<()> {
    let org = "5f0c3a51-7d43-4a6f-9a39-0a9b8c7d6e5f";
    let narrow = cluster
        .mint("issuer", org, &["--aud", "narrow_app"])
        .await?;
    let asking = [
        ("a", json!({"events": CHANGED, "ack": true})),
        ("added", json!({"events": ADDED})),
        ("both", json!({"events": format!("{CHANGED},{ADDED}")})),
        ("secret", json!({"events": SECRET})),
        ("prefix", json!({"events": "mission_control.*"})),
    ];
    let mut narrow_client = client(cluster, &narrow, &asking).await?;
    narrow_client.frame("confirm_subscription").await?;
    for _ in 1..asking.len() {
        narrow_client.frame("reject_subscription").await?;
    }
    let wide = cluster.token(org).await?;
    let mut wide = client(
        cluster,
        &wide,
        &[("a", json!({"events": CHANGED, "ack": true}))],
    )
    .await?;
    wide.frame("confirm_subscription").await?;
    let added = cluster.publish(0, org, ADDED, 1).await?;
    cluster.publish(0, org, SECRET, 2).await?;
    let changed = cluster.publish(0, org, CHANGED, 3).await?;
    wide.gets(3).await?;
    wide.tell(json!({"do": "ack", "as": "a", "ack": {"id": changed}}))
        .await?;
    wide.frame("confirm_ack").await?;
    narrow_client.gets(3).await?;
    narrow_client
        .tell(json!({"do": "history", "as": "a", "history": {"since": 1}}))
        .await?;
    narrow_client.gets(3).await?;
    narrow_client.frame("confirm_history").await?;
    narrow_client
        .tell(json!({"do": "ack", "as": "a", "ack": {"ids": [added]}}))
        .await?;
    narrow_client.frame("reject_ack").await?;
    ensure!(narrow_client.count("event") == 2);
    // The other app's ack was the other app's.
    let mut again = client(cluster, &narrow, &asking[..1]).await?;
    again.gets(3).await?;
    Ok(())
}

/// Persons, apps that nobody knows, and audiences that are missing.
async fn strangers(cluster: &Cluster) -> Result<()> {
    let unknown = cluster.mint("issuer", ORG, &["--aud", "nobody"]).await?;
    let personal = cluster.mint("issuer", ORG, &[]).await?;
    let person = format!("sub=Person/{ORG}");
    let person = ["--aud", "my_app", "--claim", &person];
    let person = cluster.mint("issuer", ORG, &person).await?;
    for token in [unknown, personal, person, "garbage".to_owned()] {
        let mut stranger = client(cluster, &token, &[("a", json!({"events": ADDED}))]).await?;
        let frame = stranger.frame("disconnect").await?;
        ensure!(frame["reason"] == "unauthorized", "{frame}");
        stranger.until("shut", |_| true).await?;
        ensure!(stranger.count("frame") == 1);
    }
    let on_behalf = format!("sub=Person/{OTHER}>Organization/{ORG}");
    let on_behalf = ["--aud", "my_app/credentials", "--claim", &on_behalf];
    let on_behalf = cluster.mint("issuer", OTHER, &on_behalf).await?;
    let mut friend = client(cluster, &on_behalf, &[("a", json!({"events": ADDED}))]).await?;
    friend.frame("confirm_subscription").await?;

    // A key that the issuer publishes later is known by its first token.
    cluster.rotate().await?;
    let token = cluster.mint("next", ORG, &["--aud", "my_app"]).await?;
    let mut friend = client(cluster, &token, &[("a", json!({"events": ADDED}))]).await?;
    friend.frame("confirm_subscription").await?;
    Ok(())
}
