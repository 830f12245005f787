//! What polls cost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidings_adapter_cardsavr::client::Client;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::cluster::{APP, Cluster, KEY};
use crate::plain::Plain;

/// Reads of a topic's events, or of its index.
const READS: [&str; 5] = ["xrange", "xrevrange", "lindex", "lrange", "llen"];

/// A poll that finds nothing asks Redis for the key's record and the job's head, and for nothing of the log.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_poll_reads_nothing_of_the_log() -> Result<()> {
    const POLLS: usize = 200;
    let cluster = Cluster::unsigned("session_requests = 0").await?;
    let mut agent = Plain::log_in(cluster.address(0), "agent1").await?;
    let mut browser = Plain::log_in(cluster.address(1), "browser1").await?;
    let job = agent.create().await?;
    browser.say(job, 1, "before").await?;
    let key = agent.register(job).await?;
    browser.say(job, 2, "after").await?;
    ensure!(agent.poll(job, &key).await? == [2]);
    let before = cluster.redis.command_stats().await?;
    for _ in 0..POLLS {
        ensure!(agent.poll(job, &key).await?.is_empty());
    }
    let done = since(&before, &cluster.redis.command_stats().await?);
    for read in READS {
        ensure!(!done.contains_key(read), "{read}: {done:?}");
    }
    Ok(())
}

/// What was called between two moments.
fn since(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let delta = |name: &String, calls: &u64| calls - before.get(name).unwrap_or(&0);
    let all = after
        .iter()
        .map(|(name, calls)| (name.clone(), delta(name, calls)));
    all.filter(|(name, calls)| *calls > 0 && name != "info")
        .collect()
}

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In clear, over connections that are kept.
    Clear,
    /// Signed and encrypted, over connections that are kept.
    Signed,
    /// The same, each over a TLS connection of its own, as the SDK does it.
    Tls,
}

/// A load.
struct Load {
    way: Way,
    keys: usize,
    every: Duration,
    /// Statuses that are said in a second, each for the ten keys of a job.
    statuses: u64,
}

/// The figures of `docs/benchmarks.md`; the binary is `TIDINGS_BIN`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; needs a release build and a machine that does nothing else"]
#[expect(clippy::print_stdout, reason = "figures are its result")]
async fn figures() -> Result<()> {
    let five = Duration::from_secs(5);
    for (way, keys, every, statuses) in [
        (Way::Clear, 10_000, five, 0),
        (Way::Clear, 10_000, five, 100),
        (Way::Signed, 10_000, five, 0),
        (Way::Signed, 10_000, five, 100),
        (Way::Tls, 1_000, five, 0),
    ] {
        let load = Load {
            way,
            keys,
            every,
            statuses,
        };
        println!("{}", measure(&load).await?);
    }
    Ok(())
}

/// Between beginning and looking: connections stand, and the first polls of all keys are over.
const SETTLING: Duration = Duration::from_secs(8);
/// Longer than a key's use is not written, so that this is counted, too.
const LOOKING: Duration = Duration::from_secs(60);
/// Connections that polls share. An answer with messages is held back for 100 ms, and holds up what is behind it on its
/// connection.
const CONNECTIONS: usize = 500;
/// Keys of each job.
const KEYS_OF_A_JOB: usize = 10;

