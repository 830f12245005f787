//! What the tests of jobs and messages share: an agent's and a virtual browser's moves.

use std::future::Future;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::http::Method;
use tidings_adapter_cardsavr::client::{ClientError, Prepared, Reply};
use tidings_adapter_cardsavr::{Cardsavr, CardsavrOptions};
use tidings_testkit::adapter_exam::{Cluster, Instance, Logs, Setup};
use tidings_testkit::servers::{RedisServer, wait_for};

use crate::common::{Caller, SOON, Turns, now_ms, options};

pub(crate) const JOBS: &str = "/place_card_on_single_site_jobs";

/// Two instances over a log.
pub(crate) async fn cluster_on(
    logs: Logs,
    changes: impl Fn(&mut CardsavrOptions),
) -> Result<Cluster> {
    let setup = Setup {
        logs,
        ..Setup::default()
    };
    let adapter = || {
        let mut options = options();
        // Racing pollers are one session each.
        options.session_requests = 0;
        changes(&mut options);
        Cardsavr::new(&options).expect("a good adapter")
    };
    Cluster::start(|| Box::new(adapter()), setup).await
}

/// Plays a scene on a log in memory, or on a Redis of its own.
pub(crate) async fn on<F, R>(redis: bool, scene: F) -> Result<()>
where
    F: FnOnce(Cluster) -> R,
    R: Future<Output = Result<()>>,
{
    if !redis {
        return scene(cluster_on(Logs::Memory, |_| {}).await?).await;
    }
    let redis = RedisServer::start().await?;
    scene(cluster_on(Logs::Redis(redis.url()), |_| {}).await?).await
}

