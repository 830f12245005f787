//! The main job: the sample events of the seed documents are published over HTTP and over Redis,
//! half on each of two instances, and read on the other one by curl, by `EventSource` in Chromium
//! and in Node, and by the Durable Streams client; an instance and Redis are killed in the middle.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::{RedisServer, wait_for};
use tidings_tests::ledger::Received;
use tidings_tests::{
    Balancer, Client, Fixture, Instance, Ledger, SOON, fixtures, http, instance::KEY,
};
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// How often every sample is published: enough to be in the middle of it when things are killed.
const ROUNDS: usize = 12;

/// Chromium's page comes from another origin.
const ANY_PAGE: &str = "[api]\ncors_origins = [\"*\"]\n";

/// What the publisher and the readers share.
#[derive(Clone)]
struct Job {
    ledger: Arc<Mutex<Ledger>>,
    samples: Arc<Vec<Fixture>>,
    /// Instances by turn; the first is published to by the topics of even number.
    instances: Vec<std::net::SocketAddr>,
    redis: Option<Arc<RedisServer>>,
}

impl Job {
    fn new(instances: &[&Instance], redis: Option<Arc<RedisServer>>) -> Result<Self> {
        Ok(Self {
            ledger: Arc::default(),
            samples: Arc::new(fixtures()?),
            instances: instances.iter().map(|one| one.address()).collect(),
            redis,
        })
    }

    fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.samples.iter().map(|one| one.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    fn kinds(&self) -> String {
        let mut kinds: Vec<&str> = self.samples.iter().map(|one| one.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.join(",")
    }

    /// `/v1/events` over all topics, from the oldest.
    fn stream_path(&self) -> String {
        let topics: Vec<String> = self
            .topics()
            .iter()
            .map(|topic| format!("topic={topic}"))
            .collect();
        format!(
            "/v1/events?{}&offset=-1&access_token={KEY}",
            topics.join("&")
        )
    }

    /// Publishes every round, each event acknowledged before the next of its topic is sent.
    async fn publish(self) -> Result<()> {
        let topics = self.topics();
        for round in 0..ROUNDS {
            for (index, sample) in self.samples.iter().enumerate() {
                let id = format!("{round}-{index}");
                let turn = topics
                    .iter()
                    .position(|topic| *topic == sample.topic)
                    .unwrap_or_default();
                match &self.redis {
                    // A third of the topics over Redis, the others half on each instance.
                    Some(redis) if turn % 3 == 2 => self.publish_redis(redis, sample, &id).await?,
                    _ => self.publish_http(sample, &id, turn).await?,
                }
                self.ledger
                    .lock()
                    .await
                    .note(&sample.topic, &id, &sample.data);
            }
        }
        Ok(())
    }

    async fn publish_http(&self, sample: &Fixture, id: &str, turn: usize) -> Result<()> {
        let (bearer, tries) = (
            format!("Bearer {KEY}"),
            std::sync::atomic::AtomicUsize::new(turn),
        );
        let head = serde_json::json!({
            "topic": sample.topic, "type": sample.kind, "source": sample.source, "id": id,
        });
        let head = head.to_string();
        let body = format!(
            "{},\"data\":{}}}",
            head.strip_suffix('}').context("an object")?,
            sample.data
        );
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        wait_for("a publish to be acknowledged", SOON, || async {
            let turn = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let address = self.instances[turn % self.instances.len()];
            let answer = http::send(address, "POST", "/v1/events", &headers, body.clone()).await?;
            ensure!(answer.status == 201, "{} {:?}", answer.status, answer.body);
            Ok(())
        })
        .await
    }

    async fn publish_redis(&self, redis: &RedisServer, sample: &Fixture, id: &str) -> Result<()> {
        let words = [
            "XADD",
            "tidings:ingest",
            "*",
            "topic",
            &sample.topic,
            "type",
            &sample.kind,
            "source",
            &sample.source,
            "id",
            id,
            "data",
            &sample.data,
        ];
        wait_for("an XADD to be acknowledged", SOON, || async {
            redis.command(&words).await.map(|_| ())
        })
        .await
    }

    /// Waits until so many events were acknowledged.
    async fn reached(&self, part: f64) -> Result<()> {
        let wanted = (self.samples.len() as f64 * ROUNDS as f64 * part) as usize;
        wait_for("events to be acknowledged", SOON, || async {
            let count = self.ledger.lock().await.len();
            ensure!(count >= wanted, "{count} of {wanted}");
            Ok(())
        })
        .await
    }
}

/// Takes a client's events until it has all of them.
fn follow(
    who: &'static str,
    mut client: Client,
    job: Job,
    topics: Vec<String>,
    publishing: Arc<Published>,
) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mut received = Received::default();
        loop {
            if publishing.is_over() && received.has_all(&*job.ledger.lock().await, &topics)? {
                break;
            }
            let line = tokio::select! {
                line = client.line() => line.with_context(|| format!("{who} after {} events", received.len())),
                () = publishing.over(), if !publishing.is_over() => continue,
            };
            let line = match line {
                Ok(line) => line,
                // What is missing says more than that nothing came.
                Err(error) => {
                    job.ledger.lock().await.check(who, &received, &topics)?;
                    return Err(error);
                }
            };
            match line.kind.as_str() {
                "event" => drop(received.take(&line.data)?),
                "raw" => received.take_array(&line.text)?,
                "reset" => anyhow::bail!("{who}: {}", line.data),
                _ => {}
            }
        }
        job.ledger.lock().await.check(who, &received, &topics)
    })
}

/// Says when all has been published.
struct Published(watch::Sender<bool>);

