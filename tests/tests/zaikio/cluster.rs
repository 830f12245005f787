//! Two instances with the dialect, one Redis, an issuer's key, and an app that publishes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::http::{self, Answer};
use tidings_tests::instance::binary;
use tidings_tests::{Balancer, Instance};
use tokio::process::Command;

/// Two organisations.
pub(crate) const ORG: &str = "837ebb91-2d4b-4818-a19b-04fea7be8cde";
pub(crate) const OTHER: &str = "0b5dc7a4-9c0f-4a9b-8a37-6f8e0c1d2e3f";

/// What `my_app` may receive.
pub(crate) const ADDED: &str = "mission_control.job_added";
pub(crate) const CHANGED: &str = "mission_control.job_changed";
/// What nobody may.
pub(crate) const SECRET: &str = "mission_control.secret";

/// Events in one request of the hub's own API.
const BATCH: usize = 1_000;

const APPS: &str = r#"
[adapters.zaikio.apps.mission_control]
password = "sesame"
provides = ["job_added", "job_changed", "secret"]
[adapters.zaikio.apps.my_app]
subscriptions = ["mission_control.job_added", "mission_control.job_changed"]
[adapters.zaikio.apps.narrow_app]
subscriptions = ["mission_control.job_changed"]
"#;

pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    pub(crate) instances: [Instance; 2],
    mounts: [PortLease; 2],
    folder: TempDir,
    published: AtomicU64,
}

impl Cluster {
    /// Starts it; `options` are lines for `[adapters.zaikio]`.
    pub(crate) async fn start(options: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        for name in ["issuer", "stranger"] {
            keygen(folder.path(), name, name).await?;
        }
        let redis = RedisServer::start().await?;
        let keys = folder.path().join("issuer.json");
        let config = |mount| {
            format!(
                "[adapters.zaikio]\njwks_file = {keys:?}\nleeway = \"0s\"\n{options}\n\
                 [adapters.zaikio.mount]\nlisten = \"{mount}\"\n{APPS}"
            )
        };
        let (instances, mounts) = Instance::mounted(&["--redis", &redis.url()], config).await?;
        Ok(Self {
            redis,
            instances,
            mounts,
            folder,
            published: AtomicU64::new(0),
        })
    }

    /// Where the dialect of an instance listens.
    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.mounts[at].address()
    }

    /// Where an instance opens websockets.
    pub(crate) fn url(&self, at: usize) -> String {
        format!("ws://{}/websocket", self.address(at))
    }

    /// A balancer of somebody's own: the first connection goes to the first instance, the next to the second.
    pub(crate) async fn balancer(&self) -> Result<(Balancer, String)> {
        let balancer = Balancer::start(vec![self.address(0), self.address(1)]).await?;
        let url = format!("ws://{}/websocket", balancer.address());
        Ok((balancer, url))
    }

    /// An organisation that nobody else has.
    pub(crate) fn organisation(&self) -> String {
        let count = self.published.fetch_add(1, Ordering::Relaxed);
        format!("{count:08x}-2d4b-4818-a19b-04fea7be8cde")
    }

    /// A good token of `my_app` for an organisation.
    pub(crate) async fn token(&self, organisation: &str) -> Result<String> {
        self.mint("issuer", organisation, &["--aud", "my_app"])
            .await
    }

    /// One whose time is over.
    pub(crate) async fn expired(&self) -> Result<String> {
        let claims = ["--aud", "my_app", "--claim", "exp=1576225731"];
        self.mint("issuer", ORG, &claims).await
    }

    /// One that somebody else signed.
    pub(crate) async fn forged(&self) -> Result<String> {
        self.mint("stranger", ORG, &["--aud", "my_app"]).await
    }

    /// The issuer gets a second key, `next`.
    pub(crate) async fn rotate(&self) -> Result<()> {
        keygen(self.folder.path(), "next", "issuer").await
    }

    /// A token as the command line makes it.
    pub(crate) async fn mint(
        &self,
        key: &str,
        organisation: &str,
        claims: &[&str],
    ) -> Result<String> {
        let key = self.folder.path().join(format!("{key}.pem"));
        let subject = format!("Organization/{organisation}");
        let output = Command::new(binary()?)
            .args(["token", "mint", "--iss", "ZAI", "--sub", &subject])
            .arg("--private-key")
            .arg(key)
            .args(claims)
            .output()
            .await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Publishes an event with a number through one of the instances; answers with its id.
    pub(crate) async fn publish(
        &self,
        at: usize,
        org: &str,
        name: &str,
        number: u64,
    ) -> Result<String> {
        let event = self.event(org, name, number);
        let answer = self.post(at, &event).await?;
        ensure!(answer.status == 201, "{} {:?}", answer.status, answer.body);
        Ok(event["id"].as_str().context("an id")?.to_owned())
    }

    /// Publishes some, in turn through both; answers with their ids.
    pub(crate) async fn publish_all(
        &self,
        org: &str,
        name: &str,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        for number in numbers {
            ids.push(self.publish(ids.len() % 2, org, name, number).await?);
        }
        Ok(ids)
    }

    /// Publishes many, numbered from 1.
    pub(crate) async fn fill(&self, org: &str, name: &str, count: u64) -> Result<()> {
        let numbers: Vec<u64> = (1..=count).collect();
        for numbers in numbers.chunks(BATCH) {
            self.batch(0, org, name, numbers.iter().copied()).await?;
        }
        Ok(())
    }

    /// Publishes some at once over the hub's own API, where they pass the dialect's rules too.
    pub(crate) async fn batch(
        &self,
        at: usize,
        org: &str,
        name: &str,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<()> {
        let draft = |number| {
            let event = self.event(org, name, number);
            json!({"topic": format!("zaikio/org/{org}"), "type": name, "data": event})
        };
        let drafts: Vec<Value> = numbers.into_iter().map(draft).collect();
        let headers = [("content-type", "application/json")];
        let body = json!(drafts).to_string();
        let answer = self.instances[at].send("POST", "/v1/events", &headers, body);
        let answer = answer.await?;
        ensure!(answer.status == 201, "{} {:?}", answer.status, answer.body);
        Ok(())
    }

    /// An event as an app publishes it.
    pub(crate) fn event(&self, org: &str, name: &str, number: u64) -> Value {
        let count = self.published.fetch_add(1, Ordering::Relaxed);
        json!({
            "id": format!("bd6b9b7f-0000-4000-8000-{count:012x}"), "timestamp": "2023-07-23T22:04:46Z",
            "name": name, "subject": format!("Org/{org}"), "version": "1.0", "payload": {"n": number},
        })
    }

    pub(crate) async fn post(&self, at: usize, event: &Value) -> Result<Answer> {
        let headers = [
            // mission_control:sesame
            ("authorization", "Basic bWlzc2lvbl9jb250cm9sOnNlc2FtZQ=="),
            ("content-type", "application/json"),
        ];
        let body = json!({ "event": event }).to_string();
        http::send(self.address(at), "POST", "/api/v1/events", &headers, body).await
    }

    /// What both have printed, for a failure.
    pub(crate) fn printed(&self) -> String {
        let [a, b] = &self.instances;
        format!("{}\n{}", a.printed(), b.printed())
    }
}

/// Makes a key, and adds its public half to a set.
async fn keygen(folder: &Path, name: &str, set: &str) -> Result<()> {
    let output = Command::new(binary()?)
        .args(["token", "keygen", "--algorithm", "RS256", "--out"])
        .arg(folder.join(format!("{name}.pem")))
        .arg("--jwks")
        .arg(folder.join(format!("{set}.json")))
        .output()
        .await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}