/// A scene as two tests: over the log in memory, and over a real Redis.
macro_rules! both {
    ($($scene:ident)*) => { $(mod $scene {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn in_memory() -> anyhow::Result<()> {
            $crate::play::on(false, super::scenes::$scene).await
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn on_redis() -> anyhow::Result<()> {
            $crate::play::on(true, super::scenes::$scene).await
        }
    })* };
}
pub(crate) use both;

pub(crate) fn body(cuid: &str) -> Value {
    json!({
        "cardholder": {"cuid": cuid},
        "card": {"cardholder_ref": {"cuid": cuid}, "pan": "4111111111111111",
            "expiration_month": "12", "expiration_year": "34", "name_on_card": "Jane Smith",
            "address": {"cardholder_ref": {"cuid": cuid}, "address1": "1 Main St"}},
        "account": {"cardholder_ref": {"cuid": cuid}, "merchant_site_id": 1,
            "account_link": {"username": "good_email", "password": "tfa"}},
    })
}

impl Caller<'_> {
    pub(crate) async fn with_headers(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Result<Reply, ClientError>> {
        let prepared = self
            .client
            .prepare(method, target, body, headers, now_ms())?;
        let answer = self.raw(&prepared).await?;
        Ok(self.read(target, &answer))
    }

    pub(crate) async fn post(
        &self,
        target: &str,
        body: &Value,
    ) -> Result<Result<Reply, ClientError>> {
        self.call(Method::POST, target, Some(body)).await
    }

    pub(crate) async fn put(
        &self,
        target: &str,
        body: &Value,
    ) -> Result<Result<Reply, ClientError>> {
        self.call(Method::PUT, target, Some(body)).await
    }

    /// Makes a job.
    pub(crate) async fn job(&self, cuid: &str) -> Result<Value> {
        let reply = self.post(JOBS, &body(cuid)).await??;
        ensure!(reply.status == 201, "{reply:?}");
        Ok(reply.body)
    }

    pub(crate) async fn register(&self, job: u64) -> Result<String> {
        let target = messages(job, "broadcasts/registrations");
        let reply = self.post(&target, &json!({"job_id": job})).await??;
        Ok(reply.body["access_key"]
            .as_str()
            .context("a key")?
            .to_owned())
    }

    pub(crate) fn poll_request(&self, job: u64, key: &str) -> Prepared {
        let headers = [("x-cardsavr-cardsavr-messaging-access-key", key)];
        let target = messages(job, "broadcasts");
        let prepared = self
            .client
            .prepare(Method::GET, &target, None, &headers, now_ms());
        prepared.expect("a request")
    }

    /// Polls, and answers the messages, each as its status.
    pub(crate) async fn poll(&self, job: u64, key: &str) -> Result<Vec<String>> {
        let answer = self.raw(&self.poll_request(job, key)).await?;
        let reply = self.read(&messages(job, "broadcasts"), &answer)?;
        statuses(&reply.body, job)
    }

    /// The virtual browser says how a job stands.
    pub(crate) async fn says(&self, job: u64, said: &Value) -> Result<Value> {
        let reply = self.put(&format!("{JOBS}/{job}"), said).await??;
        ensure!(reply.status == 201, "{reply:?}");
        Ok(reply.body)
    }

    pub(crate) async fn status(&self, job: u64, status: &str, percent: u64) -> Result<()> {
        let said = json!({"status": status, "percent_complete": percent});
        self.says(job, &said).await.map(drop)
    }

    /// The virtual browser asks; the envelope.
    pub(crate) async fn asks(&self, job: u64, kind: &str) -> Result<Value> {
        let said = json!({"jobId": job, "type": kind, "message": "Please enter the code",
            "account_link": [{"key_name": "tfa", "label": "code", "secret": false}]});
        let reply = self
            .post(&messages(job, "credential_requests"), &said)
            .await??;
        ensure!(reply.status == 201, "{reply:?}");
        Ok(reply.body)
    }

    pub(crate) async fn asked(&self, job: u64) -> Result<Value> {
        let target = messages(job, "credential_requests");
        Ok(self.get(&target).await??.body)
    }

    /// What the virtual browser fetches.
    pub(crate) async fn answered(&self, job: u64) -> Result<Value> {
        let target = messages(job, "credential_responses");
        Ok(self.get(&target).await??.body)
    }

    /// The job with what its user is asked.
    pub(crate) async fn read_job(&self, job: u64) -> Result<Value> {
        let headers = [("x-cardsavr-hydration", "[\"credential_requests\"]")];
        let target = format!("{JOBS}/{job}");
        let read = self.with_headers(Method::GET, &target, None, &headers);
        Ok(read.await??.body)
    }
}

pub(crate) fn messages(job: u64, what: &str) -> String {
    format!("/messages/place_card_on_single_site_jobs/{job}/{what}")
}

pub(crate) fn id(job: &Value) -> Result<u64> {
    job["id"].as_u64().context("an id")
}

/// The statuses of messages that have the form of the contract.
pub(crate) fn statuses(list: &Value, job: u64) -> Result<Vec<String>> {
    let list = list.as_array().context("an array")?;
    let one = |message: &Value| {
        let inner = &message["message"];
        ensure!(
            message["type"] == "job_status"
                && message["job_id"].as_u64() == Some(job)
                && inner["percent_complete"].is_number()
                && inner["job_timeout"].is_u64(),
            "{message}"
        );
        Ok(inner["status"].as_str().context("a status")?.to_owned())
    };
    list.iter().map(one).collect()
}

impl Turns {
    /// One instance alone.
    pub(crate) fn only(cluster: &Cluster, index: usize) -> Self {
        Self::at(vec![cluster.instance(index).address()])
    }
}

impl Caller<'_> {
    /// The same client, with the same session, at other instances.
    pub(crate) fn at<'b>(&self, turns: &'b Turns) -> Caller<'b> {
        Caller {
            turns,
            client: self.client.clone(),
        }
    }
}

/// Waits until these instances have noted what became of the answers that they gave.
pub(crate) async fn noted(instances: &[Instance]) -> Result<()> {
    wait_for("what arrived to be noted", SOON, || async {
        let mut hubs = instances.iter().map(|one| one.hub());
        ensure!(hubs.all(|hub| hub.connections().is_empty()), "not yet");
        Ok(())
    })
    .await
}