async fn measure(load: &Load) -> Result<String> {
    let options = "session_requests = 0";
    let tls = load.way == Way::Tls;
    let cluster = match tls {
        true => Cluster::start(&format!("unsigned = true\n{options}")).await?,
        false => Cluster::unsigned(options).await?,
    };
    let addresses = [cluster.address(0), cluster.address(1)];
    let connector = match tls {
        true => Some(connector(&cluster.certificate())?),
        false => None,
    };
    let agent = Poller::begin(load.way, addresses[0], connector.clone(), "agent1").await?;
    let connections = CONNECTIONS.min(load.keys / KEYS_OF_A_JOB);
    let mut registering = JoinSet::new();
    for at in 0..connections {
        let poller = agent.another(addresses[at % 2]);
        registering.spawn(register(
            poller,
            at,
            load.keys / KEYS_OF_A_JOB / connections,
        ));
    }
    let mut jobs = Vec::new();
    while let Some(some) = registering.join_next().await {
        jobs.extend(some??);
    }
    let jobs = Arc::new(jobs);
    let mut running = JoinSet::new();
    let counts = Arc::new([const { std::sync::atomic::AtomicU64::new(0) }; 2]);
    for at in 0..connections {
        let mut poller = agent.another(addresses[at % 2]);
        let (jobs, counts) = (jobs.clone(), counts.clone());
        let mine = load.keys / connections;
        let pause = load.every / u32::try_from(mine)?;
        running.spawn(async move {
            let all = jobs
                .iter()
                .flat_map(|(job, keys)| keys.iter().map(move |key| (*job, key)));
            let own: Vec<_> = all.skip(at).step_by(connections).collect();
            let mut ticks = interval_at(
                Instant::now() + pause * u32::try_from(at)? / u32::try_from(connections)?,
                pause,
            );
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for (job, key) in own.iter().cycle() {
                ticks.tick().await;
                let path = format!("/messages/place_card_on_single_site_jobs/{job}/broadcasts");
                let headers = [("cardsavr-messaging-access-key", key.as_str())];
                let got = poller.call("GET", &path, &headers, None).await?;
                let got = got.as_array().map_or(0, Vec::len);
                counts[0].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                counts[1].fetch_add(u64::try_from(got)?, std::sync::atomic::Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    if load.statuses > 0 {
        let mut browser = Poller::begin(load.way, addresses[1], connector, "browser1").await?;
        let (jobs, every) = (
            jobs.clone(),
            Duration::from_secs(1) / u32::try_from(load.statuses)?,
        );
        running.spawn(async move {
            let mut ticks = tokio::time::interval(every);
            for (job, _) in jobs.iter().cycle() {
                ticks.tick().await;
                let path = format!("/place_card_on_single_site_jobs/{job}");
                let status = json!({"status": "UPDATING", "percent_complete": 50});
                browser.call("PUT", &path, &[], Some(&status)).await?;
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(SETTLING).await;
    let look = async || {
        let counts =
            [&counts[0], &counts[1]].map(|one| one.load(std::sync::atomic::Ordering::Relaxed));
        let hubs = cluster
            .instances
            .iter()
            .map(|one| processor_seconds(one.pid()));
        let hubs: f64 = hubs.sum::<Result<f64>>()?;
        let info = cluster.redis.info("cpu").await?;
        let redis = ["used_cpu_sys", "used_cpu_user"]
            .iter()
            .map(|name| info[*name].parse::<f64>());
        let redis: f64 = redis.sum::<Result<f64, _>>()?;
        anyhow::Ok((
            Instant::now(),
            counts,
            hubs,
            redis,
            cluster.redis.command_stats().await?,
        ))
    };
    let before = look().await?;
    tokio::select! {
        Some(ended) = running.join_next() => ended??,
        () = tokio::time::sleep(LOOKING) => {}
    }
    let after = look().await?;
    let seconds = (after.0 - before.0).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
    let [polls, messages] = [0, 1].map(|at| (after.1[at] - before.1[at]) as f64);
    let (hubs, redis) = (after.2 - before.2, after.3 - before.3);
    let calls = since(&before.4, &after.4);
    let mut calls: Vec<(u64, String)> = calls
        .into_iter()
        .map(|(name, calls)| (calls, name))
        .collect();
    calls.sort_unstable_by(|a, b| b.cmp(a));
    #[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
    let each = |calls: u64| calls as f64 / polls;
    let all = each(calls.iter().map(|(calls, _)| calls).sum());
    let calls: Vec<String> = calls
        .iter()
        .filter(|(calls, _)| each(*calls) >= 0.005)
        .map(|(calls, name)| format!("{name} {:.2}", each(*calls)))
        .collect();
    Ok(format!(
        "{:?}, {} keys, {} statuses/s: {:.0} polls/s with {:.2} messages each; hubs {:.1} % of a core, {:.0} µs a poll; \
         Redis {:.1} % of a core, {:.1} µs and {all:.2} commands a poll: {}",
        load.way,
        load.keys,
        load.statuses,
        polls / seconds,
        messages / polls,
        100.0 * hubs / seconds,
        1e6 * hubs / polls,
        100.0 * redis / seconds,
        1e6 * redis / polls,
        calls.join(", "),
    ))
}

/// Jobs and their keys.
async fn register(mut agent: Poller, at: usize, jobs: usize) -> Result<Vec<(u64, Vec<String>)>> {
    let mut made = Vec::new();
    for number in 0..jobs {
        let cuid = format!("c{at}-{number}");
        let job = json!({"cardholder": {"cuid": cuid}, "account": {"merchant_site_id": 1}});
        let path = "/place_card_on_single_site_jobs";
        let job = agent.call("POST", path, &[], Some(&job)).await?;
        let job = job["id"].as_u64().context("an id")?;
        let path = format!("/messages{path}/{job}/broadcasts/registrations");
        let mut keys = Vec::new();
        for _ in 0..KEYS_OF_A_JOB {
            let key = agent.call("POST", &path, &[], Some(&json!({}))).await?;
            keys.push(key["access_key"].as_str().context("a key")?.to_owned());
        }
        made.push((job, keys));
    }
    Ok(made)
}

/// User and system time of a process.
fn processor_seconds(pid: Option<u32>) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.context("it runs")?))?;
    // Behind the name, which may hold anything: state is 3, utime 14, stime 15, in hundredths.
    let (_, behind) = stat.rsplit_once(')').context("a name")?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields[at].parse::<f64>());
    Ok((user? + system?) / 100.0)
}

/// TLS that trusts this certificate.
fn connector(certificate: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client of one of the ways.
struct Poller {
    way: Way,
    address: SocketAddr,
    connector: Option<TlsConnector>,
    protocol: Client,
    /// In clear.
    token: String,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Poller {
    async fn begin(
        way: Way,
        address: SocketAddr,
        connector: Option<TlsConnector>,
        username: &str,
    ) -> Result<Self> {
        let mut poller = Self {
            way,
            address,
            connector,
            protocol: Client::new(APP, KEY)?,
            token: String::new(),
            kept: None,
        };
        let password = format!("pw-{username}");
        if way == Way::Clear {
            let body = json!({"username": username, "password": password});
            let login = poller
                .call("POST", "/session/login", &[], Some(&body))
                .await?;
            poller.token = login["session_token"]
                .as_str()
                .context("a token")?
                .to_owned();
        } else {
            let (prepared, login) = poller.protocol.login(username, &password, now_ms())?;
            let (head, body) = poller
                .send(
                    prepared.method,
                    &prepared.target,
                    prepared.headers,
                    prepared.body,
                )
                .await?;
            poller
                .protocol
                .logged_in(&login, head.status, &head.headers, &body)?;
        }
        Ok(poller)
    }

    /// One more of the same session, at another instance.
    fn another(&self, address: SocketAddr) -> Self {
        Self {
            way: self.way,
            address,
            connector: self.connector.clone(),
            protocol: self.protocol.clone(),
            token: self.token.clone(),
            kept: None,
        }
    }

    async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value> {
        let method: http::Method = method.parse()?;
        if self.way != Way::Clear {
            let prepared = self
                .protocol
                .prepare(method, path, body, headers, now_ms())?;
            let (head, body) = self
                .send(prepared.method, path, prepared.headers, prepared.body)
                .await?;
            return Ok(self
                .protocol
                .read(path, head.status, &head.headers, &body)?
                .body);
        }
        let mut all = http::HeaderMap::new();
        let own = [("x-cardsavr-session-jwt", self.token.as_str())];
        for (name, value) in own.iter().filter(|_| !self.token.is_empty()).chain(headers) {
            all.insert(http::HeaderName::try_from(*name)?, value.parse()?);
        }
        if body.is_some() {
            all.insert(http::header::CONTENT_TYPE, "application/json".parse()?);
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let (head, body) = self.send(method, path, all, body).await?;
        ensure!(head.status.is_success(), "{path}: {} {body:?}", head.status);
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn send(
        &mut self,
        method: http::Method,
        path: &str,
        headers: http::HeaderMap,
        body: Bytes,
    ) -> Result<(http::response::Parts, Bytes)> {
        let mut sender = match self.kept.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "hub");
        if let Some(all) = request.headers_mut() {
            all.extend(headers);
            if self.way == Way::Tls {
                all.insert(http::header::CONNECTION, "close".parse()?);
            }
        }
        sender.ready().await?;
        let answer = sender.send_request(request.body(Full::new(body))?).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        if self.way != Way::Tls {
            self.kept = Some(sender);
        }
        Ok((head, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.connector {
            Some(connector) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(connector.connect(name, stream).await?)
            }
            None => Box::new(stream),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