impl Default for Published {
    fn default() -> Self {
        Self(watch::channel(false).0)
    }
}

impl Published {
    fn raise(&self) {
        self.0.send_replace(true);
    }

    fn is_over(&self) -> bool {
        *self.0.borrow()
    }

    async fn over(&self) {
        // The sender lives as long as `self`: the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|over| *over).await;
    }
}

/// Polls some topics with curl, one instance after the other, each from the offset that it was
/// told last.
fn poll(job: Job, topics: Vec<String>, publishing: Arc<Published>) -> JoinHandle<Result<()>> {
    tokio::spawn(async move {
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        let mut received = Received::default();
        let mut offsets = vec!["-1".to_owned(); names.len()];
        let mut turn = 0;
        while !(publishing.is_over() && received.has_all(&*job.ledger.lock().await, &names)?) {
            for (topic, offset) in names.iter().zip(&mut offsets) {
                turn += 1;
                let address = job.instances[turn % job.instances.len()];
                let Some((body, next)) = curl(address, topic, offset).await? else {
                    continue;
                };
                received.take_array(&body)?;
                *offset = next;
            }
        }
        job.ledger.lock().await.check("curl", &received, &names)
    })
}

/// One catch-up read with curl; `None` when the instance or its log is away at the moment.
async fn curl(
    address: std::net::SocketAddr,
    topic: &str,
    offset: &str,
) -> Result<Option<(String, String)>> {
    let url = format!("http://{address}/v1/topics/{topic}?offset={offset}");
    let bearer = format!("authorization: Bearer {KEY}");
    let output = Command::new("curl")
        .args(["-sS", "-i", "--max-time", "20", "-H", &bearer, &url])
        .output()
        .await?;
    let answer = String::from_utf8(output.stdout)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Ok(None);
    };
    if head.starts_with("HTTP/1.1 503") {
        return Ok(None);
    }
    ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let next = head
        .lines()
        .find_map(|line| line.strip_prefix("stream-next-offset: "))
        .context("an offset")?;
    Ok(Some((body.to_owned(), next.to_owned())))
}

/// Starts every reader; they end when they have what was acknowledged.
fn readers(job: &Job, front: &str, gate: &Arc<Published>) -> Result<Vec<JoinHandle<Result<()>>>> {
    let (all, kinds) = (job.topics(), job.kinds());
    let stream = format!("{front}{}", job.stream_path());
    let mut readers = vec![
        follow(
            "Chromium",
            Client::start("sse-browser.mjs", &["--events", &kinds, &stream])?,
            job.clone(),
            all.clone(),
            gate.clone(),
        ),
        follow(
            "eventsource",
            Client::start("sse-node.mjs", &["--events", &kinds, &stream])?,
            job.clone(),
            all.clone(),
            gate.clone(),
        ),
        poll(
            job.clone(),
            all.iter().step_by(5).cloned().collect(),
            gate.clone(),
        ),
    ];
    let header = format!("authorization: Bearer {KEY}");
    for (live, topic) in ["long-poll", "sse"]
        .iter()
        .zip(all.iter().skip(1).step_by(2))
    {
        let urls: Vec<String> = job
            .instances
            .iter()
            .map(|one| format!("http://{one}/v1/topics/{topic}"))
            .collect();
        let arguments = ["--live", live, "--header", &header, &urls.join(",")];
        let client = Client::start("durable.mjs", &arguments)?;
        readers.push(follow(
            "Durable Streams",
            client,
            job.clone(),
            vec![topic.clone()],
            gate.clone(),
        ));
    }
    Ok(readers)
}

async fn finish(
    publisher: JoinHandle<Result<()>>,
    readers: Vec<JoinHandle<Result<()>>>,
    gate: &Published,
) -> Result<()> {
    publisher.await??;
    gate.raise();
    for reader in readers {
        reader.await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_one_redis_and_everything_killed_once() -> Result<()> {
    let redis = Arc::new(RedisServer::builder().append_only().start().await?);
    let [mut a, b] = Instance::pair(&redis.url(), ANY_PAGE).await?;
    let job = Job::new(&[&a, &b], Some(redis.clone()))?;
    let balancer = Balancer::start(job.instances.clone()).await?;
    let gate = Arc::<Published>::default();
    let readers = readers(&job, &balancer.url(""), &gate)?;
    let publisher = tokio::spawn(job.clone().publish());

    job.reached(0.25).await?;
    a.kill().await?;
    job.reached(0.4).await?;
    a.restart().await?;
    job.reached(0.55).await?;
    redis.kill().await?;
    // Away for longer than one retry, so that publishers are refused and readers wait.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    redis.restart().await?;

    finish(publisher, readers, &gate)
        .await
        .with_context(|| format!("{}\n{}", a.printed(), b.printed()))?;

    // And once more from the beginning, everything, on both.
    for address in &job.instances {
        let mut received = Received::default();
        let topics = job.topics();
        for topic in &topics {
            let mut offset = "-1".to_owned();
            while let Some((body, next)) = curl(*address, topic, &offset).await? {
                if body == "[]" {
                    break;
                }
                received.take_array(&body)?;
                offset = next;
            }
        }
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        job.ledger
            .lock()
            .await
            .check("curl, all over again", &received, &names)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_instance_on_the_memory_log() -> Result<()> {
    let instance = Instance::start(&[], ANY_PAGE).await?;
    let job = Job::new(&[&instance], None)?;
    let gate = Arc::<Published>::default();
    let readers = readers(&job, &instance.url(""), &gate)?;
    let publisher = tokio::spawn(job.clone().publish());
    finish(publisher, readers, &gate)
        .await
        .with_context(|| instance.printed())
}
